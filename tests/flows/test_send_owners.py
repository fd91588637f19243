"""A worker that dies: what it meant to do is free again, what it was doing is unknown. One that lives keeps both."""

import asyncio
from collections import Counter
from contextlib import asynccontextmanager
from dataclasses import replace
from types import SimpleNamespace

import pytest
from makers import phone, reminder, rows
from sendrig import ON_SQLITE
from sqlalchemy import text

from gateway.errors import Unavailable
from gateway.store.dispatch import DispatchStore, DispatchTx
from gateway.worker import LEFT_S, drain, work

MEANT, CALLED = range(100, 110), range(110, 120)
EACH_ONCE = {phone(n): 1 for n in (*MEANT, *CALLED)}


def some(people):
    return [reminder(n, channels=["sms"]) for n in people]


def reached(rig):
    return Counter(line["to"] for line in rig.reached())


async def states(rig):
    return Counter(attempt.state for attempt in await rig.attempts())


async def until_attempts(rig, **expected):
    async def so():
        return await states(rig) == expected

    await rig.until(so)


@asynccontextmanager
async def busy(rig):
    """A worker with ten calls under way that nobody will answer, and ten intents that it has not come to."""
    holds = asyncio.Event()

    async def before_go(intents):
        if holds.is_set():
            await asyncio.Event().wait()

    await rig.simulators.next("aliyun", "swallow", count=len(CALLED))
    async with rig.sender(before_go=before_go) as sender:
        await rig.take(*some(CALLED))
        calls = asyncio.create_task(sender.drain())
        await until_attempts(rig, calling=10)
        await rig.until(lambda: asyncio.sleep(0, len(rig.reached()) >= 10))  # none was too late for its slot
        holds.set()
        await rig.take(*some(MEANT))
        intents = asyncio.create_task(sender.drain())
        await until_attempts(rig, calling=10, intent=10)
        yield sender, (calls, intents)
        await sender.die(calls, intents)


async def judges(rig):
    """Another worker, from when on it may judge who is dead."""
    owners = rig.duties.owners
    await owners.register()
    if owners._heart is not None:
        await rig.until(lambda: asyncio.sleep(0, owners._heart.steady))


async def test_what_a_dead_worker_meant_to_do_is_free_and_what_it_did_is_unknown(rig):
    async with busy(rig) as (sender, tasks):
        await sender.die(*tasks)
        await judges(rig)
        await rig.aged(seconds=11)

        await rig.duties.sweep.once()
        assert await states(rig) == {"void": 10, "unknown": 10}
        assert await rig.states() == {("waiting", None): 10, ("unknown", None): 10}

        async with rig.sender() as other:
            await other.drain()
            await rig.duties.reconcile.once()  # the quarantine is not over
            assert (await states(rig))["unknown"] == 10
            await rig.aged(seconds=6)
            await rig.duties.reconcile.once()
            await other.drain()

    assert reached(rig) == EACH_ONCE
    assert {state for state, _ in await rig.states()} <= {"sent", "delivered", "failed"}
    assert (await states(rig))["void"] == 10


async def test_several_mark_what_the_dead_left_at_once_though_the_leader_of_the_sweep_died_too(
    postgres_url, open_rig
):
    rig = await open_rig(postgres_url)
    async with busy(rig) as (sender, tasks), rig.sender() as other:
        assert await sender.parts.owners.leads("sweep")
        await sender.die(*tasks)
        await judges(rig)
        await rig.aged("owner.heartbeat_at", seconds=11)

        assert not await rig.duties.owners.leads("sweep")
        await asyncio.gather(*(duties.sweep.once() for duties in (rig.duties, other.parts)))

        assert await states(rig) == {"void": 10, "unknown": 10}
        told = Counter(
            row.state for row in await rows(rig.database, "record", "kind IN ('attempt', 'outcome')")
        )
        assert told == {"void": 10, "unknown": 10}


async def test_who_lives_is_not_judged_dead_and_who_was_is_alive_again_with_its_next_beat(
    postgres_url, open_rig
):
    """A session that the server ended, a mistaken judgement, and an outage that made everybody look dead."""
    rig = await open_rig(postgres_url)
    dead, sweep = rig.duties.owners.dead, rig.duties.sweep.once

    async with busy(rig) as (sender, _), rig.sender() as gone:
        heart = sender.parts.owners._heart
        await judges(rig)

        await end_sessions_of_hearts(rig)
        for _ in range(10):
            await sweep()
            assert await dead() == []
            await asyncio.sleep(0.02)
        assert (await states(rig))["calling"] == 10

        async with rig.database.write() as conn:
            judged = await conn.execute(
                text("UPDATE owner SET dead_at = heartbeat_at WHERE id <> :me"), {"me": rig.duties.owners.id}
            )
        assert judged.rowcount == 2
        await rig.until(lambda: nobody(dead))
        assert heart.fit

        await hand_over(rig, gone)
        await gone.die()
        await rig.until(lambda: asyncio.sleep(0, rig.duties.owners.fit))  # it has a session to lose
        await end_sessions_of_hearts(rig)
        await rig.until(lambda: asyncio.sleep(0, not rig.duties.owners.fit))  # its own heart has noticed
        await rig.aged("owner.heartbeat_at", seconds=60)
        while not (seen := await dead()):  # noqa: ASYNC110 (judged by the clock)
            await asyncio.sleep(0.02)
        assert seen == [gone.parts.owners.id]
        await rig.until(lambda: asyncio.sleep(0, heart.fit))


async def hand_over(rig, owner):
    """One of the intents is this owner's."""
    (intent, *_) = [a for a in await rig.attempts() if a.state == "intent"]
    async with rig.database.write() as conn:
        await conn.execute(
            text("UPDATE attempt SET owner = :by WHERE ref = :ref"),
            {"by": owner.parts.owners.id, "ref": intent.ref},
        )


