"""How much waits, for the metrics, and for saying no before the store suffers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from gateway.errors import Overloaded
from gateway.sweep import forever
from gateway.telemetry import Metrics

EVERY_S = 2.0
MOST_DUE = 200_000
"""Due reminders beyond which nothing new is taken in: what is due already would come hours late."""
RETRY_AFTER_S = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """What waits now: due reminders (counted up to MOST_DUE + 1), seconds of the oldest, unknown attempts."""

    due: int
    oldest_s: float
    unknown: int


class Count(Protocol):
    """Where it is counted."""

    async def waiting(self, most: int) -> Waiting:
        """Count, cheaply at any size."""


class Backlog:
    """Counts now and then, and refuses new work while too much is due."""

    def __init__(self, count: Count, metrics: Metrics) -> None:
        self._count = count
        self._metrics = metrics
        self._due = 0

    async def run(self) -> None:
        """Count until cancelled."""
        await forever(self.once, lambda: EVERY_S)

    async def once(self) -> None:
        """Count once."""
        waiting = await self._count.waiting(MOST_DUE + 1)
        self._due = waiting.due
        self._metrics.backlog(due=waiting.due, oldest_s=waiting.oldest_s, unknown=waiting.unknown)

    def check(self) -> None:
        """Overloaded while more is due than can be called in time."""
        if self._due > MOST_DUE:
            raise Overloaded(retry_after_s=RETRY_AFTER_S)
