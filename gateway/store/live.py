"""What ops change live, read as one: its number rises with every change, and workers say how far they are."""

from __future__ import annotations

from typing import Any

from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.store import schema
from gateway.work import Word

GO_LOCK = 0x676F  # any number that only this product uses; beside it migrations have theirs
"""Advisory transaction lock: shared by every go, exclusive for whoever sets a pause or switches the pace's source."""

_RAISE = text("UPDATE live SET seq = seq + 1 WHERE id = 1 RETURNING seq")


async def raise_seq(conn: AsyncConnection) -> int:
    """The number of the change that this transaction makes."""
    return int((await conn.execute(_RAISE)).scalar_one())


async def stands(conn: AsyncConnection, word: Word | None) -> bool:
    """Whether the pace is still granted by whose word this is (None: no pace was needed)."""
    if word is None:
        return True
    row = (await conn.execute(_SOURCE)).one()
    return (row.source, row.epoch) == word


_SOURCE = text("SELECT source, epoch FROM live WHERE id = 1")


async def applied(conn: AsyncConnection, seq: int) -> dict[str, Any]:
    """How many workers work by a change: {"by", "of", "missing": [workers]}."""
    owner = schema.owner.c
    rows = list(
        await conn.execute(select(owner.id, owner.applied).where(owner.dead_at.is_(None)).limit(1000))
    )
    missing = sorted(row.id for row in rows if row.applied < seq)
    return {"by": len(rows) - len(missing), "of": len(rows), "missing": missing}
