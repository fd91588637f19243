"""A reminder that ends whoever decides on it is found, set aside and replayed; who was beside it goes out once."""

import asyncio
from collections import Counter
from contextlib import asynccontextmanager

import orjson
import pytest
from makers import phone, reminder, rows
from sendrig import ON_SQLITE, TENANT
from sqlalchemy import select, update

from gateway.store import schema, suspects
from gateway.store.dispatch import DispatchStore, DispatchTx

ON_BOTH = pytest.mark.parametrize("database_url", ["sqlite", "postgresql"], indirect=True)
PEOPLE = range(100, 106)
EACH_ONCE = {phone(n): 1 for n in PEOPLE}
MOST = 5


class Fatal(DispatchStore):
    """Where a T1 comes to one reminder its process ends: nothing follows, nobody is told."""

    def __init__(self, rig, guilty):
        super().__init__(rig.database, rig.gateway.log)
        self.guilty = guilty
        self.over = asyncio.Event()
        self.decided = []

    @asynccontextmanager
    async def transaction(self):
        async with self._db.write() as conn:
            yield Ends(conn, await self._db.moment(conn), self._log, self)


class Ends(DispatchTx):
    def __init__(self, conn, moment, log, fatal):
        super().__init__(conn, moment, log)
        self._fatal = fatal

    async def facts(self, subjects):
        names = [one.id for one in subjects]
        self._fatal.decided.append(names)
        if self._fatal.guilty in names:
            self._fatal.over.set()
            await asyncio.Event().wait()
        return await super().facts(subjects)


async def works(rig, guilty):
    """A worker, after those before it were found dead; of which reminders it made one T1, and whether it lives."""
    await rig.aged("owner.heartbeat_at", seconds=11)
    store = Fatal(rig, guilty)
    async with rig.sender(store=store) as sender:
        heart = sender.parts.owners._heart
        await rig.until(lambda: asyncio.sleep(0, heart is None or heart.steady))
        await sender.parts.sweep._bury()
        draining, over = asyncio.create_task(sender.drain()), asyncio.create_task(store.over.wait())
        await asyncio.wait({draining, over}, return_when=asyncio.FIRST_COMPLETED)
        if not over.done():
            over.cancel()
            await draining
            return store.decided, True
        await sender.die(draining)
    return store.decided, False


async def lives(rig, guilty):
    """One worker after the other, until one lives, or so many are dead; what each made one T1 of."""
    decided = []
    while len(decided) <= MOST:
        seen, alive = await works(rig, guilty)
        decided.append(seen)
        if alive:
            break
    return decided


def some():
    return [reminder(n, channels=["sms"]) for n in PEOPLE]


def reached(rig):
    return Counter(line["to"] for line in rig.reached())


@ON_BOTH
async def test_who_ends_its_process_thrice_is_set_aside_and_whoever_was_beside_it_goes_out_once(rig):
    names = await rig.take(*some())
    guilty = names[2]

    decided = await lives(rig, guilty)

    assert len(decided) == 4
    assert sorted(decided[0][0]) == sorted(names)
    assert [[one for one in later if guilty in one] for later in decided[1:]] == [[[guilty]], [[guilty]], []]
    row = await rig.reminder(guilty)
    assert (row.state, row.reason, row.by) == ("deferred", "quarantined", "ended_its_process")
    assert row.next_at - row.updated_at == 900_000_000
    (told,) = await rows(rig.database, "record", "reason = 'quarantined'")
    assert (told.reminder, orjson.loads(told.leaf)["body"]) == (guilty, {"error": "ended_its_process"})
    assert reached(rig) == {to: 1 for to in EACH_ONCE if to != phone(PEOPLE[2])}
    assert [(s.reminder, s.strikes) for s in await rows(rig.database, "suspect")] == [(guilty, 1)]

    replayed = await rig.services.replays.replay(TENANT, [guilty], who="ann", reason="mended")
    await works(rig, None)

    assert replayed.names == [guilty]
    assert reached(rig) == EACH_ONCE
    assert await rows(rig.database, "suspect") == []


@ON_BOTH
async def test_whoever_was_with_a_process_that_was_killed_once_is_decided_on_alone_and_no_suspect_is_left(
    rig,
):
    names = await rig.take(*some())

    await works(rig, names[0])
    decided, alive = await works(rig, None)

    assert alive
    assert sorted(decided) == sorted([name] for name in names)
    assert reached(rig) == EACH_ONCE
    assert await rows(rig.database, "suspect") == []


async def test_a_suspect_whose_person_is_locked_is_let_go_and_tried_again(rig):
    names = await rig.take(*some())
    await works(rig, names[0])
    locked = await rig.reminder(names[1])
    await rig.aged("owner.heartbeat_at", seconds=11)

    async def but_one():
        return {row.reminder for row in await rows(rig.database, "suspect", "owner IS NULL")} == {locked.id}

    async with rig.sender() as sender:
        await rig.until(lambda: asyncio.sleep(0, sender.parts.owners._heart.steady))
        await sender.parts.sweep._bury()
        async with rig.database.write() as conn:
            person = schema.person.c.id == locked.person
            await conn.execute(select(schema.person).where(person).with_for_update())
            draining = asyncio.create_task(sender.drain())
            await rig.until(but_one)
        await draining

    assert reached(rig) == EACH_ONCE
    assert await rows(rig.database, "suspect") == []


async def test_what_is_set_aside_for_it_is_tried_once_more_each_time_alone(rig):
    (guilty,) = await rig.take(reminder(PEOPLE[0], channels=["sms"]))
    await lives(rig, guilty)
    await rig.advance(minutes=16)

    decided = await lives(rig, guilty)

    assert decided == [[[guilty]], [[guilty]], []]
    row = await rig.reminder(guilty)
    assert (row.reason, row.next_at - row.updated_at) == ("quarantined", 4 * 900_000_000)


async def nobody_counts(*_):
    """The mistake: whoever dies has just died."""
    return 0


async def everybody_each_time(conn, dead, now):
    """The mistake: who was beside the guilty one is as guilty each time."""
    await ACCUSE(conn, dead, now)
    await conn.execute(update(schema.suspect).values(strikes=schema.suspect.c.strikes + 1))
    return 0


ACCUSE = suspects.accuse


@ON_SQLITE
@pytest.mark.parametrize("mistake", [nobody_counts, everybody_each_time])
async def test_a_wrong_design_is_given_away(rig, monkeypatch, mistake):
    monkeypatch.setattr(suspects, "accuse", mistake)
    names = await rig.take(*some())

    decided = await lives(rig, names[-1])

    aside = await rows(rig.database, "reminder", "reason = 'quarantined'")
    assert ([row.id for row in aside], len(decided)) != ([names[-1]], 4)
