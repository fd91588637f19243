"""Ten thousand debts paid while three workers send, with Redis dead for a part of it: who has paid is not called."""

import asyncio
import os
from random import Random

import paces
import pytest
from fleet import now
from makers import phone
from paces import SECOND
from sendrig import TENANT, done

pytestmark = pytest.mark.timeout(1200)
PAID = int(os.environ.get("FAULTS_PAID", "10000"))
RATE, BURST, WORKERS, AT_ONCE, AT_MOST_S = 150, 5, 3, 50, 3
OVER = {"sent", "delivered", "read", "failed", "suppressed"}


async def pays(fleet, numbers):
    """These people pay; when (µs) that was answered, and what the answers say is stopped, and too late for."""
    events = [{"idempotency_key": f"paid-{n}", "debt": f"L-{n}", "type": "paid"} for n in numbers]
    answers = done(await fleet.rig.intake.events(TENANT, events))
    said = list(zip(map(phone, numbers), answers, strict=True))
    return now(), *({to for to, answer in said if answer[word]} for word in ("stopped", "too_late"))


async def all_pay(fleet, count, halfway):
    """All of them, in no order, twice as fast as they are called: when (µs) each was answered, and what was said."""
    order, paid, stopped, too_late = list(range(count)), {}, set(), set()
    Random(1).shuffle(order)
    parts = [order[start : start + AT_ONCE] for start in range(0, count, AT_ONCE)]
    for place, part in enumerate(parts):
        await halfway(place / len(parts))
        answered, *said = await pays(fleet, part)
        paid |= dict.fromkeys(map(phone, part), answered)
        stopped |= said[0]
        too_late |= said[1]
        until = asyncio.get_running_loop().time() + AT_MOST_S
        while fleet.reached() < AT_ONCE * place / 2 and asyncio.get_running_loop().time() < until:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    return paid, stopped, too_late


def after(fleet, paid):
    """How long (µs) after its payment was answered each call came that came after it."""
    return [late for line in fleet.rig.reached() if (late := paces.instant(line) - paid[line["to"]]) > 0]


async def test_who_has_paid_is_not_called_whatever_becomes_of_redis(fleet_of, figure):
    fleet = await fleet_of(0)
    await fleet.quota("sms", scope={"channel": "sms"}, rate=RATE, burst=BURST)
    await fleet.take(PAID)
    await fleet.all_join(WORKERS)

    async def redis_dies_and_comes_back(share):
        if share > 1 / 3 and fleet.redis.process.poll() is None and not died:
            died.append(share)
            fleet.redis.kill()
        if share > 2 / 3 and len(died) == 1:
            died.append(share)
            await fleet.redis.start()

    died = []
    paid, stopped, too_late = await all_pay(fleet, PAID, redis_dies_and_comes_back)
    await fleet.until(lambda: all_over(fleet))

    called = {line["to"] for line in fleet.rig.reached()}
    late = after(fleet, paid)
    figure("paid; of these stopped, called before", f"{len(paid)}; {len(stopped)}, {len(called)}")
    figure("calls a second or more after an answer", f"{sum(at >= SECOND for at in late)} of {len(called)}")
    figure("ms from an answer to the latest call under way by then", max(late, default=0) / 1000)
    assert len(died) == 2
    assert min(len(stopped), len(called)) > PAID / 10
    assert stopped & called == set()
    assert set(paid) - stopped - called <= too_late  # with a call under way, that came to nothing
    assert [at for at in late if at >= SECOND] == []
    assert fleet.reached_twice() == set()


async def all_over(fleet):
    """Nothing waits any more."""
    return {state for state, _ in await fleet.rig.states()} <= OVER


async def test_a_worker_that_pays_no_heed_is_caught(fleet_of):
    fleet = await fleet_of(0)
    await fleet.quota("sms", scope={"channel": "sms"}, rate=RATE, burst=BURST)
    await fleet.take(1000)
    await fleet.all_join(WORKERS, mutant="pays no heed")

    paid, stopped, _ = await all_pay(fleet, 1000, lambda _share: asyncio.sleep(0))
    await fleet.until(lambda: all_over(fleet))

    assert [at for at in after(fleet, paid) if at >= SECOND]
    assert stopped & {line["to"] for line in fleet.rig.reached()}
