"""The work that waits as lines, and some quotas as the limits that these share, for gateway.quotas.replay. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from math import ceil, floor
from zoneinfo import ZoneInfo

from gateway.domain import Money, Tenant, to_us
from gateway.quotas.counting import (
    MICROS,
    MINUTE_US,
    MINUTES,
    SLICE_US,
    SLICES,
    Tally,
    day_of,
    micros_of,
    month_of,
    reopens,
)
from gateway.quotas.counting import floor as floor_to
from gateway.quotas.limits import EMPTY, Hours, Limit, Period, Rate, Window
from gateway.quotas.model import Bucket, Closed, Load, Per, Quota, Unit, in_force
from gateway.quotas.replay import Batch, Line, Ran, Turn, run


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """How reminders of a queue go: `load` names everything that quotas see, its account included.

    `segments` and `price` are those of one message, on average; `call_s` seconds that a call lasts.
    """

    load: Load
    weight: float = 1.0
    segments: float = 1.0
    price: Money | None = None
    call_s: float = 0.0

    @property
    def queue(self) -> QueueKey:
        """Where what goes this way waits."""
        return self.load.channel, self.load.tenant, self.load.priority


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """So many reminders that go one way, fall due together and expire together."""

    way: Way
    due: datetime
    expires: datetime
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """Some quotas, and what their buckets have counted until now, by their keys."""

    quotas: Sequence[Quota]
    tallies: Mapping[str, Tally] = field(default_factory=dict)


QueueKey = tuple[str, Tenant, int]
"""Channel, tenant and priority."""
Flowed = dict[QueueKey, list[tuple[Way, Ran]]]
"""What came of each queue, by the ways that it goes."""
_Id = tuple[str, str]
"""A bucket's key and the name of one of its limits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Use:
    """A limit that a start needs, the quota that sets it, and what one start weighs in it."""

    id: _Id
    quota: Quota
    units: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stream:
    """A line, the way it goes, and what it needs in each spell of the quotas."""

    way: Way
    line: Line
    uses: tuple[tuple[_Use, ...], ...]

    @property
    def ids(self) -> frozenset[_Id]:
        """The limits that it ever needs."""
        return frozenset(use.id for uses in self.uses for use in uses)


def turns(quotas: Iterable[Quota], now: datetime) -> list[datetime]:
    """When quotas that hold for a time give way to what was before."""
    found: set[datetime] = set()
    for quota in quotas:
        held: Quota | None = quota
        while held is not None:
            if held.until is not None and held.until > now:
                found.add(held.until)
            held = held.before
    return sorted(found)


class Flow:
    """The backlog under some terms. `marks`: when (seconds from now) it is looked at what of a queue waits still.

    A spell begins now, and whenever a quota gives way to what was before.
    """

    def __init__(
        self, waiting: Iterable[Waiting], terms: Terms, marks: Mapping[QueueKey, float], now: datetime
    ) -> None:
        self._now = now
        self._begins = [now, *turns(terms.quotas, now)]
        self._books = [in_force(terms.quotas, at) for at in self._begins]
        self._streams = [self._stream(alike, marks) for alike in self._alike(waiting)]
        self._weights: dict[_Id, set[float]] = defaultdict(set)
        quotas: dict[_Id, Quota] = {}
        for use in (use for stream in self._streams for uses in stream.uses for use in uses):
            self._weights[use.id].add(use.units)
            quotas.setdefault(use.id, use.quota)
        self._limits = {
            id_: _limit(id_[1], quota, terms.tallies.get(id_[0], Tally()), max(self._weights[id_]), now)
            for id_, quota in quotas.items()
        }

    def run(self) -> Flowed:
        """Run it dry."""
        for streams in self._apart():
            turns = [self._turn(spell, streams) for spell in range(len(self._begins))]
            run([stream.line for stream in streams], turns)
        flowed: Flowed = defaultdict(list)
        for stream in self._streams:
            flowed[stream.way.queue].append((stream.way, stream.line.ran()))
        return flowed

    def _alike(self, waiting: Iterable[Waiting]) -> Iterable[Sequence[Waiting]]:
        """What waits for the same limits and weighs the same: templates that no quota tells apart are one."""
        signs: dict[Way, object] = {}
        alike: dict[object, list[Waiting]] = defaultdict(list)
        for one in waiting:
            way = one.way
            if way not in signs:
                keys = tuple(tuple(bucket.key for bucket in book.buckets(way.load)) for book in self._books)
                signs[way] = (way.queue, way.load.pool, keys, way.segments, way.price, way.call_s)
            alike[signs[way]].append(one)
        return alike.values()

    def _stream(self, alike: Sequence[Waiting], marks: Mapping[QueueKey, float]) -> _Stream:
        way = alike[0].way
        uses = (
            tuple(use for bucket in book.buckets(way.load) for use in _uses(bucket, way))
            for book in self._books
        )
        return _Stream(way=way, line=_line(alike, marks[way.queue], self._now), uses=tuple(uses))

    def _apart(self) -> Iterator[list[_Stream]]:
        """Streams that share no limit have nothing to do with each other."""
        groups: list[tuple[frozenset[_Id], list[_Stream]]] = []
        for stream in self._streams:
            ids = stream.ids
            near = [group for group in groups if group[0] & ids]
            groups = [group for group in groups if not group[0] & ids]
            together = [one for _, streams in near for one in streams]
            groups.append((ids.union(*(others for others, _ in near)), [*together, stream]))
        return (streams for _, streams in groups)

    def _turn(self, spell: int, streams: Sequence[_Stream]) -> Turn:
        """From there on the quotas of a spell hold: their numbers, and what they cover."""
        at = (self._begins[spell] - self._now).total_seconds()

        def apply() -> None:
            for use in {use.id: use for stream in streams for use in stream.uses[spell]}.values():
                _tune(self._limits[use.id], use, self._weights[use.id], self._now, at)
            for stream in streams:
                stream.line.uses = [
                    (self._limits[use.id], use.units / max(self._weights[use.id]))
                    for use in stream.uses[spell]
                ]

        return Turn(at=at, apply=apply)


