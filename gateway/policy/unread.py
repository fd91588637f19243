"""Facts that proposed rules read and that nobody was asked for: what may follow, at the best and at the worst.

A fact that no rule read then, and that is not among what a decision read, may have been true all the same.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import fields, replace
from functools import lru_cache
from typing import Any

from gateway.policy.gate import Snapshot
from gateway.policy.model import (
    AnyRule,
    ConsentRequired,
    Hold,
    HoldUntil,
    Pack,
    Prerequisite,
    Refusal,
    Review,
    Rule,
    Window,
)

CONSENTS = "/consents"
"""Stands for consents to be contacted among the names of facts."""
REFUSED = "contact_refused"

_KEPT = 128

_COMMON = tuple(field.name for field in fields(Rule))
_NO_HOURS = ((),) * 7


def unread(
    after: Iterable[Pack], before: Iterable[Pack], asked: Snapshot, proposed: frozenset[str]
) -> frozenset[str]:
    """The facts that those `proposed` (ids) of the packs `after` read, and neither `asked` holds nor `before` read."""
    wanted = _of_packs(pack for pack in after if pack.id in proposed)
    return wanted - _of_packs(before) - _told(asked) if wanted else wanted


@lru_cache(maxsize=_KEPT)
def spared(packs: tuple[Pack, ...], missing: frozenset[str], proposed: frozenset[str]) -> tuple[Pack, ...]:
    """The packs as if no proposed rule that reads a missing fact objected."""
    return tuple(_with(pack, _without(pack, missing)) if pack.id in proposed else pack for pack in packs)


@lru_cache(maxsize=_KEPT)
def barred(
    packs: tuple[Pack, ...],
    missing: frozenset[str],
    proposed: frozenset[str],
    *,
    role: str,
    standing: frozenset[str],
) -> tuple[Pack, ...]:
    """The packs as if every proposed rule that reads a missing fact objected, as far as it depends on the fact.

    `role` is the recipient's, `standing` are the names of the facts that are set.
    """

    def worst(pack: Pack) -> Pack:
        return _with(pack, (_worst(rule, missing, role, standing) for rule in pack.rules))

    return tuple(worst(pack) if pack.id in proposed else pack for pack in packs)


def standing(asked: Snapshot) -> frozenset[str]:
    """The names of the facts that are set."""
    facts = (asked.facts or {}).items()
    return frozenset(name for name, value in facts if value is not None and value is not False)


def reads(rule: AnyRule) -> frozenset[str]:
    """The names of the facts that a rule reads."""
    dates = [of.fact for of in (rule.since_fact, rule.until_fact) if of is not None]
    return frozenset((*dates, *_own(rule)))


def _own(rule: AnyRule) -> Iterator[str]:
    """Those of its kind."""
    match rule:
        case Window() if rule.not_if is not None:
            yield rule.not_if.fact
        case Prerequisite() | Hold() | Review():
            yield rule.fact
        case HoldUntil():
            yield from (name for name in (rule.fact, rule.unless) if name is not None)
        case ConsentRequired():
            yield from (name for name in (CONSENTS, rule.unless) if name is not None)
        case Refusal():
            yield REFUSED
        case _:
            pass


def _of_packs(packs: Iterable[Pack]) -> frozenset[str]:
    return frozenset(
        name for pack in packs for rule in pack.rules if not rule.in_shadow for name in reads(rule)
    )


def _told(asked: Snapshot) -> frozenset[str]:
    """The facts that a decision had, and those that follow from what it had."""
    derived = () if asked.debt.due_date is None else ("due_date", "dpd", "overdue_since")
    consents = (CONSENTS,) if any(c.kind == "contact" for c in asked.told.consents) else ()
    return frozenset((*(asked.facts or {}), "optout_at", *derived, *consents))


def _with(pack: Pack, rules: Iterable[AnyRule]) -> Pack:
    return replace(pack, rules=tuple(rules))


def _without(pack: Pack, missing: Collection[str]) -> Iterator[AnyRule]:
    return (rule for rule in pack.rules if reads(rule).isdisjoint(missing))


def _worst(rule: AnyRule, missing: Collection[str], role: str, standing: Collection[str]) -> AnyRule:
    """A rule that holds whatever a missing fact is."""
    if reads(rule).isdisjoint(missing):
        return rule
    kept: dict[str, Any] = {
        name: None
        for name in ("since_fact", "until_fact", "not_if", "unless")
        if (of := getattr(rule, name, None)) is not None and getattr(of, "fact", of) in missing
    }
    match rule:
        case Prerequisite() | Hold() | HoldUntil() | Review() if rule.fact in missing:
            return _never_open(rule, kept)
        case ConsentRequired() if CONSENTS in missing and rule.unless not in standing:
            return _never_open(rule, kept)
        case Refusal() if REFUSED in missing and role in rule.roles:
            return _never_open(rule, kept)
        case _:
            return replace(rule, **kept)


def _never_open(rule: AnyRule, kept: Mapping[str, Any]) -> AnyRule:
    """A rule of the same scope that always objects."""
    common: dict[str, Any] = {name: getattr(rule, name) for name in _COMMON}
    common |= {name: kept[name] for name in kept if name in common}
    common["exempt_purposes"] |= getattr(rule, "allow_purposes", frozenset())
    return Window(week=_NO_HOURS, **common)
