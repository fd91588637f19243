"""Quotas in SQL as workers read them, twice a second: those that were set, and those that accounts come with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
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

    One that was set stands in place of an account's own of the same owner and name, until it is unset. Versions only
    rise, whatever comes back: of two the higher is the newer.
    """
    rows = list(await conn.execute(select(schema.quota)))
    known = {(row.owner, row.name): row for row in rows}
    stored = [quota_of(row) for row in rows if not row.gone]
    own = [
        replace(quota, version=row.version) if (row := known.get((quota.owner, quota.name))) else quota
        for quota in await of_accounts(conn)
        if (quota.owner, quota.name) not in known or known[quota.owner, quota.name].gone
    ]
    return stored + own


async def of_accounts(conn: AsyncConnection) -> list[Quota]:
    """What accounts come with."""
    rows = await conn.execute(select(schema.account).order_by(schema.account.c.tenant, schema.account.c.name))
    return defaults(account_of(row) for row in rows)


def quota_of(row: Row[Any]) -> Quota:
    """A quota from its row, with what it gives way to at its `until`, which is its next version."""
    before = None if row.before is None else _quota(row, orjson.loads(row.before), version=row.version + 1)
    return _quota(row, orjson.loads(row.spec), version=row.version, until=row.until, before=before)


def _quota(
    row: Row[Any],
    said: Mapping[str, Any],
    *,
    version: int,
    until: int | None = None,
    before: Quota | None = None,
) -> Quota:
    return spec.read(Tenant(row.owner), row.name, said, version=version, until=instant(until), before=before)
