"""`gateway policy assign`, `assigned` and `history`: packs added for a tenant or one of its portfolios."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import click

from gateway.cli import show
from gateway.cli.caps import REASON_FORM
from gateway.cli.mistakes import Command
from gateway.cli.session import Door, Session, named, part, with_session

WHOLE = "_"
"""The whole tenant, in a path."""
MOST = 10_000

_PORTFOLIO = click.option("--portfolio", default=None, help="Of this portfolio; the whole tenant without it.")
_JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON array.")


@click.command(cls=Command)
@_PORTFOLIO
@click.option(
    "--licence",
    "licences",
    multiple=True,
    metavar="PLACE",
    help="A place that the actor is licensed in (US-MA).",
)
@click.option(
    "--institution", default=None, help="What kind of lender it is, for packs that tell them apart."
)
@click.option("--pack", "packs", multiple=True, metavar="ID", help="One more pack that shall apply.")
@click.option("--reason", required=True, help="Why; it is kept in the history and the send log.")
@with_session()
def assign(
    door: Door,
    portfolio: str | None,
    licences: tuple[str, ...],
    institution: str | None,
    packs: tuple[str, ...],
    reason: str,
) -> None:
    """Assign packs to the tenant or a portfolio, in place of all that was assigned to it before.

    Packs of the borrower's residence and the debt's law apply in any case; this adds to them, on record.
    """
    wanted = {"licences": licences, "institution": institution, "packs": packs, "reason": reason}
    with named(_places(licences, packs)):
        before, after = door.run(lambda session: _assign(session, portfolio, wanted))
    show.say(f"{_whose(after)}: {_told(before)} → {_told(after)}, version {after['version']}")
    if before is not None and _may_drop_rules(before, after):
        click.echo("rules may have gone with it: the send log says who did it and why", err=True)


async def _assign(
    session: Session, portfolio: str | None, wanted: Mapping[str, Any]
) -> tuple[dict[str, Any] | None, dict[str, Any]]:
    """Assign; what held before, the portfolio's own or the tenant's, and what holds now."""
    name = portfolio or WHOLE
    own = await _newest(session, name)
    held = own or (await _newest(session, WHOLE) if portfolio else None)
    body = {**wanted, "version": own and own["version"]}
    return held, await session.put(f"/v1/policies/{part(name)}", body)


async def _newest(session: Session, name: str) -> dict[str, Any] | None:
    found = await session.items(f"/v1/policies/{part(name)}/history", {}, 1)
    return found[0] if found else None


def _places(licences: Sequence[str], packs: Sequence[str]) -> dict[str, tuple[str, str | None]]:
    """Where a fault is, in the words of the command line."""
    return {
        **{f"/licences/{at}": (f"--licence, no. {at + 1}", None) for at in range(len(licences))},
        **{f"/packs/{at}": (f"--pack, no. {at + 1}", None) for at in range(len(packs))},
        "/licences": ("--licence", None),
        "/packs": ("--pack", None),
        "/institution": ("--institution", "a word of small letters: bank, consumer_finance, card_issuer"),
        "/portfolio": ("--portfolio", None),
        "/reason": ("--reason", REASON_FORM),
    }


def _whose(assigned: Mapping[str, Any]) -> str:
    return assigned["portfolio"] or "the whole tenant"


def _told(assigned: Mapping[str, Any] | None) -> str:
    """What is assigned, in a few words."""
    if assigned is None:
        return "nothing"
    parts = [*assigned["licences"], *assigned["packs"]]
    return ", ".join([*parts, *([assigned["institution"]] if assigned["institution"] else [])]) or "nothing"


def _may_drop_rules(before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    gone = any(set(before[name]) - set(after[name]) for name in ("licences", "packs"))
    return gone or after["institution"] not in (None, before["institution"])


@click.command(cls=Command)
@_JSON
@with_session()
def assigned(door: Door, *, as_json: bool) -> None:
    """List what is assigned to the tenant and its portfolios."""
    found = door.run(lambda session: session.items("/v1/policies", {}, MOST))
    _list(found, as_json=as_json, empty="nothing is assigned: the packs of residence and law apply")


@click.command(cls=Command)
@_PORTFOLIO
@_JSON
@with_session()
def history(door: Door, portfolio: str | None, *, as_json: bool) -> None:
    """List every version of an assignment, the newest first."""
    path = f"/v1/policies/{part(portfolio or WHOLE)}/history"
    found = door.run(lambda session: session.items(path, {}, MOST))
    _list(found, as_json=as_json, empty="nothing was ever assigned to it")


def _list(found: Sequence[Mapping[str, Any]], *, as_json: bool, empty: str) -> None:
    if as_json:
        show.as_json(found)
        return
    columns = ("portfolio", "version", "licences", "institution", "packs", "set by", "on", "because")
    show.table(columns, [_row(item) for item in found], empty=empty)


def _row(item: Mapping[str, Any]) -> tuple[object, ...]:
    return (
        *(_whose(item), item["version"], ", ".join(item["licences"]), item["institution"]),
        *(", ".join(item["packs"]), item["who"], item["at"][:10], item["reason"]),
    )
