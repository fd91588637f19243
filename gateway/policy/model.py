"""The values of the rule language: packs and rules, the question, its history, and what is answered.

Rules and packs compare by identity: each is loaded once, and identity makes them cheap keys.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from datetime import date, datetime, timedelta
from typing import ClassVar, NamedTuple

from gateway.domain import Action
from gateway.values import dataclass

CHAT = frozenset({"wechat", "wecom", "whatsapp"})
"""The class of channels that a rule may name `chat`."""

CHANNELS = frozenset({"sms", "email", "voice", "letter", "fax", "visit", *CHAT})
OUTCOMES = frozenset(
    {"sent", "delivered", "read", "undelivered", "failed", "answered", "voicemail", "no_answer", "busy"}
    | {"invalid", "conversation", "unknown"}
)
UNKNOWN = "unknown"
"""The outcome that counts in every cap and spacing and starts nothing."""

FAILURES = frozenset({"no_answer", "busy", "invalid"})
FORCES = frozenset({"law", "presumption", "guideline", "standard", "self", "operator", "draft"})
PER = ("borrower", "debt", "creditor", "address", "recipient_role", "actor")
FORMS = ("oral", "written", "separate")
"""How a consent was given, the weaker before the stronger (`separate`: an instrument of its own)."""

TECHNOLOGIES = frozenset({"live", "prerecorded", "ai_voice"})
"""Who or what speaks: a person, a fixed text by machine, a machine that answers."""

WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")

Fact = str | int | float | bool | date | datetime | None
"""A value that was looked up; a date or an instant may come as its ISO 8601 text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hours:
    """Seconds of a local day, half-open: `open` is inside, `close` is not."""

    open: int
    close: int


@dataclass(frozen=True, slots=True, kw_only=True)
class HolidayHours:
    """The hours that hold on a holiday of `calendar` instead of the date's own."""

    calendar: str
    hours: Hours


@dataclass(frozen=True, slots=True, kw_only=True)
class Above:
    """True of a fact that is greater than `gt`; one that is not set is 0."""

    fact: str
    gt: float


LOOKBACK = timedelta(days=75)
"""How far back contacts are known to a decision, but for a conversation, which is known however long ago it was."""
MOST_DAYS = 73
"""What a rule may count back at most: so many local dates begin within LOOKBACK in every zone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dates:
    """Today and the n - 1 local dates before it."""

    n: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Elapsed:
    """Less than so many seconds ago."""

    seconds: int


@dataclass(frozen=True, slots=True, kw_only=True)
class IsoWeek:
    """The same week, Monday to Sunday."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Month:
    """The same calendar month."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FromFact:
    """The local date that lies `plus_dates` after the fact's."""

    fact: str
    plus_dates: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Relaxed:
    """By which consent a rule gives way: of that form at least, for so many dates, its attempts flagged so."""

    form: str | None = None
    dates: int | None = None
    flag: str | None = None


