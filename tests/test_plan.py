"""What a plan says of a backlog, beside what arithmetic says, and beside a drain of single starts."""

from __future__ import annotations

import time as clock
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from itertools import pairwise

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from plain_drain import Drain

from gateway.domain import Mode, Money, Tenant
from gateway.quotas.counting import SLICE_US, Tally, day_of, floor
from gateway.quotas.flows import Terms, Waiting, Way
from gateway.quotas.model import Budget, Closed, Load, Per, Quota, Scope, Unit, deployment
from gateway.quotas.plan import plan

NOW = datetime(2026, 11, 24, 2, 0, tzinfo=UTC)
"""A Tuesday, 10:00 in Shanghai."""
SHANGHAI = "Asia/Shanghai"
YUAN = Money(amount=Decimal("0.045"), currency="CNY")
WEEK_S = 7 * 86_400


def way(tenant="acme", priority=1, account="sms-cn", template="pre_due", *, channel="sms", **more):
    load = Load(
        tenant=Tenant(f"{tenant}/live"),
        channel=channel,
        adapter="aliyun_sms",
        account=account,
        template=template,
        shared=True,
        priority=priority,
    )
    return Way(load=load, **more)


def waits(count, to=None, *, due=0, expires=WEEK_S, **more):
    return Waiting(
        way=to or way(**more),
        due=NOW + timedelta(seconds=due),
        expires=NOW + timedelta(seconds=expires),
        count=count,
    )


def quota(name="q", **limits):
    if "rate" in limits:
        limits["rate"] = Decimal(str(limits["rate"]))
    return Quota(owner=deployment(Mode.LIVE), name=name, **limits)


def planned(waiting, *quotas, tallies=(), proposed=None):
    terms = Terms(quotas=quotas, tallies=dict(tallies))
    other = terms if proposed is None else Terms(quotas=proposed, tallies=dict(tallies))
    return plan(waiting, today=terms, proposed=other, now=NOW)


def drains(waiting, *quotas, **more):
    """Seconds from now until each queue is drained, in the plan's order."""
    return [
        round((q.now.drains_at - NOW).total_seconds(), 3) for q in planned(waiting, *quotas, **more).queues
    ]


TWO = [waits(1000, account="x"), waits(1000, tenant="beta", account="y")]


@pytest.mark.parametrize(
    ("waiting", "quotas", "seconds"),
    [
        ([waits(1000)], [quota(rate=50)], [20]),
        ([waits(1000)], [], [0]),
        ([waits(1000, due=600)], [quota(rate=50, burst=500)], [610]),
        ([waits(10), waits(10, due=100)], [quota(rate=50)], [100.1]),
        ([waits(1000, segments=3.0)], [quota(rate=50, unit=Unit.SEGMENT)], [60]),
        ([waits(1000, segments=3.0)], [quota(rate=50)], [20]),
        ([waits(1000, call_s=0.5)], [quota(concurrency=8)], [62.5]),
        ([waits(1000)], [quota(per_minute=100)], [9 * 65]),
        ([waits(1000)], [quota(per_hour=100)], [9 * 61 * 60]),
        ([waits(1000)], [quota(rate=50, per_minute=600)], [72.9]),
        ([waits(1000)], [quota("a", rate=50), quota("b", rate=20, scope=Scope(channel="sms"))], [50]),
        ([waits(1000)], [quota(rate=1, scope=Scope(channel="email"))], [0]),
        (
            [waits(1000, account="x"), waits(1000, tenant="beta", account="y")],
            [quota(rate=50, each=("account",))],
            [20, 20],
        ),
        ([waits(1000, account="x"), waits(1000, tenant="beta", account="y")], [quota(rate=50)], [40, 40]),
        ([waits(1000)], [quota(rate=10, until=NOW + timedelta(seconds=50), before=quota(rate=50))], [60]),
        ([waits(1000)], [quota(rate=10, until=NOW + timedelta(seconds=50))], [50]),
    ],
)
def test_a_queue_drains_when_arithmetic_says(waiting, quotas, seconds):
    assert drains(waiting, *quotas) == pytest.approx(seconds, abs=0.02)


def test_tenants_share_an_account_by_weight_and_what_one_leaves_goes_to_the_others():
    waiting = [waits(3000, tenant="acme", weight=3.0), waits(3000, tenant="beta")]
    assert drains(waiting, quota(rate=50)) == pytest.approx([80, 120])


def test_lower_lanes_keep_their_floors():
    waiting = [waits(3000, priority=lane) for lane in (0, 1, 2)]
    assert drains(waiting, quota(rate=50)) == pytest.approx([3000 / 42.5, 6000 / 47.5, 180], rel=1e-3)


