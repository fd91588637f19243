"""The gateway on the stand: its own processes, over HTTP, by the packs of the borrowers' place, quotas on."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
import orjson
from posting import post
from stand import Program, Stand, StandError, free_port, run, until
from work import DUE_AT, SENDER_MAIL, SENDER_NUMBER, TAKEN_AT, batches, further, item

GATEWAY = (sys.executable, "-c", "from gateway.cli import main; main()")
TENANT = "acme"
BATCH, BATCHES_AT_ONCE = 500, 4
"""Reminders of a batch, and how many batches are under way at once."""
AT_ONCE = 32
"""Single reminders under way at once."""
SECRETS = {"BENCH_TWILIO_SID": "AC" + "0" * 32, "BENCH_TWILIO_TOKEN": "bench"}
ACCOUNTS = f"""\
[[account]]
name = "sms"
tenant = "{{tenant}}"
mode = "live"
adapter = "twilio_sms"
endpoint = "http://127.0.0.1:{{twilio}}"
sender = "{SENDER_NUMBER}"
price = {{{{amount = "0.0079", currency = "USD"}}}}
[account.credentials]
account_sid = "env:BENCH_TWILIO_SID"
auth_token = "env:BENCH_TWILIO_TOKEN"
[account.settings]
pace = 100000

[[account]]
name = "mail"
tenant = "{{tenant}}"
mode = "live"
adapter = "smtp"
endpoint = "smtp://127.0.0.1:{{smtp}}"
sender = "{SENDER_MAIL}"
price = {{{{amount = "0.0001", currency = "USD"}}}}
[account.settings]
pool_size = 128
"""
QUOTA = ("each=account", "rate=100000", "burst=100000", "per_day=100000000")
"""Every start is paced and counted, and none of them waits for it."""


def bare_environ() -> dict[str, str]:
    """Nothing of a gateway that the caller has set, and the accounts' secrets."""
    others = {key: value for key, value in os.environ.items() if not key.startswith("GATEWAY_")}
    return {**others, **SECRETS, "GATEWAY_LOG_LEVEL": "warning"}


