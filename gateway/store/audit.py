"""Pages of persons with all that the log holds on them, opened as far as their keys are still there."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import orjson
from sqlalchemy import exists, select
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.audit.timeline import Opened, Timeline, timeline
from gateway.domain import Tenant, to_us
from gateway.errors import SetupError
from gateway.policy.model import LOOKBACK
from gateway.sendlog.record import Kind, LogKeys, disagreements
from gateway.store import schema
from gateway.store.database import Database, chunks
from gateway.store.grounds import leaves
from gateway.vault import DataKey, Vault

MOST = 200
"""Persons on a page."""
AT_ONCE = 10
"""Persons whose records are held in memory together."""
AFTERMATH = timedelta(hours=1)
"""How long after the end the log is still read: what was withdrawn is told by then."""
_RECORD, _BORROWER = schema.record.c, schema.borrower.c
_TOLD = (Kind.DECISION, Kind.EXPIRED, Kind.ATTEMPT, Kind.OUTCOME, Kind.RECEIPT, Kind.CONTACT)
_KINDS = [kind.value for kind in (*_TOLD, Kind.RESERVATION, Kind.BORROWER)]


class AuditStore:
    """Reads the log by persons."""

    def __init__(self, database: Database, vault: Vault, keys: LogKeys) -> None:
        self._db = database
        self._vault = vault
        self._keys = keys

    async def persons(
        self, tenant: Tenant, since: datetime, until: datetime, *, after: str = "", limit: int = MOST
    ) -> list[str]:
        """Who was decided on in [since, until), by id; the next page begins after the last of them."""
        decided = exists().where(
            _RECORD.tenant == tenant,
            _RECORD.borrower == _BORROWER.id,
            _RECORD.kind.in_((Kind.DECISION.value, Kind.EXPIRED.value)),
            _RECORD.at >= to_us(since),
            _RECORD.at < to_us(until),
        )
        async with self._db.read() as conn:
            rows = await conn.execute(
                select(_BORROWER.person)
                .where(_BORROWER.tenant == tenant, _BORROWER.person > after, decided)
                .distinct()
                .order_by(_BORROWER.person)
                .limit(limit)
            )
            return [row.person for row in rows]

    async def timelines(
        self, tenant: Tenant, persons: Sequence[str], since: datetime, until: datetime
    ) -> AsyncIterator[Timeline]:
        """What the log says of each of these persons from 75 days before `since` to shortly after `until`."""
        for part in chunks(persons, AT_ONCE):
            for found in await self._records(tenant, part, since - LOOKBACK, until + AFTERMATH):
                yield timeline(found)

    async def _records(
        self, tenant: Tenant, persons: Sequence[str], since: datetime, until: datetime
    ) -> list[list[Opened]]:
        async with self._db.read() as conn:
            owners = await self._owners(conn, tenant, persons)
            rows = await conn.execute(
                select(_RECORD.id, _RECORD.borrower, _RECORD.leaf, schema.record_side.c.side_enc)
                .outerjoin(
                    schema.record_side,
                    (schema.record_side.c.tenant == _RECORD.tenant) & (schema.record_side.c.id == _RECORD.id),
                )
                .where(
                    _RECORD.tenant == tenant,
                    _RECORD.borrower.in_(sorted(owners)),
                    _RECORD.kind.in_(_KINDS),
                    _RECORD.at >= to_us(since),
                    _RECORD.at < to_us(until),
                )
            )
            taken = list(rows)
            said = await leaves(conn, taken)
        keys = await self._vault.keys_for(tenant, sorted(owners), create=False)
        found: dict[str, list[Opened]] = defaultdict(list)
        for row, leaf in zip(taken, said, strict=True):
            found[owners[row.borrower]].append(self._opened(row, leaf, keys.get(row.borrower)))
        return list(found.values())

    async def _owners(
        self, conn: AsyncConnection, tenant: Tenant, persons: Sequence[str]
    ) -> Mapping[str, str]:
        rows = await conn.execute(
            select(_BORROWER.id, _BORROWER.person).where(
                _BORROWER.tenant == tenant, _BORROWER.person.in_(persons)
            )
        )
        return {row.id: row.person for row in rows}

    def _opened(self, row: Any, leaf: dict[str, Any], key: DataKey | None) -> Opened:
        if key is None or row.side_enc is None:
            return Opened(leaf=leaf, side=None, torn=key is not None)
        try:
            side = key.open(row.side_enc, table="record_side", column="side_enc", row=row.id)
        except SetupError:
            return Opened(leaf=leaf, side=None, torn=True)
        if disagreements(row.leaf, side, self._keys) or "ground" in leaf.get("body", {}).get("decision", {}):
            return Opened(leaf=leaf, side=None, torn=True)
        return Opened(leaf=leaf, side=orjson.loads(side))
