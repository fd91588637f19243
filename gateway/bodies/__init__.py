"""The bodies that services send, checked: what is wrong is said all at once, and never repeated."""

from gateway.bodies.faults import codes, pointer, read
from gateway.bodies.kinds import Id, Instant, Reason, phone_place, write_instant
from gateway.bodies.models import (
    MAX_DAYS_AHEAD,
    ActorIn,
    AddressIn,
    AnchorIn,
    Body,
    BorrowerIn,
    BorrowerItem,
    CancelIn,
    CheckIn,
    ContactIn,
    DebtIn,
    DebtItem,
    EventIn,
    EventItem,
    MoneyIn,
    ReminderIn,
)

__all__ = [
    "MAX_DAYS_AHEAD",
    "ActorIn",
    "AddressIn",
    "AnchorIn",
    "Body",
    "BorrowerIn",
    "BorrowerItem",
    "CancelIn",
    "CheckIn",
    "ContactIn",
    "DebtIn",
    "DebtItem",
    "EventIn",
    "EventItem",
    "Id",
    "Instant",
    "MoneyIn",
    "Reason",
    "ReminderIn",
    "codes",
    "phone_place",
    "pointer",
    "read",
    "write_instant",
]
