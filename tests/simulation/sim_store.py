"""The store of a simulated deployment: one synchronous SQLite in memory, reached by simulated processes.

`Database` has the interface of gateway.store.database.Database and hands out sessions whose every statement is a
scheduling point before and after. To the gateway it is a server shared by many (as PostgreSQL is): owners are judged
by heartbeat and lock. One transaction runs at a time; whoever reads takes a turn as well, and sees what is committed.
"""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import asynccontextmanager

from sim_loop import PROCESS
from sqlalchemy import create_engine, insert
from sqlalchemy.pool import StaticPool

from gateway.errors import Unavailable
from gateway.store import database, schema
from gateway.store.owners import END_SESSION


class Cursor(sqlite3.Cursor):
    """Holds all rows at once, as a driver of another process does: nothing is read later."""

    def execute(self, *args):
        super().execute(*args)
        self.rows = super().fetchall()
        self.at = 0
        return self

    def fetchone(self):
        self.at += 1
        return self.rows[self.at - 1] if self.at <= len(self.rows) else None

    def fetchall(self):
        rest, self.at = self.rows[self.at :], len(self.rows)
        return rest

    def fetchmany(self, size=1):
        rest = self.rows[self.at : self.at + size]
        self.at += len(rest)
        return rest


class Raw(sqlite3.Connection):
    def cursor(self, factory=Cursor):
        return super().cursor(factory)


_CALLS = """SELECT owner FROM attempt
 WHERE called_at IS NOT NULL AND ending IS NULL AND state NOT IN ('intent', 'void')"""


class Server:
    """One SQLite, emptied of every run by rolling it back: prepared once, it serves all schedules."""

    def __init__(self):
        self.world = None
        """Whose clock and faults hold now."""
        self.locks = {}
        """Session locks: key to the process that holds it."""
        self.holder = None
        """The one session that has its turn."""
        self.waiting = []
        self._before = []
        self.raw = sqlite3.connect(":memory:", factory=Raw, cached_statements=1000)
        engine = create_engine("sqlite://", creator=lambda: self.raw, poolclass=StaticPool)
        self.conn = engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        self.raw.isolation_level = None
        self.raw.create_function(
            "julianday", 1, lambda _now: 2440587.5 + self.world.now_us() / 86_400_000_000
        )
        for lock in ("pg_advisory_xact_lock", "pg_advisory_xact_lock_shared"):
            self.raw.create_function(lock, 1, lambda _key: None)  # whoever has its turn is alone
        self.raw.create_function("set_config", 3, lambda _name, value, _local: value)
        self.raw.create_function("pg_try_advisory_xact_lock", 1, lambda key: key not in self.locks)

    def prepare(self):
        """Every table, and one tenant."""
        schema.metadata.create_all(self.conn)
        self.conn.execute(insert(schema.tenant).values(name="acme", created_at=0))

    def begin(self, world):
        """A run: at its end all of it is forgotten."""
        self.world, self.locks, self.holder, self.waiting = world, {}, None, []
        self.raw.execute("SAVEPOINT run")

    def end(self):
        self.raw.execute("ROLLBACK TO run")
        self.raw.execute("RELEASE run")

    def say(self, sql, *values):
        """What an observer asks, who is nobody's process and takes no time."""
        return self.raw.execute(sql, values).fetchall()

    def calls_of(self, process):
        """How many calls of a process are under way, as it is committed: what is being written may be rolled back."""
        owners = self.say(_CALLS) if self.holder is None else self._before
        return owners.count((f"ow_{process.name}",))

    async def turn(self, session, *, first):
        """Wait for one's turn."""
        if self.holder is None:
            self._let(session)
            return
        session.comes = asyncio.get_running_loop().create_future()
        last = len(self.waiting)
        place = next((n for n, other in enumerate(self.waiting) if first and not other.first), last)
        self.waiting.insert(place, session)
        try:
            await session.comes
        except BaseException:
            if session in self.waiting:
                self.waiting.remove(session)
            session.end("ROLLBACK")
            raise

    def _let(self, session):
        self.holder, self._before = session, self.say(_CALLS)
        self.raw.execute("SAVEPOINT tx")

    def next(self):
        """Whose turn it is now; those who stand still come later."""
        self.holder = None
        self.waiting = [one for one in self.waiting if not one.process.dead and not one.comes.done()]
        able = [one for one in self.waiting if not one.process.stopped]
        if able:
            self.waiting.remove(able[0])
            self._let(able[0])
            able[0].comes.set_result(None)

    def gone(self, process):
        """A process's connections are closed: its transaction is rolled back, its lock is free."""
        self.locks = {key: owner for key, owner in self.locks.items() if owner is not process}
        if self.holder is not None and self.holder.process is process:
            self.holder.end("ROLLBACK")
        elif self.holder is None:
            self.next()


