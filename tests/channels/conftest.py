"""Wire-level fakes: the shipped Twilio simulator, a scripted server, the door where callbacks arrive."""

from __future__ import annotations

import asyncio
import re
from contextlib import suppress

import pytest
from aiohttp import web
from twilio_wire import Door, Scripted, Simulator

from gateway.simulators import twilio
from gateway.simulators.ledger import Ledger


@pytest.fixture
async def door():
    door = Door()
    app = web.Application()
    app.router.add_post("/cb/{adapter}/{account}/{ref}", door.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    door.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield door
    await runner.cleanup()


@pytest.fixture
async def sim(tmp_path):
    path = tmp_path / "ledger.jsonl"
    ledger = Ledger(path)
    running = await twilio.serve(host="127.0.0.1", port=0, ledger=ledger, delay=0, push_url=None)
    yield Simulator(f"http://127.0.0.1:{running.port}", path)
    await running.aclose()
    ledger.close()


@pytest.fixture
async def scripted():
    """Start a server whose connections end as `act(writer)` has it."""
    servers = []

    async def start(act):
        requests = []

        async def serve(reader, writer):
            with suppress(asyncio.IncompleteReadError, ConnectionError):
                head = await reader.readuntil(b"\r\n\r\n")
                length = re.search(rb"(?i)content-length: *([0-9]+)", head)
                requests.append(head + await reader.readexactly(int(length[1]) if length else 0))
                await act(writer)
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        servers.append(server)
        return Scripted(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", requests)

    yield start
    for server in servers:
        server.close()
