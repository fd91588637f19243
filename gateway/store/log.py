"""Appends records: the leaf is final when written; its place in the log is given later (record_outbox)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.domain import Tenant, to_us, ulid
from gateway.ports import Entry
from gateway.sendlog.record import SALT_BYTES, Built, Kind, LogKeys, build
from gateway.store import schema
from gateway.vault import Vault

COMMON = "gateway"
"""The subject whose data key seals the sides of records that are about no borrower."""


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
        built = [(entry, self._build(entry)) for entry in entries]
        sides = await self._seal(built)
        await conn.execute(insert(schema.record), [_row(entry, b) for entry, b in built])
        await conn.execute(insert(schema.record_side), sides)
        await conn.execute(
            insert(schema.record_outbox),
            [{"tenant": b.tenant, "id": b.id, "at": to_us(b.at)} for _, b in built],
        )

    def _build(self, entry: Entry) -> Built:
        ids = {**entry.ids, **({"borrower": entry.borrower} if entry.borrower else {})}
        refs = {k: v for k, v in (("reminder", entry.reminder), ("attempt", entry.attempt)) if v}
        words = {"channel": entry.channel, "state": entry.state, "reason": entry.reason}
        return build(
            self._keys,
            salt=self._entropy(SALT_BYTES),
            id=ulid("lg_", to_us(entry.at), self._entropy(10)),
            tenant=entry.tenant,
            at=entry.at,
            kind=Kind(entry.kind),
            ids=ids,
            refs=refs,
            facts={**{k: v for k, v in words.items() if v is not None}, **entry.body},
            values=entry.clear,
        )

    async def _seal(self, built: Sequence[tuple[Entry, Built]]) -> list[dict[str, Any]]:
        subjects: dict[Tenant, set[str]] = {}
        for entry, _ in built:
            subjects.setdefault(entry.tenant, set()).add(entry.borrower or COMMON)
        keys = {t: await self._vault.keys_for(t, names, create=True) for t, names in subjects.items()}
        return [
            {
                "tenant": b.tenant,
                "id": b.id,
                "borrower": entry.borrower,
                "side_enc": keys[entry.tenant][entry.borrower or COMMON].seal(
                    b.side, table="record_side", column="side_enc", row=b.id
                ),
            }
            for entry, b in built
        ]


def _row(entry: Entry, built: Built) -> dict[str, Any]:
    return {
        "tenant": built.tenant,
        "id": built.id,
        "at": to_us(built.at),
        "kind": built.kind.value,
        "reminder": built.reminder,
        "attempt": built.attempt,
        "borrower": entry.borrower,
        "channel": built.channel,
        "state": built.state,
        "reason": built.reason,
        "leaf": built.leaf,
        "log_index": None,
    }
