"""What deciding needs, read in one statement after the locks were taken.

Each kind of key comes as one JSON array, and what is known of each key goes back beside it: a subquery that names its
key is read through the index of that key, whatever the planner thinks of how many there are; the statement's text, and
with it its plan, does not depend on how many that is.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from operator import itemgetter
from typing import Any

import orjson
from sqlalchemy import Row, Select, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.domain import Approvals, Outcome, Tenant, to_us
from gateway.policy.model import LOOKBACK
from gateway.ports import Moment
from gateway.store import schema
from gateway.store.among import among, keyed
from gateway.store.rows import address_of, assignment_of, borrower_of, debt_of, past_of, reserved_of
from gateway.store.words import Words
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
DUPLICATE_WITHIN = timedelta(hours=24)
SPOKEN = (Outcome.CONVERSATION.value, Outcome.ANSWERED.value)
"""What a cap may bind after (`only_after`), however long ago it was."""
ENDED_UNSENT = ("suppressed", "cancelled", "expired")

_REMINDER, _ATTEMPT = schema.reminder.c, schema.attempt.c
_ESCALATES = select(_REMINDER.attempt, _REMINDER.escalate, _REMINDER.step).where(
    among("keys", _REMINDER.tenant, _REMINDER.id, _REMINDER.attempt)
)
_TO_COME = select(_REMINDER.attempt).where(
    among("keys", _REMINDER.tenant, _REMINDER.id, _REMINDER.attempt), _REMINDER.next_at.is_not(None)
)


async def last_contact(conn: AsyncConnection, tenant: Tenant, reminder: str) -> Row[Any] | None:
    """Ref and state of the latest attempt that was a contact: not withdrawn, not refused, and no mere intent."""
    made: Select[Any] = (
        select(_ATTEMPT.ref, _ATTEMPT.state)
        .where(
            _ATTEMPT.tenant == tenant,
            _ATTEMPT.reminder == reminder,
            _ATTEMPT.state.not_in((*UNSENT, "intent")),
        )
        .order_by(_ATTEMPT.started_at.desc(), _ATTEMPT.ref.desc())
        .limit(1)
    )
    found: Row[Any] | None = (await conn.execute(made)).one_or_none()
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class _Tongue:
    """How a dialect says it."""

    every: str
    """An aggregate: all rows' values as a JSON array, unordered; over none it is null or empty."""
    row: str
    """Values as a JSON array."""
    json: str
    """Text that is JSON, as JSON."""
    keys: str
    """The elements of the bound JSON array, as rows with a column `value`."""
    hex: str
    """Bytes as hex of either case."""
    by_code: str = ""
    """Text compared by its code points."""


_TONGUES = {
    "sqlite": _Tongue(
        every="json_group_array", row="json_array", json="json({})", keys="json_each(:{})", hex="hex({})"
    ),
    "postgresql": _Tongue(
        every="json_agg",
        row="json_build_array",
        json="CAST({} AS json)",
        keys="jsonb_array_elements(CAST(CAST(:{} AS text) AS jsonb))",
        hex="encode({}, 'hex')",
        by_code='COLLATE "C"',
    ),
}

_ALIKE = (
    *("channel", "state", "debt", "creditor", "address", "recipient_role", "actor_id", "technology"),
    *("adapter", "flags"),
)
"""All that rules see of an event, but its time."""


_NOW, _SINCE, _DOUBLED, _MADE = (
    f"(SELECT CAST(:{bound} AS bigint))" for bound in ("now", "since", "doubled", "made")
)
"""Bound instants. As subqueries, since PostgreSQL would else plan anew for every value: longer than it runs."""


def _words(words: Iterable[str]) -> str:
    return ", ".join(f"'{word}'" for word in words)


def _of_keys(say: _Tongue, name: str, parts: Sequence[str], *known: str) -> str:
    """What is `known` of each key bound as `name`, beside the key; `parts` name what a key is made of."""
    key = ", ".join(f"value ->> {place} AS {part}" for place, part in enumerate(parts))
    told = ", ".join((*(f"k.{part}" for part in parts), *known))
    return f"SELECT CAST({say.every}({say.row}({told})) AS text) FROM (SELECT {key} FROM {say.keys.format(name)}) k"  # noqa: S608 (names of ours)


