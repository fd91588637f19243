"""`gateway policy lint`: every mistake with its line, and what is odd in a pack that loads."""

import json
from datetime import date
from importlib import resources
from pathlib import Path

import pytest
from cli_rig import ran

from gateway.policy.lint import Level, lint
from gateway.policy.written import shipped_files

ROOT = Path(__file__).parents[2]
TODAY = date(2026, 11, 24)
HEADER = """\
[pack]
id = "ZZ"
version = "1"
title = "Nowhere"
review_status = "Invented."
review_by = 2027-11-24
source = "a test"
applies = ["ZZ"]
"""
FROM = 'cite = "s. 1"\nsource = "a test"\nchecked = 2026-11-23\n'
DAYS = 'days = [{on = ["mon"], open = "08:00", close = "20:00"}]\n'
HOURS = f'[[rule]]\nid = "ZZ.HOURS"\nkind = "window"\n{FROM}{DAYS}'
KEEP = (
    f'[[rule]]\nid = "ZZ.KEEP"\nkind = "retention"\n{FROM}records = ["message"]\n'
    'min = {years = 1, from = "event"}\n'
)
CAP = f'[[rule]]\nid = "ZZ.CAP"\nkind = "cap"\n{FROM}max = 1\nwindow = {{type = "day"}}\n'


def remarks(source, today=TODAY):
    return lint(source, today=today, shipped=shipped_files(), adapters=["aliyun_sms", "smtp"])


def codes(source, today=TODAY):
    return [remark.code for remark in remarks(source, today)]


def run(*arguments, cwd=ROOT):
    return ran("policy", "lint", *arguments, cwd=cwd)


def test_a_pack_without_a_mistake_and_nothing_odd_has_no_remark():
    assert remarks(HEADER + HOURS + CAP) == []


