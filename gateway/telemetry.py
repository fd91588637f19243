"""Logs and metrics for operators, without a word about people.

Every line, ours or a library's, goes through one gate: fields by an allow-list, typed masking, tracebacks
without locals, and a last scrub over the rendered line. Metrics have few labels, each of few values.
"""

from __future__ import annotations

import asyncio
import logging
import re
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from datetime import date, timedelta
from decimal import Decimal
from pathlib import PurePath
from types import TracebackType
from typing import Any, TextIO, TypeAlias, cast

import orjson
import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from structlog.processors import ExceptionRenderer, TimeStamper
from structlog.tracebacks import ExceptionDictTransformer
from structlog.typing import FilteringBoundLogger

from gateway.masking import MASK, Pii, reads_as_personal, scrub

FIELDS = frozenset(
    {
        *(
            "account",
            "action",
            "adapter",
            "attempt",
            "channel",
            "code",
            "command",
            "count",
            "decision",
            "epoch",
            "error",
        ),
        *(
            "event_id",
            "fence",
            "hint",
            "host",
            "kind",
            "lag_s",
            "language",
            "limit",
            "listen",
            "loaded",
            "method",
        ),
        *(
            "mode",
            "next_at",
            "oldest_due_s",
            "outcome",
            "owner",
            "pack",
            "pid",
            "port",
            "priority",
            "profile",
        ),
        *(
            "quota",
            "queue",
            "reason",
            "record",
            "reminder",
            "setting",
            "request_id",
            "retry_after_s",
            "route",
            "rule",
            "sent",
        ),
        *("signal", "size", "source", "stage", "state", "status", "stopped", "table", "template"),
        *("tenant", "took_ms", "unknown", "until", "used", "variables", "version", "waiting", "worker"),
    }
)
"""The only fields a line may have besides its event; add one here when it can hold nothing of a person."""

_QUIET = (
    "aiohttp.access",
    "alembic",
    "aiosqlite",
    "arq",
    "asyncio",
    "sqlalchemy",
    "twilio",
    "uvicorn.access",
    "uvicorn.error",
)
"""Libraries that say at INFO or DEBUG what they were given."""

_TEXT, _NAME, _ITEMS, _FRAMES, _SMALL = 2000, 200, 20, 20, 2**31

Event: TypeAlias = MutableMapping[str, Any]


# The gate.

_TOLD = re.compile(r"(DETAIL:|\[SQL:|\[parameters:|input_value=|HINT:).*", re.DOTALL)
"""Where databases and validators begin to say the values they were given."""


_RENDER = ExceptionRenderer(ExceptionDictTransformer(show_locals=False, max_frames=_FRAMES))


def _exceptions(logger: Any, method: str, event: Event) -> Event:
    """Put a traceback without locals in the place of `exc_info`."""
    event = _RENDER(logger, method, event)
    if "exception" in event:
        event["exception"] = _raised(event["exception"])
    return event


