"""Every shipped pack has worked cases of its own, and says of each question what the published rules say."""

import json
import random
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gateway.policy.check import decide_case, parse_cases
from gateway.policy.decide import judge
from gateway.policy.faults import Faults
from gateway.policy.model import CHANNELS, OUTCOMES, UNJUDGED, Coverage, Event, Pack, Question
from gateway.policy.parse import parse_rules, shipped

HERE = Path(__file__).parent
PACKS = dict(shipped())
FILES = {file.stem: file for file in sorted((HERE / "cases" / "packs").glob("*.json"))}
CASES = [(name, case) for name, file in FILES.items() for case in parse_cases(file.read_bytes())]
RESULTS = {name: [decide_case(case) for owner, case in CASES if owner == name] for name in FILES}
JUDGING = [rule for pack in PACKS.values() for rule in pack.rules if not isinstance(rule, UNJUDGED)]
SHADOWED = {
    "CA-AB": dict.fromkeys(("AB06", "AB09", "AB10", "AB23"), "CA-AB.SUNDAY"),
    "MX": dict.fromkeys(("MX05", "MX06", "MX07"), "MX.WEEKDAYS"),
    "US.TCPA.VOICE": dict.fromkeys(("TV23", "TV24", "TV29"), "US.TCPA.VOICE.NUMBER60"),
}
"""The cases on which a rule in shadow would object; on the pack's other cases none would."""

PUBLISHED = json.loads((HERE / "published_packs.json").read_text())
"""Packs as the rule language publishes them; where a shipped pack has one's id, it has its rules."""

DESCRIPTIVE = {"pack", "version", "cite", "force", "source", "checked", "note", "unsure", "relaxed_by"} | {
    "since_fact",
    "until_fact",
    "purposes",
    "actors",
    "institutions",
    "products",
    "technologies",
    "adapters",
}
"""What a published rule leaves open: where it comes from, for whom, from when, what consent may do."""


def published(name):
    faults = Faults()
    rules = parse_rules(PUBLISHED[name], f"/{name}", faults, {"id": name})
    assert not faults
    return Pack(id=name, rules=rules)


def objects(result):
    return {*result.rules, *result.shadow}


@pytest.mark.parametrize("name", sorted(PACKS))
def test_every_shipped_pack_has_cases_of_its_own(name):
    assert name in FILES
    assert all(PACKS[name] in case.packs for owner, case in CASES if owner == name)


def test_no_cases_are_left_of_a_pack_that_is_gone():
    assert set(FILES) <= set(PACKS)


@pytest.mark.parametrize(("name", "case"), CASES, ids=[f"{name}-{case.id}" for name, case in CASES])
def test_a_pack_decides_its_worked_case_as_written(name, case):
    result = decide_case(case)

    assert result.ok, (case.title, result.as_json())
    assert case.expected is not None
    own = {rule.id for rule in PACKS[name].rules}
    assert own & set(result.rules) <= set(case.expected.rules), case.title


@pytest.mark.parametrize("name", sorted(FILES))
def test_a_case_has_an_id_and_a_title_that_no_other_has(name):
    cases = [case for owner, case in CASES if owner == name]

    assert len({case.id for case in cases}) == len({case.title for case in cases}) == len(cases)


@pytest.mark.parametrize("rule", JUDGING, ids=lambda rule: rule.id)
def test_every_rule_objects_in_one_case_and_keeps_silent_in_another(rule):
    words = [rule.id in objects(result) for result in RESULTS.get(rule.pack, [])]
    of_tzdata = isinstance(rule, Coverage) and not rule.calendars  # it is as new here as a rule may ask

    assert any(words) or of_tzdata
    assert not all(words)


@pytest.mark.parametrize("name", sorted(SHADOWED))
def test_a_rule_in_shadow_shows_where_it_would_object_and_only_there(name):
    shown = {result.case.id: ", ".join(result.shadow) for result in RESULTS[name] if result.shadow}

    assert shown == SHADOWED[name]


@pytest.mark.parametrize("name", sorted(set(PUBLISHED) & set(PACKS)))
def test_a_shipped_pack_has_the_published_rules_with_their_numbers(name):
    ours = {rule.id: rule for rule in PACKS[name].rules}
    for theirs in published(name).rules:
        mine = ours[theirs.id]

        assert type(mine) is type(theirs)
        for field in fields(theirs):
            dated = field.name in ("since", "until") and getattr(theirs, field.name) is None
            if field.name not in DESCRIPTIVE and not dated:
                assert said(mine, field.name) == said(theirs, field.name), (theirs.id, field.name)


@pytest.mark.parametrize("name", sorted(set(PUBLISHED) & set(PACKS)))
def test_a_shipped_pack_answers_what_the_published_one_answers(name):
    theirs = published(name)
    draw = random.Random(name)
    for _ in range(40):
        question, given = drawn(draw)
        ours = judge([PACKS[name]], question, **given)
        plain = judge([theirs], question, **given)

        assert (ours.action, ours.until) == (plain.action, plain.until), (question, given)
        assert {f.of.id for f in ours.objecting} == {f.of.id for f in plain.objecting}


ZONES = ("America/New_York", "America/Vancouver", "Asia/Shanghai", "Asia/Kolkata", "Asia/Seoul")
ZONES += ("Australia/Sydney", "Europe/Athens", "Europe/Moscow", "America/Santiago", "Asia/Bangkok")
FACTS = {"overdue_since": "2026-09-01", "notice_sent": "2026-09-01"}
LATER = {"cease_written": True, "promise_date": "2026-12-05", "moratorium_last_day": "2026-12-05", "dpd": 16}
FIRST = datetime(2026, 10, 1, tzinfo=UTC)


def said(rule, key):
    """What a rule says; that it counts by actor on top changes nothing where no actor is named."""
    value = getattr(rule, key)
    return tuple(word for word in value if word != "actor") if key == "per" else value


def drawn(draw):
    """A question, and all else that it is judged by, of words that the published rules know."""
    now = FIRST + timedelta(seconds=draw.randrange(70 * 86_400))
    channels, outcomes = sorted(CHANNELS), sorted(OUTCOMES)
    question = Question(
        channel=draw.choice([*channels, "voice", "sms", "email"]),
        borrower="P1",
        debt="D1",
        creditor="K1",
        address="N1",
        purpose=draw.choice([None, "collection", "response_to_inbound", "optout_confirmation"]),
        address_kind=draw.choice([None, "workplace", "personal"]),
        recipient_role=draw.choice(["debtor", "debtor", "emergency_contact"]),
        flags=frozenset(draw.sample(["requested_callback", "prior_consent_7d"], draw.choice([0, 0, 1]))),
    )
    history = [
        Event(
            at=now - timedelta(hours=draw.randrange(240)),
            channel=draw.choice([*channels, "voice", "sms", "email"]),
            outcome=draw.choice([*outcomes, "conversation", "delivered"]),
            borrower="P1",
            debt=draw.choice(["D1", "D1", "D2"]),
            creditor=draw.choice(["K1", "K1", None]),
            address=draw.choice(["N1", None]),
            flags=frozenset(draw.sample(["inbound", "response"], draw.choice([0, 0, 1]))),
        )
        for _ in range(draw.randrange(12))
    ]
    facts = {k: v for k, v in FACTS.items() if draw.random() < 0.8} | {
        k: v for k, v in LATER.items() if draw.random() < 0.15
    }
    zones = draw.sample(ZONES, draw.choice([1, 1, 2]))
    return question, {"zones": zones, "history": history, "facts": facts, "now": now}
