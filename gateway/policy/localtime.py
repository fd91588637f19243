"""What the clock on the wall shows, computed from UTC with the packaged time-zone data alone.

Inside the engine an instant is whole seconds since 1970 UTC and a local date is its proleptic
ordinal (`date.toordinal`), so that days add up without a special case for daylight saving.
"""

from __future__ import annotations

import re
import zoneinfo
from bisect import bisect_right
from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from importlib import resources

import tzdata  # type: ignore[import-untyped]  # it has no types

from gateway.errors import Fault, PolicyError

zoneinfo.reset_tzpath(to=[])  # the system's data is stale on real machines: use the tzdata package alone
zoneinfo.ZoneInfo.clear_cache()

TZDATA_VERSION: str = tzdata.IANA_VERSION
"""The release of the time-zone database in use, `2026f`; it goes into every decision."""

DAY = 86_400
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
EPOCH_DAY = EPOCH.toordinal()
SECOND = timedelta(seconds=1)
NEVER = 1 << 62
"""An instant after every other one."""

_FARTHEST_EAST = 15 * 3600  # no zone is further ahead of UTC
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_INSTANT = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d{1,6})?(Z|[+-]\d{2}:\d{2})", re.ASCII)
_YEARS = (1900, 2199)
_BUCKET = 25  # offsets are kept in spans of 2**25 s, 388 days


def seconds(instant: datetime) -> int:
    """Whole seconds since 1970 UTC of an aware instant, rounded down."""
    return (instant - EPOCH) // SECOND


def instant(at: int) -> datetime:
    """The aware UTC instant of whole seconds since 1970."""
    return EPOCH + timedelta(seconds=at)


def read_date(text: str) -> date | None:
    """The date of `2026-11-30`, None when it is none."""
    if _DATE.fullmatch(text) is None:
        return None
    try:
        return date.fromisoformat(text)
    except ValueError:
        return None


def read_instant(text: str) -> datetime | None:
    """The UTC instant of `2026-11-30T08:00:00Z` (or with an offset), None when it is none.

    Years run from 1900 to 2199, so that no sum of an instant and a rule's span leaves the calendar.
    """
    if _INSTANT.fullmatch(text) is None:
        return None
    try:
        moment = datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return moment if _YEARS[0] <= moment.year <= _YEARS[1] else None


@lru_cache(maxsize=1)
def zone_names() -> frozenset[str]:
    """Every zone of the packaged database, links included."""
    return frozenset(resources.files("tzdata").joinpath("zones").read_text("utf-8").split())


class Zone:
    """One time zone: its UTC offset at any instant, and how long that offset stays."""

    __slots__ = ("_info", "_spans", "name")

    def __init__(self, name: str) -> None:
        self.name = name
        self._info = zoneinfo.ZoneInfo(name)
        self._spans: dict[int, tuple[list[int], list[int]]] = {}

    def segment(self, at: int) -> tuple[int, int]:
        """`(offset, end)`: the offset in seconds at that instant, constant until `end` at least."""
        bucket = at >> _BUCKET
        span = self._spans.get(bucket)
        if span is None:
            span = self._spans[bucket] = self._scan(bucket << _BUCKET, (bucket + 1) << _BUCKET)
        starts, offsets = span
        place = bisect_right(starts, at)
        return offsets[place - 1], starts[place]

    def day(self, at: int) -> int:
        """The local date at that instant, as an ordinal."""
        return (at + self.segment(at)[0]) // DAY + EPOCH_DAY

    def days(self, times: Iterable[int]) -> list[int]:
        """The local date at each of these instants, which come in order."""
        days, offset, end = [], 0, -NEVER
        for at in times:
            if at >= end:
                offset, end = self.segment(at)
            days.append((at + offset) // DAY + EPOCH_DAY)
        return days

    def _offset(self, at: int) -> int:
        delta = datetime.fromtimestamp(at, tz=self._info).utcoffset()
        return delta // SECOND if delta is not None else 0

    def _scan(self, low: int, high: int) -> tuple[list[int], list[int]]:
        """Find each change of offset in [low, high) by looking once a day and halving."""
        starts, offsets = [low], [self._offset(low)]
        for day in range(low, high, DAY):
            after = min(day + DAY, high - 1)
            while (found := self._offset(after)) != offsets[-1]:
                at = self._first_change(max(day, starts[-1]), after)
                starts.append(at)
                offsets.append(self._offset(at))
                if offsets[-1] == found:
                    break
        return [*starts, high], offsets

    def _first_change(self, low: int, high: int) -> int:
        """The first second of the new offset, where `low` has the old one and `high` another."""
        old = self._offset(low)
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self._offset(middle) == old else (low, middle)
        return high


@lru_cache(maxsize=1024)
def zone(name: str) -> Zone:
    """The zone of that name; PolicyError when the packaged database has none."""
    if name not in zone_names():
        fault = Fault(
            at="/zones", code="zone_unknown", message="no such time zone; use an IANA name, Area/City"
        )
        raise PolicyError([fault], fault.message)
    return Zone(name)


class Here:
    """An instant as the clock on the wall of one zone shows it."""

    __slots__ = ("at", "day", "end", "offset", "second", "zone")

    def __init__(self, zone: Zone, at: int) -> None:
        self.zone = zone
        self.at = at
        self.offset, self.end = zone.segment(at)
        local = at + self.offset
        self.day = local // DAY + EPOCH_DAY
        self.second = local % DAY

    def start_of(self, day: int) -> int:
        """When that later local date begins, or the next change of the offset if that comes first."""
        return min((day - EPOCH_DAY) * DAY - self.offset, self.end)


@lru_cache(maxsize=4096)
def start_of_date(zone: Zone, day: date) -> int:
    """When that local date begins there, in whole seconds since 1970."""
    wanted = day.toordinal()
    here = Here(zone, (wanted - EPOCH_DAY) * DAY - _FARTHEST_EAST)
    while here.day < wanted:
        here = Here(zone, here.start_of(wanted))
    return here.at
