"""The shipped packs, which of them apply to whom, and what may be changed in them."""

from typing import get_args

import pytest

from gateway.errors import PolicyError
from gateway.policy.model import CHANNELS, FORCES, OUTCOMES, PER, UNJUDGED, AnyRule, Question
from gateway.policy.packs import applying, load, with_overrides
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


FIVE = tuple(shipped()[name] for name in ("CN.GBT", "IN.RBI", "OP.BASELINE", "OP.CAPS", "US.REGF"))


def every(packs, residence, governing_law):
    """All that apply; those for elsewhere where no pack is of the home."""
    found = applying(packs, residence=residence, governing_law=governing_law)
    return found.packs(hours_at_home=bool(found.home))


def rule_of(packs, name):
    return next(rule for pack in packs for rule in pack.rules if rule.id == name)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_every_shipped_rule_says_where_it_comes_from(rule):
    assert rule.id.split(".")[0] == rule.pack.split(".")[0]
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
    assert set(KINDS) == set(get_args(AnyRule)) - set(UNJUDGED)


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
    assert ids(every(FIVE, residence=residence, governing_law=law)) == expected


@pytest.mark.parametrize(
    ("residence", "calendar"),
    [("GB", "GB"), ("GB-SCT", "GB-SCT"), ("FR-75", "FR"), ("CN-HK", "HK"), ("ZZ", None), (None, None)],
)
def test_the_baseline_closes_on_the_holidays_of_the_residence(residence, calendar):
    packs = applying(PACKS, residence=residence, governing_law=None).elsewhere

    assert rule_of(packs, "OP.BASELINE.HOURS").closed_on_holidays == calendar


def test_a_pack_for_elsewhere_that_asks_for_no_holidays_closes_on_none():
    mine = parse_pack(TOML.replace('applies = ["XX"]', 'applies = "elsewhere"'), "X.toml")

    assert rule_of(every((*PACKS, mine), "FR", None), "X.HOURS").calendars == ()


def test_an_answered_call_counts_as_a_conversation_in_china_and_nowhere_else():
    china = rule_of(every(PACKS, "CN", None), "CN.GBT.EFF3DAY")
    elsewhere = every(PACKS, "FR", None)

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
    packs = every((*PACKS, parse_pack(text, "X.toml")), "XX", None)

    assert rule_of(packs, "X.COOL").after == {"conversation", "answered"}
    assert rule_of(packs, "X.CAP").exclude_outcomes == {"conversation", "answered"}
    assert rule_of(packs, "X.CAP").only_after == {"read"}


@pytest.mark.parametrize("missing", ["everyone", "elsewhere"])
def test_a_missing_pack_never_means_no_rules(missing):
    packs = tuple(pack for pack in PACKS if missing not in pack.applies)

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


@pytest.mark.parametrize(
    ("applies", "at"),
    [
        *(
            (f'["XX", "{place}"]', "/1")
            for place in ("USA", "us-ny", "UK", "EU", "US-ZZ", "US-ZZ-NYC", "everyone")
        ),
        *(
            (f'["{place}"]', "/0")
            for place in ("", "US-", "US-NEWY", "US-NY-NYC-1", "FR\\n", "BR-XX", "AU-ZZ")
        ),
        ("[7]", "/0"),
        ("[]", ""),
        ('"FR"', ""),
        ('"alone"', ""),
    ],
)
def test_a_pack_for_a_place_that_does_not_exist_is_refused_and_told_what_is_allowed(applies, at):
    with pytest.raises(PolicyError) as wrong:
        parse_pack(TOML.replace('["XX"]', applies), "X.toml")

    [fault] = wrong.value.faults
    assert fault.at == f"X.toml:/pack/applies{at}"
    assert "US-NY-NYC" in fault.message
    assert "everyone, elsewhere, assigned" in fault.message


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        *(
            (place, place)
            for place in ("FR", "US-NY", "US-NY-NYC", "GB-LND", "FR-75", "BR-DF", "MX-CMX", "AU-ACT")
        ),
        *((place, place) for place in ("AA", "QM", "QZ", "XA", "XZ", "ZZ", "XX-1", "PR")),
        ("US-PR", "PR"),
        ("CN-HK", "HK"),
    ],
)
def test_a_pack_for_a_place_of_iso_3166_or_one_left_to_its_users_is_for_that_place(given, meant):
    assert parse_pack(TOML.replace('"XX"', f'"{given}"'), "X.toml").applies == (meant,)


