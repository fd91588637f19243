"""What dispatch, receipts, sweep and reconcile are promised by the store, over SQLite and PostgreSQL alike."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import orjson
import pytest
from makers import NOW, borrower, by_id, contact, phone, reminder, rows, set_clock
from sqlalchemy import insert, update

from gateway.domain import Channel, Money, Tenant, from_us, to_us
from gateway.quotas.model import Book, Load
from gateway.store import schema
from gateway.store.dispatch import DispatchStore
from gateway.work import Attempt, Ground, Intent, Outturn, Start, Subject, Verdict

TENANT = Tenant("acme/live")
OWNER = "ow_1"
SMS = {"channels": ["sms"]}
TEXT = b"sealed"


@pytest.fixture
async def store(database, log):
    await set_clock(database)
    async with database.write() as conn:
        await conn.execute(
            insert(schema.account).values(
                tenant=TENANT,
                name="sms-cn",
                adapter="aliyun_sms",
                sender="x",
                settings="{}",
                enabled=True,
                revision=1,
                updated_at=0,
            )
        )
    return DispatchStore(database, log)


async def due(store):
    """Everything that is due."""
    return await store.pick({queue.name: 100 for queue in await store.due_queues()}, OWNER)


def start_of(work, ref):
    load = Load(
        tenant=work.tenant, channel="sms", adapter="aliyun_sms", account="sms-cn", template=work.template
    )
    return Start(
        ref=ref,
        load=load,
        template_version=1,
        portfolios=frozenset(),
        places=frozenset(),
        deliver_by=NOW + timedelta(hours=1),
    )


async def claim(tx, store, dues):
    """The locks, then the claim of all that is due of these persons."""
    persons = sorted({(d.tenant, d.person) for d in dues})
    await tx.lock_persons(persons)
    queues = {row.queue for row in await rows(store._db, "reminder")}
    return await tx.claim(persons, [(d.tenant, d.borrower) for d in dues], sorted(queues), 1000)


async def gone(store, intents, owner=OWNER):
    """Refs that got their go."""
    return set((await store.go(intents, owner, None, Book())).granted)


def intent_of(work, number=0, *, deadline, **changes):
    values = {
        "work": work,
        "ref": f"at_{work.id[3:]}{number}",
        "channel": Channel.SMS,
        "adapter": "aliyun_sms",
        "account": "sms-cn",
        "address": "00",
        "creditor": "acme",
        "segments": 1,
        "price": Money(amount=Decimal("0.045"), currency="CNY"),
        "language": "zh-CN",
        "text_hash": "00",
        "text_enc": TEXT,
        "borrower_revision": 1,
        "debt_revision": 1,
        "start": start_of(work, f"at_{work.id[3:]}{number}"),
        "deadline": deadline,
    }
    return Intent(**values | changes)


def sending(intent):
    decision = orjson.dumps({"deliver_by": (NOW + timedelta(hours=1)).isoformat()}).decode()
    return Verdict(
        work=intent.work,
        state="sending",
        reason=None,
        by=None,
        next_at=None,
        decision=decision,
        ground=Ground(sha256="0" * 64, said="{}"),
        channel=Channel.SMS,
        intent=intent,
    )


async def claimed(store, dues=None):
    """T1's first half: the persons locked, the reminders claimed."""
    dues = await due(store) if dues is None else dues
    async with store.transaction() as tx:
        return await claim(tx, store, dues)


async def intended(store, *, permit=10.0, owner=OWNER, **changes):
    """Intents for everything that is due, committed."""
    dues = await due(store)
    async with store.transaction() as tx:
        deadline = tx.moment.real + timedelta(seconds=permit)
        intents = [intent_of(work, deadline=deadline, **changes) for work in await claim(tx, store, dues)]
        await tx.decide([sending(i) for i in intents], owner)
    return intents


async def calling(store):
    """Attempts that have their go."""
    intents = await intended(store)
    assert await gone(store, intents) == {i.ref for i in intents}
    return intents


async def attempt_of(store, intent):
    found = await store.find(intent.ref)
    assert found is not None
    return found


async def states(database):
    """Attempts and reminders by state."""
    return (
        sorted(row.state for row in await rows(database, "attempt", "origin = 'gateway'")),
        sorted(row.state for row in await rows(database, "reminder")),
    )


