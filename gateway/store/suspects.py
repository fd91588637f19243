"""Suspects in SQL: who comes under suspicion, who is tried alone, and who passed."""

from __future__ import annotations

from collections.abc import Sequence

import orjson
from sqlalchemy import (
    Boolean,
    ColumnElement,
    bindparam,
    delete,
    exists,
    literal_column,
    or_,
    select,
    tuple_,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.store import schema
from gateway.store.among import among, keyed
from gateway.store.database import Database
from gateway.store.due import IS_DUE
from gateway.store.statements import add
from gateway.work import Key

MOST = 1000
"""Reminders that come under suspicion for one owner at most: the longest due."""

_OWNER, _REMINDER, _SUSPECT = schema.owner.c, schema.reminder.c, schema.suspect.c
_UNTOUCHED = (IS_DUE, *(column <= bindparam("then") for column in (_REMINDER.next_at, _REMINDER.updated_at)))
"""Nobody has decided on it since: whatever its claim wrote was undone. A note counts for nothing else."""
_NOTED = (
    select(_REMINDER.tenant, _REMINDER.person)
    .where(among("noted", _REMINDER.tenant, _REMINDER.id), *_UNTOUCHED)
    .subquery()
)
_ACCUSED = (
    select(_REMINDER.tenant, _REMINDER.id)
    .where(
        tuple_(_REMINDER.tenant, _REMINDER.person).in_(select(_NOTED.c.tenant, _NOTED.c.person)),
        *_UNTOUCHED,
    )
    .order_by(_REMINDER.next_at)
    .limit(MOST)
)
_OVER = ~exists().where(
    _REMINDER.tenant == _SUSPECT.tenant, _REMINDER.id == _SUSPECT.reminder, _REMINDER.next_at.is_not(None)
)
UNSUSPECTED: ColumnElement[bool] = tuple_(_REMINDER.tenant, _REMINDER.id).not_in(
    select(_SUSPECT.tenant, _SUSPECT.reminder)
)
"""Of a reminder. NOT IN, for PostgreSQL reads the few suspects once and joins nothing."""
MINE = or_(_SUSPECT.owner.is_(None), _SUSPECT.owner == bindparam("by"))
"""Of a suspect: nobody else tries it."""


async def note(database: Database, owner: str, keys: Sequence[Key]) -> None:
    """Write down what an owner is about to decide on.

    Only a death of that process asks for it, and the store outlives that: PostgreSQL need not sync it to disk.
    """
    by_tenant: dict[str, list[str]] = {}
    for tenant, name in keys:
        by_tenant.setdefault(tenant, []).append(name)
    mine = [_OWNER.id == owner]
    if not database.sqlite:
        mine.append(literal_column("set_config('synchronous_commit', 'off', true) = 'off'", Boolean))
    async with database.write() as conn:
        await conn.execute(
            update(schema.owner)
            .where(*mine)
            .values(taking=orjson.dumps(by_tenant).decode(), taken_at=database.now)
        )


async def accuse(conn: AsyncConnection, dead: Sequence[str], now: int) -> int:
    """What owners that are found dead just now had not decided on comes under suspicion; how many.

    That is one strike however many of them had it among others, for it may be the same one that ended them all. Whose
    turn it was alone has one more. Notes are used up by it: whoever finds the same owners dead finds none.
    """
    await conn.execute(delete(schema.suspect).where(_OVER))
    noted = select(_OWNER.taking, _OWNER.taken_at).where(_OWNER.id.in_(dead), _OWNER.taking.is_not(None))
    accused: set[tuple[str, str]] = set()
    for row in (await conn.execute(noted.order_by(_OWNER.id).with_for_update())).all():
        keys = keyed((tenant, name) for tenant, names in orjson.loads(row.taking).items() for name in names)
        found = await conn.execute(_ACCUSED, {"noted": keys, "then": row.taken_at})
        accused |= {(r.tenant, r.id) for r in found}
    new = [
        {"tenant": t, "reminder": name, "strikes": 1, "owner": None, "at": now} for t, name in sorted(accused)
    ]
    if new:
        await add(conn, schema.suspect, new, free=True)
    tried = await conn.execute(
        update(schema.suspect)
        .where(_SUSPECT.owner.in_(dead))
        .values(strikes=_SUSPECT.strikes + 1, owner=None, at=now)
    )
    await conn.execute(update(schema.owner).where(_OWNER.id.in_(dead)).values(taking=None))
    return len(new) + tried.rowcount


async def tries(conn: AsyncConnection, owner: str, suspect: Key, now: int) -> bool:
    """Let an owner try it alone, unless another does; whoever was taken for dead may not: nobody would ask again.

    It decides on nothing else meanwhile, so what it noted before counts no more.
    """
    alive = update(schema.owner).where(_OWNER.id == owner, _OWNER.dead_at.is_(None)).values(taking=None)
    if (await conn.execute(alive)).rowcount != 1:
        return False
    tenant, name = suspect
    mine = (_SUSPECT.tenant == tenant, _SUSPECT.reminder == name, MINE)
    held = await conn.execute(update(schema.suspect).where(*mine).values(owner=owner, at=now), {"by": owner})
    return held.rowcount == 1


async def let_go(conn: AsyncConnection, owner: str) -> None:
    """Others may try what this one did."""
    await conn.execute(update(schema.suspect).where(_SUSPECT.owner == owner).values(owner=None))


async def acquit(conn: AsyncConnection, keys: Sequence[Key]) -> None:
    """These were decided on, and the process lives."""
    await conn.execute(
        delete(schema.suspect).where(among("keys", _SUSPECT.tenant, _SUSPECT.reminder)), {"keys": keyed(keys)}
    )


async def spare(conn: AsyncConnection, tenant: str, reminder: str) -> None:
    """It was set aside: when it is due again it is tried alone, twice before it is set aside again."""
    await conn.execute(
        update(schema.suspect)
        .where(_SUSPECT.tenant == tenant, _SUSPECT.reminder == reminder)
        .values(strikes=1, owner=None)
    )