@pytest.mark.parametrize("code", ["AB", "QL", "YA", "ZY"])
def test_a_code_beside_those_left_to_its_users_is_no_place(code):
    with pytest.raises(PolicyError):
        parse_pack(TOML.replace('"XX"', f'"{code}"'), "X.toml")


def applied(packs, **given):
    found = applying(packs, **({"residence": "FR", "governing_law": None} | given))
    return ids(found.home), ids(found.law)


def test_a_licence_brings_the_packs_of_its_place_and_an_assignment_those_it_names():
    home, law = applied(FIVE, licences=("IN",), assigned=("US.REGF",))

    assert (home, law) == ([], ["IN.RBI", "US.REGF"])


def test_a_city_has_the_packs_of_its_state_and_country():
    found = applying(PACKS, residence="US-NY-NYC", governing_law=None)

    assert {"US.REGF", "US-NYC.2026"} <= set(ids(found.home))
    assert "US-NYC.2026" not in ids(applying(PACKS, residence="US-NY-ALB", governing_law=None).home)


def test_an_assigned_pack_that_is_not_loaded_is_missing():
    with pytest.raises(PolicyError) as wrong:
        applying(FIVE, residence="FR", governing_law=None, assigned=("X.MINE",))

    assert [fault.code for fault in wrong.value.faults] == ["pack_missing"]


def test_an_own_pack_is_loaded_beside_the_shipped_ones():
    packs = load([("X.toml", TOML)])

    assert ids(packs) == [*shipped(), "X"]


@pytest.mark.parametrize(
    ("text", "stopped", "goes_on"),
    [
        (TOML.replace("20:00", "8pm"), ["XX", "XX-A"], ["FR", "CN"]),
        (TOML.replace('["XX"]', "3"), ["XX", "FR", "CN"], []),
        (TOML.replace('["XX"]', '["USA"]'), ["US-NY", "FR", "CN"], []),
        (TOML.replace('["XX"]', '["FR", "UK"]'), ["FR", "GB", "CN"], []),
        (TOML.replace('["XX"]', "[]"), ["FR", "CN"], []),
        (TOML.replace("20:00", "8pm").replace('["XX"]', '["CN-HK"]'), ["HK"], ["FR", "CN"]),
        ("[pack", ["FR", "CN", "US"], []),
        (TOML.replace('id = "X"', 'id = "CN.GBT"').replace('["XX"]', '["CN"]'), ["CN", "CN-GD"], ["FR"]),
    ],
)
def test_a_pack_that_cannot_be_read_stops_those_whom_it_is_for(text, stopped, goes_on):
    packs = load([("X.toml", text)])

    for place in stopped:
        with pytest.raises(PolicyError) as wrong:
            applying(packs, residence=place, governing_law=None)
        assert [fault.code for fault in wrong.value.faults] == ["pack_broken"]
        assert wrong.value.faults[0].message
    for place in goes_on:
        assert applying(packs, residence=place, governing_law=None).everyone


def test_two_versions_of_a_pack_may_follow_one_another():
    old = TOML.replace('version = "1"', 'version = "1"\nuntil = 2027-01-01')
    new = TOML.replace('version = "1"', 'version = "2"\nsince = 2027-01-01')

    assert not any(pack.broken for pack in load([("old.toml", old), ("new.toml", new)]))
    assert [pack.broken for pack in load([("a.toml", TOML), ("new.toml", new)]) if pack.broken]
