"""The bell over a real Valkey: a ring is heard at once, by one, and costs nothing while nobody rings."""

import asyncio
import time
from contextlib import asynccontextmanager

import pytest

from gateway.settings import RedisTarget
from gateway.wake import QUEUE, QUIET_S, RUNG, Bell, Drains, Listener


@pytest.fixture
async def bell(valkey, redis):
    made = Bell(RedisTarget(path=str(valkey.socket)), time.time)
    yield made
    await made.aclose()


class Heard:
    """Notes which channels were drained, and drains for as long as it is told to."""

    def __init__(self):
        self.channels, self.came, self.go_on = [], asyncio.Event(), asyncio.Event()
        self.go_on.set()

    async def drain(self, channel):
        self.channels.append(channel)
        self.came.set()
        await self.go_on.wait()

    async def next(self, within_s):
        """Whether another comes in time."""
        try:
            async with asyncio.timeout(within_s):
                await self.came.wait()
        except TimeoutError:
            return False
        self.came.clear()
        return True


@asynccontextmanager
async def listening(valkey, redis):
    """A process that listens, once it waits at the token."""
    heard = Heard()
    listener = Listener(RedisTarget(path=str(valkey.socket)), Drains(heard.drain), longest_call_s=1)
    others = (await redis.info("clients"))["blocked_clients"]
    task = asyncio.create_task(listener.run())
    while (await redis.info("clients"))["blocked_clients"] == others:  # noqa: ASYNC110 (Redis sets no event)
        await asyncio.sleep(0.01)
    try:
        yield heard
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_ring_is_heard_long_before_the_next_look(valkey, redis, bell):
    async with listening(valkey, redis) as heard:
        for channel in ("sms", "email", "sms"):
            bell.ring([channel])
            assert await heard.next(QUIET_S / 2), channel

    assert heard.channels == ["sms", "email", "sms"]


async def test_while_nobody_rings_redis_is_asked_a_few_times_a_second_at_most(valkey, redis):
    async with listening(valkey, redis):
        before = (await redis.info("stats"))["total_commands_processed"]
        await asyncio.sleep(2 * QUIET_S)
        asked = (await redis.info("stats"))["total_commands_processed"] - before

    assert 2 <= asked <= 10


async def test_one_of_those_that_wait_hears_a_ring(valkey, redis, bell):
    async with listening(valkey, redis) as first, listening(valkey, redis) as second:
        bell.ring(["sms"])
        await asyncio.sleep(QUIET_S / 2)

        assert sorted([first.channels, second.channels]) == [[], ["sms"]]


async def test_who_drains_one_channel_hears_of_another_by_looking_now_and_then(valkey, redis, bell):
    async with listening(valkey, redis) as heard:
        heard.go_on.clear()
        bell.ring(["sms"])
        assert await heard.next(QUIET_S / 2)
        bell.ring(["email"])
        assert await heard.next(QUIET_S / 2)

        assert heard.channels == ["sms", "email"]
        assert (await redis.info("clients"))["blocked_clients"] == 0, "tokens are left to who is idle"


async def test_a_token_that_was_lost_costs_no_more_than_the_next_look(valkey, redis, bell):
    bell.ring(["sms"])
    await bell._flush
    assert await redis.delete(RUNG) == 1
    async with listening(valkey, redis) as heard:
        assert await heard.next(QUIET_S + 0.5)


async def test_rings_that_nobody_hears_leave_one_token(redis, bell):
    for channel in ("sms", "email", "voice"):
        bell.ring([channel])
        await bell._flush

    assert await redis.llen(RUNG) == 1
    assert await redis.zcard(QUEUE) == 3
