"""How fast the policy engine decides: medians of rounds with their spread, the plain witness beside it.

    python bench/policy.py [--rounds 7] [--json]

Rates are per second of one core's time. Three pieces of work, each with 10 rules, 2 zones and 20 earlier contacts:
one that may go; a typical next opening; a search of 75 days that finds none. The witness (gateway.audit.reading)
answers the same question at one instant, so it is set against the first piece only.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from statistics import median
from time import process_time
from typing import Any, NamedTuple

from gateway.audit.reading import objecting
from gateway.policy.decide import judge
from gateway.policy.model import Event, Pack, Question, Verdict
from gateway.policy.parse import parse_pack, shipped

ZONES = ("America/New_York", "America/Chicago")
NOON = datetime(2026, 11, 24, 18, tzinfo=UTC)
NIGHT = datetime(2026, 11, 24, 8, tzinfo=UTC)
CALL = Question(channel="voice", borrower="B", debt="D", creditor="C", purpose="collection")
RULES = 10
HEADER = (
    '[pack]\nid = "{0}"\nversion = "1"\ntitle = "t"\nreview_status = "r"\nsource = "s"\napplies = ["US"]\n'
)
MORE = """
[[rule]]
id = "{0}.{1}"
kind = "cap"
max = 40
window = {{type = "dates", n = {2}}}
per = ["borrower"]
"""
MONDAY = (
    '[[rule]]\nid = "NEVER.MON"\nkind = "window"\ndays = [{on = ["mon"], open = "08:00", close = "09:00"}]\n'
)
TUESDAY = MONDAY.replace("MON", "TUE").replace('["mon"]', '["tue"]')


class Work(NamedTuple):
    """One piece of work, how often it runs in a round, and how fast it should be."""

    name: str
    run: Callable[[], Any]
    times: int
    least: float | None


def main() -> int:
    """Measure, print, and say by the exit code whether the goals were met."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--rounds", type=int, default=7, choices=range(1, 101), metavar="1..100")
    options.add_argument("--json", action="store_true", help="print one JSON object")
    given = options.parse_args()
    found = [_measured(work, given.rounds) for work in _works()]
    said = {"python": platform.python_version(), "load": round(os.getloadavg()[0], 1), "rounds": given.rounds}
    ratio = found[0]["median"] / found[-1]["median"]
    if given.json:
        print(json.dumps({**said, "work": found, "times_the_witness": round(ratio, 1)}))  # noqa: T201
    else:
        _tell(said, found, ratio)
    return 0 if all(one["met"] for one in found) else 1


def _works() -> list[Work]:
    packs = _ten_rules()
    sparse, dense = _history(timedelta(days=2)), _history(timedelta(hours=6))
    never = (*packs[:1], parse_pack(HEADER.format("NEVER") + MONDAY + TUESDAY, "NEVER.toml"))
    given: dict[str, Any] = {"zones": ZONES, "facts": {}}
    return [
        Work("decides to send", lambda: judge(packs, CALL, history=sparse, now=NOON, **given), 2000, 10_000),
        Work("next opening", lambda: judge(packs, CALL, history=dense, now=NIGHT, **given), 500, 1000),
        Work("75 days, no opening", lambda: judge(never, CALL, history=dense, now=NIGHT, **given), 50, 50),
        Work("the witness", lambda: objecting(packs, CALL, history=sparse, at=NOON, **given), 100, None),
    ]


def _ten_rules() -> tuple[Pack, ...]:
    """Regulation F as it ships, with as many caps as make ten rules that have a word on a call."""
    plain = Question(channel="voice", borrower="B", debt="D", creditor="C")
    regf = shipped()["US.REGF"]
    own = len({finding.of.id for finding in _judged((regf,), plain).findings})
    caps = "".join(MORE.format("MORE", n, n + 1) for n in range(RULES - own))
    packs = (regf, parse_pack(HEADER.format("MORE") + caps, "MORE.toml")) if caps else (regf,)
    assert len({finding.of.id for finding in _judged(packs, CALL).findings}) == RULES  # noqa: S101
    return packs


def _judged(packs: tuple[Pack, ...], question: Question) -> Verdict:
    return judge(packs, question, zones=ZONES, history=(), facts={}, now=NOON)


def _history(apart: timedelta) -> tuple[Event, ...]:
    return tuple(
        Event(
            at=NIGHT - apart * n, channel="voice", outcome="no_answer", borrower="B", debt="D", creditor="C"
        )
        for n in range(1, 21)
    )


def _measured(work: Work, rounds: int) -> dict[str, Any]:
    rates = sorted(_rate(work) for _ in range(rounds))
    middle = median(rates)
    return {
        "name": work.name,
        "median": round(middle, 1),
        "lowest": round(rates[0], 1),
        "highest": round(rates[-1], 1),
        "least": work.least,
        "met": work.least is None or middle >= work.least,
    }


def _rate(work: Work) -> float:
    """Runs a second in one round."""
    started = process_time()
    for _ in range(work.times):
        work.run()
    return work.times / (process_time() - started)


def _tell(said: dict[str, Any], found: list[dict[str, Any]], ratio: float) -> None:
    out = sys.stdout.write
    out(f"Python {said['python']}, load {said['load']}, {said['rounds']} rounds, per second of one core:\n")
    for one in found:
        goal = (
            ""
            if one["least"] is None
            else f"  goal {one['least']:>8,.0f}  {'met' if one['met'] else 'MISSED'}"
        )
        spread = f"{one['lowest']:>9,.0f} to {one['highest']:>9,.0f}"
        out(f"{one['name']:<20} {one['median']:>9,.0f}  ({spread}){goal}\n")
    out(f"{ratio:.0f} times the plain second implementation on the same question\n")


if __name__ == "__main__":
    sys.exit(main())
