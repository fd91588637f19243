"""`gateway apikey`: who may call, as what."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import click

from gateway.cli import show
from gateway.cli.mistakes import Group
from gateway.cli.session import Door, Session, named, part, with_session
from gateway.errors import GatewayError
from gateway.store.keys import EVERY, Role


@click.group(cls=Group)
def apikey() -> None:
    """API keys: each has a tenant, a mode, a role and a holder."""


def _end_of(_ctx: click.Context, _param: click.Parameter, said: str | None) -> str | None:
    """The instant at which that day is over, in UTC."""
    if said is None:
        return None
    try:
        day = date.fromisoformat(said)
    except ValueError:
        raise click.BadParameter("give a date: 2027-06-30") from None
    end = datetime.combine(day, time(), UTC) + timedelta(days=1)
    if end <= datetime.now(UTC):
        raise click.BadParameter("give a day that is not over")
    return end.isoformat()


@apikey.command()
@click.option("--tenant", required=True, help="The key's tenant; `*` for the whole deployment.")
@click.option(
    "--role", type=click.Choice([role.value for role in Role]), required=True, help="What it may do."
)
@click.option("--holder", required=True, help="Who holds it: a person or a service.")
@click.option(
    "--mode", type=click.Choice(["live", "test"]), default="live", show_default=True, help="Its mode."
)
@click.option(
    "--expires",
    "expires_at",
    callback=_end_of,
    metavar="DATE",
    default=None,
    help="The last day (UTC) on which it is taken.",
)
@click.option("--json", "as_json", is_flag=True, help='Print {"id", "key"}.')
@with_session(chooses=False)
def create(door: Door, *, as_json: bool, **about: str) -> None:
    """Make a key and print it, alone, this once: it is kept nowhere."""
    own = None if about["tenant"] == EVERY else about["tenant"]
    places = {
        "/tenant": ("--tenant", None),
        "/holder": (
            "--holder",
            "letters, digits and . _ : -, up to 64, that name no phone, mail or id number",
        ),
    }
    with named(places):
        made = replace(door, tenant=own).run(lambda session: session.post("/v1/apikeys", about))
    click.echo(json.dumps({"id": made["id"], "key": made["key"]}) if as_json else made["key"])


@apikey.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array.")
@with_session()
def list_command(door: Door, *, as_json: bool) -> None:
    """List keys, without their texts: all of them, or those of --tenant and --mode."""
    everything = replace(door, tenant=None, mode=None)
    found = everything.run(lambda session: session.get("/v1/apikeys"))["items"]
    wanted = [
        key for key in found if door.tenant in (None, key["tenant"]) and door.mode in (None, key["mode"])
    ]
    if as_json:
        show.as_json(wanted)
        return
    columns = ("id", "tenant", "mode", "role", "holder", "state")
    rows = [(*(key[name] for name in columns[:5]), _state(key)) for key in wanted]
    show.table(columns, rows, empty="no key yet: gateway apikey create")


def _state(key: dict[str, Any]) -> str:
    if key["revoked_at"] is not None:
        return f"revoked {key['revoked_at'][:10]}"
    if key["expires_at"] is None:
        return "valid"
    last = datetime.fromisoformat(key["expires_at"]) - timedelta(microseconds=1)
    return f"until {last:%Y-%m-%d}" if last >= datetime.now(UTC) else f"ran out {last:%Y-%m-%d}"


@apikey.command()
@click.argument("id_", metavar="ID")
@with_session(chooses=False)
def revoke(door: Door, id_: str) -> None:
    """Revoke the key of that ID; within two seconds nobody takes it any more."""
    door.run(lambda session: _revoke(session, id_))
    show.say(f"key {id_} is revoked")


async def _revoke(session: Session, name: str) -> None:
    if name == session.key_id:
        raise GatewayError("that is the key these commands use: make another one, and revoke it with that")
    try:
        await session.post(f"/v1/apikeys/{part(name)}/revoke", {})
    except GatewayError as wrong:
        if wrong.code != "not_found":
            raise
        raise GatewayError("there is no key of that id: see `gateway apikey list`", code=wrong.code) from None
