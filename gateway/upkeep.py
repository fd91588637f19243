"""What quotas need from time to time: an end that comes by itself, budgets that ring, counts that are too old.

Workers go by a quota's end without it, at once; this puts it on record. And what a quota put off until its day, month
or hours begin anew is due at once when somebody changes it.
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
HEARD_S = 10.0
"""Every worker has heard of a change by then: nothing is put off by what stood before."""
SLICES = 20
"""How many slices of what was put off are made due in one round."""

log = get(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarm:
    """A budget of which so much is used (1: all of it): one bucket's, once a day or month."""

    quota: str
    of: str
    used: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Changed:
    """A quota that was set, changed or taken away of late, `age_s` seconds ago."""

    owner: str
    name: str
    version: int
    age_s: float


class UpkeepStore(Protocol):
    """The store, as this uses it."""

    async def changed(self) -> Sequence[Changed]:
        """Quotas that changed of late."""

    async def let_go(self, changed: Changed) -> bool:
        """Make due a slice of what one put off for long before it changed; whether there may be more."""

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
        self._let_go: dict[tuple[str, str], int] = {}
        """Versions of quotas before which nothing is put off any more."""

    async def run(self) -> None:
        """Look after them until cancelled."""
        await forever(self.once, lambda: EVERY)

    async def once(self) -> None:
        """One round."""
        if not await self._graves.leads("quotas"):
            return
        await self._store.take_back()
        for changed in await self._store.changed():
            await self._due_again(changed)
        for alarm in await self._store.alarms():
            log.warning("budget_alarm", quota=f"{alarm.quota}|{alarm.of}", used=round(alarm.used, 3))
        if self._round % PRUNED_EVERY == 0:
            await self._store.prune()
        self._round += 1

    async def _due_again(self, changed: Changed) -> None:
        key = changed.owner, changed.name
        if self._let_go.get(key) == changed.version:
            return
        for _ in range(SLICES):
            if not await self._store.let_go(changed):
                break
        else:
            return
        if changed.age_s > HEARD_S:
            self._let_go[key] = changed.version
