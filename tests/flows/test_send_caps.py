"""Caps hold whoever sends, and however many at once."""

import asyncio
from collections import Counter
from contextlib import asynccontextmanager, suppress
from dataclasses import replace

import pytest
from makers import borrower, by_id, contact, debt, phone, rows
from sendrig import TENANT, done
from sqlalchemy import insert, select, tuple_

from gateway.domain import from_us
from gateway.store import schema
from gateway.store.dispatch import DispatchStore, DispatchTx
from gateway.store.facts import UNSENT
from gateway.work import Past

EVERYWHERE = [
    {"channel": "sms", "value": phone(1), "kind": "personal"},
    {"channel": "email", "value": "zhangsan@example.com", "kind": "personal"},
    {"channel": "wechat", "value": "openid-of-zhangsan-000000001", "kind": "personal"},
    {"channel": "voice", "value": phone(1), "kind": "personal"},
]


ON_ITS_WAY_S = 0.2
"""After somebody is about to count, its statement has reached the server."""


class Meeting:
    """Whoever has counted waits until a second one is about to; in vain where that one waits for a lock."""

    def __init__(self, patience_s):
        self._came, self._both, self._waited = 0, asyncio.Event(), False
        self._patience_s = patience_s

    def come(self):
        self._came += 1
        if self._came == 2:
            self._both.set()

    async def wait(self):
        if self._waited:
            return
        self._waited = True
        with suppress(TimeoutError):
            async with asyncio.timeout(self._patience_s):
                await self._both.wait()
                await asyncio.sleep(ON_ITS_WAY_S)


class Met(DispatchTx):
    """The shipped transaction, begun by two at once."""

    def __init__(self, conn, moment, log, meeting):
        super().__init__(conn, moment, log)
        self.meeting = meeting

    async def lock_persons(self, keys, *, free=False):
        self.meeting.come()
        return await super().lock_persons(keys, free=free)

    async def decide(self, verdicts, owner):
        await self.meeting.wait()
        await super().decide(verdicts, owner)


class Unlocked(Met):
    """A mutant: nobody waits for anybody."""

    async def lock_persons(self, keys, *, free=False):
        return sorted(set(keys))

    async def facts(self, subjects):
        found = await super().facts(subjects)
        self.meeting.come()
        return found


class OneStatement(Met):
    """A mutant: the row is locked by the very statement that counts."""

    async def lock_persons(self, keys, *, free=False):
        return sorted(set(keys))

    async def facts(self, subjects):
        persons = sorted({(s.tenant, s.person) for s in subjects})
        person, attempt = schema.person.c, schema.attempt.c
        locked = (
            select(person.tenant, person.id)
            .where(tuple_(person.tenant, person.id).in_(persons))
            .with_for_update(key_share=True)
            .cte("locked")
        )
        counted = (
            select(schema.attempt)
            .join(locked, (locked.c.tenant == attempt.tenant) & (locked.c.id == attempt.person))
            .where(attempt.state.notin_(UNSENT))
        )
        self.meeting.come()
        found = {key: [] for key in persons}
        for row in await self.conn.execute(counted):
            found[row.tenant, row.person].append(past(row))
        return replace(await super().facts(subjects), history=found)


def past(row):
    """An attempt as caps see it."""
    return Past(
        at=from_us(row.started_at),
        channel=row.channel,
        state=row.state,
        final_at=row.final_at and from_us(row.final_at),
        debt=row.debt,
        creditor=row.creditor,
        address=row.address,
        recipient_role=row.recipient_role,
    )


class StoreOf(DispatchStore):
    """A store whose transactions are of the given kind."""

    def __init__(self, gateway, kind, meeting, blind_to):
        super().__init__(gateway.database, gateway.log)
        self.gateway, self.kind, self.meeting, self.blind_to = gateway, kind, meeting, blind_to

    async def due_queues(self):
        """Without locks two who take all of a person would meet on the reminders' rows: each sees a part of them."""
        return [q for q in await super().due_queues() if q.channel not in self.blind_to]

    @asynccontextmanager
    async def transaction(self):
        async with self.gateway.database.write() as conn:
            moment = await self.gateway.database.moment(conn)
            yield self.kind(conn, moment, self.gateway.log, self.meeting)


async def have_one_slot_left(rig):
    """A person whom others have contacted twice."""
    await rig.put(borrower(1, addresses=EVERYWHERE), debt(1))
    await rig.contacts(
        *(contact(1, idempotency_key=f"c{n}", channel="sms", outcome="delivered") for n in range(2))
    )


