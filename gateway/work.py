"""What T1 reads and writes, as values: the rows behind a decision, without a word of SQL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any, NamedTuple

from gateway.domain import Approvals, Channel, DebtState, Money, Tenant
from gateway.policy.zones import Clue
from gateway.quotas.model import Load
from gateway.values import dataclass

Key = tuple[Tenant, str]
"""A tenant and an id within it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Queue:
    """Reminders that wait together (gateway.domain.queue_of); one of them is due since `oldest` (policy clock)."""

    name: str
    channel: Channel
    tenant: Tenant
    template: str
    priority: int
    oldest: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """A reminder that is due, seen without a lock."""

    tenant: Tenant
    id: str
    person: str
    borrower: str
    strikes: int = 0
    """Of a suspect (gateway.suspects): how many processes ended while it may have been the reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """A claimed reminder.

    `fence` is the claim's; `tries` counts refused hand-overs so far; `step` escalations already begun (then
    `attempt` is the one before).
    """

    tenant: Tenant
    id: str
    key: str
    """The idempotency key that it was handed in under."""
    fence: int
    tries: int
    step: int
    person: str
    borrower: str
    debt: str
    due_date: str
    channels: tuple[Channel, ...]
    purpose: str
    actor_role: str
    actor_id: str
    recipient_role: str
    template: str
    template_version: int
    facts_enc: bytes
    priority: int
    not_before: datetime | None
    expires_at: datetime
    anchor: Mapping[str, str] | None
    repeat: bool
    escalate: tuple[Mapping[str, Any], ...]
    accepted_at: datetime
    attempt: str | None
    queue: str
    value: Decimal
    """What the service says it is worth to reach this borrower; 0 where it says nothing."""
    portfolio: str | None
    places: tuple[str, ...]
    """Portfolio and places (ISO 3166) that it was accepted under."""
    reason: str | None
    by: str | None
    """Why it waited until now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """The step of an escalation that follows a hand-over: its number, from 1, how long after it it begins, and how."""

    number: int
    after: timedelta
    channel: Channel


