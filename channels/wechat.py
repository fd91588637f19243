"""WeChat Official Account template messages: stable token, send with a dedupe key, receipts by event.

Sources: developers.weixin.qq.com, "getStableAccessToken", "template message" and "message encryption". A
second send of one `client_msg_id` to the same openid within ten minutes reaches nobody twice. WeChat takes no
validity period. The server URL to set in WeChat's console is `{public}/cb/wechat/{account}/{callback token}`,
and what arrives there is signed with the console's own token.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, ClassVar
from xml.etree import ElementTree as ET

import orjson
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator
from yarl import URL

from channels._http import Exchange, post, read_settings, session
from channels._http1 import AT_ONCE
from gateway.domain import Account, Channel, Handed, HandOver, Message, Outcome, Receipt
from gateway.ports import Answer, Callback, Checked, Script, Tools

SHANGHAI = timezone(timedelta(hours=8))
SKEW_S = 300
BODY_LIMIT = 65_536
JSON_HEADERS = {"Content-Type": "application/json; charset=utf-8"}
LINK_VARIABLE = "_url"
"""The variable that becomes the message's own link instead of a value in it."""

OPENID = re.compile(r"[\w-]{1,64}", re.ASCII)
MSGID = re.compile(r"[0-9]{1,20}")

CODES: Mapping[str, HandOver] = {
    code: ending
    for ending, codes in {
        HandOver.ACCEPTED: "0 45065",
        HandOver.RETRY_AFTER: "43117 45009 45011 45047 http_429",
        HandOver.PERMANENT_RECIPIENT: "40003 43004 50005 46004",
        HandOver.OPT_OUT: "43101 48002 43019",
        HandOver.CONTENT: "40037 41030 47001 47003 87014 45026",
        HandOver.CONFIG: """
            40001 40014 42001 41001 40002 40013 41002 41004 40125 40164 48001 48004 50002 89503 48006""",
        HandOver.UNKNOWN: "-1 61450 http_408 no_msgid unreadable unknown",
    }.items()
    for code in codes.split()
}
"""errcodes of template/send and of stable_token. 43117 is in none of its lists: "Sending messages to this openid too
frequently" (developers.weixin.qq.com/community, seen since 2024)."""

STALE_TOKEN = frozenset({"40001", "40014", "42001", "41001"})
DAILY, TOO_OFTEN = "45009", "43117"

LIMITS: Mapping[str, int] = {
    "thing": 20,
    "const": 20,
    "character_string": 32,
    "phone_number": 17,
    "car_number": 8,
    "phrase": 5,
}
"""Characters that a value may have, by its key without the number; longer ones are cut, else errcode 47003.
Amounts, numbers, dates and times have limits too; cut they would be wrong, so they are left to be refused."""

STATUSES: Mapping[str, tuple[Outcome, bool]] = {
    "success": (Outcome.DELIVERED, False),
    "failed:userblock": (Outcome.FAILED, True),
    "failed:systemfailed": (Outcome.FAILED, False),
    "failed:freqlimit": (Outcome.FAILED, False),
    "unknown": (Outcome.UNKNOWN, False),
}
"""Status of TEMPLATESENDJOBFINISH without its spaces → outcome, and whether the person refused."""


