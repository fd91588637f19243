"""Alibaba Cloud SMS (Dysmsapi 2017-05-25): mainland messages by template, receipts, look-up by number.

The API drops no duplicates (help.aliyun.com/document_detail/55284) and takes no validity period: a call whose
answer is lost is `unknown`, and a message whose time is over is not handed over. In the provider's console,
SmsReport is to be pushed to `{public}/cb/aliyun_sms/{account}/{callback token}`.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import unicodedata
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, ClassVar
from urllib.parse import quote

import orjson
from pydantic import BaseModel, ConfigDict, Field, SecretStr
from yarl import URL

from channels._http import Exchange, post, read_settings, session
from channels._http1 import AT_ONCE
from gateway.domain import Account, Channel, Handed, HandOver, Message, NotShown, Outcome, Receipt
from gateway.masking import Pii
from gateway.ports import Answer, Callback, Checked, Script, Tools

VERSION = "2017-05-25"
ALGORITHM = "ACS3-HMAC-SHA256"
SHANGHAI = timezone(timedelta(hours=8))
VARIABLE_LIMIT = 35
PAGE = 50
PAGES = 4
PUSHED_LATE = timedelta(minutes=5)
"""How long after our start a message may be dated: across a midnight two days are asked for."""

E164 = re.compile(r"\+[1-9][0-9]{6,14}")
WORD = re.compile(r"(?!.*[0-9]{7})[\w.:-]{1,64}")
"""A provider's code that may go into a record: short, and without a run of digits that could be a number."""
ID = re.compile(r"[\w^-]{1,64}", re.ASCII)
LINK = re.compile(
    r"://|\bwww\.|\b[a-z0-9-]+\.(?:com|cn|net|org|top|xyz|cc|io|info|vip|me|co|site|club|link|ltd|shop|app)\b"
    r"|\b[0-9]{1,3}(?:\.[0-9]{1,3}){3}\b",
    re.ASCII | re.IGNORECASE,
)

CODES: Mapping[str, HandOver] = {
    code: ending
    for ending, codes in {
        HandOver.RETRY_AFTER: "isv.BUSINESS_LIMIT_CONTROL isv.DAY_LIMIT_CONTROL Throttling http_429",
        HandOver.PERMANENT_RECIPIENT: "isv.MOBILE_NUMBER_ILLEGAL isv.DOMESTIC_NUMBER_NOT_SUPPORTED",
        HandOver.CONTENT: """
            isv.SMS_TEMPLATE_ILLEGAL isv.TEMPLATE_MISSING_PARAMETERS isv.TEMPLATE_PARAMS_ILLEGAL
            isv.INVALID_PARAMETERS isv.INVALID_JSON_PARAM isv.PARAM_LENGTH_LIMIT isv.PARAM_NOT_SUPPORT_URL
            isv.BLACK_KEY_CONTROL_LIMIT isv.SMS_CONTENT_ILLEGAL""",
        HandOver.CONFIG: """
            isv.MONTH_LIMIT_CONTROL isv.OUT_OF_SERVICE isv.AMOUNT_NOT_ENOUGH isv.ACCOUNT_NOT_EXISTS
            isv.ACCOUNT_ABNORMAL isv.PRODUCT_UN_SUBSCRIPT isv.PRODUCT_UNSUBSCRIBE
            isv.DENY_IP_RANGE isv.SIGN_STATE_ILLEGAL isv.SMS_SIGN_ILLEGAL isv.SMS_SIGNATURE_ILLEGAL
            isv.SMS_SIGNATURE_SCENE_ILLEGAL isv.EXTEND_CODE_ERROR isp.RAM_PERMISSION_DENY
            SignatureDoesNotMatch SignatureNonceUsed IncompleteSignature InvalidAccessKeyId InvalidTimeStamp
            InvalidVersion InvalidAction MissingParameter Forbidden NoPermission""",
        HandOver.UNKNOWN: "isp.SYSTEM_ERROR isp.GATEWAY_ERROR http_408 unreadable no_biz_id unknown",
    }.items()
    for code in codes.split()
}
"""Answers to SendSms (help.aliyun.com/document_detail/101346); `Throttling.User` falls under `Throttling`."""