def _raised(chain: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """An exception, its causes and its members: type, text, notes and places, all bounded."""
    return [
        {
            "type": one["exc_type"],
            "text": _text(one["exc_value"]),
            "notes": [_text(note) for note in one["exc_notes"][:_ITEMS]],
            "at": [f"{frame['filename']}:{frame['lineno']} in {frame['name']}" for frame in one["frames"]],
            "members": [_raised(member) for member in one["exceptions"][:_ITEMS]],
        }
        for one in chain[:_ITEMS]
    ]


def _admit(_logger: Any, _method: str, event: Event) -> Event:
    """Let known fields through as plain values; count the others."""
    admitted: Event = {
        "timestamp": event.pop("timestamp"),
        "level": event.pop("level"),
        "event": _text(event.pop("event", "")),
    }
    raised = event.pop("exception", None)
    admitted.update({name: _plain(value) for name, value in event.items() if name in FIELDS})
    if dropped := len(event.keys() - FIELDS):
        admitted["_dropped"] = dropped
    if raised is not None:
        admitted["exception"] = raised
    return admitted


def _text(value: Any) -> str:
    """Free text: bounded, and cut where it would begin to say values."""
    return _TOLD.sub(MASK, value[:_TEXT]) if isinstance(value, str) else f"<{type(value).__name__}>"


def _plain(value: Any) -> Any:
    """A value that JSON has; whatever is not plain is only named by its type."""
    match value:
        case None | bool():
            return value
        case int():
            return value if -_SMALL < value < _SMALL else str(value)  # a phone must not stand bare in JSON
        case float():
            return round(value, 6)
        case list() | tuple() | set() | frozenset():
            return [_plain(item) for item in list(value)[:_ITEMS]]
        case _:
            return _named(value)


def _named(value: Any) -> str:
    match value:
        case str():
            return _text(str(value))[:_NAME]
        case Pii():
            return MASK
        case date() | timedelta() | Decimal() | PurePath():
            return str(value)[:_NAME]
        case _:
            return f"<{type(value).__name__}>"


def _as_json(_logger: Any, _method: str, event: Event) -> str:
    return orjson.dumps(event, default=lambda value: f"<{type(value).__name__}>").decode()


def _as_text(_logger: Any, _method: str, event: Event) -> str:
    chain = event.pop("exception", ())
    head = f"{event.pop('timestamp')} {event.pop('level'):8} {event.pop('event')}"
    return "\n".join(
        [" ".join([head, *(f"{name}={value}" for name, value in event.items())]), *_lines(chain, "  ")]
    )


def _lines(chain: Sequence[Mapping[str, Any]], indent: str) -> Iterator[str]:
    for one in chain:
        yield from (f"{indent}  {place}" for place in one["at"])
        yield f"{indent}{one['type']}: {one['text']}"
        for member in one["members"]:
            yield from _lines(member, f"{indent}  | ")


def _scrub(_logger: Any, _method: str, line: str) -> str:
    return scrub(line)


def _install(level: str, stream: Callable[[], TextIO], *, json: bool, final: bool) -> None:
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            TimeStamper(fmt="iso", utc=True),
            _exceptions,
            _admit,
            _as_json if json else _as_text,
            cast("structlog.typing.Processor", _scrub),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=lambda *_: structlog.PrintLogger(stream()),
        cache_logger_on_first_use=final,
    )


_install(
    "warning", lambda: sys.stderr, json=True, final=False
)  # whoever logs before `configure` is gated as well


def get(name: str) -> FilteringBoundLogger:
    """A logger: `log.info("what_happened", reminder=…, took_ms=…)`; event and fields, no sentences."""
    return cast("FilteringBoundLogger", structlog.get_logger(source=name))


# The ways around structlog, closed.


class _Gate(logging.Handler):
    """Hands what libraries log to our gate."""

    def __init__(self) -> None:
        super().__init__()
        self._log = structlog.get_logger()

    def emit(self, record: logging.LogRecord) -> None:
        """Log it as ours; a call whose text and values do not fit is logged without either."""
        try:
            text = record.getMessage()
        except (TypeError, ValueError, KeyError):
            text = "log_call_broken"
        self._log.log(record.levelno, text, source=record.name, exc_info=record.exc_info or None)


def configure(level: str = "info", *, stream: TextIO | None = None, json: bool = True) -> None:
    """Set logging up, once, at the start of a process: structlog, stdlib, warnings and every hook.

    Servers that bring a logging configuration of their own (uvicorn) must be told to leave it.
    `stream`: stderr when absent. `json`: one object a line, else text for a terminal.
    """
    out = stream or sys.stderr
    _install(level, lambda: out, json=json, final=True)
    for name in list(logging.root.manager.loggerDict):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.root.handlers[:] = [_Gate()]
    logging.root.setLevel(max(logging.INFO, logging.getLevelNamesMapping()[level.upper()]))
    logging.captureWarnings(capture=True)
    sys.excepthook = _uncaught
    sys.unraisablehook = _unraisable
    threading.excepthook = _thread_failed


def watch(loop: asyncio.AbstractEventLoop) -> None:
    """Send what a loop would say of failed tasks through the gate; each process calls it in its loop."""
    loop.set_exception_handler(_task_failed)


_log = get("gateway")


