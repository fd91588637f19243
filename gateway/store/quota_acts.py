"""Quotas as ops see and change them: every change is one act with its history, its record and its number.

Whoever changes one keeps every go out from then until its commit, so that no go counts by what stood before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import orjson
from sqlalchemy import Row, bindparam, select, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.bodies import write_instant
from gateway.domain import Tenant, from_us, to_us
from gateway.errors import BadInput, Fault, NotFound, StaleVersion
from gateway.ports import Moment
from gateway.quotas import counting, spec
from gateway.quotas.catalogue import of_no_account
from gateway.quotas.model import EVERYONE, Quota, in_force
from gateway.store import counted, live, quotas, schema
from gateway.store.changes import Changes
from gateway.store.database import Database
from gateway.store.due import make_due, owned
from gateway.store.log import Log
from gateway.store.pages import Page, page, place
from gateway.store.quota_views import Shown, look
from gateway.store.rows import us
from gateway.upkeep import Alarm, Changed

GATEWAY = "gateway"
"""Who takes back what was set until an instant."""
ITS_TIME = "its `until` has come"
LONGEST = timedelta(days=366)
SLICE = 500
_LATELY_US, _HEARD_US, _TURNS_US = 3_600_000_000, 10_000_000, 20_000_000
"""Changes of the last hour are looked at; by then workers have heard of one; for its turn nothing waits longer."""
QUOTA_LOCK = 0x7163  # any number that only this product uses
"""Advisory transaction lock: changes of quotas wait for each other."""

_QUOTA, _CHANGE, _COUNT = schema.quota.c, schema.change.c, schema.quota_count.c
_REMINDER = schema.reminder.c
_KIND = "quota"
_LOCK = text("SELECT pg_advisory_xact_lock(:key)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A change of one quota: the keys of its JSON that change, null takes one away; `until` (policy clock) too.

    `version` is that of the quota as it was seen; none, or 0, where none was ever set.
    """

    owner: Tenant
    name: str
    said: Mapping[str, Any]
    version: int | None
    reason: str
    who: str