PAUSES: Mapping[str, tuple[timedelta, str]] = {
    "分钟": (timedelta(minutes=1), "recipient"),
    "小时": (timedelta(hours=1), "recipient"),
    "天": (timedelta(days=1), "recipient"),
    "unknown": (timedelta(days=1), "recipient"),
    "isv.DAY_LIMIT_CONTROL": (timedelta(days=1), "account"),
    "Throttling": (timedelta(seconds=5), "rate"),
}
"""How long a limit holds and for whom: the words of BUSINESS_LIMIT_CONTROL's message, and throttling."""

DELIVERED = frozenset({"DELIVERED", "DELIVRD"})
REFUSED = re.compile(r"BLACK|unsubscribe|退订", re.IGNORECASE)
"""Carriers' words for a person who refused or complained (help.aliyun.com/zh/document_detail/2679007)."""
DEAD = frozenset({"MK:0000", "MK:0001", "PHONEERR"})
"""Carriers' words for a number that does not exist. All others are a failure and nothing more."""


class Settings(BaseModel):
    """An account of this adapter; `sender` is the approved signature, without its brackets."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sender: str = Field(pattern=r"^[^【】]{1,32}$")
    access_key_id: SecretStr = Field(min_length=1)
    access_key_secret: SecretStr = Field(min_length=1)
    endpoint: str = Field("https://dysmsapi.aliyuncs.com", pattern=r"^https?://[^/?#@\s]+/?$")


class Adapter:
    """SendSms, its receipts and its look-up, for one signature."""

    channel: ClassVar[Channel] = Channel.SMS
    takes_free_text: ClassVar[bool] = False
    technology: ClassVar[str | None] = None
    provider_signs: ClassVar[bool] = True
    """It does not, but `receive` asks for the account's own token."""
    final: ClassVar[frozenset[Outcome]] = frozenset({Outcome.DELIVERED, Outcome.FAILED, Outcome.REJECTED})
    final_after: ClassVar[timedelta] = timedelta(hours=72)
    call_timeout: ClassVar[timedelta] = timedelta(seconds=11)
    at_once: ClassVar[int] = AT_ONCE
    reach: ClassVar[timedelta] = timedelta(minutes=1)

    def __init__(self, account: Account, tools: Tools) -> None:
        self._settings = read_settings(Settings, account)
        self._url = URL(self._settings.endpoint)
        self._callback_token = tools.callback_token.encode()
        self._http = session()

    async def aclose(self) -> None:
        """Let go of connections."""
        await self._http.close()

    async def send(self, message: Message) -> Handed:
        """Hand one message over by SendSms, once."""
        refused = refusal(message)
        if refused is not None:
            return refused
        return handed(await self._call("SendSms", sms_parameters(message, self._settings.sender)))

    async def receive(self, callback: Callback, script: Script) -> Answer:  # noqa: ARG002 (the port's form)
        """Read a push of SmsReport. It is not signed; the account's token in the path is the proof."""
        if not hmac.compare_digest(callback.ref.encode(), self._callback_token):
            return Answer(status=403)
        try:
            rows = orjson.loads(callback.body)
        except orjson.JSONDecodeError:
            return Answer(status=400)
        if not isinstance(rows, list):
            return Answer(status=400)
        receipts = tuple(found for row in rows if (found := pushed(row)) is not None)
        body = b'{"code":0,"msg":"ok"}'
        return Answer(status=200, content_type="application/json", body=body, receipts=receipts)

    async def look_up(self, ref: str, address: Pii[str], started_at: datetime) -> Receipt | NotShown | None:
        """Find the message by its OutId among those of its number and day."""
        number = national(address.reveal("to ask what became of a message"))
        whole = True
        for day in days(started_at):
            for page in range(1, PAGES + 1):
                rows = await self._details(number, day, page)
                for row in rows or ():
                    if row.get("OutId") == ref:
                        return looked_up(ref, row)
                if rows is None or len(rows) < PAGE:
                    whole = whole and rows is not None
                    break
            else:
                whole = False
        return NotShown() if whole else None

    async def check(self) -> Checked:
        """Ask for the signature's state: about no person, and it says whether messages would go out."""
        exchange = await self._call("GetSmsSign", {"SignName": self._settings.sender})
        if exchange.status is None:
            return Checked(ok=False, word=f"no answer from Aliyun ({exchange.failure})")
        code, answer = code_of(exchange), exchange.data()
        if code != "OK":
            return Checked(ok=False, word=f"Aliyun refuses to show the signature: {code}")
        if str(answer.get("SignStatus")) != "1":
            return Checked(ok=False, word="the key works, but the signature is not approved")
        return Checked(ok=True, word="the key works and the signature is approved")

    async def _details(self, number: str, day: str, page: int) -> list[dict[str, Any]] | None:
        """One page; None where it was not answered in full."""
        asked = {"PhoneNumber": number, "SendDate": day, "PageSize": str(PAGE), "CurrentPage": str(page)}
        exchange = await self._call("QuerySendDetails", asked)
        listed = exchange.data().get("SmsSendDetailDTOs")
        rows = listed.get("SmsSendDetailDTO") if isinstance(listed, dict) else None
        if code_of(exchange) != "OK" or not isinstance(rows, list):
            return None
        return rows if all(isinstance(row, dict) for row in rows) else None

    async def _call(self, action: str, parameters: Mapping[str, str]) -> Exchange:
        """Sign with the real clock, which the provider compares with its own, and POST."""
        query = canonical_query(parameters)
        headers = signed_headers(
            {
                "host": self._url.host_port_subcomponent or "",
                "x-acs-action": action,
                "x-acs-content-sha256": hashlib.sha256(b"").hexdigest(),
                "x-acs-date": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
                "x-acs-signature-nonce": secrets.token_hex(16),
                "x-acs-version": VERSION,
            },
            query,
            key_id=self._settings.access_key_id.get_secret_value(),
            secret=self._settings.access_key_secret.get_secret_value(),
        )
        del headers["host"]  # signed, and said by the client itself
        return await post(self._http, URL(f"{self._url.origin()}/?{query}", encoded=True), headers=headers)


