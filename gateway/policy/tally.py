"""What a replay came to, counted per day and rule; parts of it add up.

A reminder counts once a day in each count, however often it was looked at that day: a deferral that was
looked at every quarter of an hour is one deferral.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, NamedTuple

from gateway.policy.whatif import Change, Gap, Kind, Why

_MINUTE = timedelta(minutes=1)


class Cell(NamedTuple):
    """One count of changes."""

    day: str
    kind: Kind
    rule: str


@dataclass(slots=True, kw_only=True)
class Tally:
    """`decisions` looked at, of so many reminders a day; changes, how many minutes they are off; what is not known."""

    decisions: int = 0
    reminder_days: int = 0
    changes: Counter[Cell] = field(default_factory=Counter)
    minutes: dict[Cell, Counter[int]] = field(default_factory=dict)
    gaps: Counter[Gap] = field(default_factory=Counter)

    def add(self, other: Tally) -> None:
        """Count a part in that speaks of other persons."""
        self.decisions += other.decisions
        self.reminder_days += other.reminder_days
        self.changes.update(other.changes)
        self.gaps.update(other.gaps)
        for cell, minutes in other.minutes.items():
            self.minutes.setdefault(cell, Counter()).update(minutes)

    def total(self, kind: Kind) -> int:
        """All changes of a kind."""
        return sum(count for cell, count in self.changes.items() if cell.kind is kind)

    def median(self, cells: Iterable[Cell]) -> int | None:
        """The middle of the minutes of these, the lower one of two; None when there is none."""
        minutes: Counter[int] = sum((self.minutes.get(cell, Counter()) for cell in cells), Counter())
        ordered = sorted(minutes.elements())
        return ordered[(len(ordered) - 1) // 2] if ordered else None


class Count:
    """Counts the decisions of some persons into a tally."""

    def __init__(self) -> None:
        self.tally = Tally()
        self._days: set[tuple[str, str]] = set()
        self._counted: set[tuple[str, str, Kind | Gap]] = set()

    def see(self, reminder: str, day: str, found: Change | Gap | None) -> None:
        """One decision on a reminder, on a local date, in the order that they were taken."""
        tally = self.tally
        tally.decisions += 1
        if (reminder, day) not in self._days:
            self._days.add((reminder, day))
            tally.reminder_days += 1
        if found is None:
            return
        key = (reminder, day, found.kind if isinstance(found, Change) else found)
        if key in self._counted:
            return
        self._counted.add(key)
        if isinstance(found, Gap):
            tally.gaps[found] += 1
            return
        cell = Cell(day, found.kind, found.rule)
        tally.changes[cell] += 1
        if found.by is not None:
            tally.minutes.setdefault(cell, Counter())[round(found.by / _MINUTE)] += 1


def tally_json(tally: Tally) -> dict[str, Any]:
    """A tally as JSON; `minutes` are pairs of minutes and how many."""
    return {
        "decisions": tally.decisions,
        "reminder_days": tally.reminder_days,
        "changes": [
            {
                "day": cell.day,
                "kind": cell.kind.value,
                "rule": cell.rule,
                "count": count,
                "minutes": sorted(tally.minutes.get(cell, Counter()).items()),
            }
            for cell, count in sorted(tally.changes.items())
        ],
        "undeterminable": [
            {"why": gap.why.value, "fact": gap.fact, "count": count}
            for gap, count in sorted(tally.gaps.items(), key=lambda pair: (pair[0].why, pair[0].fact or ""))
        ],
    }


def read_tally(said: Mapping[str, Any]) -> Tally:
    """The tally that was written so."""
    tally = Tally(decisions=said["decisions"], reminder_days=said["reminder_days"])
    for row in said["changes"]:
        cell = Cell(row["day"], Kind(row["kind"]), row["rule"])
        tally.changes[cell] += row["count"]
        tally.minutes[cell] = Counter(dict(row["minutes"]))
    for row in said["undeterminable"]:
        tally.gaps[Gap(Why(row["why"]), row["fact"])] += row["count"]
    return tally
