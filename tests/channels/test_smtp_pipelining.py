"""MAIL, RCPT and DATA in one write: every ending is what it is one by one, and no text goes where none is meant."""

import asyncio
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta

import pytest
from smtp_peer import certificate, mailer, message, peer
from test_smtp import REFUSED

from channels import _pipeline
from channels._relay import Bounds
from gateway.domain import Handed, HandOver

E = HandOver
GROUP = ["MAIL", "RCPT", "DATA"]
PROPER = {"MAIL": {"RCPT": "503 5.5.1 no", "DATA": "503 5.5.1 no"}, "RCPT": {"DATA": "554 5.5.1 nobody"}}
"""What a careful relay says to the rest of a group once a command was refused."""


async def send(script, *, mail=None, tls=None, **settings):
    async with peer(script, "PIPELINING", tls=tls) as server, mailer(server.port, **settings) as adapter:
        return await adapter.send(mail or message()), server


async def test_what_is_said_is_what_is_said_one_by_one():
    handed, server = await send({})

    assert handed == Handed(ending=E.ACCEPTED, provider_id="4XbT2k0z")
    assert server.commands[1:4] == [
        "MAIL FROM:<reminders@bank.example>",
        "RCPT TO:<borrower@example.com>",
        "DATA",
    ]
    assert len(server.mails) == 1


@pytest.mark.parametrize("careful", [True, False])
@pytest.mark.parametrize(("step", "reply", "ending", "code", "reach"), REFUSED)
async def test_a_refusal_is_told_as_one_by_one_whatever_the_relay_says_to_the_rest(
    step, reply, ending, code, reach, careful
):
    handed, server = await send({step: reply} | (PROPER.get(step, {}) if careful else {}))

    assert (handed.ending, handed.code, handed.reach) == (ending, code, reach)
    assert len(server.mails) == (step == "dot")


@pytest.mark.parametrize("step", GROUP)
@pytest.mark.parametrize(("how", "word"), [("drop", "disconnected"), ("stall", "timeout")])
async def test_a_connection_lost_or_stalled_at_any_reply_is_not_sent(step, how, word):
    handed, server = await send({step: how}, bounds=Bounds(approach=0.2))

    assert handed == Handed(ending=E.NOT_SENT, code=word)
    assert server.mails == []


@pytest.mark.parametrize(("how", "word"), [("drop", "disconnected"), ("stall", "timeout")])
async def test_a_mail_that_was_taken_without_an_answer_is_unknown(how, word):
    handed, server = await send({"dot": how}, bounds=Bounds(dot=0.2))

    assert handed == Handed(ending=E.UNKNOWN, code=word)
    assert len(server.mails) == 1


@pytest.mark.parametrize("how", ["drop", "stall", "wait 0.05 554 5.5.1 nobody"])
async def test_a_refusal_holds_though_the_rest_of_the_replies_is_late_or_lost(how):
    handed, server = await send({"RCPT": "550 5.1.1 no", "DATA": how})

    assert handed == Handed(ending=E.PERMANENT_RECIPIENT, code="550 5.1.1")
    assert server.mails == []


async def test_after_a_refusal_the_connection_is_reset_and_used_again():
    script = {"RCPT": ["550 5.1.1 no"], "DATA": ["554 5.5.1 nobody"]}
    async with peer(script, "PIPELINING") as server, mailer(server.port) as adapter:
        endings = [(await adapter.send(message())).ending for _ in range(2)]

    assert endings == [E.PERMANENT_RECIPIENT, E.ACCEPTED]
    assert server.verbs() == ["EHLO", *GROUP, "RSET", *GROUP, "QUIT"]


@pytest.mark.parametrize("step", ["MAIL", "RCPT"])
async def test_a_relay_that_wants_a_text_for_nobody_gets_none_and_is_left(step):
    async with peer({step: ["550 5.1.1 no"]}, "PIPELINING") as server, mailer(server.port) as adapter:
        await adapter.send(message())
        await asyncio.wait_for(server.left.wait(), 1)
        mails_before = list(server.mails)
        second = await adapter.send(message())

    assert (mails_before, second.ending) == ([], E.ACCEPTED)
    assert (server.connections, len(server.mails)) == (2, 1)


async def test_a_relay_that_said_too_much_before_gets_no_text():
    """What is left of it would be taken for the reply to the text."""
    handed, server = await send(
        {"EHLO": "250-relay.example\r\n250 PIPELINING\r\n250 2.0.0 queued as nothing"}
    )

    assert handed == Handed(ending=E.NOT_SENT, code="disconnected")
    assert server.mails == []


@pytest.mark.parametrize("over", ["421 4.7.0 enough mails", "drop"])
async def test_a_kept_connection_that_the_relay_ends_is_replaced_without_a_word(over):
    async with peer({"MAIL": ["250 Ok", over]}, "PIPELINING") as server, mailer(server.port) as adapter:
        endings = [(await adapter.send(message())).ending for _ in range(2)]

    assert endings == [E.ACCEPTED, E.ACCEPTED]
    assert (server.connections, len(server.mails)) == (2, 2)


@pytest.mark.parametrize(("step", "ending"), [("RCPT", E.NOT_SENT), ("DATA", E.NOT_SENT), ("dot", E.UNKNOWN)])
async def test_a_kept_connection_that_ends_later_on_is_told_as_a_new_one_is(step, ending):
    script = {step: ["354 Ok" if step == "DATA" else "250 Ok", "drop"]}
    async with peer(script, "PIPELINING") as server, mailer(server.port) as adapter:
        endings = [(await adapter.send(message())).ending for _ in range(2)]

    assert endings == [E.ACCEPTED, ending]
    assert (server.connections, server.commands.count("DATA")) == (1, 2 if step != "RCPT" else 1)


