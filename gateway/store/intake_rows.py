"""Rows of intake's tables and the values they stand for."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import orjson
from sqlalchemy import Row as Found

from gateway.domain import Channel, DebtState, Money, Tenant, from_us, to_us
from gateway.intake.asks import Row
from gateway.intake.rows import Address, Borrower, Debt, Move, Waiting
from gateway.policy.numbers import kept_clue


def move_row(tenant: Tenant, move: Move, at: int) -> Row:
    """A move, by the reminder's key."""
    return {
        "k_tenant": tenant,
        "k_id": move.id,
        "next_at": to_us(move.next_at),
        "due_date": move.due_date.isoformat(),
        "not_before": _us(move.not_before),
        "expires_at": to_us(move.expires_at),
        "updated_at": at,
    }


def _us(instant: datetime | None) -> int | None:
    return None if instant is None else to_us(instant)


def _at(us: int | None) -> datetime | None:
    return None if us is None else from_us(us)


def _json(value: Any) -> str:
    return orjson.dumps(value).decode()


def borrower(row: Found[Any], addresses: Sequence[Address]) -> Borrower:
    """A borrower and its addresses."""
    return Borrower(
        id=row.id,
        person=row.person,
        profile=orjson.loads(row.profile),
        pii_enc=row.pii_enc,
        revision=row.revision,
        addresses=tuple(addresses),
    )


def borrower_row(borrower: Borrower, at: int) -> Row:
    """A borrower's columns."""
    return {
        "person": borrower.person,
        "profile": _json(borrower.profile),
        "pii_enc": borrower.pii_enc,
        "revision": borrower.revision,
        "updated_at": at,
    }


def address(row: Found[Any]) -> Address:
    """An address."""
    return Address(
        channel=Channel(row.channel),
        blind=bytes(row.blind),
        position=row.position,
        value_enc=row.value_enc,
        kind=row.kind,
        country=row.country,
        clue=kept_clue(row.zones),
        dead_at=_at(row.dead_at),
    )


def address_row(borrower: str, address: Address) -> Row:
    """An address's columns."""
    return {
        "borrower": borrower,
        "channel": address.channel.value,
        "blind": address.blind,
        "position": address.position,
        "value_enc": address.value_enc,
        "kind": address.kind,
        "country": address.country,
        "zones": _json(address.clue and address.clue.as_json()),
        "dead_at": _us(address.dead_at),
    }


def debt(row: Found[Any]) -> Debt:
    """A debt."""
    return Debt(
        id=row.id,
        borrower=row.borrower,
        creditor=row.creditor,
        product=row.product,
        portfolio=row.portfolio,
        debtor_kind=row.debtor_kind,
        due_date=date.fromisoformat(row.due_date),
        balance=Money(amount=Decimal(row.amount), currency=row.currency),
        governing_law=row.governing_law,
        state=DebtState(row.state),
        state_at=from_us(row.state_at),
        until=date.fromisoformat(row.until) if row.until else None,
        policy_facts=orjson.loads(row.policy_facts),
        revision=row.revision,
    )


def debt_row(debt: Debt, at: int) -> Row:
    """A debt's columns."""
    return {
        "borrower": debt.borrower,
        "creditor": debt.creditor,
        "product": debt.product,
        "portfolio": debt.portfolio,
        "debtor_kind": debt.debtor_kind,
        "due_date": debt.due_date.isoformat(),
        "amount": str(debt.balance.amount),
        "currency": debt.balance.currency,
        "governing_law": debt.governing_law,
        "state": debt.state.value,
        "state_at": to_us(debt.state_at),
        "until": debt.until.isoformat() if debt.until else None,
        "policy_facts": _json(debt.policy_facts),
        "revision": debt.revision,
        "updated_at": at,
    }


def waiting(row: Found[Any]) -> Waiting:
    """A reminder that can still be moved; `calling` is there when its attempt was joined."""
    return Waiting(
        id=row.id,
        borrower=row.borrower,
        debt=row.debt,
        state=row.state,
        reason=row.reason,
        called=row.called,
        calling=bool(getattr(row, "calling", False)),
        due_date=date.fromisoformat(row.due_date),
        anchor=orjson.loads(row.anchor) if row.anchor else None,
        not_before=_at(row.not_before),
        expires_at=from_us(row.expires_at),
        next_at=_at(row.next_at),
        channel=row.channel,
    )
