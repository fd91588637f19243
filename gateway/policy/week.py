"""The hours of a `window` as minutes of a week, each one bit, Monday 00:00 first: to compare and to draw.

Decisions do not use it: they are exact to the second and see every date of a calendar (rules.py).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from datetime import datetime
from itertools import combinations

from gateway.policy.localtime import seconds, zone
from gateway.policy.model import Hours, Pack, Window

DAY = 24 * 60
WEEK = 7 * DAY
_ALL = (1 << WEEK) - 1
_SATURDAY = 5


def of_day(rule: Window, weekday: int, *, works: bool, holidays: Collection[str]) -> int:
    """The open minutes of a date: its weekday, whether people work, on which calendars it is a holiday."""
    if rule.closed_on_holidays in holidays:
        return 0
    hours = rule.week[weekday] + (rule.workdays if works else ())
    if hours and rule.holiday_as is not None and rule.holiday_as.calendar in holidays:
        hours = (rule.holiday_as.hours,)
    return _bits(hours)


def ordinary(rule: Window) -> int:
    """The open minutes of a week without holidays, in which people work from Monday to Friday."""
    return _joined(of_day(rule, day, works=day < _SATURDAY, holidays=()) for day in range(7))


def of_holidays(rule: Window, pack: Pack) -> int | None:
    """The open minutes of a week of holidays only, None when holidays change nothing."""
    if pack.holidays is not None:
        return 0
    if not rule.calendars:
        return None
    return _joined(of_day(rule, day, works=False, holidays=rule.calendars) for day in range(7))


def within(inner: Window, outer: Window) -> bool:
    """Whether the one is open only when the other is, on whatever date."""
    names = sorted({*inner.calendars, *outer.calendars})
    held = [chosen for n in range(len(names) + 1) for chosen in combinations(names, n)]
    return all(
        not of_day(inner, day, works=works, holidays=holidays)
        & ~of_day(outer, day, works=works, holidays=holidays)
        for day in range(7)
        for works in (True, False)
        for holidays in held
    )


def common(minutes: int, zones: Iterable[str], at: datetime) -> int:
    """The minutes of the UTC week that are open in each of these zones, by their offsets at that instant."""
    found = _ALL
    for name in zones:
        offset = zone(name).segment(seconds(at))[0] // 60 % WEEK
        found &= (minutes >> offset) | (minutes << (WEEK - offset)) & _ALL
    return found


def spans(minutes: int) -> Iterator[tuple[int, int]]:
    """The runs `[open, close)` of the open minutes."""
    at = 0
    while minutes >> at:
        at += _trailing_zeros(minutes >> at)
        length = _trailing_zeros(~(minutes >> at))
        yield at, at + length
        at += length


def day_spans(minutes: int, weekday: int) -> tuple[tuple[int, int], ...]:
    """The runs of one weekday, in minutes of that day."""
    return tuple(spans(minutes >> weekday * DAY & (1 << DAY) - 1))


def longest(minutes: int) -> tuple[tuple[int, int], ...]:
    """The runs of the weekday that is open longest."""
    return max((day_spans(minutes, day) for day in range(7)), key=lambda spans: sum(b - a for a, b in spans))


def _bits(hours: Iterable[Hours]) -> int:
    found = 0
    for one in hours:
        found |= (1 << one.close // 60) - (1 << one.open // 60)
    return found


def _joined(days: Iterable[int]) -> int:
    return sum(minutes << place * DAY for place, minutes in enumerate(days))


def _trailing_zeros(number: int) -> int:
    return (number & -number).bit_length() - 1
