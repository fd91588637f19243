"""What an ending of a call, or a provider's later word, makes of an attempt and its reminder. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from functools import partial
from typing import TypedDict, assert_never

from gateway.domain import Channel, Handed, HandOver, Outcome, Receipt
from gateway.ports import Moment
from gateway.values import dataclass
from gateway.work import Attempt, Outturn, Step

QUARANTINE = timedelta(seconds=120)
"""Real time between an unknown ending and the first question to the provider."""
LOOK_AGAIN = timedelta(minutes=15)
MAX_TRIES = 20
"""Refused hand-overs after which a reminder is given up; those that came too fast are not counted."""
SOON = timedelta(seconds=2)
"""After this every worker knows what a refusal says of the account: another is tried, or it waits for this one."""

DECIDED = "decided"
"""The code of an attempt whose ending a person decided."""

CANCELLED = "cancelled"
"""The state of a reminder that was taken back before anybody was reached, and the reason why others go no further."""

NOT_SHOWN = "not_shown"
"""The code of an attempt that its provider, asked more than once, does not show."""

_RANK = {
    "void": 0,
    "intent": 0,
    "calling": 0,
    Outcome.UNKNOWN: 1,
    Outcome.REJECTED: 1,
    Outcome.ACCEPTED: 2,
    Outcome.FAILED: 3,
    Outcome.NO_ANSWER: 3,
    Outcome.BUSY: 3,
    Outcome.VOICEMAIL: 3,
    Outcome.DELIVERED: 4,
    Outcome.ANSWERED: 4,
    Outcome.READ: 5,
    Outcome.CONVERSATION: 5,
}
"""Receipts come in any order and more than once: an attempt only ever moves up, unless its provider gave it up."""

_REMINDER_STATE: Mapping[str, str] = {
    Outcome.UNKNOWN: "unknown",
    Outcome.ACCEPTED: "sent",
    Outcome.FAILED: "failed",
    Outcome.NO_ANSWER: "failed",
    Outcome.BUSY: "failed",
    Outcome.VOICEMAIL: "failed",
    Outcome.DELIVERED: "delivered",
    Outcome.ANSWERED: "delivered",
    Outcome.READ: "read",
    Outcome.CONVERSATION: "read",
}

_UNDONE = ("sent", "failed", "unknown")
"""States of a reminder from which an escalation goes on."""
_GIVES_UP = ("calling", Outcome.UNKNOWN, Outcome.ACCEPTED)
"""States of an attempt that a provider which took it can still give up."""
_UNDER_WAY = (Outcome.UNKNOWN, Outcome.ACCEPTED)
_FREE = ("void", Outcome.REJECTED)
"""States of an attempt that leave its reminder free for another go."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ways:
    """What an adapter says of itself that endings depend on."""

    final: Collection[Outcome]
    final_after: timedelta


class _Then(TypedDict, total=False):
    """What an outturn says of a step to come."""

    next_at: datetime
    step: int
    waits_on: Channel


@dataclass(frozen=True, slots=True, kw_only=True)
class Called:
    """A call that was made: its attempt, how often its reminder was refused before, and when it must end."""

    attempt: Attempt
    ways: Ways
    tries: int
    expires_at: datetime
    next_step: Step | None


def after_call(
    called: Called, handed: Handed, moment: Moment, quarantine: timedelta, *, step_to_come: bool = False
) -> Outturn:
    """What T2 writes. A refusal frees the reminder for another go; only an unknown waits for the provider.

    `step_to_come`: the call was taken for unknown meanwhile, and what follows that has its time, which it keeps.
    """
    attempt, ending = called.attempt, handed.ending
    out = partial(
        Outturn,
        attempt=attempt,
        state=ending.outcome.value,
        ending=ending.value,
        code=handed.code,
        provider_id=handed.provider_id,
        ended_at=moment.real,
        final_at=moment.policy,
    )
    match ending:
        case HandOver.ACCEPTED | HandOver.UNKNOWN:
            known = ending is HandOver.ACCEPTED
            return out(
                reminder_state="sent" if known else "unknown",
                final_at=moment.policy + called.ways.final_after,
                settle_at=None if known else moment.real + quarantine,
                **_then(called.next_step, moment),
            )
        case HandOver.PERMANENT_RECIPIENT | HandOver.OPT_OUT:
            return out(reminder_state="waiting", next_at=moment.policy, refused=True, keeps_next=step_to_come)
        case HandOver.CONTENT:
            return out(reminder_state="failed", reason="rejected_content", refused=True)
        case HandOver.EXPIRED:
            return out(reminder_state="expired", reason="expired", refused=True)
        case HandOver.NOT_SENT | HandOver.RETRY_AFTER | HandOver.CONFIG:
            return _later(out, called, handed, moment, step_to_come=step_to_come)
        case _:
            assert_never(ending)