def _line(alike: Sequence[Waiting], mark: float, now: datetime) -> Line:
    way = alike[0].way
    batches = [
        Batch(
            due=max(0.0, (one.due - now).total_seconds()),
            expires=(one.expires - now).total_seconds(),
            left=float(one.count),
        )
        for one in alike
    ]
    return Line(
        pool=way.load.pool,
        tenant=way.load.tenant,
        weight=way.weight,
        lane=way.load.priority,
        batches=sorted(batches, key=lambda batch: (batch.due, batch.expires)),
        mark=mark,
    )


def _uses(bucket: Bucket, way: Way) -> Iterator[_Use]:
    """The limits of a bucket that a start of this way needs."""
    units = way.segments if bucket.quota.unit is Unit.SEGMENT else 1.0
    for name in sorted(bucket.limits):
        match name:
            case "concurrency":
                weight = way.call_s
            case "budget":
                weight = micros_of(bucket.quota.budget, way.price) / MICROS
            case _:
                weight = units
        if weight > 0:
            yield _Use(id=(bucket.key, name), quota=bucket.quota, units=weight)


def _limit(name: str, quota: Quota, tally: Tally, heaviest: float, now: datetime) -> Limit:
    """A limit with what is counted in it already. It counts in units of the heaviest start."""
    match name:
        case "per_minute":
            return _window(tally.slices, SLICE_US, SLICES, heaviest, now)
        case "per_hour":
            return _window(tally.minutes, MINUTE_US, MINUTES, heaviest, now)
        case "per_day":
            return Period(ends=_ends(Per.DAY, quota.zone, now), used=tally.day[0] / heaviest)
        case "budget" if quota.budget is not None:
            _, micros = tally.day if quota.budget.per is Per.DAY else tally.month
            used = ceil(micros / MICROS / heaviest - EMPTY)
            return Period(ends=_ends(quota.budget.per, quota.zone, now), used=used)
        case "closed":
            return Hours()
        case _:
            return Rate()


def _window(used: Mapping[int, int], width_us: int, slots: int, heaviest: float, now: datetime) -> Window:
    begun = floor_to(now, width_us)
    return Window(
        slots=slots,
        slot_s=width_us / 1e6,
        begun_s=(to_us(now) - begun) / 1e6,
        used=[((start - begun) // width_us, units / heaviest) for start, units in used.items()],
    )


def _tune(limit: Limit, use: _Use, weights: set[float], now: datetime, t: float) -> None:
    """Give a limit the numbers of a quota; where all starts weigh the same, it lets whole ones through."""
    quota, name, heaviest = use.quota, use.id[1], max(weights)
    match limit:
        case Rate() if name == "rate":
            limit.tune(float(quota.rate or 0) / heaviest, quota.burst_units / heaviest, t)
        case Rate():
            limit.tune(float(quota.concurrency or 0) / heaviest, 0.0, t)
        case Hours():
            limit.tune(_turns(quota.closed, quota.zone, now), t)
        case Window() | Period():
            number = quota.budget.amount if name == "budget" and quota.budget else getattr(quota, name)
            most = float(number) / heaviest
            limit.tune(floor(most + EMPTY) if len(weights) == 1 else most)


def _ends(per: Per, zone: str, now: datetime) -> Callable[[float], float]:
    """When the local day or month ends that holds an instant; all in seconds from now."""
    period = day_of if per is Per.DAY else month_of

    def ends(t: float) -> float:
        return (period(zone, now + timedelta(seconds=t))[1] - now).total_seconds()

    return ends


def _turns(closed: Sequence[Closed], zone: str, now: datetime) -> Callable[[float], tuple[bool, float]]:
    """Whether an instant lies in closed hours, and when that changes."""

    def at_(t: float) -> tuple[bool, float]:
        at = now + timedelta(seconds=t)
        opens = reopens(closed, zone, at)
        changes = opens or min(_closes(hours, zone, at) for hours in closed)
        return opens is not None, (changes - now).total_seconds()

    return at_


def _closes(hours: Closed, zone: str, now: datetime) -> datetime:
    """When these hours begin next."""
    begin, end = day_of(zone, now)
    for _ in range(2):
        at = datetime.combine(
            begin.astimezone(ZoneInfo(zone)).date(), hours.since, ZoneInfo(zone)
        ).astimezone(UTC)
        if at > now:
            return at
        begin, end = day_of(zone, end)
    return end
