import asyncio
import base64
import json
import logging
import socket
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, urlencode

import pytest
from rig import unused_port
from twilio.request_validator import RequestValidator
from twilio_wire import (
    REF,
    SID,
    TOKEN,
    FastLoop,
    account,
    answering,
    closed,
    cut_short,
    message,
    reset,
    second_stage,
    silent,
    tools,
)

from channels.twilio_sms import CODES, STATUSES, Adapter
from gateway.domain import Handed, HandOver, NotShown, Outcome
from gateway.errors import SetupError
from gateway.masking import Pii
from gateway.ports import Callback

SERVICE = "MG" + "1" * 32


def adapter(endpoint, **more):
    return Adapter(account("twilio_sms", endpoint, **more), tools())


async def sent(endpoint, **more):
    twilio = adapter(endpoint)
    try:
        return await twilio.send(message(**more))
    finally:
        await twilio.aclose()


def body(code, status):
    return json.dumps({"code": code, "message": "+12025550110 refused", "status": status}).encode()


async def test_an_accepted_message_is_delivered_and_its_receipts_name_the_attempt(sim, door):
    door.adapter = adapter(sim.url)

    handed = await door.adapter.send(message(text="账单提醒", left=59.9, callback=door.callback_url()))
    await door.until(lambda d: len(d.receipts) == 3)

    assert handed.ending is HandOver.ACCEPTED
    assert door.outcomes() == ["accepted", "accepted", "delivered"]
    assert {(r.ref, r.provider_id) for r in door.receipts} == {(REF, handed.provider_id)}
    [line] = sim.ledger()
    assert (line["kind"], line["to"], line["text"]) == ("sms", "+12025550110", "账单提醒")
    assert (line["ref"], line["id"], line["validity_s"]) == (REF, handed.provider_id, 59)
    await door.adapter.aclose()


@pytest.mark.parametrize(
    ("to", "ending", "code"),
    [
        ("+12025550110", HandOver.ACCEPTED, None),
        ("+12025550117", HandOver.ACCEPTED, None),
        ("+12025550118", HandOver.OPT_OUT, "21610"),
        ("+15005550001", HandOver.PERMANENT_RECIPIENT, "21211"),
        ("+15005550002", HandOver.CONFIG, "21612"),
        ("+15005550003", HandOver.CONFIG, "21408"),
        ("+15005550004", HandOver.OPT_OUT, "21610"),
        ("+15005550009", HandOver.PERMANENT_RECIPIENT, "21614"),
        ("not a number", HandOver.PERMANENT_RECIPIENT, "21211"),
    ],
)
async def test_each_recipient_ends_in_its_class(sim, to, ending, code):
    handed = await sent(sim.url, to=to)

    assert (handed.ending, handed.code) == (ending, code)
    assert len(sim.ledger()) == (ending is HandOver.ACCEPTED)


@pytest.mark.parametrize(
    ("sender", "ending", "code", "reach"),
    [
        ("+15005550001", HandOver.CONFIG, "21212", None),
        ("+15005550007", HandOver.CONFIG, "21606", None),
        ("+15005550008", HandOver.RETRY_AFTER, "21611", "rate"),
        ("ACME", HandOver.ACCEPTED, None, None),
        (SERVICE, HandOver.ACCEPTED, None, None),
    ],
)
async def test_each_sender_ends_in_its_class(sim, sender, ending, code, reach):
    twilio = adapter(sim.url, sender=sender)
    handed = await twilio.send(message())
    await twilio.aclose()

    assert (handed.ending, handed.code, handed.reach) == (ending, code, reach)


