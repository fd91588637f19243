"""Which server's commits these are: a standby that is promoted may lack some that were acknowledged.

PostgreSQL counts a new timeline with every promotion (and restore to a point in time), and gives every cluster an
identifier. While they are not those that are written down, nothing may be called: see docs/failover.md.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

SERVER = {
    "sqlite": "NULL",
    "postgresql": "(SELECT system_identifier || '/' || left(pg_walfile_name(pg_current_wal_lsn()), 8)"
    " FROM pg_control_system())",
}
"""Identifier and timeline of the server that answers, within a statement; a file of SQLite has neither."""
FROZEN = {dialect: f"COALESCE(server <> {server}, FALSE)" for dialect, server in SERVER.items()}
"""Whether the one that answers is not the one written down in `live`, within a statement about that table."""

_REMEMBER = {
    dialect: text(f"UPDATE live SET server = {server} WHERE id = 1 AND server IS NULL")  # noqa: S608 (ours)
    for dialect, server in SERVER.items()
}
_ACCEPT = {
    dialect: text(f"UPDATE live SET server = {server}, frozen_at = NULL, seq = seq + 1 WHERE id = 1")  # noqa: S608
    for dialect, server in SERVER.items()
}
_FROZE = text(
    "UPDATE live SET frozen_at = CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000 AS BIGINT) WHERE id = 1"
)
_STANDING = {
    dialect: text(
        f"SELECT server AS known, {server} AS answers, {FROZEN[dialect]} AS frozen, frozen_at FROM live WHERE id = 1"  # noqa: S608
    )
    for dialect, server in SERVER.items()
}


async def remember(conn: AsyncConnection) -> None:
    """Write down the server that answers, where none is written yet."""
    await conn.execute(_REMEMBER[conn.dialect.name])


async def accept(conn: AsyncConnection) -> None:
    """Write down the server that answers: from the commit on calls are made again."""
    await conn.execute(_ACCEPT[conn.dialect.name])


async def standing(conn: AsyncConnection) -> Any:
    """`known` (written down), `answers` (the one that does), `frozen`, and `frozen_at`: when that was first seen."""
    return (await conn.execute(_STANDING[conn.dialect.name])).one()


async def frozen(conn: AsyncConnection) -> bool:
    """Whether nothing may be called, and nothing taken to be surely not called; when that is first seen is written."""
    now = await standing(conn)
    if now.frozen and now.frozen_at is None:
        await conn.execute(_FROZE)
    return bool(now.frozen)
