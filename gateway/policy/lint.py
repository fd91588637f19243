"""What is wrong in a pack's file, and what is odd in it: each with its line and what to do."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from typing import Any, NamedTuple

from gateway.domain import AddressKind, Purpose
from gateway.errors import PolicyError
from gateway.policy.calendars import SHIPPED
from gateway.policy.faults import below, one_of
from gateway.policy.model import (
    CHANNELS,
    OUTCOMES,
    UNKNOWN,
    AnyRule,
    Cap,
    Cooldown,
    Kept,
    Pack,
    Retention,
    Window,
)
from gateway.policy.toml_lines import Place, Places
from gateway.policy.week import common, ordinary
from gateway.policy.written import Written, read_written
from gateway.policy.zones import zones_of_place

SOON = timedelta(days=45)
"""How long ahead an end is told."""

_SPOKEN = frozenset({"answered", "voicemail", "no_answer", "busy"})
_READ = frozenset({"delivered", "read", "undelivered"})
_NEVER = {**dict.fromkeys(("sms", "email", "letter"), _SPOKEN), **dict.fromkeys(("voice", "visit"), _READ)}
"""Channel → the outcomes that it never has."""
_PURPOSES = frozenset(Purpose)
_KNOWN = {
    **dict.fromkeys(("purposes", "exempt_purposes", "allow_purposes", "only_purposes"), _PURPOSES),
    "address_kinds": frozenset(AddressKind),
}
"""Key → the words that a reminder may have there."""
_YEAR_DAYS = 365.2425

_SYNTAX = re.compile(r"(.*) \(at (?:line (\d+), column (\d+)|end of document)\)", re.DOTALL)


class Level(StrEnum):
    """An error: the pack is refused. A warning: it loads, and somebody should look."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Remark:
    """One thing to look at: its line and column from 1, its JSON pointer, a code and what to do."""

    line: int
    column: int
    at: str
    level: Level
    code: str
    message: str


class _Odd(NamedTuple):
    at: str
    code: str
    message: str


def lint(
    source: str, *, today: date, shipped: Collection[Written], adapters: Collection[str]
) -> list[Remark]:
    """Every mistake of a pack's text, in the order of its lines; without any, what is odd in it.

    `adapters` are the names of all that there are.
    """
    try:
        written = read_written(source, "")
    except PolicyError as wrong:
        if wrong.faults[0].code == "malformed_toml":
            return [_syntax(source, wrong.faults[0].message)]
        level, found = Level.ERROR, [_Odd(f.at.removeprefix(":"), f.code, f.message) for f in wrong.faults]
    else:
        level, found = Level.WARNING, list(_odd(written, today, shipped, adapters))
    places = Places(source)
    return sorted(_remark(places[odd.at], odd, level) for odd in found)


def _remark(place: Place, odd: _Odd, level: Level) -> Remark:
    return Remark(
        line=place.line,
        column=place.column,
        at=odd.at or "/",
        level=level,
        code=odd.code,
        message=odd.message,
    )


def _syntax(source: str, message: str) -> Remark:
    """A mistake of TOML's own, where tomllib stopped."""
    found = _SYNTAX.fullmatch(message)
    what, line, column = found.groups() if found else (message, 1, 1)
    lines = source.split("\n")
    place = Place(int(line), int(column)) if line else Place(len(lines), len(lines[-1]) + 1)
    return _remark(place, _Odd("", "malformed_toml", f"this is not TOML: {what}"), Level.ERROR)


def _odd(
    written: Written, today: date, shipped: Collection[Written], adapters: Collection[str]
) -> Iterator[_Odd]:
    pack, known = written.pack, {**_KNOWN, "adapters": adapters}
    yield from _header(pack, today)
    yield from _taken(written, shipped)
    yield from _strange_words(written.header, known, "/pack")
    for place, (keys, rule) in enumerate(written.pairs):
        at = below("/rule", place)
        yield from _strange_words(keys, known, at)
        yield from _sources(rule, at, today)
        yield from _shadow(rule, at)
        yield from _dates(rule, pack, at)
        yield from _outcomes(rule, at)
        yield from _calendars(rule, at, today)
        if isinstance(rule, Retention):
            yield from _lengths(rule, at)
        if isinstance(rule, Window):
            yield from _hours(rule, pack, at, today)


def _header(pack: Pack, today: date) -> Iterator[_Odd]:
    if pack.review_by is None:
        yield _Odd("/pack", "review_by_missing", "give review_by, the date by which somebody looks again")
    elif pack.review_by <= today:
        message = f"the review was due on {pack.review_by}: look, then set the next"
        yield _Odd("/pack/review_by", "review_past", message)
    elif pack.review_by - today <= SOON:
        yield _Odd("/pack/review_by", "review_soon", f"the review is due on {pack.review_by}")


def _taken(written: Written, shipped: Collection[Written]) -> Iterator[_Odd]:
    """Another pack of the same id that ships, on the same dates."""
    pack = written.pack
    for other in shipped:
        same = (other.header, other.rules) == (written.header, written.rules)
        if other.pack.id == pack.id and not same and _meet(pack, other.pack):
            message = (
                f"{pack.id} {other.pack.version} ships with the gateway and is in force on the same dates: take"
                " another id, or let the one end (until) where the other begins (since)"
            )
            yield _Odd("/pack/id", "id_taken", message)


