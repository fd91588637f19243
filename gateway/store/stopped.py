"""What a scope covers, asked of SQL: which reminders wait under it, and which attempts are with a provider.

The same words as `gateway.pauses.PauseScope.covers`. A reminder that waits has no account yet: words for one cover
all that wait for a channel which it serves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import ColumnElement, Row, String, and_, cast, func, or_, select
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.domain import Tenant, from_us, to_us
from gateway.pauses import Pause
from gateway.quotas.model import EVERYONE, Load
from gateway.store import schema
from gateway.store.pages import Page, page, place
from gateway.work import Start

_REMINDER, _ATTEMPT = schema.reminder.c, schema.attempt.c
_DEBT, _BORROWER = schema.debt.c, schema.borrower.c
_OPEN = ("waiting", "deferred", "sent", "failed", "unknown")
"""States that a reminder with a `next_at` waits in: the last three for the next step of an escalation."""
MOST_CALLS = 10_000
"""Attempts that are looked at together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """How many wait under a scope, and how many of them expire before an instant."""

    waiting: int
    expires: int


async def count(
    conn: AsyncConnection, pause: Pause, channels: frozenset[str] | None, before: datetime
) -> Waiting:
    """How many reminders a pause holds up. `channels`: those that the accounts it names serve; None: it names none."""
    expires = func.count().filter(_REMINDER.expires_at <= to_us(before))
    asked = select(func.count(), expires).select_from(schema.reminder)
    number, lost = (await conn.execute(asked.where(*_waits(conn, pause, channels)))).one()
    return Waiting(waiting=number, expires=lost)


async def reminders(
    conn: AsyncConnection, pause: Pause, channels: frozenset[str] | None, *, limit: int, after: str | None
) -> Page:
    """The reminders that a pause holds up, page by page; they come by person."""
    where = _waits(conn, pause, channels)
    order = (_REMINDER.tenant, _REMINDER.person, _REMINDER.id)
    if after is not None:
        where.append(_after(order, place(after, len(order))))
    rows = await conn.execute(select(schema.reminder).where(*where).order_by(*order).limit(limit + 1))
    return page(list(rows), limit, _shown, lambda row: [row.tenant, row.person, row.id])


def _after(columns: Sequence[ColumnElement[Any]], values: Sequence[str]) -> ColumnElement[bool]:
    tenant, person, name = columns
    return or_(
        tenant > values[0],
        and_(tenant == values[0], person > values[1]),
        and_(tenant == values[0], person == values[1], name > values[2]),
    )


def _shown(row: Row[Any]) -> dict[str, Any]:
    return {
        "id": row.id,
        "tenant": row.tenant.partition("/")[0],
        "channel": row.channel,
        "template": {"name": row.template, "version": row.template_version},
        "state": row.state,
        "expires_at": from_us(row.expires_at),
    }


def _waits(conn: AsyncConnection, pause: Pause, channels: frozenset[str] | None) -> list[ColumnElement[bool]]:
    """Open, not called or with a step of an escalation still to come, and covered by the pause."""
    scope, quota = pause.scope, pause.scope.quota
    where = [
        _REMINDER.next_at.is_not(None),
        _REMINDER.state.in_(_OPEN),
        _of(_REMINDER.tenant, pause.owner),
    ]
    if quota.tenant is not None:
        where.append(_REMINDER.tenant == f"{quota.tenant}/{pause.owner.partition('/')[2]}")
    named = {
        _REMINDER.channel: quota.channel,
        _REMINDER.template: quota.template,
        _REMINDER.template_version: scope.template_version,
    }
    where += [column == value for column, value in named.items() if value is not None]
    if channels is not None:
        where.append(_REMINDER.channel.in_(sorted(channels)))
    if scope.portfolio is not None:
        where.append(
            or_(_REMINDER.portfolio == scope.portfolio, _debt_has(_DEBT.portfolio == scope.portfolio))
        )
    if scope.jurisdiction is not None:
        where.append(_in_place(conn.dialect.name, scope.jurisdiction))
    return where


