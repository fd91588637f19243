"""Data for the demo: 1 000 reminders for 200 invented borrowers, the same on every call.

Every borrower is made up and named 示例 or Example; examples/README.md says what each is there to show.
All instants fit a policy clock that starts at 2026-11-24T15:30:00Z and goes on over the following night.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

from examples.cases import CASES, Case, Step, When
from examples.people import Person, people

__all__ = ["CLOCK_STARTS", "FEED_COMES", "Example", "accounts", "load"]

CLOCK_STARTS = datetime(2026, 11, 24, 15, 30, tzinfo=UTC)
"""23:30 in China, 21:00 in India, 15:30 in Britain, 10:30 in New York, 07:30 in California."""
FEED_COMES = datetime(2026, 11, 25, 12, 30, tzinfo=UTC)
"""When the lender's next report of open debts (`Example.morning`) may be put."""

KNOWN_AT = "2026-11-24T15:00:00Z"
HAPPENS_AT = "2026-11-24T15:10:00Z"
TODAY = {
    "CN": date(2026, 11, 25),
    "IN": date(2026, 11, 25),
    "US": date(2026, 11, 24),
    "GB": date(2026, 11, 24),
}
"""The local date on which a reminder that is due at once can go out."""
STANDS = {"pre": 3, "pre2": 5, "due": 0, "yesterday": -1, "gentle": -9, "firm": -40}
"""How a debt stands → days from that date to its due date; an anchored reminder fits `pre` alone."""
MORNING = {
    "CN": "2026-11-25T03:00:00Z",
    "IN": "2026-11-25T05:00:00Z",
    "GB": "2026-11-25T10:30:00Z",
    "US": "2026-11-25T14:30:00Z",
}
LATE = "2026-11-25T14:30:00Z"
OVERNIGHT = "2026-11-24T20:00:00Z"
ANCHORS = {"due_today": 0, "overdue_gentle": 12, "overdue_firm": 30, "care": 45}
"""Template → days after the due date at which a later reminder stands: never before 27 November."""
PURPOSES = {
    "pre_due": "pre_due_reminder",
    "due_today": "due_today",
    "overdue_gentle": "collection",
    "overdue_firm": "collection",
    "care": "service_notice",
}
CURRENCIES = {"CN": "CNY", "US": "USD", "IN": "INR", "GB": "GBP"}
BASE = {"CN": 128_050, "US": 12_050, "IN": 450_000, "GB": 9_990}
"""The smallest balance, in minor units."""
PRODUCTS = ("cash_loan", "credit_card", "instalment_plan")
ACTORS = {"creditor": "ExampleCredit", "agency": "ExampleCollections"}

Item = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """Items of the batch calls, in the order in which to post them; `cases` maps a case to its borrowers.

    `morning` is the lender's report of the next day: the debts that are still open, known anew.
    """

    borrowers: list[Item]
    debts: list[Item]
    contacts: list[Item]
    reminders: list[Item]
    events: list[Item]
    morning: list[Item]
    cases: Mapping[str, tuple[str, ...]]


def load() -> Example:
    """Everything, made anew and always the same."""
    everyone = [(person, case) for case in CASES for person in people(case)]
    everyone.sort(key=lambda pair: pair[0].id)
    debts = [debt for person, case in everyone for debt in _debts(person, case)]
    events = [event for person, case in everyone for event in _events(person, case)]
    changed = {event["debt"] for event in events}
    return Example(
        borrowers=[person.item for person, _ in everyone],
        debts=debts,
        contacts=[contact for person, case in everyone for contact in _contacts(person, case)],
        reminders=[reminder for person, case in everyone for reminder in _reminders(person, case)],
        events=events,
        morning=[
            {"id": debt["id"], "state": "open", "state_at": _z(FEED_COMES - timedelta(minutes=5))}
            for debt in debts
            if debt["state"] == "open" and debt["state_at"] == KNOWN_AT and debt["id"] not in changed
        ],
        cases={case.name: tuple(person.id for person, his in everyone if his is case) for case in CASES},
    )


def _z(instant: datetime) -> str:
    return instant.isoformat().replace("+00:00", "Z")


def _debt_id(person: Person, letter: str) -> str:
    return f"L{person.id.removeprefix('B')}-{letter}"


def _due(person: Person, case: Case, letter: str) -> date:
    return TODAY[person.country] + timedelta(days=STANDS[case.debts[letter]])


def _debts(person: Person, case: Case) -> list[Item]:
    return [
        {
            "id": _debt_id(person, letter),
            "borrower": person.id,
            "creditor": ACTORS["creditor"],
            "product": PRODUCTS[place % len(PRODUCTS)],
            "debtor_kind": "person",
            "due_date": _due(person, case, letter).isoformat(),
            "balance": _balance(person, place),
            "governing_law": person.country,
            "state": case.state,
            "state_at": case.state_at or KNOWN_AT,
        }
        for place, letter in enumerate(case.debts)
    ]


def _balance(person: Person, place: int) -> Item:
    minor = BASE[person.country] + person.number * 3_725 + place * 11_000
    return {"amount": f"{minor // 100}.{minor % 100:02d}", "currency": CURRENCIES[person.country]}


