"""Which packs apply to one borrower and debt, and what a tenant may change in them as data.

The packs that ship with the gateway lie beside this file, one TOML each, named by its id.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

from gateway.errors import Fault, PolicyError
from gateway.policy.calendars import is_calendar
from gateway.policy.model import AnyRule, Cap, ChannelLock, Cooldown, Pack, Window
from gateway.policy.parse import parse_pack, shipped
from gateway.policy.zones import is_place, same_place

Packs = tuple[Pack, ...] | PolicyError
"""The packs in use, or why they cannot be loaded."""

EVERYONE, ELSEWHERE, ASSIGNED = "everyone", "elsewhere", "assigned"
_CACHED = 4096


class Applied(NamedTuple):
    """The packs for one person and debt, by why they apply.

    `home`: of the person's own place; `elsewhere`: for a channel on which those give no hours.
    """

    home: tuple[Pack, ...]
    law: tuple[Pack, ...]
    elsewhere: tuple[Pack, ...]
    everyone: tuple[Pack, ...]

    def packs(self, *, hours_at_home: bool) -> tuple[Pack, ...]:
        """Those that are asked, the law's first; `hours_at_home`: the law of the place gives hours."""
        return (*self.home, *self.law, *(() if hours_at_home else self.elsewhere), *self.everyone)


def load(own: Iterable[tuple[str, str]] = ()) -> tuple[Pack, ...]:
    """The shipped packs and a deployment's own, from (file name, TOML text).

    An own pack that cannot be read stands for whom its header says that it applies, else for everyone: nothing is
    sent to them. So does one that has the id of another pack and shares a date with it.
    """
    packs = list(shipped().values())
    for name, text in own:
        try:
            pack = parse_pack(text, name)
        except PolicyError as wrong:
            packs.append(_broken(text, name, wrong.faults))
            continue
        if any(overlap(pack, other) for other in packs):
            said = f"{name}: another pack {pack.id} is in force on some of its dates; give since and until"
            pack = replace(pack, rules=(), broken=said)
        packs.append(pack)
    return tuple(packs)


def _broken(text: str, name: str, faults: Sequence[Fault]) -> Pack:
    """What stands for a pack that cannot be read."""
    try:
        header = tomllib.loads(text).get("pack", {})
    except tomllib.TOMLDecodeError:
        header = {}
    places = header.get("applies") if isinstance(header, dict) else None
    known = isinstance(places, list) and all(isinstance(p, str) and is_place(p) for p in places)
    said = "; ".join(f"{fault.at}: {fault.message}" for fault in faults[:3])
    return Pack(
        id=name,
        rules=(),
        applies=tuple(same_place(place) for place in places) if known and places else (EVERYONE,),
        broken=said if len(faults) <= 3 else f"{said}; and {len(faults) - 3} more",  # noqa: PLR2004
    )


def overlap(one: Pack, other: Pack) -> bool:
    """Whether two packs of one id are in force on a common date."""
    return (
        one.id == other.id
        and (one.until is None or other.since is None or other.since < one.until)
        and (other.until is None or one.since is None or one.since < other.until)
    )


@lru_cache(maxsize=_CACHED)
def applying(
    packs: tuple[Pack, ...],
    *,
    residence: str | None,
    governing_law: str | None,
    licences: tuple[str, ...] = (),
    assigned: tuple[str, ...] = (),
) -> Applied:
    """The packs for a person of that residence, a debt under that law, an actor licensed there (ISO 3166).

    `assigned` are ids of packs that apply besides. An unknown residence is taken to be where the law is.
    PolicyError when no pack is for everyone or for elsewhere, when an assigned one is missing, and when one that
    applies cannot be read.
    """
    home = residence or governing_law
    places = [same_place(place) for place in (governing_law, *licences) if place is not None]
    of_home = [pack for pack in packs if home is not None and _covers(pack, same_place(home))]
    by_law = [
        pack
        for pack in packs
        if pack not in of_home and (pack.id in assigned or any(_covers(pack, place) for place in places))
    ]
    everyone = [pack for pack in packs if EVERYONE in pack.applies]
    elsewhere = [pack for pack in packs if ELSEWHERE in pack.applies]
    _must_be(everyone, EVERYONE)
    _must_be(elsewhere, ELSEWHERE)
    _none_missing(assigned, packs)
    _none_broken((*of_home, *by_law, *elsewhere, *everyone))
    calendar = _calendar(home)
    return Applied(
        home=_ready(of_home, calendar),
        law=_ready(by_law, calendar),
        elsewhere=_ready(elsewhere, calendar),
        everyone=_ready(everyone, calendar),
    )


def through(adapter: str | None, packs: tuple[Pack, ...]) -> tuple[Pack, ...]:
    """These packs without those that speak of other adapters alone; all of them where none is said."""
    return packs if adapter is None else tuple(pack for pack in packs if _speaks_of(adapter, pack))


def _speaks_of(adapter: str, pack: Pack) -> bool:
    return not pack.rules or any(rule.adapters is None or adapter in rule.adapters for rule in pack.rules)


def _ready(packs: Iterable[Pack], calendar: str | None) -> tuple[Pack, ...]:
    general_first = sorted(packs, key=_narrow)
    return tuple(_with_answered(_closed_on(pack, calendar)) for pack in general_first)


def _narrow(pack: Pack) -> bool:
    """Whether some of its rules are for some lenders or loans only; the law for all is named before it."""
    return any(rule.institutions or rule.products or rule.actors for rule in pack.rules)


def _none_missing(assigned: tuple[str, ...], packs: tuple[Pack, ...]) -> None:
    known = {pack.id for pack in packs}
    faults = [
        Fault(at=f"/packs/{name}", code="pack_missing", message=f"the assigned pack {name} is not loaded")
        for name in assigned
        if name not in known
    ]
    if faults:
        raise PolicyError(faults, faults[0].message)


def _none_broken(packs: Iterable[Pack]) -> None:
    faults = [
        Fault(at=f"/packs/{pack.id}", code="pack_broken", message=pack.broken)
        for pack in packs
        if pack.broken
    ]
    if faults:
        raise PolicyError(faults, f"the pack {faults[0].at.removeprefix('/packs/')} cannot be used")


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
