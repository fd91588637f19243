"""The table of pauses and stops: setting one, resuming it, and what it stopped.

go takes the advisory lock shared, in one statement, and reads in a later one; setting takes it exclusively. So
whoever's go was given before the setter's commit is already `calling`, and after it nobody is given one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any

import orjson
from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Row,
    and_,
    insert,
    literal_column,
    or_,
    select,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway import pauses
from gateway.bodies.pauses import RAMPS_BY_QUOTAS
from gateway.domain import Mode, Tenant, from_us, to_us, ulid
from gateway.errors import BadInput, Conflict, Fault, Forbidden, KeyReused, NotFound, Unavailable
from gateway.pauses import Kind, Pause, PauseScope
from gateway.ports import Moment
from gateway.quotas.model import EVERYONE, WORDS, Scope, deployment
from gateway.store import schema, stopped
from gateway.store.changes import Changes
from gateway.store.database import Database
from gateway.store.keys import Role
from gateway.store.live import applied, keep_goes_out, raise_seq
from gateway.store.log import Log
from gateway.store.pages import Page, page, place
from gateway.store.rows import instant, us
from gateway.work import Queue

SECOND_WITHIN = timedelta(hours=1)
"""How long a request to resume a stop waits for its second holder."""
HORIZON = timedelta(hours=24)
"""How far ahead expiries are told where a pause has no end."""
COUNTED_WITHIN_S = 1.0
"""How long an answer waits for the count of what was stopped: not for all of a million, nor for a connection."""
ROUTE = "pauses"

_PAUSE, _KEY = schema.pause.c, schema.idempotency.c
_REAL_NOW = {
    "sqlite": "CAST((julianday('now') - 2440587.5) * 86400000000 AS INTEGER)",
    "postgresql": "CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000 AS BIGINT)",
}


async def _standing(conn: AsyncConnection, moment: Moment) -> list[Pause]:
    """Those that hold."""
    now = to_us(moment.policy)
    rows = await conn.execute(
        select(schema.pause).where(
            _PAUSE.resumed_at.is_(None), or_(_PAUSE.until.is_(None), _PAUSE.until > now)
        )
    )
    return [pause_of(row) for row in rows]


async def over(conn: AsyncConnection, moment: Moment, queue: Queue) -> Pause | None:
    """The one that bars all that waits in a queue: what waits there is not touched, so its row does not say it."""
    return pauses.first_of_queue(await _standing(conn, moment), queue, moment.policy)


async def read(conn: AsyncConnection) -> list[Pause]:
    """Those that hold, and those that ended and still let go little by little."""
    now: ColumnElement[int] = literal_column(_REAL_NOW[conn.dialect.name], BigInteger)
    lately = _PAUSE.resumed_at > now - pauses.LONGEST_RAMP_S * 1_000_000
    ramps = _PAUSE.resumed_at + _PAUSE.ramp_s * literal_column("1000000", BigInteger) > now
    rows = await conn.execute(
        select(schema.pause).where(or_(_PAUSE.resumed_at.is_(None), and_(lately, ramps)))
    )
    return [pause_of(row) for row in rows]


def pause_of(row: Row[Any]) -> Pause:
    """A pause from its row."""
    stands = pause(row.owner, row.id, row.kind, row.scope, row.until)
    return replace(stands, resumed_at=instant(row.resumed_at), ramp_s=row.ramp_s)


def pause(owner: str, name: str, kind: str, scope: str, until: int | None) -> Pause:
    """One that was not resumed, from its columns."""
    return Pause(
        owner=Tenant(owner),
        id=name,
        kind=Kind(kind),
        scope=scope_of(orjson.loads(scope)),
        until=instant(until),
    )


def scope_of(words: Mapping[str, Any]) -> PauseScope:
    """A scope from the words it names."""
    own = {word: value for word, value in words.items() if word not in WORDS}
    return PauseScope(quota=Scope(**{w: v for w, v in words.items() if w in WORDS}), **own)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A pause or stop that is asked for."""

    key: str
    kind: Kind
    scope: PauseScope
    until: datetime | None
    ramp_s: int
    reason: str

    @property
    def fingerprint(self) -> bytes:
        """What tells another request under the same key."""
        said = {"kind": self.kind, "scope": self.scope.words(), "until": us(self.until)}
        return sha256(
            orjson.dumps({**said, "ramp_s": self.ramp_s, "reason": self.reason}, option=orjson.OPT_SORT_KEYS)
        ).digest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Actor:
    """Who sets or resumes, for which owner. `since`: when the key that proves it was made; None where none does."""

    owner: Tenant
    holder: str
    role: Role
    since: datetime | None


