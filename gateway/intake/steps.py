"""What each kind of batch does within its transaction: lock, read, check every item, then write what fits."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from gateway.bodies import (
    BorrowerIn,
    BorrowerItem,
    ContactIn,
    DebtIn,
    DebtItem,
    EventItem,
    ReminderIn,
    write_instant,
)
from gateway.domain import Tenant, to_us, ulid
from gateway.errors import BadInput, Fault
from gateway.intake import debts, people, reminders
from gateway.intake.asks import Bindings, Blind, IntakeTx, SubjectKey
from gateway.intake.contacts import Known as KnownContacts
from gateway.intake.contacts import contact_entry, contact_faults, contact_row
from gateway.intake.persons import join
from gateway.intake.results import Done, Item, Result, done, paced, refused
from gateway.intake.rows import Debt, Joined, Known, Waiting
from gateway.masking import Pii
from gateway.templating import Catalog


@dataclass(slots=True, kw_only=True)
class Work:
    """What one transaction did: results by item, channels with something due, what reminders may follow.

    `changed`: those of `borrowers` that are not as they were.
    """

    results: dict[int, Result] = field(default_factory=dict)
    channels: set[str] = field(default_factory=set)
    borrowers: set[str] = field(default_factory=set)
    changed: set[str] = field(default_factory=set)
    debts: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """What one tenant's items are checked with, beside the rows."""

    tenant: Tenant
    catalog: Catalog
    bindings: Bindings
    blind: Blind
    entropy: Callable[[int], bytes]

    def new_id(self, prefix: str, at: datetime) -> str:
        """A fresh id."""
        return ulid(prefix, to_us(at), self.entropy(10))


Keys = Mapping[str, SubjectKey]


async def accept(tx: IntakeTx, tools: Tools, items: list[Item[ReminderIn]], keys: Keys, work: Work) -> None:
    """Accept reminders, with the borrowers and debts that they carry inline."""
    known, book = await _open_book(tx, tools, items)
    now = tx.moment.policy
    desk = reminders.Desk(
        tenant=tools.tenant,
        now=now,
        catalog=tools.catalog,
        approvals=await tx.approvals(sorted({item.body.template for item in items})),
        bindings=tools.bindings,
        blind=tools.blind,
        keys=keys,
    )
    fits: list[reminders.Fit] = []
    async for item in paced(items):
        fitted = reminders.fit(item, book, desk)
        if isinstance(fitted, BadInput):
            work.results[item.index] = fitted
        else:
            fits.append(fitted)
    joined = join(book.shown, known, lambda: tools.new_id("pn_", now))
    await people.write(tx, tools.tenant, book.puts, joined)
    await _write_debts(tx, tools.tenant, book.debt_puts)
    await _write_reminders(tx, tools, desk, fits, _persons(known, joined), work)
    work.borrowers |= book.puts.keys() & book.borrowers.keys()
    work.changed |= {name for name, put in book.puts.items() if put.changed}
    work.debts |= book.debt_puts.keys() & book.debts.keys()


async def _open_book(
    tx: IntakeTx, tools: Tools, items: Iterable[Item[ReminderIn]]
) -> tuple[Known, reminders.Book]:
    """Lock and read whom and what the reminders are about; anchors are reckoned from the debts."""
    shown: dict[str, list[bytes]] = {}
    for item in items:
        if isinstance(item.body.borrower, BorrowerIn):
            shown.setdefault(item.body.borrower.id, []).extend(
                people.identities(tools.blind, item.body.borrower)
            )
    names = {item.body.borrower_id for item in items}
    inline = {item.body.debt_id for item in items if isinstance(item.body.debt, DebtIn)}
    debts_named = {item.body.debt_id for item in items}
    known = await tx.lock_persons(sorted(names), _blinds(shown), share=not shown)
    book = reminders.Book(
        borrowers={
            **await tx.borrowers(sorted(shown), lock=True),
            **await tx.borrowers(sorted(names - shown.keys()), lock=False),
        },
        debts={
            **await tx.debts(sorted(inline), lock="write"),
            **await tx.debts(sorted(debts_named - inline), lock="share"),
        },
    )
    return known, book


