"""The bodies of `/v1`, as pydantic models: unknown keys refused, nothing coerced, no value in any error.

A key's absence and its null differ where a PUT merges: `model_fields_set` tells them apart.
"""

from __future__ import annotations

from datetime import time
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    PrivateAttr,
    StringConstraints,
    Tag,
    ValidationInfo,
    field_validator,
    model_validator,
)

from gateway.bodies.kinds import (
    PHONES,
    AddressValue,
    Amount,
    Currency,
    Day,
    FactName,
    FactText,
    Id,
    Instant,
    Key,
    Language,
    NationalId,
    PersonName,
    Phone,
    Place,
    PolicyFact,
    Reason,
    TemplateName,
    Word,
    Zone,
    fault,
    normal_address,
    read_phone,
)
from gateway.domain import ActorRole, AddressKind, Channel, DebtState, Priority, Purpose
from gateway.masking import Pii
from gateway.policy.zones import Clue

MAX_ADDRESSES = 20
MAX_DAYS_AHEAD = 90

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
"""The words of the rule language."""


class Body(BaseModel):
    """What every body is: closed, frozen, strict."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)


def _lax(**more: Any) -> Any:
    """A field whose words come as JSON text and become members of an enum."""
    return Field(strict=False, **more)


class MoneyIn(Body):
    """An exact amount."""

    amount: Amount
    currency: Currency


class ActorIn(Body):
    """On whose behalf."""

    role: ActorRole = _lax()
    id: Id


class AddressIn(Body):
    """One address on one channel."""

    channel: Channel = _lax()
    value: AddressValue
    kind: AddressKind = _lax(default=AddressKind.UNKNOWN)
    _phone: Phone | None = PrivateAttr(default=None)

    @field_validator("value")
    @classmethod
    def _normal(cls, value: Pii[str], info: ValidationInfo) -> Pii[str]:
        if "channel" not in info.data:
            return value
        return Pii(normal_address(info.data["channel"], value.reveal("checked at intake")))

    def model_post_init(self, _: Any) -> None:
        """Keep what was read of a phone number: it takes long."""
        if self.channel in PHONES:
            self._phone = read_phone(self.value.reveal("read at intake"))

    @property
    def country(self) -> str | None:
        """A phone number's (ISO 3166)."""
        return self._phone and self._phone.country

    @property
    def clue(self) -> Clue | None:
        """What a phone number says of the zone."""
        return self._phone and self._phone.clue


class TimeZoneIn(Body):
    """Evidence of where a borrower is."""

    zone: Zone
    source: Literal["declared", "address", "service"] = "service"


class ConsentIn(Body):
    """Consent that was given: to be contacted, or to rules being relaxed."""

    id: Id
    kind: Literal["contact", "relax"]
    channel: Literal["sms", "email", "wechat", "voice", "all"] | None = None
    rules: list[Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._-]{1,64}$")]] = Field(
        default_factory=list, max_length=50
    )
    form: Literal["oral", "written", "separate"] | None = None
    given_at: Instant
    until: Instant | None = None
    revoked_at: Instant | None = None


class OptOutIn(Body):
    """A refusal to be contacted on a channel, or on all."""

    channel: Literal["sms", "email", "wechat", "voice", "all"]
    at: Instant


class HoldIn(Body):
    """A human's word that the borrower is not to be contacted."""

    id: Id
    reason: Reason
    start: Instant = Field(alias="from")
    until: Instant | None = None
    allow_purposes: list[Annotated[Purpose, Field(strict=False)]] = Field(default_factory=list, max_length=12)


Weekday = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
_CLOCK = r"([01]\d|2[0-3]):[0-5]\d"


class WindowIn(Body):
    """When and where the borrower asked to be contacted (`allow`) or not to be (`deny`), on their own clock.

    Without hours the whole day; without `on` every day. The dates are half-open: `from` is inside, `until` is not.
    """

    id: Id
    kind: Literal["allow", "deny"]
    on: list[Weekday] | None = Field(default=None, min_length=1, max_length=7)
    open: Annotated[str, StringConstraints(pattern=rf"^{_CLOCK}$")] | None = None
    close: Annotated[str, StringConstraints(pattern=rf"^({_CLOCK}|24:00)$")] | None = None
    channels: list[ContactChannel] | None = Field(default=None, min_length=1, max_length=9)
    address_kinds: list[Annotated[AddressKind, Field(strict=False)]] | None = Field(
        default=None, min_length=1, max_length=len(AddressKind)
    )
    start: Day | None = Field(default=None, alias="from")
    until: Day | None = None

    @field_validator("on", "channels", "address_kinds")
    @classmethod
    def _each_once(cls, value: list[str] | None) -> list[str] | None:
        if value is not None and len(set(value)) < len(value):
            raise fault("duplicate", "name each once")
        return value

    @model_validator(mode="after")
    def _hours(self) -> Self:
        if (self.open is None) is not (self.close is None) or (
            self.open is not None and self.close is not None and self.open >= self.close
        ):
            raise fault("hours_invalid", "give `open` and `close`, the earlier first, or neither of them")
        return self


