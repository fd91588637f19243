"""The statements of dispatch, receipts, sweep and reconcile. Every method is batched."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

import orjson
from sqlalchemy import Table, and_, bindparam, case, func, insert, or_, select, tuple_, update
from sqlalchemy.engine import Row
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.domain import Channel, DebtState, Money, Outcome, Tenant, from_us, to_us
from gateway.ports import Entry, Moment
from gateway.store import schema
from gateway.store.database import Database, chunks
from gateway.store.log import Log
from gateway.work import (
    AddressRow,
    Attempt,
    BorrowerRow,
    DebtRow,
    Due,
    Facts,
    Intent,
    Key,
    Outturn,
    Past,
    Subject,
    Verdict,
    Work,
)

DUE_STATES = ("waiting", "deferred", "sent", "failed", "unknown")
"""States in which a `next_at` means something: the last three only while an escalation is left."""
UNSENT = ("void", Outcome.REJECTED.value)
"""Attempts that were no contact: they count nowhere."""
LOOKBACK = timedelta(days=75)
"""How far back caps look at most; no shipped rule looks further than 31 days."""
DUPLICATE_WITHIN = timedelta(hours=24)
ENDED_UNSENT = ("suppressed", "cancelled", "expired")

_REMINDER, _ATTEMPT = schema.reminder.c, schema.attempt.c


class DispatchStore:
    """Transactions of everything that happens to a reminder after it was accepted."""

    def __init__(self, database: Database, log: Log) -> None:
        self._db = database
        self._log = log

    async def moment(self) -> Moment:
        """Both clocks, now."""
        async with self._db.read() as conn:
            return await self._db.moment(conn)

    async def pick(self, channel: str, shard: int, limit: int) -> list[Due]:
        """Due reminders of one queue, unlocked, by priority and due time."""
        async with self._db.read() as conn:
            now = await self._db.moment(conn)
            rows = await conn.execute(
                select(_REMINDER.tenant, _REMINDER.id, _REMINDER.person, _REMINDER.borrower)
                .where(
                    _REMINDER.channel == channel,
                    _REMINDER.shard == shard,
                    _REMINDER.next_at <= to_us(now.policy),
                    _REMINDER.state.in_(DUE_STATES),
                )
                .order_by(_REMINDER.priority, _REMINDER.next_at, _REMINDER.accepted_at)
                .limit(limit)
            )
            return [Due(tenant=Tenant(r.tenant), id=r.id, person=r.person, borrower=r.borrower) for r in rows]

    async def due_queues(self) -> list[tuple[str, int]]:
        """Every (channel, shard) with something due now."""
        async with self._db.read() as conn:
            now = await self._db.moment(conn)
            rows = await conn.execute(
                select(_REMINDER.channel, _REMINDER.shard)
                .where(_REMINDER.next_at <= to_us(now.policy), _REMINDER.state.in_(DUE_STATES))
                .distinct()
            )
            return [(r.channel, r.shard) for r in rows]

    async def next_due(self) -> datetime | None:
        """The policy instant of the earliest reminder that waits, if one does."""
        async with self._db.read() as conn:
            earliest = await conn.scalar(
                select(func.min(_REMINDER.next_at)).where(_REMINDER.state.in_(DUE_STATES))
            )
            return None if earliest is None else from_us(earliest)

    async def find(self, ref: str) -> Attempt | None:
        """An attempt of the gateway's own by its ref, unlocked."""
        places = schema.attempt_ref.c
        async with self._db.read() as conn:
            row = (
                await conn.execute(
                    select(schema.attempt)
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
            return None if row is None else _attempt(row)

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

    async def go(self, intents: Sequence[Intent], owner: str) -> set[str]:
        """The guard before every call: `intent` → `calling` for those that may still go; the rest become void.

        Refs that got their go. Cancel and go meet on the reminder's own row; the borrower's and the
        debt's revision must be those that T1 decided on, and stay so until this commits.
        """
        async with self.transaction() as tx:
            return await tx.go(intents, owner)


class DispatchTx:
    """Statements within one transaction."""

    def __init__(self, conn: AsyncConnection, moment: Moment, log: Log) -> None:
        self.conn = conn
        self.moment = moment
        self._log = log

    async def append(self, entries: Sequence[Entry]) -> None:
        """Write records of the send log."""
        await self._log.append(self.conn, entries)

    async def lock_persons(self, keys: Iterable[Key]) -> None:
        """Lock the rows that caps are counted under, always in the same order."""
        for part in chunks(sorted(set(keys))):
            await self.conn.execute(
                select(schema.person.c.id)
                .where(tuple_(schema.person.c.tenant, schema.person.c.id).in_(part))
                .order_by(schema.person.c.tenant, schema.person.c.id)
                .with_for_update(key_share=True)
            )

    async def claim(self, dues: Sequence[Due]) -> list[Work]:
        """Take those that are still due and still belong to a locked person; in order of priority and due time."""
        if not dues:
            return []
        keys = [(d.tenant, d.id) for d in dues]
        persons = sorted({(d.tenant, d.person) for d in dues})
        taken: list[Row[Any]] = []
        for part in chunks(keys):
            rows = await self.conn.execute(
                update(schema.reminder)
                .where(
                    tuple_(_REMINDER.tenant, _REMINDER.id).in_(part),
                    tuple_(_REMINDER.tenant, _REMINDER.person).in_(persons),
                    _REMINDER.next_at <= to_us(self.moment.policy),
                    _REMINDER.state.in_(DUE_STATES),
                )
                .values(state="sending", fence=_REMINDER.fence + 1, next_at=None, called=False)
                .returning(schema.reminder)
            )
            taken.extend(rows)
        order = {key: place for place, key in enumerate(keys)}
        taken.sort(key=lambda r: order[r.tenant, r.id])
        return [_work(r) for r in taken]

    async def facts(self, subjects: Sequence[Work | Subject]) -> Facts:
        """Everything that deciding on these needs, read after the locks."""
        persons = sorted({(s.tenant, s.person) for s in subjects})
        debts = sorted({(s.tenant, s.debt) for s in subjects})
        siblings = await self._borrowers(persons)
        borrowers = {(t, b.id): b for (t, _), rows in siblings.items() for b in rows}
        return Facts(
            borrowers=borrowers,
            siblings=siblings,
            addresses=await self._addresses(sorted({(s.tenant, s.borrower) for s in subjects})),
            debts=await self._debts(debts),
            history=await self._history(persons),
            stale_after=await self._stale_after({s.tenant.split("/")[0] for s in subjects}),
            overrides=await self._overrides({s.tenant for s in subjects}),
            duplicates=await self._duplicates([s for s in subjects if isinstance(s, Work)]),
            contacted=await self._contacted([s for s in subjects if isinstance(s, Work) and s.step]),
        )

    async def _borrowers(self, persons: Sequence[Key]) -> dict[Key, tuple[BorrowerRow, ...]]:
        found: dict[Key, list[BorrowerRow]] = defaultdict(list)
        table = schema.borrower.c
        for row in await self._by_keys(schema.borrower, (table.tenant, table.person), persons):
            found[Tenant(row.tenant), row.person].append(
                BorrowerRow(
                    id=row.id,
                    person=row.person,
                    profile=orjson.loads(row.profile),
                    pii_enc=row.pii_enc,
                    revision=row.revision,
                )
            )
        return {key: tuple(rows) for key, rows in found.items()}

    async def _addresses(self, borrowers: Sequence[Key]) -> dict[Key, tuple[AddressRow, ...]]:
        found: dict[Key, list[AddressRow]] = defaultdict(list)
        table = schema.address.c
        rows = await self._by_keys(schema.address, (table.tenant, table.borrower), borrowers)
        for row in sorted(rows, key=lambda r: r.position):
            if row.dead_at is None:
                found[Tenant(row.tenant), row.borrower].append(
                    AddressRow(
                        channel=Channel(row.channel),
                        key=row.blind.hex(),
                        value_enc=row.value_enc,
                        kind=row.kind,
                        country=row.country,
                        zones=tuple(orjson.loads(row.zones)),
                    )
                )
        return {key: tuple(rows) for key, rows in found.items()}

    async def _debts(self, keys: Sequence[Key]) -> dict[Key, DebtRow]:
        table = schema.debt.c
        rows = await self._by_keys(schema.debt, (table.tenant, table.id), keys)
        return {(Tenant(r.tenant), r.id): _debt(r) for r in rows}

    async def _history(self, persons: Sequence[Key]) -> dict[Key, list[Past]]:
        since = to_us(self.moment.policy - LOOKBACK)
        found: dict[Key, list[Past]] = {key: [] for key in persons}
        rows = await self._by_keys(
            schema.attempt,
            (_ATTEMPT.tenant, _ATTEMPT.person),
            persons,
            and_(_ATTEMPT.started_at > since, _ATTEMPT.state.notin_(UNSENT)),
        )
        for row in sorted(rows, key=lambda r: (r.started_at, r.ref)):
            found[Tenant(row.tenant), row.person].append(_past(row))
        table = schema.reservation.c
        held = await self._by_keys(
            schema.reservation,
            (table.tenant, table.person),
            persons,
            and_(table.until > to_us(self.moment.policy), table.used_at.is_(None)),
        )
        for row in held:
            found[Tenant(row.tenant), row.person].append(_reserved(row))
        return found

    async def _stale_after(self, names: set[str]) -> dict[str, timedelta]:
        table = schema.tenant.c
        rows = await self.conn.execute(select(table.name, table.stale_after_s).where(table.name.in_(names)))
        return {r.name: timedelta(seconds=r.stale_after_s) for r in rows}

    async def _overrides(self, tenants: set[Tenant]) -> dict[Tenant, dict[str, int]]:
        table = schema.pack_override.c
        found: dict[Tenant, dict[str, int]] = defaultdict(dict)
        for row in await self.conn.execute(
            select(table.tenant, table.rule, table.max).where(table.tenant.in_(tenants))
        ):
            found[Tenant(row.tenant)][row.rule] = row.max
        return found

    async def _duplicates(self, works: Sequence[Work]) -> frozenset[Key]:
        """Those for which an earlier reminder of the same borrower, debt, due date and template stands within 24 h."""
        asked = {(w.tenant, w.debt, w.template) for w in works if not w.repeat and w.step == 0}
        others: dict[tuple[str, str, str], list[Row[Any]]] = defaultdict(list)
        rows = await self._by_keys(
            schema.reminder,
            (_REMINDER.tenant, _REMINDER.debt, _REMINDER.template),
            sorted(asked),
            and_(
                _REMINDER.accepted_at > to_us(self.moment.policy - DUPLICATE_WITHIN - LOOKBACK),
                _REMINDER.state.notin_(ENDED_UNSENT),
            ),
        )
        for row in rows:
            others[row.tenant, row.debt, row.template].append(row)
        return frozenset(
            (w.tenant, w.id)
            for w in works
            if not w.repeat and w.step == 0
            if any(_doubles(w, other) for other in others[w.tenant, w.debt, w.template])
        )

    async def _contacted(self, works: Sequence[Work]) -> dict[Key, str]:
        rows = await self._by_keys(
            schema.attempt,
            (_ATTEMPT.tenant, _ATTEMPT.reminder),
            [(w.tenant, w.id) for w in works],
            _ATTEMPT.state.notin_(UNSENT),
        )
        rows.sort(key=lambda r: (r.started_at, r.ref))
        return {(Tenant(r.tenant), r.reminder): r.state for r in rows}

    async def _by_keys(
        self, table: Table, columns: tuple[Any, ...], keys: Sequence[tuple[str, ...]], *more: Any
    ) -> list[Row[Any]]:
        rows: list[Row[Any]] = []
        for part in chunks(keys):
            rows.extend(await self.conn.execute(select(table).where(tuple_(*columns).in_(part), *more)))
        return rows

    async def decide(self, verdicts: Sequence[Verdict], owner: str) -> None:
        """Write what T1 decided: the reminders' rows, and an intent for each that shall be sent."""
        if not verdicts:
            return
        await self.conn.execute(
            update(schema.reminder)
            .where(_REMINDER.tenant == bindparam("k_tenant"), _REMINDER.id == bindparam("k_id"))
            .values(
                state=bindparam("state"),
                reason=bindparam("reason"),
                by=bindparam("by"),
                next_at=bindparam("next_at"),
                attempt=func.coalesce(bindparam("attempt"), _REMINDER.attempt),
                decision=bindparam("decision"),
                updated_at=bindparam("updated_at"),
            ),
            [self._verdict_row(v) for v in verdicts],
        )
        intents = [v.intent for v in verdicts if v.intent]
        if intents:
            now = to_us(self.moment.policy)
            await self.conn.execute(insert(schema.attempt_ref), [_ref_row(i, now) for i in intents])
            await self.conn.execute(insert(schema.attempt), [_intent_row(i, owner, now) for i in intents])

    def _verdict_row(self, verdict: Verdict) -> dict[str, Any]:
        return {
            "k_tenant": verdict.work.tenant,
            "k_id": verdict.work.id,
            "state": verdict.state,
            "reason": verdict.reason,
            "by": verdict.by,
            "next_at": _us(verdict.next_at),
            "attempt": verdict.intent.ref if verdict.intent else None,
            "decision": verdict.decision,
            "updated_at": to_us(self.moment.policy),
        }

    async def go(self, intents: Sequence[Intent], owner: str) -> set[str]:
        """See DispatchStore.go."""
        now = to_us(self.moment.real)
        alive = {i.work.id: i for i in intents if to_us(i.deadline) > now}
        called = await self._mark_called(list(alive.values()))
        current = await self._unchanged(called)
        granted = await self._to_calling(current, owner, now)
        await self.void([(i.work.tenant, i.ref) for i in intents if i.ref not in granted])
        return granted

    async def _mark_called(self, intents: Sequence[Intent]) -> list[Intent]:
        by_key = {(i.work.tenant, i.work.id): i for i in intents}
        won: list[Intent] = []
        for part in chunks(sorted((i.work.tenant, i.work.id, i.work.fence) for i in intents)):
            rows = await self.conn.execute(
                update(schema.reminder)
                .where(
                    tuple_(_REMINDER.tenant, _REMINDER.id, _REMINDER.fence).in_(part),
                    _REMINDER.state == "sending",
                    _REMINDER.called.is_(False),
                )
                .values(called=True)
                .returning(_REMINDER.tenant, _REMINDER.id)
            )
            won.extend(by_key[Tenant(r.tenant), r.id] for r in rows)
        return won

    async def _unchanged(self, intents: Sequence[Intent]) -> list[Intent]:
        """Those whose borrower, debt and account are still what T1 saw; share locks hold that until the commit."""
        borrowers = await self._revisions(
            schema.borrower, sorted({(i.work.tenant, i.work.borrower) for i in intents})
        )
        debts = await self._revisions(schema.debt, sorted({(i.work.tenant, i.work.debt) for i in intents}))
        accounts = await self._enabled(sorted({(i.work.tenant, i.account) for i in intents}))
        return [
            i
            for i in intents
            if borrowers.get((i.work.tenant, i.work.borrower)) == i.borrower_revision
            and debts.get((i.work.tenant, i.work.debt)) == i.debt_revision
            and (i.work.tenant, i.account) in accounts
        ]

    async def _revisions(self, table: Table, keys: Sequence[Key]) -> dict[Key, int]:
        found: dict[Key, int] = {}
        for part in chunks(keys):
            rows = await self.conn.execute(
                select(table.c.tenant, table.c.id, table.c.revision)
                .where(tuple_(table.c.tenant, table.c.id).in_(part))
                .order_by(table.c.tenant, table.c.id)
                .with_for_update(read=True)
            )
            found.update({(Tenant(r.tenant), r.id): r.revision for r in rows})
        return found

    async def _enabled(self, keys: Sequence[Key]) -> set[Key]:
        table = schema.account.c
        rows = await self.conn.execute(
            select(table.tenant, table.name)
            .where(tuple_(table.tenant, table.name).in_(keys), table.enabled.is_(True))
            .with_for_update(read=True)
        )
        return {(Tenant(r.tenant), r.name) for r in rows}

    async def _to_calling(self, intents: Sequence[Intent], owner: str, now: int) -> set[str]:
        granted: set[str] = set()
        for part in chunks([(i.work.tenant, i.ref) for i in intents]):
            rows = await self.conn.execute(
                update(schema.attempt)
                .where(
                    tuple_(_ATTEMPT.tenant, _ATTEMPT.ref).in_(part),
                    _ATTEMPT.state == "intent",
                    _ATTEMPT.owner == owner,
                )
                .values(state="calling", called_at=now)
                .returning(_ATTEMPT.ref)
            )
            granted.update(r.ref for r in rows)
        return granted

    async def void(self, keys: Sequence[Key], *, from_states: tuple[str, ...] = ("intent",)) -> list[Attempt]:
        """Withdraw attempts (tenant, ref) that were surely not called; their reminders are due again.

        Those it withdrew.
        """
        withdrawn: list[Attempt] = []
        now = to_us(self.moment.policy)
        for part in chunks(keys):
            rows = await self.conn.execute(
                update(schema.attempt)
                .where(tuple_(_ATTEMPT.tenant, _ATTEMPT.ref).in_(part), _ATTEMPT.state.in_(from_states))
                .values(state="void", ended_at=to_us(self.moment.real), final_at=now)
                .returning(schema.attempt)
            )
            withdrawn.extend(_attempt(r) for r in rows)
        for again in chunks([(a.tenant, a.reminder, a.ref) for a in withdrawn]):
            await self.conn.execute(
                update(schema.reminder)
                .where(
                    tuple_(_REMINDER.tenant, _REMINDER.id, _REMINDER.attempt).in_(again),
                    _REMINDER.state == "sending",
                )
                .values(state="waiting", called=False, next_at=now, updated_at=now)
            )
        await self.append([_withdrawn(a, self.moment) for a in withdrawn])
        return withdrawn

    async def look_again(self, persons: Iterable[Key]) -> None:
        """Make due what a rule or an open call puts off for these (locked) persons."""
        now = to_us(self.moment.policy)
        for part in chunks(sorted(set(persons))):
            await self.conn.execute(
                update(schema.reminder)
                .where(
                    tuple_(_REMINDER.tenant, _REMINDER.person).in_(part),
                    _REMINDER.state == "deferred",
                    _REMINDER.next_at > now,
                    or_(_REMINDER.reason.like("%.%"), _REMINDER.reason == "open_voice"),
                )
                .values(next_at=now)
            )

    async def attempts(self, refs: Sequence[str]) -> dict[str, Attempt]:
        """Attempts by ref, their reminders' rows locked first, then their own."""
        places = schema.attempt_ref.c
        found: dict[str, Attempt] = {}
        for part in chunks(sorted(set(refs))):
            known = list(await self.conn.execute(select(schema.attempt_ref).where(places.ref.in_(part))))
            await self._lock_reminders(sorted({(r.tenant, r.reminder) for r in known if r.reminder}))
            rows = await self.conn.execute(
                select(schema.attempt)
                .where(
                    tuple_(_ATTEMPT.tenant, _ATTEMPT.ref, _ATTEMPT.started_at).in_(
                        [(r.tenant, r.ref, r.started_at) for r in known]
                    )
                )
                .order_by(_ATTEMPT.ref)
                .with_for_update()
            )
            found.update({r.ref: _attempt(r) for r in rows if r.reminder is not None})
        return found

    async def _lock_reminders(self, keys: Sequence[Key]) -> None:
        await self.conn.execute(
            select(_REMINDER.id)
            .where(tuple_(_REMINDER.tenant, _REMINDER.id).in_(keys))
            .order_by(_REMINDER.tenant, _REMINDER.id)
            .with_for_update()
        )

    async def finish(self, outturns: Sequence[Outturn]) -> None:
        """Write outcomes to attempts and to the reminders whose latest attempt they are."""
        if not outturns:
            return
        await self.conn.execute(
            update(schema.attempt)
            .where(
                _ATTEMPT.tenant == bindparam("k_tenant"),
                _ATTEMPT.ref == bindparam("k_ref"),
                _ATTEMPT.started_at == bindparam("k_started_at"),
            )
            .values(
                state=bindparam("state"),
                ending=func.coalesce(bindparam("ending"), _ATTEMPT.ending),
                code=func.coalesce(bindparam("code"), _ATTEMPT.code),
                provider_id=func.coalesce(bindparam("provider_id"), _ATTEMPT.provider_id),
                final_at=bindparam("final_at"),
                settle_at=bindparam("settle_at"),
                settle_tries=bindparam("settle_tries"),
                ended_at=func.coalesce(bindparam("ended_at"), _ATTEMPT.ended_at),
            ),
            [_outturn_row(o) for o in outturns],
        )
        named = [o for o in outturns if o.provider_id]
        if named:
            await self.conn.execute(
                update(schema.attempt_ref)
                .where(schema.attempt_ref.c.ref == bindparam("k_ref"))
                .values(provider_id=bindparam("provider_id")),
                [{"k_ref": o.attempt.ref, "provider_id": o.provider_id} for o in named],
            )
        moved = [o for o in outturns if o.reminder_state and o.attempt.reminder]
        if moved:
            await self.conn.execute(_FINISH_REMINDER, [self._finish_row(o) for o in moved])

    def _finish_row(self, outturn: Outturn) -> dict[str, Any]:
        return {
            "k_tenant": outturn.attempt.tenant,
            "k_id": outturn.attempt.reminder,
            "k_ref": outturn.attempt.ref,
            "state": outturn.reminder_state,
            "reason": outturn.reason,
            "by": outturn.by,
            "next_at": _us(outturn.next_at),
            "keeps_next": outturn.keeps_next,
            "called": not outturn.refused,
            "tries": 1 if outturn.refused else 0,
            "step": 1 if outturn.escalates else 0,
            "updated_at": to_us(self.moment.policy),
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

    async def to_settle(self, limit: int) -> dict[str, Attempt]:
        """Unknown attempts whose quarantine is over."""
        rows = await self.conn.execute(
            select(_ATTEMPT.ref)
            .where(_ATTEMPT.state == "unknown", _ATTEMPT.settle_at <= to_us(self.moment.real))
            .order_by(_ATTEMPT.settle_at)
            .limit(limit)
        )
        return await self.attempts([r.ref for r in rows])

    async def stands_until(self, attempt: Attempt) -> datetime | None:
        """Until when (policy clock) the decision behind an attempt holds.

        None when its borrower, debt or account are not as they were decided on, or its reminder went on.
        """
        borrower, debt, account = schema.borrower.c, schema.debt.c, schema.account.c
        decision: str | None = await self.conn.scalar(
            select(_REMINDER.decision)
            .join(
                schema.attempt, and_(_ATTEMPT.tenant == _REMINDER.tenant, _ATTEMPT.ref == _REMINDER.attempt)
            )
            .join(
                schema.borrower, and_(borrower.tenant == _REMINDER.tenant, borrower.id == _REMINDER.borrower)
            )
            .join(schema.debt, and_(debt.tenant == _REMINDER.tenant, debt.id == _REMINDER.debt))
            .join(schema.account, and_(account.tenant == _REMINDER.tenant, account.name == _ATTEMPT.account))
            .where(
                _ATTEMPT.tenant == attempt.tenant,
                _ATTEMPT.ref == attempt.ref,
                _ATTEMPT.borrower_revision == borrower.revision,
                _ATTEMPT.debt_revision == debt.revision,
                account.enabled.is_(True),
            )
        )
        until = orjson.loads(decision).get("deliver_by") if decision else None
        return datetime.fromisoformat(until) if until else None

    async def address(self, tenant: Tenant, borrower: str, key: str) -> bytes | None:
        """One address, sealed."""
        table = schema.address.c
        sealed: bytes | None = await self.conn.scalar(
            select(table.value_enc).where(
                table.tenant == tenant, table.borrower == borrower, table.blind == bytes.fromhex(key)
            )
        )
        return sealed


_FINISH_REMINDER = (
    update(schema.reminder)
    .where(
        _REMINDER.tenant == bindparam("k_tenant"),
        _REMINDER.id == bindparam("k_id"),
        _REMINDER.attempt == bindparam("k_ref"),
    )
    .values(
        state=bindparam("state"),
        reason=bindparam("reason"),
        by=bindparam("by"),
        next_at=case((bindparam("keeps_next"), _REMINDER.next_at), else_=bindparam("next_at")),
        called=bindparam("called"),
        step=_REMINDER.step + bindparam("step"),
        tries=_REMINDER.tries + bindparam("tries"),
        updated_at=bindparam("updated_at"),
    )
)


def _us(instant: datetime | None) -> int | None:
    return None if instant is None else to_us(instant)


def _opt(us: int | None) -> datetime | None:
    return None if us is None else from_us(us)


def _work(row: Row[Any]) -> Work:
    return Work(
        tenant=Tenant(row.tenant),
        id=row.id,
        fence=row.fence,
        tries=row.tries,
        step=row.step,
        person=row.person,
        borrower=row.borrower,
        debt=row.debt,
        due_date=row.due_date,
        channels=tuple(Channel(c) for c in orjson.loads(row.channels)),
        purpose=row.purpose,
        actor_role=row.actor_role,
        actor_id=row.actor_id,
        recipient_role=row.recipient_role,
        template=row.template,
        template_version=row.template_version,
        facts_enc=row.facts_enc,
        priority=row.priority,
        not_before=_opt(row.not_before),
        expires_at=from_us(row.expires_at),
        anchor=orjson.loads(row.anchor) if row.anchor else None,
        repeat=row.repeat,
        escalate=tuple(orjson.loads(row.escalate)),
        accepted_at=from_us(row.accepted_at),
        attempt=row.attempt,
    )


def _debt(row: Row[Any]) -> DebtRow:
    return DebtRow(
        id=row.id,
        creditor=row.creditor,
        due_date=date.fromisoformat(row.due_date),
        balance=Money(amount=Decimal(row.amount), currency=row.currency),
        governing_law=row.governing_law,
        state=DebtState(row.state),
        state_at=from_us(row.state_at),
        until=date.fromisoformat(row.until) if row.until else None,
        policy_facts=orjson.loads(row.policy_facts),
        revision=row.revision,
        portfolio=row.portfolio,
    )


def _past(row: Row[Any]) -> Past:
    return Past(
        at=from_us(row.started_at),
        channel=row.channel,
        state=row.state,
        final_at=_opt(row.final_at),
        debt=row.debt,
        creditor=row.creditor,
        address=row.address,
        recipient_role=row.recipient_role,
        flags=tuple(orjson.loads(row.flags)),
    )


def _reserved(row: Row[Any]) -> Past:
    return Past(
        at=from_us(row.at),
        channel=row.channel,
        state=Outcome.UNKNOWN.value,
        final_at=from_us(row.until),
        debt=row.debt,
        creditor=row.creditor,
        address=row.address,
        recipient_role=row.recipient_role,
    )


def _doubles(work: Work, other: Row[Any]) -> bool:
    """Whether `other` came first and stands for the same contact."""
    gap = work.accepted_at - from_us(other.accepted_at)
    return bool(
        other.id != work.id
        and other.borrower == work.borrower
        and other.due_date == work.due_date
        and timedelta(0) <= gap < DUPLICATE_WITHIN
        and (other.accepted_at, other.id) < (to_us(work.accepted_at), work.id)
    )


def _attempt(row: Row[Any]) -> Attempt:
    return Attempt(
        tenant=Tenant(row.tenant),
        ref=row.ref,
        started_at=from_us(row.started_at),
        reminder=row.reminder,
        borrower=row.borrower,
        person=row.person,
        debt=row.debt,
        channel=Channel(row.channel),
        adapter=row.adapter,
        account=row.account,
        address=row.address,
        state=row.state,
        fence=row.fence,
        called_at=_opt(row.called_at),
        text_enc=row.text_enc,
        provider_id=row.provider_id,
        ending=row.ending,
        final_at=_opt(row.final_at),
        settle_at=_opt(row.settle_at),
        settle_tries=row.settle_tries,
    )


def _ref_row(intent: Intent, now: int) -> dict[str, Any]:
    return {
        "ref": intent.ref,
        "tenant": intent.work.tenant,
        "started_at": now,
        "reminder": intent.work.id,
        "adapter": intent.adapter,
        "account": intent.account,
    }


def _intent_row(intent: Intent, owner: str, now: int) -> dict[str, Any]:
    work = intent.work
    return {
        "tenant": work.tenant,
        "ref": intent.ref,
        "started_at": now,
        "reminder": work.id,
        "origin": "gateway",
        "person": work.person,
        "borrower": work.borrower,
        "debt": work.debt,
        "creditor": intent.creditor,
        "channel": intent.channel.value,
        "adapter": intent.adapter,
        "account": intent.account,
        "address": intent.address,
        "recipient_role": work.recipient_role,
        "actor_role": work.actor_role,
        "flags": "[]",
        "state": "intent",
        "fence": work.fence,
        "owner": owner,
        "deadline": to_us(intent.deadline),
        "segments": intent.segments,
        "price_amount": str(intent.price.amount) if intent.price else None,
        "price_currency": intent.price.currency if intent.price else None,
        "template": work.template,
        "template_version": work.template_version,
        "language": intent.language,
        "text_hash": intent.text_hash,
        "text_enc": intent.text_enc,
        "borrower_revision": intent.borrower_revision,
        "debt_revision": intent.debt_revision,
    }


def _outturn_row(outturn: Outturn) -> dict[str, Any]:
    attempt = outturn.attempt
    return {
        "k_tenant": attempt.tenant,
        "k_ref": attempt.ref,
        "k_started_at": to_us(attempt.started_at),
        "state": outturn.state,
        "ending": outturn.ending,
        "code": outturn.code,
        "provider_id": outturn.provider_id,
        "final_at": _us(outturn.final_at),
        "settle_at": _us(outturn.settle_at),
        "settle_tries": attempt.settle_tries,
        "ended_at": _us(outturn.ended_at),
    }


def _withdrawn(attempt: Attempt, moment: Moment) -> Entry:
    return Entry(
        tenant=attempt.tenant,
        kind="attempt",
        at=moment.policy,
        reminder=attempt.reminder,
        attempt=attempt.ref,
        borrower=attempt.borrower,
        channel=attempt.channel.value,
        state="void",
    )
