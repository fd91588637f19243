"""What ops change live, read as one: its number rises with every change, and workers say how far they are."""

from __future__ import annotations

import asyncio
from typing import Any

from sqlalchemy import select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.errors import Unavailable
from gateway.store import schema

GO_LOCK = 0x676F  # any number that only this product uses; beside it migrations have theirs
"""Advisory transaction lock: shared by every go, exclusive for whoever sets a pause or switches the pace's source."""

_RAISE = text("UPDATE live SET seq = seq + 1 WHERE id = 1 RETURNING seq")


async def raise_seq(conn: AsyncConnection) -> int:
    """The number of the change that this transaction makes."""
    return int((await conn.execute(_RAISE)).scalar_one())


async def applied(conn: AsyncConnection, seq: int) -> dict[str, Any]:
    """How many workers work by a change: {"by", "of", "missing": [workers]}."""
    owner = schema.owner.c
    rows = list(
        await conn.execute(select(owner.id, owner.applied).where(owner.dead_at.is_(None)).limit(1000))
    )
    missing = sorted(row.id for row in rows if row.applied < seq)
    return {"by": len(rows) - len(missing), "of": len(rows), "missing": missing}


TRIES, TRY, APART_S = 150, "100ms", 0.03
"""The exclusive lock is asked for in short tries, so that a go that hangs does not stop the others."""
_LOCK_NOT_AVAILABLE = "55P03"


async def keep_goes_out(conn: AsyncConnection) -> None:
    """Wait until every go that was given is committed, and let none begin until this transaction ends.

    On SQLite the one writer's lock does that. Unavailable when a go hangs for long.
    """
    if conn.dialect.name != "postgresql":
        return
    for _ in range(TRIES):
        if await _locks(conn):
            return
        await asyncio.sleep(APART_S)
    raise Unavailable(
        "a call's go has been hanging for long, nothing was set: try again, and see the database"
    )


async def _locks(conn: AsyncConnection) -> bool:
    """One short try: goes that come while it waits wait behind it."""
    try:
        async with conn.begin_nested():
            await conn.execute(text(f"SET LOCAL lock_timeout = '{TRY}'"))
            await conn.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": GO_LOCK})
            await conn.execute(text("SET LOCAL lock_timeout = DEFAULT"))
    except DBAPIError as wrong:
        if getattr(wrong.orig, "sqlstate", None) != _LOCK_NOT_AVAILABLE:
            raise
        return False
    return True
