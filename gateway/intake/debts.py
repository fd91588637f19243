"""What a PUT and an event make of a debt, and what the debt then makes of reminders that wait. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from typing import Any, assert_never

from gateway.bodies import DebtIn, EventIn, write_instant
from gateway.domain import DebtState, Money, Tenant
from gateway.errors import Fault
from gateway.intake.rows import Debt, Move, Waiting
from gateway.intake.times import anchored, in_future
from gateway.masking import Pii
from gateway.ports import Entry

STOPPING = frozenset({DebtState.PAID, DebtState.DISPUTED})
"""States in which no reminder of the debt goes any more."""
HELD_BY_DEBT = frozenset({"debt_promised", "debt_hardship", "debt_disputed", "debt_paid", "debt_stale"})
"""Reasons to defer that a change of the debt may have ended."""

_NEEDED = ("borrower", "creditor", "due_date", "balance")


@dataclass(frozen=True, slots=True, kw_only=True)
class DebtPut:
    """One debt to write, after one or several bodies."""

    before: Debt | None
    after: Debt

    @property
    def changed(self) -> bool:
        """Whether anything is other than it was, be it only when its state was last confirmed."""
        return self.after != self.before


def put(current: DebtPut | Debt | None, body: DebtIn, *, name: str, now: datetime) -> DebtPut | list[Fault]:
    """A debt after a PUT of this body, or what is wrong with it."""
    before = current.before if isinstance(current, DebtPut) else current
    old = current.after if isinstance(current, DebtPut) else current
    faults = [
        Fault(at=f"/{key}", code="missing", message="a new debt needs this key")
        for key in _NEEDED
        if old is None and getattr(body, key) is None
    ]
    if body.state_at is not None and in_future(body.state_at, now):
        faults.append(
            Fault(at="/state_at", code="in_future", message="a state is known from now on at the latest")
        )
    if faults:
        return faults
    fields = _fields(body)
    if old is None:
        fresh = {**_BLANK, **fields, **_state(None, body, now)}
        return DebtPut(before=None, after=Debt(id=name, revision=1, **fresh))
    after = replace(old, **fields, **_state(old, body, now))
    if replace(after, state_at=old.state_at) != old:
        after = replace(after, revision=old.revision + 1)
    return DebtPut(before=before, after=after)


_BLANK: Mapping[str, Any] = {
    "product": "loan",
    "portfolio": None,
    "debtor_kind": "person",
    "governing_law": None,
    "until": None,
    "policy_facts": {},
}


def _fields(body: DebtIn) -> dict[str, Any]:
    fields = {name: getattr(body, name) for name in body.model_fields_set & _COPIED}
    if body.balance is not None:
        fields["balance"] = Money(amount=body.balance.amount, currency=body.balance.currency)
    if "policy_facts" in body.model_fields_set:
        fields["policy_facts"] = body.policy_facts or {}
    return fields


_COPIED = frozenset(
    {"borrower", "creditor", "product", "portfolio", "debtor_kind", "due_date", "governing_law"}
)


def _state(old: Debt | None, body: DebtIn, now: datetime) -> dict[str, Any]:
    """The state that a PUT tells, unless it is an older one than is known."""
    at = body.state_at or now
    if old is None:
        return {"state": body.state or DebtState.OPEN, "state_at": at}
    if (body.state is None and body.state_at is None) or at < old.state_at:
        return {}
    state = body.state or old.state
    return {"state": state, "state_at": at, "until": old.until if state is old.state else None}


def happen(debt: Debt, event: EventIn, at: datetime) -> Debt:
    """A debt after an event. What protects the borrower counts always, an old `reopened` undoes nothing."""
    moved = replace(debt, state_at=max(at, debt.state_at), revision=debt.revision + 1)
    match event.type:
        case "paid":
            left = max(debt.balance.amount - _paid(debt, event), Decimal(0))
            balance = replace(debt.balance, amount=left)
            return replace(moved, balance=balance) if left else _in(moved, DebtState.PAID, balance=balance)
        case "disputed":
            return _in(moved, DebtState.DISPUTED)
        case "promised":
            return _in(moved, DebtState.PROMISED, until=event.until)
        case "hardship":
            return _in(moved, DebtState.HARDSHIP)
        case "reopened":
            return debt if at < debt.state_at else _in(moved, DebtState.OPEN)
        case _:
            assert_never(event.type)


def _paid(debt: Debt, event: EventIn) -> Decimal:
    return debt.balance.amount if event.amount is None else event.amount.amount


def _in(debt: Debt, state: DebtState, **more: Any) -> Debt:
    return replace(debt, **{"until": None, **more}, state=state)


def event_faults(event: EventIn, debt: Debt, now: datetime) -> list[Fault]:
    """What of an event does not fit the debt or the clock."""
    faults = []
    if event.amount is not None and event.amount.currency != debt.balance.currency:
        message = "pay in the currency of the debt's balance"
        faults.append(Fault(at="/amount/currency", code="currency_differs", message=message))
    if event.at is not None and in_future(event.at, now):
        faults.append(Fault(at="/at", code="in_future", message="an event has happened by now"))
    return faults


def moves(
    reminders: Iterable[Waiting],
    debts: Mapping[str, Debt],
    zones: Mapping[str, Sequence[str]],
    now: datetime,
) -> list[Move]:
    """Where reminders that were not called go, now that their debts are as they are."""
    found = []
    for reminder in reminders:
        debt = debts.get(reminder.debt)
        if debt is not None and not reminder.called:
            found.append(_move(reminder, debt, zones.get(reminder.borrower, ()), now))
    return [move for move in found if move is not None]


def _move(reminder: Waiting, debt: Debt, zones: Sequence[str], now: datetime) -> Move | None:
    """A stopped debt's are decided now, anchored ones follow the due date, held ones are looked at again."""
    not_before, expires_at = reminder.not_before, reminder.expires_at
    if reminder.anchor is not None and reminder.due_date != debt.due_date:
        not_before, expires_at = anchored(reminder, debt.due_date, zones)
        next_at = max(now, not_before)
    elif debt.state in STOPPING:
        next_at = now
    elif debt.state is not DebtState.OPEN or reminder.reason in HELD_BY_DEBT:
        next_at = max(now, not_before or now)
    else:
        return None
    return Move(
        id=reminder.id,
        next_at=now if debt.state in STOPPING else min(next_at, max(now, expires_at)),
        due_date=debt.due_date if reminder.anchor is not None else reminder.due_date,
        not_before=not_before,
        expires_at=expires_at,
    )


def entry(
    tenant: Tenant, now: datetime, debt: Debt, clear: Mapping[str, Pii[str]] | None = None, **more: Any
) -> Entry:
    """The record of a debt as it is now."""
    return Entry(
        tenant=tenant,
        kind="debt",
        at=now,
        borrower=debt.borrower,
        state=debt.state.value,
        ids={"debt": debt.id},
        body={
            "revision": debt.revision,
            "due_date": debt.due_date.isoformat(),
            "amount": str(debt.balance.amount),
            "currency": debt.balance.currency,
            "state_at": write_instant(debt.state_at),
            **more,
        },
        clear=clear or {},
    )
