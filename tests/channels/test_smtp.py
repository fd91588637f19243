"""The e-mail adapter against a scripted server: each ending, phase by phase, and the connections kept."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from email import message_from_bytes
from email.policy import default

import pytest
from aiosmtpd.smtp import SMTP, AuthResult
from smtp_peer import REF, TOOLS, account, certificate, mailer, message, peer

from channels._relay import Bounds
from channels.smtp import REPLIES, Adapter, Phase, Row, classify
from gateway.domain import Channel, Handed, HandOver, Outcome
from gateway.errors import SetupError

E = HandOver


async def send(script, *offers, mail=None, **settings):
    async with peer(script, *offers) as server, mailer(server.port, **settings) as adapter:
        return await adapter.send(mail or message()), server


async def test_a_taken_mail_is_accepted_with_the_relays_queue_id():
    handed, server = await send({})

    assert handed == Handed(ending=E.ACCEPTED, provider_id="4XbT2k0z")
    assert server.verbs()[:4] == ["EHLO", "MAIL", "RCPT", "DATA"]
    assert server.commands[1:3] == ["MAIL FROM:<reminders@bank.example>", "RCPT TO:<borrower@example.com>"]
    assert len(server.mails) == 1


@pytest.mark.parametrize(
    ("reply", "queue_id"),
    [
        ("250 2.0.0 Ok: queued as 12AB34", "12AB34"),
        ("250 OK id=1tYq3x-0007Ab-2C", "1tYq3x-0007Ab-2C"),
        ("250 2.6.0 <x@y> [InternalId=5579, Hostname=a.b] Queued mail for delivery", "5579"),
        ("250 Ok 010701936aabbccd-1b2c-000000", "010701936aabbccd-1b2c-000000"),
        ("250 OK", None),
        ("252 never mind", None),
    ],
)
async def test_any_yes_after_the_dot_is_accepted_and_its_queue_id_kept_where_there_is_one(reply, queue_id):
    handed, _ = await send({"dot": reply})

    assert handed == Handed(ending=E.ACCEPTED, provider_id=queue_id)


REFUSED = [
    ("connect", "421 4.3.2 too busy", E.RETRY_AFTER, "421 4.3.2", "rate"),
    ("connect", "554 go away", E.CONFIG, "554", None),
    ("connect", "hello", E.NOT_SENT, "-1", None),
    ("EHLO", "550 who are you", E.CONFIG, "550", None),
    ("MAIL", "421 shutting down", E.RETRY_AFTER, "421", "rate"),
    ("MAIL", "451 4.3.0 try later", E.RETRY_AFTER, "451 4.3.0", "rate"),
    ("MAIL", "530 5.7.0 log in first", E.CONFIG, "530 5.7.0", None),
    ("MAIL", "550 5.1.1 no such sender", E.CONFIG, "550 5.1.1", None),
    ("MAIL", "552 5.3.4 too big", E.CONTENT, "552 5.3.4", None),
    ("MAIL", "552 too big", E.CONTENT, "552", None),
    ("MAIL", "399 eh", E.NOT_SENT, "399", None),
    ("RCPT", "550 5.1.1 <borrower@example.com> unknown", E.PERMANENT_RECIPIENT, "550 5.1.1", None),
    ("RCPT", "556 5.1.10 null MX", E.PERMANENT_RECIPIENT, "556 5.1.10", None),
    ("RCPT", "550 no", E.PERMANENT_RECIPIENT, "550", None),
    ("RCPT", "550-5.1.1 no such\r\n550 5.1.1 person", E.PERMANENT_RECIPIENT, "550 5.1.1", None),
    ("RCPT", "554 5.7.1 relay access denied", E.CONFIG, "554 5.7.1", None),
    ("RCPT", "450 4.7.1 greylisted", E.RETRY_AFTER, "450 4.7.1", "recipient"),
    ("RCPT", "452 4.2.2 full", E.RETRY_AFTER, "452 4.2.2", "recipient"),
    ("RCPT", "450 busy", E.RETRY_AFTER, "450", "recipient"),
    ("RCPT", "421 4.7.28 slow down", E.RETRY_AFTER, "421 4.7.28", "rate"),
    ("DATA", "554 no", E.CONTENT, "554", None),
    ("DATA", "451 4.3.1 disk full", E.RETRY_AFTER, "451 4.3.1", "rate"),
    ("DATA", "503 5.5.1 RCPT first", E.CONFIG, "503 5.5.1", None),
    ("dot", "554 5.7.1 spam", E.CONTENT, "554 5.7.1", None),
    ("dot", "550 5.7.26 unauthenticated", E.CONFIG, "550 5.7.26", None),
    ("dot", "550 5.1.1 unknown after all", E.PERMANENT_RECIPIENT, "550 5.1.1", None),
    ("dot", "421 4.4.2 too slow", E.RETRY_AFTER, "421 4.4.2", "rate"),
    ("dot", "354 eh", E.UNKNOWN, "354", None),
    ("dot", "eh", E.UNKNOWN, "protocol", None),
]


@pytest.mark.parametrize(("step", "reply", "ending", "code", "reach"), REFUSED)
async def test_a_refusal_is_classified_by_its_phase_and_code(step, reply, ending, code, reach):
    handed, server = await send({step: reply})

    assert (handed.ending, handed.code, handed.reach) == (ending, code, reach)
    assert (handed.retry_after is not None) == (ending is E.RETRY_AFTER)
    assert len(server.mails) == (step == "dot")


@pytest.mark.parametrize("step", ["connect", "EHLO", "MAIL", "RCPT", "DATA"])
@pytest.mark.parametrize(("how", "words"), [("drop", {"connect", "disconnected"}), ("stall", {"timeout"})])
async def test_a_connection_lost_or_stalled_before_the_text_is_not_sent(step, how, words):
    handed, server = await send({step: how}, bounds=Bounds(approach=0.2))

    assert handed.ending is E.NOT_SENT
    assert handed.code in words
    assert server.mails == []


@pytest.mark.parametrize(("how", "word"), [("drop", "disconnected"), ("stall", "timeout")])
async def test_a_mail_that_the_server_has_taken_without_answering_is_unknown(how, word):
    handed, server = await send({"dot": how}, bounds=Bounds(dot=0.2))

    assert handed == Handed(ending=E.UNKNOWN, code=word)
    assert len(server.mails) == 1


async def test_a_reply_to_the_dot_may_take_longer_than_all_before_it():
    handed, _ = await send({"dot": "wait 0.4 250 2.0.0 Ok"}, bounds=Bounds(approach=0.2, dot=2))

    assert handed.ending is E.ACCEPTED


async def test_a_relay_that_is_not_there_is_not_sent():
    async with peer() as server:
        port = server.port
    async with mailer(port) as adapter:
        handed = await adapter.send(message())

    assert handed == Handed(ending=E.NOT_SENT, code="connect")


async def test_a_mail_past_its_time_is_expired_before_any_connection():
    handed, server = await send({}, mail=message(left=timedelta(0)))

    assert handed == Handed(ending=E.EXPIRED, code="deliver_by")
    assert server.connections == 0


async def test_a_mail_whose_time_passes_on_the_way_is_expired_and_its_text_stays_here():
    handed, server = await send({"RCPT": "wait 0.3 250 Ok"}, mail=message(left=timedelta(seconds=0.2)))

    assert handed == Handed(ending=E.EXPIRED, code="deliver_by")
    assert server.mails == []


async def test_a_call_that_is_cancelled_closes_its_connection():
    async with peer({"dot": ["wait 0.1 250 Ok"]}) as server, mailer(server.port) as adapter:
        call = asyncio.create_task(adapter.send(message()))
        await server.taken.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await asyncio.wait_for(server.left.wait(), 1)
        handed = await adapter.send(message())

    assert handed.ending is E.ACCEPTED
    assert server.connections == 2


async def test_extensions_are_used_where_they_are_offered():
    handed, server = await send({}, "SIZE 1000000", "DSN", "DELIVERBY 240", "SMTPUTF8")

    assert handed.ending is E.ACCEPTED
    size = len(server.mails[0])
    assert server.commands[1].startswith(
        f"MAIL FROM:<reminders@bank.example> SIZE={size} RET=HDRS ENVID={REF} BY=7"
    )
    assert server.commands[1].endswith(";R")
    assert server.commands[2] == "RCPT TO:<borrower@example.com> NOTIFY=FAILURE,DELAY"


@pytest.mark.parametrize(
    ("offer", "left", "asked"), [("240", 241, True), ("240", 239, False), ("9" * 50, 60, True)]
)
async def test_a_relay_is_asked_to_deliver_by_the_closing_hour_unless_that_is_sooner_than_it_can(
    offer, left, asked
):
    _, server = await send({}, f"DELIVERBY {offer}", mail=message(left=timedelta(seconds=left + 0.9)))

    assert ("BY=" in server.commands[1]) is asked


async def test_an_address_beyond_ascii_needs_smtputf8():
    handed, server = await send({}, mail=message(to="张伟@例子.中国"))

    assert handed == Handed(ending=E.PERMANENT_RECIPIENT, code="smtputf8_not_offered")
    assert server.verbs() == ["EHLO", "QUIT"]


async def test_an_address_beyond_ascii_is_named_in_utf8_where_the_relay_knows_it():
    handed, server = await send({}, "SMTPUTF8", mail=message(to="张伟@例子.中国"))

    assert handed.ending is E.ACCEPTED
    assert server.commands[1:3] == [
        "MAIL FROM:<reminders@bank.example> SMTPUTF8",
        "RCPT TO:<张伟@xn--fsqu00a.xn--fiqs8s>",
    ]
    assert message_from_bytes(server.mails[0], policy=default)["To"] == "张伟@xn--fsqu00a.xn--fiqs8s"


async def test_a_domain_beyond_ascii_alone_needs_nothing():
    handed, server = await send({}, mail=message(to="zhang@例子.中国"))

    assert handed.ending is E.ACCEPTED
    assert server.commands[2] == "RCPT TO:<zhang@xn--fsqu00a.xn--fiqs8s>"


async def test_lines_that_begin_with_a_dot_arrive_as_they_were():
    text = "Hello\n.hidden\n..\n.\nend"
    _, server = await send({}, mail=message(text=text))

    assert (
        message_from_bytes(server.mails[0], policy=default).get_content().replace("\r\n", "\n") == text + "\n"
    )


# The connections


async def test_mails_one_after_another_share_one_connection():
    async with peer() as server, mailer(server.port) as adapter:
        for _ in range(5):
            assert (await adapter.send(message())).ending is E.ACCEPTED

    assert server.connections == 1
    assert server.verbs() == ["EHLO", *["MAIL", "RCPT", "DATA"] * 5, "QUIT"]


async def test_mails_at_once_share_no_more_connections_than_the_pool_has():
    async with peer({"dot": "wait 0.02 250 Ok"}) as server, mailer(server.port, pool_size=3) as adapter:
        handed = await asyncio.gather(*(adapter.send(message()) for _ in range(12)))

    assert {h.ending for h in handed} == {E.ACCEPTED}
    assert server.connections == 3


async def test_a_mail_that_finds_no_free_connection_in_time_is_not_sent():
    async with (
        peer({"dot": "stall"}) as server,
        mailer(server.port, pool_size=1, bounds=Bounds(approach=0.1, dot=0.3)) as adapter,
    ):
        first, second = await asyncio.gather(adapter.send(message()), adapter.send(message()))

    assert (first.ending, second) == (E.UNKNOWN, Handed(ending=E.NOT_SENT, code="timeout"))
    assert server.connections == 1


async def test_after_a_refusal_the_connection_is_reset_and_used_again():
    async with peer({"RCPT": ["550 5.1.1 no"]}) as server, mailer(server.port) as adapter:
        endings = [(await adapter.send(message())).ending for _ in range(2)]

    assert endings == [E.PERMANENT_RECIPIENT, E.ACCEPTED]
    assert server.verbs() == ["EHLO", "MAIL", "RCPT", "RSET", "MAIL", "RCPT", "DATA", "QUIT"]
    assert server.connections == 1


@pytest.mark.parametrize("over", ["421 4.7.0 enough mails", "drop"])
async def test_a_kept_connection_that_the_relay_ends_is_replaced_without_a_word(over):
    async with peer({"MAIL": ["250 Ok", over]}) as server, mailer(server.port) as adapter:
        endings = [(await adapter.send(message())).ending for _ in range(2)]

    assert endings == [E.ACCEPTED, E.ACCEPTED]
    assert (server.connections, len(server.mails)) == (2, 2)


@pytest.mark.parametrize("answer", ["250 Ok", "421 gone", "500 eh", "drop"])
async def test_a_connection_idle_for_a_while_is_asked_before_it_is_used(answer):
    asked = Bounds(trusted=0)
    async with peer({"RSET": [answer]}) as server, mailer(server.port, bounds=asked) as adapter:
        endings = [(await adapter.send(message())).ending for _ in range(2)]

    assert endings == [E.ACCEPTED, E.ACCEPTED]
    assert "RSET" in server.verbs()
    assert server.connections == (1 if answer == "250 Ok" else 2)


@pytest.mark.parametrize("bounds", [Bounds(mails=1), Bounds(age=0)])
async def test_a_connection_that_is_old_or_has_carried_enough_is_left(bounds):
    async with peer() as server, mailer(server.port, bounds=bounds) as adapter:
        for _ in range(3):
            assert (await adapter.send(message())).ending is E.ACCEPTED

    assert server.connections == 3
    assert server.verbs().count("QUIT") == 3


async def test_an_idle_connection_is_left_after_a_while():
    async with peer() as server, mailer(server.port, bounds=Bounds(idle=0.05)) as adapter:
        await adapter.send(message())
        await asyncio.sleep(0.15)

        assert server.verbs()[-1] == "QUIT"


# TLS and logging in


class Login:
    """aiosmtpd's handler and authenticator: one user, mails counted."""

    mails = 0

    async def handle_DATA(self, _server, _session, _envelope):  # noqa: N802 (aiosmtpd's name)
        self.mails += 1
        return "250 2.0.0 Ok: queued as TLS1"

    def __call__(self, _server, _session, _envelope, _mechanism, data):
        good = (data.login, data.password) == (b"gateway", b"s3cret")
        return AuthResult(success=good, handled=False)


