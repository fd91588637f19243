"""What go counts, over SQLite and PostgreSQL: exactly, whoever counts at once, whatever was changed meanwhile."""

import asyncio
import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from types import ModuleType

import pytest
from makers import rows
from sqlalchemy import insert, text, update

from gateway.domain import Money, Tenant, to_us
from gateway.errors import StaleVersion
from gateway.ports import Moment
from gateway.quotas.model import Book, Load, in_force
from gateway.store import counted, live, quotas, schema
from gateway.store.guard import guard
from gateway.store.quota_acts import Quotas, Wanted
from gateway.work import Start

TENANT, WHOLE = Tenant("acme/live"), Tenant("*/live")
NOON = datetime(2026, 11, 24, 4, 0, 2, tzinfo=UTC)
"""In Shanghai."""
LOAD = Load(
    tenant=TENANT,
    channel="sms",
    adapter="aliyun_sms",
    account="sms-cn",
    template="pre_due",
    cost=Money(amount=Decimal("0.05"), currency="CNY"),
)


class Worker:
    """One that counts at the instants it is told."""

    def __init__(self, database, module=counted):
        self.database, self.module = database, module
        self.book = Book()
        self._refs = 0

    async def read(self, now=NOON):
        async with self.database.read() as conn:
            self.book = in_force(await quotas.read(conn), now)

    async def go(self, number=1, now=NOON, *, load=LOAD, pause=0.0, calling=False):
        """How many of so many starts may go; what refused the others."""
        starts = []
        for _ in range(number):
            self._refs += 1
            starts.append(
                Start(
                    ref=f"at_{id(self)}_{self._refs}",
                    load=load,
                    template_version=1,
                    portfolios=frozenset(),
                    places=frozenset(),
                    deliver_by=now,
                )
            )
        moment = Moment(real=now, policy=now)
        async with self.database.write() as conn:
            stands = await guard(conn, moment)
            book = await self.module.as_it_stands(conn, self.book, stands.versions, now)
            refused = await self.module.admit(conn, moment, book, starts)
            went = [start for start in starts if start.ref not in refused]
            if calling:
                for start in went:
                    await conn.execute(insert(schema.attempt).values(attempt(start, now)))
            await asyncio.sleep(pause)
        self.last = went
        return len(went), {refusal.by: refusal.again for refusal in refused.values()}

    async def give_back(self, starts, now=NOON):
        async with self.database.write() as conn:
            await self.module.give_back(conn, Moment(real=now, policy=now), self.book, starts)

    async def left(self, now=NOON, load=LOAD):
        async with self.database.read() as conn:
            found = await self.module.left(conn, Moment(real=now, policy=now), self.book.buckets(load))
            return {key.partition("||")[0]: one for key, one in found.items() if "|pace." not in key}


def attempt(start, now, state="calling"):
    load = start.load
    return {
        "tenant": load.tenant,
        "ref": start.ref,
        "started_at": to_us(now),
        "called_at": to_us(now),
        "state": state,
        "channel": load.channel,
        "adapter": load.adapter,
        "account": load.account,
        "template": load.template,
        "reminder": "rm_1",
        "origin": "gateway",
        "person": "p",
        "borrower": "b",
        "debt": "d",
        "creditor": "c",
        "recipient_role": "borrower",
        "actor_role": "creditor",
        "flags": "[]",
    }


@pytest.fixture
async def acts(database, log):
    async with database.write() as conn:
        real = (await database.moment(conn)).real
        await conn.execute(insert(schema.clock).values(id=1, offset_us=to_us(NOON) - to_us(real)))
        for name, adapter in (("sms-cn", "aliyun_sms"), ("sms-2", "aliyun_sms")):
            await conn.execute(
                insert(schema.account).values(
                    tenant=TENANT,
                    name=name,
                    adapter=adapter,
                    sender="x",
                    settings="{}",
                    enabled=True,
                    revision=1,
                    updated_at=0,
                )
            )
    return Quotas(database, log, os.urandom, channel_of=lambda _: "sms")


