"""Real processes killed at named points, each replaced at once: nothing is lost, nobody is reached twice."""

import os
from collections import Counter
from statistics import median, quantiles

import pytest
from killing import SEED, Deaths, Place, nice
from killing_worker import POINTS

pytestmark = pytest.mark.timeout(3600)
KILLS = int(os.environ.get("FAULTS_KILLS", "520"))
"""FAULTS_KILLS=40 is the short form."""
FLUSH_EVERY, MISTAKEN_KILLS = 25, 8


async def test_workers_and_the_api_are_killed_at_named_points_and_all_is_sent_once(fleet_of, figure):
    fleet = await fleet_of(0)
    deaths = Deaths(fleet, SEED)
    try:
        await deaths.run(KILLS, every=[(FLUSH_EVERY, lambda: fleet.redis.say("FLUSHALL"))])
        verdict = await deaths.settled()
        marked_s = await deaths.marked_s()
    finally:
        deaths.end()

    died = deaths.deaths()
    most = quantiles(marked_s, n=100)[-1]
    at = Counter(death["point"] for death in died)
    figure("kills", len(died))
    figure("named points they came at", f"{len(at.keys() & POINTS.keys())} of {len(POINTS)}")
    figure("calls in flight at all cuts", sum(death["in_flight"] for death in died))
    figure("ended otherwise", ", ".join(f"{nice(how)} {n}" for how, n in deaths.left.items() if how != -9))
    figure("s from a death to the mark on its calls, median and p99", f"{median(marked_s):.1f}, {most:.1f}")
    verdict.told(figure)
    assert verdict.faults() == {}
    assert verdict.settles()
    assert verdict.tried["left unknown by a death"] <= sum(death["in_flight"] for death in died)
    assert verdict.tried["reached"] > 10 * len(died)
    assert len(at.keys() & POINTS.keys()) >= min(24, KILLS // 3)


async def test_a_worker_that_sends_anew_what_the_dead_were_calling_is_caught_by_the_same_checker(
    fleet_of, figure
):
    fleet = await fleet_of(0)
    fleet.environ["MISTAKE"] = "1"
    deaths = Deaths(fleet, SEED)
    deaths.places = [Place("worker", ["call.answered", "t2.begin", "t2.before_commit"]) for _ in range(2)]
    try:
        await deaths.run(MISTAKEN_KILLS)
        verdict = await deaths.settled()
    finally:
        deaths.end()

    figure("kills of workers with the mistake", len(deaths.deaths()))
    figure("reached twice, which must be seen", len(verdict.twice))
    assert verdict.twice
