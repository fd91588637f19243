"""`gateway policy diff`: rule by rule what changed, and which way where that is sure."""

import json
from datetime import date, datetime
from pathlib import Path
from random import Random

import policy_draws as draws
import pytest
import rule_draws
from cli_rig import ran
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_policy_lint import CAP, HEADER, HOURS

from gateway.policy.check import decide_case, parse_cases
from gateway.policy.diff import diff
from gateway.policy.stricter import Effect, effect
from gateway.policy.week import within
from gateway.policy.written import read_written

ROOT = Path(__file__).parents[2]
CALLS = '[[rule]]\nid = "ZZ.CALLS"\nkind = "cap"\nmax = 3\nwindow = {type = "dates", n = 7}\nchannels = ["voice"]\n'
LOCK = 'kind = "channel_lock"\nafter = "read"\nwindow = {type = "day"}\nper = ["debt"]'
KEEP = 'kind = "retention"\nrecords = ["message"]\nmax = {years = 1, from = "event"}'


def pack(*rules, header=HEADER):
    return read_written(header + "".join(rules), "ZZ.toml")


def changes(old, new):
    return [(c.rule, c.key, c.old, c.new, c.effect.value) for c in diff([old], [new])]


def one(rule, old, new):
    """The only change when a text in a rule is replaced."""
    [(_, key, before, after, way)] = changes(pack(rule), pack(rule.replace(old, new)))
    return key, before, after, way


def run(*arguments, cwd=ROOT):
    return ran("policy", "diff", *arguments, cwd=cwd)


def test_the_same_in_another_layout_is_no_change():
    days = 'days = [{on = ["tue", "mon"], open = "08:00", close = "20:00"}]'
    apart = 'days = [{on = ["mon"], open = "08:00", close = "20:00"}, {on = ["tue"], open = "08:00", close = "20:00"}]'
    old = HOURS.replace('days = [{on = ["mon"], open = "08:00", close = "20:00"}]', days)
    new = HOURS.replace('days = [{on = ["mon"], open = "08:00", close = "20:00"}]', apart)

    assert changes(pack(old, CAP), pack(CAP, new)) == []


@pytest.mark.parametrize(
    ("old", "new", "key", "before", "after", "way"),
    [
        ("max = 3", "max = 2", "max", "3", "2", "stricter"),
        ("max = 3", "max = 4", "max", "3", "4", "looser"),
        ("n = 7", "n = 8", "window", "n 7, type dates", "n 8, type dates", "stricter"),
        ('{type = "dates", n = 7}', '{type = "week"}', "window", "n 7, type dates", "type week", "looser"),
        ('"dates", n = 7', '"hours", n = 1', "window", "n 7, type dates", "n 1, type hours", "changed"),
        ('["voice"]', '["voice", "sms"]', "channels", "voice", "sms, voice", "stricter"),
        ('["voice"]', '["sms"]', "channels", "voice", "sms", "changed"),
        ('channels = ["voice"]\n', "", "channels", "voice", None, "stricter"),
        ("max = 3", 'max = 3\nper = ["debt"]', "per", None, "debt", "looser"),
        ("max = 3", 'max = 3\nonly_after = "read"', "only_after", None, "read", "looser"),
        ("max = 3", "max = 3\nuntil = 2030-01-01", "until", None, "2030-01-01", "looser"),
        ("max = 3", 'max = 3\ncite = "s. 2"', "cite", None, "s. 2", "wording"),
        ("max = 3", 'max = 3\nforce = "draft"', "force", None, "draft", "looser"),
        ("max = 3", 'max = 3\nunsure = "?"', "unsure", None, "?", "looser"),
        ("max = 3", 'max = 3\nforce = "guideline"', "force", None, "guideline", "changed"),
        ("max = 3", 'max = 3\nzone = "fixed:Asia/Tokyo"', "zone", None, "fixed:Asia/Tokyo", "changed"),
    ],
)  # fmt: skip
def test_a_changed_key_is_shown_with_its_values_and_its_way(old, new, key, before, after, way):
    assert one(CALLS, old, new) == (key, before, after, way)


