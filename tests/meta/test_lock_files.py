"""The lock files pin and hash all that pyproject.toml asks for, and name no place to get it from."""

import re
import tomllib

import pytest
from house import text
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

LOCKS = ["build", "production", "runtime", "dev", "bench"]
PROJECT = tomllib.loads(text("pyproject.toml"))
EXTRAS = PROJECT["project"]["optional-dependencies"]


def entries(lock):
    """Name → (version, number of hashes)."""
    found = {}
    for block in re.split(r"\n(?=\S)", text(f"requirements/{lock}.txt")):
        pin = re.match(r"([A-Za-z0-9._-]+)==([^\s;\\]+)", block)
        assert pin, f"{lock}.txt: not a pin: {block[:60]!r}"
        found[canonicalize_name(pin[1])] = (pin[2], len(re.findall(r"--hash=sha256:[0-9a-f]{64}\b", block)))
    return found


@pytest.mark.parametrize("lock", LOCKS)
def test_every_pin_has_a_hash(lock):
    assert [name for name, (_, hashes) in entries(lock).items() if hashes == 0] == []


@pytest.mark.parametrize("lock", LOCKS)
def test_no_address_and_no_path_is_named(lock):
    options = r"://|\bfile:| @ |^-(?!-hash)|--(index|extra|find|trusted)"
    lines = [
        line for line in text(f"requirements/{lock}.txt").splitlines() if not line.lstrip().startswith("#")
    ]

    assert [line for line in lines if re.search(options, line)] == []


@pytest.mark.parametrize(
    ("lock", "asked"),
    [
        ("build", PROJECT["build-system"]["requires"]),
        ("production", PROJECT["project"]["dependencies"]),
        ("runtime", PROJECT["project"]["dependencies"] + EXTRAS["embedded"]),
        ("dev", PROJECT["project"]["dependencies"] + EXTRAS["embedded"] + EXTRAS["dev"]),
        ("bench", PROJECT["project"]["dependencies"] + EXTRAS["dev"] + EXTRAS["bench"]),
    ],
)
def test_a_lock_holds_what_is_asked_for(lock, asked):
    pinned = entries(lock)
    wanted = [Requirement(line) for line in asked]

    unmet = [
        str(want)
        for want in wanted
        if not want.specifier.contains(pinned.get(canonicalize_name(want.name), ("0", 0))[0])
    ]
    assert unmet == [], "run: make lock"


def test_what_runs_is_what_was_tested():
    production, runtime, dev = entries("production"), entries("runtime"), entries("dev")
    bench = entries("bench")

    assert production.items() <= runtime.items()
    assert runtime.items() <= dev.items()
    assert dev.items() <= bench.items()


def test_the_image_brings_no_embedded_server():
    embedded = {canonicalize_name(Requirement(line).name) for line in EXTRAS["embedded"]}

    assert embedded.isdisjoint(entries("production"))
    assert embedded <= entries("runtime").keys()
