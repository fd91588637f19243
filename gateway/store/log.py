"""Appends records: the leaf is final when written; its place in the log is given later (record_outbox)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.domain import Tenant, to_us, ulid
from gateway.errors import Unavailable
from gateway.ports import Entry
from gateway.sendlog.record import SALT_BYTES, Built, Kind, LogKeys, build
from gateway.store import schema
from gateway.store.words import Words
from gateway.telemetry import get
from gateway.vault import TENANT_KEY, Vault

log = get(__name__)

_TYPES = {
    **dict.fromkeys(
        ("tenant", "id", "kind", "reminder", "attempt", "borrower", "channel", "state", "reason"), "text"
    ),
    "at": "bigint",
    "leaf": "bytea",
}
_KEYS = tuple(_TYPES)
_COLUMNS = ", ".join(_KEYS)
_ARRAYS = ", ".join(f"CAST(:{key} AS {type_}[])" for key, type_ in {**_TYPES, "side_enc": "bytea"}.items())
_APPEND = Words(
    f"WITH given AS MATERIALIZED (SELECT * FROM unnest({_ARRAYS}) AS g({_COLUMNS}, side_enc)),"  # noqa: S608 (ours)
    f" leaves AS (INSERT INTO record ({_COLUMNS}) SELECT {_COLUMNS} FROM given),"
    " sides AS (INSERT INTO record_side (tenant, id, borrower, side_enc)"
    " SELECT tenant, id, borrower, side_enc FROM given)"
    " INSERT INTO record_outbox (tenant, id, at) SELECT tenant, id, at FROM given"
)
"""PostgreSQL is asked once; SQLite has no arrays, and no way to it that takes long."""


SLICE = 20
"""Records between which other work of this process comes to its turn: calls have a time to begin at."""


class Log:
    """Builds and writes records within the caller's transaction."""

    def __init__(self, vault: Vault, keys: LogKeys, entropy: Callable[[int], bytes]) -> None:
        self._vault = vault
        self._keys = keys
        self._entropy = entropy

    async def append(self, conn: AsyncConnection, entries: Sequence[Entry]) -> None:
        """Write one record per entry, its side sealed under the borrower's key, and a row of the outbox."""
        if not entries:
            return
        made = []
        for place, entry in enumerate(entries):
            made.append((entry, *self._build(entry)))
            if place % SLICE == SLICE - 1:
                await asyncio.sleep(0)
        sides = await self._seal(made)
        rows = [_row(*one) for one in made]
        if conn.dialect.name == "postgresql":
            columns = dict(zip(_KEYS, zip(*rows, strict=True), strict=True))
            await _APPEND.run(conn, **columns, side_enc=sides)
            return
        await conn.execute(insert(schema.record), [dict(zip(_KEYS, row, strict=True)) for row in rows])
        await conn.execute(
            insert(schema.record_side),
            [
                {"tenant": e.tenant, "id": name, "borrower": e.borrower, "side_enc": side}
                for (e, name, _), side in zip(made, sides, strict=True)
            ],
        )
        await conn.execute(
            insert(schema.record_outbox),
            [{"tenant": e.tenant, "id": name, "at": to_us(e.at)} for e, name, _ in made],
        )

    async def names(self, tenant: Tenant, borrower: str) -> str | None:
        """The borrower, where a record can be sealed under their key; None where that key does not serve."""
        try:
            found = await self._vault.keys([(tenant, borrower)], create=False)
        except Unavailable:
            raise
        except Exception as wrong:  # noqa: BLE001 (what is wrong with a key must not hold up a record)
            log.warning("key_broken", error=type(wrong).__name__)
            return None
        return borrower if found else None

    def _build(self, entry: Entry) -> tuple[str, Built]:
        name = ulid("lg_", to_us(entry.at), self._entropy(10))
        built = build(
            self._keys,
            id=name,
            salt=self._entropy(SALT_BYTES),
            tenant=entry.tenant,
            kind=Kind(entry.kind),
            at=entry.at,
            reminder=entry.reminder,
            attempt=entry.attempt,
            borrower=entry.borrower,
            channel=entry.channel,
            state=entry.state,
            reason=entry.reason,
            ids=entry.ids,
            body=entry.body,
            clear=entry.clear,
        )
        return name, built

    async def _seal(self, made: Sequence[tuple[Entry, str, Built]]) -> list[bytes]:
        subjects = {(entry.tenant, entry.borrower or TENANT_KEY) for entry, _, _ in made}
        keys = await self._vault.keys(sorted(subjects), create=True)
        return [
            keys[entry.tenant, entry.borrower or TENANT_KEY].seal(
                built.side, table="record_side", column="side_enc", row=name
            )
            for entry, name, built in made
        ]


def _row(entry: Entry, name: str, built: Built) -> tuple[Any, ...]:
    """A record's row, in the order of _KEYS."""
    return (
        entry.tenant,
        name,
        entry.kind,
        entry.reminder,
        entry.attempt,
        entry.borrower,
        entry.channel,
        entry.state,
        entry.reason,
        to_us(entry.at),
        built.leaf,
    )
