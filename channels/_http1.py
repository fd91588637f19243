"""A small HTTP/1.1 client (RFC 9110, RFC 9112) for requests that must not be made twice.

A request is written once, in one piece, on a connection that shows no sign of being over. Nothing is ever tried
again: what breaks after that may have been carried out. No redirect is followed, no cookie kept, no proxy looked
for, nothing logged. Not for HEAD and CONNECT, whose answers end otherwise.
"""

from __future__ import annotations

import asyncio
import re
import select
import socket
import ssl
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import cache, lru_cache
from typing import NamedTuple, cast
from urllib.parse import urlsplit

from aiohappyeyeballs import AddrInfoType, start_connection
from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from gateway.values import dataclass

AT_ONCE, BESIDES = 128, 32
"""Calls that an adapter has under way at once, and questions beside them; what is more waits, within the bound on
connecting."""
KEPT_S = 15.0
"""How long a connection is kept unused: less than servers and balancers keep theirs (RFC 9112 §9.5)."""
HEAD_LIMIT = 65_536
"""What an answer may have in bytes besides its body: head, interim answers, chunks' sizes, trailers."""
NAMED_S = 10.0
"""How long a name's addresses are taken for known."""
NEXT_ADDRESS_S = 0.25
"""How long one of a name's addresses is tried alone (RFC 8305)."""
ALWAYS = {"User-Agent": "outreach-gateway", "Accept-Encoding": "identity"}
"""Headers of every request, unless the caller gives others. An answer that is encoded all the same is not read."""

_UNFIT = re.compile(r"[\x00-\x1f\x7f-\U0010ffff]")
_START = re.compile(r"[A-Z]+ /[!-\"$-~]*")


class Failed(Exception):
    """No whole answer came; `sent` tells whether a byte of the request may have left.

    `word`: `dns`, `tls`, `refused`, `timeout`, `broken_connection`, `too_long` or `unreadable_answer`.
    """

    def __init__(self, word: str, *, sent: bool) -> None:
        super().__init__(word)
        self.word = word
        self.sent = sent


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole answer; names of `headers` are in lower case, trailers are not among them."""

    status: int
    headers: Mapping[bytes, bytes]
    body: bytes


class Origin(NamedTuple):
    """Where a URL's server is (RFC 9110 §4.3.1), and its `Host`."""

    host: str
    port: int
    tls: bool
    name: str


