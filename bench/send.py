"""How fast reminders go out, beside what anybody would write: one stand, one run, in turn.

python bench/send.py [--only a] [--channel sms] [--workers 1] [--count 2000] [--rounds 5] [--keep-logs DIR]
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from drain import Drained, drain
from ours import Ours
from stand import StandError, standing
from work import CHANNELS


def main() -> int:
    """Measure and print."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--only", choices=("a",), default="a")
    options.add_argument("--channel", choices=CHANNELS, default="sms")
    options.add_argument("--workers", type=int, default=1)
    options.add_argument("--count", type=int, default=2000)
    options.add_argument("--rounds", type=int, default=1)
    options.add_argument("--keep-logs", type=Path, metavar="DIR")
    given = options.parse_args()
    try:
        with standing(given.keep_logs) as stand:
            ours = Ours(stand)
            ours.make()
            for _ in range(given.rounds):
                with ours.served() as run:
                    took = run.take_in(given.count, given.channel)
                    say(f"taken in: {given.count / took:,.0f} a second")
                    workers = run.join(given.workers)
                    tell(drain(stand, workers, run.begin, given.count, given.channel, why=run.states))
    except StandError as wrong:
        sys.stderr.write(f"{wrong}\n")
        return 1
    return 0


def tell(found: Drained) -> None:
    """One drain in a line."""
    cpu = ", ".join(f"{name} {us:.0f}" for name, us in found.cpu_us.items())
    say(
        f"{found.rate:,.0f} reminders a second ({found.count} in {found.seconds:.2f} s, load {os.getloadavg()[0]:.1f});"
        f" µs a reminder: {cpu}; lost {found.lost}, twice {found.twice}, to others {found.strangers}"
    )


def say(line: str) -> None:
    """One line for whoever looks on."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
