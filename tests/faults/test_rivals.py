"""The same deaths under the gateway, an arq job per reminder, and Celery: the ledger is seen to tell them apart."""

import asyncio
import os
import signal
import sys
import time
from collections import Counter
from functools import partial
from pathlib import Path
from random import Random

import pytest
from checker import Promised
from killing import SEED, Deaths
from makers import rows

sys.path.append(str(Path(__file__).parents[2] / "bench"))

pytestmark = pytest.mark.timeout(1800)
COUNT = int(os.environ.get("FAULTS_RIVALS", "5000"))
"""Reminders; FAULTS_RIVALS=1500 is the short form."""
KILLS, WORKERS = 20, 3
FLUSH_AT = 0.97
"""Redis is flushed once, when so much is out."""
QUIET_S = 5.0
"""Whoever has sent nothing for so long waits for a time-out of its own."""
SURELY_DEAD_S = 6.0
"""No job of a living worker takes so long here."""
ARQ_WAITS_MS = 310_000


def schedule():
    """When (part of all that is out) which worker is killed."""
    r = Random(SEED)
    return sorted((r.uniform(0.02, 0.95), r.randrange(WORKERS)) for _ in range(KILLS))


def tree(pid):
    """A process and all that it started."""
    found = [pid]
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
            if parent == pid:
                found += tree(int(entry.name))
    return found


def until(true, patience):
    end = time.monotonic() + patience
    while not true() and time.monotonic() < end:
        time.sleep(0.02)


def suffer(stand, rival, restart, time_passes):
    """The schedule over a rival at work: its dead are replaced at once; then Redis is flushed."""

    def out():
        return stand.providers.reached().count / COUNT

    for part, place in schedule():
        until(lambda part=part: out() >= part, patience=20)
        for pid in tree(rival.workers[place].process.pid):
            os.kill(pid, signal.SIGKILL)
        rival.workers[place].process.wait(10)
        rival.workers[place] = restart(rival.workers[place])
        time_passes()
    until(lambda: time_passes() or out() >= FLUSH_AT, patience=60)
    stand.valkey.say("FLUSHALL")
    rival.begin()
    quiet(stand)


def quiet(stand):
    """Wait until nothing has gone out for a while."""
    seen, since = -1, time.monotonic()
    while time.monotonic() - since < QUIET_S:
        if (count := stand.providers.reached().count) != seen:
            seen, since = count, time.monotonic()
        time.sleep(0.1)


def counted(lost, twice):
    return f"lost {len(lost)}, twice {len(twice)}"


def told(figure, stand, rival):
    """What its ledger says: who was never reached, who more than once."""
    from work import recipients  # noqa: PLC0415 (bench/)

    reached = Counter(stand.providers.ask("reached"))
    lost = [to for to in recipients(COUNT, "sms") if to not in reached]
    twice = [to for to, times in reached.items() if times > 1]
    figure(f"{rival}: of {COUNT} with {KILLS} kills and a flush", counted(lost, twice))
    assert reached
    return lost, twice


async def test_the_gateway_loses_nothing_and_reaches_nobody_twice_under_the_same_deaths(fleet_of, figure):
    fleet = await fleet_of(0)

    async def decided(part):
        open_ones = await rows(fleet.rig.database, "reminder", "state IN ('waiting', 'sending')")
        return 1 - len(open_ones) / COUNT >= part

    names = await fleet.take(COUNT)
    deaths = Deaths(fleet, SEED)
    deaths.accepted = {name: Promised(to=to) for to, name in names.items()}
    fleet.workers += [deaths.start("worker") for _ in range(WORKERS)]
    try:
        for part, place in schedule():
            await fleet.until(partial(decided, part))
            fleet.workers[place].kill()
            await asyncio.to_thread(fleet.workers[place].wait, 10)
            fleet.workers[place] = deaths.start("worker")
        await fleet.until(partial(decided, FLUSH_AT))
        await fleet.redis.say("FLUSHALL")
        verdict = await deaths.settled()
    finally:
        await fleet.end()

    figure(f"gateway: of {COUNT} with {KILLS} kills and a flush", counted(verdict.lost, verdict.twice))
    figure("parked unknown, of calls that a death left", verdict.tried["parked unknown"])
    assert verdict.faults() == {}


def test_an_arq_job_per_reminder_loses_some_and_reaches_some_twice_and_it_is_seen(tmp_path, figure):
    import stand as stands  # noqa: PLC0415 (bench/)
    import theirs  # noqa: PLC0415

    with stands.standing(tmp_path) as stand, theirs.under_arq(stand, COUNT, "sms", WORKERS) as rival:
        env = theirs.environ(stand, "rival")

        def restart(gone):
            return stands.run(gone.name, gone.process.args, stand.logs, env)

        def time_passes():
            """310 s of it for the jobs of the dead: then arq takes them again."""
            for key in stand.valkey.say("KEYS", "arq:in-progress:*"):
                if 0 < stand.valkey.say("PTTL", key) < ARQ_WAITS_MS - SURELY_DEAD_S * 1000:
                    stand.valkey.say("DEL", key)

        rival.begin()
        suffer(stand, rival, restart, time_passes)
        lost, twice = told(figure, stand, "arq")
    assert lost
    assert twice


def test_a_celery_task_per_reminder_loses_some_and_reaches_some_twice_and_it_is_seen(tmp_path, figure):
    pytest.importorskip("celery", reason="Celery is in the extra `bench`")
    import stand as stands  # noqa: PLC0415 (bench/)
    import theirs  # noqa: PLC0415

    with stands.standing(tmp_path) as stand, theirs.under_celery(stand, COUNT, "sms", WORKERS) as rival:
        env = theirs.environ(stand, "rival")

        def restart(gone):
            words = ["bench" if word == "idle" else word for word in gone.process.args]
            return stands.run(gone.name, words, stand.logs, env, cwd=stand.folder)

        def time_passes():
            """An hour of it for what the dead had taken: then Celery hands it out again."""
            until_s = time.time() - SURELY_DEAD_S
            for name in stand.valkey.say("ZRANGEBYSCORE", "unacked_index", "(10", until_s):
                stand.valkey.say("ZADD", "unacked_index", 10, name)

        rival.begin()
        suffer(stand, rival, restart, time_passes)
        lost, twice = told(figure, stand, "Celery")
    assert lost
    assert twice
