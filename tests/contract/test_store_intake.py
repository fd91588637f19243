"""What intake, keys and reads promise of the store, over SQLite and PostgreSQL alike."""

import asyncio
from datetime import UTC, datetime, timedelta

import orjson
import pytest
from makers import NOW, borrower, by_id, contact, debt, phone, reminder, rows, set_clock
from sqlalchemy import select, text, update

from gateway.domain import Mode, Tenant, from_us, to_us
from gateway.errors import BadInput, Conflict, NotFound, Unauthorised
from gateway.intake import Done
from gateway.intake.rows import Answer
from gateway.masking import Pii
from gateway.store import schema
from gateway.store.database import Database
from gateway.store.intake import TRIES, Contended, IntakeStore
from gateway.store.keys import EVERY, Operator, Role, Setup
from gateway.store.reads import Filter, Reads
from gateway.wiring import channel_of

TENANT = Tenant("acme/live")


@pytest.fixture
def store(database, log):
    return IntakeStore(database, log)


def sharing(number, *phones):
    return borrower(number, addresses=[{"channel": "sms", "value": phone(n)} for n in phones])


def done(results):
    assert all(isinstance(result, Done) for result in results), results
    return [orjson.loads(result.body) for result in results]


async def test_what_is_put_comes_back_as_it_was(database, intake):
    await set_clock(database)
    full = reminder(
        borrower=borrower(
            residence="CN-GD", addresses=[{"channel": "voice", "value": phone(1), "kind": "home"}]
        ),
        debt=debt(
            governing_law="CN",
            balance={"amount": "0.10", "currency": "JPY"},
            policy_facts={"notice_sent": "2026-11-01", "unfit": True},
            state="promised",
        ),
        anchor={"due": "-3d", "at": "10:00"},
        escalate=[{"after_s": 3600, "channel": "voice"}],
        segment="a",
        value="17.5",
        priority="urgent",
    )
    done(await intake.reminders(TENANT, [full]))
    records = len(await rows(database, "record"))

    done(await intake.reminders(TENANT, [{**full, "idempotency_key": "again"}]))

    (kept,) = await rows(database, "debt")
    (address,) = await rows(database, "address")
    assert (kept.amount, kept.currency, kept.state, kept.governing_law) == ("0.10", "JPY", "promised", "CN")
    assert (address.kind, address.country) == ("home", "CN")
    assert orjson.loads(address.zones) == {"quality": "country", "zones": ["Asia/Shanghai"]}
    for row in await rows(database, "reminder"):
        assert orjson.loads(row.anchor)["due"] == "-3d"
        assert orjson.loads(row.escalate) == [{"after_s": 3600, "channel": "voice"}]
        assert (row.segment, row.value, row.priority, row.repeat) == ("a", "17.5", 0, False)
    assert [row.revision for row in await rows(database, "borrower")] == [1]
    assert kept.revision == 1
    assert len(await rows(database, "record")) == records + 2


# One key, one answer.


async def test_many_at_once_under_one_key_give_one_reminder_and_one_answer(database, intake):
    results = await asyncio.gather(*(intake.reminders(TENANT, [reminder()]) for _ in range(20)))

    assert len({result.body for (result,) in results}) == 1
    assert len(await rows(database, "reminder")) == 1
    assert len(await rows(database, "record", "kind = 'accepted'")) == 1


async def test_many_at_once_with_different_bodies_give_one_reminder_and_refusals(database, intake):
    bodies = [reminder(priority=p) for p in ("urgent", "normal", "bulk")]

    results = [r for (r,) in await asyncio.gather(*(intake.reminders(TENANT, [b]) for b in bodies))]

    assert sorted(type(r).__name__ for r in results) == ["Done", "KeyReused", "KeyReused"]
    assert len(await rows(database, "reminder")) == 1