def out(attempt, state="accepted", **more):
    return Outturn(attempt=attempt, state=state, **more)


# What is due, and who takes it.


async def test_what_is_due_comes_by_priority_then_by_time_and_nothing_else_does(store, database, take):
    alike = borrower(1)
    names = await take(
        reminder(1, borrower=alike, **SMS, idempotency_key="bulk", priority="bulk"),
        by_id(1, **SMS, idempotency_key="first"),
        by_id(1, **SMS, idempotency_key="second"),
        by_id(1, **SMS, idempotency_key="urgent", priority="urgent"),
        by_id(1, **SMS, idempotency_key="later", not_before="2026-11-24T05:00:00Z"),
    )
    queues = await store.due_queues()

    assert [q.priority for q in queues] == [0, 1, 2]
    assert {(q.channel, q.tenant, q.template) for q in queues} == {("sms", TENANT, "pre_due")}
    assert all(NOW <= q.oldest < NOW + timedelta(seconds=5) for q in queues)
    assert [d.id for d in await due(store)] == [names[3], names[1], names[2], names[0]]
    assert [d.id for d in await store.pick({queues[1].name: 1}, OWNER)] == [names[1]]
    assert await store.pick({}, OWNER) == []
    assert await store.pick({queues[0].name.replace("sms", "email"): 9}, OWNER) == []

    await claimed(store)
    assert await store.due_queues() == []


async def test_what_is_claimed_is_claimed_once_and_by_priority_value_and_expiry(store, take):
    names = await take(
        reminder(1, **SMS, priority="bulk", value="9000"),
        reminder(2, **SMS, expires_at="2026-11-25T06:00:00Z"),
        reminder(3, **SMS, expires_at="2026-11-25T05:00:00Z"),
        reminder(4, **SMS, value="120.50", expires_at="2026-11-25T07:00:00Z"),
        reminder(5, **SMS, value="much", expires_at="2026-11-25T08:00:00Z"),
    )
    dues = await due(store)

    first, second = await claimed(store, dues), await claimed(store, dues)

    assert [w.id for w in first] == [names[n - 1] for n in (4, 3, 2, 5, 1)]
    assert {w.fence for w in first} == {1}
    assert second == []


async def test_two_who_claim_at_once_share_without_overlap(store, take):
    await take(*(reminder(n, **SMS) for n in range(1, 41)))
    dues = await due(store)

    taken = await asyncio.gather(*(claimed(store, dues) for _ in range(4)))

    assert sorted(w.id for works in taken for w in works) == sorted(d.id for d in dues)


async def test_a_reminder_whose_person_became_another_is_left_for_the_next_pick(store, intake, take):
    """Its caps are counted under another row's lock by now."""
    await take(reminder(1, **SMS), reminder(2, **SMS))
    stale = await due(store)
    shared = {"addresses": [{"channel": "sms", "value": phone(n)} for n in (1, 2)]}
    await intake.borrowers(TENANT, [borrower(1, **shared), borrower(2, **shared)])
    (stays,) = {d.person for d in await due(store)}
    (moved,) = [d for d in stale if d.person != stays]

    assert await claimed(store, [moved]) == []
    assert {w.person for w in await claimed(store)} == {stays}


async def test_the_lock_on_a_person_is_waited_for_and_on_another_it_is_not(store, take):
    await take(reminder(1, **SMS), reminder(2, **SMS))
    one, two = [(d.tenant, d.person) for d in await due(store)]
    order = []

    async def hold(key, name, until=None):
        async with store.transaction() as tx:
            await tx.lock_persons([key])
            order.append(name)
            held.set()
            if until is not None:
                await asyncio.wait_for(until.wait(), 5)

    held, done = asyncio.Event(), asyncio.Event()
    first = asyncio.create_task(hold(one, "first", done))
    await asyncio.wait_for(held.wait(), 5)
    same = asyncio.create_task(hold(one, "same"))
    if store._db.dialect == "postgresql":
        await hold(two, "another")
    await asyncio.sleep(0.1)
    order.append("let go")
    done.set()
    await asyncio.gather(first, same)

    assert [name for name in order if name != "another"] == ["first", "let go", "same"]


