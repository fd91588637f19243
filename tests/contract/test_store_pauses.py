"""What a pause is promised by the store: no go after its commit, no go that hangs in its way, the same words in SQL."""

import asyncio
import os
from datetime import timedelta

import orjson
import pytest
from makers import NOW, borrower, debt, reminder, rows, set_clock
from sqlalchemy import text

from gateway.domain import Tenant
from gateway.intake import Done
from gateway.pauses import Kind, Pause, PauseScope, first
from gateway.quotas.model import Load, Scope
from gateway.store import pauses as table
from gateway.store import schema, stopped
from gateway.store.database import POOL, Database
from gateway.store.guard import guard
from gateway.store.keys import Role
from gateway.store.live import GO_LOCK
from gateway.store.pauses import Actor, Pauses, Wanted, pause_of
from gateway.wiring import channel_of
from gateway.work import Start

TENANT = Tenant("acme/live")
OPS = Actor(owner=TENANT, holder="ann", role=Role.OPS, since=NOW)
LOAD = Load(tenant=TENANT, channel="sms", adapter="aliyun_sms", account="sms-cn", template="pre_due")


@pytest.fixture
def pauses(database, log):
    return Pauses(
        *(database, log, os.urandom), channel_of=channel_of, has_template=lambda _: True, one_person=False
    )


def wanted(**words):
    own = {
        word: words.pop(word) for word in ("portfolio", "jurisdiction", "template_version") if word in words
    }
    return Wanted(
        key=os.urandom(8).hex(),
        kind=Kind.STOP,
        scope=PauseScope(quota=Scope(**words), **own),
        until=None,
        ramp_s=0,
        reason="a test",
    )


def start(ref="at_1", **changes):
    values = {
        "load": LOAD,
        "template_version": 1,
        "portfolios": frozenset(),
        "places": frozenset(),
        "deliver_by": NOW,
    }
    return Start(ref=ref, **values | changes)


async def guarded(database, *starts):
    async with database.write() as conn:
        return (await guard(conn, await database.moment(conn))).barred(starts)


async def test_go_is_told_what_holds_at_that_moment(database, pauses):
    assert await guarded(database, start()) == {}
    made = await pauses.put(wanted(account="sms-cn"), OPS)

    other = Load(tenant=TENANT, channel="sms", adapter="aliyun_sms", account="sms-2", template="pre_due")
    refused = await guarded(database, start(), start("at_2", load=other))

    assert {ref: (r.reason, r.by, r.again) for ref, r in refused.items()} == {
        "at_1": ("stopped", made["id"], None)
    }


async def test_the_same_request_twice_at_once_sets_one(database, pauses):
    same = wanted(channel="sms")

    first_, second = await asyncio.gather(pauses.put(same, OPS), pauses.put(same, OPS))

    assert first_ == second
    assert len(await rows(database, "pause")) == len(await rows(database, "change")) == 1


PLACES = (None, "CN", "CN-GD", "US-NY")
SCOPES = (
    *({}, {"channel": "sms"}, {"channel": "voice"}, {"tenant": "acme"}, {"template": "care"}),
    *({"template_version": 2}, {"template_version": 9}, {"portfolio": "cards"}, {"portfolio": "loans"}),
    *({"jurisdiction": place} for place in ("CN", "CN-GD", "CN-G", "US", "US-NY", "VN")),
    {"channel": "sms", "jurisdiction": "CN", "portfolio": "cards"},
)


async def test_sql_and_values_mean_the_same_by_a_scope(database, pauses, take_in):
    await set_clock(database)
    intake, raws = take_in(database), []
    for n, lives in enumerate(PLACES, 1):
        for m, law in enumerate(PLACES, 1):
            number = n * 10 + m
            raw = reminder(
                number, channels=["sms"] if n % 2 else ["voice"], template="care" if m == 1 else "pre_due"
            )
            raw["borrower"] = borrower(number, residence=lives)
            raw["borrower"]["addresses"][0]["channel"] = raw["channels"][0]
            raw["debt"] = debt(number, governing_law=law, portfolio=("cards", "loans", None)[number % 3])
            raws.append(raw)
    assert all(isinstance(done, Done) for done in await intake.reminders(TENANT, raws))
    moved = [
        debt(number, borrower=f"B-{number}", portfolio="loans", governing_law="VN") for number in (11, 22)
    ]
    await intake.debts(TENANT, moved)

    starts = await every_start(database)
    for words in SCOPES:
        pause = Pause(owner=TENANT, id="ps_1", kind=Kind.STOP, scope=wanted(**words).scope)
        async with database.read() as conn:
            found = await stopped.reminders(conn, pause, None, limit=100, after=None)
            counted = await stopped.count(conn, pause, None, NOW + timedelta(days=900))
        ids = {item["id"] for item in found.items}
        assert ids == {one.ref for one in starts if pause.covers(one)}, words
        assert (counted.waiting, counted.expires) == (len(ids), len(ids))
    assert len(starts) == len(PLACES) ** 2


