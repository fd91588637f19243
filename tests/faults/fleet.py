"""`gateway worker` processes over PostgreSQL and a Valkey, sending to simulators whose ledger is the witness.

The gateway in the test's own process takes reminders in and makes what ops make; it sends nothing.
"""

import asyncio
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import paces
import redis.asyncio
import sendrig
from makers import phone, reminder, rows
from sqlalchemy import insert

from gateway.domain import Tenant
from gateway.embedded import valkey_binary
from gateway.settings import redis_target
from gateway.store import migrate
from gateway.store.database import Database
from gateway.store.quota_acts import Wanted
from gateway.store.schema import tenant
from gateway.vault import KeyRing

DEPLOYMENT = Tenant("*/live")
TENANTS = ("acme", "beta", "gamma")
AT_ONCE = 500
"""Reminders that are taken in as one batch."""
PATIENCE_S = 120.0
NO_WAKE = os.environ.get("FAULTS_WAKE") == "off"
"""No wake-up comes through: Redis lets nobody touch the keys that it goes by."""
PR_SET_PDEATHSIG = 1


def run(command, log, environ):
    """A process that is killed when the test's own is gone, however that went (Linux)."""
    return subprocess.Popen(command, stdout=log, stderr=log, env=environ, preexec_fn=_with_parent)  # noqa: PLW1509


def _with_parent():
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class Redis:
    """A Valkey that is there when the test wants it to be: nobody starts it again."""

    def __init__(self, folder):
        self.folder, self.port, self.process = Path(folder), sendrig.free_port(), None
        self.folder.mkdir(exist_ok=True)

    @property
    def url(self):
        return f"redis://127.0.0.1:{self.port}"

    async def start(self):
        """Start it (with what its log holds) and wait until it answers."""
        said = {
            "port": self.port,
            "bind": "127.0.0.1",
            "dir": self.folder,
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": "",
            "logfile": self.folder / "log",
        }
        words = [str(word) for key, value in said.items() for word in (f"--{key}", value)]
        if NO_WAKE:
            words += ["--user", "default", "on", "nopass", "resetkeys", "~{gateway}:*", "&*", "+@all"]
        self.process = await asyncio.to_thread(
            subprocess.Popen, [valkey_binary(), *words], stdout=subprocess.DEVNULL
        )
        await until(self._answers, patience=10)

    async def _answers(self):
        try:
            await self.say("PING")
        except (redis.exceptions.ConnectionError, OSError):
            return False
        return True

    async def say(self, *words):
        """One command."""
        async with redis.asyncio.from_url(self.url) as client:
            return await client.execute_command(*words)

    def kill(self):
        """Be gone at once."""
        self.process.kill()
        self.process.wait(10)


@dataclass
class Shared(sendrig.Simulators):
    """Simulators whose account sms-cn these tenants have together, in place of acme alone."""

    weights: dict = field(kw_only=True)

    def accounts(self, **ports):
        first, cut, rest = super().accounts(**ports).partition('name = "sms-cn"\ntenant = "acme"')
        assert cut
        said = ", ".join(f"{name} = {weight}" for name, weight in self.weights.items())
        return f'{first}name = "sms-cn"\ntenants = {{{said}}}{rest}'