class BlackoutIn(Body):
    """Dates on which the borrower is not to be contacted, and why: a mourning, a moratorium, a disaster."""

    id: Id
    reason: Word
    start: Day = Field(alias="from")
    until: Day | None = None


PolicyFacts = Annotated[dict[FactName, PolicyFact], Field(max_length=50)]

FROM_THE_DEBT = frozenset({"amount", "due_date", "dpd"})
"""Facts that the gateway takes from the debt itself, at the moment of deciding."""


class _HasFacts(Body):
    policy_facts: PolicyFacts | None = None

    @field_validator("policy_facts")
    @classmethod
    def _not_ours(cls, value: dict[str, Any] | None) -> dict[str, Any] | None:
        if value and not FROM_THE_DEBT.isdisjoint(value):
            raise fault("fact_reserved", "leave out amount, due_date and dpd: they come from the debt itself")
        return value


class BorrowerIn(_HasFacts):
    """What a PUT carries; keys that are absent stay as they are."""

    name: PersonName | None = None
    national_id: NationalId | None = None
    language: Language | None = None
    residence: Place | None = None
    time_zones: list[TimeZoneIn] | None = Field(default=None, max_length=10)
    addresses: list[AddressIn] | None = Field(default=None, max_length=MAX_ADDRESSES)
    consents: list[ConsentIn] | None = Field(default=None, max_length=50)
    opt_outs: list[OptOutIn] | None = Field(default=None, max_length=20)
    holds: list[HoldIn] | None = Field(default=None, max_length=20)
    windows: list[WindowIn] | None = Field(default=None, max_length=50)
    blackouts: list[BlackoutIn] | None = Field(default=None, max_length=20)

    @field_validator("addresses")
    @classmethod
    def _each_once(cls, value: list[AddressIn] | None) -> list[AddressIn] | None:
        seen = [(a.channel, a.value.reveal("compared").casefold()) for a in value or ()]
        if len(set(seen)) < len(seen):
            raise fault("duplicate", "give each address of a channel once")
        return value


class BorrowerItem(BorrowerIn):
    """A borrower inline or in a batch: its id, and what a PUT carries."""

    id: Id


class DebtIn(_HasFacts):
    """What a PUT carries; keys that are absent stay as they are."""

    borrower: Id | None = None
    creditor: Id | None = None
    product: Word | None = None
    portfolio: Id | None = None
    debtor_kind: Word | None = None
    due_date: Day | None = None
    balance: MoneyIn | None = None
    governing_law: Place | None = None
    state: DebtState | None = _lax(default=None)
    state_at: Instant | None = None

    @field_validator(
        "borrower", "creditor", "product", "debtor_kind", "due_date", "balance", "state", "state_at"
    )
    @classmethod
    def _never_null(cls, value: Any) -> Any:
        if value is None:
            raise fault("null_refused", "give a value, or leave the key out to keep what is there")
        return value


class DebtItem(DebtIn):
    """A debt inline or in a batch: its id, and what a PUT carries."""

    id: Id


def _by_shape(value: Any) -> str:
    return "~id" if isinstance(value, str) else "~inline"


BorrowerRef = Annotated[
    Annotated[Id, Tag("~id")] | Annotated[BorrowerItem, Tag("~inline")], Discriminator(_by_shape)
]
DebtRef = Annotated[Annotated[Id, Tag("~id")] | Annotated[DebtItem, Tag("~inline")], Discriminator(_by_shape)]