async def race_for_the_last_slot(first, second, kind, count):
    """Reminders of a person with one slot left, on three channels, sent by two workers; who was reached."""
    await have_one_slot_left(first)
    await first.take(
        *(
            by_id(1, idempotency_key=f"k{channel}{n}", channels=[channel], repeat=True)
            for channel, share in (("sms", 4), ("email", 4), ("wechat", 2))
            for n in range(count * share // 10)
        )
    )
    meeting = Meeting(0.5 if kind is Met else 20)  # nothing keeps a mutant's second one, but a slow machine
    blind = ((), ()) if kind is Met else (("email", "wechat"), ("sms", "wechat"))
    async with (
        first.sender(store=StoreOf(first.gateway, kind, meeting, blind[0])) as a,
        second.sender(store=StoreOf(second.gateway, kind, meeting, blind[1])) as b,
    ):
        await asyncio.gather(
            a.drain_one("sms"), b.drain_one("email"), a.drain_one("wechat"), b.drain_one("wechat")
        )
    assert len(await rows(first.database, "reminder", "fence >= 1 OR channel = 'wechat'")) == count
    return first.reached()


async def test_two_workers_on_the_last_slot_send_once(rig, database_url, open_rig):
    other = rig if rig.database.sqlite else await open_rig(database_url, clock=None)

    reached = await race_for_the_last_slot(rig, other, Met, 1000)

    assert len(reached) == 1
    assert [a.state for a in await rig.attempts() if a.state != "void"] == [
        "accepted"
    ]  # void: begun too late
    assert await rig.states() == {
        ("sent", None): 1,
        ("deferred", "OP.CAPS.DAY"): 999,
    }


@pytest.mark.parametrize("mutant", [Unlocked, OneStatement])
async def test_a_worker_that_does_not_lock_before_it_counts_is_caught(mutant, postgres_url, open_rig):
    first, second = await open_rig(postgres_url), await open_rig(postgres_url, clock=None)

    assert len(await race_for_the_last_slot(first, second, mutant, 20)) > 1


async def test_two_conversations_today_and_five_calls_at_once_give_one_call(rig, database_url, open_rig):
    """In China a third conversation is the last of the day, and a call under way may be it."""
    other = rig if rig.database.sqlite else await open_rig(database_url, clock=None)
    await loosen(rig, "OP.CAPS.DAY", 20)
    await rig.put(borrower(1, addresses=EVERYWHERE, residence="CN-GD"), debt(1, governing_law="CN"))
    await rig.contacts(*(contact(1, idempotency_key=f"c{n}", at=f"2026-11-24T0{n}:10:00Z") for n in (0, 1)))
    calls = [by_id(1, idempotency_key=f"k{n}", channels=["voice"], repeat=True) for n in range(5)]
    names = await rig.take(*calls)

    async with rig.sender() as a, other.sender() as b:
        await asyncio.gather(a.drain(), b.drain())
        assert [line["kind"] for line in rig.reached()] == ["call"]
        assert (await rig.states())["deferred", "open_voice"] == 4

        await rig.advance(minutes=4)  # the call is over, and nobody said that it was no conversation
        await asyncio.gather(a.drain(), b.drain())

    assert len(names) == 5
    assert len(rig.reached()) == 1
    assert (await rig.states())["deferred", "CN.GBT.EFF3DAY"] == 4


async def test_a_call_under_way_bars_a_message_until_it_is_over(rig):
    await rig.put(borrower(1, addresses=EVERYWHERE), debt(1))
    await rig.take(by_id(1, channels=["voice"]))
    await rig.drain()
    (message,) = await rig.take(by_id(1, idempotency_key="sms", channels=["sms"], repeat=True))
    await rig.drain()

    assert [line["kind"] for line in rig.reached()] == ["call"]
    assert (await rig.reminder(message)).reason == "open_voice"

    await rig.advance(minutes=4)
    await rig.drain()

    assert [line["kind"] for line in rig.reached()] == ["call", "sms"]


async def test_twenty_messages_in_a_day_give_three_and_seven_in_a_week(rig, database_url, open_rig):
    other = rig if rig.database.sqlite else await open_rig(database_url, clock=None)
    await rig.put(borrower(1, addresses=EVERYWHERE), debt(1))
    sent = []
    async with rig.sender() as a, other.sender() as b:
        for day in range(4):
            done(await rig.intake.debts(TENANT, [{"id": "L-1", "state": "open"}]))
            for hour in range(2):
                raws = [
                    by_id(1, idempotency_key=f"{day}.{hour}.{n}", channels=["sms"], repeat=True)
                    for n in range(10)
                ]
                await rig.take(*raws)
                await asyncio.gather(a.drain(), b.drain())
                await rig.advance(hours=3)
            sent.append(len(rig.reached()))
            await rig.advance(hours=18)

    assert sent == [3, 6, 7, 7]
    assert Counter(line["to"] for line in rig.reached()) == {phone(1): 7}


async def test_a_place_that_was_asked_for_counts_until_it_runs_out_or_is_used(rig):
    await loosen(rig, "OP.CAPS.DAY", 1)
    await rig.put(borrower(1, addresses=EVERYWHERE), debt(1))
    asked = {"borrower": "B-1", "debt": "L-1", "channel": "voice", "purpose": "pre_due_reminder"}

    first = await rig.check(**asked)
    second = await rig.check(**asked)
    (waits,) = await rig.take(by_id(1, channels=["sms"]))
    await rig.drain()

    assert first["decision"]["action"] == "send"
    assert first["reservation"]
    assert second["reservation"] is None
    assert second["decision"]["reason"] == "open_voice"
    assert rig.reached() == []
    assert (await rig.reminder(waits)).reason == "open_voice"

    await rig.advance(minutes=11)
    third = await rig.check(**asked, actor={"role": "agency", "id": "north-desk"}, technology="live")
    assert third["reservation"]
    await rig.contacts(
        contact(1, at="2026-11-24T02:11:00Z", reservation=third["reservation"], outcome="no_answer")
    )
    await rig.drain()

    assert rig.reached() == []
    assert (await rig.reminder(waits)).reason == "OP.CAPS.DAY"
    kept = {row.id: row.actor_id for row in await rows(rig.database, "reservation")}
    assert kept == {first["reservation"]: None, third["reservation"]: "north-desk"}


async def loosen(rig, rule, most):
    """A tenant's own number for a cap."""
    async with rig.database.write() as conn:
        await conn.execute(
            insert(schema.pack_override).values(
                tenant=TENANT, rule=rule, max=most, at=0, who="tests", reason="a test"
            )
        )