@pytest.fixture
async def tls_relay(tmp_path):
    """A relay by aiosmtpd that wants STARTTLS and a log-in: its port, its PEM file, its handler."""
    context, trusted = certificate(tmp_path)
    handler, open_ones, loop = Login(), [], asyncio.get_running_loop()

    def conversation():
        open_ones.append(
            SMTP(handler, tls_context=context, require_starttls=True, auth_required=True,
                     authenticator=handler, hostname="relay.example", loop=loop)
        )  # fmt: skip
        return open_ones[-1]

    server = await loop.create_server(conversation, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1], trusted, handler
    server.close()
    await asyncio.sleep(0.02)
    await server.wait_closed()


GOOD = {"username": "gateway", "password": "s3cret"}


async def test_starttls_and_log_in_come_before_any_mail(tls_relay):
    port, trusted, handler = tls_relay
    async with mailer(port, start_tls="always", ca_file=trusted, credentials=GOOD) as adapter:
        handed = await adapter.send(message())
        checked = await adapter.check()

    assert handed == Handed(ending=E.ACCEPTED, provider_id="TLS1")
    assert (checked.ok, checked.word) == (True, f"127.0.0.1:{port} answers over TLS, logged in")
    assert handler.mails == 1


async def test_a_wrong_password_is_a_matter_of_set_up(tls_relay):
    port, trusted, handler = tls_relay
    wrong = {"username": "gateway", "password": "guess"}
    async with mailer(port, start_tls="always", ca_file=trusted, credentials=wrong) as adapter:
        handed = await adapter.send(message())
        checked = await adapter.check()

    assert handed == Handed(ending=E.CONFIG, code="535 5.7.8")
    assert not checked.ok
    assert "535 5.7.8" in checked.word
    assert "password" in checked.word
    assert "guess" not in checked.word
    assert handler.mails == 0


