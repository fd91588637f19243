"""A few seconds of what `make faults` looks at for minutes: two workers, one quota, and the ledger's word on it."""

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager

import paces
import pytest
from makers import reminder
from sendrig import Hooked
from test_send_outages import working

from gateway.domain import Tenant
from gateway.embedded import Valkey
from gateway.settings import RedisTarget
from gateway.store.quota_acts import Wanted

RATE, BURST, PEOPLE = 40, 2, 150
DEPLOYMENT = Tenant("*/live")


@pytest.fixture
async def two(postgres_url, open_rig, tmp_path):
    """Two gateways over one PostgreSQL and one Valkey, and a way to flush this."""
    valkey = Valkey(tmp_path / "valkey")
    await valkey.start()
    redis = RedisTarget(path=str(valkey.socket))
    yield await open_rig(postgres_url, redis=redis), await open_rig(postgres_url, redis=redis, clock=None)
    await valkey.stop()


async def set_quota(rig, **said):
    said = {"scope": {"channel": "sms"}, "rate": RATE, "burst": BURST, **said}
    wanted = Wanted(owner=DEPLOYMENT, name="sms", said=said, version=None, reason="a test", who="tests")
    await rig.gateway.quotas.put(wanted)


async def test_two_workers_keep_within_one_pace_over_flushes_and_reach_everybody_once(two):
    rig, _ = two
    await set_quota(rig)
    await rig.take(*(reminder(n, channels=["sms"]) for n in range(PEOPLE)))
    async with AsyncExitStack() as stack:
        for one in two:
            await stack.enter_async_context(working(one))
        for reached in (PEOPLE // 3, 2 * PEOPLE // 3, PEOPLE):
            await rig.until(lambda reached=reached: asyncio.sleep(0, len(rig.reached()) >= reached))
            await rig.gateway._redis.flushall()

    lines = rig.reached()
    assert len({line["to"] for line in lines}) == len(lines) == PEOPLE
    assert paces.over(paces.instants(lines), RATE, BURST) == {}


class Held:
    """A pace whose grant is known, and told only when the test says so."""

    def __init__(self, pace):
        self._pace, self.granted, self.told = pace, asyncio.Event(), asyncio.Event()

    async def room(self, paces, worker):
        return await self._pace.room(paces, worker)

    async def take(self, wanted):
        granted = await self._pace.take(wanted)
        if any(granted.starts):
            self.granted.set()
            await self.told.wait()
        return granted


class Ending(Hooked):
    """While the worker ends, what is written to give work up waits: whoever was granted a start would be called."""

    def __init__(self, store, pace):
        super().__init__(store)
        self._pace, self.ends = pace, False

    @asynccontextmanager
    async def transaction(self):
        if self.ends:
            self._pace.told.set()
            await asyncio.sleep(0.3)
        async with super().transaction() as tx:
            yield tx


async def test_what_is_given_up_during_a_take_is_not_called_with_what_it_granted(two):
    rig, _ = two
    await set_quota(rig)
    await rig.take(reminder(1, channels=["sms"]))
    await rig.drain()  # the first of everything takes long, and a slot passes
    await rig.take(reminder(2, channels=["sms"]))
    pace = rig.gateway.pace = Held(rig.gateway.pace)
    store = Ending(rig.gateway.store, pace)
    async with rig.sender(store=store) as sender:
        draining = asyncio.create_task(sender.drain_one("sms"))
        await pace.granted.wait()
        store.ends = True
        sender.dispatch.quiet()
        await sender.dispatch.finish()
        await draining

    assert [attempt.state for attempt in await rig.attempts()] == ["accepted", "void"]
    assert len(rig.reached()) == 1
    pace.told.set()
    await rig.drain()
    assert len(rig.reached()) == 2


async def test_what_no_window_may_hold_is_told_from_what_it_may():
    """Both sides of the figure that every one of these tests rests on."""
    step = paces.SECOND // RATE
    steady = [n * step for n in range(200)]
    extra = paces.allowed(RATE, BURST, paces.SECOND) - RATE

    assert paces.most(steady, paces.SECOND) == RATE
    assert paces.over(sorted(steady + [steady[100]] * int(extra)), RATE, BURST) == {}
    assert paces.over(sorted(steady + [steady[100]] * (int(extra) + 1)), RATE, BURST) != {}
