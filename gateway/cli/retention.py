"""`gateway policy retention`: how long records must and may be kept for borrowers of these places."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from gateway.cli import show
from gateway.cli.mistakes import Command
from gateway.errors import BadInput, Fault
from gateway.policy.model import Kept, Retention
from gateway.policy.packs import applying, load
from gateway.policy.retention import Term, terms
from gateway.policy.zones import is_country

STARTS = {"event": "the event", "last_contact": "the last contact", "closure": "the debt's closure"}


@click.command(cls=Command)
@click.argument("places", nargs=-1, required=True, metavar="PLACE...")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array, an object per class of records.")
def retention(places: Sequence[str], *, as_json: bool) -> None:
    """Show how long records must and may be kept for PLACE (CN, US-NY, GR), several together.

    Where a maximum lies below a minimum the law of these places conflicts: keep apart what only one of them binds.
    """
    faults = [
        Fault(at=f"/places/{n}", code="place_unknown", message="no such place; use ISO 3166, CN or US-NY")
        for n, place in enumerate(places)
        if not is_country(place.partition("-")[0])
    ]
    if faults:
        raise BadInput(faults)
    found = [applying(load(), residence=place, governing_law=None) for place in places]
    packs = list(dict.fromkeys(pack for one in found for pack in one.packs(hours_at_home=True)))
    asked = terms(packs)
    if as_json:
        show.as_json([_json(term) for term in asked])
        return
    rows = [
        [term.records, *_side(term.least, "min"), *_side(term.most, "max"), "yes" if term.conflict else ""]
        for term in asked
    ]
    show.table(("records", "at least", "by", "at most", "by", "conflict"), rows, empty="")


def _json(term: Term) -> dict[str, Any]:
    return {
        "records": term.records,
        "min": [{"rule": rule.id, "cite": rule.cite, **_span(rule.min)} for rule in term.least],
        "max": [{"rule": rule.id, "cite": rule.cite, **_span(rule.max)} for rule in term.most],
        "conflict": term.conflict,
    }


def _span(kept: Kept | None) -> dict[str, Any]:
    return {} if kept is None else {"years": kept.years, "days": kept.days, "from": kept.start}


def _side(rules: Sequence[Retention], side: str) -> tuple[str, str]:
    """The binding rule's term and its id."""
    if not rules:
        return "", ""
    kept: Kept = getattr(rules[0], side)
    number, unit = (kept.years, "year") if kept.years else (kept.days, "day")
    span = f"{number} {unit}" if number == 1 else f"{number} {unit}s"
    return f"{span} from {STARTS[kept.start]}", rules[0].id