@pytest.mark.parametrize(
    ("source", "line", "column", "code", "says"),
    [
        (HEADER + HOURS + 'chanels = ["sms"]\n', 16, 1, "unknown_key", "did you mean channels?"),
        (HEADER + HOURS + 'force = "lore"\n', 16, 1, "unknown_word", "presumption"),
        (HEADER + HOURS + 'channels = [\n  "sms",\n  "vioce",\n]\n', 18, 3, "unknown_word", "did you mean voice?"),
        (HEADER + HOURS.replace('"20:00"', '"8pm"'), 15, 40, "wrong_type", "24:00"),
        (HEADER + HOURS.replace('"20:00"', '"08:00"'), 15, 24, "open_not_before_close", "before"),
        (HEADER + HOURS + 'zone = "fixed:Mars/Olympus"\n', 16, 1, "zone_unknown", "IANA"),
        (HEADER + HOURS + 'closed_on_holidays = "XQ"\n', 16, 1, "calendar_unknown", "ISO 3166"),
        (HEADER + HOURS.replace(DAYS, ""), 9, 1, "missing_key", "required"),
        (HEADER + HOURS.replace('"window"', '"windw"'), 11, 1, "unknown_word", "borrower_window"),
        (HEADER + HOURS + HOURS, 17, 1, "id_twice", "another rule"),
        (HEADER.replace('title = "Nowhere"\n', "") + HOURS, 1, 1, "missing_key", "required"),
        (HEADER.replace('version = "1"', "version = 1") + HOURS, 3, 1, "wrong_type", "text"),
        (HEADER + HOURS + "[[rules]]\n", 16, 1, "unknown_key", "did you mean rule?"),
        (HEADER + HOURS.replace("ZZ.HOURS", "ZZ HOURS"), 10, 1, "id_form", "hyphens"),
        (HEADER.replace('id = "ZZ"', f'id = "{"Z" * 65}"') + HOURS, 2, 1, "id_form", "64"),
        (HEADER, 1, 1, "missing_key", "required"),
        ("rule = 7\n" + HEADER, 1, 1, "wrong_type", "list"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_with_its_line_and_what_is_allowed(source, line, column, code, says):
    [found] = [remark for remark in remarks(source) if remark.level is Level.ERROR]

    assert (found.line, found.column, found.code) == (line, column, code)
    assert says in found.message


@pytest.mark.parametrize(
    ("source", "line", "column"),
    [
        ('id = "a\n', 1, 8),
        ("[pack]\nid = 1\nid = 2\n", 3, 7),
        ("[pack]\nid =", 2, 5),
        ('[pack]\ntitle = """never', 2, 17),
        ("a = 1\n[a.b]\n", 2, 5),
        (f"n = {'9' * 5000}\n", 1, 1),
        (f"n = {'[' * 5000}\n", 1, 1),
    ],
)
def test_what_is_not_toml_is_named_where_reading_stopped(source, line, column):
    [found] = remarks(source)

    assert (found.level, found.code) == (Level.ERROR, "malformed_toml")
    assert (found.line, found.column) == (line, column)


def test_all_mistakes_come_at_once_in_the_order_of_their_lines():
    source = HEADER.replace('"ZZ"', "7") + HOURS.replace("checked = 2026-11-23", "checked = 23") + "wut = 1\n"

    assert [remark.line for remark in remarks(source)] == [2, 8, 14, 16]


def test_no_remark_repeats_what_was_written():
    said = str(remarks(HEADER + HOURS.replace('"mon"', '"+8613800138000"') + 'cite2 = "secret"\n'))

    assert "138" not in said
    assert "secret" not in said


@pytest.mark.parametrize(
    ("source", "code"),
    [
        (HEADER.replace("review_by = 2027-11-24\n", ""), "review_by_missing"),
        (HEADER.replace("2027-11-24", "2026-11-24"), "review_past"),
        (HEADER.replace("2027-11-24", "2026-11-25"), "review_soon"),
        (HEADER.replace("2027-11-24", "2027-01-08"), "review_soon"),
        (HEADER.replace("2027-11-24", "2027-01-09"), None),
        (HEADER.replace('id = "ZZ"', 'id = "US.REGF"'), "id_taken"),
        (HEADER.replace('id = "ZZ"', 'id = "US.REGF"') + "until = 2020-01-01\n", None),
    ],
)
def test_an_odd_header_is_a_warning(source, code):
    assert codes(source + HOURS) == ([] if code is None else [code])


@pytest.mark.parametrize(
    ("rule", "code"),
    [
        (HOURS.replace('cite = "s. 1"\n', ""), "source_missing"),
        (HOURS.replace("checked = 2026-11-23\n", ""), "source_missing"),
        (HOURS + 'force = "draft"\n', "shadow"),
        (HOURS + 'unsure = "two copies disagree"\n', "shadow"),
        (HOURS + "since = 2027-01-01\nuntil = 2027-01-01\n", "never_in_force"),
        (HOURS + "since = 2027-01-01\nuntil = 2027-01-02\n", None),
        (HOURS + 'closed_on_holidays = "TH"\n', "calendar_ends"),
        (HOURS + 'closed_on_holidays = "GB"\n', None),
        (HOURS.replace(DAYS, "days = []\n"), "never_open"),
        (HOURS.replace(DAYS, 'days = []\nchannels = ["visit"]\n'), None),
        (HOURS.replace(DAYS, 'days = []\naddress_kinds = ["workplace"]\n'), None),
        (HOURS.replace(DAYS, "days = []\nuntil = 2027-03-30\n"), None),
        (CAP + 'channels = ["sms"]\ncount_outcomes = ["answered", "voicemail"]\n', "outcome_impossible"),
        (CAP + 'channels = ["sms"]\ncount_outcomes = ["answered", "read"]\n', None),
        (CAP + 'channels = ["sms", "voice"]\ncount_outcomes = ["answered"]\n', None),
        (CAP + 'channels = ["voice"]\ncount_outcomes = ["read", "unknown"]\n', "outcome_impossible"),
        (CAP + 'count_outcomes = ["answered"]\n', None),
        (CAP + 'count_outcomes = ["delivered"]\n', "read_not_counted"),
        (CAP + 'count_outcomes = ["delivered", "read"]\n', None),
        (CAP + 'address_kinds = ["work"]\n', "word_unknown"),
        (CAP + 'address_kinds = ["workplace"]\n', None),
        (CAP + 'exempt_purposes = ["colection"]\n', "word_unknown"),
        (CAP + 'exempt_purposes = ["collection"]\n', None),
        (CAP + 'adapters = ["alyun_sms"]\n', "word_unknown"),
        (CAP + 'adapters = ["aliyun_sms"]\n', None),
        (HOURS.replace("2026-11-23", "2026-11-25"), "checked_in_future"),
        (HOURS.replace("2026-11-23", "2026-11-24"), None),
        (KEEP + 'max = {days = 364, from = "event"}\n', "max_below_min"),
        (KEEP + 'max = {years = 1, from = "event"}\n', None),
        (KEEP + 'max = {days = 1, from = "closure"}\n', None),
        (CAP + 'channels = ["voice"]\ncount_outcomes = ["busy"]\nexclude_outcomes = ["busy"]\n', None),
    ],
)
def test_an_odd_rule_is_a_warning_and_its_neighbour_is_not(rule, code):
    found = remarks(HEADER + rule)

    assert [remark.code for remark in found] == ([] if code is None else [code])
    assert all(remark.level is Level.WARNING and remark.line >= 9 for remark in found)


def test_a_rule_outside_its_packs_dates_is_a_warning():
    header = HEADER + "since = 2026-01-01\nuntil = 2027-01-01\n"

    assert codes(header + HOURS + "since = 2027-01-01\nuntil = 2028-01-01\n") == ["never_in_force"]
    assert codes(header + HOURS + "since = 2026-12-31\nuntil = 2028-01-01\n") == []


@pytest.mark.parametrize(("opens", "code"), [("08:00", None), ("18:30", "no_common_hour")])
def test_hours_that_the_zones_of_the_place_do_not_share_are_a_warning(opens, code):
    source = HEADER.replace('["ZZ"]', '["RU"]') + HOURS.replace('"08:00"', f'"{opens}"')

    assert codes(source) == ([] if code is None else [code])


def test_a_calendar_is_told_45_days_ahead_and_after_its_end():
    source = HEADER.replace("2027-11-24", "2029-01-01") + HOURS.replace("2026-11-23", "2026-11-15")
    source += 'closed_on_holidays = "TH"\n'

    assert codes(source, date(2026, 11, 15)) == []
    assert codes(source, date(2026, 11, 16)) == ["calendar_ends"]
    assert codes(source, date(2027, 1, 1)) == ["calendar_ended"]


@pytest.mark.parametrize("written", shipped_files(), ids=lambda written: written.stem)
def test_the_shipped_packs_have_no_mistake_and_say_where_they_come_from(written):
    source = resources.files("gateway.policy.packs").joinpath(written.name).read_text("utf-8")
    loud = {
        "source_missing",
        "never_in_force",
        "outcome_impossible",
        "never_open",
        "no_common_hour",
        "id_taken",
    }

    found = remarks(source)

    assert [remark for remark in found if remark.level is Level.ERROR or remark.code in loud] == []


def test_the_command_says_where_as_editors_read_it_and_ends_with_2(tmp_path):
    (tmp_path / "bad.toml").write_text(HEADER + HOURS + "wut = 1\n")
    (tmp_path / "odd.toml").write_text(HEADER + HOURS + 'force = "draft"\n')
    (tmp_path / "good.toml").write_text(HEADER + HOURS)

    ended = run("bad.toml", "odd.toml", "good.toml", cwd=tmp_path)

    assert (ended.returncode, ended.stderr) == (2, "")
    bad, odd, good = ended.stdout.splitlines()
    assert bad.startswith("bad.toml:16:1: error: /rule/0/wut: no such key")
    assert odd.startswith("odd.toml:9:1: warning: /rule/0: ")
    assert good == "good.toml: fine"


def test_warnings_alone_end_with_0_and_json_has_it_all(tmp_path):
    (tmp_path / "odd.toml").write_text(HEADER + HOURS + 'force = "draft"\n')

    ended = run("--json", "odd.toml", cwd=tmp_path)

    assert (ended.returncode, ended.stderr) == (0, "")
    [file] = json.loads(ended.stdout)
    [remark] = file["remarks"]
    assert (file["file"], file["ok"]) == ("odd.toml", True)
    assert {key: remark[key] for key in ("line", "column", "level", "at", "code")} == {
        "line": 9, "column": 1, "level": "warning", "at": "/rule/0", "code": "shadow",
    }  # fmt: skip


def test_a_file_that_cannot_be_read_is_bad_input(tmp_path):
    (tmp_path / "latin.toml").write_bytes(b'title = "\xe9"')

    missing, latin = run("none.toml", cwd=tmp_path), run("latin.toml", cwd=tmp_path)

    assert (missing.returncode, latin.returncode) == (2, 2)
    assert missing.stderr == "none.toml: cannot read it: No such file or directory\n"
    assert latin.stderr == "latin.toml: this is not UTF-8; save the file as UTF-8\n"