class AnchorIn(Body):
    """A time that follows the debt's due date, on the borrower's clock."""

    due: Annotated[str, StringConstraints(pattern=r"^[+-]?\d{1,2}d$")]
    at: Annotated[str, StringConstraints(pattern=r"^([01]\d|2[0-3]):[0-5]\d$")]

    @property
    def days(self) -> int:
        """Days after the due date; negative before it."""
        return int(self.due[:-1])

    @property
    def clock(self) -> time:
        """The time on the wall."""
        return time.fromisoformat(self.at)


class StepIn(Body):
    """One step of an escalation: the next channel, unless it was delivered or read by then."""

    after_s: Annotated[int, Field(ge=60, le=30 * 86400)]
    channel: Channel = _lax()


class ReminderIn(Body):
    """A request to reach one borrower about one debt."""

    idempotency_key: Key | None = None
    borrower: BorrowerRef
    debt: DebtRef
    purpose: Purpose = _lax()
    actor: ActorIn | None = None
    recipient_role: Word = "debtor"
    channels: list[Annotated[Channel, Field(strict=False)]] = Field(min_length=1, max_length=len(Channel))
    template: TemplateName
    facts: Annotated[dict[FactName, FactText], Field(max_length=50)] = Field(default_factory=dict)
    not_before: Instant | None = None
    expires_at: Instant | None = None
    anchor: AnchorIn | None = None
    priority: Priority = _lax(default=Priority.NORMAL)
    segment: Id | None = None
    value: Id | None = None
    repeat: bool = False
    escalate: list[StepIn] = Field(default_factory=list, max_length=4)

    @field_validator("channels")
    @classmethod
    def _each_once(cls, value: list[Channel]) -> list[Channel]:
        if len(set(value)) < len(value):
            raise fault("duplicate", "name each channel once")
        return value

    @property
    def borrower_id(self) -> str:
        """The borrower's id, inline or not."""
        return self.borrower if isinstance(self.borrower, str) else self.borrower.id

    @property
    def debt_id(self) -> str:
        """The debt's id, inline or not."""
        return self.debt if isinstance(self.debt, str) else self.debt.id


class CancelIn(Body):
    """Why a reminder is cancelled."""

    reason: Reason = ""


class ThawIn(Body):
    """Why calls may be made again after a failover."""

    reason: Annotated[Reason, Field(min_length=1)]


EventType = Literal["paid", "disputed", "promised", "hardship", "reopened"]


class EventIn(Body):
    """Something that happened to a debt."""

    idempotency_key: Key | None = None
    type: EventType
    at: Instant | None = None
    amount: MoneyIn | None = None
    until: Day | None = None
    reason: Reason = ""

    @model_validator(mode="after")
    def _fits_its_type(self) -> Self:
        if (self.type == "promised") is not (self.until is not None):
            raise fault(
                "until_needed", "a promise has `until`, the date it was made for; nothing else has one"
            )
        if self.amount is not None and self.type != "paid":
            raise fault("amount_unwanted", "only `paid` has an amount")
        return self


class EventItem(EventIn):
    """An event in a batch."""

    debt: Id


class ContactIn(Body):
    """A contact that was made elsewhere."""

    idempotency_key: Key | None = None
    borrower: Id
    debt: Id
    channel: ContactChannel
    direction: Literal["outbound", "inbound"] = "outbound"
    at: Instant
    outcome: ContactOutcome
    actor: ActorIn | None = None
    technology: Technology | None = None
    recipient_role: Word = "debtor"
    address: AddressValue | None = None
    flags: list[Word] = Field(default_factory=list, max_length=10)
    reservation: Id | None = None

    @field_validator("address")
    @classmethod
    def _normal(cls, value: Pii[str] | None, info: ValidationInfo) -> Pii[str] | None:
        return _normal(value, info)


class CheckIn(Body):
    """The question whether this borrower may be contacted now, by somebody else's hand.

    A call is taken to be a person's own voice unless `technology` says otherwise.
    """

    borrower: Id
    debt: Id
    channel: ContactChannel
    address: AddressValue | None = None
    actor: ActorIn | None = None
    technology: Technology | None = "live"
    purpose: Purpose = _lax()
    recipient_role: Word = "debtor"

    @field_validator("address")
    @classmethod
    def _normal(cls, value: Pii[str] | None, info: ValidationInfo) -> Pii[str] | None:
        return _normal(value, info)


def _normal(value: Pii[str] | None, info: ValidationInfo) -> Pii[str] | None:
    if value is None or "channel" not in info.data:
        return value
    return Pii(normal_address(info.data["channel"], value.reveal("checked at intake")))