@pytest.mark.parametrize(
    ("status", "answer", "headers", "ending", "code", "wait"),
    [
        (201, b'{"sid": "SM1", "status": "queued"}', (), "accepted", None, None),
        (200, b'{"sid": "SM1"}', (), "accepted", None, None),
        (201, b"", (), "unknown", "no_sid", None),
        (201, b"{}", (), "unknown", "no_sid", None),
        (201, b"null", (), "unknown", "no_sid", None),
        (201, b"[]", (), "unknown", "no_sid", None),
        (201, b'{"sid": null}', (), "unknown", "no_sid", None),
        (201, b'{"sid": 7}', (), "unknown", "no_sid", None),
        (201, b'{"sid": ""}', (), "unknown", "no_sid", None),
        (200, b"<html>ok</html>", (), "unknown", "no_sid", None),
        (302, b"", ("Location: http://127.0.0.1:9/",), "unknown", "http_302", None),
        (400, body(21211, 400), (), "permanent_recipient", "21211", None),
        (400, body(21610, 400), (), "opt_out", "21610", None),
        (400, body(21602, 400), (), "content", "21602", None),
        (400, body(21660, 400), (), "config", "21660", None),
        (400, body(30036, 400), (), "expired", "30036", None),
        (400, body(99999, 400), (), "content", "99999", None),
        (400, b"bad", (), "content", "http_400", None),
        (400, body("+12025550110", 400), (), "content", "http_400", None),
        (401, body(20003, 401), (), "config", "20003", None),
        (403, b"<html>", (), "config", "http_403", None),
        (404, b"<html>", (), "config", "http_404", None),
        (408, b"", (), "unknown", "http_408", None),
        (429, body(20429, 429), (), "retry_after", "20429", 2),
        (429, body(20429, 429), ("Retry-After: 17",), "retry_after", "20429", 17),
        (429, b"slow down", ("Retry-After: 17",), "retry_after", "http_429", 17),
        (429, body(21611, 429), (), "retry_after", "21611", 60),
        (429, b"", ("Retry-After: 99999999999999999999",), "retry_after", "http_429", 86400),
        (429, b"", ("Retry-After: Tue, 24 Nov 2026 10:00:00 GMT",), "retry_after", "http_429", 2),
        (503, body(20503, 503), (), "unknown", "20503", None),
        (503, body(20503, 503), ("Retry-After: 9",), "retry_after", "20503", 9),
        (503, b"<html>", ("Retry-After: 9",), "retry_after", "http_503", 9),
        (503, b"<html>", (), "unknown", "http_503", None),
        (500, body(20500, 500), ("Retry-After: 9",), "unknown", "20500", None),
        (500, body(21211, 500), (), "unknown", "21211", None),
        (502, b"<html>", (), "unknown", "http_502", None),
    ],
)
async def test_each_answer_ends_in_its_class_and_is_asked_for_once(
    scripted, status, answer, headers, ending, code, wait
):
    server = await scripted(answering(status, answer, *headers))

    handed = await sent(server.url)

    assert (handed.ending, handed.code) == (ending, code)
    assert handed.retry_after == (wait and timedelta(seconds=wait))
    assert len(server.requests) == 1


async def test_an_rfc_9457_error_is_read_as_well(scripted):
    problem = {"type": "u", "title": "t", "status": 200, "code": 21610, "detail": "+12025550110"}
    server = await scripted(answering(400, json.dumps(problem).encode()))

    handed = await sent(server.url)

    assert (handed.ending, handed.code) == (HandOver.OPT_OUT, "21610")


async def test_an_endless_answer_is_unknown(scripted):
    server = await scripted(answering(201, b" " * ((1 << 20) + 1)))

    handed = await sent(server.url)

    assert (handed.ending, handed.code) == (HandOver.UNKNOWN, "unreadable_answer")


@pytest.mark.parametrize("act", [reset, closed, cut_short])
async def test_a_connection_that_breaks_after_the_request_is_unknown_and_not_repeated(scripted, act):
    server = await scripted(act)

    handed = await sent(server.url)

    assert (handed.ending, handed.code) == (HandOver.UNKNOWN, "broken_connection")
    assert len(server.requests) == 1


async def test_a_refused_connection_is_not_sent(unused_tcp_port):
    handed = await sent(f"http://127.0.0.1:{unused_tcp_port}")

    assert (handed.ending, handed.code) == (HandOver.NOT_SENT, "refused")


async def test_a_name_that_does_not_resolve_is_not_sent():
    handed = await sent("http://nowhere.invalid")

    assert (handed.ending, handed.code) == (HandOver.NOT_SENT, "dns")


