"""The engine against the witness (gateway/audit), a plain second reading of the language, on drawn cases."""

import json
from datetime import UTC, datetime, timedelta
from random import Random

import policy_draws as draws
import pytest
import second_reading
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mutants import EDGES
from rule_draws import CALENDARS, KINDS

from gateway.audit.days import Days
from gateway.policy.calendars import Calendars
from gateway.policy.check import parse_cases

BOUNDED = settings(max_examples=180, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)


@BOUNDED
@given(st.randoms(use_true_random=False))
def test_engine_and_witness_agree_on_a_drawn_case(r):
    assert list(second_reading.differences(second_reading.draw(r), r)) == []


@pytest.mark.parametrize("kind", KINDS)
def test_engine_and_witness_agree_on_each_kind(kind):
    for turn in range(8):
        r = Random(f"{kind} {turn}")
        assert list(second_reading.differences(second_reading.draw(r, [kind]), r)) == []


def test_the_host_time_zone_changes_no_answer():
    assert set(second_reading.on_hosts(1, 25)) == {second_reading.digest(1, 25)}


@pytest.mark.parametrize("slip", EDGES)
def test_the_comparison_sees_a_slip_of_the_engine(slip):
    assert second_reading.sees(EDGES[slip], slip, 300)


@pytest.mark.parametrize("name", [*CALENDARS, "workday:CN"])
def test_the_witness_reads_a_calendar_and_its_overrides_as_they_are(name):
    r, own = Random(name), name.removeprefix("workday:")
    for night in draws.NIGHTS:
        now = datetime(*night, tzinfo=UTC)
        stated = Calendars(draws.overrides(r, now, {own, own.partition("-")[0]}))
        days = Days(stated.overrides)
        for day in (now.date() + timedelta(days=after) for after in range(-4, 12)):
            assert days.official(name, day) == (stated.uncovered(name, day.toordinal()) is None)
            assert days.holiday(own, day) == stated.is_holiday(own, day.toordinal())
            assert days.workday(own, day) == stated.is_workday(f"workday:{own}", day.toordinal())


def test_a_lock_closes_when_the_event_that_opened_it_leaves_first():
    lock = {"id": "L", "kind": "channel_lock", "after": "read", "window": {"type": "hours", "n": 5}}
    read = [("08", "sms"), ("11", "email")]
    history = [{"at": f"2026-11-24T{at}:00:00Z", "channel": on, "outcome": "read"} for at, on in read]
    put = parsed(lock, "2026-11-24T12:00:00Z", history=history)
    limit = put.case.at + timedelta(days=1)

    assert put.closes(limit) == datetime(2026, 11, 24, 13, tzinfo=UTC)


@pytest.mark.parametrize(("day", "in_force"), [(22, False), (23, True), (24, True), (25, False)])
def test_a_rule_has_a_finding_only_while_it_is_in_force(day, in_force):
    rule = {"id": "R", "kind": "hold", "fact": "h", "since": "2026-11-23", "until": "2026-11-25"}
    put = parsed(rule, f"2026-11-{day}T12:00:00Z", facts={"h": True})

    assert [finding.objects for finding in put.judged().findings] == [True] * in_force


def parsed(rule, now, **more):
    case = {"id": "C", "packs": ["A"], "zones": ["UTC"], "now": now, "reminder": {"channel": "sms"}, **more}
    return second_reading.Drawn(
        parse_cases(json.dumps({"packs": {"A": [rule]}, "cases": [case]}).encode())[0]
    )