@pytest.fixture
def put(acts):
    async def put(name, version=None, owner=TENANT, **said):
        wanted = Wanted(owner=owner, name=name, said=said, version=version, reason="r", who="ann")
        return await acts.put(wanted)

    return put


@pytest.fixture
async def worker(database, acts):
    return Worker(database)


async def test_many_who_count_at_once_start_exactly_what_a_day_and_a_budget_hold(database, put, worker):
    await put("day", per_day=37, zone="Asia/Shanghai")
    await put("money", budget={"amount": "1.50", "currency": "CNY", "per": "day"}, zone="Asia/Shanghai")
    workers = [worker, *(Worker(database) for _ in range(3))]

    went = await asyncio.gather(*(one.go(3, pause=0.001) for one in workers for _ in range(5)))

    assert sum(number for number, _ in went) == 30  # 1.50 / 0.05
    midnight = datetime(2026, 11, 24, 16, tzinfo=UTC)
    assert {by: again for _, refused in went for by, again in refused.items()} == {"money": midnight}
    late = midnight - timedelta(microseconds=1)
    assert await worker.go(1, late) == (0, {"money": midnight})
    assert (await worker.go(99, midnight))[0] == 30


LOCKS = "    await _lock(conn, buckets)\n"
READS = "    tallies, rows = await _tallies(conn, now, buckets.values())\n"


def mutant(line, other):
    """The module with other words in the place of some."""
    source = Path(counted.__file__).read_text("utf-8")
    assert source.count(line) == 1
    made = ModuleType(counted.__name__)
    exec(compile(source.replace(line, other), counted.__file__, "exec"), made.__dict__)
    return made


async def test_without_the_lock_or_with_a_look_before_it_a_day_is_seen_to_be_exceeded(postgres_url, log):
    from gateway.store.database import Database  # noqa: PLC0415

    database = Database(postgres_url)
    try:
        act = Quotas(database, log, os.urandom, channel_of=lambda _: "sms")
        await act.put(
            Wanted(owner=TENANT, name="day", said={"per_day": 5}, version=None, reason="r", who="a")
        )
        went = []
        for module in (counted, mutant(LOCKS, ""), mutant(LOCKS + READS, READS + LOCKS)):
            moment = NOON + timedelta(days=len(went))
            workers = [Worker(database, module) for _ in range(4)]
            tried = await asyncio.gather(*(one.go(4, moment, pause=0.05) for one in workers))
            went.append(sum(number for number, _ in tried))
    finally:
        await database.aclose()

    assert went[0] == 5
    assert min(went[1:]) > 5


async def test_a_start_is_counted_in_every_quota_or_in_none(database, put, worker):
    await put("wide", per_day=10)
    await put("narrow", per_day=2, scope={"template": "pre_due"})
    other = replace(LOAD, template="due_today")

    assert (await worker.go(5))[0] == 2
    assert (await worker.go(20, load=other))[0] == 8
    await worker.read()
    assert {key: one.units for key, one in (await worker.left()).items()} == {
        "acme/live|narrow": 0,
        "acme/live|wide": 0,
    }


async def test_a_quota_set_at_noon_knows_the_morning(database, put, worker):
    morning = NOON - timedelta(hours=3)
    await worker.go(4, morning)
    await worker.go(3, NOON - timedelta(minutes=20))
    await worker.go(2, NOON - timedelta(seconds=20))
    await worker.go(1, NOON - timedelta(hours=13))  # yesterday, in Shanghai

    money = {"amount": "10", "currency": "CNY", "per": "day"}
    await put("q", per_minute=50, per_hour=50, per_day=50, budget=money, zone="Asia/Shanghai")

    await worker.read()
    (left,) = (await worker.left()).values()
    assert left.units == 50 - 9
    (shown,) = [r async for r in _used(database)]
    assert (shown.minute, shown.hour, shown.day, shown.budget) == (2, 5, 9, Decimal("0.45"))
    assert (await worker.go(99))[0] == 41


