"""A process decides on many beside each other, or on one suspect with nothing beside it; all of it is on record."""

import asyncio

import pytest

from gateway.domain import Tenant
from gateway.errors import Unavailable
from gateway.suspects import Turns

TENANT = Tenant("acme/live")


class Notes:
    """What is on record, in memory; each note takes a while."""

    def __init__(self):
        self.said = []

    async def takes(self, keys):
        await asyncio.sleep(0)
        self.said.append([name for _, name in keys])

    async def tries(self, suspect):
        await asyncio.sleep(0)
        self.said.append(suspect[1])
        return suspect[1] != "another's"

    async def lets_go(self):
        self.said.append("nothing")


def keys(*names):
    return [(TENANT, name) for name in names]


async def settled():
    for _ in range(10):
        await asyncio.sleep(0)


async def test_what_is_decided_on_beside_each_other_is_on_record_together():
    notes = Notes()
    turns = Turns(notes)

    async with turns.together(keys("a", "b")):
        async with turns.together(keys("c")):
            assert notes.said == [["a", "b"], ["a", "b", "c"]]
        async with turns.together(keys("d")):
            assert notes.said[-1] == ["a", "b", "d"]

    async with turns.together(keys("e")):
        assert notes.said[-1] == ["e"]


async def test_a_suspect_waits_until_nothing_is_beside_it_and_all_else_waits_for_it():
    notes, seen, done = Notes(), [], asyncio.Event()
    turns = Turns(notes)

    async def alone(name):
        async with turns.alone((TENANT, name)) as mine:
            seen.append((name, mine))
            await done.wait()

    async def beside():
        async with turns.together(keys("c")):
            seen.append("c")

    async with turns.together(keys("a")):
        first = asyncio.create_task(alone("s"))
        await settled()
        others = [asyncio.create_task(alone("another's")), asyncio.create_task(beside())]
        await settled()
        assert (notes.said, seen) == ([["a"]], [])
    await settled()
    assert (notes.said[1:], seen) == (["s"], [("s", True)])  # nobody lets go of it while it is tried
    done.set()
    await asyncio.gather(first, *others)

    assert set(seen[1:]) == {("another's", False), "c"}


async def test_who_is_cancelled_while_it_waits_holds_up_nobody():
    turns = Turns(Notes())
    async with turns.together(keys("a")):
        waiting = asyncio.create_task(turns.alone((TENANT, "s")).__aenter__())
        await settled()
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        async with asyncio.timeout(1), turns.together(keys("b")):
            pass


async def test_between_two_suspects_those_come_to_their_turn_that_waited_for_the_first():
    notes, done = Notes(), asyncio.Event()
    turns = Turns(notes)

    async def one_after_the_other():
        for name in ("s", "t"):
            async with turns.alone((TENANT, name)):
                await done.wait()

    async def beside():
        async with turns.together(keys("a")):
            pass

    trying = asyncio.create_task(one_after_the_other())
    await settled()
    waiting = asyncio.create_task(beside())
    await settled()
    done.set()
    await asyncio.gather(trying, waiting)

    assert notes.said == ["s", "nothing", ["a"], "t", "nothing"]


async def test_of_a_suspect_on_which_the_store_failed_the_next_turn_lets_go_first():
    notes = Notes()
    turns = Turns(notes)

    with pytest.raises(Unavailable):
        async with turns.alone((TENANT, "s")):
            raise Unavailable("away")
    assert notes.said == ["s"]

    async with turns.together(keys("a")):
        assert notes.said == ["s", "nothing", ["a"]]
