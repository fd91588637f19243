"""The rivals on the stand: the obvious program under arq and under Celery, the bare loop, and the promise alone."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import asyncpg
import orjson
import redis
from arq.connections import ArqRedis, RedisSettings, create_pool
from arq.constants import default_queue_name, job_key_prefix
from arq.jobs import serialize_job
from posting import run_fast
from stand import HERE, Program, Stand, StandError, run, until
from work import DUE_AT, batches, job

RIVALS = HERE / "rivals"
READY, GO = "bench:ready", "bench:go"
PIPELINED = 1000
DAY_MS = 86_400_000
CHILDREN = 4
AT_ONCE = 32
TABLES = (
    """CREATE TABLE wanted (
        id text PRIMARY KEY, borrower text NOT NULL, job text NOT NULL, at timestamptz NOT NULL DEFAULT now())""",
    """CREATE TABLE sent (
        id bigserial PRIMARY KEY, reminder text NOT NULL, borrower text NOT NULL, channel text NOT NULL,
        address text NOT NULL, text text NOT NULL, provider_id text, sent_at timestamptz NOT NULL DEFAULT now())""",
)
PROMISE_TABLES = (
    "ALTER TABLE wanted ADD state text NOT NULL DEFAULT 'waiting', ADD attempt text",
    "CREATE INDEX ON wanted (state, id)",
    """CREATE TABLE attempt (
        ref text PRIMARY KEY, reminder text NOT NULL, state text NOT NULL, text_enc bytea NOT NULL,
        deadline timestamptz NOT NULL, called_at timestamptz, ended_at timestamptz, provider_id text)""",
    "CREATE INDEX ON attempt (state, deadline)",
    "CREATE TABLE record (id text PRIMARY KEY, leaf bytea NOT NULL)",
)


class Rival(Protocol):
    """One of them, with its work before it and its workers waiting for `begin`."""

    workers: Sequence[Program]

    def begin(self) -> None:
        """Let it go."""

    def states(self) -> object:
        """What is left, for when it stalls."""


def environ(stand: Stand, database: str) -> dict[str, str]:
    """What the rivals' processes are told."""
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join((str(RIVALS), str(HERE))),
        "BENCH_POSTGRES": stand.postgres.url(database),
        "BENCH_REDIS": str(stand.valkey.port),
        "BENCH_TWILIO": str(stand.providers.twilio),
        "BENCH_SMTP": str(stand.providers.smtp),
        "BENCH_OFFSET_S": str(DUE_AT.timestamp() - time.time()),
    }


@contextmanager
def _fresh(stand: Stand) -> Iterator[dict[str, str]]:
    """An empty database and an empty Valkey."""
    stand.valkey.say("FLUSHALL")
    stand.postgres.say("CREATE DATABASE rival")
    stand.postgres.say(*TABLES, on="rival")
    try:
        yield environ(stand, "rival")
    finally:
        stand.postgres.say("DROP DATABASE rival WITH (FORCE)")


class _Arq:
    def __init__(self, stand: Stand, env: dict[str, str], workers: int) -> None:
        self._stand = stand
        command = [sys.executable, RIVALS / "arq_job.py"]
        self.workers = [run(f"arq{number}", command, stand.logs, env) for number in range(workers)]

    def ready(self) -> bool:
        _living(self.workers)
        return int(self._stand.valkey.say("GET", READY) or 0) == len(self.workers)

    def begin(self) -> None:
        self._stand.valkey.say("SET", GO, 1)

    def states(self) -> object:
        return {"queued": self._stand.valkey.say("ZCARD", default_queue_name)}


@contextmanager
def under_arq(stand: Stand, count: int, channels: str, workers: int) -> Iterator[Rival]:
    """(b)."""
    with _fresh(stand) as env:
        enqueue(stand, count, channels)
        made = _Arq(stand, env, workers)
        try:
            until(made.ready, "arq's workers")
            yield made
        finally:
            _end(made.workers)


def enqueue(stand: Stand, count: int, channels: str) -> None:
    """What arq's `enqueue_job` writes, for many jobs in one round trip."""
    with redis.Redis(port=stand.valkey.port) as client:
        for numbers in batches(range(count), PIPELINED):
            now = round(time.time() * 1000)
            with client.pipeline(transaction=False) as pipe:
                for number in numbers:
                    name = f"j{number}"
                    args = (job(number, channels),)
                    said = serialize_job("remind", args, {}, None, now, serializer=orjson.dumps)
                    pipe.psetex(job_key_prefix + name, DAY_MS, said)
                    pipe.zadd(default_queue_name, {name: now})
                pipe.execute()


