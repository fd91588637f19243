"""What is sent and what comes back, as the API spells it: typed dictionaries, no classes to convert to.

Where an instant, a date or an amount is sent, give a `datetime` (with its offset), a `date` and a `Decimal`,
or their text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Generic, Literal, NotRequired, Required, TypedDict, TypeVar

T = TypeVar("T")

Channel = Literal["sms", "email", "wechat", "voice"]
Purpose = Literal[
    "service_notice",
    "pre_due_reminder",
    "due_today",
    "collection",
    "statutory_notice",
    "notice_terminating",
    "notice_may_invoke_remedy",
    "notice_intends_remedy",
    "response_to_inbound",
    "consent_request",
    "optout_confirmation",
    "relay_request",
]
ReminderState = Literal[
    "waiting",
    "deferred",
    "sending",
    "sent",
    "delivered",
    "read",
    "failed",
    "unknown",
    "suppressed",
    "expired",
    "cancelled",
]
ContactChannel = Literal["sms", "email", "voice", "wechat", "wecom", "whatsapp", "letter", "fax", "visit"]
ContactOutcome = Literal[
    "sent",
    "delivered",
    "read",
    "undelivered",
    "failed",
    "answered",
    "voicemail",
    "no_answer",
    "busy",
    "invalid",
    "conversation",
    "unknown",
]
Technology = Literal["live", "prerecorded", "ai_voice"]
DebtState = Literal["open", "paid", "disputed", "promised", "hardship"]
Instant = datetime | str
Day = date | str


class Money(TypedDict):
    """An exact amount of one ISO 4217 currency."""

    amount: Decimal | str
    currency: str


class Actor(TypedDict):
    """On whose behalf the borrower is reached."""

    role: Literal["creditor", "servicer", "agency", "debt_buyer", "law_firm"]
    id: str


class TimeZone(TypedDict):
    """Evidence of where the borrower's clock stands."""

    zone: str
    source: NotRequired[Literal["declared", "address", "service"]]


class Address(TypedDict):
    """Where a borrower is reached on one channel; phones in E.164."""

    channel: Channel
    value: str
    kind: NotRequired[Literal["personal", "home", "workplace", "shared", "unknown"]]


class Consent(TypedDict, total=False):
    """A recorded permission to contact, or to relax the rules named."""

    id: Required[str]
    kind: Required[Literal["contact", "relax"]]
    given_at: Required[Instant]
    channel: Channel | Literal["all"] | None
    rules: Sequence[str]
    form: Literal["oral", "written", "separate"] | None
    until: Instant | None
    revoked_at: Instant | None


class OptOut(TypedDict):
    """A recorded refusal of one channel or of all."""

    channel: Channel | Literal["all"]
    at: Instant


Hold = TypedDict(
    "Hold",
    {
        "id": Required[str],
        "reason": Required[str],
        "from": Required[Instant],
        "until": Instant | None,
        "allow_purposes": Sequence[Purpose],
    },
    total=False,
)
"""A hold on a borrower: nothing but the allowed purposes goes out while it lasts."""


Window = TypedDict(
    "Window",
    {
        "id": Required[str],
        "kind": Required[Literal["allow", "deny"]],
        "on": Sequence[Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]] | None,
        "open": str | None,
        "close": str | None,
        "channels": Sequence[ContactChannel] | None,
        "address_kinds": Sequence[Literal["personal", "home", "workplace", "shared", "unknown"]] | None,
        "from": Day | None,
        "until": Day | None,
    },
    total=False,
)
"""When and where the borrower asked to be contacted, or not to be, on their own clock: `"09:00"` to `"12:00"`."""


Blackout = TypedDict(
    "Blackout",
    {"id": Required[str], "reason": Required[str], "from": Required[Day], "until": Day | None},
    total=False,
)
"""Dates on which the borrower is not to be contacted."""


class Borrower(TypedDict, total=False):
    """Whom we may contact. Keys that are absent stay as they are."""

    name: str | None
    national_id: str | None
    language: str | None
    residence: str | None
    time_zones: Sequence[TimeZone] | None
    addresses: Sequence[Address] | None
    consents: Sequence[Consent] | None
    opt_outs: Sequence[OptOut] | None
    holds: Sequence[Hold] | None
    windows: Sequence[Window] | None
    blackouts: Sequence[Blackout] | None
    policy_facts: Mapping[str, Any] | None


class NamedBorrower(Borrower):
    """A borrower with its id: inline in a reminder, or in a batch."""

    id: Required[str]


class Debt(TypedDict, total=False):
    """What reminders are about. Keys that are absent stay as they are."""

    borrower: str
    creditor: str
    product: str
    portfolio: str | None
    debtor_kind: str
    due_date: Day
    balance: Money
    governing_law: str | None
    state: DebtState
    state_at: Instant
    policy_facts: Mapping[str, Any]


class NamedDebt(Debt):
    """A debt with its id: inline in a reminder, or in a batch."""

    id: Required[str]


class Anchor(TypedDict):
    """A time that follows the due date, on the borrower's clock: `{"due": "-3d", "at": "10:00"}`."""

    due: str
    at: str


