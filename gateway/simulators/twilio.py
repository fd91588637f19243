"""A stand-in for Twilio: Messages, Calls and Accounts of the REST API 2010-04-01, with signed callbacks.

Any well-formed account sid and API key sid is known; their secret is `SIM_SECRET` (default `simulator`).
The recipient's last digit says what becomes of it:

    messages   …7 undelivered (30003)   …8 refused as opted out (21610)   others delivered
    calls      …1 no answer   …2 busy   …3 a machine   …5 a human who presses nothing
               …9 a human who presses 9   others a human who presses 1

Twilio's magic numbers (+1500555000N) are refused with Twilio's codes, as recipient and as sender.
A message that waits longer than its ValidityPeriod fails with 30036. Faults: gateway.simulators.wire.
"""

from __future__ import annotations

import hmac
import os
import secrets
from base64 import b64decode
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any
from urllib.parse import urlsplit
from xml.etree import ElementTree as ET

from aiohttp import web

from gateway.simulators.ledger import Ledger
from gateway.simulators.running import Running
from gateway.simulators.twilio_callbacks import Callbacks, Conversation, Json, deliver
from gateway.simulators.wire import Faults

ACCOUNT = "/2010-04-01/Accounts/{account:AC[0-9a-fA-F]{32}}"
MAX_KEPT = 100_000
MAX_BODY = 1600
MAX_VALIDITY_S = 36_000
QUEUE_FULL = 21611
NOT_SCHEDULED = 30409
"""Only what is scheduled can be cancelled (twilio.com/docs/api/errors/30409)."""

MAGIC_FROM = {"+15005550001": 21212, "+15005550007": 21606, "+15005550008": QUEUE_FULL}
MAGIC_SMS = {
    "+15005550001": 21211,
    "+15005550002": 21612,
    "+15005550003": 21408,
    "+15005550004": 21610,
    "+15005550009": 21614,
}
MAGIC_CALL = {"+15005550001": 21217, "+15005550002": 21214, "+15005550003": 21215, "+15005550004": 21216}
OVER: Mapping[str, tuple[str, Mapping[str, str], str]] = {
    "sms": ("_messages", {"7": "undelivered"}, "delivered"),
    "call": ("_calls", {"1": "no-answer", "2": "busy"}, "completed"),
}
"""Where each kind is kept, how it ended by the recipient's last digit, and for all others."""


@dataclass(eq=False)
class Refusal(Exception):
    """A request that Twilio refuses."""

    code: int
    status: int = 400

    def answer(self) -> web.Response:
        """Twilio's error body, which names neither numbers nor text."""
        more = f"https://www.twilio.com/docs/errors/{self.code}"
        body = {"code": self.code, "message": "refused", "more_info": more, "status": self.status}
        return web.json_response(body, status=self.status)


@web.middleware
async def refusals(request: web.Request, handler: Any) -> web.StreamResponse:
    """Turn a refusal into its answer."""
    try:
        answer: web.StreamResponse = await handler(request)
    except Refusal as refusal:
        return refusal.answer()
    return answer