class _OvertakenError(Exception):
    """The same request was answered while this one waited for its turn."""


class Pauses:
    """Pauses and stops. Setting and resuming use the connection `aside`, which no load takes.

    `channel_of` names the channel that an adapter serves; `has_template` asks the catalog; `one_person` waives the
    second holder.
    """

    def __init__(
        self,
        database: Database,
        log: Log,
        entropy: Callable[[int], bytes],
        *,
        channel_of: Callable[[str], str],
        has_template: Callable[[str], bool],
        one_person: bool,
    ) -> None:
        self._db = database
        self._aside = database.aside()
        self._changes = Changes(log, entropy)
        self._entropy = entropy
        self._channel_of = channel_of
        self._has_template = has_template
        self._one_person = one_person
        self._counting: set[asyncio.Task[Row[Any]]] = set()

    # Setting.

    async def again(self, wanted: Wanted, owner: Tenant) -> dict[str, Any] | None:
        """The answer that the same request got before; KeyReused, Conflict `already_resumed` once it has ended."""
        async with self._aside.read() as conn:
            row = await _earlier(conn, wanted, owner, await self._aside.moment(conn))
        return None if row is None else await self._answered(row)

    async def put(self, wanted: Wanted, by: Actor) -> dict[str, Any]:
        """Set one: after the commit no call that it covers gets a go. The same request again as in `again`."""
        try:
            row = await self._set(wanted, by)
        except _OvertakenError:
            return await self.put(wanted, by)
        return await self._answered(row)

    async def misnamed(self, owner: Tenant, scope: PauseScope) -> list[str]:
        """The words whose value nothing has: what they stop is nothing."""
        quota, account, mode = scope.quota, schema.account.c, owner.partition("/")[2]
        mine = account.tenant.like(f"%/{mode}") if _is_deployment(owner) else account.tenant == owner
        async with self._aside.read() as conn:
            rows = await conn.execute(select(account.name, account.adapter, account.tenant).where(mine))
            accounts = list(rows)
            tenants = list(await conn.scalars(select(schema.tenant.c.name)))
        there = {
            "adapter": {row.adapter for row in accounts},
            "account": {row.name for row in accounts},
            "tenant": tenants if _is_deployment(owner) else {owner.partition("/")[0]},
            "template": {quota.template} if quota.template and self._has_template(quota.template) else (),
        }
        return [word for word, value in quota.words().items() if word in there and value not in there[word]]

    async def _set(self, wanted: Wanted, by: Actor) -> Row[Any]:
        async with self._aside.write(first=True) as conn:
            moment = await self._aside.moment(conn)
            earlier = await _earlier(conn, wanted, by.owner, moment)
            if earlier is not None:
                return earlier
            name = ulid("ps_", to_us(moment.real), self._entropy(10))
            await self._note(conn, moment, by, name, before=None, after=_said(wanted), reason=wanted.reason)
            await keep_goes_out(conn)
            return await self._write(conn, moment, wanted, by, name)

    async def _write(
        self, conn: AsyncConnection, moment: Moment, wanted: Wanted, by: Actor, name: str
    ) -> Row[Any]:
        """The row, and what is `calling`, while no go can be given."""
        if await _earlier(conn, wanted, by.owner, moment) is not None:
            raise _OvertakenError
        pause = Pause(owner=by.owner, id=name, kind=wanted.kind, scope=wanted.scope, until=wanted.until)
        calling = await stopped.calls(conn, pause, schema.attempt.c.state == "calling")
        await conn.execute(
            insert(schema.idempotency).values(
                tenant=by.owner,
                route=ROUTE,
                key=wanted.key,
                fingerprint=wanted.fingerprint,
                status=201,
                answer=name.encode(),
                at=to_us(moment.policy),
            )
        )
        made = await conn.execute(
            insert(schema.pause)
            .values(
                owner=by.owner,
                id=name,
                kind=wanted.kind.value,
                scope=orjson.dumps(wanted.scope.words()).decode(),
                until=us(wanted.until),
                reason=wanted.reason,
                set_by=by.holder,
                set_role=by.role.value,
                at=to_us(moment.real),
                seq=await raise_seq(conn),
                ramp_s=wanted.ramp_s,
                calling=_list(sorted(call.ref for call in calling)),
                recalled="[]",
                may_arrive="[]",
                followed=wanted.kind is Kind.PAUSE,  # a stop asks back what providers still have
            )
            .returning(schema.pause)
        )
        row: Row[Any] = made.one()
        return row

    async def _answered(self, row: Row[Any]) -> dict[str, Any]:
        """What is told of it; what it stopped only where that is counted in time. The count goes on."""
        if row.waiting is not None:
            return _answer(row)
        counting = asyncio.create_task(self._counted(row))
        self._counting.add(counting)
        counting.add_done_callback(self._counting.discard)
        await asyncio.wait({counting}, timeout=COUNTED_WITHIN_S)
        if not counting.done():
            counting.add_done_callback(
                asyncio.Task.exception
            )  # whoever asks for it by its id has it counted anew
            return _answer(row)
        try:
            return _answer(counting.result())
        except Unavailable:
            return _answer(row)

    async def _counted(self, row: Row[Any]) -> Row[Any]:
        """The row with what it stopped: counted after the commit, which must not wait for it."""
        found = await self._count(pause_of(row))
        async with self._aside.write() as conn:
            await conn.execute(
                update(schema.pause)
                .where(_PAUSE.owner == row.owner, _PAUSE.id == row.id, _PAUSE.waiting.is_(None))
                .values(waiting=found.waiting, expires_meanwhile=found.expires)
            )
            return await _row(conn, row.owner, row.id)

    async def _count(self, pause: Pause) -> stopped.Waiting:
        """What it holds up now."""
        async with self._db.read() as conn:
            channels = await self._channels(conn, pause)
            before = pause.until or (await self._db.moment(conn)).policy + HORIZON
            return await stopped.count(conn, pause, channels, before)

    async def _channels(self, conn: AsyncConnection, pause: Pause) -> frozenset[str] | None:
        """The channels of the accounts that it names; None when it names none."""
        quota, account = pause.scope.quota, schema.account.c
        if quota.account is None:
            return None if quota.adapter is None else frozenset({self._channel_of(quota.adapter)})
        asked = select(account.adapter).where(account.name == quota.account).distinct()
        if quota.adapter is not None:
            asked = asked.where(account.adapter == quota.adapter)
        return frozenset(self._channel_of(row.adapter) for row in await conn.execute(asked))

    # Resuming.

    async def resume(self, name: str, ramp_s: int | None, reason: str, by: Actor) -> dict[str, Any]:
        """End one; what it put off is due again little by little and goes through all rules anew.

        `state` is `resuming`, or of a stop `needs_second_holder`. NotFound, Forbidden, Conflict `already_resumed`.
        """
        async with self._aside.write() as conn:
            moment = await self._aside.moment(conn)
            row = await _row(conn, by.owner, name, lock=True)
            _need_held(row, moment)
            if ramp_s and not pause_of(row).scope.has_ramp:
                raise BadInput([Fault(at="/ramp_s", code="ramp_unfit", message=RAMPS_BY_QUOTAS)])
            alone = self._alone(row, by, moment)
            values: dict[str, Any] = {} if ramp_s is None else {"ramp_s": ramp_s}
            if alone:
                values |= {"asked_by": by.holder, "asked_at": to_us(moment.real)}
            else:
                values |= {"resumed_by": by.holder, "resumed_at": to_us(moment.real), "followed": False}
                values["seq"] = await raise_seq(conn)
            await conn.execute(
                update(schema.pause).where(_PAUSE.owner == by.owner, _PAUSE.id == name).values(**values)
            )
            state = "needs_second_holder" if alone else "resuming"
            waived = {"one_person": True} if self._one_person and row.kind == Kind.STOP else {}
            after = {"state": state, "ramp_s": ramp_s, **waived}
            await self._note(conn, moment, by, name, before={"kind": row.kind}, after=after, reason=reason)
        return {"id": name, "state": state}

    def _alone(self, row: Row[Any], by: Actor, moment: Moment) -> bool:
        """Whether somebody else has to confirm this; Forbidden for whom it is not to say."""
        if row.kind == Kind.PAUSE:
            if by.role not in (row.set_role, Role.ADMIN):
                raise Forbidden(
                    f"it was set by the role {row.set_role}: use a key of that role, or an admin's"
                )
            return False
        if self._one_person:
            return False
        if by.since is None:
            raise Forbidden(
                "a stop is resumed by two holders of keys: give --url, and a key in GATEWAY_API_KEY"
            )
        if to_us(by.since) >= row.at:
            raise Forbidden("this key is younger than the stop: use one that was there before it")
        return not _is_asked(row, moment) or row.asked_by == by.holder

    async def _note(
        self,
        conn: AsyncConnection,
        moment: Moment,
        by: Actor,
        name: str,
        *,
        before: Mapping[str, Any] | None,
        after: Mapping[str, Any],
        reason: str,
    ) -> None:
        await self._changes.note(
            conn,
            moment,
            by.owner,
            by.holder,
            kind="pause",
            name=name,
            before=before,
            after=after,
            reason=reason,
        )

    # Looking.

    async def listed(self, owner: Tenant, *, active: bool, limit: int, after: str | None) -> Page:
        """Those that hold for an owner, the newest first; with those that ended, unless only active ones are asked for.

        The deployment's own holds for its tenants, too; the deployment sees everybody's. `waiting` and
        `expires_meanwhile` are those of the instant at which each was set.
        """
        async with self._db.read() as conn:
            moment = await self._db.moment(conn)
            now = to_us(moment.policy)
            where = [_seen_by(owner)]
            if active:
                where += [_PAUSE.resumed_at.is_(None), or_(_PAUSE.until.is_(None), _PAUSE.until > now)]
            if after is not None:
                where.append(_PAUSE.id < place(after, 1)[0])
            rows = await conn.execute(
                select(schema.pause).where(*where).order_by(_PAUSE.id.desc()).limit(limit + 1)
            )
            return page(list(rows), limit, lambda row: self._listed(row, owner, moment), lambda row: [row.id])

    def _listed(self, row: Row[Any], owner: Tenant, moment: Moment) -> dict[str, Any]:
        shown = self._shown(row, moment)
        if row.owner != owner and not _is_deployment(owner):
            for key in ("calling", "recalled", "may_arrive", "waiting", "expires_meanwhile"):
                del shown[key]
        return shown

    async def shown(self, owner: Tenant, name: str) -> dict[str, Any]:
        """One that holds for the owner (for the deployment: anybody's), and who works by it; NotFound.

        While it holds, what it holds up is counted anew: what came since, and what of it expires, is not left unseen.
        Of the deployment's a tenant sees no numbers: they are everybody's.
        """
        async with self._db.read() as conn:
            row = await _one_of(conn, _seen_by(owner), name)
            moment = await self._db.moment(conn)
            workers = await applied(conn, row.seq)
        if row.owner != owner and not _is_deployment(owner):
            return {**self._listed(row, owner, moment), "applied": workers}
        if row.waiting is None:
            row = await self._counted(row)
        told = {**self._shown(row, moment), "applied": workers}
        if told["state"] != "resumed":
            found = await self._count(pause_of(row))
            told |= {"waiting": found.waiting, "expires_meanwhile": found.expires}
        return told

    async def reminders(self, owner: Tenant, name: str, *, limit: int, after: str | None) -> Page:
        """The reminders that it holds up now, by person; none once it has ended. NotFound."""
        async with self._db.read() as conn:
            row = await self._find(conn, owner, name)
            pause = pause_of(row)
            if not pause.holds((await self._db.moment(conn)).policy):
                return Page(items=[], next=None)
            channels = await self._channels(conn, pause)
            return await stopped.reminders(conn, pause, channels, limit=limit, after=after)

    async def _find(self, conn: AsyncConnection, owner: Tenant, name: str) -> Row[Any]:
        mine = _seen_by(owner) if _is_deployment(owner) else _PAUSE.owner == owner
        return await _one_of(conn, mine, name)

    def _shown(self, row: Row[Any], moment: Moment) -> dict[str, Any]:
        stands = row.resumed_at is not None or _is_asked(row, moment)
        asked = {"asked_by": row.asked_by, "at": from_us(row.asked_at)} if row.asked_at and stands else None
        waived = {"one_person": True} if self._one_person and row.kind == Kind.STOP else {}
        return {
            **_answer(row),
            "owner": row.owner.partition("/")[0],
            "state": _state(row, moment),
            "reason": row.reason,
            "set_by": row.set_by,
            "resume": asked,
            "resumed_by": row.resumed_by,
            "resumed_at": instant(row.resumed_at),
            "ramp_s": row.ramp_s,
            "recalled": orjson.loads(row.recalled),
            "may_arrive": orjson.loads(row.may_arrive),
            **waived,
        }


