"""When a call is tried again, and how an answer is read. No I/O, no clock: both clients share it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar, cast

from gateway_client._calls import Call
from gateway_client._errors import ClientError, Fault, NoAnswer, NotUnderstood, Refused

T = TypeVar("T")
Draw = Callable[[float, float], float]
"""A number drawn evenly between two: `random.uniform`."""

NOTHING_DONE = frozenset({429, 503})
"""The gateway says that it did nothing: any call may be tried again."""
PERHAPS_DONE = frozenset({502, 504})
"""A proxy gave up: only a call that may be done twice is tried again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came back. `now` is the instant it came, for a `Retry-After` that is a date."""

    status: int
    headers: Mapping[str, str]
    content: bytes
    now: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Lost:
    """No answer: the kind of failure, and whether the request may have left this machine."""

    what: str
    may_have_arrived: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """How patiently a call is tried: `tries` in all, with pauses that add up to `patience_s` at most.

    A pause is drawn evenly between 0 and `base_s` doubled with each try, up to `longest_s` (full jitter), so
    that many clients do not come back in step. A `Retry-After` is added to it; one that is longer than the
    patience left ends the call.
    """

    tries: int = 5
    base_s: float = 0.2
    longest_s: float = 10.0
    patience_s: float = 60.0

    def __post_init__(self) -> None:
        if self.tries < 1 or min(self.base_s, self.longest_s, self.patience_s) < 0:
            raise ValueError("tries must be at least 1 and no time may be negative")


class Tries:
    """The tries of one call, counted."""

    def __init__(self, retry: Retry, draw: Draw) -> None:
        self._retry, self._draw = retry, draw
        self._done, self._paused_s = 0, 0.0

    def pause_s(self, call: Call[Any], got: Answer | Lost) -> float | None:
        """Seconds to wait before the next try, or None when `got` is the end of it."""
        self._done += 1
        if self._done >= self._retry.tries or not _worth_another(call, got):
            return None
        most = min(self._retry.longest_s, self._retry.base_s * 2.0 ** (self._done - 1))
        pause = self._draw(0.0, most) + (_retry_after_s(got) or 0.0)
        if self._paused_s + pause > self._retry.patience_s:
            return None
        self._paused_s += pause
        return pause


def read(call: Call[T], got: Answer | Lost) -> T:
    """The answer's body, or the error that it is."""
    if isinstance(got, Lost):
        raise NoAnswer(got.what, may_have_arrived=got.may_have_arrived)
    body = _body(got)
    if not 200 <= got.status < 300 or call.has not in body:  # noqa: PLR2004 (HTTP's own classes)
        raise _refused(got, body)
    return cast("T", body)


def _worth_another(call: Call[Any], got: Answer | Lost) -> bool:
    if isinstance(got, Lost):
        return call.repeatable or not got.may_have_arrived
    return got.status in NOTHING_DONE or (call.repeatable and got.status in PERHAPS_DONE)


def _retry_after_s(got: Answer | Lost) -> float | None:
    """Seconds of a `Retry-After`, given as a number or as a date (RFC 9110 §10.2.3)."""
    if isinstance(got, Lost) or not (text := got.headers.get("retry-after", "").strip()):
        return None
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        at = parsedate_to_datetime(text)
    except ValueError:
        return None
    return max(0.0, (at.replace(tzinfo=at.tzinfo or UTC) - got.now).total_seconds())


def _body(got: Answer) -> dict[str, Any]:
    """The JSON object that came, or an empty one."""
    try:
        body = json.loads(got.content)
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


def _refused(got: Answer, body: dict[str, Any]) -> ClientError:
    """A problem document (RFC 9457) as an error; anything else is not the gateway's."""
    problem = got.headers.get("content-type", "").startswith("application/problem+json")
    if not problem or "code" not in body:
        return NotUnderstood(got.status)
    faults = body.get("errors")
    return Refused(
        status=got.status,
        code=str(body["code"]),
        detail=str(body.get("detail") or body.get("title", "")),
        faults=tuple(_fault(f) for f in faults if isinstance(f, dict)) if isinstance(faults, list) else (),
        request_id=body.get("request_id"),
        retry_after_s=_retry_after_s(got),
    )


def _fault(fault: dict[str, Any]) -> Fault:
    return Fault(**{name: str(fault.get(name, "")) for name in ("at", "code", "message")})
