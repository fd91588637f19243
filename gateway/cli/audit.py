"""`gateway audit check`: whether each send was allowed, by a second reading of the rules and from the log alone."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, date, datetime
from typing import Any

import click
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from gateway.cli import show
from gateway.cli.mistakes import Form, Group
from gateway.cli.session import Door, Session, named, with_session
from gateway.policy.localtime import read_instant

COUNTS = ("checked", "refused", "withdrawn")


def _read(said: str) -> str | None:
    try:
        day = date.fromisoformat(said)
    except ValueError:
        return said if read_instant(said) else None
    return datetime(day.year, day.month, day.day, tzinfo=UTC).isoformat()


_FORM = "a date (2026-11-24, from its beginning in UTC) or an instant with its offset"
_WHEN = Form("date", _FORM, _read)


@click.group(cls=Group)
def audit() -> None:
    """Look at what was done, from the send log alone."""


@audit.command("check")
@click.option("--from", "since", type=_WHEN, required=True, help="Sends decided from then on.")
@click.option("--to", "until", type=_WHEN, required=True, help="Sends decided before then.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@with_session()
@click.pass_context
def check(ctx: click.Context, door: Door, since: str, until: str, *, as_json: bool) -> None:
    """Work out again whether each send was allowed, with the packs in force then, and list those that were not.

    Exit code 0 when none broke a rule, 1 when some did.
    """
    query = {"from": since, "to": until}
    with named({"/from": ("--from", f"give {_FORM}"), "/to": ("--to", None)}):
        found = door.run(lambda session: _check(session, query))
    if as_json:
        show.as_json(found)
    else:
        _tell(found)
    ctx.exit(1 if found["violations"] else 0)


async def _check(session: Session, query: dict[str, str]) -> dict[str, Any]:
    """All pages as one answer; how far it is shows on a terminal."""
    found: dict[str, Any] = {**dict.fromkeys(COUNTS, 0), "violations": []}
    unknown: Counter[str] = Counter()
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("reading the log")
        after: str | None = ""
        while after is not None:
            page = await session.get("/v1/audit/check", {**query, "after": after or None})
            for key in COUNTS:
                found[key] += page[key]
            found["violations"] += page["violations"]
            unknown.update(page["undeterminable"])
            after = page["next"]
            said = f"{found['checked']} sends checked, {len(found['violations'])} violations"
            progress.update(task, description=said)
    return {**found, "undeterminable": dict(unknown)}


def _tell(found: dict[str, Any]) -> None:
    """The violations, then one line that sums up."""
    rows = [
        (show.at(one["at"]), one["rule"], one["reminder"], one["attempt"], one["what"])
        for one in found["violations"]
    ]
    if rows:
        show.table(("at", "rule", "reminder", "attempt", "what"), rows, empty="")
    broken = len({one["record"] for one in found["violations"]})
    why = ", ".join(f"{word} {count}" for word, count in sorted(found["undeterminable"].items()))
    unknown = f" ({sum(found['undeterminable'].values())} not determinable: {why})" if why else ""
    refused = f"; {found['refused']} of them a provider refused" if found["refused"] else ""
    show.say(f"{broken} of {found['checked']} sends broke a rule{unknown}{refused}")
