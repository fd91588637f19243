"""How accounts stand, in SQL: go asks whether they may be called, T2 writes what their calls came to.

An account of which nothing is to be said costs a go one look-up and a T2 one. Rows are locked in the order of their
names, after reminders, and by go only where it must write: one probe through an account that is half open, and what
a provider keeps in a queue of its own.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import orjson
from sqlalchemy import and_, bindparam, case, func, select, text, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Row
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.domain import HandOver, from_us, to_us
from gateway.ports import Moment
from gateway.quotas import catalogue
from gateway.quotas.model import EVERYONE, Load, Unit
from gateway.standing import SLICE, WINDOW, Breaker, Ending, Recent, Standing, after, from_json, to_json
from gateway.store import schema
from gateway.store.accounts import account_of
from gateway.store.among import among, keyed
from gateway.store.database import Database
from gateway.store.due import make_due, owned
from gateway.store.live import raise_seq
from gateway.store.statements import Worded
from gateway.work import Refusal, Start

SOON = timedelta(seconds=2)
"""After this every worker knows how an account stands, and a refused start is decided by that."""
_STANDING = schema.standing.c
_ATTEMPT = schema.attempt.c
_ACCOUNT = schema.account.c
_WELL = (
    "accepted",
    "delivered",
    "read",
    "answered",
    "conversation",
    "voicemail",
    "no_answer",
    "busy",
    "failed",
)
"""States of attempts that the provider surely took."""
_CLEAR = frozenset(
    {HandOver.ACCEPTED, HandOver.PERMANENT_RECIPIENT, HandOver.OPT_OUT, HandOver.CONTENT, HandOver.EXPIRED}
)
"""Endings that say nothing against an account."""


_SAID = "(SELECT CAST({}({}(pool, state)) AS TEXT) FROM standing WHERE state <> '{{}}')"
SAID = {
    "sqlite": _SAID.format("json_group_array", "json_array"),
    "postgresql": _SAID.format("json_agg", "json_build_array"),
}
"""All of it as one column of a SELECT, by dialect, for `told`."""


def told(said: str | None) -> dict[str, Standing]:
    """Every account of which something is to be said, by pool."""
    return {pool: from_json(orjson.loads(state)) for pool, state in orjson.loads(said or "[]")}


_ASKED = select(schema.standing).where(among("pools", _STANDING.pool)).order_by(_STANDING.pool)
_OF_POOLS, _LOCKED = Worded(_ASKED), Worded(_ASKED.with_for_update())
_ACCOUNTS = Worded(select(schema.account).where(among("accounts", _ACCOUNT.tenant, _ACCOUNT.name)))
_CLEARS = (
    update(schema.standing).where(_STANDING.pool == bindparam("own")).values(clears_at=bindparam("clears"))
)


async def read(conn: AsyncConnection) -> dict[str, Standing]:
    """Every account of which something is to be said, by pool."""
    return told(await conn.scalar(text(f"SELECT {SAID[conn.dialect.name]}")))


async def admit(
    conn: AsyncConnection, moment: Moment, starts: Sequence[Start], standings: Mapping[str, Standing]
) -> dict[str, Refusal]:
    """Which of these starts their accounts, which stand so, do not take now, by ref.

    One start at a time goes through an account that is half open. Where a provider queues, nothing is handed over
    that its queue, as far as we know it, would not clear in time; what is admitted lengthens the queue.
    """
    refused: dict[str, Refusal] = {}
    queued: dict[str, list[Start]] = defaultdict(list)
    for pool, own in _by_pool(starts).items():
        if pool in standings:
            refused |= await _admit(conn, moment, pool, standings[pool], own)
        if catalogue.queues(own[0].load.adapter):
            queued[pool] = [start for start in own if start.ref not in refused]
    return refused | await _queue(conn, moment, queued)


def _by_pool(starts: Sequence[Start]) -> dict[str, list[Start]]:
    by_pool: dict[str, list[Start]] = defaultdict(list)
    for start in sorted(starts, key=lambda start: start.load.pool):
        by_pool[start.load.pool].append(start)
    return by_pool


async def _rows(conn: AsyncConnection, pools: Collection[str], *, lock: bool = False) -> list[Row[Any]]:
    asked = _LOCKED if lock else _OF_POOLS
    return list(await asked.run(conn, pools=keyed((pool,) for pool in pools))) if pools else []


async def _admit(
    conn: AsyncConnection, moment: Moment, pool: str, standing: Standing, starts: Sequence[Start]
) -> dict[str, Refusal]:
    if standing.breaker is Breaker.HALF_OPEN:
        standing = await _probe(conn, moment.real, pool, starts[0])
    barred = standing.barred(moment.real)
    probe = standing.probe if barred is not None and barred[0] == "account_down" else None
    return {
        start.ref: _refusal(start.load, moment, barred) for start in starts if barred and start.ref != probe
    }


def _refusal(load: Load, moment: Moment, barred: tuple[str, datetime]) -> Refusal:
    """An account that is down is decided on anew as soon as that is known; a day that is used up is waited for."""
    reason, until = barred
    wait = SOON if reason == "account_down" else until - moment.real
    return Refusal(reason=reason, by=load.account, again=moment.policy + wait)


async def _probe(conn: AsyncConnection, now: datetime, pool: str, start: Start) -> Standing:
    """Let one start probe a half-open account, unless another does. The row is locked until the commit."""
    (row,) = await _rows(conn, [pool], lock=True)
    standing = from_json(orjson.loads(row.state))
    if standing.breaker is not Breaker.HALF_OPEN:
        return standing
    before = standing
    if standing.probe is not None:
        standing = await _looked_after(conn, standing, now)
    if standing.breaker is Breaker.HALF_OPEN and standing.barred(now) is None:
        standing = standing.probed_by(start.ref, now)
    if standing != before:
        await _write(conn, pool, before, standing)
    return standing


async def _looked_after(conn: AsyncConnection, standing: Standing, now: datetime) -> Standing:
    """A probe that was withdrawn frees its place; one whose owner was lost failed."""
    state = await conn.scalar(
        select(_ATTEMPT.state)
        .join(
            schema.attempt_ref,
            and_(
                schema.attempt_ref.c.ref == _ATTEMPT.ref,
                schema.attempt_ref.c.tenant == _ATTEMPT.tenant,
                schema.attempt_ref.c.started_at == _ATTEMPT.started_at,
            ),
        )
        .where(schema.attempt_ref.c.ref == standing.probe)
    )
    if state in (None, "void"):
        return standing.let_go(now)
    gone = state == "unknown" or (standing.probe_until is not None and standing.probe_until <= now)
    return standing.lost(now) if gone else standing


async def _queue(
    conn: AsyncConnection, moment: Moment, queued: Mapping[str, Sequence[Start]]
) -> dict[str, Refusal]:
    """Put starts into their providers' own queues, as far as we know them; refuse what would come out too late."""
    some = {pool: starts for pool, starts in queued.items() if starts}
    if not some:
        return {}
    paces = await _paces(conn, some)
    rows = {row.pool: row for row in await _rows(conn, paces, lock=True)}
    if new := paces.keys() - rows.keys():
        await _known(conn, new)
        rows |= {row.pool: row for row in await _rows(conn, new, lock=True)}
    refused: dict[str, Refusal] = {}
    for pool, per_s in sorted(paces.items()):
        was = rows[pool].clears_at
        clears = max(moment.real, from_us(was) if was is not None else moment.real)
        for start in some[pool]:
            after_it = clears + timedelta(seconds=_units(start.load) / per_s)
            if after_it > start.deliver_by:
                again = moment.policy + max(start.deliver_by - moment.real, SOON)
                refused[start.ref] = Refusal(reason="quota", by=start.load.account, again=again)
            else:
                clears = after_it
        await conn.execute(_CLEARS, {"own": pool, "clears": to_us(clears)})
    return refused


