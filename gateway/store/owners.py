"""Which processes may hold intents, and which are surely dead.

On SQLite the data folder's lock admits one process: whoever holds it knows that every earlier owner is dead.
On PostgreSQL an owner holds a session lock on a direct connection and writes a heartbeat, both from a thread
of its own; dead means lock free *and* heartbeat older than DEAD_AFTER (a terminated backend or a restarted
server frees the lock of a living owner). A process that stands still, or whose host is gone without a word, keeps its
lock: after GIVEN_UP its session is ended by whoever finds it so, and a process that could not beat for as long ends
itself. Who was judged dead and beats again is alive: what was taken from it meanwhile it finds void or unknown.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Any

import asyncpg
from sqlalchemy import ColumnElement, Row, and_, delete, insert, literal, not_, or_, select, text, update
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.domain import to_us
from gateway.store import schema, suspects
from gateway.store.database import Database
from gateway.telemetry import get
from gateway.work import Key

BEAT_S = 1.5
AGAIN_S = 0.5
"""Seconds between two tries to reach the server and take the lock."""
DEAD_AFTER = timedelta(seconds=6)
GIVEN_UP = timedelta(minutes=4)
"""Past the permit, the longest call of an adapter and the quarantine: no call of such an owner is still under way."""
FRESH_S = 5.0
"""A heartbeat begun longer ago than this bars calls: others may soon take this owner for dead."""
STEADY_S = 3.0
"""After an outage all hearts come back first: whose own session was lost, or whose server began anew, judges nobody
for so long."""
LEASE = timedelta(seconds=4)
RENEWED_S = LEASE.total_seconds() / 3
"""Whoever leads a duty asks again after this; whoever does not, when the leader's lease would run out."""

_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
"""Goes on while the machine is suspended: whoever wakes up after that has no fresh beat, and starts no call."""

log = get(__name__)
_OWNER, _LEASE = schema.owner.c, schema.lease.c
_LEASE_US, _DEAD_US, _GIVEN_UP_US = (
    span // timedelta(microseconds=1) for span in (LEASE, DEAD_AFTER, GIVEN_UP)
)
_HOLDERS = select(schema.attempt.c.owner).where(schema.attempt.c.state.in_(("intent", "calling")))


