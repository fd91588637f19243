"""What is due, and making due what was put off, once what put it off has let go."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, literal_column, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.domain import Tenant
from gateway.quotas.model import EVERYONE
from gateway.store import schema
from gateway.store.database import chunks

_REMINDER = schema.reminder.c
_DUE_STATES = ("waiting", "deferred", "sent", "failed", "unknown")
IS_DUE = _REMINDER.state.in_([literal_column(f"'{state}'") for state in _DUE_STATES])
"""States in which a `next_at` means something: the last three only while an escalation is left."""


async def make_due(
    conn: AsyncConnection, *which: ColumnElement[bool], order: tuple[Any, ...] = (), most: int, now: int
) -> int:
    """Make due (policy clock, µs) at most so many deferred reminders, but for what somebody is at work on; how many."""
    waiting = (
        select(_REMINDER.tenant, _REMINDER.id)
        .where(*which, _REMINDER.next_at > now, _REMINDER.state == "deferred")
        .order_by(*order)
        .limit(most)
        .with_for_update(skip_locked=True)
    )
    keys = [(row.tenant, row.id) for row in await conn.execute(waiting)]
    for part in chunks(keys):
        await conn.execute(
            update(schema.reminder)
            .where(tuple_(_REMINDER.tenant, _REMINDER.id).in_(part))
            .values(next_at=now, updated_at=now)
        )
    return len(keys)


def owned(owner: str) -> ColumnElement[bool]:
    """A tenant's reminders, or of a deployment (`*/live`) those of all tenants in its mode."""
    name, _, mode = owner.partition("/")
    return _REMINDER.tenant.like(f"%/{mode}") if name == EVERYONE else _REMINDER.tenant == Tenant(owner)
