"""`gateway policy check`: what it prints, how it ends, and how it names every mistake with its place."""

import json
from copy import deepcopy
from pathlib import Path

import pytest
from cli_rig import ran
from click.testing import CliRunner

from gateway.cli.policy import policy
from gateway.errors import PolicyError
from gateway.policy.check import check, parse_cases

ROOT = Path(__file__).parents[2]
HOURS = {"id": "HOURS", "kind": "window", "days": [{"on": ["mon"], "open": "08:00", "close": "21:00"}]}
CAP = {"id": "CAP", "kind": "cap", "max": 1, "window": {"type": "dates", "n": 7}}
COOL = {"id": "COOL", "kind": "cooldown", "after": "conversation", "dates": 7}
PRE = {"id": "PRE", "kind": "prerequisite", "fact": "notice", "dates": 6}
OUT = {"id": "OUT", "kind": "opt_out"}
RULES = [HOURS, CAP, COOL, PRE, OUT]
CASE = {
    "id": "A",
    "packs": ["P"],
    "zones": ["Europe/London"],
    "now": "2026-11-23T12:00:00Z",
    "reminder": {"channel": "sms", "borrower": "B"},
    "history": [{"at": "2026-11-20T12:00:00Z", "channel": "sms", "outcome": "sent"}],
    "facts": {"notice": "2026-11-01"},
    "expect": {"decision": "defer", "until": "2026-11-30T08:00:00Z"},
    "rules": ["CAP"],
}
FILE = {"packs": {"P": RULES}, "cases": [CASE]}


def changed(path, value):
    """The file with one place set, or taken out when the value is `...`."""
    given = deepcopy(FILE)
    *above, last = path
    place = given
    for step in above:
        place = place[step]
    if value is ...:
        del place[last]
    else:
        place[last] = value
    return json.dumps(given).encode()


def faults(source):
    with pytest.raises(PolicyError) as wrong:
        check(source)
    return wrong.value.faults


def run(*arguments):
    return ran("policy", "check", *arguments, cwd=ROOT)