def _blinds(shown: Mapping[str, Iterable[bytes]]) -> list[bytes]:
    return sorted({blind for blinds in shown.values() for blind in blinds})


def _persons(known: Known, joined: Joined) -> dict[str, str]:
    """Every borrower's person, after persons were joined."""
    stand = {**known.persons, **joined.persons}
    return {borrower: joined.merged.get(person, person) for borrower, person in stand.items()}


async def _write_reminders(
    tx: IntakeTx,
    tools: Tools,
    desk: reminders.Desk,
    fits: Iterable[reminders.Fit],
    persons: Mapping[str, str],
    work: Work,
) -> None:
    rows, entries, now = [], [], desk.now
    async for fitted in paced(fits):
        name, borrower = tools.new_id("rm_", now), fitted.borrower.id
        row = reminders.row(
            fitted, tenant=desk.tenant, name=name, person=persons[borrower], key=desk.keys[borrower], now=now
        )
        rows.append(row)
        entries.append(reminders.entry(desk, fitted, row))
        work.results[fitted.item.index] = done(202, reminders.answer(fitted, name, now))
        if row["next_at"] <= to_us(now):
            work.channels.add(row["channel"])
    await tx.add_reminders(rows)
    await tx.append(entries)


async def put_borrowers(
    tx: IntakeTx, tools: Tools, items: list[Item[BorrowerItem]], keys: Keys, work: Work
) -> None:
    """Put borrowers."""
    now = tx.moment.policy
    shown: dict[str, list[bytes]] = {}
    for item in items:
        shown.setdefault(item.body.id, []).extend(people.identities(tools.blind, item.body))
    known = await tx.lock_persons(sorted(shown), _blinds(shown), share=False)
    stored = await tx.borrowers(sorted(shown), lock=True)
    puts: dict[str, people.Put] = {}
    async for item in paced(items):
        name = item.body.id
        current = puts.get(name) or stored.get(name)
        put = people.put(current, item.body, name=name, key=keys[name], blind=tools.blind)
        if isinstance(put, list):
            work.results[item.index] = refused(*put)
        else:
            puts[name] = put
            work.results[item.index] = _updated(name, now)
    joined = join({name: shown[name] for name in puts}, known, lambda: tools.new_id("pn_", now))
    await people.write(tx, tools.tenant, puts, joined)
    work.borrowers |= puts.keys() & stored.keys()
    work.changed |= {name for name, put in puts.items() if put.changed}


async def put_debts(tx: IntakeTx, tools: Tools, items: list[Item[DebtItem]], work: Work) -> None:
    """Put debts of borrowers that are there."""
    now = tx.moment.policy
    owners = await tx.borrowers(sorted({i.body.borrower for i in items if i.body.borrower}), lock=False)
    stored = await tx.debts(sorted({item.body.id for item in items}), lock="write")
    puts: dict[str, debts.DebtPut] = {}
    async for item in paced(items):
        name, owner = item.body.id, item.body.borrower
        put = debts.put(puts.get(name) or stored.get(name), item.body, name=name, now=now)
        faults = list(put) if isinstance(put, list) else []
        if owner is not None and owner not in owners:
            faults.append(Fault(at="/borrower", code="not_found", message=reminders.NOT_FOUND))
        if isinstance(put, list) or faults:
            work.results[item.index] = refused(*faults)
        else:
            puts[name] = put
            work.results[item.index] = _updated(name, now)
    await _write_debts(tx, tools.tenant, puts)
    work.debts |= puts.keys() & stored.keys()


async def _write_debts(tx: IntakeTx, tenant: Tenant, puts: Mapping[str, debts.DebtPut]) -> None:
    changed = [put for put in puts.values() if put.changed]
    await tx.put_debts([p.after for p in changed], new={p.after.id for p in changed if p.before is None})
    await tx.append([debts.entry(tenant, tx.moment.policy, put.after) for put in changed])


