"""What a pause covers, which of several bars, and how one that ended lets go: pure, both sides of every edge."""

from dataclasses import replace
from datetime import timedelta

import pytest
from makers import NOW

from gateway.domain import Channel, Tenant
from gateway.pauses import LEAST_FACTOR, Kind, Pause, PauseScope, first, first_of_queue, ramp_factor
from gateway.quotas.model import Load, Scope
from gateway.work import Queue, Start

ACME = Tenant("acme/live")
LOAD = Load(tenant=ACME, channel="sms", adapter="aliyun_sms", account="sms-cn", template="pre_due")
START = Start(
    ref="at_1",
    load=LOAD,
    template_version=2,
    portfolios=frozenset({"cards", "loans"}),
    places=frozenset({"CN-GD"}),
    deliver_by=NOW,
)
QUEUE = Queue(name="q", channel=Channel.SMS, tenant=ACME, template="pre_due", priority=1, oldest=NOW)
LATER = NOW + timedelta(hours=1)
US = timedelta(microseconds=1)


def scope(**words):
    own = {
        word: words.pop(word) for word in ("portfolio", "jurisdiction", "template_version") if word in words
    }
    return PauseScope(quota=Scope(**words), **own)


def pause(owner=ACME, name="ps_1", kind=Kind.PAUSE, until=None, resumed_at=None, ramp_s=0, **words):
    return Pause(
        owner=owner,
        id=name,
        kind=kind,
        scope=scope(**words),
        until=until,
        resumed_at=resumed_at,
        ramp_s=ramp_s,
    )


@pytest.mark.parametrize(
    ("words", "covered"),
    [
        ({}, True),
        ({"channel": "sms"}, True),
        ({"channel": "email"}, False),
        ({"adapter": "aliyun_sms"}, True),
        ({"adapter": "twilio_sms"}, False),
        ({"account": "sms-cn"}, True),
        ({"account": "sms-us"}, False),
        ({"tenant": "acme"}, True),
        ({"tenant": "beta"}, False),
        ({"template": "pre_due"}, True),
        ({"template": "care"}, False),
        ({"template_version": 2}, True),
        ({"template_version": 1}, False),
        ({"portfolio": "cards"}, True),
        ({"portfolio": "loans"}, True),
        ({"portfolio": "card"}, False),
        ({"jurisdiction": "CN"}, True),
        ({"jurisdiction": "CN-GD"}, True),
        ({"jurisdiction": "CN-G"}, False),
        ({"jurisdiction": "CN-GD-1"}, False),
        ({"jurisdiction": "C"}, False),
        ({"channel": "sms", "jurisdiction": "CN", "portfolio": "cards"}, True),
        ({"channel": "sms", "jurisdiction": "US", "portfolio": "cards"}, False),
    ],
)
def test_a_start_is_covered_when_every_word_is_its_own(words, covered):
    assert pause(**words).covers(START) is covered


@pytest.mark.parametrize(
    ("owner", "covered"), [("acme/live", True), ("*/live", True), ("beta/live", False), ("acme/test", False)]
)
def test_a_pause_holds_for_its_owner_and_mode_alone(owner, covered):
    assert pause(owner=Tenant(owner)).covers(START) is covered
    assert pause(owner=Tenant(owner)).covers_queue(QUEUE) is covered


@pytest.mark.parametrize(
    ("words", "wholly"),
    [
        ({}, True),
        ({"channel": "sms", "tenant": "acme", "template": "pre_due"}, True),
        ({"channel": "email"}, False),
        ({"template": "care"}, False),
        ({"account": "sms-cn"}, False),
        ({"adapter": "aliyun_sms"}, False),
        ({"portfolio": "cards"}, False),
        ({"jurisdiction": "CN"}, False),
        ({"template_version": 2}, False),
    ],
)
def test_a_queue_is_covered_only_when_nothing_that_waits_there_could_go(words, wholly):
    assert pause(**words).covers_queue(QUEUE) is wholly


def test_a_pause_holds_until_its_end_and_not_at_it():
    ends = pause(until=LATER)

    assert first([ends], START, LATER - US) is ends
    assert first([ends], START, LATER) is None
    assert first_of_queue([ends], QUEUE, LATER - US) is ends
    assert first_of_queue([ends], QUEUE, LATER) is None
    assert first([replace(ends, resumed_at=NOW)], START, NOW) is None


def test_a_stop_bars_before_a_pause_and_of_two_alike_the_one_that_holds_longest():
    short, long = pause(name="ps_a", until=LATER), pause(name="ps_b", until=LATER + US)
    endless = pause(name="ps_c")
    stop = pause(name="ps_d", kind=Kind.STOP, until=LATER)

    assert first([long, short], START, NOW) is long
    assert first([endless, long, short], START, NOW) is endless
    assert first([endless, stop, short], START, NOW) is stop
    assert first([], START, NOW) is None


def test_a_refusal_says_why_by_which_and_until_when():
    held = pause(until=LATER).refusal()
    dead = pause(kind=Kind.STOP).refusal()

    assert (held.reason, held.by, held.again) == ("paused", "ps_1", LATER)
    assert (dead.reason, dead.by, dead.again) == ("stopped", "ps_1", None)


@pytest.mark.parametrize(
    ("since_s", "factor"),
    [(0, LEAST_FACTOR), (6, LEAST_FACTOR), (50, 0.5), (99, 0.99), (100, 1.0), (1000, 1.0)],
)
def test_after_its_end_the_pace_grows_evenly_from_its_least(since_s, factor):
    ended = pause(resumed_at=NOW, ramp_s=100, channel="sms")

    assert ramp_factor([ended], LOAD, NOW + timedelta(seconds=since_s)) == pytest.approx(factor)


@pytest.mark.parametrize(
    "other",
    [
        pause(resumed_at=NOW, channel="sms"),
        pause(ramp_s=100, channel="sms"),
        pause(resumed_at=NOW, ramp_s=100, channel="email"),
        pause(resumed_at=NOW, ramp_s=100, owner=Tenant("beta/live")),
        pause(resumed_at=NOW, ramp_s=100, portfolio="cards"),
    ],
    ids=["no ramp", "it still holds", "another channel", "another tenant", "words that have no pace"],
)
def test_a_ramp_slows_only_what_it_covered_and_only_when_it_was_asked_for(other):
    assert ramp_factor([other], LOAD, NOW) == 1.0


def test_of_several_ramps_the_slowest_counts():
    ramps = [pause(resumed_at=NOW, ramp_s=s) for s in (10, 100, 50)]

    assert ramp_factor(ramps, LOAD, NOW + timedelta(seconds=10)) == pytest.approx(0.1)
