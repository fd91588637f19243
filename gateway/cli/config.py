"""`gateway config check`: whether it will run as it is set up."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime

import click
from rich.table import Table
from rich.text import Text

from gateway.cli import checks, probes, show
from gateway.cli.checks import Line, Status, fail, mistakes
from gateway.cli.mistakes import Group
from gateway.cli.options import PlaceOptions, place_options
from gateway.cli.session import Door, holder
from gateway.errors import BadInput, GatewayError
from gateway.settings import Settings, load, require_servers

_STYLES = {Status.OK: "green", Status.WARN: "yellow", Status.FAIL: "bold red"}


@click.group(cls=Group)
def config() -> None:
    """Settings, and everything they name."""


@config.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array.")
@place_options(*Settings.model_fields)
@click.pass_context
def check(ctx: click.Context, options: PlaceOptions, *, as_json: bool) -> None:
    """Look at everything a start needs, change nothing, and say what to do.

    Exit code 0 when it will run (perhaps with warnings), 1 when something fails, 2 when settings cannot be read.
    """
    try:
        settings = load(**options)
    except BadInput as wrong:
        _tell([*mistakes(wrong, "settings"), *checks.variables(os.environ)], as_json)
        ctx.exit(2)
    lines = asyncio.run(_look(settings, options))
    _tell(lines, as_json)
    ctx.exit(1 if any(line.status is Status.FAIL for line in lines) else 0)


async def _look(settings: Settings, options: PlaceOptions) -> list[Line]:
    lines = list(checks.everywhere(settings, os.environ, datetime.now(UTC).date()))
    profile = _embedded if settings.database.get_backend_name() == "sqlite" else _servers
    lines += [line async for line in profile(settings, options)]
    return lines


async def _embedded(settings: Settings, options: PlaceOptions) -> AsyncIterator[Line]:
    """What `gateway up` needs, and what it says of itself when it runs."""
    for line in (*checks.folder(settings), checks.sqlite(), *checks.accounts_file(settings)):
        yield line
    if settings.redis_url is None:
        yield checks.valkey()
    else:
        for line in await probes.redis(settings.redis_url):
            yield line
    try:
        if holder(settings.data) is None:
            yield await probes.embedded_schema(settings)
            return
        async with Door(options={"data": options.get("data")}).open() as session:
            for line in await probes.running(session):
                yield line
    except GatewayError as wrong:
        yield fail("gateway", wrong.message)


async def _servers(settings: Settings, options: PlaceOptions) -> AsyncIterator[Line]:
    """What `gateway api` and `gateway worker` need."""
    try:
        require_servers(settings)
    except BadInput as wrong:
        for line in mistakes(wrong, "settings"):
            yield line
    for line in checks.accounts_file(settings):
        yield line
    stores = [*await probes.postgresql(settings), await probes.vault(settings)]
    for line in stores:
        yield line
    if settings.redis_url is not None:
        for line in await probes.redis(settings.redis_url):
            yield line
    if not any(line.status is Status.FAIL for line in stores):
        async with Door(options=options, operator="config-check").open() as session:
            for line in await probes.accounts(session):
                yield line


def _tell(lines: Sequence[Line], as_json: bool) -> None:  # noqa: FBT001 (private, and named at its two calls)
    if as_json:
        show.as_json([{"check": x.check, "status": x.status.value, "word": x.word} for x in lines])
    elif show.on_terminal():
        drawn = Table.grid(padding=(0, 2, 0, 0))
        for line in lines:
            status = Text(line.status.value, style=_STYLES[line.status])
            drawn.add_row(status, Text(line.check), Text(show.clean(line.word)))
        show.console().print(drawn)
    else:
        for text in show.aligned([(x.status.value, x.check, show.clean(x.word)) for x in lines]):
            click.echo(text)
