"""Twenty thousand drawn schedules of the real code, two processes of them; the short form is tests/simulation."""

import sys
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest

SIMULATION = str(Path(__file__).resolve().parents[1] / "simulation")
sys.path.append(SIMULATION)

from sim_mutants import MUTANTS, sown  # noqa: E402 (its folder is not on the path of this one)
from sim_world import World  # noqa: E402

SCHEDULES, PART = 20_000, 100
MUTANT_SCHEDULES = 1_000
NEVER_SEEN = ("an outcome is written whatever became of the rows", "a slot does not pass")
"""What no schedule reached so far: the model has the way to it (docs/protocol.md)."""


def _part(first):
    """What a part of them tried, and what went wrong, by seed."""
    tried, wrong = Counter(), {}
    for seed in range(first, first + PART):
        seen = World(seed).run()
        tried += seen.tried
        if seen.wrong:
            wrong[seed] = seen.wrong
    return tried, wrong


@pytest.mark.timeout(7200)
def test_every_schedule_of_twenty_thousand_keeps_the_promise(figure):
    tried, wrong = Counter(), {}
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        for done, (some, broken) in enumerate(pool.map(_part, range(0, SCHEDULES, PART)), 1):
            tried += some
            wrong |= broken
            print(f"\r{done * PART:,} schedules, {len(wrong)} broken", end="", flush=True)  # noqa: T201 (progress)

    figure("schedules", SCHEDULES)
    for what, number in sorted(tried.items()):
        figure(what, number)
    figure("broken", len(wrong))
    assert wrong == {}
    assert tried["sent"] > SCHEDULES


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", [name for name in MUTANTS if name not in NEVER_SEEN])
def test_a_wrong_design_is_given_away_by_a_schedule(figure, name):
    seeds = range(1, 2 * MUTANT_SCHEDULES, 2)
    with sown(name):
        caught = next((n for n, seed in enumerate(seeds, 1) if World(seed).run().wrong), None)

    figure(f"{name}: schedules", str(caught))
    assert caught is not None