@pytest.mark.parametrize(
    ("old", "new", "way"),
    [
        ('"20:00"', '"19:00"', "stricter"),
        ('"08:00"', '"07:00"', "looser"),
        ('open = "08:00", close = "20:00"', 'open = "09:00", close = "21:00"', "changed"),
        ('["mon"]', '["mon", "tue"]', "looser"),
    ],
)
def test_hours_are_compared_as_hours(old, new, way):
    key, before, _, found = one(HOURS, old, new)

    assert (key, before, found) == ("days", "Mon 08:00-20:00", way)


def test_a_rule_that_comes_or_goes_is_shown_in_words():
    draft = CALLS + 'force = "draft"\n'

    assert changes(pack(HOURS), pack(HOURS, CALLS)) == [
        ("ZZ.CALLS", None, None, "At most 3 calls in 7 dates.", "stricter")
    ]
    assert changes(pack(HOURS, CALLS), pack(HOURS)) == [
        ("ZZ.CALLS", None, "At most 3 calls in 7 dates.", None, "looser")
    ]
    assert changes(pack(HOURS), pack(HOURS, draft))[0][-1] == "shadow"


@pytest.mark.parametrize(("force", "way"), [("law", "changed"), ("draft", "shadow")])
def test_a_rule_on_how_long_records_are_kept_is_no_shadow_unless_it_is_a_draft(force, way):
    keep = f'[[rule]]\nid = "ZZ.KEEP"\nforce = "{force}"\n{KEEP}\n'

    assert changes(pack(HOURS), pack(HOURS, keep))[0][-1] == way
    assert changes(pack(HOURS, keep), pack(HOURS))[0][-1] == way


def test_a_rule_that_leaves_the_shadow_is_stricter_in_all_it_says():
    draft = CALLS + 'force = "draft"\n'

    assert [way for *_, way in changes(pack(draft), pack(CALLS.replace("max = 3", "max = 9")))] == [
        "stricter", "stricter",
    ]  # fmt: skip


def test_a_rule_of_another_kind_is_no_way_surely():
    hold = '[[rule]]\nid = "ZZ.CALLS"\nkind = "hold"\nfact = "h"\n'

    [(rule, key, _, _, way)] = changes(pack(CALLS), pack(hold))

    assert (rule, key, way) == ("ZZ.CALLS", None, "changed")


def test_the_header_is_compared_too():
    new = HEADER.replace('version = "1"', 'version = "2"').replace('["ZZ"]', '["ZZ", "XX"]')

    assert changes(pack(CALLS), pack(CALLS, header=new)) == [
        ("[pack]", "version", "1", "2", "wording"),
        ("[pack]", "applies", "ZZ", "XX, ZZ", "changed"),
    ]


def test_packs_that_come_and_go_are_named():
    other = read_written((HEADER + CALLS).replace("ZZ", "XX"), "XX.toml")
    third = read_written((HEADER + CALLS).replace("ZZ", "XY"), "XY.toml")

    found = diff([pack(CALLS), other], [pack(CALLS), third])

    assert [(c.pack, c.rule, c.old, c.new) for c in found] == [
        ("XX", None, "version 1, 1 rules", None),
        ("XY", None, None, "version 1, 1 rules"),
    ]


def parsed(rule, case):
    return parse_cases(json.dumps({"packs": {"A": [rule]}, "cases": [case]}).encode())[0]


