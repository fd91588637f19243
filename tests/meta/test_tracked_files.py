"""No tracked file speaks of one machine, of a package registry, or of anything that is not the project."""

import re

import pytest
from house import ROOT, tracked

HOMES = ["home", "Users", "root", "wo" + "rk", "fa" + "rm"]
HOSTS = ["py" + r"pi\.org", "python" + r"hosted\.", "npm" + r"js\.(org|com)", "deb.deb" + r"ian\.org"]
MARKS = {
    "a path of one machine": rf"(?<![\w.$}}-])/({'|'.join(HOMES)})/\S",
    "a registry's host": "|".join(HOSTS),
}
TOO_BIG = 1 << 20


def readable():
    for path in tracked():
        data = (ROOT / path).read_bytes()
        if b"\0" not in data and path.suffix != ".svg":
            yield path, data.decode("utf-8")


@pytest.mark.parametrize("mark", MARKS.values(), ids=MARKS)
def test_no_tracked_file_holds(mark):
    pattern = re.compile(mark)

    found = [f"{path}: {hit[0]}" for path, content in readable() if (hit := pattern.search(content))]

    assert found == []


@pytest.mark.parametrize(
    ("sentence", "caught"),
    [
        ("see {}/anna/notes".format("/home"), True),
        ("'{}/.cache'".format("/root"), True),
        ("https://{}/simple".format("py" + "pi.org"), True),
        ("GET /v1/root", False),
        ("$HOME{}/x".format("/root"), False),
    ],
)
def test_the_marks_catch_what_they_are_for(sentence, caught):
    assert any(re.search(mark, sentence) for mark in MARKS.values()) is caught


def test_every_tracked_file_is_small_and_ends_with_a_newline():
    big = [str(path) for path in tracked() if (ROOT / path).stat().st_size > TOO_BIG]
    ragged = [str(path) for path, content in readable() if content and not content.endswith("\n")]

    assert big == []
    assert ragged == []


def test_no_secret_and_no_database_is_tracked():
    names = r"\.(db|sqlite3?|pem|key)(-wal|-shm)?$|(^|/)(\.env|gateway\.env|keyring(\.json)?|admin\.key)$"

    assert [str(path) for path in tracked() if re.search(names, str(path))] == []
