"""A fresh SQLite file, or a database of a PostgreSQL of our own, cloned from a template."""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from postgresql import MEMORY, serving
from redis.asyncio import Redis
from sqlalchemy import insert
from sqlalchemy.engine import make_url

from gateway.domain import Tenant
from gateway.embedded import Valkey
from gateway.intake import Intake
from gateway.sendlog.record import LogKeys
from gateway.store.database import Database
from gateway.store.intake import IntakeStore
from gateway.store.log import Log
from gateway.store.schema import tenant
from gateway.templating import Catalog
from gateway.vault import BlindIndex, KeyRing, KeyUse, Vault

TENANT = Tenant("acme/live")


@pytest.fixture(scope="session")
def postgres():
    """One for the length of the session."""
    with tempfile.TemporaryDirectory(prefix="pg", dir=MEMORY) as name, serving(Path(name)) as server:
        yield server


async def _make(url):
    """Every table, two tenants, and no other row."""
    database = Database(url)
    await database.create()
    async with database.write() as conn:
        await conn.execute(insert(tenant), [{"name": name, "created_at": 0} for name in ("acme", "beta")])
    await database.aclose()


@pytest.fixture(scope="session")
def postgres_template(postgres):
    """The name of a database with every table and no row."""
    asyncio.run(postgres.say("CREATE DATABASE empty"))
    asyncio.run(_make(postgres.url("empty")))
    return "empty"


_numbers = itertools.count()


@pytest.fixture
def postgres_copies(postgres):
    """Gives copies of a database, by its name; all are dropped at the test's end."""
    made = []

    def copy(template):
        made.append(f"t{next(_numbers)}")
        asyncio.run(postgres.say(f"CREATE DATABASE {made[-1]} TEMPLATE {template} STRATEGY file_copy"))
        return postgres.url(made[-1])

    yield copy
    asyncio.run(postgres.say(*(f"DROP DATABASE {name} WITH (FORCE)" for name in made)))


@pytest.fixture
def postgres_url(postgres_template, postgres_copies):
    """A database of the test's own."""
    return postgres_copies(postgres_template)


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory):
    """A SQLite file with every table and no row."""
    path = tmp_path_factory.mktemp("template") / "gateway.db"
    asyncio.run(_make(f"sqlite:///{path}"))
    return path


@pytest.fixture
def data_folder():
    """A folder for databases."""
    with tempfile.TemporaryDirectory(prefix="gateway", dir=MEMORY) as name:
        yield Path(name)


@pytest.fixture
def sqlite_url(sqlite_template, data_folder):
    """A SQLite file of the test's own."""
    return f"sqlite:///{shutil.copy(sqlite_template, data_folder / 'gateway.db')}"


@pytest.fixture
async def sqlite(sqlite_url):
    """An open SQLite database."""
    database = Database(sqlite_url)
    yield database
    await database.aclose()


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request):
    """A database of either kind, fresh."""
    return request.getfixturevalue({"sqlite": "sqlite_url", "postgresql": "postgres_url"}[request.param])


@pytest.fixture
async def database(database_url):
    """An open database: contract tests run over both kinds."""
    database = Database(database_url)
    yield database
    await database.aclose()


@pytest.fixture(scope="session")
def ring(tmp_path_factory):
    """A key ring."""
    return KeyRing.create(tmp_path_factory.mktemp("ring") / "keyring.json")


def _vault_at(path, ring):
    return Vault(make_url(f"sqlite+aiosqlite:///{path}"), ring)


@pytest.fixture(scope="session")
def vault_template(ring, tmp_path_factory):
    """A prepared vault without a key."""
    path = tmp_path_factory.mktemp("template") / "vault.db"

    async def prepare():
        vault = _vault_at(path, ring)
        await vault.prepare()
        await vault.aclose()

    asyncio.run(prepare())
    return path


@pytest.fixture
async def vault(vault_template, ring, data_folder):
    """An empty vault."""
    vault = _vault_at(shutil.copy(vault_template, data_folder / "vault.db"), ring)
    yield vault
    await vault.aclose()


@pytest.fixture
def blinds(ring):
    return BlindIndex(ring)


@pytest.fixture
def log(vault, ring):
    """The send log of a database."""
    keys = LogKeys(
        pseudonyms=ring.derive(KeyUse.LOG_PSEUDONYM), commitments=ring.derive(KeyUse.LOG_COMMITMENT)
    )
    return Log(vault, keys, os.urandom)


# The default suite is bounded; `HYPOTHESIS_PROFILE=default` draws as many examples as hypothesis does by itself.
settings.register_profile("bounded", max_examples=40, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "bounded"))


class Bell:
    """Keeps what it was rung for."""

    def __init__(self):
        self.rung = []

    def ring(self, queues):
        self.rung.extend(queues)


class Bindings:
    """Accounts that carry every template, but for those (template, channel) that are said not to be bound."""

    def __init__(self):
        self.unbound = set()

    def bound(self, tenant, template, channel):
        return (template.name, channel) not in self.unbound


@pytest.fixture(scope="session")
def catalog():
    return Catalog.load()


@pytest.fixture
def bell():
    return Bell()


@pytest.fixture
def bindings():
    return Bindings()


@pytest.fixture
def take_in(vault, blinds, catalog, bell, bindings, log):
    """Makes an Intake over a database."""

    def make(database):
        return Intake(
            store=IntakeStore(database, log),
            vault=vault,
            blinds=blinds,
            catalog=catalog,
            bindings=bindings,
            wake=bell,
            entropy=os.urandom,
        )

    return make


@pytest.fixture(scope="module")
def valkey(tmp_path_factory):
    """A Valkey of our own for the length of a module."""
    server = Valkey(tmp_path_factory.mktemp("valkey"))
    with asyncio.Runner() as runner:
        runner.run(server.start())
        yield server
        runner.run(server.stop())


@pytest.fixture
async def redis(valkey):
    """A client of an empty Valkey."""
    client = Redis(unix_socket_path=str(valkey.socket))
    await client.flushall()
    yield client
    await client.aclose()