class Quotas:
    """Quotas of every tenant and of the deployment. `channel_of` gives the channel of an adapter."""

    def __init__(
        self,
        database: Database,
        log: Log,
        entropy: Callable[[int], bytes],
        *,
        channel_of: Callable[[str], str],
    ) -> None:
        self._db = database
        self._changes = Changes(log, entropy)
        self._channel_of = channel_of

    # Looking.

    async def listed(self, owner: Tenant, *, limit: int, after: str | None) -> Page:
        """A tenant's own and the deployment's that concern it; for the deployment everybody's. By owner and name."""
        first = tuple(place(after, 2)) if after is not None else ("", "")

        def wanted(quota: Quota) -> bool:
            return _seen_by(owner, quota) and (quota.owner, quota.name) > first

        async with self._db.read() as conn:
            found = await look(conn, await self._db.moment(conn), wanted, limit + 1, self._channel_of)
        return page(found, limit, lambda one: one.json, lambda one: [one.quota.owner, one.quota.name])

    async def shown(self, owner: Tenant, name: str) -> dict[str, Any]:
        """The owner's own of that name, else the deployment's; NotFound."""
        found = await self._named(owner, name)
        if not found:
            raise NotFound
        return found[0].json

    async def _named(self, owner: Tenant, name: str) -> list[Shown]:
        """The owner's own first."""

        def wanted(quota: Quota) -> bool:
            return quota.name == name and quota.owner in (owner, _everyone(owner)) and _seen_by(owner, quota)

        async with self._db.read() as conn:
            found = await look(conn, await self._db.moment(conn), wanted, 2, self._channel_of)
        return sorted(found, key=lambda one: one.quota.owner != owner)

    async def history(self, owner: Tenant, name: str, *, limit: int, after: str | None) -> Page:
        """Every change of one of the owner's, the newest first."""
        where = [_CHANGE.tenant == owner, _CHANGE.kind == _KIND, _CHANGE.name == name]
        if after is not None:
            where.append(_CHANGE.id < place(after, 1)[0])
        asked = select(schema.change).where(*where).order_by(_CHANGE.id.desc()).limit(limit + 1)
        async with self._db.read() as conn:
            return page(list(await conn.execute(asked)), limit, _changed, lambda row: [row.id])

    # Changing.

    async def put(self, wanted: Wanted, faults: Sequence[Fault] = ()) -> dict[str, Any]:
        """Set one, or change it; StaleVersion unless it was seen as it stands, BadInput with every fault there is."""
        async with self._db.write() as conn:
            moment = await self._db.moment(conn)
            row, stands = await self._stands(conn, moment, wanted)
            stale = _is_stale(wanted, row, stands)
            after, wrong = _merged(wanted, stands, moment)
            wrong += of_no_account(wanted.name, stands)
            if not stale and not faults and after is not None and not wrong:
                await self._act(conn, moment, wanted, row, stands, after)
        if stale:
            await self._refuse(wanted)
        if faults or wrong:
            raise BadInput([*faults, *wrong])
        return await self.shown(wanted.owner, wanted.name)

    async def delete(self, wanted: Wanted) -> None:
        """Take one away; what its account came with, if anything, holds again. NotFound, StaleVersion."""
        async with self._db.write() as conn:
            moment = await self._db.moment(conn)
            row, stands = await self._stands(conn, moment, wanted)
            there = row is not None and not row.gone
            stale = _is_stale(wanted, row, stands)
            if there and not stale:
                await self._act(conn, moment, wanted, row, stands, None)
        if not there:
            raise NotFound(
                "there is none that was set: what an account comes with is changed, not taken away"
            )
        if stale:
            await self._refuse(wanted)

    async def _refuse(self, wanted: Wanted) -> None:
        found = [
            one for one in await self._named(wanted.owner, wanted.name) if one.quota.owner == wanted.owner
        ]
        if not found:
            raise StaleVersion("there is none now: leave `version` out", current=None)
        message = f"version {found[0].quota.version} stands: look at it, then send it as `version`"
        raise StaleVersion(message, current=found[0].json)

    async def _stands(
        self, conn: AsyncConnection, moment: Moment, wanted: Wanted
    ) -> tuple[Row[Any] | None, Quota | None]:
        """The row, and the quota that holds; nobody changes one until this transaction ends."""
        if conn.dialect.name == "postgresql":
            await conn.execute(_LOCK, {"key": QUOTA_LOCK})
        await self._take_back(conn, moment)
        asked = select(schema.quota).where(_QUOTA.owner == wanted.owner, _QUOTA.name == wanted.name)
        row = (await conn.execute(asked)).one_or_none()
        found = [q for q in await quotas.read(conn) if (q.owner, q.name) == (wanted.owner, wanted.name)]
        return row, found[0] if found else None

    async def _act(
        self,
        conn: AsyncConnection,
        moment: Moment,
        wanted: Wanted,
        row: Row[Any] | None,
        before: Quota | None,
        after: Quota | None,
    ) -> None:
        """Write what stands from now on (None: nothing that was set), its history, its record and its number."""
        version = 1 if row is None else row.version + 1
        await self._changes.note(
            *(conn, moment, wanted.owner, wanted.who),
            kind=_KIND,
            name=wanted.name,
            before=None if before is None else _said(before),
            after={**(_said(after) if after is not None else {"gone": True}), "version": version},
            reason=wanted.reason,
        )
        await live.keep_goes_out(conn)
        kept = after or before
        await conn.execute(
            _PUT[conn.dialect.name],
            {
                "owner": wanted.owner,
                "name": wanted.name,
                "spec": "{}" if kept is None else orjson.dumps(spec.write(kept)).decode(),
                "before": _before(before, after),
                "until": us(after.until) if after is not None else None,
                "version": version,
                "seq": await live.raise_seq(conn),
                "gone": after is None,
                "set_by": wanted.who,
                "set_at": to_us(moment.real),
                "reason": wanted.reason,
            },
        )
        await counted.forget(conn)

    # What comes by itself.

    async def take_back(self) -> None:
        """What was set until an instant that has come gives way to what it stood for, on record."""
        async with self._db.read() as conn:
            moment, (first,) = await self._db.moment_and(
                conn, ", (SELECT MIN(until) FROM quota WHERE NOT gone)"
            )
        if first is None or first > to_us(moment.policy):
            return
        async with self._db.write() as conn:
            moment = await self._db.moment(conn)
            if conn.dialect.name == "postgresql":
                await conn.execute(_LOCK, {"key": QUOTA_LOCK})
            await self._take_back(conn, moment)

    async def _take_back(self, conn: AsyncConnection, moment: Moment) -> None:
        over = list(await conn.execute(select(schema.quota).where(*_over(to_us(moment.policy)))))
        own = await quotas.of_accounts(conn) if over else []
        for row in over:
            stood = quotas.quota_of(row)
            comes = stood.before
            if comes is not None and any(_is_own(comes, quota) for quota in own):
                comes = None
            wanted = Wanted(
                owner=stood.owner, name=stood.name, said={}, version=None, reason=ITS_TIME, who=GATEWAY
            )
            await self._act(conn, moment, wanted, row, stood, comes)

    async def changed(self) -> list[Changed]:
        """Quotas that changed of late."""
        async with self._db.read() as conn:
            now = to_us((await self._db.moment(conn)).real)
            asked = select(_QUOTA.owner, _QUOTA.name, _QUOTA.version, _QUOTA.set_at)
            rows = await conn.execute(asked.where(_QUOTA.set_at > now - _LATELY_US))
            return [
                Changed(owner=r.owner, name=r.name, version=r.version, age_s=(now - r.set_at) / 1e6)
                for r in rows
            ]

    async def let_go(self, changed: Changed) -> bool:
        """Make due a slice of what one put off for long before it changed; whether there may be more.

        What waits for its turn in a pace is left alone. A name of two owners lets go of both's: they are decided anew.
        """
        async with self._db.write() as conn:
            now = to_us((await self._db.moment(conn)).policy)
            made = await make_due(
                conn,
                owned(changed.owner),
                _REMINDER.by == changed.name,
                _REMINDER.reason == "quota",
                _REMINDER.next_at > now + _TURNS_US,
                _REMINDER.updated_at < now - round(changed.age_s * 1e6) + _HEARD_US,
                order=(_REMINDER.next_at,),
                most=SLICE,
                now=now,
            )
        return made == SLICE

    async def prune(self) -> None:
        """Delete counts that are too old to matter."""
        async with self._db.write() as conn:
            await counted.prune(conn, await self._db.moment(conn))

    async def alarms(self) -> list[Alarm]:
        """Budgets of which the share that rings is used, each once a day or month."""
        async with self._db.read() as conn:
            moment = await self._db.moment(conn)
            paid = [q for q in in_force(await quotas.read(conn), moment.policy) if q.budget is not None]
            used = await counted.used(conn, moment, paid) if paid else []
        ringing = [
            one for one in used if one.quota.budget and one.share_of_budget() >= one.quota.budget.alarm_at
        ]
        if not ringing:
            return []
        async with self._db.write() as conn:
            return [
                Alarm(
                    quota=f"{one.quota.owner}|{one.quota.name}",
                    of=one.key.partition("||")[2],
                    used=one.share_of_budget(),
                )
                for one in ringing
                if await _rings_first(conn, one, moment.policy)
            ]