def _heard(counting: asyncio.Task[Row[Any]]) -> None:
    """A count that came to nothing: whoever asks for the pause by its id has it counted anew."""
    if not counting.cancelled():
        counting.exception()


def _state(row: Row[Any], moment: Moment) -> str:
    if row.resumed_at is not None or (row.until is not None and row.until <= to_us(moment.policy)):
        return "resumed"
    return "needs_second_holder" if _is_asked(row, moment) else "active"


def _is_asked(row: Row[Any], moment: Moment) -> bool:
    """Whether somebody's request to resume it still waits for a second holder."""
    return row.asked_at is not None and row.asked_at > to_us(moment.real - SECOND_WITHIN)


def _answer(row: Row[Any]) -> dict[str, Any]:
    return {
        "id": row.id,
        "kind": row.kind,
        "scope": orjson.loads(row.scope),
        "until": instant(row.until),
        "at": from_us(row.at),
        "waiting": row.waiting,
        "expires_meanwhile": row.expires_meanwhile,
        "calling": orjson.loads(row.calling),
    }


def _said(wanted: Wanted) -> dict[str, Any]:
    until = None if wanted.until is None else wanted.until.isoformat()
    said = {"kind": wanted.kind.value, "scope": wanted.scope.words(), "until": until}
    return {**said, "ramp_s": wanted.ramp_s}


