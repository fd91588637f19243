"""What adapters that speak HTTP share: settings read once, one session, and whether a request left.

Nothing is ever sent twice: no redirect is followed, no failure is tried again, and aiohttp itself repeats
only idempotent methods.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, TypeVar

import aiohttp
import orjson
from pydantic import BaseModel, ValidationError
from yarl import URL

from gateway.domain import Account, Handed, HandOver
from gateway.errors import SetupError

TOTAL_S = 10.0
CONNECT_S = 3.0
ANSWER_LIMIT = 65_536

ROUTING = frozenset({"countries", "except_countries", "weight", "pace", "sender_kind"})
"""Settings by which the gateway chooses among accounts and paces them; no adapter's business."""

S = TypeVar("S", bound=BaseModel)


def read_settings(model: type[S], account: Account) -> S:
    """An account's sender, endpoint, settings and credentials in one model; SetupError names each fault."""
    given = {"sender": account.sender} | {k: v for k, v in account.settings.items() if k not in ROUTING}
    given |= {name: value.reveal("an adapter's credentials") for name, value in account.credentials.items()}
    if account.endpoint is not None:
        given["endpoint"] = account.endpoint
    try:
        return model.model_validate(given)
    except ValidationError as wrong:
        faults = "; ".join(
            _fault(".".join(map(str, each["loc"])), each["type"], each["msg"]) for each in wrong.errors()
        )
        raise SetupError(f"account {account.name} ({account.adapter}): {faults}") from None


def _fault(name: str, kind: str, message: str) -> str:
    match kind:
        case "missing":
            return f"{name} is missing; add it to the account's credentials or settings"
        case "extra_forbidden":
            return f"{name} is not known to this adapter; take it out or mend its spelling"
        case _:
            return f"{name}: {message}"


@dataclass(slots=True, kw_only=True)
class Exchange:
    """One request and what came of it.

    `sent` turns true just before its first byte leaves; `status` is None unless a whole answer came, and
    `failure` then says why: `timeout`, `connection` or `too_long`.
    """

    sent: bool = False
    status: int | None = None
    body: bytes = b""
    failure: str | None = None

    def lost(self) -> Handed:
        """How a call without an answer ended: nothing left us, or nobody knows."""
        return Handed(ending=HandOver.UNKNOWN if self.sent else HandOver.NOT_SENT, code=self.failure)

    def data(self) -> Mapping[str, Any]:
        """The answer's JSON object, empty when it is none."""
        try:
            value = orjson.loads(self.body)
        except orjson.JSONDecodeError:
            return {}
        return value if isinstance(value, dict) else {}


def session(*, total: float = TOTAL_S, connect: float = CONNECT_S) -> aiohttp.ClientSession:
    """A session for one adapter, built inside a running loop; `Exchange` is its requests' trace context."""
    trace = aiohttp.TraceConfig()
    trace.on_request_headers_sent.append(_leaves)
    return aiohttp.ClientSession(
        timeout=aiohttp.ClientTimeout(total=total, connect=connect),
        cookie_jar=aiohttp.DummyCookieJar(),
        skip_auto_headers={"Content-Type"},
        trace_configs=[trace],
    )


async def _leaves(
    _: aiohttp.ClientSession, context: SimpleNamespace, __: aiohttp.TraceRequestHeadersSentParams
) -> None:
    context.trace_request_ctx.sent = True


async def post(
    through: aiohttp.ClientSession, url: URL, *, headers: Mapping[str, str], body: bytes | None = None
) -> Exchange:
    """POST once, read at most ANSWER_LIMIT bytes; a failure of the network is told by the exchange."""
    exchange = Exchange()
    try:
        async with through.post(
            url, headers=headers, data=body, allow_redirects=False, trace_request_ctx=exchange
        ) as answer:
            await _read(answer, exchange)
    except TimeoutError:
        exchange.failure = "timeout"
    except (aiohttp.ClientError, OSError):
        exchange.failure = "connection"
    return exchange


async def _read(answer: aiohttp.ClientResponse, exchange: Exchange) -> None:
    body = bytearray()
    async for chunk in answer.content.iter_chunked(8192):
        body += chunk
        if len(body) > ANSWER_LIMIT:
            exchange.failure = "too_long"
            return
    exchange.body, exchange.status = bytes(body), answer.status