async def _rings_first(conn: AsyncConnection, one: counted.Used, now: datetime) -> bool:
    budget = one.quota.budget
    assert budget is not None  # noqa: S101 (only budgets ring)
    began = counting.period_of(budget, one.quota.zone, now)[0]
    made = await conn.execute(_RING[conn.dialect.name], {"bucket": one.key, "start": to_us(began)})
    return made.first() is not None


# What is seen, and what is stale.


def _everyone(owner: Tenant) -> Tenant:
    return Tenant(f"{EVERYONE}/{owner.partition('/')[2]}")


def _seen_by(owner: Tenant, quota: Quota) -> bool:
    """One's own; the deployment's where it may concern the tenant; for the deployment, everybody's of its mode."""
    if owner == _everyone(owner):
        return quota.owner.partition("/")[2] == owner.partition("/")[2]
    concerns = quota.scope.tenant in (None, owner.partition("/")[0])
    return quota.owner == owner or (quota.owner == _everyone(owner) and concerns)


def _is_stale(wanted: Wanted, row: Row[Any] | None, stands: Quota | None) -> bool:
    """Whether what stands is not what was seen; what nobody set need not be named."""
    if row is not None and not row.gone:
        return bool(wanted.version != row.version)
    return wanted.version not in (None, 0, stands.version if stands is not None else 0)


