"""So many batches are taken in at once, so many wait for it, and whoever comes beyond them is told to come again."""

import asyncio

import pytest

from gateway.backlog import BATCHES, SOON_S, WAIT, Backlog
from gateway.errors import Overloaded


@pytest.fixture
def admission():
    return Backlog(None, None)


async def test_a_batch_beyond_those_that_wait_is_refused_and_every_other_has_its_turn(admission):
    inside, most, go = 0, 0, asyncio.Event()

    async def batch():
        nonlocal inside, most
        async with admission.turn():
            inside += 1
            most = max(most, inside)
            await go.wait()
            inside -= 1

    waiting = [asyncio.create_task(batch()) for _ in range(BATCHES + WAIT)]
    await asyncio.sleep(0)
    with pytest.raises(Overloaded) as refused:
        await batch()
    go.set()
    await asyncio.gather(*waiting)

    assert refused.value.retry_after_s == SOON_S
    assert most == BATCHES
    await batch()


async def test_who_hangs_up_while_it_waits_leaves_its_place_to_others(admission):
    holding = [asyncio.create_task(_hold(admission)) for _ in range(BATCHES + WAIT)]
    await asyncio.sleep(0)
    holding[-1].cancel()
    await asyncio.gather(holding.pop(), return_exceptions=True)

    holding.append(asyncio.create_task(_hold(admission)))
    await asyncio.sleep(0)
    assert not holding[-1].done()
    for task in holding:
        task.cancel()
    await asyncio.gather(*holding, return_exceptions=True)


async def _hold(admission):
    async with admission.turn():
        await asyncio.Event().wait()
