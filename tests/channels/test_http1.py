"""The HTTP client over real sockets: every way for an answer to come, and to fail to."""

import asyncio
import contextlib
import socket
import struct
import threading
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rig import in_fast_time, unused_port
from smtp_peer import certificate

from channels import _http1
from channels._http1 import AT_ONCE, BESIDES, HEAD_LIMIT, KEPT_S, Client, Connection, Failed

LIMIT = 1000
ROOM = AT_ONCE + BESIDES
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


@dataclass
class Server:
    """Reads whole requests; a connection's n-th ends as the n-th act has it, further ones as the last."""

    url: str = ""
    requests: list[bytes] = field(default_factory=list)
    connections: int = 0
    most: int = 0
    now: int = 0
    left: asyncio.Event = field(default_factory=asyncio.Event)
    news: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def has_read(self, count):
        async with asyncio.timeout(5), self.news:
            await self.news.wait_for(lambda: len(self.requests) >= count)

    async def converse(self, acts, reader, writer):
        self.connections += 1
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            for number in range(1_000):
                self.requests.append(await whole(reader))
                async with self.news:
                    self.news.notify_all()
                await acts[min(number, len(acts) - 1)](writer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.now -= 1
            self.left.set()
            writer.close()


async def whole(reader):
    head = await reader.readuntil(b"\r\n\r\n")
    [length] = [line[15:] for line in head.split(b"\r\n") if line.startswith(b"Content-Length:")] or [0]
    return head + await reader.readexactly(int(length))


@asynccontextmanager
async def serving(*acts, host="127.0.0.1", tls=None):
    server, tasks = Server(), set()

    async def converse(reader, writer):
        tasks.add(asyncio.current_task())
        with contextlib.suppress(asyncio.CancelledError):
            await server.converse(acts, reader, writer)

    listening = await asyncio.start_server(converse, host, 0, ssl=tls, backlog=512)
    name = f"[{host}]" if ":" in host else host
    server.url = f"http{'s' if tls else ''}://{name}:{listening.sockets[0].getsockname()[1]}"
    try:
        yield server
    finally:
        listening.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def client(total_s=2.0, connect_s=1.0):
    it = Client(total_s=total_s, connect_s=connect_s, limit=LIMIT)
    try:
        yield it
    finally:
        await it.close()


def says(*pieces):
    """Write these, one at a time."""

    async def act(writer):
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            if piece is not pieces[-1]:
                await asyncio.sleep(0.002)

    return act


def ends(*pieces):
    """Write these and close."""

    async def act(writer):
        await says(*pieces)(writer)
        writer.close()
        raise ConnectionError

    return act


async def reset(writer):
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
    raise ConnectionError


async def silence(_):
    """Write nothing and read on."""


async def post(through, server, body=b"a=1", path="/x"):
    return await through.request("POST", server.url + path, {"X-Y": "z"}, body)


async def twice(server):
    """Two requests one after another: the first's answer."""
    async with client() as one:
        first = await post(one, server)
        await post(one, server)
    return first


CHUNKED = (
    b'HTTP/1.1 201 X\r\nTransfer-Encoding: chunked\r\nRetry-After: 3\r\n\r\n4\r\n{"a"\r\n'
    b"3;x=y\r\n: 1\r\n1\r\n}\r\n0\r\nRetry-After: 9\r\n\r\n"
)
PART = CHUNKED[: CHUNKED.index(b"3;x=y")]
KEPT = {
    "with a length": (OK, 200, b"{}"),
    "of length 0": (b"HTTP/1.1 500 X\r\nContent-Length: 0\r\n\r\n", 500, b""),
    "in chunks": (CHUNKED, 201, b'{"a": 1}'),
    "with an empty field": (OK.replace(b"\r\n", b"\r\nA:\r\n", 1), 200, b"{}"),
    "after interim answers": (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 X\r\nA: b\r\n\r\n" + OK, 200, b"{}"),
    "204": (b"HTTP/1.1 204 X\r\n\r\n", 204, b""),
    "304": (b"HTTP/1.1 304 X\r\nContent-Length: 5\r\n\r\n", 304, b""),
    "a redirect": (b"HTTP/1.1 302 X\r\nLocation: /y\r\nContent-Length: 0\r\n\r\n", 302, b""),
    "with a cookie": (b"HTTP/1.1 200 X\r\nSet-Cookie: a=b\r\nContent-Length: 0\r\n\r\n", 200, b""),
    "said not to be encoded": (OK.replace(b"\r\n\r", b"\r\nContent-Encoding: Identity\r\n\r"), 200, b"{}"),
    "at its limit": (b"HTTP/1.1 200 X\r\nContent-Length: 1000\r\n\r\n" + b"x" * 1000, 200, b"x" * 1000),
}  # fmt: skip
LEFT = {
    "Connection: close": (OK.replace(b"\r\n\r", b"\r\nConnection: close\r\n\r"), 200, b"{}"),
    "HTTP/1.0": (OK.replace(b"1.1", b"1.0"), 200, b"{}"),
    "more than was asked for": (OK + b"HTTP/1.1 20", 200, b"{}"),
    "another answer": (OK + OK, 200, b"{}"),
    "rubbish behind": (OK + b"\0rubbish", 200, b"{}"),
}


@pytest.mark.parametrize("name", KEPT)
async def test_an_answer_is_read_whole_and_its_connection_kept(name):
    written, status, body = KEPT[name]
    async with serving(says(written)) as server:
        first = await twice(server)

    assert (first.status, first.body) == (status, body)
    assert (len(server.requests), server.connections) == (2, 1)
    assert server.requests[0] == server.requests[1]


@pytest.mark.parametrize("name", LEFT)
async def test_a_connection_that_the_server_ends_or_that_is_out_of_step_is_left(name):
    written, status, body = LEFT[name]
    async with serving(says(written)) as server:
        first = await twice(server)

    assert (first.status, first.body) == (status, body)
    assert (len(server.requests), server.connections) == (2, 2)


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
async def test_an_answer_without_a_length_ends_with_its_connection(version):
    async with serving(ends(b"HTTP/" + version + b" 200 X\r\nA: b\r\n\r\nhalf, ", b"whole")) as server:
        first = await twice(server)

    assert first.body == b"half, whole"
    assert server.connections == 2


@pytest.mark.parametrize("answer", [CHUNKED, *(KEPT[name][0] for name in ("with a length", "204"))])
async def test_an_answer_may_be_cut_anywhere_on_its_way(answer):
    acts = [says(answer[:at], answer[at:]) for at in range(1, len(answer))]
    async with serving(*acts) as server, client() as one:
        replies = [await post(one, server) for _ in acts]

    assert len({(reply.status, reply.body) for reply in replies}) == 1
    assert server.connections == 1


FAILED = {
    "nothing": (ends(), "broken_connection"),
    "reset": (reset, "broken_connection"),
    "half a head": (ends(b"HTTP/1.1 200 X\r\nContent-"), "broken_connection"),
    "an interim answer only": (ends(b"HTTP/1.1 100 X\r\n\r\n"), "broken_connection"),
    "half a body": (ends(OK[:-1]), "broken_connection"),
    "half a chunk": (ends(PART[:-3]), "broken_connection"),
    "no last chunk": (ends(CHUNKED[: CHUNKED.index(b"0\r\nRetry")]), "broken_connection"),
    "an encoding unknown": (ends(b"HTTP/1.1 200 X\r\nTransfer-Encoding: zip\r\n\r\nxx"), "broken_connection"),
    "rubbish": (says(b"220 relay.example ESMTP\r\n"), "unreadable_answer"),
    "TLS": (says(b"\x15\x03\x01\x00\x02\x02\x46"), "unreadable_answer"),
    "two lengths": (says(OK.replace(b"\r\n\r", b"\r\nContent-Length: 3\r\n\r")), "unreadable_answer"),
    "a length and chunks": (says(CHUNKED.replace(b"Retry-After: 3", b"Content-Length: 3")), "unreadable_answer"),
    "no number": (says(b"HTTP/1.1 200 X\r\nContent-Length: -1\r\n\r\n"), "unreadable_answer"),
    "a wrong chunk": (says(CHUNKED.replace(b"\r\n4\r\n", b"\r\nx\r\n")), "unreadable_answer"),
    "another protocol": (
        says(b"HTTP/1.1 101 X\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"), "unreadable_answer"),
    "encoded": (says(OK.replace(b"\r\n\r", b"\r\nContent-Encoding: gzip\r\n\r")), "unreadable_answer"),
    "a byte too many": (says(b"HTTP/1.1 200 X\r\nContent-Length: 1001\r\n\r\n" + b"x" * 1001), "too_long"),
    "an endless body": (says(b"HTTP/1.1 200 X\r\n\r\n", b"x" * (LIMIT + HEAD_LIMIT)), "too_long"),
    "an endless head": (says(b"HTTP/1.1 200 X\r\n" + b"A: b\r\n" * 12_000), "too_long"),
    "endless interim answers": (says(b"HTTP/1.1 100 X\r\n\r\n" * 4_000), "too_long"),
    "endless chunks": (says(PART + b"1\r\nx\r\n" * 12_000), "too_long"),
    "silence": (silence, "timeout"),
    "a trickle": (says(OK[:20], *(b"x" for _ in range(1000))), "timeout"),
}  # fmt: skip


async def failing(act):
    """What one request fails with, and whether its connection was left before another was made."""
    async with serving(act) as server, client(total_s=0.2) as one:
        with pytest.raises(Failed) as failed:
            await post(one, server)
        await asyncio.wait_for(server.left.wait(), 1)
        return failed.value, server


@pytest.mark.parametrize("name", FAILED)
async def test_what_is_no_whole_answer_fails_and_is_not_asked_for_again(name):
    act, word = FAILED[name]
    failed, server = await failing(act)

    assert (failed.word, failed.sent) == (word, True)
    assert (len(server.requests), server.connections) == (1, 1)


@pytest.mark.parametrize("name", [*KEPT, *LEFT, *FAILED])
def test_uvloop_tells_the_same(name):
    uvloop = pytest.importorskip("uvloop")

    async def ended():
        if name in FAILED:
            return (await failing(FAILED[name][0]))[0].word
        written, _, _ = (KEPT | LEFT)[name]
        async with serving(says(written)) as server:
            reply = await twice(server)
        return reply.status, reply.body, server.connections

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        found = runner.run(ended())

    assert found == (
        FAILED[name][1] if name in FAILED else (*(KEPT | LEFT)[name][1:], 1 if name in KEPT else 2)
    )


async def test_a_request_is_what_the_standard_asks_for():
    async with serving(says(OK)) as server, client() as one:
        await one.request("POST", f"{server.url}/a/b?c=%20", {"Accept": "x"}, b"d=1")
        await one.request("GET", server.url + "/", {"User-Agent": "y"})
        await one.request("POST", server.url + "/", {})

    host = server.url.removeprefix("http://").encode()
    common = b"Host: %b\r\nUser-Agent: outreach-gateway\r\nAccept-Encoding: identity\r\n" % host
    assert server.requests == [
        b"POST /a/b?c=%20 HTTP/1.1\r\n" + common + b"Accept: x\r\nContent-Length: 3\r\n\r\nd=1",
        b"GET / HTTP/1.1\r\n" + common.replace(b"outreach-gateway", b"y") + b"\r\n",
        b"POST / HTTP/1.1\r\n" + common + b"Content-Length: 0\r\n\r\n",
    ]


@pytest.mark.parametrize(
    ("method", "path", "headers"),
    [
        ("GET", "/", {"A": "b\r\nC: d"}),
        ("GET", "/", {"A": "b\nC: d"}),
        ("GET", "/", {"A\r\nB": "c"}),
        ("GET", "/", {"A": "\0"}),
        ("GET", "/", {"A": "é"}),
        ("GET", "/a b", {}),
        ("GET", "/a\r\nB: c", {}),
        ("GET", "/a#b", {}),
        ("GET", "/é", {}),
        ("GET", "", {}),
        ("GET", "?a=b", {}),
        ("GET / HTTP/1.1\r\nA: b\r\n\r\nGET", "/", {}),
    ],
)
async def test_a_part_that_could_pass_for_more_is_refused_before_anything_is_sent(method, path, headers):
    async with serving(says(OK)) as server, client() as one:
        with pytest.raises(ValueError, match=r"^no ") as refused:
            await one.request(method, server.url + path, headers)

    assert server.connections == 0
    assert "b" not in str(refused.value)


@pytest.mark.parametrize(
    "url", ["ftp://h/", "http:///", "http://a@h/", "http://h?a/", "http://h#a/", "http://h:99999/", "h/", ""]
)
async def test_only_a_server_is_asked(url):
    async with client() as one:
        with pytest.raises(ValueError):  # noqa: PT011 (that of the port is urllib's)
            await one.request("GET", url, {})


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("http://h.example/x", "h.example"),
        ("http://H.example:80/x", "h.example"),
        ("https://h.example:443/x", "h.example"),
        ("https://h.example:80/x", "h.example:80"),
        ("http://[2001:DB8::1]:81/x", "[2001:db8::1]:81"),
    ],
)
def test_a_server_is_named_without_the_usual_port(url, name):
    assert _http1._split(url)[0].name == name