def _uncaught(kind: type[BaseException], wrong: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        _log.warning("interrupted")
    else:
        _log.critical("uncaught", exc_info=(kind, wrong, trace))


def _unraisable(args: sys.UnraisableHookArgs) -> None:
    _log.error("uncaught_in_cleanup", exc_info=args.exc_value)


def _thread_failed(args: threading.ExceptHookArgs) -> None:
    _log.error("thread_failed", exc_info=args.exc_value)


def _task_failed(_loop: asyncio.AbstractEventLoop, context: Mapping[str, Any]) -> None:
    _log.error("task_failed", hint=context.get("message"), exc_info=context.get("exception"))


# Metrics.

_LABEL = re.compile(r"[A-Za-z0-9_./:{}|*-]{1,128}")
_SERIES, _SERIES_SHOWN = 500, 2000
_OTHER = "other"
_CALL_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_STAGE_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)

Metric: TypeAlias = Counter | Gauge | Histogram
Values: TypeAlias = Mapping[tuple[str, ...], float]
"""A gauge's values by their labels."""

SHOWN = {
    "due": ("Reminders that are due now.", ("channel", "tenant", "priority")),
    "oldest_due_seconds": ("How long the oldest of them has been due.", ("channel", "tenant", "priority")),
    "deferred": ("Reminders that are put off, by reason.", ("tenant", "reason")),
    "reminders": ("Reminders there are, by state.", ("tenant", "state")),
    "quota_limit": ("What a quota allows: starts a second, units, calls at once, money.", ("quota", "limit")),
    "quota_used": ("What of it is used, of quotas that count.", ("quota", "of", "limit")),
    "quota_budget_used_ratio": ("The share of a quota's budget that is used.", ("quota", "of")),
    "quota_budget_alarm_ratio": ("The share of a quota's budget at which its alarm rings.", ("quota",)),
    "quota_pace_factor": ("What throttles, breakers and ramps leave of a quota's pace.", ("quota",)),
    "account_breaker": ("1 for how the breaker of an account that had trouble stands.", ("account", "state")),
    "account_pace_factor": ("The share of its pace that such an account has now.", ("account",)),
    "pauses": ("Pauses and stops in force.", ("kind",)),
    "pace_source": ("1 for which of redis and sql grants the pace.", ("source",)),
    "workers": ("Living workers, by whether they work by the newest configuration.", ("applied",)),
    "frozen": ("1 while nothing is sent: the database failed over and may have forgotten calls.", ("by",)),
}
"""Gauges of which a process knows every value at once: name → (help, labels)."""


class _Series:
    """The labelled children of a metric, `most` of them: further ones, and odd values, count as `other`."""

    def __init__(self, metric: Metric, most: int = _SERIES) -> None:
        self._metric = metric
        self._most = most
        self._children: dict[tuple[str, ...], Any] = {}

    def __call__(self, *labels: str | None) -> Any:
        key = tuple(label or "" for label in labels)
        child = self._children.get(key)
        return child if child is not None else self._first(key)

    def replace(self, values: Values) -> None:
        """Forget the children of a gauge for these."""
        self._metric.clear()
        self._children.clear()
        for labels, value in values.items():
            self(*labels).set(value)

    def _first(self, key: tuple[str, ...]) -> Any:
        if len(self._children) >= self._most:
            return self._metric.labels(*(_OTHER for _ in key))
        child = self._metric.labels(*(_label(label) for label in key))
        self._children[key] = child
        return child


def _label(value: str) -> str:
    plain = not value or (_LABEL.fullmatch(value) and not reads_as_personal(value))
    return str(value) if plain else _OTHER