class Client:
    """Connections to a provider, each lent to one request at a time, the newest used first.

    Seconds: `total_s` for a whole request, of which `connect_s` until there is a connection. An answer's body is at
    most `limit` bytes long.
    """

    def __init__(self, *, total_s: float, connect_s: float, limit: int) -> None:
        self._total_s = total_s
        self._connect_s = connect_s
        self._limit = limit
        self._room = asyncio.Semaphore(AT_ONCE + BESIDES)
        self._idle: defaultdict[Origin, list[Connection]] = defaultdict(list)
        self._sweep: asyncio.TimerHandle | None = None
        self._asked: dict[Origin, asyncio.Task[None]] = {}
        self._addresses: dict[Origin, tuple[float, Sequence[AddrInfoType]]] = {}
        self._closed = False

    async def request(self, method: str, url: str, headers: Mapping[str, str], body: bytes = b"") -> Reply:
        """Make one request; raises Failed, or ValueError for what is no request and was not sent."""
        origin, target = _split(url)
        request = _compose(method, target, {"Host": origin.name} | ALWAYS | dict(headers), body)
        latest = asyncio.get_running_loop().time() + self._total_s
        sent = False
        try:
            async with asyncio.timeout(self._connect_s) as limit, self._room:
                connection = await self._lend(origin, limit)
                limit.reschedule(latest)
                sent = True
                reply = await connection.ask(request)
                self._keep(origin, connection)
                return reply
        except TimeoutError:
            raise Failed("timeout", sent=sent) from None

    async def _lend(self, origin: Origin, limit: asyncio.Timeout) -> Connection:
        connection = self._kept(origin) or await self._connect(origin)
        if limit.expired():  # its cancellation was lost to a connection of the same instant
            connection.close()
            raise TimeoutError
        return connection

    def _kept(self, origin: Origin) -> Connection | None:
        oldest = asyncio.get_running_loop().time() - KEPT_S
        idle = self._idle[origin]
        while idle:
            connection = idle.pop()
            if connection.idle_since > oldest and connection.is_silent():
                return connection
            connection.close()
        return None

    async def _connect(self, origin: Origin) -> Connection:
        loop = asyncio.get_running_loop()
        try:
            addresses = await self._named(origin, loop)
            link = await start_connection(addresses, happy_eyeballs_delay=NEXT_ADDRESS_S)
            _, connection = await loop.create_connection(
                lambda: Connection(self._limit),
                sock=link,
                ssl=tls_context() if origin.tls else None,
                server_hostname=origin.host.rstrip(".") if origin.tls else None,
            )
        except (socket.gaierror, UnicodeError):
            raise Failed("dns", sent=False) from None
        except ssl.SSLError:
            raise Failed("tls", sent=False) from None
        except TimeoutError:
            raise
        except (OSError, RuntimeError):  # uvloop has RuntimeErrors for some of the system's
            raise Failed("refused", sent=False) from None
        return connection

    async def _named(self, origin: Origin, loop: asyncio.AbstractEventLoop) -> Sequence[AddrInfoType]:
        until, addresses = self._addresses.get(origin, (-1.0, []))
        if until > loop.time():
            return addresses
        if origin not in self._asked:
            self._asked[origin] = task = loop.create_task(self._ask_for(origin, loop))
            task.add_done_callback(lambda over: self._answered(origin, over))
        await asyncio.shield(self._asked[origin])
        return self._addresses[origin][1]

    async def _ask_for(self, origin: Origin, loop: asyncio.AbstractEventLoop) -> None:
        """One question for all who want to know, however long it takes: each keeps a thread that others need."""
        addresses = await loop.getaddrinfo(origin.host, origin.port, type=socket.SOCK_STREAM)
        self._addresses[origin] = loop.time() + NAMED_S, addresses

    def _answered(self, origin: Origin, over: asyncio.Task[None]) -> None:
        del self._asked[origin]
        if not over.cancelled():
            over.exception()  # whoever waits for it is told; perhaps nobody does any more

    def _keep(self, origin: Origin, connection: Connection) -> None:
        if self._closed or not connection.is_written:
            connection.close()
        elif connection.is_open:
            loop = asyncio.get_running_loop()
            connection.idle_since = loop.time()
            self._idle[origin].append(connection)
            if self._sweep is None:
                self._sweep = loop.call_later(KEPT_S, self._part_with_idle, loop)

    def _part_with_idle(self, loop: asyncio.AbstractEventLoop) -> None:
        oldest = loop.time() - KEPT_S
        for idle in self._idle.values():
            for connection in idle:
                if connection.idle_since <= oldest:
                    connection.close()
            idle[:] = [connection for connection in idle if connection.is_open]
        left = any(self._idle.values())
        self._sweep = loop.call_later(KEPT_S / 4, self._part_with_idle, loop) if left else None

    async def close(self) -> None:
        """Let go of idle connections now, and of others when their answer is there."""
        self._closed = True
        if self._sweep is not None:
            self._sweep.cancel()
        for idle in self._idle.values():
            while idle:
                idle.pop().close()
        await asyncio.sleep(0)  # the loop closes sockets one turn later