@dataclass
class Fleet:
    """Workers, what they share, and the gateway of the test's own process."""

    rig: sendrig.Rig
    redis: Redis
    environ: dict
    logs: Path
    workers: list = field(default_factory=list)
    taken: int = 0

    # Workers.

    def join(self, mutant=None):
        """One more worker (with a mistake sown into it); it may take a second until it works."""
        command = [sys.executable, "-c", "from gateway.cli import main; main()", "worker"]
        if mutant is not None:
            command = [sys.executable, str(Path(__file__).with_name("mutant_worker.py")), mutant]
        with (self.logs / f"worker{len(self.workers)}.log").open("w") as log:
            self.workers.append(run(command, log, self.environ))

    async def all_join(self, count, mutant=None):
        """So many more workers, and wait until all work."""
        for _ in range(count):
            self.join(mutant)
        await self.at_work()

    async def at_work(self):
        """Wait until every worker works by what ops made last."""

        async def so():
            assert [worker.poll() for worker in self.workers] == [None] * len(self.workers), self.said()
            seq = (await rows(self.rig.database, "live"))[0].seq
            found = await rows(self.rig.database, "owner", "dead_at IS NULL")
            return len([row for row in found if row.applied >= seq]) == len(self.workers)

        await self.until(so)

    async def kill_one(self):
        """One worker is gone in the middle of whatever it did; its process id."""
        worker = self.workers.pop()
        worker.kill()
        await asyncio.to_thread(worker.wait, 10)
        return worker.pid

    def said(self):
        """The last of what each worker said."""
        return {path.name: path.read_text()[-2000:] for path in sorted(self.logs.glob("worker*.log"))}

    async def end(self):
        """End them as an init system does."""
        for worker in self.workers:
            worker.send_signal(signal.SIGCONT)
            worker.terminate()
        for worker in self.workers:
            try:
                await asyncio.to_thread(worker.wait, 40)
            except subprocess.TimeoutExpired:
                worker.kill()
                worker.wait(10)

    # Work.

    async def take(self, count, **more):
        """So many reminders to as many people, each their first; their ids by their numbers."""
        return await self.take_for("acme", count, **more)

    async def take_for(self, tenant, count, **more):
        """So many reminders of a tenant to as many people; their ids by their numbers as the ledger has them."""
        numbers = range(self.taken, self.taken + count)
        self.taken += count
        raws = [reminder(n, **{"channels": ["sms"], **more}) for n in numbers]
        names = await self.take_all(raws, Tenant(f"{tenant}/live"))
        return dict(zip(map(phone, numbers), names, strict=True))

    async def take_all(self, raws, tenant=sendrig.TENANT):
        """These reminders, in batches; their ids."""
        found = []
        for start in range(0, len(raws), AT_ONCE):
            taken = await self.rig.intake.reminders(tenant, raws[start : start + AT_ONCE])
            found += [answer["id"] for answer in sendrig.done(taken)]
        return found

    # What ops do.

    async def quota(self, name, *, owner=DEPLOYMENT, **said):
        """Set or change a quota; when (µs) it was done."""
        stands = [
            row for row in await rows(self.rig.database, "quota") if (row.owner, row.name) == (owner, name)
        ]
        wanted = Wanted(
            owner=owner,
            name=name,
            said=said,
            version=stands[0].version if stands else None,
            reason="a test",
            who="tests",
        )
        await self.rig.gateway.quotas.put(wanted)
        return now()

    # What came of it.

    def sent(self, **keys):
        """When (µs) the simulators were asked, of the lines with these values."""
        return paces.instants(self.rig.reached(), **keys)

    def sent_to(self, numbers):
        """When (µs) the simulators were asked to text these numbers."""
        return sorted(paces.instant(line) for line in self.rig.reached() if line["to"] in numbers)

    def reached(self):
        """How many lines the ledger has: cheap, however many."""
        return self.rig.simulators.path.read_bytes().count(b"\n")

    def reached_twice(self):
        """Who was reached more than once."""
        return {to for to, times in Counter(line["to"] for line in self.rig.reached()).items() if times > 1}

    async def marked_s(self, died):
        """Seconds from each death (s since 1970, by process) to the record that one of its calls is unknown, sorted."""
        database = self.rig.database
        (clock,) = await rows(database, "clock")
        pids = {row.id: int(row.place.rpartition(":")[2]) for row in await rows(database, "owner")}
        whose = {row.ref: pids[row.owner] for row in await rows(database, "attempt") if row.owner in pids}
        marks = await rows(database, "record", "kind = 'outcome' AND state = 'unknown'")
        return sorted(
            (mark.at - clock.offset_us) / 1e6 - died[pid]
            for mark in marks
            if (pid := whose.get(mark.attempt)) in died and b"owner_lost" in bytes(mark.leaf)
        )

    async def sources(self):
        """Who grants the pace, as SQL says it."""
        return {row.source for row in await rows(self.rig.database, "live")}

    async def until(self, true, patience=PATIENCE_S):
        """Wait for what the workers bring about."""
        try:
            return await until(true, patience)
        except TimeoutError:
            attempts = Counter(attempt.state for attempt in await self.rig.attempts())
            message = f"waited {patience} s: {await self.rig.states()}, {dict(attempts)}, {self.said()}"
            raise AssertionError(message) from None

    async def goes_on(self, seconds):
        """Let it run; every worker must live to the end of it."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            await asyncio.sleep(min(1.0, left))
            assert [w.poll() for w in self.workers] == [None] * len(self.workers), self.said()


async def until(true, patience=PATIENCE_S):
    """Wait for what other processes bring about."""
    async with asyncio.timeout(patience):
        while not (found := await true()):  # noqa: ASYNC110 (other processes set no event)
            await asyncio.sleep(0.1)
    return found


def now():
    """The clock of this machine, which is the simulators', in µs."""
    return time.time_ns() // 1000


async def upgraded(url):
    """Every table as the commands make it, and the tenants."""
    database = Database(url)
    await migrate.upgrade(database)
    async with database.write() as conn:
        await conn.execute(insert(tenant), [{"name": name, "created_at": 0} for name in TENANTS])
    await database.aclose()


@asynccontextmanager
async def brought_up(url, folder, simulators, workers, *, shared=None, **options):
    """A fleet over an empty database: the policy clock stands at sendrig's NOW when it begins.

    `shared`: tenants that share the account sms-cn, by weight.
    """
    if shared is not None:
        simulators = Shared(simulators.ports, simulators.path, weights=shared)
    ring = KeyRing.create(folder / "keyring.json")
    server = Redis(folder / "redis")
    async with AsyncExitStack() as stack:
        await server.start()
        stack.callback(server.kill)
        rig = await stack.enter_async_context(
            sendrig.opened(url, url, ring, simulators, redis=redis_target(server.url), **options)
        )
        environ = {
            **{key: value for key, value in os.environ.items() if not key.startswith("GATEWAY_")},
            "GATEWAY_DATABASE_URL": f"{url}?sslmode=disable",
            "GATEWAY_VAULT_URL": url,
            "GATEWAY_REDIS_URL": server.url,
            "GATEWAY_KEYRING": str(folder / "keyring.json"),
            "GATEWAY_PUBLIC_URL": rig.gateway.place.public_url,
            "GATEWAY_LOG_LEVEL": "warning",
        }
        made = Fleet(rig, server, environ, folder)
        stack.push_async_callback(made.end)
        await made.all_join(workers)
        yield made
