"""Quotas as they are shown: what they say, who set them, how far it is applied, what is used, what slows them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import Row, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.domain import Account, from_us, to_us
from gateway.pauses import ramp_factor
from gateway.ports import Moment
from gateway.quotas import spec
from gateway.quotas.catalogue import SET_BY
from gateway.quotas.counting import COUNTED, SLICE_US, floor
from gateway.quotas.model import Book, Bucket, Load, Quota, in_force
from gateway.store import counted, live, pauses, quotas, schema, standing
from gateway.store.accounts import account_of
from gateway.store.counted import Used
from gateway.work import Queue

LATELY = timedelta(seconds=10)
TAKEN_UP = 0.8
"""A pace of which at least this share started within LATELY is taken up: what is due beside that waits for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A quota, and the JSON of it."""

    quota: Quota
    json: dict[str, Any]


async def look(
    conn: AsyncConnection,
    moment: Moment,
    wanted: Callable[[Quota], bool],
    limit: int,
    channel_of: Callable[[str], str],
) -> list[Shown]:
    """The first of those that hold now and are wanted, by owner and name."""
    rows = {(row.owner, row.name): row for row in await conn.execute(select(schema.quota))}
    held = [now for quota in await quotas.read(conn) if (now := quota.at(moment.policy)) is not None]
    some = sorted((q for q in held if wanted(q)), key=lambda q: (q.owner, q.name))[:limit]
    used = _fullest(await counted.used(conn, moment, some))
    factor = await factors(conn, moment, channel_of)
    source = await conn.scalar(select(schema.live.c.source))
    return [
        Shown(
            quota=quota,
            json={
                "owner": quota.owner.partition("/")[0],
                "name": quota.name,
                **spec.write(quota),
                "until": quota.until,
                "before": spec.write(quota.before) if quota.before is not None else None,
                "version": quota.version,
                **_who(row),
                "applied": await live.applied(conn, row.seq if row is not None else 0),
                "used": _used(used.get((quota.owner, quota.name))),
                "factor": factor(quota),
                "granted_by": source,
            },
        )
        for quota in some
        for row in [rows.get((quota.owner, quota.name))]
    ]


def _who(row: Row[Any] | None) -> Mapping[str, Any]:
    if row is None or row.gone:
        return {"set_by": SET_BY, "set_at": None, "reason": None}
    return {"set_by": row.set_by, "set_at": from_us(row.set_at), "reason": row.reason}


def _fullest(used: Sequence[Used]) -> dict[tuple[str, str], Used]:
    """Of each quota the bucket that is nearest to its end."""
    found: dict[tuple[str, str], Used] = {}
    for one in sorted(used, key=lambda u: u.fullness()):
        found[one.quota.owner, one.quota.name] = one
    return found


def _used(one: Used | None) -> dict[str, Any]:
    """What is used; `of`: the values of `each` that it is of."""
    if one is None:
        return {"of": None, "rate": 0, "minute": 0, "hour": 0, "day": 0, "calls": 0, "budget": None}
    return {
        "of": one.key.partition("||")[2] or None,
        "rate": round(one.rate, 1),
        "minute": one.minute,
        "hour": one.hour,
        "day": one.day,
        "calls": one.calls,
        "budget": str(one.budget) if one.quota.budget is not None else None,
    }


async def factors(
    conn: AsyncConnection, moment: Moment, channel_of: Callable[[str], str]
) -> Callable[[Quota], float]:
    """What breakers, throttles and ramps leave of a quota's pace, at the account that they leave least of."""
    accounts = [account_of(row) for row in await conn.execute(select(schema.account))]
    standings = await standing.read(conn)
    letting_go = await pauses.read(conn)

    def factor(quota: Quota) -> float:
        loads = [_load(account, quota.scope.template or "", channel_of) for account in accounts]
        least = 1.0
        for load in (load for load in loads if quota.covers(load)):
            stands = standings.get(load.pool)
            own = stands.factor(moment.real) if stands is not None else 1.0
            least = min(least, own, ramp_factor(letting_go, load, moment.real))
        return round(least, 4)

    return factor


async def held_by(
    conn: AsyncConnection, moment: Moment, queue: Queue, channel_of: Callable[[str], str]
) -> str | None:
    """The quota for which nothing of a queue starts now, whichever account it would go through.

    A count, or its hours; else a pace that is taken up by what started lately. What waits there is not touched, so its
    row does not say it.
    """
    rows = await conn.execute(select(schema.account).where(schema.account.c.tenant == queue.tenant))
    loads = [_load(account_of(row), queue.template, channel_of) for row in rows]
    book = in_force(await quotas.read(conn), moment.policy)
    ways = [book.buckets(load) for load in loads if load.channel == queue.channel.value]
    some = {bucket.key: bucket for way in ways for bucket in way if bucket.limits & COUNTED}
    left = await counted.left(conn, moment, list(some.values()))
    taken_up = await _paces(conn, moment, book, await factors(conn, moment, channel_of))
    barred = [
        next((b for b in way if b.key in left and left[b.key].units == 0), None) or _slowest(way, taken_up)
        for way in ways
    ]
    first = barred[0] if barred and all(barred) else None
    return first.quota.name if first is not None else None


async def _paces(
    conn: AsyncConnection, moment: Moment, book: Book, factor: Callable[[Quota], float]
) -> Mapping[str, float]:
    """The paces (units a second) that are taken up by what started lately, by bucket."""
    count, since = schema.quota_count.c, floor(moment.policy - LATELY, SLICE_US)
    rows = await conn.execute(
        select(count.bucket, func.sum(count.units).label("starts"))
        .where(count.span == counted.LOAD_SLICE, count.start >= since)
        .group_by(count.bucket)
    )
    started: dict[str, int] = defaultdict(int)
    paces: dict[str, float] = {}
    for row in rows:
        load = counted.load_of(row.bucket)
        for bucket in book.buckets(load):
            if "rate" in bucket.limits and bucket.quota.rate is not None:
                started[bucket.key] += int(row.starts) * bucket.units(load)
                paces[bucket.key] = float(bucket.quota.rate) * factor(bucket.quota)
    seconds = (to_us(moment.policy) - since) / 1_000_000
    return {key: pace for key, pace in paces.items() if started[key] >= TAKEN_UP * pace * seconds}


def _slowest(way: Sequence[Bucket], paces: Mapping[str, float]) -> Bucket | None:
    return min((b for b in way if b.key in paces), key=lambda bucket: paces[bucket.key], default=None)


def _load(account: Account, template: str, channel_of: Callable[[str], str]) -> Load:
    return Load(
        tenant=account.tenant,
        channel=channel_of(account.adapter),
        adapter=account.adapter,
        account=account.name,
        template=template,
        shared=account.weight is not None,
    )
