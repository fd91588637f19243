"""The words of the gateway as values: frozen, keyword-only, one meaning each (docs/words.md)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from functools import lru_cache
from typing import NewType, TypeAlias

from gateway.masking import Pii
from gateway.values import dataclass

Tenant = NewType("Tenant", str)
"""A tenant's name and the mode of the key, `acme/live` or `acme/test`: two worlds that share nothing."""

Approvals: TypeAlias = Mapping[tuple[str, int, str], bool]
"""What was said of templates, by name, version and content hash."""


class Mode(StrEnum):
    """Whether a key, an account and all that hangs on them reach people or only simulators."""

    LIVE = "live"
    TEST = "test"


class Channel(StrEnum):
    """A medium through which the gateway itself reaches a borrower."""

    SMS = "sms"
    EMAIL = "email"
    WECHAT = "wechat"
    VOICE = "voice"


class Purpose(StrEnum):
    """Why a reminder is sent; rules exempt or allow some of these."""

    SERVICE_NOTICE = "service_notice"
    PRE_DUE_REMINDER = "pre_due_reminder"
    DUE_TODAY = "due_today"
    COLLECTION = "collection"
    STATUTORY_NOTICE = "statutory_notice"
    NOTICE_TERMINATING = "notice_terminating"
    NOTICE_MAY_INVOKE_REMEDY = "notice_may_invoke_remedy"
    NOTICE_INTENDS_REMEDY = "notice_intends_remedy"
    RESPONSE_TO_INBOUND = "response_to_inbound"
    CONSENT_REQUEST = "consent_request"
    OPTOUT_CONFIRMATION = "optout_confirmation"
    RELAY_REQUEST = "relay_request"


class ActorRole(StrEnum):
    """On whose behalf the borrower is reached."""

    CREDITOR = "creditor"
    SERVICER = "servicer"
    AGENCY = "agency"
    DEBT_BUYER = "debt_buyer"
    LAW_FIRM = "law_firm"


class AddressKind(StrEnum):
    """What is known of an address; a workplace's number joins nobody into one person."""

    PERSONAL = "personal"
    HOME = "home"
    WORKPLACE = "workplace"
    SHARED = "shared"
    UNKNOWN = "unknown"


class DebtState(StrEnum):
    """What the debt is now; all but `open` hold or end its reminders."""

    OPEN = "open"
    PAID = "paid"
    DISPUTED = "disputed"
    PROMISED = "promised"
    HARDSHIP = "hardship"


class Priority(StrEnum):
    """The order among what is due; `rank` is what the store sorts by."""

    URGENT = "urgent"
    NORMAL = "normal"
    BULK = "bulk"

    @property
    def rank(self) -> int:
        """0 goes first."""
        return list(Priority).index(self)


class ReminderState(StrEnum):
    """Where a reminder stands; docs/states.md says for each what to do next."""

    WAITING = "waiting"
    DEFERRED = "deferred"
    SENDING = "sending"
    SENT = "sent"
    DELIVERED = "delivered"
    READ = "read"
    FAILED = "failed"
    UNKNOWN = "unknown"
    SUPPRESSED = "suppressed"
    EXPIRED = "expired"
    CANCELLED = "cancelled"


class Outcome(StrEnum):
    """A provider's word about an attempt (design §2), at once or by callback."""

    ACCEPTED = "accepted"
    DELIVERED = "delivered"
    READ = "read"
    REJECTED = "rejected"
    FAILED = "failed"
    UNKNOWN = "unknown"
    ANSWERED = "answered"
    VOICEMAIL = "voicemail"
    NO_ANSWER = "no_answer"
    BUSY = "busy"
    CONVERSATION = "conversation"


class HandOver(StrEnum):
    """How one adapter call ended (field/channels.md §0); all but two of these became no contact."""

    ACCEPTED = "accepted"
    NOT_SENT = "not_sent"
    RETRY_AFTER = "retry_after"
    PERMANENT_RECIPIENT = "permanent_recipient"
    OPT_OUT = "opt_out"
    CONTENT = "content"
    CONFIG = "config"
    EXPIRED = "expired"
    UNKNOWN = "unknown"

    @property
    def outcome(self) -> Outcome:
        """The attempt's state that this ending gives."""
        match self:
            case HandOver.ACCEPTED:
                return Outcome.ACCEPTED
            case HandOver.UNKNOWN:
                return Outcome.UNKNOWN
            case _:
                return Outcome.REJECTED


class Action(StrEnum):
    """What findings add up to."""

    SEND = "send"
    DEFER = "defer"
    SUPPRESS = "suppress"


