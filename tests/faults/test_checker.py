"""The checker sees each fault, by made-up rows with one mistake each, and none where there is none."""

from types import SimpleNamespace

import pytest
from checker import Promised, check

PROMISED = {"a": Promised(to="+1"), "b": Promised(to="+2", quiet=True), "c": Promised(to="+3")}


def line(to, ref):
    return {"to": to, "ref": ref}


def attempt(ref, reminder, **more):
    said = {
        "state": "accepted",
        "adapter": "aliyun_sms",
        "ending": "accepted",
        "ended_at": 1,
        "code": None,
        **more,
    }
    return SimpleNamespace(ref=ref, reminder=reminder, **said)


def stands(**states):
    return [SimpleNamespace(id=name, state=state, reason=reason) for name, (state, reason) in states.items()]


RIGHT = {"a": ("sent", None), "b": ("deferred", "HOURS"), "c": ("unknown", None)}
LEDGER = (line("+1", "r1"),)
ATTEMPTS = (attempt("r1", "a"), attempt("r3", "c", state="unknown", ending="unknown", ended_at=None))


GONE = attempt("r4", "c", state="failed", ending="unknown", code="not_shown")


def test_what_its_provider_does_not_show_is_settled():
    verdict = check(PROMISED, LEDGER, stands(**{**RIGHT, "c": ("failed", None)}), (ATTEMPTS[0], GONE))
    assert verdict.faults() == {}
    assert verdict.settles()


def test_what_is_right_is_right():
    verdict = check(PROMISED, LEDGER, stands(**RIGHT), ATTEMPTS)
    assert verdict.faults() == {}
    assert verdict.tried["left unknown by a death"] == verdict.tried["parked unknown"] == 1
    assert not verdict.settles()


@pytest.mark.parametrize(
    ("fault", "ledger", "states", "attempts"),
    [
        ("lost", LEDGER, {"a": ("sent", None), "b": ("deferred", "HOURS")}, ()),
        ("lost", LEDGER, {**RIGHT, "c": ("waiting", None)}, ()),
        ("lost", LEDGER, {**RIGHT, "c": ("suppressed", None)}, ()),
        ("twice", (*LEDGER, line("+1", "r1")), RIGHT, ()),
        ("twice", (*LEDGER, line("+1", "r2")), RIGHT, (attempt("r2", "a"),)),
        ("over_cap", LEDGER * 4, RIGHT, ()),
        ("in_quiet_hours", (*LEDGER, line("+2", "r2")), RIGHT, (attempt("r2", "b"),)),
        ("unexplained", (*LEDGER, line("+9", "r9")), RIGHT, ()),
        ("unexplained", (), RIGHT, ()),
        ("unexplained", (*LEDGER, line("+2", "r2")), RIGHT, (attempt("r2", "b"),)),
        ("unsettled", (*LEDGER, line("+3", "r3")), RIGHT, ()),
        ("unsettled", (*LEDGER, line("+3", "r4")), {**RIGHT, "c": ("failed", None)}, (GONE,)),
    ],
)
def test_a_mistake_is_seen(fault, ledger, states, attempts):
    assert fault in check(PROMISED, ledger, stands(**states), (*ATTEMPTS, *attempts)).faults()
