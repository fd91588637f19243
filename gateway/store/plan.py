"""The work that waits, in groups, and what a plan has to know beside it. It reads; nothing is changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, and_, case, func, literal, null, or_, select

from gateway.domain import Channel, Mode, Tenant, from_us, to_us
from gateway.planning import Group, Stock
from gateway.ports import Moment
from gateway.quotas.counting import Span, Tally
from gateway.quotas.model import Quota
from gateway.store import counted, pauses, quotas, schema
from gateway.store.database import Database
from gateway.work import Queue

MOST = 50_000
FINE = (60, 15, 4, 1)
"""Instants are rounded down to less than such a part of how far ahead they are."""
GRAINS_S = (1, 5, 15, 60, 300, 900, 3600, 4 * 3600, 24 * 3600)
LATELY = timedelta(days=7)
"""From which starts it is told how a queue goes."""
CALLS = 2_000
"""The latest attempts, from which it is told how long a call lasts."""

_REMINDER, _ATTEMPT, _REF, _COUNT = (
    table.c for table in (schema.reminder, schema.attempt, schema.attempt_ref, schema.quota_count)
)


class PlanStore:
    """gateway.planning.PlanStore. Beyond `most` groups the backlog is read coarser."""

    def __init__(self, database: Database, *, most: int = MOST) -> None:
        self._db = database
        self._most = most

    async def stock(self, mode: Mode, *, by_country: bool) -> Stock:
        """All that waits in a mode, the quotas and pauses that hold, and how starts went lately."""
        async with self._db.read() as conn:
            moment = await self._db.moment(conn)
            for fine in FINE:
                rows = list(
                    await conn.execute(
                        _groups(mode, moment, fine, by_country=by_country).limit(self._most + 1)
                    )
                )
                if len(rows) <= self._most:
                    break
            lately = await conn.execute(_lately(moment))
            calls = await conn.execute(_calls())
            return Stock(
                now=moment.policy,
                quotas=await quotas.read(conn),
                own=await quotas.of_accounts(conn),
                pauses=await pauses.read(conn),
                groups=[_group(row, moment) for row in rows],
                lately=[(counted.load_of(row.bucket), int(row.number)) for row in lately],
                call_s={(Tenant(row.tenant), row.account): float(row.us) / 1e6 for row in calls},
            )

    async def tallies(self, held: Sequence[Quota], now: datetime) -> Mapping[str, Tally]:
        """What the buckets of these quotas, stored or not, have counted until now: added up from the starts."""
        found: dict[str, Tally] = {}
        async with self._db.read() as conn:
            rows = await counted.from_loads(conn, now, held)
        for (key, span, start), (units, micros) in rows.items():
            found.setdefault(key, Tally()).add(Span(span), start, units, micros)
        return found


def _groups(mode: Mode, moment: Moment, fine: int, *, by_country: bool) -> Any:
    """Reminders that wait, by queue, due time and expiry; what a quota put off is due: it waits for no other reason.

    `by_country`: also by where the first of the borrower's living numbers on that channel is from.
    """
    now = to_us(moment.policy)
    is_due = or_(_REMINDER.next_at <= now, _REMINDER.reason == "quota")
    grouped = (
        select(
            _REMINDER.queue,
            case((is_due, literal(now, BigInteger)), else_=_rounded(_REMINDER.next_at, now, fine)).label(
                "due"
            ),
            _rounded(_REMINDER.expires_at, now, fine).label("expires"),
            (_country() if by_country else null()).label("country"),
        )
        .where(
            _REMINDER.next_at.is_not(None),
            _REMINDER.state.in_(("waiting", "deferred")),
            _REMINDER.tenant.like(f"%/{mode}"),
        )
        .subquery()
        .c
    )
    alike = (grouped.queue, grouped.country, grouped.due, grouped.expires)
    return select(*alike, func.count().label("number")).group_by(*alike)


def _country() -> ColumnElement[str]:
    address = schema.address.c
    return (
        select(address.country)
        .where(
            address.tenant == _REMINDER.tenant,
            address.borrower == _REMINDER.borrower,
            address.channel == _REMINDER.channel,
            address.dead_at.is_(None),
        )
        .order_by(address.position)
        .limit(1)
        .correlate(schema.reminder)
        .scalar_subquery()
    )


def _rounded(at: ColumnElement[int], now: int, fine: int) -> ColumnElement[int]:
    """An instant rounded down, the coarser the further it is ahead; whole hours stay what they are."""
    second = 1_000_000
    nearer = [
        (at - now < wider * fine * second, at - at % (grain * second)) for grain, wider in pairwise(GRAINS_S)
    ]
    return case(*nearer, else_=at - at % (GRAINS_S[-1] * second))


def _group(row: Any, moment: Moment) -> Group:
    channel, tenant, template, priority = row.queue.split("|")
    queue = Queue(
        name=row.queue,
        channel=Channel(channel),
        tenant=Tenant(tenant),
        template=template,
        priority=int(priority),
        oldest=moment.policy,
    )
    return Group(
        queue=queue,
        country=row.country,
        due=from_us(row.due),
        expires=from_us(row.expires),
        count=row.number,
    )


def _lately(moment: Moment) -> Any:
    """Starts of the last days by load."""
    return (
        select(_COUNT.bucket, func.sum(_COUNT.units).label("number"))
        .where(_COUNT.span == counted.LOAD_QUARTER, _COUNT.start >= to_us(moment.policy - LATELY))
        .group_by(_COUNT.bucket)
    )


def _calls() -> Any:
    """How long the latest calls lasted, by account: refs sort by time."""
    latest = select(schema.attempt_ref).order_by(_REF.ref.desc()).limit(CALLS).subquery()
    same = and_(
        *(_ATTEMPT[name] == latest.c[name] for name in ("tenant", "ref", "started_at")),
        _ATTEMPT.called_at.is_not(None),
        _ATTEMPT.ended_at.is_not(None),
        _ATTEMPT.state != "void",
    )
    return (
        select(
            _ATTEMPT.tenant, _ATTEMPT.account, func.avg(_ATTEMPT.ended_at - _ATTEMPT.called_at).label("us")
        )
        .join(latest, same)
        .group_by(_ATTEMPT.tenant, _ATTEMPT.account)
    )
