"""A relay that takes mail and delivers it nowhere: SMTP by aiosmtpd, each mail in the ledger before its 250.

What happens follows from how the recipient's local part begins:

    bounce    550 5.1.1 at RCPT
    full      452 4.2.2 at RCPT
    fast      450 4.7.28 at RCPT: this sender comes too fast
    grey      451 4.7.1 at RCPT the first time that this sender tries, then taken
    spam      554 5.7.1 after the mail's text
    swallow   taken, and the connection is cut instead of an answer
    others    taken
"""

from __future__ import annotations

import asyncio
import secrets
from datetime import UTC, datetime
from email import message_from_bytes
from email.policy import default
from typing import cast

from aiosmtpd.smtp import SMTP, Envelope, Session

from gateway.simulators.ledger import Ledger
from gateway.simulators.running import Running

REFUSALS = {
    "bounce": "550 5.1.1 no such user here",
    "full": "452 4.2.2 mailbox full",
    "fast": "450 4.7.28 too many mails from you lately",
    "grey": "451 4.7.1 greylisted, try again later",
}


class Conversation(SMTP):
    """One client's connection, one of `open_ones` until it is over."""

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
    """aiosmtpd's handler: one ledger, and the pairs of sender and recipient that greylisting has seen."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._seen: set[tuple[str, str]] = set()

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


async def serve(*, host: str, port: int, ledger: Ledger, delay: float, push_url: str | None) -> Running:  # noqa: ARG001
    """Serve on `host:port`; a relay gives no receipts, so nothing is pushed and `delay` has no use."""
    relay, open_ones = Relay(ledger), set[Conversation]()
    server = await asyncio.get_running_loop().create_server(
        lambda: Conversation(relay, open_ones), host, port
    )

    async def close() -> None:
        server.close()
        await asyncio.gather(*(conversation.cut() for conversation in open_ones))
        await server.wait_closed()

    return Running(port=int(server.sockets[0].getsockname()[1]), close=close)
