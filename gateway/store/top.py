"""What ops look at first, read at once: what is due, what starts, who grants the pace, how accounts stand."""

from __future__ import annotations

from collections import Counter
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.domain import Mode, Tenant, from_us, to_us
from gateway.quotas.counting import SLICE_US
from gateway.quotas.model import EVERYONE
from gateway.standing import shown
from gateway.store import live, schema, standing
from gateway.store.backlog import rolled
from gateway.store.counted import LOAD_SLICE, load_of
from gateway.store.database import Database

SLICES = 2
"""Slices of 5 s that are over, from which the present pace is told."""


class Top:
    """Reads it."""

    def __init__(self, database: Database) -> None:
        self._db = database

    async def look(self, owner: Tenant) -> dict[str, Any]:
        """Everything of a tenant, or for a deployment (`*/live`) of all tenants in its mode."""
        async with self._db.read() as conn:
            moment = await self._db.moment(conn)
            row = (await conn.execute(select(schema.live))).one()
            backlog = await rolled(conn, to_us(moment.policy), owner)
            standings = await standing.read(conn)
            pools = await _pools(conn, owner)
            return {
                "at": moment.policy,
                "granted_by": row.source,
                "since": from_us(row.since) if row.since else None,
                "workers": await live.applied(conn, row.seq),
                **backlog.shown(),
                "starts": await _starts(conn, to_us(moment.policy), owner),
                "accounts": [
                    {"account": pool.partition("|")[2], "tenant": name, **shown(standings[pool], moment.real)}
                    for pool, name in sorted(pools.items())
                    if pool in standings
                ],
            }


async def _pools(conn: AsyncConnection, owner: Tenant) -> dict[str, str]:
    """The accounts that an owner's reminders go through, by pool, and whose they are."""
    table = schema.account.c
    rows = await conn.execute(
        select(table.tenant, table.name, table.weight).where(table.tenant.like(owner.replace(EVERYONE, "%")))
    )
    found = {}
    for row in rows:
        tenant, _, mode = row.tenant.partition("/")
        name = tenant if row.weight is None else EVERYONE
        found[f"{name}/{mode}|{row.name}"] = name
    return found


async def _starts(conn: AsyncConnection, now: int, owner: Tenant) -> list[dict[str, Any]]:
    """Starts a second by channel and tenant, as they were lately."""
    count, whole = schema.quota_count.c, now // SLICE_US * SLICE_US
    rows = await conn.execute(
        select(count.bucket, func.sum(count.units).label("number"))
        .where(count.span == LOAD_SLICE, count.start >= whole - SLICES * SLICE_US, count.start < whole)
        .group_by(count.bucket)
    )
    numbers: Counter[tuple[str, str]] = Counter()
    whose, _, mode = owner.partition("/")
    for row in rows:
        load = load_of(row.bucket)
        tenant, _, of = load.tenant.partition("/")
        if Mode(of) == mode and whose in (EVERYONE, tenant):
            numbers[load.channel, tenant] += int(row.number)
    seconds = SLICES * SLICE_US / 1_000_000
    return [
        {"channel": channel, "tenant": tenant, "per_s": round(number / seconds, 2)}
        for (channel, tenant), number in sorted(numbers.items())
    ]
