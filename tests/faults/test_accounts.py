"""Four workers and a provider that refuses, throttles or says nothing; the provider's own notes are the witness."""

import asyncio
from datetime import UTC, datetime

import pytest
from fleet import now
from makers import rows
from moody import against
from paces import SECOND, between, most

from channels._http1 import AT_ONCE
from gateway.domain import from_us

pytestmark = pytest.mark.timeout(600)
POOL = "acme/live|sms-cn"
WORKERS = 4


async def states(fleet):
    return await fleet.rig.states()


def all_of(count, provider):
    async def so():
        return len(provider.taken) >= count

    return so


async def breaker(fleet):
    _, standings = await fleet.rig.gateway.standings.standings()
    return standings[POOL].breaker if POOL in standings else "closed"


async def test_after_a_wrong_password_no_call_begins_later_than_250_ms(fleet_of, figure):
    fleet = await fleet_of(0)
    async with against(fleet.rig) as provider:
        provider.mood = "wrong password"
        await fleet.quota("sms", scope={"channel": "sms"}, rate=200)
        await fleet.take(1000)
        await fleet.all_join(4)
        await fleet.until(lambda: asyncio.sleep(0, provider.asked))
        await fleet.goes_on(12)

        late = [at - provider.asked[0] for at in provider.asked]
        assert max(late) <= 250_000, late
        assert await breaker(fleet) == "open"
        assert sum((await states(fleet)).values()) == sum(
            n
            for (state, _), n in (await states(fleet)).items()
            if state in ("waiting", "deferred", "sending")
        )
        provider.mood = "good"
        mended = now()
        await fleet.until(all_of(1000, provider))
        figure("ms from the first refusal to the last call", max(late) / 1000)
        figure("s from mending to the last reminder", (provider.times()[-1] - mended) / SECOND)

    assert sorted({n for _, n in provider.taken}) == sorted(n for _, n in provider.taken), "nobody twice"


@pytest.mark.parametrize("rate", [1, 50])
async def test_a_provider_that_swallows_every_reply_is_left_within_2_s_of_the_first_time_out(
    fleet_of, figure, rate
):
    fleet = await fleet_of(0)
    async with against(fleet.rig) as provider:
        await fleet.quota("sms", scope={"channel": "sms"}, rate=rate, burst=1)
        await fleet.take(40 * rate)
        await fleet.all_join(WORKERS)
        await fleet.goes_on(6)
        provider.mood = "silent"
        await fleet.until(lambda: is_open(fleet))
        await fleet.goes_on(4)
        await fleet.until(lambda: nothing_under_way(fleet))

        found = await rows(fleet.rig.database, "attempt", "ending = 'unknown'")
        figure(
            "unknown, of so many calls that the workers make at once",
            f"{len(found)} of {WORKERS * AT_ONCE}",
        )
        assert len(found) <= 2 * WORKERS * AT_ONCE
        first = min(row.ended_at for row in found)
        _, standings = await fleet.rig.gateway.standings.standings()
        opened = standings[POOL].opened_at
        took = (opened - from_us(first)).total_seconds()
        figure("s from the first time-out to the open breaker", took)
        assert took <= 2
        last = max(at for at, _ in provider.taken)
        assert datetime.fromtimestamp(last / SECOND, UTC) <= opened + (from_us(500_000) - from_us(0))
    numbers = [n for _, n in provider.taken]
    assert len(set(numbers)) == len(numbers), "nobody twice"


async def nothing_under_way(fleet):
    return not await rows(fleet.rig.database, "attempt", "state = 'calling'")


async def is_open(fleet):
    return await breaker(fleet) == "open"


async def test_a_provider_that_throttles_for_10_s_loses_nothing_and_has_its_pace_again_within_60_s(
    fleet_of, figure
):
    fleet, rate, count = await fleet_of(0), 50, 4000
    async with against(fleet.rig) as provider:
        await fleet.quota("sms", scope={"channel": "sms"}, rate=rate, burst=1)
        await fleet.take(count)
        await fleet.all_join(4)
        await fleet.goes_on(8)
        provider.mood = "too fast"
        begun = now()
        await fleet.goes_on(10)
        provider.mood, healed = "good", now()
        refused = [at for at in provider.asked if begun <= at < healed]
        await fleet.goes_on(60)
        assert {state for state, _ in await states(fleet)} <= {"sent", "waiting", "sending", "deferred"}
        await fleet.until(all_of(count, provider))

        times = provider.times()
        from_then = range(healed, healed + 60 * SECOND, SECOND // 4)
        reached = {at: len(between(times, at, at + 5 * SECOND)) / 5 for at in from_then}
        full = next((at for at, per_s in reached.items() if per_s >= 0.95 * rate), None)
        assert full is not None, f"at most {max(reached.values())} of {rate} a second"
        figure("calls in 10 s of throttling", len(refused))
        figure("s from recovery to the full pace", (full - healed) / SECOND)
        assert most(times, SECOND) <= rate + 1 + 0.25 * rate
        assert len(refused) < 10 * rate / 4
    await fleet.until(lambda: all_sent(fleet, count))
    numbers = [n for _, n in provider.taken]
    assert len(set(numbers)) == len(numbers) == count, "each once"


async def all_sent(fleet, count):
    return await states(fleet) == {("sent", None): count}
