"""Who may hold intents, who leads a duty, and who is dead."""

import pytest
from makers import NOW, rows
from sqlalchemy import insert, text

from gateway.domain import to_us
from gateway.store import schema
from gateway.store.owners import Owners

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
