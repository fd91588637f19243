"""Public holidays and working days, with the dates between which they are official.

Built over the `holidays` package (its default category, with observed days). A calendar is `US`,
`CA-ON`, … or `workday:CN`, the official Chinese one with its make-up working days.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from importlib import resources

import holidays

WORKDAY_CN = "workday:CN"
"""The one calendar of working days that a rule may name."""

_SATURDAY = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """The dates on which a calendar is official, both included, and where that is written."""

    calendar: str
    begins: date
    ends: date
    source: str


def is_calendar(name: str) -> bool:
    """Whether there are public holidays of that name (`US`, `CA-ON`)."""
    country, dash, part = name.partition("-")
    parts = _supported().get(country)
    return parts is not None and (part in parts if dash else True)


@lru_cache(maxsize=4096)
def coverage(calendar: str) -> Coverage:
    """From when to when that calendar can be relied on."""
    country = calendar.removeprefix("workday:").partition("-")[0]
    begins, ends, source = _proclaimed().get(
        calendar, _proclaimed().get(country, (None, None, "the law's own text"))
    )
    entity = holidays.country_holidays(country)
    return Coverage(
        calendar=calendar,
        begins=begins or date(entity.start_year, 1, 1),
        ends=ends or date(entity.end_year, 12, 31),
        source=source,
    )


def proclaimed() -> tuple[str, ...]:
    """The calendars that are proclaimed year by year, and so have an end."""
    return tuple(_proclaimed())


@lru_cache(maxsize=65_536)
def uncovered(calendar: str, day: int) -> str | None:
    """What to say when that date (an ordinal) lies outside the calendar; None when it is covered."""
    known = coverage(calendar)
    if day > known.ends.toordinal():
        return f"calendar {calendar} ends {known.ends}"
    if day < known.begins.toordinal():
        return f"calendar {calendar} begins {known.begins}"
    return None


@lru_cache(maxsize=65_536)
def is_holiday(calendar: str, day: int) -> bool:
    """Whether that date (an ordinal) is a public holiday there, observed days included."""
    return day in _year(calendar, date.fromordinal(day).year)[0]


@lru_cache(maxsize=65_536)
def is_workday(calendar: str, day: int) -> bool:
    """Whether people work on that date (an ordinal): an ordinary weekday or a make-up working day."""
    free, made_up = _year(calendar.removeprefix("workday:"), date.fromordinal(day).year)
    if (day + 6) % 7 >= _SATURDAY:
        return day in made_up
    return day not in free


@lru_cache(maxsize=4096)
def _year(calendar: str, year: int) -> tuple[frozenset[int], frozenset[int]]:
    """The holidays and the make-up working days of one year, as ordinals."""
    country, _, part = calendar.partition("-")
    entity = holidays.country_holidays(country, subdiv=part or None, years=year, observed=True)
    return (
        frozenset(day.toordinal() for day in entity),
        frozenset(day.toordinal() for day in entity.weekend_workdays),
    )


@lru_cache(maxsize=1)
def _supported() -> dict[str, list[str]]:
    """Country → parts that have holidays of their own."""
    return dict(holidays.list_supported_countries(include_aliases=False))


@lru_cache(maxsize=1)
def _proclaimed() -> dict[str, tuple[date | None, date, str]]:
    """Calendar → when it begins (where that is known), when it ends, and the source."""
    text = resources.files("gateway.policy").joinpath("calendars.toml").read_text("utf-8")
    return {
        name: (entry.get("begins"), entry["ends"], entry["source"])
        for entry in tomllib.loads(text)["proclaimed"]
        for name in entry["calendars"]
    }