# Go.


async def test_a_go_is_given_once(store, database, take):
    await take(*(reminder(n, **SMS) for n in range(1, 4)))
    intents = await intended(store)

    first, second = await gone(store, intents), await gone(store, intents)

    assert first == {i.ref for i in intents}
    assert second == set()
    assert await states(database) == (["calling"] * 3, ["sending"] * 3)
    assert {row.called for row in await rows(database, "reminder")} in ({1}, {True})


async def changed(database, table, **values):
    async with database.write() as conn:
        await conn.execute(update(table).values(**values))


@pytest.mark.parametrize(
    ("change", "reminder_state"),
    [
        (lambda d: changed(d, schema.borrower, revision=2), "waiting"),
        (lambda d: changed(d, schema.debt, revision=2), "waiting"),
        (lambda d: changed(d, schema.account, enabled=False), "waiting"),
        (lambda d: changed(d, schema.attempt, owner="ow_2"), "waiting"),
        (lambda d: changed(d, schema.reminder, state="cancelled"), "cancelled"),
        (lambda d: changed(d, schema.reminder, fence=9), "waiting"),
        (lambda d: changed(d, schema.reminder, called=True), "waiting"),
    ],
    ids=["borrower", "debt", "account", "owner", "cancelled", "claimed_anew", "called"],
)
async def test_whatever_changed_since_the_decision_withdraws_the_attempt(
    change, reminder_state, store, database, take
):
    await take(reminder(1, **SMS))
    intents = await intended(store)
    await change(database)

    assert await gone(store, intents) == set()

    assert await states(database) == (["void"], [reminder_state])


async def test_a_permit_that_is_over_withdraws_the_attempt(store, database, take):
    await take(reminder(1, **SMS), reminder(2, **SMS))
    lasting = await intended(store)
    await gone(store, lasting)
    await take(by_id(1, **SMS, idempotency_key="x", repeat=True))
    over = await intended(store, permit=-0.001)

    assert await gone(store, over) == set()
    assert await states(database) == (["calling", "calling", "void"], ["sending", "sending", "waiting"])
    assert len(await due(store)) == 1


async def test_of_a_go_and_a_withdrawal_at_once_exactly_one_wins(store, database, take):
    await take(*(reminder(n, **SMS) for n in range(1, 31)))
    intents = await intended(store)

    async def withdraw(intent):
        async with store.transaction() as tx:
            return await tx.void([(TENANT, intent.ref)])

    async def go(intent):
        return await gone(store, [intent])

    results = await asyncio.gather(*(act(i) for i in intents for act in (withdraw, go)))

    won = {a.ref for voided in results[::2] for a in voided}
    granted = set().union(*results[1::2])
    assert won.isdisjoint(granted)
    assert won | granted == {i.ref for i in intents}
    stand = {row.ref: row.state for row in await rows(database, "attempt")}
    assert stand == {i.ref: "void" if i.ref in won else "calling" for i in intents}
    assert len(await due(store)) == len(won)


# Withdrawing.


async def test_withdrawing_makes_the_reminder_due_and_is_on_record(store, database, take):
    (name,) = await take(reminder(1, **SMS))
    (intent,) = await intended(store)

    async with store.transaction() as tx:
        (gone,) = await tx.void([(TENANT, intent.ref)])
        assert await tx.void([(TENANT, intent.ref)]) == []

    assert (gone.ref, gone.reminder) == (intent.ref, name)
    assert await states(database) == (["void"], ["waiting"])
    assert [d.id for d in await due(store)] == [name]
    (record,) = await rows(database, "record", "kind = 'attempt'")
    assert (record.attempt, record.state) == (intent.ref, "void")


async def test_a_call_is_withdrawn_only_by_who_says_that_it_was_not_made(store, database, take):
    await take(reminder(1, **SMS))
    (intent,) = await calling(store)

    async with store.transaction() as tx:
        assert await tx.void([(TENANT, intent.ref)]) == []
    assert await states(database) == (["calling"], ["sending"])
    async with store.transaction() as tx:
        assert len(await tx.void([(TENANT, intent.ref)], from_states=("intent", "calling"))) == 1
    assert await states(database) == (["void"], ["waiting"])
    assert {row.called for row in await rows(database, "reminder")} in ({0}, {False})


