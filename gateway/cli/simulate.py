"""`gateway policy simulate`: what proposed packs or caps would have changed, before anyone applies them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any

import click

from gateway.cli import show
from gateway.cli.mistakes import Command
from gateway.cli.pack_files import texts_named
from gateway.cli.session import Door, Session, named, with_session
from gateway.errors import Fault, PolicyError, SetupError
from gateway.policy.bars import changes_svg
from gateway.policy.lint import Level, lint
from gateway.policy.tally import Cell, Tally, read_tally, tally_json
from gateway.policy.whatif import Gap, Kind, Why, cautions
from gateway.policy.written import read_written

FIRST_ORDER = (
    "First-order effects only: each decision was taken again with the history as it was. A message that would not"
    " have gone then would have changed what came after it; that is not in these numbers."
)
_CAP = re.compile(r"([^=]{1,64})=(\d{1,4})", re.ASCII)
_WHY = {
    Why.NOT_RECORDED: "what the decision read was never recorded",
    Why.ERASED: "what the decision read was erased",
    Why.CHANGED_SINCE: "the packs in use decide otherwise today than was decided then",
    Why.FACT: "never recorded, as no pack in use read it",
    Why.CONSENTS: "consents were never recorded, as no pack in use required one",
}
_DATE = click.DateTime(formats=["%Y-%m-%d"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """What is proposed: (file, TOML) of packs, numbers of caps; and on which local dates."""

    packs: Sequence[tuple[str, str]]
    caps: Mapping[str, int]
    since: date
    until: date


def _caps(_ctx: click.Context, _param: click.Parameter, given: Sequence[str]) -> dict[str, int]:
    found = [_CAP.fullmatch(one) for one in given]
    if not all(found):
        raise click.BadParameter("give RULE=NUMBER: OP.CAPS.DAY=2")
    return {match[1]: int(match[2]) for match in found if match}


@click.command(cls=Command)
@click.option(
    "--packs",
    multiple=True,
    metavar="PATH_OR_ID",
    help="A pack's file, a folder of them, or the id of one that ships; in place of what is loaded of its id.",
)
@click.option(
    "--cap", "caps", multiple=True, callback=_caps, metavar="RULE=N", help="Another number for a cap."
)
@click.option("--from", "since", type=_DATE, required=True, help="The first date, where the borrower is.")
@click.option(
    "--to", "until", type=_DATE, required=True, help="The first date that is not looked at any more."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option(
    "--picture",
    type=click.Path(path_type=Path, dir_okay=False, writable=True),
    help="Draw the days into this file, as SVG.",
)
@with_session()
@click.pass_context
def simulate(
    ctx: click.Context,
    door: Door,
    packs: Sequence[str],
    caps: Mapping[str, int],
    since: datetime,
    until: datetime,
    picture: Path | None,
    *,
    as_json: bool,
) -> None:
    """Replay the send log through proposed packs and caps, and count what would have gone otherwise.

    Exit code 0 when nothing would have, 1 when something would have, 2 when a pack is malformed.
    """
    if not packs and not caps:
        raise click.UsageError("say what to try: --packs PATH_OR_ID, or --cap RULE=N")
    tried = Tried(packs=texts_named(packs), caps=caps, since=since.date(), until=until.date())
    warned = cautions([read_written(*_checked(one)).pack for one in tried.packs], tried.since, tried.until)
    with named(_places(tried)):
        tally = door.run(lambda session: _replayed(session, tried))
    if picture is not None:
        _draw(picture, changes_svg(tally, tried.since, tried.until))
    if as_json:
        show.as_json({**tally_json(tally), "cautions": warned, "first_order_only": True})
    else:
        _tell(tally, tried, warned)
    ctx.exit(1 if tally.changes else 0)


def _checked(file: tuple[str, str]) -> tuple[str, str]:
    """A pack's text and name; PolicyError with the line of each mistake."""
    name, source = file
    faults = [
        Fault(at=f"{name}:{r.line}:{r.column}", code=r.code, message=f"{r.at}: {r.message}")
        for r in lint(source, today=date.min, shipped=(), adapters=())
        if r.level is Level.ERROR
    ]
    if faults:
        raise PolicyError(faults)
    return source, name


