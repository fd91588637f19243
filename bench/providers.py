"""Twilio and a mail relay for the benchmark: as little work as can be, in one process, that counts by recipient.

    python bench/providers.py

Prints one JSON line with its ports, then answers until its input ends. On the control port, one word a line:
`reset`, `count` ({"count", "first_ns", "last_ns"} on the monotonic clock), `reached` ({recipient: times}).
Nothing is refused, nothing is delayed, no receipt is sent back: whoever sends is the slower one.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import sys
import time
from collections import Counter
from collections.abc import Callable
from email.utils import formatdate
from functools import partial
from itertools import count
from typing import Any
from urllib.parse import unquote_plus

LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
TO = re.compile(rb"(?:^|&)To=([^&]*)")
OFFERED = b"".join(
    b"250%c%b\r\n" % (b"- "[word == b"SMTPUTF8"], word)
    for word in (b"relay.example", b"PIPELINING", b"SIZE 35882577", b"8BITMIME", b"DSN", b"SMTPUTF8")
)
"""The extensions of a common relay that matter here."""
ACCOUNT = b'{"status": "active", "friendly_name": "bench"}'


class Ledger:
    """Who was reached how often, and when the first and the last of them."""

    def __init__(self) -> None:
        self.times: Counter[str] = Counter()
        self.first_ns = self.last_ns = self.number = 0

    def write(self, to: str) -> None:
        """One more is reached."""
        self.last_ns = time.monotonic_ns()
        self.first_ns = self.first_ns or self.last_ns
        self.number += 1
        self.times[to] += 1

    def say(self, word: str) -> Any:
        """The answer to a line of the control port."""
        match word:
            case "reset":
                self.__init__()  # type: ignore[misc]
            case "reached":
                return self.times
        return {"count": self.number, "first_ns": self.first_ns, "last_ns": self.last_ns}


class Wire(asyncio.Protocol):
    """A connection's bytes, and what is answered to as many as make a whole."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.held = b""
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way to answer."""
        self.transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        """Answer all that is whole by now with one write."""
        self.held += data
        answers = []
        while (answer := self.next()) is not None:
            answers.append(answer)
        if answers:
            self.transport.write(b"".join(answers))

    def next(self) -> bytes | None:
        """The answer to what comes first, or None while it is not all there."""
        raise NotImplementedError


class Twilio(Wire):
    """Messages of the REST API 2010-04-01: every POST is a message that is taken."""

    numbers = count()

    def next(self) -> bytes | None:
        """Take one request."""
        end = self.held.find(b"\r\n\r\n")
        if end < 0:
            return None
        found = LENGTH.search(self.held, 0, end)
        whole = end + 4 + (int(found[1]) if found else 0)
        if len(self.held) < whole:
            return None
        method, body = self.held[:4], self.held[end + 4 : whole]
        self.held = self.held[whole:]
        if method != b"POST":
            return _http(b"200 OK", ACCOUNT)
        to = TO.search(body)
        if to is None:
            return _http(b"400 Bad Request", b'{"code": 21604, "message": "no To", "status": 400}')
        number = unquote_plus(to[1].decode())
        self.ledger.write(number)
        return _http(b"201 Created", MESSAGE % (next(self.numbers), number.encode(), DATE, DATE))


DATE = formatdate(usegmt=True).replace("GMT", "+0000").encode()
MESSAGE = (
    b'{"sid": "SM%032x", "account_sid": "AC00000000000000000000000000000000", "to": "%b", "from": "+18335550100",'
    b' "messaging_service_sid": null, "body": "", "status": "queued", "direction": "outbound-api", "num_segments": "2",'
    b' "num_media": "0", "price": null, "price_unit": "USD", "api_version": "2010-04-01", "error_code": null,'
    b' "error_message": null, "date_created": "%b", "date_updated": "%b", "date_sent": null, "uri": ""}'
)


def _http(status: bytes, body: bytes) -> bytes:
    return b"HTTP/1.1 %b\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (
        status,
        len(body),
        body,
    )


class Relay(Wire):
    """SMTP: whatever is said is right, and a mail is taken at its final dot."""

    numbers = count()

    def __init__(self, ledger: Ledger) -> None:
        super().__init__(ledger)
        self.to = ""
        self.in_text = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet."""
        super().connection_made(transport)
        self.transport.write(b"220 relay.example ESMTP\r\n")

    def next(self) -> bytes | None:
        """Take one line, or one mail's text."""
        end = self.held.find(b"\r\n.\r\n" if self.in_text else b"\r\n")
        if end < 0:
            return None
        if self.in_text:
            self.held = self.held[end + 5 :]
            self.in_text = False
            self.ledger.write(self.to)
            return b"250 2.0.0 Ok: queued as %X\r\n" % next(self.numbers)
        line, self.held = self.held[:end], self.held[end + 2 :]
        return self._command(line)

    def _command(self, line: bytes) -> bytes:
        match line[:4].upper():
            case b"EHLO" | b"HELO":
                return OFFERED
            case b"RCPT":
                self.to = line[line.index(b"<") + 1 : line.index(b">")].decode()
            case b"DATA":
                self.in_text = True
                return b"354 End data with <CR><LF>.<CR><LF>\r\n"
            case b"QUIT":
                self.transport.write(b"221 2.0.0 Bye\r\n")
                self.transport.close()
                return b""
        return b"250 2.0.0 Ok\r\n"


class Control(Wire):
    """The stand's questions."""

    def next(self) -> bytes | None:
        """Answer one line with a line of JSON."""
        line, cut, rest = self.held.partition(b"\n")
        if not cut:
            return None
        self.held = rest
        return json.dumps(self.ledger.say(line.decode())).encode() + b"\n"


async def main() -> None:
    """Serve until the input ends."""
    loop, ledger = asyncio.get_running_loop(), Ledger()
    kinds: dict[str, Callable[[Ledger], Wire]] = {"twilio": Twilio, "smtp": Relay, "control": Control}
    ports = {}
    for name, kind in kinds.items():
        server = await loop.create_server(partial(kind, ledger), "127.0.0.1", 0, backlog=1000)
        ports[name] = server.sockets[0].getsockname()[1]
    sys.stdout.write(json.dumps(ports) + "\n")
    sys.stdout.flush()
    await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    with contextlib.suppress(ImportError):
        import uvloop

        uvloop.install()
    asyncio.run(main())
