"""Who may hold intents, who leads a duty, and who is dead."""

import pytest
from makers import NOW, rows
from sqlalchemy import insert, text

from gateway.domain import to_us
from gateway.store import schema
from gateway.store.owners import Owners


@pytest.fixture
def owners(database):
    """Makes owners that hold no session of their own."""
    return lambda name: Owners(database, owner_id=name, lock_key=hash(name) % 2**40, direct_url=None)


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


async def test_a_duty_has_one_leader_until_its_lease_runs_out(database, owners):
    first, second = owners("ow_1"), owners("ow_2")
    if database.sqlite:
        assert await first.leads("sweep")
        return

    assert [await first.leads("sweep"), await second.leads("sweep"), await first.leads("sweep")] == [
        True,
        False,
        True,
    ]
    assert await second.leads("reconcile")
    await older(database, "lease.until", 11)
    assert [await second.leads("sweep"), await first.leads("sweep")] == [True, False]


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
