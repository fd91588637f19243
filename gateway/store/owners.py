"""Which processes may hold intents, and which are surely dead.

On SQLite the data folder's lock admits one process: whoever holds it knows that every earlier owner is dead.
On PostgreSQL an owner holds a session lock on a direct connection and writes a heartbeat, both from a thread
of its own; dead means lock free *and* heartbeat older than DEAD_AFTER (a terminated backend or a restarted
server frees the lock of a living owner). Who was judged dead and beats again is alive: what was taken from it
meanwhile it finds void or unknown.
"""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import suppress
from datetime import timedelta

import asyncpg
from sqlalchemy import insert, or_, select, text, update
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.domain import to_us
from gateway.store import schema
from gateway.store.database import Database
from gateway.telemetry import get

BEAT_S = 2.0
AGAIN_S = 0.5
"""Seconds between two tries to reach the server and take the lock."""
DEAD_AFTER = timedelta(seconds=10)
FRESH_S = 8.0
"""A heartbeat older than this bars calls: others may soon take this owner for dead."""
STEADY_S = 3.0
"""Whoever has held its own lock for less than this judges nobody: after an outage all hearts come back first."""
LEASE = timedelta(seconds=10)

log = get(__name__)
_OWNER, _LEASE = schema.owner.c, schema.lease.c
_HOLDERS = select(schema.attempt.c.owner).where(schema.attempt.c.state.in_(("intent", "calling")))


class Owners:
    """The process's own place among the owners, and what it knows of the others."""

    def __init__(self, database: Database, *, owner_id: str, lock_key: int, direct_url: str | None) -> None:
        self._db = database
        self.id = owner_id
        self._lock_key = lock_key
        self._heart = Heart(direct_url, owner_id, lock_key) if direct_url else None

    @property
    def fit(self) -> bool:
        """Whether this process may start calls: always on SQLite, with lock and fresh heartbeat elsewhere."""
        return self._heart is None or self._heart.fit

    async def register(self) -> None:
        """Enter this process among the owners; on SQLite all earlier ones are dead from now on."""
        async with self._db.write() as conn:
            now = to_us((await self._db.moment(conn)).real)
            if self._db.sqlite:
                await conn.execute(update(schema.owner).where(_OWNER.dead_at.is_(None)).values(dead_at=now))
            await conn.execute(
                insert(schema.owner).values(
                    id=self.id, lock_key=self._lock_key, started_at=now, heartbeat_at=now
                )
            )
        if self._heart is not None:
            await self._heart.start()

    async def dead(self) -> list[str]:
        """Others confirmed dead, however long ago, that have attempts to their name which are not over."""
        async with self._db.read() if self._db.sqlite else self._db.write() as conn:
            now = (await self._db.moment(conn)).real
            if self._heart is not None and self._heart.steady:
                await self._confirm(conn, to_us(now - DEAD_AFTER), to_us(now))
            rows = await conn.execute(
                select(_OWNER.id)
                .where(_OWNER.dead_at.is_not(None), _OWNER.id != self.id, _OWNER.id.in_(_HOLDERS))
                .order_by(_OWNER.id)
                .limit(1000)
            )
            return [r.id for r in rows]

    async def _confirm(self, conn: AsyncConnection, stale: int, now: int) -> None:
        """Mark as dead whose heartbeat is old and whose lock can be had."""
        rows = await conn.execute(
            select(_OWNER.id, _OWNER.lock_key).where(
                _OWNER.dead_at.is_(None), _OWNER.heartbeat_at < stale, _OWNER.id != self.id
            )
        )
        for row in rows.all():
            if await conn.scalar(text("SELECT pg_try_advisory_xact_lock(:key)"), {"key": row.lock_key}):
                await conn.execute(update(schema.owner).where(_OWNER.id == row.id).values(dead_at=now))

    async def leads(self, duty: str) -> bool:
        """Take or keep the lease on a duty; one owner has it at a time (on SQLite there is but one)."""
        if self._db.sqlite:
            return True
        async with self._db.write() as conn:
            now = (await self._db.moment(conn)).real
            values = {"name": duty, "owner": self.id, "until": to_us(now + LEASE)}
            row = await conn.execute(
                postgresql.insert(schema.lease)
                .values(values)
                .on_conflict_do_update(
                    index_elements=[_LEASE.name],
                    set_={"owner": self.id, "until": values["until"]},
                    where=or_(_LEASE.owner == self.id, _LEASE.until < to_us(now)),
                )
                .returning(_LEASE.owner)
            )
            return bool(row.scalar() == self.id)

    async def leave(self) -> None:
        """Say goodbye after a clean drain: what is still to this owner's name may be taken over at once."""
        if self._heart is not None:
            await self._heart.stop()
        async with self._db.write() as conn:
            now = to_us((await self._db.moment(conn)).real)
            await conn.execute(update(schema.owner).where(_OWNER.id == self.id).values(dead_at=now))


_BEAT = (
    "UPDATE owner SET dead_at = NULL,"
    " heartbeat_at = CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000 AS BIGINT) WHERE id = $1"
)


class Heart:
    """Holds the session lock and beats, in a thread and a loop of its own, so that a busy process still beats."""

    def __init__(self, url: str, owner_id: str, lock_key: int) -> None:
        self._url = url
        self._id = owner_id
        self._key = lock_key
        self._beat_at = 0.0
        self._held_since = 0.0
        self._held = threading.Event()
        self._stop = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping = asyncio.Event()
        """Wakes the thread's loop, where `_stop` is looked at."""
        self._thread = threading.Thread(target=self._run, name="heart", daemon=True)

    @property
    def fit(self) -> bool:
        """Lock held and the last beat fresh."""
        return self._held.is_set() and time.monotonic() - self._beat_at < FRESH_S

    @property
    def steady(self) -> bool:
        """Fit, and so for a while."""
        return self.fit and time.monotonic() - self._held_since > STEADY_S

    async def start(self) -> None:
        """Begin; returns when the lock is held."""
        self._thread.start()
        await asyncio.to_thread(self._held.wait, 10)

    async def stop(self) -> None:
        """Let go of the lock and end the thread."""
        self._stop.set()
        if self._thread.is_alive():
            if self._loop is not None:
                with suppress(RuntimeError):  # the loop is closed: the thread ends by itself
                    self._loop.call_soon_threadsafe(self._stopping.set)
            await asyncio.to_thread(self._thread.join, 10)

    def _run(self) -> None:
        asyncio.run(self._live())

    async def _live(self) -> None:
        self._loop = asyncio.get_running_loop()
        while not self._stop.is_set():
            try:
                await self._session()
            except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError) as lost:
                log.warning("owner_lock_lost", error=type(lost).__name__)
            self._held.clear()
            await self._pause(AGAIN_S)

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()

    async def _session(self) -> None:
        conn = await asyncpg.connect(self._url, timeout=5, command_timeout=5)
        try:
            if not await conn.fetchval("SELECT pg_try_advisory_lock($1)", self._key):
                return
            self._held_since = time.monotonic()
            while not self._stop.is_set():
                await conn.execute(_BEAT, self._id)
                self._beat_at = time.monotonic()
                self._held.set()
                await self._pause(BEAT_S)
        finally:
            await conn.close(timeout=2)
