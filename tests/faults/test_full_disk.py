"""PostgreSQL's disk is full, again and again, under workers: what was accepted is kept, and all is sent once."""

import asyncio
import os
import shutil
import subprocess
from collections import Counter
from random import Random

import fleet
import pytest
from killing import SEED, Deaths
from postgresql import serving

pytestmark = pytest.mark.timeout(1800)
SIZE_MB, BALLAST_MB = 600, 8
TIMES = int(os.environ.get("FAULTS_DISK", "6"))
FULL_S = 5.0


@pytest.fixture
def small_disk(data_folder):
    """A file system of its own, in memory."""
    data_folder.chmod(0o755)
    folder = data_folder / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={SIZE_MB}m,mode=755", "none", folder], check=False
    )
    if mounted.returncode:
        pytest.skip("mounting a small file system is not allowed here")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


@pytest.fixture
def server(small_disk):
    """A PostgreSQL that has no other room."""
    with serving(small_disk) as running:
        yield running


def fill(folder):
    """Leave not a byte."""
    for number in range(SIZE_MB // BALLAST_MB + 1):
        try:
            with (folder / f"ballast{number}").open("wb") as file:
                file.write(bytes(BALLAST_MB << 20))
        except OSError:
            return


def free(folder):
    """Let there be room again."""
    for file in folder.glob("ballast*"):
        file.unlink()


async def test_the_disk_is_full_again_and_again_and_all_is_sent_once(
    server, small_disk, simulators, tmp_path, figure
):
    r, done = Random(SEED), Counter()
    await server.say("CREATE DATABASE small")
    await fleet.upgraded(server.url("small"))
    async with fleet.brought_up(server.url("small"), tmp_path, simulators, 0) as small:
        work = Deaths(small, SEED)

        async def draw():
            for _ in range(TIMES):
                await asyncio.sleep(r.uniform(3, 6))
                await asyncio.to_thread(fill, small_disk)
                assert shutil.disk_usage(small_disk).free < BALLAST_MB << 20
                done["full"] += 1
                await asyncio.sleep(FULL_S)
                free(small_disk)
                if server.process.poll() is not None:
                    done["started again"] += 1
                    await asyncio.to_thread(server.start)

        try:
            await work.through(draw)
            verdict = await work.settled()
        finally:
            work.end()
    figure("a disk of PostgreSQL", ", ".join(f"{how} {n}" for how, n in done.items()))
    verdict.told(figure)
    assert verdict.faults() == {}
    assert verdict.tried["reached"] > TIMES
