"""The engine against a plain second reading of the language, on drawn packs and histories."""

import json
from datetime import timedelta

import policy_draws as draws
import policy_oracle as oracle
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from gateway.policy.check import decide_case, parse_cases
from gateway.policy.decide import open_until

SECOND = timedelta(seconds=1)
READ = [("08", "sms"), ("11", "email")]
BOUNDED = settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)


def parsed(rules, case):
    return parse_cases(json.dumps({"packs": {"A": rules}, "cases": [case]}).encode())[0]


def between(case, now, end, r):
    """Instants inside (now, end): quarter hours, spans after each event, and some at random."""
    length = int((end - now).total_seconds())
    first = now.replace(minute=now.minute // 15 * 15, second=0)
    quarters = [first + timedelta(minutes=15 * step) for step in range(1, length // 900 + 1)]
    spans = [0, 1, 1799, 1800, 3600, 7200, 86400, 86401, 172800]
    events = [oracle.read(event["at"]).replace(microsecond=0) for event in case["history"]]
    found = r.sample(quarters, min(len(quarters), 16))
    found += [at + timedelta(seconds=far) for at in events for far in spans]
    found += [now + timedelta(seconds=r.randint(1, max(1, length - 1))) for _ in range(8)]
    return [at for at in found if now < at < end]


@BOUNDED
@given(st.randoms(use_true_random=False))
def test_a_verdict_is_what_the_plain_reading_says(r):
    rules, case = draws.case(r)
    now = oracle.read(case["now"])
    objecting = oracle.objecting(rules, case, now)
    shadow = [
        rule["id"] for rule in rules if rule.get("force") == "draft" and oracle.would_object(rule, case, now)
    ]
    final = {rule["id"] for rule in rules if rule["kind"] in ("hold", "opt_out", "refusal")}

    answer = decide_case(parsed(rules, case)).as_json()

    assert answer["rules"] == objecting
    assert answer["shadow"] == shadow
    if not objecting:
        assert (answer["decision"], answer["until"]) == ("send", None)
        return
    if final & set(objecting):
        assert (answer["decision"], answer["until"]) == ("suppress", None)
        return
    horizon = now + timedelta(days=case["horizon_days"])
    until = oracle.read(answer["until"]) if answer["until"] else horizon
    if answer["decision"] == "defer":
        assert now < until < horizon
        assert oracle.objecting(rules, case, until) == []
        assert until - SECOND == now or oracle.objecting(rules, case, until - SECOND)
    else:
        assert answer["decision"] == "suppress"
    assert all(oracle.objecting(rules, case, at) for at in between(case, now, until, r))


@BOUNDED
@given(st.randoms(use_true_random=False))
def test_what_is_open_stays_open_until_it_is_said_to_close(r):
    rules, case = draws.case(r)
    now = oracle.read(case["now"])
    assume(not oracle.objecting(rules, case, now))
    limit = now + timedelta(seconds=r.randint(1, 3 * 86400))
    put = parsed(rules, case)

    closes = open_until(
        put.packs, put.question, zones=put.zones, history=put.history, facts=put.facts, now=now, limit=limit
    )

    assert now < closes <= limit
    assert closes == limit or oracle.objecting(rules, case, closes)
    assert not any(
        oracle.objecting(rules, case, at) for at in [*between(case, now, closes, r), closes - SECOND]
    )


@BOUNDED
@given(st.randoms(use_true_random=False))
def test_each_finding_says_when_its_own_rule_opens(r):
    rules, case = draws.case(r)
    now = oracle.read(case["now"])

    for finding in decide_case(parsed(rules, case)).verdict.findings:
        rule = next(rule for rule in rules if rule["id"] == finding.of.id)
        alone = {**rule, "zone": f"fixed:{finding.zone}"}
        assert finding.objects == oracle.would_object(alone, case, now)
        if finding.next is not None:
            assert not oracle.would_object(alone, case, finding.next)
            assert oracle.would_object(alone, case, finding.next - SECOND)


def test_a_lock_closes_when_the_event_that_opened_it_leaves_first():
    lock = {"id": "L", "kind": "channel_lock", "after": "read", "window": {"type": "hours", "n": 5}}
    history = [
        {"at": f"2026-11-24T{hour}:00:00Z", "channel": channel, "outcome": "read"} for hour, channel in READ
    ]
    case = {"id": "C", "packs": ["A"], "zones": ["UTC"], "now": "2026-11-24T12:00:00Z", "history": history}
    put = parsed([lock], {**case, "reminder": {"channel": "sms"}})
    given = {"zones": put.zones, "history": put.history, "facts": put.facts, "now": put.at}

    assert open_until(put.packs, put.question, **given, limit=put.at + timedelta(days=1)) == oracle.utc(
        2026, 11, 24, 13
    )


@pytest.mark.parametrize(("day", "in_force"), [(22, False), (23, True), (24, True), (25, False)])
def test_a_rule_has_a_finding_only_while_it_is_in_force(day, in_force):
    rule = {"id": "R", "kind": "hold", "fact": "h", "since": "2026-11-23", "until": "2026-11-25"}
    case = {
        "id": "C",
        "packs": ["A"],
        "zones": ["UTC"],
        "now": f"2026-11-{day}T12:00:00Z",
        "facts": {"h": True},
    }
    verdict = decide_case(parsed([rule], {**case, "reminder": {"channel": "sms"}})).verdict

    assert [finding.objects for finding in verdict.findings] == [True] * in_force
