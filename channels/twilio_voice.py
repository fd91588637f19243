"""Calls through Twilio's Programmable Voice (REST API 2010-04-01, `Calls`), told in two stages.

The first stage goes along with the call and asks for a key: 1 = it is me, 9 = do not contact me. The
second, which may name the debt, is fetched only when 1 was pressed. A machine is hung up on as soon as
Twilio knows it for one; that detection runs beside the call, so nobody waits in silence.

Twilio starts calls at the account's rate (1 a second by default) and queues the rest: the account's quota
has to hold that rate, or a call rings later than it was handed over.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import ClassVar

from pydantic import Field
from twilio.twiml.voice_response import VoiceResponse

from channels._http import read_settings
from channels._http1 import AT_ONCE
from channels._twilio import LISTED, LONGEST, RETRIES, Api, Credentials, Row, handed, only, rows
from gateway.domain import Account, Channel, Handed, HandOver, Message, NotShown, Outcome, Receipt
from gateway.masking import Pii
from gateway.ports import Answer, Callback, Checked, Script, Tools

TIMEOUT_S = 25
RING_S = TIMEOUT_S + 5
"""How long it may ring: Twilio adds up to 5 s to `Timeout`."""
MIN_TALK_S = 30
MAX_TALK_S = 90
KEY_WAIT_S = 6
MAX_TWIML = 4000
HANG_UP_S = 5
"""Twilio waits 15 s for a callback's answer; hanging up must not use them all."""


class Settings(Credentials):
    """An account's credentials, the number it calls from, and how long a call may last once answered."""

    sender: str = Field(pattern=r"^\+[1-9][0-9]{6,14}$")
    talk_s: int = Field(MAX_TALK_S, ge=MIN_TALK_S, le=MAX_TALK_S)


CODES: Mapping[str, Row] = {
    **rows(HandOver.PERMANENT_RECIPIENT, "13223 13224 21211 21214 21217"),
    **rows(HandOver.RETRY_AFTER, "http_429 20429", wait_s=2, reach="rate"),
    **rows(HandOver.RETRY_AFTER, "10004", wait_s=30, reach="rate"),
    **rows(HandOver.CONTENT, "12100 12200"),
    **rows(HandOver.CONFIG, "http_401 http_403 http_404 10001 10002 10005 13227 20003 20404 21205 21210"),
    **rows(HandOver.CONFIG, "21212 21215 21216 21219 32205"),
    **rows(HandOver.UNKNOWN, "http_408"),
    "unknown": Row(HandOver.CONTENT),
}
"""Twilio's error codes and HTTP statuses (twilio.com/docs/api/errors). Refused and not listed: this call
is at fault."""

STATUSES: Mapping[str, Outcome] = {
    "queued": Outcome.ACCEPTED,
    "initiated": Outcome.ACCEPTED,
    "ringing": Outcome.ACCEPTED,
    "in-progress": Outcome.ACCEPTED,
    "completed": Outcome.ANSWERED,
    "busy": Outcome.BUSY,
    "no-answer": Outcome.NO_ANSWER,
    "failed": Outcome.FAILED,
    "canceled": Outcome.FAILED,
    "unknown": Outcome.UNKNOWN,
}
"""CallStatus → outcome as long as nobody said who answered. A call that ended without that word was
answered; one that goes on may still turn out to be a machine's."""


@dataclass(frozen=True, slots=True)
class Speech:
    """The adapter's own few words in one language."""

    tag: str
    goodbye: str
    noted: str


SPEECH: Mapping[str, Speech] = {
    "zh": Speech("zh-CN", "再见。", "好的。已为您登记。再见。"),
    "en": Speech("en-US", "Goodbye.", "Your wish has been noted. Goodbye."),
}


