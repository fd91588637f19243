"""New reminders: what has to fit together, and the row that is accepted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import orjson

from gateway.bodies import BorrowerIn, DebtIn, ReminderIn, write_instant
from gateway.domain import Approvals, Channel, Tenant, queue_of, to_us
from gateway.errors import BadInput, Fault
from gateway.intake import people
from gateway.intake.asks import Bindings, Blind, SubjectKey
from gateway.intake.debts import DebtPut
from gateway.intake.debts import put as put_debt
from gateway.intake.results import Item, refused
from gateway.intake.rows import Borrower, Debt
from gateway.intake.times import Schedule, schedule, zones_of
from gateway.ports import Entry
from gateway.templating import Catalog, Template, check_facts

NOT_FOUND = "there is none of that id in this tenant: put it first, or give it inline"


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """What checking a reminder takes beside the rows."""

    tenant: Tenant
    now: datetime
    catalog: Catalog
    approvals: Approvals
    bindings: Bindings
    blind: Blind
    keys: Mapping[str, SubjectKey]
    _carried: dict[tuple[str, Channel], bool] = field(default_factory=dict)

    def carries(self, template: Template, channel: Channel) -> bool:
        """Whether a template has a text for a channel and an account of it can carry that; asked once of each."""
        key = template.name, channel
        if key not in self._carried:
            has_text = any(on is channel for on, _ in template.texts)
            self._carried[key] = has_text and self.bindings.bound(self.tenant, template, channel)
        return self._carried[key]


@dataclass(slots=True, kw_only=True)
class Book:
    """Borrowers and debts as they stand, and as the items before this one left them."""

    borrowers: dict[str, Borrower]
    debts: dict[str, Debt]
    puts: dict[str, people.Put] = field(default_factory=dict)
    debt_puts: dict[str, DebtPut] = field(default_factory=dict)
    shown: dict[str, list[bytes]] = field(default_factory=dict)

    def borrower(self, name: str) -> Borrower | None:
        """A borrower as it will be."""
        return self.puts[name].after if name in self.puts else self.borrowers.get(name)

    def debt(self, name: str) -> Debt | None:
        """A debt as it will be."""
        return self.debt_puts[name].after if name in self.debt_puts else self.debts.get(name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """A reminder that fits: all that its row is made of."""

    item: Item[ReminderIn]
    borrower: Borrower
    debt: Debt
    template: Template
    schedule: Schedule


def fit(item: Item[ReminderIn], book: Book, desk: Desk) -> Fit | BadInput:
    """Check one reminder; its inline borrower and debt go into the book only when all of it fits."""
    body = item.body
    faults: list[Fault] = []
    borrower_put = _put_borrower(body, book, desk, faults)
    borrower = borrower_put.after if borrower_put else book.borrower(body.borrower_id)
    debt_put = _put_debt(body, book, desk, faults)
    debt = debt_put.after if debt_put else book.debt(body.debt_id)
    faults += _missing(body, borrower, debt, desk.keys)
    template = desk.catalog.get(body.template)
    faults += _template_faults(body, template, desk)
    if borrower is None or debt is None or template is None or faults:
        return refused(*faults)
    planned = schedule(body, template, debt.due_date, zones_of(borrower), desk.now)
    if not isinstance(planned, Schedule):
        return refused(*planned)
    if borrower_put is not None and isinstance(body.borrower, BorrowerIn):
        book.puts[borrower.id] = borrower_put
        book.shown.setdefault(borrower.id, []).extend(people.identities(desk.blind, body.borrower))
    if debt_put is not None:
        book.debt_puts[debt.id] = debt_put
    return Fit(item=item, borrower=borrower, debt=debt, template=template, schedule=planned)


def _put_borrower(body: ReminderIn, book: Book, desk: Desk, faults: list[Fault]) -> people.Put | None:
    if not isinstance(body.borrower, BorrowerIn):
        return None
    name = body.borrower.id
    current = book.puts.get(name) or book.borrowers.get(name)
    put = people.put(current, body.borrower, name=name, key=desk.keys[name], blind=desk.blind)
    if isinstance(put, list):
        faults += _under("/borrower", put)
        return None
    return put


def _put_debt(body: ReminderIn, book: Book, desk: Desk, faults: list[Fault]) -> DebtPut | None:
    if not isinstance(body.debt, DebtIn):
        return None
    inline = body.debt
    if "borrower" not in inline.model_fields_set:
        inline = inline.model_copy(update={"borrower": body.borrower_id})
    current = book.debt_puts.get(inline.id) or book.debts.get(inline.id)
    put = put_debt(current, inline, name=inline.id, now=desk.now)
    if isinstance(put, list):
        faults += _under("/debt", put)
        return None
    return put


def _under(at: str, faults: Iterable[Fault]) -> list[Fault]:
    return [Fault(at=at + fault.at, code=fault.code, message=fault.message) for fault in faults]


def _missing(
    body: ReminderIn, borrower: Borrower | None, debt: Debt | None, keys: Mapping[str, SubjectKey]
) -> list[Fault]:
    found = []
    erased = borrower is not None and borrower.id not in keys
    if (borrower is None and isinstance(body.borrower, str)) or erased:
        found.append(Fault(at="/borrower", code="not_found", message=NOT_FOUND))
    if debt is None and isinstance(body.debt, str):
        found.append(Fault(at="/debt", code="not_found", message=NOT_FOUND))
    if borrower is not None and debt is not None and debt.borrower != body.borrower_id:
        at = "/debt" if isinstance(body.debt, str) else "/debt/borrower"
        found.append(Fault(at=at, code="debt_of_another", message="this debt is another borrower's"))
    return found


def _template_faults(body: ReminderIn, template: Template | None, desk: Desk) -> list[Fault]:
    if template is None:
        names = ", ".join(sorted(desk.catalog.templates))
        return [Fault(at="/template", code="template_unknown", message=f"there are: {names}")]
    faults = []
    if not template.may_be_said(desk.approvals):
        message = "this version of the template is not approved: have it approved, or use another"
        faults.append(Fault(at="/template", code="template_unapproved", message=message))
    faults += [
        Fault(at=f"/channels/{place}", code="template_unbound", message=UNBOUND)
        for place, channel in enumerate(body.channels)
        if not desk.carries(template, channel)
    ]
    return faults + check_facts(template, body.facts)


UNBOUND = (
    "no account of this channel can carry the template: bind it in the catalog, or leave the channel out"
)


def waits_under(body: ReminderIn, borrower: Borrower) -> Channel:
    """The first of its channels that the borrower has a living address for; else the first."""
    living = {address.channel for address in borrower.addresses if address.dead_at is None}
    return next((channel for channel in body.channels if channel in living), body.channels[0])


def row(
    fitted: Fit, *, tenant: Tenant, name: str, person: str, key: SubjectKey, now: datetime
) -> dict[str, Any]:
    """A reminder's row."""
    body, plan = fitted.item.body, fitted.schedule
    channel = waits_under(body, fitted.borrower)
    return {
        "id": name,
        "key": fitted.item.key,
        "state": "waiting",
        "person": person,
        "borrower": fitted.borrower.id,
        "debt": fitted.debt.id,
        "due_date": fitted.debt.due_date.isoformat(),
        "queue": queue_of(channel, tenant, body.template, body.priority.rank),
        "channel": channel.value,
        "channels": _json(body.channels),
        "purpose": body.purpose.value,
        "actor_role": body.actor.role.value if body.actor else "creditor",
        "actor_id": body.actor.id if body.actor else fitted.debt.creditor,
        "recipient_role": body.recipient_role,
        "template": body.template,
        "template_version": fitted.template.version,
        "facts_enc": key.seal(orjson.dumps(body.facts), table="reminder", column="facts_enc", row=name),
        "priority": body.priority.rank,
        "segment": body.segment,
        "value": body.value,
        "not_before": to_us(plan.not_before) if plan.not_before else None,
        "expires_at": to_us(plan.expires_at),
        "anchor": _json(plan.anchor) if plan.anchor else None,
        "repeat": body.repeat,
        "escalate": _json([step.model_dump(mode="json") for step in body.escalate]),
        "next_at": to_us(plan.next_at),
        "portfolio": fitted.debt.portfolio,
        "places": _json(_places(fitted)),
        "accepted_at": to_us(_accepted(fitted, now)),
        "updated_at": to_us(now),
    }


