"""What quotas need from time to time: an end that comes by itself, budgets that ring, counts that are too old.

Workers go by a quota's end without it, at once; this puts it on record.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from gateway.sweep import Graves, forever
from gateway.telemetry import get

EVERY = 5.0
PRUNED_EVERY = 12
"""Rounds."""

log = get(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarm:
    """A budget of which so much is used (1: all of it): one bucket's, once a day or month."""

    quota: str
    of: str
    used: float


class UpkeepStore(Protocol):
    """The store, as this uses it."""

    async def take_back(self) -> None:
        """What was set until an instant that has come gives way to what it stood for, on record."""

    async def alarms(self) -> Sequence[Alarm]:
        """Budgets of which the share that rings is used, each once a day or month."""

    async def prune(self) -> None:
        """Delete counts that are too old to matter."""


class Upkeep:
    """Looks after quotas. One leader at a time."""

    def __init__(self, *, store: UpkeepStore, graves: Graves) -> None:
        self._store = store
        self._graves = graves
        self._round = 0

    async def run(self) -> None:
        """Look after them until cancelled."""
        await forever(self.once, lambda: EVERY)

    async def once(self) -> None:
        """One round."""
        if not await self._graves.leads("quotas"):
            return
        await self._store.take_back()
        for alarm in await self._store.alarms():
            log.warning("budget_alarm", quota=f"{alarm.quota}|{alarm.of}", used=round(alarm.used, 3))
        if self._round % PRUNED_EVERY == 0:
            await self._store.prune()
        self._round += 1
