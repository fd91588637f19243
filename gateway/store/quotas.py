"""Quotas in SQL: what stands, its history, and setting it. Workers read all of it twice a second."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
from sqlalchemy import Row, select
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.domain import Tenant
from gateway.quotas import spec
from gateway.quotas.catalogue import defaults
from gateway.quotas.model import Quota
from gateway.store import schema
from gateway.store.accounts import account_of
from gateway.store.rows import instant

_QUOTA = schema.quota.c


async def read(conn: AsyncConnection) -> list[Quota]:
    """Every quota there is, in all tenants: those that were set, and those that accounts come with.

    One that was set stands in place of an account's own of the same owner and name, until it is unset.
    """
    rows = list(await conn.execute(select(schema.quota).where(_QUOTA.gone.is_(False))))
    stored = [quota_of(row) for row in rows]
    names = {(quota.owner, quota.name) for quota in stored}
    return stored + [quota for quota in await _defaults(conn) if (quota.owner, quota.name) not in names]


async def _defaults(conn: AsyncConnection) -> list[Quota]:
    rows = await conn.execute(select(schema.account).order_by(schema.account.c.tenant, schema.account.c.name))
    return defaults(account_of(row) for row in rows)


def quota_of(row: Row[Any]) -> Quota:
    """A quota from its row, with what it gives way to at its `until`."""
    return _quota(row, orjson.loads(row.spec), version=row.version, until=row.until, before=_before(row))


def _before(row: Row[Any]) -> Quota | None:
    if row.before is None:
        return None
    held = orjson.loads(row.before)
    return _quota(row, held["spec"], version=held["version"])


def _quota(
    row: Row[Any],
    said: Mapping[str, Any],
    *,
    version: int,
    until: int | None = None,
    before: Quota | None = None,
) -> Quota:
    return spec.read(Tenant(row.owner), row.name, said, version=version, until=instant(until), before=before)