# Connections


async def test_a_server_on_ipv6_is_reached():
    if not socket.has_ipv6:
        pytest.skip("no IPv6 here")
    async with serving(says(OK), host="::1") as server:
        assert (await twice(server)).status == 200

    assert server.requests[0].split(b"\r\n")[1].startswith(b"Host: [::1]:")


@pytest.mark.parametrize("host", ["nowhere.invalid", "a" * 64 + ".example"])
async def test_a_name_that_is_none_is_told(host):
    async with client(connect_s=10, total_s=10) as one:
        with pytest.raises(Failed) as failed:
            await one.request("GET", f"http://{host}/", {})

    assert (failed.value.word, failed.value.sent) == ("dns", False)


async def test_a_port_where_nobody_listens_is_told():
    async with client() as one:
        with pytest.raises(Failed) as failed:
            await one.request("GET", f"http://127.0.0.1:{unused_port()}/", {})

    assert (failed.value.word, failed.value.sent) == ("refused", False)


async def test_what_the_server_says_unasked_is_no_answer_to_what_comes_later():
    async def impatient(writer):
        writer.write(OK)
        await writer.drain()
        await asyncio.sleep(0.02)
        writer.write(b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n")

    async with serving(impatient) as server, client() as one:
        await post(one, server)
        await asyncio.sleep(0.05)
        second = await post(one, server)

    assert (second.status, server.connections) == (200, 2)


async def test_a_kept_connection_that_was_closed_meanwhile_is_left_without_a_word():
    async with serving(ends(OK)) as server, client() as one:
        for _ in range(3):
            assert (await post(one, server)).status == 200
            await asyncio.sleep(0.01)

    assert (len(server.requests), server.connections) == (3, 3)


@pytest.mark.parametrize("over", [b"", b"HTTP/1.1 408 X\r\nContent-Length: 0\r\n\r\n"])
async def test_an_end_that_the_loop_has_not_read_yet_shows_all_the_same(over):
    """The server is a thread and the loop stands still meanwhile, so that only the system knows of the end."""
    close, closed, seen = threading.Event(), threading.Event(), []

    def serve():
        for _ in range(2):
            link, _address = listening.accept()
            with link:
                seen.append(link.recv(65536))
                link.sendall(OK)
                close.wait(5)
                link.sendall(over)
            closed.set()

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve)
        thread.start()
        async with client() as one:
            url = f"http://127.0.0.1:{listening.getsockname()[1]}/"
            await one.request("GET", url, {})
            close.set()
            closed.wait(5)
            time.sleep(0.01)  # noqa: ASYNC251 (the loop has to stand still)
            second = await one.request("GET", url, {})
        thread.join(5)

    assert (second.status, len(seen)) == (200, 2)