async def test_what_was_put_off_by_a_rule_or_a_call_is_looked_at_again_and_nothing_else(
    store, database, take
):
    reasons = ["OP.CAPS.DAY", "open_voice", "debt_promised", "quota", None]
    names = await take(
        reminder(1, **SMS, idempotency_key="0"),
        *(by_id(1, **SMS, idempotency_key=str(n)) for n in range(1, 5)),
        reminder(2, **SMS),
    )
    await claimed(store)
    later = to_us(NOW + timedelta(hours=5))
    async with database.write() as conn:
        for name, reason in zip(names, [*reasons, "OP.CAPS.DAY"], strict=True):
            await conn.execute(
                update(schema.reminder)
                .where(schema.reminder.c.id == name)
                .values(state="deferred", reason=reason, next_at=later)
            )
    (person,) = {r.person for r in await rows(database, "reminder", "borrower = 'B-1'")}

    async with store.transaction() as tx:
        await tx.lock_persons([(TENANT, person)])
        await tx.look_again([(TENANT, person)])

    assert {d.id for d in await due(store)} == set(names[:2])


# Outcomes.


async def test_an_outcome_moves_the_reminder_whose_latest_attempt_it_is(store, database, take):
    await take(reminder(1, **SMS))
    (intent,) = await calling(store)
    attempt = await attempt_of(store, intent)

    async with store.transaction() as tx:
        await tx.finish(
            [
                out(
                    attempt,
                    ending="accepted",
                    code="OK",
                    provider_id="P-1",
                    final_at=NOW,
                    ended_at=NOW,
                    reminder_state="sent",
                    next_at=NOW + timedelta(hours=4),
                    step=1,
                )
            ]
        )
        await tx.finish(
            [out(attempt, state="delivered", final_at=NOW, keeps_next=True, reminder_state="delivered")]
        )

    (row,) = await rows(database, "attempt")
    assert (row.state, row.ending, row.code, row.provider_id) == ("delivered", "accepted", "OK", "P-1")
    (row,) = await rows(database, "reminder")
    assert (row.state, row.step, from_us(row.next_at)) == ("delivered", 1, NOW + timedelta(hours=4))
    assert await store.refs_of("aliyun_sms", "sms-cn", ["P-1", "P-2"]) == {"P-1": intent.ref}
    assert await store.refs_of("aliyun_sms", "other", ["P-1"]) == {}


async def test_an_outcome_that_comes_late_gives_a_cancelled_step_no_further_time(store, database, take):
    await take(reminder(1, **SMS))
    (intent,) = await calling(store)
    attempt = await attempt_of(store, intent)
    async with database.write() as conn:
        await conn.execute(update(schema.reminder).values(state="cancelled", next_at=None, called=False))

    async with store.transaction() as tx:
        await tx.finish([out(attempt, reminder_state="sent", next_at=NOW, step=1)])
    (row,) = await rows(database, "reminder")
    assert (row.state, row.reason, row.next_at) == ("sent", "cancelled", None)

    async with store.transaction() as tx:
        await tx.finish([out(attempt, state="delivered", reminder_state="delivered")])
    (row,) = await rows(database, "reminder")
    assert (row.state, row.next_at) == ("delivered", None)


@pytest.mark.parametrize(
    ("before", "step", "becomes"),
    [
        ({"state": "cancelled"}, 0, "cancelled"),
        ({"state": "unknown", "reason": "cancelled"}, 1, "cancelled"),
        ({"state": "unknown", "reason": "cancelled"}, 2, "unknown"),
    ],
    ids=["before_its_call", "after_its_first_call", "after_another_contact"],
)
async def test_a_refusal_that_comes_late_frees_nothing_that_was_cancelled(
    before, step, becomes, store, database, take
):
    await take(reminder(1, **SMS))
    (intent,) = await calling(store)
    attempt = await attempt_of(store, intent)
    async with database.write() as conn:
        await conn.execute(update(schema.reminder).values(**before, step=step, next_at=None))

    async with store.transaction() as tx:
        await tx.finish(
            [
                out(
                    attempt,
                    state="rejected",
                    reminder_state="deferred",
                    reason="quota",
                    next_at=NOW,
                    refused=True,
                )
            ]
        )

    (row,) = await rows(database, "reminder")
    assert (row.state, row.reason, row.next_at, row.called) == (becomes, "cancelled", None, False)