async def every_start(database):
    """A start of each reminder, as it was accepted and as it is now."""
    lives = {row.id: orjson.loads(row.profile).get("residence") for row in await rows(database, "borrower")}
    debts = {row.id: row for row in await rows(database, "debt")}
    found = []
    for row in await rows(database, "reminder"):
        now = debts[row.debt]
        places = {*orjson.loads(row.places), now.governing_law, lives[row.borrower]}
        load = Load(tenant=TENANT, channel=row.channel, adapter="a", account="b", template=row.template)
        found.append(
            start(
                row.id,
                load=load,
                template_version=row.template_version,
                portfolios=frozenset({row.portfolio, now.portfolio} - {None}),
                places=frozenset(places - {None}),
            )
        )
    return found


@pytest.fixture
async def postgresql(postgres_url):
    database = Database(postgres_url)
    yield database
    await database.aclose()


@pytest.fixture
def stops(postgresql, log):
    return Pauses(
        *(postgresql, log, os.urandom), channel_of=channel_of, has_template=lambda _: True, one_person=False
    )


async def test_a_go_that_hangs_keeps_the_pause_waiting_and_not_the_other_goes(postgresql, stops):
    loop = asyncio.get_running_loop()
    async with postgresql.write() as hanging:
        await guard(hanging, await postgresql.moment(hanging))
        setting = asyncio.create_task(stops.put(wanted(), OPS))
        took = []
        for _ in range(8):
            began = loop.time()
            assert await guarded(postgresql, start()) == {}
            took.append(loop.time() - began)
            await asyncio.sleep(0.03)
        assert not setting.done()

    assert (await setting)["calling"] == []
    assert max(took) < 1.0
    assert len(await guarded(postgresql, start())) == 1


async def test_a_stop_is_set_while_every_other_connection_is_taken(postgresql, stops):
    await stops.put(wanted(account="sms-2"), OPS)
    async with asyncio.timeout(8):
        taken = [postgresql.write() for _ in range(POOL)]
        conns = [await each.__aenter__() for each in taken]
        try:
            made = await stops.put(wanted(), OPS)
        finally:
            for each in taken:
                await each.__aexit__(None, None, None)

    assert len(conns) == POOL
    assert (made["kind"], made["waiting"]) == ("stop", None)
    shown = await stops.shown(TENANT, made["id"])
    assert (shown["waiting"], shown["expires_meanwhile"]) == (0, 0)


# Which transaction came first: a clock cannot see it, PostgreSQL can.


async def as_shipped(conn, moment, starts):
    return (await guard(conn, moment)).barred(starts)


async def without_the_lock(conn, moment, starts):
    return _barred(await table.read(conn), moment, starts)


async def lock_and_read_in_one_statement(conn, moment, starts):
    found = await conn.execute(_BOTH, {"key": GO_LOCK})
    return _barred([pause_of(row) for row in found if row.id is not None], moment, starts)


_BOTH = text(
    "SELECT p.* FROM (SELECT pg_advisory_xact_lock_shared(:key)) AS lock LEFT JOIN pause p ON p.resumed_at IS NULL"
)


def _barred(standing, moment, starts):
    return {s.ref: p.refusal() for s in starts if (p := first(standing, s, moment.policy)) is not None}


async def overtaken(database, stops, guard_, *, times):
    """Goes given by transactions that a pause, committed before them, did not see; and all that were given."""
    async with database.write() as conn:
        await conn.execute(text("CREATE TABLE went (xid xid8)"))
    over = asyncio.Event()

    async def going():
        while not over.is_set():
            async with database.write() as conn:
                refused = await guard_(conn, await database.moment(conn), [start()])
                await asyncio.sleep(0.02)
                if not refused:
                    await conn.execute(text("INSERT INTO went SELECT pg_current_xact_id()"))

    goes = [asyncio.create_task(going()) for _ in range(4)]
    late = 0
    async with database.read() as watch:
        await watch.execution_options(isolation_level="AUTOCOMMIT")
        for _ in range(times):
            await asyncio.sleep(0.05)
            made = await stops._set(wanted(account="sms-cn"), OPS)
            snapshot = await watch.scalar(text("SELECT pg_current_snapshot()::text"))
            await asyncio.sleep(0.03)
            late += await watch.scalar(_LATE, {"snapshot": snapshot})
            resumed = schema.pause.update().where(schema.pause.c.id == made.id).values(resumed_at=1)
            await watch.execute(resumed)
            if late:
                break
    over.set()
    await asyncio.gather(*goes)
    return late, len(await rows(database, "went"))


_LATE = text(
    "SELECT count(*) FROM went"
    " WHERE NOT pg_visible_in_snapshot(xid, CAST(CAST(:snapshot AS text) AS pg_snapshot))"
)


async def test_no_go_is_given_after_a_pauses_commit(postgresql, stops):
    late, given = await overtaken(postgresql, stops, as_shipped, times=10)

    assert late == 0
    assert given >= 10  # one a round, at least


@pytest.mark.parametrize("mutant", [without_the_lock, lock_and_read_in_one_statement])
async def test_a_go_that_reads_otherwise_is_caught(postgresql, stops, mutant):
    late, _ = await overtaken(postgresql, stops, mutant, times=15)

    assert late > 0
