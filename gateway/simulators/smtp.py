"""A relay that takes mail and delivers it nowhere: SMTP by aiosmtpd, each mail in the ledger before its 250.

What happens follows from how the recipient's local part begins:

    bounce    550 5.1.1 at RCPT
    full      452 4.2.2 at RCPT
    fast      450 4.7.28 at RCPT: this sender comes too fast
    grey      451 4.7.1 at RCPT the first time that this sender tries, then taken
    spam      554 5.7.1 after the mail's text
    swallow   taken, and the connection is cut instead of an answer
    dead      taken, and reported as failed (5.1.1)
    late      taken, and reported as delayed (4.4.1)
    others    taken

It offers DSN (RFC 3461). Reports (RFC 3464) that a mail asked for are posted as mails to one URL, if there is one, as a
mail server's pipe does with those that come to the return path: of `dead` and `late`, and of others that they were
delivered.
"""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import Callable
from datetime import UTC, datetime
from email import message_from_bytes
from email.policy import default
from http import HTTPStatus
from typing import cast

from aiosmtpd.smtp import SMTP, Envelope, Session, syntax

from gateway.simulators.ledger import Ledger
from gateway.simulators.running import Running
from gateway.simulators.wire import Pushes

REFUSALS = {
    "bounce": "550 5.1.1 no such user here",
    "full": "452 4.2.2 mailbox full",
    "fast": "450 4.7.28 too many mails from you lately",
    "grey": "451 4.7.1 greylisted, try again later",
}


ENDS = {"dead": ("FAILURE", "failed", "5.1.1"), "late": ("DELAY", "delayed", "4.4.1")}
"""What is reported of a mail that was taken: its word in NOTIFY, and action and status."""
DELIVERED = ("SUCCESS", "delivered", "2.0.0")
PAUSES = (0.5, 1.0, 2.0)
_DSN = re.compile(r" (RET|ENVID|NOTIFY|ORCPT)=(\S+)", re.IGNORECASE)


