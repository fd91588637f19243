"""Public holidays and working days, with the dates between which they are official.

Built over the `holidays` package (its default category, with observed days). A calendar is `US`,
`CA-ON`, … or `workday:CN`, the official Chinese one with its make-up working days. An operator's
overrides go before what is shipped.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import cached_property, lru_cache
from hashlib import sha256
from importlib import resources
from importlib.metadata import version

import holidays

WORKDAY_CN = "workday:CN"
"""The one calendar of working days that a rule may name."""

_SATURDAY = 5
_DAYS, _YEARS = 65_536, 4096  # how many answers are kept


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """The dates on which a calendar is official, both included, and where that is written."""

    calendar: str
    begins: date
    ends: date
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Override:
    """What an operator states of a country's or a part's calendar from `begins` to `ends`, both included.

    On these dates it is the whole truth: its holidays and make-up `workdays` take the place of those shipped.
    A country's holidays are also added to those shipped of its parts. `CN` speaks for `workday:CN`, too.
    """

    calendar: str
    begins: date
    ends: date
    source: str
    holidays: frozenset[date]
    workdays: frozenset[date] = frozenset()

    def covers(self, day: int) -> bool:
        """Whether it speaks of that date (an ordinal)."""
        return self.begins.toordinal() <= day <= self.ends.toordinal()


class Calendars:
    """Every calendar that a rule may name: those shipped, and on its dates an override in their place.

    Overrides of one calendar must not overlap.
    """

    def __init__(self, overrides: Sequence[Override] = ()) -> None:
        self.overrides = tuple(sorted(overrides, key=lambda one: (one.calendar, one.begins)))
        self._runs = lru_cache(maxsize=_YEARS)(self._find_runs)
        self._uncovered = lru_cache(maxsize=_DAYS)(self._find_uncovered)
        self._holiday = lru_cache(maxsize=_DAYS)(self._find_holiday)
        self._workday = lru_cache(maxsize=_DAYS)(self._find_workday)

    @cached_property
    def version(self) -> str:
        """What these calendars are made of: `holidays 0.109`, and a digest of the overrides where there are any."""
        shipped = f"holidays {version('holidays')}"
        if not self.overrides:
            return shipped
        stated = "\n".join(_written(override) for override in self.overrides)
        return f"{shipped}, overrides {sha256(stated.encode()).hexdigest()[:12]}"

    def coverage(self, name: str) -> Coverage:
        """From when to when that calendar can be relied on, without a break, up to its last date."""
        return self._runs(name)[-1]

    def uncovered(self, name: str, day: int) -> str | None:
        """What to say when that date (an ordinal) lies outside the calendar; None when it is covered."""
        return self._uncovered(name, day)

    def is_holiday(self, name: str, day: int) -> bool:
        """Whether that date (an ordinal) is a public holiday there, observed days included."""
        return self._holiday(name, day)

    def is_workday(self, name: str, day: int) -> bool:
        """Whether people work on that date (an ordinal): an ordinary weekday or a make-up working day."""
        return self._workday(name, day)

    def proclaimed(self) -> tuple[str, ...]:
        """The calendars that are proclaimed year by year, and so have an end."""
        return tuple(_proclaimed())

    def days_left(self, name: str, day: int) -> int:
        """How many dates after that one (an ordinal) are covered without a break; less than 0: since when not."""
        ends = [run.ends.toordinal() for run in self._runs(name) if run.begins.toordinal() <= day]
        return max(ends, default=day - 1) - day

    def _find_runs(self, name: str) -> tuple[Coverage, ...]:
        """The unbroken runs of dates that the calendar covers, in order."""
        stated = [
            Coverage(calendar=name, begins=one.begins, ends=one.ends, source=one.source)
            for one in self._overrides(name)
        ]
        runs: list[Coverage] = []
        for run in sorted([_shipped_coverage(name), *stated], key=lambda run: run.begins):
            if runs and run.begins.toordinal() <= runs[-1].ends.toordinal() + 1:
                before = runs.pop()
                runs.append(replace(max(before, run, key=lambda one: one.ends), begins=before.begins))
            else:
                runs.append(run)
        return tuple(runs)

    def _find_uncovered(self, name: str, day: int) -> str | None:
        left = self.days_left(name, day)
        if left >= 0:
            return None
        known = [run for run in self._runs(name) if run.begins.toordinal() <= day]
        if known:
            return f"calendar {name} ends {known[-1].ends}"
        return f"calendar {name} begins {self._runs(name)[0].begins}"

    def _find_holiday(self, name: str, day: int) -> bool:
        own = self._override(name, day)
        if own is not None:
            return date.fromordinal(day) in own.holidays
        country = self._override(name.partition("-")[0], day)
        added = country is not None and date.fromordinal(day) in country.holidays
        return added or day in _year(name, date.fromordinal(day).year)[0]

    def _find_workday(self, name: str, day: int) -> bool:
        country = name.removeprefix("workday:")
        if (day + 6) % 7 < _SATURDAY:
            return not self.is_holiday(country, day)
        stated = self._override(country, day)
        made_up = _year(country, date.fromordinal(day).year)[1]
        return day in made_up if stated is None else date.fromordinal(day) in stated.workdays

    def _override(self, name: str, day: int) -> Override | None:
        return next((one for one in self._overrides(name) if one.covers(day)), None)

    def _overrides(self, name: str) -> Iterable[Override]:
        own = name.removeprefix("workday:")
        return (override for override in self.overrides if override.calendar == own)


SHIPPED = Calendars()
"""The calendars without an override."""


def is_holiday(calendar: str, day: int) -> bool:
    """As SHIPPED says."""
    return SHIPPED.is_holiday(calendar, day)


def is_workday(calendar: str, day: int) -> bool:
    """As SHIPPED says."""
    return SHIPPED.is_workday(calendar, day)


def uncovered(calendar: str, day: int) -> str | None:
    """As SHIPPED says."""
    return SHIPPED.uncovered(calendar, day)


def coverage(calendar: str) -> Coverage:
    """As SHIPPED says."""
    return SHIPPED.coverage(calendar)


def proclaimed() -> tuple[str, ...]:
    """As SHIPPED says."""
    return SHIPPED.proclaimed()


def is_calendar(name: str) -> bool:
    """Whether there are public holidays of that name (`US`, `CA-ON`)."""
    country, dash, part = name.partition("-")
    parts = _supported().get(country)
    return parts is not None and (part in parts if dash else True)


def _written(override: Override) -> str:
    dates = (" ".join(str(day) for day in sorted(days)) for days in (override.holidays, override.workdays))
    return "|".join((override.calendar, str(override.begins), str(override.ends), *dates))


def _shipped_coverage(calendar: str) -> Coverage:
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


@lru_cache(maxsize=_YEARS)
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