@dataclass(frozen=True, slots=True, kw_only=True)
class Money:
    """An exact amount of one ISO 4217 currency."""

    amount: Decimal
    currency: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Actor:
    """Who reaches out: a role and the service's own id of it."""

    role: ActorRole
    id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """One configured adapter. `credentials` and `settings` are what the adapter's own models ask for."""

    tenant: Tenant
    name: str
    mode: Mode
    adapter: str
    sender: str
    endpoint: str | None = None
    price: Money | None = None
    credentials: Mapping[str, Pii[str]] = field(default_factory=dict)
    settings: Mapping[str, str] = field(default_factory=dict)
    weight: int | None = None
    """This tenant's share where several share the account; None: the account is its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendered:
    """What a borrower will read or hear.

    `text` is the whole of it (voice: all that is said before a keypress); `second` is voice's second
    stage, said only after 1 was pressed. Where the provider takes no free text, `code` is its own
    template code and `variables` what fills it, and `text` is what the provider will make of them.
    `segments` counts SMS parts (1 elsewhere); `sha256` is of the UTF-8 text (both stages, newline between).
    """

    language: str
    text: Pii[str]
    sha256: str
    segments: int = 1
    subject: Pii[str] | None = None
    second: Pii[str] | None = None
    code: str | None = None
    variables: Mapping[str, Pii[str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One call an adapter is asked to make. `ref` (at_…) travels to the provider.

    `deliver_by`: the provider must not deliver after it (closing hour, expiry), aware UTC.
    `callback_url`: where this attempt's receipts go, `{public}/cb/{adapter}/{account}/{ref}`.
    `unsubscribe_url`: a one-click address, for channels that carry one.
    """

    ref: str
    address: Pii[str]
    rendered: Rendered
    now: datetime
    deliver_by: datetime
    callback_url: str
    unsubscribe_url: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Handed:
    """How a call ended: its class, the provider's id and code, and when it may be tried again.

    `code` is the provider's own word; `reach`, for `retry_after`, says whom it concerns:
    `recipient`, `account` (until the provider's midnight) or `rate`.
    """

    ending: HandOver
    provider_id: str | None = None
    code: str | None = None
    retry_after: timedelta | None = None
    reach: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """A provider's word about an attempt. `ref` or `provider_id` names the attempt.

    `at` is the instant the provider gives, None where it gives none. `opt_out`: the person refused.
    `address_dead`: this address can never work on this channel. `refusal`, with the outcome `rejected`: it was taken,
    and given up because there was too much, before anybody was reached; what a refusal of the call would have said.
    """

    outcome: Outcome
    ref: str | None = None
    provider_id: str | None = None
    at: datetime | None = None
    code: str | None = None
    opt_out: bool = False
    address_dead: bool = False
    refusal: Handed | None = None


@dataclass(frozen=True, slots=True)
class NotShown:
    """A provider answered in full what it was asked, and nothing in it can be the attempt that was asked about."""


def queue_of(channel: Channel, tenant: Tenant, template: str, priority: int) -> str:
    """What waits together: reminders of one queue need the same quotas, and go in the order of their due times."""
    return f"{channel}|{tenant}|{template}|{priority}"


def aware(value: datetime) -> datetime:
    """Refuse an instant without a zone; give it in UTC."""
    if value.tzinfo is UTC:
        return value
    if value.tzinfo is None:
        raise ValueError("an instant needs a UTC offset")
    return value.astimezone(UTC)


EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def to_us(instant: datetime) -> int:
    """Integer microseconds since 1970 UTC, as the store keeps instants."""
    since = aware(instant) - EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def from_us(us: int) -> datetime:
    """The aware UTC instant of integer microseconds."""
    return EPOCH + timedelta(0, 0, us)  # by place: half of what it costs by name


_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_PAIRS = [one + other for one in _CROCKFORD for other in _CROCKFORD]


def ulid(prefix: str, at_us: int, entropy: bytes) -> str:
    """Prefix + ULID of an instant (µs) and 10 bytes of entropy: sorts by time, cannot be guessed."""
    drawn = int.from_bytes(entropy[:10], "big")
    return _begun(prefix, at_us // 1000) + "".join(
        [_PAIRS[(drawn >> at) & 1023] for at in range(70, -1, -10)]
    )


@lru_cache(64)
def _begun(prefix: str, at_ms: int) -> str:
    """What all have in common that are made of one instant: 48 bits."""
    return prefix + "".join([_PAIRS[(at_ms >> at) & 1023] for at in range(40, -1, -10)])
