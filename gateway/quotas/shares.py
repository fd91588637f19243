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


class Turn(NamedTuple):
    """One that is to be picked, of this queue, while these lanes of its tenant waited."""

    waiter: Waiter
    lanes: tuple[int, ...]


def numbers(dealt: Iterable[Turn]) -> dict[str, int]:
    """How many of each queue are to be picked."""
    return dict(Counter(turn.waiter.name for turn in dealt))


@dataclass(slots=True)
class _Memory:
    """Who had what: how far the dealing came, what each tenant had, and what its lanes are owed."""

    reached: float = 0.0
    had: dict[str, float] = field(default_factory=dict)
    owed: dict[tuple[str, int], float] = field(default_factory=lambda: defaultdict(float))

    def copy(self) -> _Memory:
        return _Memory(self.reached, self.had.copy(), self.owed.copy())

    def comes_in(self, tenant: str) -> None:
        """Who did not wait before has nothing saved up."""
        self.had[tenant] = max(self.had.get(tenant, 0.0), self.reached)

    def charge(self, turn: Turn) -> None:
        """What its tenant had, and what that tenant's lanes that wait are owed from now on."""
        chosen, tenant = turn.waiter, turn.waiter.tenant
        self.reached = self.had[tenant]
        self.had[tenant] += chosen.uses / chosen.weight
        for lane in turn.lanes:
            self.owed[tenant, lane] += FLOORS[lane] * chosen.uses
        self.owed[tenant, chosen.lane] = max(-AHEAD, self.owed[tenant, chosen.lane] - chosen.uses)


class Shares:
    """Deals room; remembers who had what, so that small rooms come round to everybody."""

    def __init__(self) -> None:
        self._memory = _Memory()

    def deal(
        self,
        waiting: Sequence[Waiter],
        left: Mapping[str, float],
        most: int,
        claims: Mapping[tuple[str, int], int],
    ) -> list[Turn]:
        """What to pick, `most` at most, in turn; `left` is the room by key. It counts once it is `decided` on.

        `claims`: what this worker has decided on and waits for its start, by tenant and lane. Of a lane of which there
        is none one is picked before it is owed: the take deals floors to claims.
        """
        return _Dealing(self._memory.copy(), Counter(claims)).deal(waiting, left, most)

    def decided(self, dealt: Iterable[Turn], number: Mapping[str, int]) -> None:
        """Of what was dealt so many of each queue were decided on. The rest was not picked, or not to be had."""
        left = Counter(number)
        for turn in dealt:
            if left[turn.waiter.name] > 0:
                left[turn.waiter.name] -= 1
                self._memory.comes_in(turn.waiter.tenant)
                self._memory.charge(turn)


class _Dealing:
    """One dealing, on a copy of what is remembered."""

    def __init__(self, memory: _Memory, claims: Counter[tuple[str, int]]) -> None:
        self._memory = memory
        self._claims = claims
        self._turns: list[Turn] = []

    def deal(self, waiting: Sequence[Waiter], left: Mapping[str, float], most: int) -> list[Turn]:
        """All turns."""
        room = dict(left)
        open_ = [w for w in waiting if w.room(room) >= 1]
        for w in open_:
            self._memory.comes_in(w.tenant)
        self._fill(open_, room, most, {w.name: _at_most(w, room, most) for w in open_})
        self._fill([w for w in open_ if not w.on_trial], room, most, {})
        return self._turns

    def _fill(
        self, waiting: Sequence[Waiter], room: dict[str, float], most: int, at_most: Mapping[str, float]
    ) -> None:
        """Deal until nothing that waits fits; the room is changed."""
        dealt = Counter(turn.waiter.name for turn in self._turns)
        lines: dict[str, dict[int, list[Waiter]]] = defaultdict(lambda: defaultdict(list))
        for w in sorted(waiting, key=lambda w: w.oldest, reverse=True):
            lines[w.tenant][w.lane].append(w)
        next_ = [(self._memory.had[tenant], tenant) for tenant in lines]
        heapify(next_)
        while next_ and len(self._turns) < most:
            _, tenant = next_[0]
            lanes = lines[tenant]
            lane = self._lane(tenant, sorted(lanes))
            first = lanes[lane][-1]
            if dealt[first.name] >= at_most.get(first.name, inf) or first.room(room) < first.uses:
                lanes[lane].pop()
                if not lanes[lane]:
                    del lanes[lane]
                if not lanes:
                    heappop(next_)
                continue
            dealt[first.name] += 1
            for way in first.ways:
                for key in way.keys:
                    room[key] -= first.uses * way.share
            turn = Turn(first, tuple(lanes))
            self._turns.append(turn)
            self._memory.charge(turn)
            self._claims[tenant, lane] += 1
            heapreplace(next_, (self._memory.had[tenant], tenant))

    def _lane(self, tenant: str, lanes: Sequence[int]) -> int:
        """Bulk, then normal, where it is owed its floor; else the highest that waits."""
        for lane in reversed(lanes):
            ahead = 0.0 if self._claims[tenant, lane] else AHEAD
            if FLOORS[lane] and self._memory.owed[tenant, lane] >= 1 - ahead:
                return lane
        return lanes[0]


def _at_most(waiter: Waiter, room: Mapping[str, float], most: float) -> float:
    """How many of it are picked while others wait."""
    if waiter.on_trial:
        return min(TRIAL, max(1.0, IN_VAIN * waiter.room(room)))
    return most if waiter.uses == 1 else IN_VAIN * most