async def test_batches_that_overlap_in_any_order_take_each_item_once(database, intake):
    items = [reminder(n) for n in range(30)]
    orders = [items, items[::-1], items[10:] + items[:10], items[5:25]]

    results = await asyncio.gather(*(intake.reminders(TENANT, order) for order in orders))

    answers = {orjson.loads(r.body)["idempotency_key"]: set() for batch in results for r in batch}
    for batch in results:
        for result in batch:
            body = orjson.loads(result.body)
            answers[body["idempotency_key"]].add(body["id"])
    assert all(len(ids) == 1 for ids in answers.values())
    assert len(await rows(database, "reminder")) == 30
    assert len(await rows(database, "debt")) == 30


async def test_events_under_one_key_are_taken_once(database, intake):
    done(await intake.reminders(TENANT, [reminder()]))
    part = {
        "debt": "L-1",
        "idempotency_key": "e",
        "type": "paid",
        "amount": {"amount": "80.50", "currency": "CNY"},
    }

    results = await asyncio.gather(*(intake.events(TENANT, [part]) for _ in range(8)))

    assert len({result.body for (result,) in results}) == 1
    assert [row.amount for row in await rows(database, "debt")] == ["1200.00"]
    assert len(await rows(database, "debt_event")) == 1


async def test_payments_at_once_all_count(database, intake):
    done(await intake.reminders(TENANT, [reminder()]))
    parts = [
        {
            "debt": "L-1",
            "idempotency_key": f"e{n}",
            "type": "paid",
            "amount": {"amount": "28.00", "currency": "CNY"},
        }
        for n in range(10)
    ]

    await asyncio.gather(*(intake.events(TENANT, [part]) for part in parts))

    assert [row.amount for row in await rows(database, "debt")] == ["1000.50"]


async def test_a_claim_that_comes_second_is_contended(store):
    answer = Answer(fingerprint=b"f", status=202, body=b"{}")
    tries = 0

    async def first(tx):
        await tx.claim("reminders", {"k": answer})

    async def second(tx):
        nonlocal tries
        tries += 1
        if tries == 1:
            raise Contended
        return await tx.answers("reminders", ["k", "other"])

    await store.run(TENANT, first)

    assert await store.run(TENANT, second) == {"k": answer}
    with pytest.raises(Exception, match="other requests change the same rows"):
        await store.run(TENANT, first)


async def test_contended_work_is_not_begun_for_ever(store):
    begun = 0

    async def work(_tx):
        nonlocal begun
        begun += 1
        raise Contended

    with pytest.raises(Exception, match="send it again"):
        await store.run(TENANT, work)

    assert begun == TRIES


# Persons.


async def test_a_chain_put_at_once_is_one_person(database, intake):
    chain = [sharing(n, n, n + 1) for n in range(24)]
    await asyncio.gather(*(intake.borrowers(TENANT, [body]) for body in chain))

    kept = await rows(database, "borrower")
    assert len(kept) == 24
    assert len({row.person for row in kept}) == 1
    assert {row.person for row in await rows(database, "identity")} == {kept[0].person}


async def test_one_new_borrower_put_at_once_is_one_row(database, intake):
    bodies = [borrower(1, language=language) for language in ("en", "zh-CN", "fr", "de")]
    results = await asyncio.gather(*(intake.borrowers(TENANT, [body]) for body in bodies))

    for result in results:
        done(result)
    (kept,) = await rows(database, "borrower")
    assert kept.revision == 4
    assert len(await rows(database, "address")) == 1


async def test_what_is_added_at_once_is_all_kept(database, intake):
    done(await intake.borrowers(TENANT, [borrower(1)]))
    adds = [
        {"id": "B-1", "opt_outs": [{"channel": "sms", "at": f"2026-01-{day:02}T00:00:00Z"}]}
        for day in range(1, 9)
    ]

    await asyncio.gather(*(intake.borrowers(TENANT, [body]) for body in adds))

    (kept,) = await rows(database, "borrower")
    assert len(orjson.loads(kept.profile)["opt_outs"]) == 8