class Twilio:
    """The provider's state and its handlers."""

    def __init__(self, ledger: Ledger, callbacks: Callbacks, secret: str) -> None:
        self._ledger = ledger
        self._callbacks = callbacks
        self._secret = secret
        self._faults = Faults()
        self._messages: dict[str, Json] = {}
        self._calls: dict[str, Json] = {}

    def recall(self) -> None:
        """Know again what the ledger holds; all of it is over by now, as its recipients have it."""
        for line in self._ledger.lines("twilio"):
            kept, ends, usual = OVER[line["kind"]]
            over = {"status": ends.get(line["to"][-1], usual)}
            _keep(getattr(self, kept), line["resource"] | over)

    def app(self) -> web.Application:
        """Every route there is."""
        app = web.Application(middlewares=[refusals], client_max_size=1 << 18)
        app.add_routes(
            [
                web.post(f"{ACCOUNT}/Messages.json", self.create_message),
                web.get(f"{ACCOUNT}/Messages.json", self.list_messages),
                web.post(f"{ACCOUNT}/Messages/{{sid}}.json", self.update_message),
                web.post(f"{ACCOUNT}/Calls.json", self.create_call),
                web.get(f"{ACCOUNT}/Calls.json", self.list_calls),
                web.post(f"{ACCOUNT}/Calls/{{sid}}.json", self.update_call),
                web.get(f"{ACCOUNT}.json", self.account),
                web.post("/_sim/next", self._faults.ask),
            ]
        )
        return app

    async def account(self, request: web.Request) -> web.Response:
        """The account, always active."""
        sid = self._authorised(request)
        return web.json_response({"sid": sid, "status": "active", "friendly_name": "Simulator"})

    async def create_message(self, request: web.Request) -> web.StreamResponse:
        """Accept or refuse a message; it is in the ledger before it is answered."""
        account, form = self._authorised(request), await _form(request)

        async def work() -> web.Response:
            return self._message(account, form)

        return await self._faults.around(request, work)

    def _message(self, account: str, form: dict[str, str]) -> web.Response:
        _refuse_message(form)
        message = _resource(account, form, "SM") | {
            "body": form["Body"],
            "messaging_service_sid": form.get("MessagingServiceSid"),
            "error_code": None,
        }
        answer = web.json_response(message, status=201)
        validity_s = int(form.get("ValidityPeriod", MAX_VALIDITY_S))
        _keep(self._messages, message)
        self._write("sms", message, form, text=form["Body"], validity_s=validity_s)
        self._callbacks.start(deliver(self._callbacks, message, validity_s, form.get("StatusCallback", "")))
        return answer

    async def update_message(self, request: web.Request) -> web.Response:
        """Cancel (`canceled`) a message that is scheduled; this one schedules none, so it refuses as Twilio does."""
        self._authorised(request)
        message, form = self._messages.get(request.match_info["sid"]), await _form(request)
        if message is None:
            raise Refusal(20404, 404)
        if form.get("Status") != "canceled":
            raise Refusal(21218)
        raise Refusal(NOT_SCHEDULED)

    async def create_call(self, request: web.Request) -> web.StreamResponse:
        """Accept or refuse a call; it is in the ledger before it is answered."""
        account, form = self._authorised(request), await _form(request)

        async def work() -> web.Response:
            return self._call(account, form)

        return await self._faults.around(request, work)

    def _call(self, account: str, form: dict[str, str]) -> web.Response:
        twiml = _accepted_twiml(form)
        call = _resource(account, form, "CA") | {"answered_by": None}
        answer = web.json_response(call, status=201)
        _keep(self._calls, call)
        said = "\n".join(say.text or "" for say in twiml.iter("Say"))
        ends_in_s = int(form.get("Timeout", "60")) + int(form.get("TimeLimit", "14400"))
        self._write("call", call, form, text=said, ends_in_s=ends_in_s)
        self._callbacks.start(Conversation(self._callbacks, call, form, twiml).run())
        return answer

    async def update_call(self, request: web.Request) -> web.Response:
        """Hang up (`completed`) or, while it is queued or ringing, cancel (`canceled`)."""
        self._authorised(request)
        call, form = self._calls.get(request.match_info["sid"]), await _form(request)
        if call is None:
            raise Refusal(20404, 404)
        if form.get("Status") not in {"completed", "canceled"}:
            raise Refusal(21218)
        if call["status"] == "in-progress":
            call["status"] = "completed"
        elif call["status"] in {"queued", "ringing"}:
            call["status"] = "canceled"
        return web.json_response(call)

    async def list_messages(self, request: web.Request) -> web.Response:
        """Newest first, filtered by To and From."""
        return self._listed(request, "messages", self._messages)

    async def list_calls(self, request: web.Request) -> web.Response:
        """Newest first, filtered by To and From."""
        return self._listed(request, "calls", self._calls)

    def _listed(self, request: web.Request, name: str, resources: dict[str, Json]) -> web.Response:
        wanted = {"account_sid": self._authorised(request)}
        wanted |= {key.lower(): value for key, value in request.query.items() if key in {"To", "From"}}
        found = [r for r in resources.values() if all(r[key] == value for key, value in wanted.items())]
        size = int(request.query.get("PageSize", "50"))
        return web.json_response({name: found[: -size - 1 : -1], "page_size": size, "next_page_uri": None})

    def _authorised(self, request: web.Request) -> str:
        account = request.match_info["account"]
        scheme, _, encoded = request.headers.get("Authorization", "").partition(" ")
        try:
            user, _, secret = b64decode(encoded).decode().partition(":")
        except ValueError:
            raise Refusal(20003, 401) from None
        known = user == account or user.startswith("SK")
        if scheme != "Basic" or not known or not hmac.compare_digest(secret.encode(), self._secret.encode()):
            raise Refusal(20003, 401)
        return account

    def _write(self, kind: str, resource: Json, form: Mapping[str, str], **more: Any) -> None:
        path = urlsplit(form.get("StatusCallback", "")).path
        self._ledger.write(
            provider="twilio",
            kind=kind,
            to=resource["to"],
            ref=path.rpartition("/")[2] or None,
            id=resource["sid"],
            at=datetime.now(UTC).isoformat().replace("+00:00", "Z"),
            resource=resource,
            **more,
        )


