"""What happens while a T1, a call or an answer is under way: it counts, and nobody is reached for it."""

import asyncio
from contextlib import asynccontextmanager, suppress

from makers import borrower, by_id, debt, phone, rows
from sendrig import ON_SQLITE
from sqlalchemy import text

from gateway.errors import Unavailable
from gateway.store.dispatch import DispatchStore, DispatchTx

HELD = text("SELECT 1 FROM person WHERE id = :id FOR NO KEY UPDATE")


async def test_of_two_jobs_the_one_that_was_sent_while_the_other_waited_for_a_lock_came_first(
    postgres_url, open_rig
):
    """A batch waits for a person whom a T1 holds; meanwhile the same job comes by another key, and is sent."""
    rig = await open_rig(postgres_url)
    for number in (1, 2):
        await rig.put(borrower(number), debt(number))
    persons = {row.id: row.person for row in await rows(rig.database, "borrower")}
    held, free = (int(name[2:]) for name in sorted(persons, key=persons.get))
    async with rig.database.write() as conn:
        await conn.execute(HELD, {"id": persons[f"B-{held}"]})
        nightly = [by_id(n, idempotency_key=f"nightly-{n}", channels=["sms"]) for n in (held, free)]
        batch = asyncio.create_task(rig.take(*nightly))
        await asyncio.sleep(0.3)
        await rig.take(by_id(free, idempotency_key="again", channels=["sms"]))
        await rig.drain()
        assert not batch.done()
    await batch
    await rig.drain()

    assert [line["to"] for line in rig.reached()].count(phone(free)) == 1
    assert await rig.states() == {("sent", None): 2, ("suppressed", "duplicate"): 1}


class SlowStore(DispatchStore):
    """A store in which a T1 has read its facts and decides once it is let."""

    def __init__(self, gateway):
        super().__init__(gateway.database, gateway.log)
        self.read, self.go_on = asyncio.Event(), asyncio.Event()

    @asynccontextmanager
    async def transaction(self):
        async with self._db.write() as conn:
            yield Slow(conn, await self._db.moment(conn), self._log, self)


class Slow(DispatchTx):
    def __init__(self, conn, moment, log, store):
        super().__init__(conn, moment, log)
        self._store = store

    async def decide(self, verdicts, owner):
        self._store.read.set()
        await self._store.go_on.wait()
        await super().decide(verdicts, owner)


async def test_a_debt_that_is_reopened_while_its_promise_is_decided_on_wakes_the_reminder(
    postgres_url, open_rig
):
    rig = await open_rig(postgres_url)
    await rig.put(borrower(1), debt(1))
    await rig.happens("L-1", type="promised", until="2026-11-27")
    (name,) = await rig.take(by_id(1, channels=["sms"]))
    store = SlowStore(rig.gateway)
    async with rig.sender(store=store) as sender:
        draining = asyncio.create_task(sender.drain())
        await store.read.wait()
        event = asyncio.create_task(rig.happens("L-1", type="reopened"))
        await asyncio.wait({event}, timeout=0.5)
        store.go_on.set()
        await draining
        await event
    await rig.drain()

    assert (await rig.reminder(name)).state == "sent"


class Away(DispatchStore):
    """A store that goes away between what settles an attempt and what else the answer says."""

    def __init__(self, gateway):
        super().__init__(gateway.database, gateway.log)
        self.settled = False

    @asynccontextmanager
    async def transaction(self):
        if self.settled:
            raise Unavailable("it is away")
        async with super().transaction() as tx:
            settling = tx.finish

            async def finish(outturns):
                self.settled = any(outturn.settle_at is None for outturn in outturns)
                return await settling(outturns)

            tx.finish = finish
            yield tx


@ON_SQLITE
async def test_a_refusal_that_a_look_up_tells_of_is_known_although_the_store_goes_away_right_after(rig):
    blocked = [{"channel": "sms", "value": "+8613800000128", "kind": "personal"}]
    await rig.simulators.next("aliyun", "drop")
    await rig.put(borrower(1, addresses=blocked), debt(1))
    await rig.take(by_id(1, channels=["sms"]))
    await rig.drain()
    await rig.until(lambda: asyncio.sleep(0, rig.reached()))
    await rig.aged(seconds=6)
    reconcile = rig.duties.reconcile
    reconcile._store = Away(rig.gateway)
    with suppress(Unavailable):
        await reconcile.once()
    assert reconcile._store.settled
    (name,) = await rig.take(by_id(1, idempotency_key="next", channels=["sms"], repeat=True))
    await rig.drain()

    row = await rig.reminder(name)
    assert (row.state, row.reason) == ("suppressed", "opted_out")


async def test_a_call_whose_machine_sleeps_after_its_go_is_not_made(rig):
    """The loop's own clock stands still meanwhile; outside it is night."""
    await rig.put(borrower(1), debt(1))
    (name,) = await rig.take(by_id(1, channels=["sms"]))
    asleep_s = 0.0

    async def sleeps(_granted):
        nonlocal asleep_s
        asleep_s = 12 * 3600.0
        await rig.advance(hours=12)

    async with rig.sender(after_go=sleeps) as sender:
        sender.dispatch._starts._slept = lambda: asleep_s
        await sender.drain()

    assert rig.reached() == []
    assert (await rig.reminder(name)).state == "deferred"