async def test_reminders_and_contacts_taken_in_while_persons_merge_go_to_the_person_that_stays(
    database, intake
):
    people = range(8)
    done(await intake.reminders(TENANT, [reminder(n) for n in people]))
    hand_in = [
        intake.reminders(TENANT, [by_id(n, idempotency_key=f"{n}-{again}") for n in people])
        for again in range(6)
    ]
    tell = [
        intake.contacts(TENANT, [contact(n, idempotency_key=f"{n}-{again}") for n in people])
        for again in range(3)
    ]
    merge = [intake.borrowers(TENANT, [sharing(n, n, n + 1)]) for n in people]

    for results in await asyncio.gather(*hand_in[:3], *merge, *tell, *hand_in[3:]):
        done(results)

    persons = {row.id: row.person for row in await rows(database, "borrower")}
    assert len(set(persons.values())) == 1
    for table in ("reminder", "attempt"):
        found = await rows(database, table)
        assert {row.person for row in found} == set(persons.values()), table
    assert len(await rows(database, "reminder")) == 8 * 7


async def test_debts_and_reminders_put_at_once_agree_on_the_due_date(database, intake):
    await set_clock(database)
    done(await intake.reminders(TENANT, [reminder()]))
    anchored = {"anchor": {"due": "-1d", "at": "10:00"}}
    dates = [f"2026-12-{day:02}" for day in range(10, 18)]

    await asyncio.gather(
        *(intake.reminders(TENANT, [by_id(idempotency_key=d, **anchored)]) for d in dates),
        *(intake.debts(TENANT, [{"id": "L-1", "due_date": d}]) for d in dates),
    )

    (kept,) = await rows(database, "debt")
    due = datetime.fromisoformat(f"{kept.due_date}T02:00:00+00:00") - timedelta(days=1)
    for row in await rows(database, "reminder", "anchor IS NOT NULL"):
        assert (row.due_date, from_us(row.next_at)) == (kept.due_date, due)


# What is to come of a reminder is taken back.


async def attempted(database, name, *attempts, **reminder):
    """A reminder so far on its way, with attempts (state) of one minute each, the latest last."""
    async with database.write() as conn:
        for minute, state in enumerate(attempts, 1):
            await conn.execute(
                text(
                    "INSERT INTO attempt (tenant, ref, started_at, reminder, origin, person, borrower, debt,"
                    " creditor, channel, recipient_role, actor_role, flags, state)"
                    " SELECT tenant, :ref, :at, id, 'gateway', person, borrower, debt,"
                    " 'acme', 'sms', 'debtor', 'creditor', '[]', :state FROM reminder WHERE id = :name"
                ),
                {"ref": f"at_{minute}", "at": to_us(NOW) + minute, "state": state, "name": name},
            )
        await conn.execute(
            update(schema.reminder)
            .where(schema.reminder.c.id == name)
            .values(attempt=f"at_{len(attempts)}", **reminder)
        )


SET = {"next_at": to_us(NOW)}
TO_COME = [
    (("accepted",), {"state": "sent", "called": True, "step": 1, **SET}, ("sent", "at_1")),
    (("unknown",), {"state": "unknown", "called": True, "step": 1, **SET}, ("unknown", "at_1")),
    (("failed",), {"state": "deferred", "called": True, "step": 1, **SET}, ("failed", "at_1")),
    (("accepted", "busy"), {"state": "failed", "called": True, "step": 2, **SET}, ("failed", "at_2")),
    (("accepted", "void"), {"state": "waiting", "step": 1, **SET}, ("sent", "at_1")),
    (("accepted", "rejected"), {"state": "deferred", "step": 1, **SET}, ("sent", "at_1")),
    (("accepted", "intent"), {"state": "sending", "step": 1, "next_at": None}, ("sent", "at_1")),
    (("rejected",), {"state": "deferred", "step": 1, **SET}, ("cancelled", "at_1")),
    (("void", "intent"), {"state": "sending", "next_at": None}, ("cancelled", "at_2")),
]


