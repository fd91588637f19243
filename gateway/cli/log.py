"""`gateway log` and `gateway tail`: the send log, as it was and as it grows."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from functools import wraps
from typing import Any, TypeVar, cast

import click

from gateway.cli import show
from gateway.cli.mistakes import Command
from gateway.cli.options import INSTANT
from gateway.cli.session import Door, Session, named, with_session

MOST = 100_000
POLL_S = 1.0
OVERLAP = timedelta(seconds=10)
"""A record may be committed later than one with a later instant, by less than this."""
SEEN = 200_000
WIDE = 110
"""Columns of a terminal that has room for borrowers."""

Filters = Mapping[str, str | None]
F = TypeVar("F", bound=Callable[..., Any])

_WORDS = {
    "borrower": "Only of this borrower's id.",
    "channel": "Only of this channel.",
    "state": "Only with this state.",
    "reason": "Only with this reason: a rule's id or a word.",
}


def _filtered(command: F) -> F:
    """Give a command the filters as its argument `filters`."""

    @wraps(command)
    def called(**given: Any) -> Any:
        return command(filters={name: given.pop(name) for name in _WORDS}, **given)

    found: Any = called
    for name, help_ in reversed(_WORDS.items()):
        found = click.option(f"--{name}", default=None, help=help_)(found)
    return cast("F", found)


@click.command(cls=Command)
@_filtered
@click.option(
    "--from", "since", type=INSTANT, default=None, help="From this instant on (RFC 3339, with its offset)."
)
@click.option("--to", "until", type=INSTANT, default=None, help="Before this instant.")
@click.option(
    "--limit", type=click.IntRange(1, MOST), default=100, show_default=True, help="At most so many."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array.")
@with_session()
def log(
    door: Door, filters: Filters, since: str | None, until: str | None, limit: int, *, as_json: bool
) -> None:
    """Records of the send log, the newest first: decisions, attempts, receipts, changes; nothing of a person."""
    query = {**filters, "from": since, "to": until}
    with named({"/from": ("--from", None), "/to": ("--to", None), **_places()}):
        found = door.run(lambda session: session.items("/v1/log", query, limit))
    if as_json:
        show.as_json(found)
        return
    columns = ("at", "kind", "channel", "outcome", "reminder", *(("borrower",) if _wide() else ()))
    show.table(columns, [_row(record)[: len(columns)] for record in found], empty="no record of that kind")


@click.command(cls=Command)
@_filtered
@click.option(
    "-n", "count", type=click.IntRange(0, MOST), default=20, show_default=True, help="Begin with so many."
)
@click.option("--follow/--no-follow", default=True, show_default=True, help="Go on until Ctrl-C.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line.")
@with_session()
def tail(door: Door, filters: Filters, count: int, *, follow: bool, as_json: bool) -> None:
    """The newest records of the send log, and further ones as they come."""
    tell = show.as_json_line if as_json else _line
    try:
        with named(_places()):
            door.run(lambda session: _tail(session, filters, count, tell, follow=follow))
    except KeyboardInterrupt:
        click.echo(err=True)  # the prompt does not stand behind ^C


async def _tail(
    session: Session,
    filters: Filters,
    count: int,
    tell: Callable[[Mapping[str, Any]], None],
    *,
    follow: bool,
) -> None:
    """Tell the newest records, then whatever was not there a moment ago.

    A record's instant is taken before its commit, and the policy clock may be moved back: so each look
    begins a little before the last one, and what was seen is remembered.
    """
    seen: OrderedDict[str, None] = OrderedDict()
    before = await _now(session)
    for record in await _since(session, filters, before):
        seen[record["id"]] = None
    for record in reversed(await session.items("/v1/log", filters, count)):
        seen[record["id"]] = None
        tell(record)
    while follow:
        await asyncio.sleep(POLL_S)
        now = await _now(session)
        for record in await _since(session, filters, min(before, now)):
            if record["id"] not in seen:
                seen[record["id"]] = None
                tell(record)
        while len(seen) > SEEN:
            seen.popitem(last=False)
        before = now


async def _now(session: Session) -> datetime:
    """The clock that records are dated by."""
    return datetime.fromisoformat((await session.get("/v1/clock"))["policy"])


async def _since(session: Session, filters: Filters, instant: datetime) -> list[dict[str, Any]]:
    query = {**filters, "order": "oldest", "from": (instant - OVERLAP).isoformat()}
    return await session.items("/v1/log", query, MOST)


def _row(record: Mapping[str, Any]) -> tuple[str | None, ...]:
    return (
        _at(record["at"]),
        record["kind"],
        record["channel"],
        _outcome(record),
        record["reminder"],
        record["borrower"],
    )


def _line(record: Mapping[str, Any]) -> None:
    """One line whose columns stand where those of the line before stood."""
    instant, kind, channel, outcome, reminder, borrower = (value or "-" for value in _row(record))
    last = f"{reminder}  {borrower}" if _wide() else reminder
    show.say(f"{instant:14}  {kind:9}  {channel:7}  {outcome:24}  {last}")


def _outcome(record: Mapping[str, Any]) -> str:
    """State and reason: `deferred OP.CAPS.DAY`; of a change what and by whom: `cap OP.CAPS.DAY by operator`."""
    if record["kind"] == "config":
        body = record["body"]
        return f"{body['what']} {body['name']} by {body['who']}"
    return " ".join(record[key] for key in ("state", "reason") if record[key])


def _at(instant: str) -> str | None:
    """To the second; on a narrow terminal without the year, in UTC."""
    return show.at(instant) if _wide() else f"{instant[5:10]} {instant[11:19]}"


def _wide() -> bool:
    """Whether there is room, as there always is in a file or a pipe."""
    return not show.on_terminal() or show.console().width >= WIDE


def _places() -> dict[str, tuple[str, str | None]]:
    return {f"/{name}": (f"--{name}", None) for name in _WORDS}