async def test_a_certificate_of_an_unknown_authority_is_not_sent(tls_relay):
    port, _, handler = tls_relay
    async with mailer(port, start_tls="always", credentials=GOOD) as adapter:
        handed = await adapter.send(message())
        checked = await adapter.check()

    assert handed == Handed(ending=E.NOT_SENT, code="tls_certificate")
    assert "ca_file" in checked.word
    assert handler.mails == 0


async def test_a_certificate_for_another_name_is_not_sent(tls_relay):
    port, trusted, handler = tls_relay
    async with mailer(
        port, host="localhost", start_tls="always", ca_file=trusted, credentials=GOOD
    ) as adapter:
        handed = await adapter.send(message())

    assert handed == Handed(ending=E.NOT_SENT, code="tls_certificate")
    assert handler.mails == 0


async def test_a_relay_that_hides_starttls_gets_no_mail():
    handed, server = await send({}, start_tls="always")

    assert handed == Handed(ending=E.CONFIG, code="starttls_not_offered")
    assert "MAIL" not in server.verbs()


async def test_a_relay_that_cannot_start_tls_now_is_asked_later():
    handed, server = await send({"STARTTLS": "454 4.7.0 not now"}, "STARTTLS", start_tls="always")

    assert (handed.ending, handed.code) == (E.RETRY_AFTER, "454 4.7.0")
    assert "MAIL" not in server.verbs()


