"""`gateway worker list` and `gateway worker quiet`: the worker processes that there are."""

from __future__ import annotations

import click

from gateway.cli import show
from gateway.cli.caps import REASON_FORM
from gateway.cli.mistakes import Command
from gateway.cli.session import Door, named, with_session
from gateway.errors import BadInput, Fault

MOST = 1000


@click.command("list", cls=Command)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array.")
@with_session(chooses=False)
def list_command(door: Door, *, as_json: bool) -> None:
    """Worker processes that are not known to be dead, and what each has under way."""
    found = door.run(lambda session: session.items("/v1/workers", {}, MOST))
    if as_json:
        show.as_json(found)
        return
    rows = [(w["id"], w["at"], w["state"], w["under_way"], show.at(w["started_at"])) for w in found]
    show.table(("id", "where", "state", "under way", "since"), rows, empty="no worker runs")


@click.command(cls=Command)
@click.argument("worker", required=False)
@click.option("--all", "all_", is_flag=True, help="All that run now, in place of one.")
@click.option("--reason", required=True, help="Why; it is kept in the history and the send log.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@with_session(chooses=False)
def quiet(door: Door, worker: str | None, *, all_: bool, reason: str, as_json: bool) -> None:
    """Tell WORKER (its id, see `gateway worker list`) to take nothing new; what it calls is finished.

    Within a second or two. It lives on until it is ended, and takes up no work again. Those that start later work.
    """
    if all_ == bool(worker):
        message = "name a worker, or give --all, and not both"
        raise BadInput([Fault(at="WORKER", code="form_invalid", message=message)])
    body = {"worker": worker, "reason": reason}
    with named({"/reason": ("--reason", REASON_FORM), "/worker": ("WORKER", None)}):
        done = door.run(lambda session: session.post("/v1/workers/quiet", body))
    if as_json:
        show.as_json(done)
    else:
        show.say(f"told to take nothing new: {', '.join(done['quiet']) or 'none, no worker runs'}")
