"""A stand-in for a WeChat Official Account: stable_token, message/template/send, TEMPLATESENDJOBFINISH.

Any appid is known; its secret is SIM_SECRET (or `simulator`), and events are signed in plain mode with
SIM_WECHAT_TOKEN (or `simulator`). What an openid ends in says what becomes of its messages:

    block → refused, does not follow (43004)     quota → refused, the day's quota is used up (45009)
    busy  → -1 at the first try of a client_msg_id, then as any other
    blk   → accepted, then `failed:user block`   any other → accepted, then `success`

The same client_msg_id to the same openid within ten minutes gives the first msgid again and no second ledger
line, also where another process took the first. `POST /_sim/tokens/expire` ends every token, as two hours do.
Faults: gateway.simulators.wire.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from http import HTTPStatus
from typing import Any
from urllib.parse import urlencode

import orjson
from aiohttp import web

from gateway.simulators.ledger import Ledger
from gateway.simulators.running import Running
from gateway.simulators.wire import Faults, Pushes, listen

TOKEN_S = 7200
ROLL_S = 300
"""A new token is given out this long before the last one ends; both work meanwhile."""
DEDUPE_S = 600
KEPT = 100_000
PAUSES = (1.0, 2.0, 4.0)
"""WeChat pushes an event up to three times more."""

OPENID = re.compile(r"[A-Za-z0-9_-]{6,64}")
LIMITS = {"thing": 20, "const": 20, "character_string": 32, "phone_number": 17, "car_number": 8, "phrase": 5}

Answer = dict[str, Any]


@dataclass(slots=True, kw_only=True)
class Token:
    """An access token and when it ends."""

    value: str
    ends: float


@dataclass(slots=True, kw_only=True)
class Simulator:
    """Tokens, what was sent, and the handlers."""

    secret: str
    event_token: str
    ledger: Ledger
    delay: float
    push_url: str | None
    pushes: Pushes
    faults: Faults = field(default_factory=Faults)
    tokens: dict[str, list[Token]] = field(default_factory=dict)
    sent: dict[tuple[str, str], tuple[float, int]] = field(default_factory=dict)
    stalled: set[tuple[str, str]] = field(default_factory=set)
    last_msgid: int = field(default_factory=time.time_ns)

    async def token(self, request: web.Request) -> web.Response:
        """stable_token: the current token with the time it has left, a new one when it is about to end."""
        asked = _object(await request.read())
        appid = asked.get("appid")
        if asked.get("grant_type") != "client_credential":
            return _json(_error(40002))
        if not isinstance(appid, str) or not appid:
            return _json(_error(40013))
        if asked.get("secret") != self.secret:
            return _json(_error(40125))
        now = time.monotonic()
        known = [] if asked.get("force_refresh") is True else self.tokens.get(appid, [])
        live = self.tokens[appid] = rolled(known, now, f"{appid}_{secrets.token_urlsafe(96)}")
        return _json({"access_token": live[-1].value, "expires_in": int(live[-1].ends - now)})

    async def expire(self, _: web.Request) -> web.Response:
        """End every token now."""
        for token in (each for tokens in self.tokens.values() for each in tokens):
            token.ends = time.monotonic()
        return _json({})

    async def template(self, request: web.Request) -> web.StreamResponse:
        """message/template/send with a token."""
        refused = self._token_fault(request.query.get("access_token", ""))
        if refused is not None:
            return _json(_error(refused))
        body = await request.read()
        return await self.faults.around(request, partial(self._template, body))

    async def _template(self, body: bytes) -> web.Response:
        asked = _object(body)
        return _json(self.send(asked) if (fault := _fault(asked)) is None else _error(fault))

    def _token_fault(self, value: str) -> int | None:
        if not value:
            return 41001
        known = [each for tokens in self.tokens.values() for each in tokens if each.value == value]
        if not known:
            return 40001
        return None if known[0].ends > time.monotonic() else 42001

    def send(self, asked: Mapping[str, Any]) -> Answer:
        """Accept a well-formed message as its openid has it."""
        openid, client_id = asked["touser"], asked.get("client_msg_id")
        if openid.endswith("block"):
            return _error(43004)
        if openid.endswith("quota"):
            return _error(45009)
        if client_id is None:
            return _accepted(self._accept(openid, asked))
        key = (openid, client_id)
        if openid.endswith("busy") and key not in self.stalled:
            self.stalled.add(key)
            return _error(-1)
        at, msgid = self.sent.get(key, (0.0, 0))
        if not at or time.monotonic() - at > DEDUPE_S:
            msgid = self._accept(openid, asked)
            self._remember(key, msgid)
        return _accepted(msgid)

    def recall(self) -> None:
        """Know again what the ledger holds of the last ten minutes."""
        for line in self.ledger.lines("wechat"):
            age_s = (datetime.now(UTC) - datetime.fromisoformat(line["at"])).total_seconds()
            if line["ref"] is not None and age_s < DEDUPE_S:
                self.sent[line["to"], line["ref"]] = (time.monotonic() - age_s, int(line["id"]))

    def _remember(self, key: tuple[str, str], msgid: int) -> None:
        self.sent[key] = (time.monotonic(), msgid)
        while len(self.sent) > KEPT:
            del self.sent[next(iter(self.sent))]

    def _accept(self, openid: str, asked: Mapping[str, Any]) -> int:
        self.last_msgid += 1
        msgid = self.last_msgid
        self.ledger.write(
            provider="wechat",
            kind="wechat",
            to=openid,
            ref=asked.get("client_msg_id"),
            id=str(msgid),
            text=f"{asked['template_id']} {orjson.dumps(asked['data']).decode()}",
            at=datetime.now(UTC).isoformat(),
        )
        if self.push_url is not None:
            status = "failed:user block" if openid.endswith("blk") else "success"
            event = _event(openid, msgid, status)
            self.pushes.later(
                self.delay, partial(_signed, self.push_url, self.event_token), event, "text/xml"
            )
        return msgid


def rolled(known: list[Token], now: float, value: str) -> list[Token]:
    """The tokens that work at `now`, last the one to give out: `value` when the others are about to end."""
    live = [each for each in known if each.ends > now]
    if not live or live[-1].ends - now <= ROLL_S:
        live.append(Token(value=value, ends=now + TOKEN_S))
    return live


def _fault(asked: Mapping[str, Any]) -> int | None:
    """The errcode of a message that is not well-formed."""
    data = asked.get("data")
    if not isinstance(asked.get("touser"), str) or not OPENID.fullmatch(asked["touser"]):
        return 40003
    if not isinstance(asked.get("template_id"), str) or not asked["template_id"]:
        return 40037
    if not isinstance(data, dict) or not all(isinstance(value, dict) for value in data.values()):
        return 47001
    return 47003 if any(not _fits(name, value.get("value")) for name, value in data.items()) else None


def _fits(name: str, value: object) -> bool:
    limit = LIMITS.get(name.rstrip("0123456789"))
    return isinstance(value, str) and (limit is None or (0 < len(value) <= limit and "\n" not in value))


def _event(openid: str, msgid: int, status: str) -> bytes:
    """TEMPLATESENDJOBFINISH; an openid's alphabet needs no escaping."""
    return (
        "<xml><ToUserName><![CDATA[gh_simulator]]></ToUserName>"
        f"<FromUserName><![CDATA[{openid}]]></FromUserName>"
        f"<CreateTime>{int(time.time())}</CreateTime><MsgType><![CDATA[event]]></MsgType>"
        f"<Event><![CDATA[TEMPLATESENDJOBFINISH]]></Event><MsgID>{msgid}</MsgID>"
        f"<Status><![CDATA[{status}]]></Status></xml>"
    ).encode()


