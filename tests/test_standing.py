"""How an account stands, with time as an argument."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain import Handed, HandOver
from gateway.standing import Breaker, Ending, Recent, Standing, Why, after, from_json, shown, to_json

NOW = datetime(2026, 11, 24, 2, 0, tzinfo=UTC)
ERRORS = (HandOver.NOT_SENT, HandOver.UNKNOWN)
NEUTRAL = (HandOver.PERMANENT_RECIPIENT, HandOver.OPT_OUT, HandOver.CONTENT, HandOver.EXPIRED)


def at(seconds):
    return NOW + timedelta(seconds=seconds)


def ended(ending, ref="", *, adapter="aliyun_sms", **handed):
    return Ending(
        pool="acme/live|sms", adapter=adapter, handed=Handed(ending=ending, code="42", **handed), ref=ref
    )


NOTHING = Recent()


def ends(standing, now, *endings, recent=NOTHING):
    return after(
        standing, [e if isinstance(e, Ending) else ended(e) for e in endings], at(now), recent=recent
    )


def is_down(now=0.0):
    return ends(Standing(), now, HandOver.CONFIG)


def probing(now=5.0):
    """Half open, the provider having answered well."""
    return is_down(now - 5).asked(at(now), ok=True)


def probe(standing, now, ending):
    """One reminder that probes, and how it ended."""
    assert standing.barred(at(now)) is None
    return ends(standing.probed_by("at_1", at(now)), now, ended(ending, "at_1"))


# What opens a breaker.


def test_the_first_configuration_error_opens_it():
    standing = is_down()

    assert (standing.breaker, standing.why, standing.code) == (Breaker.OPEN, Why.CONFIG, "42")
    assert standing.barred(at(1)) == ("account_down", at(5))
    assert standing.factor(at(1)) == 0


@pytest.mark.parametrize(
    ("good", "bad", "opens"), [(5, 5, True), (6, 5, False), (4, 5, False), (0, 10, True)]
)
def test_half_of_ten_calls_in_a_minute_must_fail(good, bad, opens):
    endings = [HandOver.ACCEPTED] * good + [HandOver.NOT_SENT] * bad

    assert ends(Standing(), 0, *endings).down is opens
    assert (ends(Standing(), 0, *endings).why is Why.ERRORS) is opens


def test_the_good_calls_before_the_first_error_count():
    ten = [HandOver.NOT_SENT] * 10

    assert ends(Standing(), 0, *ten, recent=Recent(good=10)).down
    assert not ends(Standing(), 0, *ten, recent=Recent(good=11)).down


@pytest.mark.parametrize(("later", "opens"), [(59, True), (65, False)])
def test_an_error_counts_for_a_minute(later, opens):
    standing = ends(Standing(), 0, *[HandOver.NOT_SENT] * 9)

    assert ends(standing, later, HandOver.NOT_SENT).down is opens


@pytest.mark.parametrize("neutral", NEUTRAL)
def test_what_a_provider_says_of_one_message_is_no_error(neutral):
    standing = ends(Standing(), 0, *[neutral] * 50)

    assert standing == Standing()


def test_five_calls_without_an_answer_open_it():
    four = ends(Standing(), 0, *[HandOver.UNKNOWN] * 4)

    assert not four.down
    assert ends(four, 30, HandOver.UNKNOWN).why is Why.UNANSWERED
    assert not ends(four, 60, HandOver.UNKNOWN).down


@pytest.mark.parametrize("answer", [HandOver.ACCEPTED, HandOver.CONTENT])
def test_an_answer_between_begins_the_count_anew(answer):
    standing = ends(Standing(), 0, *[HandOver.UNKNOWN] * 4, answer, *[HandOver.UNKNOWN] * 4)

    assert standing.why is not Why.UNANSWERED
    assert ends(standing, 1, HandOver.UNKNOWN).down


def test_no_connection_is_no_answer_but_no_silence_either():
    standing = ends(Standing(), 0, *[HandOver.UNKNOWN] * 4, *[HandOver.NOT_SENT] * 4)

    assert not standing.down
    assert ends(standing, 1, HandOver.UNKNOWN).why is Why.UNANSWERED


@pytest.mark.parametrize(("hanging", "opens"), [(4, True), (3, False)])
def test_calls_that_hang_count_with_the_first_that_timed_out(hanging, opens):
    standing = ends(Standing(), 0, HandOver.UNKNOWN, recent=Recent(hanging=hanging))

    assert standing.down is opens


# How it closes again.


@pytest.mark.parametrize("breaks", [HandOver.NOT_SENT, HandOver.UNKNOWN, HandOver.CONFIG])
def test_probes_come_at_doubling_intervals_up_to_a_quarter_of_an_hour(breaks):
    standing, now, waits = probing(), 5.0, []
    for _ in range(10):
        standing = probe(standing, now, breaks)
        waits.append((standing.back_at(at(now)) - at(now)).total_seconds())
        now += waits[-1]
        standing = standing.asked(at(now), ok=True)

    assert waits == [10, 20, 40, 80, 160, 320, 640, 900, 900, 900]


def test_a_provider_that_answers_badly_is_asked_at_doubling_intervals_without_a_reminder():
    standing, now, waits = is_down(), 5.0, []
    for _ in range(4):
        standing = standing.asked(at(now), ok=False)
        waits.append((standing.back_at(at(now)) - at(now)).total_seconds())
        now += waits[-1]

    assert (waits, standing.breaker) == ([10, 20, 40, 80], Breaker.OPEN)


def test_three_reminders_that_were_taken_close_it_and_the_pace_comes_back_slowly():
    standing = probing()
    for n in range(3):
        assert (standing.breaker, standing.factor(at(5))) == (Breaker.HALF_OPEN, 1 / 16)
        standing = probe(standing, 5 + n, HandOver.ACCEPTED)

    assert standing.breaker is Breaker.CLOSED
    assert [round(standing.factor(at(7 + s)), 2) for s in (0, 15, 30)] == [0.06, 0.5, 1.0]
    assert standing.settled(at(37)) == Standing()


def test_one_probe_at_a_time():
    standing = probing().probed_by("at_1", at(5))

    assert standing.barred(at(6)) == ("account_down", at(125))
    assert standing.barred(at(125)) is None


@pytest.mark.parametrize("neutral", NEUTRAL)
def test_a_probe_that_says_nothing_of_the_account_frees_its_place(neutral):
    standing = probe(probe(probing(), 5, HandOver.ACCEPTED), 6, neutral)

    assert (standing.breaker, standing.successes, standing.probe) == (Breaker.HALF_OPEN, 1, None)


def test_only_the_probe_itself_closes_or_opens_it():
    """Calls that began before the breaker opened end after it."""
    late = [ended(HandOver.ACCEPTED, "at_0")] * 9 + [ended(HandOver.UNKNOWN, "at_0")] * 9
    standing = probing().probed_by("at_1", at(5))

    assert ends(is_down(), 1, *late) == is_down()
    assert ends(standing, 6, *late) == standing


def test_asking_does_not_touch_what_is_not_down():
    assert Standing().asked(NOW, ok=False) == Standing()
    assert probing().asked(at(6), ok=True) == probing()


# Throttles.


def test_a_throttle_halves_the_pace_once_a_second_down_to_a_sixteenth():
    standing, factors = Standing(), []
    for tenth in range(60):
        standing = ends(standing, tenth / 10, ended(HandOver.RETRY_AFTER, reach="rate"))
        factors.append(standing.factor(at(tenth / 10)))

    assert [factors[n] for n in (0, 9, 10, 19, 20, 30, 40, 50, 59)] == [
        *(1 / 2, 1 / 2, 1 / 4, 1 / 4, 1 / 8, 1 / 16, 1 / 16, 1 / 16, 1 / 16)
    ]


def test_it_doubles_every_five_seconds_without_one():
    standing = Standing()
    for second in range(10):
        standing = ends(standing, second, ended(HandOver.RETRY_AFTER, reach="rate"))

    assert [standing.factor(at(9 + s)) for s in (0, 4.9, 5, 10, 15, 20)] == [
        *(1 / 16, 1 / 16, 1 / 8, 1 / 4, 1 / 2, 1)
    ]
    assert standing.settled(at(29)) == Standing()


@pytest.mark.parametrize("reach", [None, "rate"])
def test_a_throttle_that_does_not_say_whom_it_concerns_concerns_the_rate(reach):
    standing = ends(Standing(), 0, ended(HandOver.RETRY_AFTER, reach=reach))

    assert (standing.factor(NOW), standing.barred(NOW)) == (0.5, None)


def test_one_that_concerns_a_recipient_says_nothing_of_the_account():
    assert ends(Standing(), 0, ended(HandOver.RETRY_AFTER, reach="recipient")) == Standing()


@pytest.mark.parametrize(
    ("adapter", "over"),
    [
        ("wechat", datetime(2026, 11, 24, 16, 0, tzinfo=UTC)),
        ("aliyun_sms", datetime(2026, 11, 24, 16, 0, tzinfo=UTC)),
        ("twilio_sms", datetime(2026, 11, 24, 8, 0, tzinfo=UTC)),
    ],
)
def test_a_day_that_is_used_up_closes_the_account_until_its_providers_midnight(adapter, over):
    standing = ends(Standing(), 0, ended(HandOver.RETRY_AFTER, reach="account", adapter=adapter))

    assert standing.barred(NOW) == ("quota", over)
    assert standing.barred(over) is None
    assert standing.settled(over) == Standing()
    assert standing.factor(NOW) == 1


@pytest.mark.parametrize(("said", "waits"), [(timedelta(minutes=3), 180), (None, 3600)])
def test_where_nobody_says_when_the_day_ends_it_lasts_as_the_provider_says_or_an_hour(said, waits):
    standing = ends(
        Standing(), 0, ended(HandOver.RETRY_AFTER, reach="account", adapter="smtp", retry_after=said)
    )

    assert standing.barred(NOW) == ("quota", at(waits))


def test_throttles_and_used_up_days_outlive_a_breaker():
    standing = probing()
    standing = ends(standing, 5, ended(HandOver.RETRY_AFTER, reach="account"))
    for n in range(3):
        standing = ends(standing.probed_by("at_1", at(5 + n)), 5 + n, ended(HandOver.ACCEPTED, "at_1"))

    assert standing.barred(at(9))[0] == "quota"


def test_no_throttle_opens_a_breaker():
    standing = ends(Standing(), 0, *[ended(HandOver.RETRY_AFTER, reach="rate")] * 100)

    assert not standing.down


# As it is kept and shown.


ENDINGS = st.lists(
    st.tuples(
        st.floats(0, 40),
        st.sampled_from([*HandOver]),
        st.sampled_from([None, "rate", "recipient", "account"]),
        st.sampled_from(["at_1", "at_2"]),
        st.booleans(),
    ),
    max_size=40,
)


def lived(drawn):
    """How an account stands after each of these; those that probe are let through before."""
    standing, now = Standing(), 0.0
    for passed, ending, reach, ref, asked in drawn:
        now += passed
        standing = standing.asked(at(now), ok=asked) if standing.breaker is Breaker.OPEN else standing
        if standing.breaker is Breaker.HALF_OPEN and standing.barred(at(now)) is None:
            standing = standing.probed_by(ref, at(now))
        standing = ends(standing, now, ended(ending, ref, reach=reach))
        yield standing, at(now), ending


@given(ENDINGS)
def test_it_is_kept_as_json_and_read_back_the_same(drawn):
    for standing, _, _ in lived(drawn):
        kept = orjson.loads(orjson.dumps(to_json(standing)))
        assert from_json(kept) == standing
        assert (kept == {}) is (standing == Standing())


@given(ENDINGS)
def test_a_factor_is_a_part_and_nothing_but_successes_closes_a_breaker(drawn):
    before = Standing()
    for standing, now, ending in lived(drawn):
        assert 0 <= standing.factor(now) <= 1
        assert (standing.factor(now) == 0) is (standing.breaker is Breaker.OPEN)
        assert standing.level_at(now) <= 4
        assert len(standing.tallies) <= 13
        if before.down and not standing.down:
            assert ending is HandOver.ACCEPTED
        before = standing


def test_operators_see_what_opened_it_and_when_it_is_asked_again():
    assert shown(is_down(), at(1)) == {
        "breaker": "open",
        "why": "config",
        "code": "42",
        "since": "2026-11-24T02:00:00Z",
        "probe_at": "2026-11-24T02:00:05Z",
        "factor": 0.0,
        "used_up_until": None,
        "barred": "account_down",
    }
