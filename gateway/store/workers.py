"""Worker processes in SQL: which there are, and the order to take nothing new."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Row, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.domain import Tenant, from_us, to_us
from gateway.errors import NotFound
from gateway.store import schema
from gateway.store.changes import Changes
from gateway.store.database import Database
from gateway.store.log import Log
from gateway.store.owners import DEAD_AFTER
from gateway.store.pages import Page, page, place
from gateway.store.rows import instant

MOST = 1000
"""Workers that are told at once."""

_OWNER, _ATTEMPT = schema.owner.c, schema.attempt.c
_ALIVE = _OWNER.dead_at.is_(None)
_SHOWN = (_OWNER.id, _OWNER.place, _OWNER.started_at, _OWNER.heartbeat_at, _OWNER.quiet_at)


class Workers:
    """All of them, as operators see them."""

    def __init__(self, database: Database, log: Log, entropy: Callable[[int], bytes]) -> None:
        self._db = database
        self._changes = Changes(log, entropy)

    async def listed(self, *, limit: int, after: str | None) -> Page:
        """Those that are not known to be dead, the oldest first, and how many calls each has under way."""
        where: list[ColumnElement[bool]] = [_ALIVE]
        if after is not None:
            where.append(_OWNER.id > place(after, 1)[0])
        async with self._db.read() as conn:
            now = (await self._db.moment(conn)).real
            found = await conn.execute(select(*_SHOWN).where(*where).order_by(_OWNER.id).limit(limit + 1))
            rows = found.all()
            busy = await _under_way(conn)
        return page(
            rows, limit, lambda r: {**self._shown(r, now), "under_way": busy.get(r.id, 0)}, lambda r: [r.id]
        )

    def _shown(self, row: Row[*tuple[Any, ...]], now: datetime) -> dict[str, Any]:
        """On SQLite there is but one worker, and it writes no heartbeat."""
        silent = not self._db.sqlite and abs(now - from_us(row.heartbeat_at)) > DEAD_AFTER
        state = "silent" if silent else "working" if row.quiet_at is None else "quiet"
        return {
            "id": row.id,
            "at": row.place,
            "state": state,
            "started_at": from_us(row.started_at),
            "heartbeat_at": None if self._db.sqlite else from_us(row.heartbeat_at),
            "quiet_at": instant(row.quiet_at),
        }

    async def quiet(self, name: str | None, owner: Tenant, *, who: str, reason: str) -> list[str]:
        """Tell one worker, or for None all that there are now, to take nothing new, on record; who is told.

        There is no way back: whoever is quiet is ended, and another started. NotFound.
        """
        async with self._db.write() as conn:
            moment = await self._db.moment(conn)
            asked = select(_OWNER.id).where(_ALIVE).order_by(_OWNER.id).limit(MOST)
            if name is not None:
                asked = asked.where(_OWNER.id == name)
            told = [r.id for r in await conn.execute(asked.with_for_update())]
            if not told and name is not None:
                raise NotFound("there is no worker of that id, or it is dead: see gateway worker list")
            await conn.execute(
                update(schema.owner)
                .where(_OWNER.id.in_(told), _OWNER.quiet_at.is_(None))
                .values(quiet_at=to_us(moment.real))
            )
            await self._changes.note(
                *(conn, moment, owner, who),
                kind="worker",
                name=name or "all",
                after={"quiet": told},
                reason=reason,
            )
        return told


async def _under_way(conn: AsyncConnection) -> dict[str, int]:
    rows = await conn.execute(
        select(_ATTEMPT.owner, func.count().label("number"))
        .where(_ATTEMPT.state.in_(("intent", "calling")))
        .group_by(_ATTEMPT.owner)
    )
    return {r.owner: r.number for r in rows}
