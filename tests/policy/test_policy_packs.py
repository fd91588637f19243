"""The shipped packs, which of them apply to whom, and what may be changed in them."""

from typing import get_args

import pytest

from gateway.errors import PolicyError
from gateway.policy.model import CHANNELS, FORCES, OUTCOMES, PER, AnyRule, Question
from gateway.policy.packs import applying, with_overrides
from gateway.policy.parse import parse_pack, shipped
from gateway.policy.rules import KINDS

PACKS = tuple(shipped().values())
RULES = [rule for pack in PACKS for rule in pack.rules]
TOML = """
[pack]
id = "X"
version = "1"
title = "t"
review_status = "r"
source = "s"
applies = ["XX"]

[[rule]]
id = "X.HOURS"
kind = "window"
days = [{on = ["mon"], open = "08:00", close = "20:00"}]
"""


def ids(packs):
    return [pack.id for pack in packs]


def rule_of(packs, name):
    return next(rule for pack in packs for rule in pack.rules if rule.id == name)


def test_the_packs_that_ship_are_these():
    assert sorted(shipped()) == ["CN.GBT", "IN.RBI", "OP.BASELINE", "OP.CAPS", "US.REGF"]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_every_shipped_rule_says_where_it_comes_from(rule):
    assert rule.id.startswith(rule.pack + ".")
    assert rule.cite
    assert rule.source
    assert rule.checked is not None
    assert rule.version


@pytest.mark.parametrize("pack", PACKS, ids=lambda pack: pack.id)
def test_every_shipped_pack_says_how_far_it_was_reviewed(pack):
    assert pack.review_status
    assert pack.source
    assert pack.applies


def test_every_kind_of_rule_is_evaluated():
    assert set(KINDS) == set(get_args(AnyRule))


def test_the_keys_that_may_be_shared_are_keys_of_a_reminder():
    assert set(PER) <= set(Question.__slots__)


def test_the_words_are_those_of_the_language():
    assert len(CHANNELS) == 9
    assert len(OUTCOMES) == 12
    assert len(FORCES) == 7


@pytest.mark.parametrize(
    ("residence", "law", "expected"),
    [
        ("CN", None, ["CN.GBT", "OP.CAPS"]),
        ("CN-GD", "CN", ["CN.GBT", "OP.CAPS"]),
        ("US-NY", None, ["US.REGF", "OP.CAPS"]),
        ("US-PR", "US", ["US.REGF", "OP.CAPS"]),
        ("IN", "US-NY", ["IN.RBI", "US.REGF", "OP.CAPS"]),
        ("GB", None, ["OP.BASELINE", "OP.CAPS"]),
        ("GB", "CN", ["CN.GBT", "OP.BASELINE", "OP.CAPS"]),
        ("CN-HK", "CN", ["CN.GBT", "OP.BASELINE", "OP.CAPS"]),
        ("CNX", None, ["OP.BASELINE", "OP.CAPS"]),
        (None, "IN", ["IN.RBI", "OP.CAPS"]),
        (None, None, ["OP.BASELINE", "OP.CAPS"]),
    ],
)
def test_residence_and_law_choose_the_packs(residence, law, expected):
    assert ids(applying(PACKS, residence=residence, governing_law=law)) == expected


@pytest.mark.parametrize(
    ("residence", "calendar"),
    [("GB", "GB"), ("GB-SCT", "GB-SCT"), ("FR-75", "FR"), ("CN-HK", "HK"), ("ZZ", None), (None, None)],
)
def test_the_baseline_closes_on_the_holidays_of_the_residence(residence, calendar):
    packs = applying(PACKS, residence=residence, governing_law=None)

    assert rule_of(packs, "OP.BASELINE.HOURS").closed_on_holidays == calendar


def test_a_pack_for_elsewhere_that_asks_for_no_holidays_closes_on_none():
    mine = parse_pack(TOML.replace('applies = ["XX"]', 'applies = "elsewhere"'), "X.toml")

    assert rule_of(applying((*PACKS, mine), residence="GB", governing_law=None), "X.HOURS").calendars == ()


