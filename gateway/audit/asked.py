"""What a decision's record says that was asked, in the values of the rule language. Read anew from its JSON."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from gateway.audit.timeline import Judged
from gateway.policy.model import Absence, Consent, Event, Fact, Hours, OwnWindow, Question, Told

EVERY_CHANNEL = "all"
CONFIRMS = "optout_confirmation"

Inputs = Mapping[str, Any]


def instant(text: str | None) -> datetime | None:
    """An instant of the record, if there is one."""
    return None if text is None else datetime.fromisoformat(text)


def day(text: str | None) -> date | None:
    """A date of the record, if there is one."""
    return None if text is None else date.fromisoformat(text)


def address_of(judged: Judged, inputs: Inputs) -> Mapping[str, Any] | None:
    """The address that was used, as it was known to be reached through that adapter; None when it was not."""
    known = inputs["addresses"].get(judged.decision["channel"], ())
    through = (None, judged.contact["adapter"])  # older records do not say
    used = (to for to in known if to["address"] == judged.contact["address"] and to.get("adapter") in through)
    return next(used, None)


def question_of(judged: Judged, inputs: Inputs, kind: str | None) -> Question:
    """The reminder as rules see it, to an address of that kind."""
    return Question(
        channel=judged.decision["channel"],
        borrower=inputs["borrower"],
        debt=inputs["debt"]["id"],
        creditor=inputs["debt"]["creditor"],
        address=judged.contact["address"],
        purpose=inputs["purpose"],
        address_kind=kind,
        recipient_role=inputs["recipient_role"],
        technology=judged.contact["technology"],
        adapter=judged.contact["adapter"],
        actor=inputs["actor"],
        actor_role=inputs["actor_role"],
        institution=inputs["institution"],
        product=inputs["product"],
    )


def facts_of(inputs: Inputs, channel: str, at: datetime) -> dict[str, Fact]:
    """The facts that rules read: those of borrower and debt, and what follows from due date and opt-outs."""
    facts: dict[str, Fact] = {name: fact for name, fact in inputs["facts"].items() if name != "dpd"}
    due = day(inputs["debt"]["due_date"])
    if due is not None:
        facts["dpd"] = max((today - due).days for today in local_dates(inputs, at))
        facts["due_date"] = due
        facts.setdefault("overdue_since", due + timedelta(days=1))
    if (out := opted_out(inputs, {EVERY_CHANNEL, channel}, at)) is not None:
        facts["optout_at"] = out
    return facts


def local_dates(inputs: Inputs, at: datetime) -> list[date]:
    """The date in each zone that the borrower may be in."""
    return [at.astimezone(ZoneInfo(name)).date() for name in inputs["zones"]]


def opted_out(inputs: Inputs, words: set[str], at: datetime) -> datetime | None:
    """When the person last opted out by one of these words by then."""
    found = [datetime.fromisoformat(since) for word, since in inputs["opt_outs"] if word in words]
    return max((since for since in found if since <= at), default=None)


def may_confirm(inputs: Inputs, history: tuple[Event, ...], since: datetime) -> bool:
    """Whether this is the one confirmation of an opt-out."""
    confirmed = any(event.at >= since and CONFIRMS in event.flags for event in history)
    return inputs["purpose"] == CONFIRMS and not confirmed


def told_of(inputs: Inputs) -> Told:
    """What the borrower had told."""
    return Told(
        consents=tuple(_consent(said) for said in inputs["consents"]),
        windows=tuple(_window(said) for said in inputs["windows"]),
        blackouts=tuple(
            Absence(reason=said["reason"], since=date.fromisoformat(said["since"]), until=day(said["until"]))
            for said in inputs["blackouts"]
        ),
    )


def _consent(said: Inputs) -> Consent:
    return Consent(
        kind=said["kind"],
        given_at=datetime.fromisoformat(said["given_at"]),
        rules=frozenset(said["rules"]),
        channel=said["channel"],
        form=said["form"],
        until=instant(said["until"]),
        revoked_at=instant(said["revoked_at"]),
    )


def _window(said: Inputs) -> OwnWindow:
    channels, kinds = said["channels"], said["address_kinds"]
    return OwnWindow(
        kind=said["kind"],
        on=frozenset(said["on"]),
        hours=Hours(open=_clock(said["open"]), close=_clock(said["close"])),
        channels=None if channels is None else frozenset(channels),
        address_kinds=None if kinds is None else frozenset(kinds),
        since=day(said["since"]),
        until=day(said["until"]),
    )


def _clock(text: str) -> int:
    hours, minutes = text.split(":")
    return int(hours) * 3600 + int(minutes) * 60
