"""The limits of quotas as the replay of a backlog sees them: how much may start at once, how fast, for how long.

Work flows through them like water: units are fractions, times are seconds from the plan's own now and come in
order. Every limit lets all through until it is tuned. Pure.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from math import floor, inf
from typing import Protocol

EMPTY = 1e-6
"""Units, or seconds, that are as good as none."""
SMOOTH_AFTER = 20
"""Windows after which a limit by minute or hour that is used up again and again is taken for a steady pace."""


class Limit(Protocol):
    """One limit of one bucket."""

    def left(self, t: float) -> float:
        """Units that may start at once."""

    def pace(self, t: float) -> float:
        """Units a second that it lets through once nothing is left."""

    def lasts(self, t: float, use: float) -> float:
        """Seconds that so many units a second may be used, or less: until it must be asked again."""

    def spend(self, t: float, until: float, units: float) -> None:
        """So many units start, evenly, from one instant to another."""

    def opens(self, t: float) -> float:
        """When there may be more of what is used up; inf: never, or steadily."""


class Rate:
    """Units a second, and a burst that is saved up while idle; nothing is saved up at t = 0."""

    def __init__(self) -> None:
        self._per_s = self._burst = self._level = inf
        self._at = 0.0

    def tune(self, per_s: float, burst: float, t: float) -> None:
        """From now on another rate; a rate that was none begins with nothing saved up."""
        level = self.left(t)
        self._level = 0.0 if level == inf else min(level, burst)
        self._at, self._per_s, self._burst = t, per_s, burst

    def left(self, t: float) -> float:
        """See Limit."""
        if self._per_s == inf:
            return inf
        return min(self._burst, self._level + self._per_s * (t - self._at))

    def pace(self, t: float) -> float:  # noqa: ARG002 (Limit's signature)
        """See Limit."""
        return self._per_s

    def lasts(self, t: float, use: float) -> float:
        """See Limit."""
        return self.left(t) / (use - self._per_s) if use > self._per_s else inf

    def spend(self, t: float, until: float, units: float) -> None:
        """See Limit."""
        if self._per_s < inf:
            self._level = min(self._burst, self.left(t) + self._per_s * (until - t) - units)
            self._at = until

    def opens(self, t: float) -> float:  # noqa: ARG002
        """See Limit."""
        return inf


class Window:
    """Units in a rolling window of `slots` spans of `slot_s` seconds; the last began `begun_s` before t = 0.

    `used` are (slot, units) from before: the slot at t = 0 is 0, those before it -1, -2 ….
    """

    def __init__(
        self, *, slots: int, slot_s: float, begun_s: float, used: Iterable[tuple[int, float]]
    ) -> None:
        self._most = inf
        self._slots, self._slot_s, self._begun = slots, slot_s, begun_s
        self._used = deque(sorted(used))
        self._bound_since: float | None = None

    def tune(self, most: float) -> None:
        """From now on another number; what was used stays used."""
        self._most, self._bound_since = most, None

    def left(self, t: float) -> float:
        """See Limit."""
        slot = self._slot(t)
        while self._used and self._used[0][0] <= slot - self._slots:
            self._used.popleft()
        if self._smooth(t):
            return 0.0
        left = self._most - sum(units for _, units in self._used)
        if left <= EMPTY and self._bound_since is None:
            self._bound_since = t
        return left

    def pace(self, t: float) -> float:
        """See Limit."""
        return self._most / (self._slots * self._slot_s) if self._smooth(t) else 0.0

    def lasts(self, t: float, use: float) -> float:
        """See Limit. Looks through one window at most: by then all that was used before has left it."""
        left, at, slot = self.left(t), t, self._slot(t)
        leaving = dict(self._used)
        for _ in range(self._slots):
            end = self._start(slot + 1)
            if use * (end - at) >= left:
                return at + left / use - t
            left += leaving.get(slot + 1 - self._slots, 0.0) - use * (end - at)
            at, slot = end, slot + 1
        return inf if use * self._slots * self._slot_s <= self._most else at - t

    def spend(self, t: float, until: float, units: float) -> None:
        """See Limit."""
        last = self._slot(until)
        for slot in range(max(self._slot(t), last - self._slots), last + 1):
            inside = min(until, self._start(slot + 1)) - max(t, self._start(slot))
            self._add(slot, units * max(0.0, inside) / (until - t) if until > t else units)

    def opens(self, t: float) -> float:
        """See Limit."""
        return self._start(self._used[0][0] + self._slots) if self._used and not self._smooth(t) else inf

    def _smooth(self, t: float) -> bool:
        since = self._bound_since
        return since is not None and t - since > SMOOTH_AFTER * self._slots * self._slot_s

    def _add(self, slot: int, units: float) -> None:
        if self._used and self._used[-1][0] == slot:
            units += self._used.pop()[1]
        if units > 0:
            self._used.append((slot, units))

    def _slot(self, t: float) -> int:
        return floor((t + self._begun + EMPTY) / self._slot_s)

    def _start(self, slot: int) -> float:
        return slot * self._slot_s - self._begun


class Period:
    """Units in a day or month; `ends` gives when the one that holds an instant ends. `used` were before t = 0."""

    def __init__(self, *, ends: Callable[[float], float], used: float) -> None:
        self._most = inf
        self._ends, self._used = ends, used
        self._end = ends(0.0)

    def tune(self, most: float) -> None:
        """From now on another number; what was used stays used."""
        self._most = most

    def left(self, t: float) -> float:
        """See Limit."""
        if t >= self._end - EMPTY:
            self._used, self._end = 0.0, self._ends(t + EMPTY)
        return max(0.0, self._most - self._used)

    def pace(self, t: float) -> float:  # noqa: ARG002
        """See Limit."""
        return 0.0

    def lasts(self, t: float, use: float) -> float:
        """See Limit."""
        return min(self.left(t) / use, self._end - t)

    def spend(self, t: float, until: float, units: float) -> None:  # noqa: ARG002
        """See Limit."""
        self._used += units

    def opens(self, t: float) -> float:  # noqa: ARG002
        """See Limit."""
        return self._end


class Hours:
    """Hours without starts."""

    def __init__(self) -> None:
        self._turns: Callable[[float], tuple[bool, float]] = lambda _: (False, inf)
        self._closed, self._until = False, inf

    def tune(self, turns: Callable[[float], tuple[bool, float]], t: float) -> None:
        """`turns` gives whether an instant is closed, and when that changes next."""
        self._turns = turns
        self._closed, self._until = turns(t)

    def left(self, t: float) -> float:
        """See Limit."""
        if t >= self._until - EMPTY:
            self._closed, self._until = self._turns(t + EMPTY)
        return 0.0 if self._closed else inf

    def pace(self, t: float) -> float:  # noqa: ARG002
        """See Limit."""
        return 0.0

    def lasts(self, t: float, use: float) -> float:  # noqa: ARG002
        """See Limit."""
        return self._until - t

    def spend(self, t: float, until: float, units: float) -> None:
        """Nothing: hours are not used up."""

    def opens(self, t: float) -> float:  # noqa: ARG002
        """See Limit."""
        return self._until
