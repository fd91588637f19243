"""One worker process: drains what the bell or the sweep names, and settles what others left."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine

from gateway.live import EVERY_S
from gateway.sweep import forever
from gateway.telemetry import get
from gateway.wiring import Worker

REFRESH_S = 2.0
"""Configuration that ops change is taken up within this."""

log = get(__name__)


async def work(parts: Worker, stop: asyncio.Event) -> None:
    """Work until `stop`, then drain: take nothing new, finish what is being called, let go of the rest.

    When outcomes can no longer be written the process must end: only its death lets others settle its calls.
    """
    await parts.owners.register()
    await parts.accounts.refresh()
    await parts.live.refresh(parts.owners.id)
    outcomes = asyncio.create_task(parts.dispatch.run())
    duties = [asyncio.create_task(duty()) for duty in _duties(parts)]
    stopped = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({stopped, outcomes}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        parts.dispatch.quiet()
        for task in (stopped, *duties):
            task.cancel()
        await asyncio.gather(stopped, *duties, return_exceptions=True)
    if outcomes.done():
        outcomes.result()
    await parts.dispatch.finish()
    await parts.drains.finish()
    outcomes.cancel()
    await asyncio.gather(outcomes, return_exceptions=True)
    await parts.owners.leave()
    log.info("drained")


def _duties(parts: Worker) -> list[Callable[[], Coroutine[None, None, None]]]:
    duties: list[Callable[[], Coroutine[None, None, None]]] = [
        parts.sweep.run,
        parts.reconcile.run,
        parts.backlog.run,
        parts.pace.run,
        parts.watch.run,
        parts.followup.run,
        parts.probing.run,
        parts.upkeep.run,
        lambda: forever(parts.accounts.refresh, lambda: REFRESH_S),
        lambda: forever(lambda: parts.live.refresh(parts.owners.id), lambda: EVERY_S),
    ]
    if parts.listener is not None:
        duties.append(parts.listener.run)
    return duties
