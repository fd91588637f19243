"""Rows of dispatch as values, and values as rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from datetime import date, datetime
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from typing import Any

import orjson
from sqlalchemy import ColumnElement, func, select
from sqlalchemy.engine import Row

from gateway.domain import Channel, DebtState, Money, Outcome, Tenant, from_us, to_us
from gateway.policy.numbers import kept_clue
from gateway.ports import Entry, Moment
from gateway.store import schema
from gateway.work import (
    AddressRow,
    Assignment,
    Attempt,
    BorrowerRow,
    DebtRow,
    Intent,
    Outturn,
    Past,
    Refusal,
    Work,
)

MOST_ALIKE = 4096
"""Different texts of flags whose values are remembered; many rows say the same."""


def us(instant: datetime | None) -> int | None:
    """Microseconds of an instant, if there is one."""
    return None if instant is None else to_us(instant)


def instant(us: int | None) -> datetime | None:
    """The instant of microseconds, if there are any."""
    return None if us is None else from_us(us)


def work_of(row: Row[Any]) -> Work:
    """A claimed reminder from its row."""
    return Work(
        tenant=Tenant(row.tenant),
        id=row.id,
        key=row.key,
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
        not_before=instant(row.not_before),
        expires_at=from_us(row.expires_at),
        anchor=orjson.loads(row.anchor) if row.anchor else None,
        repeat=row.repeat,
        escalate=tuple(orjson.loads(row.escalate)),
        accepted_at=from_us(row.accepted_at),
        attempt=row.attempt,
        queue=row.queue,
        value=_worth(row.value),
        portfolio=row.portfolio,
        places=tuple(orjson.loads(row.places)),
        reason=row.reason,
        by=row.by,
    )


def rank(row: Row[Any]) -> tuple[int, Decimal, int, int]:
    """Which reminder goes first: by priority, value, expiry, and then whichever was accepted first."""
    return row.priority, -_worth(row.value), row.expires_at, row.accepted_at


def _worth(value: str | None) -> Decimal:
    """A service's `value` as a number; a word is worth nothing more."""
    try:
        worth = Decimal(value or 0)
    except InvalidOperation:
        return Decimal(0)
    return worth if worth.is_finite() else Decimal(0)


def borrower_of(person: str, row: Sequence[Any]) -> BorrowerRow:
    """A person's borrower, as facts tell it."""
    id_, profile, pii_enc, revision = row
    return BorrowerRow(
        id=id_, person=person, profile=profile, pii_enc=bytes.fromhex(pii_enc), revision=revision
    )


def address_of(row: Sequence[Any]) -> AddressRow:
    """An address, as facts tell it."""
    _, channel, blind, value_enc, kind, country, zones = row
    return AddressRow(
        channel=Channel(channel),
        key=blind.lower(),
        value_enc=bytes.fromhex(value_enc),
        kind=kind,
        country=country,
        clue=kept_clue(zones),
    )


def debt_of(id_: str, row: Sequence[Any]) -> DebtRow:
    """A debt, as facts tell it."""
    (creditor, product, debtor_kind, due_date, amount, currency, law, state, state_at, until, *rest) = row
    policy_facts, revision, portfolio = rest
    return DebtRow(
        id=id_,
        creditor=creditor,
        product=product,
        debtor_kind=debtor_kind,
        due_date=date.fromisoformat(due_date),
        balance=Money(amount=Decimal(amount), currency=currency),
        governing_law=law,
        state=DebtState(state),
        state_at=from_us(state_at),
        until=date.fromisoformat(until) if until else None,
        policy_facts=policy_facts,
        revision=revision,
        portfolio=portfolio,
    )


def past_of(row: Sequence[Any]) -> Past:
    """An attempt as caps see it, as facts tell it."""
    at, _, final_at, channel, state, debt, creditor, address, role, actor, technology, adapter, flags = row
    return Past(
        at=from_us(at),
        channel=channel,
        state=state,
        final_at=instant(final_at),
        debt=debt,
        creditor=creditor,
        address=address,
        recipient_role=role,
        actor=actor,
        technology=technology,
        adapter=adapter,
        flags=_flags(flags),
    )


