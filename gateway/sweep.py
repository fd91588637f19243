"""What the bell forgot and what the dead left behind: always on, whatever Redis does."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from typing import Protocol

from gateway import outcomes
from gateway.accounts import Accounts
from gateway.endings import DispatchTx, freed, outcome_entry
from gateway.errors import Unavailable
from gateway.poison import sifted
from gateway.telemetry import Metrics, get
from gateway.work import Attempt, Key, Queue

EVERY = 1.0
"""Seconds between two sweeps, give or take a quarter (`jitter`)."""
GRACE = timedelta(seconds=2)
"""How long past its permit an intent is left to its owner's own withdrawal."""
LIMIT = 500

log = get(__name__)


class SweepTx(DispatchTx, Protocol):
    """One transaction, as the sweep uses it."""

    async def overdue_intents(self, grace: timedelta, limit: int) -> list[Key]:
        """Intents whose permit is over."""

    async def orphans(self, owners: Sequence[str], limit: int) -> dict[str, Attempt]:
        """What dead owners left."""

    async def frozen(self) -> bool:
        """Whether the database may have forgotten calls: then no intent is surely one that was not called."""


class SweepStore(Protocol):
    """The store, as the sweep uses it."""

    async def due_queues(self) -> list[Queue]:
        """Every queue with something due."""

    def transaction(self) -> AbstractAsyncContextManager[SweepTx]:
        """One transaction."""


class Graves(Protocol):
    """Who may still be alive."""

    async def dead(self) -> list[str]:
        """Owners confirmed dead that may still have attempts to their name."""

    async def leads(self, duty: str) -> bool:
        """Whether this process leads a duty now; takes or keeps the lease."""


class Sweep:
    """Wakes channels in this process, and for all of them voids and marks what no owner will finish.

    Several may mark at once: what one has locked the others find marked.
    """

    def __init__(
        self,
        *,
        store: SweepStore,
        graves: Graves,
        accounts: Accounts,
        wake: Callable[[str], object],
        metrics: Metrics,
        jitter: Callable[[], float],
        quarantine: timedelta = outcomes.QUARANTINE,
    ) -> None:
        self._store = store
        self._graves = graves
        self._accounts = accounts
        self._wake = wake
        self._metrics = metrics
        self._jitter = jitter
        self._quarantine = quarantine

    async def run(self) -> None:
        """Sweep until cancelled; a store that is away is waited for."""
        await forever(self.once, lambda: EVERY * (0.75 + self._jitter() / 2))

    async def once(self) -> None:
        """One sweep."""
        for channel in {queue.channel for queue in await self._store.due_queues()}:
            self._wake(channel)
        await self._bury()  # whoever leads may be the one that died
        if await self._graves.leads("sweep"):
            await self._void_overdue()
        self._metrics.swept()

    async def _void_overdue(self) -> None:
        async with self._store.transaction() as tx:
            if await tx.frozen():
                return
            voided = await tx.void(await tx.overdue_intents(GRACE, LIMIT))
        await freed(self._store, [(a.tenant, a.person) for a in voided])

    async def _bury(self) -> None:
        """A dead owner's intents were surely not called; of its calls nobody knows, so they count."""
        dead = await self._graves.dead()
        if not dead:
            return
        async with self._store.transaction() as tx:
            if await tx.frozen():
                return
            left = (await tx.orphans(dead, LIMIT)).values()
            voided = await tx.void([(a.tenant, a.ref) for a in left if a.state == "intent"])
        await freed(self._store, [(a.tenant, a.person) for a in voided])
        called = [a.ref for a in left if a.state == "calling"]
        _, broken = await sifted(called, self._mark) if called else ((), [])
        for one in broken:
            log.error("mark_failed", attempt=one.item, error=type(one.error).__name__, exc_info=one.error)

    async def _mark(self, refs: Sequence[str], alone: bool) -> None:  # noqa: ARG002, FBT001 (sifted)
        """Of these calls nobody knows. Whatever one of them breaks on holds up no other."""
        async with self._store.transaction() as tx:
            if await tx.frozen():
                return
            called = [a for a in (await tx.attempts(refs)).values() if a.state == "calling"]
            steps = await tx.steps_after(called)
            lost = [
                outcomes.unknown(
                    a, self._accounts.ways(a.adapter), tx.moment, self._quarantine, steps.get(a.ref)
                )
                for a in called
            ]
            await tx.finish(lost)
            await tx.append([outcome_entry(o, tx.moment) for o in lost])


async def forever(step: Callable[[], Awaitable[None]], pause: Callable[[], float]) -> None:
    """Do a duty again and again; a store that is away, or a mistake of ours, ends one round and not the duty."""
    while True:
        try:
            await step()
        except Unavailable:
            log.warning("store_away")
        except Exception as wrong:
            log.exception("duty_failed", error=type(wrong).__name__)
        await asyncio.sleep(pause())
