"""Single requests that come at once: one commit for many, and each still gets its own answer."""

import asyncio

import orjson
import pytest
from makers import reminder, rows, set_clock

from gateway.domain import Tenant
from gateway.errors import BadInput, Overloaded, StoreRefused, Unavailable
from gateway.intake import Done
from gateway.intake.together import AT_ONCE, MOST, SOON_S, WAITING, Together

TENANT, OTHER = Tenant("acme/live"), Tenant("beta/live")


class Noting:
    """Takes in what it is handed, and notes how many came together."""

    def __init__(self, take):
        self.take, self.batches = take, []

    async def __call__(self, tenant, raws):
        self.batches.append((tenant, len(raws)))
        return await self.take(tenant, raws)


async def echo(tenant, raws):
    await asyncio.sleep(0.01)
    if "poison" in raws:
        raise StoreRefused("no")
    return [Done(status=202, body=f"{tenant} {raw}".encode()) for raw in raws]


async def test_what_comes_at_once_is_committed_together_and_each_gets_its_own_answer(database, take_in):
    await set_clock(database)
    noting = Noting(take_in(database).reminders)
    together = Together(noting)
    bodies = [reminder(n, idempotency_key=f"k{n}") for n in range(50)]
    bodies[7] = {"idempotency_key": "k7"}

    results = await asyncio.gather(*(together.one(TENANT, body) for body in (*bodies, bodies[3])))

    assert isinstance(results[7], BadInput)
    keys = [orjson.loads(r.body)["idempotency_key"] for n, r in enumerate(results) if n != 7]
    assert keys == [f"k{n}" for n in (*range(7), *range(8, 50), 3)]
    assert results[3] == results[50]
    assert len(await rows(database, "reminder")) == 49
    assert sum(count for _, count in noting.batches) == 51
    assert len(noting.batches) <= 4


async def test_one_that_comes_alone_waits_for_nobody_and_tenants_not_for_each_other():
    noting = Noting(echo)
    together = Together(noting)
    await together.one(TENANT, "a")
    await asyncio.gather(*(together.one(tenant, "b") for tenant in (TENANT, OTHER)))
    assert noting.batches == [(TENANT, 1), (TENANT, 1), (OTHER, 1)]


async def test_a_commit_answers_no_more_than_its_most():
    noting = Noting(echo)
    together = Together(noting)
    await asyncio.gather(*(together.one(TENANT, n) for n in range(3 * MOST)))
    counts = [count for _, count in noting.batches]
    assert sum(counts) == 3 * MOST
    assert max(counts) == MOST
    assert len(counts) <= AT_ONCE + 4


async def test_what_the_store_refuses_of_one_spoils_none_of_the_others():
    together = Together(echo)
    asked = [together.one(TENANT, what) for what in ("a", "b", "poison", "c")]
    a, b, poison, c = await asyncio.gather(*asked, return_exceptions=True)
    assert [one.body for one in (a, b, c)] == [b"acme/live a", b"acme/live b", b"acme/live c"]
    assert isinstance(poison, StoreRefused)


async def test_a_store_that_is_away_is_told_to_everybody_and_later_ones_are_taken_in():
    away = True

    async def take(tenant, raws):
        if away:
            raise Unavailable("away")
        return await echo(tenant, raws)

    together = Together(take)
    told = await asyncio.gather(*(together.one(TENANT, n) for n in range(5)), return_exceptions=True)
    assert [type(one) for one in told] == [Unavailable] * 5
    away = False
    assert (await together.one(TENANT, "a")).body == b"acme/live a"


async def test_who_hangs_up_spoils_nothing():
    together = Together(echo)
    first, second = (asyncio.ensure_future(together.one(TENANT, n)) for n in range(2))
    await asyncio.sleep(0)
    first.cancel()
    assert (await second).body == b"acme/live 1"
    with pytest.raises(asyncio.CancelledError):
        await first


async def test_beyond_so_many_that_wait_one_more_is_told_to_come_again_and_all_others_are_answered():
    together = Together(echo)
    waiting = [asyncio.create_task(together.one(TENANT, n)) for n in range(WAITING)]
    await asyncio.sleep(0)
    with pytest.raises(Overloaded) as refused:
        await together.one(TENANT, "one more")
    assert refused.value.retry_after_s == SOON_S
    assert (await together.one(OTHER, "another tenant's")).status == 202
    assert len(await asyncio.gather(*waiting)) == WAITING
