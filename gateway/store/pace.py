"""Where the pace is kept while SQL grants it: one row a meter, one a pool, and one of claims, locked first by all.

The lock is one statement; what is counted is read in the next.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import orjson
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

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