def test_what_a_tenants_own_quota_bars_goes_to_the_others():
    waiting = [waits(1000, tenant="acme"), waits(1000, tenant="beta")]
    own = quota("own", rate=5, scope=Scope(tenant="acme"))
    assert drains(waiting, quota(rate=50), own) == pytest.approx([200, 1000 / 45], rel=1e-3)


def test_a_day_quota_rolls_the_rest_into_tomorrow_to_the_one():
    (queue,) = planned([waits(50_000)], quota(rate=50, per_day=20_000, zone=SHANGHAI)).queues
    assert queue.day_ends == datetime(2026, 11, 24, 16, tzinfo=UTC)
    assert (queue.now.rolls_over, queue.now.expires) == (30_000, 0)
    assert queue.now.drains_at == pytest.approx(
        queue.day_ends + timedelta(days=1, seconds=200), abs=timedelta(seconds=1)
    )


def test_what_was_started_this_morning_counts():
    key = f"{deployment(Mode.LIVE)}|q||"
    (queue,) = planned(
        [waits(100)], quota(per_day=120, zone=SHANGHAI), tallies={key: Tally(day=(50, 0))}.items()
    ).queues
    assert queue.now.rolls_over == 30


def test_what_was_started_this_minute_counts():
    key = f"{deployment(Mode.LIVE)}|q||"
    begun = floor(NOW, SLICE_US)
    tally = Tally(slices={begun - 6 * SLICE_US: 60, begun: 40})
    assert drains([waits(60)], quota(per_minute=100), tallies={key: tally}.items()) == [35]
    assert drains([waits(61)], quota(per_minute=100), tallies={key: tally}.items()) == [65]


def test_a_budget_is_spent_to_the_last_message_that_fits_and_says_what_it_costs():
    budget = Budget(amount=Decimal(500), currency="CNY", per=Per.DAY)
    waiting = [waits(20_000, price=YUAN)]
    (queue,) = planned(waiting, quota(budget=budget, zone=SHANGHAI)).queues
    assert queue.now.rolls_over == 20_000 - 11_111
    assert queue.now.cost == (Money(amount=Decimal("900.000"), currency="CNY"),)
    dollars = Budget(amount=Decimal(1), currency="USD", per=Per.DAY)
    assert drains(waiting, quota(budget=dollars)) == [0]  # these prices are not in its currency


def test_a_months_budget_waits_for_the_month():
    budget = Budget(amount=Decimal(45), currency="CNY", per=Per.MONTH)
    waiting = [waits(1001, price=YUAN, expires=30 * 86_400)]
    (queue,) = planned(waiting, quota(budget=budget, zone=SHANGHAI)).queues
    assert queue.now.drains_at == datetime(2026, 11, 30, 16, tzinfo=UTC)


def test_closed_hours_are_waited_for():
    noon = Closed(since=time(12), until=time(14))
    assert drains([waits(7200 + 100)], quota(rate=1, closed=(noon,), zone=SHANGHAI)) == pytest.approx(
        [14_500], abs=2
    )
    night = Closed(since=time(22), until=time(10, 30))
    assert drains([waits(100)], quota(rate=1, closed=(night,), zone=SHANGHAI)) == pytest.approx([1900], abs=2)


@pytest.mark.parametrize(("day", "hours"), [((2026, 3, 8), 23), ((2026, 11, 1), 25)])
def test_a_day_with_another_clock_is_as_long_as_it_is(day, hours):
    midnight = datetime(*day, 12, tzinfo=UTC)
    begin, end = day_of("America/New_York", midnight)
    terms = Terms(quotas=[quota(per_day=10, zone="America/New_York")])
    waiting = [Waiting(way=way(), due=begin, expires=end + timedelta(days=3), count=25)]
    (queue,) = plan(waiting, today=terms, proposed=terms, now=begin).queues
    assert queue.now.drains_at - begin == timedelta(hours=hours + 24)


def test_what_does_not_start_in_time_expires_and_takes_no_pace():
    waiting = [waits(1000, expires=10), waits(500, due=5)]
    (queue,) = planned(waiting, quota(rate=50)).queues
    assert queue.now.expires == 500
    assert queue.now.drains_at == NOW + timedelta(seconds=20)


def test_a_shut_quota_lets_all_expire():
    (queue,) = planned([waits(10, expires=100)], quota(per_day=0)).queues
    assert (queue.now.expires, queue.now.drains_at) == (10, NOW + timedelta(seconds=100))


