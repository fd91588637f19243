"""What endings and receipts make of an attempt and its reminder."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import permutations

import pytest

from gateway import outcomes
from gateway.domain import Channel, Handed, HandOver, Outcome, Receipt, Tenant
from gateway.outcomes import Called, Ways
from gateway.ports import Moment
from gateway.work import Attempt, Step

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
MOMENT = Moment(real=NOW, policy=NOW + timedelta(days=1))
QUARANTINE = timedelta(seconds=120)
MESSAGES = Ways(final=frozenset({Outcome.READ, Outcome.FAILED}), final_after=timedelta(hours=72))


def an_attempt(state="calling", **changes):
    values = {
        "tenant": Tenant("acme/live"),
        "ref": "at_1",
        "started_at": MOMENT.policy,
        "reminder": "rm_1",
        "borrower": "B-1",
        "person": "pn_1",
        "debt": "L-1",
        "channel": Channel.SMS,
        "adapter": "twilio_sms",
        "account": "sms",
        "address": "00",
        "state": state,
        "fence": 1,
        "called_at": NOW,
        "text_enc": None,
        "provider_id": None,
    }
    return Attempt(**values | changes)


def ended(ending, *, tries=0, next_step=None, expires=timedelta(days=3), step_to_come=False, **handed):
    called = Called(
        attempt=an_attempt(),
        ways=MESSAGES,
        tries=tries,
        expires_at=MOMENT.policy + expires,
        next_step=next_step,
    )
    said = Handed(ending=ending, **handed)
    return outcomes.after_call(called, said, MOMENT, QUARANTINE, step_to_come=step_to_come)


@pytest.mark.parametrize(
    ("ending", "attempt_state", "reminder_state", "due_again"),
    [
        (HandOver.ACCEPTED, "accepted", "sent", False),
        (HandOver.UNKNOWN, "unknown", "unknown", False),
        (HandOver.NOT_SENT, "rejected", "deferred", True),
        (HandOver.RETRY_AFTER, "rejected", "deferred", True),
        (HandOver.CONFIG, "rejected", "deferred", True),
        (HandOver.PERMANENT_RECIPIENT, "rejected", "waiting", True),
        (HandOver.OPT_OUT, "rejected", "waiting", True),
        (HandOver.CONTENT, "rejected", "failed", False),
        (HandOver.EXPIRED, "rejected", "expired", False),
    ],
)
def test_only_what_was_surely_not_sent_comes_up_again(ending, attempt_state, reminder_state, due_again):
    out = ended(ending)

    assert (out.state, out.reminder_state, out.next_at is not None) == (
        attempt_state,
        reminder_state,
        due_again,
    )
    assert out.refused == (ending not in (HandOver.ACCEPTED, HandOver.UNKNOWN))


def test_an_unknown_is_looked_at_after_the_quarantine_and_counts_until_it_is_final():
    out = ended(HandOver.UNKNOWN)

    assert out.settle_at == NOW + QUARANTINE
    assert out.final_at == MOMENT.policy + timedelta(hours=72)


def test_a_retry_never_goes_past_expiry():
    out = ended(HandOver.RETRY_AFTER, retry_after=timedelta(days=9))

    assert out.next_at == MOMENT.policy + timedelta(days=3)
    assert (out.reason, out.by) == ("quota", "sms")


@pytest.mark.parametrize(("tries", "state"), [(18, "deferred"), (19, "failed")])
def test_refusals_are_bounded(tries, state):
    assert ended(HandOver.NOT_SENT, tries=tries).reminder_state == state


@pytest.mark.parametrize("tries", [0, 19, 500])
def test_what_came_too_fast_is_no_try_and_never_ends_a_reminder(tries):
    out = ended(HandOver.RETRY_AFTER, tries=tries, reach="rate")

    assert (out.reminder_state, out.refused, out.waits) == ("deferred", True, True)
    assert not ended(HandOver.NOT_SENT).waits


@pytest.mark.parametrize(
    ("ending", "handed", "waits"),
    [
        (HandOver.RETRY_AFTER, {"reach": "recipient", "retry_after": timedelta(hours=1)}, 3600),
        (HandOver.RETRY_AFTER, {"reach": "rate", "retry_after": timedelta(minutes=1)}, 60),
        (HandOver.RETRY_AFTER, {"reach": "account", "retry_after": timedelta(hours=9)}, 2),
        (HandOver.RETRY_AFTER, {"reach": "rate"}, 2),
        (HandOver.CONFIG, {}, 2),
    ],
)
def test_what_says_something_of_the_account_is_decided_anew_as_soon_as_that_is_known(ending, handed, waits):
    assert ended(ending, **handed).next_at - MOMENT.policy == timedelta(seconds=waits)


def test_the_pause_doubles_up_to_a_quarter_of_an_hour():
    pauses = [ended(HandOver.NOT_SENT, tries=n).next_at - MOMENT.policy for n in range(10)]

    assert pauses[:3] == [timedelta(seconds=s) for s in (5, 10, 20)]
    assert max(pauses) == timedelta(minutes=15)


def test_an_escalation_begins_so_long_after_the_hand_over():
    out = ended(HandOver.ACCEPTED, next_step=Step(number=2, after=timedelta(hours=4), channel=Channel.VOICE))

    assert (out.next_at, out.step) == (MOMENT.policy + timedelta(hours=4), 2)


@pytest.mark.parametrize(
    ("ending", "keeps"),
    [
        (HandOver.NOT_SENT, True),
        (HandOver.RETRY_AFTER, True),
        (HandOver.CONFIG, True),
        (HandOver.PERMANENT_RECIPIENT, True),
        (HandOver.OPT_OUT, True),
        (HandOver.CONTENT, False),
        (HandOver.EXPIRED, False),
    ],
)
def test_a_step_that_is_to_come_keeps_its_time_when_a_refusal_is_late_unless_that_ends_all(ending, keeps):
    assert ended(ending, step_to_come=True).keeps_next == keeps
    assert not ended(ending).keeps_next


def test_a_dead_owners_escalation_goes_on_from_when_it_is_marked():
    step = Step(number=1, after=timedelta(hours=4), channel=Channel.VOICE)
    out = outcomes.unknown(an_attempt(), MESSAGES, MOMENT, QUARANTINE, step)

    assert (out.next_at, out.step) == (MOMENT.policy + timedelta(hours=4), 1)


@pytest.mark.parametrize(
    ("state", "word", "number"),
    [
        ("calling", Outcome.ACCEPTED, 1),
        ("calling", Outcome.FAILED, 1),
        ("calling", Outcome.DELIVERED, None),
        ("unknown", Outcome.FAILED, None),
    ],
)
def test_a_receipt_begins_the_step_that_a_call_without_its_ending_has_not_begun(state, word, number):
    step = Step(number=1, after=timedelta(hours=4), channel=Channel.VOICE)
    out = outcomes.after_receipt(an_attempt(state), Receipt(outcome=word), MESSAGES, MOMENT, next_step=step)

    assert (out.step, out.next_at and out.next_at - MOMENT.policy) == (number, number and step.after)
    assert out.keeps_next == (state == "unknown")


WORDS = [Outcome.ACCEPTED, Outcome.FAILED, Outcome.DELIVERED, Outcome.READ]


@pytest.mark.parametrize("order", list(permutations(WORDS)))
def test_receipts_in_any_order_end_at_the_highest_word(order):
    attempt = an_attempt()
    for word in (*order, *order):
        out = told(attempt, Receipt(outcome=word))
        if out is not None:
            attempt = an_attempt(out.state)

    assert attempt.state == "read"


def test_a_receipt_for_a_withdrawn_attempt_still_counts():
    out = told(an_attempt("void"), Receipt(outcome=Outcome.DELIVERED))

    assert out is not None
    assert out.reminder_state == "delivered"


def told(attempt, receipt, *, step_to_come=False):
    return outcomes.after_receipt(attempt, receipt, MESSAGES, MOMENT, step_to_come=step_to_come)


def given_up(reach="rate", seconds=60):
    wait = timedelta(seconds=seconds) if seconds else None
    refusal = Handed(ending=HandOver.RETRY_AFTER, code="30001", retry_after=wait, reach=reach)
    return Receipt(outcome=Outcome.REJECTED, code="30001", provider_id="SM1", refusal=refusal)


@pytest.mark.parametrize(
    ("reach", "seconds", "waits"), [("rate", 60, 60), ("rate", 0, 2), ("account", 3600, 2)]
)
def test_what_a_provider_took_and_gave_up_waits_as_if_it_had_been_refused(reach, seconds, waits):
    out = told(an_attempt("accepted"), given_up(reach, seconds))

    assert (out.state, out.code, out.final_at) == ("rejected", "30001", MOMENT.policy)
    assert (out.reminder_state, out.reason, out.by) == ("deferred", "quota", out.attempt.account)
    assert out.next_at - MOMENT.policy == timedelta(seconds=waits)
    assert (out.refused, out.waits, out.keeps_next) == (True, True, False)


def test_a_step_that_is_still_to_come_keeps_its_time_when_the_one_before_it_was_given_up():
    assert told(an_attempt("accepted"), given_up(), step_to_come=True).keeps_next


@pytest.mark.parametrize("state", ["calling", "unknown", "accepted"])
def test_only_what_reached_nobody_yet_can_be_given_up(state):
    assert told(an_attempt(state), given_up()).state == "rejected"
    for known in ("void", "rejected", "failed", "delivered", "read"):
        assert told(an_attempt(known), given_up()) is None


@pytest.mark.parametrize(
    ("ending", "word", "becomes"),
    [
        *((ending, Outcome.ACCEPTED, None) for ending in (None, "accepted", "unknown")),
        *((ending, Outcome.DELIVERED, "delivered") for ending in (None, "accepted", "retry_after")),
        ("retry_after", Outcome.ACCEPTED, "accepted"),
    ],
)
def test_what_was_said_before_it_was_given_up_may_come_late(ending, word, becomes):
    """Of what was refused at once, a word says that it was taken after all."""
    out = told(an_attempt("rejected", ending=ending), Receipt(outcome=word))

    assert (out and out.state) == becomes


@pytest.mark.parametrize(
    ("channel", "state", "final", "expected"),
    [
        ("sms", "intent", None, "unknown"),
        ("sms", "calling", None, "unknown"),
        ("sms", "accepted", timedelta(seconds=1), "unknown"),
        ("sms", "accepted", timedelta(0), "sent"),
        ("sms", "failed", timedelta(0), "undelivered"),
        ("voice", "failed", timedelta(0), "failed"),
        ("voice", "conversation", timedelta(0), "conversation"),
        ("sms", "delivered", timedelta(seconds=1), "unknown"),
        ("sms", "unknown", timedelta(days=-9), "unknown"),
    ],
)
def test_what_can_still_change_counts_as_unknown(channel, state, final, expected):
    final_at = None if final is None else NOW + final

    assert outcomes.word(channel, state, final_at, NOW) == expected


NOT_SHOWN = {"state": "failed", "ending": "unknown", "code": "not_shown", "final_at": MOMENT.policy}


def test_what_its_provider_did_not_show_stands_as_the_provider_says_when_it_says_something_after_all():
    """A process that stood still made its call at last."""
    attempt = an_attempt(**NOT_SHOWN)
    accepted = Handed(ending=HandOver.ACCEPTED, provider_id="SM1")
    late = outcomes.late(attempt, accepted, MESSAGES, MOMENT)

    assert (late.state, late.reminder_state, late.provider_id) == ("accepted", "sent", "SM1")
    assert late.final_at == attempt.started_at + MESSAGES.final_after
    assert late.keeps_next
    assert outcomes.late(attempt, Handed(ending=HandOver.UNKNOWN), MESSAGES, MOMENT) is None


@pytest.mark.parametrize("known", [{"code": "30003"}, {"provider_id": "SM1"}, {"state": "delivered"}])
def test_a_late_acceptance_changes_nothing_where_the_provider_has_said_more(known):
    accepted = Handed(ending=HandOver.ACCEPTED, provider_id="SM1")
    assert outcomes.late(an_attempt(**NOT_SHOWN | known), accepted, MESSAGES, MOMENT) is None
