"""Workers that ask for starts again and again, with the time as an argument, and a look at what they were given."""

from __future__ import annotations

import heapq
import random
from collections import Counter
from dataclasses import replace

from gateway.quotas import dealing
from gateway.quotas.asked import AHEAD_US, LATE_US, Group, Pace, Wanted

TICK_US = 20_000
SECOND = 1_000_000


def a_pace(key="a", per_s=50.0, burst=5, version=1, **more):
    return Pace(key=key, per_s=float(per_s), burst=burst, version=version, **more)


def a_group(tenant="acme", lane=1, paces=(0,), count=100, weight=1.0, pool="pool", segments=None):
    return Group(
        pool=pool,
        tenant=tenant,
        weight=weight,
        lane=lane,
        paces=paces,
        segments=(1,) * count if segments is None else segments,
    )


class Reference:
    """The reference as whoever grants: one state for all workers."""

    def __init__(self):
        self.state = dealing.State()

    def take(self, wanted, now):
        return dealing.take(self.state, wanted, now, empty_at=now + AHEAD_US)


class Crowd:
    """Workers that always have `held` starts waiting in each of their queues.

    `queues`: (tenant, lane, keys of its paces) or more of what a group has, each with the workers that hold it.
    """

    def __init__(self, granter, paces, queues, *, workers=4, held=20, seed=1):
        self.granter, self.held = granter, held
        self.paces = {pace.key: pace for pace in paces}
        self.queues = list(queues)
        self.random = random.Random(seed)
        self.began = self.now = 1e13
        self.turns = [(self.now + self.random.random() * TICK_US, f"w{number}") for number in range(workers)]
        heapq.heapify(self.turns)
        self.starts = []

    def run(self, seconds):
        """Let so much time pass; ticks come late now and then."""
        end = self.now + seconds * SECOND
        while self.turns[0][0] < end:
            self.now, worker = self.turns[0]
            self._ask(worker)
            late = self.random.random() * (50_000 if self.random.random() < 0.05 else 3_000)
            heapq.heapreplace(self.turns, (self.now + TICK_US + late, worker))
        self.now = end
        return self

    def join(self, worker):
        heapq.heappush(self.turns, (self.now, worker))

    def set(self, **changes):
        """Change a pace: a new version that reaches every worker at once."""
        for key, change in changes.items():
            old = self.paces[key]
            self.paces[key] = replace(old, version=old.version + 1, **change)

    def _ask(self, worker):
        groups = [
            a_group(**{"count": self.held, **queue}) for queue, of in self.queues if of in (None, worker)
        ]
        paces = tuple({key: None for group in groups for key in group.paces})
        wanted = Wanted(
            worker=worker,
            paces=tuple(self.paces[key] for key in paces),
            groups=tuple(replace(group, paces=tuple(map(paces.index, group.paces))) for group in groups),
        )
        answered = self.granter.take(wanted, self.now)
        for group, given in zip(groups, answered, strict=True):
            assert all(0 <= at <= AHEAD_US for at in given)
            late = self.random.random() * LATE_US  # a worker may be late, but not later
            units = group.segments[: len(given)]
            self.starts += [(self.now + at + late, group, n) for at, n in zip(given, units, strict=True)]

    def by(self, what, since=1, until=None):
        """Starts a second of each tenant or lane, between so many seconds after the beginning."""
        since, until = self.began + since * SECOND, self.now if until is None else self.began + until * SECOND
        found = Counter(what(group) for at, group, _ in self.starts if since <= at < until)
        seconds = (until - since) / SECOND
        return {name: count / seconds for name, count in sorted(found.items())}


def peak(starts, seconds):
    """The most units in any window of so many seconds, whatever its start."""
    units = sorted((at, n) for at, _, n in starts)
    first = total = most = 0
    for at, n in units:
        total += n
        while units[first][0] <= at - seconds * SECOND:
            total -= units[first][1]
            first += 1
        most = max(most, total)
    return most


def bound(pace, seconds):
    """What a window may hold: the pace, the burst, and what 250 ms are worth."""
    return pace.per_s * (seconds + (AHEAD_US + LATE_US) / SECOND) + pace.burst
