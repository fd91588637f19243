"""Holidays and working days for the second reading, and on which dates they are official.

Coverage is read from the same `calendars.toml` as data; an operator's overrides come as plain values.
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from datetime import date
from functools import lru_cache
from importlib import resources
from typing import Any, Protocol

import holidays

SATURDAY = 5


class Stated(Protocol):
    """What an operator states of a country's or a part's calendar on the dates from `begins` to `ends`."""

    @property
    def calendar(self) -> str:
        """The ISO 3166 code, `CN` or `CA-ON`; `CN` speaks for the working days of China, too."""

    @property
    def begins(self) -> date:
        """The first date that it speaks of."""

    @property
    def ends(self) -> date:
        """The last one."""

    @property
    def holidays(self) -> frozenset[date]:
        """All holidays among these dates."""

    @property
    def workdays(self) -> frozenset[date]:
        """All weekend days among them that people work on."""


class Days:
    """Every calendar that a rule may name; on the dates that an operator has stated, that is what holds."""

    def __init__(self, stated: Sequence[Stated] = ()) -> None:
        self._stated = stated

    def official(self, name: str, day: date) -> bool:
        """Whether that calendar can be relied on on that date."""
        place = name.removeprefix("workday:")
        if self._on(place, day) is not None:
            return True
        country = place.partition("-")[0]
        entry = _proclaimed().get(name, _proclaimed().get(country, {}))
        first, last = _known(country)
        return bool(entry.get("begins", first) <= day <= entry.get("ends", last))

    def holiday(self, name: str, day: date) -> bool:
        """Whether that date is a public holiday there, observed days included."""
        own = self._on(name, day)
        if own is not None:
            return day in own.holidays
        country = self._on(name.partition("-")[0], day)
        return (country is not None and day in country.holidays) or day in _year(name, day.year)

    def workday(self, country: str, day: date) -> bool:
        """Whether people work there on that date: an ordinary weekday, or a weekend day made up for."""
        if day.weekday() < SATURDAY:
            return not self.holiday(country, day)
        own = self._on(country, day)
        made_up = _year(country, day.year).weekend_workdays if own is None else own.workdays
        return day in made_up

    def _on(self, name: str, day: date) -> Stated | None:
        """What the operator states of that calendar on that date."""
        for one in self._stated:
            if one.calendar == name and one.begins <= day <= one.ends:
                return one
        return None


@lru_cache(maxsize=4096)
def _year(name: str, year: int) -> Any:
    """The `holidays` object of one year: it holds its dates, and `weekend_workdays`."""
    country, _, part = name.partition("-")
    return holidays.country_holidays(country, subdiv=part or None, years=year)


@lru_cache(maxsize=512)
def _known(country: str) -> tuple[date, date]:
    """The first and the last date that `holidays` knows anything of."""
    known = holidays.country_holidays(country)
    return date(known.start_year, 1, 1), date(known.end_year, 12, 31)


@lru_cache(maxsize=1)
def _proclaimed() -> dict[str, dict[str, Any]]:
    """Calendar → the entry of the proclaimed calendars that names it."""
    text = resources.files("gateway.policy").joinpath("calendars.toml").read_text("utf-8")
    return {name: entry for entry in tomllib.loads(text)["proclaimed"] for name in entry["calendars"]}