async def test_credentials_that_the_relay_does_not_want_are_a_matter_of_set_up():
    handed, server = await send({}, credentials=GOOD)

    assert handed == Handed(ending=E.CONFIG, code="auth_not_offered")
    assert "MAIL" not in server.verbs()


async def test_smtps_speaks_tls_from_the_start(tmp_path):
    context, trusted = certificate(tmp_path)
    async with peer(tls=context) as server, mailer(server.port, scheme="smtps", ca_file=trusted) as adapter:
        handed = await adapter.send(message())

    assert handed.ending is E.ACCEPTED


async def test_smtps_to_a_port_without_tls_is_not_sent():
    async with peer() as server, mailer(server.port, scheme="smtps") as adapter:
        handed = await adapter.send(message())
        checked = await adapter.check()

    assert handed == Handed(ending=E.NOT_SENT, code="tls")
    assert "smtp://" in checked.word


# Set-up


async def test_check_begins_no_mail():
    async with peer() as server, mailer(server.port) as adapter:
        checked = await adapter.check()

    assert (checked.ok, checked.word) == (True, f"127.0.0.1:{server.port} answers without TLS")
    assert server.verbs() == ["EHLO", "NOOP", "QUIT"]


@pytest.mark.parametrize(
    ("script", "word"),
    [({"connect": "drop"}, "connect"), ({"NOOP": "stall"}, "timeout"), ({"EHLO": "550 no"}, "550")],
)
async def test_check_says_what_went_wrong(script, word):
    async with peer(script) as server, mailer(server.port, bounds=Bounds(approach=0.2)) as adapter:
        checked = await adapter.check()

    assert not checked.ok
    assert word in checked.word


