"""What the example borrowers are there to show: one case each, with how many of them live where."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class When(StrEnum):
    """When a reminder may go out. `not_before` sets morning and afternoon, both of the 25th."""

    NOW = "now"
    ANCHORED = "anchored"
    """Three days before the due date, at 11:30."""
    MORNING = "morning"
    AFTERNOON = "afternoon"
    OVERNIGHT = "overnight"
    """At once, but expiring at 20:00Z."""
    LATER = "later"
    """Beyond the demo, by an anchor."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One reminder: about which of the borrower's debts, with which template, how and when."""

    debt: str
    template: str
    channels: tuple[str, ...]
    when: When = When.NOW
    priority: str = "normal"
    repeat: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One kind of borrower. `debts` maps a letter to how the debt stands: pre, due, yesterday, gentle, firm.

    `endings` are the last digits that their phone numbers take in turn, `mail` begins their e-mail
    addresses and `openid` ends their openids: from these the simulators read what to do. `contact` is the
    outcome of calls made elsewhere, and when (day and time of November, UTC); `place` puts them elsewhere
    than their numbers say.
    """

    name: str
    says: str
    where: Mapping[str, int]
    debts: Mapping[str, str]
    steps: tuple[Step, ...]
    endings: str = "046"
    has: tuple[str, ...] = ("sms", "email", "wechat")
    mail: str = ""
    openid: str = ""
    sms_kind: str = "personal"
    shared: bool = False
    place: str | None = None
    state: str = "open"
    state_at: str | None = None
    event: str | None = None
    opt_out: str | None = None
    hold: Mapping[str, str | None] | None = None
    borrower_facts: Mapping[str, str] = field(default_factory=dict)
    contact: tuple[str, tuple[str, ...]] | None = None
    role: str = "creditor"
    recipient: str = "debtor"


def _s(text: str) -> tuple[Step, ...]:
    """Steps from lines of `debt template channel,channel when [priority] [repeat]`."""
    return tuple(_step(*line.split()) for line in text.strip().splitlines())


def _step(
    debt: str, template: str, channels: str, when: str, priority: str = "normal", repeat: str = ""
) -> Step:
    return Step(
        debt=debt,
        template=template,
        channels=tuple(channels.split(",")),
        when=When(when),
        priority=priority,
        repeat=repeat == "repeat",
    )


TWO_OVERDUE = {"a": "gentle", "b": "gentle"}
SERIES = _s("""
    a overdue_gentle sms,email now
    a care email now
    b overdue_gentle sms,email now
    a overdue_firm sms later
    b overdue_firm sms later
    b care email later
""")
ONE_SMS = _s("""
    a overdue_gentle sms now
    a overdue_firm sms later
    b due_today sms later
""")
ONE_EMAIL = _s("""
    a overdue_gentle email,sms now
    a overdue_firm email later
""")
ONE_NOW = {"a": "gentle", "b": "pre"}
TWO_CALLS = _s("""
    a overdue_firm voice now
    b overdue_firm voice now
    a care voice later
    b care voice later
""")
ONE_CALL = _s("""
    a overdue_firm voice now
    a care voice later