@pytest.mark.parametrize(("attempts", "before", "after"), TO_COME)
async def test_a_cancel_leaves_a_reminder_as_its_last_contact_stands(
    attempts, before, after, database, intake
):
    ((answer,),) = [done(await intake.reminders(TENANT, [reminder()]))]
    await attempted(database, answer["id"], *attempts, **before)

    told = [orjson.loads((await intake.cancel(TENANT, answer["id"], {})).body) for _ in range(2)]

    (row,) = await rows(database, "reminder")
    contacted = after[0] != "cancelled"
    assert told == [{"id": answer["id"], "state": after[0]}] * 2
    assert (row.state, row.attempt, row.next_at) == (*after, None)
    assert (row.reason, row.called) == (("cancelled", True) if contacted else (None, False))
    (record,) = await rows(database, "record", "kind = 'cancelled'")
    assert record.state == after[0]


@pytest.mark.parametrize(
    ("attempts", "before"),
    [
        (("calling",), {"state": "sending", "called": True, "next_at": None}),
        (("accepted", "calling"), {"state": "sending", "called": True, "step": 1, "next_at": None}),
        (("accepted",), {"state": "sent", "called": True, "step": 1, "next_at": None}),
        (("delivered",), {"state": "delivered", "called": True, "step": 1, **SET}),
    ],
)
async def test_what_is_called_just_now_or_has_nothing_to_come_is_too_late_to_cancel(
    attempts, before, database, intake
):
    ((answer,),) = [done(await intake.reminders(TENANT, [reminder()]))]
    await attempted(database, answer["id"], *attempts, **before)
    was = await rows(database, "reminder")

    with pytest.raises(Conflict) as told:
        await intake.cancel(TENANT, answer["id"], {})

    assert told.value.code == "too_late"
    assert await rows(database, "reminder") == was


# Against a call's go, where two transactions are open at once.


@pytest.fixture
async def two(postgres_url, take_in):
    """A PostgreSQL with a reminder, its intake, and its id."""
    database = Database(postgres_url)
    intake = take_in(database)
    ((answer,),) = [done(await intake.reminders(TENANT, [reminder()]))]
    yield database, intake, answer["id"]
    await database.aclose()


async def go(conn):
    """What a go does before it commits: the reminder's row, then the debt's, shared."""
    await conn.execute(
        update(schema.reminder).values(called=True, state="sending", attempt="at_1", next_at=None)
    )
    await conn.execute(select(schema.debt.c.revision).with_for_update(read=True))
    await conn.execute(
        text(
            "INSERT INTO attempt (tenant, ref, started_at, reminder, origin, person, borrower, debt,"
            " creditor, channel, recipient_role, actor_role, flags, state)"
            " SELECT tenant, 'at_1', 1, id, 'gateway', person, borrower, debt,"
            " 'acme', 'sms', 'debtor', 'creditor', '[]', 'calling' FROM reminder"
        )
    )


PAID = {"debt": "L-1", "idempotency_key": "e", "type": "paid"}


async def test_a_payment_that_waits_for_a_go_tells_it_as_too_late(two):
    database, intake, name = two
    async with database.write() as conn:
        await go(conn)
        paying = asyncio.create_task(intake.events(TENANT, [PAID]))
        await asyncio.sleep(0.2)
        assert not paying.done()

    (answer,) = done(await paying)
    assert (answer["stopped"], answer["too_late"]) == ([], [name])


async def test_a_cancel_that_waits_for_a_go_is_too_late(two):
    database, intake, name = two
    async with database.write() as conn:
        await go(conn)
        cancelling = asyncio.create_task(intake.cancel(TENANT, name, {}))
        await asyncio.sleep(0.2)
        assert not cancelling.done()

    with pytest.raises(Conflict) as told:
        await cancelling
    assert told.value.code == "too_late"


async def test_a_cancel_that_a_withdrawn_go_held_up_wins(two):
    database, intake, name = two
    async with database._writer.connect() as conn:
        await go(conn)
        cancelling = asyncio.create_task(intake.cancel(TENANT, name, {}))
        await asyncio.sleep(0.1)
        await conn.rollback()

    assert (await cancelling).status == 200