class Session:
    """One transaction of one process; a gateway.store's AsyncConnection, as far as it is used."""

    def __init__(self, server, process, *, first):
        self._server = server
        self.process = process
        self.first = first
        self.dialect = server.conn.dialect
        self.over = False
        self.comes = None

    def end(self, how):
        """Once: whoever comes later finds it over."""
        if self.over:
            return
        self.over = True
        if self._server.holder is self:
            if how == "ROLLBACK":
                self._server.raw.execute("ROLLBACK TO tx")
            self._server.raw.execute("RELEASE tx")
            self._server.next()

    def check(self):
        if self.over or self._server.world.away(self.process):
            raise Unavailable("the store does not answer (simulated)")

    async def execute(self, statement, params=None):
        await self._server.world.point()
        self.check()
        if statement is END_SESSION:
            return self._server.gone(self._server.locks[params["key"]])
        found = self._server.conn.execute(statement, params)
        await self._server.world.point()
        return found

    async def scalar(self, statement, params=None):
        return (await self.execute(statement, params)).scalar()

    async def scalars(self, statement, params=None):
        return (await self.execute(statement, params)).scalars()


class Database(database.Database):
    """What a simulated process knows of the store."""

    def __init__(self, server):
        self._server = server
        self.dialect = "sqlite"

    @property
    def sqlite(self):
        """Several processes share it."""
        return False

    def aside(self):
        return self

    @asynccontextmanager
    async def _session(self, *, first):
        session = Session(self._server, PROCESS.get(), first=first)
        await self._server.world.point()
        await self._server.turn(session, first=first)
        try:
            session.check()
            yield session
        finally:
            session.end("ROLLBACK")

    @asynccontextmanager
    async def write(self, *, first=False):
        """A transaction; its commit may fail, or succeed without an answer."""
        world = self._server.world
        async with self._session(first=first) as session:
            yield session
            await world.point()
            session.check()
            answer = world.commits(session.process)
            if answer == "fails":
                raise Unavailable("the commit failed (simulated)")
            session.end("COMMIT")
        await world.point()
        if answer == "unheard":
            raise Unavailable("the commit's answer was lost (simulated)")

    @asynccontextmanager
    async def read(self):
        async with self._session(first=True) as session:
            yield session

    async def aclose(self):
        """There is nothing to close."""


_BEAT = "UPDATE owner SET dead_at = NULL, heartbeat_at = ? WHERE id = ?"


class Heart:
    """Stands for gateway.store.owners.Heart, whose thread and connection of its own no loop can draw."""

    def __init__(self, server, owner, key, process):
        self._server, self._owner, self._key, self._process = server, owner, key, process
        self._beat_at = self._held_since = float("-inf")
        self._held = False
        self._task = None

    @property
    def fit(self):
        return self._held and (self._server.world.quiet or self._time() - self._beat_at < 8.0)

    @property
    def steady(self):
        return self.fit and self._time() - self._held_since > 3.0

    def _time(self):
        return asyncio.get_running_loop().time()

    async def start(self):
        self._task = asyncio.create_task(self._live())
        while not self._held:  # noqa: ASYNC110 (as its thread does)
            await asyncio.sleep(0.05)

    async def stop(self):
        self._task.cancel()
        self._held = False
        if self._server.locks.get(self._key) is self._process:
            del self._server.locks[self._key]

    async def _live(self):
        while True:
            if self._server.world.away(self._process):
                self._held = False
            elif self._key not in self._server.locks:
                self._server.locks[self._key] = self._process
                self._held_since = self._time()
            else:
                session = Session(self._server, self._process, first=True)
                await self._server.turn(session, first=True)
                if not session.over:
                    self._server.say(_BEAT, self._server.world.now_us(), self._owner)
                    session.end("COMMIT")
                self._beat_at = self._time()
                self._held = True
            await asyncio.sleep((1e6 if self._server.world.quiet else 2.0) if self._held else 0.5)