async def test_a_kept_connection_that_breaks_under_a_request_is_not_asked_again():
    async with serving(says(OK), reset) as server, client() as one:
        await post(one, server)
        with pytest.raises(Failed) as failed:
            await post(one, server)

    assert (failed.value.word, failed.value.sent) == ("broken_connection", True)
    assert (len(server.requests), server.connections) == (2, 1)


async def test_the_answer_before_is_not_taken_for_one_that_does_not_come():
    async with serving(says(KEPT["204"][0]), ends()) as server, client() as one:
        await post(one, server)
        with pytest.raises(Failed) as failed:
            await post(one, server)

    assert (failed.value.word, server.connections) == ("broken_connection", 1)


async def test_a_call_that_is_cancelled_ends_its_connection():
    late = asyncio.Event()

    async def answers_late(writer):
        await late.wait()
        writer.write(OK)

    async with serving(answers_late) as server, client() as one:
        call = asyncio.create_task(post(one, server))
        await server.has_read(1)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        late.set()
        second = await post(one, server)

    assert (second.status, len(server.requests), server.connections) == (200, 2, 2)


async def test_no_more_than_a_bounded_number_are_under_way_at_once():
    async def slowly(writer):
        await asyncio.sleep(0.05)
        writer.write(OK)

    async with serving(slowly) as server, client() as one:
        replies = await asyncio.gather(*(post(one, server) for _ in range(ROOM + 50)))

    assert {reply.status for reply in replies} == {200}
    assert (len(server.requests), server.most, server.connections) == (ROOM + 50, ROOM, ROOM)


