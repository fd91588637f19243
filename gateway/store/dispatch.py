"""The statements of dispatch, receipts, sweep and reconcile. Every method is batched."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from functools import lru_cache
from types import MappingProxyType
from typing import Any

import orjson
from sqlalchemy import (
    BigInteger,
    Boolean,
    ColumnElement,
    CompoundSelect,
    Select,
    Subquery,
    Text,
    and_,
    bindparam,
    case,
    func,
    literal,
    literal_column,
    or_,
    select,
    text,
    tuple_,
    union_all,
    update,
)
from sqlalchemy.engine import Row
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.domain import Channel, Tenant, from_us, to_us
from gateway.outcomes import CANCELLED
from gateway.ports import Entry, Moment
from gateway.quotas.model import Book, Load
from gateway.standing import Ending
from gateway.store import counted, schema, server, standing
from gateway.store.among import among, given, json, keyed
from gateway.store.database import Database, chunks, now_in
from gateway.store.due import IS_DUE
from gateway.store.facts import FactsTx
from gateway.store.grounds import rows_of
from gateway.store.guard import as_they_stand, guard
from gateway.store.live import GO_LOCK
from gateway.store.log import Log
from gateway.store.poison import put_aside
from gateway.store.rows import (
    ATTEMPT,
    attempt_of,
    intent_row,
    outturn_row,
    rank,
    ref_row,
    us,
    withdrawal,
    work_of,
)
from gateway.store.statements import NewRows, Together, Worded
from gateway.store.suspects import MINE, UNSUSPECTED, acquit
from gateway.suspects import TRIED
from gateway.work import (
    Attempt,
    Due,
    Intent,
    Key,
    Outturn,
    Queue,
    Refusal,
    Start,
    Verdict,
    Went,
    Word,
    Work,
)

_REMINDER, _ATTEMPT = schema.reminder.c, schema.attempt.c
_RANKED = (_REMINDER.priority, _REMINDER.value, _REMINDER.expires_at, _REMINDER.accepted_at)
LOOKED_AT = 4
"""Of the first to go in a queue so many times as are wanted are looked at: others decide on some of them."""
MOST_RANKED = 2000
"""Due reminders of the locked persons that are ranked for one T1; beyond these, what became due last has to wait."""


class DispatchStore:
    """Transactions of everything that happens to a reminder after it was accepted."""

    def __init__(self, database: Database, log: Log) -> None:
        self._db = database
        self._log = log

    async def moment(self) -> Moment:
        """Both clocks, now."""
        async with self._db.read() as conn:
            return await self._db.moment(conn)

    async def pick(self, wanted: Mapping[str, int], owner: str) -> list[Due]:
        """Due reminders, unlocked: of each queue (by its name) at most so many, the longest due first.

        Beside these a few suspects that this owner may try alone.
        """
        if not wanted:
            return []
        async with self._db.read() as conn:
            rows = await self._heads(conn, wanted, owner, free=not self._db.sqlite)
            if not rows and not self._db.sqlite:  # others hold all of them: there is work, if not now
                rows = await self._heads(conn, wanted, owner, free=False)
            ordered = sorted(rows, key=lambda r: (r.priority, r.next_at, r.accepted_at))
        return [
            Due(tenant=Tenant(r.tenant), id=r.id, person=r.person, borrower=r.borrower, strikes=r.strikes)
            for r in ordered
        ]

    async def _heads(
        self, conn: AsyncConnection, wanted: Mapping[str, int], owner: str, *, free: bool
    ) -> Sequence[Row[Any]]:
        asked: dict[str, Any] = {"queues": keyed((queue,) for queue in wanted), "by": owner}
        for place, (queue, limit) in enumerate(wanted.items()):
            asked |= {f"queue{place}": queue, f"most{place}": limit}
            if free:
                asked[f"looked{place}"] = LOOKED_AT * limit
        return await _heads(self._db.dialect, len(wanted), free).run(conn, **asked)

    async def borrowers_of(self, persons: Sequence[Key]) -> list[Key]:
        """All borrowers of these persons, unlocked."""
        async with self._db.read() as conn:
            rows = await _BORROWERS.run(conn, persons=keyed(persons))
            return [(Tenant(r.tenant), r.id) for r in rows]

    async def due_queues(self) -> list[Queue]:
        """Every queue with something due now, found from queue to queue in the index, however much waits in each."""
        async with self._db.read() as conn:
            rows = await conn.execute(select(_QUEUES, self._db.now.label("now")))
            return [_queue(r.queue, r.oldest) for r in rows if r.oldest <= r.now]

    async def find(self, ref: str) -> Attempt | None:
        """An attempt of the gateway's own by its ref, unlocked."""
        places = schema.attempt_ref.c
        async with self._db.read() as conn:
            row = (
                await conn.execute(
                    select(*ATTEMPT)
                    .join(
                        schema.attempt_ref,
                        and_(
                            places.tenant == _ATTEMPT.tenant,
                            places.ref == _ATTEMPT.ref,
                            places.started_at == _ATTEMPT.started_at,
                        ),
                    )
                    .where(places.ref == ref)
                )
            ).one_or_none()
            return None if row is None else attempt_of(row)

    async def refs_of(self, adapter: str, account: str, provider_ids: Sequence[str]) -> dict[str, str]:
        """Provider's id → our ref, unlocked."""
        places = schema.attempt_ref.c
        async with self._db.read() as conn:
            rows = await conn.execute(
                select(places.ref, places.provider_id).where(
                    places.adapter == adapter, places.account == account, places.provider_id.in_(provider_ids)
                )
            )
            return {r.provider_id: r.ref for r in rows}

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[DispatchTx]:
        """One transaction of T1, a receipt or a sweep; its `moment` is read when it begins."""
        async with self._db.write() as conn:
            yield DispatchTx(conn, await self._db.moment(conn), self._log)

    async def put_aside(self, due: Due, error: str) -> None:
        """Let a reminder on which T1 breaks wait as `quarantined`, on record (gateway.store.poison)."""
        async with self._db.write() as conn:
            await put_aside(conn, await self._db.moment(conn), self._log, due, error)

    async def go(self, intents: Sequence[Intent], owner: str, word: Word | None, book: Book) -> Went:
        """The guard before every call: `intent` → `calling` for those that may still go; the rest become void.

        Cancel and go meet on the reminder's own row; the borrower's and the debt's revision must be those that
        T1 decided on, and stay so until this commits. `word` is whose pace was granted (None: no pace was
        needed); pauses, standings and counted quotas are read under the lock that setting a pause takes alone.
        """
        async with self._db.write(first=True) as conn:
            moment = await self._begin(conn)
            return await DispatchTx(conn, moment, self._log).go(intents, owner, word, book)

    async def _begin(self, conn: AsyncConnection) -> Moment:
        """Takes the guard's lock; a go that hangs must not hold up whoever sets a pause, nor every go behind that."""
        return await self._db.moment(conn, beside="" if self._db.sqlite else _GO_BEGINS)


