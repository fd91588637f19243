"""Contacts made elsewhere: they draw on the same caps as the gateway's own attempts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson

from gateway.bodies import ContactIn
from gateway.domain import Tenant, to_us
from gateway.errors import Fault
from gateway.intake.asks import Blind
from gateway.intake.people import blind_address
from gateway.intake.reminders import NOT_FOUND
from gateway.intake.rows import Debt
from gateway.intake.times import in_future
from gateway.masking import Pii
from gateway.ports import Entry


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What contacts refer to: borrowers' persons, debts, and reservations that are still free."""

    persons: Mapping[str, str]
    debts: Mapping[str, Debt]
    reservations: Mapping[str, str]


def contact_faults(body: ContactIn, known: Known, used: set[str], now: datetime) -> list[Fault]:
    """What of a contact does not fit."""
    faults = []
    debt = known.debts.get(body.debt)
    if body.borrower not in known.persons:
        faults.append(Fault(at="/borrower", code="not_found", message=NOT_FOUND))
    if debt is None:
        faults.append(Fault(at="/debt", code="not_found", message=NOT_FOUND))
    elif not faults and debt.borrower != body.borrower:
        faults.append(Fault(at="/debt", code="debt_of_another", message="this debt is another borrower's"))
    if in_future(body.at, now):
        faults.append(Fault(at="/at", code="in_future", message="a contact has happened by now"))
    if body.reservation is not None and (
        body.reservation in used or known.reservations.get(body.reservation) != body.borrower
    ):
        message = "there is no free reservation of that id for this borrower: leave it out"
        faults.append(Fault(at="/reservation", code="reservation_unknown", message=message))
    return faults


def contact_row(body: ContactIn, known: Known, blind: Blind, *, name: str) -> dict[str, Any]:
    """An attempt's row whose outcome is final. A contact that the borrower began is flagged `inbound`."""
    address = None
    if body.address is not None:
        address = blind_address(blind, body.channel, body.address.reveal("blind index")).hex()
    flags = dict.fromkeys([*body.flags, *(["inbound"] if body.direction == "inbound" else [])])
    return {
        "ref": name,
        "started_at": to_us(body.at),
        "origin": "contact",
        "person": known.persons[body.borrower],
        "borrower": body.borrower,
        "debt": body.debt,
        "creditor": known.debts[body.debt].creditor,
        "channel": body.channel,
        "address": address,
        "recipient_role": body.recipient_role,
        "actor_role": body.actor.role.value if body.actor else "creditor",
        "actor_id": body.actor.id if body.actor else None,
        "technology": body.technology,
        "flags": orjson.dumps(list(flags)).decode(),
        "state": body.outcome,
        "final_at": to_us(body.at),
        "ended_at": to_us(body.at),
    }


def contact_entry(tenant: Tenant, now: datetime, body: ContactIn, row: Mapping[str, Any]) -> Entry:
    """The record of a contact."""
    return Entry(
        tenant=tenant,
        kind="contact",
        at=now,
        attempt=row["ref"],
        borrower=body.borrower,
        channel=body.channel,
        state=body.outcome,
        ids={
            "debt": body.debt,
            "creditor": row["creditor"],
            **({"actor": body.actor.id} if body.actor else {}),
        },
        body={
            "person": row["person"],
            "at_us": row["started_at"],
            "direction": body.direction,
            "actor_role": row["actor_role"],
            "recipient_role": body.recipient_role,
            "flags": orjson.loads(row["flags"]),
            **({"technology": body.technology} if body.technology else {}),
            **({"reservation": body.reservation} if body.reservation else {}),
        },
        clear={} if body.address is None else {"address": body.address, "address_key": Pii(row["address"])},
    )
