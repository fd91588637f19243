"""What the migrations make of a database, over SQLite and PostgreSQL alike."""

import asyncio
import itertools
import os
import random

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from cli_rig import Shell
from makers import NOW, rows, set_clock
from rollup_counts import both
from sqlalchemy import insert, inspect, text
from test_store_backlog import row, work

from gateway.domain import Tenant, to_us
from gateway.settings import database_url
from gateway.store import migrate, schema
from gateway.store.database import Database
from gateway.store.dispatch import DispatchStore
from gateway.store.log import Log
from gateway.vault import KeyRing, Vault
from gateway.work import Subject

TENANT = Tenant("acme/live")
_names = itertools.count()


@pytest.fixture(params=["sqlite", "postgresql"])
def bare(request, data_folder):
    """The URL of a database without a table."""
    if request.param == "sqlite":
        yield f"sqlite:///{data_folder / 'bare.db'}"
        return
    server, name = request.getfixturevalue("postgres"), f"bare{next(_names)}"
    asyncio.run(server.say(f"CREATE DATABASE {name}"))
    yield server.url(name)
    asyncio.run(server.say(f"DROP DATABASE {name} WITH (FORCE)"))


def of_ours(name, kind, _parents):
    """Partitions are made as time goes on, and the version's table is alembic's."""
    return kind != "table" or name in schema.metadata.tables


def differences(connection):
    """Where the tables are not as the schema says."""
    context = MigrationContext.configure(connection, opts={"include_name": of_ours, "compare_type": True})
    found = compare_metadata(context, schema.metadata)
    keys = {
        name: inspect(connection).get_pk_constraint(name)["constrained_columns"]
        for name in schema.metadata.tables
    }
    return found, {
        n: k for n, k in keys.items() if k != [c.name for c in schema.metadata.tables[n].primary_key]
    }


def test_the_versions_together_make_the_schema(bare):
    async def made():
        database = Database(bare)
        version = await migrate.upgrade(database)
        assert await migrate.upgrade(database) == version
        await migrate.check(database)
        async with database.write() as conn:
            found = await conn.run_sync(differences)
        await database.aclose()
        return found

    assert asyncio.run(made()) == ([], {})


@pytest.mark.parametrize("bare", ["postgresql"], indirect=True)
def test_the_page_of_a_reminder_has_the_room_that_the_schema_says(bare):
    async def made():
        database = Database(bare)
        await migrate.upgrade(database)
        async with database.read() as conn:
            found = await conn.execute(text("SELECT reloptions FROM pg_class WHERE relname = 'reminder'"))
            options = found.scalar_one()
        await database.aclose()
        return options

    said = schema.reminder.dialect_options["postgresql"]["with"]
    assert asyncio.run(made()) == [f"{name}={value}" for name, value in said.items()]


CHANGED = {"revision": 1, "updated_at": 0}


def older(connection, version="0001"):
    config = migrate._config()
    config.attributes["connection"] = connection
    command.upgrade(config, version)


WHOM = {"tenant": TENANT, "person": "pn_1", "borrower": "B-1", "debt": "L-1", "creditor": "acme"}
OF_0001 = [
    (
        schema.borrower,
        {"tenant": TENANT, "id": "B-1", "person": "pn_1", "profile": "{}", "pii_enc": b"", **CHANGED},
    ),
    (
        schema.debt,
        {
            "tenant": TENANT,
            "id": "L-1",
            "borrower": "B-1",
            "creditor": "acme",
            "product": "loan",
            "debtor_kind": "person",
            "due_date": "2026-11-30",
            "amount": "10",
            "currency": "CNY",
            "state": "open",
            "state_at": 0,
            "policy_facts": "{}",
            **CHANGED,
        },
    ),
    (
        schema.reservation,
        {
            **WHOM,
            "id": "rs_1",
            "channel": "voice",
            "recipient_role": "debtor",
            "at": 1,
            "until": to_us(NOW) * 2,
        },
    ),
    *(
        (
            schema.attempt,
            {
                **WHOM,
                "ref": f"ct_{at}",
                "started_at": at,
                "final_at": at,
                "origin": "contact",
                "channel": "voice",
                "recipient_role": "debtor",
                "actor_role": "agency",
                "flags": "[]",
                "state": "conversation",
            },
        )
        for at in (1, to_us(NOW) - 1)
    ),
]
"""Rows without a word of what came later; one stands in a month of its own, one in none."""


async def prepared(bare, ring, vault_url):
    """A database of the first version with these rows."""
    vault, database = Vault(database_url(vault_url), ring), Database(bare)
    await vault.prepare()
    async with database.write() as conn:
        await conn.run_sync(older)
        await migrate.make_months(conn, NOW)
        for table, values in OF_0001:
            await conn.execute(insert(table).values(**values))
    await set_clock(database)
    await vault.aclose()
    await database.aclose()


async def seen(bare, ring, vault_url):
    """What a decision is told of those rows."""
    vault, database = Vault(database_url(vault_url), ring), Database(bare)
    async with DispatchStore(database, Log(vault, None, os.urandom)).transaction() as tx:
        facts = await tx.facts([Subject(tenant=TENANT, person="pn_1", borrower="B-1", debt="L-1")])
    assigned = await rows(database, "policy_assignment")
    await vault.aclose()
    await database.aclose()
    return facts, assigned


def test_the_command_takes_the_first_version_with_its_rows_along(bare, data_folder, monkeypatch, capsys):
    ring, vault_url = KeyRing.create(data_folder / "ring.json"), f"sqlite:///{data_folder / 'vault.db'}"
    asyncio.run(prepared(bare, ring, vault_url))
    shell = Shell(
        monkeypatch,
        capsys,
        GATEWAY_DATABASE_URL=bare,
        GATEWAY_VAULT_URL=vault_url,
        GATEWAY_KEYRING=ring.path,
    )

    done = shell("db", "upgrade")

    assert (done.code, done.err) == (0, "")
    assert done.out == "the database stands at 0010, the vault is prepared\n"
    facts, assigned = asyncio.run(seen(bare, ring, vault_url))
    past = facts.history[TENANT, "pn_1"]
    assert [(p.state, p.actor, p.technology, p.reserved) for p in past] == [
        ("conversation", None, None, False),
        ("conversation", None, None, False),
        ("unknown", None, None, True),
    ]
    assert (facts.debts[TENANT, "L-1"].product, facts.assignments, assigned) == ("loan", {}, [])


def test_what_waited_before_it_was_counted_is_counted_too_and_goes_on(bare):
    async def counted():
        database = Database(bare)
        async with database.write() as conn:
            await conn.run_sync(older, "0004")
            await conn.execute(insert(schema.reminder), [row(n, priority=n % 3) for n in range(20)])
        await migrate.upgrade(database)
        first = await both(database)
        await work(database, random.Random(1), 100)
        then = await both(database)
        await database.aclose()
        return first, then

    (first, rolled_up), (then, rolled_up_then) = asyncio.run(counted())

    assert [number for *_, number in first] == [7, 7, 6]
    assert (rolled_up, rolled_up_then) == (first, then)
    assert then != first
