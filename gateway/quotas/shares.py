"""How a worker shares what may start soon among what waits, before it decides: fair between tenants, by lane. Pure.

The take deals the starts themselves, over all workers; this only keeps a worker from picking what could not start.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from heapq import heapify, heappop, heapreplace
from math import inf
from typing import NamedTuple

from gateway.quotas.asked import FLOORS

IN_VAIN, TRIAL = 0.5, 10
"""While others wait, at most so much of what may be picked is of one queue of which little starts; and of one of which
that is not known yet, at most so much of its room, so many at most, whoever waits."""


class Way(NamedTuple):
    """An account through which a `share` of a queue is reckoned to go (0 to 1, all ways together 1).

    `keys` name what it needs room of. While other ways are full it is worth `most` picks, however much room it has.
    """

    share: float
    most: float
    keys: tuple[str, ...]


AHEAD = 0.8
"""Of a token that a lane is owed: so much sooner it is picked where none of it waits for its start. Each worker
reckons by itself; that one of them has it at hand when the take owes it must not be left to chance."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiter:
    """A queue with something due.

    `uses` is how much room one of it is reckoned to use, above 0, at most 1: rules let few of some queues go.
    """

    name: str
    tenant: str
    weight: float
    lane: int
    oldest: datetime
    ways: tuple[Way, ...]
    uses: float
    on_trial: bool

    def room(self, left: Mapping[str, float]) -> float:
        """How many of it could start, all its ways together; `left` is room by key. Without a way nothing bars it."""
        if len(self.ways) <= 1:
            return min((left[key] for way in self.ways for key in way.keys), default=inf)
        return sum(
            min(max(0.0, min((left[key] for key in way.keys), default=inf)), way.most) for way in self.ways
        )


@dataclass(slots=True)
class Shares:
    """Deals room; remembers who had what, so that small rooms come round to everybody."""

    _reached: float = 0.0
    _had: dict[str, float] = field(default_factory=dict)
    _owed: dict[tuple[str, int], float] = field(default_factory=lambda: defaultdict(float))
    _claims: Counter[tuple[str, int]] = field(default_factory=Counter)

    def deal(
        self,
        waiting: Sequence[Waiter],
        left: Mapping[str, float],
        most: int,
        claims: Mapping[tuple[str, int], int],
    ) -> dict[str, int]:
        """How many of each queue to pick, `most` together; `left` is the room by key.

        `claims`: what this worker has decided on and waits for its start, by tenant and lane. Of a lane of which there
        is none one is picked before it is owed: the take deals floors to claims.
        """
        room, self._claims = dict(left), Counter(claims)
        open_ = [w for w in waiting if w.room(room) >= 1]
        for w in open_:
            self._had[w.tenant] = max(self._had.get(w.tenant, 0.0), self._reached)
        dealt = Counter[str]()
        self._fill(open_, room, dealt, most, {w.name: _at_most(w, room, most) for w in open_})
        self._fill([w for w in open_ if not w.on_trial], room, dealt, most, {})
        return dict(dealt)

    def _fill(
        self,
        waiting: Sequence[Waiter],
        room: dict[str, float],
        dealt: Counter[str],
        most: int,
        at_most: Mapping[str, float],
    ) -> None:
        """Deal until nothing that waits fits; what was dealt and the room are changed."""
        lines: dict[str, dict[int, list[Waiter]]] = defaultdict(lambda: defaultdict(list))
        for w in sorted(waiting, key=lambda w: w.oldest, reverse=True):
            lines[w.tenant][w.lane].append(w)
        turns = [(self._had[tenant], tenant) for tenant in lines]
        heapify(turns)
        number = dealt.total()
        while turns and number < most:
            _, tenant = turns[0]
            lanes = lines[tenant]
            lane = self._lane(tenant, sorted(lanes))
            first = lanes[lane][-1]
            if dealt[first.name] >= at_most.get(first.name, inf) or first.room(room) < first.uses:
                lanes[lane].pop()
                if not lanes[lane]:
                    del lanes[lane]
                if not lanes:
                    heappop(turns)
                continue
            number += 1
            dealt[first.name] += 1
            for way in first.ways:
                for key in way.keys:
                    room[key] -= first.uses * way.share
            self._charge(first, lanes)
            heapreplace(turns, (self._had[tenant], tenant))

    def _charge(self, chosen: Waiter, lanes: Iterable[int]) -> None:
        """What its tenant had, and what that tenant's lanes that wait are owed from now on."""
        tenant = chosen.tenant
        self._reached = self._had[tenant]
        self._had[tenant] += chosen.uses / chosen.weight
        for lane in lanes:
            self._owed[tenant, lane] += FLOORS[lane] * chosen.uses
        self._owed[tenant, chosen.lane] = max(-AHEAD, self._owed[tenant, chosen.lane] - chosen.uses)
        self._claims[tenant, chosen.lane] += 1

    def _lane(self, tenant: str, lanes: Sequence[int]) -> int:
        """Bulk, then normal, where it is owed its floor; else the highest that waits."""
        for lane in reversed(lanes):
            ahead = 0.0 if self._claims[tenant, lane] else AHEAD
            if FLOORS[lane] and self._owed[tenant, lane] >= 1 - ahead:
                return lane
        return lanes[0]


def _at_most(waiter: Waiter, room: Mapping[str, float], most: float) -> float:
    """How many of it are picked while others wait."""
    if waiter.on_trial:
        return min(TRIAL, max(1.0, IN_VAIN * waiter.room(room)))
    return most if waiter.uses == 1 else IN_VAIN * most