def _events(person: Person, case: Case) -> list[Item]:
    """What is reported once the reminders are in."""
    if case.event is None:
        return []
    said: Item = {"type": case.event, "at": HAPPENS_AT}
    if case.event == "promised":
        said["until"] = "2026-11-28"
    items = []
    for place, letter in enumerate(case.debts):
        debt = _debt_id(person, letter)
        paid = {"amount": _balance(person, place)} if case.event == "paid" else {}
        items.append({"idempotency_key": f"{debt}:{case.event}", "debt": debt, **said, **paid})
    return items


def _contacts(person: Person, case: Case) -> list[Item]:
    """Calls that somebody else has made."""
    if case.contact is None:
        return []
    outcome, times = case.contact
    debt = _debt_id(person, "a")
    return [
        {
            "idempotency_key": f"{debt}:call:{place}",
            "borrower": person.id,
            "debt": debt,
            "channel": "voice",
            "direction": "outbound",
            "at": f"2026-11-{time}:00Z",
            "outcome": outcome,
            "actor": {"role": "agency", "id": ACTORS["agency"]},
        }
        for place, time in enumerate(times, 1)
    ]


def _reminders(person: Person, case: Case) -> list[Item]:
    return [_reminder(person, case, step, place) for place, step in enumerate(case.steps, 1)]


def _reminder(person: Person, case: Case, step: Step, place: int) -> Item:
    debt = _debt_id(person, step.debt)
    item: Item = {
        "idempotency_key": f"{debt}:{step.template}:{place}",
        "borrower": person.id,
        "debt": debt,
        "purpose": PURPOSES[step.template],
        "actor": {"role": case.role, "id": ACTORS[case.role]},
        "channels": list(step.channels),
        "template": step.template,
        "facts": {"pay_url": f"https://pay.example.com/{debt}"},
        "priority": step.priority,
        **_times(person, case, step),
    }
    if case.recipient != "debtor":
        item["recipient_role"] = case.recipient
    if step.repeat:
        item["repeat"] = True
    return item


def _times(person: Person, case: Case, step: Step) -> Item:
    match step.when:
        case When.NOW:
            return {}
        case When.ANCHORED:
            return {"anchor": {"due": "-3d", "at": "11:30"}}
        case When.MORNING:
            return {"not_before": MORNING[person.country]}
        case When.AFTERNOON:
            return {"not_before": LATE}
        case When.OVERNIGHT:
            return {"expires_at": OVERNIGHT}
        case When.LATER:
            days = ANCHORS[step.template]
            expires = _due(person, case, step.debt) + timedelta(days=days + 2)
            return {"anchor": {"due": f"{days:+d}d", "at": "10:00"}, "expires_at": f"{expires}T12:00:00Z"}


def accounts(ports: Mapping[str, int], *, mode: str = "live") -> str:
    """An accounts.toml for the simulators, by their ports (`twilio aliyun wechat smtp`).

    Mainland numbers go by Aliyun, all others by Twilio. Credentials: the variables named SIM_… below. `pace` is what
    simulators take; a real sender's is what its provider grants.
    """
    return ACCOUNTS.format(mode=mode, **ports)


ACCOUNTS = """\
[[account]]
name = "sms-cn"
tenant = "default"
mode = "{mode}"
adapter = "aliyun_sms"
endpoint = "http://127.0.0.1:{aliyun}"
sender = "示例信贷"
price = {{amount = "0.045", currency = "CNY"}}
[account.credentials]
access_key_id = "env:SIM_ALIYUN_KEY_ID"
access_key_secret = "env:SIM_ALIYUN_KEY_SECRET"
[account.settings]
countries = ["CN"]

[[account]]
name = "sms-intl"
tenant = "default"
mode = "{mode}"
adapter = "twilio_sms"
endpoint = "http://127.0.0.1:{twilio}"
sender = "+15005550006"
price = {{amount = "0.0079", currency = "USD"}}
[account.credentials]
account_sid = "env:SIM_TWILIO_ACCOUNT_SID"
auth_token = "env:SIM_TWILIO_AUTH_TOKEN"
[account.settings]
except_countries = ["CN"]
pace = 500

[[account]]
name = "voice"
tenant = "default"
mode = "{mode}"
adapter = "twilio_voice"
endpoint = "http://127.0.0.1:{twilio}"
sender = "+15005550006"
price = {{amount = "0.014", currency = "USD"}}
[account.credentials]
account_sid = "env:SIM_TWILIO_ACCOUNT_SID"
auth_token = "env:SIM_TWILIO_AUTH_TOKEN"
[account.settings]
pace = 500

[[account]]
name = "mail"
tenant = "default"
mode = "{mode}"
adapter = "smtp"
endpoint = "smtp://127.0.0.1:{smtp}"
sender = "reminders@example.com"
price = {{amount = "0.0001", currency = "USD"}}

[[account]]
name = "wechat"
tenant = "default"
mode = "{mode}"
adapter = "wechat"
endpoint = "http://127.0.0.1:{wechat}"
sender = "wxexample00000001"
price = {{amount = "0", currency = "CNY"}}
[account.credentials]
app_secret = "env:SIM_WECHAT_SECRET"
token = "env:SIM_WECHAT_TOKEN"
"""
