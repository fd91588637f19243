"""How fast reminders go out, beside what anybody would write: one stand, one run, in turn.

python bench/send.py [--only a b c d] [--channel sms email mixed] [--workers 1 2] [--seconds 8 | --count N]
[--rounds 5] [--keep-logs DIR]
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from drain import Drained, drain
from ours import Ours
from stand import Stand, StandError, standing
from theirs import bare_loop, under_arq, under_celery
from work import CHANNELS

RIVALS = {"b": under_arq, "c": under_celery, "d": bare_loop}


def main() -> int:
    """Measure and print."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--only", nargs="+", choices=("a", *RIVALS), default=["a", *RIVALS])
    options.add_argument("--channel", nargs="+", choices=CHANNELS, default=CHANNELS)
    options.add_argument("--workers", nargs="+", type=int, default=[1, 2])
    options.add_argument("--count", type=int, default=2000)
    options.add_argument("--rounds", type=int, default=1)
    options.add_argument("--keep-logs", type=Path, metavar="DIR")
    given = options.parse_args()
    try:
        with standing(given.keep_logs) as stand:
            ours = Ours(stand)
            if "a" in given.only:
                ours.make()
            for channels in given.channel:
                for workers in given.workers:
                    for _ in range(given.rounds):
                        for who in given.only:
                            say(f"{who} {channels} x{workers}")
                            tell(once(stand, ours, who, given.count, channels, workers))
    except StandError as wrong:
        sys.stderr.write(f"{wrong}\n")
        return 1
    return 0


def once(stand: Stand, ours: Ours, who: str, count: int, channels: str, workers: int) -> Drained:
    if who == "a":
        with ours.served() as run:
            run.take_in(count, channels)
            return drain(stand, run.join(workers), run.begin, count, channels, why=run.states)
    with RIVALS[who](stand, count, channels, workers) as rival:
        return drain(stand, rival.workers, rival.begin, count, channels, why=rival.states)


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