@lru_cache(64)
def _heads(dialect: str, count: int, free: bool) -> Worded:  # noqa: FBT001 (it is a key)
    """The first of so many queues, and suspects of theirs."""
    now = now_in(dialect)
    heads = [select(_head(now, place, free=free)) for place in range(count)]
    return Worded(union_all(*heads, select(_suspects(now))))


def _head(now: ColumnElement[int], place: int, *, free: bool) -> Subquery:
    """The first of one queue; `free`: whoever is decided on by another worker just now is passed over."""
    due = (
        select(
            _REMINDER.tenant,
            _REMINDER.id,
            _REMINDER.person,
            _REMINDER.borrower,
            _REMINDER.priority,
            _REMINDER.next_at,
            _REMINDER.accepted_at,
            literal_column("0", BigInteger).label("strikes"),
        )
        .where(
            _REMINDER.queue == bindparam(f"queue{place}", type_=Text),
            _REMINDER.next_at <= now,
            IS_DUE,
            UNSUSPECTED,
        )
        .order_by(_REMINDER.next_at, _REMINDER.accepted_at)
    )
    most = bindparam(f"most{place}", type_=BigInteger)
    if not free:
        return due.limit(most).subquery()
    person, head = schema.person.c, due.limit(bindparam(f"looked{place}", type_=BigInteger)).subquery()
    return (
        select(head)
        .join(schema.person, and_(person.tenant == head.c.tenant, person.id == head.c.person))
        .order_by(head.c.next_at, head.c.accepted_at)
        .limit(most)
        .with_for_update(of=schema.person, key_share=True, skip_locked=True)
        .subquery()
    )


def _suspects(now: ColumnElement[int]) -> Subquery:
    """Those that were not tried for longest, of all queues that are asked.

    They are few and what is due may be much. So that either planner goes from suspects to their reminders and not the
    other way, what would be looked up that way is no bare column.
    """
    suspect, nothing = schema.suspect.c, literal_column("''", Text)
    return (
        select(
            *(_REMINDER.tenant, _REMINDER.id, _REMINDER.person, _REMINDER.borrower),
            *(_REMINDER.priority, _REMINDER.next_at, _REMINDER.accepted_at, suspect.strikes),
        )
        .where(
            _REMINDER.tenant == suspect.tenant + nothing,
            _REMINDER.id == suspect.reminder + nothing,
            among("queues", _REMINDER.queue + nothing),
            _REMINDER.next_at <= now,
            IS_DUE,
            MINE,
        )
        .order_by(suspect.at, suspect.reminder)
        .limit(TRIED)
        .subquery()
    )


def _starts(intents: Sequence[Intent], refused: Mapping[str, Refusal]) -> list[Start]:
    return [i.start for i in intents if i.ref not in refused]


