"""Poison: a reminder on which T1 breaks every time. It is found by halving, set aside, and holds up nobody else.

What breaks in deciding is caught there (gateway.deciding). Here it is what fails a whole transaction: a row that
cannot be read, a value that the store refuses, a record that is too long. Set aside, it is looked at again after
a while, longer each time: what broke may have been a mistake of ours, and mended since.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Generic, TypeVar

from gateway.errors import StoreRefused, Unavailable

LEAST, MOST = timedelta(minutes=15), timedelta(hours=24)
"""The first wait, and the longest."""
TIMES = 4
"""How many times as long each wait is as the one before."""

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, slots=True, kw_only=True)
class Broken(Generic[T]):
    """One on which the work broke, though it was alone."""

    item: T
    error: Exception


async def sifted(
    items: Sequence[T], work: Callable[[Sequence[T], bool], Awaitable[R]]
) -> tuple[list[R], list[Broken[T]]]:
    """Do some work on all of them together; where it breaks, on each half, down to single ones.

    The second argument of `work` says that it shall take its one item and nothing that belongs with it: what broke
    may have been its neighbour. A store that is away breaks nothing: Unavailable is raised.
    """
    try:
        return [await work(items, False)], []  # noqa: FBT003 (see above)
    except Exception as wrong:  # noqa: BLE001 (whatever it was)
        _need_broken(wrong)
        if len(items) == 1:
            return await singly(items, work)
    done, broken = [], []
    middle = len(items) // 2
    for half in (items[:middle], items[middle:]):
        good, bad = await sifted(half, work)
        done += good
        broken += bad
    return done, broken


async def singly(
    items: Sequence[T], work: Callable[[Sequence[T], bool], Awaitable[R]]
) -> tuple[list[R], list[Broken[T]]]:
    """Do some work on a single one, and on nothing that belongs with it."""
    try:
        return [await work(items, True)], []  # noqa: FBT003
    except Exception as wrong:  # noqa: BLE001 (whatever it was)
        _need_broken(wrong)
        return [], [Broken(item=items[0], error=wrong)]


def _need_broken(wrong: Exception) -> None:
    """Raise what no item can help."""
    if isinstance(wrong, Unavailable) and not isinstance(wrong, StoreRefused):
        raise wrong


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What becomes of a reminder that was set aside; `next_at` None: nothing is left to do."""

    state: str
    reason: str
    next_at: datetime | None


def set_aside(
    now: datetime, *, expires_at: datetime, waited: timedelta | None, contacted: str | None
) -> Verdict:
    """Wait, or be over when its time is.

    `waited`: how long the last time, None the first time. `contacted`: the state that its latest contact gave it.
    """
    if expires_at <= now:
        return Verdict(state=contacted or "expired", reason="expired", next_at=None)
    wait = LEAST if waited is None else min(max(TIMES * waited, LEAST), MOST)
    return Verdict(state="deferred", reason="quarantined", next_at=min(now + wait, expires_at))
