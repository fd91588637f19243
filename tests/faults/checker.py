"""What was accepted, what the providers' own ledger says, and what the gateway says: held against each other.

It judges by recipient, each reminder having its own, so that a second send under a new reference is seen.
"""

from collections import Counter, defaultdict
from dataclasses import dataclass, field

REACHED = {"sent", "delivered", "read", "failed"}
"""States of a reminder that say that somebody was called."""
ENDED = {"suppressed", "expired", "cancelled", "deferred", "failed"}
"""States in which it was not, for the reason that is given."""
CANNOT_BE_ASKED = {"smtp"}
"""Adapters whose provider tells nothing of what it took."""
SETTLED = 0.99
A_DAY = 3
"""OP.CAPS.DAY."""


@dataclass(frozen=True, kw_only=True)
class Promised:
    """What may become of an accepted reminder: whom it may reach, and whether it must not (now)."""

    to: str
    quiet: bool = False


@dataclass(kw_only=True)
class Verdict:
    """Each fault with the reminders it was found on, and how many of each were looked at."""

    lost: list = field(default_factory=list)
    twice: list = field(default_factory=list)
    over_cap: list = field(default_factory=list)
    in_quiet_hours: list = field(default_factory=list)
    unexplained: list = field(default_factory=list)
    unsettled: list = field(default_factory=list)
    tried: dict = field(default_factory=dict)

    def faults(self):
        """All of it that must not be, by its name."""
        names = ("lost", "twice", "over_cap", "in_quiet_hours", "unexplained", "unsettled")
        return {name: found for name in names if (found := getattr(self, name))}

    def settles(self):
        """Whether at least SETTLED of the unknowns whose provider can be asked are settled."""
        return self.tried["settled of these"] >= SETTLED * self.tried["whose provider can be asked"]

    def told(self, figure):
        """Put the figures into the table."""
        said = ", ".join(f"{name.replace('_', ' ')} {count}" for name, count in self.tried.items())
        figure("tried", said)
        counts = {
            "lost": self.lost,
            "twice": self.twice,
            "over a cap": self.over_cap,
            "in quiet hours": self.in_quiet_hours,
            "unexplained": self.unexplained,
            "known to the provider and not settled": self.unsettled,
        }
        figure("found", ", ".join(f"{name} {len(found)}" for name, found in counts.items()))


def check(accepted, ledger, reminders, attempts):
    """`accepted`: Promised by id, of the intake's answers. `ledger`: the simulators' lines. Rows of the gateway."""
    verdict = Verdict()
    reached, refs = Counter(line["to"] for line in ledger), defaultdict(list)
    whose = {row.ref: row.reminder for row in attempts}
    for line in ledger:
        refs[whose.get(line["ref"])].append(line)
    states = {row.id: row for row in reminders}
    many = Counter(promised.to for promised in accepted.values())

    twice = {promised.to for name, promised in accepted.items() if len(refs.get(name, ())) > 1}
    verdict.twice = sorted(twice | {to for to, times in reached.items() if times > many[to] > 0})
    verdict.over_cap = [to for to, times in reached.items() if times > A_DAY]
    verdict.in_quiet_hours = [name for name, promised in accepted.items() if promised.quiet and name in refs]
    verdict.unexplained = [line["ref"] for line in ledger if whose.get(line["ref"]) not in accepted]
    verdict.unexplained += [row.id for row in reminders if row.id not in accepted]
    latest = {row.reminder: row for row in attempts if row.state != "void"}
    for name in accepted:
        fault = stands_wrong(states.get(name), refs.get(name), latest.get(name))
        if fault is not None:
            getattr(verdict, fault).append(name)

    found = Counter(row.state for row in reminders)
    asked = [row for row in attempts if row.ending == "unknown" and row.adapter not in CANNOT_BE_ASKED]
    by_death = Counter(row.ended_at is None for row in attempts if row.ending == "unknown")
    verdict.tried = {
        "accepted": len(accepted),
        "reached": len(ledger),
        "people with more than a day's cap": sum(times > A_DAY for times in many.values()),
        "in quiet hours": sum(promised.quiet for promised in accepted.values()),
        "left unknown by a death": by_death[True],
        "left unknown by a call": by_death[False],
        "whose provider can be asked": len(asked),
        "settled of these": sum(row.state != "unknown" for row in asked),
        "not shown of these": sum(row.code == "not_shown" for row in asked),
        "parked unknown": found["unknown"],
    }
    return verdict


def stands_wrong(row, lines, attempt):
    """What is wrong with how a reminder stands, if anything."""
    if row is None:
        return "lost"
    if attempt is not None and attempt.code == "not_shown":
        return "unsettled" if lines or row.state != "failed" else None
    if row.state in REACHED and (lines or (row.state == "failed" and row.reason)):
        return None
    if row.state in ENDED and row.reason and not lines:
        return None
    if row.state == "unknown" and attempt is not None:
        knows = lines and attempt.adapter not in CANNOT_BE_ASKED
        return "unsettled" if knows else None
    return "unexplained" if lines or row.state in REACHED else "lost"


def at_rest(reminders, attempts, *, policy, real):
    """Whether nothing is due, under way or to be asked about, by these two clocks (µs)."""
    return (
        not any(row.state in ("intent", "calling") for row in attempts)
        and not any(
            row.state == "unknown"
            and row.settle_at is not None
            and (row.settle_tries == 0 or row.settle_at <= real)
            for row in attempts
        )
        and not any(
            row.state in ("sending", "waiting") or (row.next_at is not None and row.next_at <= policy)
            for row in reminders
        )
    )
