"""Bodies read within their limits, answers written, ids of requests, and one line in the log for each."""

from __future__ import annotations

import asyncio
import re
from codecs import BOM_UTF8
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any

import orjson
from starlette.datastructures import MutableHeaders
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.api import problems
from gateway.api.services import Admission
from gateway.errors import BadInput, Fault, GatewayError, NotFound, TooLarge, Unavailable
from gateway.intake import Done, Result
from gateway.telemetry import Metrics, get

SINGLE, BATCH, ITEMS, DEPTH = 256 * 1024, 4 * 1024 * 1024, 1000, 32

BODY_S = 30
"""Seconds in which a whole body must have come: 4 MiB do at 1.2 Mbit/s, and a proxy's own patience is mostly 60."""

HUNG_UP = 499
"""What is counted, and sent to nobody, where a client is gone before its body came (a word of nginx's)."""

UNFORESEEN = GatewayError("it was noted, and nothing more is known here", code="internal")

log = get(__name__)


async def read_bytes(request: Request, limit: int) -> bytes:
    """A body of at most `limit` bytes, within BODY_S; TooLarge as soon as there are more."""
    said = request.headers.get("content-length", "0")
    if said.isdigit() and int(said) > limit:
        raise TooLarge(f"send at most {limit} bytes")
    parts, size = [], 0
    try:
        async with asyncio.timeout(BODY_S):
            async for part in request.stream():
                size += len(part)
                if size > limit:
                    raise TooLarge(f"send at most {limit} bytes")
                parts.append(part)
    except TimeoutError:
        raise GatewayError(f"send the whole body within {BODY_S} s", code="body_too_slow") from None
    except asyncio.CancelledError:
        # Only the server's end cancels a request, after the grace it gives: say so rather than cut the client off.
        raise Unavailable("this process is ending and another will take it", code="ending") from None
    return b"".join(parts)


async def read_json(request: Request, limit: int = SINGLE, *, empty: object = None) -> Any:
    """A body's JSON; `empty` stands for no body at all."""
    raw = await read_bytes(request, limit)
    if not raw and empty is not None:
        return empty
    try:
        value = orjson.loads(raw)
    except orjson.JSONDecodeError as wrong:
        encoding = request.headers.get("content-encoding", "identity")
        raise GatewayError(_why_not(raw, wrong, encoding), code="malformed_json") from None
    if _deeper(value, DEPTH):
        raise GatewayError(f"the JSON is nested deeper than {DEPTH}", code="malformed_json")
    return value


def _why_not(raw: bytes, wrong: orjson.JSONDecodeError, encoding: str) -> str:
    """Why a body could not be read, in words of ours alone: the decoder's own may quote what was sent."""
    if not raw.strip():
        return "the body is empty"
    if encoding.lower() != "identity":
        return "Content-Encoding is not taken: send it plain"
    if raw.startswith(BOM_UTF8):
        return "leave out the byte order mark"
    try:
        raw.decode()
    except UnicodeDecodeError as stray:  # of these the decoder does not say where they are
        return f"the body is not UTF-8: look at byte {stray.start + 1}"
    return (
        f"look at line {wrong.lineno}, column {wrong.colno}: it is not JSON, "
        f"a number beyond what a double holds, or nested deeper than {DEPTH}"
    )


def _deeper(value: object, depth: int) -> bool:
    level = [value]
    for _ in range(depth):
        level = [inner for outer in level for inner in _inner(outer) if isinstance(inner, (dict, list))]
        if not level:
            return False
    return True


def _inner(value: object) -> Iterable[object]:
    """What stands directly within a value."""
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


async def read_items(request: Request) -> list[object]:
    """The items of a batch, 1 to 1 000."""
    raw = await read_json(request, BATCH)
    if not isinstance(raw, dict) or not isinstance(raw.get("items"), list):
        raise BadInput([Fault(at="/items", code="wrong_type", message='send {"items": […]}')])
    items: list[object] = raw["items"]
    if len(raw) > 1:
        raise BadInput([Fault(at="", code="unknown_key", message="a batch has `items` and no other key")])
    if len(items) > ITEMS:
        raise TooLarge(f"send at most {ITEMS} items")
    if not items:
        raise BadInput([Fault(at="/items", code="length_invalid", message="send at least 1 item")])
    return items


async def in_turn(
    request: Request, admission: Admission, take: Callable[[list[object]], Awaitable[Sequence[Result]]]
) -> Sequence[Result]:
    """What taking in a batch came to, once it had its turn; Overloaded, before it is read, where none is to be had.

    The turn itself is asked for after that: a client that is slow to send must not hold up those that are not.
    """
    admission.room()
    items = await read_items(request)
    async with admission.turn():
        return await take(items)