def _then(step: Step | None, moment: Moment) -> _Then:
    """When the next step of an escalation begins, counted from now."""
    if step is None:
        return {}
    return {"next_at": moment.policy + step.after, "step": step.number, "waits_on": step.channel}


def _later(
    out: partial[Outturn], called: Called, handed: Handed, moment: Moment, *, step_to_come: bool
) -> Outturn:
    reason = {HandOver.NOT_SENT: "account_down", HandOver.RETRY_AFTER: "quota"}.get(
        handed.ending, "rejected_config"
    )
    by = called.attempt.account
    waits = handed.ending is HandOver.RETRY_AFTER
    if called.tries + 1 >= MAX_TRIES and not waits:
        return out(reminder_state="failed", reason=reason, by=by, refused=True)
    elsewhere = waits and handed.reach == "account"  # its day is used up; another account's may not be
    wait = SOON if elsewhere else handed.retry_after or _pause(handed.ending, called.tries)
    return out(
        reminder_state="deferred",
        reason=reason,
        by=by,
        next_at=min(moment.policy + wait, called.expires_at),
        refused=True,
        waits=waits,
        keeps_next=step_to_come,
    )


def _pause(ending: HandOver, tries: int) -> timedelta:
    """How long to wait after a refusal that does not say it."""
    return min(timedelta(seconds=5 << tries), LOOK_AGAIN) if ending is HandOver.NOT_SENT else SOON


def overtaken(attempt: Attempt, handed: Handed, moment: Moment) -> Outturn:
    """The ending of a call whose receipt came first: it is written down, and the receipt's word stands."""
    return Outturn(
        attempt=attempt,
        state=attempt.state,
        ending=handed.ending.value,
        provider_id=handed.provider_id,
        final_at=attempt.final_at,
        settle_at=attempt.settle_at,
        ended_at=moment.real,
    )


def after_receipt(
    attempt: Attempt,
    receipt: Receipt,
    ways: Ways,
    moment: Moment,
    *,
    next_step: Step | None = None,
    step_to_come: bool = False,
) -> Outturn | None:
    """What a provider's word makes of an attempt; None when it says nothing new.

    A word about an attempt that was withdrawn or refused still counts: the provider knows better than we do
    whether somebody was reached, and the go that the reminder was free for is off. `next_step`: what follows a
    call whose ending is not written yet; who died in it writes none. `step_to_come`: that has its time.
    """
    outcome = receipt.outcome
    if receipt.refusal is not None:
        return _given_up(attempt, receipt, receipt.refusal, moment, step_to_come=step_to_come)
    if _RANK[outcome] <= _rank(attempt) or (_was_given_up(attempt) and outcome in _UNDER_WAY):
        return None
    undone = _REMINDER_STATE.get(outcome) in _UNDONE
    begins = undone and attempt.state == "calling"
    return Outturn(
        attempt=attempt,
        state=outcome.value,
        code=receipt.code,
        provider_id=receipt.provider_id,
        final_at=moment.policy
        if outcome in ways.final
        else (
            attempt.started_at + ways.final_after if attempt.called_at else moment.policy + ways.final_after
        ),
        reminder_state=_REMINDER_STATE.get(outcome),
        keeps_next=undone and not begins and attempt.state not in _FREE,
        **_then(next_step if begins else None, moment),
    )


def _rank(attempt: Attempt) -> int:
    """How far an attempt has come. Of one that was only not shown any word of its provider says more."""
    guessed = attempt.state == Outcome.FAILED and attempt.code == NOT_SHOWN and attempt.provider_id is None
    return _RANK[Outcome.UNKNOWN] if guessed else _RANK[attempt.state]


