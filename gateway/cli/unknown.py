"""`gateway unknown`: attempts whose ending nobody knows, and what a person decides about them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from gateway.cli import show
from gateway.cli.caps import REASON_FORM
from gateway.cli.mistakes import Group
from gateway.cli.options import INSTANT
from gateway.cli.session import Door, named, part, with_session
from gateway.domain import Channel
from gateway.unknowns import CALL, MESSAGE

MOST = 10_000
_MESSAGE, _CALL = (sorted(word.replace("_", "-") for word in words) for words in (MESSAGE, CALL))
_WORDS = sorted({*_MESSAGE, *_CALL})
_WORD_FORM = f"of a call give one of: {', '.join(_CALL)}; of anything else one of: {', '.join(_MESSAGE)}"


@click.group(cls=Group)
def unknown() -> None:
    """Calls whose outcome nobody knows: list what is parked, and settle it."""


@unknown.command("list")
@click.option(
    "--channel", type=click.Choice([c.value for c in Channel]), default=None, help="Only of this channel."
)
@click.option("--account", default=None, help="Only through this account.")
@click.option("--borrower", default=None, help="Only of this borrower's id.")
@click.option(
    "--from",
    "since",
    type=INSTANT,
    default=None,
    help="Begun at this instant or later (RFC 3339, with its offset).",
)
@click.option("--to", "until", type=INSTANT, default=None, help="Begun before this instant.")
@click.option("--asked", is_flag=True, help="Also those whose provider is still asked.")
@click.option(
    "--limit", type=click.IntRange(1, MOST), default=100, show_default=True, help="At most so many."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array.")
@with_session()
def list_command(
    door: Door,
    *,
    channel: str | None,
    account: str | None,
    borrower: str | None,
    since: str | None,
    until: str | None,
    asked: bool,
    limit: int,
    as_json: bool,
) -> None:
    """Parked attempts, the longest so first: their provider was asked for the last time, or cannot be asked.

    Look for them at the provider: by its own id where that is known, else by REF, which the request carried.
    """
    query = {
        "channel": channel,
        "account": account,
        "borrower": borrower,
        "from": since,
        "to": until,
        "asked": "true" if asked else None,
    }
    with named({"/from": ("--from", None), "/to": ("--to", None)}):
        found = door.run(lambda session: session.items("/v1/unknowns", query, limit))
    if as_json:
        show.as_json(found)
        return
    columns = ("called at", "channel", "account", "to", "id", "provider's id", "asked", "reminder")
    show.table(columns, [_row(item) for item in found], empty="nothing is parked")


def _row(item: Mapping[str, Any]) -> tuple[object, ...]:
    again = f", next {show.at(item['asked_next_at'])}" if item["asked_next_at"] else ""
    return (
        *(show.at(item["called_at"]), item["channel"], item["account"], item["to"], item["ref"]),
        *(item["provider_id"], f"{item['asked']} times{again}", item["reminder"]),
    )


@unknown.command()
@click.argument("ref")
@click.option("--as", "word", type=click.Choice(_WORDS), required=True, help="What became of it.")
@click.option("--reason", required=True, help="How you know; it is kept in the history and the send log.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@with_session()
def settle(door: Door, ref: str, *, word: str, reason: str, as_json: bool) -> None:
    """Decide what became of the parked attempt REF: once, and on record.

    not-sent: nobody was reached; its reminder is due again and goes through all checks. Every other word stands as
    if the provider had said it. Never settle as not-sent what the provider does not surely deny.
    """
    path = f"/v1/unknowns/{part(ref)}/settle"
    with named({"/as": ("--as", _WORD_FORM), "/reason": ("--reason", REASON_FORM)}):
        done = door.run(lambda session: session.post(path, {"as": word.replace("-", "_"), "reason": reason}))
    if as_json:
        show.as_json(done)
    else:
        show.say(f"{done['ref']} is {done['state']}; its reminder is {done['reminder']}")