class Settings(BaseModel):
    """An account of this adapter; `sender` is the Official Account's appid.

    `token` and `encoding_aes_key` are those of the server configuration in WeChat's console. With the key,
    only encrypted events are taken: in plain text the signature does not cover the body.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    sender: str = Field(pattern=r"^[A-Za-z0-9_]{1,64}$")
    app_secret: SecretStr = Field(min_length=1)
    token: SecretStr = Field(min_length=3)
    encoding_aes_key: SecretStr | None = None
    endpoint: str = Field("https://api.weixin.qq.com", pattern=r"^https?://[^/?#@\s]+/?$")

    @field_validator("encoding_aes_key")
    @classmethod
    def _is_a_key(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not re.fullmatch(r"[A-Za-z0-9+/]{43}", value.get_secret_value()):
            raise ValueError("copy the 43 letters and digits of EncodingAESKey from WeChat's console")
        return value


class Forged(Exception):
    """A request that WeChat did not sign, or not now."""


class Adapter:
    """template/send for one Official Account, and its events."""

    channel: ClassVar[Channel] = Channel.WECHAT
    takes_free_text: ClassVar[bool] = False
    technology: ClassVar[str | None] = None
    provider_signs: ClassVar[bool] = True
    final: ClassVar[frozenset[Outcome]] = frozenset({Outcome.DELIVERED, Outcome.FAILED, Outcome.REJECTED})
    final_after: ClassVar[timedelta] = timedelta(hours=1)
    call_timeout: ClassVar[timedelta] = timedelta(seconds=41)
    """Two sends and two tokens of 10 s each: a token that was refused is fetched anew once."""
    at_once: ClassVar[int] = AT_ONCE
    reach: ClassVar[timedelta] = timedelta(minutes=1)
    again_within: ClassVar[timedelta] = timedelta(minutes=8)

    def __init__(self, account: Account, tools: Tools) -> None:
        self._settings = read_settings(Settings, account)
        self._origin = URL(self._settings.endpoint).origin()
        self._tokens = tools.tokens
        self._token_name = f"wechat:{account.mode}:{self._settings.sender}"
        self._fetching: asyncio.Task[str | Exchange] | None = None
        self._http = session()

    async def aclose(self) -> None:
        """Let go of connections."""
        if self._fetching is not None:
            self._fetching.cancel()
            await asyncio.gather(self._fetching, return_exceptions=True)
        await self._http.close()

    async def send(self, message: Message) -> Handed:
        """Hand one message over; when its token is refused, nothing was sent: once more with another."""
        refused = refusal(message)
        if refused is not None:
            return refused
        body = orjson.dumps(template_message(message))
        first, token = await self._attempt(body, message.now)
        if token is None or first.code not in STALE_TOKEN:
            return first
        await self._tokens.drop(self._token_name, token)
        return (await self._attempt(body, message.now))[0]

    async def receive(self, callback: Callback, script: Script) -> Answer:  # noqa: ARG002 (the port's form)
        """Answer the console's echo, or read an event; `success` keeps WeChat from pushing it again."""
        try:
            check_time(callback.query.get("timestamp", ""), callback.now)
            if callback.method == "GET":
                self._check(callback.query, "signature")
                return Answer(status=200, body=callback.query.get("echostr", "")[:256].encode())
            found = finished(self._fields(callback))
        except Forged:
            return Answer(status=403)
        except ValueError:
            return Answer(status=400)
        return Answer(status=200, body=b"success", receipts=(found,) if found else ())

    async def check(self) -> Checked:
        """Fetch a token: appid, secret and the list of allowed IP addresses must be right for that."""
        fetched = await self._fetch()
        if isinstance(fetched, str):
            return Checked(ok=True, word="the appid and its secret work from this address")
        if fetched.status is None:
            return Checked(ok=False, word=f"no answer from WeChat ({fetched.failure})")
        return Checked(ok=False, word=f"WeChat gives no token: {code_of(fetched)}")

    async def _attempt(self, body: bytes, now: datetime) -> tuple[Handed, str | None]:
        """One template/send, and the token it was made with; None when there was no token to make it with."""
        token = await self._token()
        if isinstance(token, Exchange):
            return no_token(token, now), None
        return handed(await self._post("message/template/send", body, access_token=token), now), token

    async def _token(self) -> str | Exchange:
        """The shared token, or what a fetch brought; all who wait in this process wait for one fetch."""
        known = await self._tokens.get(self._token_name)
        if known is not None:
            return known
        if self._fetching is None or self._fetching.done():
            self._fetching = asyncio.create_task(self._fetch())
        return await asyncio.shield(self._fetching)

    async def _fetch(self) -> str | Exchange:
        """Ask for the stable token, never forcing a new one: that would end the one others use."""
        asked = {
            "grant_type": "client_credential",
            "appid": self._settings.sender,
            "secret": self._settings.app_secret.get_secret_value(),
            "force_refresh": False,
        }
        exchange = await self._post("stable_token", orjson.dumps(asked))
        token, lives = exchange.data().get("access_token"), exchange.data().get("expires_in")
        if not (isinstance(token, str) and token and isinstance(lives, int) and lives > 0):
            return exchange
        await self._tokens.put(self._token_name, token, token_life(lives))
        return token

    async def _post(self, path: str, body: bytes, **query: str) -> Exchange:
        url = (self._origin / "cgi-bin" / path).with_query(query)
        return await post(self._http, url, headers=JSON_HEADERS, body=body)

    def _fields(self, callback: Callback) -> Mapping[str, str]:
        """What a trusted event says."""
        if len(callback.body) > BODY_LIMIT:
            raise ValueError("an event is never that long")
        if self._settings.encoding_aes_key is None:
            self._check(callback.query, "signature")
            return read_xml(callback.body)
        sealed = read_xml(callback.body).get("Encrypt", "")
        self._check(callback.query, "msg_signature", sealed)
        xml, appid = unseal(aes_key(self._settings.encoding_aes_key.get_secret_value()), sealed)
        if appid != self._settings.sender.encode():
            raise Forged
        return read_xml(xml)

    def _check(self, query: Mapping[str, str], name: str, *more: str) -> None:
        token = self._settings.token.get_secret_value()
        expected = signature(token, query.get("timestamp", ""), query.get("nonce", ""), *more)
        if not hmac.compare_digest(expected.encode(), query.get(name, "").encode()):
            raise Forged