async def _replayed(session: Session, tried: Tried) -> Tally:
    """The sum of all pages; how far it is goes to stderr, where somebody looks."""
    body: dict[str, Any] = {
        "packs": [{"name": Path(name).name, "toml": source} for name, source in tried.packs],
        "caps": tried.caps,
        "from": tried.since.isoformat(),
        "to": tried.until.isoformat(),
    }
    tally, after = Tally(), None
    while True:
        found = await session.post("/v1/policy/simulate", {**body, "after": after})
        tally.add(read_tally(found))
        after = found["next"]
        if after is None:
            return tally
        click.echo(f"{tally.decisions} decisions replayed, going on", err=True)


def _places(tried: Tried) -> dict[str, tuple[str, str | None]]:
    return {
        "/from": ("--from", None),
        "/to": ("--to", None),
        **{f"/caps/{rule}": (f"--cap {rule}", None) for rule in tried.caps},
        **{f"/packs/{place}/toml": (name, None) for place, (name, _) in enumerate(tried.packs)},
    }


def _draw(picture: Path, svg: str) -> None:
    try:
        picture.write_text(svg, encoding="utf-8", newline="\n")
    except OSError as wrong:
        raise SetupError(f"--picture: it cannot be written: {wrong.strerror}") from None


def _tell(tally: Tally, tried: Tried, warned: Sequence[str]) -> None:
    show.say(
        f"{tally.decisions} decisions on {tally.reminder_days} reminders (each day counted by itself) replayed,"
        f" {tried.since} to before {tried.until}"
    )
    if tally.changes:
        show.table(("change", "rule", "reminders", "median"), _by_rule(tally), empty="")
        click.echo()
        show.table(("day", *(kind.value for kind in Kind)), _by_day(tally), empty="")
    elif tally.decisions:
        show.say("nothing would have been decided otherwise")
    if tally.gaps:
        click.echo()
        show.say(f"undeterminable: {sum(tally.gaps.values())}")
        show.table(("reminders", "fact", "because"), _unknown(tally), empty="")
    click.echo()
    for line in (*warned, FIRST_ORDER):
        show.say(line)


def _by_rule(tally: Tally) -> Iterator[tuple[object, ...]]:
    """For each kind and rule how many, and by how long in the middle."""
    cells: dict[tuple[Kind, str], list[Cell]] = {}
    for cell in tally.changes:
        cells.setdefault((cell.kind, cell.rule), []).append(cell)
    for kind, rule in sorted(cells, key=lambda key: (list(Kind).index(key[0]), key[1])):
        own = cells[kind, rule]
        yield kind.value, rule, sum(tally.changes[cell] for cell in own), _span(kind, tally.median(own))


def _by_day(tally: Tally) -> Iterator[tuple[object, ...]]:
    days: dict[str, Counter[Kind]] = {}
    for cell, count in tally.changes.items():
        days.setdefault(cell.day, Counter())[cell.kind] += count
    for day in sorted(days):
        yield (day, *(days[day][kind] for kind in Kind))


def _span(kind: Kind, minutes: int | None) -> str | None:
    """`14 h 00 later`."""
    if minutes is None:
        return None
    return f"{minutes // 60} h {minutes % 60:02} {'sooner' if kind is Kind.ALLOWED else 'later'}"


def _unknown(tally: Tally) -> Iterator[tuple[object, ...]]:
    def order(gap: Gap) -> tuple[int, str]:
        return -tally.gaps[gap], gap.fact or ""

    for gap in sorted(tally.gaps, key=order):
        yield tally.gaps[gap], gap.fact, _WHY[gap.why]
