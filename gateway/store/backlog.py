"""The backlog, read from its roll-ups (gateway.store.rollups)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import orjson
from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.backlog import Due, Group, Lane, Rolled
from gateway.domain import Tenant, to_us
from gateway.quotas.model import EVERYONE
from gateway.store.database import Database
from gateway.store.rollups import COLUMNS, MINUTE_US, NEVER

FOLD_LOCK = 0x726F6C6C  # any number that only this product uses
"""Advisory transaction lock of whoever folds."""
FOLDED = 50_000
"""Moves that one fold takes in."""
PEEK = 1_000
"""So many are looked at in a queue's minute that is under way; beyond, the whole minute is taken as due."""


class BacklogStore:
    """gateway.backlog.Count."""

    def __init__(self, database: Database) -> None:
        self._db = database

    async def fold(self) -> None:
        """Add up what statements appended, unless somebody is at it. On SQLite nothing is appended."""
        if self._db.sqlite:
            return
        async with self._db.read() as conn:
            if not await conn.scalar(_APPENDED):
                return
        async with self._db.write() as conn:
            if await conn.scalar(text("SELECT pg_try_advisory_xact_lock(:key)"), {"key": FOLD_LOCK}):
                empty = (await conn.execute(_FOLD, {"most": FOLDED})).mappings().all()
                if empty:
                    await conn.execute(_FORGET, [dict(row) for row in empty])

    async def rolled(self) -> Rolled:
        """The whole backlog now."""
        async with self._db.read() as conn:
            return await rolled(conn, to_us((await self._db.moment(conn)).policy))


async def rolled(conn: AsyncConnection, now: int, owner: Tenant | None = None) -> Rolled:
    """The backlog at an instant (µs, policy clock), however many reminders there are.

    A tenant's own; for a deployment (`*/live`) that of all tenants in its mode; for None all there is.
    """
    whole = now // MINUTE_US * MINUTE_US
    bounds = {
        "whole": whole,
        "next": whole + MINUTE_US,
        "never": NEVER,
        "whose": (owner or EVERYONE).replace(EVERYONE, "%"),
    }
    rows = (await conn.execute(_GROUPS, bounds)).all()
    heads = await _heads(conn, sorted({r.queue for r in rows if r.due or r.lately}), now)
    by_queue: dict[str, list[Row[Any]]] = defaultdict(list)
    for row in rows:
        by_queue[row.queue].append(row)
    lanes: dict[Lane, Due] = defaultdict(Due)
    for queue, alike in by_queue.items():
        lanes[lane_of(queue)] += _due(alike, heads.get(queue), now)
    groups = (Group(lane=lane_of(r.queue), state=r.state, reason=r.reason, number=r.number) for r in rows)
    return Rolled(groups=tuple(groups), lanes=dict(lanes))


def lane_of(queue: str) -> Lane:
    """The lane of a queue (gateway.domain.queue_of)."""
    channel, tenant, _, rank = queue.split("|")
    return Lane(rank=int(rank), tenant=Tenant(tenant), channel=channel)


def _due(alike: Sequence[Row[Any]], head: Row[Any] | None, now: int) -> Due:
    """What of a queue is due: its whole minutes, and of the one under way what the index showed."""
    if head is None or head.oldest is None or head.oldest > now:
        return Due()
    whole, lately = sum(r.due for r in alike), sum(r.lately for r in alike)
    seen = lately if head.lately == PEEK else head.lately
    return Due(number=max(1, whole + seen), oldest_s=(now - head.oldest) / 1e6)


async def _heads(conn: AsyncConnection, queues: Sequence[str], now: int) -> dict[str, Row[Any]]:
    """The oldest of each queue, and how many of its minute that is under way are due, PEEK at most."""
    if not queues:
        return {}
    bounds = {"queues": orjson.dumps(queues).decode(), "whole": now // MINUTE_US * MINUTE_US, "now": now}
    rows = await conn.execute(_HEADS[conn.dialect.name], bounds | {"peek": PEEK})
    return {row.queue: row for row in rows}


_SUMS = (
    "SELECT queue, state, reason, SUM(number) AS number,"
    " SUM(CASE WHEN minute > :never AND minute <= :whole THEN number ELSE 0 END) AS due,"
    " SUM(CASE WHEN minute = :next THEN number ELSE 0 END) AS lately"
    " FROM {} WHERE tenant LIKE :whose GROUP BY tenant, queue, state, reason"
)
_GROUPS = text(
    "SELECT queue, state, reason, CAST(SUM(number) AS BIGINT) AS number,"  # noqa: S608 (our own names)
    " CAST(SUM(due) AS BIGINT) AS due, CAST(SUM(lately) AS BIGINT) AS lately"
    f" FROM ({_SUMS.format('backlog')} UNION ALL {_SUMS.format('backlog_delta')}) AS sums"
    " GROUP BY queue, state, reason HAVING SUM(number) <> 0"
)

_HEAD = (
    "SELECT q.value AS queue,"
    " (SELECT MIN(r.next_at) FROM reminder r WHERE r.queue = q.value AND r.next_at IS NOT NULL) AS oldest,"
    " (SELECT COUNT(*) FROM (SELECT 1 FROM reminder r WHERE r.queue = q.value AND r.next_at > :whole"
    " AND r.next_at <= :now LIMIT :peek) AS head) AS lately"
)
_HEADS = {
    "sqlite": text(f"{_HEAD} FROM json_each(:queues) AS q"),
    "postgresql": text(f"{_HEAD} FROM json_array_elements_text(CAST(:queues AS json)) AS q(value)"),
}

_APPENDED = text("SELECT EXISTS (SELECT 1 FROM backlog_delta)")
_FOLD = text(
    "WITH gone AS (DELETE FROM backlog_delta WHERE id IN"  # noqa: S608
    f" (SELECT id FROM backlog_delta ORDER BY id LIMIT :most) RETURNING {COLUMNS}, number),"
    f" sums AS (SELECT {COLUMNS}, SUM(number) AS number FROM gone GROUP BY {COLUMNS} HAVING SUM(number) <> 0),"
    f" added AS (INSERT INTO backlog ({COLUMNS}, number) SELECT {COLUMNS}, number FROM sums"
    f" ON CONFLICT ({COLUMNS}) DO UPDATE SET number = backlog.number + excluded.number"
    f" RETURNING {COLUMNS}, number)"
    f" SELECT {COLUMNS} FROM added WHERE number = 0"
)
_FORGET = text(
    "DELETE FROM backlog WHERE number = 0 AND tenant = :tenant AND queue = :queue AND state = :state"
    " AND reason = :reason AND minute = :minute"
)
