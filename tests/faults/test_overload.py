"""Three times what can go out is handed in, all the time: as much goes out as before, and the rest is told to wait."""

import asyncio
import json
import os
import sys
import time
from pathlib import Path

import aiohttp
import pytest
from fleet import run, until
from makers import rows

from gateway.backlog import MOST_DUE, RETRY_AFTER_S, SOON_S
from gateway.store.keys import Role

pytestmark = pytest.mark.timeout(3600)
DUE = int(os.environ.get("FAULTS_DUE", str(MOST_DUE + 60_000)))
"""How much is due when it begins: more than is taken in beside, whatever goes out until then."""
WARM_S, SEEN_S, TIMES = 15, 60, 3
LEAST, GROWN = 0.8, 1.25
OFFERING = Path(__file__).with_name("offering.py")


def megabytes(process):
    """What a process holds of the machine's memory."""
    (held,) = (
        line for line in Path(f"/proc/{process.pid}/status").read_text().splitlines() if "VmRSS" in line
    )
    return int(held.split()[1]) / 1024


async def rate(fleet, seconds):
    """Calls a second, for so long."""
    began, before = time.monotonic(), fleet.reached()
    await asyncio.sleep(seconds)
    return (fleet.reached() - before) / (time.monotonic() - began)


async def serves(url):
    """Whether the API answers."""
    try:
        async with aiohttp.ClientSession() as http, http.get(f"{url}/readyz") as answer:
            return answer.status == 200
    except aiohttp.ClientError:
        return False


async def test_at_three_times_what_can_go_out_as_much_goes_out_and_the_rest_is_refused(fleet_of, figure):
    fleet = await fleet_of(0)
    await fleet.take(DUE)
    fleet.environ["API_KEY"] = await fleet.rig.key(Role.SERVICE)
    url = fleet.rig.gateway.place.public_url
    command = [sys.executable, "-c", "from gateway.cli import main; main()", "api"]
    with (fleet.logs / "worker_api.log").open("w") as log:
        api = run([*command, "--listen", url.removeprefix("http://")], log, fleet.environ)
    await fleet.all_join(1)
    (worker,) = fleet.workers
    fleet.workers.append(api)  # is ended with the others
    await until(lambda: serves(url), patience=60)
    await asyncio.sleep(WARM_S)
    peak = await rate(fleet, SEEN_S)

    held = {name: megabytes(process) for name, process in (("api", api), ("worker", worker))}
    offered = TIMES * peak
    words = [sys.executable, OFFERING, url, offered, 2 * WARM_S + SEEN_S, fleet.taken]
    with (fleet.logs / "offered.json").open("w") as said:
        generator = run([*map(str, words)], said, fleet.environ)
    await asyncio.sleep(WARM_S)
    under = await rate(fleet, SEEN_S)
    await asyncio.to_thread(generator.wait, 120)
    grown = {"api": megabytes(api), "worker": megabytes(worker)}
    answers = json.loads((fleet.logs / "offered.json").read_text())
    taken = len(await rows(fleet.rig.database, "reminder")) - DUE

    figure("calls a second, nothing handed in", f"{peak:.0f}")
    figure(f"calls a second, {offered:.0f} a second handed in", f"{under:.0f} ({under / peak:.2f})")
    figure("answers", ", ".join(f"{what}: {number}" for what, number in sorted(answers.items())))
    assert taken == answers.get("202", 0)
    figure("MB of API and worker, before and after", f"{held} {grown}")
    assert generator.returncode == 0
    assert under >= LEAST * peak
    assert set(answers) <= {"202", *(f"429, again after {s} s" for s in (SOON_S, RETRY_AFTER_S))}
    assert answers.pop("202", 0) < sum(answers.values())
    assert await rows(fleet.rig.database, "attempt", "ending = 'unknown'") == []
    assert fleet.reached_twice() == set()
    assert all(grown[name] <= GROWN * held[name] for name in held)