def canonical_query(parameters: Mapping[str, str]) -> str:
    """Parameters sorted by name and percent-encoded as RFC 3986 has it: as signed, and as sent."""
    return "&".join(
        f"{quote(name, safe='~')}={quote(value, safe='~')}" for name, value in sorted(parameters.items())
    )


def signed_headers(headers: Mapping[str, str], query: str, *, key_id: str, secret: str) -> dict[str, str]:
    """`headers` (lower-case names) with the Authorization of a POST to `/?query` whose body is empty.

    Source: Alibaba Cloud, V3 request structure and signature.
    """
    names = sorted(headers)
    signed = ";".join(names)
    lines = "".join(f"{name}:{headers[name].strip()}\n" for name in names)
    request = f"POST\n/\n{query}\n{lines}\n{signed}\n{headers['x-acs-content-sha256']}"
    to_sign = f"{ALGORITHM}\n{hashlib.sha256(request.encode()).hexdigest()}"
    signature = hmac.new(secret.encode(), to_sign.encode(), hashlib.sha256).hexdigest()
    authorization = f"{ALGORITHM} Credential={key_id},SignedHeaders={signed},Signature={signature}"
    return {**headers, "Authorization": authorization}


def refusal(message: Message) -> Handed | None:
    """Why a message is not handed over at all, or None."""
    if message.now >= message.deliver_by:
        return Handed(ending=HandOver.EXPIRED, code="past_deliver_by")
    if not E164.fullmatch(message.address.reveal("to see whether it is one number")):
        return Handed(ending=HandOver.PERMANENT_RECIPIENT, code="not_e164")
    if not message.rendered.code:
        return Handed(ending=HandOver.CONTENT, code="template_unbound")
    values = [
        value.reveal("to check what the provider refuses") for value in message.rendered.variables.values()
    ]
    fault = next((fault for value in values if (fault := variable_fault(value))), None)
    return Handed(ending=HandOver.CONTENT, code=fault) if fault else None


def variable_fault(value: str) -> str | None:
    """What the provider (or a reader who trusts 【signatures】) would not take in a template's variable."""
    plain = unicodedata.normalize("NFKC", value)
    if "【" in plain or "】" in plain:
        return "variable_signature"
    if LINK.search(plain):
        return "variable_link"
    if any(unicodedata.category(char) in {"Cc", "Cs"} for char in value):
        return "variable_control"
    return "variable_too_long" if len(value) > VARIABLE_LIMIT else None


def sms_parameters(message: Message, sign_name: str) -> dict[str, str]:
    """What SendSms is asked; OutId comes back in receipts and look-ups."""
    rendered = message.rendered
    parameters = {
        "PhoneNumbers": national(message.address.reveal("to send")),
        "SignName": sign_name,
        "TemplateCode": rendered.code or "",
        "OutId": message.ref,
    }
    if rendered.variables:
        filled = {name: value.reveal("to send") for name, value in rendered.variables.items()}
        parameters["TemplateParam"] = orjson.dumps(filled).decode()
    return parameters