async def _form(request: web.Request) -> dict[str, str]:
    """The fields of a form; a repeated one (StatusCallbackEvent) joined by spaces."""
    fields = await request.post()
    return {name: " ".join(map(str, fields.getall(name))) for name in fields}


def _refuse_message(form: Mapping[str, str]) -> None:
    validity = form.get("ValidityPeriod", "1")
    faults = {
        21604: not form.get("To"),
        21603: not (form.get("From") or form.get("MessagingServiceSid")),
        21602: not form.get("Body"),
        21617: len(form.get("Body", "")) > MAX_BODY,
        21624: not (validity.isdecimal() and 1 <= int(validity) <= MAX_VALIDITY_S),
    }
    _refuse_first(faults)
    _refuse_numbers(form["To"], form.get("From", ""), MAGIC_SMS)
    if form["To"].endswith("8"):
        raise Refusal(21610)


def _accepted_twiml(form: Mapping[str, str]) -> ET.Element:
    faults = {21201: not form.get("To"), 21213: not form.get("From"), 21205: not form.get("Twiml")}
    _refuse_first(faults)
    _refuse_numbers(form["To"], form["From"], MAGIC_CALL)
    try:
        return ET.fromstring(form["Twiml"])  # noqa: S314 (a stand-in on loopback, and expat bounds entities)
    except ET.ParseError:
        raise Refusal(12100) from None


def _refuse_first(faults: Mapping[int, bool]) -> None:
    for code, faulty in faults.items():
        if faulty:
            raise Refusal(code)


def _refuse_numbers(to: str, sender: str, magic: Mapping[str, int]) -> None:
    code = MAGIC_FROM.get(sender) or magic.get(to)
    if code is not None:
        raise Refusal(code, 429 if code == QUEUE_FULL else 400)
    if not (to.startswith("+") and to[1:].isdecimal()):
        raise Refusal(21211)


def _resource(account: str, form: Mapping[str, str], prefix: str) -> Json:
    now = format_datetime(datetime.now(UTC))
    return {
        "sid": prefix + secrets.token_hex(16),
        "account_sid": account,
        "to": form["To"],
        "from": form.get("From"),
        "status": "queued",
        "direction": "outbound-api",
        "api_version": "2010-04-01",
        "date_created": now,
        "date_updated": now,
    }


def _keep(resources: dict[str, Json], resource: Json) -> None:
    resources[resource["sid"]] = resource
    if len(resources) > MAX_KEPT:
        del resources[next(iter(resources))]


async def serve(
    *,
    host: str,
    port: int,
    ledger: Ledger,
    delay: float,
    push_url: str | None,  # noqa: ARG001 (every simulator's signature; Twilio is told per create)
) -> Running:
    """Listen on `host:port` (0 = any free); `delay` seconds pass between the steps of a delivery."""
    secret = os.environ.get("SIM_SECRET", "simulator")
    callbacks = Callbacks(delay, secret)
    twilio = Twilio(ledger, callbacks, secret)
    twilio.recall()
    runner = web.AppRunner(twilio.app(), access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, host, port).start()

    async def close() -> None:
        await runner.cleanup()
        await callbacks.aclose()

    return Running(port=int(runner.addresses[0][1]), close=close)