class Escalation(TypedDict):
    """The next channel, if not delivered or read after so many seconds."""

    after_s: int
    channel: Channel


class NewReminder(TypedDict, total=False):
    """A request to reach one borrower about one debt."""

    idempotency_key: str
    borrower: Required[str | NamedBorrower]
    debt: Required[str | NamedDebt]
    purpose: Required[Purpose]
    channels: Required[Sequence[Channel]]
    template: Required[str]
    facts: Mapping[str, str]
    actor: Actor | None
    recipient_role: str
    not_before: Instant | None
    expires_at: Instant | None
    anchor: Anchor | None
    priority: Literal["urgent", "normal", "bulk"]
    segment: str | None
    value: str | None
    repeat: bool
    escalate: Sequence[Escalation]


class DebtEvent(TypedDict, total=False):
    """What happened to a debt: `paid` with its amount, `promised` with its date, and so on."""

    idempotency_key: str
    type: Required[Literal["paid", "disputed", "promised", "hardship", "reopened"]]
    at: Instant
    amount: Money | None
    until: Day | None
    reason: str


class DebtEventOf(DebtEvent):
    """An event with its debt's id, in a batch."""

    debt: Required[str]


class Contact(TypedDict, total=False):
    """A contact made elsewhere (a dialler, an agency, a visit): it draws on the same caps."""

    idempotency_key: str
    borrower: Required[str]
    debt: Required[str]
    channel: Required[ContactChannel]
    direction: Literal["outbound", "inbound"]
    at: Required[Instant]
    outcome: Required[ContactOutcome]
    actor: Actor | None
    technology: Technology | None
    recipient_role: str
    address: str | None
    flags: Sequence[str]
    reservation: str | None


class ContactQuestion(TypedDict, total=False):
    """What `check_contact` asks: may this borrower be reached now, on this channel, for this purpose."""

    borrower: Required[str]
    debt: Required[str]
    channel: Required[ContactChannel]
    address: str | None
    actor: Actor | None
    technology: Technology | None
    purpose: Required[Purpose]
    recipient_role: str


class Accepted(TypedDict):
    """A reminder that is in the gateway's keeping."""

    id: str
    idempotency_key: str
    state: ReminderState
    accepted_at: str


class Finding(TypedDict):
    """One rule's word."""

    rule: str
    pack: str
    version: str
    cite: str | None
    force: str | None
    objects: bool | None
    shadow: bool
    channel: Channel | None
    zone: str | None
    counted: int | None
    max: int | None
    next: str | None


class Decision(TypedDict):
    """What the findings add up to."""

    action: Literal["send", "defer", "suppress"]
    channel: Channel | None
    until: str | None
    reason: str | None
    at: str
    deliver_by: str | None
    findings: list[Finding]


class Attempt(TypedDict):
    """One try at reaching the borrower."""

    ref: str
    channel: Channel
    adapter: str
    account: str
    state: str
    started_at: str | None
    ended_at: str | None
    segments: int | None
    price: dict[str, str] | None
    code: str | None


class TemplateUsed(TypedDict):
    """The template and version that a reminder was accepted with."""

    name: str
    version: int


class Reminder(TypedDict):
    """A reminder as it stands."""

    id: str
    idempotency_key: str
    state: ReminderState
    reason: str | None
    next_at: str | None
    expires_at: str | None
    borrower: str
    debt: str
    template: TemplateUsed
    decision: Decision | None
    attempts: list[Attempt]


class Rendered(TypedDict):
    """What would be read or heard on one channel."""

    channel: Channel
    language: str
    text: str
    segments: int


class Preview(TypedDict):
    """What would be decided and rendered now; nothing is kept."""

    decision: Decision
    rendered: list[Rendered]


class Cancelled(TypedDict):
    """A reminder of which nothing more goes out: `cancelled`, or as its last contact stands."""

    id: str
    state: ReminderState


class Stored(TypedDict):
    """A borrower or debt that is in the gateway's keeping."""

    id: str
    updated_at: str


class DebtEventTaken(TypedDict):
    """What an event did: reminders stopped, and those whose provider had been called already."""

    id: str
    state: DebtState
    stopped: list[str]
    too_late: list[str]


class ContactTaken(TypedDict):
    """A contact that counts now."""

    id: str


class ContactAnswer(TypedDict):
    """Whether the borrower may be reached; `reservation` holds the place until `until`."""

    decision: Decision
    reservation: str | None
    until: str | None


class Result(TypedDict):
    """One item's answer in a batch: `body` where it was taken, `error` (a problem) where not."""

    index: int
    status: int
    body: NotRequired[dict[str, Any]]
    error: NotRequired[dict[str, Any]]


class Results(TypedDict):
    """A batch's answer, in the order of its items."""

    results: list[Result]


class Page(TypedDict, Generic[T]):
    """Some of a list and where it goes on."""

    items: list[T]
    next: str | None


class Filters(TypedDict, total=False):
    """What a list of reminders is narrowed to; `from_` and `to` bound the time of acceptance."""

    borrower: str
    debt: str
    channel: Channel
    state: ReminderState
    reason: str
    from_: Instant
    to: Instant
    limit: int
