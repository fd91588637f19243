"""What operators state beside the shipped calendars: proclaimed days, and events of a region. A TOML text."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Any

from gateway.errors import Fault, PolicyError
from gateway.policy.calendars import SHIPPED, WORKDAY_CN, Calendars, Override, is_calendar
from gateway.policy.faults import Faults, Key, Reader, a_date, below, many, read_keys, text
from gateway.policy.toml_lines import Places
from gateway.policy.zones import is_country, same_place

LARGEST = 1_000_000
"""No text is longer, in characters."""

_CHINA = WORKDAY_CN.removeprefix("workday:")
_SATURDAY = 5
_PLACE = re.compile(r"([A-Z]{2})(-[A-Z0-9]{1,3}){0,2}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Blackout:
    """Why nobody of a place is contacted on local dates from `since` to before `until`; None: no end yet."""

    place: str
    reason: str
    since: date
    source: str
    until: date | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Overrides:
    """Everything that one text states."""

    calendars: Calendars = SHIPPED
    blackouts: tuple[Blackout, ...] = ()

    def regional_blackouts(self, place: str | None) -> tuple[tuple[str, date, date | None], ...]:
        """(reason, since, until) of the events of that place (ISO 3166); an event of `US` is one of `US-DC`."""
        if not self.blackouts:
            return ()
        where = "" if place is None else f"{same_place(place)}-"
        return tuple(
            (one.reason, one.since, one.until) for one in self.blackouts if where.startswith(f"{one.place}-")
        )


NONE = Overrides()
"""Nothing beside what is shipped."""


def parse_overrides(source: str, where: str) -> Overrides:
    """What a text states; PolicyError names every mistake as `where:/calendar/0/key`."""
    faults = Faults()
    tables = read_keys(_table(source, where), _TABLES, "", faults)
    calendars = tables.get("calendar", ())
    if not faults:
        _once(calendars, faults)
    if faults:
        lines = Places(source)
        raise PolicyError([replace(f, at=f"{where}:{lines[f.at].line}:{f.at}") for f in faults])
    return Overrides(calendars=Calendars(calendars), blackouts=tuple(tables.get("blackout", ())))


def _table(source: str, where: str) -> dict[str, Any]:
    try:
        if len(source) <= LARGEST:
            return tomllib.loads(source)
        code, message = "too_large", f"give at most {LARGEST} characters"
    except tomllib.TOMLDecodeError as wrong:
        code, message = "malformed_toml", str(wrong)
    except (ValueError, RecursionError):
        code, message = "malformed_toml", "a number is too long, or the nesting too deep"
    raise PolicyError([Fault(at=where, code=code, message=message)])


def _override(value: Any, at: str, faults: Faults) -> Override | None:
    """One entry of a calendar, None when it has a mistake."""
    before = len(faults)
    read = read_keys(value, _CALENDAR, at, faults)
    if len(faults) == before:
        for key, code, message in _wrong(read):
            faults.add(f"{at}/{key}", code, message)
    if len(faults) > before:
        return None
    return Override(
        calendar=read["name"],
        begins=read["begins"],
        ends=read["ends"],
        source=read["source"],
        holidays=frozenset(read["holidays"]),
        workdays=frozenset(read.get("workdays", ())),
    )


def _wrong(read: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """What does not fit together in an entry: the key, a code and what to do."""
    if read["ends"] < read["begins"]:
        yield "ends", "out_of_range", "this is before `begins`; both are included"
        return
    for key in ("holidays", "workdays"):
        for place, day in enumerate(read.get(key, ())):
            if not read["begins"] <= day <= read["ends"]:
                yield f"{key}/{place}", "out_of_range", "this date is not from `begins` to `ends`"
            elif key == "workdays" and day in read["holidays"]:
                yield f"{key}/{place}", "twice", "this date is among `holidays`, too: give it once"
            elif key == "workdays" and day.weekday() < _SATURDAY:
                yield (
                    f"{key}/{place}",
                    "out_of_range",
                    "this is no Saturday or Sunday: give only days made up for",
                )
    if read["name"] == _CHINA and "workdays" not in read:
        yield "workdays", "missing_key", "give the make-up working days, [] when there is none on these dates"
    if read["name"] != _CHINA and read.get("workdays"):
        yield "workdays", "unknown_key", f"only {_CHINA} has working days that a rule can name"


def _once(overrides: Sequence[Override], faults: Faults) -> None:
    """The entries of one calendar must not overlap."""
    for place, one in enumerate(overrides):
        for earlier, other in enumerate(overrides[:place]):
            if one.calendar == other.calendar and one.begins <= other.ends and other.begins <= one.ends:
                message = f"its dates overlap those of /calendar/{earlier}: mend one of them"
                faults.add(f"/calendar/{place}", "overlap", message)


def _blackout(value: Any, at: str, faults: Faults) -> Blackout | None:
    """One event of a region, None when it has a mistake."""
    before = len(faults)
    read = read_keys(value, _BLACKOUT, at, faults)
    if len(faults) > before:
        return None
    blackout = Blackout(**read)
    if blackout.until is not None and blackout.until <= blackout.since:
        message = "this must be after `since`: it is the first date after the event"
        faults.add(below(at, "until"), "out_of_range", message)
    return blackout


def _name(value: Any, at: str, faults: Faults) -> str | None:
    if value == WORKDAY_CN:
        return _CHINA
    if isinstance(value, str) and is_calendar(value):
        return value
    message = "no such calendar; give a country, or a part with holidays of its own: ID, CA-QC, CN"
    faults.add(at, "calendar_unknown", message)
    return None


def _place(value: Any, at: str, faults: Faults) -> str | None:
    form = _PLACE.fullmatch(value) if isinstance(value, str) else None
    if form is not None and is_country(form[1]):
        return same_place(form[0])
    faults.add(at, "place_unknown", "give an ISO 3166 code: CN, CN-GD, US-NY; of a city: US-NY-NYC")
    return None


_DATES: Reader[tuple[date, ...]] = many(a_date)
_CALENDAR = {
    "name": Key(_name, required=True),
    "begins": Key(a_date, required=True),
    "ends": Key(a_date, required=True),
    "source": Key(text, required=True),
    "holidays": Key(_DATES, required=True),
    "workdays": Key(_DATES),
}
_BLACKOUT = {
    "place": Key(_place, required=True),
    "reason": Key(text, required=True),
    "since": Key(a_date, required=True),
    "until": Key(a_date),
    "source": Key(text, required=True),
}
_TABLES = {"calendar": Key(many(_override)), "blackout": Key(many(_blackout))}
