"""Which source grants the pace, and where it is kept while SQL does: one row a meter, one a pool, one of claims.

The claims' row is locked first by every take. The lock is one statement; what is counted is read in the next.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Self

import orjson
from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.domain import to_us
from gateway.store.database import Database
from gateway.store.live import keep_goes_out

CLAIMS = "claims"
"""The row that every take locks."""

_BOUND = text(
    "SELECT set_config('lock_timeout', '500ms', true),"
    " set_config('idle_in_transaction_session_timeout', '2s', true)"
)
_LOCK = text("SELECT 1 FROM pace WHERE key = 'claims' FOR UPDATE")
_FIRST = text("INSERT INTO pace (key, epoch, state) VALUES ('claims', 0, '{}') ON CONFLICT (key) DO NOTHING")
_READ = {
    "sqlite": text(
        "SELECT source, epoch, since, CAST((julianday('now') - 2440587.5) * 86400000000 AS INTEGER),"
        " (SELECT json_group_object(key, state) FROM pace"
        "  WHERE pace.epoch = live.epoch AND key IN (SELECT value FROM json_each(:keys)))"
        " FROM live"
    ),
    "postgresql": text(
        "SELECT source, epoch, since, CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000 AS BIGINT),"
        " (SELECT CAST(json_object_agg(key, state) AS TEXT) FROM pace"
        "  WHERE pace.epoch = live.epoch AND key IN (SELECT json_array_elements_text(CAST(:keys AS JSON))))"
        " FROM live"
    ),
}
_WRITE = {
    "sqlite": text(
        "INSERT INTO pace (key, epoch, state) SELECT key, :epoch, value FROM json_each(:rows) WHERE true"
        " ON CONFLICT (key) DO UPDATE SET epoch = excluded.epoch, state = excluded.state"
    ),
    "postgresql": text(
        "INSERT INTO pace (key, epoch, state) SELECT key, :epoch, value FROM json_each_text(CAST(:rows AS JSON))"
        " ON CONFLICT (key) DO UPDATE SET epoch = excluded.epoch, state = excluded.state"
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What was read: who grants, since when (µs, real time), the database's now (µs), and rows of this epoch (JSON)."""

    source: str
    epoch: int
    since: int
    now: int
    rows: Mapping[str, str]


async def lock(conn: AsyncConnection) -> None:
    """Have the pace to oneself until the transaction ends; whoever hangs with it is cut off after 2 s.

    On SQLite the writer's transaction does that.
    """
    if conn.dialect.name == "sqlite":
        return
    await conn.execute(_BOUND)
    if (await conn.execute(_LOCK)).first() is None:
        await conn.execute(_FIRST)
        await conn.execute(_LOCK)


async def read(conn: AsyncConnection, keys: Iterable[str]) -> Kept:
    """The rows of these keys."""
    named = orjson.dumps(sorted(keys)).decode()
    source, epoch, since, now, rows = (await conn.execute(_READ[conn.dialect.name], {"keys": named})).one()
    return Kept(
        source=source, epoch=int(epoch), since=int(since), now=int(now), rows=orjson.loads(rows or b"{}")
    )


async def write(conn: AsyncConnection, epoch: int, rows: Mapping[str, str]) -> None:
    """Keep these rows."""
    await conn.execute(
        _WRITE[conn.dialect.name], {"epoch": epoch, "rows": orjson.dumps(dict(sorted(rows.items()))).decode()}
    )


SQL, REDIS = "sql", "redis"
HOLD_S, LONGEST_HOLD_S = 5, 300
"""Seconds that SQL grants at least before Redis does again; doubled up to the longest when it flaps."""
QUIET_US = 600_000_000
"""Whoever granted for so long does not flap."""

_STANDING = text("SELECT source, epoch, since, hold_s FROM live")
_SWAP = text(
    "UPDATE live SET source = :source, epoch = :epoch, since = :since, hold_s = :hold_s WHERE id = 1"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Who grants, in which epoch, since when (µs, real time), and how long SQL has to hold before it lets go."""

    source: str
    epoch: int
    since: int
    hold_s: int

    @classmethod
    def of(cls, row: Row[tuple[str, int, int, int]]) -> Self:
        """From its row."""
        return cls(source=row.source, epoch=row.epoch, since=row.since, hold_s=row.hold_s)

    def held(self, now: int) -> bool:
        """Whether SQL has granted for long enough."""
        return now - self.since >= self.hold_s * 1_000_000

    def next_hold_s(self, to: str, now: int) -> int:
        """How long SQL has to hold after a change now."""
        if to == REDIS:
            return self.hold_s
        flaps = self.since > 0 and now - self.since < QUIET_US
        return min(self.hold_s * 2, LONGEST_HOLD_S) if flaps else HOLD_S


class Sources:
    """The row that says who grants the pace."""

    def __init__(self, database: Database) -> None:
        self._db = database

    async def standing(self) -> tuple[Source, int]:
        """Who grants, and the database's now (µs)."""
        async with self._db.read() as conn:
            return Source.of((await conn.execute(_STANDING)).one()), to_us((await self._db.moment(conn)).real)

    async def swap(self, epoch: int, to: str, *, above: int = 0) -> tuple[Source, bool]:
        """Let another source grant, unless somebody changed it since `epoch`; who grants then, and whether by us.

        The new epoch is `above` that one, too. Every go that was given under the old one is committed by then, and
        none is given after.
        """
        async with self._db.write() as conn:
            await keep_goes_out(conn)
            now = to_us((await self._db.moment(conn)).real)
            seen = Source.of((await conn.execute(_STANDING)).one())
            if seen.epoch != epoch or seen.source == to:
                return seen, False
            new = Source(source=to, epoch=max(epoch, above) + 1, since=now, hold_s=seen.next_hold_s(to, now))
            await conn.execute(_SWAP, asdict(new))
            return new, True