def test_what_is_due_tomorrow_does_not_roll_over():
    (queue,) = planned([waits(10, due=86_400)], quota(per_day=1, zone=SHANGHAI)).queues
    assert queue.now.rolls_over == 0


def test_both_sides_stand_beside_each_other_and_are_drawn_over_the_same_time():
    waiting = [waits(1000), waits(1000, channel="email", account="mail")]
    found = planned(waiting, quota("q", rate=50, scope=Scope(channel="sms")), proposed=[quota("q", rate=25)])
    email, sms = found.queues
    assert (email.channel, sms.channel) == ("email", "sms")
    assert (sms.now.drains_at, sms.proposed.drains_at) == (
        NOW + timedelta(seconds=20),
        NOW + timedelta(seconds=80),
    )
    assert found.times[-1] == NOW + timedelta(seconds=80)
    assert len(found.times) == len(sms.now.curve)
    assert sms.now.curve[15] == 0
    assert (sms.proposed.curve[0], sms.proposed.curve[30], sms.proposed.curve[-1]) == (1000, 500, 0)
    assert all(before >= after for before, after in pairwise(sms.proposed.curve))


def test_nothing_waits_and_nothing_is_planned():
    assert planned([], quota(rate=50)).queues == ()


def test_a_million_are_planned_within_two_seconds():
    waiting = [
        waits(2500, due=60 * minute, tenant=f"t{tenant}", priority=lane, channel=channel, account=channel)
        for tenant in range(3)
        for lane in range(3)
        for channel in ("sms", "email", "voice", "wechat")
        for minute in (*range(8), 120, 840, 2280)
    ]
    assert sum(one.count for one in waiting) == 990_000
    began = clock.process_time()
    planned(
        waiting, quota(rate=100, per_day=900_000), quota("each", rate=50, each=("account",), per_minute=2800)
    )
    assert clock.process_time() - began < 2


# Beside a drain of single starts.

RATES = st.sampled_from([5, 8, 12, 20, 31])
TENANTS = {"acme": 3.0, "beta": 1.0, "gamma": 1.0}
QUOTAS = {
    "all": st.builds(quota, st.just("all"), rate=RATES, unit=st.sampled_from(Unit)),
    "each": st.builds(
        quota, st.just("each"), rate=RATES, burst=st.sampled_from([None, 1, 20]), each=st.just(("account",))
    ),
    "own": st.builds(
        quota, st.just("own"), per_minute=st.integers(150, 900), scope=st.just(Scope(tenant="acme"))
    ),
    "bulk": st.builds(quota, st.just("bulk"), rate=RATES, scope=st.just(Scope(template="mass"))),
}


@st.composite
def backlogs(draw):
    """Some hundred starts through one account, some later, some soon to expire, under one to three nested quotas."""
    waiting = [
        waits(draw(st.integers(20, 120)), to, due=due, expires=due + draw(st.sampled_from([30, 60, WEEK_S])))
        for to in draw(st.lists(st.builds(_way, st.sampled_from([*TENANTS]), st.integers(0, 2)), max_size=4))
        for due in draw(st.lists(st.sampled_from([0, 0, 10, 45]), min_size=1, max_size=2))
    ]
    names = draw(
        st.sampled_from(["all", "each", "bulk", "own", "all each", "each own", "all each own", "bulk own"])
    )
    return waiting, [draw(QUOTAS[name]) for name in names.split()]


def _way(tenant, lane):
    template, segments = ("mass", 2.0) if lane == 2 else ("pre_due", 1.0)
    return way(tenant, lane, template=template, segments=segments, weight=TENANTS[tenant])


@settings(max_examples=5, derandomize=True, phases=[Phase.generate])
@given(backlogs())
def test_a_plan_says_what_single_starts_come_to(drawn):
    waiting, quotas = drawn
    came = Drain(waiting, quotas, NOW).run()
    for queue in planned(waiting, *quotas).queues:
        real = came[queue.channel, queue.tenant, queue.priority]
        assert_alike(queue, real, waiting)


def assert_alike(queue, real, waiting):
    """Drain times within 5 %, or 2 s where a few starts more or less are that; expiries but for what is as near."""
    near = max(0.05 * real.drains_at, 2.0)
    drains_at = (queue.now.drains_at - NOW).total_seconds()
    assert drains_at == pytest.approx(real.drains_at, abs=near)
    ends = {(one.expires - NOW).total_seconds() for one in waiting}
    doubtful = sum(any(abs(at - end) <= near for end in ends) for at in (*real.starts, *real.expired))
    assert abs(queue.now.expires - len(real.expired)) <= doubtful
