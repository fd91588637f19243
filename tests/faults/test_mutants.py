"""The ledger sees what it is there to see: workers with one mistake sown into them are caught by the same figures."""

import asyncio

import paces
import pytest
from fleet import now
from makers import NOW
from paces import SECOND
from test_counted import A_DAY, TO_MIDNIGHT, ZONE, counted
from test_pace import someone

pytestmark = pytest.mark.timeout(600)
RATE = 40


async def pace_of(fleet, mutant, *, burst, count=1200):
    """Four such workers at RATE, under way."""
    await fleet.quota("sms", scope={"channel": "sms"}, rate=RATE, burst=burst)
    await fleet.take(count)
    await fleet.all_join(4, mutant=mutant)
    await fleet.until(lambda: asyncio.sleep(0, len(fleet.sent()) > RATE))


@pytest.mark.parametrize(("mutant", "caught"), [(None, False), ("fixed window", True)])
async def test_a_fixed_window_is_caught_where_two_of_its_seconds_meet(fleet_of, mutant, caught):
    fleet = await fleet_of(0)
    await pace_of(fleet, mutant, burst=1)
    await fleet.goes_on(15)

    assert bool(paces.over(fleet.sent(), RATE, 1)) == caught


@pytest.mark.parametrize(("mutant", "caught"), [(None, False), ("full bucket", True)])
async def test_a_bucket_that_is_full_after_a_flush_is_caught_when_it_is_flushed_often(
    fleet_of, mutant, caught
):
    fleet = await fleet_of(0)
    await pace_of(fleet, mutant, burst=10)
    for _ in range(30):
        await fleet.redis.say("FLUSHALL")
        await asyncio.sleep(0.15)

    assert bool(paces.over(fleet.sent(), RATE, 10)) == caught


@pytest.mark.parametrize(("mutant", "caught"), [(None, False), ("local share", True)])
async def test_a_share_for_each_worker_is_caught_when_a_fifth_joins(fleet_of, mutant, caught):
    fleet = await fleet_of(0)
    await pace_of(fleet, mutant, burst=2, count=2000)
    await fleet.all_join(1, mutant=mutant)
    await fleet.goes_on(25)

    assert bool(paces.over(fleet.sent(), RATE, 2, widths=(SECOND, 10 * SECOND))) == caught


@pytest.mark.parametrize(("mutant", "caught"), [(None, False), ("takes first", True)])
async def test_a_take_before_deciding_is_caught_by_the_pace_that_suppressed_work_ate(
    fleet_of, mutant, caught
):
    fleet = await fleet_of(0)
    await fleet.quota("sms", scope={"channel": "sms"}, rate=20, burst=2)
    await fleet.take_all([someone(n) for n in range(3000)])
    await fleet.all_join(4, mutant=mutant)
    await fleet.until(lambda: asyncio.sleep(0, len(fleet.sent()) > 20))
    since = now()
    await fleet.goes_on(20)

    assert (len(paces.between(fleet.sent(), since, now())) < 0.9 * 20 * 20) == caught


@pytest.mark.parametrize(("mutant", "caught"), [(None, False), ("counted in redis", True)])
async def test_a_day_that_is_counted_in_redis_alone_is_caught_by_a_flush(fleet_of, mutant, caught):
    fleet = await fleet_of(0, clock=NOW - TO_MIDNIGHT)
    await fleet.quota("day", scope={"channel": "sms"}, per_day=A_DAY, rate=40, burst=4, zone=ZONE)
    await fleet.take(3 * A_DAY)
    await fleet.all_join(4, mutant=mutant)
    await fleet.until(lambda: asyncio.sleep(0, len(fleet.sent()) > A_DAY / 2))
    await fleet.redis.say("FLUSHALL")
    await fleet.goes_on(15)

    assert ((await counted(fleet))["sms"] > A_DAY) == caught