async def test_a_step_is_to_come_where_its_reminder_has_a_time_for_it(store, database, take):
    names = await take(reminder(1, **SMS), reminder(2, **SMS))
    attempts = [await attempt_of(store, intent) for intent in await calling(store)]
    async with store.transaction() as tx:
        assert await tx.steps_to_come([]) == set()
        assert await tx.steps_to_come(attempts) == set()
        (one,) = (a for a in attempts if a.reminder == names[0])
        await tx.finish([out(one, reminder_state="sent", next_at=NOW, step=1)])
        assert await tx.steps_to_come(attempts) == {one.ref}
        assert await tx.steps_to_come([replace(one, ref="at_before")]) == set()


async def test_a_refusal_frees_the_reminder_and_counts_its_tries(store, database, take):
    await take(reminder(1, **SMS))
    (intent,) = await calling(store)
    attempt = await attempt_of(store, intent)

    async with store.transaction() as tx:
        await tx.finish(
            [
                out(
                    attempt,
                    state="rejected",
                    ending="not_sent",
                    reminder_state="deferred",
                    reason="account_down",
                    by="sms-cn",
                    next_at=NOW + timedelta(seconds=5),
                    refused=True,
                )
            ]
        )

    (row,) = await rows(database, "reminder")
    assert (row.state, row.reason, row.by, row.tries, bool(row.called)) == (
        "deferred",
        "account_down",
        "sms-cn",
        1,
        False,
    )


async def test_an_outcome_of_an_attempt_before_the_latest_leaves_the_reminder_alone(store, database, take):
    await take(reminder(1, **SMS))
    (old,) = await intended(store)
    async with store.transaction() as tx:
        await tx.void([(TENANT, old.ref)])
    (new,) = await intended(store, ref="at_new")

    async with store.transaction() as tx:
        stands = await tx.attempts([old.ref, new.ref, "at_none"])
        await tx.finish([out(stands[old.ref], state="delivered", reminder_state="delivered", final_at=NOW)])

    assert set(stands) == {old.ref, new.ref}
    assert await states(database) == (["delivered", "intent"], ["sending"])


async def test_a_contact_made_elsewhere_is_no_attempt_of_ours(store, intake, database, take):
    await take(reminder(1, **SMS))
    (result,) = await intake.contacts(TENANT, [contact(1)])
    ref = orjson.loads(result.body)["id"]

    async with store.transaction() as tx:
        assert await tx.attempts([ref]) == {}


async def test_a_dead_address_is_dead_on_its_channel_alone(store, database, take):
    both = [{"channel": c, "value": phone(1)} for c in ("sms", "voice")]
    await take(reminder(1, borrower=borrower(1, addresses=both), **SMS))
    (key,) = {bytes(row.blind).hex() for row in await rows(database, "address")}

    async with store.transaction() as tx:
        await tx.mark_dead([(TENANT, "B-1", "sms", key)])

    assert {r.channel: r.dead_at is not None for r in await rows(database, "address")} == {
        "sms": True,
        "voice": False,
    }


async def test_a_refusal_of_a_channel_is_written_once_and_raises_the_revision(store, database, take):
    await take(reminder(1, **SMS))

    told = []
    for channel in ("sms", "sms", "email"):
        async with store.transaction() as tx:
            told.append(await tx.opt_out(TENANT, "B-1", channel))
    async with store.transaction() as tx:
        told.append(await tx.opt_out(TENANT, "B-nobody", "sms"))

    assert told == [True, False, True, False]
    (row,) = await rows(database, "borrower")
    assert row.revision == 3
    assert [o["channel"] for o in orjson.loads(row.profile)["opt_outs"]] == ["sms", "email"]


# What others left behind.


