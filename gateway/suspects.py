"""Suspects: reminders on which a process may have ended while it decided on them.

What breaks T1 is found by halving (gateway.poison); what ends the process leaves nobody to halve. So what a process is
about to decide on is on record before, and where it dies all of that is under suspicion: each is tried alone then,
with nothing beside it in T1, and whoever did nothing passes. The third time it is not tried any more.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from itertools import chain
from typing import Protocol

from gateway.errors import Unavailable
from gateway.work import Key

STRIKES = 3
"""The first may have been anybody's in its batch, of the others it alone can have been the reason."""
ENDED = "ended_its_process"
"""What is told of one that is set aside for it."""
TRIED = 5
"""Suspects in a round of a drain: what is under no suspicion does not wait for them."""


class Notes(Protocol):
    """What others find on record when this process has died."""

    async def takes(self, keys: Sequence[Key]) -> None:
        """Note that it decides on these and whatever else their persons have due, and on nothing else together."""

    async def tries(self, suspect: Key) -> bool:
        """Note that it decides on a suspect alone; false where that is none any more, or another tries it."""

    async def lets_go(self) -> None:
        """Nothing came of trying: somebody may try again."""


class Turns:
    """What this process has in T1: many beside each other, or one suspect with nothing beside it."""

    def __init__(self, notes: Notes) -> None:
        self._notes = notes
        self._together: dict[object, Sequence[Key]] = {}
        self._door = asyncio.Lock()
        """Whoever comes first goes first: suspects hold up no round of another drain for longer than one of them."""
        self._changed = asyncio.Condition()
        self._noting = asyncio.Lock()
        self._holds = False
        """A suspect may be on record as tried by this process that is not in T1 any more."""

    @asynccontextmanager
    async def together(self, keys: Sequence[Key]) -> AsyncIterator[None]:
        """While it decides on these; they are on record, with all that it decides on beside them."""
        mine = object()
        async with self._door:
            await self._let_go()
            self._together[mine] = keys
        try:
            async with self._noting:
                await self._notes.takes(list(chain.from_iterable(self._together.values())))
            yield
        finally:
            await self._over(mine)

    async def _over(self, mine: object) -> None:
        async with self._changed:
            del self._together[mine]
            self._changed.notify_all()

    @asynccontextmanager
    async def alone(self, suspect: Key) -> AsyncIterator[bool]:
        """While it decides on a suspect, if this process may try it."""
        async with self._door:
            await self._let_go()
            async with self._changed:
                await self._changed.wait_for(lambda: not self._together)
            self._holds = True
            yield await self._notes.tries(suspect)
            with suppress(Unavailable):  # the next turn begins with it, as it does where this one broke
                await self._let_go()

    async def _let_go(self) -> None:
        """Of one that was decided on nothing is on record any more; any other may be tried by others."""
        if self._holds:
            await self._notes.lets_go()
            self._holds = False
