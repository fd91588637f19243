"""What waits, from the roll-ups: for the metrics, for `/v1/stats`, and for saying no before the store suffers."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Hashable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from gateway.domain import Priority, Tenant
from gateway.errors import Overloaded
from gateway.sweep import forever
from gateway.telemetry import Metrics

EVERY_S = 2.0
FOLDED_EVERY_S = 10.0
"""Where nobody looks, what statements appended is added up so often: it only keeps looking cheap."""
IDLE = 20
"""Looking may take a twentieth of the time: where it takes long, it is done less often."""
MOST_DUE, MOST_DUE_OF_ALL = 200_000, 1_000_000
"""Due reminders of a tenant beyond which nothing new of it is taken in, as it would come hours late; and of all."""
RETRY_AFTER_S = 10
BATCHES, WAIT = 2, 8
"""Batches that a process takes in at once, and that wait for their turn: more would only wait for the store."""
SOON_S = 1
"""After this a batch for which there was no place may come again."""

K = TypeVar("K", bound=Hashable)


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Lane:
    """Where reminders wait for a pace: what the figures of a backlog are given by."""

    rank: int
    """Of the priority: 0 goes first."""
    tenant: Tenant
    channel: str

    @property
    def priority(self) -> str:
        """The priority's word."""
        return list(Priority)[self.rank]


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Reminders that stand alike; `reason` is empty where there is none."""

    lane: Lane
    state: str
    reason: str
    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """How much of a lane is due, and for how long the oldest of it, in seconds."""

    number: int = 0
    oldest_s: float = 0.0

    def __add__(self, other: Due) -> Due:
        return Due(number=self.number + other.number, oldest_s=max(self.oldest_s, other.oldest_s))


@dataclass(frozen=True, slots=True, kw_only=True)
class Rolled:
    """The backlog at an instant of the policy clock: every reminder there is, by how it stands, and what is due."""

    groups: tuple[Group, ...]
    lanes: Mapping[Lane, Due]
    """Every lane that has reminders, whether any is due or not."""

    @property
    def due(self) -> Due:
        """All that is due."""
        return sum(self.lanes.values(), Due())

    def number(self, by: Callable[[Group], K], state: str | None = None) -> dict[K, int]:
        """Reminders (of one state) by whatever is asked, the most first."""
        added: Counter[K] = Counter()
        for group in self.groups:
            if state in (None, group.state):
                added[by(group)] += group.number
        return dict(added.most_common())

    def shown(self) -> dict[str, Any]:
        """As `/v1/stats` gives it."""
        return {
            "states": self.number(lambda group: group.state),
            "due": self.due.number,
            "oldest_due_s": round(self.due.oldest_s, 3),
            "deferred": self.number(lambda group: group.reason, "deferred"),
            "lanes": [
                {
                    "channel": lane.channel,
                    "tenant": lane.tenant.partition("/")[0],
                    "priority": lane.priority,
                    "due": due.number,
                    "oldest_due_s": round(due.oldest_s, 3),
                }
                for lane, due in sorted(self.lanes.items())
                if due.number
            ],
        }


class Count(Protocol):
    """Where the roll-ups are."""

    async def fold(self) -> None:
        """Add up what statements appended, unless somebody is at it."""

    async def rolled(self) -> Rolled:
        """The whole backlog now, cheaply at any size."""


class Backlog:
    """Looks now and then, and refuses new work while too much is due."""

    def __init__(self, count: Count, metrics: Metrics) -> None:
        self._count = count
        self._metrics = metrics
        self._due: Counter[Tenant] = Counter()
        self._took = 0.0
        self._batches = 0
        self._turns = asyncio.Semaphore(BATCHES)

    async def run(self) -> None:
        """Look until cancelled."""
        await forever(self._timed, lambda: max(EVERY_S, IDLE * self._took))

    async def fold(self) -> None:
        """Only keep looking cheap for others, until cancelled."""
        await forever(self._count.fold, lambda: FOLDED_EVERY_S)

    async def _timed(self) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        await self.once()
        self._took = loop.time() - began

    async def once(self) -> None:
        """Look once."""
        await self._count.fold()
        rolled = await self._count.rolled()
        self._due = Counter()
        for lane, due in rolled.lanes.items():
            self._due[lane.tenant] += due.number
        lanes = [((lane.channel, lane.tenant, lane.priority), due) for lane, due in rolled.lanes.items()]
        self._metrics.show("due", {labels: due.number for labels, due in lanes})
        self._metrics.show("oldest_due_seconds", {labels: due.oldest_s for labels, due in lanes})
        self._metrics.show("deferred", rolled.number(lambda g: (g.lane.tenant, g.reason), "deferred"))
        self._metrics.show("reminders", rolled.number(lambda g: (g.lane.tenant, g.state)))

    def check(self, tenant: Tenant) -> None:
        """Overloaded while more of a tenant, or of all, is due than can be called in time, whatever holds it."""
        if self._due[tenant] > MOST_DUE or self._due.total() > MOST_DUE_OF_ALL:
            raise Overloaded(retry_after_s=RETRY_AFTER_S)

    def room(self) -> None:
        """Overloaded while as many batches wait for their turn as may: asked before a body is read for nothing."""
        if self._batches >= BATCHES + WAIT:
            raise Overloaded(retry_after_s=SOON_S)

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """A batch's turn to be taken in; Overloaded while too many wait for theirs. It asks not what is due."""
        self.room()
        self._batches += 1
        try:
            async with self._turns:
                yield
        finally:
            self._batches -= 1
