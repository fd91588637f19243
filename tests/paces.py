"""What a ledger's instants say of the pace: how many in any window whatever its start, and what a quota admits."""

from bisect import bisect_left
from datetime import datetime

SECOND = 1_000_000
"""In µs."""
LEEWAY_S = 0.25
"""From the take to the call at most: so much of the pace may come late into a window."""
SETTLED_S = 2.0
"""After a change or a flush it is waited so long."""


def instant(line):
    """When the simulator was asked, µs since 1970."""
    at = datetime.fromisoformat(line["at"])
    return round(at.timestamp() * SECOND)


def instants(lines, **keys):
    """Of the lines that have these values, sorted."""
    return sorted(
        instant(line) for line in lines if all(line.get(key) == value for key, value in keys.items())
    )


def between(times, since, until):
    """Those in [since, until)."""
    return times[bisect_left(times, since) : bisect_left(times, until)]


def most(times, width):
    """How many there are at most in a window [t, t + width), whatever t; a densest window begins at an instant."""
    first, found = 0, 0
    for last, at in enumerate(times):
        while at - times[first] >= width:
            first += 1
        found = max(found, last - first + 1)
    return found


def allowed(rate, burst, width):
    """What a window may hold of a quota."""
    return rate * width / SECOND + burst + rate * LEEWAY_S


def over(times, rate, burst, widths=(SECOND, 60 * SECOND)):
    """The windows' widths (µs) in which there was more than the quota admits, with what was there."""
    return {
        width: (found, allowed(rate, burst, width))
        for width in widths
        if (found := most(times, width)) > allowed(rate, burst, width)
    }
