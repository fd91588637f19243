"""Nothing of a person comes out of the logs, by whatever way it goes in; metrics stay few.

The leaks are tried in a process of their own, which this same file is when it is run as a program.
"""

import ast
import asyncio
import base64
import gc
import json
import logging
import os
import re
import subprocess
import sys
import threading
import warnings
from enum import StrEnum
from pathlib import Path

import structlog

from gateway import telemetry
from gateway.masking import Pii

ROOT = Path(__file__).parent.parent
NUMBERS = ("13812341234", "+447700900123", "110101199003077774", "6228480402564890018")
WORDS = ("d.user@126.com", "gw_live_01JD5K4QZP8XN6T3V2W1Y0R9S7_c2VjcmV0", "postgresql://u:hemlig@db/x")


def wide(text):
    return "".join(chr(ord(c) + 0xFEE0) for c in text)


CANARIES = [
    *NUMBERS,
    *WORDS,
    *(wide(n) for n in NUMBERS),
    *(f"{n[:-8]}-{n[-8:-4]}-{n[-4:]}" for n in NUMBERS),
    *(f"{n[:-8]} {n[-8:-4]} {n[-4:]}" for n in NUMBERS),
    *("".join(f"%{b:02X}" for b in n.encode()) for n in NUMBERS),
    *("".join(f"\\u{ord(c):04x}" for c in n) for n in NUMBERS),
    *(n.encode().hex() for n in NUMBERS),
    *(base64.b64encode(n.encode()).decode() for n in NUMBERS),
    wide("d.user@126.com"),
    "d.user%40126.com",
    "d.user\\u0040126.com",
    "d.user＠126.com",  # noqa: RUF001 (full width is the point)
]


# The program: every way into the logs, each with a canary.


class Sticky:
    """Raises where nobody can catch it."""

    def __init__(self, canary):
        self.canary = canary

    def __del__(self):
        raise ValueError(self.canary)


def fail(canary):
    local = canary
    raise ValueError("no canary here" if not local else "failed")


def event(canary):
    telemetry.get("own").warning(f"told {canary}")


def field(canary):
    telemetry.get("own").warning(
        "told",
        reason=canary,
        hint=[canary],
        count=int(canary) if canary.isascii() and canary.isdigit() else 1,
    )


def unknown_field(canary):
    telemetry.get("own").warning("told", phone=canary)


def bound(canary):
    with structlog.contextvars.bound_contextvars(reason=canary, address=canary):
        telemetry.get("own").warning("told")


def local_variable(canary):
    try:
        fail(canary)
    except ValueError:
        telemetry.get("own").exception("told")


def exception_text(canary):
    try:
        {}[canary]
    except KeyError as wrong:
        logging.getLogger("other").exception("told")
        telemetry.get("own").error("told", exc_info=wrong)


def cause_and_note(canary):
    try:
        fail_twice(canary)
    except RuntimeError:
        telemetry.get("own").exception("told")


def fail_twice(canary):
    try:
        fail_with(canary)
    except ValueError as first:
        wrong = RuntimeError("second")
        wrong.add_note(canary)
        raise wrong from first


def group(canary):
    try:
        fail_in_a_group(canary)
    except ExceptionGroup:
        telemetry.get("own").exception("told")


def fail_in_a_group(canary):
    raise ExceptionGroup("several", [ExceptionGroup("inner", [ValueError(canary)])])


def library(canary):
    logging.getLogger("other").warning("told %s and %r", canary, {"to": canary})


def library_with_a_handler_of_its_own(canary):
    logging.getLogger("early.handler").warning("told %s", canary)


def library_that_is_quiet(canary):
    logging.getLogger("twilio.async_http_client").info("told %s", canary)


def broken_call(canary):
    logging.getLogger("other").warning("told %d", canary)


def warning(canary):
    warnings.warn(f"told {canary}", stacklevel=1)


def thread(canary):
    worker = threading.Thread(target=fail_with, args=(canary,))
    worker.start()
    worker.join()


def fail_with(canary):
    raise ValueError(canary)


def task(canary):
    async def forget():
        telemetry.watch(asyncio.get_running_loop())
        task = asyncio.create_task(broken())
        await asyncio.sleep(0)
        del task
        gc.collect()

    async def broken():
        fail_with(canary)

    asyncio.run(forget())