RULE = ("packs", "P")
AT = ("cases", 0)
MISTAKES = [
    ((*RULE, 0, "dayz"), [], "/packs/P/0/dayz", "unknown_key"),
    ((*RULE, 0, "max"), 3, "/packs/P/0/max", "unknown_key"),
    ((*RULE, 0, "kind"), "windows", "/packs/P/0/kind", "unknown_word"),
    ((*RULE, 0, "kind"), ..., "/packs/P/0/kind", "unknown_word"),
    ((*RULE, 0, "kind"), ["window"], "/packs/P/0/kind", "unknown_word"),
    ((*RULE, 0, "id"), ..., "/packs/P/0/id", "missing_key"),
    ((*RULE, 0, "id"), "", "/packs/P/0/id", "empty"),
    ((*RULE, 1, "id"), "HOURS", "/packs/P/1/id", "id_twice"),
    ((*RULE, 0), "HOURS", "/packs/P/0", "wrong_type"),
    (RULE, HOURS, "/packs/P", "wrong_type"),
    ((*RULE, 0, "force"), "rumour", "/packs/P/0/force", "unknown_word"),
    ((*RULE, 0, "zone"), "Europe/London", "/packs/P/0/zone", "zone_unknown"),
    ((*RULE, 0, "zone"), "fixed:Europe/Londres", "/packs/P/0/zone", "zone_unknown"),
    ((*RULE, 0, "zone"), "fixed:../../etc/passwd", "/packs/P/0/zone", "zone_unknown"),
    ((*RULE, 0, "since"), "2026-02-30", "/packs/P/0/since", "wrong_type"),
    ((*RULE, 0, "until"), "2026-11-23T00:00:00Z", "/packs/P/0/until", "wrong_type"),
    ((*RULE, 0, "channels"), ["sms", "pigeon"], "/packs/P/0/channels/1", "unknown_word"),
    ((*RULE, 0, "channels"), "sms", "/packs/P/0/channels", "wrong_type"),
    ((*RULE, 0, "exempt_flags"), [1], "/packs/P/0/exempt_flags/0", "wrong_type"),
    ((*RULE, 0, "days"), ..., "/packs/P/0/days", "missing_key"),
    ((*RULE, 0, "days", 0, "on"), ["mo"], "/packs/P/0/days/0/on/0", "unknown_word"),
    ((*RULE, 0, "days", 0, "on"), "workday:US", "/packs/P/0/days/0/on", "unknown_word"),
    ((*RULE, 0, "days", 0, "open"), "8:00", "/packs/P/0/days/0/open", "wrong_type"),
    ((*RULE, 0, "days", 0, "open"), "21:00", "/packs/P/0/days/0/open", "open_not_before_close"),
    ((*RULE, 0, "days", 0, "open"), "24:00", "/packs/P/0/days/0/open", "open_not_before_close"),
    ((*RULE, 0, "days", 0, "close"), "24:01", "/packs/P/0/days/0/close", "wrong_type"),
    ((*RULE, 0, "days", 0, "close"), ..., "/packs/P/0/days/0/close", "missing_key"),
    ((*RULE, 0, "closed_on_holidays"), "ATLANTIS", "/packs/P/0/closed_on_holidays", "calendar_unknown"),
    ((*RULE, 0, "closed_on_holidays"), "US-XX", "/packs/P/0/closed_on_holidays", "calendar_unknown"),
    ((*RULE, 0, "holiday_as"), {"calendar": "US"}, "/packs/P/0/holiday_as/open", "missing_key"),
    (
        (*RULE, 0, "holiday_as"),
        {"calendar": "US", "open": "10:00", "close": "10:00"},
        "/packs/P/0/holiday_as/open",
        "open_not_before_close",
    ),
    ((*RULE, 0, "not_if"), {"fact": "dpd", "gt": "15"}, "/packs/P/0/not_if/gt", "wrong_type"),
    ((*RULE, 1, "max"), -1, "/packs/P/1/max", "wrong_type"),
    ((*RULE, 1, "max"), True, "/packs/P/1/max", "wrong_type"),
    ((*RULE, 1, "max"), 1.0, "/packs/P/1/max", "wrong_type"),
    ((*RULE, 1, "max"), 10**30, "/packs/P/1/max", "wrong_type"),
    ((*RULE, 1, "max"), None, "/packs/P/1/max", "wrong_type"),
    ((*RULE, 1, "window"), {"type": "fortnight"}, "/packs/P/1/window/type", "unknown_word"),
    ((*RULE, 1, "window"), {"type": "dates"}, "/packs/P/1/window/n", "missing_key"),
    ((*RULE, 1, "window"), {"type": "day", "n": 1}, "/packs/P/1/window/n", "unknown_key"),
    ((*RULE, 1, "window"), "day", "/packs/P/1/window", "wrong_type"),
    ((*RULE, 1, "window", "n"), 0, "/packs/P/1/window/n", "wrong_type"),
    ((*RULE, 1, "per"), ["lender"], "/packs/P/1/per/0", "unknown_word"),
    ((*RULE, 1, "count_outcomes"), ["ringing"], "/packs/P/1/count_outcomes/0", "unknown_word"),
    ((*RULE, 1, "only_after"), ["read"], "/packs/P/1/only_after", "unknown_word"),
    ((*RULE, 2, "hours"), 4, "/packs/P/2", "one_of_two"),
    ((*RULE, 2, "dates"), ..., "/packs/P/2", "one_of_two"),
    ((*RULE, 2, "after"), ..., "/packs/P/2/after", "missing_key"),
    (("packs",), [], "/packs", "wrong_type"),
    (("cases",), ..., "/cases", "missing_key"),
    (("cases",), {}, "/cases", "wrong_type"),
    (("extra",), 1, "/extra", "unknown_key"),
    ((*AT, "zone"), "UTC", "/cases/0/zone", "unknown_key"),
    ((*AT, "zones"), [], "/cases/0/zones", "empty"),
    ((*AT, "zones"), ..., "/cases/0/zones", "missing_key"),
    ((*AT, "zones"), "Europe/London", "/cases/0/zones", "wrong_type"),
    ((*AT, "zones", 0), "Europe/Londres", "/cases/0/zones/0", "zone_unknown"),
    ((*AT, "packs", 0), "Q", "/cases/0/packs/0", "pack_unknown"),
    ((*AT, "now"), "2026-11-23T12:00:00", "/cases/0/now", "wrong_type"),
    ((*AT, "now"), "2026-11-23T12:00:00.5Z", "/cases/0/now", "wrong_type"),
    ((*AT, "now"), "2026-11-23T12:00:00+08:00", "/cases/0/now", "wrong_type"),
    ((*AT, "now"), "2026-11-31T12:00:00Z", "/cases/0/now", "wrong_type"),
    ((*AT, "now"), "9999-12-31T23:59:59Z", "/cases/0/now", "wrong_type"),
    ((*AT, "now"), 1795435200, "/cases/0/now", "wrong_type"),
    ((*AT, "reminder", "channel"), "chat", "/cases/0/reminder/channel", "unknown_word"),
    ((*AT, "reminder", "channel"), ..., "/cases/0/reminder/channel", "missing_key"),
    ((*AT, "reminder", "chanel"), "sms", "/cases/0/reminder/chanel", "unknown_key"),
    ((*AT, "reminder", "borrower"), 7, "/cases/0/reminder/borrower", "wrong_type"),
    ((*AT, "reminder", "borrower"), "\ud800", "/cases/0/reminder/borrower", "wrong_type"),
    ((*AT, "history", 0, "channel"), "chat", "/cases/0/history/0/channel", "unknown_word"),
    ((*AT, "history", 0, "outcome"), "accepted", "/cases/0/history/0/outcome", "unknown_word"),
    ((*AT, "history", 0, "at"), ..., "/cases/0/history/0/at", "missing_key"),
    ((*AT, "history"), {}, "/cases/0/history", "wrong_type"),
    ((*AT, "facts"), [], "/cases/0/facts", "wrong_type"),
    ((*AT, "facts", "any"), [1], "/cases/0/facts/any", "wrong_type"),
    ((*AT, "facts", "any"), {"a": 1}, "/cases/0/facts/any", "wrong_type"),
    ((*AT, "facts", "any"), 10**400, "/cases/0/facts/any", "wrong_type"),
    ((*AT, "facts", "any"), -(10**400), "/cases/0/facts/any", "wrong_type"),
    ((*AT, "facts", "notice"), True, "/cases/0/facts/notice", "wrong_type"),
    ((*AT, "facts", "notice"), "yesterday", "/cases/0/facts/notice", "wrong_type"),
    ((*AT, "facts", "optout_at"), "2026-11-20", "/cases/0/facts/optout_at", "wrong_type"),
    ((*AT, "horizon_days"), -1, "/cases/0/horizon_days", "wrong_type"),
    ((*AT, "horizon_days"), 1.5, "/cases/0/horizon_days", "wrong_type"),
    ((*AT, "expect", "decision"), "wait", "/cases/0/expect/decision", "unknown_word"),
    ((*AT, "expect", "until"), "soon", "/cases/0/expect/until", "wrong_type"),
    ((*AT, "expect"), "send", "/cases/0/expect", "wrong_type"),
    ((*AT, "rules"), "CAP", "/cases/0/rules", "wrong_type"),
    ((*AT,), None, "/cases/0", "wrong_type"),
]


