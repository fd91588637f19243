"""The API over a real store, with small stand-ins for the parts that other tests are about."""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from collections import Counter
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager

import httpx2
import pytest
import sendrig
from rollup_counts import both

from gateway.api.app import build
from gateway.api.services import Services
from gateway.domain import Mode, Tenant
from gateway.errors import NotFound, Overloaded
from gateway.planning import Planning
from gateway.ports import Answer
from gateway.store.assignments import Assignments
from gateway.store.keys import Operator, Role, Setup
from gateway.store.pauses import Pauses
from gateway.store.plan import PlanStore
from gateway.store.poison import Replays
from gateway.store.quota_acts import Quotas
from gateway.store.reads import Reads
from gateway.store.top import Top
from gateway.store.unknowns import UnknownRows
from gateway.store.workers import Workers
from gateway.telemetry import Metrics
from gateway.unknowns import Unknowns
from gateway.wiring import channel_of

TENANT = Tenant("acme/live")


STORES = ("sqlite", "postgresql") if os.environ.get("FLOWS") == "both" else ("postgresql",)
"""`make faults` repeats on SQLite what flows over either store; statements are held against both by tests/contract."""


@pytest.fixture(params=STORES)
def database_url(request):
    """A database, fresh: PostgreSQL, as servers have it, where a test does not name the other."""
    return request.getfixturevalue({"sqlite": "sqlite_url", "postgresql": "postgres_url"}[request.param])


class Desk:
    """Stands where the services of other parts will: keeps what it was asked, and answers as told."""

    def __init__(self):
        self.asked = []
        self.full = False
        self.lacking = {}
        self.answer = Answer()

    async def preview(self, tenant, body):
        self.asked.append(("preview", tenant, body))
        return {"decision": {"action": "send"}, "rendered": []}

    async def check(self, tenant, body):
        if self.full:
            raise Overloaded(retry_after_s=7)
        self.asked.append(("check", tenant, body))
        return {"decision": {"action": "send"}, "reservation": None, "until": None}

    async def receive(self, adapter, account, ref, *, method, target, headers, body):
        self.asked.append((adapter, account, ref, method, target, headers, body))
        return self.answer

    async def missing(self):
        return self.lacking


class Accounts:
    """Accounts in memory."""

    def __init__(self):
        self.kept = {}

    def ways_of(self, tenant, channel, template):
        return []

    def by_country(self):
        return False

    async def listed(self, tenant):
        return [{"name": name} for (owner, name) in self.kept if owner == tenant]

    async def bring_in(self, accounts, *, who, reason):
        self.kept |= {(a.tenant, a.name): a for a in accounts}
        return [a.name for a in accounts]

    async def check(self, tenant, name):
        if (tenant, name) not in self.kept:
            raise NotFound
        return {"name": name, "ok": True, "word": "signed in"}


class Door:
    """Overloaded when it is told to be: `shut` to what would be due, `crowded` to batches."""

    def __init__(self):
        self.shut = self.crowded = False

    def check(self, tenant):
        if self.shut:
            raise Overloaded(retry_after_s=7)

    def room(self):
        if self.crowded:
            raise Overloaded(retry_after_s=1)

    @asynccontextmanager
    async def turn(self):
        self.room()
        yield


class Api:
    """The application over a database, and clients of it by role."""

    def __init__(self, services, desk, accounts, door):
        self.services, self.desk, self.accounts, self.door = services, desk, accounts, door
        self.app = build(services)
        self._clients = {}

    async def key(self, role=Role.ADMIN, tenant="acme", mode=Mode.LIVE, expires_at=None):
        """The text of a new key."""
        by = Operator(who="tests", tenant=TENANT)
        _, text = await self.services.setup.create_key(
            tenant=tenant, mode=mode, role=role, holder=f"a-{role}", expires_at=expires_at, by=by
        )
        return text.reveal("used in a test")

    def bare(self, key=None, host="127.0.0.1", **headers):
        if key is not None:
            headers["Authorization"] = f"Bearer {key}"
        transport = httpx2.ASGITransport(app=self.app, client=(host, 1), raise_app_exceptions=False)
        return httpx2.AsyncClient(transport=transport, base_url="http://gateway", headers=headers)

    async def of(self, role="service", tenant="acme", mode="live"):
        """A client with such a key."""
        at = (Role(role), tenant, Mode(mode))
        if at not in self._clients:
            self._clients[at] = self.bare(await self.key(*at))
        return self._clients[at]

    async def aclose(self):
        for client in self._clients.values():
            await client.aclose()