async def test_a_put_that_waits_for_a_stop_keeps_it(two):
    database, intake, _ = two
    stop = {"opt_outs": [{"channel": "all", "at": "2026-11-24T00:00:00+00:00"}]}
    async with database.write() as conn:
        await conn.execute(update(schema.borrower).values(profile=orjson.dumps(stop).decode(), revision=2))
        putting = asyncio.create_task(intake.borrowers(TENANT, [{"id": "B-1", "language": "en"}]))
        await asyncio.sleep(0.2)
        assert not putting.done()

    done(await putting)
    (kept,) = await rows(database, "borrower")
    assert orjson.loads(kept.profile) == {**stop, "language": "en"}
    assert kept.revision == 3


async def test_an_anchored_reminder_waits_for_a_due_date_that_is_moving(two):
    database, intake, _ = two
    await set_clock(database)
    anchored = by_id(idempotency_key="a", anchor={"due": "-1d", "at": "10:00"})
    async with database.write() as conn:
        await conn.execute(update(schema.debt).values(due_date="2026-12-20"))
        handing_in = asyncio.create_task(intake.reminders(TENANT, [anchored]))
        await asyncio.sleep(0.2)
        assert not handing_in.done()

    done(await handing_in)
    (kept,) = await rows(database, "reminder", "key = 'a'")
    assert from_us(kept.next_at) == datetime(2026, 12, 19, 2, tzinfo=UTC)


async def test_a_deadlock_that_the_server_breaks_is_tried_again(two, log):
    database, intake, _ = two
    done(await intake.debts(TENANT, [debt(2, borrower="B-1")]))
    store = IntakeStore(database, log)
    both = asyncio.Barrier(2)
    tries = 0

    def crossing(one, other):
        async def work(tx):
            nonlocal tries
            tries += 1
            await tx.debts([one], lock="write")
            if tries <= 2:
                await both.wait()
            await tx.debts([other], lock="write")
            return one

        return work

    answers = await asyncio.gather(
        store.run(TENANT, crossing("L-1", "L-2")), store.run(TENANT, crossing("L-2", "L-1"))
    )

    assert answers == ["L-1", "L-2"]
    assert tries == 3


# Tenants, keys, caps, the clock.


@pytest.fixture
def ticking():
    """Seconds that a test moves."""

    class Ticking:
        now = 0.0

        def __call__(self):
            return self.now

    return Ticking()


@pytest.fixture
def setup(database, log, blinds, ticking):
    counter = iter(range(10**6))
    return Setup(
        database,
        log,
        blinds=blinds,
        entropy=lambda n: next(counter).to_bytes(n, "big") if n < 40 else b"\x07" * n,
        monotonic=ticking,
    )


BY = Operator(who="ann", tenant=TENANT)


async def made(setup, **more):
    given = {
        "tenant": "acme",
        "mode": Mode.LIVE,
        "role": Role.SERVICE,
        "holder": "loan-core",
        "expires_at": None,
    }
    return await setup.create_key(**{**given, **more}, by=BY)


async def test_a_key_opens_and_only_as_it_was_given(database, setup):
    key, text_ = await made(setup)
    clear = text_.reveal("test")

    assert await setup.authenticate(text_) == key
    assert clear.startswith(f"gw_live_{key.id}_")
    (row,) = await rows(database, "api_key")
    assert clear.split("_")[3].encode() not in bytes(row.secret_hash)
    for wrong in ("", "gw_live_x", clear[:-1], clear + "a", clear.replace("live", "test"), clear.swapcase()):
        with pytest.raises(Unauthorised) as told:
            await setup.authenticate(Pii(wrong))
        assert told.value.code == "key_wrong"


async def test_a_key_of_the_right_form_with_another_secret_is_refused(setup, blinds):
    key, text_ = await made(setup)
    clear = text_.reveal("test")
    from gateway.store.keys import _checksum  # noqa: PLC0415 (to forge one)

    head = f"gw_live_{key.id}_{'a' * 43}"
    assert head not in clear
    with pytest.raises(Unauthorised):
        await setup.authenticate(Pii(f"{head}_{_checksum(head)}"))