async def _used(database, now=NOON):
    async with database.read() as conn:
        held = [q for q in await quotas.read(conn) if not q.name.startswith("pace.")]
        for one in await counted.used(conn, Moment(real=now, policy=now), held):
            yield one


async def test_what_started_while_a_quota_was_away_is_counted_once_it_is_back(acts, put, worker):
    await put("day", per_day=10)
    await worker.go(4)
    await acts.delete(Wanted(owner=TENANT, name="day", said={}, version=1, reason="r", who="ann"))
    await worker.go(3)
    await put("day", per_day=10)

    assert (await worker.go(99))[0] == 3


async def test_another_scope_or_unit_is_counted_by_what_there_was(put, worker):
    long = replace(LOAD, segments=3)
    await put("day", per_day=100)
    await worker.go(2, load=long)
    await worker.go(4, load=replace(LOAD, template="due_today"))

    await put("day", version=1, unit="segment", scope={"template": "pre_due"})

    await worker.read()
    (left,) = (await worker.left()).values()
    assert left.units == 94
    assert (await worker.go(99, load=long))[0] == 31


async def test_each_has_a_bucket_of_its_own_and_who_is_named_is_not_among_them(put, worker):
    await put("each", per_day=3, each=["account"])
    await put("second", per_day=5, scope={"account": "sms-2"})
    second = replace(LOAD, account="sms-2")

    assert ((await worker.go(9))[0], (await worker.go(9, load=second))[0]) == (3, 5)


async def test_a_worker_that_has_not_heard_of_a_change_counts_by_it_all_the_same(put, worker):
    await put("day", per_day=10)
    await worker.read()
    await worker.go(4)
    await put("day", version=1, per_day=6)

    assert (await worker.go(9))[0] == 2


async def test_an_end_is_heeded_by_whoever_goes_before_it_is_on_record(put, worker):
    await put("day", per_day=5)
    await put("day", version=1, per_day=9, until=NOON + timedelta(hours=1))
    await worker.read()

    assert (await worker.go(8))[0] == 8
    assert (await worker.go(8, NOON + timedelta(hours=1)))[0] == 0


async def test_what_was_not_called_after_all_is_given_back_where_it_was_counted(database, put, worker):
    midnight = datetime(2026, 11, 24, 16, tzinfo=UTC)
    money = {"amount": "0.25", "currency": "CNY", "per": "day"}
    await put("q", per_minute=4, per_day=5, budget=money, zone="Asia/Shanghai")
    await worker.read()
    before = midnight - timedelta(milliseconds=100)
    assert (await worker.go(4, before, calling=True))[0] == 4
    starts = worker.last
    not_counted = replace(starts[0], ref="at_never")

    await worker.give_back([*starts[:3], not_counted], midnight + timedelta(milliseconds=100))

    assert (await worker.go(9, midnight + timedelta(milliseconds=200)))[
        0
    ] == 3  # of the minute, one is left over
    (used,) = [one async for one in _used(database, midnight)]
    assert (used.minute, used.day, used.budget) == (4, 3, Decimal("0.15"))
    assert {row.units for row in await rows(database, "quota_count", "span = 'day'")} == {1, 3}


async def test_open_calls_are_no_more_than_a_quota_allows_and_an_end_makes_room(database, put, worker):
    await put("calls", concurrency=3, each=["account"])

    went, refused = await worker.go(5, calling=True)
    assert (went, refused) == (3, {"calls": NOON + timedelta(seconds=1)})
    assert (await worker.go(1, load=replace(LOAD, account="sms-2"), calling=True))[0] == 1
    async with database.write() as conn:
        await conn.execute(
            update(schema.attempt).where(schema.attempt.c.account == "sms-cn").values(state="accepted")
        )
    assert (await worker.go(5, calling=True))[0] == 3


