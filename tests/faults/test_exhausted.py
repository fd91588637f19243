"""PostgreSQL has no connection left, again and again, and ends those that workers had: all is sent once."""

import asyncio
import os
import time

import asyncpg
import pytest

pytestmark = pytest.mark.timeout(900)
TIMES = int(os.environ.get("FAULTS_EXHAUSTED", "3"))
RATE, WORKERS, BETWEEN_S, FULL_S = 50, 3, 6.0, 8.0
COUNT = int(RATE * TIMES * (BETWEEN_S + FULL_S) + RATE * 10)
THE_OTHERS = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'client backend'"


class Hog:
    """Takes every connection that a server gives."""

    def __init__(self, url):
        self.url, self.held, self.refused = url, [], 0

    async def grab(self):
        """All that there are now."""
        while True:
            try:
                self.held.append(await asyncpg.connect(self.url, timeout=5))
            except asyncpg.TooManyConnectionsError:
                self.refused += 1
                return

    async def end_others(self):
        """Whoever else has one loses it; how many had."""
        mine = [conn.get_server_pid() for conn in self.held]
        return len(await self.held[0].fetch(f"{THE_OTHERS} AND pid <> ALL($1::int[])", mine))

    async def let_go(self):
        for conn in self.held:
            await conn.close(timeout=5)
        self.held.clear()


async def test_no_connection_is_left_again_and_again_and_all_is_sent_once(fleet_of, figure):
    fleet = await fleet_of(0)
    await fleet.quota("sms", scope={"channel": "sms"}, rate=RATE, burst=5)
    await fleet.take(COUNT)
    await fleet.all_join(WORKERS)
    hog, ended, meanwhile = Hog(fleet.environ["GATEWAY_VAULT_URL"]), 0, 0
    for _ in range(TIMES):
        await fleet.goes_on(BETWEEN_S)
        await hog.grab()
        until = time.monotonic() + FULL_S
        while time.monotonic() < until:
            ended += await hog.end_others()
            await hog.grab()
            await asyncio.sleep(0.1)
        before = fleet.reached()
        await asyncio.sleep(2)
        meanwhile += fleet.reached() - before
        await hog.let_go()
    await fleet.until(lambda: asyncio.sleep(0.5, fleet.reached() >= COUNT), COUNT / RATE + 180)
    await fleet.goes_on(3)

    reached = {line["to"] for line in fleet.rig.reached()}
    figure("times without a connection, refusals, sessions ended", f"{TIMES}, {hog.refused}, {ended}")
    figure("calls in the last 2 s of each", meanwhile)
    figure("lost, twice", f"{COUNT - len(reached)}, {len(fleet.reached_twice())}")
    assert ended > TIMES * WORKERS
    assert meanwhile == 0
    assert fleet.reached_twice() == set()
    assert len(reached) == COUNT