def _all(say: _Tongue, values: Sequence[str], rest: str) -> str:
    return f"(SELECT {say.every}({say.row}({', '.join(values)})) {rest})"


def _persons(say: _Tongue) -> str:
    """By person: its borrowers, its attempts within LOOKBACK, whom was spoken with before, and reservations."""
    alike = ", ".join(_ALIKE)
    borrowers = _all(
        say,
        ("id", say.json.format("profile"), say.hex.format("pii_enc"), "revision"),
        "FROM borrower b WHERE b.tenant = k.tenant AND b.person = k.id",
    )
    recent = _all(
        say,
        ("started_at", "ref", "final_at", *_ALIKE),
        "FROM attempt a WHERE a.tenant = k.tenant AND a.person = k.id"
        f" AND a.started_at > {_SINCE} AND a.state NOT IN ({_words(UNSENT)})",
    )
    spoken = _all(
        say,
        ("first", "''", "first", *_ALIKE),
        f"FROM (SELECT min(a.started_at) AS first, {alike} FROM attempt a WHERE a.tenant = k.tenant"  # noqa: S608 (names of ours)
        f" AND a.person = k.id AND a.started_at <= {_SINCE} AND a.state IN ({_words(SPOKEN)}) GROUP BY {alike}) s",
    )
    reserved = _all(
        say,
        ("at", "until", "channel", "debt", "creditor", "address", "recipient_role", "actor_id"),
        "FROM reservation r WHERE r.tenant = k.tenant AND r.person = k.id"
        f" AND r.until > {_NOW} AND r.used_at IS NULL",
    )
    return _of_keys(say, "persons", ("tenant", "id"), borrowers, recent, spoken, reserved)


def _borrowers(say: _Tongue) -> str:
    """By borrower: the addresses that live."""
    values = (
        *("position", "channel", say.hex.format("blind"), say.hex.format("value_enc")),
        *("kind", "country", "zones"),
    )
    living = "FROM address a WHERE a.tenant = k.tenant AND a.borrower = k.id AND a.dead_at IS NULL"
    return _of_keys(say, "borrowers", ("tenant", "id"), _all(say, values, living))


def _assignment(say: _Tongue, portfolio: str) -> str:
    """The newest of its tenant and portfolio."""
    return (
        f"(SELECT {say.row}(p.portfolio, p.version, {say.json.format('p.licences')}, p.institution,"  # noqa: S608 (names of ours)
        f" {say.json.format('p.packs')}) FROM policy_assignment p WHERE p.tenant = k.tenant"
        f" AND p.portfolio = {portfolio} ORDER BY p.version DESC LIMIT 1)"
    )


def _debts(say: _Tongue) -> str:
    """By debt: its row, and what is assigned to its portfolio."""
    columns = (
        *("creditor", "product", "debtor_kind", "due_date", "amount", "currency", "governing_law", "state"),
        *("state_at", "until", say.json.format("policy_facts"), "revision", "portfolio"),
    )
    values = ", ".join((*columns, _assignment(say, "d.portfolio")))
    row = f"(SELECT {say.row}({values}) FROM debt d WHERE d.tenant = k.tenant AND d.id = k.id)"  # noqa: S608 (names of ours)
    return _of_keys(say, "debts", ("tenant", "id"), row)


def _tenants(say: _Tongue) -> str:
    """By tenant and its name: `stale_after_s`, its own numbers in rules, what is assigned to all of it, approvals."""
    stale_after = "(SELECT stale_after_s FROM tenant t WHERE t.name = k.name)"
    overrides = _all(say, ("rule", "max"), "FROM pack_override o WHERE o.tenant = k.tenant")
    approvals = _all(
        say,
        ("template", "version", "content_hash", "approved"),
        "FROM template_approval a WHERE a.tenant = k.tenant",
    )
    return _of_keys(
        say, "tenants", ("tenant", "name"), stale_after, overrides, _assignment(say, "''"), approvals
    )