async def nobody(dead):
    return await dead() == []


async def end_sessions_of_hearts(rig):
    async with rig.database.write() as conn:
        ended = await conn.execute(
            text(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND query LIKE 'INSERT INTO owner%ON CONFLICT%'"
            )
        )
        assert ended.all()


async def test_a_worker_without_its_lock_starts_no_call(postgres_url, open_rig):
    rig = await open_rig(postgres_url)
    names = await rig.take(*some(MEANT))
    async with rig.sender() as sender:
        await sender.parts.owners._heart.stop()
        for queue in await rig.gateway.store.due_queues():
            await sender.dispatch.drain(queue.channel)
        sender.dead = True

    assert len(names) == 10
    assert rig.reached() == []
    assert await rig.states() == {("waiting", None): 10}


async def test_a_drain_finishes_what_is_being_called_and_leaves_the_rest(rig):
    """SIGTERM while calls take their time: all of them are written, nothing is cut, the others wait."""
    await rig.simulators.next("aliyun", "slow", seconds=0.6, count=60)
    people = range(200, 260)
    await rig.take(*some(people))
    stop = asyncio.Event()
    working = asyncio.create_task(work(rig.gateway.worker(), stop, seen=False))
    await rig.until(lambda: asyncio.sleep(0, len(rig.reached()) >= 20))

    stop.set()
    await asyncio.wait_for(working, 15)

    sent = (await rig.states())["sent", None]
    assert 20 <= sent == len(rig.reached())
    assert set(await states(rig)) <= {"accepted", "void"}
    assert {row.dead_at is None for row in await rows(rig.database, "owner")} == {False}
    left = await rig.states()
    assert sum(left.values()) == 60
    assert {state for state, _ in left} <= {"sent", "waiting"}


class Locked:
    """Owners over a store that another holds when it is time to say goodbye."""

    def __init__(self, owners):
        self._owners = owners

    def __getattr__(self, name):
        return getattr(self._owners, name)

    async def leave(self):
        raise Unavailable


async def test_a_drain_ends_in_time_whatever_the_store_does():
    async def for_ever():
        await asyncio.Event().wait()

    parts = SimpleNamespace(
        accounts=SimpleNamespace(longest_call_s=lambda: 0.2 - LEFT_S),
        dispatch=SimpleNamespace(finish=for_ever),
    )
    async with asyncio.timeout(5):
        with pytest.raises(Unavailable, match="others settle it"):
            await drain(parts, asyncio.create_task(for_ever()))


async def test_a_worker_that_cannot_say_goodbye_has_ended_well_all_the_same(sqlite_url, open_rig):
    rig = await open_rig(sqlite_url)
    await rig.take(*some(MEANT))
    stop, parts = asyncio.Event(), rig.gateway.worker()
    working = asyncio.create_task(work(replace(parts, owners=Locked(parts.owners)), stop, seen=False))
    await rig.until(lambda: asyncio.sleep(0, len(rig.reached()) == len(MEANT)))

    stop.set()
    await asyncio.wait_for(working, 15)

    assert await rig.states() == {("sent", None): len(MEANT)}


async def test_a_call_is_marked_however_long_its_owner_has_been_dead(rig):
    """Nobody swept for weeks."""
    async with busy(rig) as (sender, tasks):
        await sender.die(*tasks)
        await judges(rig)
        async with rig.database.write() as conn:
            await conn.execute(
                text("UPDATE owner SET heartbeat_at = 1, dead_at = 2 WHERE id = :id"),
                {"id": sender.parts.owners.id},
            )
        await rig.duties.sweep.once()
        assert await states(rig) == {"void": 10, "unknown": 10}


@ON_SQLITE
async def test_a_call_of_an_adapter_that_is_not_here_holds_up_no_other(rig):
    """A dead worker had one that those who live have not."""
    async with busy(rig) as (sender, tasks):
        await sender.die(*tasks)
        await judges(rig)
        async with rig.database.write() as conn:
            await conn.execute(
                text(
                    "UPDATE attempt SET adapter = 'elsewhere'"
                    " WHERE ref = (SELECT min(ref) FROM attempt WHERE state = 'calling')"
                )
            )
        await rig.duties.sweep.once()
        assert await states(rig) == {"void": 10, "unknown": 9, "calling": 1}


class Unwritable(DispatchTx):
    """Breaks where an outcome is written."""

    async def finish(self, outturns):
        raise AssertionError("a mistake of ours")


class Broken(DispatchStore):
    @asynccontextmanager
    async def transaction(self):
        async with self._db.write() as conn:
            yield Unwritable(conn, await self._db.moment(conn), self._log)


async def test_a_worker_that_cannot_write_outcomes_ends_and_others_settle_its_calls(sqlite_url, open_rig):
    rig = await open_rig(sqlite_url)
    sound, rig.gateway.store = rig.gateway.store, Broken(rig.database, rig.gateway.log)
    await rig.take(reminder(100, channels=["sms"]))

    with pytest.raises(AssertionError, match="a mistake of ours"):
        await asyncio.wait_for(work(rig.gateway.worker(), asyncio.Event(), seen=False), 15)
    assert await states(rig) == {"calling": 1}

    rig.gateway.store = sound
    mended = rig.gateway.worker()
    await mended.owners.register()
    await mended.sweep.once()
    assert await states(rig) == {"unknown": 1}
    await rig.aged(seconds=6)
    await mended.reconcile.once()
    await rig.drain()

    assert set(await states(rig)) <= {"accepted", "delivered"}
    assert reached(rig) == {phone(100): 1}