def keyed(raw: Any, request: Request) -> Any:
    """A body with the idempotency key that a header may carry in its place."""
    header = request.headers.get("idempotency-key")
    if header is None or not isinstance(raw, dict):
        return raw
    if raw.get("idempotency_key", header) != header:
        message = "the header and the body name different keys: send one of them"
        raise BadInput([Fault(at="/idempotency_key", code="key_differs", message=message)])
    return {**raw, "idempotency_key": header}


def named(raw: Any, key: str, name: str) -> Any:
    """A body with the id that stands in its path."""
    if not isinstance(raw, dict):
        return raw
    if raw.get(key, name) != name:
        message = "it is not the id in the path: leave it out"
        raise BadInput([Fault(at=f"/{key}", code="id_differs", message=message)])
    return {**raw, key: name}


_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}")


def known(name: str) -> str:
    """An id from a path, when it can be one at all; NotFound."""
    if not _ID.fullmatch(name):
        raise NotFound
    return name


def count_done(results: Sequence[Result]) -> int:
    """How many items were done."""
    return sum(isinstance(result, Done) for result in results)


def request_id(request: Request) -> str:
    """The id that this request has in answers and logs."""
    found: str = request.scope["gateway.request_id"]
    return found


def dumps(value: object) -> bytes:
    """JSON; instants in UTC end in Z."""
    return orjson.dumps(value, option=orjson.OPT_UTC_Z)


def answer(value: object, status: int = 200) -> Response:
    """A JSON answer."""
    return Response(dumps(value), status_code=status, media_type="application/json")


def single(results: Sequence[Result], *, missing: str | None = None) -> Response:
    """The answer to a batch of one. A fault `not_found` at `missing`, the path's own id, is a 404."""
    (result,) = results
    if isinstance(result, Done):
        return Response(result.body, status_code=result.status, media_type="application/json")
    faults = getattr(result, "faults", ())
    if missing and any(fault.at == missing for fault in faults):
        raise NotFound
    raise result


def batch(results: Sequence[Result], request: Request) -> Response:
    """The answer to a batch: a result for each item, in order."""
    shown = [_shown(index, result, request_id(request)) for index, result in enumerate(results)]
    return Response(orjson.dumps({"results": shown}), media_type="application/json")


def _shown(index: int, result: Result, name: str) -> Mapping[str, Any]:
    if isinstance(result, Done):
        return {"index": index, "status": result.status, "body": orjson.Fragment(result.body)}
    status = problems.status_of(result)
    return {"index": index, "status": status, "error": problems.document(result, name)}


class Frame:
    """Around every request: its id, its line in the log, its figures, and whatever went wrong unforeseen."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        metrics: Metrics,
        entropy: Callable[[int], bytes],
        monotonic: Callable[[], float],
    ) -> None:
        self._app = app
        self._metrics = metrics
        self._entropy = entropy
        self._monotonic = monotonic

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let one request through."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        name = scope["gateway.request_id"] = f"rq_{self._entropy(10).hex()}"
        began, status = self._monotonic(), 0

        async def sent(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["X-Request-Id"] = name
            await send(message)

        try:
            await self._app(scope, receive, sent)
        except ClientDisconnect:
            # Nothing of ours went wrong and nobody is there to be answered: its line in the log says so.
            status = HUNG_UP
        except Exception as wrong:
            log.exception("request_failed", request_id=name, error=type(wrong).__name__)
            if not status:
                await problems.response(UNFORESEEN, name)(scope, receive, sent)
        finally:
            self._tell(scope, name, status, self._monotonic() - began)

    def _tell(self, scope: Scope, name: str, status: int, took: float) -> None:
        """Say it by the route's pattern: a path may hold an id, and a query anything."""
        route = getattr(scope.get("route"), "path", "none")
        self._metrics.answered(scope["method"], route, status, took)
        log.info(
            "request",
            request_id=name,
            method=scope["method"],
            route=route,
            status=status,
            took_ms=round(took * 1000, 1),
            tenant=scope.get("gateway.tenant"),
        )


async def on_error(request: Request, error: Exception) -> Response:
    """An error of ours, or of the router, as a problem."""
    if isinstance(error, GatewayError):
        return problems.response(error, request_id(request))
    if getattr(error, "status_code", 0) == NOT_FOUND:
        return problems.response(NO_PATH, request_id(request))
    answered = problems.response(NO_METHOD, request_id(request))
    answered.headers["Allow"] = ", ".join(_allowed(request))
    return answered


def _allowed(request: Request) -> Iterable[str]:
    """The methods that this path has: each may be a route of its own, and the router names those of the first."""
    for method in METHODS:
        scope = {**request.scope, "method": method}
        if any(route.matches(scope)[0] is Match.FULL for route in request.app.routes):
            yield method


NOT_FOUND = 404
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
NO_PATH = NotFound("there is no such path: see /openapi.json")
NO_METHOD = GatewayError("this path has no such method: see /openapi.json", code="method_not_allowed")
