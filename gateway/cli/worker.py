"""`gateway worker`: sends what is due. It loads no web framework unless it answers for its health."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack

import click

from gateway.cli.mistakes import Group
from gateway.cli.options import PlaceOptions, place_options
from gateway.cli.serving import SERVERS, begin, clustered, run, serve
from gateway.cli.workers import list_command, quiet
from gateway.processes import at_work, heed, several
from gateway.settings import Settings, load, require_servers, split_listen
from gateway.wiring import Gateway
from gateway.worker import work


@click.group(invoke_without_command=True, cls=Group)
@place_options(*SERVERS, "worker_listen")
@click.option(
    "--processes",
    type=click.IntRange(1, 64),
    default=1,
    show_default=True,
    help="So many of them under one that replaces whoever dies; the second listens on the next port, and so on.",
)
@click.option("--with-parent", is_flag=True, hidden=True, help="Told to end by the end of standard input.")
@click.pass_context
def worker(context: click.Context, processes: int, options: PlaceOptions, *, with_parent: bool) -> None:
    """Send what is due, against PostgreSQL and Redis. Any number of these may run.

    The commands below are for those that run.
    """
    if context.invoked_subcommand is not None:
        return
    settings = load(**options)
    require_servers(settings)
    begin(settings)
    if processes == 1:
        run(lambda stop: _worker(settings, stop, with_parent=with_parent))
        return
    words = [["worker", "--with-parent", *_listening(settings, number)] for number in range(processes)]
    environ = os.environ | {
        f"GATEWAY_{name.upper()}": said for name, said in options.items() if said is not None
    }
    at_once = asyncio.Event()
    run(lambda stop: _workers(words, environ, stop, at_once), again=at_once.set)


def _listening(settings: Settings, number: int) -> list[str]:
    """The words by which one of several listens on a port of its own; of 0 each takes any that is free."""
    if settings.worker_listen is None:
        return []
    host, port = split_listen(settings.worker_listen)
    at = f"[{host}]" if ":" in host else host
    return ["--worker-listen", f"{at}:{port + number if port else 0}"]


async def _workers(
    words: Sequence[Sequence[str]], environ: Mapping[str, str], stop: asyncio.Event, at_once: asyncio.Event
) -> None:
    if code := await several(words, environ, stop, at_once):
        raise SystemExit(code)


worker.add_command(list_command)
worker.add_command(quiet)


async def _worker(settings: Settings, stop: asyncio.Event, *, with_parent: bool) -> None:
    if with_parent:
        heed(stop)
    async with AsyncExitStack() as stack:
        if settings.worker_listen is None:
            gateway = await _usable(settings, stack, with_parent=with_parent)
            await work(gateway.worker(), stop, seen=False)
            return
        from gateway.api.app import build_health  # noqa: PLC0415 (a third of a second, for those that listen alone)
        from gateway.api.server import bind, server  # noqa: PLC0415

        taken = stack.enter_context(bind(settings.worker_listen))
        gateway = await _usable(settings, stack, with_parent=with_parent)
        doors = asyncio.create_task(serve(gateway, server(build_health(gateway.services())), taken, stop))
        stack.push_async_callback(asyncio.wait, [doors])
        await work(gateway.worker(), stop, seen=True)


async def _usable(settings: Settings, stack: AsyncExitStack, *, with_parent: bool) -> Gateway:
    gateway = await clustered(settings, stack)
    if with_parent:
        at_work()
    return gateway
