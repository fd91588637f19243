"""What intake reads and writes, as values: rows of borrowers, debts, reminders and answers, without SQL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from gateway.domain import Channel, DebtState, Money
from gateway.policy.zones import Clue


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The first answer to an idempotency key, and the fingerprint of the body it answered."""

    fingerprint: bytes
    status: int
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """One address, sealed. `blind` is its blind index; sealed values are bound to its hex."""

    channel: Channel
    blind: bytes
    position: int
    value_enc: bytes
    kind: str
    country: str | None
    clue: Clue | None
    dead_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Borrower:
    """A borrower as stored; `profile` is JSON without names or numbers."""

    id: str
    person: str
    profile: Mapping[str, Any]
    pii_enc: bytes
    revision: int
    addresses: tuple[Address, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Debt:
    """A debt as stored."""

    id: str
    borrower: str
    creditor: str
    product: str
    portfolio: str | None
    debtor_kind: str
    due_date: date
    balance: Money
    governing_law: str | None
    state: DebtState
    state_at: datetime
    until: date | None
    policy_facts: Mapping[str, Any]
    revision: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """A reminder that has not been called yet, as far as intake moves it."""

    id: str
    borrower: str
    debt: str
    state: str
    reason: str | None
    called: bool
    calling: bool
    """Its latest attempt is with the provider now."""
    due_date: date
    anchor: Mapping[str, Any] | None
    not_before: datetime | None
    expires_at: datetime
    next_at: datetime | None
    channel: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """Where a waiting reminder goes when its debt changed."""

    id: str
    next_at: datetime
    due_date: date
    not_before: datetime | None
    expires_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Joined:
    """What becomes of persons when borrowers show phones or id numbers."""

    persons: Mapping[str, str]
    """Borrower → person."""
    created: Sequence[str]
    merged: Mapping[str, str]
    """Person that is no more → the one it is now."""
    identities: Mapping[bytes, str]
    """Blind indexes seen for the first time → their person."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """Persons as they stand, locked: of borrowers, and of blind indexes."""

    persons: Mapping[str, str]
    owners: Mapping[bytes, str]
