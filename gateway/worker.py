"""One worker process: drains what the bell or the sweep names, and settles what others left."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine

from gateway.errors import Unavailable
from gateway.live import EVERY_S
from gateway.store.owners import Owners
from gateway.sweep import forever
from gateway.tasks import end
from gateway.telemetry import get
from gateway.wiring import Worker

REFRESH_S = 2.0
"""Configuration that ops change is taken up within this."""

LEFT_S = 10.0
"""So long after the longest call of any account a worker that was told to end is over, whatever the store does."""
ASKED_S = 1.0
"""So often a worker looks whether it is told to take nothing new."""

log = get(__name__)


async def work(parts: Worker, stop: asyncio.Event, *, seen: bool) -> None:
    """Work until `stop`, then drain: take nothing new, finish what is being called, let go of the rest.

    `seen`: somebody may ask this process for its metrics; else it reads nothing for them.

    When outcomes can no longer be written the process must end: only its death lets others settle its calls.
    """
    await parts.owners.register()
    await parts.accounts.refresh()
    await parts.live.refresh(parts.owners.id)
    outcomes = asyncio.create_task(parts.dispatch.run())
    duties = [asyncio.create_task(duty()) for duty in _duties(parts, seen=seen)]
    stopped = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({stopped, outcomes}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        parts.dispatch.quiet()
        await end((stopped, *duties))
    if outcomes.done():
        outcomes.result()
    await drain(parts, outcomes)
    log.info("drained")


async def drain(parts: Worker, outcomes: asyncio.Task[None]) -> None:
    """Finish what is being called, let go of the rest, and say goodbye.

    Unavailable when that is not done in time: what is left to this process's name others settle.
    """
    try:
        async with asyncio.timeout(parts.accounts.longest_call_s() + LEFT_S):
            await parts.dispatch.finish()
            await parts.drains.finish()
            await end([outcomes])
            await parts.owners.leave()
    except Unavailable:  # all is written; who does not say goodbye is judged by its lock
        log.warning("store_away")
    except TimeoutError:
        raise Unavailable("what was called could not be written: others settle it") from None


def _duties(parts: Worker, *, seen: bool) -> list[Callable[[], Coroutine[None, None, None]]]:
    duties: list[Callable[[], Coroutine[None, None, None]]] = [
        parts.sweep.run,
        parts.reconcile.run,
        parts.backlog.run if seen else parts.backlog.fold,
        parts.pace.run,
        parts.followup.run,
        parts.probing.run,
        parts.upkeep.run,
        lambda: forever(parts.accounts.refresh, lambda: REFRESH_S),
        lambda: forever(lambda: parts.live.refresh(parts.owners.id), lambda: EVERY_S),
    ]
    if seen:
        duties.append(parts.watch.run)
    duties.append(lambda: _until_quiet(parts))
    return duties


async def _until_quiet(parts: Worker) -> None:
    """Hear the bell until an operator says otherwise (`gateway worker quiet`): then take nothing new, and stay."""
    hearing = [] if parts.listener is None else [asyncio.create_task(parts.listener.run())]
    try:
        while not await _told(parts.owners):  # noqa: ASYNC110 (it is told in SQL)
            await asyncio.sleep(ASKED_S)
        parts.dispatch.quiet()
        log.info("quiet")
    finally:
        await end(hearing)


async def _told(owners: Owners) -> bool:
    """Whether this worker was told to be quiet; a store that is away tells nothing."""
    try:
        return await owners.told_quiet()
    except Unavailable:
        return False
