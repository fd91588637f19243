"""What simulated HTTP providers share: faults on demand, pushes that are tried again, one port to serve on.

`POST /_sim/next {"mode": "swallow", "count": 1}` changes how the next `count` sends are answered:
`swallow` does the work and never answers, `drop` does the work and closes the socket, `slow` does the work
and answers after `seconds` (15), `status` does nothing and answers `status` (503) with `headers` and `body`: so
comes every refusal that a provider knows, also those that it sends with status 200. A `count` of 0 takes back
what was asked for.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Literal

import aiohttp
from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gateway.simulators.running import Running

Work = Callable[[], Awaitable[web.StreamResponse]]
Accepts = Callable[[int, bytes], bool]


class Fault(BaseModel):
    """How the next `count` sends go wrong."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    mode: Literal["swallow", "status", "drop", "slow"]
    status: int = Field(503, ge=200, le=599)
    headers: dict[str, str] = Field(default_factory=dict)
    body: str = Field("asked for", max_length=1_000)
    seconds: float = Field(15, gt=0, le=600)
    count: int = Field(1, ge=0, le=10_000)


@dataclass(frozen=True, slots=True)
class Faults:
    """The faults that were asked for and not used yet."""

    _next: deque[Fault] = field(default_factory=lambda: deque(maxlen=10_000))

    async def ask(self, request: web.Request) -> web.Response:
        """Handle `POST /_sim/next`."""
        try:
            fault = Fault.model_validate_json(await request.read())
        except ValidationError as wrong:
            return web.json_response(
                {"error": wrong.errors(include_input=False, include_url=False)}, status=422
            )
        if fault.count == 0:
            self._next.clear()
        self._next.extend([fault] * fault.count)
        return web.json_response({"waiting": len(self._next)})

    async def around(self, request: web.Request, work: Work) -> web.StreamResponse:
        """Do one send's work and answer it, unless a fault was asked for."""
        fault = self._next.popleft() if self._next else None
        if fault is None:
            return await work()
        if fault.mode == "status":
            return web.Response(status=fault.status, text=fault.body, headers=fault.headers)
        answer = await work()
        match fault.mode:
            case "swallow":
                await asyncio.Event().wait()
            case "drop" if request.transport is not None:
                request.transport.abort()
            case "slow":
                await asyncio.sleep(fault.seconds)
        return answer


class Pushes:
    """POSTs to the gateway that wait and are tried again after each of `pauses` until they are accepted."""

    def __init__(self, pauses: tuple[float, ...], accepts: Accepts) -> None:
        self._pauses = pauses
        self._accepts = accepts
        self._http = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=5), connector=aiohttp.TCPConnector(limit=16)
        )
        self._tasks: set[asyncio.Task[None]] = set()

    def later(self, delay: float, url: Callable[[], str], body: bytes, content_type: str) -> None:
        """Push `body` after `delay` seconds; `url` is asked anew for each try (signatures carry the time)."""
        task = asyncio.create_task(self._push(delay, url, body, content_type))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def aclose(self) -> None:
        """Drop what still waits."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._http.close()

    async def _push(self, delay: float, url: Callable[[], str], body: bytes, content_type: str) -> None:
        for pause in (delay, *self._pauses):
            await asyncio.sleep(pause)
            if await self._once(url(), body, content_type):
                return

    async def _once(self, url: str, body: bytes, content_type: str) -> bool:
        try:
            async with self._http.post(url, data=body, headers={"Content-Type": content_type}) as answer:
                return self._accepts(answer.status, await answer.read())
        except (aiohttp.ClientError, OSError):
            return False


async def listen(app: web.Application, *, host: str, port: int, pushes: Pushes) -> Running:
    """Serve `app`; port 0 takes a free one. Closing drops open requests and waiting pushes."""
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, host, port)
    await site.start()

    async def close() -> None:
        await runner.cleanup()
        await pushes.aclose()

    return Running(port=int(runner.addresses[0][1]), close=close)
