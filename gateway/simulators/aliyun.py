"""A stand-in for Alibaba Cloud SMS (Dysmsapi 2017-05-25): SendSms, QuerySendDetails, GetSmsSign, SmsReport.

It takes any access key id whose secret is SIM_SECRET (or `simulator`) and reckons ACS3-HMAC-SHA256 signatures
anew. A number's last digit says what becomes of its messages: 7 → `UNDELIV`, 8 → `W-BLACK` (the person
complained), any other → `DELIVERED`. A signature name that ends in `pending` is not approved. More than 50
messages of one signature and template to one number in 24 hours are refused. Faults: gateway.simulators.wire.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone
from functools import partial
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qsl, quote
from uuid import uuid4

import orjson
from aiohttp import web

from gateway.simulators.ledger import Ledger
from gateway.simulators.running import Running
from gateway.simulators.wire import Faults, Pushes, listen

SHANGHAI = timezone(timedelta(hours=8))
SKEW = timedelta(minutes=15)
NONCES = 100_000
PER_DAY = 50
PAGE = 50
DAY_S = 86_400
KEPT = 1_000
VARIABLE_LIMIT = 35
PAUSES = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 30.0, 30.0, 30.0)
"""After 1, 5, 10, 30 and 60 minutes with the provider; shorter here, as often."""

MOBILE = re.compile(r"(?:\+86|0086|86)?(1[3-9][0-9]{9})")
AUTHORIZATION = re.compile(
    r"ACS3-HMAC-SHA256 Credential=([^,]+), ?SignedHeaders=([^,]+), ?Signature=([0-9a-f]{64})"
)
SIGNED = {
    "host",
    "x-acs-action",
    "x-acs-content-sha256",
    "x-acs-date",
    "x-acs-signature-nonce",
    "x-acs-version",
}
FATES = {"7": "UNDELIV", "8": "W-BLACK"}


class Refused(Exception):
    """An error answer: its code, message and HTTP status (business errors come with 200)."""

    def __init__(self, code: str, message: str = "refused", *, status: int = 200) -> None:
        super().__init__(message)
        self.code = code
        self.status = status


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """One message that was accepted."""

    number: str
    sign: str
    template: str
    text: str
    out_id: str
    biz_id: str
    at: datetime
    due: float

    @property
    def err_code(self) -> str:
        """What its carrier will say."""
        return FATES.get(self.number[-1], "DELIVERED")


@dataclass(slots=True, kw_only=True)
class Simulator:
    """What was sent, and the actions that look at it or add to it."""

    secret: str
    ledger: Ledger
    delay: float
    push_url: str | None
    pushes: Pushes
    faults: Faults = field(default_factory=Faults)
    nonces: dict[str, None] = field(default_factory=dict)
    """The latest NONCES, oldest first."""
    sent: dict[str, deque[Sent]] = field(default_factory=dict)

    async def call(self, request: web.Request) -> web.StreamResponse:
        """One signed call of any action."""
        try:
            query = await self._authenticated(request)
        except Refused as refused:
            return _refusal(refused)
        match request.headers["x-acs-action"]:
            case "SendSms":
                return await self.faults.around(request, partial(self._answer, self.send, query))
            case "QuerySendDetails":
                return await self._answer(self.details, query)
            case "GetSmsSign":
                return await self._answer(self.sign, query)
            case _:
                return _refusal(Refused("InvalidAction.NotFound", status=404))

    async def _answer(
        self, act: Callable[[Mapping[str, str]], dict[str, Any]], query: Mapping[str, str]
    ) -> web.Response:
        try:
            return _json({"Code": "OK", "Message": "OK", **act(query)})
        except Refused as refused:
            return _refusal(refused)

    async def _authenticated(self, request: web.Request) -> dict[str, str]:
        """The parameters, once their signature was reckoned anew; a stale date or a used nonce is refused."""
        query = dict(parse_qsl(request.url.raw_query_string, keep_blank_values=True))
        headers = request.headers
        given = AUTHORIZATION.fullmatch(headers.get("Authorization", ""))
        if given is None or not set(given[2].split(";")) >= SIGNED:
            raise Refused("IncompleteSignature", status=400)
        body = hashlib.sha256(await request.read()).hexdigest()
        expected = _signature(request, query, given[2], body, self.secret)
        if headers["x-acs-content-sha256"] != body or not hmac.compare_digest(expected, given[3]):
            raise Refused("SignatureDoesNotMatch", status=400)
        if not _recent(headers["x-acs-date"]):
            raise Refused("InvalidTimeStamp.Expired", status=400)
        if headers["x-acs-signature-nonce"] in self.nonces:
            raise Refused("SignatureNonceUsed", status=400)
        self.nonces[headers["x-acs-signature-nonce"]] = None
        if len(self.nonces) > NONCES:
            del self.nonces[next(iter(self.nonces))]
        return query

    def send(self, query: Mapping[str, str]) -> dict[str, Any]:
        """SendSms to one number or several."""
        numbers = [_mainland(number) for number in query.get("PhoneNumbers", "").split(",")]
        sign, template = query.get("SignName", ""), query.get("TemplateCode", "")
        _check_content(sign, template, query.get("TemplateParam", "{}"))
        for number in numbers:
            self._check_limit(number, sign, template)
        biz_id = f"{time.time_ns()}^0"
        text = f"【{sign}】{template} {query.get('TemplateParam', '{}')}"
        for number in numbers:
            self._accept(
                Sent(
                    number=number,
                    sign=sign,
                    template=template,
                    text=text,
                    out_id=query.get("OutId", ""),
                    biz_id=biz_id,
                    at=datetime.now(UTC),
                    due=time.monotonic() + self.delay,
                )
            )
        return {"BizId": biz_id}

    def _check_limit(self, number: str, sign: str, template: str) -> None:
        since = datetime.now(UTC) - timedelta(seconds=DAY_S)
        alike = [
            each
            for each in self.sent.get(number, ())
            if each.at > since and (each.sign, each.template) == (sign, template)
        ]
        if len(alike) >= PER_DAY:
            raise Refused("isv.BUSINESS_LIMIT_CONTROL", f"触发天级流控Permits:{PER_DAY}")

    def _accept(self, sent: Sent) -> None:
        self.ledger.write(
            provider="aliyun",
            kind="sms",
            to=f"+86{sent.number}",
            ref=sent.out_id or None,
            id=sent.biz_id,
            text=sent.text,
            at=sent.at.isoformat(),
            sign=sent.sign,
            template=sent.template,
        )
        self._keep(sent)
        if self.push_url is not None:
            url = self.push_url
            self.pushes.later(self.delay, lambda: url, orjson.dumps([_report(sent)]), "application/json")

    def _keep(self, sent: Sent) -> None:
        self.sent.setdefault(sent.number, deque(maxlen=KEPT)).append(sent)

    def recall(self) -> None:
        """Know again what the ledger holds; its carriers have spoken by now."""
        for line in self.ledger.lines("aliyun"):
            self._keep(
                Sent(
                    number=line["to"].removeprefix("+86"),
                    sign=line["sign"],
                    template=line["template"],
                    text=line["text"],
                    out_id=line["ref"] or "",
                    biz_id=line["id"],
                    at=datetime.fromisoformat(line["at"]),
                    due=0.0,
                )
            )

    def details(self, query: Mapping[str, str]) -> dict[str, Any]:
        """QuerySendDetails: a number's messages of one Shanghai day, newest first, by pages of at most 50."""
        try:
            size, page = int(query["PageSize"]), int(query["CurrentPage"])
        except (KeyError, ValueError):
            raise Refused("isv.INVALID_PARAMETERS") from None
        day, number = query.get("SendDate", ""), _mainland(query.get("PhoneNumber", ""))
        if not 1 <= size <= PAGE or page < 1 or not re.fullmatch(r"[0-9]{8}", day):
            raise Refused("isv.INVALID_PARAMETERS")
        found = [each for each in reversed(self.sent.get(number, ())) if f"{_local(each.at):%Y%m%d}" == day]
        rows = [_detail(each) for each in found[(page - 1) * size : page * size]]
        return {"TotalCount": str(len(found)), "SmsSendDetailDTOs": {"SmsSendDetailDTO": rows}}

    def sign(self, query: Mapping[str, str]) -> dict[str, Any]:
        """GetSmsSign: every signature is approved but those that end in `pending`."""
        name = query.get("SignName", "")
        if not name:
            raise Refused("isv.SMS_SIGN_ILLEGAL")
        return {"SignName": name, "SignStatus": 0 if name.endswith("pending") else 1}


