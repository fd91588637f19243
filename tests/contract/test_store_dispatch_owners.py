"""Who may hold intents, who leads a duty, and who is dead."""

import pytest
from makers import rows
from sqlalchemy import text

from gateway.store.owners import Owners


@pytest.fixture
def owners(database):
    """Makes owners that hold no session of their own."""
    return lambda name: Owners(database, owner_id=name, lock_key=hash(name) % 2**40, direct_url=None)


async def older(database, column, seconds):
    table, _, name = column.partition(".")
    async with database.write() as conn:
        await conn.execute(text(f"UPDATE {table} SET {name} = {name} - {seconds * 1_000_000}"))


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

    assert await before[-1].dead() == ["ow_0", "ow_1"]
    assert await rows(sqlite, "owner", "dead_at IS NULL AND id <> 'ow_2'") == []


async def test_whoever_leaves_is_dead_to_the_others_for_a_day(database, owners):
    gone, stays = owners("ow_1"), owners("ow_2")
    await gone.register()
    await gone.leave()

    assert await stays.dead() == ["ow_1"]
    assert await gone.dead() == []
    await older(database, "owner.dead_at", 86_401)
    assert await stays.dead() == []
