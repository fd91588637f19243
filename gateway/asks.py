"""Questions that decide without sending: what would become of a reminder, and "may I?" of a contact elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Protocol, cast

import orjson

from gateway.bodies import CheckIn, write_instant
from gateway.deciding import Desk
from gateway.dispatch import PERMIT
from gateway.domain import Action, Channel, Rendered, Tenant, to_us, ulid
from gateway.endings import DispatchTx
from gateway.errors import BadInput, Fault, GatewayError
from gateway.intake import Intake
from gateway.intake.asks import Blind, IntakeStore
from gateway.intake.people import blind_address
from gateway.masking import Pii
from gateway.policy.explain import decision_json, whole_json
from gateway.policy.gate import Decision, Reachable
from gateway.ports import Entry, Moment
from gateway.snapshot import Ask
from gateway.work import Due, Facts, Subject, Verdict

KEPT = timedelta(minutes=10)
"""How long `contacts/check` keeps a place in the caps, at most."""
HORIZON = timedelta(days=75)


class Elsewhere(StrEnum):
    """The channels of contacts that others make; the gate asks no more of a channel than its word."""

    SMS = "sms"
    EMAIL = "email"
    VOICE = "voice"
    WECHAT = "wechat"
    WECOM = "wecom"
    WHATSAPP = "whatsapp"
    LETTER = "letter"
    FAX = "fax"
    VISIT = "visit"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reservation:
    """A place in the caps."""

    id: str
    subject: Subject
    creditor: str
    channel: str
    address: str | None
    recipient_role: str
    actor_id: str | None
    until: datetime


class AskTx(DispatchTx, Protocol):
    """One transaction, as questions use it."""

    async def due_now(self, tenant: Tenant, reminder: str) -> Due:
        """Make a reminder due, whatever its time."""

    async def subject(self, tenant: Tenant, borrower: str, debt: str) -> Subject | None:
        """Whom a borrower's id and a debt's stand for; None when there is no such pair."""

    async def reserve(self, reservation: Reservation) -> None:
        """Keep a place."""


class AskStore(Protocol):
    """The store, as questions use it."""

    def transaction(self) -> AbstractAsyncContextManager[AskTx]:
        """One transaction."""

    def undone(self) -> AbstractAsyncContextManager[tuple[IntakeStore, AskTx]]:
        """One transaction of intake and dispatch together that is rolled back at its end."""


class Asks:
    """Answers `reminders/preview` and `contacts/check`."""

    def __init__(
        self,
        *,
        store: AskStore,
        desk: Desk,
        intake: Callable[[IntakeStore], Intake],
        blind: Blind,
        entropy: Callable[[int], bytes],
    ) -> None:
        self._store = store
        self._desk = desk
        self._intake = intake
        self._blind = blind
        self._entropy = entropy

    async def preview(self, tenant: Tenant, raw: object) -> Mapping[str, Any]:
        """Take a reminder in, decide on it, and undo both: what is said is what would be, and nothing is kept."""
        key = f"preview:{self._entropy(16).hex()}"
        asked = {**raw, "idempotency_key": key} if isinstance(raw, dict) else raw
        async with self._store.undone() as (store, tx):
            (result,) = await self._intake(store).reminders(tenant, [asked])
            if isinstance(result, GatewayError):
                raise result
            due = await tx.due_now(tenant, orjson.loads(result.body)["id"])
            keys = await self._desk.prepare([(due.tenant, due.borrower)])
            await tx.lock_persons([(due.tenant, due.person)])
            works = await tx.take([(due.tenant, due.id)])
            facts = await tx.facts(works)
            texts = self._desk.texts(works[0], facts, keys, tx.moment)
            weighed = self._desk.weigh(works, facts, keys, tx.moment, PERMIT)
        return {
            "decision": _decision(weighed.verdicts[0]),
            "rendered": [_shown(channel, rendered) for channel, rendered in texts.items()],
        }

    async def check(self, tenant: Tenant, body: CheckIn) -> Mapping[str, Any]:
        """Decide on a contact that somebody else would make now; a yes keeps its place in the caps for a while."""
        async with self._store.transaction() as tx:
            subject = await tx.subject(tenant, body.borrower, body.debt)
            if subject is None:
                fault = Fault(
                    at="/debt", code="not_found", message="no such debt of this borrower: put both first"
                )
                raise BadInput([fault])
            await tx.lock_persons([(tenant, subject.person)])
            facts = await tx.facts([subject])
            decision = self._decide(subject, body, facts, tx.moment)
            kept = None
            if decision.action is Action.SEND:
                until = min(tx.moment.policy + KEPT, decision.deliver_by or tx.moment.policy + KEPT)
                kept = self._reservation(subject, body, facts, until, tx.moment)
                await tx.reserve(kept)
                await tx.append([_reserved(kept, tx.moment)])
        ends = kept.until if kept else decision.until
        return {
            "decision": decision_json(decision),
            "reservation": kept.id if kept else None,
            "until": write_instant(ends) if ends else None,
        }

    def _decide(self, subject: Subject, body: CheckIn, facts: Facts, moment: Moment) -> Decision:
        ask = Ask(
            tenant=subject.tenant,
            person=subject.person,
            borrower=subject.borrower,
            debt=subject.debt,
            purpose=body.purpose.value,
            actor=body.actor.id if body.actor else None,
            actor_role=body.actor.role.value if body.actor else "creditor",
            recipient_role=body.recipient_role,
            channels=(cast("Channel", Elsewhere(body.channel)),),
            expires_at=moment.policy + HORIZON,
        )
        address = self._address(body)
        living = facts.addresses.get((subject.tenant, subject.borrower), ())
        known = next((a.kind for a in living if a.key == address), "unknown")
        return self._desk.decide_elsewhere(
            ask,
            Reachable(address_key=address or "", kind=known, technology=body.technology),
            facts,
            moment,
            PERMIT,
        )

    def _address(self, body: CheckIn) -> str | None:
        if body.address is None:
            return None
        return blind_address(self._blind, body.channel, body.address.reveal("its blind index")).hex()

    def _reservation(
        self, subject: Subject, body: CheckIn, facts: Facts, until: datetime, moment: Moment
    ) -> Reservation:
        return Reservation(
            id=ulid("rs_", to_us(moment.policy), self._entropy(10)),
            subject=subject,
            creditor=facts.debts[subject.tenant, subject.debt].creditor,
            channel=body.channel,
            address=self._address(body),
            recipient_role=body.recipient_role,
            actor_id=body.actor.id if body.actor else None,
            until=until,
        )


def _decision(verdict: Verdict) -> dict[str, Any]:
    return whole_json(orjson.loads(verdict.decision), orjson.loads(verdict.ground.said))


def _shown(channel: Channel, rendered: Rendered) -> dict[str, Any]:
    return {
        "channel": channel.value,
        "language": rendered.language,
        "text": rendered.text.reveal("a preview for the service that asked"),
        "segments": rendered.segments,
    }


def _reserved(kept: Reservation, moment: Moment) -> Entry:
    return Entry(
        tenant=kept.subject.tenant,
        kind="reservation",
        at=moment.policy,
        borrower=kept.subject.borrower,
        channel=kept.channel,
        state="reserved",
        ids={
            "debt": kept.subject.debt,
            "creditor": kept.creditor,
            **({"actor": kept.actor_id} if kept.actor_id else {}),
        },
        body={
            "reservation": kept.id,
            "until": write_instant(kept.until),
            "person": kept.subject.person,
            "recipient_role": kept.recipient_role,
        },
        clear={"address_key": Pii(kept.address)} if kept.address else {},
    )
