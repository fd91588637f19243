"""A pooler of transactions stands before PostgreSQL, session locks go past it, and workers are killed meanwhile."""

import asyncio
from statistics import median

import pytest
from fleet import now
from makers import rows
from paces import SECOND
from pooler import pooled

pytestmark = pytest.mark.timeout(900)
COUNT, RATE, WORKERS, KILLS, CONNECTIONS = 3_000, 150, 3, 4, 10
CALLS_AT_ONCE, MARKED_S = 64, 15.0


async def test_behind_a_pooler_all_is_sent_once_and_whoever_is_killed_is_judged_dead(
    fleet_of, postgres_url, tmp_path, figure
):
    fleet = await fleet_of(0)
    await fleet.quota("sms", scope={"channel": "sms"}, rate=RATE, burst=5)
    await fleet.take(COUNT)
    async with pooled(tmp_path / "pooler", postgres_url, CONNECTIONS) as pooler:
        fleet.environ["GATEWAY_DATABASE_URL"] = f"{pooler.url}?sslmode=disable"
        fleet.environ["GATEWAY_DATABASE_DIRECT_URL"] = f"{postgres_url}?sslmode=disable"
        await fleet.all_join(WORKERS)
        died = {}
        for killed in range(1, KILLS + 1):
            await fleet.until(lambda n=killed: asyncio.sleep(0.1, fleet.reached() > n * COUNT / (KILLS + 2)))
            clients, servers = pooler.connections()
            died[await fleet.kill_one()] = now() / SECOND
            fleet.join()

        async def over():
            found = await rows(fleet.rig.database, "reminder", "state IN ('waiting', 'sending', 'deferred')")
            return not found

        await fleet.until(over, patience=COUNT / RATE + 120)
        await fleet.end()

    states = {}
    for (state, _), number in (await fleet.rig.states()).items():
        states[state] = states.get(state, 0) + number
    marked_s = await fleet.marked_s(died)
    unknown = await rows(fleet.rig.database, "attempt", "ending = 'unknown'")
    reached = {line["to"] for line in fleet.rig.reached()}
    figure("sent, killed", f"{len(reached)} of {COUNT}, {KILLS}")
    figure("connections of workers, and of the pooler", f"{clients}, {servers}")
    figure("calls that were cut, how reminders ended", f"{len(unknown)}, {states}")
    figure(
        "s from a kill to the mark on its calls, median and most",
        f"{median(marked_s):.1f}, {marked_s[-1]:.1f}",
    )
    figure("twice", len(fleet.reached_twice()))
    assert marked_s[-1] <= MARKED_S
    assert clients > CONNECTIONS >= servers
    assert fleet.reached_twice() == set()
    assert sum(states.values()) == COUNT
    assert COUNT - len(unknown) <= len(reached)
    assert len(unknown) <= KILLS * CALLS_AT_ONCE