def cleanup(canary):
    sticky = Sticky(canary)
    del sticky


def database(canary):
    logging.getLogger("other").error("duplicate\nDETAIL:  Key (name)=(%s) exists", canary)


def uncaught(canary):
    sys.excepthook(ValueError, ValueError(canary), None)


WAYS = [
    event, field, unknown_field, bound, local_variable, exception_text, cause_and_note, group, library,
    library_with_a_handler_of_its_own, library_that_is_quiet, broken_call, warning, thread, task, cleanup,
    database, uncaught,
]  # fmt: skip
SILENT = {"library_that_is_quiet"}


def program(mode):
    warnings.simplefilter("always")
    early = logging.getLogger("early.handler")
    early.addHandler(logging.StreamHandler())
    early.propagate = False
    if mode == "bypassed":
        structlog.reset_defaults()
        logging.basicConfig(level=logging.INFO)
        telemetry.watch = lambda loop: None  # the bypass itself: no gate at the loop either
    elif mode != "early":
        telemetry.configure("info", json=mode == "json")
    for way in WAYS if mode != "early" else [event, field, unknown_field, bound, local_variable]:
        sys.stderr.write(f"--- {way.__name__}\n")
        some = mode == "bypassed" and way is not event  # the gate is tried with all, its absence with some
        for canary in CANARIES[:4] if some else CANARIES:
            way(canary)
        gc.collect()


# The tests.


def said(mode):
    """What each way said, by its name."""
    ran = subprocess.run(
        [sys.executable, __file__, mode],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8"},
        check=True,
        timeout=50,
    )
    parts = re.split(r"--- (\w+)\n", ran.stdout.decode())
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def leaks(text):
    """The canaries that stand in a text, as they are or as JSON escapes them."""
    return [c for c in CANARIES if c in text or json.dumps(c)[1:-1] in text]


def test_no_way_into_the_logs_leaks_a_canary():
    output = said("json")

    assert output.keys() == {way.__name__ for way in WAYS}
    assert {name: found for name, text in output.items() if (found := leaks(text))} == {}
    assert {name for name, text in output.items() if not text} == SILENT
    lines = [json.loads(line) for text in output.values() for line in text.splitlines()]
    assert all(line["event"] and line["level"] and line["timestamp"] for line in lines)
    assert "_dropped" in output["unknown_field"]
    assert "***" in output["event"]
    assert output["broken_call"].count("log_call_broken") == len(CANARIES)
    assert "(name)" not in output["database"]


def test_no_way_leaks_in_text_for_a_terminal_either():
    output = said("text")

    assert {name: found for name, text in output.items() if (found := leaks(text))} == {}
    assert {name for name, text in output.items() if not text} == SILENT
    assert "ValueError" in output["group"]


def test_who_logs_before_logging_is_set_up_is_gated_as_well():
    output = said("early")

    assert {name: found for name, text in output.items() if (found := leaks(text))} == {}
    assert {name for name, text in output.items() if not text} == set()


def test_the_same_ways_leak_when_the_gate_is_bypassed():
    output = said("bypassed")

    assert {way.__name__ for way in WAYS} - {name for name, text in output.items() if leaks(text)} == set()
    assert set(CANARIES) - set(leaks("".join(output.values()))) == set()


def log_calls():
    """Every call of a module's `log` in the product: where, its event, its fields."""
    for path in sorted([*ROOT.glob("gateway/**/*.py"), *ROOT.glob("channels/*.py")]):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            match node:
                case ast.Call(func=ast.Attribute(value=ast.Name(id="log" | "_log"))):
                    yield f"{path.name}:{node.lineno}", node.args, {word.arg for word in node.keywords}


def test_every_field_that_the_product_logs_is_let_through():
    calls = list(log_calls())

    assert len(calls) > 5
    assert [(where, fields) for where, _, fields in calls if fields - telemetry.FIELDS - {"exc_info"}] == []


def test_every_event_that_the_product_logs_is_a_fixed_word():
    wordy = [
        where
        for where, args, _ in log_calls()
        if not (
            len(args) == 1 and isinstance(args[0], ast.Constant) and re.fullmatch("[a-z0-9_]+", args[0].value)
        )
    ]

    assert wordy == []