def _merged(wanted: Wanted, stands: Quota | None, moment: Moment) -> tuple[Quota | None, list[Fault]]:
    """The quota as it shall be, and what is wrong with it."""
    said = spec.merge(spec.write(stands) if stands is not None else {}, wanted.said)
    wrong = spec.lacking(said)
    until: datetime | None = wanted.said.get("until", stands.until if stands is not None else None)
    if until is not None and not moment.policy < until <= moment.policy + LONGEST:
        message = "send an instant that is still to come, within 366 days"
        wrong.append(Fault(at="/until", code="until_unfit", message=message))
    if wrong:
        return None, wrong
    made = spec.read(wanted.owner, wanted.name, said, version=0, until=until)
    return made, spec.faults(made)


def _before(before: Quota | None, after: Quota | None) -> str | None:
    """What holds again at the end of what stands from now on."""
    if after is None or after.until is None or before is None:
        return None
    comes = before.before if before.until is not None else before
    return None if comes is None else orjson.dumps(spec.write(comes)).decode()


def _is_own(quota: Quota, own: Quota) -> bool:
    """Whether it is but what an account comes with."""
    return (quota.owner, quota.name) == (own.owner, own.name) and spec.write(quota) == spec.write(own)


def _said(quota: Quota) -> dict[str, Any]:
    """A quota in its history and in the send log, where decimals are text."""
    said = spec.write(quota)
    if quota.budget is not None:
        said["budget"]["alarm_at"] = str(quota.budget.alarm_at)
    return {
        **said,
        "rate": None if quota.rate is None else str(quota.rate),
        "until": None if quota.until is None else write_instant(quota.until),
        "version": quota.version,
    }


def _noted(text: str | None) -> dict[str, Any] | None:
    """The same as the API says it; None where nothing stood, or stands."""
    said = orjson.loads(text or "{}")
    if not said or said.get("gone"):
        return None
    for at, name in ((said, "rate"), (said["budget"] or {}, "alarm_at")):
        if at.get(name) is not None:
            at[name] = spec.plain(Decimal(at[name]))
    return dict(said)


def _changed(row: Row[Any]) -> dict[str, Any]:
    return {
        "version": orjson.loads(row.after)["version"],
        "at": from_us(row.at),
        "who": row.who,
        "reason": row.reason,
        "before": _noted(row.before),
        "after": _noted(row.after),
    }


def _over(now: int) -> tuple[Any, ...]:
    return _QUOTA.gone.is_(False), _QUOTA.until <= now


# Statements.


def _put(insert: Any) -> Any:
    made = insert(schema.quota).values({column.name: bindparam(column.name) for column in _QUOTA})
    changed: Iterable[str] = (column.name for column in _QUOTA if not column.primary_key)
    return made.on_conflict_do_update(
        index_elements=[_QUOTA.owner, _QUOTA.name], set_={name: made.excluded[name] for name in changed}
    )


def _ring(insert: Any) -> Any:
    made = insert(schema.quota_count).values(
        bucket=bindparam("bucket"), span=counted.ALARM, start=bindparam("start"), units=0, micros=0
    )
    return made.on_conflict_do_nothing().returning(_COUNT.bucket)


_PUT = {"sqlite": _put(sqlite.insert), "postgresql": _put(postgresql.insert)}
_RING = {"sqlite": _ring(sqlite.insert), "postgresql": _ring(postgresql.insert)}
