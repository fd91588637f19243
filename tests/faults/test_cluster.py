"""The pace from a cluster of Redis whose nodes take over from each other; what is due is found by the sweep alone."""

import asyncio
import os

import paces
import pytest
from clustered import Cluster
from paces import SECOND

pytestmark = pytest.mark.timeout(900)
RATE, BURST, WORKERS = 100, 5, 3
TAKE_OVERS = int(os.environ.get("FAULTS_TAKE_OVERS", "4"))
BETWEEN_S, LAG_S = 8.0, 2.0
COUNT = int(RATE * (TAKE_OVERS + 2) * BETWEEN_S)


async def test_nodes_of_a_cluster_take_over_and_each_is_reached_once_at_the_pace(fleet_of, tmp_path, figure):
    fleet = await fleet_of(0)
    await fleet.quota("sms", scope={"channel": "sms"}, rate=RATE, burst=BURST)
    await fleet.take(COUNT)
    async with Cluster(tmp_path) as cluster:
        fleet.environ["GATEWAY_REDIS_URL"] = cluster.url
        await fleet.all_join(WORKERS)
        await fleet.until(lambda: from_redis(fleet))
        for number in range(TAKE_OVERS):
            await asyncio.sleep(BETWEEN_S)
            if number % 2:
                await cluster.lags()
                await asyncio.sleep(LAG_S)
            await cluster.take_over()
        await fleet.until(lambda: asyncio.sleep(0.5, len(fleet.sent()) >= COUNT), patience=COUNT / RATE + 120)
        await fleet.until(lambda: from_redis(fleet))

    times = fleet.sent()
    figure("reminders, take-overs", f"{COUNT}, {TAKE_OVERS}")
    figure(f"most in any second at {RATE} a second", paces.most(times, SECOND))
    reached = {line["to"] for line in fleet.rig.reached()}
    figure("lost, twice", f"{COUNT - len(reached)}, {len(fleet.reached_twice())}")
    assert fleet.reached_twice() == set()
    assert len(times) == COUNT
    assert paces.over(times, RATE, BURST) == {}


async def from_redis(fleet):
    """The pace is granted by the cluster; after several changes it is watched for a while first."""
    return await fleet.sources() == {"redis"}
