"""Poison in SQL: set aside without reading what broke, and due again when somebody asks for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import Row, Select, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway import outcomes, poison
from gateway.domain import Tenant, from_us, to_us
from gateway.ports import Entry, Moment
from gateway.store import schema
from gateway.store.changes import Changes
from gateway.store.database import Database, chunks
from gateway.store.facts import last_contact
from gateway.store.log import Log
from gateway.store.rows import us
from gateway.store.suspects import spare
from gateway.work import Due

SLICE = 1000
"""Reminders that one call makes due again."""
QUARANTINED = "quarantined"

_REMINDER = schema.reminder.c


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """Which are due again, under which channels they wait, and whether there may be more."""

    names: Sequence[str]
    channels: frozenset[str]
    more: bool


async def put_aside(conn: AsyncConnection, moment: Moment, records: Log, due: Due, error: str) -> None:
    """Let a reminder wait as `quarantined`, on record, if it is due still; `error`: what kind of thing broke on it.

    The record names the borrower where their key serves: whatever is wrong with their rows, it is written.
    """
    now = to_us(moment.policy)
    row = await _due(conn, due, now)
    if row is None:
        return
    verdict = poison.set_aside(
        moment.policy,
        expires_at=from_us(row.expires_at),
        waited=_waited(row),
        contacted=await _contacted(conn, row, due.id),
    )
    await conn.execute(
        update(schema.reminder)
        .where(_REMINDER.tenant == due.tenant, _REMINDER.id == due.id)
        .values(
            state=verdict.state,
            reason=verdict.reason,
            by=error,
            next_at=us(verdict.next_at),
            updated_at=now,
        )
    )
    entry = Entry(
        tenant=due.tenant,
        kind="decision" if verdict.next_at else "expired",
        at=moment.policy,
        reminder=due.id,
        borrower=await records.names(due.tenant, due.borrower),
        channel=row.channel,
        state=verdict.state,
        reason=verdict.reason,
        body={"error": error},
    )
    await records.append(conn, [entry])
    await spare(conn, due.tenant, due.id)


async def _due(conn: AsyncConnection, due: Due, now: int) -> Row[Any] | None:
    asked: Select[Any] = select(
        *(_REMINDER.tenant, _REMINDER.channel, _REMINDER.expires_at, _REMINDER.reason, _REMINDER.step),
        *(_REMINDER.next_at, _REMINDER.updated_at),
    ).where(_REMINDER.tenant == due.tenant, _REMINDER.id == due.id, _REMINDER.next_at <= now)
    found: Row[Any] | None = (await conn.execute(asked.with_for_update())).one_or_none()
    return found


class Replays:
    """The way back."""

    def __init__(self, database: Database, log: Log, entropy: Callable[[int], bytes]) -> None:
        self._db = database
        self._changes = Changes(log, entropy)

    async def replay(self, tenant: Tenant, names: Sequence[str] | None, *, who: str, reason: str) -> Replayed:
        """Make due what was set aside, on record: these reminders, or for None a slice of all; none else."""
        async with self._db.write() as conn:
            moment = await self._db.moment(conn)
            now = to_us(moment.policy)
            mine = (
                _REMINDER.tenant == tenant,
                _REMINDER.reason == QUARANTINED,
                _REMINDER.state == "deferred",
            )
            asked = select(_REMINDER.id).where(*mine, _REMINDER.next_at > now).order_by(_REMINDER.id)
            if names is not None:
                asked = asked.where(_REMINDER.id.in_(names))
            found = [r.id for r in await conn.execute(asked.limit(SLICE).with_for_update())]
            channels: set[str] = set()
            for part in chunks(found):
                freed = await conn.execute(
                    update(schema.reminder)
                    .where(*mine, _REMINDER.id.in_(part))
                    .values(next_at=now, updated_at=now)
                    .returning(_REMINDER.channel)
                )
                channels |= {r.channel for r in freed}
            if found:
                await self._changes.note(
                    *(conn, moment, tenant, who),
                    kind="poison",
                    name=found[0] if len(found) == 1 else "replay",
                    after={"due_again": len(found)},
                    reason=reason,
                )
        return Replayed(names=found, channels=frozenset(channels), more=len(found) == SLICE)


def _waited(row: Row[Any]) -> timedelta | None:
    """How long it waited when it was set aside before; None the first time."""
    if row.reason != QUARANTINED:
        return None
    return timedelta(microseconds=max(row.next_at - row.updated_at, 0))


async def _contacted(conn: AsyncConnection, row: Row[Any], name: str) -> str | None:
    """The state that its latest contact gave a reminder whose escalation goes on."""
    contact = await last_contact(conn, row.tenant, name) if row.step else None
    return None if contact is None else outcomes.reminder_state(contact.state)
