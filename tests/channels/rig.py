"""What tests of HTTP adapters stand on: messages, a scripted server, a door for callbacks, fast time."""

import asyncio
import contextlib
import hashlib
import json
import selectors
import socket
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from aiohttp import ClientSession, web

from gateway.domain import Account, Message, Mode, Receipt, Rendered, Tenant
from gateway.masking import Pii
from gateway.ports import Callback, Tools
from gateway.simulators.ledger import Ledger, read

NOW = datetime(2026, 11, 24, 9, 30, tzinfo=UTC)
REF = "at_01KB00000000000000000000AA"


def account(adapter, sender, endpoint, credentials, **settings):
    return Account(
        tenant=Tenant("default/live"),
        name="cn",
        mode=Mode.LIVE,
        adapter=adapter,
        sender=sender,
        endpoint=endpoint,
        credentials={name: Pii(value) for name, value in credentials.items()},
        settings=settings,
    )


def message(address, variables=None, *, code="SMS_1", ref=REF, left=timedelta(hours=1), now=NOW):
    text = "【安心贷】到期提醒"
    return Message(
        ref=ref,
        address=Pii(address),
        rendered=Rendered(
            language="zh-CN",
            text=Pii(text),
            sha256=hashlib.sha256(text.encode()).hexdigest(),
            code=code,
            variables={name: Pii(value) for name, value in (variables or {}).items()},
        ),
        now=now,
        deliver_by=now + left,
        callback_url=f"http://127.0.0.1:9/cb/x/cn/{ref}",
        unsubscribe_url="http://127.0.0.1:9/u/x",
    )


class Tokens:
    """The port of shared tokens, in memory."""

    def __init__(self):
        self.held = {}
        self.lives = {}

    async def get(self, name):
        return self.held.get(name)

    async def put(self, name, token, ttl):
        self.held[name], self.lives[name] = token, ttl

    async def drop(self, name, token):
        if self.held.get(name) == token:
            del self.held[name]


def tools(tokens=None, callback_token="unguessable"):
    return Tools(tokens=tokens or Tokens(), public_url="http://127.0.0.1:9", callback_token=callback_token)


async def no_script():
    return None


@dataclass
class Door:
    """Stands where the gateway's callback route stands."""

    url: str
    adapter: object = None
    refuse: int = 0
    statuses: list[int] = field(default_factory=list)
    receipts: list[Receipt] = field(default_factory=list)
    news: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def handle(self, request):
        if self.refuse:
            self.refuse -= 1
            return web.Response(status=503)
        answer = await self.adapter.receive(
            Callback(
                method=request.method,
                url=str(request.url),
                ref=request.match_info["ref"],
                headers=dict(request.headers),
                query=dict(request.query),
                body=await request.read(),
                now=datetime.now(UTC),
            ),
            no_script,
        )
        self.statuses.append(answer.status)
        self.receipts.extend(answer.receipts)
        async with self.news:
            self.news.notify_all()
        return web.Response(status=answer.status, body=answer.body, content_type=answer.content_type)

    async def wait_for(self, count):
        async with asyncio.timeout(10), self.news:
            await self.news.wait_for(lambda: len(self.receipts) >= count)


@asynccontextmanager
async def open_door():
    app = web.Application()
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    door = Door(url="")
    app.router.add_route("*", "/cb/x/cn/{ref}", door.handle)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    door.url = f"http://127.0.0.1:{runner.addresses[0][1]}/cb/x/cn"
    try:
        yield door
    finally:
        await runner.cleanup()


@dataclass
class Simulated:
    """A shipped simulator and its ledger."""

    url: str
    path: object

    def ledger(self):
        return read(self.path)

    async def post(self, path, **body):
        async with ClientSession() as http, http.post(self.url + path, json=body) as answer:
            return answer.status


@asynccontextmanager
async def simulate(module, path, *, delay=0.0, push_url=None):
    ledger = Ledger(path)
    running = await module.serve(host="127.0.0.1", port=0, ledger=ledger, delay=delay, push_url=push_url)
    try:
        yield Simulated(f"http://127.0.0.1:{running.port}", path)
    finally:
        await running.aclose()
        ledger.close()


@dataclass
class Scripted:
    """A raw server and the requests it read whole."""

    url: str
    requests: list[bytes]


@asynccontextmanager
async def scripted(*acts):
    """A server that ends its n-th request as the n-th act has it, and all further ones as the last act."""
    requests, tasks = [], set()

    async def serve(reader, writer):
        tasks.add(asyncio.current_task())
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            requests.append(await _request(reader))
            await acts[min(len(requests), len(acts)) - 1](writer)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(_closing(serve), "127.0.0.1", 0)
    try:
        yield Scripted(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", requests)
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _closing(serve):
    async def closing(reader, writer):
        try:
            await serve(reader, writer)
        except asyncio.CancelledError:
            writer.transport.abort()

    return closing


async def _request(reader):
    head = await reader.readuntil(b"\r\n\r\n")
    lengths = [int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    return head + await reader.readexactly(lengths[0] if lengths else 0)


def answer(status, body=b"", *headers):
    """Answer and close."""

    async def act(writer):
        body_bytes = body if isinstance(body, bytes) else json.dumps(body).encode()
        lines = [
            f"HTTP/1.1 {status} X",
            f"Content-Length: {len(body_bytes)}",
            "Connection: close",
            *headers,
            "",
            "",
        ]
        writer.write("\r\n".join(lines).encode() + body_bytes)

    return act


def raw(data):
    """Write these bytes and close."""

    async def act(writer):
        writer.write(data)

    return act


async def cut(writer):
    """Reset the connection once the request was read."""
    writer.transport.abort()


async def silence(_):
    """Never answer."""
    await asyncio.Event().wait()


FAST = 15
"""How many of its seconds pass in one: a busy machine that stalls for 0.1 s must not look like a time-out."""


class _Fast(selectors.DefaultSelector):
    def select(self, timeout=None):
        return super().select(timeout and timeout / FAST)


class FastLoop(asyncio.SelectorEventLoop):
    """A loop of quick seconds, so that a test can see real time-outs hold."""

    def __init__(self):
        super().__init__(_Fast())

    def time(self):
        return super().time() * FAST


def in_fast_time(work):
    """Run a coroutine to its end on a FastLoop."""
    with asyncio.Runner(loop_factory=FastLoop) as runner:
        return runner.run(work)


def unused_port():
    """A port on which nothing listens."""
    with contextlib.closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]
