"""What the Twilio stand-in does on its own after a create: deliver, dial, and call back, signed."""

from __future__ import annotations

import asyncio
import hmac
import secrets
from base64 import b64encode
from collections.abc import Coroutine, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import format_datetime
from hashlib import sha1
from typing import Any
from urllib.parse import parse_qsl
from xml.etree.ElementTree import Element

from aiohttp import ClientError, ClientSession, ClientTimeout

Json = dict[str, Any]
MAX_RETRIES = 5
FIRST_PAUSE_S = 0.5


def signature(secret: str, url: str, fields: Mapping[str, str]) -> str:
    """X-Twilio-Signature (twilio.com/docs/usage/security): HMAC-SHA1 of the URL and the sorted fields."""
    signed = url + "".join(name + fields[name] for name in sorted(fields))
    return b64encode(hmac.digest(secret.encode(), signed.encode(), sha1)).decode()


class Callbacks:
    """Work that goes on after an answer, with `delay` seconds between its steps."""

    def __init__(self, delay: float, secret: str) -> None:
        self.delay = delay
        self._secret = secret
        self._session = ClientSession(timeout=ClientTimeout(total=15, connect=5))
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Let it run until it ends or `aclose`."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def aclose(self) -> None:
        """Drop what is under way."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._session.close()

    async def pause(self) -> None:
        """Let the time between two steps pass."""
        await asyncio.sleep(self.delay)

    async def post(self, callback: str, fields: Mapping[str, str]) -> None:
        """Call back until it is taken, as often as the URL's fragment allows (`rc`, `rp`)."""
        url, _, fragment = callback.partition("#")
        if not url:
            return
        override = dict(parse_qsl(fragment))
        headers = {
            "X-Twilio-Signature": signature(self._secret, url, fields),
            "I-Twilio-Idempotency-Token": secrets.token_hex(16),
        }
        for number in range(1 + min(int(override.get("rc", "1")), MAX_RETRIES)):
            if number:
                await asyncio.sleep(FIRST_PAUSE_S * 2 ** (number - 1))
            with suppress(ClientError, OSError):
                async with self._session.post(url, data=fields, headers=headers) as reply:
                    if reply.ok or override.get("rp") != "all":
                        return


async def deliver(callbacks: Callbacks, message: Json, validity_s: int, callback: str) -> None:
    """Bring a message to its end, as its recipient's last digit has it."""
    end = ("undelivered", 30003) if message["to"].endswith("7") else ("delivered", None)
    steps: list[tuple[str, int | None]] = [("queued", None), ("sent", None), end]
    if callbacks.delay > validity_s:
        steps = [("failed", 30036)]
    for status, error in steps:
        await callbacks.pause()
        message |= {"status": status, "error_code": error}
        await callbacks.post(callback, _message_fields(message))


def _message_fields(message: Json) -> dict[str, str]:
    fields = {
        "MessageSid": message["sid"],
        "SmsSid": message["sid"],
        "MessageStatus": message["status"],
        "SmsStatus": message["status"],
        "AccountSid": message["account_sid"],
        "From": message["from"],
        "MessagingServiceSid": message["messaging_service_sid"],
        "To": message["to"],
        "ApiVersion": "2010-04-01",
        "ErrorCode": message["error_code"],
    }
    return {name: str(value) for name, value in fields.items() if value is not None}


class Conversation:
    """One call, from dialling to its end, as its recipient's last digit has it."""

    def __init__(self, callbacks: Callbacks, call: Json, form: Mapping[str, str], twiml: Element) -> None:
        self._callbacks = callbacks
        self._call = call
        self._form = form
        self._twiml = twiml
        self._events = form.get("StatusCallbackEvent", "completed").split()
        self._sequence = 0

    async def run(self) -> None:
        """Dial, let the recipient do what it does, and end."""
        await self._progress("initiated", "initiated")
        await self._progress("ringing", "ringing")
        match self._call["to"][-1]:
            case "1":
                await self._end("no-answer")
            case "2":
                await self._end("busy")
            case "3":
                await self._answer("machine_start", None)
            case "5":
                await self._answer("human", None)
            case "9":
                await self._answer("human", "9")
            case _:
                await self._answer("human", "1")

    async def _answer(self, answered_by: str, key: str | None) -> None:
        """Detection runs before the first word, or beside it with `AsyncAmd`."""
        beside = self._form.get("AsyncAmd") == "true"
        if "MachineDetection" in self._form and not beside:
            self._call["answered_by"] = answered_by
        await self._progress("answered", "in-progress")
        if beside:
            await self._detect(answered_by)
        await self._press(key)
        await self._end("completed")

    async def _detect(self, answered_by: str) -> None:
        self._call["answered_by"] = answered_by
        verdict = {"CallSid": self._call["sid"], "AccountSid": self._call["account_sid"]}
        verdict |= {"AnsweredBy": answered_by, "MachineDetectionDuration": "2400"}
        await self._callbacks.post(self._form.get("AsyncAmdStatusCallback", ""), verdict)

    async def _press(self, key: str | None) -> None:
        gather = self._twiml.find("Gather")
        if key is None or gather is None or self._call["status"] != "in-progress":
            return
        await self._callbacks.pause()
        await self._callbacks.post(gather.get("action", ""), self._fields("in-progress") | {"Digits": key})

    async def _progress(self, event: str, status: str) -> None:
        await self._callbacks.pause()
        if self._call["status"] == "canceled":
            return
        self._call["status"] = "queued" if status == "initiated" else status
        if event in self._events:
            await self._callbacks.post(self._form.get("StatusCallback", ""), self._fields(status))

    async def _end(self, status: str) -> None:
        await self._callbacks.pause()
        if self._call["status"] != "canceled":
            self._call["status"] = status
        if "completed" in self._events:
            ended = self._fields(self._call["status"]) | {"CallDuration": "12"}
            await self._callbacks.post(self._form.get("StatusCallback", ""), ended)

    def _fields(self, status: str) -> dict[str, str]:
        self._sequence += 1
        answered_by = self._call["answered_by"]
        return {
            "CallSid": self._call["sid"],
            "AccountSid": self._call["account_sid"],
            "From": self._call["from"],
            "To": self._call["to"],
            "CallStatus": status,
            "ApiVersion": "2010-04-01",
            "Direction": "outbound-api",
            "Timestamp": format_datetime(datetime.now(UTC)),
            "CallbackSource": "call-progress-events",
            "SequenceNumber": str(self._sequence - 1),
            **({"AnsweredBy": answered_by} if answered_by else {}),
        }
