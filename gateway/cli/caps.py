"""`gateway caps`: the counts that protect everyone, what providers allow, and a tenant's own numbers in both."""

from __future__ import annotations

from typing import Any

import click

from gateway.cli import show
from gateway.cli.mistakes import Group
from gateway.cli.session import Door, Session, named, with_session

REASON_FORM = "say why, in 1 to 500 characters, without phone numbers, e-mail addresses or id numbers"


@click.group(cls=Group)
def caps() -> None:
    """How often one person may be contacted, for everyone; a tenant may set its own numbers, on record."""


@caps.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array.")
@with_session()
def list_command(door: Door, *, as_json: bool) -> None:
    """List the rules with the number they ship with and the tenant's own."""
    found = door.run(lambda session: session.get("/v1/caps"))["items"]
    if as_json:
        show.as_json(found)
        return
    columns = ("rule", "ships with", "own", "set by", "on", "because")
    rows = [(item["rule"], item["max"], *_own(item["own"])) for item in found]
    show.table(columns, rows, empty="the rules cannot be loaded: see gateway config check")


def _own(own: dict[str, Any] | None) -> tuple[str | None, ...]:
    if own is None:
        return (None,) * 4
    return str(own["max"]), own["who"], own["at"][:10], own["reason"]


@caps.command("set")
@click.argument("rule")
@click.argument("max_", metavar="MAX", type=click.IntRange(0, 1000))
@click.option("--reason", required=True, help="Why; it is kept in the history and the send log.")
@with_session()
def set_command(door: Door, rule: str, max_: int, reason: str) -> None:
    """Set the tenant's own MAX in RULE: an act on record, with who, before, after and why."""
    with named({"/rule": ("RULE", None), "/reason": ("--reason", REASON_FORM)}):
        before, shipped = door.run(lambda session: _set(session, rule, max_, reason))
    show.say(f"{rule}: {before} → {max_}, ships with {shipped}")
    if max_ > shipped:
        click.echo("looser than it ships: the send log says who did it and why", err=True)


async def _set(session: Session, rule: str, number: int, reason: str) -> tuple[int, int]:
    """Set it; the number before, and the one it ships with."""
    items = (await session.get("/v1/caps"))["items"]
    await session.put("/v1/caps", {"rule": rule, "max": number, "reason": reason})
    (item,) = [item for item in items if item["rule"] == rule]
    return (item["max"] if item["own"] is None else item["own"]["max"]), item["max"]
