"""What both Twilio adapters stand on: the vendor's package over an HTTP client of our own.

The vendor's asynchronous client ignores its time-out, can repeat a POST (Twilio's creates are not
idempotent: two messages reach the borrower) and logs numbers. This one does none of that, and it
knows whether a request has left, which is what tells *not sent* and *unknown* apart.
"""

from __future__ import annotations

import logging
from base64 import b64encode
from collections.abc import Awaitable, Iterable, Mapping
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeVar
from urllib.parse import parse_qsl

import orjson
from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator
from twilio.base.exceptions import TwilioException
from twilio.http import AsyncHttpClient
from twilio.http.response import Response
from twilio.request_validator import RequestValidator
from twilio.rest import Client
from yarl import URL

from channels import _http
from channels._http1 import Client as Connections
from channels._http1 import Failed, Reply
from gateway.domain import Handed, HandOver, NotShown
from gateway.ports import Callback, Checked

TOTAL = timedelta(seconds=15)
LONGEST = TOTAL + timedelta(seconds=1)
"""The bound on a request ends it before the one on the whole call does."""
CLOCKS = timedelta(seconds=2)
"""How far Twilio's clock, which gives whole seconds, may be from ours."""
APART = timedelta(seconds=30)
"""What was made so shortly before proves nothing: the clocks may be further apart than they should be."""
MAX_BODY = 1 << 20
LISTED = 50
"""Resources that a list is asked for at most."""
MAX_WAIT = timedelta(days=1)

RETRIES = "#rc=5&rp=all&tt=15000"
"""Twilio's connection override: up to 5 retries of a callback, on any failure, within 15 s.

A fragment: it is not sent to us and not part of the signature.
"""

T = TypeVar("T")


class Credentials(BaseModel):
    """What every Twilio account needs. Callbacks are signed with the auth token, API key or not."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    account_sid: str = Field(pattern=r"^AC[0-9a-fA-F]{32}$")
    auth_token: SecretStr = Field(min_length=1)
    api_key_sid: str | None = Field(None, pattern=r"^SK[0-9a-fA-F]{32}$")
    api_key_secret: SecretStr | None = None
    endpoint: str | None = Field(None, pattern=r"^https?://\S+$")

    @model_validator(mode="after")
    def _pair(self) -> Credentials:
        if (self.api_key_sid is None) != (self.api_key_secret is None):
            raise ValueError("give both api_key_sid and api_key_secret, or neither")
        return self


@dataclass(slots=True, kw_only=True)
class Exchange(_http.Exchange):
    """One request and what came of it, with Twilio's own error code."""

    retry_after: str | None = None
    code: str | None = None


_EXCHANGE: ContextVar[Exchange] = ContextVar("twilio_exchange")


class HttpClient(AsyncHttpClient):  # type: ignore[misc]  # the package ships no types
    """One account's connections: time-outs that hold, no repetition, no log line, no cookie, no redirect."""

    def __init__(self) -> None:
        super().__init__(logging.getLogger(__name__), is_async=True)
        self._connections = Connections(
            total_s=TOTAL.total_seconds(), connect_s=_http.CONNECT_S, limit=MAX_BODY
        )

    async def request(
        self,
        method: str,
        uri: str,
        params: Mapping[str, Any] | None = None,
        data: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        auth: tuple[str, str] | None = None,
        timeout: float | None = None,  # noqa: ARG002, ASYNC109 (the package's signature; ours holds for all)
        allow_redirects: bool = False,  # noqa: ARG002, FBT001, FBT002 (the package's signature)
    ) -> Response:
        """Send one request once; what became of it stands in the current `Exchange`."""
        exchange = _EXCHANGE.get()
        given = {**(headers or {}), "Authorization": _basic(auth)}
        url = f"{uri}?{_form(params)}" if params else uri
        reply = await self._connections.request(method, url, given, _form(data).encode())
        exchange.sent, exchange.status = True, reply.status
        exchange.retry_after = reply.headers.get(b"retry-after", b"").decode("latin-1") or None
        return Response(reply.status, _told(reply))

    async def close(self) -> None:
        """Let go of the connections."""
        await self._connections.close()


def _told(reply: Reply) -> str:
    """An answer for the package to read: of one resource only what we look at, for its dates cost most to parse."""
    with suppress(orjson.JSONDecodeError):
        match orjson.loads(reply.body):
            case {"sid": sid, "status": status} if reply.status < 300:
                return orjson.dumps({"sid": sid, "status": status}).decode()
    return reply.body.decode("utf-8", "replace")


def _form(fields: Mapping[str, Any] | None) -> str:
    """Fields as a form or a query has them, by yarl, whose quoting is compiled; ValueError for what is no Unicode."""
    given = fields or {}
    said = "".join(value for value in given.values() if isinstance(value, str))
    said.encode()  # raises where yarl would drop half a character without a word
    return URL.build(query=given).raw_query_string


def _basic(auth: tuple[str, str] | None) -> str:
    return "Basic " + b64encode(":".join(auth or ("", "")).encode()).decode()