BAD = [
    ({"endpoint": None}, "endpoint is missing"),
    ({"endpoint": "http://relay.example"}, "smtp://host:port"),
    ({"endpoint": "smtp://user:pass@relay.example"}, "credentials"),
    ({"endpoint": "smtp://relay.example:0"}, "smtp://host:port"),
    ({"endpoint": "smtp://relay.example:65536"}, "smtp://host:port"),
    ({"endpoint": "smtp://relay.example/path"}, "smtp://host:port"),
    ({"endpoint": "smtp://relay.example\r\nX: y"}, "smtp://host:port"),
    ({"sender": "Acme <a@acme.example>"}, "sender: "),
    ({"sender": "张@acme.example"}, "sender: "),
    ({"sender": "a@acme.example\r\nBcc: b@evil.example"}, "sender: "),
    ({"from_name": "Acme\r\nBcc: b@evil.example"}, "from_name: "),
    ({"from_name": "=?utf-8?q?Acme=0d=0aBcc=3ab?="}, "from_name: "),
    ({"reply_to": "nobody"}, "reply_to: "),
    ({"return_path": "Bounces <b@acme.example>"}, "return_path: "),
    ({"pool_size": "0"}, "pool_size: "),
    ({"pool_size": "129"}, "pool_size: "),
    ({"start_tls": "never"}, "start_tls: "),
    ({"ca_file": "/nowhere/ca.pem"}, "ca_file: "),
    ({"surprise": "1"}, "surprise is not known"),
    ({"credentials": {"username": "u"}}, "both username and password"),
]  # fmt: skip