class Word(StrEnum):
    ONE = "one"


def test_values_become_plain():
    class Odd:
        def __repr__(self):
            return "13812341234"

    shown = {
        None: None,
        True: True,
        7: 7,
        2**31: "2147483648",
        0.1234567891: 0.123457,
        Word.ONE: "one",
        Path("a/b"): "a/b",
        Pii("x"): "***",
        ("a", Pii("b")): ["a", "***"],
        Odd(): "<Odd>",
        b"x": "<bytes>",
        "x" * 300: "x" * 200,
    }
    assert [telemetry._plain(value) for value in shown] == list(shown.values())


def test_metrics_are_rendered_with_their_labels():
    metrics = telemetry.Metrics()
    metrics.accepted(3)
    metrics.decided("suppressed", "duplicate")
    metrics.called("sms", "twilio_sms", "accepted", 0.2)
    metrics.refused("quota", "sms-cn")
    metrics.refused("paused", "ps_01")
    metrics.started("*/live|sms-cn", "", 3)
    metrics.receipts("smtp", known=2, strange=1)
    metrics.settled("smtp", found=True)
    metrics.swept()
    metrics.show("due", {("sms", "acme/live", "urgent"): 9, ("sms", "beta/live", "bulk"): 1})
    metrics.show("due", {("sms", "acme/live", "urgent"): 4})
    metrics.show("reminders", {("*/live", "unknown"): 2})
    metrics.answered("GET", "/v1/reminders/{id}", 200, 0.01)
    metrics.took("t1", 0.02)
    left = iter([45, -1])
    metrics.calendar("workday:CN", "rule", lambda: next(left))
    metrics.review("US.REGF", lambda: 7)

    text = metrics.render().decode()

    for line in (
        "gateway_reminders_accepted_total 3.0",
        'gateway_decisions_total{reason="duplicate",state="suppressed"} 1.0',
        'gateway_attempts_total{adapter="twilio_sms",channel="sms",outcome="accepted"} 1.0',
        'gateway_call_seconds_bucket{adapter="twilio_sms",channel="sms",le="0.25"} 1.0',
        'gateway_refusals_total{by="sms-cn",reason="quota"} 1.0',
        'gateway_refusals_total{by="",reason="paused"} 1.0',
        'gateway_quota_started_units_total{of="",quota="*/live|sms-cn"} 3.0',
        'gateway_receipts_total{adapter="smtp",known="yes"} 2.0',
        'gateway_receipts_total{adapter="smtp",known="no"} 1.0',
        'gateway_settled_total{adapter="smtp",found="yes"} 1.0',
        "gateway_sweeps_total 1.0",
        'gateway_due{channel="sms",priority="urgent",tenant="acme/live"} 4.0',
        'gateway_reminders{state="unknown",tenant="*/live"} 2.0',
        'gateway_calendar_days_left{calendar="workday:CN",read_by="rule"} 45.0',
        'gateway_pack_review_days_left{pack="US.REGF"} 7.0',
        'gateway_api_requests_total{method="GET",route="/v1/reminders/{id}",status="200"} 1.0',
        'gateway_stage_seconds_count{stage="t1"} 1.0',
    ):
        assert f"\n{line}\n" in text
    assert 'read_by="rule"} -1.0' in metrics.render().decode()
    assert "beta/live" not in text


def test_a_label_that_reads_as_a_person_counts_as_other():
    metrics = telemetry.Metrics()
    for reason in ("13812341234", "d.user@126.com", "a b", "x" * 129):
        metrics.decided("failed", reason)

    text = metrics.render().decode()

    assert 'gateway_decisions_total{reason="other",state="failed"} 4.0' in text
    assert "1381234" not in text


def test_a_metric_has_a_bounded_number_of_series():
    metrics = telemetry.Metrics()
    for number in range(600):
        metrics.decided("failed", f"R.{number}")

    text = metrics.render().decode()

    assert text.count("gateway_decisions_total{") == 501
    assert 'gateway_decisions_total{reason="other",state="other"} 100.0' in text


def test_two_metrics_share_nothing():
    one, other = telemetry.Metrics(), telemetry.Metrics()
    one.accepted()

    assert b"gateway_reminders_accepted_total 0.0" in other.render()


if __name__ == "__main__":
    program(sys.argv[1])
