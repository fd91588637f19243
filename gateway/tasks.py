"""Running a program's coroutine, and ending tasks for sure."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any

AGAIN_S = 1.0


def run(main: Coroutine[Any, Any, None]) -> None:
    """Run a program, by uvloop where it is installed."""
    try:
        import uvloop  # noqa: PLC0415 (an optional speed-up)
    except ImportError:
        asyncio.run(main)
    else:
        uvloop.run(main)


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