def national(number: str) -> str:
    """A mainland number without its prefix, any other as country code and number, both without a plus."""
    return number.removeprefix("+86").removeprefix("+")


def code_of(exchange: Exchange) -> str:
    """The answer's Code, or one of our own for an answer that has none or none fit to keep."""
    status = exchange.status or 0
    if status >= 500:
        return f"http_{status}"
    code = exchange.data().get("Code")
    if isinstance(code, str) and WORD.fullmatch(code):
        return code
    return "unreadable" if status == 200 else f"http_{status}"


def handed(exchange: Exchange) -> Handed:
    """How one SendSms call ended. Business refusals come with HTTP 200, those of the API gateway with 4xx."""
    if exchange.status is None:
        return exchange.lost()
    code, answer = code_of(exchange), exchange.data()
    if code == "OK":
        biz_id = answer.get("BizId")
        if isinstance(biz_id, str) and ID.fullmatch(biz_id):
            return Handed(ending=HandOver.ACCEPTED, provider_id=biz_id, code=code)
        code = "no_biz_id"
    ending = _ending(code, exchange.status)
    if ending is not HandOver.RETRY_AFTER:
        return Handed(ending=ending, code=code)
    pause, reach = _pause(code, str(answer.get("Message")))
    return Handed(ending=ending, code=code, retry_after=pause, reach=reach)


def _ending(code: str, status: int) -> HandOver:
    row = CODES.get(code) or CODES.get(code.partition(".")[0])
    if row is not None:
        return row
    return HandOver.CONFIG if 300 <= status < 500 else CODES["unknown"]


def _pause(code: str, message: str) -> tuple[timedelta, str]:
    if code != "isv.BUSINESS_LIMIT_CONTROL":
        return PAUSES.get(code, PAUSES["Throttling"])
    return next((PAUSES[word] for word in ("分钟", "小时", "天") if word in message), PAUSES["unknown"])


def pushed(row: object) -> Receipt | None:
    """One row of SmsReport; None when it names no attempt."""
    if not isinstance(row, dict):
        return None
    ref, biz_id = _id(row.get("out_id")), _id(row.get("biz_id"))
    if ref is None and biz_id is None:
        return None
    code = str(row.get("err_code"))
    delivered = row.get("success") is True or code in DELIVERED
    return _receipt(delivered=delivered, code=code, at=row.get("report_time"), ref=ref, provider_id=biz_id)


def looked_up(ref: str, row: Mapping[str, Any]) -> Receipt | None:
    """One row of QuerySendDetails: SendStatus 1 waits for its receipt, 2 failed, 3 was delivered."""
    code, status = str(row.get("ErrCode")), str(row.get("SendStatus"))
    if status == "1":
        return Receipt(outcome=Outcome.ACCEPTED, ref=ref)
    if status not in {"2", "3"}:
        return None
    return _receipt(delivered=status == "3", code=code, at=row.get("ReceiveDate"), ref=ref)


def _receipt(
    *, delivered: bool, code: str, at: object, ref: str | None, provider_id: str | None = None
) -> Receipt:
    return Receipt(
        outcome=Outcome.DELIVERED if delivered else Outcome.FAILED,
        ref=ref,
        provider_id=provider_id,
        at=_instant(at),
        code=code if WORD.fullmatch(code) else "unreadable",
        opt_out=not delivered and REFUSED.search(code) is not None,
        address_dead=not delivered and code in DEAD,
    )


def _id(value: object) -> str | None:
    return value if isinstance(value, str) and ID.fullmatch(value) else None


def _instant(value: object) -> datetime | None:
    """The provider's `2026-01-31 08:00:00`, Shanghai time, in UTC."""
    try:
        return datetime.strptime(str(value), "%Y-%m-%d %H:%M:%S").replace(tzinfo=SHANGHAI).astimezone(UTC)
    except ValueError:
        return None


def days(started_at: datetime) -> list[str]:
    """The Shanghai dates under which a message that was handed over at `started_at` may be filed."""
    instants = (started_at, started_at + PUSHED_LATE)
    return list(dict.fromkeys(f"{each.astimezone(SHANGHAI):%Y%m%d}" for each in instants))
