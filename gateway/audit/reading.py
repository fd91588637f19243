"""The rule language a second time, plain and slow: which rules object at one instant.

This is the witness for what `gateway.policy` decides, and shares nothing with it but the reading of packs.
Each answer is worked out anew from the question, for that instant alone: no edge is computed, nothing searched.
"""

from __future__ import annotations

import zoneinfo
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from gateway.audit.days import Days, Stated
from gateway.audit.here import FORMS, Here, whole
from gateway.audit.kinds import count, objects
from gateway.policy.model import NOTHING_TOLD, AnyRule, Cap, Event, Fact, Pack, Question, Told

zoneinfo.reset_tzpath(to=[])  # the system's data is stale on real machines: use the tzdata package alone
zoneinfo.ZoneInfo.clear_cache()


class Word(NamedTuple):
    """One rule that objects in one zone. One in the shadow is only noted. `counted`: what a cap has counted."""

    pack: str
    version: str
    rule: str
    zone: str
    shadow: bool
    counted: int | None


def objecting(
    packs: Sequence[Pack],
    question: Question,
    *,
    zones: Sequence[str],
    history: Sequence[Event],
    facts: Mapping[str, Fact],
    at: datetime,
    told: Told = NOTHING_TOLD,
    overrides: Sequence[Stated] = (),
) -> list[Word]:
    """Every rule that objects to the reminder at that instant, in each zone where it does.

    ValueError when a fact is not of the type that a rule needs.
    """
    days = Days(overrides)
    words = []
    for pack in packs:
        for rule in pack.rules:
            for zone in dict.fromkeys(zones) if rule.zone is None else [rule.zone]:
                here = Here(question, history, facts, told, whole(at), zoneinfo.ZoneInfo(zone), days)
                if _objects(rule, here):
                    words.append(_word(pack, rule, zone, here))
    return words


def allowed(
    packs: Sequence[Pack],
    question: Question,
    *,
    zones: Sequence[str],
    history: Sequence[Event],
    facts: Mapping[str, Fact],
    at: datetime,
    told: Told = NOTHING_TOLD,
    overrides: Sequence[Stated] = (),
) -> bool:
    """Whether the reminder may go at that instant: no rule objects but in the shadow."""
    words = objecting(
        packs, question, zones=zones, history=history, facts=facts, at=at, told=told, overrides=overrides
    )
    return all(word.shadow for word in words)


def standing(
    packs: Sequence[Pack],
    question: Question,
    *,
    zones: Sequence[str],
    facts: Mapping[str, Fact],
    at: datetime,
) -> list[AnyRule]:
    """The rules not in the shadow that speak of such a reminder and are in force in each zone where they must hold."""
    days = Days()
    found = []
    for rule in (rule for pack in packs for rule in pack.rules):
        names = zones if rule.zone is None else [rule.zone]
        heres = [
            Here(question, (), facts, NOTHING_TOLD, whole(at), zoneinfo.ZoneInfo(n), days) for n in names
        ]
        shadow = rule.force == "draft" or rule.unsure != ""
        if not shadow and _concerned(rule, question) and all(_in_force(rule, here) for here in heres):
            found.append(rule)
    return found


def _word(pack: Pack, rule: AnyRule, zone: str, here: Here) -> Word:
    return Word(
        pack=pack.id,
        version=pack.version,
        rule=rule.id,
        zone=zone,
        shadow=rule.force == "draft" or rule.unsure != "",
        counted=count(rule, here) if isinstance(rule, Cap) else None,
    )


def _objects(rule: AnyRule, here: Here) -> bool:
    return (
        _concerned(rule, here.question)
        and _in_force(rule, here)
        and not _relaxed(rule, here)
        and objects(rule, here)
    )


def _concerned(rule: AnyRule, question: Question) -> bool:
    """Whether the rule speaks of such a reminder: what is not known of it counts as what the rule names."""
    named = [
        (rule.purposes, question.purpose),
        (rule.actors, question.actor_role),
        (rule.institutions, question.institution),
        (rule.products, question.product),
        (rule.technologies, question.technology),
        (rule.adapters, question.adapter),
    ]
    if any(words is not None and mine is not None and mine not in words for words, mine in named):
        return False
    if rule.channels is not None and question.channel not in rule.channels:
        return False
    return question.purpose not in rule.exempt_purposes and not rule.exempt_flags & question.flags


def _in_force(rule: AnyRule, here: Here) -> bool:
    """Whether the local date is in [since, until), and in that of the facts, as far as they are set."""
    if rule.since is not None and here.today < rule.since:
        return False
    if rule.until is not None and here.today >= rule.until:
        return False
    begins, ends = rule.since_fact, rule.until_fact
    if begins is not None and here.is_set(begins.fact) and here.fact_age(begins.fact) < begins.plus_dates:
        return False
    return ends is None or not here.is_set(ends.fact) or here.fact_age(ends.fact) < ends.plus_dates


def _relaxed(rule: AnyRule, here: Here) -> bool:
    """Whether the borrower has agreed that this rule need not hold, in the form and time that it asks for."""
    wanted = rule.relaxed_by
    if wanted is None:
        return False
    return any(
        rule.id in consent.rules
        and FORMS.index(consent.form) >= FORMS.index(wanted.form)
        and (wanted.dates is None or here.dates_since(consent.given_at) < wanted.dates)
        for consent in here.consents("relax")
    )
