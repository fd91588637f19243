"""What is only read: reminders, borrowers behind masks, records, counts. Pages go by key, never by offset."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import ColumnElement, Row, and_, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.bodies import write_instant
from gateway.domain import Channel, Tenant, from_us, to_us, ulid
from gateway.errors import NotFound
from gateway.masking import MASK, mask_any, mask_id, mask_name
from gateway.policy.numbers import kept_clue
from gateway.ports import Moment
from gateway.store import pauses, schema
from gateway.store.backlog import rolled
from gateway.store.database import Database
from gateway.store.grounds import leaves, whole
from gateway.store.pages import Page, number, page, place
from gateway.store.poison import QUARANTINED
from gateway.store.quota_views import held_by
from gateway.vault import DataKey, Vault
from gateway.work import Queue

_REMINDER, _ATTEMPT, _RECORD = schema.reminder.c, schema.attempt.c, schema.record.c
MOST_ATTEMPTS = 100
_WAITS = ("waiting", "deferred")


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which of a list; None is any. `since` and `until` are half-open."""

    borrower: str | None = None
    debt: str | None = None
    channel: str | None = None
    state: str | None = None
    reason: str | None = None
    since: datetime | None = None
    until: datetime | None = None


class Reads:
    """Reads for one process. `channel_of` gives the channel of an adapter."""

    def __init__(self, database: Database, vault: Vault, channel_of: Callable[[str], str]) -> None:
        self._db = database
        self._vault = vault
        self._channel_of = channel_of

    # Reminders.

    async def reminder(self, tenant: Tenant, name: str) -> dict[str, Any]:
        """A reminder with its decision and its attempts; NotFound."""
        async with self._db.read() as conn:
            row = await _one(conn, name, tenant)
            attempts = await conn.execute(
                select(schema.attempt)
                .where(_ATTEMPT.tenant == tenant, _ATTEMPT.reminder == name)
                .order_by(_ATTEMPT.started_at, _ATTEMPT.ref)
                .limit(MOST_ATTEMPTS)
            )
            shown = [_attempt(r) for r in attempts]
            held = await self._held(conn, row, await self._db.moment(conn))
            decision = await _decision(conn, row)
        return {**_reminder(row), **held, "decision": decision, "attempts": shown}

    async def _held(self, conn: AsyncConnection, row: Row[Any], moment: Moment) -> dict[str, str]:
        """Why a reminder that is due does not go, where a pause or a quota holds up all that waits beside it."""
        due = row.state in _WAITS and row.next_at is not None and row.next_at <= to_us(moment.policy)
        if not due:
            return {}
        queue = Queue(
            name=row.queue,
            channel=Channel(row.channel),
            tenant=Tenant(row.tenant),
            template=row.template,
            priority=row.priority,
            oldest=from_us(row.next_at),
        )
        pause = await pauses.over(conn, moment, queue)
        if pause is not None:
            return {"reason": pause.kind.reason, "by": pause.id}
        quota = await held_by(conn, moment, queue, self._channel_of)
        return {} if quota is None else {"reason": "quota", "by": quota}

    async def decision(self, tenant: Tenant, name: str) -> dict[str, Any] | None:
        """A reminder's latest decision; NotFound when there is no such reminder.

        One that could go and is held where it starts (a quota, a pause, an account) says that, and by which.
        """
        async with self._db.read() as conn:
            row = await _one(conn, name, tenant)
            decided = await _decision(conn, row)
        if decided is None or row.state != "deferred" or row.by is None:
            return decided
        until = write_instant(from_us(row.next_at)) if row.next_at is not None else None
        held = {"action": "defer", "reason": row.reason, "until": until, "again": True}
        return {**decided, **held, "deliver_by": None, "opens": None, "ends": None, "note": row.by}

    async def set_aside(self, tenant: Tenant, name: str) -> str | None:
        """The kind of error for which a reminder waits as `quarantined`, if it does; reads nothing else of its row."""
        where = _REMINDER.tenant == tenant, _REMINDER.id == name, _REMINDER.reason == QUARANTINED
        async with self._db.read() as conn:
            by: str | None = await conn.scalar(select(_REMINDER.by).where(*where))
        return by

    async def reminders(self, tenant: Tenant, wanted: Filter, *, limit: int, after: str | None) -> Page:
        """Reminders, the newest first. Ids sort by the instant they were accepted at."""
        where = [
            _REMINDER.tenant == tenant,
            *_equal(wanted, _REMINDER, "borrower", "debt", "state", "reason"),
        ]
        if wanted.channel is not None:
            where.append(_REMINDER.channel == wanted.channel)
        if wanted.since is not None:
            where.append(_REMINDER.id >= _first_id(wanted.since))
        if wanted.until is not None:
            where.append(_REMINDER.id < _first_id(wanted.until))
        if after is not None:
            where.append(_REMINDER.id < place(after, 1)[0])
        async with self._db.read() as conn:
            rows = list(
                await conn.execute(
                    select(schema.reminder).where(*where).order_by(_REMINDER.id.desc()).limit(limit + 1)
                )
            )
        return page(rows, limit, _reminder, lambda row: [row.id])

    async def stats(self, tenant: Tenant) -> dict[str, Any]:
        """How many reminders stand in each state, what is due and since when, and why the rest is put off."""
        async with self._db.read() as conn:
            now = to_us((await self._db.moment(conn)).policy)
            return (await rolled(conn, now, tenant)).shown()

    # Borrowers, behind masks.

    async def borrower(self, tenant: Tenant, name: str) -> dict[str, Any]:
        """A borrower, every personal value masked; NotFound."""
        table, address = schema.borrower.c, schema.address.c
        async with self._db.read() as conn:
            found = await conn.execute(
                select(schema.borrower).where(table.tenant == tenant, table.id == name)
            )
            row = found.one_or_none()
            rows = await conn.execute(
                select(schema.address)
                .where(address.tenant == tenant, address.borrower == name)
                .order_by(address.position)
            )
            addresses = list(rows)
        if row is None:
            raise NotFound
        key = (await self._vault.keys_for(tenant, [name], create=False)).get(name)
        return {
            "id": row.id,
            **_masked(row, key),
            **orjson.loads(row.profile),
            "addresses": [_address(a, key) for a in addresses],
            "revision": row.revision,
            "updated_at": from_us(row.updated_at),
        }

    # Records.

    async def records(
        self, tenant: Tenant, wanted: Filter, *, limit: int, after: str | None, newest_first: bool
    ) -> Page:
        """Records of the send log: facts in clear, and the ids they are found by; nothing of a person."""
        where = [
            _RECORD.tenant == tenant,
            *_equal(wanted, _RECORD, "borrower", "channel", "state", "reason"),
        ]
        if wanted.since is not None:
            where.append(_RECORD.at >= to_us(wanted.since))
        if wanted.until is not None:
            where.append(_RECORD.at < to_us(wanted.until))
        if after is not None:
            at, name = place(after, 2)
            where.append(_beyond(number(at), name, newest_first=newest_first))
        order = [c.desc() if newest_first else c.asc() for c in (_RECORD.at, _RECORD.id)]
        async with self._db.read() as conn:
            rows = list(
                await conn.execute(select(schema.record).where(*where).order_by(*order).limit(limit + 1))
            )
            said = {leaf["id"]: leaf for leaf in await leaves(conn, rows)}
        return page(rows, limit, lambda row: _record(row, said[row.id]), lambda row: [str(row.at), row.id])