class Conversation(SMTP):
    """One client's connection, one of `open_ones` until it is over. `dsn`: what its mail asks for by RFC 3461."""

    def __init__(self, handler: Relay, open_ones: set[Conversation]) -> None:
        super().__init__(
            handler,
            hostname="relay.simulator.example",
            ident="simulator",
            enable_SMTPUTF8=True,
            loop=asyncio.get_running_loop(),
        )
        self._open_ones = open_ones
        self._over = asyncio.Event()
        self.dsn: dict[str, str] = {}

    @syntax("MAIL FROM: <address>", extended=" [SP <mail-parameters>]")
    async def smtp_MAIL(self, arg: str | None) -> None:  # noqa: N802 (aiosmtpd's name)
        """MAIL, which may ask for reports."""
        self.dsn.clear()
        await super().smtp_MAIL(self._without_dsn(arg))

    @syntax("RCPT TO: <address>", extended=" [SP <mail-parameters>]")
    async def smtp_RCPT(self, arg: str | None) -> None:  # noqa: N802
        """RCPT, which may say of what."""
        await super().smtp_RCPT(self._without_dsn(arg))

    def _without_dsn(self, arg: str | None) -> str | None:
        """What aiosmtpd understands of a command; the rest is noted."""
        self.dsn |= {found[1].upper(): found[2] for found in _DSN.finditer(arg or "")}
        return arg and _DSN.sub("", arg)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Join the open ones."""
        super().connection_made(transport)
        self._open_ones.add(self)

    def connection_lost(self, error: Exception | None) -> None:
        """Leave them."""
        super().connection_lost(error)
        self._open_ones.discard(self)
        self._over.set()

    async def cut(self) -> None:
        """Cut the connection without a word."""
        if self.transport is not None:
            cast("asyncio.WriteTransport", self.transport).abort()
        await self._over.wait()


class Relay:
    """aiosmtpd's handler: one ledger, and the pairs of sender and recipient that greylisting has seen.

    `post` brings a report to whoever reads them.
    """

    def __init__(self, ledger: Ledger, post: Callable[[bytes], None]) -> None:
        self._ledger = ledger
        self._post = post
        self._seen: set[tuple[str, str]] = set()

    async def handle_EHLO(  # noqa: N802 (aiosmtpd's name)
        self, _server: Conversation, session: Session, _envelope: Envelope, hostname: str, answers: list[str]
    ) -> list[str]:
        """Offer DSN, too."""
        session.host_name = hostname
        return [*answers[:-1], "250-DSN", answers[-1]]

    async def handle_RCPT(  # noqa: N802 (aiosmtpd's name)
        self, _server: Conversation, _session: Session, envelope: Envelope, address: str, _options: list[str]
    ) -> str:
        """Answer RCPT by the recipient's local part."""
        pair = (str(envelope.mail_from), address)
        start = next((start for start in REFUSALS if address.startswith(start)), None)
        if start is not None and pair not in self._seen:
            if start == "grey":
                self._seen.add(pair)
            return REFUSALS[start]
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 Ok"

    async def handle_DATA(self, server: Conversation, _session: Session, envelope: Envelope) -> str:  # noqa: N802
        """Keep the mail, then answer."""
        to = str(envelope.rcpt_tos[0])
        if to.startswith("spam"):
            return "554 5.7.1 message refused as spam"
        queue_id = secrets.token_hex(8).upper()
        self._write(to, queue_id, envelope.original_content or b"")
        wanted, action, status = next((ENDS[start] for start in ENDS if to.startswith(start)), DELIVERED)
        if wanted in server.dsn.get("NOTIFY", "").upper().split(","):
            self._post(_report(str(envelope.mail_from), to, server.dsn.get("ENVID"), action, status))
        if to.startswith("swallow"):
            await server.cut()
        return f"250 2.0.0 Ok: queued as {queue_id}"

    def _write(self, to: str, queue_id: str, content: bytes) -> None:
        mail = message_from_bytes(content, policy=default)
        self._ledger.write(
            provider="smtp",
            kind="email",
            to=to,
            ref=str(mail["Message-ID"] or "").strip("<>").partition("@")[0] or None,
            id=queue_id,
            subject=str(mail["Subject"] or ""),
            text=mail.get_content(),
            at=datetime.now(UTC).isoformat(),
        )


def _report(return_path: str, to: str, envid: str | None, action: str, status: str) -> bytes:
    """What a mail server mails to the return path."""
    about = ["Reporting-MTA: dns; relay.simulator.example"]
    about += [f"Original-Envelope-Id: {envid}"] if envid else []
    lines = [
        "From: MAILER-DAEMON@relay.simulator.example",
        f"To: {return_path}",
        "Subject: Delivery report",
        "MIME-Version: 1.0",
        "Content-Type: multipart/report; report-type=delivery-status; boundary=report",
        "",
        "--report",
        "Content-Type: text/plain",
        "",
        f"Your mail: {action}.",
        "--report",
        "Content-Type: message/delivery-status",
        "",
        *about,
        "",
        f"Final-Recipient: rfc822; {to}",
        f"Action: {action}",
        f"Status: {status}",
        "",
        "--report--",
        "",
    ]
    return "\r\n".join(lines).encode()


def _taken(status: int, _body: bytes) -> bool:
    """Whether a report was taken: curl's `--fail` goes by the same."""
    return status < HTTPStatus.BAD_REQUEST


async def serve(*, host: str, port: int, ledger: Ledger, delay: float, push_url: str | None) -> Running:
    """Serve on `host:port`; reports go to `push_url` `delay` seconds after each mail."""
    pushes, open_ones = Pushes(PAUSES, _taken), set[Conversation]()

    def post(report: bytes) -> None:
        if push_url is not None:
            pushes.later(delay, lambda: push_url, report, "message/rfc822")

    relay = Relay(ledger, post)
    server = await asyncio.get_running_loop().create_server(
        lambda: Conversation(relay, open_ones), host, port
    )

    async def close() -> None:
        server.close()
        await asyncio.gather(*(conversation.cut() for conversation in open_ones))
        await server.wait_closed()
        await pushes.aclose()

    return Running(port=int(server.sockets[0].getsockname()[1]), close=close)
