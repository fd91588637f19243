"""SMS through Twilio's Programmable Messaging (REST API 2010-04-01, `Messages`).

Twilio's creates are not idempotent (twilio.com/docs/api/errors/20500), so nothing is ever sent a second
time. Our ref is the last part of the status callback's URL: the first callback heals an answer that was lost.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import ClassVar

from pydantic import Field

from channels._http import read_settings
from channels._http1 import AT_ONCE
from channels._twilio import LISTED, LONGEST, RETRIES, Api, Credentials, Row, handed, only, rows
from gateway.domain import Account, Channel, Handed, HandOver, Message, NotShown, Outcome, Receipt
from gateway.masking import Pii
from gateway.ports import Answer, Callback, Checked, Script, Tools

MAX_VALIDITY_S = 36_000
"""The longest that Twilio keeps a message in its queue, in seconds."""


class Settings(Credentials):
    """An account's credentials, and a number, a sender name or a messaging service (`MG…`) to send from."""

    sender: str = Field(pattern=r"^(\+?[0-9]{3,15}|[A-Za-z0-9 ]{1,11}|MG[0-9a-fA-F]{32})$")


CODES: Mapping[str, Row] = {
    **rows(HandOver.PERMANENT_RECIPIENT, "21211 21265 21268 21614 21635 30005 30006 63003 63024"),
    **rows(HandOver.OPT_OUT, "21610 30004 30640 63033"),
    **rows(HandOver.RETRY_AFTER, "http_429 20429 63017 63018", wait_s=2, reach="rate"),
    **rows(HandOver.RETRY_AFTER, "21611 30001 30017 30022", wait_s=60, reach="rate"),
    **rows(HandOver.RETRY_AFTER, "14107", wait_s=60, reach="recipient"),
    **rows(HandOver.RETRY_AFTER, "30610", wait_s=3600, reach="recipient"),
    **rows(HandOver.RETRY_AFTER, "30023 63038", wait_s=3600, reach="account"),
    **rows(HandOver.EXPIRED, "30036"),
    **rows(HandOver.CONTENT, "21602 21605 21617 21619 21620 21655 21656 21657 21658 30007 30038"),
    **rows(HandOver.CONTENT, "63013 63016 63021 63027 63028 63041"),
    **rows(HandOver.CONFIG, "http_401 http_403 http_404 20003 20404 21212 21267 21408 21601 21603 21604"),
    **rows(HandOver.CONFIG, "21606 21608 21609 21612 21659 21660 21661 21703 21704 21705 30002 30024"),
    **rows(HandOver.CONFIG, "30032 30034 30450 35111 63001 63007 63020"),
    **rows(HandOver.UNKNOWN, "http_408"),
    "unknown": Row(HandOver.CONTENT),
}
"""Twilio's error codes and HTTP statuses (twilio.com/docs/api/errors), at once or in a callback.

Refused and not listed: this message is at fault. 30003, 30008, 30410 and 30500 come in callbacks only
and mean no more than `failed`.
"""

GIVEN_UP = frozenset({"30001", "30022", "30023"})
"""Codes of a callback `failed` or `undelivered` by which there was too much, and surely nobody was reached.

30001: Twilio's own queue ran over. 30022, 30023: the carriers refused it, for the second or for the day.
"""

STATUSES: Mapping[str, Outcome] = {
    "accepted": Outcome.ACCEPTED,
    "scheduled": Outcome.ACCEPTED,
    "queued": Outcome.ACCEPTED,
    "sending": Outcome.ACCEPTED,
    "sent": Outcome.ACCEPTED,
    "delivered": Outcome.DELIVERED,
    "partially_delivered": Outcome.DELIVERED,
    "read": Outcome.READ,
    "undelivered": Outcome.FAILED,
    "failed": Outcome.FAILED,
    "canceled": Outcome.FAILED,
    "unknown": Outcome.UNKNOWN,
}
"""MessageStatus → outcome. `sent` is the carrier's yes and stays for ever where there are no receipts."""


