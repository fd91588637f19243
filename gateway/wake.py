"""The bell: arq tells workers that a channel has work. It carries the channel and nothing else.

Correctness never depends on it: the sweep of every worker finds what the bell forgot. arq loses jobs on an
exception, a time-out or a flushed Redis, drops a job whose id is queued or running, and stops at a lost
connection; so the job ids carry a 50 ms bucket, nothing is kept, nothing is retried, and a supervisor
outlives Redis.

arq would ask Redis for jobs many times a second. Here whoever rings leaves a token, and a worker that drains nothing
waits at it: a ring wakes one of them at once, and silence costs nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from typing import Any

import orjson
from arq.connections import ArqRedis, RedisSettings, create_pool
from arq.worker import Worker, func
from redis.exceptions import RedisError

from gateway.errors import Unavailable
from gateway.settings import RedisTarget
from gateway.tasks import end
from gateway.telemetry import get

QUEUE = "gateway:wake"
JOB = "drain"
BUCKET_S = 0.05
RUNG = "gateway:rung"
"""A list that holds one element while jobs came that nobody has looked for."""
POLL_S = 0.03
"""Seconds between two looks for jobs at least."""
BUSY_S = 0.2
"""A worker that drains leaves tokens to others, and looks for jobs so often by itself."""
QUIET_S = 1
"""So often it looks when nobody rings: a token may be lost with whoever took it."""
ANSWERS_S = 5.0
"""A Redis that says nothing for so long is away."""
PAUSE_S = 1.0
JOB_S = 20.0
"""A job waits so long for its drain; the drain goes on, and other rings are heard."""

log = get(__name__)

Drain = Callable[[str], Awaitable[None]]


class Drains:
    """The drains of this process: one per channel at most; a ring during one makes it pick once more."""

    def __init__(self, drain: Drain) -> None:
        self._drain = drain
        self._running: dict[str, asyncio.Task[None]] = {}
        self._again: set[str] = set()

    def start(self, channel: str) -> asyncio.Task[None]:
        """Drain a channel, now or once more; the task ends when nothing of it can start."""
        running = self._running.get(channel)
        if running is not None:
            self._again.add(channel)
            return running
        task = asyncio.create_task(self._run(channel))
        self._running[channel] = task
        return task

    async def _run(self, channel: str) -> None:
        try:
            self._again.add(channel)
            while channel in self._again:
                self._again.discard(channel)
                await self._drain(channel)
        except Unavailable:
            log.warning("store_away")
        except Exception as wrong:
            log.exception("drain_failed", error=type(wrong).__name__)
        finally:
            self._running.pop(channel, None)

    @property
    def busy(self) -> bool:
        """Whether any runs."""
        return bool(self._running)

    async def one_over(self, within_s: float) -> None:
        """Wait until one of those that run is over, so long at most."""
        await asyncio.wait(
            list(self._running.values()), timeout=within_s, return_when=asyncio.FIRST_COMPLETED
        )

    async def finish(self) -> None:
        """Wait for every drain that runs."""
        while self._running:
            await asyncio.wait(list(self._running.values()))


def redis_settings(target: RedisTarget) -> RedisSettings:
    """Arq's settings for a plain or sentinel target; quick to give up, the caller comes again."""
    sentinel = target.kind == "sentinel"
    host, port = target.hosts[0]
    return RedisSettings(
        host=list(target.hosts) if sentinel else host,
        port=port,
        unix_socket_path=target.path,
        database=target.db,
        username=target.username,
        password=target.password.reveal("to log in to Redis") if target.password else None,
        ssl=target.tls,
        sentinel=sentinel,
        sentinel_master=target.service or "mymaster",
        conn_timeout=1,
        conn_retries=0,
    )


def _dumps(job: dict[str, Any]) -> bytes:
    return orjson.dumps(job, default=str)


