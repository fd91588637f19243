"""Who may hold intents, who leads a duty, and who is dead."""

import asyncio
import socket
import time

import asyncpg
import pytest
from makers import NOW, rows
from sqlalchemy import insert, text

from gateway.domain import to_us
from gateway.store import schema
from gateway.store.owners import LEASE, Heart, Owners

ON_POSTGRES = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
"""Where there may be others."""


@pytest.fixture
def owners(database):
    """Makes owners that hold no session of their own."""

    def make(name, monotonic=lambda: 0.0):
        return Owners(
            database, owner_id=name, lock_key=hash(name) % 2**40, direct_url=None, monotonic=monotonic
        )

    return make


async def older(database, column, seconds):
    table, _, name = column.partition(".")
    async with database.write() as conn:
        await conn.execute(text(f"UPDATE {table} SET {name} = {name} - {seconds * 1_000_000}"))


async def holds(database, owner, state):
    """An attempt to that owner's name."""
    required = ("person", "borrower", "debt", "creditor", "recipient_role", "actor_role")
    attempt = dict.fromkeys(required, "-") | {"tenant": "acme/live", "ref": f"{owner}-{state}"}
    attempt |= {"started_at": to_us(NOW), "origin": "gateway", "channel": "sms", "flags": "[]"}
    async with database.write() as conn:
        await conn.execute(insert(schema.attempt).values(attempt | {"state": state, "owner": owner}))


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self):
        self.at = 0.0

    def __call__(self):
        return self.at


async def test_on_sqlite_whoever_is_there_leads(sqlite):
    assert await Owners(sqlite, owner_id="ow_1", lock_key=1, direct_url=None).leads("sweep")


async def goes_by(database, clock, seconds):
    clock.at += seconds
    await older(database, "lease.until", seconds)


@ON_POSTGRES
async def test_a_duty_has_one_leader_until_its_lease_runs_out(database, owners):
    clock = Clock()
    first, second = owners("ow_1", clock), owners("ow_2", clock)

    assert [await first.leads("sweep"), await second.leads("sweep"), await first.leads("sweep")] == [
        True,
        False,
        True,
    ]
    assert await second.leads("reconcile")
    await goes_by(database, clock, 11)
    assert [await second.leads("sweep"), await first.leads("sweep")] == [True, False]


@ON_POSTGRES
async def test_a_leader_keeps_all_its_leases_by_asking_for_one_and_writes_none_before_a_third_is_over(
    database, owners
):
    async def written():
        return {row.name: row.until for row in await rows(database, "lease")}

    clock = Clock()
    leader = owners("ow_1", clock)
    assert [await leader.leads("sweep"), await leader.leads("reconcile")] == [True, True]
    first = await written()
    await goes_by(database, clock, 1)
    before = await written()
    assert [await leader.leads("sweep"), await leader.leads("reconcile")] == [True, True]
    assert await written() == before != first
    await goes_by(database, clock, 1)
    before = await written()
    assert await leader.leads("sweep")
    kept = await written()
    assert set(kept.values()).isdisjoint(before.values())
    assert await leader.leads("reconcile")
    assert await written() == kept


@ON_POSTGRES
async def test_a_follower_asks_when_the_lease_that_it_saw_runs_out(database, owners):
    clock = Clock()
    first, second = owners("ow_1", clock), owners("ow_2", clock)
    assert [await first.leads("sweep"), await second.leads("sweep")] == [True, False]
    await goes_by(database, clock, 3)
    assert [await first.leads("sweep"), await second.leads("sweep")] == [True, False]
    await goes_by(database, clock, 3)

    assert not await second.leads("sweep"), "it was renewed meanwhile"
    await goes_by(database, clock, 2)
    assert await second.leads("sweep"), "its leader has been gone for the length of a lease"
    assert not await first.leads("sweep")


async def test_whoever_comes_to_a_sqlite_file_knows_that_all_before_are_dead(sqlite):
    before = [Owners(sqlite, owner_id=f"ow_{n}", lock_key=n, direct_url=None) for n in range(3)]
    for owner in before:
        await owner.register()

        await holds(sqlite, owner.id, "intent")

    assert await before[-1].dead() == ["ow_0", "ow_1"]
    assert await rows(sqlite, "owner", "dead_at IS NULL AND id <> 'ow_2'") == []


