"""How fast reminders go out, beside what anybody would write: one stand, one run, in turn.

    python bench/send.py [--only a b c d e intake] [--channel sms email mixed] [--workers 1 2] [--rounds 5]
                         [--seconds 8 | --count N] [--out FOLDER] [--keep-logs FOLDER]

(a) is this gateway over its HTTP API, (b) an arq job per reminder, (c) a Celery task per reminder, (d) the bare loop,
(e) the gateway's promise with nothing decided.
All have the same reminders, borrowers, caps, hours and texts, the same providers, and PostgreSQL with fsync. What
counts is the providers' own ledger: from the first reminder to the last. It ends with 1 when a goal is missed.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
from collections.abc import Callable, Sequence
from math import ceil
from pathlib import Path

from drain import Drained, drain
from ours import Ours
from report import Cell, Found, Intake, defects, goals, markdown, svg
from rich.console import Console
from rich.markdown import Markdown
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from stand import Stand, StandError, standing
from theirs import bare_loop, enqueue_singly, promise_alone, under_arq, under_celery
from work import CHANNELS

RIVALS = {"b": under_arq, "c": under_celery, "d": bare_loop, "e": promise_alone}
INTAKE = "intake"
TRIAL = {"a": 1000, "b": 1000, "c": 1000, "d": 5000, "e": 3000}
"""Reminders by which it is found how many a drain of so many seconds needs."""
SPARE = 1.15
"""A little more, as a short trial is not exact."""

Told = Callable[[int], object]


class Bench:
    """One run over one stand."""

    def __init__(self, stand: Stand, progress: Progress, given: argparse.Namespace) -> None:
        self._stand = stand
        self._progress = progress
        self._given = given
        self._ours = Ours(stand)

    def run(self) -> tuple[Found, Intake | None]:
        """All that was asked for."""
        only = self._given.only
        if "a" in only or INTAKE in only:
            self._ours.make()
        programs = [who for who in only if who != INTAKE]
        cells = [Cell(channels=c, workers=w) for c in self._given.channel for w in self._given.workers]
        found = {cell: self._cell(cell, programs) for cell in cells} if programs else {}
        return found, self._intake() if INTAKE in only else None

    def _cell(self, cell: Cell, programs: Sequence[str]) -> dict[str, list[Drained]]:
        counts = {who: self._given.count or self._enough(who, cell) for who in programs}
        found: dict[str, list[Drained]] = {who: [] for who in programs}
        for number in range(1, self._given.rounds + 1):
            for who in programs:
                done = self._shown(who, cell, counts[who], f"round {number}")
                found[who].append(done)
                self._progress.console.print(line(who, cell, done), highlight=False)
        return found

    def _enough(self, who: str, cell: Cell) -> int:
        trial = self._shown(who, cell, TRIAL[who], "trial")
        hundreds: int = ceil(trial.rate * self._given.seconds * SPARE / 100)
        return max(TRIAL[who], 100 * hundreds)

    def _shown(self, who: str, cell: Cell, count: int, words: str) -> Drained:
        words = f"({who}) {cell.channels} x{cell.workers}, {words}"
        task = self._progress.add_task(words, total=count)
        try:
            return self._once(who, cell, count, lambda far: self._progress.update(task, completed=far))
        finally:
            self._progress.remove_task(task)

    def _once(self, who: str, cell: Cell, count: int, told: Told) -> Drained:
        stand, channels = self._stand, cell.channels
        if who == "a":
            with self._ours.served() as run:
                run.take_in(count, channels)
                workers = run.join(cell.workers)
                return drain(stand, workers, run.begin, count, channels, told, run.states)
        with RIVALS[who](stand, count, channels, cell.workers) as rival:
            return drain(stand, rival.workers, rival.begin, count, channels, told, rival.states)

    def _intake(self) -> Intake:
        kinds: dict[str, Callable[[int], float]] = {
            "single": self._singly,
            "batch": self._in_batches,
            "further": self._further,
            "rival": lambda count: count / enqueue_singly(self._stand, count),
        }
        found: dict[str, list[float]] = {kind: [] for kind in kinds}
        counts: dict[str, int] = {}
        for number in range(1, self._given.rounds + 1):
            for kind, measured in kinds.items():
                task = self._progress.add_task(f"intake: {kind}, round {number}", total=None)
                if kind not in counts:
                    trial = measured(TRIAL["a"])
                    counts[kind] = self._given.count or 500 * ceil(trial * self._given.seconds * SPARE / 500)
                found[kind].append(measured(counts[kind]))
                self._progress.remove_task(task)
                text = f"intake: {kind} {found[kind][-1]:,.0f} a second, {counts[kind]:,} of them"
                self._progress.console.print(text, highlight=False)
        return Intake(**found)

    def _singly(self, count: int) -> float:
        with self._ours.served() as run:
            return count / run.take_in_singly(count, "sms")

    def _in_batches(self, count: int) -> float:
        with self._ours.served() as run:
            return count / run.take_in(count, "sms")

    def _further(self, count: int) -> float:
        with self._ours.served() as run:
            run.take_in(count, "sms")
            return count / run.take_in_further(count, "sms")


def line(who: str, cell: Cell, done: Drained) -> str:
    """One drain in a line."""
    cpu = ", ".join(f"{name} {us:,.0f}" for name, us in done.cpu_us.items())
    return (
        f"({who}) {cell.channels} x{cell.workers}: {done.rate:,.0f} a second ({done.count} in {done.seconds:.2f} s,"
        f" load {os.getloadavg()[0]:.1f}); µs: {cpu}; lost {done.lost}, twice {done.twice}, to others {done.strangers}"
    )


def main() -> int:
    """Measure, print, and say by the exit code whether the goals were met."""
    given = arguments()
    console = Console(width=None if sys.stdout.isatty() else 160)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    try:
        with standing(given.keep_logs) as stand, Progress(*columns, console=console) as progress:
            found, intake = Bench(stand, progress, given).run()
    except StandError as wrong:
        sys.stderr.write(f"{wrong}\n")
        return 1
    said = (
        f"Python {platform.python_version()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the end,"
        f" medians of {given.rounds}. Only ratios of one run can be compared."
    )
    report = markdown(found, intake, said)
    console.print(Markdown(report))
    if given.out is not None:
        given.out.mkdir(parents=True, exist_ok=True)
        (given.out / "send.md").write_text(report)
        if found:
            (given.out / "send.svg").write_text(svg(found))
    return 0 if all(goal.met for goal in goals(found, intake)) and not list(defects(found)) else 1


def arguments() -> argparse.Namespace:
    """What was asked for."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument(
        "--only",
        nargs="+",
        choices=("a", *RIVALS, INTAKE),
        default=["a", *RIVALS, INTAKE],
        metavar="a|b|c|d|e|intake",
    )
    options.add_argument("--channel", nargs="+", choices=CHANNELS, default=CHANNELS)
    options.add_argument(
        "--workers", nargs="+", type=int, choices=range(1, 17), default=[1, 2], metavar="1..16"
    )
    options.add_argument("--rounds", type=int, choices=range(1, 101), default=5, metavar="1..100")
    options.add_argument("--seconds", type=float, default=8.0, help="that each drain takes at least, roughly")
    options.add_argument("--count", type=int, help="reminders of each drain, whatever time it takes")
    options.add_argument("--out", type=Path, metavar="FOLDER", help="where send.md and send.svg are written")
    options.add_argument(
        "--keep-logs", type=Path, metavar="FOLDER", help="where every process's words are kept"
    )
    given = options.parse_args()
    if not 0 < given.seconds <= 3600 or not 0 < (given.count or 1) <= 1_000_000:  # noqa: PLR2004
        options.error("--seconds is above 0 and at most 3600, --count 1 to 1000000")
    return given


if __name__ == "__main__":
    sys.exit(main())