def refusal(message: Message) -> Handed | None:
    """Why a message is not handed over at all, or None."""
    if message.now >= message.deliver_by:
        return Handed(ending=HandOver.EXPIRED, code="past_deliver_by")
    if not OPENID.fullmatch(message.address.reveal("to see whether it is an openid")):
        return Handed(ending=HandOver.PERMANENT_RECIPIENT, code="not_openid")
    if not message.rendered.code:
        return Handed(ending=HandOver.CONTENT, code="template_unbound")
    return None


def template_message(message: Message) -> dict[str, Any]:
    """The body of template/send; `client_msg_id` is what makes a second send of it harmless."""
    values = {name: value.reveal("to send") for name, value in message.rendered.variables.items()}
    link = values.pop(LINK_VARIABLE, None)
    body: dict[str, Any] = {
        "touser": message.address.reveal("to send"),
        "template_id": message.rendered.code,
        "client_msg_id": message.ref,
        "data": {name: {"value": fit(name, value)} for name, value in values.items()},
    }
    return body if link is None else {**body, "url": link}


def fit(name: str, value: str) -> str:
    """A value on one line, no longer than its key allows."""
    return " ".join(value.split())[: LIMITS.get(name.rstrip("0123456789"))]


def token_life(expires_in: int) -> timedelta:
    """How long to share a token: WeChat gives out the next one five minutes before this one ends."""
    return timedelta(seconds=min(expires_in, max(expires_in - 300, 60)))


def code_of(exchange: Exchange) -> str:
    """The answer's errcode, or one of our own for an answer without one."""
    status = exchange.status or 0
    errcode = exchange.data().get("errcode")
    if status < 500 and isinstance(errcode, int):
        return str(int(errcode))
    return "unreadable" if status == 200 else f"http_{status}"


def handed(exchange: Exchange, now: datetime) -> Handed:
    """How one template/send ended. Refusals come with HTTP 200 and an errcode."""
    if exchange.status is None:
        return exchange.lost()
    code = code_of(exchange)
    unlisted = HandOver.CONFIG if 300 <= exchange.status < 500 else CODES["unknown"]
    ending = CODES.get(code, unlisted)
    match ending:
        case HandOver.ACCEPTED:
            return _accepted(code, exchange.data().get("msgid"))
        case HandOver.RETRY_AFTER if code == DAILY:
            return Handed(ending=ending, code=code, retry_after=until_midnight(now), reach="account")
        case HandOver.RETRY_AFTER if code == TOO_OFTEN:
            return Handed(ending=ending, code=code, retry_after=timedelta(hours=1), reach="recipient")
        case HandOver.RETRY_AFTER:
            return Handed(ending=ending, code=code, retry_after=timedelta(minutes=1), reach="rate")
        case _:
            return Handed(ending=ending, code=code)


