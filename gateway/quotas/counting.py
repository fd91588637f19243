"""Counted limits: what a minute, an hour, a day, a budget, closed hours and open calls leave of a bucket. Pure.

A minute is any minute: the current slice of 5 s and the twelve before it; an hour the current minute and the sixty
before it. A day and a month are those of the quota's zone, the provider's own. All of it is on the policy clock.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import ROUND_CEILING, Decimal
from enum import StrEnum
from functools import lru_cache
from zoneinfo import ZoneInfo

from gateway.domain import Money, from_us, to_us
from gateway.quotas.model import Bucket, Budget, Closed, Per, Quota

SLICE_US = 5_000_000
SLICES = 13
"""The last minute lies within so many slices, wherever it begins."""
MINUTE_US = 60_000_000
MINUTES = 61
QUARTER_US = 900_000_000
"""Every zone's day begins with a quarter of an hour."""
MICROS = 1_000_000
"""Of one unit of a currency."""
CALL_ENDS = timedelta(seconds=1)
"""When to ask again where only the end of a call makes room."""
COUNTED = frozenset({"per_minute", "per_hour", "per_day", "concurrency", "closed", "budget"})
"""The limits that are counted, or looked up in a calendar; `rate` is the pace's."""


class Span(StrEnum):
    """What counts are kept by."""

    SLICE = "slice"
    MINUTE = "minute"
    DAY = "day"
    MONTH = "month"


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """What is left of a bucket: `units` may start now (None: nothing counts them), `again` is when there are more."""

    units: int | None
    again: datetime | None = None
    calling: int = 0


@dataclass(slots=True, kw_only=True)
class Tally:
    """What a bucket has counted; it grows as starts are admitted.

    `slices` and `minutes` by their starts in µs; `day` and `month` are (units, micros of the budget's currency).
    """

    slices: dict[int, int] = field(default_factory=dict)
    minutes: dict[int, int] = field(default_factory=dict)
    day: tuple[int, int] = (0, 0)
    month: tuple[int, int] = (0, 0)
    calling: int = 0

    def add(self, span: Span, start: int, units: int, micros: int) -> None:
        """Count so much under a start of a span that matters now."""
        match span:
            case Span.SLICE:
                self.slices[start] = self.slices.get(start, 0) + units
            case Span.MINUTE:
                self.minutes[start] = self.minutes.get(start, 0) + units
            case Span.DAY:
                self.day = (self.day[0] + units, self.day[1] + micros)
            case Span.MONTH:
                self.month = (self.month[0] + units, self.month[1] + micros)


# Spans and calendars.


def floor(now: datetime, width_us: int) -> int:
    """The start (µs) of the slice, minute or quarter that holds an instant."""
    return to_us(now) // width_us * width_us


def spans(quota: Quota) -> frozenset[Span]:
    """By what a quota's limits are counted."""
    wanted = set()
    if quota.per_minute is not None:
        wanted.add(Span.SLICE)
    if quota.per_hour is not None:
        wanted.add(Span.MINUTE)
    if quota.per_day is not None:
        wanted.add(Span.DAY)
    if quota.budget is not None:
        wanted.add(Span.DAY if quota.budget.per is Per.DAY else Span.MONTH)
    return frozenset(wanted)


def since(span: Span, zone: str, now: datetime) -> int:
    """From which instant (µs) on a span's counts matter now."""
    match span:
        case Span.SLICE:
            return floor(now, SLICE_US) - (SLICES - 1) * SLICE_US
        case Span.MINUTE:
            return floor(now, MINUTE_US) - (MINUTES - 1) * MINUTE_US
        case _:
            return under(span, zone, now)


@lru_cache(maxsize=256)
def under(span: Span, zone: str, now: datetime) -> int:
    """Under which start (µs) an instant is counted."""
    match span:
        case Span.SLICE:
            return floor(now, SLICE_US)
        case Span.MINUTE:
            return floor(now, MINUTE_US)
        case Span.DAY:
            return to_us(day_of(zone, now)[0])
        case Span.MONTH:
            return to_us(month_of(zone, now)[0])


def day_of(zone: str, now: datetime) -> tuple[datetime, datetime]:
    """The local day that holds an instant: its first instant, and the next day's."""
    today = now.astimezone(_zone(zone)).date()
    return _begins(today, zone), _begins(today + timedelta(days=1), zone)


def month_of(zone: str, now: datetime) -> tuple[datetime, datetime]:
    """The same of the local month."""
    first = now.astimezone(_zone(zone)).date().replace(day=1)
    return _begins(first, zone), _begins((first + timedelta(days=31)).replace(day=1), zone)


def period_of(budget: Budget, zone: str, now: datetime) -> tuple[datetime, datetime]:
    """The day or month of a budget that holds an instant."""
    return day_of(zone, now) if budget.per is Per.DAY else month_of(zone, now)


def reopens(closed: Sequence[Closed], zone: str, now: datetime) -> datetime | None:
    """When hours without starts that hold an instant are over; None when none hold it."""
    at = now
    for _ in range(2 * len(closed)):
        ends = [end for hours in closed if (end := _ends(hours, zone, at)) is not None]
        if not ends:
            break
        at = max(ends)
    return at if at > now else None