async def test_a_revoked_key_ends_at_once_here_and_within_two_seconds_elsewhere(
    database, log, blinds, setup, ticking
):
    key, text_ = await made(setup)
    elsewhere = Setup(database, log, blinds=blinds, entropy=lambda n: b"\x01" * n, monotonic=ticking)
    await elsewhere.authenticate(text_)

    gone = await setup.revoke(key.id, "acme", BY)
    again = await setup.revoke(key.id, None, BY)

    assert gone.revoked_at is not None
    assert again == gone
    with pytest.raises(Unauthorised):
        await setup.authenticate(text_)
    ticking.now += 1.9
    assert await elsewhere.authenticate(text_)
    ticking.now += 0.2
    with pytest.raises(Unauthorised):
        await elsewhere.authenticate(text_)
    assert len(await rows(database, "change", "kind = 'api_key'")) == 2


async def test_a_key_runs_out(setup, database, ticking):
    async with database.read() as conn:
        now = (await database.moment(conn)).real
    _, over = await made(setup, expires_at=now - timedelta(seconds=1))
    _, good = await made(setup, expires_at=now + timedelta(minutes=1))

    await setup.authenticate(good)
    with pytest.raises(Unauthorised):
        await setup.authenticate(over)


async def test_another_tenants_key_is_not_there_to_revoke(setup):
    key, text_ = await made(setup)

    with pytest.raises(NotFound):
        await setup.revoke(key.id, "beta", BY)

    assert await setup.authenticate(text_)
    assert [k.id for k in await setup.keys("acme")] == [key.id]
    assert await setup.keys("beta") == []
    assert len(await setup.keys(None)) == 1


async def test_a_key_needs_a_tenant_or_is_the_deployments(setup):
    with pytest.raises(BadInput):
        await made(setup, tenant="nobody")
    key, text_ = await made(setup, tenant=EVERY)

    assert (await setup.authenticate(text_)).tenant == EVERY
    assert key.tenant == EVERY


async def test_a_tenant_is_made_once(setup):
    assert await setup.create_tenant("gamma", BY) == {"name": "gamma"}
    with pytest.raises(Conflict):
        await setup.create_tenant("gamma", BY)

    await setup.need_tenant("gamma")
    with pytest.raises(NotFound):
        await setup.need_tenant("delta")
    assert [t["name"] for t in await setup.tenants(None)] == ["acme", "beta", "gamma"]
    assert [t["name"] for t in await setup.tenants("beta")] == ["beta"]


async def test_a_cap_of_ones_own_is_an_act_with_history_and_record(database, setup):
    await setup.set_cap("OP.CAPS.day", 2, "complaints", BY)
    await setup.set_cap("OP.CAPS.day", 4, "none left", BY)

    (cap,) = await setup.caps(TENANT)
    assert (cap.rule, cap.max, cap.who, cap.reason) == ("OP.CAPS.day", 4, "ann", "none left")
    assert await setup.caps(Tenant("acme/test")) == []
    first, second = await rows(database, "change", "kind = 'cap'")
    assert (first.before, first.after, second.before) == (None, '{"max":2}', '{"max":2}')
    assert len(await rows(database, "record", "kind = 'config'")) == 2


async def test_the_policy_clock_moves_and_the_real_one_does_not(setup):
    before = await setup.moment()
    await setup.advance(3600, BY)
    after = await setup.advance(3600, BY)

    assert abs(after.policy - before.policy - timedelta(hours=2)) < timedelta(seconds=5)
    assert after.real - before.real < timedelta(seconds=5)


# Reads.


@pytest.fixture
def reads(database, vault):
    return Reads(database, vault, channel_of)


async def pages(ask):
    found, after = [], None
    while True:
        page = await ask(after)
        found.append([item["id"] for item in page.items])
        if page.next is None:
            return found
        after = page.next


