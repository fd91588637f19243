"""Counts of what waits, bounded."""

from __future__ import annotations

from sqlalchemy import func, select

from gateway.backlog import Waiting
from gateway.domain import to_us
from gateway.store import schema
from gateway.store.database import Database
from gateway.store.dispatch import DUE_STATES


class BacklogStore:
    """gateway.backlog.Count."""

    def __init__(self, database: Database) -> None:
        self._db = database

    async def waiting(self, most: int) -> Waiting:
        """Count through indexes, `most` rows at most."""
        reminder, attempt = schema.reminder.c, schema.attempt.c
        async with self._db.read() as conn:
            now = to_us((await self._db.moment(conn)).policy)
            is_due = (reminder.next_at <= now, reminder.state.in_(DUE_STATES))
            due = await conn.scalar(
                select(func.count()).select_from(select(reminder.id).where(*is_due).limit(most).subquery())
            )
            oldest = await conn.scalar(select(func.min(reminder.next_at)).where(*is_due))
            unknown = await conn.scalar(
                select(func.count()).select_from(
                    select(attempt.ref).where(attempt.state == "unknown").limit(most).subquery()
                )
            )
        oldest_s = 0.0 if oldest is None else (now - oldest) / 1e6
        return Waiting(due=due or 0, oldest_s=oldest_s, unknown=unknown or 0)