async def test_a_failed_handshake_is_not_sent(scripted):
    async def junk(reader, writer):
        writer.write(b"HTTP/1.1 400 not TLS\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(junk, "127.0.0.1", 0)
    handed = await sent(f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    server.close()

    assert (handed.ending, handed.code) == (HandOver.NOT_SENT, "tls")


def test_silence_is_unknown_after_15_seconds():
    async def run():
        server = await asyncio.start_server(silent, "127.0.0.1", 0)
        await sent(
            f"http://127.0.0.1:{unused_port()}"
        )  # what is loaded once is loaded: it lasts seconds here
        started = asyncio.get_running_loop().time()
        handed = await sent(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        seconds = asyncio.get_running_loop().time() - started
        server.close()
        await asyncio.sleep(2)  # the server sees the end of the connection
        return handed, seconds

    with asyncio.Runner(loop_factory=FastLoop) as runner:
        handed, seconds = runner.run(run())

    assert (handed.ending, handed.code) == (HandOver.UNKNOWN, "timeout")
    assert 15 <= seconds < 20


def test_a_connection_that_does_not_come_about_is_not_sent_after_3_seconds():
    async def run(port):
        await sent(
            f"http://127.0.0.1:{unused_port()}"
        )  # what is loaded once is loaded: it lasts seconds here
        started = asyncio.get_running_loop().time()
        handed = await sent(f"http://127.0.0.1:{port}")
        return handed, asyncio.get_running_loop().time() - started

    with socket.socket() as full, socket.socket() as first, socket.socket() as second:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for filler in (first, second):
            filler.settimeout(0)
            filler.connect_ex(full.getsockname())
        with asyncio.Runner(loop_factory=FastLoop) as runner:
            handed, seconds = runner.run(run(full.getsockname()[1]))

    assert (handed.ending, handed.code) == (HandOver.NOT_SENT, "timeout")
    assert 3 <= seconds < 8


@pytest.mark.parametrize(
    ("left", "validity"),
    [(0.999, None), (0, None), (-5, None), (1, "1"), (59.9, "59"), (36000, "36000"), (90000, "36000")],
)
async def test_twilio_keeps_a_message_no_longer_than_it_may_be_delivered(scripted, left, validity):
    server = await scripted(answering(201, b'{"sid": "SM1"}'))

    handed = await sent(server.url, left=left)

    if validity is None:
        assert (handed.ending, server.requests) == (HandOver.EXPIRED, [])
    else:
        assert handed.ending is HandOver.ACCEPTED
        assert form(server)["ValidityPeriod"] == [validity]


def form(server):
    return parse_qs(server.requests[0].partition(b"\r\n\r\n")[2].decode())


@pytest.mark.parametrize(
    ("more", "user", "sender"),
    [
        ({}, f"{SID}:{TOKEN}", {"From": ["+12025550100"]}),
        ({"sender": SERVICE}, f"{SID}:{TOKEN}", {"MessagingServiceSid": [SERVICE]}),
        (
            {"api_key_sid": "SK" + "2" * 32, "api_key_secret": "key"},
            f"SK{'2' * 32}:key",
            {"From": ["+12025550100"]},
        ),
    ],
)
async def test_the_request_is_what_twilio_documents(scripted, more, user, sender):
    server = await scripted(answering(201, b'{"sid": "SM1"}'))
    twilio = adapter(server.url, **more)
    await twilio.send(message(text="您好 & ü", callback="https://gw.example/cb/twilio_sms/tw/" + REF))
    await twilio.aclose()

    head = server.requests[0].partition(b"\r\n\r\n")[0].decode()
    assert head.startswith(f"POST /2010-04-01/Accounts/{SID}/Messages.json HTTP/1.1")
    assert f"Authorization: Basic {base64.b64encode(user.encode()).decode()}" in head
    assert form(server) == sender | {
        "To": ["+12025550110"],
        "Body": ["您好 & ü"],
        "StatusCallback": [f"https://gw.example/cb/twilio_sms/tw/{REF}#rc=5&rp=all&tt=15000"],
        "ValidityPeriod": ["3600"],
    }


@pytest.mark.parametrize("mode", ["swallow", "drop"])
async def test_a_lost_answer_is_healed_by_the_first_callback(sim, door, mode):
    await sim.next(mode=mode)
    door.adapter = adapter(sim.url)

    sending = asyncio.create_task(door.adapter.send(message(callback=door.callback_url())))
    await door.until(lambda d: d.outcomes()[-1:] == ["delivered"])

    if mode == "drop":
        assert (await sending).ending is HandOver.UNKNOWN
    sending.cancel()
    [line] = sim.ledger()
    assert {(r.ref, r.provider_id) for r in door.receipts} == {(line["ref"], line["id"])}
    await door.adapter.aclose()


async def test_a_fault_before_the_work_leaves_nothing_behind(sim):
    await sim.next(mode="status", status=503, headers={"Retry-After": "3"})

    first, second = await sent(sim.url), await sent(sim.url)

    assert (first.ending, first.retry_after) == (HandOver.RETRY_AFTER, timedelta(seconds=3))
    assert second.ending is HandOver.ACCEPTED
    assert len(sim.ledger()) == 1


def signed(fields, *, token=TOKEN, url="https://gw.example/cb/twilio_sms/tw/" + REF, ref=REF):
    signature = RequestValidator(token).compute_signature(url, fields)
    return Callback(
        method="POST",
        url=url,
        ref=ref,
        headers={"x-twilio-signature": signature},
        query={},
        body=urlencode(fields).encode(),
        now=datetime.now(UTC),
    )


@pytest.fixture
async def twilio():
    twilio = adapter("http://127.0.0.1:9")
    yield twilio
    await twilio.aclose()


@pytest.mark.parametrize("status", [*STATUSES, "unheard_of", "received"])
async def test_each_status_gives_its_outcome(twilio, status):
    answer = await twilio.receive(signed({"MessageSid": "SM1", "MessageStatus": status}), second_stage)

    assert answer.status == 204
    [receipt] = answer.receipts
    assert receipt.outcome is STATUSES.get(status, Outcome.UNKNOWN)
    assert (receipt.ref, receipt.provider_id) == (REF, "SM1")


@pytest.mark.parametrize(
    ("error", "code", "opt_out", "address_dead"),
    [
        ("", None, False, False),
        ("21610", "21610", True, False),
        ("30003", "30003", False, False),
        ("30004", "30004", True, False),
        ("30005", "30005", False, True),
        ("30006", "30006", False, True),
        ("30007", "30007", False, False),
        ("30036", "30036", False, False),
        ("99999", "99999", False, False),
        ("+12025550110", None, False, False),
    ],
)
async def test_each_error_code_says_what_it_means_for_the_address(twilio, error, code, opt_out, address_dead):
    fields = {"MessageSid": "SM1", "MessageStatus": "undelivered", "ErrorCode": error}
    answer = await twilio.receive(signed(fields), second_stage)

    [receipt] = answer.receipts
    assert receipt.outcome is Outcome.FAILED
    assert (receipt.code, receipt.opt_out, receipt.address_dead) == (code, opt_out, address_dead)
    assert receipt.refusal is None


@pytest.mark.parametrize("status", ["failed", "undelivered"])
@pytest.mark.parametrize(
    ("error", "wait_s", "reach"), [("30001", 60, "rate"), ("30022", 60, "rate"), ("30023", 3600, "account")]
)
async def test_what_was_too_much_for_a_queue_or_a_carrier_is_a_refusal(twilio, status, error, wait_s, reach):
    fields = {"MessageSid": "SM1", "MessageStatus": status, "ErrorCode": error}
    answer = await twilio.receive(signed(fields), second_stage)

    [receipt] = answer.receipts
    assert (receipt.outcome, receipt.ref, receipt.provider_id) == (Outcome.REJECTED, REF, "SM1")
    assert receipt.refusal == Handed(
        ending=HandOver.RETRY_AFTER, code=error, retry_after=timedelta(seconds=wait_s), reach=reach
    )


@pytest.mark.parametrize("status", ["queued", "sent", "delivered", "partially_delivered"])
async def test_a_code_of_too_much_beside_another_status_gives_nothing_up(twilio, status):
    answer = await twilio.receive(signed({"MessageStatus": status, "ErrorCode": "30001"}), second_stage)

    [receipt] = answer.receipts
    assert (receipt.outcome, receipt.refusal) == (STATUSES[status], None)


def changed(callback, **change):
    given = {name: getattr(callback, name) for name in Callback.__slots__}
    return Callback(**(given | change))


GENUINE = signed({"MessageSid": "SM1", "MessageStatus": "delivered", "ErrorMessage": "", "To": "+1 2"})


@pytest.mark.parametrize(
    "forged",
    [
        signed({"MessageStatus": "delivered"}, token="other"),
        changed(GENUINE, headers={}),
        changed(GENUINE, headers={"x-twilio-signature": ""}),
        changed(GENUINE, headers={"x-twilio-signature": "é" * 28}),
        changed(GENUINE, body=GENUINE.body.replace(b"delivered", b"undelivered")),
        changed(GENUINE, body=GENUINE.body + b"&ErrorCode=21610"),
        changed(GENUINE, body=GENUINE.body + b"&MessageStatus=read"),
        changed(GENUINE, url=GENUINE.url.replace("AA", "AB")),
        changed(GENUINE, url=GENUINE.url + "?event=digits"),
        changed(GENUINE, url=GENUINE.url.replace("gw.example", "evil.example")),
        changed(GENUINE, body=b""),
        changed(GENUINE, body=b"\xff\xfe"),
        changed(GENUINE, body=b"&".join(b"a=1" for _ in range(101))),
    ],
)
async def test_a_callback_that_twilio_did_not_sign_is_forbidden(twilio, forged):
    answer = await twilio.receive(forged, second_stage)

    assert (answer.status, answer.receipts) == (403, ())


@pytest.mark.parametrize(
    "genuine",
    [
        GENUINE,
        changed(GENUINE, headers={"X-Twilio-Signature": GENUINE.headers["x-twilio-signature"]}),
        changed(GENUINE, url=GENUINE.url.replace("gw.example", "gw.example:443")),
    ],
)
async def test_a_genuine_callback_is_taken_whatever_a_proxy_made_of_it(twilio, genuine):
    answer = await twilio.receive(genuine, second_stage)

    assert (answer.status, answer.receipts[0].outcome) == (204, Outcome.DELIVERED)


@pytest.mark.parametrize("sender", ["+12025550100", SERVICE])
async def test_the_only_message_made_during_the_call_is_found(sim, sender):
    twilio = adapter(sim.url, sender=sender)
    started = datetime.now(UTC)
    handed = await twilio.send(message(to="+12025550117"))

    receipt = await twilio.look_up(REF, Pii("+12025550117"), started)

    await twilio.aclose()
    assert (receipt.ref, receipt.provider_id) == (REF, handed.provider_id)
    assert receipt.outcome in {Outcome.ACCEPTED, Outcome.FAILED}


@pytest.mark.parametrize(
    ("others", "began", "expected"),
    [
        ([], timedelta(0), NotShown()),
        (["+12025550199"], timedelta(0), NotShown()),
        (["+12025550100"], timedelta(seconds=40), NotShown()),
        (["+12025550100"], timedelta(seconds=10), None),
        (["+12025550100", "+12025550100"], timedelta(0), None),
        (["+12025550100"], timedelta(seconds=-25), None),
    ],
)
async def test_what_was_not_made_since_is_not_shown_and_two_or_a_later_one_prove_nothing(
    sim, others, began, expected
):
    started = datetime.now(UTC)
    for sender in others:
        other = adapter(sim.url, sender=sender)
        await other.send(message())
        await other.aclose()
    twilio = adapter(sim.url)

    receipt = await twilio.look_up(REF, Pii("+12025550110"), started + began)

    await twilio.aclose()
    assert receipt == expected


async def test_a_list_that_may_have_more_shows_nobody_missing(sim):
    twilio = adapter(sim.url)
    for _ in range(50):
        await twilio.send(message())

    receipt = await twilio.look_up(REF, Pii("+12025550110"), datetime.now(UTC) + timedelta(minutes=1))

    await twilio.aclose()
    assert receipt is None


@pytest.mark.parametrize(
    "act",
    [
        reset,
        answering(500, b"x"),
        answering(401, b"{}"),
        answering(200, b"x"),
        answering(200, b"{}"),
        answering(200, b'{"messages": [7]}'),
        answering(200, b'{"messages": [{"sid": "SM1"}]}'),
    ],
)
async def test_a_provider_that_cannot_tell_is_no_answer(scripted, act):
    twilio = adapter((await scripted(act)).url)

    receipt = await twilio.look_up(REF, Pii("+12025550110"), datetime.now(UTC))

    await twilio.aclose()
    assert receipt is None


@pytest.mark.parametrize(
    ("credentials", "ok", "word"),
    [
        ({}, True, "the credentials work and the account is active"),
        ({"auth_token": "wrong"}, False, "Twilio refuses the credentials; check account_sid and auth_token"),
        (
            {"api_key_sid": "SK" + "2" * 32, "api_key_secret": TOKEN},
            True,
            "the credentials work and the account is active",
        ),
        (
            {"api_key_sid": "SK" + "2" * 32, "api_key_secret": "wrong"},
            False,
            "Twilio refuses the credentials; check api_key_sid and api_key_secret",
        ),
    ],
)
async def test_check_tries_the_credentials_and_sends_nothing(sim, credentials, ok, word):
    twilio = adapter(sim.url, **credentials)
    checked = await twilio.check()
    await twilio.aclose()

    assert (checked.ok, checked.word) == (ok, word)
    assert sim.ledger() == []


@pytest.mark.parametrize(
    ("act", "word"),
    [
        (answering(200, b'{"sid": "AC1", "status": "suspended"}'), "not active"),
        (answering(500, b"x"), "HTTP status 500"),
        (reset, "not reached (broken_connection)"),
    ],
)
async def test_check_says_what_is_wrong(scripted, act, word):
    twilio = adapter((await scripted(act)).url)
    checked = await twilio.check()
    await twilio.aclose()

    assert not checked.ok
    assert word in checked.word


@pytest.mark.parametrize(
    ("more", "named"),
    [
        ({"account_sid": None, "auth_token": None}, ["account_sid", "auth_token"]),
        ({"account_sid": "AC-hidden"}, ["account_sid"]),
        ({"auth_token": ""}, ["auth_token"]),
        ({"api_key_sid": "SK" + "2" * 32}, ["api_key_sid and api_key_secret"]),
        ({"api_key_sid": "hidden", "api_key_secret": "x"}, ["api_key_sid"]),
        ({"sender": ""}, ["sender"]),
        ({"sender": "MG-hidden-and-too-long"}, ["sender"]),
        ({"settings": {"color": "hidden"}}, ["color"]),
    ],
)
async def test_a_wrong_setting_is_named_and_never_shown(more, named):
    with pytest.raises(SetupError) as wrong:
        adapter("http://127.0.0.1:9", **more)

    assert all(name in wrong.value.message for name in named)
    assert "hidden" not in wrong.value.message
    assert wrong.value.__context__ is None or wrong.value.__suppress_context__


async def test_an_endpoint_that_is_no_url_is_refused():
    with pytest.raises(SetupError, match="endpoint"):
        adapter("127.0.0.1:9100")


async def test_nothing_personal_is_logged(sim, scripted, caplog):
    caplog.set_level(logging.DEBUG)
    twilio, failing = adapter(sim.url), adapter((await scripted(answering(400, body(21211, 400)))).url)
    for one in (twilio, failing):
        await one.send(message(text="SECRET"))
        await one.look_up(REF, Pii("+12025550110"), datetime.now(UTC))
        await one.aclose()

    assert "2025550110" not in caplog.text
    assert "SECRET" not in caplog.text


def test_every_code_row_is_a_twilio_code_an_http_status_or_unknown():
    for code, row in CODES.items():
        assert code == "unknown" or code.startswith("http_4") or (len(code) == 5 and code.isdecimal())
        assert (row.ending is HandOver.RETRY_AFTER) == (row.wait is not None) == (row.reach is not None)


@pytest.mark.parametrize(
    ("status", "answer", "back"),
    [
        (200, {"sid": "SM1", "status": "canceled"}, True),
        (200, {"sid": "SM1", "status": "sent"}, False),
        (400, {"code": 30409, "message": "cannot be canceled", "status": 400}, False),
    ],
)
async def test_a_message_is_taken_back_only_when_twilio_says_so(scripted, status, answer, back):
    server = await scripted(answering(status, json.dumps(answer).encode()))
    twilio = adapter(server.url)
    taken = await twilio.cancel("SM1")
    await twilio.aclose()

    assert taken is back
    assert server.requests[0].startswith(b"POST /2010-04-01/Accounts/%b/Messages/SM1.json" % SID.encode())
    assert server.requests[0].endswith(b"Status=canceled")


async def test_the_simulator_gives_no_message_back_that_was_not_scheduled(sim):
    twilio = adapter(sim.url)
    handed = await twilio.send(message())
    taken = [await twilio.cancel(handed.provider_id), await twilio.cancel("SM" + "0" * 32)]
    await twilio.aclose()

    assert taken == [False, False]
