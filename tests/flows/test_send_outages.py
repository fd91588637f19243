"""Redis away, Redis back, the store away, the store back: nothing lost, nobody reached twice, the worker lives."""

import asyncio
import os
import signal
from collections import Counter
from contextlib import AsyncExitStack, asynccontextmanager

from makers import borrower, phone, reminder
from sendrig import ON_SQLITE, Hooked
from sqlalchemy import text

from channels._http1 import AT_ONCE
from gateway.embedded import Valkey
from gateway.errors import Unavailable
from gateway.settings import RedisTarget
from gateway.worker import work

PEOPLE = range(100, 130)
EACH_ONCE = {phone(n): 1 for n in PEOPLE}


def some(people):
    return [reminder(n, channels=["sms"]) for n in people]


@asynccontextmanager
async def working(rig):
    """A worker as `gateway worker` runs it; it must live to the end and end when it is told to."""
    stop, parts = asyncio.Event(), rig.gateway.worker()
    task = asyncio.create_task(work(parts, stop, seen=False))
    try:
        yield parts
    finally:
        assert not task.done(), task.exception()
        stop.set()
        await asyncio.wait_for(task, 20)


def all_sent(rig):
    async def all_sent():
        states = await rig.states()
        return sum(n for (state, _), n in states.items() if state == "sent") == len(PEOPLE)

    return all_sent


def reached(rig):
    return Counter(line["to"] for line in rig.reached())


async def test_a_go_that_failed_holds_up_no_deciding_while_it_is_withdrawn(postgres_url, open_rig):
    """T1 waits for a go and holds locks; what a withdrawal waits for may wait for those."""
    rig, held = await open_rig(postgres_url), asyncio.Event()

    async def fails(_intents):
        held.set()
        raise Unavailable("a lock was not to be had")

    await rig.take(reminder(100, channels=["sms"]))
    async with rig.sender(before_go=fails) as sender:
        async with AsyncExitStack() as stack:
            draining = asyncio.create_task(sender.drain_one("sms"))
            await held.wait()
            conn = await stack.enter_async_context(rig.database.write())
            await conn.execute(text("SELECT 1 FROM reminder FOR UPDATE"))
            await asyncio.sleep(0.2)  # the withdrawal waits for that lock
            await asyncio.wait_for(sender.dispatch._starts.no_go(), 2)
        sender.dispatch.quiet()
        await asyncio.wait_for(draining, 20)

    assert rig.reached() == []


class FailsOneShare(Hooked):
    """A store that is away for one of the two shares that are claimed at once, after a first few by themselves."""

    shares = ()

    async def borrowers_of(self, persons):
        self.shares = (*self.shares, len(persons))
        if len(self.shares) == 3:
            raise Unavailable("away for a moment")
        return await super().borrowers_of(persons)


async def test_a_share_that_the_store_fails_costs_the_others_nothing_and_goes_later(postgres_url, open_rig):
    rig = await open_rig(postgres_url)
    await rig.take(*some(range(100, 160)))
    store = FailsOneShare(rig.gateway.store)

    async with rig.sender(store=store) as sender:
        await sender.drain()

    assert store.shares[:4] == (10, 10, 20, 20)
    assert reached(rig) == {phone(n): 1 for n in range(100, 160)}
    assert {attempt.state for attempt in await rig.attempts()} == {"accepted"}


async def test_without_any_wake_up_everything_goes_out_by_the_sweep(rig):
    assert rig.gateway.place.redis is None
    async with working(rig):
        for start in range(100, 130, 10):
            await rig.take(*some(range(start, start + 10)))
            await asyncio.sleep(0.1)
        await rig.until(all_sent(rig))

    assert reached(rig) == EACH_ONCE


@ON_SQLITE
async def test_a_redis_that_is_killed_flushed_and_restarted_costs_nothing(database_url, open_rig, tmp_path):
    valkey = Valkey(tmp_path / "valkey")
    await valkey.start()
    try:
        rig = await open_rig(database_url, redis=RedisTarget(path=str(valkey.socket)))
        first = valkey.pid
        await rig.simulators.next("aliyun", "slow", seconds=0.3, count=20)
        async with working(rig) as parts:
            await rig.until(lambda: asyncio.sleep(0, parts.listener.connected))
            await rig.take(*some(range(100, 110)))
            await rig.until(lambda: asyncio.sleep(0, len(rig.reached()) > 5))  # drains run as jobs now
            os.kill(first, signal.SIGKILL)
            await rig.until(lambda: asyncio.sleep(0, not parts.listener.connected))
            await rig.take(*some(range(110, 120)))
            await rig.until(lambda: asyncio.sleep(0, valkey.pid != first and parts.listener.connected))
            await flush(rig)
            await rig.take(*some(range(120, 130)))
            await flush(rig)
            await rig.until(all_sent(rig))
            assert parts.listener.connected
    finally:
        await valkey.stop()

    assert reached(rig) == EACH_ONCE


async def flush(rig):
    await rig.gateway._redis.flushall()


async def test_a_postgresql_that_crashes_and_comes_back_loses_nothing_and_doubles_nothing(
    postgres, postgres_url, open_rig
):
    """Calls that were under way when it crashed are written once it is back."""
    rig = await open_rig(postgres_url)
    await rig.simulators.next("aliyun", "slow", seconds=0.5, count=20)
    async with working(rig):
        await rig.take(*some(PEOPLE))
        await rig.until(lambda: asyncio.sleep(0, len(rig.reached()) >= 10))
        postgres.stop(signal.SIGQUIT)
        during = len(rig.reached())
        await asyncio.sleep(1)
        assert len(rig.reached()) - during <= 32
        await asyncio.to_thread(postgres.start)
        await rig.until(all_sent(rig))

    assert reached(rig) == EACH_ONCE
    assert {a.state for a in await rig.attempts()} <= {"accepted", "void"}


async def test_a_provider_that_hangs_holds_up_no_other_channel(sqlite_url, open_rig):
    """More messages than a process calls at once through one account, none of which comes to an end."""
    rig = await open_rig(sqlite_url)
    await rig.simulators.next("aliyun", "slow", seconds=5.0, count=AT_ONCE)
    parts = rig.gateway.worker()
    await parts.owners.register()
    await rig.gateway.live.refresh(parts.owners.id)
    outcomes = asyncio.create_task(parts.dispatch.run())

    async def ring():
        for queue in await rig.gateway.store.due_queues():
            parts.drains.start(queue.channel)

    await rig.take(*some(range(100, 110 + AT_ONCE)))
    await ring()
    await rig.until(lambda: asyncio.sleep(0, len(rig.reached()) >= AT_ONCE))
    mail = [{"channel": "email", "value": "zhangsan@example.com"}]
    await rig.take(reminder(1, borrower=borrower(1, addresses=mail), channels=["email"]))
    await ring()
    await rig.until(lambda: asyncio.sleep(0, rig.reached()[-1]["kind"] == "email"))

    assert len(rig.reached()) == AT_ONCE + 1
    assert {a.state for a in await rig.attempts() if a.channel == "sms"} <= {"intent", "calling"}
    parts.dispatch.quiet()
    await parts.drains.finish()
    outcomes.cancel()
    await asyncio.gather(outcomes, return_exceptions=True)
