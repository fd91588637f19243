"""Whoever is to end is ended, though a cancel may be lost on the way."""

import asyncio

from gateway.tasks import end


async def test_a_task_that_lost_one_cancel_is_ended_by_the_next():
    lost = 0

    async def stubborn():
        nonlocal lost
        while True:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                lost += 1
                if lost == 2:
                    raise

    task = asyncio.create_task(stubborn())
    await asyncio.sleep(0)

    await end([task])

    assert (task.cancelled(), lost) == (True, 2)


async def test_what_a_task_broke_on_meanwhile_ends_nobody_else():
    async def breaks():
        raise ValueError("a mistake")

    tasks = [asyncio.create_task(breaks()), asyncio.create_task(asyncio.sleep(60))]
    await asyncio.sleep(0)

    await end(tasks)

    assert [task.done() for task in tasks] == [True, True]


async def test_nobody_is_ended_at_once():
    await end([])
