"""`gateway poison`: reminders on which deciding breaks, and how to make them due again."""

from __future__ import annotations

from collections.abc import Sequence

import click

from gateway.cli import show
from gateway.cli.caps import REASON_FORM
from gateway.cli.mistakes import Group
from gateway.cli.session import Door, Session, named, with_session
from gateway.errors import BadInput, Fault

MOST = 10_000
AT_ONCE = 500
"""Reminders that one request names."""


@click.group(cls=Group)
def poison() -> None:
    """Reminders on which deciding breaks every time: they are set aside, and hold up nobody."""


@poison.command("list")
@click.option(
    "--limit", type=click.IntRange(1, MOST), default=100, show_default=True, help="At most so many."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array.")
@with_session()
def list_command(door: Door, *, limit: int, as_json: bool) -> None:
    """What is set aside, the newest first, and what kind of error it was."""
    query = {"reason": "quarantined", "state": "deferred"}
    found = door.run(lambda session: session.items("/v1/reminders", query, limit))
    if as_json:
        show.as_json(found)
        return
    rows = [
        (
            i["id"],
            i["channel"],
            i["by"],
            show.at(i["updated_at"]),
            show.at(i["next_at"]),
            show.at(i["expires_at"]),
        )
        for i in found
    ]
    show.table(
        ("id", "channel", "error", "set aside", "next look", "expires"), rows, empty="nothing is set aside"
    )


@poison.command()
@click.argument("reminders", nargs=-1, metavar="[REMINDER]...")
@click.option("--all", "all_", is_flag=True, help="All that are set aside, in place of single ones.")
@click.option("--reason", required=True, help="Why; it is kept in the history and the send log.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@with_session()
@click.pass_context
def replay(
    ctx: click.Context, door: Door, reminders: Sequence[str], *, all_: bool, reason: str, as_json: bool
) -> None:
    """Make REMINDERs that are set aside due again now: they go through all checks, and are set aside if they break.

    Exit code 1 when some that are named are not set aside.
    """
    if all_ == bool(reminders):
        message = "name reminders, or give --all, and not both"
        raise BadInput([Fault(at="REMINDER", code="form_invalid", message=message)])

    async def replayed(session: Session) -> list[str]:
        if all_:
            return await _all(session, reason)
        return await _these(session, reminders, reason)

    with named({"/reason": ("--reason", REASON_FORM)}):
        due = door.run(replayed)
    asked = len(set(reminders))
    left = 0 if all_ else asked - len(due)
    if as_json:
        show.as_json({"replayed": len(due), "reminders": due, "not_replayed": left})
    else:
        show.say(f"{len(due)} due again")
    if left:
        message = "due already or not set aside here: look at the ids, at --tenant and at --mode"
        click.echo(f"{left} of {asked} left as they are, {message}", err=True)
        ctx.exit(1)


async def _these(session: Session, names: Sequence[str], reason: str) -> list[str]:
    due = list[str]()
    for start in range(0, len(names), AT_ONCE):
        part = names[start : start + AT_ONCE]
        places = {f"/reminders/{at}": (f"REMINDER, no. {start + at + 1}", None) for at in range(len(part))}
        with named(places):
            done = await session.post("/v1/reminders/replay", {"reminders": part, "reason": reason})
        due += done["reminders"]
    return due


async def _all(session: Session, reason: str) -> list[str]:
    due, more = list[str](), True
    while more:
        done = await session.post("/v1/reminders/replay", {"reason": reason})
        due, more = due + done["reminders"], done["more"]
    return due