async def test_reminders_come_page_by_page_the_newest_first(database, intake, reads):
    await set_clock(database)
    for n in range(7):
        done(await intake.reminders(TENANT, [reminder(n)]))
        await set_clock(database, NOW + timedelta(minutes=n + 1))

    found = await pages(lambda after: reads.reminders(TENANT, Filter(), limit=3, after=after))

    assert [len(page) for page in found] == [3, 3, 1]
    names = [name for page in found for name in page]
    assert names == sorted(names, reverse=True)
    some = Filter(since=NOW + timedelta(minutes=1), until=NOW + timedelta(minutes=3))
    assert len((await reads.reminders(TENANT, some, limit=9, after=None)).items) == 2


@pytest.mark.parametrize(
    ("wanted", "count"),
    [
        (Filter(), 3),
        (Filter(borrower="B-1"), 1),
        (Filter(debt="L-2"), 1),
        (Filter(channel="sms"), 2),
        (Filter(channel="voice"), 1),
        (Filter(state="waiting"), 2),
        (Filter(state="cancelled", borrower="B-3"), 1),
        (Filter(reason="quota"), 0),
    ],
)
async def test_reminders_are_filtered(intake, reads, wanted, count):
    names = done(await intake.reminders(TENANT, [reminder(1), reminder(2, channels=["voice"]), reminder(3)]))
    await intake.cancel(TENANT, names[2]["id"], {})

    assert len((await reads.reminders(TENANT, wanted, limit=9, after=None)).items) == count


async def test_records_come_in_either_order_and_are_filtered(intake, reads):
    done(await intake.reminders(TENANT, [reminder(n) for n in range(4)]))

    async def all_of(*, newest_first):
        return await pages(
            lambda after: reads.records(TENANT, Filter(), limit=5, after=after, newest_first=newest_first)
        )

    newest, oldest = await all_of(newest_first=True), await all_of(newest_first=False)
    assert [len(page) for page in newest] == [5, 5, 2]
    assert [n for page in newest for n in page] == [n for page in oldest for n in page][::-1]
    one = await reads.records(TENANT, Filter(borrower="B-1"), limit=9, after=None, newest_first=True)
    assert {item["kind"] for item in one.items} == {"borrower", "debt", "accepted"}
    assert {item["borrower"] for item in one.items} == {"B-1"}


async def test_counts_are_those_of_the_moment_and_of_the_tenant(intake, reads):
    done(await intake.reminders(TENANT, [reminder(1), reminder(2, not_before="2199-01-01T00:00:00Z")][:1]))
    first = await reads.stats(TENANT)
    done(await intake.reminders(TENANT, [reminder(3)]))

    assert (first["states"], first["due"]) == ({"waiting": 1}, 1)
    assert first["oldest_due_s"] >= 0
    assert (await reads.stats(TENANT))["due"] == 2
    assert await reads.stats(Tenant("beta/live")) == {
        "states": {},
        "due": 0,
        "oldest_due_s": 0.0,
        "deferred": {},
        "lanes": [],
    }


async def test_a_reminder_is_shown_with_its_attempts(database, intake, reads):
    (answer,) = done(await intake.reminders(TENANT, [reminder()]))
    async with database.write() as conn:
        await go(conn)

    shown = await reads.reminder(TENANT, answer["id"])

    assert shown["state"] == "sending"
    assert shown["decision"] is None
    (attempt,) = shown["attempts"]
    assert (attempt["ref"], attempt["channel"], attempt["state"], attempt["price"]) == (
        "at_1",
        "sms",
        "calling",
        None,
    )
    assert attempt["started_at"] == datetime(1970, 1, 1, 0, 0, 0, 1, tzinfo=UTC)
    with pytest.raises(NotFound):
        await reads.reminder(Tenant("acme/test"), answer["id"])


async def test_a_borrower_whose_key_is_gone_is_shown_as_nothing_but_masks(intake, reads, vault):
    done(await intake.borrowers(TENANT, [borrower(1)]))
    await vault.destroy(TENANT, "B-1")

    shown = await reads.borrower(TENANT, "B-1")

    assert (shown["name"], shown["addresses"][0]["value"]) == ("***", "***")