async def test_tenants_that_share_an_account_share_its_counts(database, put, worker):
    for tenant in (TENANT, "beta/live"):
        async with database.write() as conn:
            await conn.execute(
                insert(schema.account).values(
                    tenant=tenant,
                    name="shared",
                    adapter="aliyun_sms",
                    sender="x",
                    settings="{}",
                    enabled=True,
                    revision=1,
                    updated_at=0,
                    weight=1,
                )
            )
    await put("shared", owner=WHOLE, per_day=5, concurrency=4, scope={"account": "shared"})
    mine = replace(LOAD, account="shared", shared=True)
    theirs = replace(mine, tenant=Tenant("beta/live"))

    assert (await worker.go(3, load=mine, calling=True))[0] == 3
    assert (await worker.go(3, load=theirs, calling=True))[0] == 1
    assert (await worker.go(3, load=replace(theirs, tenant=Tenant("beta/test"))))[0] == 3


async def test_counts_outlive_what_is_pruned_as_long_as_they_matter(database, put, worker):
    await put("q", per_minute=50, per_hour=50, per_day=50)
    await put("month", budget={"amount": "10", "currency": "CNY", "per": "month"})
    await worker.go(3, NOON - timedelta(days=20))
    for back in (60, 59, 1, 0):
        await worker.go(2, NOON - timedelta(minutes=back))
    before = [one async for one in _used(database)]

    async with database.write() as conn:
        await counted.prune(conn, Moment(real=NOON, policy=NOON))
    assert [one async for one in _used(database)] == before
    assert before[0].budget == Decimal("0.55")
    async with database.write() as conn:
        await counted.prune(conn, Moment(real=NOON, policy=NOON + timedelta(days=80)))
    assert await rows(database, "quota_count") == []


async def test_a_change_waits_for_the_goes_before_it_and_none_begins_until_it_is_done(postgres_url, log):
    from gateway.store.database import Database  # noqa: PLC0415

    database = Database(postgres_url)
    order = []
    try:
        act = Quotas(database, log, os.urandom, channel_of=lambda _: "sms")
        worker = Worker(database)

        async def go():
            await worker.go(3, pause=0.2)
            order.append("go")

        async def change():
            await asyncio.sleep(0.05)
            wanted = Wanted(owner=TENANT, name="d", said={"per_day": 5}, version=None, reason="r", who="a")
            await act.put(wanted)
            order.append("change")

        await asyncio.gather(go(), change())
        assert order == ["go", "change"]
        assert (await Worker(database).go(9))[0] == 2
    finally:
        await database.aclose()


async def test_of_two_who_change_a_quota_at_once_one_is_told(put):
    await put("q", per_day=5)

    done = await asyncio.gather(*(put("q", version=1, per_day=n) for n in (6, 7, 8)), return_exceptions=True)

    assert [type(one) for one in done].count(StaleVersion) == 2


async def test_a_change_has_the_number_that_workers_say_they_are_at(database, put):
    await put("q", per_day=5)
    await put("q", version=1, per_day=6)

    (quota,) = await rows(database, "quota")
    async with database.read() as conn:
        seq = (await conn.execute(text("SELECT seq FROM live"))).scalar_one()
        assert await live.applied(conn, quota.seq) == {"by": 0, "of": 0, "missing": []}
    assert (quota.seq, seq) == (2, 2)


async def test_changes_beside_goes_and_what_is_given_back_lose_no_count(database, put, worker):
    """Each worker goes and gives back, while two quotas are changed again and again."""
    for name in ("a", "b"):
        await put(name, per_day=1000, per_hour=1000)
    kept = 0

    async def works():
        nonlocal kept
        one = Worker(database)
        for _ in range(6):
            await one.read()
            went, _ = await one.go(3, calling=True)
            await one.give_back(one.last[:1])
            kept += went - 1

    async def changes(name):
        for version in range(1, 6):
            await put(name, version=version, per_day=1000 + version)

    await asyncio.gather(works(), works(), works(), changes("a"), changes("b"))

    assert kept == 36
    used = [one async for one in _used(database)]
    assert [(one.day, one.hour) for one in used] == [(36, 36)] * 2
    await worker.go(1)
    days = await rows(database, "quota_count", "span = 'day'")
    assert [row.units for row in days] == [37, 37]
