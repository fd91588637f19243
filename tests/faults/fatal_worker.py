"""`gateway worker` that ends when it decides on one reminder: `FATAL=rm_… python fatal_worker.py killed|hangs`.

With FATAL=anybody it is whoever is the hundredth to be decided on.
It is killed there, or begins what never ends in C (a pattern over a text that it tries in 2^60 ways), where nothing of
this process goes on and a watchdog ends it. With MISTAKE=1 nobody counts on what others ended.
"""

import os
import re
import signal
import sys
from datetime import timedelta
from functools import partial
from itertools import count

import gateway.cli.serving
from gateway.cli import main
from gateway.deciding import Desk
from gateway.store import suspects

QUARANTINE, WATCHDOG_S, LAST = timedelta(seconds=5), 2, 100


def killed():
    """As for want of memory."""
    os.kill(os.getpid(), signal.SIGKILL)


def hangs():
    """Until the watchdog barks."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(WATCHDOG_S)
    re.match("(a+)+$", 60 * "a" + "b")


async def nobody_counts(*_):
    """The mistake: whoever is dead has just died."""
    return 0


def sow(end):
    """The end, into what decides on one reminder."""
    weigh_one, fatal, decided = Desk.weigh_one, os.environ["FATAL"], count(1)

    def weigh(self, work, *args):
        if work.id == fatal or (fatal == "anybody" and next(decided) == LAST):
            end()
        return weigh_one(self, work, *args)

    Desk.weigh_one = weigh


if __name__ == "__main__":
    sow({"killed": killed, "hangs": hangs}[sys.argv[1]])
    if os.environ.get("MISTAKE"):
        suspects.accuse = nobody_counts
    gateway.cli.serving.Place = partial(gateway.cli.serving.Place, quarantine=QUARANTINE)
    sys.argv[1:] = ["worker"]
    main()
