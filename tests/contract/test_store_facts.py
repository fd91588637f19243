"""How a decision's facts are read: at once, through indexes, planned once; and what counts as the same contact."""

import asyncio
from contextlib import ExitStack, asynccontextmanager
from dataclasses import replace
from datetime import timedelta

import orjson
import pytest
from makers import NOW, by_id, reminder, rows
from sqlalchemy import event, text, update

from gateway.domain import Tenant, to_us
from gateway.intake import Done
from gateway.policy.model import LOOKBACK
from gateway.store import schema
from gateway.store.facts import DUPLICATE_WITHIN
from gateway.store.migrate import make_months
from gateway.store.rows import work_of

TENANT = Tenant("acme/live")
SMS = {"channels": ["sms"]}
TICK = timedelta(microseconds=1)
MINUTE = timedelta(minutes=1)
DAY = timedelta(days=1)


@pytest.fixture
def take(database, store, take_in):
    """Takes reminders in; they as work, in that order."""
    intake = take_in(database)

    async def take(*raws):
        results = await intake.reminders(TENANT, list(raws))
        assert all(isinstance(result, Done) for result in results), results
        works = {row.id: work_of(row) for row in await rows(database, "reminder")}
        return [works[orjson.loads(result.body)["id"]] for result in results]

    return take


@asynccontextmanager
async def heard(database, tx):
    """Every statement that the server is asked meanwhile, by the library or the driver, with what was bound in it."""
    said = []

    def on(_conn, _cursor, statement, parameters, _context, _many):
        said.append((statement, parameters))

    event.listen(database._writer.sync_engine, "before_cursor_execute", on)
    with ExitStack() as stack:
        stack.callback(event.remove, database._writer.sync_engine, "before_cursor_execute", on)
        if not database.sqlite:
            driver = (await tx.conn.get_raw_connection()).driver_connection
            stack.enter_context(
                driver.query_logger(lambda asked: said.append((asked.query, tuple(asked.args))))
            )
        yield said
        await asyncio.sleep(0)


@pytest.mark.parametrize("count", [1, 30])
async def test_however_many_are_decided_on_the_same_one_statement_tells_all(store, database, take, count):
    works = await take(*(reminder(n, **SMS) for n in range(count)))

    async with store.transaction() as tx:
        async with heard(database, tx) as said:
            facts = await tx.facts(works)
        async with heard(database, tx) as alone:
            await tx.facts(works[:1])
        async with heard(database, tx) as stepped:
            await tx.facts([replace(works[0], step=1)])

    assert len(facts.borrowers) == len(facts.debts) == len(facts.addresses) == count
    assert [statement for statement, _ in said] == [statement for statement, _ in alone]
    assert (len(said), len(stepped)) == (1, 2)


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
async def test_where_tables_are_long_each_is_read_through_an_index(store, database, take):
    (work,) = await take(reminder(1, **SMS))
    async with store.transaction() as tx:
        async with heard(database, tx) as said:
            await tx.facts([replace(work, step=1)])
        await tx.conn.execute(text("SET LOCAL enable_seqscan = off"))  # they are short here
        for statement, parameters in said:
            plan = [row[0] for row in await tx.conn.exec_driver_sql(f"EXPLAIN {statement}", parameters)]
            assert [line for line in plan if "Index Cond" in line]
            assert not [line for line in plan if "Seq Scan" in line]


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
async def test_postgresql_plans_it_for_the_first_times_only(store, database, take):
    (work,) = await take(reminder(1, **SMS))
    async with database.write() as conn:
        for months in range(12):  # of which a plan for one moment alone would need few
            await make_months(conn, NOW - months * 30 * DAY)
    async with store.transaction() as tx:
        for _ in range(9):
            await tx.facts([work])
        planned = await tx.conn.execute(
            text(
                "SELECT generic_plans, custom_plans FROM pg_prepared_statements"
                " WHERE statement LIKE '%AS doubles'"
            )
        )
        assert planned.all() == [(4, 5)]


# The same contact.


async def doubles(store, database, works, **other):
    """Which of two is told as a double when the first's row is so."""
    first, second = works
    async with database.write() as conn:
        await conn.execute(update(schema.reminder).where(schema.reminder.c.id == first.id).values(**other))
    async with store.transaction() as tx:
        return (await tx.facts([second])).duplicates == {(TENANT, second.id)}


@pytest.fixture
async def two(take):
    """Two reminders of the same, the first of them accepted first; that of both ids the lower is the first's."""
    works = await take(reminder(1, **SMS, idempotency_key="1"), by_id(1, **SMS, idempotency_key="2"))
    return [replace(work, accepted_at=NOW) for work in sorted(works, key=lambda work: work.id)]


GONE = {"state": "sent", "next_at": None, "called": False, "updated_at": 0}


@pytest.mark.parametrize(
    ("ago", "other", "double"),
    [
        (DAY - TICK, GONE, True),
        (DAY, GONE, False),
        (timedelta(0), GONE, True),  # its id is the lower
        (-TICK, GONE, False),
        (DAY - TICK, GONE | {"due_date": "2026-12-01"}, False),
        (DAY - TICK, GONE | {"borrower": "B-2"}, False),
        (DAY - TICK, GONE | {"state": "suppressed"}, False),
        (DAY - TICK, GONE | {"state": "cancelled"}, False),
        (DAY - TICK, GONE | {"state": "expired"}, False),
        (DAY, GONE | {"state": "sending"}, True),
        (DAY, GONE | {"state": "deferred", "next_at": to_us(NOW - MINUTE)}, True),
        (DAY, GONE | {"state": "deferred", "next_at": to_us(NOW + 10 * MINUTE)}, False),
        (DAY, GONE | {"called": True, "updated_at": to_us(NOW - DUPLICATE_WITHIN + 10 * MINUTE)}, True),
        (DAY, GONE | {"called": True, "updated_at": to_us(NOW - DUPLICATE_WITHIN - MINUTE)}, False),
        (DAY, GONE | {"updated_at": to_us(NOW)}, False),
        (DUPLICATE_WITHIN + LOOKBACK - 10 * MINUTE, GONE | {"state": "sending"}, True),
        (DUPLICATE_WITHIN + LOOKBACK + MINUTE, GONE | {"state": "sending"}, False),
    ],
)
async def test_another_of_the_same_makes_a_double_within_a_day_or_where_it_goes_as_well(
    store, database, two, ago, other, double
):
    assert await doubles(store, database, two, accepted_at=to_us(NOW - ago), **other) is double


async def test_of_two_accepted_at_one_moment_only_the_one_with_the_higher_id_is_a_double(
    store, database, two
):
    assert not await doubles(store, database, two[::-1], accepted_at=to_us(NOW), **GONE)
    assert await doubles(store, database, two, accepted_at=to_us(NOW), **GONE)


async def test_whoever_repeats_or_escalates_is_no_double(store, database, two):
    first, second = two
    for other in (replace(second, repeat=True), replace(second, step=1)):
        assert not await doubles(store, database, (first, other), accepted_at=to_us(NOW - MINUTE), **GONE)
