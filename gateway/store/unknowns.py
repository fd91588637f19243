"""Unknown endings in SQL: which are parked, and what is decided about one (gateway.unknowns.UnknownStore)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Row, and_, or_, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.domain import Outcome, Tenant, to_us
from gateway.masking import MASK, mask_any
from gateway.ports import Moment
from gateway.store import schema
from gateway.store.changes import Changes
from gateway.store.database import Database, chunks
from gateway.store.dispatch import DispatchStore, DispatchTx
from gateway.store.log import Log
from gateway.store.pages import Page, number, page, place
from gateway.store.rows import instant
from gateway.vault import DataKey, Vault
from gateway.work import Attempt

_ATTEMPT, _ADDRESS = schema.attempt.c, schema.address.c

Address = tuple[str, str, str]
"""Where an address stands: its borrower, channel, and the hex of its blind index."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Which:
    """Which of them; None is any. `asked`: also those whose provider is still asked. `since`, `until`: begun then."""

    channel: str | None = None
    account: str | None = None
    borrower: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    asked: bool = False


class UnknownRows(DispatchStore):
    """gateway.unknowns.UnknownStore, and the list of them."""

    def __init__(
        self, database: Database, log: Log, *, vault: Vault, entropy: Callable[[int], bytes]
    ) -> None:
        super().__init__(database, log)
        self._vault = vault
        self._changes = Changes(log, entropy)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[UnknownTx]:
        """One transaction."""
        async with self._db.write() as conn:
            yield UnknownTx(conn, await self._db.moment(conn), self._log, self._changes)

    async def listed(self, tenant: Tenant, wanted: Which, *, limit: int, after: str | None) -> Page:
        """Attempts whose ending nobody knows, the longest so first; whom they were for behind masks."""
        where = [
            _ATTEMPT.tenant == tenant,
            _ATTEMPT.state == Outcome.UNKNOWN.value,
            _ATTEMPT.deadline.is_not(None),  # contacts made elsewhere have none
            *(
                _ATTEMPT[name] == value
                for name in ("channel", "account", "borrower")
                if (value := getattr(wanted, name)) is not None
            ),
        ]
        if not wanted.asked:
            where.append(_ATTEMPT.settle_at.is_(None))
        if wanted.since is not None:
            where.append(_ATTEMPT.started_at >= to_us(wanted.since))
        if wanted.until is not None:
            where.append(_ATTEMPT.started_at < to_us(wanted.until))
        if after is not None:
            deadline, ref = place(after, 2)
            at = number(deadline)
            where.append(or_(_ATTEMPT.deadline > at, and_(_ATTEMPT.deadline == at, _ATTEMPT.ref > ref)))
        async with self._db.read() as conn:
            found = await conn.execute(
                select(schema.attempt)
                .where(*where)
                .order_by(_ATTEMPT.deadline, _ATTEMPT.ref)
                .limit(limit + 1)
            )
            rows = found.all()
            sealed = await _addresses(conn, rows[:limit])
        keys = await self._vault.keys_for(tenant, sorted({r.borrower for r in rows[:limit]}), create=False)
        return page(rows, limit, lambda r: _shown(r, sealed, keys), lambda r: [str(r.deadline), r.ref])


class UnknownTx(DispatchTx):
    """Statements of dispatch, and who decided."""

    def __init__(self, conn: AsyncConnection, moment: Moment, log: Log, changes: Changes) -> None:
        super().__init__(conn, moment, log)
        self._changes = changes

    async def note(self, attempt: Attempt, word: str, *, who: str, reason: str) -> None:
        """Who decided what about it, and why, into the history."""
        await self._changes.note(
            self.conn,
            self.moment,
            attempt.tenant,
            who,
            kind="unknown",
            name=attempt.ref,
            before={"state": attempt.state},
            after={"as": word},
            reason=reason,
        )


async def _addresses(conn: AsyncConnection, rows: Sequence[Row[Any]]) -> dict[Address, bytes]:
    """The sealed addresses that these attempts went to."""
    wanted = [(r.tenant, r.borrower, r.channel, bytes.fromhex(r.address)) for r in rows]
    found: dict[Address, bytes] = {}
    for part in chunks(wanted):
        at = tuple_(_ADDRESS.tenant, _ADDRESS.borrower, _ADDRESS.channel, _ADDRESS.blind)
        for row in await conn.execute(select(schema.address).where(at.in_(part))):
            found[row.borrower, row.channel, bytes(row.blind).hex()] = row.value_enc
    return found


def _shown(row: Row[Any], sealed: Mapping[Address, bytes], keys: Mapping[str, DataKey]) -> dict[str, Any]:
    return {
        "ref": row.ref,
        "reminder": row.reminder,
        "borrower": row.borrower,
        "debt": row.debt,
        "channel": row.channel,
        "adapter": row.adapter,
        "account": row.account,
        "to": _to(row, sealed.get((row.borrower, row.channel, row.address)), keys.get(row.borrower)),
        "called_at": instant(row.called_at),
        "code": row.code,
        "provider_id": row.provider_id,
        "asked": row.settle_tries,
        "asked_next_at": instant(row.settle_at),
    }


def _to(row: Row[Any], sealed: bytes | None, key: DataKey | None) -> str:
    if sealed is None or key is None:
        return MASK
    clear = key.open(sealed, table="address", column="value_enc", row=row.address)
    return mask_any(row.channel, clear.decode())