def _list(refs: Iterable[str]) -> str:
    return orjson.dumps(list(refs)).decode()


def _need_held(row: Row[Any], moment: Moment) -> None:
    if row.resumed_at is not None or (row.until is not None and row.until <= to_us(moment.policy)):
        raise Conflict("it has ended already: there is nothing to resume", code="already_resumed")


async def _earlier(conn: AsyncConnection, wanted: Wanted, owner: Tenant, moment: Moment) -> Row[Any] | None:
    """What the same request set before; KeyReused, and Conflict once it has ended."""
    asked = select(_KEY.fingerprint, _KEY.answer).where(
        _KEY.tenant == owner, _KEY.route == ROUTE, _KEY.key == wanted.key
    )
    found = (await conn.execute(asked)).one_or_none()
    if found is None:
        return None
    if bytes(found.fingerprint) != wanted.fingerprint:
        raise KeyReused
    row = await _row(conn, owner, bytes(found.answer).decode())
    if row.resumed_at is not None or (row.until is not None and row.until <= to_us(moment.policy)):
        raise Conflict(
            "what this request set has ended: send a new key to set it again", code="already_resumed"
        )
    return row


async def _one_of(conn: AsyncConnection, which: ColumnElement[bool], name: str) -> Row[Any]:
    row = (await conn.execute(select(schema.pause).where(which, _PAUSE.id == name))).one_or_none()
    if row is None:
        raise NotFound
    return row


async def _row(conn: AsyncConnection, owner: str, name: str, *, lock: bool = False) -> Row[Any]:
    asked = select(schema.pause).where(_PAUSE.owner == owner, _PAUSE.id == name)
    row = (await conn.execute(asked.with_for_update() if lock else asked)).one_or_none()
    if row is None:
        raise NotFound
    return row


def _is_deployment(owner: Tenant) -> bool:
    return owner == deployment(Mode(owner.partition("/")[2]))


def _seen_by(owner: Tenant) -> ColumnElement[bool]:
    name, _, mode = owner.partition("/")
    if name == EVERYONE:
        return _PAUSE.owner.like(f"%/{mode}")
    return _PAUSE.owner.in_((owner, f"{EVERYONE}/{mode}"))
