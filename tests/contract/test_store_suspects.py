"""Who comes under suspicion when an owner is dead, who may try it, and who does not wait for it."""

import asyncio

import pytest
from makers import borrower, by_id, debt, reminder, rows
from sqlalchemy import insert, select, text
from sqlalchemy.dialects.sqlite import dialect as sqlite_dialect
from test_store_dispatch import claimed

from gateway.domain import Tenant
from gateway.store import schema, suspects
from gateway.store.dispatch import _suspects
from gateway.store.owners import Owners

TENANT = Tenant("acme/live")
SMS = {"channels": ["sms"]}


@pytest.fixture
def owner(database):
    """Makes owners that live."""

    async def make(name):
        row = {"id": name, "lock_key": hash(name) % 2**40, "started_at": 0, "heartbeat_at": 0}
        async with database.write() as conn:
            await conn.execute(insert(schema.owner).values(row))
        return Owners(database, owner_id=name, lock_key=row["lock_key"], direct_url=None)

    return make


async def accuse(database, *dead):
    """As whoever finds them dead does."""
    async with database.write() as conn:
        return await suspects.accuse(conn, dead, 1)


async def strikes(database):
    return {row.reminder: (row.strikes, row.owner) for row in await rows(database, "suspect")}


async def picked(store, owner):
    """Those under no suspicion, and suspects."""
    wanted = {queue.name: 100 for queue in await store.due_queues()}
    found = await store.pick(wanted, owner)
    return {d.id for d in found if not d.strikes}, {d.id for d in found if d.strikes}


def keys(names):
    return [(TENANT, name) for name in names]


async def test_what_the_dead_had_not_decided_on_is_under_suspicion_once_however_many_died_of_it(
    database, store, take, owner
):
    names = await take(*(reminder(n, **SMS) for n in range(100, 104)))
    for name in ("ow_1", "ow_2"):
        await (await owner(name)).takes(keys(names[:3]))

    assert await accuse(database, "ow_1", "ow_2") == 3
    assert await accuse(database, "ow_1", "ow_2") == 0
    await (await owner("ow_3")).takes(keys(names[:3]))
    await accuse(database, "ow_3")

    assert await strikes(database) == dict.fromkeys(names[:3], (1, None))
    assert await picked(store, "ow_4") == ({names[3]}, set(names[:3]))


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
async def test_several_find_the_same_owner_dead_at_once(database, take, owner):
    names = await take(*(reminder(n, **SMS) for n in (100, 101)))
    one = await owner("ow_1")
    await one.takes(keys(names[:1]))
    await accuse(database, one.id)
    await one.tries((TENANT, names[0]))
    await one.takes(keys(names[1:]))

    async with database.write() as conn:
        first = await suspects.accuse(conn, [one.id], 1)
        other = asyncio.create_task(accuse(database, one.id))
        await asyncio.sleep(0.1)
        assert not other.done()

    assert (first, await other) == (2, 0)
    assert await strikes(database) == {names[0]: (2, None), names[1]: (1, None)}


async def test_what_was_decided_on_since_or_was_never_taken_is_under_none(database, store, take, owner):
    """A note stays when T1 is over: it counts for nothing then."""
    decided, cancelled, untouched = await take(*(reminder(n, **SMS) for n in range(100, 103)))
    one = await owner("ow_1")
    await one.takes(keys([decided, cancelled]))
    async with database.write() as conn:
        await conn.execute(
            text(f"UPDATE reminder SET updated_at = updated_at + 1000000000 WHERE id = '{decided}'")
        )
        await conn.execute(text(f"UPDATE reminder SET state = 'cancelled' WHERE id = '{cancelled}'"))

    assert await accuse(database, "ow_1") == 0
    await one.takes(keys([untouched]))
    await one.leave()
    assert await accuse(database, "ow_1") == 0
    assert await strikes(database) == {}