def _doubles(say: _Tongue) -> str:
    """Those of the reminders bound as `works` that another stands for which came first, for the same contact.

    That is: within a day, or due as well, or made just now; the same borrower, debt, due date and template.
    """
    return f"""
SELECT CAST({say.every}({say.row}(k.tenant, k.id)) AS text)
FROM (SELECT value ->> 0 AS tenant, value ->> 1 AS id, value ->> 2 AS debt, value ->> 3 AS template,
             value ->> 4 AS borrower, value ->> 5 AS due_date, CAST(value ->> 6 AS bigint) AS accepted_at
      FROM {say.keys.format("works")}) k
WHERE (SELECT 1 FROM reminder o
       WHERE o.tenant = k.tenant AND o.debt = k.debt AND o.template = k.template
         AND o.accepted_at > {_DOUBLED} AND o.accepted_at <= k.accepted_at
         AND (o.accepted_at < k.accepted_at OR o.id < k.id {say.by_code})
         AND o.borrower = k.borrower AND o.due_date = k.due_date AND o.state NOT IN ({_words(ENDED_UNSENT)})
         AND (k.accepted_at - o.accepted_at < {DUPLICATE_WITHIN // timedelta(microseconds=1)}
              OR o.state = 'sending' OR o.next_at <= {_NOW} OR (o.called AND o.updated_at > {_MADE}))
       LIMIT 1) = 1"""  # noqa: S608 (names of ours)


def _contacted(say: _Tongue) -> str:
    """By reminder: the state of its latest attempt."""
    latest = (
        "(SELECT a.state FROM attempt a WHERE a.tenant = k.tenant AND a.reminder = k.id"  # noqa: S608 (names of ours)
        f" AND a.state NOT IN ({_words(UNSENT)}) ORDER BY a.started_at DESC, a.ref {say.by_code} DESC LIMIT 1)"
    )
    return _of_keys(say, "works", ("tenant", "id"), latest)


def _everything(say: _Tongue) -> Words:
    parts = {
        "persons": _persons(say),
        "borrowers": _borrowers(say),
        "debts": _debts(say),
        "tenants": _tenants(say),
        "doubles": _doubles(say),
    }
    return Words("SELECT " + ", ".join(f"({part}) AS {name}" for name, part in parts.items()))


_EVERYTHING = {dialect: _everything(say) for dialect, say in _TONGUES.items()}
_CONTACTED = {dialect: text(_contacted(say)) for dialect, say in _TONGUES.items()}