class Connection(asyncio.Protocol):
    """One connection and the answer that it is waiting for; whatever else comes ends it."""

    def __init__(self, limit: int) -> None:
        self.idle_since = 0.0
        self._limit = limit
        self._parser = HttpResponseParser(self)
        self._waiter: asyncio.Future[Reply] | None = None
        self._ends_with_connection = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way to write."""
        self._transport = cast(asyncio.Transport, transport)

    @property
    def is_open(self) -> bool:
        """Whether the loop knows of no end."""
        return not self._transport.is_closing()

    @property
    def is_written(self) -> bool:
        """Whether all of the request has left: an answer may come before that."""
        return not self._transport.get_write_buffer_size()

    def is_silent(self) -> bool:
        """Whether the system knows of none either: an end that the loop has not read yet would show."""
        if not self.is_open:
            return False
        poll = select.poll()
        poll.register(self._transport.get_extra_info("socket").fileno(), select.POLLIN)
        return not poll.poll(0)

    async def ask(self, request: bytes) -> Reply:
        """Write one request and wait for its answer; raises Failed, and is closed then."""
        if not self.is_open:
            raise Failed("broken_connection", sent=False)
        self._room, self._ends_with_connection = self._limit + HEAD_LIMIT, False
        self._waiter = waiter = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        try:
            reply: Reply = await waiter
        except BaseException:
            self.close()
            raise
        return reply

    def close(self) -> None:
        """End it at once, dropping what has not left."""
        self._transport.abort()

    def _fail(self, word: str) -> None:
        self.close()
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(Failed(word, sent=True))

    # What asyncio tells

    def data_received(self, data: bytes) -> None:
        """Read on; what nobody asked for ends the connection, and an answer that is whole by then stays."""
        if self._waiter is None or self._waiter.done():
            self.close()
            return
        self._room -= len(data)
        try:
            self._parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade):
            self._fail("unreadable_answer")
        if self._room < 0:
            self._fail("too_long")

    def eof_received(self) -> None:
        """An answer without a length ends here (RFC 9112 §6.3); over TLS it may be cut, and is no JSON then."""
        if self._ends_with_connection:
            self.on_message_complete()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 (asyncio's signature)
        """Nothing more will come."""
        self._fail("broken_connection")

    # What httptools tells

    def on_message_begin(self) -> None:
        """An answer, an interim one before it, or what nobody asked for."""
        if self._waiter is None or self._waiter.done():
            raise HttpParserError("more than was asked for")
        self._fields: dict[bytes, bytes] = {}
        self._body: list[bytes] = []

    def on_header(self, name: bytes, value: bytes) -> None:
        """One field of the head or the trailer."""
        self._fields[name.lower()] = value

    def on_headers_complete(self) -> None:
        """What the fields say of the body's end; llhttp refuses those that say two things (RFC 9112 §6.3)."""
        self._head, self._fields = self._fields, {}
        framed = b"content-length" in self._head or b"transfer-encoding" in self._head
        self._ends_with_connection = not framed and self._parser.get_status_code() >= 200

    def on_body(self, body: bytes) -> None:
        """A part of the body."""
        self._body.append(body)

    def on_message_complete(self) -> None:
        """Hand over the answer, unless it is an interim one (RFC 9110 §15.2)."""
        status = self._parser.get_status_code()
        if status < 200 or self._waiter is None or self._waiter.done():
            return
        body, self._body = b"".join(self._body), []
        if len(body) > self._limit:
            self._fail("too_long")
        elif self._head.get(b"content-encoding", b"identity").lower() != b"identity":
            self._fail("unreadable_answer")
        else:
            self._waiter.set_result(Reply(status, self._head, body))
        if not self._parser.should_keep_alive():
            self.close()


def _split(url: str) -> tuple[Origin, str]:
    """The server of an absolute URL, and what to ask it for. What is asked for is not kept: it may name people."""
    scheme, _, rest = url.partition("://")
    authority, slash, path = rest.partition("/")
    return _origin(scheme, authority), slash + path


@lru_cache(64)
def _origin(scheme: str, authority: str) -> Origin:
    url = urlsplit(f"{scheme}://{authority}")
    usual = {"http": 80, "https": 443}.get(scheme)
    if usual is None or not url.hostname or url.netloc != authority or "@" in authority:
        raise ValueError("no address of a server")
    host = f"[{url.hostname}]" if ":" in url.hostname else url.hostname
    port = url.port or usual
    return Origin(url.hostname, port, scheme == "https", host if port == usual else f"{host}:{port}")


def _compose(method: str, target: str, headers: Mapping[str, str], body: bytes) -> bytes:
    """The request as bytes; ValueError where a part of its head could pass for more than that part."""
    lines = [f"{name}: {value}" for name, value in headers.items()]
    if not (_START.fullmatch(f"{method} {target}") and _UNFIT.search("".join(lines)) is None):
        raise ValueError("no request")
    if body or method in {"POST", "PUT", "PATCH"}:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([f"{method} {target} HTTP/1.1", *lines, "", ""]).encode("ascii") + body


@cache
def tls_context() -> ssl.SSLContext:
    """The system's authorities, names checked: read once, for it takes some 20 ms."""
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context