async def _one(conn: AsyncConnection, name: str, tenant: Tenant) -> Row[Any]:
    found = await conn.execute(
        select(schema.reminder).where(_REMINDER.tenant == tenant, _REMINDER.id == name)
    )
    row = found.one_or_none()
    if row is None:
        raise NotFound
    return row


async def _decision(conn: AsyncConnection, row: Row[Any]) -> dict[str, Any] | None:
    """A reminder's latest, with all that it rests on."""
    (decision,) = await whole(conn, [orjson.loads(row.decision) if row.decision else None])
    return decision


def _first_id(at: datetime) -> str:
    """No reminder that was accepted from then on has a smaller id."""
    return ulid("rm_", max(to_us(at), 0), bytes(10))


def _equal(wanted: Filter, columns: Any, *names: str) -> list[ColumnElement[bool]]:
    given = [(name, getattr(wanted, name)) for name in names]
    return [columns[name] == value for name, value in given if value is not None]


def _beyond(at: int, name: str, *, newest_first: bool) -> ColumnElement[bool]:
    if newest_first:
        return or_(_RECORD.at < at, and_(_RECORD.at == at, _RECORD.id < name))
    return or_(_RECORD.at > at, and_(_RECORD.at == at, _RECORD.id > name))


def _at(us: int | None) -> datetime | None:
    return None if us is None else from_us(us)


def _reminder(row: Row[Any]) -> dict[str, Any]:
    return {
        "id": row.id,
        "idempotency_key": row.key,
        "state": row.state,
        "reason": row.reason,
        "by": row.by,
        "next_at": _at(row.next_at),
        "expires_at": from_us(row.expires_at),
        "accepted_at": from_us(row.accepted_at),
        "updated_at": from_us(row.updated_at),
        "borrower": row.borrower,
        "debt": row.debt,
        "purpose": row.purpose,
        "channel": row.channel,
        "channels": orjson.loads(row.channels),
        "template": {"name": row.template, "version": row.template_version},
        "segment": row.segment,
        "value": row.value,
    }


def _attempt(row: Row[Any]) -> dict[str, Any]:
    price = {"amount": row.price_amount, "currency": row.price_currency} if row.price_amount else None
    return {
        "ref": row.ref,
        "channel": row.channel,
        "adapter": row.adapter,
        "account": row.account,
        "state": row.state,
        "started_at": from_us(row.started_at),
        "ended_at": _at(row.ended_at),
        "segments": row.segments,
        "price": price,
        "code": row.code,
    }


def _record(row: Row[Any], leaf: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "id": row.id,
        "at": from_us(row.at),
        "kind": row.kind,
        "reminder": row.reminder,
        "attempt": row.attempt,
        "borrower": row.borrower,
        "channel": row.channel,
        "state": row.state,
        "reason": row.reason,
        "log_index": row.log_index,
        "body": leaf.get("body", {}),
    }


def _masked(row: Row[Any], key: DataKey | None) -> Mapping[str, str | None]:
    if key is None:
        return {"name": MASK, "national_id": MASK}
    clear = orjson.loads(key.open(row.pii_enc, table="borrower", column="pii_enc", row=row.id))
    name, number = clear.get("name"), clear.get("national_id")
    return {"name": name and mask_name(name), "national_id": number and mask_id(number)}


def _address(row: Row[Any], key: DataKey | None) -> dict[str, Any]:
    value, clue = MASK, kept_clue(row.zones)
    if key is not None:
        clear = key.open(row.value_enc, table="address", column="value_enc", row=bytes(row.blind).hex())
        value = mask_any(row.channel, clear.decode())
    return {
        "channel": row.channel,
        "value": value,
        "kind": row.kind,
        "country": row.country,
        "zones": clue.zones if clue else (),
        "dead_at": _at(row.dead_at),
    }
