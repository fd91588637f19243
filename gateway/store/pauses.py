"""The table of pauses and stops: go's guard, setting one, resuming it, and what it stopped.

go takes the advisory lock shared, in one statement, and reads in a later one; setting takes it exclusively. So
whoever's go was given before the setter's commit is already `calling`, and after it nobody is given one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from sqlalchemy import BigInteger, ColumnElement, Row, and_, literal_column, or_, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway import pauses
from gateway.domain import Tenant, to_us
from gateway.pauses import Kind, Pause, PauseScope
from gateway.ports import Moment
from gateway.quotas.model import WORDS, Scope
from gateway.store import schema
from gateway.store.live import GO_LOCK
from gateway.store.rows import instant
from gateway.work import Refusal, Start

_PAUSE = schema.pause.c
_SHARED = text("SELECT pg_advisory_xact_lock_shared(:key)")
LONGEST_RAMP_US = 86_400_000_000
_REAL_NOW = {
    "sqlite": "CAST((julianday('now') - 2440587.5) * 86400000000 AS INTEGER)",
    "postgresql": "CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000 AS BIGINT)",
}


async def guard(conn: AsyncConnection, moment: Moment, starts: Sequence[Start]) -> dict[str, Refusal]:
    """Which of these starts may not begin, by ref; no pause is set until this transaction ends.

    On SQLite the one writer's lock is what keeps a setter out.
    """
    if conn.dialect.name == "postgresql":
        await conn.execute(_SHARED, {"key": GO_LOCK})
    now = to_us(moment.policy)
    rows = await conn.execute(
        select(schema.pause).where(
            _PAUSE.resumed_at.is_(None), or_(_PAUSE.until.is_(None), _PAUSE.until > now)
        )
    )
    standing = [pause_of(row) for row in rows]
    barred = ((start.ref, pauses.first(standing, start, moment.policy)) for start in starts)
    return {ref: pause.refusal() for ref, pause in barred if pause is not None}


async def read(conn: AsyncConnection) -> list[Pause]:
    """Those that hold, and those that ended and still let go little by little."""
    now: ColumnElement[int] = literal_column(_REAL_NOW[conn.dialect.name], BigInteger)
    ramps = and_(_PAUSE.ramp_s > 0, _PAUSE.resumed_at + _PAUSE.ramp_s * 1_000_000 > now)
    rows = await conn.execute(
        select(schema.pause).where(
            or_(_PAUSE.resumed_at.is_(None), and_(_PAUSE.resumed_at > now - LONGEST_RAMP_US, ramps))
        )
    )
    return [pause_of(row) for row in rows]


def pause_of(row: Row[Any]) -> Pause:
    """A pause from its row."""
    return Pause(
        owner=Tenant(row.owner),
        id=row.id,
        kind=Kind(row.kind),
        scope=scope_of(orjson.loads(row.scope)),
        until=instant(row.until),
        resumed_at=instant(row.resumed_at),
        ramp_s=row.ramp_s,
    )


def scope_of(words: Mapping[str, Any]) -> PauseScope:
    """A scope from the words it names."""
    own = {word: value for word, value in words.items() if word not in WORDS}
    return PauseScope(quota=Scope(**{w: v for w, v in words.items() if w in WORDS}), **own)