class FactsTx:
    """The reading part of a transaction; its `moment` was read when it began."""

    def __init__(self, conn: AsyncConnection, moment: Moment) -> None:
        self.conn = conn
        self.moment = moment

    async def facts(self, subjects: Sequence[Work | Subject]) -> Facts:
        """Everything that deciding on these needs, read after the locks."""
        works = [s for s in subjects if isinstance(s, Work)]
        now = self.moment.policy
        (found,) = await _EVERYTHING[self.conn.dialect.name].run(
            self.conn,
            persons=keyed({(s.tenant, s.person) for s in subjects}),
            borrowers=keyed({(s.tenant, s.borrower) for s in subjects}),
            debts=keyed({(s.tenant, s.debt) for s in subjects}),
            tenants=keyed({(s.tenant, s.tenant.split("/")[0]) for s in subjects}),
            works=keyed(_may_double(works)),
            now=to_us(now),
            since=to_us(now - LOOKBACK),
            made=to_us(now - DUPLICATE_WITHIN),
            doubled=to_us(now - DUPLICATE_WITHIN - LOOKBACK),
        )
        siblings, history = _of_persons(_read(found.persons))
        debts, assignments = _of_debts(_read(found.debts))
        tenants = _read(found.tenants)
        return Facts(
            borrowers={(tenant, b.id): b for (tenant, _), rows in siblings.items() for b in rows},
            siblings=siblings,
            addresses=_of_borrowers(_read(found.borrowers)),
            debts=debts,
            history=history,
            stale_after={name: timedelta(seconds=s) for _, name, s, *_ in tenants if s is not None},
            overrides={Tenant(tenant): dict(numbers) for tenant, _, _, numbers, *_ in tenants if numbers},
            approvals={Tenant(tenant): _approvals(said) for tenant, *_, said in tenants if said},
            duplicates=frozenset((Tenant(tenant), id_) for tenant, id_ in _read(found.doubles)),
            contacted=await self._contacted([w for w in works if w.step]),
            assignments=assignments | _of_tenants(tenants),
        )

    async def _contacted(self, works: Sequence[Work]) -> dict[Key, str]:
        """Of few only, and of all months at once: so it is not asked with the rest."""
        if not works:
            return {}
        keys = keyed((w.tenant, w.id) for w in works)
        found = await self.conn.scalar(_CONTACTED[self.conn.dialect.name], {"works": keys})
        return {(Tenant(tenant), id_): state for tenant, id_, state in _read(found) if state is not None}

    async def steps_after(self, attempts: Sequence[Attempt]) -> dict[str, Step]:
        """What follows these calls, by ref, where something follows and their ending is not written yet."""
        if not attempts:
            return {}
        keys = keyed((a.tenant, a.reminder, a.ref) for a in attempts)
        rows = await self.conn.execute(_ESCALATES, {"keys": keys})
        found = {r.attempt: step_after(orjson.loads(r.escalate), r.step) for r in rows}
        return {ref: step for ref, step in found.items() if step is not None}

    async def steps_to_come(self, attempts: Sequence[Attempt]) -> set[str]:
        """Refs of those whose reminder has a time for what follows them: the next step of an escalation."""
        if not attempts:
            return set()
        keys = keyed((a.tenant, a.reminder, a.ref) for a in attempts)
        rows = await self.conn.execute(_TO_COME, {"keys": keys})
        return {r.attempt for r in rows}


def _may_double(works: Iterable[Work]) -> list[tuple[Any, ...]]:
    return [
        (w.tenant, w.id, w.debt, w.template, w.borrower, w.due_date, to_us(w.accepted_at))
        for w in works
        if not w.repeat and w.step == 0
    ]


def _read(found: str | None) -> list[list[Any]]:
    """PostgreSQL says null where SQLite says an empty array."""
    return orjson.loads(found) if found else []


def _of_persons(
    found: Iterable[list[Any]],
) -> tuple[dict[Key, tuple[BorrowerRow, ...]], dict[Key, list[Past]]]:
    siblings: dict[Key, tuple[BorrowerRow, ...]] = {}
    history: dict[Key, list[Past]] = {}
    for tenant, person, borrowers, recent, spoken, reserved in found:
        key = Tenant(tenant), person
        if borrowers:
            siblings[key] = tuple([borrower_of(person, row) for row in borrowers])
        events = sorted(spoken or (), key=itemgetter(0)) + sorted(recent or ())
        history[key] = [past_of(row) for row in events] + [reserved_of(row) for row in reserved or ()]
    return siblings, history


def _of_borrowers(found: Iterable[list[Any]]) -> dict[Key, tuple[AddressRow, ...]]:
    return {
        (Tenant(tenant), id_): tuple([address_of(row) for row in sorted(rows, key=itemgetter(0))])
        for tenant, id_, rows in found
        if rows
    }


def _of_debts(found: Iterable[list[Any]]) -> tuple[dict[Key, DebtRow], dict[Key, Assignment]]:
    debts: dict[Key, DebtRow] = {}
    assigned: dict[Key, Assignment] = {}
    for tenant, id_, row in found:
        if row is None:
            continue
        *columns, assignment = row
        debts[Tenant(tenant), id_] = debt_of(id_, columns)
        if assignment is not None and (Tenant(tenant), assignment[0]) not in assigned:
            assigned[Tenant(tenant), assignment[0]] = assignment_of(assignment)
    return debts, assigned


def _of_tenants(found: Iterable[list[Any]]) -> dict[Key, Assignment]:
    return {(Tenant(tenant), ""): assignment_of(row) for tenant, _, _, _, row, _ in found if row is not None}


def _approvals(said: Iterable[Sequence[Any]]) -> Approvals:
    return {(template, version, digest): bool(approved) for template, version, digest, approved in said}