def _units(load: Load) -> int:
    return load.segments if catalogue.unit_of(load.adapter) is Unit.SEGMENT else 1


async def _paces(conn: AsyncConnection, queued: Mapping[str, Sequence[Start]]) -> dict[str, float]:
    """The pace of each account's sender, where one is known."""
    pools = {(starts[0].load.tenant, starts[0].load.account): pool for pool, starts in queued.items()}
    rows = await _ACCOUNTS.run(conn, accounts=keyed(pools))
    paces = {pools[row.tenant, row.name]: catalogue.pace_of(account_of(row)) for row in rows}
    return {pool: float(pace) for pool, pace in paces.items() if pace is not None}


async def learn(conn: AsyncConnection, moment: Moment, ended: Sequence[Ending]) -> None:
    """What the endings of calls say of their accounts. A change of breaker, throttle or day is one of the numbered."""
    by_pool: dict[str, list[Ending]] = defaultdict(list)
    for ending in ended:
        by_pool[ending.pool].append(ending)
    plain = by_pool.keys() - {row.pool for row in await _rows(conn, by_pool) if row.state != "{}"}
    told = {
        pool: endings
        for pool, endings in by_pool.items()
        if pool not in plain or any(e.handed.ending not in _CLEAR for e in endings)
    }
    if not told:
        return
    await _known(conn, told)
    for row in await _rows(conn, told, lock=True):
        before = from_json(orjson.loads(row.state))
        endings = told[row.pool]
        recent = await _recent(conn, moment.real, row.pool) if _asks(before, endings) else Recent()
        await _write(conn, row.pool, before, after(before, endings, moment.real, recent))


