"""Workers are told to end, one after the other, while all of them are in the middle of calls: none is cut."""

import asyncio
import os
import time

import pytest
from makers import rows

pytestmark = pytest.mark.timeout(1200)
DRAINS = int(os.environ.get("FAULTS_DRAINS", "50"))
RATE, WORKERS, BETWEEN_S, CALL_S = 50, 3, 1.0, 0.8
LONGEST_S = 40.0
"""The longest call of any adapter, and ten seconds."""


async def test_a_worker_that_is_told_to_end_finishes_its_calls_and_leaves_the_rest(fleet_of, figure):
    fleet = await fleet_of(0)
    await fleet.quota("sms", scope={"channel": "sms"}, rate=RATE, burst=5)
    count = RATE * DRAINS * 4
    await fleet.take(count)
    await fleet.rig.simulators.next("aliyun", "slow", seconds=CALL_S, count=count)
    await fleet.all_join(WORKERS)
    codes, took, called = [], [], []
    for _ in range(DRAINS):
        await asyncio.sleep(BETWEEN_S)
        called.append(len(await rows(fleet.rig.database, "attempt", "state = 'calling'")))
        began, worker = time.monotonic(), fleet.workers.pop(0)
        worker.terminate()
        codes.append(await asyncio.to_thread(worker.wait, LONGEST_S))
        took.append(time.monotonic() - began)
        await fleet.all_join(1)
    sent_meanwhile = fleet.reached()
    await fleet.end()

    attempts = await fleet.rig.attempts()
    figure("drains, exit codes", f"{len(codes)}, {sorted(set(codes))}")
    figure("s that one took at most", max(took))
    figure("calls under way when they began, together", sum(called))
    figure("sent meanwhile, twice", f"{sent_meanwhile}, {len(fleet.reached_twice())}")
    figure("calls cut", sum(a.state in ("unknown", "calling") for a in attempts))
    assert set(codes) == {0}
    assert sum(called) > DRAINS * RATE * CALL_S / 2
    assert fleet.reached_twice() == set()
    assert {a.state for a in attempts} <= {"accepted", "delivered", "void"}
    assert len([a for a in attempts if a.state != "void"]) == fleet.reached()
