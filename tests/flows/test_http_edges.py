"""What goes on beside well-behaved requests, over real sockets: who hangs up, who dawdles, who only looks."""

import asyncio
import json
import sys
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from io import StringIO

import pytest

from gateway import telemetry
from gateway.api import http
from gateway.api.server import bind, server
from gateway.backlog import BATCHES, WAIT, Backlog
from gateway.store.keys import Role

HOST = b"Host: gateway\r\nAuthorization: Bearer %s\r\n"
HEAD = b"POST /v1/reminders HTTP/1.1\r\n" + HOST + b"Content-Length: 100\r\n\r\n"


@pytest.fixture
async def door(api):
    """A server of the API on a port of its own."""
    taken = bind("127.0.0.1:0")
    made = server(api.app)
    made.port = taken.getsockname()[1]
    serving = asyncio.create_task(made.serve(sockets=[taken]))
    await until(lambda: made.started)
    yield made
    made.should_exit = True
    await serving


@pytest.fixture
def lines():
    """What is logged, at its usual level."""
    out = StringIO()
    telemetry._install("info", lambda: out, json=True, final=False)
    yield lambda: [json.loads(line) for line in out.getvalue().splitlines()]
    telemetry._install("warning", lambda: sys.stderr, json=True, final=False)


@asynccontextmanager
async def sent(door, what):
    """A connection over which this was sent: where its answer comes from, and where more may go."""
    reader, writer = await asyncio.open_connection("127.0.0.1", door.port)
    try:
        writer.write(what)
        await writer.drain()
        yield reader, writer
    finally:
        writer.close()


async def until(true):
    async with asyncio.timeout(10):
        while not true():  # noqa: ASYNC110 (what is waited for has no event)
            await asyncio.sleep(0.01)


async def answer(reader):
    """Status, headers and body of what came until the connection was closed."""
    async with asyncio.timeout(10):
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    first, *rest = head.decode().split("\r\n")
    return int(first.split()[1]), dict(line.lower().split(": ", 1) for line in rest), body


async def test_who_hangs_up_in_the_midst_of_a_body_is_counted_apart_and_is_no_failure(api, door, lines):
    head = HEAD % (await api.key(Role.SERVICE)).encode()
    async with sent(door, head + b'{"borrower": "B-77'):
        await until(lambda: door.server_state.tasks)
    await until(lambda: not door.server_state.tasks)

    (told,) = lines()
    assert (told["event"], told["level"], told["status"]) == ("request", "info", 499)
    figures = api.services.metrics.render().decode()
    assert 'route="/v1/reminders",status="499"} 1.0' in figures
    assert 'status="500"' not in figures


async def test_a_body_that_never_ends_is_waited_for_so_long_and_no_longer(api, door, monkeypatch):
    monkeypatch.setattr(http, "BODY_S", 0.3)
    head = HEAD % (await api.key(Role.SERVICE)).encode()
    async with sent(door, head) as (reader, writer):
        dripping = asyncio.create_task(_drip(writer))
        status, headers, body = await answer(reader)
        dripping.cancel()

    assert (status, headers["connection"]) == (408, "close")
    assert headers["content-type"] == "application/problem+json"
    assert (json.loads(body)["code"], json.loads(body)["status"]) == ("body_too_slow", 408)


async def _drip(writer):
    """A byte now and then: each of them would be in time."""
    while True:
        writer.write(b"1")
        await asyncio.sleep(0.05)


async def test_who_still_sends_its_body_when_the_process_ends_is_told_to_send_it_again(api, door):
    door.config.timeout_graceful_shutdown = 0.2
    head = HEAD % (await api.key(Role.SERVICE)).encode()
    async with sent(door, head + b"{") as (reader, _):
        await until(lambda: door.server_state.tasks)
        door.should_exit = True
        status, headers, body = await answer(reader)

    assert (status, headers["retry-after"]) == (503, "5")
    assert json.loads(body)["code"] == "ending"


@pytest.mark.parametrize("path", [b"reminders", b"borrowers", b"debts", b"contacts"])
async def test_a_batch_for_which_there_is_no_place_is_refused_before_its_body_is_sent(api, door, path):
    api.door.crowded = True
    head = b"POST /v1/%s/batch HTTP/1.1\r\n" % path + HOST % (await api.key(Role.SERVICE)).encode()
    async with sent(door, head + b"Connection: close\r\nContent-Length: 4000000\r\n\r\n") as (reader, _):
        status, headers, body = await answer(reader)

    assert (status, headers["retry-after"], json.loads(body)["code"]) == (429, "1", "overloaded")


async def test_who_is_slow_to_send_a_batch_holds_up_no_other(api, door, service):
    api.app.state.services = replace(api.services, admission=Backlog(None, None))
    head = b"POST /v1/borrowers/batch HTTP/1.1\r\n" + HOST % (await api.key(Role.SERVICE)).encode()
    async with AsyncExitStack() as stack:
        for _ in range(BATCHES + WAIT + 1):
            await stack.enter_async_context(sent(door, head + b"Content-Length: 100\r\n\r\n{"))
        await until(lambda: len(door.server_state.tasks) == BATCHES + WAIT + 1)
        reply = await service.post("/v1/borrowers/batch", json={"items": [{"id": "B-1"}]})

    assert reply.status_code == 200


async def test_who_only_looks_is_answered_as_who_reads_but_for_the_body(api, door):
    for missing, path, expected in (
        ({}, b"/livez", 200),
        ({}, b"/readyz", 200),
        ({"store": "start PostgreSQL"}, b"/readyz", 503),
        ({}, b"/metrics", 200),
    ):
        api.desk.lacking = missing
        async with sent(door, b"HEAD %s HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n\r\n" % path) as (
            reader,
            _,
        ):
            status, headers, body = await answer(reader)

        assert (status, body) == (expected, b""), path
        assert int(headers["content-length"]) > 0, path
