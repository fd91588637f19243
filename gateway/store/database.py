"""Transactions over SQLite (embedded, one node) and PostgreSQL.

On SQLite one writer connection behind one lock does every write and every checkpoint, and our own hook
begins each transaction: the driver would begin none before the first write, so the reads of one
"transaction" would see different commits. On PostgreSQL all runs at READ COMMITTED: locks are one
statement, what is counted or checked is read in a later one.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from copy import copy
from typing import Any, TypeVar

import orjson
from sqlalchemy import BigInteger, ColumnElement, Connection, event, literal_column, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import DBAPIError, IntegrityError, ProgrammingError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from gateway.domain import from_us
from gateway.errors import SetupError, StoreRefused, Unavailable
from gateway.pools import reading, watched
from gateway.ports import Moment
from gateway.store.schema import metadata

READERS = 4
POOL = 12
_PLANS = ("enable_seqscan", "enable_bitmapscan", "jit")
IDLE = "60s"
"""A transaction that waits for so long between two statements ends: a process that is frozen in one holds locks."""
IN_LIMIT = 500
"""How many values one IN list holds at most; SQLite's variables are bounded."""

_REAL = {
    "sqlite": "CAST((julianday('now') - 2440587.5) * 86400000000 AS INTEGER)",
    "postgresql": "CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000 AS BIGINT)",
}
VALUES = ("22", "54")
"""Classes of SQLSTATE that speak of what was to be written: a value that cannot be kept, one that is too large."""
MALFORMED = ("malformed JSON", "integer overflow", "string or blob too big")
"""The same in SQLite's words."""
_OFFSET = "COALESCE((SELECT offset_us FROM clock), 0)"


class Database:
    """Engines for one URL (`sqlite:///…` or `postgresql://…`)."""

    def __init__(self, url: str | URL) -> None:
        parsed = make_url(url)
        self._aside: Database | None = None
        self.dialect = parsed.get_backend_name()
        if self.dialect == "sqlite":
            url_async = parsed.set(drivername="sqlite+aiosqlite")
            self._writer = _sqlite(url_async, "BEGIN IMMEDIATE", ("synchronous=FULL",), size=1)
            self._reader = _sqlite(url_async, "BEGIN", ("query_only=1", "wal_autocheckpoint=0"), size=READERS)
        elif self.dialect == "postgresql":
            self._url = parsed.set(drivername="postgresql+asyncpg")
            self._writer = _postgresql(self._url, POOL)
            self._reader = reading(self._writer)
        else:
            raise SetupError("the database URL starts with sqlite:/// or postgresql://")
        self._turn = Turn()

    @property
    def sqlite(self) -> bool:
        """Whether this is the embedded store."""
        return self.dialect == "sqlite"

    @asynccontextmanager
    async def write(self, *, first: bool = False) -> AsyncIterator[AsyncConnection]:
        """One transaction: commits at the end, rolls back on any error. Unavailable when the store is not there.

        `first`: it waits for nobody but the one that writes now (SQLite has one writer).
        """
        with _unavailable():
            if not self.sqlite:
                async with self._writer.begin() as conn:
                    yield conn
                return
            async with self._turn.taken(first=first), self._writer.begin() as conn:
                yield conn

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """For reading only: a snapshot (SQLite), or each statement what is committed when it begins (PostgreSQL)."""
        with _unavailable():
            async with self._reader.connect() as conn:
                yield conn

    def aside(self) -> Database:
        """The same database over a connection of its own, for what must not wait behind load.

        On SQLite there is one writer for all, so it is this one. Closed with this one.
        """
        if self.sqlite:
            return self
        if self._aside is None:
            self._aside = copy(self)
            aside = _postgresql(self._url, 1)
            self._aside._writer, self._aside._reader = aside, reading(aside)  # noqa: SLF001 (a copy of itself)
        return self._aside

    @property
    def real(self) -> ColumnElement[int]:
        """The real clock in µs within a statement."""
        return literal_column(_REAL[self.dialect], BigInteger)

    @property
    def now(self) -> ColumnElement[int]:
        """The policy clock in µs within a statement, read once for it."""
        return now_in(self.dialect)

    async def moment(self, conn: AsyncConnection, *, beside: str = "") -> Moment:
        """The database's clock, and the policy clock that stands an offset from it; `beside`: more for that SELECT."""
        moment, _ = await self.moment_and(conn, beside)
        return moment

    async def moment_and(
        self, conn: AsyncConnection, more: str, bound: Mapping[str, Any] | None = None
    ) -> tuple[Moment, tuple[Any, ...]]:
        """The moment, and what `more` of the same SELECT (", a, b FROM c") came to: one row."""
        asked = text(f"SELECT {_REAL[self.dialect]}, {_OFFSET}{more}")
        real, offset, *rest = (await conn.execute(asked, bound)).one()
        return Moment(real=from_us(int(real)), policy=from_us(int(real) + int(offset))), tuple(rest)

    async def create(self) -> None:
        """Make every table that is missing (tests and the migrations' own base use this)."""
        async with self.write() as conn:
            await conn.run_sync(metadata.create_all)

    async def aclose(self) -> None:
        """Close every connection."""
        if self._aside is not None:
            await self._aside.aclose()
        await self._writer.dispose()
        await self._reader.dispose()