async def test_who_waits_too_long_for_a_connection_has_sent_nothing():
    async with serving(silence) as server, client(total_s=0.5, connect_s=0.1) as one:
        ends = await asyncio.gather(*(post(one, server) for _ in range(ROOM + 1)), return_exceptions=True)

    assert [(end.word, end.sent) for end in ends] == [*[("timeout", True)] * ROOM, ("timeout", False)]
    assert len(server.requests) == ROOM


@pytest.mark.parametrize(("pause", "connections"), [(KEPT_S - 3, 1), (KEPT_S + 1, 2)])
def test_a_connection_is_kept_for_15_seconds(pause, connections):
    async def run():
        async with serving(says(OK)) as server, client(total_s=30, connect_s=30) as one:
            await post(one, server)
            await asyncio.sleep(pause)
            await post(one, server)
            return server.connections

    assert in_fast_time(run()) == connections


def test_an_idle_connection_is_closed_though_nobody_asks_again():
    async def run():
        async with serving(says(OK)) as server, client(total_s=30, connect_s=30) as one:
            await post(one, server)
            await asyncio.wait_for(server.left.wait(), 2 * KEPT_S)
            return server.now

    assert in_fast_time(run()) == 0


async def test_closing_ends_idle_connections_at_once_and_others_with_their_answer():
    answered = asyncio.Event()

    async def late(writer):
        await answered.wait()
        writer.write(OK)

    async with serving(says(OK), late) as server, client() as one:
        await asyncio.gather(post(one, server), post(one, server))
        under_way = asyncio.create_task(post(one, server))
        await server.has_read(3)
        await one.close()
        await asyncio.wait_for(server.left.wait(), 1)
        open_still = server.now
        answered.set()
        reply = await under_way
        await asyncio.sleep(0.02)

    assert (open_still, reply.status, server.now) == (1, 200, 0)


