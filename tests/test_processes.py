"""Who is replaced, what ends all, and with which exit code: over processes that end as they are told."""

import asyncio
import os
import sys

import pytest

from gateway import processes
from gateway.processes import several

LIVES = """
import asyncio, sys
from pathlib import Path
from gateway.processes import at_work, heed

async def main(folder, *lives):
    life = len(list(folder.iterdir()))
    (folder / str(life)).touch()
    does, code = lives[life].split(":")
    if "works" in does:
        at_work()
    if "stays" in does:
        stop = asyncio.Event()
        heed(stop)
        (folder.parent / f"{folder.name} stays").touch()
        await stop.wait()
    sys.exit(int(code))

asyncio.run(main(Path(sys.argv[1]), *sys.argv[2:]))
"""
"""The first word is its folder; each other says what it does in one life, and the exit code."""


@pytest.fixture
def rig(tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "PROGRAM", (sys.executable, "-c", LIVES))
    monkeypatch.setattr(processes, "SOON_S", 0.01)
    return Rig(tmp_path)


class Rig:
    def __init__(self, folder):
        self.folder, self.stop, self.at_once = folder, asyncio.Event(), asyncio.Event()

    async def end(self, *lives_of_each):
        """Start one for each of these, and the exit code of all, within bounds."""
        words = []
        for number, lives in enumerate(lives_of_each):
            (self.folder / str(number)).mkdir()
            words.append([str(self.folder / str(number)), *lives])
        async with asyncio.timeout(40):
            return await several(words, os.environ, self.stop, self.at_once)

    async def stay(self, *numbers):
        """Wait until these stay."""
        while not all((self.folder / f"{number} stays").exists() for number in numbers):  # noqa: ASYNC110
            await asyncio.sleep(0.02)

    def lives(self, number):
        return len(list((self.folder / str(number)).iterdir()))


async def test_a_set_up_that_cannot_be_used_as_one_first_starts_ends_all(rig):
    assert await rig.end(["works stays:0"], ["fails:2"]) == 2
    assert rig.stop.is_set()
    assert rig.lives(1) == 1


@pytest.mark.parametrize(
    "lives",
    [
        pytest.param(["works:1", "fails:2", "fails:2"], id="a server is away as it is replaced"),
        pytest.param(["works:2"], id="told to end by somebody else while a server was away"),
        pytest.param(["fails:1"], id="crashed before it worked"),
    ],
)
async def test_whoever_ends_later_is_replaced_and_ends_nobody(rig, lives):
    ended = asyncio.create_task(rig.end(["works stays:0"], [*lives, "works stays:0"]))
    await asyncio.wait([ended, asyncio.create_task(rig.stay(0, 1))], return_when=asyncio.FIRST_COMPLETED)
    assert not ended.done()
    rig.stop.set()

    assert await ended == 0
    assert (rig.lives(0), rig.lives(1)) == (1, len(lives) + 1)


@pytest.mark.parametrize(("codes", "passed_on"), [((0, 0), 0), ((3, 0), 3), ((3, 2), 2)])
async def test_exit_codes_are_passed_on(rig, codes, passed_on):
    ended = asyncio.create_task(rig.end(*([f"works stays:{code}"] for code in codes)))
    await rig.stay(0, 1)
    rig.stop.set()

    assert await ended == passed_on