def _updated(name: str, now: datetime) -> Done:
    return done(200, {"id": name, "updated_at": write_instant(now)})


async def happen(tx: IntakeTx, tools: Tools, items: list[Item[EventItem]], work: Work) -> None:
    """Take in events of debts.

    The debts' rows are locked before reminders are looked at, and a call's go locks the debt as well: so each
    reminder that was called already stands in `too_late`, and none that does not gets a go any more.
    """
    now = tx.moment.policy
    stored = await tx.debts(sorted({item.body.debt for item in items}), lock="write")
    waiting = await tx.waiting(debts=sorted(stored))
    current = dict(stored)
    rows, entries = [], []
    async for item in paced(items):
        event, debt = item.body, current.get(item.body.debt)
        faults = debts.event_faults(event, debt, now) if debt else [_NO_DEBT]
        if debt is None or faults:
            work.results[item.index] = refused(*faults)
            continue
        name, at = tools.new_id("ev_", now), event.at or now
        after = current[debt.id] = debts.happen(debt, event, at)
        rows.append(_event_row(name, event, at, now))
        reason = {"reason": Pii(event.reason)} if event.reason else {}
        entries.append(debts.entry(tools.tenant, now, after, reason, event=name, type=event.type))
        answer = {"id": name, "state": after.state.value, **_stopped(after, waiting)}
        work.results[item.index] = done(200, answer)
    await tx.put_debts([debt for debt in current.values() if debt is not stored[debt.id]], new=set())
    await tx.add_debt_events(rows)
    await tx.append(entries)


_NO_DEBT = Fault(
    at="/debt", code="not_found", message="there is no debt of that id in this tenant: put it first"
)


def _event_row(name: str, event: EventItem, at: datetime, now: datetime) -> dict[str, Any]:
    return {
        "id": name,
        "debt": event.debt,
        "type": event.type,
        "at": to_us(at),
        "amount": str(event.amount.amount) if event.amount else None,
        "currency": event.amount.currency if event.amount else None,
        "until": event.until.isoformat() if event.until else None,
        "reason": event.reason,
        "recorded_at": to_us(now),
    }


def _stopped(debt: Debt, waiting: Iterable[Waiting]) -> dict[str, list[str]]:
    """What a debt's state stops, and what it comes too late for."""
    if debt.state not in debts.STOPPING:
        return {"stopped": [], "too_late": []}
    mine = [reminder for reminder in waiting if reminder.debt == debt.id]
    return {
        "stopped": [reminder.id for reminder in mine if not reminder.called],
        "too_late": [reminder.id for reminder in mine if reminder.calling],
    }


async def contact(tx: IntakeTx, tools: Tools, items: list[Item[ContactIn]], work: Work) -> None:
    """Take in contacts. Persons are locked, so that caps count each as a reservation or as a contact."""
    now = tx.moment.policy
    locked = await tx.lock_persons(sorted({item.body.borrower for item in items}), [], share=True)
    known = KnownContacts(
        persons=locked.persons,
        debts=await tx.debts(sorted({item.body.debt for item in items}), lock="none"),
        reservations=await tx.reservations([i.body.reservation for i in items if i.body.reservation]),
    )
    used: set[str] = set()
    rows, entries = [], []
    async for item in paced(items):
        body = item.body
        faults = contact_faults(body, known, used, now)
        if faults:
            work.results[item.index] = refused(*faults)
            continue
        if body.reservation is not None:
            used.add(body.reservation)
        row = contact_row(body, known, tools.blind, name=tools.new_id("ct_", now))
        rows.append(row)
        entries.append(contact_entry(tools.tenant, now, body, row))
        work.results[item.index] = done(201, {"id": row["ref"]})
    await tx.add_contacts(rows, sorted(used))
    await tx.append(entries)