class Adapter:
    """Twilio SMS for one account."""

    channel: ClassVar[Channel] = Channel.SMS
    takes_free_text: ClassVar[bool] = True
    technology: ClassVar[str | None] = None
    provider_signs: ClassVar[bool] = True
    final: ClassVar[frozenset[Outcome]] = frozenset({Outcome.DELIVERED, Outcome.READ, Outcome.FAILED})
    final_after: ClassVar[timedelta] = timedelta(hours=72)
    call_timeout: ClassVar[timedelta] = LONGEST
    at_once: ClassVar[int] = AT_ONCE
    reach: ClassVar[timedelta] = timedelta(0)

    def __init__(self, account: Account, tools: Tools) -> None:  # noqa: ARG002 (the seam's signature)
        settings = read_settings(Settings, account)
        self._api = Api(settings)
        self._sender = settings.sender
        self._by_service = settings.sender.startswith("MG") and len(settings.sender) == 34

    async def send(self, message: Message) -> Handed:
        """Create one Message; Twilio drops it itself when it is still queued at `deliver_by`."""
        left_s = (message.deliver_by - message.now) // timedelta(seconds=1)
        if left_s < 1:
            return Handed(ending=HandOver.EXPIRED)
        answer, exchange = await self._api.call(
            self._api.client.messages.create_async(
                to=message.address.reveal("sent to Twilio"),
                body=message.rendered.text.reveal("sent to Twilio"),
                status_callback=message.callback_url + RETRIES,
                validity_period=min(left_s, MAX_VALIDITY_S),
                **({"messaging_service_sid" if self._by_service else "from_": self._sender}),
            )
        )
        return handed(answer, exchange, CODES)

    async def receive(self, callback: Callback, script: Script) -> Answer:  # noqa: ARG002 (the seam's signature)
        """Read a status callback; 403 unless Twilio signed it."""
        form = self._api.form(callback)
        if form is None:
            return Answer(status=403)
        status = form.get("MessageStatus") or form.get("SmsStatus") or "unknown"
        return Answer(
            receipts=(_receipt(callback.ref, form.get("MessageSid"), status, form.get("ErrorCode")),)
        )

    async def look_up(self, ref: str, address: Pii[str], started_at: datetime) -> Receipt | NotShown | None:
        """Find the message among the recipient's newest: same sender, created during the call, the only one.

        Twilio lists neither our callback URL nor takes a key of ours, so two candidates prove nothing: None.
        No DateSent filter: it hides what is still queued (github.com/twilio/twilio-java, 442).
        """
        sender = {} if self._by_service else {"from_": self._sender}
        found, _ = await self._api.call(
            self._api.client.messages.list_async(to=address.reveal("asked of Twilio"), limit=LISTED, **sender)
        )
        if found is None:
            return None
        mine = [m for m in found if not self._by_service or m.messaging_service_sid == self._sender]
        one = only(mine, started_at, whole=len(found) < LISTED)
        if one is None or isinstance(one, NotShown):
            return one
        return _receipt(ref, one.sid, str(one.status), one.error_code)

    async def cancel(self, provider_id: str) -> bool:
        """Ask for a message back; Twilio gives it back while it is scheduled, else it answers 30409."""
        message, _ = await self._api.call(
            self._api.client.messages(provider_id).update_async(status="canceled")
        )
        return message is not None and str(message.status) == "canceled"

    async def check(self) -> Checked:
        """Ask for the account; nothing is sent."""
        return await self._api.check()

    async def aclose(self) -> None:
        """Let go of connections."""
        await self._api.aclose()


def _receipt(ref: str, sid: str | None, status: str, error: object) -> Receipt:
    code = str(error) if error and str(error).isdecimal() else None
    row = CODES.get(code or "")
    outcome = STATUSES.get(status, STATUSES["unknown"])
    if outcome is Outcome.FAILED and row is not None and code in GIVEN_UP:
        refusal = Handed(ending=row.ending, code=code, retry_after=row.wait, reach=row.reach)
        return Receipt(outcome=Outcome.REJECTED, ref=ref, provider_id=sid, code=code, refusal=refusal)
    return Receipt(
        outcome=outcome,
        ref=ref,
        provider_id=sid,
        code=code,
        opt_out=row is not None and row.ending is HandOver.OPT_OUT,
        address_dead=row is not None and row.ending is HandOver.PERMANENT_RECIPIENT,
    )
