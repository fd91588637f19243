"""What the obvious program is made of: quiet hours, caps, a text, a send, one row. The rivals differ in who runs it.

Everything that is known to make such a program faster is done: compiled templates, connections that are kept, scripts
in Redis, a pool of PostgreSQL connections, mail put together without `EmailMessage`, uvloop.
"""

from __future__ import annotations

import asyncio
import os
from base64 import b64encode
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from email.mime.text import MIMEText
from email.utils import formatdate, make_msgid
from functools import lru_cache
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import jinja2
from limits import RateLimitItemPerDay
from twilio.rest import Client

HERE = Path(__file__).resolve().parent
TEMPLATES = jinja2.Environment(undefined=jinja2.StrictUndefined, autoescape=False)  # noqa: S701 (plain text)
TEXTS = {
    channel: TEMPLATES.from_string((HERE / f"pre_due.{channel}.j2").read_text())
    for channel in ("sms", "email")
}
OPEN, CLOSE = 8, 22
"""The hours of contact by the borrower's own clock."""
CAPS = (RateLimitItemPerDay(3), RateLimitItemPerDay(7, 7))
"""Three in a day and seven in seven days, in moving windows."""
SENDER_NUMBER, SENDER_MAIL = "+18335550100", "reminders@example.com"
SID, TOKEN = "AC" + "0" * 32, "bench"
INSERT = "INSERT INTO sent (reminder, borrower, channel, address, text, provider_id) VALUES ($1, $2, $3, $4, $5, $6)"
ASIDE = timedelta(seconds=float(os.environ.get("BENCH_OFFSET_S", "0")))
"""How far the clock that rules see is from this machine's, so that a run at night is one by day."""

Job = Mapping[str, Any]


@lru_cache
def zone(name: str) -> ZoneInfo:
    """A time zone, read once."""
    return ZoneInfo(name)


def allowed_now(job: Job) -> bool:
    """Whether the borrower's own clock stands within the hours of contact."""
    return OPEN <= (datetime.now(UTC) + ASIDE).astimezone(zone(job["zone"])).hour < CLOSE


def text_of(job: Job) -> tuple[str, str]:
    """Subject (empty for SMS) and text."""
    filled = TEXTS[job["channel"]].render(
        name=job["name"],
        creditor=job["creditor"],
        amount=Decimal(job["amount"]),
        due=date.fromisoformat(job["due_date"]),
        pay_url=job["pay_url"],
    )
    if job["channel"] == "sms":
        return "", filled
    subject, _, text = filled.removeprefix("Subject: ").partition("\n\n")
    return subject, text


def mail_of(job: Job, subject: str, text: str) -> bytes:
    """The mail, as it goes over the wire."""
    mail = MIMEText(text, "plain", "utf-8")
    mail["Subject"] = f"=?utf-8?b?{b64encode(subject.encode()).decode()}?="
    mail["From"] = SENDER_MAIL
    mail["To"] = job["address"]
    mail["Date"] = formatdate(usegmt=True)
    mail["Message-ID"] = make_msgid(domain="example.com")
    return mail.as_bytes()


def twilio(http: Any) -> Client:
    """Twilio's own client, turned to the stand."""
    client = Client(SID, TOKEN, http_client=http)
    client.api.base_url = f"http://127.0.0.1:{os.environ['BENCH_TWILIO']}"
    return client


def row_of(job: Job, text: str, provider_id: str | None) -> tuple[Any, ...]:
    """What INSERT takes."""
    return job["id"], job["borrower"], job["channel"], job["address"], text, provider_id


class Sender:
    """Both asynchronous clients, with connections that are kept."""

    MAILS_AT_ONCE = 16

    def __init__(self) -> None:
        # Imported here: Celery's children need neither.
        from aiosmtplib import SMTP  # noqa: PLC0415
        from twilio.http.async_http_client import AsyncTwilioHttpClient  # noqa: PLC0415

        self._http = AsyncTwilioHttpClient()
        self._twilio = twilio(self._http)
        self._links: asyncio.LifoQueue[SMTP] = asyncio.LifoQueue()
        port = int(os.environ["BENCH_SMTP"])
        for _ in range(self.MAILS_AT_ONCE):
            self._links.put_nowait(SMTP(hostname="127.0.0.1", port=port, timeout=30, start_tls=False))

    async def send(self, job: Job, subject: str, text: str) -> str | None:
        """Hand one over; the provider's id."""
        if job["channel"] == "sms":
            made = await self._twilio.messages.create_async(to=job["address"], body=text, from_=SENDER_NUMBER)
            return str(made.sid)
        link = await self._links.get()
        try:
            if not link.is_connected:
                await link.connect()
            await link.sendmail(SENDER_MAIL, [job["address"]], mail_of(job, subject, text))
        finally:
            self._links.put_nowait(link)
        return None

    async def aclose(self) -> None:
        """Let go of the connections."""
        await self._http.close()
        while not self._links.empty():
            self._links.get_nowait().close()


def with_uvloop() -> None:
    """Use uvloop, where it is installed."""
    try:
        import uvloop  # noqa: PLC0415
    except ImportError:
        return
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
