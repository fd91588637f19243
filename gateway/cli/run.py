"""`gateway up` and `gateway api`: the commands that serve."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Sequence
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

import click

from examples import accounts as example_accounts
from gateway import telemetry
from gateway.accounts import parse
from gateway.api.app import build
from gateway.api.server import bind, server
from gateway.cli.mistakes import Command
from gateway.cli.options import PlaceOptions, place_options
from gateway.cli.serving import SERVERS, begin, clustered, run, serve, until
from gateway.domain import Mode, Tenant
from gateway.embedded import DataFolder, Valkey
from gateway.errors import SetupError
from gateway.settings import (
    RedisTarget,
    Settings,
    is_loopback,
    load,
    require_servers,
    split_listen,
)
from gateway.store import migrate
from gateway.store.keys import EVERY, Operator, Role
from gateway.sweep import forever
from gateway.trial import ENVIRONMENT, Simulators
from gateway.vault import embedded_ring
from gateway.wiring import OPERATOR, Gateway, Place
from gateway.worker import REFRESH_S, work

log = telemetry.get(__name__)

DEFAULT = "default"
"""The tenant that `up` makes."""
BY_HAND = Operator(who=OPERATOR, tenant=Tenant(f"{DEFAULT}/{Mode.LIVE}"))


async def _refuse_open(gateway: Gateway, listen: str) -> None:
    host, _ = split_listen(listen)
    if not is_loopback(host) and not await gateway.setup.keys(None):
        raise SetupError(
            "refusing to listen beyond this machine before there is a key: start on 127.0.0.1 first,"
            " or run `gateway apikey create`"
        )


@click.command(cls=Command)
@place_options(
    "data",
    "listen",
    "redis_url",
    "public_url",
    "accounts",
    "templates",
    "packs",
    "calendars",
    "log_level",
    "policy_offset_allowed",
)
@click.option(
    "--quarantine-s",
    type=click.FloatRange(1, 600),
    default=120.0,
    show_default=True,
    help="Seconds before a provider is asked about an unknown ending.",
)
@click.option("--no-wake", is_flag=True, help="No bell: the sweep alone finds what is due.")
def up(options: PlaceOptions, quarantine_s: float, *, no_wake: bool) -> None:
    """Run everything on this machine: API, worker, embedded Valkey, SQLite in the data folder."""
    settings = load(**options)
    begin(settings)
    if settings.database.get_backend_name() != "sqlite":
        raise SetupError(
            "`up` keeps everything in SQLite; with PostgreSQL run `gateway api` and `gateway worker`"
        )
    os.umask(0o077)  # whatever is made in the data folder is this user's alone
    folder = DataFolder(settings.data)
    folder.take(f"process {os.getpid()}, http://{settings.listen}")
    try:
        run(lambda stop: _up(settings, timedelta(seconds=quarantine_s), stop, wake=not no_wake))
    finally:
        folder.release()


async def _up(settings: Settings, quarantine: timedelta, stop: asyncio.Event, *, wake: bool) -> None:
    async with AsyncExitStack() as stack:
        taken = stack.enter_context(bind(settings.listen))
        redis = await _redis(settings, stack) if wake else None
        _refuse_lost_vault(settings.data)
        ring = embedded_ring(settings.keyring_file, settings.data / "vault.db")
        place = Place(
            settings=settings,
            ring=ring,
            redis=redis,
            public_url=settings.public_url or f"http://{settings.listen}",
            quarantine=quarantine,
        )
        gateway = Gateway(place)
        stack.push_async_callback(gateway.aclose)
        await gateway.vault.prepare()
        await migrate.upgrade(gateway.database)
        await gateway.keep_packs()
        await _refuse_open(gateway, settings.listen)
        await _first_keys(gateway, settings.data)
        await _accounts(gateway, settings, stack)
        await _both(gateway, settings, taken, stop)


def _refuse_lost_vault(data: Path) -> None:
    """Data without its vault cannot be read again: an empty vault in its place would only hide that."""
    if (data / "gateway.db").exists() and not (data / "vault.db").exists():
        raise SetupError(
            "vault.db is missing beside gateway.db: without it nothing can be read; bring it back from its backup"
        )


async def _both(gateway: Gateway, settings: Settings, taken: socket.socket, stop: asyncio.Event) -> None:
    """Serve and work until `stop`; the worker drains before the API closes, so that callbacks still come in."""
    drain = asyncio.Event()
    working = asyncio.create_task(work(gateway.worker(), drain, seen=True))
    http = server(build(gateway.services()))
    serving = asyncio.create_task(http.serve(sockets=[taken]))
    while not http.started and not serving.done():  # noqa: ASYNC110 (uvicorn has no event for it)
        await asyncio.sleep(0.01)
    click.echo(f"ready at http://{settings.listen} (data in {settings.data})")
    await until(stop, working, serving)
    gateway.health.draining = True
    drain.set()
    await working
    http.should_exit = True
    await serving


async def _redis(settings: Settings, stack: AsyncExitStack) -> RedisTarget:
    if settings.redis_url is not None:
        return settings.redis_url
    valkey = Valkey(settings.data / "valkey")
    await valkey.start()
    stack.push_async_callback(valkey.stop)
    return RedisTarget(path=str(valkey.socket))


async def _first_keys(gateway: Gateway, data: Path) -> None:
    """At the very first start: a tenant, a key of each mode to show once, and the operators' own key in a file."""
    if await gateway.setup.tenants(None):
        return
    await gateway.setup.create_tenant(DEFAULT, BY_HAND)
    for mode in Mode:
        _, text = await gateway.setup.create_key(
            tenant=DEFAULT, mode=mode, role=Role.ADMIN, holder=OPERATOR, expires_at=None, by=BY_HAND
        )
        click.echo(f"first {mode} key (shown once): {text.reveal('shown once to who started it')}")
    _, own = await gateway.setup.create_key(
        tenant=EVERY, mode=Mode.LIVE, role=Role.ADMIN, holder=OPERATOR, expires_at=None, by=BY_HAND
    )
    with os.fdopen(os.open(data / "admin.key", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(own.reveal("kept for the operators' commands") + "\n")


async def _accounts(gateway: Gateway, settings: Settings, stack: AsyncExitStack) -> None:
    """Accounts of the file, the first time; without a file, test accounts on the shipped simulators."""
    await gateway.accounts.refresh()
    if settings.accounts is not None:
        if all(row.account.mode is Mode.TEST for row in await gateway.account_rows.accounts()):
            await gateway.import_accounts(settings.accounts)
        return
    await _trial(gateway, settings.data, stack)


async def _trial(gateway: Gateway, data: Path, stack: AsyncExitStack) -> None:
    environ = {**os.environ, **ENVIRONMENT}
    names = ("aliyun_sms", "wechat", "smtp", "twilio_sms", "twilio_voice")
    ports = dict.fromkeys(("twilio", "aliyun", "wechat", "smtp"), 1)
    drawn = {
        a.adapter: a for a in parse(example_accounts(ports, mode="test"), adapters=names, environ=environ)
    }
    simulators = Simulators(data / "simulators.jsonl")
    ports = await simulators.start(
        pushes={
            "aliyun-report": gateway.accounts.callback_url(drawn["aliyun_sms"]),
            "wechat-event": gateway.accounts.callback_url(drawn["wechat"]),
            "smtp-report": gateway.accounts.callback_url(drawn["smtp"]),
        }
    )
    stack.push_async_callback(simulators.stop)
    made: Sequence[Any] = parse(example_accounts(ports, mode="test"), adapters=names, environ=environ)
    await gateway.account_desk.bring_in(made, who=OPERATOR, reason="test accounts on the shipped simulators")


@click.command(cls=Command)
@place_options("listen", "accounts", *SERVERS)
def api(options: PlaceOptions) -> None:
    """Serve the HTTP API against PostgreSQL and Redis."""
    settings = load(**options)
    require_servers(settings)
    begin(settings)
    run(lambda stop: _api(settings, stop))


async def _api(settings: Settings, stop: asyncio.Event) -> None:
    async with AsyncExitStack() as stack:
        taken = stack.enter_context(bind(settings.listen))
        gateway = await clustered(settings, stack)
        await _refuse_open(gateway, settings.listen)
        refresh = forever(gateway.accounts.refresh, lambda: REFRESH_S)
        for duty in (refresh, gateway.backlog.run(), gateway.watch.run()):
            stack.callback(asyncio.create_task(duty).cancel)
        await serve(gateway, server(build(gateway.services())), taken, stop)
