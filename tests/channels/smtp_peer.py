"""A server that speaks SMTP by a script, and what tests of e-mail share."""

from __future__ import annotations

import asyncio
import ipaddress
import ssl
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from channels._relay import Bounds
from channels.smtp import Adapter
from gateway.domain import Account, Message, Mode, Rendered, Tenant
from gateway.masking import Pii
from gateway.ports import Tools

NOW = datetime(2026, 11, 30, 9, 30, tzinfo=UTC)
REF = "at_01KB9Z6Q3ZJ5V8W2T4R7M1N0PQ"
UNSUBSCRIBE = f"https://gw.example/cb/smtp/mail/{REF}?t=u7dT"


FRIENDLY = {
    "connect": "220 relay.example ESMTP",
    "DATA": "354 go on",
    "QUIT": "221 bye",
    "AUTH": "235 2.7.0 welcome",
    "dot": "250 2.0.0 Ok: queued as 4XbT2k0z",
}


@dataclass
class Peer:
    """Answers each step (`connect`, `dot`, a command's verb) by `script`, else as a friendly relay does.

    A step's entry is a reply, `drop`, `stall` or `wait SECONDS REPLY`, or a list of such, used one by one.
    """

    script: dict[str, str | list[str]] = field(default_factory=dict)
    offers: tuple[str, ...] = ()
    port: int = 0
    connections: int = 0
    commands: list[str] = field(default_factory=list)
    mails: list[bytes] = field(default_factory=list)
    taken: asyncio.Event = field(default_factory=asyncio.Event)
    left: asyncio.Event = field(default_factory=asyncio.Event)

    def friendly(self, step: str) -> str:
        if step == "EHLO":
            lines = ["relay.example", *self.offers]
            return "\r\n".join([f"250-{line}" for line in lines[:-1]] + [f"250 {lines[-1]}"])
        return FRIENDLY.get(step, "250 2.1.0 Ok")

    async def converse(self, reader, writer):
        self.connections += 1
        try:
            await self.answer("connect", writer)
            while line := await reader.readline():
                self.commands.append(line.decode().rstrip("\r\n"))
                step = line.split()[0].decode().upper()
                go_on = await self.answer(step, writer)
                if step == "DATA" and go_on == "3":
                    text = await reader.readuntil(b"\r\n.\r\n")
                    self.mails.append(text[:-3].replace(b"\r\n..", b"\r\n."))
                    self.taken.set()
                    await self.answer("dot", writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self.left.set()
            writer.close()

    async def answer(self, step: str, writer) -> str:
        reply = self.script.get(step, self.friendly(step))
        if isinstance(reply, list):
            reply = reply.pop(0) if reply else self.friendly(step)
        if reply == "drop":
            writer.transport.abort()
            raise ConnectionResetError
        if reply == "stall":
            await asyncio.Event().wait()
        if reply.startswith("wait "):
            _, seconds, reply = reply.split(" ", 2)
            await asyncio.sleep(float(seconds))
        writer.write(reply.encode() + b"\r\n")
        await writer.drain()
        if reply.startswith(("421", "221")):
            writer.close()
            raise ConnectionResetError
        return reply[:1]

    def verbs(self) -> list[str]:
        return [command.split()[0] for command in self.commands]


@asynccontextmanager
async def peer(script=None, *offers: str, tls: ssl.SSLContext | None = None):
    it = Peer(dict(script or {}), offers)
    tasks = set()

    async def converse(reader, writer):
        tasks.add(asyncio.current_task())
        await it.converse(reader, writer)

    server = await asyncio.start_server(converse, "127.0.0.1", 0, ssl=tls)
    it.port = server.sockets[0].getsockname()[1]
    try:
        yield it
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()


def account(
    endpoint: str | None, *, sender="reminders@bank.example", credentials=None, **settings
) -> Account:
    return Account(
        tenant=Tenant("acme/test"),
        name="mail",
        mode=Mode.TEST,
        adapter="smtp",
        sender=sender,
        endpoint=endpoint,
        credentials={name: Pii(value) for name, value in (credentials or {}).items()},
        settings={name: str(value) for name, value in settings.items()},
    )


def message(
    to="borrower@example.com",
    subject="Payment due",
    text="Please pay.",
    *,
    ref=REF,
    unsubscribe=UNSUBSCRIBE,
    left=timedelta(hours=2),
) -> Message:
    return Message(
        ref=ref,
        address=Pii(to),
        rendered=Rendered(
            language="en", text=Pii(text), sha256="", subject=subject if subject is None else Pii(subject)
        ),
        now=NOW,
        deliver_by=NOW + left,
        callback_url=f"https://gw.example/cb/smtp/mail/{ref}",
        unsubscribe_url=unsubscribe,
    )


QUICK = Bounds(approach=2, dot=2)
TOOLS = Tools(tokens=None, public_url="https://gw.example", callback_token="t")


@asynccontextmanager
async def mailer(
    port: int, *, scheme="smtp", host="127.0.0.1", credentials=None, bounds: Bounds = QUICK, **settings
):
    given = account(f"{scheme}://{host}:{port}", credentials=credentials, **settings)
    adapter = Adapter(given, TOOLS, bounds)
    try:
        yield adapter
    finally:
        await adapter.aclose()


def certificate(folder, host="127.0.0.1"):
    """A self-signed certificate for `host`: the server's context, and the PEM file that makes it trusted."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
    now = datetime.now(UTC)
    cert = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(host))]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    trusted, private = folder / f"{host}.pem", folder / f"{host}.key"
    trusted.write_bytes(cert.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(trusted, private)
    return context, trusted