async def test_an_intent_is_overdue_once_its_grace_is_over_and_a_call_never(store, database, take):
    await take(reminder(1, **SMS))
    await calling(store)
    await take(reminder(2, **SMS))
    (over,) = await intended(store, permit=-3)
    await take(reminder(3, **SMS))
    (within,) = await intended(store, permit=-1)
    grace = timedelta(seconds=2)

    async with store.transaction() as tx:
        assert await tx.overdue_intents(grace, 10) == [(TENANT, over.ref)]
        assert len(await tx.overdue_intents(timedelta(0), 10)) == 2
        assert len(await tx.overdue_intents(timedelta(0), 1)) == 1
    assert within.ref != over.ref


async def test_orphans_are_what_these_owners_have_not_ended(store, database, take):
    await take(reminder(1, **SMS))
    (called,) = await calling(store)
    await take(reminder(2, **SMS))
    (meant,) = await intended(store)
    await take(reminder(3, **SMS))
    await intended(store, owner="ow_2")
    await take(reminder(4, **SMS))
    (ended,) = await calling(store)
    async with store.transaction() as tx:
        await tx.finish([out(await attempt_of(store, ended), final_at=NOW)])

    async with store.transaction() as tx:
        found = await tx.orphans([OWNER, "ow_9"], 10)
        assert {ref: a.state for ref, a in found.items()} == {called.ref: "calling", meant.ref: "intent"}
        assert await tx.orphans(["ow_9"], 10) == {}
        assert len(await tx.orphans([OWNER], 1)) == 1


async def test_unknowns_are_settled_once_their_time_has_come_the_oldest_first(store, database, take):
    await take(*(reminder(n, **SMS) for n in range(1, 5)))
    intents = await calling(store)
    async with store.transaction() as tx:
        real = tx.moment.real
        for intent, seconds in zip(intents, (-1, -60, 60, None), strict=True):
            settle_at = None if seconds is None else real + timedelta(seconds=seconds)
            attempt = await attempt_of(store, intent)
            await tx.finish([out(attempt, state="unknown", settle_at=settle_at, final_at=NOW)])

    async with store.transaction() as tx:
        assert set(await tx.to_settle(10)) == {intents[0].ref, intents[1].ref}
        assert set(await tx.to_settle(1)) == {intents[1].ref}


async def test_a_decision_stands_until_its_end_unless_what_it_rests_on_has_changed(store, database, take):
    await take(reminder(1, **SMS))
    (intent,) = await calling(store)
    attempt = await attempt_of(store, intent)

    async def stands_until():
        async with store.transaction() as tx:
            return await tx.stands_until(attempt)

    assert await stands_until() == NOW + timedelta(hours=1)
    for table, change, back in (
        (schema.borrower, {"revision": 2}, {"revision": 1}),
        (schema.debt, {"revision": 2}, {"revision": 1}),
        (schema.account, {"enabled": False}, {"enabled": True}),
        (schema.reminder, {"attempt": "at_other"}, {"attempt": intent.ref}),
        (schema.reminder, {"reason": "cancelled"}, {"reason": None}),
    ):
        await changed(database, table, **change)
        assert await stands_until() is None, table.name
        await changed(database, table, **back)
    assert await stands_until() == NOW + timedelta(hours=1)


# What a decision is told.


async def facts_of(store, subjects):
    async with store.transaction() as tx:
        return await tx.facts(subjects)


async def test_history_holds_what_may_have_reached_the_person_and_nothing_else(store, intake, database, take):
    await take(
        *(
            reminder(1, **SMS, idempotency_key="a") if n == 0 else by_id(1, **SMS, idempotency_key=f"{n}")
            for n in range(6)
        )
    )
    intents = await calling(store)
    endings = ("accepted", "unknown", "rejected", "failed", "calling", "void")
    async with store.transaction() as tx:
        for intent, state in zip(intents, endings, strict=True):
            await tx.finish([out(await attempt_of(store, intent), state=state, final_at=NOW)])
    await intake.contacts(TENANT, [contact(1)])
    person = intents[0].work.person
    subject = Subject(tenant=TENANT, person=person, borrower="B-1", debt="L-1")
    at, until = to_us(NOW), to_us(NOW + timedelta(minutes=10))
    async with database.write() as conn:
        for name, ends, used in (("held", until, None), ("over", at - 1, None), ("used", until, at)):
            await conn.execute(
                insert(schema.reservation).values(
                    tenant=TENANT,
                    id=name,
                    person=person,
                    borrower="B-1",
                    debt="L-1",
                    creditor="acme",
                    channel="visit",
                    recipient_role="debtor",
                    at=at - 1,
                    until=ends,
                    used_at=used,
                )
            )

    (history,) = (await facts_of(store, [subject])).history.values()

    assert sorted((past.channel, past.state) for past in history) == [
        ("sms", "accepted"),
        ("sms", "calling"),
        ("sms", "failed"),
        ("sms", "unknown"),
        ("visit", "unknown"),
        ("voice", "conversation"),
    ]


