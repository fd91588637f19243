"""Redis fails over to a replica that lags, workers are replaced one by one, and nobody is reached twice or too fast."""

import asyncio
import os
import time

import paces
import pytest
from fleet import now
from paces import SECOND
from sentinels import Sentinels

pytestmark = pytest.mark.timeout(1800)
RATE, BURST = 200, 5
FAIL_OVERS = int(os.environ.get("FAULTS_FAILOVERS", "5"))
RESTARTS = int(os.environ.get("FAULTS_RESTARTS", "20"))
WORKERS, LAG_S, BETWEEN_S, LIKELY_S = 3, 3.0, 5.0, 22


async def test_redis_fails_over_and_workers_are_replaced_and_each_is_reached_once(fleet_of, tmp_path, figure):
    fleet = await fleet_of(0)
    await fleet.quota("sms", scope={"channel": "sms"}, rate=RATE, burst=BURST)
    count = RATE * max(FAIL_OVERS * LIKELY_S, RESTARTS * 6)
    await fleet.take(count)
    async with Sentinels(tmp_path) as sentinels:
        fleet.environ["GATEWAY_REDIS_URL"] = sentinels.url
        await fleet.all_join(WORKERS)
        began = now()
        codes, took = [], []

        async def fails_over():
            for number in range(FAIL_OVERS):
                await asyncio.sleep(BETWEEN_S)
                since = time.monotonic()
                await sentinels.fail_over(lag_s=LAG_S if number % 2 else 0.0)
                took.append(time.monotonic() - since)

        async def rolls():
            for _ in range(RESTARTS):
                await asyncio.sleep(1)
                old = fleet.workers.pop(0)
                old.terminate()
                codes.append(await asyncio.to_thread(old.wait, 40))
                await fleet.all_join(1)

        await asyncio.gather(fails_over(), rolls())
        ended = now()
        await fleet.until(lambda: asyncio.sleep(0.5, len(fleet.sent()) >= count), patience=count / RATE + 120)
        await fleet.until(lambda: grants_again(fleet))

    times = fleet.sent()
    figure("reminders, fail-overs, restarts", f"{count}, {len(took)}, {len(codes)}")
    figure(f"most in any second at {RATE} a second", paces.most(times, SECOND))
    figure("starts a second meanwhile", len(paces.between(times, began, ended)) / ((ended - began) / SECOND))
    reached = {line["to"] for line in fleet.rig.reached()}
    figure("lost, twice", f"{count - len(reached)}, {len(fleet.reached_twice())}")
    assert set(codes) == {0}
    assert fleet.reached_twice() == set()
    assert len(times) == count
    assert paces.over(times, RATE, BURST) == {}


async def grants_again(fleet):
    """Redis is trusted with the pace again; after several changes it is watched for a while first."""
    return await fleet.sources() == {"redis"}
