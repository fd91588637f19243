"""Four workers, one quota: what the simulators' own ledger says of the pace, whatever happens meanwhile."""

from itertools import chain

import paces
import pytest
from fleet import now
from makers import borrower, phone, reminder
from paces import SECOND, SETTLED_S

pytestmark = pytest.mark.timeout(900)
LENGTH_S = 60


def holds(times, since, rate, burst, figure):
    """Over 60 s the quota's pace; in no window above it."""
    start = since + round(SETTLED_S * SECOND)
    seen = paces.between(times, start, start + LENGTH_S * SECOND)
    figure(f"starts in 60 s at {rate} a second", len(seen))
    figure(f"most in any second at {rate} a second", paces.most(seen, SECOND))
    assert abs(len(seen) - rate * LENGTH_S) <= max(0.01 * rate * LENGTH_S, burst), (rate, len(seen))
    assert paces.over(seen, rate, burst) == {}


async def test_a_quota_is_kept_and_a_change_of_it_takes_hold_within_two_seconds(fleet_of, figure):
    fleet, steps = await fleet_of(0), (50, 200, 20)
    await fleet.quota("sms", scope={"channel": "sms"}, rate=steps[0], burst=1)
    await fleet.take(round(sum(steps) * (LENGTH_S + 2 * SETTLED_S)))
    await fleet.all_join(4)

    changes = []
    for rate in steps:
        changes.append(await fleet.quota("sms", rate=rate))
        await fleet.goes_on(LENGTH_S + SETTLED_S + 1)

    for rate, since in zip(steps, changes, strict=True):
        holds(fleet.sent(), since, rate, 1, figure)


async def test_a_redis_that_is_flushed_killed_and_started_again_lets_nothing_through(fleet_of, figure):
    fleet, rate, burst = await fleet_of(0), 100, 5
    await fleet.quota("sms", scope={"channel": "sms"}, rate=rate, burst=burst)
    await fleet.take(rate * 90)
    await fleet.all_join(4)

    await fleet.goes_on(5)
    for _ in range(4):
        await fleet.redis.say("FLUSHALL")
        await fleet.goes_on(3)
    fleet.redis.kill()
    died = now()
    await fleet.goes_on(15)
    await fleet.redis.start()
    back = now()
    await fleet.goes_on(20)
    fleet.redis.kill()
    again = now()
    await fleet.redis.start()
    await fleet.goes_on(10)

    times = fleet.sent()
    figure("most in any second at 100 a second", paces.most(times, SECOND))
    figure("starts a second without Redis, from 5 s after its death", _per_s(times, died + 5 * SECOND, back))
    assert paces.over(times, rate, burst) == {}
    for since, until in ((died + 5 * SECOND, back), (back, again), (again + 5 * SECOND, again + 10 * SECOND)):
        seen = paces.between(times, since, until)
        assert len(seen) >= rate * (until - since) / SECOND / 2
    assert await fleet.sources() == {"redis"}


def _per_s(times, since, until):
    return len(paces.between(times, since, until)) / ((until - since) / SECOND)


async def test_quotas_within_quotas_are_each_kept(fleet_of, figure):
    """An account's, each tenant's with one of its own, and a template's."""
    fleet = await fleet_of(0, shared={"acme": 1, "beta": 1, "gamma": 1})
    await fleet.quota("account", scope={"account": "sms-cn"}, rate=60, burst=3)
    await fleet.quota("tenants", each=["tenant"], rate=20, burst=1)
    await fleet.quota("beta", scope={"tenant": "beta"}, rate=12, burst=1)
    await fleet.quota("dear", scope={"template": "care"}, rate=15, burst=1)
    numbers = {}
    about = {"pre_due": "pre_due_reminder", "care": "service_notice"}
    for tenant, template in (("acme", "pre_due"), ("acme", "care"), ("beta", "pre_due"), ("gamma", "care")):
        numbers[tenant, template] = await fleet.take_for(
            tenant, 1000, template=template, purpose=about[template]
        )
    await fleet.all_join(4)
    await fleet.goes_on(40)

    sent = {key: fleet.sent_to(to) for key, to in numbers.items()}
    acme = sorted(sent["acme", "pre_due"] + sent["acme", "care"])
    dear = sorted(sent["acme", "care"] + sent["gamma", "care"])
    for times, rate, burst in (
        (sorted(chain(*sent.values())), 60, 3),
        (acme, 20, 1),
        (sent["beta", "pre_due"], 12, 1),
        (sent["gamma", "care"], 20, 1),
        (dear, 15, 1),
    ):
        assert times
        figure(f"most in any second of {rate} a second", paces.most(times, SECOND))
        assert paces.over(times, rate, burst) == {}
    assert len(acme) >= 0.9 * 20 * 36
    assert len(sent["beta", "pre_due"]) >= 0.9 * 12 * 36


async def test_suppressed_work_and_work_that_falls_to_another_channel_eat_no_pace(fleet_of, figure):
    """Four of five have opted out; in the middle come 1 000, urgent, whom only their second channel reaches."""
    fleet = await fleet_of(0)
    await fleet.quota("sms", scope={"channel": "sms"}, rate=40, burst=2)
    await fleet.quota("mail", scope={"channel": "email"}, rate=25, burst=2)
    await fleet.take_all([someone(n) for n in range(14_000)])
    await fleet.all_join(4)
    started = now()
    await fleet.goes_on(20)
    await fleet.take_all([falls(n) for n in range(14_000, 15_000)])
    fell = now()
    await fleet.goes_on(45)

    text, mail = fleet.sent(kind="sms"), fleet.sent(kind="email")
    assert paces.over(text, 40, 2) == {}
    assert paces.over(mail, 25, 2) == {}
    seen = paces.between(text, started + 2 * SECOND, started + 62 * SECOND)
    figure("texts in 60 s at 40 a second", len(seen))
    assert abs(len(seen) - 40 * 60) <= 0.01 * 40 * 60 + 2
    assert len(paces.between(mail, fell + 2 * SECOND, fell + 32 * SECOND)) >= 0.97 * 25 * 30


def out(number, **more):
    return borrower(number, opt_outs=[{"channel": "sms", "at": "2026-11-20T00:00:00Z"}], **more)


def someone(number):
    if number % 5:
        return reminder(number, borrower=out(number), channels=["sms"])
    return reminder(number, channels=["sms"])


def falls(number):
    addresses = [
        {"channel": "sms", "value": phone(number), "kind": "personal"},
        {"channel": "email", "value": f"b{number}@example.com"},
    ]
    return reminder(
        number, borrower=out(number, addresses=addresses), channels=["sms", "email"], priority="urgent"
    )
