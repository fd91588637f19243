"""Real processes that end on one reminder, each replaced at once: it is set aside, and all others go out once."""

import asyncio
import sys
import time
from pathlib import Path

import orjson
import pytest
from checker import Promised, at_rest, check
from fleet import now, run
from killing import ASKED_AGAIN_S, SETTLED_S
from makers import rows

from gateway.store.owners import DEAD_AFTER

pytestmark = pytest.mark.timeout(600)
PROGRAM = Path(__file__).with_name("fatal_worker.py")
COUNT, RATE, GUILTY = 400, 20, 150
MANY, FAST = 500, 150
MISTAKEN_S = 45.0


class Replaced:
    """So many workers, each replaced so many seconds after it is gone."""

    def __init__(self, fleet, count, how, *, after_s=0.0):
        self.fleet, self.how, self.after_s, self.deaths = fleet, how, after_s, 0
        self.workers = [self._start() for _ in range(count)]
        self.gone = {}

    def _start(self):
        with (self.fleet.logs / "worker-fatal.log").open("a") as log:
            return run([sys.executable, str(PROGRAM), self.how], log, self.fleet.environ)

    def see_to_them(self):
        for place, worker in enumerate(self.workers):
            if worker.poll() is None:
                continue
            if time.monotonic() - self.gone.setdefault(worker.pid, time.monotonic()) >= self.after_s:
                self.deaths += 1
                self.workers[place] = self._start()

    def end(self):
        for worker in self.workers:
            worker.kill()
            worker.wait(10)


async def promised(fleet, count=COUNT, rate=RATE):
    """Reminders by id with whom they may reach, at a pace that lasts longer than any death."""
    await fleet.quota("sms", scope={"channel": "sms"}, rate=rate, burst=5)
    taken = await fleet.take(count)
    return {name: Promised(to=to) for to, name in taken.items()}


async def rest(fleet):
    (clock,) = await rows(fleet.rig.database, "clock")
    reminders, attempts = (
        await rows(fleet.rig.database, "reminder"),
        await rows(fleet.rig.database, "attempt"),
    )
    return at_rest(reminders, attempts, policy=now() + clock.offset_us, real=now())


async def settled(fleet, accepted, workers):
    """What came of it, once nothing is under way; what the dead were calling is asked about, and again."""

    async def over():
        workers.see_to_them()
        return await rest(fleet)

    for wait in (0, *ASKED_AGAIN_S):
        await fleet.rig.aged("attempt.settle_at", seconds=wait)
        await asyncio.sleep(SETTLED_S if wait else 0)
        await fleet.until(over)
        reminders, attempts = await rows(fleet.rig.database, "reminder"), await fleet.rig.attempts()
        verdict = check(accepted, fleet.rig.reached(), reminders, attempts)
        if not verdict.unsettled and verdict.settles():
            break
    return verdict


@pytest.mark.parametrize("how", ["killed", "hangs"])
async def test_who_ends_whatever_process_decides_on_it_is_set_aside_and_all_others_go_out_once(
    fleet_of, figure, how
):
    fleet = await fleet_of(0)
    accepted = await promised(fleet)
    guilty = fleet.environ["FATAL"] = list(accepted)[GUILTY]
    began, workers = time.monotonic(), Replaced(fleet, 2, how)

    async def aside():
        workers.see_to_them()
        return (await fleet.rig.reminder(guilty)).by == "ended_its_process"

    try:
        await fleet.until(aside)
        figure(f"{how}: deaths until it was set aside", workers.deaths)
        figure(f"{how}: s until it was", time.monotonic() - began)
        verdict = await settled(fleet, accepted, workers)
    finally:
        workers.end()

    left = await rows(fleet.rig.database, "suspect")
    verdict.told(figure)
    figure(f"{how}: deaths in all", workers.deaths)
    assert verdict.faults() == {}
    assert [r.id for r in await rows(fleet.rig.database, "reminder", "reason = 'quarantined'")] == [guilty]
    assert [suspect.reminder for suspect in left] == [guilty]


async def test_workers_that_are_killed_in_the_midst_of_any_t1_make_nobody_guilty(fleet_of, figure):
    fleet = await fleet_of(0)
    accepted = await promised(fleet, MANY, FAST)
    fleet.environ["FATAL"] = "anybody"
    found_dead_s = DEAD_AFTER.total_seconds() + 1  # who came sooner would decide on the same before
    workers = Replaced(fleet, 1, "killed", after_s=found_dead_s)

    try:
        verdict = await settled(fleet, accepted, workers)
    finally:
        workers.end()

    verdict.told(figure)
    said = map(orjson.loads, (fleet.logs / "worker-fatal.log").read_text().splitlines())
    suspected = [line["count"] for line in said if line["event"] == "owners_ended_deciding"]
    figure("kills, suspects", f"{workers.deaths}, {sum(suspected)}")
    assert sum(suspected) > workers.deaths > 1
    assert verdict.faults() == {}
    assert await rows(fleet.rig.database, "reminder", "reason = 'quarantined'") == []
    assert await rows(fleet.rig.database, "suspect") == []


async def test_where_nobody_counts_it_ends_one_worker_after_the_other(fleet_of, figure):
    fleet = await fleet_of(0)
    accepted = await promised(fleet)
    guilty = fleet.environ["FATAL"] = list(accepted)[GUILTY]
    fleet.environ["MISTAKE"] = "1"
    workers, until = Replaced(fleet, 2, "killed"), time.monotonic() + MISTAKEN_S
    try:
        while time.monotonic() < until:
            workers.see_to_them()
            await asyncio.sleep(0.1)
    finally:
        workers.end()

    figure("deaths in that time where nobody counts", workers.deaths)
    assert (await fleet.rig.reminder(guilty)).state == "waiting"
    assert workers.deaths > 8
