"""What follows a pause: a stop's recalls, an end that comes by itself, and what was put off is due again.

Whoever was refused, or put off by a worker that had not heard of the end, waits under the pause's id: for a minute
after the end all that still waits under it is made due, again and again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, cast

from gateway.accounts import Accounts
from gateway.domain import Tenant
from gateway.ports import Recalls
from gateway.sweep import Graves, forever
from gateway.telemetry import get

EVERY = 0.5
AT_ONCE = 8
"""Recalls under way at once."""
SLICES = 20
"""How many slices of what was put off are made due in one round."""

log = get(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Handed:
    """An attempt that a provider has, or is just being given (`calling`)."""

    tenant: Tenant
    ref: str
    account: str
    calling: bool
    provider_id: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopped:
    """A stop, and attempts that came before it whose end is not known: at most one round's worth."""

    owner: Tenant
    id: str
    handed: tuple[Handed, ...]


class FollowUpStore(Protocol):
    """The store, as this uses it."""

    async def waits(self) -> bool:
        """Whether there is anything to do: asked of it twice a second."""

    async def end(self) -> None:
        """End those whose time is over, on record."""

    async def let_go(self) -> bool:
        """Make due a slice of what waits under those that ended; whether there may be more."""

    async def stops(self, recallable: Sequence[str]) -> list[Stopped]:
        """Stops that were not followed up yet, with what these adapters might take back."""

    async def followed(self, stop: Stopped, recalled: Iterable[str], may_arrive: Iterable[str]) -> None:
        """Note what a provider took back and what it did not; the stop is done with when nothing is left."""


class FollowUp:
    """Follows up on pauses and stops. One leader at a time."""

    def __init__(self, *, store: FollowUpStore, graves: Graves, accounts: Accounts) -> None:
        self._store = store
        self._graves = graves
        self._accounts = accounts
        self._slots = asyncio.Semaphore(AT_ONCE)

    async def run(self) -> None:
        """Follow up until cancelled."""
        await forever(self.once, lambda: EVERY)

    async def once(self) -> None:
        """One round."""
        if not await self._graves.leads("followup") or not await self._store.waits():
            return
        await self._store.end()
        for _ in range(SLICES):
            if not await self._store.let_go():
                break
        for stop in await self._store.stops(self._accounts.recallable()):
            await self._recall(stop)

    async def _recall(self, stop: Stopped) -> None:
        """Ask for back what the providers have; a call that is still under way is asked for once it has ended."""
        there = [handed for handed in stop.handed if not handed.calling]
        taken = await asyncio.gather(*(self._take_back(handed) for handed in there))
        recalled = [handed.ref for handed, back in zip(there, taken, strict=True) if back]
        left = [handed.ref for handed, back in zip(there, taken, strict=True) if not back]
        await self._store.followed(stop, recalled, left)

    async def _take_back(self, handed: Handed) -> bool:
        connected = self._accounts.named(handed.tenant, handed.account)
        if connected is None or handed.provider_id is None or not hasattr(connected.adapter, "cancel"):
            return False
        async with self._slots:
            try:
                async with asyncio.timeout(connected.adapter.call_timeout.total_seconds()):
                    return await cast("Recalls", connected.adapter).cancel(handed.provider_id)
            except TimeoutError:
                return False
            except Exception as wrong:
                log.exception("recall_failed", adapter=connected.account.adapter, error=type(wrong).__name__)
                return False
