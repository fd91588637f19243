"""Which of the two sources grants: Redis while it answers, SQL while it does not, one row of SQL to say so.

Every grant carries the source and its epoch, and go refuses a stale one: a change ends every grant held.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol, TypeVar

from gateway.errors import Unavailable
from gateway.pace.redis import RedisPace
from gateway.pace.sql import SqlPace
from gateway.quotas.asked import Granted, Pace, Wanted
from gateway.store.pace import REDIS, SQL, Source
from gateway.telemetry import get
from gateway.work import Word

LOST_S, LOST_TIMES = 1.0, 3
"""Redis is given up when it failed for so long and so many times."""
GOOD_S = 3.0
"""It is trusted again after so long without a failure."""
PROBE_S = 0.3
OWN_S = 10.0
"""A change is known here before it is read with the configuration, which takes no longer than this."""

log = get(__name__)
T = TypeVar("T")


class Changes(Protocol):
    """The row that says who grants."""

    async def standing(self) -> tuple[Source, int]:
        """Who grants, and the database's now (µs)."""

    async def swap(self, epoch: int, to: str, *, above: int = 0) -> tuple[Source, bool]:
        """Let another grant in an epoch above these, unless it was changed since the first."""


class Switch:
    """gateway.quotas.asked.Grants over both. Without a `redis` SQL grants for good.

    `word`: the source and epoch as this process knows them; `run` must be running for Redis to be left and trusted
    again without anybody asking.
    """

    def __init__(
        self,
        *,
        sql: SqlPace,
        redis: RedisPace | None,
        sources: Changes,
        word: Callable[[], Word],
        monotonic: Callable[[], float],
    ) -> None:
        self._sql = sql
        self._redis = redis
        self._sources = sources
        self._word = word
        self._monotonic = monotonic
        self._own: Word = (SQL, 0)
        self._own_until = monotonic()
        self._failed: dict[str, tuple[float, int]] = {}
        self._good_since: float | None = None

    @property
    def word(self) -> Word:
        """Who grants, as far as this process knows."""
        known = self._word()
        return self._own if self._own[1] > known[1] and self._monotonic() < self._own_until else known

    async def take(self, wanted: Wanted) -> Granted:
        """Grant what may start."""
        return await self._ask(
            "take", lambda redis, epoch: redis.take(wanted, epoch), lambda: self._sql.take(wanted)
        )

    async def room(self, paces: Sequence[Pace], worker: str) -> list[float]:
        """How many units of each may start within ROOM_US."""
        return await self._ask(
            "room",
            lambda redis, epoch: redis.room(paces, worker, epoch),
            lambda: self._sql.room(paces, worker),
        )

    async def run(self) -> None:
        """Watch Redis until cancelled."""
        while self._redis is not None:
            try:
                await self._look(self._redis)
            except Unavailable:
                log.debug("pace_source_unknown")
            await asyncio.sleep(PROBE_S)

    async def _ask(
        self, what: str, redis: Callable[[RedisPace, int], Awaitable[T]], sql: Callable[[], Awaitable[T]]
    ) -> T:
        source, epoch = self.word
        if source == REDIS:
            if self._redis is None:
                await self._change(epoch, SQL)
            else:
                try:
                    answer = await redis(self._redis, epoch)
                except Unavailable:
                    if not await self._given_up(what, epoch):
                        raise
                else:
                    self._failed.pop(what, None)
                    return answer
        return await sql()

    async def _given_up(self, what: str, epoch: int) -> bool:
        """Redis failed in this once more; whether SQL grants from now on."""
        now = self._monotonic()
        self._good_since = None
        since, times = self._failed.get(what, (now, 0))
        self._failed[what] = (since, times + 1)
        if times + 1 < LOST_TIMES or now - since < LOST_S:
            return False
        await self._change(epoch, SQL)
        return self.word[0] == SQL

    async def _look(self, redis: RedisPace) -> None:
        source, epoch = self.word
        try:
            known = await redis.probe()
        except Unavailable:
            self._good_since = None
            if source == REDIS:
                await self._given_up("probe", epoch)
            return
        self._failed.pop("probe", None)
        now = self._monotonic()
        if self._good_since is None:
            self._good_since = now
        if source == SQL and now - self._good_since >= GOOD_S:
            standing, at = await self._sources.standing()
            if standing.source == SQL and standing.held(at):
                await self._change(standing.epoch, REDIS, above=known)

    async def _change(self, epoch: int, to: str, *, above: int = 0) -> None:
        standing, done = await self._sources.swap(epoch, to, above=above)
        self._own, self._own_until = (standing.source, standing.epoch), self._monotonic() + OWN_S
        self._failed.clear()
        if done:
            log.warning("pace_source_changed", source=standing.source, epoch=standing.epoch)
