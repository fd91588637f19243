"""Workers stand still in the midst of calls until they are taken for dead, and go on: nobody is reached twice.

One keeps its lock, until it is given up; all others lose it at once, as by what stands between them and the server.
"""

import asyncio
import os
import signal
import time

import pytest
from makers import rows

from gateway.store.owners import END_SESSION, GIVEN_UP

pytestmark = pytest.mark.timeout(1800)
STOPS = int(os.environ.get("FAULTS_STOPS", "10"))
RATE, WORKERS, CALL_S, RUNS_S = 30, 4, 0.8, 2.0
JUDGED_S = 80
"""Until who is silent, and has no lock any more, is marked; rows that it has locked are free after a minute."""
SETTLED_S = 420
"""The quarantine, and the wait between the first question and the second."""


async def test_workers_stand_still_past_their_lease_and_go_on_and_each_is_reached_once(fleet_of, figure):
    fleet = await fleet_of(0)
    await fleet.quota("sms", scope={"channel": "sms"}, rate=RATE, burst=5)
    count = int(RATE * (GIVEN_UP.total_seconds() + 60 + STOPS))
    await fleet.take(count)
    await fleet.rig.simulators.next("aliyun", "slow", seconds=CALL_S, count=count)
    await fleet.all_join(WORKERS)
    await fleet.goes_on(RUNS_S)

    long, *others = fleet.workers
    in_flight = [await stop(fleet, long)]
    began = time.monotonic()
    for number in range(STOPS):
        worker = others[number % len(others)]
        await asyncio.sleep(RUNS_S)
        in_flight.append(await stop(fleet, worker))
        await cut_off(fleet, worker)
        await fleet.until(lambda worker=worker: marked(fleet, worker), JUDGED_S)
        worker.send_signal(signal.SIGCONT)
        await fleet.until(lambda worker=worker: beats(fleet, worker), JUDGED_S)
    await fleet.until(lambda: marked(fleet, long), GIVEN_UP.total_seconds() + JUDGED_S)
    given_up_s = time.monotonic() - began
    fleet.workers.remove(long)
    long.send_signal(signal.SIGCONT)
    code = await asyncio.to_thread(long.wait, JUDGED_S)
    await fleet.all_join(1)
    await fleet.until(lambda: nothing_waits(fleet), count / RATE + 120)
    await fleet.until(lambda: settled(fleet), SETTLED_S)

    attempts = await fleet.rig.attempts()
    reached = {line["to"] for line in fleet.rig.reached()}
    never = [a for a in attempts if (a.state, a.code) == ("failed", "not_shown")]
    figure("stops, calls in flight at them", f"{len(in_flight)}, {sum(in_flight)}")
    figure("s until one that kept its lock was given up", f"{given_up_s:.0f}")
    figure("marked unknown", len(await rows(fleet.rig.database, "record", "state = 'unknown'")))
    figure("reached, cut before their call and not shown", f"{len(reached)}, {len(never)}")
    figure("lost, twice", f"{count - len(reached) - len(never)}, {len(fleet.reached_twice())}")
    assert code == 1, "it ends itself when it finds how long it has stood still"
    assert sum(in_flight) > 2 * len(in_flight)
    assert given_up_s > GIVEN_UP.total_seconds() - 10
    assert fleet.reached_twice() == set()
    assert len(reached) + len(never) == count
    assert len(never) <= sum(in_flight)
    assert {a.state for a in attempts} <= {"accepted", "delivered", "void", "failed"}


async def owner_of(fleet, worker):
    return next(
        row for row in await rows(fleet.rig.database, "owner") if row.place.endswith(f":{worker.pid}")
    )


async def stop(fleet, worker):
    """It stands still; how many calls it was in the midst of."""
    worker.send_signal(signal.SIGSTOP)
    owner = await owner_of(fleet, worker)
    return len(await rows(fleet.rig.database, "attempt", f"state = 'calling' AND owner = '{owner.id}'"))


async def cut_off(fleet, worker):
    """The server loses its session, as a proxy between the two would have it."""
    async with fleet.rig.database.write() as conn:
        await conn.execute(END_SESSION, {"key": (await owner_of(fleet, worker)).lock_key})


async def marked(fleet, worker):
    """Whether it is dead to the others, and nothing it was calling is open."""
    owner = await owner_of(fleet, worker)
    calling = await rows(fleet.rig.database, "attempt", f"state = 'calling' AND owner = '{owner.id}'")
    return owner.dead_at is not None and not calling


async def beats(fleet, worker):
    return (await owner_of(fleet, worker)).dead_at is None


async def nothing_waits(fleet):
    return not await rows(fleet.rig.database, "reminder", "state IN ('waiting', 'deferred', 'sending')")


async def settled(fleet):
    """Whether nothing is under way, and nothing is to be asked."""
    open_ = "state IN ('intent', 'calling') OR (state = 'unknown' AND settle_at IS NOT NULL)"
    return not await rows(fleet.rig.database, "attempt", open_)