def _held() -> CompoundSelect[Any]:
    """Revisions, under share locks: of all borrowers of persons (a refusal by one holds for all), debts, accounts."""
    borrower, debt, account = schema.borrower.c, schema.debt.c, schema.account.c
    parts = (
        select(
            literal("person").label("kind"), borrower.tenant, borrower.person.label("id"), borrower.revision
        )
        .where(among("persons", borrower.tenant, borrower.person))
        .order_by(borrower.tenant, borrower.id),
        select(literal("debt").label("kind"), debt.tenant, debt.id, debt.revision)
        .where(among("debts", debt.tenant, debt.id))
        .order_by(debt.tenant, debt.id),
        select(literal("account").label("kind"), account.tenant, account.name.label("id"), account.revision)
        .where(among("accounts", account.tenant, account.name), account.enabled.is_(True))
        .order_by(account.tenant, account.name),
    )
    locked = [
        part.with_for_update(read=True).cte(name)
        for part, name in zip(parts, ("persons", "debts", "accounts"), strict=True)
    ]
    return union_all(*(select(one) for one in locked))


_HELD = Worded(_held())
_BORROWERS = Worded(
    select(schema.borrower.c.tenant, schema.borrower.c.id).where(
        among("persons", schema.borrower.c.tenant, schema.borrower.c.person)
    )
)
_PERSONS = (
    select(schema.person.c.tenant, schema.person.c.id)
    .where(among("persons", schema.person.c.tenant, schema.person.c.id))
    .order_by(schema.person.c.tenant, schema.person.c.id)
)
_LOCK_PERSONS = Worded(_PERSONS.with_for_update(key_share=True))
_LOCK_FREE = Worded(_PERSONS.with_for_update(key_share=True, skip_locked=True))
_DUE = and_(_REMINDER.next_at <= bindparam("now"), IS_DUE)
_TAKE = Worded(
    update(schema.reminder)
    .where(among("keys", _REMINDER.tenant, _REMINDER.id), _DUE)
    .values(state="sending", fence=_REMINDER.fence + 1, next_at=None, called=False)
    .returning(schema.reminder)
)
_DUE_OF = Worded(
    select(_REMINDER.tenant, _REMINDER.id, *_RANKED)
    .where(
        among("persons", _REMINDER.tenant, _REMINDER.person),
        among("borrowers", _REMINDER.tenant, _REMINDER.borrower),
        among("queues", _REMINDER.queue),
        _DUE,
        UNSUSPECTED,
    )
    .order_by(_REMINDER.priority, _REMINDER.next_at)
    .limit(bindparam("most"))
)
_IN_ORDER = (
    select(_REMINDER.tenant, _REMINDER.id)
    .where(among("locked", _REMINDER.tenant, _REMINDER.id))
    .order_by(_REMINDER.tenant, _REMINDER.id)
    .with_for_update()
    .cte("in_order")
)
_MARK_CALLED = Worded(
    update(schema.reminder)
    .where(
        select(func.count()).select_from(_IN_ORDER).scalar_subquery() >= 0,
        among("keys", _REMINDER.tenant, _REMINDER.id, _REMINDER.fence),
        _REMINDER.state == "sending",
        _REMINDER.called.is_(False),
    )
    .values(called=True)
    .returning(_REMINDER.tenant, _REMINDER.id)
)
"""Locks all of them first, always in the same order, and marks those that may be called."""
_ATTEMPTS = among("keys", _ATTEMPT.tenant, _ATTEMPT.ref)
_TO_CALLING = Worded(
    update(schema.attempt)
    .where(_ATTEMPTS, _ATTEMPT.state == "intent", _ATTEMPT.owner == bindparam("by"))
    .values(state="calling", called_at=bindparam("now"))
    .returning(_ATTEMPT.ref)
)
_PLACES = select(schema.attempt_ref).where(among("refs", schema.attempt_ref.c.ref))


def _lock_attempts() -> Select[Any]:
    """Attempts by ref, their reminders' rows locked first, in one statement; SQLite's one writer locks nothing."""
    place = _PLACES.cte("place")
    held = (
        select(_REMINDER.id)
        .where(tuple_(_REMINDER.tenant, _REMINDER.id).in_(select(place.c.tenant, place.c.reminder)))
        .order_by(_REMINDER.tenant, _REMINDER.id)
        .with_for_update()
        .cte("held")
    )
    same = (place.c[key] == _ATTEMPT[key] for key in ("tenant", "ref", "started_at"))
    return (
        select(*ATTEMPT)
        .join(place, and_(*same))
        .where(select(func.count()).select_from(held).scalar_subquery() >= 0)
        .order_by(_ATTEMPT.ref)
        .with_for_update(of=schema.attempt)
    )