def _of(tenant: ColumnElement[str], owner: Tenant) -> ColumnElement[bool]:
    name, _, mode = owner.partition("/")
    return tenant.like(f"%/{mode}") if name == EVERYONE else tenant == owner


def _debt_has(condition: ColumnElement[bool]) -> ColumnElement[bool]:
    return (
        select(_DEBT.id)
        .where(_DEBT.tenant == _REMINDER.tenant, _DEBT.id == _REMINDER.debt, condition)
        .correlate(schema.reminder)
        .exists()
    )


def _in_place(dialect: str, jurisdiction: str) -> ColumnElement[bool]:
    """As it was accepted, by the debt's law, or where the borrower lives now."""
    lives = (
        select(_BORROWER.id)
        .where(
            _BORROWER.tenant == _REMINDER.tenant,
            _BORROWER.id == _REMINDER.borrower,
            _within(_residence(dialect), jurisdiction),
        )
        .correlate(schema.reminder)
        .exists()
    )
    return or_(
        _REMINDER.places.contains(f'"{jurisdiction}"', autoescape=True),
        _REMINDER.places.contains(f'"{jurisdiction}-', autoescape=True),
        _debt_has(_within(_DEBT.governing_law, jurisdiction)),
        lives,
    )


def _within(place: ColumnElement[Any], jurisdiction: str) -> ColumnElement[bool]:
    return or_(place == jurisdiction, place.startswith(f"{jurisdiction}-", autoescape=True))


def _residence(dialect: str) -> ColumnElement[Any]:
    if dialect == "postgresql":
        found: ColumnElement[Any] = cast(_BORROWER.profile, JSONB)["residence"].astext
        return found
    return cast(func.json_extract(_BORROWER.profile, "$.residence"), String)


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """An attempt that is, or was, with a provider."""

    tenant: Tenant
    ref: str
    account: str
    state: str
    provider_id: str | None


async def calls(
    conn: AsyncConnection, pause: Pause, *conditions: ColumnElement[bool], limit: int = MOST_CALLS
) -> list[Call]:
    """The attempts under these conditions that a pause covers, the newest first."""
    debt = and_(_DEBT.tenant == _REMINDER.tenant, _DEBT.id == _REMINDER.debt)
    lives = and_(_BORROWER.tenant == _REMINDER.tenant, _BORROWER.id == _REMINDER.borrower)
    mine = and_(_REMINDER.tenant == _ATTEMPT.tenant, _REMINDER.id == _ATTEMPT.reminder)
    rows = await conn.execute(
        select(
            schema.attempt,
            _REMINDER.portfolio,
            _REMINDER.places,
            _REMINDER.template.label("its_template"),
            _REMINDER.template_version.label("its_version"),
            _DEBT.portfolio.label("portfolio_now"),
            _DEBT.governing_law,
            _BORROWER.profile,
        )
        .join(schema.reminder, mine)
        .outerjoin(schema.debt, debt)
        .outerjoin(schema.borrower, lives)
        .where(_of(_ATTEMPT.tenant, pause.owner), *conditions)
        .order_by(_ATTEMPT.ref.desc())
        .limit(limit)
    )
    return [_call(row) for row in rows if pause.covers(_start(row))]


def _call(row: Row[Any]) -> Call:
    return Call(
        tenant=Tenant(row.tenant),
        ref=row.ref,
        account=row.account,
        state=row.state,
        provider_id=row.provider_id,
    )


def _start(row: Row[Any]) -> Start:
    """The start that it was."""
    lives = orjson.loads(row.profile).get("residence") if row.profile else None
    return Start(
        ref=row.ref,
        load=Load(
            tenant=Tenant(row.tenant),
            channel=row.channel,
            adapter=row.adapter,
            account=row.account,
            template=row.its_template,
        ),
        template_version=row.its_version,
        portfolios=_some(row.portfolio, row.portfolio_now),
        places=_some(*orjson.loads(row.places), row.governing_law, lives),
        deliver_by=from_us(row.started_at),
    )


def _some(*values: str | None) -> frozenset[str]:
    return frozenset(value for value in values if value)
