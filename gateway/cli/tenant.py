"""`gateway tenant`: whose reminders they are."""

from __future__ import annotations

import click

from gateway.cli import show
from gateway.cli.mistakes import Group
from gateway.cli.session import Door, named, part, with_session

NAME_FORM = (
    "small letters, digits and -, up to 32, a letter or a digit first, that name no phone, mail or id number"
)


@click.group(cls=Group)
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


@tenant.command("set")
@click.argument("name")
@click.option(
    "--stale-after-s",
    type=click.IntRange(60, 31 * 86400),
    required=True,
    help="How old a debt's state may be before it holds reminders (24 h unless set).",
)
@click.option("--reason", required=True, help="Why; it is kept in the history and the send log.")
@with_session(chooses=False)
def set_command(door: Door, name: str, stale_after_s: int, reason: str) -> None:
    """Set what holds for tenant NAME: an act on record."""
    body = {"stale_after_s": stale_after_s, "reason": reason}
    with named({"/reason": ("--reason", "a few words")}):
        door.run(lambda session: session.put(f"/v1/tenants/{part(name)}", body))
    show.say(f"{name}: a debt's state holds reminders once it is {stale_after_s} s old")


@tenant.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array.")
@with_session(chooses=False)
def list_command(door: Door, *, as_json: bool) -> None:
    """List every tenant."""
    found = door.run(lambda session: session.get("/v1/tenants"))["items"]
    if as_json:
        show.as_json(found)
        return
    rows = [(item["name"], show.at(item["created_at"]), str(item["stale_after_s"])) for item in found]
    show.table(("name", "made", "stale after s"), rows, empty="no tenant yet: gateway tenant create NAME")