def _asks(standing: Standing, endings: Sequence[Ending]) -> bool:
    """Whether it matters what became of calls that were not told of."""
    kinds = {ending.handed.ending for ending in endings}
    first = not standing.tallies and HandOver.NOT_SENT in kinds
    return not standing.down and (first or HandOver.UNKNOWN in kinds)


async def _recent(conn: AsyncConnection, now: datetime, pool: str) -> Recent:
    """Looks only at attempts of the last minute (index attempt_state)."""
    owner, _, account = pool.partition("|")
    slow = to_us(now - SLICE)
    well = _ATTEMPT.state.in_(_WELL)
    good, fresh, hanging = (
        await conn.execute(
            select(
                func.count(case((well, 1))),
                func.count(case((and_(well, _ATTEMPT.called_at > slow), 1))),
                func.count(case((and_(_ATTEMPT.state == "calling", _ATTEMPT.called_at <= slow), 1))),
            ).where(
                _ATTEMPT.state.in_((*_WELL, "calling")),
                _ATTEMPT.deadline > to_us(now - WINDOW),
                _ATTEMPT.account == account,
                _of(owner),
            )
        )
    ).one()
    return Recent(good=good, hanging=0 if fresh else hanging)


def _of(owner: str) -> Any:
    """Attempts of a tenant, or of all tenants of a mode where the account is shared."""
    name, _, mode = owner.partition("/")
    return _ATTEMPT.tenant.like(f"%/{mode}") if name == EVERYONE else _ATTEMPT.tenant == owner


async def _checked(conn: AsyncConnection, moment: Moment, pool: str, *, ok: bool) -> Standing | None:
    """Write what asking an account's provider came to, if its breaker is not closed; how it stands then."""
    for row in await _rows(conn, [pool], lock=True):
        before = from_json(orjson.loads(row.state))
        standing = before.asked(moment.real, ok=ok)
        await _write(conn, pool, before, standing)
        return standing
    return None


async def _let_in(
    conn: AsyncConnection, moment: Moment, pool: str, most: int, beside: Collection[str]
) -> int:
    """Make up to `most` reminders due that wait because this account, or else one beside it, was down."""
    owner, _, account = pool.partition("|")
    reminder = schema.reminder.c
    return await make_due(
        conn,
        owned(owner),
        reminder.by.in_([account, *beside]),
        reminder.reason == "account_down",
        order=(reminder.by != account, reminder.next_at),
        most=most,
        now=to_us(moment.policy),
    )


async def _known(conn: AsyncConnection, pools: Collection[str]) -> None:
    """Make the rows that are missing, so that they can be locked."""
    make = postgresql.insert if conn.dialect.name == "postgresql" else sqlite.insert
    rows = [{"pool": pool, "state": "{}", "down": False, "seq": 0} for pool in sorted(pools)]
    if rows:
        await conn.execute(make(schema.standing).on_conflict_do_nothing(), rows)


async def _write(conn: AsyncConnection, pool: str, before: Standing, standing: Standing) -> None:
    if standing == before:
        return
    values: dict[str, Any] = {"state": orjson.dumps(to_json(standing)).decode(), "down": standing.down}
    if _matters(before) != _matters(standing):
        values["seq"] = await raise_seq(conn)
    await conn.execute(update(schema.standing).where(_STANDING.pool == pool).values(**values))


def _matters(standing: Standing) -> tuple[object, ...]:
    """What other workers go by."""
    return standing.breaker, standing.level, standing.used_up_until, standing.probe, standing.closed_at


class Standings:
    """gateway.probing.StandingStore."""

    def __init__(self, database: Database) -> None:
        self._db = database

    async def standings(self) -> tuple[Moment, dict[str, Standing]]:
        """Every account of which something is to be said, by pool, and the store's clocks."""
        async with self._db.read() as conn:
            moment, (said,) = await self._db.moment_and(conn, f", {SAID[self._db.dialect]}")
            return moment, told(said)

    async def checked(self, pool: str, *, ok: bool) -> Standing | None:
        """Write what asking an account's provider came to."""
        async with self._db.write() as conn:
            return await _checked(conn, await self._db.moment(conn), pool, ok=ok)

    async def let_in(self, pool: str, most: int, beside: Collection[str] = ()) -> int:
        """Make up to `most` reminders due that wait because this account, or else one beside it, was down."""
        async with self._db.write() as conn:
            return await _let_in(conn, await self._db.moment(conn), pool, most, beside)
