"""What deciding needs, read in batches after the locks were taken."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import orjson
from sqlalchemy import Table, Text, and_, column, func, select, tuple_, values
from sqlalchemy.engine import Row
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.domain import Channel, Outcome, Tenant, to_us
from gateway.policy.numbers import kept_clue
from gateway.ports import Moment
from gateway.store import schema
from gateway.store.among import among, keyed
from gateway.store.database import chunks
from gateway.store.rows import (
    DUPLICATE_WITHIN,
    assignment_of,
    debt_of,
    doubles,
    newest_assignment,
    past_of,
    reserved_of,
)
from gateway.work import (
    AddressRow,
    Assignment,
    Attempt,
    BorrowerRow,
    DebtRow,
    Facts,
    Key,
    Past,
    Step,
    Subject,
    Work,
    step_after,
)

UNSENT = ("void", Outcome.REJECTED.value)
"""Attempts that were no contact: they count nowhere."""
LOOKBACK = timedelta(days=75)
"""How far back caps count at most; no shipped rule counts further than 31 days."""
SPOKEN = (Outcome.CONVERSATION.value, Outcome.ANSWERED.value)
"""What a cap may bind after (`only_after`), however long ago it was."""
ENDED_UNSENT = ("suppressed", "cancelled", "expired")

_REMINDER, _ATTEMPT = schema.reminder.c, schema.attempt.c
_ALIKE = (
    *(_ATTEMPT.tenant, _ATTEMPT.person, _ATTEMPT.channel, _ATTEMPT.state, _ATTEMPT.debt, _ATTEMPT.creditor),
    *(_ATTEMPT.address, _ATTEMPT.recipient_role, _ATTEMPT.actor_id, _ATTEMPT.technology, _ATTEMPT.adapter),
    _ATTEMPT.flags,
)
"""All that rules see of an event, but its time."""
_ESCALATES = select(_REMINDER.attempt, _REMINDER.escalate, _REMINDER.step).where(
    among("keys", _REMINDER.tenant, _REMINDER.id, _REMINDER.attempt)
)


class FactsTx:
    """The reading part of a transaction; its `moment` was read when it began."""

    def __init__(self, conn: AsyncConnection, moment: Moment) -> None:
        self.conn = conn
        self.moment = moment

    async def facts(self, subjects: Sequence[Work | Subject]) -> Facts:
        """Everything that deciding on these needs, read after the locks."""
        persons = sorted({(s.tenant, s.person) for s in subjects})
        debts = sorted({(s.tenant, s.debt) for s in subjects})
        siblings = await self._borrowers(persons)
        borrowers = {(t, b.id): b for (t, _), rows in siblings.items() for b in rows}
        owed = await self._debts(debts)
        return Facts(
            borrowers=borrowers,
            siblings=siblings,
            addresses=await self._addresses(sorted({(s.tenant, s.borrower) for s in subjects})),
            debts=owed,
            history=await self._history(persons),
            stale_after=await self._stale_after({s.tenant.split("/")[0] for s in subjects}),
            overrides=await self._overrides({s.tenant for s in subjects}),
            duplicates=await self._duplicates([s for s in subjects if isinstance(s, Work)]),
            contacted=await self._contacted([s for s in subjects if isinstance(s, Work) and s.step]),
            assignments=await self._assignments(owed),
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
                        clue=kept_clue(orjson.loads(row.zones)),
                    )
                )
        return {key: tuple(rows) for key, rows in found.items()}

    async def _debts(self, keys: Sequence[Key]) -> dict[Key, DebtRow]:
        table = schema.debt.c
        rows = await self._by_keys(schema.debt, (table.tenant, table.id), keys)
        return {(Tenant(r.tenant), r.id): debt_of(r) for r in rows}

    async def _history(self, persons: Sequence[Key]) -> dict[Key, list[Past]]:
        since = to_us(self.moment.policy - LOOKBACK)
        found: dict[Key, list[Past]] = {key: [] for key in persons}
        for row in await self._spoken(persons, since):
            found[Tenant(row.tenant), row.person].append(past_of(row))
        rows = await self._by_keys(
            schema.attempt,
            (_ATTEMPT.tenant, _ATTEMPT.person),
            persons,
            and_(_ATTEMPT.started_at > since, _ATTEMPT.state.notin_(UNSENT)),
        )
        for row in sorted(rows, key=lambda r: (r.started_at, r.ref)):
            found[Tenant(row.tenant), row.person].append(past_of(row))
        table = schema.reservation.c
        held = await self._by_keys(
            schema.reservation,
            (table.tenant, table.person),
            persons,
            and_(table.until > to_us(self.moment.policy), table.used_at.is_(None)),
        )
        for row in held:
            found[Tenant(row.tenant), row.person].append(reserved_of(row))
        return found

    async def _spoken(self, persons: Sequence[Key], since: int) -> list[Row[Any]]:
        """Who was spoken with before `since`: of events that no rule tells apart, the first."""
        first = func.min(_ATTEMPT.started_at)
        rows: list[Row[Any]] = []
        for part in chunks(persons):
            # As a join: over many months PostgreSQL plans a long IN list far longer than it runs it.
            asked = values(column("tenant", Text), column("person", Text)).data(list(part)).cte("asked")
            rows.extend(
                await self.conn.execute(
                    select(*_ALIKE, first.label("started_at"), first.label("final_at"))
                    .join(asked, and_(asked.c.tenant == _ATTEMPT.tenant, asked.c.person == _ATTEMPT.person))
                    .where(_ATTEMPT.started_at <= since, _ATTEMPT.state.in_(SPOKEN))
                    .group_by(*_ALIKE)
                )
            )
        return sorted(rows, key=lambda r: r.started_at)

    async def _assignments(self, debts: Mapping[Key, DebtRow]) -> dict[Key, Assignment]:
        table = schema.policy_assignment.c
        keys = {(tenant, name) for (tenant, _), debt in debts.items() for name in ("", debt.portfolio or "")}
        rows = await self._by_keys(
            schema.policy_assignment,
            (table.tenant, table.portfolio),
            sorted(keys),
            newest_assignment(),
        )
        return {(Tenant(r.tenant), r.portfolio): assignment_of(r) for r in rows}

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
            if any(doubles(w, other, self.moment.policy) for other in others[w.tenant, w.debt, w.template])
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

    async def steps_after(self, attempts: Sequence[Attempt]) -> dict[str, Step]:
        """What follows these calls, by ref, where something follows and their ending is not written yet."""
        if not attempts:
            return {}
        keys = keyed((a.tenant, a.reminder, a.ref) for a in attempts)
        rows = await self.conn.execute(_ESCALATES, {"keys": keys})
        found = {r.attempt: step_after(orjson.loads(r.escalate), r.step) for r in rows}
        return {ref: step for ref, step in found.items() if step is not None}

    async def has_step_to_come(self, attempt: Attempt) -> bool:
        """Whether its reminder has a time for what follows this attempt: the next step of an escalation."""
        found = await self.conn.scalar(
            select(_REMINDER.next_at).where(
                _REMINDER.tenant == attempt.tenant,
                _REMINDER.id == attempt.reminder,
                _REMINDER.attempt == attempt.ref,
            )
        )
        return found is not None

    async def _by_keys(
        self, table: Table, columns: tuple[Any, ...], keys: Sequence[tuple[str, ...]], *more: Any
    ) -> list[Row[Any]]:
        rows: list[Row[Any]] = []
        for part in chunks(keys):
            rows.extend(await self.conn.execute(select(table).where(tuple_(*columns).in_(part), *more)))
        return rows
