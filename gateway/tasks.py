"""Ending tasks for sure."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

AGAIN_S = 1.0


async def end(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel these until all are over, whatever they end with.

    One cancel is not enough: `asyncio.wait_for` loses it where what it waits for is over at the same moment (Python
    before 3.12, github.com/python/cpython/issues/86296), and a duty would go on for ever.
    """
    left = set(tasks)
    while left:
        for task in left:
            task.cancel()
        over, left = await asyncio.wait(left, timeout=AGAIN_S)
        for task in over:
            if not task.cancelled():
                task.exception()