""")

CASES: tuple[Case, ...] = (
    Case(
        name="pre_due",
        says="three payments ahead; the first reminder is anchored to three days before",
        where={"CN": 14, "US": 4, "IN": 3, "GB": 2},
        debts={"a": "pre", "b": "pre2", "c": "pre2"},
        steps=_s("""
            a pre_due wechat,sms anchored
            b pre_due email,sms now
            c pre_due sms morning
            a due_today wechat,sms later
            b due_today sms later
            c due_today sms later
        """),
    ),
    Case(
        name="due_today",
        says="one payment due on the day the reminder goes out, one ahead, one overdue",
        where={"CN": 10, "US": 3, "IN": 3, "GB": 2},
        debts={"a": "due", "b": "pre2", "c": "gentle"},
        steps=_s("""
            a due_today wechat,sms now
            b pre_due email,sms now
            c overdue_gentle sms now
            a overdue_gentle sms later
            b due_today sms later
            c overdue_firm sms later
        """),
    ),
    Case(
        name="overdue",
        says="two payments overdue; a firm text follows 30 days after the due date",
        where={"CN": 13, "US": 4, "IN": 2, "GB": 2},
        debts=TWO_OVERDUE,
        steps=_s("""
            a overdue_gentle wechat,sms now
            b overdue_gentle sms now
            a care email now
            a overdue_firm wechat,sms later
            b overdue_firm sms later
            b care email later
        """),
    ),
    Case(
        name="over_cap",
        says="eight reminders by SMS for one day; the cap lets three through on each date",
        where={"CN": 7, "US": 3, "IN": 3, "GB": 2},
        debts={"a": "gentle", "b": "gentle", "c": "pre", "d": "pre2", "e": "pre", "f": "pre2"},
        steps=_s("""
            a overdue_gentle sms now urgent
            b overdue_gentle sms now urgent
            c pre_due sms now urgent
            d pre_due sms now
            e pre_due sms now
            f pre_due sms now
            a overdue_firm sms now bulk
            b overdue_firm sms now bulk
        """),
    ),
    Case(
        name="called_elsewhere",
        says="an agency's own dialler has rung them seven times in the last five days",
        where={"CN": 4},
        debts=TWO_OVERDUE,
        steps=SERIES,
        contact=(
            "no_answer",
            ("20T06:00", "20T08:00", "21T06:00", "21T08:00", "23T06:00", "23T08:00", "24T06:00"),
        ),
    ),
    Case(
        name="talked_elsewhere",
        says="a human collector has talked with them on the 23rd",
        where={"US": 1, "GB": 1},
        debts=TWO_OVERDUE,
        steps=ONE_CALL,
        has=("sms", "voice"),
        contact=("conversation", ("23T18:00",)),
    ),
    Case(
        name="paid",
        says="the debts were paid before the reminders came",
        where={"CN": 3, "US": 1, "GB": 1},
        debts=TWO_OVERDUE,
        steps=SERIES,
        state="paid",
    ),
    Case(
        name="pays_in_time",
        says="a payment is reported after the reminders were accepted",
        where={"CN": 4, "IN": 2},
        debts=TWO_OVERDUE,
        steps=SERIES,
        event="paid",
    ),
    Case(
        name="disputed",
        says="the borrower disputes the debts",
        where={"CN": 2, "US": 1, "IN": 1},
        debts=TWO_OVERDUE,
        steps=SERIES,
        state="disputed",
    ),
    Case(
        name="disputes_in_time",
        says="a dispute is reported after the reminders were accepted",
        where={"CN": 2, "IN": 1},
        debts=TWO_OVERDUE,
        steps=SERIES,
        event="disputed",
    ),
    Case(
        name="promised",
        says="the borrower promises to pay by 28 November",
        where={"CN": 3, "IN": 2},
        debts=TWO_OVERDUE,
        steps=SERIES,
        event="promised",
    ),
    Case(
        name="hardship",
        says="the borrower told of hardship; a human must reopen",
        where={"CN": 2, "US": 1, "GB": 1},
        debts=TWO_OVERDUE,
        steps=SERIES,
        state="hardship",
    ),
    Case(
        name="opted_out_sms",
        says="no SMS wanted: e-mail is used where the reminder allows it",
        where={"CN": 2, "US": 2},
        debts=TWO_OVERDUE,
        steps=SERIES,
        opt_out="sms",
    ),
    Case(
        name="opted_out",
        says="not to be contacted on any channel",
        where={"CN": 2, "IN": 1, "GB": 1},
        debts=TWO_OVERDUE,
        steps=SERIES,
        opt_out="all",
    ),
    Case(
        name="held",
        says="a lawyer was appointed: held without an end",
        where={"CN": 1, "US": 1},
        debts=TWO_OVERDUE,
        steps=SERIES,
        hold={"id": "h1", "reason": "attorney", "from": "2026-11-10T00:00:00Z", "until": None},
    ),
    Case(
        name="held_for_a_while",
        says="a breathing space: held until 30 November",
        where={"GB": 1},
        debts=TWO_OVERDUE,
        steps=SERIES,
        hold={
            "id": "h1",
            "reason": "moratorium",
            "from": "2026-11-01T00:00:00Z",
            "until": "2026-11-30T12:00:00Z",
        },
    ),
    Case(
        name="cease",
        says="told the agency in writing to cease; only voice and e-mail, no agency uses SMS in the US",
        where={"US": 1},
        debts={"a": "firm", "b": "firm"},
        steps=_s("""
            a overdue_firm email now
            b overdue_firm email now
        """),
        has=("email", "voice"),
        borrower_facts={"cease_written": "2026-11-10"},
        role="agency",
    ),
    Case(
        name="shared_phone",
        says="two borrowers each with one phone: one person, one cap",
        where={"CN": 6, "US": 2, "IN": 2},
        debts=ONE_NOW,
        steps=_s("""
            a overdue_gentle sms now urgent
            b pre_due sms now
            a overdue_firm sms later
            b due_today sms later
        """),
        has=("sms",),
        shared=True,
    ),
    Case(
        name="workplace",
        says="the only phone number is a workplace's",
        where={"CN": 2, "US": 2, "GB": 1},
        debts=TWO_OVERDUE,
        steps=_s("""
            a overdue_gentle sms,email now
            b overdue_gentle email now
            a overdue_firm email later
            b overdue_firm email later
        """),
        has=("sms", "email"),
        sms_kind="workplace",
    ),
    Case(
        name="no_address",
        says="asked for by WeChat only, which they have not given",
        where={"CN": 2, "IN": 1},
        debts=TWO_OVERDUE,
        steps=_s("""
            a overdue_gentle wechat now
            b overdue_gentle wechat now
            a overdue_firm wechat now
        """),
        has=("sms", "email"),
    ),
    Case(
        name="next_channel",
        says="no WeChat and no e-mail: the SMS at the end of the list is used",
        where={"CN": 4, "IN": 2},
        debts=TWO_OVERDUE,
        steps=_s("""
            a overdue_gentle wechat,email,sms now
            b overdue_gentle wechat,sms now
            a overdue_firm wechat,sms later
            b overdue_firm wechat,sms later
        """),
        has=("sms",),
    ),
    Case(
        name="two_zones",
        says="a New York number, living in California: only hours that fit both",
        where={"US": 3},
        debts=ONE_NOW,
        steps=_s("""
            a overdue_gentle sms now
            b pre_due sms now
            a overdue_firm sms later
            b due_today sms later
        """),
        place="212+CA",
    ),
    Case(
        name="nowhere",
        says="an e-mail address and nothing that says where they are",
        where={"US": 1},
        debts=ONE_NOW,
        steps=_s("""
            a overdue_gentle email now
            b pre_due email now
        """),
        has=("email",),
        place="nowhere",
    ),
    Case(
        name="third_party",
        says="addressed to an emergency contact instead of the borrower",
        where={"CN": 2},
        debts=TWO_OVERDUE,
        steps=_s("""
            a overdue_gentle sms now
            b overdue_gentle sms now
        """),
        recipient="emergency_contact",
    ),
    Case(
        name="undelivered",
        says="number ends in 7: the carrier cannot deliver",
        where={"CN": 3, "US": 2, "IN": 2, "GB": 1},
        debts=ONE_NOW,
        steps=ONE_SMS,
        endings="7",
    ),
    Case(
        name="stops",
        says="number ends in 8: the carrier says they have opted out",
        where={"CN": 2, "US": 1, "IN": 1},
        debts=ONE_NOW,
        steps=ONE_SMS,
        endings="8",
    ),
    Case(
        name="bounces",
        says="e-mail begins with bounce: there is no such mailbox, the SMS is used",
        where={"CN": 1, "US": 1, "GB": 1},
        debts=ONE_NOW,
        steps=ONE_EMAIL,
        mail="bounce-",
    ),
    Case(
        name="mailbox_full",
        says="e-mail begins with full: try again later",
        where={"US": 1, "GB": 1},
        debts=ONE_NOW,
        steps=_s("""
            a overdue_gentle email now
            a overdue_firm email later
        """),
        mail="full-",
        has=("email", "sms"),
    ),
    Case(
        name="refused_as_spam",
        says="e-mail begins with spam: the relay refuses the text",
        where={"GB": 1},
        debts=ONE_NOW,
        steps=_s("""
            a care email afternoon
        """),
        mail="spam-",
    ),
    Case(
        name="does_not_follow",
        says="openid ends in block: does not follow the account, the SMS is used",
        where={"CN": 2},
        debts=ONE_NOW,
        steps=_s("""
            a overdue_gentle wechat,sms now
            a overdue_firm wechat,sms later
            b due_today sms later
        """),
        openid="block",
    ),
    Case(
        name="sent_twice",
        says="the same reminder under another key by mistake; one repeated on purpose",
        where={"CN": 3, "US": 1},
        debts=TWO_OVERDUE,
        steps=_s("""
            a overdue_gentle sms now
            a overdue_gentle sms now
            b overdue_gentle sms now
            b overdue_gentle sms now bulk repeat
        """),
    ),
    Case(
        name="expires",
        says="the reminder is worth nothing after 20:00Z, before the morning",
        where={"CN": 3},
        debts=TWO_OVERDUE,
        steps=_s("""
            a overdue_gentle sms overnight
            b overdue_gentle sms overnight
        """),
    ),
    Case(
        name="too_late",
        says="`due today` about a payment that was due on the 24th, at night",
        where={"CN": 2, "IN": 1},
        debts={"a": "yesterday", "b": "pre2"},
        steps=_s("""
            a due_today sms now
            a overdue_gentle sms later
        """),
    ),
    Case(
        name="stale",
        says="what is known of the debts is three days old",
        where={"CN": 1, "US": 1},
        debts=TWO_OVERDUE,
        steps=SERIES,
        state_at="2026-11-21T15:00:00Z",
    ),
    Case(
        name="calls",
        says="two calls; the number's last digit says how they end (1 no answer, 2 busy, 3 machine)",
        where={"CN": 5, "US": 1},
        debts={"a": "firm", "b": "firm"},
        steps=TWO_CALLS,
        endings="04123",
        has=("voice",),
    ),
    Case(
        name="one_call",
        says="one call (5 presses nothing, 9 asks not to be called, others press 1)",
        where={"CN": 3, "IN": 3, "GB": 2},
        debts={"a": "firm", "b": "firm"},
        steps=ONE_CALL,
        endings="590",
        has=("voice",),
    ),
    Case(
        name="agency_calls",
        says="an agency asks for one call and one e-mail",
        where={"US": 2},
        debts={"a": "firm", "b": "firm"},
        steps=_s("""
            a overdue_firm voice now
            b overdue_firm email morning
            a care voice later
        """),
        endings="60",
        has=("voice", "email"),
        role="agency",
    ),
)
