"""A client that costs as little as can be, so that the API is what is measured: POSTs over kept connections."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any
from urllib.parse import urlsplit

LENGTH = b"content-length: "


class Poster(asyncio.Protocol):
    """One connection: posts what is left until nothing is, each when the one before was answered."""

    def __init__(self, left: Iterator[bytes], answers: list[bytes], over: asyncio.Future[None]) -> None:
        self._left, self._answers, self._over = left, answers, over
        self._held = b""
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = transport  # type: ignore[assignment]
        self._next()

    def data_received(self, data: bytes) -> None:
        """Take an answer when all of it is there."""
        self._held += data
        end = self._held.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self._held[:end].lower()
        place = head.find(LENGTH) + len(LENGTH)
        whole = end + 4 + int(head[place:].partition(b"\r\n")[0])
        if len(self._held) >= whole:
            self._answers.append(self._held[9:12] + self._held[end + 4 : whole])
            self._held = self._held[whole:]
            self._next()

    def connection_lost(self, _: Exception | None) -> None:
        """It is over, one way or another."""
        if not self._over.done():
            self._over.set_exception(ConnectionError("the API cut a connection"))

    def _next(self) -> None:
        request = next(self._left, None)
        if request is None:
            if not self._over.done():
                self._over.set_result(None)
            self._transport.close()
        else:
            self._transport.write(request)


def post(url: str, key: str, bodies: Sequence[bytes], at_once: int) -> tuple[float, list[bytes]]:
    """Post all of them to `url`, so many at once: the seconds it took, and answers as status (3 bytes) and body."""
    parts = urlsplit(url)
    head = (
        f"POST {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nAuthorization: Bearer {key}\r\n"
        "Content-Type: application/json\r\nContent-Length: "
    ).encode()
    requests = [b"%b%d\r\n\r\n%b" % (head, len(body), body) for body in bodies]
    return run_fast(_post(parts.hostname or "", parts.port or 80, requests, at_once))


async def _post(host: str, port: int, requests: Sequence[bytes], at_once: int) -> tuple[float, list[bytes]]:
    loop, left, answers = asyncio.get_running_loop(), iter(requests), list[bytes]()
    overs = [loop.create_future() for _ in range(at_once)]
    started = time.monotonic()
    for over in overs:
        await loop.create_connection(partial(Poster, left, answers, over), host, port)
    await asyncio.gather(*overs)
    return time.monotonic() - started, answers


def run_fast(coroutine: Any) -> Any:
    """Run it by uvloop, where it is installed."""
    with contextlib.suppress(ImportError):
        import uvloop  # noqa: PLC0415

        return uvloop.run(coroutine)
    return asyncio.run(coroutine)