@pytest.mark.parametrize("state", ["intent", "calling"])
async def test_whoever_left_something_is_dead_to_the_others_however_long_ago_it_went(database, owners, state):
    gone, stays = owners("ow_1"), owners("ow_2")
    await gone.register()
    await holds(database, "ow_1", state)
    assert await stays.dead() == []
    await gone.leave()

    assert await stays.dead() == ["ow_1"]
    assert await gone.dead() == []
    await older(database, "owner.dead_at", 90 * 86_400)
    assert await stays.dead() == ["ow_1"]


async def test_of_whoever_left_nothing_open_there_is_nothing_to_bury(database, owners):
    gone, stays = owners("ow_1"), owners("ow_2")
    await gone.register()
    for state in ("void", "accepted", "unknown"):
        await holds(database, "ow_1", state)
    await gone.leave()

    assert await rows(database, "owner", "dead_at IS NULL") == []
    assert await stays.dead() == []


@pytest.fixture
async def stuck(database, database_url):
    """The session of an owner that says nothing any more: it stands still, or its host is gone without a word."""
    key = 77
    session = await asyncpg.connect(database_url)
    await session.execute(f"SELECT pg_advisory_lock({key})")
    async with database.write() as conn:
        await conn.execute(
            insert(schema.owner).values(id="ow_stuck", lock_key=key, started_at=0, heartbeat_at=now_us())
        )
    await holds(database, "ow_stuck", "calling")
    yield session
    await session.close(timeout=1)


def now_us():
    return int(time.time() * 1_000_000)


@pytest.fixture
async def judge(database, database_url):
    """An owner with a heart that beats."""
    owner = Owners(database, owner_id="ow_judge", lock_key=78, direct_url=database_url)
    await owner.register()
    owner._heart._steady_from = 0.0
    yield owner
    await owner.leave()


@ON_POSTGRES
async def test_who_keeps_its_lock_and_is_silent_is_dead_once_its_session_was_ended_after_four_minutes(
    database, stuck, judge
):
    await older(database, "owner.heartbeat_at", 230)
    assert await judge.dead() == []
    assert not stuck.is_closed()
    await older(database, "owner.heartbeat_at", 15)
    async with asyncio.timeout(10):
        while await judge.dead() != ["ow_stuck"]:  # noqa: ASYNC110 (the server's process ends)
            await asyncio.sleep(0.05)
    assert stuck.is_closed()


@ON_POSTGRES
async def test_who_beat_before_the_servers_clock_went_back_is_silent_all_the_same(database, stuck, judge):
    await stuck.execute("SELECT pg_advisory_unlock_all()")
    assert await judge.dead() == []
    await older(database, "owner.heartbeat_at", -3600)

    assert await judge.dead() == ["ow_stuck"]


@ON_POSTGRES
async def test_a_lease_of_before_the_servers_clock_went_back_is_none(database, owners):
    clock = Clock()
    first, second = owners("ow_1", clock), owners("ow_2", clock)
    assert [await first.leads("sweep"), await second.leads("sweep")] == [True, False]
    clock.at += LEASE.total_seconds()
    await older(database, "lease.until", -3600)

    assert [await second.leads("sweep"), await first.leads("sweep")] == [True, False]


@ON_POSTGRES
async def test_a_leader_renews_its_lease_when_the_servers_clock_went_back(database, owners):
    clock = Clock()
    first, second = owners("ow_1", clock), owners("ow_2", clock)
    assert await first.leads("sweep")
    clock.at += LEASE.total_seconds() / 2
    await older(database, "lease.until", -3600)

    assert [await first.leads("sweep"), await second.leads("sweep")] == [True, False]


@ON_POSTGRES
async def test_who_leaves_hands_over_what_it_leads(database, owners):
    first, second = owners("ow_1"), owners("ow_2")
    await first.register()
    assert await first.leads("sweep")
    await first.leave()

    assert await second.leads("sweep")


async def test_a_process_that_cannot_beat_for_as_long_as_others_give_it_up_after_ends_itself():
    codes = []
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        url = f"postgresql://u@127.0.0.1:{nobody.getsockname()[1]}/d"
    heart = Heart(url, "ow_1", 1, None, given_up_s=0.6, end=codes.append)
    began = time.monotonic()
    heart._thread.start()  # `start` waits until the lock is held
    async with asyncio.timeout(10):
        while not codes:  # noqa: ASYNC110 (another thread says so)
            await asyncio.sleep(0.05)

    assert codes == [1]
    assert time.monotonic() - began > 0.6
    await heart.stop()