def _ends(hours: Closed, zone: str, now: datetime) -> datetime | None:
    local = now.astimezone(_zone(zone))
    wall, over_midnight = local.time(), hours.until <= hours.since
    inside = wall >= hours.since or wall < hours.until if over_midnight else hours.since <= wall < hours.until
    if not inside:
        return None
    day = local.date() + timedelta(days=1 if over_midnight and wall >= hours.since else 0)
    first, second = (_at(day, hours.until, zone, fold) for fold in (0, 1))
    return first if first > now else max(second, now + timedelta(minutes=1))


def _begins(day: date, zone: str) -> datetime:
    """A day's first instant, also where its midnight is skipped or comes twice."""
    return _at(day, time(), zone, 0)


def _at(day: date, wall: time, zone: str, fold: int) -> datetime:
    return datetime.combine(day, wall.replace(fold=fold), _zone(zone)).astimezone(UTC)


@lru_cache(maxsize=64)
def _zone(name: str) -> ZoneInfo:
    return ZoneInfo(name)


# What fits.


def micros_of(budget: Budget | None, cost: Money | None) -> int:
    """What a start takes of a budget, in millionths, rounded up; a price in another currency takes nothing."""
    if budget is None or cost is None or cost.currency != budget.currency:
        return 0
    return micros(cost.amount)


def micros(amount: Decimal) -> int:
    """Money in millionths of its currency, rounded up."""
    return int((amount * MICROS).to_integral_value(ROUND_CEILING))


def refuses(bucket: Bucket, tally: Tally, units: int, cost: int, now: datetime) -> datetime | None:
    """When a start that does not fit may ask again, by the limit that lets go last; None: it fits. `cost` in micros."""
    return max(_short(bucket, tally, units, cost, now), default=None)


def left(bucket: Bucket, tally: Tally, now: datetime) -> Left:
    """What is left of a bucket. Of a budget: as many units as its starts of this period cost on average."""
    again = refuses(bucket, tally, 1, 0, now)
    if again is not None:
        return Left(units=0, again=again, calling=tally.calling)
    units = min(_rooms(bucket, tally), default=None)
    budget = bucket.quota.budget
    if units == 0 and budget is not None:  # one unit fits, but the rest of the budget is less than it costs
        again = period_of(budget, bucket.quota.zone, now)[1]
    return Left(units=units, again=again, calling=tally.calling)


def spent(quota: Quota, tally: Tally) -> Decimal:
    """Money of a budget's period; 0 where there is no budget."""
    return Decimal(0) if quota.budget is None else Decimal(_spent(quota.budget, tally)[1]) / MICROS


def _short(bucket: Bucket, tally: Tally, units: int, cost: int, now: datetime) -> Iterator[datetime]:
    """When each limit that a start does not fit in has room for it."""
    quota, limits, zone = bucket.quota, bucket.limits, bucket.quota.zone
    if "closed" in limits and (opens := reopens(quota.closed, zone, now)) is not None:
        yield opens
    for name, counted, width in (
        ("per_minute", tally.slices, SLICE_US * SLICES),
        ("per_hour", tally.minutes, MINUTE_US * MINUTES),
    ):
        if name in limits and (free := _rolls(counted, getattr(quota, name) - units, width, now)) is not None:
            yield free
    if "per_day" in limits and quota.per_day is not None and tally.day[0] + units > quota.per_day:
        yield day_of(zone, now)[1]
    if "concurrency" in limits and quota.concurrency is not None and tally.calling >= quota.concurrency:
        yield now + CALL_ENDS
    if "budget" in limits and quota.budget is not None:
        used, amount = _spent(quota.budget, tally)[1], micros(quota.budget.amount)
        if used >= amount or used + cost > amount:
            yield period_of(quota.budget, zone, now)[1]


def _rolls(counted: Mapping[int, int], room: int, width_us: int, now: datetime) -> datetime | None:
    """When a rolling window holds at most `room` units; None: it does."""
    held = sum(counted.values())
    if held <= room:
        return None
    for start in sorted(counted):
        held -= counted[start]
        if held <= room:
            return from_us(start + width_us)
    return from_us(to_us(now) + width_us)


def _rooms(bucket: Bucket, tally: Tally) -> Iterator[int]:
    """How many units each limit leaves."""
    quota, limits = bucket.quota, bucket.limits
    counts = {
        "per_minute": sum(tally.slices.values()),
        "per_hour": sum(tally.minutes.values()),
        "per_day": tally.day[0],
        "concurrency": tally.calling,
    }
    for name in limits & counts.keys():
        yield max(0, getattr(quota, name) - counts[name])
    if "budget" in limits and quota.budget is not None:
        units, used = _spent(quota.budget, tally)
        if units and used:
            yield max(0, (micros(quota.budget.amount) - used) * units // used)


def _spent(budget: Budget, tally: Tally) -> tuple[int, int]:
    """Units and micros of a budget's period."""
    return tally.day if budget.per is Per.DAY else tally.month