_LOCK_ATTEMPTS = Worded(_lock_attempts())
_DECIDED = given(
    "decided",
    **dict.fromkeys(
        ("tenant", "id", "state", "reason", "by", "attempt", "decision", "queue", "channel"), Text()
    ),
    next_at=BigInteger(),
)
_DECIDE = (
    update(schema.reminder)
    .where(_REMINDER.tenant == _DECIDED["tenant"], _REMINDER.id == _DECIDED["id"])
    .values(
        **{key: _DECIDED[key] for key in ("state", "reason", "by", "next_at", "decision")},
        **{key: func.coalesce(_DECIDED[key], _REMINDER[key]) for key in ("attempt", "queue", "channel")},
        updated_at=bindparam("now"),
    )
)
_WRITE_DECISIONS = Together(
    _DECIDE,
    NewRows(table=schema.ground, name="grounds", free=True),
    NewRows(table=schema.attempt_ref, name="refs"),
    NewRows(table=schema.attempt, name="intents"),
)
_VOID = (
    update(schema.attempt)
    .where(_ATTEMPTS, among("states", _ATTEMPT.state))
    .values(state="void", ended_at=bindparam("real"), final_at=bindparam("now"))
    .returning(*ATTEMPT)
)
_LATEST = among("keys", _REMINDER.tenant, _REMINDER.id, _REMINDER.attempt)
_FREE = (
    update(schema.reminder)
    .where(_LATEST, _REMINDER.state == "sending")
    .values(state="waiting", called=False, next_at=bindparam("now"), updated_at=bindparam("now"))
)
_REFUSED = given("rows", **dict.fromkeys(("tenant", "id", "ref", "reason", "by"), Text()), again=BigInteger())
_PUT_OFF = (
    update(schema.reminder)
    .where(
        _REMINDER.tenant == _REFUSED["tenant"],
        _REMINDER.id == _REFUSED["id"],
        _REMINDER.attempt == _REFUSED["ref"],
        _REMINDER.state == "waiting",
    )
    .values(
        state="deferred",
        reason=_REFUSED["reason"],
        by=_REFUSED["by"],
        next_at=case(
            (_REFUSED["again"] < _REMINDER.expires_at, _REFUSED["again"]), else_=_REMINDER.expires_at
        ),
    )
)
_UNCALL = (
    update(schema.attempt)
    .where(_ATTEMPTS, _ATTEMPT.state == "calling", _ATTEMPT.owner == bindparam("by"))
    .values(state="intent")
    .returning(_ATTEMPT.tenant, _ATTEMPT.reminder, _ATTEMPT.ref)
)
_UNMARK = update(schema.reminder).where(_LATEST).values(called=False)
_FORGET_CALL = (
    update(schema.attempt).where(_ATTEMPTS, _ATTEMPT.owner == bindparam("by")).values(called_at=None)
)
_LOOK_AGAIN = (
    update(schema.reminder)
    .where(
        among("persons", _REMINDER.tenant, _REMINDER.person),
        _REMINDER.state == "deferred",
        _REMINDER.next_at > bindparam("now"),
        or_(_REMINDER.reason.like("%.%"), _REMINDER.reason == "open_voice"),
    )
    .values(next_at=bindparam("now"))
)
_OUTTURNS = given(
    "outturns",
    **dict.fromkeys(("tenant", "ref", "state", "ending", "code", "provider_id"), Text()),
    **dict.fromkeys(("started_at", "final_at", "settle_at", "settle_tries", "ended_at"), BigInteger()),
)
_FINISH_ATTEMPTS = (
    update(schema.attempt)
    .where(*(_ATTEMPT[key] == _OUTTURNS[key] for key in ("tenant", "ref", "started_at")))
    .values(
        **{key: _OUTTURNS[key] for key in ("state", "final_at", "settle_at", "settle_tries")},
        **{
            key: func.coalesce(_OUTTURNS[key], _ATTEMPT[key])
            for key in ("ending", "code", "provider_id", "ended_at")
        },
    )
)
_NAMED = given("named", ref=Text(), provider_id=Text())
_NAME = (
    update(schema.attempt_ref)
    .where(schema.attempt_ref.c.ref == _NAMED["ref"])
    .values(provider_id=_NAMED["provider_id"])
)
_FINISHED = given(
    "finished",
    **dict.fromkeys(("tenant", "id", "ref", "state", "reason", "by", "waits_on"), Text()),
    **dict.fromkeys(("next_at", "tries", "step"), BigInteger()),
    **dict.fromkeys(("keeps_next", "called"), Boolean()),
)
_BUT_CHANNEL = func.substr(_REMINDER.queue, func.length(_REMINDER.channel) + 1, type_=Text())
"""A queue's name, from the first bar on (gateway.domain.queue_of)."""
_TAKEN_BACK = or_(_REMINDER.state == CANCELLED, _REMINDER.reason == CANCELLED)
_FREES = and_(_FINISHED["called"].is_(False), _FINISHED["next_at"].is_not(None))
_CONTACTED_BEFORE = _REMINDER.step > 1
"""A step was taken back, and the attempt before it was a step as well: what came before that was a contact."""
_FINISH_REMINDERS = (
    update(schema.reminder)
    .where(
        _REMINDER.tenant == _FINISHED["tenant"],
        _REMINDER.id == _FINISHED["id"],
        _REMINDER.attempt == _FINISHED["ref"],
    )
    .values(
        **{key: _FINISHED[key] for key in ("by", "called")},
        state=case(
            (and_(_TAKEN_BACK, _FREES, _CONTACTED_BEFORE), _REMINDER.state),
            (and_(_TAKEN_BACK, _FREES), CANCELLED),
            else_=_FINISHED["state"],
        ),
        reason=case((_TAKEN_BACK, CANCELLED), else_=_FINISHED["reason"]),
        next_at=case(
            (_TAKEN_BACK, None),
            (_FINISHED["keeps_next"], _REMINDER.next_at),
            else_=_FINISHED["next_at"],
        ),
        step=func.coalesce(_FINISHED["step"], _REMINDER.step),
        channel=func.coalesce(_FINISHED["waits_on"], _REMINDER.channel),
        queue=func.coalesce(_FINISHED["waits_on"] + _BUT_CHANNEL, _REMINDER.queue),
        tries=_REMINDER.tries + _FINISHED["tries"],
        updated_at=bindparam("now"),
    )
)
_WRITE_OUTCOMES = Together(_FINISH_ATTEMPTS, _NAME, _FINISH_REMINDERS)
_GO_BEGINS = (
    ", set_config('lock_timeout', '1s', true), set_config('statement_timeout', '2s', true)"
    f", pg_advisory_xact_lock_shared({GO_LOCK})"
)
_NEVER = 2**62
"""Later than any expiry."""
_QUEUES = (
    text(
        "WITH RECURSIVE q(queue) AS ("
        " SELECT min(queue) FROM reminder WHERE next_at IS NOT NULL"
        " UNION ALL SELECT (SELECT min(r.queue) FROM reminder r WHERE r.queue > q.queue AND r.next_at IS NOT NULL)"
        " FROM q WHERE q.queue IS NOT NULL)"
        " SELECT queue, (SELECT min(r.next_at) FROM reminder r WHERE r.queue = q.queue AND r.next_at IS NOT NULL)"
        " AS oldest FROM q WHERE queue IS NOT NULL"
    )
    .columns(queue=Text, oldest=BigInteger)
    .subquery()
)