def _signed(url: str, token: str) -> str:
    """The URL with this moment's timestamp, nonce and signature."""
    timestamp, nonce = str(int(time.time())), str(secrets.randbelow(10**10))
    digest = hashlib.sha1("".join(sorted((token, timestamp, nonce))).encode(), usedforsecurity=False)
    query = {"signature": digest.hexdigest(), "timestamp": timestamp, "nonce": nonce}
    return f"{url}?{urlencode(query)}"


def _object(body: bytes) -> Mapping[str, Any]:
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    return value if isinstance(value, dict) else {}


def _error(code: int) -> Answer:
    return {"errcode": code, "errmsg": "refused"}


def _accepted(msgid: int) -> Answer:
    return {"errcode": 0, "errmsg": "ok", "msgid": msgid}


def _json(body: Answer) -> web.Response:
    return web.Response(body=orjson.dumps(body), content_type="application/json")


def _taken(status: int, body: bytes) -> bool:
    """Whether an event was answered as it must be: `success`, or nothing."""
    return status == HTTPStatus.OK and body in {b"success", b""}


async def serve(*, host: str, port: int, ledger: Ledger, delay: float, push_url: str | None) -> Running:
    """Serve on `host:port`; events go to `push_url` `delay` seconds after each message."""
    pushes = Pushes(PAUSES, _taken)
    simulator = Simulator(
        secret=os.environ.get("SIM_SECRET", "simulator"),
        event_token=os.environ.get("SIM_WECHAT_TOKEN", "simulator"),
        ledger=ledger,
        delay=delay,
        push_url=push_url,
        pushes=pushes,
    )
    simulator.recall()
    app = web.Application(client_max_size=1_048_576)
    app.router.add_post("/cgi-bin/stable_token", simulator.token)
    app.router.add_post("/cgi-bin/message/template/send", simulator.template)
    app.router.add_post("/_sim/tokens/expire", simulator.expire)
    app.router.add_post("/_sim/next", simulator.faults.ask)
    return await listen(app, host=host, port=port, pushes=pushes)