def step_after(escalate: Sequence[Mapping[str, Any]], begun: int) -> Step | None:
    """What follows when so many steps of an escalation have begun; None after the last one."""
    if begun >= len(escalate):
        return None
    step = escalate[begun]
    return Step(
        number=begun + 1, after=timedelta(seconds=int(step["after_s"])), channel=Channel(step["channel"])
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """Whom and what a decision is about, when it is not a stored reminder (preview, check)."""

    tenant: Tenant
    person: str
    borrower: str
    debt: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BorrowerRow:
    """A borrower as stored; `profile` is JSON without names or numbers, `pii_enc` sealed JSON."""

    id: str
    person: str
    profile: Mapping[str, Any]
    pii_enc: bytes
    revision: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AddressRow:
    """One living address, sealed; `key` is the hex of its blind index."""

    channel: Channel
    key: str
    value_enc: bytes
    kind: str
    country: str | None
    clue: Clue | None
    """Where a phone number may be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DebtRow:
    """A debt as stored."""

    id: str
    creditor: str
    product: str
    debtor_kind: str
    due_date: date
    balance: Money
    governing_law: str | None
    state: DebtState
    state_at: datetime
    until: date | None
    policy_facts: Mapping[str, Any]
    revision: int
    portfolio: str | None


class Past(NamedTuple):
    """One earlier attempt, contact or reservation on a person, as caps see it.

    A tuple, since several are made for each reminder and one of these costs a third.
    """

    at: datetime
    channel: str
    state: str
    final_at: datetime | None
    debt: str
    creditor: str
    address: str | None
    recipient_role: str
    actor: str | None = None
    technology: str | None = None
    adapter: str | None = None
    """None of a contact made elsewhere: nobody knows through whom."""
    flags: tuple[str, ...] = ()
    reserved: bool = False
    """A place kept by `contacts/check`; it is free again at `final_at`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """What is added to the packs of residence and law for a portfolio (empty: the whole tenant), one version.

    `licences` are places (ISO 3166) whose packs apply as well; `packs` ids of extra ones; `institution`
    narrows packs that name institutions.
    """

    portfolio: str
    version: int
    licences: tuple[str, ...]
    institution: str | None
    packs: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Everything one batch of decisions needs. `history` grows as the batch decides: each sees those before it."""

    borrowers: Mapping[Key, BorrowerRow]
    siblings: Mapping[Key, tuple[BorrowerRow, ...]]
    """All borrowers of a person, by (tenant, person)."""
    addresses: Mapping[Key, tuple[AddressRow, ...]]
    debts: Mapping[Key, DebtRow]
    history: dict[Key, list[Past]]
    stale_after: Mapping[str, timedelta]
    """By tenant's name."""
    overrides: Mapping[Tenant, Mapping[str, int]]
    duplicates: frozenset[Key] = field(default_factory=frozenset)
    contacted: Mapping[Key, str] = field(default_factory=dict)
    """State of the latest attempt of those that escalate, by (tenant, reminder)."""
    approvals: Mapping[Tenant, Approvals] = field(default_factory=dict)
    assignments: Mapping[Key, Assignment] = field(default_factory=dict)
    """The one in force, by (tenant, portfolio); the portfolio of a whole tenant is empty."""

    def assigned(self, tenant: Tenant, portfolio: str | None) -> Assignment | None:
        """What holds for a debt of that portfolio: the portfolio's own, else the tenant's."""
        own = self.assignments.get((tenant, portfolio)) if portfolio else None
        return own or self.assignments.get((tenant, ""))


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """An intent as quotas, pauses and standings see it, when it asks for its go.

    `portfolios` and `places` (ISO 3166) are what the reminder was accepted under and what is true now.
    """

    ref: str
    load: Load
    template_version: int
    portfolios: frozenset[str]
    places: frozenset[str]
    deliver_by: datetime
    """Real time after which the provider must not deliver."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why a start gets no go for now: `quota` `paused` `stopped` `account_down`, by which, and when to ask again.

    `again` (policy clock) None: when whoever refused it lets go.
    """

    reason: str
    by: str
    again: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Intent:
    """An attempt about to be made, as T1 writes it."""

    work: Work
    ref: str
    channel: Channel
    adapter: str
    account: str
    address: str
    creditor: str
    segments: int
    price: Money | None
    language: str
    text_hash: str
    text_enc: bytes
    borrower_revision: int
    debt_revision: int
    deadline: datetime
    start: Start
    technology: str | None = None
    flags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """What decisions rest on (gateway.policy.explain.grounds_json), kept once for all that rest on the same."""

    sha256: str
    """Of `said`, in hex; decisions name it by this."""
    said: str
    """Canonical JSON."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What T1 writes to a reminder's row. `next_at` None when nothing is left to do."""

    work: Work
    state: str
    reason: str | None
    by: str | None
    next_at: datetime | None
    decision: str
    """Its JSON, with the digest of its ground as `ground`."""
    ground: Ground
    channel: Channel | None = None
    intent: Intent | None = None
    moves_to: str | None = None
    """The queue where it waits from now on, when it is another."""


Word = tuple[str, int]
"""Whose pace was granted: the source and its epoch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Went:
    """What a go came to: refs that may be called, and why others may not now."""

    granted: frozenset[str]
    refused: Mapping[str, Refusal]


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """An attempt as stored, with what a receipt or a settlement needs."""

    tenant: Tenant
    ref: str
    started_at: datetime
    reminder: str | None
    borrower: str
    person: str
    debt: str
    channel: Channel
    adapter: str
    account: str
    address: str
    state: str
    fence: int
    called_at: datetime | None
    text_enc: bytes | None
    provider_id: str | None
    ending: str | None = None
    """How its call ended, once that is written."""
    code: str | None = None
    final_at: datetime | None = None
    settle_at: datetime | None = None
    settle_tries: int = 0
    """How often its provider was to be asked about it; written before a question that may itself reach somebody."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outturn:
    """What a call or a receipt makes of an attempt and its reminder (None: that row stays as it is)."""

    attempt: Attempt
    state: str
    ending: str | None = None
    code: str | None = None
    provider_id: str | None = None
    final_at: datetime | None = None
    settle_at: datetime | None = None
    ended_at: datetime | None = None
    reminder_state: str | None = None
    reason: str | None = None
    by: str | None = None
    next_at: datetime | None = None
    refused: bool = False
    """The provider surely did not take it: the reminder is free for another go."""
    waits: bool = False
    """It was refused because there was too much: that is no try, however often it happens."""
    keeps_next: bool = False
    """The reminder's `next_at` stays: an escalation that was set goes on."""
    step: int | None = None
    """The step of an escalation that begins at `next_at`; however often it is written, it is that one."""
    waits_on: Channel | None = None
    """The channel of that step: it waits with what goes there."""