def _signature(
    request: web.Request, query: Mapping[str, str], signed: str, body_sha256: str, secret: str
) -> str:
    """The V3 signature of a request as it arrived."""
    lines = "".join(f"{name}:{request.headers.get(name, '').strip()}\n" for name in signed.split(";"))
    canonical = "&".join(f"{quote(k, safe='~')}={quote(v, safe='~')}" for k, v in sorted(query.items()))
    text = f"{request.method}\n{request.path}\n{canonical}\n{lines}\n{signed}\n{body_sha256}"
    to_sign = f"ACS3-HMAC-SHA256\n{hashlib.sha256(text.encode()).hexdigest()}"
    return hmac.new(secret.encode(), to_sign.encode(), hashlib.sha256).hexdigest()


def _recent(date: str) -> bool:
    try:
        at = datetime.strptime(date, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    except ValueError:
        return False
    return abs(datetime.now(UTC) - at) <= SKEW


def _mainland(number: str) -> str:
    found = MOBILE.fullmatch(number)
    if found is None:
        raise Refused("isv.MOBILE_NUMBER_ILLEGAL", "手机号码格式错误")
    return found[1]


def _check_content(sign: str, template: str, parameters: str) -> None:
    """Refuse what the provider refuses in a signature, a template code and its variables."""
    if not sign or "【" in sign:
        raise Refused("isv.SMS_SIGN_ILLEGAL")
    if not re.fullmatch(r"SMS_\w+", template):
        raise Refused("isv.SMS_TEMPLATE_ILLEGAL")
    try:
        variables = orjson.loads(parameters)
    except orjson.JSONDecodeError:
        variables = None
    if not isinstance(variables, dict) or not all(isinstance(value, str) for value in variables.values()):
        raise Refused("isv.INVALID_JSON_PARAM")
    for value in variables.values():
        if len(value) > VARIABLE_LIMIT:
            raise Refused("isv.PARAM_LENGTH_LIMIT")
        if "://" in value or "www." in value:
            raise Refused("isv.PARAM_NOT_SUPPORT_URL")
        if "【" in value or "】" in value:
            raise Refused("isv.TEMPLATE_PARAMS_ILLEGAL")


def _report(sent: Sent) -> dict[str, Any]:
    return {
        "phone_number": sent.number,
        "send_time": f"{_local(sent.at):%Y-%m-%d %H:%M:%S}",
        "report_time": f"{_local(datetime.now(UTC)):%Y-%m-%d %H:%M:%S}",
        "success": sent.err_code == "DELIVERED",
        "err_code": sent.err_code,
        "err_msg": "用户接收成功" if sent.err_code == "DELIVERED" else "用户接收失败",
        "sms_size": "1",
        "biz_id": sent.biz_id,
        "out_id": sent.out_id,
    }


def _detail(sent: Sent) -> dict[str, Any]:
    """A row of QuerySendDetails: SendStatus 1 until the carrier has spoken, then 2 failed or 3 delivered."""
    row: dict[str, Any] = {
        "PhoneNum": sent.number,
        "TemplateCode": sent.template,
        "Content": sent.text,
        "SendDate": f"{_local(sent.at):%Y-%m-%d %H:%M:%S}",
        "OutId": sent.out_id,
        "SendStatus": 1,
    }
    if time.monotonic() < sent.due:
        return row
    received = f"{_local(datetime.now(UTC)):%Y-%m-%d %H:%M:%S}"
    status = 3 if sent.err_code == "DELIVERED" else 2
    return {**row, "SendStatus": status, "ErrCode": sent.err_code, "ReceiveDate": received}


def _local(at: datetime) -> datetime:
    return at.astimezone(SHANGHAI)


def _json(body: Mapping[str, Any], status: int = 200) -> web.Response:
    answer = orjson.dumps({"RequestId": str(uuid4()).upper(), **body})
    return web.Response(body=answer, status=status, content_type="application/json")


def _refusal(refused: Refused) -> web.Response:
    return _json({"Code": refused.code, "Message": str(refused)}, refused.status)


def _taken(status: int, body: bytes) -> bool:
    """Whether a push was answered as it must be: `{"code": 0}`."""
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError:
        return False
    return status == HTTPStatus.OK and isinstance(answer, dict) and answer.get("code") == 0


async def serve(*, host: str, port: int, ledger: Ledger, delay: float, push_url: str | None) -> Running:
    """Serve on `host:port`; receipts go to `push_url` `delay` seconds after each message."""
    pushes = Pushes(PAUSES, _taken)
    simulator = Simulator(
        secret=os.environ.get("SIM_SECRET", "simulator"),
        ledger=ledger,
        delay=delay,
        push_url=push_url,
        pushes=pushes,
    )
    simulator.recall()
    app = web.Application(client_max_size=1_048_576)
    app.router.add_post("/", simulator.call)
    app.router.add_post("/_sim/next", simulator.faults.ask)
    return await listen(app, host=host, port=port, pushes=pushes)
