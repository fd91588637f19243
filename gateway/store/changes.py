"""The history of what operators set up, and its records in the send log."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import orjson
from sqlalchemy import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.domain import Tenant, to_us, ulid
from gateway.ports import Entry, Moment
from gateway.store import schema
from gateway.store.log import Log


class Changes:
    """Notes acts in the transaction that does them."""

    def __init__(self, log: Log, entropy: Callable[[int], bytes]) -> None:
        self._log = log
        self._entropy = entropy

    async def note(
        self,
        conn: AsyncConnection,
        moment: Moment,
        tenant: Tenant,
        who: str,
        *,
        kind: str,
        name: str,
        after: Mapping[str, Any],
        before: Mapping[str, Any] | None = None,
        reason: str = "",
    ) -> None:
        """Who did what to which thing of a kind, when, before, after (without secrets) and why."""
        await conn.execute(
            insert(schema.change).values(
                tenant=tenant,
                id=ulid("ch_", to_us(moment.real), self._entropy(10)),
                at=to_us(moment.real),
                who=who,
                kind=kind,
                name=name,
                before=None if before is None else orjson.dumps(before).decode(),
                after=orjson.dumps(after).decode(),
                reason=reason,
            )
        )
        body = {"what": kind, "name": name, "who": who, "before": before, "after": after}
        entry = Entry(tenant=tenant, kind="config", at=moment.policy, reason=reason or None, body=body)
        await self._log.append(conn, [entry])
