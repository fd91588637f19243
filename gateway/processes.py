"""Several processes of one command: told to end together, and each that died replaced.

They share nothing but what they would share on several hosts; whoever leads a duty is settled in SQL.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Mapping, Sequence

from gateway.telemetry import get

LIVED_S, SOON_S, LATE_S = 30.0, 1.0, 30.0
"""Who lived for so long is replaced soon; who did not, after twice the time before, up to the last."""
PROGRAM = (sys.executable, "-c", "from gateway.cli import main; main()")

log = get(__name__)


async def several(
    words: Sequence[Sequence[str]], environ: Mapping[str, str], stop: asyncio.Event
) -> Sequence[int]:
    """Run `gateway` with each of these words until `stop`, then end all as an init system does; their exit codes."""
    return await asyncio.gather(*(_kept([*PROGRAM, *own], environ, stop) for own in words))


async def _kept(command: Sequence[str], environ: Mapping[str, str], stop: asyncio.Event) -> int:
    """One of them, and whoever takes its place; the exit code of the last."""
    loop, wait = asyncio.get_running_loop(), SOON_S
    stopping = asyncio.create_task(stop.wait())
    try:
        while True:
            began = loop.time()
            process = await asyncio.create_subprocess_exec(*command, env=environ, start_new_session=True)
            ended = asyncio.create_task(process.wait())
            await asyncio.wait([ended, stopping], return_when=asyncio.FIRST_COMPLETED)
            if stop.is_set():
                if not ended.done():
                    process.send_signal(signal.SIGTERM)
                return await ended
            wait = SOON_S if loop.time() - began > LIVED_S else min(2 * wait, LATE_S)
            log.error("process_died", pid=process.pid, code=str(ended.result()))
            await asyncio.wait([stopping], timeout=wait)
            if stop.is_set():
                return ended.result()
    finally:
        stopping.cancel()
