"""(b) An arq job per reminder: the worker with its best settings."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import asyncpg
import orjson
from arq import Retry, Worker
from arq.connections import RedisSettings
from limits.aio.storage import RedisStorage
from limits.aio.strategies import MovingWindowRateLimiter
from obvious import CAPS, INSERT, Job, Sender, allowed_now, row_of, text_of, with_uvloop

MAX_JOBS = 100
"""More or fewer made no difference that could be measured (50, 200, 300, 500)."""
POLL_S = 0.01
ROWS_AT_ONCE = 16
READY, GO = "bench:ready", "bench:go"
PORT = int(os.environ["BENCH_REDIS"])


async def remind(ctx: dict[str, Any], job: Job) -> None:
    """Reach one borrower."""
    if not allowed_now(job):
        raise Retry(defer=600)
    limiter: MovingWindowRateLimiter = ctx["limiter"]
    if not all(await asyncio.gather(*(limiter.hit(cap, job["borrower"]) for cap in CAPS))):
        return
    subject, text = text_of(job)
    try:
        provider_id = await ctx["sender"].send(job, subject, text)
    except OSError as failed:
        raise Retry(defer=ctx["job_try"] * 5) from failed
    await ctx["rows"].execute(INSERT, *row_of(job, text, provider_id))


async def startup(ctx: dict[str, Any]) -> None:
    """Open what jobs use, then wait for the stand's word."""
    storage = RedisStorage(f"async+redis://127.0.0.1:{PORT}", implementation="redispy")
    ctx["limiter"] = MovingWindowRateLimiter(storage)
    ctx["sender"] = Sender()
    ctx["rows"] = await asyncpg.create_pool(
        os.environ["BENCH_POSTGRES"], min_size=ROWS_AT_ONCE, max_size=ROWS_AT_ONCE
    )
    await ctx["redis"].incr(READY)
    while not await ctx["redis"].exists(GO):  # noqa: ASYNC110 (another process sets no event)
        await asyncio.sleep(POLL_S)


async def shutdown(ctx: dict[str, Any]) -> None:
    """Let go of it."""
    await ctx["sender"].aclose()
    await ctx["rows"].close()


if __name__ == "__main__":
    with_uvloop()
    asyncio.set_event_loop(asyncio.new_event_loop())  # arq takes the one that stands
    Worker(
        [remind],
        redis_settings=RedisSettings(port=PORT),
        on_startup=startup,
        on_shutdown=shutdown,
        max_jobs=MAX_JOBS,
        poll_delay=POLL_S,
        keep_result=0,
        log_results=False,
        job_serializer=orjson.dumps,
        job_deserializer=orjson.loads,
    ).run()