# TLS


@pytest.fixture
def authority(tmp_path, monkeypatch):
    """The context of a server for 127.0.0.1 whose authority is this machine's."""
    context, trusted = certificate(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
    _http1.tls_context.cache_clear()
    yield context
    _http1.tls_context.cache_clear()


async def test_tls_connections_are_kept_too(authority):
    async with serving(says(OK), tls=authority) as server:
        reply = await twice(server)

    assert (reply.status, len(server.requests), server.connections) == (200, 2, 1)


def test_tls_connections_are_kept_by_uvloop_too(authority):
    uvloop = pytest.importorskip("uvloop")

    async def run():
        async with serving(says(OK), tls=authority) as server:
            await twice(server)
            return server.connections

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(run()) == 1


@pytest.mark.parametrize("wrong", ["authority", "name", "protocol"])
async def test_a_server_that_does_not_prove_its_name_is_told_nothing(authority, tmp_path, wrong):
    stranger = certificate(tmp_path, host="127.0.0.2")[0]
    tls = {"authority": stranger, "name": authority, "protocol": None}[wrong]
    async with serving(says(OK), tls=tls) as server, client() as one:
        url = server.url.replace("http:", "https:")
        with pytest.raises(Failed) as failed:
            await one.request(
                "GET", url.replace("127.0.0.1", "localhost" if wrong == "name" else "127.0.0.1") + "/", {}
            )

    assert failed.value.sent is False
    assert failed.value.word in ({"timeout", "tls"} if wrong == "protocol" else {"tls"})
    assert server.requests == []


# However an answer is cut


class Wire(asyncio.Transport):
    """Takes what is written and can be closed."""

    closed = False

    def write(self, data):
        pass

    def is_closing(self):
        return self.closed

    def abort(self):
        self.closed = True


async def asked(pieces):
    wire, connection = Wire(), Connection(LIMIT)
    connection.connection_made(wire)
    reply = asyncio.ensure_future(connection.ask(b"x"))
    await asyncio.sleep(0)
    for piece in pieces:
        if not wire.closed:
            connection.data_received(piece)
    if not wire.closed:
        connection.eof_received()
        connection.connection_lost(None)
    [end] = await asyncio.gather(reply, return_exceptions=True)
    return end if isinstance(end, _http1.Reply) else (end.word, end.sent), wire.closed


def cut(answer, places):
    at = sorted({place % (len(answer) + 1) for place in places})
    return [answer[start:end] for start, end in zip([0, *at], [*at, len(answer)], strict=True) if start < end]


ANSWERS = [answer for answer, _, _ in [*KEPT.values(), *LEFT.values()]]


@given(st.sampled_from(ANSWERS), st.lists(st.integers(0, 2000)))
def test_an_answer_is_the_same_however_it_is_cut(answer, places):
    one = asyncio.run(asked([answer]))

    assert asyncio.run(asked(cut(answer, places))) == one


@given(st.sampled_from(ANSWERS), st.lists(st.tuples(st.integers(0, 2000), st.binary(max_size=3))))
def test_rubbish_in_an_answer_raises_nothing_else(answer, changes):
    data = bytearray(answer)
    for place, bytes_ in changes:
        data[place % len(data) : place % len(data) + len(bytes_)] = bytes_
    end, _ = asyncio.run(asked([bytes(data)]))

    assert isinstance(end, _http1.Reply) or end[1] is True


async def test_a_name_that_nobody_answers_for_keeps_one_thread_however_many_want_to_know(monkeypatch):
    answered, asked = threading.Event(), []

    def hangs(host, *_args, **_named):
        asked.append(host)
        answered.wait(5)
        raise socket.gaierror("no such name")

    monkeypatch.setattr(socket, "getaddrinfo", hangs)
    client = Client(total_s=1.0, connect_s=0.1, limit=LIMIT)
    late = [client.request("GET", "http://name.example/", {}) for _ in range(20)]
    failures = await asyncio.gather(*late, return_exceptions=True)
    last = asyncio.create_task(client.request("GET", "http://name.example/", {}))
    await asyncio.sleep(0.02)
    answered.set()

    assert {(failure.word, failure.sent) for failure in failures} == {("timeout", False)}
    with pytest.raises(Failed, match="dns"):
        await last
    assert asked == ["name.example"]
    await client.close()


async def test_a_connection_whose_request_has_not_left_is_not_kept():
    """Refused at once, with most of the body still to be written."""

    async def refuse(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 429 Slow\r\nContent-Length: 2\r\n\r\n{}")
        await writer.drain()
        await over.wait()
        writer.close()

    over = asyncio.Event()
    listening = await asyncio.start_server(refuse, "127.0.0.1", 0, limit=1024)
    url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/"
    client = Client(total_s=5.0, connect_s=1.0, limit=LIMIT)
    replies = [await client.request("POST", url, {}, bytes(16 << 20)) for _ in range(2)]
    over.set()
    listening.close()
    await client.close()

    assert [reply.status for reply in replies] == [429, 429]