Span = Dates | Elapsed | IsoWeek | Month
"""A window of time that events are counted in."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Rule:
    """What every rule has. `zone` None means each of the borrower's zones, one by one."""

    id: str
    pack: str = ""
    version: str = ""
    cite: str = ""
    force: str = "law"
    source: str = ""
    checked: date | None = None
    channels: frozenset[str] | None = None
    zone: str | None = None
    since: date | None = None
    until: date | None = None
    since_fact: FromFact | None = None
    until_fact: FromFact | None = None
    purposes: frozenset[str] | None = None
    exempt_purposes: frozenset[str] = frozenset()
    exempt_flags: frozenset[str] = frozenset()
    actors: frozenset[str] | None = None
    institutions: frozenset[str] | None = None
    products: frozenset[str] | None = None
    technologies: frozenset[str] | None = None
    adapters: frozenset[str] | None = None
    relaxed_by: Relaxed | None = None
    unsure: str = ""
    note: str = ""

    @property
    def in_shadow(self) -> bool:
        """A draft, or a rule we are unsure of, is evaluated and shown, and never objects."""
        return self.force == "draft" or bool(self.unsure)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Window(Rule):
    """Hours of contact. `week`: those of each weekday, Monday first; `workdays`: those of working days."""

    kind: ClassVar[str] = "window"
    week: tuple[tuple[Hours, ...], ...]
    workdays: tuple[Hours, ...] = ()
    workday_calendar: str | None = None
    closed_on_holidays: str | None = None
    holiday_as: HolidayHours | None = None
    address_kinds: frozenset[str] | None = None
    not_if: Above | None = None
    calendars: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        """Gather the calendars that the rule names."""
        holiday = self.holiday_as.calendar if self.holiday_as is not None else None
        named = (self.closed_on_holidays, holiday, self.workday_calendar)
        object.__setattr__(self, "calendars", tuple(name for name in named if name is not None))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Cap(Rule):
    """At most `max` events in the span, this one included; only to an address of `address_kinds`, where named."""

    kind: ClassVar[str] = "cap"
    max: int
    window: Span
    per: tuple[str, ...] = ()
    count_outcomes: frozenset[str] | None = None
    exclude_outcomes: frozenset[str] = frozenset()
    exclude_flags: frozenset[str] = frozenset()
    only_after: frozenset[str] | None = None
    address_kinds: frozenset[str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Cooldown(Rule):
    """Silence after an event with one of the outcomes `after`."""

    kind: ClassVar[str] = "cooldown"
    after: frozenset[str]
    rest: Dates | Elapsed
    per: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Spacing(Rule):
    """Silence after any event."""

    kind: ClassVar[str] = "spacing"
    rest: Dates | Elapsed
    per: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ChannelLock(Rule):
    """After such an event, only a channel that one of them used."""

    kind: ClassVar[str] = "channel_lock"
    after: frozenset[str]
    window: Span
    per: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Prerequisite(Rule):
    """A dated fact that must be there, old enough, and no more than `within_dates` old."""

    kind: ClassVar[str] = "prerequisite"
    fact: str
    dates: int
    within_dates: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Hold(Rule):
    """A fact that stops everything but some purposes."""

    kind: ClassVar[str] = "hold"
    fact: str
    allow_purposes: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class HoldUntil(Rule):
    """A dated fact that stops everything before its date and `plus_dates`."""

    kind: ClassVar[str] = "hold_until"
    fact: str
    plus_dates: int
    unless: str | None = None
    allow_purposes: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class OptOut(Rule):
    """`optout_at` stops everything but one confirmation in time."""

    kind: ClassVar[str] = "opt_out"
    confirm_within_s: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ThirdParty(Rule):
    """Others than the debtor only for these purposes, after so many failed calls to the debtor, and dates later."""

    kind: ClassVar[str] = "third_party"
    roles: frozenset[str]
    fails: int
    delay_dates: int
    only_purposes: frozenset[str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Refusal(Rule):
    """Nobody of these roles who refused."""

    kind: ClassVar[str] = "refusal"
    roles: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BorrowerWindow(Rule):
    """The hours and places that the borrower asked for, or asked to be spared."""

    kind: ClassVar[str] = "borrower_window"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Blackout(Rule):
    """No contact during an event of these reasons (None: any)."""

    kind: ClassVar[str] = "blackout"
    reasons: frozenset[str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ConsentRequired(Rule):
    """Only with a consent to contact in at least that form, or with a fact that stands for it."""

    kind: ClassVar[str] = "consent_required"
    form: str | None = None
    unless: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Coverage(Rule):
    """Only on dates that these calendars cover, with time-zone data of that release at least."""

    kind: ClassVar[str] = "coverage"
    calendars: tuple[str, ...] = ()
    tzdata: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Review(Rule):
    """While the fact is set a human must look first."""

    kind: ClassVar[str] = "review"
    fact: str
    allow_purposes: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Content(Rule):
    """What a text must hold and must not; blocks by name (gateway.policy.content)."""

    kind: ClassVar[str] = "content"
    require: tuple[str, ...] = ()
    forbid: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """So many years or days from the event, the last contact, or the debt's closure."""

    years: int | None = None
    days: int | None = None
    start: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Retention(Rule):
    """How long records of these classes are kept at least, and at most."""

    kind: ClassVar[str] = "retention"
    records: frozenset[str]
    min: Kept | None = None
    max: Kept | None = None


AnyRule = (
    Window
    | Cap
    | Cooldown
    | Spacing
    | ChannelLock
    | Prerequisite
    | Hold
    | HoldUntil
    | OptOut
    | ThirdParty
    | Refusal
    | BorrowerWindow
    | Blackout
    | ConsentRequired
    | Coverage
    | Review
    | Content
    | Retention
)

FINAL = (Hold, OptOut, Refusal)
"""Kinds whose objection at the judged instant is the last word."""

UNJUDGED = (Content, Retention)
"""Kinds that have no word in a decision: one speaks of texts, the other of records."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pack:
    """Rules of one legal source. `applies`: ISO 3166 codes, or one of `everyone`, `elsewhere`, `assigned`.

    `review_by`: the date by which somebody must have looked again.
    `answered_as`: the outcome that an answered call, not surely a machine, counts as.
    `holidays` "residence": its hours close on the holidays of the borrower's place.
    `broken`: why it could not be read; nothing is sent to whom it applies.
    `digest`: the SHA-256 of its text, in hex.
    """

    id: str
    rules: tuple[AnyRule, ...]
    version: str = ""
    title: str = ""
    since: date | None = None
    until: date | None = None
    review_status: str = ""
    review_by: date | None = None
    source: str = ""
    applies: tuple[str, ...] = ()
    answered_as: str | None = None
    holidays: str | None = None
    broken: str = ""
    digest: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """The reminder that is judged. Keys are opaque; one that is None matches every event's."""

    channel: str
    borrower: str | None = None
    debt: str | None = None
    creditor: str | None = None
    address: str | None = None
    purpose: str | None = None
    address_kind: str | None = None
    recipient_role: str = "debtor"
    flags: frozenset[str] = frozenset()
    technology: str | None = None
    adapter: str | None = None
    actor: str | None = None
    actor_role: str | None = None
    institution: str | None = None
    product: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """An earlier contact. It exists from its own second on."""

    at: datetime
    channel: str
    outcome: str = UNKNOWN
    borrower: str | None = None
    debt: str | None = None
    creditor: str | None = None
    address: str | None = None
    recipient_role: str = "debtor"
    flags: frozenset[str] = frozenset()
    technology: str | None = None
    adapter: str | None = None
    actor: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Consent:
    """To be contacted (`contact`) or to named rules giving way (`relax`); `channel` None means every one."""

    kind: str
    given_at: datetime
    rules: frozenset[str] = frozenset()
    channel: str | None = None
    form: str | None = None
    until: datetime | None = None
    revoked_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnWindow:
    """Hours that the borrower allows or denies, on weekdays `on` of the local dates [since, until)."""

    kind: str
    on: frozenset[str] = frozenset(WEEKDAYS)
    hours: Hours = Hours(open=0, close=24 * 3600)
    channels: frozenset[str] | None = None
    address_kinds: frozenset[str] | None = None
    since: date | None = None
    until: date | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Absence:
    """An event of the borrower's or of their place, on local dates [since, until): `reason` says which."""

    reason: str
    since: date
    until: date | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What the borrower has told: consents, hours of their own, events during which to leave them alone."""

    consents: tuple[Consent, ...] = ()
    windows: tuple[OwnWindow, ...] = ()
    blackouts: tuple[Absence, ...] = ()


NOTHING_TOLD = Told()


class Finding(NamedTuple):
    """One rule's word in one zone (a tuple, as a decision makes dozens).

    `next`: when this rule alone stops objecting there, None when it does not before the horizon.
    `note` says what else there is to know (a calendar that ends).
    """

    of: AnyRule
    channel: str
    zone: str
    objects: bool
    counted: int | None = None
    next: datetime | None = None
    note: str | None = None

    @property
    def shadow(self) -> bool:
        """True of a rule in shadow that would object."""
        return self.objects and self.of.in_shadow

    @property
    def max(self) -> int | None:
        """The most that the rule lets through, where it counts."""
        return self.of.max if isinstance(self.of, Cap) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What all rules say together.

    `calendar_ends`: the note on a calendar whose end barred the search for an opening.
    """

    action: Action
    until: datetime | None
    findings: tuple[Finding, ...]
    calendar_ends: str | None = None

    @property
    def objecting(self) -> tuple[Finding, ...]:
        """The findings that stand in the way, in the order of the rules."""
        return tuple(f for f in self.findings if f.objects and not f.of.in_shadow)


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What a worked case must answer."""

    action: Action
    until: datetime | None
    rules: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One question with everything needed to answer it."""

    id: str
    title: str
    packs: tuple[Pack, ...]
    zones: tuple[str, ...]
    at: datetime
    question: Question
    history: tuple[Event, ...] = ()
    facts: Mapping[str, Fact] = field(default_factory=dict)
    told: Told = NOTHING_TOLD
    horizon_days: int = 75
    expected: Expected | None = None