class Bell:
    """Rings for channels. Rings of one tick go out together; a Redis that is away costs nothing but the ring."""

    def __init__(self, target: RedisTarget, clock: Callable[[], float]) -> None:
        self._settings = redis_settings(target)
        self._clock = clock
        self._pool: ArqRedis | None = None
        self._due: set[str] = set()
        self._flush: asyncio.Task[None] | None = None

    def ring(self, channels: Iterable[str]) -> None:
        """Ask the workers to drain these; best effort, never waits and never fails."""
        self._due.update(channels)
        if self._flush is None or self._flush.done():
            self._flush = asyncio.create_task(self._send())

    async def _send(self) -> None:
        await asyncio.sleep(0)
        while self._due:
            rung, self._due = self._due, set()
            with suppress(RedisError, OSError, asyncio.TimeoutError):
                await self._enqueue(rung)

    async def _enqueue(self, channels: set[str]) -> None:
        if self._pool is None:
            self._pool = await create_pool(
                self._settings, job_serializer=_dumps, job_deserializer=orjson.loads, default_queue_name=QUEUE
            )
        bucket = int(self._clock() / BUCKET_S)
        for channel in sorted(channels):
            await self._pool.enqueue_job(JOB, channel, _job_id=f"{channel}:{bucket}")
        async with self._pool.pipeline(transaction=True) as pipe:
            pipe.lpush(RUNG, b"1")
            pipe.ltrim(RUNG, 0, 0)
            await pipe.execute()

    async def aclose(self) -> None:
        """Close the connection."""
        if self._flush is not None:
            await self._flush
        if self._pool is not None:
            with suppress(RedisError, OSError, asyncio.TimeoutError):
                await self._pool.aclose(close_connection_pool=True)


class Listener:
    """The arq worker of this process, restarted as long as it is wanted."""

    def __init__(self, target: RedisTarget, drains: Drains, *, longest_call_s: float) -> None:
        self._settings = redis_settings(target)
        self._drains = drains
        self._timeout = 20 + longest_call_s + 10
        self.connected = False

    async def run(self) -> None:
        """Listen until cancelled. A lost Redis is tried again every second; the sweep works meanwhile."""
        while True:
            try:
                await self._listen()
            except (TimeoutError, RedisError, OSError) as lost:
                log.warning("redis_away", error=type(lost).__name__)
            finally:
                self.connected = False
            await asyncio.sleep(PAUSE_S)

    async def _listen(self) -> None:
        async def drain(ctx: dict[Any, Any], channel: str, **_none: Any) -> None:  # noqa: ARG001 (arq's form)
            await asyncio.wait([self._drains.start(channel)], timeout=JOB_S)

        pool = await create_pool(
            self._settings, job_serializer=_dumps, job_deserializer=orjson.loads, default_queue_name=QUEUE
        )
        worker = _Waiting(
            self._drains,
            functions=[func(drain, name=JOB, keep_result=0, timeout=self._timeout, max_tries=1)],
            redis_pool=pool,
            queue_name=QUEUE,
            handle_signals=False,
            poll_delay=POLL_S,
            max_jobs=64,
            keep_result=0,
            job_timeout=self._timeout,
            job_serializer=_dumps,
            job_deserializer=orjson.loads,
            health_check_interval=3600,
        )
        self.connected = True
        try:
            await worker.async_run()
        finally:
            await _let_go(worker, pool)


class _Waiting(Worker):
    """Arq's worker, that looks for jobs when it is rung for."""

    def __init__(self, drains: Drains, **settings: Any) -> None:
        super().__init__(**settings)
        self._drains = drains

    async def _poll_iteration(self) -> None:
        if self._drains.busy:
            await self._drains.one_over(BUSY_S)
        else:
            async with asyncio.timeout(QUIET_S + ANSWERS_S):
                await self.pool.blpop([RUNG], timeout=QUIET_S)  # type: ignore[misc]  # typed sync
        await super()._poll_iteration()


async def _let_go(worker: Worker, pool: ArqRedis) -> None:
    """End its tasks (drains go on by themselves) and its connections; arq's own `close` stops at the first error."""
    await end(worker.tasks.values())
    with suppress(RedisError, OSError, asyncio.TimeoutError):
        await pool.aclose(close_connection_pool=True)
