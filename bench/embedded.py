"""The embedded default, everything in one process and one file of SQLite, beside what anybody would write.

    python bench/embedded.py [--channel mixed] [--rounds 3] [--seconds 8]

`gateway up` with its own Valkey, over its HTTP API with quotas on, and (b) of bench/send.py with one worker and a
PostgreSQL, in turn. It ends with 1 when a goal is missed.
"""

from __future__ import annotations

import argparse
import json
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from statistics import median

from drain import Drained, drain
from ours import ACCOUNTS, GATEWAY, QUOTA, SETTLED_S, Run, bare_environ, clock_rows
from report import Cell
from rich.console import Console
from send import SPARE, TRIAL, line
from stand import Program, Stand, StandError, free_port, run, standing, until
from theirs import under_arq
from work import CHANNELS, DUE_AT, TAKEN_AT

TENANT = "default"
"""The tenant that `up` makes."""
FIRST_KEY = "first live key (shown once): "
LEAST = 2.0


@dataclass(slots=True)
class Embedded(Run):
    """`gateway up` over a folder of its own."""

    folder: Path

    def join(self, workers: int) -> list[Program]:
        """It is its own worker."""
        del workers
        time.sleep(SETTLED_S)
        return [self.api]

    def begin(self) -> None:
        """Half an hour passes on the clock that rules see: all are due."""
        self.set_clock(DUE_AT.timestamp() + 1)

    def set_clock(self, instant_s: float) -> None:
        """Let the clock that rules see go on from there."""
        with closing(self._rows()) as rows, rows:
            for statement in clock_rows(instant_s):
                rows.execute(statement)

    def states(self) -> dict[str, int]:
        """Reminders by state."""
        with closing(self._rows()) as rows:
            return dict(rows.execute("SELECT state, count(*) FROM reminder GROUP BY 1"))

    def _rows(self) -> sqlite3.Connection:
        return sqlite3.connect(self.folder / "gateway.db", timeout=30)


@contextmanager
def embedded(stand: Stand, number: int) -> Iterator[Embedded]:
    """A new one, ready."""
    folder = stand.folder / f"embedded{number}"
    folder.mkdir(mode=0o700)
    accounts = folder / "accounts.toml"
    providers = stand.providers
    accounts.write_text(ACCOUNTS.format(tenant=TENANT, twilio=providers.twilio, smtp=providers.smtp))
    public = f"http://127.0.0.1:{free_port()}"
    environ = bare_environ() | {"GATEWAY_DATA": str(folder), "GATEWAY_LISTEN": public.removeprefix("http://")}
    name = f"up{number}"
    up = run(name, [*GATEWAY, "up", "--accounts", str(accounts)], stand.logs, environ)
    try:
        made = Embedded(stand, "", environ, public, "", up, [], folder)
        until(made.ready, "gateway up")
        said = (stand.logs / f"{name}.log").read_text()
        made.key = said.partition(FIRST_KEY)[2].split()[0]
        words = ["quota", "set", "bench", *QUOTA, "--reason", "the benchmark"]
        subprocess.run([*GATEWAY, *words], env=environ, capture_output=True, check=True)  # noqa: S603 (our own command)
        made.set_clock(TAKEN_AT.timestamp())
        yield made
    finally:
        up.end()


class Bench:
    """Both programs over one stand."""

    def __init__(self, stand: Stand, channels: str) -> None:
        self._stand = stand
        self._channels = channels
        self._runs = 0

    def ours(self, count: int) -> Drained:
        """So many through `gateway up`."""
        self._runs += 1
        with embedded(self._stand, self._runs) as made:
            made.take_in(count, self._channels)
            return drain(self._stand, made.join(1), made.begin, count, self._channels, why=made.states)

    def theirs(self, count: int) -> Drained:
        """So many through (b)."""
        with under_arq(self._stand, count, self._channels, 1) as rival:
            return drain(self._stand, rival.workers, rival.begin, count, self._channels, why=rival.states)


def main() -> int:
    """Measure, tell, and say whether the goal is met."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--channel", choices=CHANNELS, default="mixed")
    options.add_argument("--rounds", type=int, choices=range(1, 101), default=3, metavar="1..100")
    options.add_argument("--seconds", type=float, default=8.0, help="that each drain takes at least, roughly")
    given = options.parse_args()
    console = Console(width=None if sys.stdout.isatty() else 160)
    rates: dict[str, list[float]] = {"embedded": [], "b": []}
    try:
        with standing(None) as stand:
            bench = Bench(stand, given.channel)
            programs = {"embedded": bench.ours, "b": bench.theirs}
            counts = {
                who: max(1000, 100 * ceil(drained(TRIAL["a"]).rate * given.seconds * SPARE / 100))
                for who, drained in programs.items()
            }
            for _ in range(given.rounds):
                for who, drained in programs.items():
                    done = drained(counts[who])
                    console.print(line(who, Cell(channels=given.channel, workers=1), done), highlight=False)
                    if done.faults:
                        return 1
                    rates[who].append(done.rate)
    except (StandError, subprocess.CalledProcessError) as wrong:
        sys.stderr.write(f"{wrong}\n")
        return 1
    ratio = median(rates["embedded"]) / median(rates["b"])
    console.print(json.dumps({who: [round(rate) for rate in found] for who, found in rates.items()}))
    console.print(f"{ratio:.2f} times as fast as (b) ({LEAST:.0f} is meant)")
    return 0 if ratio >= LEAST else 1


if __name__ == "__main__":
    sys.exit(main())