class _Celery:
    def __init__(self, stand: Stand, env: dict[str, str], workers: int) -> None:
        self._stand = stand
        self.workers = [
            run(
                f"celery{number}",
                [
                    *(sys.executable, "-m", "celery", "-A", "celery_job", "worker", "-Q", "idle"),
                    *("-c", CHILDREN, "-n", f"w{number}@bench", "-O", "fair", "-l", "warning"),
                    *("--without-gossip", "--without-mingle", "--without-heartbeat"),
                ],
                stand.logs,
                env,
                cwd=stand.folder,
            )
            for number in range(workers)
        ]

    def ready(self) -> bool:
        _living(self.workers)
        return len(self._control("ping")) == len(self.workers)

    def begin(self) -> None:
        self._control("add_consumer", queue="bench")

    def states(self) -> object:
        return {"queued": self._stand.valkey.say("LLEN", "bench")}

    def _control(self, word: str, **more: Any) -> list[Any]:
        from celery import Celery  # noqa: PLC0415 (of the extra `bench`)

        with Celery(broker=self._stand.valkey.url) as app:
            found: list[Any] = app.control.broadcast(word, arguments=more, reply=True, timeout=1)
        return found


@contextmanager
def under_celery(stand: Stand, count: int, channels: str, workers: int) -> Iterator[Rival]:
    """(c)."""
    from celery import Celery  # noqa: PLC0415 (of the extra `bench`)

    with _fresh(stand) as env:
        with Celery(broker=stand.valkey.url) as app:
            app.conf.update(task_ignore_result=True)
            for number in range(count):
                app.send_task("celery_job.remind", (job(number, channels),), queue="bench")
        made = _Celery(stand, env, workers)
        try:
            until(made.ready, "Celery's workers")
            yield made
        finally:
            _end(made.workers)


class _Told:
    """Programs that begin at a line on their input, and end at another."""

    def __init__(self, stand: Stand, env: dict[str, str], commands: Sequence[Sequence[object]]) -> None:
        self.workers = [
            run(
                f"told{number}",
                [sys.executable, *command],
                stand.logs,
                env,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
            for number, command in enumerate(commands)
        ]
        for worker in self.workers:
            assert worker.process.stdout is not None  # noqa: S101 (it was opened)
            worker.process.stdout.readline()
        _living(self.workers)

    def begin(self) -> None:
        self._line()

    def end(self) -> None:
        self._line()
        _end(self.workers)
        for worker in self.workers:
            for pipe in (worker.process.stdin, worker.process.stdout):
                assert pipe is not None  # noqa: S101
                pipe.close()

    def _line(self) -> None:
        for worker in self.workers:
            assert worker.process.stdin is not None  # noqa: S101
            with contextlib.suppress(BrokenPipeError):
                worker.process.stdin.write(b"\n")
                worker.process.stdin.flush()

    def states(self) -> object:
        return "see told0.log with --keep-logs"


@contextmanager
def bare_loop(stand: Stand, count: int, channels: str, workers: int) -> Iterator[Rival]:
    """(d)."""
    shares = [(RIVALS / "bare.py", count, channels, share, workers) for share in range(workers)]
    made = _Told(stand, environ(stand, "postgres"), shares)
    try:
        yield made
    finally:
        made.end()


@contextmanager
def promise_alone(stand: Stand, count: int, channels: str, workers: int) -> Iterator[Rival]:
    """(e)."""
    with _fresh(stand) as env:
        stand.postgres.say(*PROMISE_TABLES, on="rival")
        asyncio.run(_fill(stand, count, channels))
        made = _Told(stand, env, [(RIVALS / "promise.py", channels)] * workers)
        try:
            yield made
        finally:
            made.end()


async def _fill(stand: Stand, count: int, channels: str) -> None:
    conn = await asyncpg.connect(stand.postgres.url("rival"))
    try:
        rows = [
            (f"{number:08d}", "", orjson.dumps(job(number, channels)).decode()) for number in range(count)
        ]
        await conn.copy_records_to_table("wanted", records=rows, columns=("id", "borrower", "job"))
    finally:
        await conn.close()


async def _enqueue_singly(stand: Stand, database: str, count: int) -> float:
    pool: ArqRedis = await create_pool(RedisSettings(port=stand.valkey.port), job_serializer=orjson.dumps)
    left = iter(range(count))
    async with asyncpg.create_pool(stand.postgres.url(database), min_size=16, max_size=16) as rows:

        async def one_by_one() -> None:
            for number in left:
                asked = job(number, "sms")
                await rows.execute(
                    "INSERT INTO wanted (id, borrower, job) VALUES ($1, $2, $3)",
                    asked["id"],
                    asked["borrower"],
                    orjson.dumps(asked).decode(),
                )
                await pool.enqueue_job("remind", asked, _job_id=asked["id"])

        started = time.monotonic()
        await asyncio.gather(*(one_by_one() for _ in range(AT_ONCE)))
        took = time.monotonic() - started
    await pool.aclose()
    return took


def enqueue_singly(stand: Stand, count: int) -> float:
    """What handing in costs with (b): a durable row and a job each, so many at once; the seconds it took."""
    with _fresh(stand):
        return float(run_fast(_enqueue_singly(stand, "rival", count)))


def _living(programs: Sequence[Program]) -> None:
    for program in programs:
        if not program.alive():
            raise StandError(f"{program.name} does not start: see {program.name}.log with --keep-logs")


def _end(programs: Sequence[Program]) -> None:
    for program in programs:
        program.end()
