"""Statements that are put to the driver itself: the same rows, the same transaction and the same errors."""

import pytest
from makers import rows
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError, ProgrammingError

from gateway.errors import StoreRefused, Unavailable
from gateway.store.database import Database
from gateway.store.words import Words

NEW = Words(
    "INSERT INTO tenant (name, created_at) VALUES (:name, :at) RETURNING name, created_at AS made, :name AS again"
)
FIRST = Words(
    "SELECT CAST(:one AS text) AS one, CAST(:two AS bigint) AS two, CAST(:one AS text) AS three", {"two": 2}
)


@pytest.mark.parametrize("begun", [False, True])
async def test_rows_know_their_columns_names(database, begun):
    async with database.write() as conn:
        if begun:
            await database.moment(conn)
        (row,) = await FIRST.run(conn, one="a")

    assert (row.one, row.two, row.three) == ("a", 2, "a")
    assert tuple(row) == ("a", 2, "a")


async def test_what_is_read_without_a_transaction_is_read_all_the_same(database):
    async with database.read() as conn:
        (row,) = await FIRST.run(conn, one="a")

    assert row.three == "a"


@pytest.mark.parametrize("begun", [False, True])
async def test_what_it_writes_is_in_the_transaction_that_asks(database, begun):
    async def broken():
        async with database.write() as conn:
            if begun:
                await database.moment(conn)
            await NEW.run(conn, name="gone", at=1)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await broken()

    assert {row.name for row in await rows(database, "tenant")} == {"acme", "beta"}


async def test_errors_are_those_that_the_library_would_raise(postgres_url):
    database = Database(postgres_url)

    async def asked(words, **bound):
        async with database.write() as conn:
            await database.moment(conn)
            await words.run(conn, **bound)

    with pytest.raises(IntegrityError):
        await asked(NEW, name="acme", at=1)
    with pytest.raises(ProgrammingError):
        await asked(Words("SELECT none_such"))
    with pytest.raises(StoreRefused):
        await asked(Words("SELECT CAST(:word AS bigint)"), word=2**70)
    with pytest.raises(Unavailable):
        await asked(Words("SELECT pg_terminate_backend(pg_backend_pid())"))
    async with database.write() as conn:
        assert await conn.scalar(text("SELECT 1")) == 1
    await database.aclose()