def now_in(dialect: str) -> ColumnElement[int]:
    """See Database.now."""
    return literal_column(f"(SELECT {_REAL[dialect]} + {_OFFSET})", BigInteger)


class Turn:
    """Whose turn it is: one at a time, in the order they came, but those that must not wait go first."""

    def __init__(self) -> None:
        self._taken = False
        self._waiting: tuple[deque[asyncio.Future[None]], deque[asyncio.Future[None]]] = deque(), deque()

    @asynccontextmanager
    async def taken(self, *, first: bool) -> AsyncIterator[None]:
        """Wait for the turn, and give it to the next at the end."""
        if self._taken:
            mine = asyncio.get_running_loop().create_future()
            self._waiting[not first].append(mine)
            try:
                await mine
            except asyncio.CancelledError:
                if mine.done() and not mine.cancelled():
                    self._pass_on()
                raise
        self._taken = True
        try:
            yield
        finally:
            self._pass_on()

    def _pass_on(self) -> None:
        for waiting in self._waiting:
            while waiting:
                following = waiting.popleft()
                if not following.done():
                    following.set_result(None)
                    return
        self._taken = False


def _sqlite(url: URL, begin: str, pragmas: Sequence[str], *, size: int) -> AsyncEngine:
    engine = create_async_engine(
        url,
        pool_size=size,
        max_overflow=0,
        pool_timeout=30,
        connect_args={"timeout": 5},
        hide_parameters=True,
    )

    @event.listens_for(engine.sync_engine, "connect")
    def on_connect(dbapi: Any, _record: Any) -> None:
        dbapi.isolation_level = None
        cursor = dbapi.cursor()
        for pragma in ("journal_mode=WAL", "foreign_keys=ON", "secure_delete=ON", *pragmas):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def on_begin(conn: Connection) -> None:
        conn.exec_driver_sql(begin)

    return engine


def _postgresql(url: URL, size: int) -> AsyncEngine:
    engine = create_async_engine(
        url,
        pool_size=size,
        max_overflow=0,
        pool_timeout=10,
        hide_parameters=True,
        isolation_level="READ COMMITTED",
        json_serializer=lambda value: orjson.dumps(value).decode(),
    )

    @event.listens_for(engine.sync_engine, "connect")
    def on_connect(dbapi: Any, _record: Any) -> None:
        """Each statement names its rows by keys or in an index's order; a planner that knows no better reads all."""
        cursor = dbapi.cursor()
        for setting in _PLANS:
            cursor.execute(f"SET {setting} = off")
        cursor.execute(f"SET idle_in_transaction_session_timeout = '{IDLE}'")
        cursor.close()
        dbapi.commit()

    return watched(engine)


@contextmanager
def _unavailable() -> Iterator[None]:
    """Turn a store that is not there (or a full disk) into Unavailable; mistakes of ours stay what they are.

    A value that it refuses is StoreRefused: without it the rest can be written.
    """
    try:
        yield
    except (IntegrityError, ProgrammingError):
        raise
    except (DBAPIError, PoolTimeoutError, OSError) as lost:
        if _is_refusal(getattr(lost, "orig", None)):
            raise StoreRefused("the store refuses a value: nothing was written") from lost
        raise Unavailable(_advice(str(lost))) from lost


def _is_refusal(why: object) -> bool:
    """Whether an error of the driver speaks of a value, not of the store."""
    return str(getattr(why, "sqlstate", "")).startswith(VALUES) or str(why) in MALFORMED


def _advice(what: str) -> str:
    if "disk is full" in what or "No space left" in what:
        return "the disk is full: nothing was accepted; free some space and send it again"
    if "database is locked" in what:
        return "another process writes to this data folder: stop it, or give this one a folder of its own"
    return "the store does not answer: nothing was accepted; try again, and see `gateway config check`"


T = TypeVar("T")


def chunks(items: Sequence[T], size: int = IN_LIMIT) -> Iterator[Sequence[T]]:
    """Slices of at most `size`."""
    for start in range(0, len(items), size):
        yield items[start : start + size]
