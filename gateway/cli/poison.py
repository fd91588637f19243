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
def replay(door: Door, reminders: Sequence[str], *, all_: bool, reason: str, as_json: bool) -> None:
    """Make REMINDERs that are set aside due again now: they go through all checks, and are set aside if they break."""
    if all_ == bool(reminders):
        message = "name reminders, or give --all, and not both"
        raise BadInput([Fault(at="REMINDER", code="form_invalid", message=message)])

    async def replayed(session: Session) -> int:
        if all_:
            return await _all(session, reason)
        parts = [list(reminders[start : start + AT_ONCE]) for start in range(0, len(reminders), AT_ONCE)]
        return sum([await _some(session, part, reason) for part in parts])

    with named({"/reason": ("--reason", REASON_FORM), "/reminders": ("REMINDER", None)}):
        number = door.run(replayed)
    if as_json:
        show.as_json({"replayed": number})
    else:
        show.say(f"{number} due again")


async def _some(session: Session, names: Sequence[str], reason: str) -> int:
    done = await session.post("/v1/reminders/replay", {"reminders": names, "reason": reason})
    return int(done["replayed"])


async def _all(session: Session, reason: str) -> int:
    number, more = 0, True
    while more:
        done = await session.post("/v1/reminders/replay", {"reason": reason})
        number, more = number + done["replayed"], done["more"]
    return number