class Metrics:
    """What a process counts, in a registry of its own. Built once and passed to whoever counts."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._accepted = Counter("gateway_reminders_accepted", "Reminders taken in.", registry=self._registry)
        self._decisions = self._counter("decisions", "Decisions, by what follows.", "state", "reason")
        self._attempts = self._counter("attempts", "Calls to providers.", "channel", "adapter", "outcome")
        self._refusals = self._counter("refusals", "Starts that got no go.", "reason", "by")
        self._started = self._counter("quota_started_units", "Units that a quota let start.", "quota", "of")
        self._call_s = self._histogram(
            "call_seconds", "Length of a call.", _CALL_BUCKETS, "channel", "adapter"
        )
        self._receipts = self._counter("receipts", "Providers' words about attempts.", "adapter", "known")
        self._settled = self._counter("settled", "Unknown attempts asked about.", "adapter", "found")
        self._sweeps = Counter("gateway_sweeps", "Sweeps done.", registry=self._registry)
        self._swept_at = self._gauge("swept_timestamp_seconds", "When the last sweep ended.")
        self._shown = {
            name: _Series(
                Gauge(f"gateway_{name}", help_, labels, registry=self._registry), most=_SERIES_SHOWN
            )
            for name, (help_, labels) in SHOWN.items()
        }
        self._calendar_days = self._gauges(
            "calendar_days_left",
            "Days for which a calendar that rules read is official.",
            "calendar",
            "read_by",
        )
        self._review_days = self._gauges(
            "pack_review_days_left", "Days until a pack must be reviewed.", "pack"
        )
        self._requests = self._counter("api_requests", "Requests.", "method", "route", "status")
        self._request_s = self._histogram("api_seconds", "Length of a request.", _STAGE_BUCKETS, "route")
        self._stage_s = self._histogram(
            "stage_seconds", "Length of a batch's stage.", _STAGE_BUCKETS, "stage"
        )

    def _counter(self, name: str, help_: str, *labels: str) -> _Series:
        return _Series(Counter(f"gateway_{name}", help_, labels, registry=self._registry))

    def _gauge(self, name: str, help_: str) -> Gauge:
        return Gauge(f"gateway_{name}", help_, registry=self._registry)

    def _gauges(self, name: str, help_: str, *labels: str) -> _Series:
        return _Series(Gauge(f"gateway_{name}", help_, labels, registry=self._registry))

    def _histogram(self, name: str, help_: str, buckets: tuple[float, ...], *labels: str) -> _Series:
        return _Series(Histogram(f"gateway_{name}", help_, labels, buckets=buckets, registry=self._registry))

    def accepted(self, count: int = 1) -> None:
        """Reminders were taken in."""
        self._accepted.inc(count)

    def decided(self, state: str, reason: str | None = None) -> None:
        """A decision fell; `state` is what the reminder became."""
        self._decisions(state, reason).inc()

    def called(self, channel: str, adapter: str, outcome: str, seconds: float) -> None:
        """A provider was called."""
        self._attempts(channel, adapter, outcome).inc()
        self._call_s(channel, adapter).observe(seconds)

    def refused(self, reason: str, by: str) -> None:
        """A start got no go, by which quota or account; pauses stay unnamed: there are ever new ones."""
        self._refusals(reason, by if reason in ("quota", "account_down") else None).inc()

    def started(self, quota: str, of: str, units: int) -> None:
        """A quota let so many units start; `of` are the values of its `each`."""
        self._started(quota, of).inc(units)

    def receipts(self, adapter: str, *, known: int, strange: int) -> None:
        """A callback told of attempts, ours and others."""
        self._receipts(adapter, "yes").inc(known)
        self._receipts(adapter, "no").inc(strange)

    def settled(self, adapter: str, *, found: bool) -> None:
        """A provider was asked about an unknown attempt."""
        self._settled(adapter, "yes" if found else "no").inc()

    def swept(self) -> None:
        """A sweep ended."""
        self._sweeps.inc()
        self._swept_at.set_to_current_time()

    def show(self, name: str, values: Values) -> None:
        """Put these values in the place of all that a gauge of SHOWN had."""
        self._shown[name].replace(values)

    def calendar(self, name: str, read_by: str, days_left: Callable[[], int]) -> None:
        """A calendar that a `rule` names, or that is one of `residence`; asked at each scrape, below 0 it has ended."""
        self._calendar_days(name, read_by).set_function(days_left)

    def review(self, pack: str, days_left: Callable[[], int]) -> None:
        """A pack that must be reviewed by a date; asked at each scrape, below 0 it is overdue."""
        self._review_days(pack).set_function(days_left)

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """A request was answered; `route` is its pattern (`/v1/reminders/{id}`), never the path itself."""
        self._requests(method, route, str(status)).inc()
        self._request_s(route).observe(seconds)

    def took(self, stage: str, seconds: float) -> None:
        """A stage of a batch (`t1`, `take`, `go`) ended."""
        self._stage_s(stage).observe(seconds)

    def render(self) -> bytes:
        """The text format of Prometheus, 0.0.4."""
        return generate_latest(self._registry)
