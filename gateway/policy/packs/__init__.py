"""Which packs apply to one borrower and debt, and what a tenant may change in them as data.

The packs that ship with the gateway lie beside this file, one TOML each, named by its id.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache

from gateway.errors import Fault, PolicyError
from gateway.policy.calendars import is_calendar
from gateway.policy.model import AnyRule, Cap, ChannelLock, Cooldown, Pack, Window
from gateway.policy.zones import same_place

Packs = tuple[Pack, ...] | PolicyError
"""The packs in use, or why they cannot be loaded."""

EVERYONE, ELSEWHERE = "everyone", "elsewhere"
_CACHED = 4096


@lru_cache(maxsize=_CACHED)
def applying(
    packs: tuple[Pack, ...], *, residence: str | None, governing_law: str | None
) -> tuple[Pack, ...]:
    """The packs for a person of that residence and a debt under that law (ISO 3166), strictest of all.

    Those of the residence, those of the law, and those for everyone; where none covers the residence,
    those for elsewhere, closed on its holidays. An unknown residence is taken to be where the law is.
    PolicyError when no pack is for everyone, or one for elsewhere is needed and missing.
    """
    home = residence or governing_law
    places = [same_place(place) for place in (home, governing_law) if place is not None]
    chosen = [pack for pack in packs if any(_covers(pack, place) for place in places)]
    everyone = [pack for pack in packs if EVERYONE in pack.applies]
    elsewhere = [pack for pack in packs if ELSEWHERE in pack.applies]
    if home is None or not any(_covers(pack, same_place(home)) for pack in chosen):
        _must_be(elsewhere, ELSEWHERE)
        chosen += [_closed_on(pack, _calendar(home)) for pack in elsewhere]
    _must_be(everyone, EVERYONE)
    return tuple(_with_answered(pack) for pack in (*chosen, *everyone))


def with_overrides(packs: tuple[Pack, ...], caps: Mapping[str, int]) -> tuple[Pack, ...]:
    """These packs with another `max` in the caps of these rule ids; PolicyError for any other id."""
    known = {rule.id for pack in packs for rule in pack.rules if isinstance(rule, Cap)}
    faults = [
        Fault(at=f"/{name}", code="rule_unknown", message="no cap of this id; name a rule of kind cap")
        for name in caps
        if name not in known
    ]
    if faults:
        raise PolicyError(faults)
    return tuple(_overridden(pack, caps) for pack in packs)


def _covers(pack: Pack, place: str) -> bool:
    """Whether the pack is for that place: `CN` covers `CN-GD`."""
    return any(place == code or place.startswith(f"{code}-") for code in pack.applies)


def _must_be(packs: list[Pack], word: str) -> None:
    if not packs:
        fault = Fault(at="/packs", code="pack_missing", message=f"no pack that applies {word} is loaded")
        raise PolicyError([fault], fault.message)


def _calendar(place: str | None) -> str | None:
    """The calendar of public holidays of a place, else of its country, None where there is none."""
    if place is None:
        return None
    place = same_place(place)
    return next((name for name in (place, place.partition("-")[0]) if is_calendar(name)), None)


@lru_cache(maxsize=_CACHED)
def _closed_on(pack: Pack, calendar: str | None) -> Pack:
    """A pack whose hours close on the holidays of that calendar, if it asks for those of the residence."""
    if pack.holidays is None or calendar is None:
        return pack
    rules = (
        replace(rule, closed_on_holidays=calendar) if isinstance(rule, Window) else rule
        for rule in pack.rules
    )
    return replace(pack, rules=tuple(rules))


@lru_cache(maxsize=_CACHED)
def _with_answered(pack: Pack) -> Pack:
    """A pack in whose rules an answered call counts as the outcome that its header says."""
    if pack.answered_as is None:
        return pack
    return replace(pack, rules=tuple(_answered(rule, pack.answered_as) for rule in pack.rules))


def _answered(rule: AnyRule, outcome: str) -> AnyRule:
    match rule:
        case Cap():
            return replace(
                rule,
                count_outcomes=rule.count_outcomes and _also(rule.count_outcomes, outcome),
                exclude_outcomes=_also(rule.exclude_outcomes, outcome),
                only_after=rule.only_after and _also(rule.only_after, outcome),
            )
        case Cooldown() | ChannelLock():
            return replace(rule, after=_also(rule.after, outcome))
        case _:
            return rule


def _also(outcomes: frozenset[str], outcome: str) -> frozenset[str]:
    return outcomes | {"answered"} if outcome in outcomes else outcomes


def _overridden(pack: Pack, caps: Mapping[str, int]) -> Pack:
    if not any(rule.id in caps for rule in pack.rules):
        return pack
    rules = (
        replace(rule, max=caps[rule.id]) if isinstance(rule, Cap) and rule.id in caps else rule
        for rule in pack.rules
    )
    return replace(pack, rules=tuple(rules))