def _places(fitted: Fit) -> list[str]:
    """Whose law is asked: where the borrower lives and what governs the debt."""
    named = (fitted.borrower.profile.get("residence"), fitted.debt.governing_law)
    return sorted({place for place in named if place})


def _json(value: object) -> str:
    return orjson.dumps(value).decode()


def entry(desk: Desk, fitted: Fit, made: Mapping[str, Any]) -> Entry:
    """The record that a reminder was accepted."""
    body, plan = fitted.item.body, fitted.schedule
    return Entry(
        tenant=desk.tenant,
        kind="accepted",
        at=desk.now,
        reminder=made["id"],
        borrower=fitted.borrower.id,
        channel=made["channel"],
        state="waiting",
        ids={"debt": fitted.debt.id, "key": fitted.item.key, "actor": made["actor_id"]},
        body={
            "purpose": body.purpose.value,
            "actor_role": made["actor_role"],
            "recipient_role": body.recipient_role,
            "channels": [channel.value for channel in body.channels],
            "template": body.template,
            "template_version": fitted.template.version,
            "priority": body.priority.value,
            "not_before": write_instant(plan.not_before) if plan.not_before else None,
            "expires_at": write_instant(plan.expires_at),
            "repeat": body.repeat,
        },
    )


def _accepted(fitted: Fit, now: datetime) -> datetime:
    """Within a batch the items stand in their order, a microsecond apart: of two duplicates the first goes."""
    return now + timedelta(microseconds=fitted.item.index)


def answer(fitted: Fit, name: str, now: datetime) -> dict[str, Any]:
    """What the service is told."""
    return {
        "id": name,
        "idempotency_key": fitted.item.key,
        "state": "waiting",
        "accepted_at": write_instant(_accepted(fitted, now)),
    }