@dataclass(slots=True)
class Ours:
    """The gateway: `make` once, then any number of runs, each over databases of its own."""

    stand: Stand
    key: str = ""
    runs: int = 0

    def make(self) -> None:
        """The databases that every run begins with: schema, tenant, key, accounts, quotas."""
        self.stand.postgres.say("CREATE DATABASE gateway")
        self.stand.postgres.say("CREATE DATABASE vault")
        accounts = self.stand.folder / "accounts.toml"
        providers = self.stand.providers
        accounts.write_text(ACCOUNTS.format(tenant=TENANT, twilio=providers.twilio, smtp=providers.smtp))
        self._say("vault", "init")
        self._say("db", "upgrade")
        self._say("tenant", "create", TENANT)
        self._say("account", "import", str(accounts))
        self._say("quota", "set", "bench", *QUOTA, "--reason", "the benchmark")
        self.key = self._say(
            "apikey", "create", "--tenant", TENANT, "--role", "service", "--holder", "bench"
        ).strip()

    def _say(self, *words: str) -> str:
        done = subprocess.run(  # noqa: S603 (our own command)
            [*GATEWAY, *words],
            env=self._environ("gateway", "vault"),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise StandError(
                f"gateway {' '.join(words[:2])} ended with {done.returncode}: {done.stderr[-2000:]}"
            )
        return done.stdout

    def _environ(self, database: str, vault: str, public: str = "http://127.0.0.1:1") -> dict[str, str]:
        postgres = self.stand.postgres
        return {
            **bare_environ(),
            "GATEWAY_DATABASE_URL": f"{postgres.url(database)}?sslmode=disable",
            "GATEWAY_VAULT_URL": f"{postgres.url(vault)}?sslmode=disable",
            "GATEWAY_REDIS_URL": self.stand.valkey.url,
            "GATEWAY_KEYRING": str(self.stand.folder / "keyring.json"),
            "GATEWAY_PUBLIC_URL": public,
        }

    @contextmanager
    def served(self) -> Iterator[Run]:
        """Databases of this run's own and an API over them."""
        self.runs += 1
        database, vault = f"gateway{self.runs}", f"vault{self.runs}"
        postgres = self.stand.postgres
        for made, template in ((database, "gateway"), (vault, "vault")):
            postgres.say(f"CREATE DATABASE {made} TEMPLATE {template}")
        set_clock(self.stand, database, TAKEN_AT.timestamp())
        self.stand.valkey.say("FLUSHALL")
        public = f"http://127.0.0.1:{free_port()}"
        environ = self._environ(database, vault, public)
        api = run(
            "api", [*GATEWAY, "api", "--listen", public.removeprefix("http://")], self.stand.logs, environ
        )
        made_run = Run(self.stand, database, environ, public, self.key, api, [])
        try:
            until(made_run.ready, "the API")
            yield made_run
        finally:
            for program in (*made_run.workers, api):
                program.end()
            for name in (database, vault):
                postgres.say(f"DROP DATABASE {name} WITH (FORCE)")


def set_clock(stand: Stand, database: str, instant_s: float) -> None:
    """Let the clock that rules see go on from there."""
    stand.postgres.say(*clock_rows(instant_s), on=database)


def clock_rows(instant_s: float) -> tuple[str, str]:
    """The statements that do it."""
    offset_us = round((instant_s - time.time()) * 1e6)
    inserted = f"INSERT INTO clock (id, offset_us) VALUES (1, {offset_us})"  # noqa: S608 (a number of our own)
    return "DELETE FROM clock", inserted


@dataclass(slots=True)
class Run:
    """One gateway over its own databases."""

    stand: Stand
    database: str
    environ: dict[str, str]
    url: str
    key: str
    api: Program
    workers: list[Program]

    def ready(self) -> bool:
        """Whether the API answers."""
        if not self.api.alive():
            raise StandError("gateway api does not start: see api.log with --keep-logs")
        return asyncio.run(self._ready())

    async def _ready(self) -> bool:
        try:
            async with aiohttp.ClientSession() as http, http.get(f"{self.url}/readyz") as answer:
                return answer.status == OK
        except aiohttp.ClientError:
            return False

    def take_in(self, number: int, channels: str, *, due: bool = False) -> float:
        """The first `number` reminders, in batches; the seconds it took."""
        return self._in_batches([item(n, channels, due=due) for n in range(number)])

    def take_in_further(self, number: int, channels: str) -> float:
        """Another one for each of the first `number` borrowers, in batches; the seconds it took."""
        return self._in_batches([further(n, channels) for n in range(number)])

    def take_in_singly(self, number: int, channels: str) -> float:
        """The first `number` reminders, one POST each; the seconds it took."""
        return self._post("/v1/reminders", [orjson.dumps(item(n, channels)) for n in range(number)], AT_ONCE)

    def _in_batches(self, items: Sequence[object]) -> float:
        bodies = [orjson.dumps({"items": batch}) for batch in batches(items, BATCH)]
        return self._post("/v1/reminders/batch", bodies, BATCHES_AT_ONCE)

    def _post(self, path: str, bodies: Sequence[bytes], at_once: int) -> float:
        took, answers = post(self.url + path, self.key, bodies, at_once)
        for answer in answers:
            _taken(int(answer[:3]), answer[3:])
        return took

    def join(self, workers: int) -> list[Program]:
        """So many workers, at work, with nothing to do yet."""
        for number in range(workers):
            self.workers.append(run(f"worker{number}", [*GATEWAY, "worker"], self.stand.logs, self.environ))
        until(self._at_work, "the workers")
        time.sleep(SETTLED_S)
        return self.workers

    def _at_work(self) -> bool:
        if not all(worker.alive() for worker in self.workers):
            raise StandError("gateway worker does not start: see worker0.log with --keep-logs")
        seq = "(SELECT coalesce(max(seq), 0) FROM live)"
        (row,) = self.stand.postgres.say(
            f"SELECT count(*) AS n FROM owner WHERE dead_at IS NULL AND applied >= {seq}",  # noqa: S608
            on=self.database,
        )
        return bool(row["n"] == len(self.workers))

    def begin(self) -> None:
        """Half an hour passes on the clock that rules see: all are due."""
        set_clock(self.stand, self.database, DUE_AT.timestamp() + 1)

    def states(self) -> dict[str, int]:
        """Reminders by state and reason."""
        found = self.stand.postgres.say(
            "SELECT state, reason, count(*) AS n FROM reminder GROUP BY 1, 2", on=self.database
        )
        return {f"{row['state']} {row['reason'] or ''}".strip(): row["n"] for row in found}


OK = 200
SETTLED_S = 1.0
"""What a worker does at its start is over by then."""


def _taken(status: int, body: bytes) -> None:
    said: Any = orjson.loads(body)
    results = said.get("results", ()) if isinstance(said, dict) else ()
    if status >= 300 or any(result.get("status", OK) >= 300 for result in results):  # noqa: PLR2004
        raise StandError(f"the API answered {status}: {body[:2000].decode()}")
