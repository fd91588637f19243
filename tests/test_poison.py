"""Poison is found by halving, in few steps, and waits longer each time it breaks."""

import asyncio
import math
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from makers import NOW

from gateway.errors import StoreRefused, Unavailable
from gateway.poison import LEAST, MOST, set_aside, sifted

SPANS = st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=40))


class Works:
    """Work that breaks on some; with `neighbour`, on that one as long as it is not alone."""

    def __init__(self, poison, neighbour=None):
        self.poison, self.neighbour, self.asked = set(poison), neighbour, []

    async def __call__(self, items, alone):
        self.asked.append((tuple(items), alone))
        if self.poison & set(items) or (self.neighbour in items and not alone):
            raise ValueError("broken")
        return list(items)


@given(st.integers(1, 200), st.sets(st.integers(0, 199), max_size=20))
def test_the_poison_is_found_all_others_are_done_once_and_in_their_order(count, poison):
    poison = {n for n in poison if n < count}
    work = Works(poison)

    done, broken = asyncio.run(sifted(range(count), work))

    assert [n for part in done for n in part] == [n for n in range(count) if n not in poison]
    assert [one.item for one in broken] == sorted(poison)
    assert len(work.asked) <= 1 + len(poison) * (2 * math.ceil(math.log2(count)) + 1)


async def test_work_that_breaks_nowhere_is_done_in_one_go():
    work = Works(())

    assert await sifted(range(200), work) == ([list(range(200))], [])
    assert len(work.asked) == 1


async def test_one_whose_neighbour_is_poison_is_done_alone():
    assert await sifted([1, 2, 3], Works((), neighbour=2)) == ([[1], [2], [3]], [])


async def test_a_store_that_is_away_breaks_nothing_and_one_that_refuses_a_value_does():
    async def away(_items, _alone):
        raise Unavailable

    async def refuses(items, _alone):
        if 2 in items:
            raise StoreRefused
        return list(items)

    with pytest.raises(Unavailable):
        await sifted([1, 2], away)
    done, (broken,) = await sifted([1, 2, 3], refuses)
    assert (done, broken.item) == ([[1], [3]], 2)


def test_each_wait_is_longer_than_the_one_before_up_to_a_day():
    waits, waited = [], None
    for _ in range(6):
        verdict = set_aside(NOW, expires_at=NOW + timedelta(days=99), waited=waited, contacted=None)
        assert (verdict.state, verdict.reason) == ("deferred", "quarantined")
        waited = verdict.next_at - NOW
        waits.append(waited)

    assert waits == [timedelta(hours=h) for h in (0.25, 1, 4, 16, 24, 24)]


@given(waited=st.none() | SPANS, left=SPANS, contacted=st.sampled_from([None, "sent", "unknown"]))
def test_it_waits_within_bounds_and_never_beyond_its_end(waited, left, contacted):
    verdict = set_aside(NOW, expires_at=NOW + left, waited=waited, contacted=contacted)

    if left:
        assert min(left, LEAST) <= verdict.next_at - NOW <= min(left, MOST)
    else:
        assert (verdict.state, verdict.next_at) == (contacted or "expired", None)
