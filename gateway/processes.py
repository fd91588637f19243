"""Several processes of one command: told to end together, and each that died replaced.

They share nothing but what they would share on several hosts; whoever leads a duty is settled in SQL. Each has a socket
as its standard input whose other end is here. Its end tells a process to drain, whether it was closed or whoever held
it is gone: none is left without a parent. No signal does, as an init system may send its own to each of a service's
processes, and the second that a process gets ends it at once.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress

from gateway.telemetry import get

LIVED_S, SOON_S, LATE_S = 30.0, 1.0, 30.0
"""Who lived for so long is replaced soon; who did not, after twice the time before, up to the last."""
PROGRAM = (sys.executable, "-c", "from gateway.cli import main; main()")
UNUSABLE = 2
"""The exit code of a set-up that cannot be used."""
AT_ONCE = 1
"""The exit code of who was told a second time to end."""
_INPUT = 0
_AT_WORK = b"."

log = get(__name__)


async def several(
    words: Sequence[Sequence[str]], environ: Mapping[str, str], stop: asyncio.Event, at_once: asyncio.Event
) -> int:
    """Run `gateway` with each of these words until `stop`, let all drain unless told `at_once`; the exit code.

    Each calls `heed`. The set-up is that of all: if one cannot use it as it first starts, `stop` is set here. A later
    one may only have started while a server was away.
    """
    codes = await asyncio.gather(*(_kept([*PROGRAM, *own], environ, stop, at_once) for own in words))
    return UNUSABLE if UNUSABLE in codes else max(codes)


def heed(stop: asyncio.Event) -> None:
    """As one of several: `stop` is set when told to end, or when nobody is left to tell."""
    loop = asyncio.get_running_loop()

    def ended() -> None:
        loop.remove_reader(_INPUT)
        stop.set()

    loop.add_reader(_INPUT, ended)  # nothing is ever sent: all that can be heard is the end, or a reset


def at_work() -> None:
    """As one of several: tell that the set-up can be used."""
    with suppress(OSError):  # nobody is left to tell
        os.write(_INPUT, _AT_WORK)


async def _kept(
    command: Sequence[str], environ: Mapping[str, str], stop: asyncio.Event, at_once: asyncio.Event
) -> int:
    """One of them, and whoever takes its place; the exit code of the last."""
    loop, wait, first = asyncio.get_running_loop(), SOON_S, True
    stopping, hurrying = (asyncio.create_task(told.wait()) for told in (stop, at_once))
    try:
        while True:
            began = loop.time()
            ours, theirs = socket.socketpair()
            with ours:
                with theirs:
                    process = await asyncio.create_subprocess_exec(
                        *command, env=environ, stdin=theirs.fileno(), start_new_session=True
                    )
                ended = asyncio.create_task(process.wait())
                await asyncio.wait([ended, stopping], return_when=asyncio.FIRST_COMPLETED)
                if ended.done() and first and ended.result() == UNUSABLE and not _worked(ours):
                    stop.set()
            if stop.is_set():
                await asyncio.wait([ended, hurrying], return_when=asyncio.FIRST_COMPLETED)
                if not ended.done():
                    with suppress(ProcessLookupError):  # it ended just now
                        process.kill()  # as its own second signal would, and one that hangs, too
                    await ended
                    return AT_ONCE
                return _code(ended.result())
            first = False
            wait = SOON_S if loop.time() - began > LIVED_S else min(2 * wait, LATE_S)
            log.error("process_died", pid=process.pid, code=str(ended.result()))
            await asyncio.wait([stopping], timeout=wait)
            if stop.is_set():
                return _code(ended.result())
    finally:
        stopping.cancel()
        hurrying.cancel()


def _worked(ours: socket.socket) -> bool:
    """Whether the process at the other end, which has ended, ever was at work."""
    return ours.recv(1) == _AT_WORK


def _code(ended: int) -> int:
    """Its exit code; of one that a signal ended, as a shell has it."""
    return ended if ended >= 0 else 128 - ended
