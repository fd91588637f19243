"""The requests of the API as values, built once for the sync and the async client. No I/O.

`keys` gives a fresh idempotency key for a call that has none; it is part of the body before the first try, so
every try carries the same one.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Generic, TypeVar
from urllib.parse import quote, urlencode

from gateway_client._words import (
    Accepted,
    Borrower,
    Cancelled,
    Contact,
    ContactAnswer,
    ContactQuestion,
    ContactTaken,
    Debt,
    DebtEvent,
    DebtEventOf,
    DebtEventTaken,
    Filters,
    NamedBorrower,
    NamedDebt,
    NewReminder,
    Page,
    Preview,
    Reminder,
    Results,
    Stored,
)

T = TypeVar("T")
Keys = Callable[[], str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Call(Generic[T]):
    """One request whose answer is a `T`, known by the key that it `has`.

    `repeatable`: doing it twice is the same as doing it once.
    """

    method: str
    path: str
    has: str = "id"
    body: bytes | None = field(default=None, repr=False)
    repeatable: bool = True


def new_key() -> str:
    """A fresh idempotency key: letters only, so that no run of it reads as a phone number."""
    return "k" + secrets.token_hex(16).translate(str.maketrans("0123456789", "ghijklmnop"))


def _plain(value: object) -> str:
    """The text of an instant, a date or an amount; refuses what JSON cannot hold, without showing it."""
    match value:
        case datetime() if value.tzinfo is None:
            raise ValueError("an instant needs a UTC offset: datetime(…, tzinfo=…)")
        case date():
            return value.isoformat()
        case Decimal():
            return format(value, "f")
    raise TypeError(f"a {type(value).__name__} cannot be sent")


def _json(value: object) -> bytes:
    return json.dumps(value, default=_plain, ensure_ascii=False, allow_nan=False).encode()


def _keyed(item: Mapping[str, Any], keys: Keys) -> dict[str, Any]:
    return {**item, "idempotency_key": item.get("idempotency_key") or keys()}


def _items(items: Iterable[Mapping[str, Any]]) -> bytes:
    return _json({"items": list(items)})


def _id(value: str) -> str:
    return quote(value, safe="")


def enqueue(reminder: NewReminder, keys: Keys) -> Call[Accepted]:
    """Hand in one reminder."""
    return Call(method="POST", path="/v1/reminders", body=_json(_keyed(reminder, keys)))


def enqueue_batch(reminders: Iterable[NewReminder], keys: Keys) -> Call[Results]:
    """Hand in up to 1 000 reminders."""
    body = _items(_keyed(reminder, keys) for reminder in reminders)
    return Call(method="POST", path="/v1/reminders/batch", has="results", body=body)


def preview(reminder: NewReminder, keys: Keys) -> Call[Preview]:
    """What would be decided and rendered now."""
    return Call(
        method="POST", path="/v1/reminders/preview", has="decision", body=_json(_keyed(reminder, keys))
    )


def reminder(reminder_id: str) -> Call[Reminder]:
    """One reminder as it stands."""
    return Call(method="GET", path=f"/v1/reminders/{_id(reminder_id)}")


def cancel(reminder_id: str, reason: str) -> Call[Cancelled]:
    """Stop one reminder."""
    return Call(
        method="POST", path=f"/v1/reminders/{_id(reminder_id)}/cancel", body=_json({"reason": reason})
    )


def reminders(filters: Filters, after: str | None) -> Call[Page[Reminder]]:
    """One page of reminders."""
    asked: dict[str, object] = {name.rstrip("_"): value for name, value in filters.items()}
    if after is not None:
        asked["after"] = after
    query = {name: value if isinstance(value, str | int) else _plain(value) for name, value in asked.items()}
    return Call(method="GET", path="/v1/reminders" + (f"?{urlencode(query)}" if query else ""), has="items")


def put_borrower(borrower_id: str, borrower: Borrower) -> Call[Stored]:
    """Set what is known of one borrower."""
    return Call(method="PUT", path=f"/v1/borrowers/{_id(borrower_id)}", body=_json(borrower))


def put_borrowers(borrowers: Iterable[NamedBorrower]) -> Call[Results]:
    """Set what is known of up to 1 000 borrowers."""
    return Call(method="POST", path="/v1/borrowers/batch", has="results", body=_items(borrowers))


def put_debt(debt_id: str, debt: Debt) -> Call[Stored]:
    """Set what is known of one debt."""
    return Call(method="PUT", path=f"/v1/debts/{_id(debt_id)}", body=_json(debt))


def put_debts(debts: Iterable[NamedDebt]) -> Call[Results]:
    """Set what is known of up to 1 000 debts."""
    return Call(method="POST", path="/v1/debts/batch", has="results", body=_items(debts))


def debt_event(debt_id: str, event: DebtEvent, keys: Keys) -> Call[DebtEventTaken]:
    """Say what happened to one debt."""
    return Call(method="POST", path=f"/v1/debts/{_id(debt_id)}/events", body=_json(_keyed(event, keys)))


def debt_events(events: Iterable[DebtEventOf], keys: Keys) -> Call[Results]:
    """Say what happened to up to 1 000 debts."""
    return Call(
        method="POST",
        path="/v1/debts/events/batch",
        has="results",
        body=_items(_keyed(e, keys) for e in events),
    )


def contact(made: Contact, keys: Keys) -> Call[ContactTaken]:
    """Report one contact made elsewhere."""
    return Call(method="POST", path="/v1/contacts", body=_json(_keyed(made, keys)))


def contacts(made: Iterable[Contact], keys: Keys) -> Call[Results]:
    """Report up to 1 000 contacts made elsewhere."""
    return Call(
        method="POST", path="/v1/contacts/batch", has="results", body=_items(_keyed(c, keys) for c in made)
    )


def check_contact(question: ContactQuestion) -> Call[ContactAnswer]:
    """Ask whether a borrower may be reached. Each answer may reserve a place, so it is not repeatable."""
    return Call(
        method="POST", path="/v1/contacts/check", has="decision", body=_json(question), repeatable=False
    )
