"""PostgreSQL fails over to a standby that lagged: nothing is sent until the journals told what it does not know."""

import asyncio
import json
import os
import subprocess
import tempfile
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path

import fleet
import pytest
from fleet import DEPLOYMENT
from makers import phone, reminder, rows
from postgresql import MEMORY
from standby import followed

from gateway.errors import Unavailable
from gateway.processes import PROGRAM

pytestmark = pytest.mark.timeout(900)
FAIL_OVERS = int(os.environ.get("FAULTS_PROMOTIONS", "3"))
RATE, BURST, WORKERS = 60, 5, 3
COUNT, LATE, LAG_S, FROZEN_S = 1500, 40, 4.0, 62
"""A process opens what it read for up to a minute under keys that the new server may not know."""
SETTLED_S = 300
"""A question that its provider does not answer is asked again after 45 seconds, and two minutes after that."""


class Failing:
    """A fleet over a server of its own, which fails over once, as a deployer would see it through."""

    def __init__(self, made, server, standby, journal):
        self.made, self.server, self.standby, self.journal = made, server, standby, journal
        self.late = range(COUNT, COUNT + LATE)

    async def lags(self):
        """Some is sent; then the standby hears nothing more, and some more is taken in and sent."""
        await asyncio.to_thread(self.standby.follow)
        await self.made.until(self._streams)
        await self.made.take(COUNT)
        await self.made.all_join(WORKERS)
        await self.made.goes_on(5)
        await asyncio.to_thread(self.standby.cut_off)
        await self.made.take(LATE, priority="urgent")
        await self.made.goes_on(LAG_S)

    async def _streams(self):
        return await self.server.ask("SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'")

    async def fails_over(self):
        """The standby takes over; who was called by then."""
        await asyncio.to_thread(self.standby.take_over)
        await self.made.goes_on(3)  # what was under way is answered
        return self.reached()

    def thaw(self, *words):
        """`gateway db thaw`; what it says."""
        command = [*PROGRAM, "db", "thaw", "--json", "--reason", "a test", "--operator", "ann", *words]
        ran = subprocess.run(command, env=self.made.environ, capture_output=True, check=False, text=True)
        assert ran.returncode == 0, ran.stderr
        return json.loads(ran.stdout)

    async def hands_in_again(self, numbers):
        """What the new server has forgotten, by whoever handed it in."""
        raws = [reminder(n, channels=["sms"]) for n in numbers]
        await self.made.until(lambda: self._taken(raws))

    async def _taken(self, raws):
        try:
            await self.made.take_all(raws)
        except Unavailable:
            return False
        return True

    async def all_over(self):
        """Wait until nothing is left to do; the keys of those whose go was noted and came too late for their call."""

        async def over():
            return {state for state, _ in await self.made.rig.states()} <= {"sent", "delivered", "failed"}

        await self.made.until(over, patience=SETTLED_S)
        gone = {a.reminder for a in await self.made.rig.attempts() if a.code == "not_shown"}
        return {r.key for r in await rows(self.made.rig.database, "reminder") if r.id in gone}

    def reached(self):
        """How often whom."""
        return Counter(line["to"] for line in self.made.rig.reached())


@pytest.fixture
def servers():
    """A server of the test's own, and a standby."""
    with tempfile.TemporaryDirectory(prefix="pg", dir=MEMORY) as folder, followed(Path(folder)) as both:
        yield both


@pytest.fixture
async def failing(servers, simulators, tmp_path):
    """One of these; `journals`: whether its workers keep any."""
    server, standby = servers
    async with AsyncExitStack() as stack:

        async def begun(*, journals):
            await server.say("CREATE DATABASE gateway")
            await fleet.upgraded(server.url("gateway"))
            made = await stack.enter_async_context(
                fleet.brought_up(server.url("gateway"), tmp_path, simulators, 0)
            )
            journal = tmp_path / "journal"
            if journals:
                made.environ["GATEWAY_JOURNAL"] = str(journal)
            await made.quota("sms", owner=DEPLOYMENT, scope={"channel": "sms"}, rate=RATE, burst=BURST)
            return Failing(made, server, standby, journal)

        yield begun


@pytest.mark.parametrize("number", range(FAIL_OVERS))
async def test_a_standby_that_lags_is_told_of_every_call_before_the_next_one(failing, figure, number):
    one = await failing(journals=True)
    await one.lags()
    called = await one.fails_over()
    await one.made.goes_on(FROZEN_S)
    assert one.reached() == called
    before = one.thaw("--journal", str(one.journal), "--dry-run")
    await one.made.goes_on(3)
    assert one.reached() == called

    told = one.thaw("--journal", str(one.journal))
    assert told == before
    known = {f"k-{n}": n for n in one.late}
    forgotten = {known[f["idempotency_key"]] for f in told["forgotten"]}
    await one.hands_in_again(set(one.late) - forgotten)
    late = {phone(int(key.partition("-")[2])) for key in await one.all_over()}

    reached, lag = one.reached(), told["brought_back"] + len(forgotten)
    figure(f"{number}: called before, of these in the lag", f"{len(called)}, {lag}")
    figure(f"{number}: asked of their providers", told["unknown"])
    lost = COUNT + LATE - len(reached) - len(late)
    figure(f"{number}: noted and come too late", len(late))
    figure(f"{number}: lost, twice", f"{lost}, {sum(n > 1 for n in reached.values())}")
    assert told["brought_back"] > RATE
    assert {phone(n) for n in forgotten} == {to for to in map(phone, one.late) if to in called} != set()
    assert reached == {phone(n): 1 for n in range(COUNT + LATE) if phone(n) not in late}


async def test_without_journals_and_on_a_wrong_word_people_are_reached_twice(failing, figure):
    """What the test above must be able to see."""
    one = await failing(journals=False)
    await one.lags()
    await one.fails_over()
    one.thaw("--nothing-lost")
    await one.made.until(lambda: asyncio.sleep(0.5, max(one.reached().values()) > 1))
    await one.made.until(lambda: asyncio.sleep(0.5, len(one.reached()) >= COUNT))

    figure("twice", sum(n > 1 for n in one.reached().values()))
