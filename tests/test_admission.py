"""So many batches are taken in at once, so many wait for it, and whoever comes beyond them is told to come again."""

import asyncio

import pytest

from gateway.backlog import (
    BATCHES,
    MOST_DUE,
    MOST_DUE_OF_ALL,
    RETRY_AFTER_S,
    SOON_S,
    WAIT,
    Backlog,
    Due,
    Lane,
    Rolled,
)
from gateway.domain import Tenant
from gateway.errors import Overloaded
from gateway.telemetry import Metrics

ACME, BETA = Tenant("acme/live"), Tenant("beta/live")


@pytest.fixture
def admission():
    return Backlog(None, None)


class Rollups:
    """So much is due of each of these tenants."""

    def __init__(self, **due):
        self.due = due

    async def fold(self):
        pass

    async def rolled(self):
        lanes = {
            Lane(rank=rank, tenant=Tenant(f"{name}/live"), channel="sms"): Due(number=number // 2)
            for name, number in self.due.items()
            for rank in (0, 1)
        }
        return Rolled(groups=(), lanes=lanes)


async def refused(tenant, **due):
    admission = Backlog(Rollups(**due), Metrics())
    await admission.once()
    try:
        admission.check(tenant)
    except Overloaded as wrong:
        return wrong.retry_after_s
    return None


async def test_a_tenant_of_which_too_much_is_due_is_refused_and_no_other():
    assert await refused(ACME, acme=MOST_DUE, beta=10) is None
    assert await refused(ACME, acme=MOST_DUE + 2, beta=10) == RETRY_AFTER_S
    assert await refused(BETA, acme=MOST_DUE + 2, beta=10) is None


async def test_beyond_what_the_store_should_hold_all_are_refused():
    others = {f"t{n}": MOST_DUE for n in range(MOST_DUE_OF_ALL // MOST_DUE)}
    assert await refused(BETA, **others) is None
    assert await refused(BETA, **others, beta=2) == RETRY_AFTER_S


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
    with pytest.raises(Overloaded) as unread:
        admission.room()
    go.set()
    await asyncio.gather(*waiting)

    assert (refused.value.retry_after_s, unread.value.retry_after_s) == (SOON_S, SOON_S)
    assert most == BATCHES
    admission.room()
    await batch()


async def test_a_batch_has_its_turn_whatever_is_due():
    admission = Backlog(Rollups(acme=MOST_DUE_OF_ALL + 2), Metrics())
    await admission.once()

    with pytest.raises(Overloaded):
        admission.check(ACME)
    admission.room()
    async with admission.turn():
        pass


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