@lru_cache(MOST_ALIKE)
def _flags(flags: str) -> tuple[str, ...]:
    return tuple(orjson.loads(flags))


def reserved_of(row: Sequence[Any]) -> Past:
    """A reservation as caps see it, as facts tell it."""
    at, until, channel, debt, creditor, address, role, actor = row
    return Past(
        at=from_us(at),
        channel=channel,
        state=Outcome.UNKNOWN.value,
        final_at=from_us(until),
        debt=debt,
        creditor=creditor,
        address=address,
        recipient_role=role,
        actor=actor,
        reserved=True,
    )


def newest_assignment() -> ColumnElement[bool]:
    """That an assignment's row is the newest of its tenant and portfolio."""
    row, other = schema.policy_assignment.c, schema.policy_assignment.alias().c
    newest = select(func.max(other.version)).where(
        other.tenant == row.tenant, other.portfolio == row.portfolio
    )
    return row.version == newest.scalar_subquery()


def assignment_of(row: Sequence[Any]) -> Assignment:
    """An assignment, as facts tell it."""
    portfolio, version, licences, institution, packs = row
    return Assignment(
        portfolio=portfolio,
        version=version,
        licences=tuple(licences),
        institution=institution,
        packs=tuple(packs),
    )


ATTEMPT = tuple(schema.attempt.c[field.name] for field in fields(Attempt))
"""The columns that `attempt_of` reads."""


def attempt_of(row: Row[Any]) -> Attempt:
    """An attempt from its row."""
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
        called_at=instant(row.called_at),
        text_enc=row.text_enc,
        provider_id=row.provider_id,
        ending=row.ending,
        code=row.code,
        final_at=instant(row.final_at),
        settle_at=instant(row.settle_at),
        settle_tries=row.settle_tries,
    )


def ref_row(intent: Intent, now: int) -> dict[str, Any]:
    """The row that makes an intent's ref unique."""
    return {
        "ref": intent.ref,
        "tenant": intent.work.tenant,
        "started_at": now,
        "reminder": intent.work.id,
        "adapter": intent.adapter,
        "account": intent.account,
    }


def intent_row(intent: Intent, owner: str, now: int) -> dict[str, Any]:
    """An intent's row."""
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
        "actor_id": work.actor_id,
        "technology": intent.technology,
        "flags": orjson.dumps(intent.flags).decode(),
        "state": "intent",
        "fence": work.fence,
        "owner": owner,
        "deadline": to_us(intent.deadline),
        "segments": intent.segments,
        "price_amount": str(intent.price.amount) if intent.price else None,
        "price_currency": intent.price.currency if intent.price else None,
        "template": work.template,
        "template_version": intent.start.template_version,
        "language": intent.language,
        "text_hash": intent.text_hash,
        "text_enc": intent.text_enc,
        "settle_tries": 0,
        "borrower_revision": intent.borrower_revision,
        "debt_revision": intent.debt_revision,
    }


def outturn_row(outturn: Outturn) -> dict[str, Any]:
    """What an outturn writes to its attempt."""
    attempt = outturn.attempt
    return {
        "tenant": attempt.tenant,
        "ref": attempt.ref,
        "started_at": to_us(attempt.started_at),
        "state": outturn.state,
        "ending": outturn.ending,
        "code": outturn.code,
        "provider_id": outturn.provider_id,
        "final_at": us(outturn.final_at),
        "settle_at": us(outturn.settle_at),
        "settle_tries": attempt.settle_tries,
        "ended_at": us(outturn.ended_at),
    }


def withdrawal(attempt: Attempt, moment: Moment, why: Refusal | None = None) -> Entry:
    """The record of a withdrawn attempt, and what refused its start."""
    return Entry(
        tenant=attempt.tenant,
        kind="attempt",
        at=moment.policy,
        reminder=attempt.reminder,
        attempt=attempt.ref,
        borrower=attempt.borrower,
        channel=attempt.channel.value,
        state="void",
        reason=why.reason if why else None,
        body={"by": why.by} if why else {},
    )
