"""May this reminder go out now, and if not, when? The answer of docs/language.md, exact to the second."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from gateway.domain import Action
from gateway.policy.ask import Ask
from gateway.policy.calendars import SHIPPED, Calendars
from gateway.policy.localtime import NEVER, Here, Zone, instant, seconds, zone
from gateway.policy.model import (
    FINAL,
    NOTHING_TOLD,
    AnyRule,
    Event,
    Fact,
    Finding,
    Pack,
    Question,
    Told,
    Verdict,
)
from gateway.policy.rules import Answer, answer, concerns, in_force, is_relaxed

HORIZON_DAYS = 75
"""How far ahead an opening is looked for, in multiples of 24 hours."""


class Place(NamedTuple):
    """One rule in one zone where it must hold."""

    rule: AnyRule
    zone: Zone


def judge(
    packs: Sequence[Pack],
    question: Question,
    *,
    zones: Sequence[str],
    history: Sequence[Event],
    facts: Mapping[str, Fact],
    now: datetime,
    told: Told = NOTHING_TOLD,
    calendars: Calendars = SHIPPED,
    horizon_days: int = HORIZON_DAYS,
) -> Verdict:
    """All rules of these packs on one question, with the first opening when they object.

    PolicyError when a fact is not of the type that a rule needs, or a zone does not exist.
    """
    ask = Ask(question, history, facts, told, calendars)
    places = _places(packs, ask, zones)
    at, horizon = seconds(now), seconds(now + timedelta(days=horizon_days))
    answers = _answers(places, ask, at)
    findings = tuple([_finding(place, word, ask, horizon) for place, word in answers if word.in_force])
    barring = [(place.rule, word) for place, word in answers if word.objects and not place.rule.in_shadow]
    if not barring:
        return Verdict(action=Action.SEND, until=None, findings=findings)
    return _closed(barring, places, ask, findings, at, horizon)


def open_until(
    packs: Sequence[Pack],
    question: Question,
    *,
    zones: Sequence[str],
    history: Sequence[Event],
    facts: Mapping[str, Fact],
    now: datetime,
    limit: datetime,
    told: Told = NOTHING_TOLD,
    calendars: Calendars = SHIPPED,
) -> datetime:
    """The first instant up to `limit` at which a rule objects if nothing else happens, else `limit`.

    That is `now` itself when a rule objects already.
    """
    ask = Ask(question, history, facts, told, calendars)
    places = [place for place in _places(packs, ask, zones) if not place.rule.in_shadow]
    at, last = seconds(now), seconds(limit)
    holds = [at] * len(places)
    while at <= last:
        for turn, place in enumerate(places):
            if holds[turn] <= at:
                word = answer(place.rule, ask, Here(place.zone, at))
                if word.objects:
                    return instant(at)
                holds[turn] = word.holds_until
        at = min(holds, default=NEVER)
    return limit


def holding(
    packs: Sequence[Pack],
    question: Question,
    *,
    zones: Sequence[str],
    facts: Mapping[str, Fact],
    now: datetime,
) -> Iterator[AnyRule]:
    """The enforced rules that have a word on such a reminder and are in force wherever they must hold."""
    ask = Ask(question, (), facts)
    at, possible = seconds(now), _zones(zones)
    for pack in packs:
        for rule in pack.rules:
            if (
                not rule.in_shadow
                and concerns(rule, ask)
                and all(in_force(rule, ask, Here(where, at)) for where in _where(rule, possible))
            ):
                yield rule


def relaxed_flags(
    packs: Sequence[Pack],
    question: Question,
    *,
    zones: Sequence[str],
    facts: Mapping[str, Fact],
    now: datetime,
    told: Told,
) -> frozenset[str]:
    """The flags of an attempt made now while a consent makes rules give way."""
    if not told.consents:
        return frozenset()
    ask = Ask(question, (), facts, told)
    at = seconds(now)
    return frozenset(
        place.rule.relaxed_by.flag
        for place in _places(packs, ask, zones)
        if place.rule.relaxed_by is not None
        and place.rule.relaxed_by.flag is not None
        and is_relaxed(place.rule, ask, Here(place.zone, at))
    )


def _places(packs: Sequence[Pack], ask: Ask, zones: Sequence[str]) -> list[Place]:
    """Every rule that has a word on the question, in each zone where it must hold."""
    possible = _zones(zones)
    return [
        Place(rule, where)
        for pack in packs
        for rule in pack.rules
        if concerns(rule, ask)
        for where in _where(rule, possible)
    ]


def _zones(names: Sequence[str]) -> tuple[Zone, ...]:
    return tuple(zone(name) for name in dict.fromkeys(names))


def _where(rule: AnyRule, possible: tuple[Zone, ...]) -> tuple[Zone, ...]:
    """Where a rule must hold."""
    return possible if rule.zone is None else (zone(rule.zone),)


def _answers(places: Iterable[Place], ask: Ask, at: int) -> list[tuple[Place, Answer]]:
    """What each rule says at one instant."""
    heres: dict[str, Here] = {}
    answers = []
    for place in places:
        here = heres.get(place.zone.name)
        if here is None:
            here = heres[place.zone.name] = Here(place.zone, at)
        answers.append((place, answer(place.rule, ask, here)))
    return answers


def _closed(
    barring: list[tuple[AnyRule, Answer]],
    places: list[Place],
    ask: Ask,
    findings: tuple[Finding, ...],
    at: int,
    horizon: int,
) -> Verdict:
    """The verdict when something objects: the next opening, or none."""
    ends: str | None = None
    opening = None
    if not any(isinstance(rule, FINAL) for rule, _ in barring):
        enforced = [place for place in places if not place.rule.in_shadow]
        opening, ends = _opening(enforced, ask, at, horizon)
    return Verdict(
        action=Action.SUPPRESS if opening is None else Action.DEFER,
        until=None if opening is None else instant(opening),
        findings=findings,
        calendar_ends=ends,
    )


def _opening(places: list[Place], ask: Ask, at: int, horizon: int) -> tuple[int | None, str | None]:
    """The first instant before the horizon at which nothing objects; and a calendar's end met on the way.

    Places are asked in turn. One that objects says how long it will, and the search goes on from there;
    one that does not is not asked again while that holds. All of them in a row: that is the opening.
    """
    clear_until = [at] * len(places)
    ends: str | None = None
    turn = agreed = 0
    while agreed < len(places) and at < horizon:
        if clear_until[turn] <= at:
            place = places[turn]
            word = answer(place.rule, ask, Here(place.zone, at))
            if word.objects:
                at, agreed, ends = word.holds_until, 0, ends or word.note
                continue
            clear_until[turn] = word.holds_until
        agreed += 1
        turn = (turn + 1) % len(places)
    return (None, ends) if at >= horizon else (at, None)


def _finding(place: Place, word: Answer, ask: Ask, horizon: int) -> Finding:
    """One rule's word in one zone, as it is kept with the decision."""
    rule, where = place
    opens = None
    if word.objects and word.holds_until < horizon:
        alone, _ = _opening([place], ask, word.holds_until, horizon)
        opens = None if alone is None else instant(alone)
    return Finding(rule, ask.question.channel, where.name, word.objects, word.counted, opens, word.note)