def test_an_answered_call_counts_as_a_conversation_in_china_and_nowhere_else():
    china = rule_of(applying(PACKS, residence="CN", governing_law=None), "CN.GBT.EFF3DAY")
    elsewhere = applying(PACKS, residence="GB", governing_law=None)

    assert china.count_outcomes == {"conversation", "answered"}
    assert rule_of(PACKS, "CN.GBT.EFF3DAY").count_outcomes == {"conversation"}
    assert rule_of(elsewhere, "OP.BASELINE.CONV1DAY").count_outcomes == {"conversation"}
    assert rule_of(elsewhere, "OP.BASELINE.POSTCONV").after == {"conversation"}


def test_an_answered_call_starts_what_a_conversation_starts_where_the_pack_says_so():
    text = (
        TOML.replace('applies = ["XX"]', 'applies = ["XX"]\nanswered_as = "conversation"')
        + """
[[rule]]
id = "X.COOL"
kind = "cooldown"
after = "conversation"
dates = 2

[[rule]]
id = "X.CAP"
kind = "cap"
max = 1
window = {type = "day"}
exclude_outcomes = ["conversation"]
only_after = "read"
"""
    )
    packs = applying((*PACKS, parse_pack(text, "X.toml")), residence="XX", governing_law=None)

    assert rule_of(packs, "X.COOL").after == {"conversation", "answered"}
    assert rule_of(packs, "X.CAP").exclude_outcomes == {"conversation", "answered"}
    assert rule_of(packs, "X.CAP").only_after == {"read"}


@pytest.mark.parametrize("missing", ["OP.CAPS", "OP.BASELINE"])
def test_a_missing_pack_never_means_no_rules(missing):
    packs = tuple(pack for pack in PACKS if pack.id != missing)

    with pytest.raises(PolicyError) as wrong:
        applying(packs, residence="GB", governing_law=None)

    assert [fault.code for fault in wrong.value.faults] == ["pack_missing"]


def test_a_tenant_may_change_a_cap_as_data():
    packs = with_overrides(PACKS, {"OP.CAPS.DAY": 5})

    assert rule_of(packs, "OP.CAPS.DAY").max == 5
    assert rule_of(packs, "OP.CAPS.WEEK").max == 7
    assert rule_of(PACKS, "OP.CAPS.DAY").max == 3
    assert [pack for pack in packs if pack.id == "CN.GBT"] == [shipped()["CN.GBT"]]


@pytest.mark.parametrize("name", ["OP.CAPS.YEAR", "US.REGF.HOURS"])
def test_only_a_cap_that_exists_is_changed(name):
    with pytest.raises(PolicyError) as wrong:
        with_overrides(PACKS, {name: 5, "OP.CAPS.DAY": 5})

    assert [fault.at for fault in wrong.value.faults] == [f"/{name}"]


def test_a_rule_without_dates_has_those_of_its_pack():
    pack = parse_pack(
        TOML.replace('version = "1"', 'version = "1"\nsince = 2026-01-01\nuntil = "2027-01-01"'), "X"
    )
    (rule,) = pack.rules

    assert (str(rule.since), str(rule.until)) == ("2026-01-01", "2027-01-01")


@pytest.mark.parametrize(
    ("old", "new", "at"),
    [
        ('id = "X"\n', "", "X.toml:/pack/id"),
        ('version = "1"', "version = 1", "X.toml:/pack/version"),
        ('review_status = "r"', 'reviewed = "r"', "X.toml:/pack/reviewed"),
        ('applies = ["XX"]', 'applies = "nobody"', "X.toml:/pack/applies"),
        ('version = "1"', 'version = "1"\nsince = 2026-01-01T00:00:00Z', "X.toml:/pack/since"),
        ('version = "1"', 'version = "1"\nholidays = "moon"', "X.toml:/pack/holidays"),
        ('open = "08:00"', 'open = "20:00"', "X.toml:/rule/0/days/0/open"),
        ('kind = "window"', 'kind = "window"\nchecked = 2026', "X.toml:/rule/0/checked"),
        ("[[rule]]", "[[rules]]", "X.toml:/rules"),
        ("[pack]", "[pack", "X.toml"),
    ],
)
def test_a_pack_with_a_mistake_is_not_loaded(old, new, at):
    with pytest.raises(PolicyError) as wrong:
        parse_pack(TOML.replace(old, new, 1), "X.toml")

    assert at in [fault.at for fault in wrong.value.faults]
