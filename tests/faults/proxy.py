"""A small TCP proxy that does to conversations what networks do: one fault at a time, told by whoever draws them.

refuse     the next connection is reset before a byte
request    reset in the middle of the next request: half of its bytes get through
answer     the next request gets through whole, and all is reset at the first byte of its answer
swallow    the next request gets through, and nothing of an answer comes for STALL_S, then a reset
half       half of the next answer's bytes come, then a reset
stall      neither way moves for STALL_S, then all goes on
"""

import asyncio
import socket
import struct
from collections import Counter, deque
from contextlib import suppress

KINDS = ("refuse", "request", "answer", "swallow", "half", "stall")
STALL_S = 4.0
READ = 65536


class Cut(Exception):
    """This conversation is over."""


class Proxy:
    """Listens on a port of its own for one server behind it."""

    def __init__(self, port):
        self.behind = port
        self.port = None
        self.waiting = deque(maxlen=8)
        self.done = Counter()
        self._open = set()

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._taken, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_):
        self._server.close()
        await asyncio.sleep(0.1)  # whoever was taken last has begun
        for task in tuple(self._open):
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    def next(self, kind):
        """The next conversation that it fits goes wrong so."""
        self.waiting.append(kind)

    def _fault(self, *kinds):
        """The fault that is waiting, if it is one of these."""
        if self.waiting and self.waiting[0] in kinds:
            self.done[kind := self.waiting.popleft()] += 1
            return kind
        return None

    async def _taken(self, reader, writer):
        task = asyncio.current_task()
        self._open.add(task)
        task.add_done_callback(self._open.discard)
        ends, cut = [writer], True
        try:
            if self._fault("refuse"):
                return
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.behind)
            ends.append(far_writer)
            cut = await Talk(self, writer, far_writer).last(reader, far_reader)
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            for end in ends:
                await (reset if cut else close)(end)


class Talk:
    """One conversation, both ways."""

    def __init__(self, proxy, near, far):
        self.proxy, self.near, self.far = proxy, near, far
        self.fault = None
        self.free = asyncio.Event()
        self.free.set()

    async def last(self, reader, far_reader):
        """Pass all on until one side ends it; whether it was cut."""
        ways = {asyncio.create_task(self.there(reader)), asyncio.create_task(self.back(far_reader))}
        try:
            done, _ = await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            return any(way.exception() is not None for way in done)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)

    async def there(self, reader):
        """Requests."""
        while data := await reader.read(READ):
            self.fault = self.fault or self.proxy._fault("request", "answer", "swallow", "half", "stall")
            if self.fault == "stall":
                await self._stall()
            if self.fault == "request":
                await send(self.far, data[: len(data) // 2])
                raise Cut
            await send(self.far, data)
            if self.fault == "swallow":
                await asyncio.sleep(STALL_S)
                raise Cut

    async def back(self, reader):
        """Answers."""
        while data := await reader.read(READ):
            await self.free.wait()
            if self.fault == "answer":
                raise Cut
            if self.fault == "swallow":
                continue
            if self.fault == "half":
                await send(self.near, data[: len(data) // 2])
                raise Cut
            await send(self.near, data)

    async def _stall(self):
        self.free.clear()
        await asyncio.sleep(STALL_S)
        self.fault = None
        self.free.set()


async def send(writer, data):
    """Pass bytes on; who is gone ends the conversation."""
    try:
        writer.write(data)
        await writer.drain()
    except OSError:
        raise Cut from None


async def reset(writer):
    """End it with a RST."""
    with suppress(OSError):
        linger = struct.pack("ii", 1, 0)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    writer.transport.abort()
    await over(writer)


async def close(writer):
    """End it."""
    writer.close()
    await over(writer)


async def over(writer):
    """Wait until its socket is closed."""
    with suppress(OSError):
        await writer.wait_closed()