class Owners:
    """The process's own place among the owners, and what it knows of the others."""

    def __init__(
        self,
        database: Database,
        *,
        owner_id: str,
        lock_key: int,
        direct_url: str | None,
        place: str | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`place`: where this process runs, as operators are told it."""
        self._db = database
        self._place = place
        self._monotonic = monotonic
        self._leads: dict[str, tuple[bool, float]] = {}
        """What was said of each duty, and until when on our own clock that holds."""
        self.id = owner_id
        self._lock_key = lock_key
        self._heart = Heart(direct_url, owner_id, lock_key, place) if direct_url else None

    @property
    def fit(self) -> bool:
        """Whether this process may start calls: always on SQLite, with lock and fresh heartbeat elsewhere."""
        return self._heart is None or self._heart.fit

    async def register(self) -> None:
        """Enter this process among the owners; on SQLite all earlier ones are dead from now on."""
        async with self._db.write() as conn:
            now = to_us((await self._db.moment(conn)).real)
            if self._db.sqlite:
                before = (await conn.scalars(select(_OWNER.id).where(_OWNER.dead_at.is_(None)))).all()
                await self._bury(conn, before, now)
            await conn.execute(
                insert(schema.owner).values(
                    id=self.id, lock_key=self._lock_key, started_at=now, heartbeat_at=now, place=self._place
                )
            )
        if self._heart is not None:
            await self._heart.start()
            try:
                await self.dead()  # what ended others is known before anything is taken
            except Exception as wrong:
                log.exception("burying_failed", error=type(wrong).__name__)  # the sweep tries again

    async def takes(self, keys: Sequence[Key]) -> None:
        """See gateway.suspects.Notes."""
        await suspects.note(self._db, self.id, keys)

    async def tries(self, suspect: Key) -> bool:
        """See gateway.suspects.Notes."""
        async with self._db.write() as conn:
            now = (await self._db.moment(conn)).real
            return await suspects.tries(conn, self.id, suspect, to_us(now))

    async def lets_go(self) -> None:
        """See gateway.suspects.Notes."""
        async with self._db.write() as conn:
            await suspects.let_go(conn, self.id)

    async def told_quiet(self) -> bool:
        """Whether an operator told this worker to take nothing new (gateway.store.workers)."""
        async with self._db.read() as conn:
            asked = select(_OWNER.quiet_at).where(_OWNER.id == self.id)
            return await conn.scalar(asked) is not None

    async def dead(self) -> list[str]:
        """Others confirmed dead, however long ago, that have attempts to their name which are not over."""
        found = await self._gone()
        if self._heart is not None and self._heart.steady and any(row.dead_at is None for row in found):
            async with self._db.write() as conn:
                now = (await self._db.moment(conn)).real
                await self._confirm(conn, to_us(now))
            found = await self._gone()
        return [row.id for row in found if row.dead_at is not None]

    async def _gone(self) -> Sequence[Row[Any, Any]]:
        """Others that are silent, and those confirmed dead that have attempts to their name."""
        async with self._db.read() as conn:
            silent = and_(_OWNER.dead_at.is_(None), _silent(self._db.real))
            dead = and_(_OWNER.dead_at.is_not(None), _OWNER.id.in_(_HOLDERS))
            rows = await conn.execute(
                select(_OWNER.id, _OWNER.dead_at)
                .where(_OWNER.id != self.id, or_(silent, dead))
                .order_by(_OWNER.id)
                .limit(1000)
            )
            return rows.all()

    async def _confirm(self, conn: AsyncConnection, now: int) -> None:
        """Mark as dead whose heartbeat is old and whose lock can be had; end the sessions of those given up.

        Whom another buries just now is passed over: the lock that is not to be had is the other's.
        """
        rows = await conn.execute(
            select(_OWNER.id, _OWNER.lock_key, _OWNER.heartbeat_at)
            .where(_OWNER.dead_at.is_(None), _silent(literal(now)), _OWNER.id != self.id)
            .with_for_update(key_share=True, skip_locked=True)
        )
        gone = []
        for row in rows.all():
            if await conn.scalar(text("SELECT pg_try_advisory_xact_lock(:key)"), {"key": row.lock_key}):
                gone.append(row.id)
            elif row.heartbeat_at < now - _GIVEN_UP_US:
                log.warning("owner_given_up", owner=row.id)
                await conn.execute(END_SESSION, {"key": row.lock_key})
        await self._bury(conn, gone, now)

    async def _bury(self, conn: AsyncConnection, gone: Sequence[str], now: int) -> None:
        """Mark as dead; what they may have ended on is under suspicion."""
        if gone:
            await conn.execute(update(schema.owner).where(_OWNER.id.in_(gone)).values(dead_at=now))
            if accused := await suspects.accuse(conn, gone, now):
                log.warning("owners_ended_deciding", count=accused)

    async def leads(self, duty: str) -> bool:
        """Take or keep the lease on a duty; one owner has it at a time (on SQLite there is but one)."""
        if self._db.sqlite:
            return True
        now = self._monotonic()
        leads, until = self._leads.get(duty, (False, now))
        if until > now:
            return leads
        if leads:
            await self._renew(now)
            if self._leads[duty][1] > now:
                return True
        leads, lasts_s = await self._ask_for(duty)
        self._leads[duty] = leads, now + lasts_s
        return leads

    async def _renew(self, now: float) -> None:
        """Keep all leases that are still this owner's."""
        async with self._db.write() as conn:
            kept = await conn.execute(
                update(schema.lease)
                .where(_LEASE.owner == self.id)
                .values(until=self._db.real + _LEASE_US)
                .returning(_LEASE.name)
            )
            self._leads |= {row.name: (True, now + RENEWED_S) for row in kept}

    async def _ask_for(self, duty: str) -> tuple[bool, float]:
        """Whether this process leads a duty from now on, and in how many seconds to ask again."""
        async with self._db.read() as conn:
            leased = select(_LEASE.until - self._db.real).where(
                _LEASE.name == duty, _LEASE.owner != self.id, self._lasts()
            )
            for (left_us,) in await conn.execute(leased):
                return False, min(left_us / 1e6, LEASE.total_seconds())
        async with self._db.write() as conn:
            taken = postgresql.insert(schema.lease).values(
                name=duty, owner=self.id, until=self._db.real + _LEASE_US
            )
            row = await conn.execute(
                taken.on_conflict_do_update(
                    index_elements=[_LEASE.name],
                    set_={"owner": self.id, "until": taken.excluded.until},
                    where=or_(_LEASE.owner == self.id, not_(self._lasts())),
                ).returning(_LEASE.owner)
            )
            return row.scalar() == self.id, RENEWED_S

    def _lasts(self) -> ColumnElement[bool]:
        """Whether a lease holds; one that lasts for longer than any was given before the server's clock went back."""
        return _LEASE.until.between(self._db.real, self._db.real + 2 * _LEASE_US)

    async def leave(self) -> None:
        """Say goodbye after a clean drain: what is still to this owner's name may be taken over at once."""
        if self._heart is not None:
            await self._heart.stop()
        async with self._db.write() as conn:
            now = to_us((await self._db.moment(conn)).real)
            gone = {"dead_at": now, "taking": None}
            await conn.execute(update(schema.owner).where(_OWNER.id == self.id).values(gone))
            await conn.execute(delete(schema.lease).where(_LEASE.owner == self.id))
            await suspects.let_go(conn, self.id)


def _silent(now: ColumnElement[int]) -> ColumnElement[bool]:
    """Whose last beat is too long ago; one that is to come was made before the server's clock went back."""
    return or_(_OWNER.heartbeat_at < now - _DEAD_US, _OWNER.heartbeat_at > now + _DEAD_US)


END_SESSION = text(
    "SELECT pg_terminate_backend(held.pid) FROM pg_locks AS held JOIN pg_stat_activity AS session USING (pid)"
    " WHERE held.locktype = 'advisory' AND held.objsubid = 1 AND session.datname = current_database()"
    " AND session.usename = current_user"
    " AND ((CAST(held.classid AS bigint) << 32) | CAST(held.objid AS bigint)) = :key"
)
"""Ends the session, of our own role, that holds an owner's lock."""
_KEEP_ALIVE = "SET tcp_keepalives_idle = 10; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 3"
"""A host that is gone without a word frees its lock in half a minute; by itself PostgreSQL waits for two hours."""
_LOCK = (
    "SELECT pg_try_advisory_lock($1),"
    " CAST(EXTRACT(EPOCH FROM clock_timestamp() - pg_postmaster_start_time()) AS float8)"
)
"""Whether the lock is held, and for how many seconds the server has been up."""
_BEAT = (
    "INSERT INTO owner (id, lock_key, started_at, heartbeat_at, place)"
    " SELECT $1, $2, now_us, now_us, $3"
    " FROM (SELECT CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000 AS BIGINT) AS now_us) AS clock"
    " ON CONFLICT (id) DO UPDATE SET dead_at = NULL, heartbeat_at = excluded.heartbeat_at"
)
"""An owner that the database forgot, because it failed over, enters itself anew: nobody else could judge it dead."""


def _now() -> float:
    return time.clock_gettime(_CLOCK)


class Heart:
    """Holds the session lock and beats, in a thread and a loop of its own, so that a busy process still beats."""

    def __init__(
        self,
        url: str,
        owner_id: str,
        lock_key: int,
        place: str | None,
        *,
        given_up_s: float = GIVEN_UP.total_seconds(),
        end: Callable[[int], object] = os._exit,
    ) -> None:
        """`end` ends this process, with an exit code, when it could not beat for `given_up_s`."""
        self._given_up_s = given_up_s
        self._end = end
        self._place = place
        self._url = url
        self._id = owner_id
        self._key = lock_key
        self._beat_at = 0.0
        self._steady_from = 0.0
        self._held = threading.Event()
        self._stop = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping = asyncio.Event()
        """Wakes the thread's loop, where `_stop` is looked at."""
        self._thread = threading.Thread(target=self._run, name="heart", daemon=True)

    @property
    def fit(self) -> bool:
        """Lock held and the last beat fresh."""
        return self._held.is_set() and _now() - self._beat_at < FRESH_S

    @property
    def steady(self) -> bool:
        """Fit, and no outage just over."""
        return self.fit and _now() >= self._steady_from

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
        try:
            asyncio.run(self._live())
        except Exception as wrong:
            log.exception("heart_broken", error=type(wrong).__name__)
            self._end(1)

    async def _live(self) -> None:
        self._loop = asyncio.get_running_loop()
        began = _now()
        while not self._stop.is_set():
            if _now() - max(began, self._beat_at) > self._given_up_s:
                log.error(
                    "owner_lost", hint="for minutes PostgreSQL did not hear that it lives: start it again"
                )
                self._end(1)
                return
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
            await conn.execute(_KEEP_ALIVE)
            held, up_s = await conn.fetchrow(_LOCK, self._key)
            if not held:
                return
            calm_s = 0.0 if self._beat_at else up_s
            self._steady_from = _now() + max(0.0, STEADY_S - calm_s)
            while not self._stop.is_set():
                asked = _now()  # it may be written long before its answer is here
                await conn.execute(_BEAT, self._id, self._key, self._place)
                self._beat_at = asked
                self._held.set()
                await self._pause(BEAT_S)
        finally:
            await conn.close(timeout=2)
