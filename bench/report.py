"""What a run has shown: a table and a picture, ratios within the run, and whether the goals are met."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from drain import Drained

PROGRAMS = {
    "a": "this gateway",
    "b": "arq job per reminder",
    "c": "Celery, 4 children",
    "d": "bare loop",
    "e": "promise alone",
}
COLOURS = {"a": "#0969da", "b": "#8c959f", "c": "#8c959f", "d": "#2f9e6b", "e": "#8250df"}
WEAK = 0.1
"""Of (d)'s rate at one worker: a rival below it is no rival."""
BUSY = 0.8
"""Of a core: providers that are as busy as that are what was measured."""
MOST_CPU_US = 550
LEAST = {"b": 4.0, "c": 5.0}
LEAST_OF_BARE = 0.5
LEAST_SINGLE, LEAST_BATCH = 5.0, 5000.0


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Cell:
    """What is compared: all programs on these channels with so many workers."""

    channels: str
    workers: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Intake:
    """Reminders taken in a second, of each round: (a) singly and in batches, (b)'s durable row and job.

    `further`: in batches, for borrowers and about debts that are there; in `single` and `batch` each brings its own.
    """

    single: Sequence[float]
    batch: Sequence[float]
    further: Sequence[float]
    rival: Sequence[float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """A figure to reach."""

    words: str
    value: float
    goal: float
    at_most: bool = False

    @property
    def met(self) -> bool:
        """Whether it is reached."""
        return self.value <= self.goal if self.at_most else self.value >= self.goal


HEAD = (
    "| channels | workers | program | reminders/s, median (min to max) | worker | PostgreSQL | Valkey"
    " | providers, of a core | reached once |"
)

Found = Mapping[Cell, Mapping[str, Sequence[Drained]]]


def rate(rounds: Sequence[Drained]) -> float:
    """The median, in reminders a second."""
    return median(one.rate for one in rounds)


def cpu_us(rounds: Sequence[Drained], name: str) -> float:
    """The median, in µs a reminder."""
    return median(one.cpu_us[name] for one in rounds)


def goals(found: Found, intake: Intake | None) -> Iterator[Goal]:
    """Every goal that this run can tell of."""
    for cell, by in found.items():
        at = f"{cell.channels} x{cell.workers}"
        if "a" not in by:
            continue
        for who, least in LEAST.items():
            if who in by and cell.channels == "mixed":
                yield Goal(words=f"{at}: a/{who}", value=rate(by["a"]) / rate(by[who]), goal=least)
        if "d" in by and cell.workers == 1:
            yield Goal(words=f"{at}: a/d", value=rate(by["a"]) / rate(by["d"]), goal=LEAST_OF_BARE)
        used = sum(cpu_us(by["a"], name) for name in ("worker", "postgres", "valkey"))
        yield Goal(
            words=f"{at}: µs of worker, PostgreSQL and Valkey", value=used, goal=MOST_CPU_US, at_most=True
        )
    if intake is not None:
        ratio = median(intake.single) / median(intake.rival)
        yield Goal(words="intake: single POST against (b)'s enqueue", value=ratio, goal=LEAST_SINGLE)
        for words, rounds in (
            ("each with borrower and debt", intake.batch),
            ("of both known", intake.further),
        ):
            yield Goal(
                words=f"intake: reminders a second in batches, {words}",
                value=median(rounds),
                goal=LEAST_BATCH,
            )


def defects(found: Found) -> Iterator[str]:
    """What makes a figure of this run worthless."""
    for cell, by in found.items():
        at = f"{cell.channels} x{cell.workers}"
        for who, rounds in by.items():
            wrong = sum(one.faults for one in rounds)
            if wrong:
                yield f"{at}: ({who}) did not reach {wrong} of {sum(one.count for one in rounds)} exactly once"
            if busy(rounds) > BUSY:
                yield f"{at}: the providers were busy for {busy(rounds):.0%} of a core under ({who})"
        if cell.workers == 1 and "b" in by and "d" in by and rate(by["b"]) < WEAK * rate(by["d"]):
            yield f"{at}: (b) is a weak rival: {rate(by['b']) / rate(by['d']):.3f} of (d)'s rate"


def busy(rounds: Sequence[Drained]) -> float:
    """The providers' part of a core, at the median."""
    return median(one.cpu_us["providers"] * one.rate / 1e6 for one in rounds)


def markdown(found: Found, intake: Intake | None, said: str) -> str:
    """The report."""
    lines = [
        "# How fast reminders go out",
        "",
        said,
        "",
        HEAD,
        "|---|---|---|---|---|---|---|---|---|",
        *(line for cell, by in found.items() for line in _rows(cell, by)),
        "",
        "Processor in µs a reminder, medians; whole process trees.",
        "",
        "| channels | workers | a/b | a/c | a/d | a/e | b/d |",
        "|---|---|---|---|---|---|---|",
        *(_ratios(cell, by) for cell, by in found.items()),
    ]
    if intake is not None:
        lines += [
            "",
            "| handed in | a second, median (min to max) |",
            "|---|---|",
            f"| (a) single POST, 32 at once | {_spread(intake.single)} |",
            f"| (a) batches of 500, 4 at once, each with its borrower and debt | {_spread(intake.batch)} |",
            f"| (a) the same, borrowers and debts known | {_spread(intake.further)} |",
            f"| (b) one row and one arq job, 32 at once, no HTTP | {_spread(intake.rival)} |",
        ]
    lines += ["", "| goal | at least (µs: at most) | here | |", "|---|---|---|---|"]
    for goal in goals(found, intake):
        lines.append(
            f"| {goal.words} | {goal.goal:,g} | {goal.value:,.2f} | {'met' if goal.met else 'MISSED'} |"
        )
    lines += ["", *(f"**Defect:** {defect}" for defect in defects(found))]
    return "\n".join(lines).rstrip() + "\n"


def _rows(cell: Cell, by: Mapping[str, Sequence[Drained]]) -> Iterator[str]:
    for who, rounds in by.items():
        tried, wrong = sum(one.count for one in rounds), sum(one.faults for one in rounds)
        used = " | ".join(f"{cpu_us(rounds, name):,.0f}" for name in ("worker", "postgres", "valkey"))
        yield (
            f"| {cell.channels} | {cell.workers} | ({who}) {PROGRAMS[who]} | {_spread([one.rate for one in rounds])}"
            f" | {used} | {busy(rounds):.0%} | {tried - wrong:,} of {tried:,} |"
        )


def _ratios(cell: Cell, by: Mapping[str, Sequence[Drained]]) -> str:
    pairs = (("a", "b"), ("a", "c"), ("a", "d"), ("a", "e"), ("b", "d"))
    shown = [
        f"{rate(by[one]) / rate(by[other]):.2f}" if one in by and other in by else "" for one, other in pairs
    ]
    return f"| {cell.channels} | {cell.workers} | {' | '.join(shown)} |"


def _spread(rates: Sequence[float]) -> str:
    return f"{median(rates):,.0f} ({min(rates):,.0f} to {max(rates):,.0f})"


LEFT, WIDTH, BAR, GAP, TOP = 190, 520, 16, 14, 40
FONT = 'font-size="11" font-family="sans-serif" fill="#1f2328"'


def svg(found: Found) -> str:
    """Medians as bars, the spread as a line over each."""
    most = max(one.rate for by in found.values() for rounds in by.values() for one in rounds)
    bars = list(_bars(found, WIDTH / most))
    height = TOP + sum(len(by) * BAR + GAP for by in found.values())
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {LEFT + WIDTH + 80} {height}" {FONT} role="img">',
            "<title>Reminders a second</title>",
            f'<rect width="{LEFT + WIDTH + 80}" height="{height}" rx="6" fill="#fff"/>',
            '<text x="10" y="20" font-size="13">Reminders a second (median; line: min to max)</text>',
            *bars,
            "</svg>",
            "",
        ]
    )


def _bars(found: Found, scale: float) -> Iterator[str]:
    y = TOP
    for cell, by in found.items():
        yield f'<text x="10" y="{y + 12}">{cell.channels} x{cell.workers}</text>'
        for who, rounds in by.items():
            middle, rates = rate(rounds) * scale, [one.rate * scale for one in rounds]
            line = y + BAR / 2 - 1
            yield f'<text x="{LEFT - 8}" y="{y + 12}" text-anchor="end">({who}) {PROGRAMS[who].split(",")[0]}</text>'
            yield (
                f'<rect x="{LEFT}" y="{y}" width="{middle:.1f}" height="{BAR - 3}" fill="{COLOURS[who]}"/>'
                f'<path d="M{LEFT + min(rates):.1f} {line}H{LEFT + max(rates):.1f}" stroke="#1f2328"/>'
                f'<text x="{LEFT + max(middle, *rates) + 6:.1f}" y="{y + 12}">{rate(rounds):,.0f}</text>'
            )
            y += BAR
        y += GAP
