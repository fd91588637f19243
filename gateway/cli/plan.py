"""`gateway quota plan`: what a change would do to the work that waits, before anybody makes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import click

from gateway.cli import show
from gateway.cli.mistakes import Command
from gateway.cli.pause import UNTIL_FORM, end_of
from gateway.cli.plan_picture import draw
from gateway.cli.session import Door, Session, named, with_session
from gateway.errors import BadInput, SetupError
from gateway.quotas import spec
from gateway.quotas.model import WORDS

COLUMNS = ("queue", "waiting", "drains in", "expire", "roll over", "cost")
AS_IT_WAITS = (
    "What waits is replayed as it stands, nothing is decided anew: what rules will still hold back is counted as if"
    " it went."
)
MINUTE_S, HOUR_S, DAY_S = 60, 3600, 86_400


@click.command("plan", cls=Command)
@click.argument("name")
@click.argument("words", nargs=-1, metavar="KEY=VALUE...")
@click.option("--unset", is_flag=True, help="Try what taking the quota away would do.")
@click.option("--until", default=None, help=f"When it would be taken back by itself: {UNTIL_FORM}.")
@click.option(
    "--picture",
    type=click.Path(path_type=Path, dir_okay=False, writable=True),
    help="Draw the queues over time into this file, as SVG.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@with_session()
def plan(
    door: Door,
    *,
    name: str,
    words: Sequence[str],
    unset: bool,
    until: str | None,
    picture: Path | None,
    as_json: bool,
) -> None:
    """Try a change of the quota NAME on the work that waits, as `set` would make it; nothing is applied.

    For each queue, today → proposed: when it drains, what expires unsent, what waits still at midnight, what it costs.
    """
    if unset == bool(words or until):
        raise click.UsageError("say what to try: KEY=VALUE as for gateway quota set, or --unset and no more")
    said, wrong = spec.keywords(words)
    if wrong:
        raise BadInput(wrong)
    with named(_places(name)):
        found = door.run(lambda session: _planned(session, name, None if unset else said, until))
    if picture is not None:
        _keep(picture, draw(found))
    if as_json:
        show.as_json(found)
        return
    show.table(COLUMNS, [_row(queue, found["at"]) for queue in found["queues"]], empty="nothing waits")
    if found["queues"]:
        click.echo()
        show.say(AS_IT_WAITS)


async def _planned(
    session: Session, name: str, said: Mapping[str, Any] | None, until: str | None
) -> Mapping[str, Any]:
    if said is not None and until is not None:
        said = {**said, "until": await end_of(session, until)}
    found: Mapping[str, Any] = await session.post("/v1/quotas/plan", {"quotas": {name: said}})
    return found


def _row(queue: Mapping[str, Any], at: str) -> tuple[object, ...]:
    sides = queue["now"], queue["proposed"]
    return (
        f"{queue['channel']} {queue['tenant']} {queue['priority']}",
        queue["waiting"],
        _both(*(_span(side["drains_at"], at) for side in sides)),
        *(_both(*(str(side[key]) for side in sides)) for key in ("expires", "rolls_over")),
        _both(*(_cost(side["cost"]) for side in sides)),
    )


def _both(today: str, proposed: str) -> str:
    return today if today == proposed else f"{today} → {proposed}"


def _span(instant: str, since: str) -> str:
    """How long until then, to three digits or so: `45 s`, `12 min`, `2 h 14`, `3 d 04 h`."""
    seconds = round((_instant(instant) - _instant(since)) / timedelta(seconds=1))
    if seconds < 10 * MINUTE_S:
        return f"{seconds} s"
    if seconds < 2 * HOUR_S:
        return f"{seconds // MINUTE_S} min"
    if seconds < 2 * DAY_S:
        return f"{seconds // HOUR_S} h {seconds % HOUR_S // MINUTE_S:02}"
    return f"{seconds // DAY_S} d {seconds % DAY_S // HOUR_S:02} h"


def _instant(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _cost(amounts: Sequence[Mapping[str, str]]) -> str:
    return " + ".join(f"{money['amount']} {money['currency']}" for money in amounts) or "-"


def _keep(picture: Path, svg: str) -> None:
    try:
        picture.write_text(svg, encoding="utf-8", newline="\n")
    except OSError as wrong:
        raise SetupError(f"--picture: it cannot be written: {wrong.strerror}") from None


def _places(name: str) -> dict[str, tuple[str, str | None]]:
    """Places in the body in the words of the command line."""
    at = f"/quotas/{name}"
    return {
        "/quotas": ("NAME", None),
        at: ("KEY=VALUE", None),
        f"{at}/until": ("--until", f"give {UNTIL_FORM}; it must be still to come"),
        **{f"{at}/scope/{word}": (word, None) for word in WORDS},
        **{f"{at}/{key}": (key, None) for key in spec.KEYS},
        **{f"{at}/each/{place}": ("each", None) for place in range(len(WORDS))},
        **{f"{at}/budget/{key}": ("budget", None) for key in ("amount", "currency", "per")},
        f"{at}/budget/alarm_at": ("alarm_at", None),
    }
