"""Whole gateways over real stores, sending through the real adapters to simulators in a process of their own.

The simulators' ledger is the witness: it is written by another process, before anything is answered.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import socket
import subprocess
import sys
import warnings
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta

import aiohttp
import orjson
import pytest
from makers import NOW, rows, set_clock
from sqlalchemy import text, update

import channels
import examples
from gateway.accounts import parse
from gateway.api.app import build
from gateway.api.server import bind, server
from gateway.bodies import CheckIn
from gateway.dispatch import Dispatch
from gateway.domain import Mode, Tenant
from gateway.intake import Done
from gateway.settings import load
from gateway.simulators.ledger import read as read_ledger
from gateway.store import schema
from gateway.store.dispatch import DispatchStore
from gateway.store.keys import Operator
from gateway.trial import ENVIRONMENT
from gateway.wiring import Gateway, Place

TENANT = Tenant("acme/live")
NAMES = ("twilio", "aliyun", "wechat", "smtp")
SIGNED_IN = {**os.environ, **ENVIRONMENT}
ON_SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
"""For what the kind of store cannot change."""
NEVER = 1
"""A port on which nothing listens."""
WAIT_S = 30.0


@dataclass
class Simulators:
    """The shipped simulators, running."""

    ports: dict[str, int]
    path: os.PathLike
    faulty: set = field(default_factory=set)
    prepared: dict = field(default_factory=dict)
    """Databases that have the accounts of these simulators already, by their kind (conftest.py)."""

    def ledger(self):
        """What they were asked to do since they run, oldest first."""
        return read_ledger(self.path)

    async def next(self, provider, mode, **more):
        """Change how a provider answers its next sends (gateway.simulators.wire)."""
        self.faulty.add(provider)
        url = f"http://127.0.0.1:{self.ports[provider]}/_sim/next"
        async with aiohttp.ClientSession() as http, http.post(url, json={"mode": mode, **more}) as answer:
            assert answer.status == 200, await answer.text()

    async def heal(self):
        """Forget the faults that were asked for and not used."""
        for provider in tuple(self.faulty):
            await self.next(provider, "drop", count=0)
        self.faulty.clear()

    def accounts(self, tenant="acme", mode="live", **ports):
        """An accounts.toml of all five adapters; `ports` puts one of them elsewhere."""
        text = examples.accounts({**self.ports, **ports}, mode=mode)
        return text.replace('tenant = "default"', f'tenant = "{tenant}"')


@contextmanager
def simulating(folder):
    """Run them in a process of their own."""
    path = folder / "ledger.jsonl"
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "gateway.simulators", "--with-parent", "--delay-ms", "20"),
            *("--ledger", str(path), *(word for name in NAMES for word in (f"--{name}", "0"))),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "SIM_SECRET": "simulator"},
    )
    try:
        yield Simulators(json.loads(process.stdout.readline()), path)
    finally:
        process.stdin.close()
        process.wait(10)
        process.stdout.close()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Hooked:
    """A store that lets a test act between T1 and go, and between go and the call."""

    def __init__(self, store, *, before_go=None, after_go=None):
        self._store, self._before, self._after = store, before_go, after_go

    async def due_queues(self):
        return await self._store.due_queues()

    async def pick(self, wanted, owner):
        return await self._store.pick(wanted, owner)

    async def borrowers_of(self, persons):
        return await self._store.borrowers_of(persons)

    async def put_aside(self, due, error):
        await self._store.put_aside(due, error)

    def transaction(self):
        return self._store.transaction()

    async def go(self, intents, owner, word, book):
        if self._before:
            await self._before(intents)
        went = await self._store.go(intents, owner, word, book)
        if self._after:
            await self._after(went.granted)
        return went


@dataclass
class Rig:
    """One gateway in this process."""

    gateway: Gateway
    simulators: Simulators
    since: int

    def __post_init__(self):
        self.services = self.gateway.services()
        self.intake = self.services.intake
        self.duties = self.gateway.worker()
        """A worker that only sweeps and reconciles, and only when told to."""

    @property
    def database(self):
        return self.gateway.database

    # What services and providers do.

    async def take(self, *raws):
        """Reminders in, as one batch; their ids."""
        return [answer["id"] for answer in done(await self.intake.reminders(TENANT, list(raws)))]

    async def put(self, borrower, *debts):
        """A borrower and debts of theirs."""
        done(await self.intake.borrowers(TENANT, [borrower]))
        done(await self.intake.debts(TENANT, [{**debt, "borrower": borrower["id"]} for debt in debts]))

    async def puts(self, name="B-1", **keys):
        """Some keys of a borrower, put."""
        done(await self.intake.borrowers(TENANT, [{"id": name, **keys}]))

    async def contacts(self, *raws):
        """Contacts that others made."""
        done(await self.intake.contacts(TENANT, list(raws)))

    async def happens(self, debt, **event):
        """One event of a debt."""
        key = {"idempotency_key": f"{debt}:{event['type']}:{os.urandom(4).hex()}", "debt": debt}
        (answer,) = done(await self.intake.events(TENANT, [{**key, **event}]))
        return answer

    async def check(self, **asked):
        """May I contact this borrower?"""
        return await self.services.asks.check(TENANT, CheckIn(**asked))

    async def receive(self, adapter, account, ref, *, query="", headers=None, body=b"", method="POST"):
        """A provider's request, without a socket."""
        path = f"/cb/{adapter}/{account}/{ref}" + (f"?{query}" if query else "")
        return await self.services.callbacks.receive(
            adapter, account, ref, method=method, target=path, headers=headers or {}, body=body
        )

    async def turn_to(self, provider, port):
        """Accounts of that provider are at this port from now on."""
        await bring_in(self.gateway, self.simulators, **{provider: port})
        await self.gateway.accounts.refresh()

    # What came of it.

    def reached(self):
        """The ledger's lines since this gateway began."""
        return self.simulators.ledger()[self.since :]

    async def reminder(self, name):
        (row,) = await rows(self.database, "reminder", f"id = '{name}'")
        return row

    async def states(self):
        """Reminders by (state, reason)."""
        found = {}
        for row in await rows(self.database, "reminder"):
            found[row.state, row.reason] = found.get((row.state, row.reason), 0) + 1
        return found

    async def attempts(self, reminder=None):
        where = "origin = 'gateway'" + (f" AND reminder = '{reminder}'" if reminder else "")
        return sorted(await rows(self.database, "attempt", where), key=lambda row: (row.started_at, row.ref))

    async def until(self, true):
        """Wait for something that others bring about."""
        async with asyncio.timeout(WAIT_S):
            while not (found := await true()):  # noqa: ASYNC110 (other processes set no event)
                await asyncio.sleep(0.02)
        return found

    # Time.

    async def advance(self, **delta):
        """Move the policy clock."""
        async with self.database.write() as conn:
            await conn.execute(
                update(schema.clock).values(
                    offset_us=schema.clock.c.offset_us + timedelta(**delta) // timedelta(microseconds=1)
                )
            )

    async def aged(self, *columns, **delta):
        """Let real time have passed: what waits on the database's own clock (or these columns) is so much older."""
        past = timedelta(**delta) // timedelta(microseconds=1)
        waiting = ("attempt.deadline", "attempt.settle_at", "owner.heartbeat_at", "lease.until")
        async with self.database.write() as conn:
            for table, _, column in (name.partition(".") for name in columns or waiting):
                await conn.execute(text(f"UPDATE {table} SET {column} = {column} - :past"), {"past": past})

    # Senders.

    @asynccontextmanager
    async def sender(self, *, store=None, **hooks):
        """A worker's parts, registered, its outcomes written, draining only when told to."""
        parts = self.gateway.worker()
        await parts.owners.register()
        store = store or self.gateway.store
        sender = Sender(
            self,
            parts,
            self.gateway.dispatch(parts.owners, Hooked(store, **hooks)),
        )
        await self.gateway.live.refresh()
        outcomes = asyncio.create_task(sender.dispatch.run())
        try:
            yield sender
        finally:
            outcomes.cancel()
            await asyncio.gather(outcomes, return_exceptions=True)
            if not sender.dead:
                await parts.owners.leave()

    async def drain(self, **hooks):
        """Send everything that is due now."""
        async with self.sender(**hooks) as sender:
            await sender.drain()

    async def key(self, role, tenant="acme", holder="ann"):
        """The text of a new key."""
        _, text = await self.gateway.setup.create_key(
            tenant=tenant,
            mode=Mode.LIVE,
            role=role,
            holder=holder,
            expires_at=None,
            by=Operator(who="tests", tenant=TENANT),
        )
        return text.reveal("used in a test")

    @asynccontextmanager
    async def served(self):
        """The API on its socket, for providers that call back."""
        http = server(build(self.services))
        at = self.gateway.place.public_url.removeprefix("http://")
        serving = asyncio.create_task(http.serve(sockets=[bind(at)]))
        try:
            await self.until(lambda: asyncio.sleep(0, http.started))
            yield self.gateway.place.public_url
        finally:
            http.should_exit = http.force_exit = True
            await serving


