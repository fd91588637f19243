"""What the Twilio tests share: values, the callbacks' door, and endings that a raw server gives a request."""

from __future__ import annotations

import asyncio
import hashlib
import selectors
import socket
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from aiohttp import ClientSession, web

from gateway.domain import Account, Message, Mode, Receipt, Rendered, Tenant
from gateway.masking import Pii
from gateway.ports import Answer, Callback, Tools
from gateway.simulators.ledger import read

NOW = datetime(2026, 11, 24, 9, 30, tzinfo=UTC)
SID = "AC" + "0" * 32
TOKEN = "simulator"
REF = "at_01JDQ0000000000000000000AA"
SECOND = "您的贷款已逾期"


def account(adapter, endpoint, *, sender="+12025550100", settings=None, **credentials):
    given = {"account_sid": SID, "auth_token": TOKEN} | credentials
    return Account(
        tenant=Tenant("default/live"),
        name="tw",
        mode=Mode.LIVE,
        adapter=adapter,
        sender=sender,
        endpoint=endpoint,
        credentials={name: Pii(value) for name, value in given.items() if value is not None},
        settings=settings or {},
    )


def tools():
    return Tools(tokens=None, public_url="http://127.0.0.1:1", callback_token="t")


def message(
    to="+12025550110", *, text="您好", second=None, language="zh-CN", left=3600.0, callback="", ref=REF
):
    return Message(
        ref=ref,
        address=Pii(to),
        rendered=Rendered(
            language=language,
            text=Pii(text),
            sha256=hashlib.sha256(text.encode()).hexdigest(),
            second=second and Pii(second),
        ),
        now=NOW,
        deliver_by=NOW + timedelta(seconds=left),
        callback_url=callback or f"http://127.0.0.1:9/cb/x/tw/{ref}",
        unsubscribe_url="http://127.0.0.1:9/u/x",
    )


async def second_stage():
    return Pii(SECOND)


@dataclass
class Door:
    """Stands where the gateway's callback routes stand; keeps every receipt and answer."""

    url: str = ""
    adapter: object = None
    script: Callable[[], Awaitable[Pii[str] | None]] = second_stage
    receipts: list[Receipt] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    requests: list[Callback] = field(default_factory=list)
    refuse: int = 0
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    def callback_url(self, ref=REF):
        return f"{self.url}/cb/x/tw/{ref}?t=0123456789abcdef"

    async def handle(self, request):
        if self.refuse:
            self.refuse -= 1
            return web.Response(status=500)
        callback = Callback(
            method=request.method,
            url=self.url + request.path_qs,
            ref=request.match_info["ref"],
            headers=dict(request.headers),
            query=dict(request.query),
            body=await request.read(),
            now=datetime.now(UTC),
        )
        answer = await self.adapter.receive(callback, self.script)
        self.requests.append(callback)
        self.answers.append(answer)
        self.receipts.extend(answer.receipts)
        async with self.changed:
            self.changed.notify_all()
        return web.Response(status=answer.status, body=answer.body, content_type=answer.content_type)

    def outcomes(self):
        return [str(r.outcome) for r in self.receipts]

    async def until(self, condition):
        async with asyncio.timeout(10), self.changed:
            await self.changed.wait_for(lambda: condition(self))


@dataclass
class Simulator:
    """The shipped simulator, and what is in its ledger."""

    url: str
    path: object

    def ledger(self):
        return read(self.path)

    async def next(self, **fault):
        async with ClientSession() as session, session.post(f"{self.url}/_sim/next", json=fault) as reply:
            assert reply.status < 300


@dataclass
class Scripted:
    """A server that reads one request and does with the connection what the test says."""

    url: str
    requests: list[bytes]


def answering(status, body=b"", *headers):
    """Answer with raw bytes and close."""

    async def act(writer):
        lines = [
            f"HTTP/1.1 {status} X",
            f"Content-Length: {len(body)}",
            "Connection: close",
            *headers,
            "",
            "",
        ]
        writer.write("\r\n".join(lines).encode() + body)
        await writer.drain()

    return act


async def reset(writer):
    """Cut the connection off with a RST."""
    linger = struct.pack("ii", 1, 0)
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    writer.transport.abort()


async def closed(writer):
    """Close the connection without an answer."""


async def cut_short(writer):
    """Close in the middle of a body."""
    writer.write(b'HTTP/1.1 201 X\r\nContent-Length: 50\r\n\r\n{"sid": "SM')
    await writer.drain()


async def silent(reader, writer):
    """Take all that comes and never answer."""
    await reader.read()
    writer.close()


class Fast(selectors.DefaultSelector):
    """Waits a fiftieth of the time it is asked to."""

    def select(self, timeout=None):
        return super().select(timeout and timeout / 50)


class FastLoop(asyncio.SelectorEventLoop):
    """An event loop whose seconds are 20 ms long, so that real time-outs can be seen to hold."""

    def __init__(self):
        super().__init__(Fast())

    def time(self):
        return super().time() * 50
