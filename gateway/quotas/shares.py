"""How a worker shares what may start soon among what waits, before it decides: fair between tenants, by lane. Pure.

The take deals the starts themselves, over all workers; this only keeps a worker from picking what could not start.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from gateway.quotas.asked import FLOORS


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiter:
    """A queue with something due. `keys` name what it needs room of; 0 of any means that nothing of it can start."""

    name: str
    tenant: str
    weight: float
    lane: int
    oldest: datetime
    keys: tuple[str, ...]


@dataclass(slots=True)
class Shares:
    """Deals room; remembers who had what, so that small rooms come round to everybody."""

    _reached: float = 0.0
    _had: dict[str, float] = field(default_factory=dict)
    _owed: dict[tuple[str, int], float] = field(default_factory=lambda: defaultdict(float))

    def deal(self, waiting: Sequence[Waiter], left: Mapping[str, float], most: int) -> dict[str, int]:
        """How many of each queue to pick, `most` together; `left` is the room by key."""
        room = dict(left)
        dealt: dict[str, int] = defaultdict(int)
        open_ = [w for w in waiting if _fits(w, room)]
        for w in open_:
            self._had[w.tenant] = max(self._had.get(w.tenant, 0.0), self._reached)
        while open_ and sum(dealt.values()) < most:
            chosen = self._next(open_)
            dealt[chosen.name] += 1
            for key in chosen.keys:
                room[key] -= 1
            open_ = [w for w in open_ if _fits(w, room)]
        return dict(dealt)

    def _next(self, waiting: Sequence[Waiter]) -> Waiter:
        tenant = min({w.tenant for w in waiting}, key=lambda t: (self._had[t], t))
        mine = [w for w in waiting if w.tenant == tenant]
        lane = self._lane(tenant, {w.lane for w in mine})
        chosen = min((w for w in mine if w.lane == lane), key=lambda w: w.oldest)
        self._reached = self._had[tenant]
        self._had[tenant] += 1 / chosen.weight
        self._owed[tenant, lane] = max(0.0, self._owed[tenant, lane] - 1)
        return chosen

    def _lane(self, tenant: str, waiting: Iterable[int]) -> int:
        """Bulk, then normal, where it is owed its floor; else the highest that waits."""
        lanes = sorted(waiting)
        for lane in lanes:
            self._owed[tenant, lane] += FLOORS[lane]
        owed = [lane for lane in reversed(lanes) if FLOORS[lane] and self._owed[tenant, lane] >= 1]
        return owed[0] if owed else lanes[0]


def _fits(waiter: Waiter, room: Mapping[str, float]) -> bool:
    return all(room[key] >= 1 for key in waiter.keys)
