"""`gateway tenant`: whose reminders they are."""

from __future__ import annotations

import click

from gateway.cli import show
from gateway.cli.session import Door, named, with_session

NAME_FORM = "small letters, digits and -, up to 32, a letter or a digit first"


@click.group()
def tenant() -> None:
    """Tenants: each has its own keys, accounts, caps and log."""


@tenant.command()
@click.argument("name")
@with_session(chooses=False)
def create(door: Door, name: str) -> None:
    """Make a tenant of that NAME."""
    with named({"/name": ("NAME", NAME_FORM)}):
        made = door.run(lambda session: session.post("/v1/tenants", {"name": name}))
    show.say(f"tenant {made['name']} is made; give it a key with `gateway apikey create`")


@tenant.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array.")
@with_session(chooses=False)
def list_command(door: Door, *, as_json: bool) -> None:
    """List every tenant."""
    found = door.run(lambda session: session.get("/v1/tenants"))["items"]
    if as_json:
        show.as_json(found)
        return
    rows = [(item["name"], show.at(item["created_at"])) for item in found]
    show.table(("name", "made"), rows, empty="no tenant yet: gateway tenant create NAME")