async def test_a_mail_whose_time_passes_on_the_way_is_expired_and_its_text_stays_here():
    handed, server = await send({"RCPT": "wait 0.3 250 Ok"}, mail=message(left=timedelta(seconds=0.2)))

    assert handed == Handed(ending=E.EXPIRED, code="deliver_by")
    assert server.mails == []


async def test_a_call_that_is_cancelled_within_the_group_closes_its_connection():
    async with peer({"RCPT": ["wait 0.2 250 Ok"]}, "PIPELINING") as server, mailer(server.port) as adapter:
        call = asyncio.create_task(adapter.send(message()))
        await asyncio.sleep(0.1)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await asyncio.wait_for(server.left.wait(), 1)
        handed = await adapter.send(message())

    assert handed.ending is E.ACCEPTED
    assert (server.connections, len(server.mails)) == (2, 1)


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("scheme", ["smtp", "smtps"])
def test_many_mails_share_connections_with_and_without_tls(tmp_path, loop, scheme):
    factory = asyncio.new_event_loop if loop == "asyncio" else pytest.importorskip("uvloop").new_event_loop
    context, trusted = certificate(tmp_path)
    script = {"RCPT": ["550 5.1.1 no", "drop"], "DATA": ["554 5.5.1 nobody"]}

    async def run():
        tls = {"tls": context} if scheme == "smtps" else {}
        given = {"ca_file": trusted} if scheme == "smtps" else {}
        async with (
            peer(script, "PIPELINING", **tls) as server,
            mailer(server.port, scheme=scheme, pool_size=2, **given) as adapter,
        ):
            handed = [await adapter.send(message()) for _ in range(2)]
            handed += await asyncio.gather(*(adapter.send(message()) for _ in range(20)))
        return [h.ending for h in handed], len(server.mails), server.connections

    with asyncio.Runner(loop_factory=factory) as runner:
        endings, mails, connections = runner.run(run())

    assert endings == [E.PERMANENT_RECIPIENT, E.NOT_SENT, *[E.ACCEPTED] * 20]
    assert (mails, connections) == (20, 3)


# Segments


@dataclass
class Raw:
    """Takes a group as it comes, and answers it by the pieces given."""

    pieces: list[bytes]
    port: int = 0
    first: list[bytes] = field(default_factory=list)
    texts: list[bytes] = field(default_factory=list)

    async def converse(self, reader, writer):
        writer.write(b"220 x\r\n")
        await reader.readline()
        writer.write(b"250-x\r\n250 PIPELINING\r\n")
        while (came := await reader.read(65_536)) not in {b"", b"QUIT\r\n"}:
            self.first.append(came)
            for piece in self.pieces:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0.001)
            text = await reader.read(65_536)
            if text.endswith(b"\r\n.\r\n"):
                self.texts.append(text)
                writer.write(b"250 queued as 1\r\n")


@asynccontextmanager
async def raw(*pieces):
    it, tasks = Raw(list(pieces)), set()

    async def converse(reader, writer):
        tasks.add(asyncio.current_task())
        with suppress(ConnectionError):
            await it.converse(reader, writer)
        writer.close()

    server = await asyncio.start_server(converse, "127.0.0.1", 0)
    it.port = server.sockets[0].getsockname()[1]
    try:
        yield it
    finally:
        server.close()
        await asyncio.wait_for(asyncio.gather(*tasks), 5)


GOOD = b"250-2.1.0 Ok\r\n250 2.1.0 Ok\r\n250 2.1.5 Ok\r\n354 go on\r\n"


async def test_the_three_commands_are_written_at_once():
    async with raw(GOOD) as server, mailer(server.port) as adapter:
        await adapter.send(message())

    assert server.first == [
        b"MAIL FROM:<reminders@bank.example>\r\nRCPT TO:<borrower@example.com>\r\nDATA\r\n"
    ]


async def test_replies_may_come_together_or_be_cut_anywhere():
    endings = []
    for at in range(len(GOOD)):
        async with raw(GOOD[:at], GOOD[at:]) as server, mailer(server.port) as adapter:
            endings += [(await adapter.send(message())).ending for _ in range(2)]
        assert len(server.texts) == 2

    assert endings == [E.ACCEPTED] * 2 * len(GOOD)


@pytest.mark.parametrize(
    ("replies", "code"),
    [
        (GOOD + b"250 2.0.0 Ok\r\n", "disconnected"),
        (GOOD + b"25", "disconnected"),
        (b"ESMTP\r\n" + GOOD, "-1"),
        (b"250 Ok\r\n250 Ok\r\n35\r\n", "-1"),
        (b"250 Ok\r\n250 Ok\r\n250 Ok\r\n", "250"),
        (b"250-Ok\r\n" * 5_000, "disconnected"),
        (b"2" * 40_000, "disconnected"),
    ],
)
async def test_replies_that_are_none_or_too_many_leave_the_text_here(replies, code):
    async with raw(replies) as server, mailer(server.port) as adapter:
        handed = await adapter.send(message())

    assert handed == Handed(ending=E.NOT_SENT, code=code)
    assert server.texts == []


async def test_a_command_with_a_control_character_is_not_written():
    async with raw(GOOD) as server, mailer(server.port) as adapter, adapter._pool.lend() as link:
        with pytest.raises(ValueError, match="control character"):
            await _pipeline.write_together(link.smtp, b"MAIL FROM:<a@b.example>\r\nX", b"RCPT", b"DATA")

    assert server.first == []
