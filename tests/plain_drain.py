"""A backlog drained start by start with the reference of the dealing and the counting: slow, and plainly right."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import timedelta

from gateway.domain import to_us
from gateway.quotas import counting, dealing
from gateway.quotas.asked import Group, Pace, Wanted
from gateway.quotas.counting import Span, Tally
from gateway.quotas.model import Unit, in_force

SECOND_US = 1_000_000
AT_MOST = 40
"""Starts of one group in one take."""


@dataclass
class Drained:
    """What one queue came to; seconds from the beginning."""

    starts: list = field(default_factory=list)
    expired: list = field(default_factory=list)

    @property
    def drains_at(self):
        return max([*self.starts, *self.expired], default=0.0)


class Drain:
    """Runs a backlog (gateway.quotas.flows.Waiting), every start by itself."""

    def __init__(self, waiting, quotas, now, *, tick_s=0.1):
        self.now, self.quotas, self.tick = now, quotas, tick_s
        self.state, self.tallies, self.periods = dealing.State(), defaultdict(Tally), {}
        self.ways = defaultdict(list)
        for one in waiting:
            due, expires = ((at - now).total_seconds() for at in (one.due, one.expires))
            self.ways[one.way] += [(max(0.0, due), expires)] * one.count
        for rows in self.ways.values():
            rows.sort(reverse=True)
        self.came = defaultdict(Drained)

    def run(self):
        """Until nothing waits; what came of each queue. Paces are there from the beginning, and empty."""
        places = {}
        for way in self.ways:
            for bucket in in_force(self.quotas, self.now).buckets(way.load):
                if "rate" in bucket.limits:
                    self._place(places, bucket)
        dealing.room(self.state, tuple(places), "w", 0.0, empty_at=0.0)
        t = 0.0
        while any(self.ways.values()):
            t += self.tick if self._step(t) else max(self.tick, self._idle(t))
        return self.came

    def _idle(self, t):
        """Nothing started: seconds that may be skipped, a little less than the next thing that can happen."""
        next_due = min((rows[-1][0] for rows in self.ways.values() if rows), default=t)
        return min(next_due - t, 60.0)

    def _step(self, t):
        at = self.now + timedelta(seconds=t)
        book = in_force(self.quotas, at)
        able = []
        for way, rows in self.ways.items():
            while rows and rows[-1][0] <= t and rows[-1][1] <= t:
                self.came[way.queue].expired.append(rows.pop()[1])
            if rows and rows[-1][0] <= t and not self._refuses(book, way, at):
                able.append(way)
        places, groups = {}, []
        for way in able:
            own = tuple(
                self._place(places, bucket) for bucket in book.buckets(way.load) if "rate" in bucket.limits
            )
            groups.append(self._group(way, own, t))
        wanted = Wanted(worker="w", paces=tuple(places), groups=tuple(groups))
        granted = dealing.take(self.state, wanted, t * SECOND_US, empty_at=t * SECOND_US)
        return sum(self._start(book, way, t, starts) for way, starts in zip(able, granted, strict=True)) > 0

    def _place(self, places, bucket):
        quota = bucket.quota
        pace = Pace(
            key=bucket.key,
            per_s=float(quota.rate),
            burst=quota.burst_units,
            version=quota.version,
            segments=quota.unit is Unit.SEGMENT,
        )
        return places.setdefault(pace, len(places))

    def _group(self, way, paces, t):
        ready = 0
        for due, expires in reversed(self.ways[way][-AT_MOST:]):
            if due > t or expires <= t:
                break
            ready += 1
        return Group(
            pool=way.load.pool,
            tenant=way.load.tenant,
            weight=way.weight,
            lane=way.load.priority,
            paces=paces,
            segments=(int(way.segments),) * ready,
        )

    def _start(self, book, way, t, starts):
        begun = 0
        for after in starts:
            at = t + after / SECOND_US
            if self._refuses(book, way, self.now + timedelta(seconds=t)):
                break
            self._count(book, way, self.now + timedelta(seconds=t))
            self.ways[way].pop()
            self.came[way.queue].starts.append(at)
            begun += 1
        return begun

    def _weighs(self, bucket, way):
        units = int(way.segments) if bucket.quota.unit is Unit.SEGMENT else 1
        return units, counting.micros_of(bucket.quota.budget, way.price)

    def _refuses(self, book, way, at):
        return any(
            counting.refuses(bucket, self._tally(bucket, at), *self._weighs(bucket, way), at) is not None
            for bucket in book.buckets(way.load)
        )

    def _count(self, book, way, at):
        for bucket in book.buckets(way.load):
            tally, quota = self._tally(bucket, at), bucket.quota
            for span in counting.spans(quota):
                tally.add(span, counting.under(span, quota.zone, at), *self._weighs(bucket, way))

    def _tally(self, bucket, at):
        """As it counts now: what is too old is forgotten."""
        tally, zone = self.tallies[bucket.key], bucket.quota.zone
        for span, counted in ((Span.SLICE, tally.slices), (Span.MINUTE, tally.minutes)):
            oldest = counting.since(span, zone, at)
            for start in [start for start in counted if start < oldest]:
                del counted[start]
        periods = [to_us(span_of(zone, at)[0]) for span_of in (counting.day_of, counting.month_of)]
        day, month = self.periods.setdefault(bucket.key, periods)
        if day != periods[0]:
            tally.day = (0, 0)
        if month != periods[1]:
            tally.month = (0, 0)
        self.periods[bucket.key] = periods
        return tally