@pytest.mark.parametrize(("path", "value", "at", "code"), MISTAKES, ids=[f"{m[2]} {m[3]}" for m in MISTAKES])
def test_a_mistake_is_named_with_its_place(path, value, at, code):
    found = faults(changed(path, value))

    assert (found[0].at, found[0].code) == (at, code)


def test_the_file_without_a_mistake_is_taken():
    assert [result.ok for result in check(json.dumps(FILE).encode())] == [True]


@pytest.mark.parametrize(
    ("source", "at"),
    [
        (b"{", "line 1 column 2"),
        (b"\xff\xfe", "byte 0"),
        (b"[" * 100_000, "/"),
        (b'{"cases": ' + b"9" * 5_000 + b"}", "/"),
        (b"", "line 1 column 1"),
        (b"null", "/"),
    ],
)
def test_what_is_no_json_object_is_said_so(source, at):
    assert faults(source)[0].at == at


@pytest.mark.parametrize("word", ["NaN", "Infinity", "-Infinity", "1e999"])
@pytest.mark.parametrize("at", ["/cases/0/facts/dpd", "/cases/0/horizon_days", "/packs/P/1/max"])
def test_a_number_that_is_not_finite_is_refused_where_it_stands(word, at):
    _, *path = at.split("/")
    source = changed([int(step) if step.isdigit() else step for step in path], "@")

    assert [fault.at for fault in faults(source.replace(b'"@"', word.encode()))] == [at]


def test_a_key_given_twice_is_refused():
    source = json.dumps(FILE).replace('"borrower": "B"', '"borrower": "B", "borrower": "C"').encode()

    assert [(fault.at, fault.code) for fault in faults(source)] == [
        ("/cases/0/reminder/borrower", "key_twice")
    ]


def test_every_mistake_is_named_at_once_and_no_value_is_repeated():
    source = json.dumps(
        {
            "packs": {"P": [{**HOURS, "zone": "fixed:SECRET"}, {**CAP, "max": "SECRET"}]},
            "cases": [{**CASE, "zones": [], "now": "SECRET"}, {**CASE, "reminder": {"channel": "SECRET"}}],
        }
    ).encode()
    found = faults(source)

    assert [fault.at for fault in found] == [
        "/packs/P/0/zone",
        "/packs/P/1/max",
        "/cases/0/zones",
        "/cases/0/now",
        "/cases/1/reminder/channel",
    ]
    assert not any("SECRET" in fault.message for fault in found)


def test_a_pointer_escapes_what_json_pointers_escape():
    source = json.dumps({**FILE, "packs": {"P": RULES, "A/B~C": [{}]}}).encode()

    assert faults(source)[0].at == "/packs/A~1B~0C/0/kind"