@pytest.fixture
def serve(vault, blinds, log, take_in, bell):
    """Makes an Api over a database."""

    def make(database):
        setup = Setup(database, log, blinds=blinds, entropy=os.urandom, monotonic=time.monotonic)
        desk, accounts, door = Desk(), Accounts(), Door()
        unknown_rows = UnknownRows(database, log, vault=vault, entropy=os.urandom)
        services = Services(
            intake=take_in(database),
            reads=Reads(database, vault, channel_of),
            top=Top(database),
            unknowns=Unknowns(unknown_rows, accounts),
            unknown_rows=unknown_rows,
            replays=Replays(database, log, os.urandom),
            workers=Workers(database, log, os.urandom),
            setup=setup,
            setup_aside=setup,
            pauses=Pauses(
                *(database, log, os.urandom),
                channel_of=channel_of,
                has_template=lambda name: name == "pre_due",
                one_person=False,
            ),
            quotas=Quotas(database, log, os.urandom, channel_of=channel_of),
            planning=Planning(PlanStore(database), accounts),
            assignments=Assignments(database, log, os.urandom),
            asks=desk,
            simulation=desk,
            audits=desk,
            callbacks=desk,
            accounts=accounts,
            admission=door,
            health=desk,
            metrics=Metrics(),
            wake=bell,
            explain=lambda decision, lang: f"{lang}: {decision['action']}",
            caps={"OP.CAPS.day": 3, "OP.CAPS.week": 7},
            packs=frozenset({"CN.GBT", "US.REGF"}),
            clock_movable=True,
            entropy=os.urandom,
            monotonic=time.monotonic,
        )
        return Api(services, desk, accounts, door)

    return make


@pytest.fixture
async def api(sqlite, serve):
    """The API over a fresh SQLite file."""
    made = serve(sqlite)
    yield made
    await made.aclose()


@pytest.fixture
async def service(api):
    """A client with a service's key of acme, live."""
    return await api.of()


TEXTS_AT_MOST = 30
"""After so many texts to one number the simulators are started anew: like Aliyun, theirs takes 50 a day."""


def _most_texts(ledger):
    """How many texts one number was sent at most."""
    return max(Counter(entry["to"] for entry in ledger if entry["kind"] == "sms").values(), default=0)


@pytest.fixture(scope="session")
def simulators_of_many(tmp_path_factory):
    """Gives the running simulators, or fresh ones when these were asked for much."""
    with ExitStack() as stack:
        running = None

        def give():
            nonlocal running
            if running is None or _most_texts(running.ledger()) > TEXTS_AT_MOST:
                stack.close()
                running = stack.enter_context(sendrig.simulating(tmp_path_factory.mktemp("simulators")))
            return running

        yield give


@pytest.fixture
def simulators(simulators_of_many):
    """The shipped simulators in a process of their own; their ledger is the witness of what was sent."""
    return simulators_of_many()


@pytest.fixture
def prepared_files(simulators, ring, sqlite_template, vault_template, tmp_path_factory):
    """Files of a database and its vault that have the accounts of the simulators already."""
    if "sqlite" not in simulators.prepared:
        folder = tmp_path_factory.mktemp("prepared")
        made = (
            shutil.copy(sqlite_template, folder / "gateway.db"),
            shutil.copy(vault_template, folder / "vault.db"),
        )
        asyncio.run(sendrig.prepare(*(f"sqlite:///{path}" for path in made), ring, simulators))
        assert [path.name for path in folder.iterdir() if path not in made] == []
        simulators.prepared["sqlite"] = made
    return simulators.prepared["sqlite"]


@pytest.fixture
def postgres_url(simulators, ring, postgres, postgres_template, postgres_copies):
    """A PostgreSQL database of the test's own that has the accounts of the simulators already."""
    if "postgresql" not in simulators.prepared:
        name = f"prepared{simulators.ports['smtp']}"
        asyncio.run(postgres.say(f"CREATE DATABASE {name} TEMPLATE {postgres_template} STRATEGY file_copy"))
        asyncio.run(sendrig.prepare(postgres.url(name), postgres.url(name), ring, simulators))
        simulators.prepared["postgresql"] = name
    return postgres_copies(simulators.prepared["postgresql"])


@pytest.fixture
def files_for(prepared_files, data_folder):
    """Puts prepared files where a URL says, before it is first opened; gives the URL of the vault beside it."""

    def files_for(url):
        if url.startswith("postgresql"):
            return url  # its tables stand in the same database
        vault = data_folder / "rig-vault.db"
        if not vault.exists():
            database, beside = prepared_files
            shutil.copy(database, url.removeprefix("sqlite:///"))
            shutil.copy(beside, vault)
        return f"sqlite:///{vault}"

    return files_for


@pytest.fixture
async def open_rig(files_for, ring, simulators):
    """Opens gateways over a database URL; all are closed at the test's end."""
    async with AsyncExitStack() as stack:

        async def opened(url, **options):
            return await stack.enter_async_context(
                sendrig.opened(url, files_for(url), ring, simulators, **options)
            )

        yield opened


@pytest.fixture
async def rig(database_url, open_rig):
    """One gateway over SQLite, and over PostgreSQL; whatever a test did, the roll-ups must say what a COUNT does."""
    opened = await open_rig(database_url)
    yield opened
    counted, rolled_up = await both(opened.database)
    assert rolled_up == counted