def _accepted(code: str, msgid: object) -> Handed:
    if not isinstance(msgid, int | str) or not MSGID.fullmatch(str(msgid)):
        return Handed(ending=CODES["no_msgid"], code="no_msgid")
    return Handed(ending=HandOver.ACCEPTED, provider_id=str(msgid), code=code)


def no_token(exchange: Exchange, now: datetime) -> Handed:
    """How a call ended that got no token: no message left us, whatever else is not known."""
    ended = handed(exchange, now)
    if ended.ending in {HandOver.CONFIG, HandOver.RETRY_AFTER}:
        return ended
    return Handed(ending=HandOver.NOT_SENT, code=ended.code)


def until_midnight(now: datetime) -> timedelta:
    """From `now` to the next 00:00 in Shanghai, when daily quotas start anew."""
    local = now.astimezone(SHANGHAI)
    return local.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1) - local


def signature(*parts: str) -> str:
    """SHA-1 over the parts sorted and joined, as WeChat signs what it sends."""
    return hashlib.sha1("".join(sorted(parts)).encode(), usedforsecurity=False).hexdigest()


def check_time(timestamp: str, now: datetime) -> None:
    """Refuse what was signed more than SKEW_S seconds before or after `now`."""
    if not re.fullmatch(r"[0-9]{1,11}", timestamp) or abs(now.timestamp() - int(timestamp)) > SKEW_S:
        raise Forged


def read_xml(body: bytes) -> dict[str, str]:
    """The fields of a flat UTF-8 document; ValueError for any other, and for one that declares entities."""
    text = body.decode()
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise ValueError("an event declares no entities")
    try:
        root = ET.fromstring(text)  # noqa: S314 (no document type, so no entities; size bounded)
    except ET.ParseError:
        raise ValueError("an event is XML") from None
    return {child.tag: child.text or "" for child in root}


def aes_key(encoding_aes_key: str) -> bytes:
    """The 32 bytes that an EncodingAESKey of 43 characters stands for."""
    return base64.b64decode(encoding_aes_key + "=")


def unseal(key: bytes, sealed: str) -> tuple[bytes, bytes]:
    """The XML and the appid in an `Encrypt` field.

    AES-256-CBC of 16 random bytes, the XML's length, the XML and the appid, padded to 32 bytes.
    """
    try:
        data = base64.b64decode(sealed)
        decryptor = Cipher(algorithms.AES(key), modes.CBC(key[:16])).decryptor()
        plain = decryptor.update(data) + decryptor.finalize()
    except ValueError:
        raise Forged from None
    padding = plain[-1] if plain else 0
    if not 1 <= padding <= 32 or plain[-padding:] != bytes([padding]) * padding:
        raise Forged
    length = int.from_bytes(plain[16:20], "big")
    content = plain[20:-padding]
    return content[:length], content[length:]


def finished(fields: Mapping[str, str]) -> Receipt | None:
    """What TEMPLATESENDJOBFINISH says; None for every other event: none of them names an attempt."""
    msgid = fields.get("MsgID", "")
    if fields.get("Event") != "TEMPLATESENDJOBFINISH" or not MSGID.fullmatch(msgid):
        return None
    status = fields.get("Status", "").replace(" ", "").lower()
    code = status if status in STATUSES else "unknown"
    outcome, opt_out = STATUSES[code]
    at = fields.get("CreateTime", "")
    return Receipt(
        outcome=outcome,
        provider_id=msgid,
        at=datetime.fromtimestamp(int(at), UTC) if re.fullmatch(r"[0-9]{1,11}", at) else None,
        code=code,
        opt_out=opt_out,
    )
