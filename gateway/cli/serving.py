"""What the long-running commands share: how they begin, listen to signals, and build their parts against servers."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
import sys
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

from gateway import tasks, telemetry
from gateway.cli.session import API_KEY
from gateway.settings import Settings, unknown_variables
from gateway.store import migrate
from gateway.vault import KeyRing
from gateway.wiring import Gateway, Place

if TYPE_CHECKING:
    from gateway.api.server import Server

SERVERS = (
    "redis_url",
    "database_url",
    "database_direct_url",
    "vault_url",
    "public_url",
    "templates",
    "packs",
    "calendars",
    "keyring",
    "log_level",
    "policy_offset_allowed",
)
"""Options of the commands that bring no servers along."""

log = telemetry.get(__name__)


def begin(settings: Settings) -> None:
    """What comes before all else: the log, and memory that is not looked through again."""
    telemetry.configure(settings.log_level, json=not sys.stderr.isatty())
    gc.collect()
    gc.freeze()  # what is loaded stays: not walking it again keeps the loop's pauses short
    gc.set_threshold(10_000, 20, 20)
    for name in unknown_variables(os.environ, also=[API_KEY]):
        log.warning("setting_unknown", setting=name)


def run(
    main: Callable[[asyncio.Event], Coroutine[Any, Any, None]],
    again: Callable[[], None] = lambda: os._exit(1),
) -> None:
    """Run a server until SIGTERM or SIGINT; a second one ends it at once, or does what `again` says."""

    async def watched() -> None:
        loop = asyncio.get_running_loop()
        telemetry.watch(loop)
        stop, told = asyncio.Event(), False

        def asked() -> None:
            nonlocal told  # `stop` may be set for other reasons: a signal that comes then is the first all the same
            if told:
                again()
            told = True
            stop.set()

        for name in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(name, asked)
        await main(stop)

    tasks.run(watched())


async def serve(gateway: Gateway, http: Server, taken: socket.socket, stop: asyncio.Event) -> None:
    """Serve until `stop`; not ready from then on, and open requests are answered."""
    serving = asyncio.create_task(http.serve(sockets=[taken]))
    await until(stop, serving)
    gateway.health.draining = True
    http.should_exit = True
    await serving


async def until(stop: asyncio.Event, *tasks: asyncio.Task[None]) -> None:
    """Wait for `stop`; a task that ends before that ends all."""
    stopped = asyncio.create_task(stop.wait())
    done, _ = await asyncio.wait({stopped, *tasks}, return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    for task in done - {stopped}:
        task.result()


async def clustered(settings: Settings, stack: AsyncExitStack) -> Gateway:
    """The parts against servers, once schema, vault and key ring agree."""
    assert settings.keyring is not None  # noqa: S101 (require_servers saw to it)
    assert settings.public_url is not None  # noqa: S101
    gateway = Gateway(
        Place(
            settings=settings,
            ring=KeyRing.load(settings.keyring),
            redis=settings.redis_url,
            public_url=settings.public_url,
        )
    )
    stack.push_async_callback(gateway.aclose)
    await migrate.check(gateway.database)
    await gateway.vault.check()
    await gateway.keep_packs()
    await gateway.accounts.refresh()
    if settings.accounts is not None and not await gateway.account_rows.accounts():
        await gateway.import_accounts(settings.accounts)
    return gateway