def late(attempt: Attempt, handed: Handed, ways: Ways, moment: Moment) -> Outturn | None:
    """The ending of a call whose attempt was settled without it: that its provider took it counts as its word."""
    if handed.ending is not HandOver.ACCEPTED:
        return None
    told = Receipt(outcome=Outcome.ACCEPTED, ref=attempt.ref, provider_id=handed.provider_id)
    return after_receipt(attempt, told, ways, moment)


def _given_up(
    attempt: Attempt, receipt: Receipt, refusal: Handed, moment: Moment, *, step_to_come: bool
) -> Outturn | None:
    """It was taken and reached nobody, because there was too much: the reminder waits as if it had been refused.

    A next step of an escalation keeps its time: by then it goes on to that channel.
    """
    if attempt.state not in _GIVES_UP:
        return None
    wait = refusal.retry_after if refusal.reach != "account" else None
    return Outturn(
        attempt=attempt,
        state=Outcome.REJECTED.value,
        code=refusal.code,
        provider_id=receipt.provider_id,
        final_at=moment.policy,
        reminder_state="deferred",
        reason="quota",
        by=attempt.account,
        next_at=moment.policy + (wait or SOON),
        refused=True,
        waits=True,
        keeps_next=step_to_come,
    )


def not_sent_after_all(attempt: Attempt, moment: Moment, *, step_to_come: bool) -> Outturn:
    """Somebody found out that a call which nobody knew of reached nobody: its reminder is free for another go.

    What its provider may still say of it counts like a word about any other hand-over that was refused.
    """
    return Outturn(
        attempt=attempt,
        state=Outcome.REJECTED.value,
        ending=HandOver.NOT_SENT.value,
        code=DECIDED,
        final_at=moment.policy,
        reminder_state="waiting",
        next_at=moment.policy,
        refused=True,
        keeps_next=step_to_come,
    )


def not_shown(attempt: Attempt, moment: Moment) -> Outturn:
    """Its provider knows nothing of a call of which nobody knew: it failed, and is not made again.

    It counts for as long as the provider might still say otherwise: a process that was frozen in the midst of the call
    may yet make it.
    """
    return Outturn(
        attempt=attempt,
        state=Outcome.FAILED.value,
        code=NOT_SHOWN,
        final_at=attempt.final_at or moment.policy,
        reminder_state=_REMINDER_STATE[Outcome.FAILED],
        keeps_next=True,
    )


def _was_given_up(attempt: Attempt) -> bool:
    """Whether it was taken first: what its provider said before it gave it up may come late."""
    called = attempt.ending is None or HandOver(attempt.ending).outcome is not Outcome.REJECTED
    return attempt.state == Outcome.REJECTED and called


def unknown(
    attempt: Attempt, ways: Ways, moment: Moment, quarantine: timedelta, next_step: Step | None
) -> Outturn:
    """A `calling` whose owner is dead: nobody knows whether the provider was reached, so it counts.

    An escalation goes on as after any unknown; when the hand-over was, nobody knows, so from now.
    """
    return Outturn(
        attempt=attempt,
        state=Outcome.UNKNOWN.value,
        ending=HandOver.UNKNOWN.value,
        code="owner_lost",
        final_at=moment.policy + ways.final_after,
        settle_at=moment.real + quarantine,
        reminder_state="unknown",
        **_then(next_step, moment),
    )


def reminder_state(attempt_state: str) -> str | None:
    """The state of a reminder whose latest contact stands so; None where there was none."""
    return _REMINDER_STATE.get(attempt_state)


def word(channel: str, state: str, final_at: datetime | None, now: datetime) -> str:
    """An attempt in the words of the rule language; what can still change is `unknown`.

    So is for good a call of whose end nobody told: it may have been a conversation.
    """
    if state in ("intent", "calling", Outcome.UNKNOWN) or final_at is None or final_at > now:
        return "unknown"
    match state:
        case Outcome.ACCEPTED:
            return "unknown" if channel == Channel.VOICE else "sent"
        case Outcome.FAILED if channel != Channel.VOICE:
            return "undelivered"
        case _:
            return state