async def test_everybody_who_is_one_person_is_seen_and_nobody_else(store, intake, database, take):
    shared = {"addresses": [{"channel": "sms", "value": phone(9)}]}
    await take(
        reminder(1, borrower=borrower(1, **shared), **SMS),
        reminder(2, borrower=borrower(2, **shared), **SMS),
        reminder(3, **SMS),
    )
    await intended(store)
    (person,) = {r.person for r in await rows(database, "borrower", "id <> 'B-3'")}

    facts = await facts_of(store, [Subject(tenant=TENANT, person=person, borrower="B-1", debt="L-1")])

    assert {b.id for b in facts.siblings[TENANT, person]} == {"B-1", "B-2"}
    assert len(facts.history[TENANT, person]) == 2
    assert set(facts.addresses) == {(TENANT, "B-1")}
    assert set(facts.debts) == {(TENANT, "L-1")}


async def test_a_double_is_the_later_of_two_within_a_day_that_were_not_ended_unsent(store, database, take):
    first, second, other, repeated = await take(
        reminder(1, **SMS, idempotency_key="1"),
        by_id(1, **SMS, idempotency_key="2"),
        by_id(1, **SMS, idempotency_key="3", template="care", purpose="service_notice"),
        by_id(1, **SMS, idempotency_key="4", repeat=True),
    )
    works = await claimed(store)
    assert {first, other, repeated} < {w.id for w in works}

    assert (await facts_of(store, works)).duplicates == {(TENANT, second)}

    async with database.write() as conn:
        await conn.execute(
            update(schema.reminder).where(schema.reminder.c.id == first).values(state="suppressed")
        )
        await conn.execute(
            update(schema.reminder).where(schema.reminder.c.id == repeated).values(state="cancelled")
        )
    assert (await facts_of(store, works)).duplicates == frozenset()


async def test_a_tenants_own_numbers_and_limits_are_told(store, database, take):
    await take(reminder(1, **SMS))
    works = await claimed(store)
    before = await facts_of(store, works)
    async with database.write() as conn:
        await conn.execute(
            insert(schema.pack_override).values(
                tenant=TENANT, rule="OP.CAPS.DAY", max=5, at=0, who="tests", reason="a test"
            )
        )
        await conn.execute(update(schema.tenant).values(stale_after_s=60))
    after = await facts_of(store, works)

    assert (before.overrides, before.stale_after) == ({}, {"acme": timedelta(days=1)})
    assert (after.overrides, after.stale_after) == (
        {TENANT: {"OP.CAPS.DAY": 5}},
        {"acme": timedelta(minutes=1)},
    )


async def test_the_latest_contact_of_one_that_escalates_is_told(store, database, take):
    await take(reminder(1, **SMS, escalate=[{"after_s": 60, "channel": "email"}]))
    (intent,) = await calling(store)
    attempt = await attempt_of(store, intent)
    async with store.transaction() as tx:
        await tx.finish([out(attempt, reminder_state="sent", next_at=NOW, step=1, final_at=NOW)])

    (work,) = await claimed(store)

    assert work.step == 1
    assert (await facts_of(store, [work])).contacted == {(TENANT, work.id): "accepted"}


async def test_the_text_stays_sealed_and_the_attempt_keeps_what_it_was_sent_as(store, database, take):
    await take(reminder(1, **SMS))
    (intent,) = await calling(store)

    found = await store.find(intent.ref)

    assert isinstance(found, Attempt)
    assert (found.text_enc, found.state, found.channel, found.account) == (
        TEXT,
        "calling",
        Channel.SMS,
        "sms-cn",
    )
    assert found.called_at is not None
    assert await store.find("at_none") is None
