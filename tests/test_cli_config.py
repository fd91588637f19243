"""`gateway config check` before anything runs: settings, files, rules and calendars of this machine."""

import re
import shutil
import subprocess
from datetime import date
from importlib.resources import files

import pytest
from cli_rig import GATEWAY, Shell, environment

from gateway.cli.checks import FEW_BYTES, LITTLE_BYTES, horizon, reviews, room, strangers, time_zones
from gateway.policy.calendars import SHIPPED
from gateway.policy.model import Window
from gateway.policy.overrides import parse_overrides
from gateway.policy.parse import parse_pack, shipped
from gateway.vault import KeyRing

LAST = date(2026, 12, 31)
"""Until when the calendar of Thailand is official."""


@pytest.fixture
def shell(monkeypatch, capsys, tmp_path):
    return Shell(monkeypatch, capsys, GATEWAY_DATA=tmp_path / "data")


def check(shell, *words):
    """The exit code, and check → (status, words of all its lines)."""
    ran = shell("config", "check", "--json", *words)
    found = {}
    for line in ran.json:
        found.setdefault(line["check"], []).append((line["status"], line["word"]))
    return ran.code, found


def test_an_empty_machine_is_ready_for_its_first_start_and_left_as_it_is(shell, tmp_path):
    code, told = check(shell)

    assert code == 0
    assert {status for lines in told.values() for status, _ in lines} <= {"ok", "warn"}
    assert told["settings"] == [("ok", "all are read")]
    assert "the first `gateway up` makes it" in told["key ring"][0][1]
    assert told["schema"] == [("ok", "the first `gateway up` makes it")]
    assert told["valkey"][0][1].endswith(", embedded")
    assert "OP.CAPS" in told["packs"][0][1]
    assert list(tmp_path.iterdir()) == []


def test_every_mistake_in_the_settings_is_named_and_nothing_else_is_looked_at(shell):
    shell.set(
        GATEWAY_LISTEN="8080", GATEWAY_REDIS_URL="http://x", GATEWAY_LOG_LEVEL="loud", GATEWAY_REDIS_URI="y"
    )

    ran = shell("config", "check")

    assert ran.code == 2
    lines = [line.split(maxsplit=2) for line in ran.out.splitlines()]
    assert [(status, word.split()[0]) for status, _, word in lines] == [
        ("fail", "GATEWAY_LISTEN:"),
        ("fail", "GATEWAY_REDIS_URL:"),
        ("fail", "GATEWAY_LOG_LEVEL:"),
        ("warn", "GATEWAY_REDIS_URI"),
    ]
    assert "loud" not in ran.out


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("GATEWAY_REDIS_URI", "did you mean GATEWAY_REDIS_URL?"),
        ("GATEWAY_DATABSE_URL", "did you mean GATEWAY_DATABASE_URL?"),
        ("GATEWAY_ZZZ", "see docs/settings.md"),
    ],
)
def test_a_misspelt_variable_is_named_with_what_was_meant(shell, name, hint):
    shell.set(**{name: "secret-value"})

    code, told = check(shell)

    assert code == 0
    ((status, word),) = told["settings"]
    assert status == "warn"
    assert word.startswith(f"{name} is not a setting")
    assert hint in word
    assert "secret-value" not in word


def test_the_key_of_the_commands_is_a_known_variable(shell):
    shell.set(GATEWAY_API_KEY="gw_live_x")

    assert check(shell)[1]["settings"] == [("ok", "all are read")]


def test_a_key_ring_that_others_may_read_or_that_is_damaged_or_lost_is_a_failure(shell, tmp_path):
    data = tmp_path / "data"
    data.mkdir(mode=0o700)
    ring = KeyRing.create(data / "keyring.json")
    assert check(shell)[1]["key ring"][0][0] == "ok"

    ring.path.chmod(0o644)
    assert "chmod 600" in check(shell)[1]["key ring"][0][1]
    ring.path.chmod(0o600)
    ring.path.write_text("{}")
    assert "damaged" in check(shell)[1]["key ring"][0][1]
    ring.path.unlink()
    (data / "vault.db").touch()
    code, told = check(shell)
    assert (code, told["key ring"][0][0]) == (1, "fail")
    assert "bring it back from its backup" in told["key ring"][0][1]


def test_a_data_folder_that_cannot_be_one_is_a_failure(shell, tmp_path):
    (tmp_path / "data").write_text("a file")

    code, told = check(shell)

    assert (code, told["data folder"][0][0]) == (1, "fail")
    assert "give another with --data" in told["data folder"][0][1]