@dataclass
class Sender:
    """One worker, driven by hand."""

    rig: Rig
    parts: object
    dispatch: Dispatch
    dead: bool = False

    async def die(self, *tasks):
        """Be gone in the middle of these drains, as a killed process is: no word to anybody, no lock held."""
        self.dead = True
        if self.parts.owners._heart is not None:
            await self.parts.owners._heart.stop()
        tasks = (*tasks, *self.dispatch._starts._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        with warnings.catch_warnings():  # whoever is killed closes nothing
            warnings.simplefilter("ignore", ResourceWarning)
            gc.collect()

    async def judged_dead(self):
        """Be taken for dead while it goes on, as a process is that was cut off: what it calls is marked unknown."""
        if self.parts.owners._heart is not None:
            await self.parts.owners._heart.stop()
        async with self.rig.database.write() as conn:
            await conn.execute(
                text("UPDATE owner SET dead_at = started_at + 1 WHERE id = :id"), {"id": self.parts.owners.id}
            )
        await self.rig.duties.sweep.once()

    async def drain(self):
        """Drain queues until nothing is due."""
        store: DispatchStore = self.rig.gateway.store
        while channels := {queue.channel for queue in await store.due_queues()}:
            await asyncio.gather(*(self.dispatch.drain(channel) for channel in sorted(channels)))

    async def drain_one(self, channel):
        """Drain one channel once."""
        await self.dispatch.drain(channel)


def done(results):
    """The bodies of results, all of them good."""
    assert results
    faults = [(result, getattr(result, "faults", ())) for result in results if not isinstance(result, Done)]
    assert not faults, faults
    return [orjson.loads(result.body) for result in results]


async def bring_in(gateway, simulators, **ports):
    """Accounts of all five adapters."""
    drawn = parse(simulators.accounts(**ports), adapters=channels.names(), environ=SIGNED_IN)
    await gateway.account_desk.bring_in(drawn, who="tests", reason="a test")


async def prepare(database_url, vault_url, ring, simulators):
    """Let a database have the accounts of all five adapters and the packs, as of the minute before `NOW`."""
    async with opened(database_url, vault_url, ring, simulators, clock=NOW - timedelta(minutes=1)):
        pass


def settings_of(database_url, vault_url, **more):
    return load(database_url=str(database_url), vault_url=str(vault_url), **more)


@asynccontextmanager
async def opened(
    database_url,
    vault_url,
    ring,
    simulators,
    *,
    redis=None,
    public_url=None,
    ports=None,
    clock=NOW,
    templates=None,
    journal=None,
    **more,
):
    """A gateway with accounts of all five adapters, its policy clock at `clock`."""
    if database_url.startswith("postgresql"):
        database_url += "?sslmode=disable"
    place = Place(
        settings=settings_of(database_url, vault_url, templates=templates, journal=journal),
        ring=ring,
        redis=redis,
        public_url=public_url or f"http://127.0.0.1:{free_port()}",
        **{"quarantine": timedelta(seconds=5), **more},
    )
    gateway = Gateway(place)
    try:
        if clock is not None:
            await set_clock(gateway.database, clock)
            if ports or not await rows(gateway.database, "account"):
                await gateway.vault.prepare()
                await bring_in(gateway, simulators, **(ports or {}))
        await gateway.keep_packs()
        await gateway.accounts.refresh()
        rig = Rig(gateway, simulators, len(simulators.ledger()))
        yield rig
        if rig.duties.owners._heart is not None:
            await rig.duties.owners._heart.stop()
    finally:
        await simulators.heal()
        await gateway.aclose()