class Api:
    """One account's way to Twilio: the package's `client`, calls that do not raise, signatures."""

    def __init__(self, settings: Credentials) -> None:
        self._settings = settings
        self._http = HttpClient()
        self._validator = RequestValidator(settings.auth_token.get_secret_value())
        self._by_token = self._client(settings.account_sid, settings.auth_token)
        if settings.api_key_sid is not None and settings.api_key_secret is not None:
            self.client = self._client(settings.api_key_sid, settings.api_key_secret)
        else:
            self.client = self._by_token

    def _client(self, user: str, secret: SecretStr) -> Client:
        client = Client(
            user,
            secret.get_secret_value(),
            account_sid=self._settings.account_sid,
            http_client=self._http,
        )
        if self._settings.endpoint is not None:
            client.api.base_url = self._settings.endpoint
        return client

    async def call(self, request: Awaitable[T]) -> tuple[T | None, Exchange]:
        """Await one of the package's requests; None where it gave nothing, and the exchange says why."""
        exchange = Exchange()
        reset = _EXCHANGE.set(exchange)
        try:
            return await request, exchange
        except TwilioException as refusal:
            exchange.code = _twilio_code(getattr(refusal, "code", None))
        except Failed as failure:
            exchange.sent = failure.sent
            exchange.failure = "unreadable_answer" if failure.word == "too_long" else failure.word
        except (ValueError, TypeError, AttributeError, LookupError):  # the package expected another answer
            exchange.failure = "unreadable_answer"
        finally:
            _EXCHANGE.reset(reset)
        return None, exchange

    def form(self, callback: Callback) -> dict[str, str] | None:
        """The fields of a callback that Twilio signed with this account's token, else None."""
        headers = {name.lower(): value for name, value in callback.headers.items()}
        try:
            fields = dict(parse_qsl(callback.body.decode(), keep_blank_values=True, max_num_fields=100))
        except ValueError:
            return None
        signature = headers.get("x-twilio-signature", "")
        return fields if self._validator.validate(callback.url, fields, signature) else None

    async def check(self) -> Checked:
        """Read the account with its auth token; with an API key, one page of messages with the key too."""
        account, exchange = await self.call(
            self._by_token.api.accounts(self._settings.account_sid).fetch_async()
        )
        if account is None:
            return Checked(ok=False, word=_trouble(exchange, "account_sid and auth_token"))
        if account.status != "active":
            return Checked(ok=False, word="the account is not active; see it in Twilio's console")
        if self.client is not self._by_token:
            page, exchange = await self.call(self.client.messages.list_async(limit=1))
            if page is None:
                return Checked(ok=False, word=_trouble(exchange, "api_key_sid and api_key_secret"))
        return Checked(ok=True, word="the credentials work and the account is active")

    async def aclose(self) -> None:
        """Let go of the connections."""
        await self._http.close()


def _twilio_code(code: object) -> str | None:
    """Twilio's own five-digit code; the package gives the HTTP status where there is none."""
    word = str(code)
    return word if len(word) == 5 and word.isdecimal() else None


def _trouble(exchange: Exchange, credentials: str) -> str:
    match exchange.status:
        case None:
            return f"Twilio was not reached ({exchange.failure}); check the endpoint and the network"
        case 401 | 403 | 404:
            return f"Twilio refuses the credentials; check {credentials}"
        case status:
            return f"Twilio answered with HTTP status {status}; try again later"


@dataclass(frozen=True, slots=True)
class Row:
    """What a provider's code means; `wait` holds where no Retry-After came."""

    ending: HandOver
    wait: timedelta | None = None
    reach: str | None = None


def rows(
    ending: HandOver, codes: str, *, wait_s: int | None = None, reach: str | None = None
) -> dict[str, Row]:
    """The same row for each of the codes, which spaces part."""
    wait = None if wait_s is None else timedelta(seconds=wait_s)
    return dict.fromkeys(codes.split(), Row(ending, wait, reach))


def handed(answer: Any, exchange: Exchange, codes: Mapping[str, Row]) -> Handed:
    """How a create ended. Only a `sid` is a yes, only a whole 4xx answer is a no.

    `codes` has Twilio's codes, HTTP statuses as `http_NNN`, and `unknown` for every other 4xx.
    """
    sid = getattr(answer, "sid", None)
    if isinstance(sid, str) and 0 < len(sid) <= 64:
        return Handed(ending=HandOver.ACCEPTED, provider_id=sid)
    if exchange.status is None:
        return exchange.lost()
    row = _row(exchange, codes)
    if row.ending is not HandOver.RETRY_AFTER:
        return Handed(ending=row.ending, code=_said(exchange))
    wait = _seconds(exchange.retry_after) or row.wait
    return Handed(ending=row.ending, code=_said(exchange), retry_after=wait, reach=row.reach)


def _row(exchange: Exchange, codes: Mapping[str, Row]) -> Row:
    match exchange.status:
        case int(status) if 400 <= status < 500:
            return codes.get(exchange.code or "") or codes.get(f"http_{status}") or codes["unknown"]
        case 503 if exchange.retry_after is not None:
            return Row(HandOver.RETRY_AFTER, reach="rate")
        case _:
            return Row(HandOver.UNKNOWN)


def _said(exchange: Exchange) -> str:
    if exchange.status in range(200, 300):
        return "no_sid"
    return exchange.code or f"http_{exchange.status}"


def _seconds(retry_after: str | None) -> timedelta | None:
    """Retry-After as seconds (RFC 9110 §10.2.3), at most a day; a date there is left to the caller."""
    if retry_after is None or not (retry_after.isascii() and retry_after.isdecimal()):
        return None
    return timedelta(seconds=min(int(retry_after[:9]), int(MAX_WAIT.total_seconds())))


def only(found: Iterable[Any], started_at: datetime, *, whole: bool) -> Any:
    """The single resource made while a call that began at `started_at` can have been under way.

    NotShown where nothing was made since, nor shortly before, and `found` is the `whole` list; None where there are
    several, or one that is too early, too late or has no date: these prove nothing.
    """
    first, last = started_at - CLOCKS, started_at + TOTAL + CLOCKS
    since = [
        r for r in found if not isinstance(r.date_created, datetime) or r.date_created >= started_at - APART
    ]
    if whole and not since:
        return NotShown()
    mine = [r for r in since if isinstance(r.date_created, datetime) and first <= r.date_created <= last]
    return mine[0] if len(mine) == 1 else None