async def test_what_a_person_had_due_beside_it_is_taken_with_it_and_under_suspicion_too(
    database, store, intake, take, owner
):
    await intake.borrowers(TENANT, [borrower(1)])
    await intake.debts(TENANT, [{**debt(n), "borrower": "B-1"} for n in (1, 2)])
    names = await take(*(by_id(1, debt=f"L-{n}", idempotency_key=f"k{n}", **SMS) for n in (1, 2)))
    (other,) = await take(reminder(100, **SMS))
    await (await owner("ow_1")).takes(keys(names[:1]))

    await accuse(database, "ow_1")

    assert set(await strikes(database)) == set(names)
    assert (await picked(store, "ow_2"))[0] == {other}


async def test_a_suspect_is_tried_by_one_at_a_time_and_is_claimed_with_nobody(database, store, take, owner):
    (name,) = await take(reminder(100, **SMS))
    first, second = await owner("ow_1"), await owner("ow_2")
    (due,) = await store.pick({queue.name: 1 for queue in await store.due_queues()}, first.id)
    await first.takes(keys([name]))
    await accuse(database, first.id)

    assert await claimed(store, [due]) == []
    assert await first.tries((TENANT, name))
    assert not await second.tries((TENANT, name))
    assert [await picked(store, one.id) for one in (first, second)] == [(set(), {name}), (set(), set())]
    await first.lets_go()
    assert await second.tries((TENANT, name))
    await second.leave()
    assert await strikes(database) == {name: (1, None)}
    assert not await second.tries((TENANT, name)), "who said goodbye tries nothing"


async def test_whoever_dies_trying_one_alone_adds_a_strike_to_that_one(database, store, take, owner):
    names = await take(*(reminder(n, **SMS) for n in (100, 101)))
    one = await owner("ow_1")
    await one.takes(keys(names))
    await accuse(database, one.id)
    for count in (2, 3):
        await one.tries((TENANT, names[0]))
        assert await accuse(database, one.id) == 1
        assert await accuse(database, one.id) == 0
        assert await strikes(database) == {names[0]: (count, None), names[1]: (1, None)}


async def test_few_are_tried_in_a_round_those_first_that_were_not_for_longest(database, store, take, owner):
    names = await take(*(reminder(n, **SMS) for n in range(100, 108)))
    one = await owner("ow_1")
    await one.takes(keys(names))
    await accuse(database, one.id)

    _, first = await picked(store, one.id)
    for name in first:
        await one.tries((TENANT, name))
        await one.lets_go()
    _, then = await picked(store, one.id)

    assert len(first) == 5
    assert set(names) - first < then


async def test_who_is_decided_on_or_over_is_a_suspect_no_more_and_who_is_set_aside_begins_anew(
    database, store, take, owner
):
    names = await take(*(reminder(n, **SMS) for n in (100, 101, 102)))
    one = await owner("ow_1")
    await one.takes(keys(names))
    await accuse(database, one.id)
    dues = {d.id: d for d in await store.pick({q.name: 9 for q in await store.due_queues()}, one.id)}
    aside = dues[names[2]]
    await one.tries((TENANT, aside.id))
    await accuse(database, one.id)

    async with store.transaction() as tx:
        await tx.lock_persons([(TENANT, dues[names[0]].person)])
        await tx.acquit(await tx.take(keys(names[:1])))
    await store.put_aside(aside, "ended_its_process")
    async with database.write() as conn:
        await conn.execute(
            text(f"UPDATE reminder SET state = 'cancelled', next_at = NULL WHERE id = '{names[1]}'")
        )
    await accuse(database, one.id)

    assert await strikes(database) == {aside.id: (1, None)}


async def test_however_much_is_due_it_is_from_the_suspects_that_their_reminders_are_found(sqlite):
    statement = select(_suspects(sqlite.now))
    made = statement.compile(dialect=sqlite_dialect(), compile_kwargs={"render_postcompile": True})
    bound = {**made.params, "queues": "[]", "by": "ow_1"}

    async with sqlite.read() as conn:
        told = await conn.exec_driver_sql(
            f"EXPLAIN QUERY PLAN {made}", tuple(bound[name] for name in made.positiontup)
        )
        loops = [row.detail.split(" USING")[0] for row in told if " USING INDEX" in row.detail]

    assert loops == ["SCAN suspect", "SEARCH reminder"]