def test_a_data_folder_that_others_may_look_into_is_warned_of(shell, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data").chmod(0o755)

    code, told = check(shell)

    assert (code, told["data folder"][0][0]) == (0, "warn")


def test_a_file_that_is_no_database_is_a_failure(shell, tmp_path):
    (tmp_path / "data").mkdir(mode=0o700)
    (tmp_path / "data" / "gateway.db").write_bytes(b"not a database, but long enough to be looked at" * 100)

    code, told = check(shell)

    assert (code, told["schema"][0][0]) == (1, "fail")


def test_a_database_of_another_schema_is_warned_of(shell, tmp_path, sqlite_template):
    (tmp_path / "data").mkdir(mode=0o700)
    (tmp_path / "data" / "gateway.db").write_bytes(sqlite_template.read_bytes())

    code, told = check(shell)

    assert (code, told["schema"][0][0]) == (0, "warn")
    assert "the next `gateway up`" in told["schema"][0][1]


def test_mistakes_of_the_accounts_file_are_failures(shell, tmp_path):
    file = tmp_path / "accounts.toml"
    file.write_text('[[account]]\nname = "a"\nadapter = "pigeon"\ntenant = "default"\nsender = "s"\n')

    code, told = check(shell, "--accounts", str(file))

    assert code == 1
    assert [(status, word.partition(":")[0]) for status, word in told["accounts file"]] == [
        ("fail", "account[0].mode"),
        ("fail", "account[0].adapter"),
    ]


@pytest.mark.parametrize(
    ("free", "status"),
    [
        (LITTLE_BYTES, "ok"),
        (LITTLE_BYTES - 1, "warn"),
        (FEW_BYTES, "warn"),
        (FEW_BYTES - 1, "fail"),
        (0, "fail"),
    ],
)
def test_a_disk_that_fills_up_is_warned_of_and_then_a_failure(free, status):
    assert room(free).status == status


NAMED = """
[pack]
id = "XX.TEST"
version = "1"
title = "t"
review_status = "none"
source = "s"
applies = ["TH"]
[[rule]]
id = "XX.TEST.HOURS"
kind = "window"
cite = "c"
force = "law"
source = "s"
checked = 2026-11-23
closed_on_holidays = "TH"
days = [{on = ["mon"], open = "08:00", close = "20:00"}]
"""
REVIEWED = NAMED.replace('source = "s"\n', 'source = "s"\nreview_by = 2027-03-01\n', 1)


@pytest.mark.parametrize(
    ("today", "word"),
    [
        (date(2027, 1, 15), None),
        (date(2027, 1, 16), "XX.TEST is to be reviewed by 2027-03-01"),
        (date(2027, 3, 1), "XX.TEST is to be reviewed by 2027-03-01"),
        (date(2027, 3, 2), "XX.TEST should have been reviewed by 2027-03-01"),
    ],
)
def test_a_pack_s_review_is_warned_of_45_days_ahead_and_when_it_is_overdue(today, word):
    lines = list(reviews([parse_pack(REVIEWED, "t.toml"), parse_pack(NAMED, "t.toml")], today))

    assert [line.status for line in lines] == ([] if word is None else ["warn"])
    assert all(line.word.startswith(word) for line in lines)


def test_a_rule_about_an_adapter_that_is_not_here_is_warned_of():
    rule = '\n[[rule]]\nid = "XX.CAP"\nkind = "cap"\nmax = 1\nwindow = {type = "day"}\nadapters = ["smpt", "smtp"]\n'
    pack = parse_pack(NAMED + rule, "t.toml")

    assert [line.word for line in strangers([pack], ["smtp", "wechat"])] == [
        "XX.CAP is about the adapter smpt; there are: smtp, wechat"
    ]
    assert list(strangers([pack], ["smpt", "smtp"])) == []


def test_a_version_that_is_over_needs_no_review():
    over = parse_pack(REVIEWED.replace("review_by", "until = 2027-03-02\nreview_by"), "t.toml")

    assert len(list(reviews([over], date(2027, 3, 1)))) == 1
    assert list(reviews([over], date(2027, 3, 2))) == []


@pytest.mark.parametrize(
    ("release", "today", "status"),
    [
        ("2026f", date(2026, 11, 24), "ok"),
        ("2026a", date(2028, 2, 4), "ok"),
        ("2026f", date(2028, 2, 5), "warn"),
        ("2026f", date(2029, 1, 1), "warn"),
    ],
)
def test_time_zone_data_is_called_old_when_it_must_be(release, today, status):
    line = time_zones(release, today)

    assert line.status == status
    assert line.word.startswith(f"tzdata {release}")


# Calendars.

THAILAND = """
[[calendar]]
name = "TH"
begins = 2027-01-01
ends = 2027-12-31
source = "Royal Gazette"
holidays = [2027-01-01]
[[blackout]]
place = "TH"
reason = "disaster"
since = 2026-11-01
until = 2026-12-01
source = "s"
"""


def test_a_calendars_file_is_read_and_counted(shell, tmp_path):
    file = tmp_path / "days.toml"
    file.write_text(THAILAND)

    code, told = check(shell, "--calendars", str(file))

    assert code == 0
    assert told["calendars file"] == [("ok", f"{file}, entries: 1 of calendars, 1 of events")]


@pytest.mark.parametrize(
    ("text", "at", "word"),
    [
        (None, "", "this cannot be read: No such file or directory; see GATEWAY_CALENDARS"),
        (b"\xff", "", "this cannot be read: save it as UTF-8; see GATEWAY_CALENDARS"),
        (b"[[calendar]]\nname = 1", ":2:/calendar/0/name", "no such calendar"),
    ],
)
def test_a_calendars_file_with_mistakes_is_a_failure(shell, tmp_path, text, at, word):
    file = tmp_path / "days.toml"
    if text is not None:
        file.write_bytes(text)
    shell.set(GATEWAY_CALENDARS=str(file))

    code, told = check(shell)

    assert code == 1
    assert ("fail", True) in [(s, w.startswith(f"{file}{at}: {word}")) for s, w in told["calendars file"]]


def test_with_a_calendars_file_that_cannot_be_read_nothing_starts(tmp_path):
    file = tmp_path / "days.toml"
    ran = subprocess.run(  # up sets logging up for its whole process
        [GATEWAY, "up", "--listen", "127.0.0.1:0"],
        env=environment(GATEWAY_CALENDARS=str(file), GATEWAY_DATA=str(tmp_path / "data")),
        capture_output=True,
        check=False,
        text=True,
        timeout=30,
    )
    assert ran.returncode == 2
    assert f"{file}: this cannot be read: No such file or directory" in ran.stderr


def told(packs, today, calendars=SHIPPED):
    """Status → all words said with it."""
    found = {}
    for line in horizon(packs, today, calendars):
        found[line.status.value] = found.get(line.status.value, "") + line.word
    return found


def test_what_the_tests_know_of_calendars_is_still_so():
    assert SHIPPED.coverage("TH").ends == LAST
    assert any(isinstance(rule, Window) for rule in parse_pack(NAMED, "t.toml").rules)


def test_a_calendar_is_warned_of_45_days_ahead_and_not_before():
    packs = [parse_pack(NAMED, "t.toml")]

    assert told(packs, date(2026, 11, 16)) == {"ok": "official for the next 45 days"}
    assert "official until 2026-12-31" in told(packs, date(2026, 11, 17))["warn"]
    assert "official until 2026-12-31" in told(packs, LAST)["warn"]


def test_what_operators_state_counts():
    stated = parse_overrides(THAILAND, "days.toml").calendars

    assert set(told([parse_pack(NAMED, "t.toml")], date(2027, 11, 16), stated)) == {"ok"}
    assert (
        "official until 2027-12-31" in told([parse_pack(NAMED, "t.toml")], date(2027, 11, 17), stated)["warn"]
    )


def test_a_calendar_that_a_rule_names_and_that_has_ended_is_a_failure():
    found = told([parse_pack(NAMED, "t.toml")], date(2027, 1, 1))

    assert set(found) == {"fail"}
    assert found["fail"].startswith("ended on 2026-12-31, reminders there wait: TH;")


def test_where_holidays_of_the_residence_count_every_place_that_no_pack_covers_is_looked_at():
    found = told(list(shipped().values()), date(2027, 1, 1))

    places = set(re.findall(r"(?<!:)\b[A-Z]{2}\b", "".join(found.values())))
    assert {"PH", "TW", "VN"} <= places  # the packs of PH and VN have hours for some lenders only
    assert not {"CN", "IN", "US"} & places


def test_a_calendar_that_ended_long_ago_says_nothing_new():
    assert "TH" not in told(list(shipped().values()), date(2028, 1, 2)).get("warn", "")


def test_a_rule_on_content_that_texts_do_not_keep_is_told_once(shell):
    code, told = check(shell)

    assert code == 0
    ((status, word),) = told["templates"]
    assert status == "warn"
    assert "18" in word
    assert "MX.FIRST.PHONE" in word
    assert "overdue_gentle/sms.zh-CN.liquid" in word


def test_templates_that_break_rules_of_their_own_places_are_a_failure(shell, tmp_path):
    folder = tmp_path / "templates"
    shutil.copytree(str(files("templates")), folder, ignore=shutil.ignore_patterns("__pycache__", "*.py"))
    catalog = folder / "catalog.toml"
    text = catalog.read_text("utf-8").replace("version = 2", 'version = 3\nplaces = ["MX"]', 1)
    text = text.replace('["service_notice", "pre_due_reminder", "due_today"]', '["collection"]', 1)
    catalog.write_text(text, "utf-8")
    shell.set(GATEWAY_TEMPLATES=folder)

    code, told = check(shell)

    assert code == 1
    assert {status for status, _ in told["templates"]} == {"fail"}
    assert len(told["templates"]) == 6
    assert all(word.startswith("pre_due/") for _, word in told["templates"])
