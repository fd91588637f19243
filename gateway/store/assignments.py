"""Which packs are added for a tenant and its portfolios: versions that are only added, the newest in force."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson
from sqlalchemy import ColumnElement, Row, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.domain import Tenant, from_us, to_us
from gateway.errors import StaleVersion
from gateway.store import schema
from gateway.store.changes import Changes
from gateway.store.database import Database
from gateway.store.keys import Operator
from gateway.store.log import Log
from gateway.store.pages import Page, number, page, place
from gateway.store.rows import newest_assignment
from gateway.work import Assignment

WHOLE = "_"
"""A whole tenant, where a portfolio's name would stand."""
_ROW = schema.policy_assignment.c


class Assignments:
    """Assignments of packs. Setting one is an act with its history and its record."""

    def __init__(self, database: Database, log: Log, entropy: Callable[[int], bytes]) -> None:
        self._db = database
        self._changes = Changes(log, entropy)

    async def listed(self, tenant: Tenant, *, limit: int, after: str | None) -> Page:
        """Those in force: the whole tenant's, then its portfolios' by name."""
        where = [newest_assignment()]
        if after is not None:
            where.append(_ROW.portfolio > place(after, 1)[0])
        return await self._page(tenant, where, _ROW.portfolio, limit, lambda row: [row.portfolio])

    async def history(self, tenant: Tenant, portfolio: str, *, limit: int, after: str | None) -> Page:
        """Every version of one (empty: the whole tenant's), the newest first."""
        where: list[ColumnElement[bool]] = [_ROW.portfolio == portfolio]
        if after is not None:
            where.append(_ROW.version < number(place(after, 1)[0]))
        return await self._page(tenant, where, _ROW.version.desc(), limit, lambda row: [str(row.version)])

    async def _page(
        self,
        tenant: Tenant,
        where: list[ColumnElement[bool]],
        order: ColumnElement[Any],
        limit: int,
        key: Callable[[Row[Any]], list[str]],
    ) -> Page:
        asked = select(schema.policy_assignment).where(_ROW.tenant == tenant, *where)
        async with self._db.read() as conn:
            rows = list(await conn.execute(asked.order_by(order).limit(limit + 1)))
        return page(rows, limit, _shown, key)

    async def put(self, wanted: Assignment, reason: str, by: Operator) -> dict[str, Any]:
        """Add a version; StaleVersion unless the one before it is in force (before 1: none)."""
        async with self._db.write() as conn:
            moment = await self._db.moment(conn)
            await _one_by_one(conn, by.tenant)
            before = await _current(conn, by.tenant, wanted.portfolio)
            if wanted.version != (before.version if before else 0) + 1:
                raise _stale(before)
            await conn.execute(
                insert(schema.policy_assignment).values(
                    tenant=by.tenant,
                    portfolio=wanted.portfolio,
                    version=wanted.version,
                    licences=orjson.dumps(wanted.licences).decode(),
                    institution=wanted.institution,
                    packs=orjson.dumps(wanted.packs).decode(),
                    at=to_us(moment.real),
                    who=by.who,
                    reason=reason,
                )
            )
            after = await _current(conn, by.tenant, wanted.portfolio)
            assert after is not None  # noqa: S101 (it was just written)
            await self._changes.note(
                *(conn, moment, by.tenant, by.who),
                kind="policy",
                name=wanted.portfolio or WHOLE,
                before=_said(before) if before else None,
                after=_said(after),
                reason=reason,
            )
            return _shown(after)


async def _one_by_one(conn: AsyncConnection, tenant: Tenant) -> None:
    """Let assignments of one tenant wait for each other."""
    name = tenant.partition("/")[0]
    await conn.execute(
        select(schema.tenant.c.name).where(schema.tenant.c.name == name).with_for_update(key_share=True)
    )


async def _current(conn: AsyncConnection, tenant: Tenant, portfolio: str) -> Row[Any] | None:
    rows = await conn.execute(
        select(schema.policy_assignment).where(
            _ROW.tenant == tenant, _ROW.portfolio == portfolio, newest_assignment()
        )
    )
    return rows.one_or_none()


def _stale(current: Row[Any] | None) -> StaleVersion:
    if current is None:
        return StaleVersion("there is none yet: leave `version` out", current=None)
    return StaleVersion(
        f"version {current.version} stands: look at it, then send it as `version`", current=_shown(current)
    )


def _said(row: Row[Any]) -> dict[str, Any]:
    return {
        "version": row.version,
        "licences": orjson.loads(row.licences),
        "institution": row.institution,
        "packs": orjson.loads(row.packs),
    }


def _shown(row: Row[Any]) -> dict[str, Any]:
    return {
        "portfolio": row.portfolio or None,
        **_said(row),
        "at": from_us(row.at),
        "who": row.who,
        "reason": row.reason,
    }