class Adapter:
    """Twilio calls for one account."""

    channel: ClassVar[Channel] = Channel.VOICE
    takes_free_text: ClassVar[bool] = True
    technology: ClassVar[str | None] = "prerecorded"
    """A fixed text in an artificial voice (47 CFR 64.1200(a)(1))."""
    provider_signs: ClassVar[bool] = True
    final: ClassVar[frozenset[Outcome]] = frozenset(
        {Outcome.CONVERSATION, Outcome.NO_ANSWER, Outcome.BUSY, Outcome.FAILED}
    )
    final_after: ClassVar[timedelta] = timedelta(seconds=RING_S + MAX_TALK_S + 60)
    call_timeout: ClassVar[timedelta] = LONGEST
    at_once: ClassVar[int] = AT_ONCE
    reach: ClassVar[timedelta] = timedelta(seconds=RING_S + MAX_TALK_S)

    def __init__(self, account: Account, tools: Tools) -> None:  # noqa: ARG002 (the seam's signature)
        settings = read_settings(Settings, account)
        self._api = Api(settings)
        self._sender = settings.sender
        self._talk_s = settings.talk_s

    async def send(self, message: Message) -> Handed:
        """Create one Call that has ended by `deliver_by`, ringing included, or none."""
        left_s = (message.deliver_by - message.now) // timedelta(seconds=1)
        talk_s = min(self._talk_s, left_s - RING_S)
        if talk_s < MIN_TALK_S:
            return Handed(ending=HandOver.EXPIRED)
        twiml = first_stage(message)
        if len(twiml) > MAX_TWIML:
            return Handed(ending=HandOver.CONTENT, code="twiml_too_long")
        answer, exchange = await self._api.call(
            self._api.client.calls.create_async(
                to=message.address.reveal("sent to Twilio"),
                from_=self._sender,
                twiml=twiml,
                timeout=TIMEOUT_S,
                time_limit=talk_s,
                machine_detection="Enable",
                async_amd="true",
                async_amd_status_callback=_event(message.callback_url, "amd"),
                status_callback=message.callback_url + RETRIES,
                status_callback_event=["initiated", "answered", "completed"],
            )
        )
        return handed(answer, exchange, CODES)

    async def receive(self, callback: Callback, script: Script) -> Answer:
        """Read a status callback, a verdict on who answered or a pressed key; 403 unless Twilio signed it."""
        form = self._api.form(callback)
        if form is None:
            return Answer(status=403)
        match callback.query.get("event"):
            case "digits":
                return await self._pressed(callback, form, script)
            case "amd":
                return await self._detected(callback, form)
            case _:
                status = form.get("CallStatus", "unknown")
                answered_by = form.get("AnsweredBy")
                return Answer(receipts=(_receipt(callback.ref, form, _outcome(status, answered_by)),))

    async def _pressed(self, callback: Callback, form: dict[str, str], script: Script) -> Answer:
        speech = _speech(callback.query.get("lang", ""))
        match form.get("Digits"):
            case "1":
                second = await script()
                said = [second.reveal("said after 1 was pressed")] if second else []
                return _say(
                    speech, [*said, speech.goodbye], _receipt(callback.ref, form, Outcome.CONVERSATION)
                )
            case "9":
                refused = _receipt(callback.ref, form, Outcome.ANSWERED, opt_out=True)
                return _say(speech, [speech.noted], refused)
            case _:
                return _say(speech, [speech.goodbye], _receipt(callback.ref, form, Outcome.ANSWERED))

    async def _detected(self, callback: Callback, form: dict[str, str]) -> Answer:
        outcome = _outcome("in-progress", form.get("AnsweredBy") or "unknown")
        if outcome is Outcome.VOICEMAIL:
            await self._hang_up(form.get("CallSid", ""))
        return Answer(receipts=(_receipt(callback.ref, form, outcome),))

    async def _hang_up(self, sid: str) -> None:
        """End a call; if that fails, it says its first stage to the machine and ends by itself."""
        with suppress(TimeoutError):
            async with asyncio.timeout(HANG_UP_S):
                await self._api.call(self._api.client.calls(sid).update_async(status="completed"))

    async def look_up(self, ref: str, address: Pii[str], started_at: datetime) -> Receipt | NotShown | None:
        """Find the call among the recipient's newest: same caller, created during the call, the only one.

        Twilio lists neither our callback URL nor takes a key of ours, so two candidates prove nothing: None.
        """
        number = address.reveal("asked of Twilio")
        found, _ = await self._api.call(
            self._api.client.calls.list_async(to=number, from_=self._sender, limit=LISTED)
        )
        one = None if found is None else only(found, started_at, whole=len(found) < LISTED)
        if one is None or isinstance(one, NotShown):
            return one
        return Receipt(outcome=_outcome(str(one.status), one.answered_by), ref=ref, provider_id=one.sid)

    async def cancel(self, provider_id: str) -> bool:
        """Ask for a call back; Twilio does that while it is queued or ringing."""
        call, _ = await self._api.call(self._api.client.calls(provider_id).update_async(status="canceled"))
        return call is not None and str(call.status) == "canceled"

    async def check(self) -> Checked:
        """Ask for the account; nobody is called."""
        return await self._api.check()

    async def aclose(self) -> None:
        """Let go of connections."""
        await self._api.aclose()


def first_stage(message: Message) -> str:
    """TwiML that says the first stage, waits for one key, and says goodbye when none comes."""
    speech = _speech(message.rendered.language)
    response = VoiceResponse()
    gather = response.gather(
        input="dtmf",
        num_digits=1,
        timeout=KEY_WAIT_S,
        action=_event(message.callback_url, f"digits&lang={speech.tag}"),
        method="POST",
    )
    gather.say(message.rendered.text.reveal("said by Twilio"), language=speech.tag)
    response.say(speech.goodbye, language=speech.tag)
    response.hangup()
    return str(response)


def _say(speech: Speech, texts: list[str], receipt: Receipt) -> Answer:
    response = VoiceResponse()
    for text in texts:
        response.say(text, language=speech.tag)
    response.hangup()
    return Answer(status=200, content_type="text/xml", body=str(response).encode(), receipts=(receipt,))


def _speech(language: str) -> Speech:
    return SPEECH.get(language.partition("-")[0].lower(), SPEECH["en"])


def _event(callback_url: str, event: str) -> str:
    mark = "&" if "?" in callback_url else "?"
    return f"{callback_url}{mark}event={event}{RETRIES}"


def _outcome(status: str, answered_by: str | None) -> Outcome:
    """What is not surely a machine (`machine_…`, `fax`) was answered."""
    if answered_by and status in {"in-progress", "completed"}:
        machine = answered_by.startswith(("machine", "fax"))
        return Outcome.VOICEMAIL if machine else Outcome.ANSWERED
    return STATUSES.get(status, STATUSES["unknown"])


def _receipt(ref: str, form: dict[str, str], outcome: Outcome, *, opt_out: bool = False) -> Receipt:
    error = form.get("ErrorCode", "")
    code = error if error.isdecimal() else None
    row = CODES.get(error)
    return Receipt(
        outcome=outcome,
        ref=ref,
        provider_id=form.get("CallSid"),
        at=_instant(form.get("Timestamp")),
        code=code,
        opt_out=opt_out,
        address_dead=row is not None and row.ending is HandOver.PERMANENT_RECIPIENT,
    )


def _instant(timestamp: str | None) -> datetime | None:
    """RFC 2822 with an offset, as Twilio writes it; None where it is not."""
    try:
        instant = parsedate_to_datetime(timestamp or "")
    except ValueError:
        return None
    return instant.astimezone(UTC) if instant.tzinfo else None
