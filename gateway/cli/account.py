"""`gateway account`: the configured adapters, and what they go by."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

import channels
from gateway.accounts import MAX_FILE, parse
from gateway.cli import show
from gateway.cli.mistakes import Group
from gateway.cli.session import Door, Session, part, with_session
from gateway.domain import Account
from gateway.errors import BadInput, Fault, GatewayError

_PLACE = re.compile(r"/accounts/(\d+)/?")


@click.group(cls=Group)
def account() -> None:
    """Accounts: each is one adapter with its sender and credentials."""


@account.command("import")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--reason", default=None, help="Why, for the history; else the file's name.")
@with_session(chooses=False)
def import_command(door: Door, file: Path, reason: str | None) -> None:
    """Bring in the accounts of FILE (accounts.toml) that are new or differ; none is ever deleted."""
    accounts = read(file)
    body = {"accounts": [_sent(one) for one in accounts], "reason": reason or f"read from {file.name}"}
    try:
        written = door.run(lambda session: session.post("/v1/accounts", body))["written"]
    except BadInput as wrong:
        raise BadInput([_in_file(fault) for fault in wrong.faults], code=wrong.code) from None
    show.say(f"{len(written)} written, {len(accounts) - len(written)} as they were")
    for name in written:
        show.say(f"  {name}")


def read(file: Path) -> Sequence[Account]:
    """The accounts of a file; BadInput names all its mistakes."""
    try:
        if file.stat().st_size > MAX_FILE:
            raise BadInput([_of_file(file, "too_large", "256 KiB is the most: split it")])
        text = file.read_text(encoding="utf-8")
    except OSError as wrong:
        raise BadInput([_of_file(file, "unreadable", f"cannot be read: {wrong.strerror}")]) from None
    except UnicodeDecodeError:
        raise BadInput([_of_file(file, "malformed_toml", "it is not UTF-8 text")]) from None
    found = parse(text, adapters=channels.names(), environ=os.environ)
    if not found:
        raise BadInput([_of_file(file, "missing", "there is no [[account]] in it")])
    return found


def _of_file(file: Path, code: str, message: str) -> Fault:
    return Fault(at=str(file), code=code, message=message)


def _sent(one: Account) -> dict[str, Any]:
    price = one.price
    return {
        "name": one.name,
        "tenant": one.tenant.rpartition("/")[0],
        "mode": one.mode.value,
        "adapter": one.adapter,
        "sender": one.sender,
        "endpoint": one.endpoint,
        "price": {"amount": str(price.amount), "currency": price.currency} if price else None,
        "credentials": {k: v.reveal("handed to the vault") for k, v in one.credentials.items()},
        "settings": dict(one.settings),
        "weight": one.weight,
    }


def _in_file(fault: Fault) -> Fault:
    """A fault of the request, at its place in the file."""
    at = _PLACE.sub(r"account[\1].", fault.at).replace("/", ".").rstrip(".")
    missing = fault.code == "not_found"
    message = "there is no such tenant: `gateway tenant create` makes one" if missing else fault.message
    return Fault(at=at.lstrip("."), code=fault.code, message=message)


@account.command("list")
@click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON array, with settings and callback URLs."
)
@with_session()
def list_command(door: Door, *, as_json: bool) -> None:
    """List the accounts of a tenant and mode, without credentials."""
    found = door.run(lambda session: session.get("/v1/accounts"))["items"]
    if as_json:
        show.as_json(found)
        return
    rows = [
        (item["name"], item["adapter"], item["sender"], _price(item["price"]), _pace(item), _state(item))
        for item in found
    ]
    show.table(
        ("name", "adapter", "sender", "price", "pace", "state"),
        rows,
        empty="no account in this tenant and mode: see --tenant and --mode, or gateway account import FILE",
    )


def _price(price: dict[str, str] | None) -> str | None:
    return None if price is None else f"{price['amount']} {price['currency']}"


def _pace(item: dict[str, Any]) -> str | None:
    """What its sender is known to take; quotas may say otherwise."""
    if item["pace"] is None:
        return None
    shared = f", share {item['weight']}" if item["weight"] is not None else ""
    return f"{item['pace']:g} {item['unit']}s/s{shared}"


def _state(item: dict[str, Any]) -> str:
    if not item["enabled"]:
        return "taken away"
    return item["broken"] or stands(item["standing"])


def stands(standing: dict[str, Any]) -> str:
    """How an account stands, in a few words."""
    code = f" {standing['code']}" if standing["code"] else ""
    match standing["breaker"]:
        case "open":
            return f"down since {standing['since']} ({standing['why']}{code}), asked again {standing['probe_at']}"
        case "half_open":
            return f"coming back, one reminder at a time (it was {standing['why']}{code})"
        case _ if standing["used_up_until"]:
            return f"its provider's day is used up until {standing['used_up_until']}"
        case _ if standing["factor"] < 1:
            return f"usable at {standing['factor']:.0%} of its pace"
        case _:
            return "usable"


@account.command()
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help='Print {"name", "ok", "word", "standing"}.')
@with_session()
@click.pass_context
def check(ctx: click.Context, door: Door, name: str, *, as_json: bool) -> None:
    """Try the credentials of the account NAME without sending; exit code 1 when they do not work.

    One that is down and answers well is probed by single reminders from then on.
    """
    found = door.run(lambda session: _check(session, name))
    if as_json:
        show.as_json(found)
    else:
        show.say(f"{name}: {'ok' if found['ok'] else 'not usable'}, {found['word']}")
        if found["standing"] is not None and stands(found["standing"]) != "usable":
            show.say(f"  {stands(found['standing'])}")
    ctx.exit(0 if found["ok"] else 1)


async def _check(session: Session, name: str) -> dict[str, Any]:
    try:
        checked: dict[str, Any] = await session.post(f"/v1/accounts/{part(name)}/check", {})
    except GatewayError as wrong:
        if wrong.code != "not_found":
            raise
        message = "there is no account of that name here: see `gateway account list`, --tenant and --mode"
        raise GatewayError(message, code=wrong.code) from None
    return checked