def test_an_own_pack_comes_before_a_shipped_one_and_a_shipped_one_fills_in():
    night = {**CASE, "now": "2026-11-23T03:00:00Z", "facts": {}, "history": [], "packs": ["CN.GBT", "IN.RBI"]}
    mine = [{**HOURS, "id": "MINE"}]
    source = json.dumps({"packs": {"CN.GBT": mine}, "cases": [night]}).encode()

    assert check(source)[0].rules == ["MINE"]


def test_ids_come_once_in_the_order_of_packs_and_rules():
    closed = {"kind": "window", "days": []}
    packs = {
        "A": [{**closed, "id": "Z"}, {**closed, "id": "D", "force": "draft"}],
        "B": [{**closed, "id": "Y"}],
    }
    case = {**CASE, "packs": ["B", "A"], "zones": ["UTC", "Asia/Tokyo"], "facts": {}}
    result = check(json.dumps({"packs": packs, "cases": [case]}).encode())[0].as_json()

    assert (result["rules"], result["shadow"]) == (["Y", "Z"], ["D"])


def test_empty_lists_mean_what_they_say():
    rules = [
        {**HOURS, "channels": []},
        {**CAP, "max": 1, "count_outcomes": [], "per": []},
        {"id": "NOBODY", "kind": "refusal", "roles": []},
    ]
    case = {**CASE, "facts": {"contact_refused": True}}
    source = json.dumps({"packs": {"P": rules}, "cases": [case, {**case, "packs": []}]}).encode()

    assert [result.rules for result in check(source)] == [[], []]


@pytest.mark.parametrize(
    ("change", "ok"),
    [
        ({}, True),
        ({"rules": ["HOURS"]}, False),
        ({"expect": {"decision": "defer", "until": "2026-11-30T08:00:01Z"}}, False),
        ({"expect": {"decision": "suppress"}}, False),
        ({"expect": {"decision": "defer"}}, False),
    ],
)
def test_a_case_agrees_only_when_decision_instant_and_rules_do(change, ok):
    assert check(json.dumps({**FILE, "cases": [{**CASE, **change}]}).encode())[0].ok is ok


def test_a_case_that_expects_nothing_neither_agrees_nor_disagrees():
    case = {key: value for key, value in CASE.items() if key not in ("expect", "rules")}

    assert check(json.dumps({**FILE, "cases": [case]}).encode())[0].ok is None


def test_the_command_prints_one_array_and_ends_with_0(tmp_path):
    file = tmp_path / "cases.json"
    file.write_text(json.dumps(FILE))
    told = run(str(file), "--json")

    assert told.returncode == 0, told.stderr
    assert json.loads(told.stdout) == [
        {
            "id": "A",
            "decision": "defer",
            "until": "2026-11-30T08:00:00Z",
            "rules": ["CAP"],
            "shadow": [],
            "ok": True,
        }
    ]


def test_the_command_ends_with_2_names_every_place_and_prints_no_array(tmp_path):
    file = tmp_path / "cases.json"
    file.write_text(json.dumps({**FILE, "cases": [{**CASE, "zones": []}, 7]}))
    told = run(str(file), "--json")

    assert (told.returncode, told.stdout) == (2, "")
    assert told.stderr.splitlines()[0].startswith("/cases/0/zones: ")
    assert told.stderr.splitlines()[1].startswith("/cases/1: ")


def test_the_command_ends_with_1_when_a_case_disagrees_and_says_which(tmp_path):
    file = tmp_path / "cases.json"
    file.write_text(
        json.dumps({**FILE, "cases": [CASE, {**CASE, "id": "B", "expect": {"decision": "send"}}]})
    )
    told = CliRunner().invoke(policy, ["check", str(file)])

    assert told.exit_code == 1
    assert told.output.splitlines() == [
        "ok   A: defer until 2026-11-30T08:00:00Z (CAP)",
        "FAIL B: defer until 2026-11-30T08:00:00Z (CAP); expected send (CAP)",
        "1 of 2 as expected",
    ]


@pytest.mark.parametrize("name", ["missing.json", "."])
def test_a_file_that_cannot_be_read_is_bad_input(tmp_path, name):
    told = CliRunner().invoke(policy, ["check", str(tmp_path / name)])

    assert isinstance(told.exception, PolicyError)
    assert told.exception.faults[0].code == "unreadable"


def test_years_without_an_end_are_judged_without_a_traceback():
    rule = {**HOURS, "since": "0001-01-01", "until": "9999-12-31"}
    far = {**PRE, "dates": 1_000_000}
    case = {**CASE, "facts": {"notice": "9999-12-31"}, "now": "2199-12-31T23:59:59Z", "horizon_days": 3660}
    source = json.dumps({"packs": {"P": [rule, far]}, "cases": [case]}).encode()

    assert check(source)[0].verdict.action == "suppress"
    assert len(parse_cases(source)) == 1
