"""What is asked of whoever grants the pace, Redis or SQL, and what is answered. Pure values.

A take is one call over all buckets of a batch: a start needs a slot of every pace that covers it, all or none.
Waiting starts of one tenant, one priority and the same paces form a group and go in its order.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from gateway.values import dataclass

AHEAD_US = 100_000
"""A grant is a start time at most so far ahead."""
LATE_US = 150_000
"""A grant so far past its start is not used any more."""
ROOM_US = 1_000_000
"""How far ahead room is looked for: a worker picks no more than can start within this."""
CLAIM_US = 250_000
"""Unmet claims of a worker are forgotten after this."""
FLOORS = (0.0, 0.10, 0.05)
"""The least share of a tenant's slots for urgent, normal and bulk while they wait."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """A bucket's rate as it holds now: units per second (> 0, the factor applied) and the burst above it (≥ 1)."""

    key: str
    per_s: float
    burst: int
    version: int
    segments: bool = False
    """Whether it counts parts of texts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Starts that wait for the same: `paces` are places in `Wanted.paces`, `segments` one number for each start.

    `pool` is the account they go through, within which tenants share by `weight` and lanes (0 urgent, 1 normal,
    2 bulk) by FLOORS.
    """

    pool: str
    tenant: str
    weight: float
    lane: int
    paces: tuple[int, ...]
    segments: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """One take of one worker."""

    worker: str
    paces: tuple[Pace, ...]
    groups: tuple[Group, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Granted:
    """Start times, in µs from the granter's now, for the first starts of each group; whose word it is."""

    source: str
    epoch: int
    starts: tuple[tuple[int, ...], ...]


class Grants(Protocol):
    """Whoever grants the pace. Raises Unavailable when it cannot."""

    async def take(self, wanted: Wanted) -> Granted:
        """Grant what may start within AHEAD_US; what is left over stands as this worker's claims for CLAIM_US."""

    async def room(self, paces: Sequence[Pace], worker: str) -> list[float]:
        """How many units of each may start within ROOM_US, after the claims of other workers. Takes nothing."""