@pytest.mark.parametrize(("given", "says"), BAD)
async def test_an_account_that_cannot_work_is_refused_with_what_to_mend(given, says):
    with pytest.raises(SetupError) as wrong:
        Adapter(account(**{"endpoint": "smtp://127.0.0.1:2525"} | given), TOOLS)

    assert "account mail" in wrong.value.message
    assert says in wrong.value.message
    assert "evil.example" not in wrong.value.message


async def test_a_file_that_holds_no_certificate_is_refused(tmp_path):
    (tmp_path / "ca.pem").write_text("no certificate")

    with pytest.raises(SetupError, match="ca_file"):
        Adapter(account("smtps://127.0.0.1:2525", ca_file=tmp_path / "ca.pem"), TOOLS)


@pytest.mark.parametrize(
    ("endpoint", "port", "tls"),
    [
        ("smtp://127.0.0.1", 587, False),
        ("smtp://[::1]:25", 25, False),
        ("smtp://localhost:25", 25, False),
        ("smtps://127.0.0.1", 465, True),
        ("smtp://relay.example", 587, True),
        ("smtp://10.0.0.5:25", 25, True),
        ("smtp://127.0.0.1.example:25", 25, True),
    ],
)
async def test_only_a_relay_on_loopback_may_go_without_tls(endpoint, port, tls):
    adapter = Adapter(account(endpoint), TOOLS)

    assert adapter._relay.port == port
    assert (adapter._relay.tls is not None) is tls


def test_what_the_adapter_declares():
    assert Adapter.channel is Channel.EMAIL
    assert Adapter.final_after == timedelta(days=5)
    assert Outcome.ACCEPTED not in Adapter.final
    assert Outcome.UNKNOWN not in Adapter.final
    assert Adapter.call_timeout > timedelta(seconds=Bounds().approach + Bounds().dot)


# The table


def test_every_row_of_the_table_is_reached_by_a_reply():
    reached = set()
    for key, row in REPLIES.items():
        first, _, second = key.partition(" ")
        phases = [second] if second in list(Phase) else list(Phase)
        code = {"unknown": 399, "4": 450, "5": 550, "4.3": 450}.get(first)
        for phase in phases:
            enhanced = (
                first
                if first.count(".") == 2
                else f"{first}.9"
                if "." in first
                else second
                if "." in second
                else ""
            )
            basic = code or (int(first) if first.isdecimal() else 450 if first[0] == "4" else 550)
            handed = classify(Phase(phase), basic, f"{enhanced} text")
            if Row(ending=handed.ending, retry_after=handed.retry_after, reach=handed.reach) == row:
                reached.add(key)

    assert reached == set(REPLIES)


@pytest.mark.parametrize("text", ["5.1.1 x", "x 4.2.2", "4.2.2.1x", "", "4.2222.1"])
def test_an_enhanced_code_counts_only_at_the_start_and_in_the_replys_own_class(text):
    handed = classify(Phase.RCPT, 450, text)

    assert handed.code in {"450", "450 4.2.2"}
    assert handed.ending is E.RETRY_AFTER


def test_no_text_of_a_reply_is_kept():
    handed = classify(Phase.RCPT, 550, "5.1.1 <borrower@example.com> unknown")

    assert "borrower" not in repr(handed)
