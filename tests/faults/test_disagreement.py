"""The long search for a case on which engine and witness differ. Each part has a seed, so it can be run again."""

from pathlib import Path
from random import Random

import pytest
import second_reading
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from mutants import EDGES, MORE
from rule_draws import KINDS

from gateway.policy.check import parse_cases

FILES = sorted((Path(__file__).parents[1] / "policy" / "cases").rglob("*.json"))
PARTS, EACH = 80, 250
OF_A_KIND = 250
LONG = settings(max_examples=EACH, deadline=None, suppress_health_check=list(HealthCheck), database=None)


@pytest.mark.parametrize("part", range(PARTS))
def test_engine_and_witness_agree_on_drawn_cases(part):
    @seed(part)
    @LONG
    @given(st.randoms(use_true_random=False))
    def agree(r):
        assert list(second_reading.differences(second_reading.draw(r), r)) == []

    agree()


@pytest.mark.parametrize("kind", KINDS)
def test_engine_and_witness_agree_on_each_kind(kind):
    for turn in range(OF_A_KIND):
        r = Random(f"{kind} of faults {turn}")
        assert list(second_reading.differences(second_reading.draw(r, [kind]), r)) == [], turn


@pytest.mark.parametrize("first", range(1000, 2000, 250))
def test_the_host_time_zone_changes_no_answer(first):
    assert set(second_reading.on_hosts(first, 250)) == {second_reading.digest(first, 250)}


@pytest.mark.parametrize("slip", [*EDGES, *MORE])
def test_the_comparison_sees_a_slip_of_the_engine(slip):
    assert second_reading.sees((EDGES | MORE)[slip], slip, 1000)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_engine_and_witness_agree_on_the_worked_cases(file):
    for case in parse_cases(file.read_bytes()):
        assert list(second_reading.differences(second_reading.Drawn(case), Random(case.id))) == [], case.id
