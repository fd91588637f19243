"""Accounts that are down are asked after, and what waits for them is let in when they are back.

First the provider is asked something harmless (`account check`). When it answers well, one waiting reminder at a
time is made due; when three of them were taken the breaker closes, and the rest follows.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from typing import Protocol, cast

from gateway.accounts import Accounts, Connected
from gateway.ports import Checks, Moment
from gateway.standing import RAMP, Breaker, Standing
from gateway.sweep import forever
from gateway.telemetry import get

EVERY = 1.0
"""Seconds between two rounds."""
ASKED_S = 20.0
"""The longest that a provider is asked."""
AT_ONCE = 1_000
"""Reminders that are let in through one account a round, while its breaker has just closed."""

log = get(__name__)


class Leads(Protocol):
    """Who does what only one may do."""

    async def leads(self, duty: str) -> bool:
        """Whether this process leads a duty now; takes or keeps the lease."""


class StandingStore(Protocol):
    """Where it is kept how accounts stand."""

    async def standings(self) -> tuple[Moment, Mapping[str, Standing]]:
        """Every account of which something is to be said, by pool."""

    async def checked(self, pool: str, *, ok: bool) -> Standing | None:
        """Write what asking came to; how the account stands then, None where nothing was said of it."""

    async def let_in(self, pool: str, most: int, beside: Collection[str]) -> int:
        """Make up to `most` reminders due that wait for an account, or for one `beside` it; how many there were."""


class Probing:
    """Asks after accounts that are down. One leader at a time."""

    def __init__(self, *, store: StandingStore, leads: Leads, accounts: Accounts) -> None:
        self._store = store
        self._leads = leads
        self._accounts = accounts

    async def run(self) -> None:
        """Ask until cancelled."""
        await forever(self.once, lambda: EVERY)

    async def once(self) -> None:
        """One round."""
        if not await self._leads.leads("accounts"):
            return
        moment, standings = await self._store.standings()
        waited = {pool: most for pool, s in standings.items() if (most := _opens(s, moment)) > 0}
        due = [pool for pool, s in standings.items() if _asks(s, moment)]
        for pool, most in waited.items():
            await self._store.let_in(pool, most, self._beside(pool, standings[pool], moment))
        await asyncio.gather(*(self._ask(pool) for pool in due))

    def _beside(self, pool: str, standing: Standing, moment: Moment) -> Collection[str]:
        """The accounts that it stands in for: what waits for them learns that it is back."""
        connected = self._accounts.in_pool(pool)
        back = standing.closed_at is None or moment.real - standing.closed_at < RAMP
        return self._accounts.beside(connected) if connected is not None and back else ()

    async def _ask(self, pool: str) -> None:
        connected = self._accounts.in_pool(pool)
        ok = connected is not None and await answers(connected)
        await self._store.checked(pool, ok=ok)
        log.info("account_asked", account=pool, outcome="answers" if ok else "does_not_answer")


def _opens(standing: Standing, moment: Moment) -> int:
    """How many reminders that wait for an account may come now."""
    match standing.breaker:
        case Breaker.HALF_OPEN if standing.barred(moment.real) is None:
            return 1
        case Breaker.CLOSED if standing.closed_at is not None:
            return AT_ONCE
        case _:
            return 0


def _asks(standing: Standing, moment: Moment) -> bool:
    return standing.breaker is Breaker.OPEN and standing.back_at(moment.real) == moment.real


async def answers(connected: Connected) -> bool:
    """Whether an account's provider answers a harmless question well; true where there is none to ask."""
    if not hasattr(connected.adapter, "check"):
        return True
    try:
        async with asyncio.timeout(ASKED_S):
            return (await cast("Checks", connected.adapter).check()).ok
    except Exception as wrong:  # noqa: BLE001 (whatever goes wrong in an adapter, the account is not usable)
        log.warning("account_check_failed", account=connected.account.name, error=type(wrong).__name__)
        return False
