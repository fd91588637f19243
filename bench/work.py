"""The work that every program of the benchmark is given: the same reminders to the same invented borrowers."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

CHANNELS = ("sms", "email", "mixed")
TAKEN_AT = datetime(2026, 11, 24, 1, 30, tzinfo=UTC)
"""A Tuesday, 09:30 in China: the instant, by the clock that rules see, at which reminders are handed in."""
DUE_AT = datetime(2026, 11, 24, 2, 0, tzinfo=UTC)
"""When all of them are due: an hour within the hours of contact of every pack that holds."""
ZONE = "Asia/Shanghai"
CREDITOR, DUE_DATE, AMOUNT = "ExampleCredit", "2026-11-30", "1280.50"
SENDER_NUMBER, SENDER_MAIL = "+18335550100", "reminders@example.com"
A_DAY, A_WEEK = 3, 7
"""How many reminders one borrower may get: OP.CAPS of the gateway, moving windows of the rivals."""


def channel_of(number: int, channels: str) -> str:
    """How the reminder of that number goes: `mixed` takes turns."""
    return channels if channels != "mixed" else ("sms", "email")[number % 2]


def address(number: int, channel: str) -> str:
    """Where the borrower of that number is reached; nobody is reached by two reminders."""
    return f"+86138{number:08d}" if channel == "sms" else f"b{number}@example.com"


def recipients(number: int, channels: str) -> list[str]:
    """Who must have been reached, once each, when the first `number` reminders are out."""
    return [address(n, channel_of(n, channels)) for n in range(number)]


def item(number: int, channels: str, *, due: bool = False) -> dict[str, Any]:
    """A reminder as the gateway takes it, with its borrower and debt inline."""
    channel = channel_of(number, channels)
    made: dict[str, Any] = {
        "idempotency_key": f"L-{number}:pre_due",
        "borrower": {
            "id": f"B-{number}",
            "name": "张示例",
            "language": "zh-CN",
            "residence": "CN-GD",
            "time_zones": [{"zone": ZONE, "source": "address"}],
            "addresses": [{"channel": channel, "value": address(number, channel), "kind": "personal"}],
        },
        "debt": {
            "id": f"L-{number}",
            "creditor": CREDITOR,
            "product": "cash_loan",
            "debtor_kind": "person",
            "due_date": DUE_DATE,
            "balance": {"amount": AMOUNT, "currency": "CNY"},
            "governing_law": "CN",
            "state": "open",
            "state_at": _z(TAKEN_AT),
        },
        "purpose": "pre_due_reminder",
        "actor": {"role": "creditor", "id": CREDITOR},
        "channels": [channel],
        "template": "pre_due",
        "facts": {"pay_url": f"https://pay.example.com/L-{number}"},
    }
    return made if due else {**made, "not_before": _z(DUE_AT)}


def further(number: int, channels: str) -> dict[str, Any]:
    """Another reminder to the same borrower about the same debt, both named by their ids."""
    ids = {"idempotency_key": f"L-{number}:pre_due:2", "borrower": f"B-{number}", "debt": f"L-{number}"}
    return {**item(number, channels), **ids}


def job(number: int, channels: str) -> dict[str, Any]:
    """The same reminder as the rivals take it."""
    channel = channel_of(number, channels)
    return {
        "id": f"L-{number}",
        "borrower": f"B-{number}",
        "name": "张示例",
        "channel": channel,
        "address": address(number, channel),
        "zone": ZONE,
        "creditor": CREDITOR,
        "due_date": DUE_DATE,
        "amount": AMOUNT,
        "pay_url": f"https://pay.example.com/L-{number}",
    }


def batches(items: Sequence[Any], size: int) -> list[Sequence[Any]]:
    """The items by so many."""
    return [items[start : start + size] for start in range(0, len(items), size)]


def _z(instant: datetime) -> str:
    return instant.isoformat().replace("+00:00", "Z")