def _strange_words(keys: Mapping[str, Any], known: Mapping[str, Collection[str]], at: str) -> Iterator[_Odd]:
    """Words that no reminder of the gateway's own has; a host may have asked for them all the same."""
    for key, words in known.items():
        for place, given in enumerate(keys.get(key, ())):
            if given not in words:
                message = f"the gateway has no such word: {one_of(given, words)}"
                yield _Odd(below(below(at, key), place), "word_unknown", message)


def _sources(rule: AnyRule, at: str, today: date) -> Iterator[_Odd]:
    lacking = [key for key in ("cite", "source", "checked") if not getattr(rule, key)]
    if lacking:
        message = f"give {', '.join(lacking)}: what to look up, where it was read, on which date"
        yield _Odd(at, "source_missing", message)
    if rule.checked is not None and rule.checked > today:
        message = "this date is still to come: give the date on which the source was read"
        yield _Odd(below(at, "checked"), "checked_in_future", message)


def _shadow(rule: AnyRule, at: str) -> Iterator[_Odd]:
    if rule.in_shadow:
        yield _Odd(at, "shadow", "this rule is a draft or unsure: evaluated and recorded, it never objects")


def _dates(rule: AnyRule, pack: Pack, at: str) -> Iterator[_Odd]:
    """Dates on which the rule can never be in force."""
    if not _meet(rule, rule):
        yield _Odd(at, "never_in_force", "since is not before until: this rule is in force on no date")
    elif not _meet(rule, pack):
        message = "this rule's dates lie outside its pack's: it is in force on no date"
        yield _Odd(at, "never_in_force", message)


def _meet(one: AnyRule | Pack, other: AnyRule | Pack) -> bool:
    """Whether there is a date within [since, until) of both."""
    begins = max(one.since or date.min, other.since or date.min)
    return begins < min(one.until or date.max, other.until or date.max)


def _outcomes(rule: AnyRule, at: str) -> Iterator[_Odd]:
    """Outcomes to count or to start from that the rule's channels never have."""
    match rule:
        case Cap(count_outcomes=named) if named is not None:
            yield from _forgets(rule, named, at)
            key, wanted = "count_outcomes", named - rule.exclude_outcomes - {UNKNOWN}
        case Cooldown(after=wanted):
            key = "after"
        case _:
            return
    if rule.channels and wanted and not wanted & _possible(rule.channels):
        channels = ", ".join(sorted(rule.channels))
        message = f"{channels} never ends so: the rule sees nothing but unknown outcomes"
        yield _Odd(below(at, key), "outcome_impossible", message)


def _forgets(rule: Cap, named: Collection[str], at: str) -> Iterator[_Odd]:
    """A message that arrived and was then read has the outcome `read` alone."""
    if "delivered" in named and "read" not in named and "read" in _possible(rule.channels or CHANNELS):
        message = "delivered without read: a message is no longer counted once it is read; name read, too"
        yield _Odd(below(at, "count_outcomes"), "read_not_counted", message)


def _lengths(rule: Retention, at: str) -> Iterator[_Odd]:
    """A longest time that ends before the shortest, both from the same event."""
    least, most = rule.min, rule.max
    if least and most and least.start == most.start and _days(most) < _days(least):
        message = "max is shorter than min: no record can be kept so; say which of them holds"
        yield _Odd(below(at, "max"), "max_below_min", message)


def _days(kept: Kept) -> float:
    return kept.days or (kept.years or 0) * _YEAR_DAYS


def _possible(channels: Collection[str]) -> frozenset[str]:
    return frozenset().union(*(OUTCOMES - _NEVER.get(channel, frozenset()) for channel in channels))


def _calendars(rule: AnyRule, at: str, today: date) -> Iterator[_Odd]:
    for name in dict.fromkeys(getattr(rule, "calendars", ())):
        ends = SHIPPED.coverage(name).ends
        if ends < today:
            message = f"calendar {name} ended on {ends}: this rule holds every reminder"
            yield _Odd(at, "calendar_ended", message)
        elif ends - today <= SOON:
            message = f"calendar {name} ends on {ends}: then this rule holds every reminder"
            yield _Odd(at, "calendar_ends", message)


def _hours(rule: Window, pack: Pack, at: str, today: date) -> Iterator[_Odd]:
    """No open hour at all, or none that all zones of a place of the pack share."""
    minutes = ordinary(rule)
    if not minutes and rule.address_kinds is None and rule.channels is None and rule.until is None:
        yield _Odd(below(at, "days"), "never_open", "no hour is open: this rule bars everything, for good")
    for place in pack.applies if minutes and rule.zone is None else ():
        zones = zones_of_place(place)
        winter, summer = (datetime(today.year, month, 1, tzinfo=UTC) for month in (1, 7))
        if not (common(minutes, zones, winter) and common(minutes, zones, summer)):
            message = f"no hour is open in all zones of {place}: who may be anywhere there is never reached"
            yield _Odd(below(at, "days"), "no_common_hour", message)