@given(st.integers(0, 1 << 32).map(Random))
@settings(max_examples=250, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
def test_what_is_called_stricter_objects_whenever_the_other_did(r):
    rules, case = draws.case(r)
    case["horizon_days"] = 0  # no search for an opening: what counts is now
    old, base = rules[0], datetime.fromisoformat(case["now"])
    other = rule_draws.KINDS[old["kind"]](r) | rule_draws.scope(r) | rule_draws.in_time(r, base)
    other["relaxed_by"] = rule_draws.relaxed_by(r)
    key = r.choice(sorted((other.keys() | old.keys()) - {"id", "kind", "force", "unsure", "zone"}))
    new = {name: value for name, value in {**old, key: other.get(key)}.items() if value is not None}
    if old["kind"] in ("cooldown", "spacing") and ("dates" in new) == ("hours" in new):
        return
    try:
        before, after = parsed(old, case), parsed(new, case)
    except Exception:  # noqa: BLE001 (a drawn key that this kind may not lack)
        return
    way = effect(key, old.get(key), new.get(key), before.packs[0].rules[0], after.packs[0].rules[0])
    found, then = (bool(decide_case(put).rules) for put in (before, after))

    assert not (way is Effect.STRICTER and found and not then), (key, old, new)
    assert not (way is Effect.LOOSER and then and not found), (key, old, new)


@given(st.integers(0, 1 << 32).map(Random))
@settings(max_examples=80, deadline=None, derandomize=True)
def test_hours_within_hours_are_never_open_alone(r):
    drawn = [{"id": name, "kind": "window", **rule_draws.window(r)} for name in "AB"]
    case = draws.case(r)[1] | {"facts": {}, "horizon_days": 0, "zones": ["UTC"]}
    drawn = [{k: v for k, v in rule.items() if k not in ("address_kinds", "not_if")} for rule in drawn]
    inner, outer = (parsed(rule, case) for rule in drawn)

    if within(inner.packs[0].rules[0], outer.packs[0].rules[0]):
        assert decide_case(outer).rules == [] or decide_case(inner).rules != []


@pytest.mark.parametrize(
    ("key", "loose", "strict"),
    [
        ("max", 3, 2),
        ("dates", 6, 7),
        ("hours", 1, 2),
        ("plus_dates", 0, 1),
        ("within_dates", None, 60),
        ("within_dates", 60, 30),
        ("fails", 2, 3),
        ("delay_dates", 0, 1),
        ("confirm_within_s", 0, None),
        ("confirm_within_s", 300, 0),
        ("since", "2027-01-01", date(2026, 1, 1)),
        ("since", date(2026, 1, 1), None),
        ("until", date(2027, 1, 1), None),
        ("channels", ["wechat", "wecom"], ["chat"]),
        ("purposes", ["collection"], None),
        ("actors", ["agency"], ["agency", "creditor"]),
        ("institutions", ["bank"], None),
        ("products", ["card"], None),
        ("technologies", ["ai_voice"], None),
        ("adapters", ["aliyun_sms"], None),
        ("address_kinds", ["workplace"], None),
        ("reasons", ["bereavement"], None),
        ("count_outcomes", ["read"], ["read", "sent"]),
        ("count_outcomes", ["read"], None),
        ("roles", ["spouse"], ["spouse", "contact"]),
        ("require", None, ["identity"]),
        ("forbid", [], ["threat"]),
        ("calendars", None, ["CN"]),
        ("exempt_purposes", ["collection"], None),
        ("exempt_flags", ["a"], []),
        ("exclude_outcomes", ["busy"], None),
        ("exclude_flags", ["a", "b"], ["a"]),
        ("allow_purposes", ["collection"], None),
        ("only_purposes", ["collection", "relay_request"], ["relay_request"]),
        ("only_purposes", None, ["relay_request"]),
        ("per", ["borrower", "debt"], ["debt"]),
        ("not_if", {"fact": "dpd", "gt": 15}, None),
        ("unless", "broken", None),
        ("only_after", "conversation", None),
        ("relaxed_by", {"form": "oral"}, None),
        ("since_fact", {"fact": "due_date"}, None),
        ("until_fact", {"fact": "due_date"}, None),
    ],
)
def test_a_key_goes_one_way_and_back_the_other(key, loose, strict):
    assert effect(key, loose, strict, None, None) is Effect.STRICTER
    assert effect(key, strict, loose, None, None) is Effect.LOOSER


@pytest.mark.parametrize(
    ("key", "old", "new"),
    [
        ("dates", None, 3),
        ("channels", ["sms"], ["voice"]),
        ("per", ["debt"], ["borrower"]),
        ("not_if", {"fact": "dpd", "gt": 15}, {"fact": "dpd", "gt": 16}),
        ("answered_as", None, "conversation"),
    ],
)
def test_what_is_not_sure_is_said_to_be_changed(key, old, new):
    assert effect(key, old, new, None, None) is effect(key, new, old, None, None) is Effect.CHANGED


@pytest.mark.parametrize(
    ("rule", "old", "new", "way"),
    [
        (LOCK, '["debt"]', '["debt", "borrower"]', "changed"),
        (LOCK, '["debt"]', "[]", "changed"),
        ('kind = "cap"\nmax = 1\nwindow = {type = "week"}', '"week"', '"dates", n = 7', "stricter"),
        ('kind = "cap"\nmax = 1\nwindow = {type = "week"}', '"week"', '"dates", n = 6', "changed"),
        ('kind = "cap"\nmax = 1\nwindow = {type = "month"}', '"month"', '"dates", n = 31', "stricter"),
        ('kind = "cap"\nmax = 1\nwindow = {type = "month"}', '"month"', '"dates", n = 30', "changed"),
        ('kind = "cap"\nmax = 1\nwindow = {type = "month"}', '"month"', '"day"', "looser"),
        ('kind = "consent_required"\nform = "written"', '"written"', '"separate"', "stricter"),
        ('kind = "consent_required"\nform = "written"', 'form = "written"', "", "looser"),
        (KEEP, "years = 1", "years = 2", "changed"),
    ],
)  # fmt: skip
def test_some_ways_are_told_by_the_whole_rule(rule, old, new, way):
    assert one(f'[[rule]]\nid = "ZZ.R"\n{rule}\n', old, new)[-1] == way


@pytest.mark.parametrize(
    ("old", "new", "way"),
    [
        ("", 'closed_on_holidays = "GB"', "stricter"),
        ('closed_on_holidays = "GB"', 'closed_on_holidays = "US"', "changed"),
        ("", 'holiday_as = {calendar = "GB", open = "09:00", close = "10:00"}', "stricter"),
        ("", 'holiday_as = {calendar = "GB", open = "07:00", close = "10:00"}', "changed"),
    ],
)
def test_holidays_that_close_are_stricter(old, new, way):
    assert {found for *_, found in changes(pack(f"{HOURS}{old}\n"), pack(f"{HOURS}{new}\n"))} == {way}


def test_the_command_ends_with_1_where_something_differs(tmp_path):
    (tmp_path / "a.toml").write_text(HEADER + CALLS)
    (tmp_path / "b.toml").write_text(HEADER + CALLS.replace("max = 3", "max = 2"))

    shown = run("a.toml", "b.toml", cwd=tmp_path)
    told = run("a.toml", "b.toml", "--json", cwd=tmp_path)
    same = run("a.toml", "a.toml", cwd=tmp_path)

    assert (shown.returncode, told.returncode, same.returncode) == (1, 1, 0)
    head, row = shown.stdout.splitlines()
    assert head.split() == ["PACK", "RULE", "KEY", "OLD", "NEW", "EFFECT"]
    assert row.split() == ["ZZ", "ZZ.CALLS", "max", "3", "2", "stricter"]
    assert json.loads(told.stdout) == [
        {"pack": "ZZ", "rule": "ZZ.CALLS", "key": "max", "old": "3", "new": "2", "effect": "stricter"}
    ]
    assert same.stderr == "nothing differs\n"


def test_folders_files_and_shipped_ids_can_be_compared(tmp_path):
    for folder, most in (("old", 3), ("new", 2)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "ZZ.toml").write_text(HEADER + CALLS.replace("max = 3", f"max = {most}"))

    assert run("old", "new", cwd=tmp_path).returncode == 1
    assert run("US.REGF", "US.REGF", cwd=tmp_path).returncode == 0


@pytest.mark.parametrize(
    ("name", "says"),
    [("XX.NONE", "there are: "), ("empty", "a folder of packs holds"), ("bad.toml", "bad.toml:/rule/0/max")],
)
def test_what_cannot_be_loaded_is_bad_input(tmp_path, name, says):
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad.toml").write_text(HEADER + CALLS.replace("max = 3", 'max = "3"'))

    ended = run("US.REGF", name, cwd=tmp_path)

    assert ended.returncode == 2
    assert says in ended.stderr