def _queue(name: str, oldest: int) -> Queue:
    channel, tenant, template, priority = name.split("|")
    return Queue(
        name=name,
        channel=Channel(channel),
        tenant=Tenant(tenant),
        template=template,
        priority=int(priority),
        oldest=from_us(oldest),
    )


class DispatchTx(FactsTx):
    """Statements within one transaction."""

    def __init__(self, conn: AsyncConnection, moment: Moment, log: Log) -> None:
        super().__init__(conn, moment)
        self._log = log

    async def append(self, entries: Sequence[Entry]) -> None:
        """Write records of the send log."""
        await self._log.append(self.conn, entries)

    async def lock_persons(self, keys: Iterable[Key], *, free: bool = False) -> list[Key]:
        """Lock the rows that caps are counted under, always in the same order; those it locked.

        `free`: only those that nobody holds now.
        """
        wanted = set(keys)
        if not wanted:
            return []
        lock = _LOCK_FREE if free else _LOCK_PERSONS
        rows = await lock.run(self.conn, persons=keyed(wanted))
        return [(Tenant(r.tenant), r.id) for r in rows]

    async def claim(
        self, persons: Sequence[Key], borrowers: Sequence[Key], queues: Sequence[str], limit: int
    ) -> list[Work]:
        """Take what is due of these locked persons, by their borrowers, in these queues; `limit` at most.

        The first to go come first: by priority, value and expiry, for one person on all channels.
        """
        return await self.take(await self._due_of(persons, borrowers, queues, limit))

    async def take(self, keys: Sequence[Key]) -> list[Work]:
        """Take these (tenant, id), whose persons are locked; the first to go come first."""
        if not keys:
            return []
        rows = await _TAKE.run(self.conn, keys=keyed(keys), now=to_us(self.moment.policy))
        return [work_of(r) for r in sorted(rows, key=rank)]

    async def _due_of(
        self, persons: Sequence[Key], borrowers: Sequence[Key], queues: Sequence[str], limit: int
    ) -> list[Key]:
        """A statement of its own, after the locks: what others claimed meanwhile is not due any more.

        More is looked at than is taken: who of a person's goes first is not told by what became due first.
        """
        if not persons:
            return []
        due = await _DUE_OF.run(
            self.conn,
            persons=keyed(persons),
            borrowers=keyed(borrowers),
            queues=keyed((queue,) for queue in queues),
            now=to_us(self.moment.policy),
            most=max(limit, MOST_RANKED),
        )
        return [(Tenant(r.tenant), r.id) for r in sorted(due, key=rank)[:limit]]

    async def acquit(self, works: Sequence[Work]) -> None:
        """Whatever they were suspected of, they were decided on."""
        await acquit(self.conn, [(work.tenant, work.id) for work in works])

    async def decide(self, verdicts: Sequence[Verdict], owner: str) -> None:
        """Write what T1 decided: the reminders' rows, and an intent for each that shall be sent."""
        if not verdicts:
            return
        now = to_us(self.moment.policy)
        intents = [v.intent for v in verdicts if v.intent]
        await _WRITE_DECISIONS.run(
            self.conn,
            decided=json([self._verdict_row(v) for v in verdicts]),
            grounds=rows_of((v.ground for v in verdicts), now),
            refs=[ref_row(i, now) for i in intents],
            intents=[intent_row(i, owner, now) for i in intents],
            now=now,
        )

    def _verdict_row(self, verdict: Verdict) -> dict[str, Any]:
        return {
            "tenant": verdict.work.tenant,
            "id": verdict.work.id,
            "state": verdict.state,
            "reason": verdict.reason,
            "by": verdict.by,
            "next_at": us(verdict.next_at),
            "attempt": verdict.intent.ref if verdict.intent else None,
            "decision": verdict.decision,
            "queue": verdict.moves_to,
            "channel": verdict.moves_to.partition("|")[0] if verdict.moves_to else None,
        }

    async def go(self, intents: Sequence[Intent], owner: str, word: Word | None, book: Book) -> Went:
        """See DispatchStore.go."""
        stands = await as_they_stand(self.conn, self.moment)
        refused = stands.barred(_starts(intents, {}))
        now = to_us(self.moment.real)
        right = word in (None, stands.word)
        alive = [i for i in intents if right and to_us(i.deadline) > now and i.ref not in refused]
        called = await self._mark_called(intents, alive)
        current = await self._unchanged(called)
        starts = _starts(current, refused)
        refused |= await standing.admit(self.conn, self.moment, starts, stands.standings)
        book = await counted.as_it_stands(self.conn, book, stands.versions, self.moment.policy)
        refused |= await counted.admit(self.conn, self.moment, book, _starts(current, refused))
        current = [i for i in current if i.ref not in refused]
        granted = await self._to_calling(current, owner, now)
        await self.void([(i.work.tenant, i.ref) for i in intents if i.ref not in granted], why=refused)
        return Went(granted=frozenset(granted), refused=refused)

    async def _mark_called(self, intents: Sequence[Intent], alive: Sequence[Intent]) -> list[Intent]:
        by_key = {(i.work.tenant, i.work.id): i for i in alive}
        rows = await _MARK_CALLED.run(
            self.conn,
            locked=keyed({(i.work.tenant, i.work.id) for i in intents}),
            keys=keyed((i.work.tenant, i.work.id, i.work.fence) for i in alive),
        )
        return [by_key[Tenant(r.tenant), r.id] for r in rows]

    async def _unchanged(self, intents: Sequence[Intent]) -> list[Intent]:
        """Those whose borrower, debt and account are still what T1 saw; share locks hold that until the commit."""
        if not intents:
            return []
        found: dict[tuple[str, str, str], int] = defaultdict(int)
        for row in await _HELD.run(
            self.conn,
            persons=keyed({(i.work.tenant, i.work.person) for i in intents}),
            debts=keyed({(i.work.tenant, i.work.debt) for i in intents}),
            accounts=keyed({(i.work.tenant, i.account) for i in intents}),
        ):
            found[row.kind, row.tenant, row.id] += row.revision
        return [
            i
            for i in intents
            if found.get(("person", i.work.tenant, i.work.person)) == i.borrower_revision
            and found.get(("debt", i.work.tenant, i.work.debt)) == i.debt_revision
            and ("account", i.work.tenant, i.account) in found
        ]

    async def _to_calling(self, intents: Sequence[Intent], owner: str, now: int) -> set[str]:
        if not intents:
            return set()
        keys = keyed((i.work.tenant, i.ref) for i in intents)
        rows = await _TO_CALLING.run(self.conn, keys=keys, by=owner, now=now)
        return {r.ref for r in rows}

    async def void(
        self,
        keys: Sequence[Key],
        *,
        from_states: tuple[str, ...] = ("intent",),
        why: Mapping[str, Refusal] = MappingProxyType({}),
    ) -> list[Attempt]:
        """Withdraw attempts (tenant, ref) that were surely not called; their reminders are due again.

        Those that were refused for a reason (by ref) wait for what refused them. Those it withdrew.
        """
        if not keys:
            return []
        now = to_us(self.moment.policy)
        await self.attempts([ref for _, ref in keys])
        rows = await self.conn.execute(
            _VOID,
            {
                "keys": keyed(keys),
                "states": keyed((s,) for s in from_states),
                "now": now,
                "real": to_us(self.moment.real),
            },
        )
        withdrawn = [attempt_of(r) for r in rows]
        await self.conn.execute(
            _FREE, {"keys": keyed((a.tenant, a.reminder, a.ref) for a in withdrawn), "now": now}
        )
        await self._put_off([a for a in withdrawn if a.ref in why], why)
        await self.append([withdrawal(a, self.moment, why.get(a.ref)) for a in withdrawn])
        return withdrawn

    async def _put_off(self, withdrawn: Sequence[Attempt], why: Mapping[str, Refusal]) -> None:
        if not withdrawn:
            return
        await self.conn.execute(
            _PUT_OFF, {"rows": json([self._put_off_row(a, why[a.ref]) for a in withdrawn])}
        )

    def _put_off_row(self, attempt: Attempt, refusal: Refusal) -> dict[str, Any]:
        return {
            "tenant": attempt.tenant,
            "id": attempt.reminder,
            "ref": attempt.ref,
            "reason": refusal.reason,
            "by": refusal.by,
            "again": _NEVER if refusal.again is None else to_us(refusal.again),
        }

    async def uncall(self, starts: Sequence[Start], owner: str, book: Book) -> set[str]:
        """`calling` → `intent`, for calls that their owner surely has not begun; refs of those that are intents again.

        Who judged the owner dead meanwhile has made them unknown: those stay so. What is an intent again is
        counted no more.
        """
        keys = [(start.load.tenant, start.ref) for start in starts]
        await self.attempts([ref for _, ref in keys])
        rows = await self.conn.execute(_UNCALL, {"keys": keyed(keys), "by": owner})
        intents = [(r.tenant, r.reminder, r.ref) for r in rows]
        back = {ref for _, _, ref in intents}
        await self.conn.execute(_UNMARK, {"keys": keyed(intents)})
        await self.give_back([start for start in starts if start.ref in back], book)
        await self.conn.execute(
            _FORGET_CALL, {"keys": keyed(key for key in keys if key[1] in back), "by": owner}
        )
        return back

    async def give_back(self, starts: Sequence[Start], book: Book) -> None:
        """Starts that were counted and surely not called are counted no more."""
        await counted.give_back(self.conn, self.moment, book, starts)

    async def learn(self, ended: Sequence[Ending]) -> None:
        """What endings of calls say of the accounts that they went through."""
        await standing.learn(self.conn, self.moment, ended)

    async def look_again(self, persons: Iterable[Key]) -> None:
        """Make due what a rule or an open call puts off for these (locked) persons."""
        now = to_us(self.moment.policy)
        wanted = set(persons)
        if wanted:
            await self.conn.execute(_LOOK_AGAIN, {"persons": keyed(wanted), "now": now})

    async def attempts(self, refs: Sequence[str]) -> dict[str, Attempt]:
        """Attempts by ref, their reminders' rows locked first, then their own."""
        if not refs:
            return {}
        rows = await _LOCK_ATTEMPTS.run(self.conn, refs=keyed((ref,) for ref in set(refs)))
        return {r.ref: attempt_of(r) for r in rows if r.reminder is not None}

    async def finish(self, outturns: Sequence[Outturn]) -> None:
        """Write outcomes to attempts and to the reminders whose latest attempt they are.

        A cancel that was confirmed stands: one that was taken back gets no further time, whatever was free to follow.
        Where nobody was reached after all, it is cancelled.
        """
        if not outturns:
            return
        named = [{"ref": o.attempt.ref, "provider_id": o.provider_id} for o in outturns if o.provider_id]
        moved = [o for o in outturns if o.reminder_state and o.attempt.reminder]
        await _WRITE_OUTCOMES.run(
            self.conn,
            outturns=json([outturn_row(o) for o in outturns]),
            named=json(named),
            finished=json([self._finish_row(o) for o in moved]),
            now=to_us(self.moment.policy),
        )

    def _finish_row(self, outturn: Outturn) -> dict[str, Any]:
        return {
            "tenant": outturn.attempt.tenant,
            "id": outturn.attempt.reminder,
            "ref": outturn.attempt.ref,
            "state": outturn.reminder_state,
            "reason": outturn.reason,
            "by": outturn.by,
            "next_at": us(outturn.next_at),
            "keeps_next": outturn.keeps_next,
            "called": not outturn.refused,
            "tries": 1 if outturn.refused and not outturn.waits else 0,
            "step": outturn.step,
            "waits_on": outturn.waits_on,
        }

    async def mark_dead(self, addresses: Sequence[tuple[Tenant, str, str, str]]) -> None:
        """Addresses (tenant, borrower, channel, key) that can never work there."""
        table = schema.address.c
        for part in chunks([(t, b, c, bytes.fromhex(key)) for t, b, c, key in addresses]):
            await self.conn.execute(
                update(schema.address)
                .where(
                    tuple_(table.tenant, table.borrower, table.channel, table.blind).in_(part),
                    table.dead_at.is_(None),
                )
                .values(dead_at=to_us(self.moment.policy))
            )

    async def opt_out(self, tenant: Tenant, borrower: str, channel: str) -> bool:
        """Add an opt-out to a borrower's profile and raise its revision; False when it already stood there."""
        table = schema.borrower.c
        row = (
            await self.conn.execute(
                select(table.profile).where(table.tenant == tenant, table.id == borrower).with_for_update()
            )
        ).one_or_none()
        if row is None:
            return False
        profile = orjson.loads(row.profile)
        stands = profile.setdefault("opt_outs", [])
        if any(o["channel"] in (channel, "all") for o in stands):
            return False
        stands.append({"channel": channel, "at": self.moment.policy.isoformat()})
        await self.conn.execute(
            update(schema.borrower)
            .where(table.tenant == tenant, table.id == borrower)
            .values(
                profile=orjson.dumps(profile).decode(),
                revision=table.revision + 1,
                updated_at=to_us(self.moment.policy),
            )
        )
        return True

    async def overdue_intents(self, grace: timedelta, limit: int) -> list[Key]:
        """Intents whose permit is over: their owner may not call any more."""
        rows = await self.conn.execute(
            select(_ATTEMPT.tenant, _ATTEMPT.ref)
            .where(_ATTEMPT.state == "intent", _ATTEMPT.deadline < to_us(self.moment.real - grace))
            .limit(limit)
        )
        return [(Tenant(r.tenant), r.ref) for r in rows]

    async def orphans(self, owners: Sequence[str], limit: int) -> dict[str, Attempt]:
        """Attempts `intent` or `calling` of owners confirmed dead."""
        rows = await self.conn.execute(
            select(_ATTEMPT.ref)
            .where(_ATTEMPT.state.in_(("intent", "calling")), _ATTEMPT.owner.in_(owners))
            .limit(limit)
        )
        return await self.attempts([r.ref for r in rows])

    async def frozen(self) -> bool:
        """Whether the database failed over and may have forgotten calls."""
        return await server.frozen(self.conn)

    async def to_settle(self, limit: int) -> dict[str, Attempt]:
        """Unknown attempts whose quarantine is over, so many at most of each account."""
        place = func.row_number().over(
            partition_by=(_ATTEMPT.tenant, _ATTEMPT.account), order_by=_ATTEMPT.settle_at
        )
        due = (
            select(_ATTEMPT.ref, place.label("place"))
            .where(_ATTEMPT.state == "unknown", _ATTEMPT.settle_at <= to_us(self.moment.real))
            .subquery()
        )
        rows = await self.conn.execute(select(due.c.ref).where(due.c.place <= limit))
        return await self.attempts([r.ref for r in rows])

    async def stands_until(self, attempt: Attempt) -> datetime | None:
        """Until when (policy clock) the decision behind an attempt holds.

        None when its borrower, debt or account are not as they were decided on, its reminder went on or was
        cancelled, or a pause or stop covers it: asking by the same request again is a call, and needs what a go needs.
        """
        borrower, debt, account = schema.borrower.c, schema.debt.c, schema.account.c
        revisions = (
            select(func.sum(borrower.revision))
            .where(borrower.tenant == _ATTEMPT.tenant, borrower.person == _ATTEMPT.person)
            .correlate(schema.attempt)
            .scalar_subquery()
        )
        rows = await self.conn.execute(
            select(
                *(_REMINDER.decision, _REMINDER.priority, _REMINDER.portfolio, _REMINDER.places),
                *(_ATTEMPT.template, _ATTEMPT.template_version, account.weight),
                *(debt.portfolio.label("portfolio_now"), debt.governing_law, borrower.profile),
            )
            .select_from(schema.reminder)
            .join(
                schema.attempt, and_(_ATTEMPT.tenant == _REMINDER.tenant, _ATTEMPT.ref == _REMINDER.attempt)
            )
            .join(schema.debt, and_(debt.tenant == _REMINDER.tenant, debt.id == _REMINDER.debt))
            .join(
                schema.borrower, and_(borrower.tenant == _REMINDER.tenant, borrower.id == _REMINDER.borrower)
            )
            .join(schema.account, and_(account.tenant == _REMINDER.tenant, account.name == _ATTEMPT.account))
            .where(
                _ATTEMPT.tenant == attempt.tenant,
                _ATTEMPT.ref == attempt.ref,
                _REMINDER.reason.is_distinct_from(CANCELLED),
                _ATTEMPT.borrower_revision == revisions,
                _ATTEMPT.debt_revision == debt.revision,
                account.enabled.is_(True),
            )
        )
        row = rows.one_or_none()
        until = orjson.loads(row.decision).get("deliver_by") if row is not None and row.decision else None
        if row is None or until is None:
            return None
        if (await guard(self.conn, self.moment)).barred([_start(attempt, row)]):
            return None
        return datetime.fromisoformat(until)

    async def address(self, tenant: Tenant, borrower: str, key: str) -> bytes | None:
        """One address, sealed."""
        table = schema.address.c
        sealed: bytes | None = await self.conn.scalar(
            select(table.value_enc).where(
                table.tenant == tenant, table.borrower == borrower, table.blind == bytes.fromhex(key)
            )
        )
        return sealed


def _start(attempt: Attempt, row: Any) -> Start:
    """An attempt that was called once, as pauses see it."""
    residence = orjson.loads(row.profile).get("residence")
    return Start(
        ref=attempt.ref,
        load=Load(
            tenant=attempt.tenant,
            channel=attempt.channel.value,
            adapter=attempt.adapter,
            account=attempt.account,
            template=row.template,
            shared=row.weight is not None,
            priority=row.priority,
        ),
        template_version=row.template_version,
        portfolios=frozenset(p for p in (row.portfolio, row.portfolio_now) if p),
        places=frozenset(p for p in (*orjson.loads(row.places), residence, row.governing_law) if p),
        deliver_by=attempt.started_at,
    )
