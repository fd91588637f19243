import asyncio
import json
from datetime import UTC, datetime
from urllib.parse import parse_qs, urlencode
from xml.etree import ElementTree as ET

import pytest
from twilio.request_validator import RequestValidator
from twilio_wire import (
    REF,
    SECOND,
    SID,
    TOKEN,
    FastLoop,
    account,
    answering,
    message,
    reset,
    second_stage,
    silent,
    tools,
)

from channels.twilio_voice import STATUSES, Adapter
from gateway.domain import HandOver, NotShown, Outcome
from gateway.errors import SetupError
from gateway.masking import Pii
from gateway.ports import Callback

FIRST = "这里是示例公司。您是本人请按1。不希望联系请按9。"
URL = f"https://gw.example/cb/twilio_voice/tw/{REF}"
CALL = "CA" + "3" * 32


def adapter(endpoint, **more):
    return Adapter(account("twilio_voice", endpoint, **more), tools())


async def no_stage():
    return None


async def never():
    raise AssertionError("the second stage was asked for")


@pytest.fixture
async def twilio():
    twilio = adapter("http://127.0.0.1:9")
    yield twilio
    await twilio.aclose()


def request(server):
    fields = parse_qs(server.requests[0].partition(b"\r\n\r\n")[2].decode())
    return {name: value if len(value) > 1 else value[0] for name, value in fields.items()}


def signed(fields, query="", *, token=TOKEN):
    url = f"{URL}?{query}" if query else URL
    return Callback(
        method="POST",
        url=url,
        ref=REF,
        headers={"X-Twilio-Signature": RequestValidator(token).compute_signature(url, fields)},
        query={name: values[0] for name, values in parse_qs(query).items()},
        body=urlencode(fields).encode(),
        now=datetime.now(UTC),
    )


def pressed(key, lang="zh-CN", **more):
    return signed(
        {"CallSid": CALL, "Digits": key, "CallStatus": "in-progress"}, f"event=digits&lang={lang}", **more
    )


def said(answer):
    response = ET.fromstring(answer.body)
    assert response[-1].tag == "Hangup"
    return [(say.get("language"), say.text) for say in response.iter("Say")]


@pytest.mark.parametrize(
    ("to", "outcomes", "opt_out"),
    [
        ("+12025550110", ["accepted", "accepted", "answered", "conversation", "answered"], False),
        ("+12025550111", ["accepted", "no_answer"], False),
        ("+12025550112", ["accepted", "busy"], False),
        ("+12025550113", ["accepted", "accepted", "voicemail", "voicemail"], False),
        ("+12025550115", ["accepted", "accepted", "answered", "answered"], False),
        ("+12025550119", ["accepted", "accepted", "answered", "answered", "answered"], True),
    ],
)
async def test_a_call_goes_as_its_recipient_has_it(sim, door, to, outcomes, opt_out):
    door.adapter = adapter(sim.url)
    handed = await door.adapter.send(message(to, text=FIRST, second=SECOND, callback=door.callback_url()))
    await door.until(lambda d: len(d.receipts) == len(outcomes))

    assert handed.ending is HandOver.ACCEPTED
    assert door.outcomes() == outcomes
    assert any(r.opt_out for r in door.receipts) is opt_out
    assert {(r.ref, r.provider_id) for r in door.receipts} == {(REF, handed.provider_id)}
    [line] = sim.ledger()
    assert (line["kind"], line["to"], line["ref"], line["id"]) == ("call", to, REF, handed.provider_id)
    assert line["text"] == f"{FIRST}\n再见。"
    await door.adapter.aclose()


@pytest.mark.parametrize(
    ("answered_by", "outcome", "hung_up"),
    [
        ("machine_start", Outcome.VOICEMAIL, True),
        ("machine_end_beep", Outcome.VOICEMAIL, True),
        ("fax", Outcome.VOICEMAIL, True),
        ("human", Outcome.ANSWERED, False),
        ("unknown", Outcome.ANSWERED, False),
        ("", Outcome.ANSWERED, False),
        ("unheard_of", Outcome.ANSWERED, False),
    ],
)
async def test_only_a_sure_machine_is_hung_up_on(scripted, answered_by, outcome, hung_up):
    server = await scripted(answering(200, b'{"sid": "CA1"}'))
    twilio = adapter(server.url)
    answer = await twilio.receive(signed({"CallSid": CALL, "AnsweredBy": answered_by}, "event=amd"), never)
    await twilio.aclose()

    assert (answer.status, [r.outcome for r in answer.receipts]) == (204, [outcome])
    assert len(server.requests) == hung_up
    if hung_up:
        assert server.requests[0].startswith(
            b"POST /2010-04-01/Accounts/%b/Calls/%b.json" % (SID.encode(), CALL.encode())
        )
        assert request(server) == {"Status": "completed"}


async def test_a_machine_that_cannot_be_hung_up_on_is_still_a_machine(scripted):
    twilio = adapter((await scripted(reset)).url)
    answer = await twilio.receive(
        signed({"CallSid": CALL, "AnsweredBy": "machine_start"}, "event=amd"), never
    )
    await twilio.aclose()

    assert [r.outcome for r in answer.receipts] == [Outcome.VOICEMAIL]


def test_hanging_up_takes_no_more_than_5_seconds():
    async def run():
        server = await asyncio.start_server(silent, "127.0.0.1", 0)
        twilio = adapter(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        started = asyncio.get_running_loop().time()
        answer = await twilio.receive(signed({"CallSid": CALL, "AnsweredBy": "fax"}, "event=amd"), never)
        seconds = asyncio.get_running_loop().time() - started
        await twilio.aclose()
        server.close()
        await asyncio.sleep(2)  # the server sees the end of the connection
        return answer, seconds

    with asyncio.Runner(loop_factory=FastLoop) as runner:
        answer, seconds = runner.run(run())

    assert [r.outcome for r in answer.receipts] == [Outcome.VOICEMAIL]
    assert 5 <= seconds < 10


async def test_the_request_is_what_twilio_documents(scripted):
    server = await scripted(answering(201, b'{"sid": "CA1"}'))
    twilio = adapter(server.url)
    handed = await twilio.send(message(text=FIRST, second=SECOND, callback=URL))
    await twilio.aclose()

    assert (handed.ending, handed.provider_id) == (HandOver.ACCEPTED, "CA1")
    assert server.requests[0].startswith(f"POST /2010-04-01/Accounts/{SID}/Calls.json HTTP/1.1".encode())
    fields = request(server)
    twiml = ET.fromstring(fields.pop("Twiml"))
    assert fields == {
        "To": "+12025550110",
        "From": "+12025550100",
        "Timeout": "25",
        "TimeLimit": "90",
        "MachineDetection": "Enable",
        "AsyncAmd": "true",
        "AsyncAmdStatusCallback": f"{URL}?event=amd#rc=5&rp=all&tt=15000",
        "StatusCallback": f"{URL}#rc=5&rp=all&tt=15000",
        "StatusCallbackEvent": ["initiated", "answered", "completed"],
    }
    assert [child.tag for child in twiml] == ["Gather", "Say", "Hangup"]
    assert twiml[0].attrib == {
        "input": "dtmf",
        "numDigits": "1",
        "timeout": "6",
        "method": "POST",
        "action": f"{URL}?event=digits&lang=zh-CN#rc=5&rp=all&tt=15000",
    }
    assert [(say.get("language"), say.text) for say in twiml.iter("Say")] == [
        ("zh-CN", FIRST),
        ("zh-CN", "再见。"),
    ]


async def test_a_callback_url_with_a_query_keeps_it(scripted):
    server = await scripted(answering(201, b'{"sid": "CA1"}'))
    twilio = adapter(server.url)
    await twilio.send(message(text=FIRST, callback=URL + "?t=0123"))
    await twilio.aclose()

    fields = request(server)
    assert fields["StatusCallback"] == f"{URL}?t=0123#rc=5&rp=all&tt=15000"
    assert fields["AsyncAmdStatusCallback"] == f"{URL}?t=0123&event=amd#rc=5&rp=all&tt=15000"
    gather = ET.fromstring(fields["Twiml"])[0]
    assert gather.get("action") == f"{URL}?t=0123&event=digits&lang=zh-CN#rc=5&rp=all&tt=15000"


async def test_the_second_stage_does_not_travel_with_the_call(scripted):
    server = await scripted(answering(201, b'{"sid": "CA1"}'))
    twilio = adapter(server.url)
    await twilio.send(message(text=FIRST, second="debt <of> 1280"))
    await twilio.aclose()

    assert b"1280" not in server.requests[0]
    assert "debt" not in request(server)["Twiml"]


@pytest.mark.parametrize(
    ("language", "tag"),
    [
        ("zh-CN", "zh-CN"),
        ("zh", "zh-CN"),
        ("ZH-hans", "zh-CN"),
        ("en", "en-US"),
        ("en-GB", "en-US"),
        ("xx", "en-US"),
    ],
)
async def test_it_speaks_the_language_of_the_text(scripted, language, tag):
    server = await scripted(answering(201, b'{"sid": "CA1"}'))
    twilio = adapter(server.url)
    await twilio.send(message(text="5 < 6 & more", language=language))
    await twilio.aclose()

    says = list(ET.fromstring(request(server)["Twiml"]).iter("Say"))
    assert [say.get("language") for say in says] == [tag, tag]
    assert says[0].text == "5 < 6 & more"


@pytest.mark.parametrize(
    ("settings", "left", "limit"),
    [
        ({}, 59.9, None),
        ({}, 60, "30"),
        ({}, 119.9, "89"),
        ({}, 120, "90"),
        ({}, 9000, "90"),
        ({"talk_s": "40"}, 59.9, None),
        ({"talk_s": "40"}, 9000, "40"),
    ],
)
async def test_a_call_has_ended_by_the_closing_hour_or_is_not_begun(scripted, settings, left, limit):
    server = await scripted(answering(201, b'{"sid": "CA1"}'))
    twilio = adapter(server.url, settings=settings)
    handed = await twilio.send(message(text=FIRST, left=left))
    await twilio.aclose()

    if limit is None:
        assert (handed.ending, server.requests) == (HandOver.EXPIRED, [])
    else:
        assert request(server)["TimeLimit"] == limit


async def test_the_class_promises_what_a_call_can_take_at_most():
    assert Adapter.reach.total_seconds() == 25 + 5 + 90
    assert Adapter.final_after.total_seconds() == 25 + 5 + 90 + 60


async def test_a_text_too_long_to_be_said_is_refused_without_a_call(scripted):
    server = await scripted(answering(201, b'{"sid": "CA1"}'))
    twilio = adapter(server.url)
    handed = await twilio.send(message(text="很" * 4000))
    await twilio.aclose()

    assert (handed.ending, handed.code, server.requests) == (HandOver.CONTENT, "twiml_too_long", [])


@pytest.mark.parametrize(
    ("to", "ending", "code"),
    [
        ("+12025550118", HandOver.ACCEPTED, None),
        ("+15005550001", HandOver.PERMANENT_RECIPIENT, "21217"),
        ("+15005550002", HandOver.PERMANENT_RECIPIENT, "21214"),
        ("+15005550003", HandOver.CONFIG, "21215"),
        ("+15005550004", HandOver.CONFIG, "21216"),
    ],
)
async def test_each_recipient_ends_in_its_class(sim, to, ending, code):
    twilio = adapter(sim.url)
    handed = await twilio.send(message(to))
    await twilio.aclose()

    assert (handed.ending, handed.code) == (ending, code)
    assert len(sim.ledger()) == (ending is HandOver.ACCEPTED)


@pytest.mark.parametrize(
    ("status", "code", "ending", "reach"),
    [
        (400, 10004, "retry_after", "rate"),
        (429, 20429, "retry_after", "rate"),
        (400, 12100, "content", None),
        (400, 21205, "config", None),
        (400, 13224, "permanent_recipient", None),
        (400, 99999, "content", None),
        (401, 20003, "config", None),
        (500, 20500, "unknown", None),
        (503, 20503, "unknown", None),
    ],
)
async def test_each_refusal_ends_in_its_class_and_is_not_repeated(scripted, status, code, ending, reach):
    server = await scripted(
        answering(status, json.dumps({"code": code, "message": "m", "status": status}).encode())
    )
    twilio = adapter(server.url)
    handed = await twilio.send(message())
    await twilio.aclose()

    assert (handed.ending, handed.code, handed.reach) == (ending, str(code), reach)
    assert len(server.requests) == 1


async def test_1_is_told_the_second_stage_and_is_a_conversation(twilio):
    answer = await twilio.receive(pressed("1"), second_stage)

    assert (answer.status, answer.content_type) == (200, "text/xml")
    assert said(answer) == [("zh-CN", SECOND), ("zh-CN", "再见。")]
    [receipt] = answer.receipts
    assert (receipt.outcome, receipt.ref, receipt.provider_id) == (Outcome.CONVERSATION, REF, CALL)
    assert not receipt.opt_out


async def test_1_without_a_second_stage_is_a_conversation_and_a_goodbye(twilio):
    answer = await twilio.receive(pressed("1"), no_stage)

    assert said(answer) == [("zh-CN", "再见。")]
    assert answer.receipts[0].outcome is Outcome.CONVERSATION


async def test_9_is_an_opt_out_and_hears_nothing_more(twilio):
    answer = await twilio.receive(pressed("9", "en-US"), never)

    assert said(answer) == [("en-US", "Your wish has been noted. Goodbye.")]
    [receipt] = answer.receipts
    assert (receipt.outcome, receipt.opt_out) == (Outcome.ANSWERED, True)


@pytest.mark.parametrize("key", ["2", "0", "*", "#", "", "11", "19"])
async def test_any_other_key_is_a_goodbye(twilio, key):
    answer = await twilio.receive(pressed(key, "en-US"), never)

    assert said(answer) == [("en-US", "Goodbye.")]
    [receipt] = answer.receipts
    assert (receipt.outcome, receipt.opt_out) == (Outcome.ANSWERED, False)


@pytest.mark.parametrize(
    ("status", "answered_by", "outcome"),
    [
        *((status, "", outcome) for status, outcome in STATUSES.items()),
        ("unheard_of", "", Outcome.UNKNOWN),
        ("completed", "human", Outcome.ANSWERED),
        ("completed", "unknown", Outcome.ANSWERED),
        ("completed", "machine_start", Outcome.VOICEMAIL),
        ("completed", "machine_end_silence", Outcome.VOICEMAIL),
        ("completed", "fax", Outcome.VOICEMAIL),
        ("in-progress", "machine_start", Outcome.VOICEMAIL),
        ("in-progress", "human", Outcome.ANSWERED),
        ("in-progress", "unknown", Outcome.ANSWERED),
        ("ringing", "human", Outcome.ACCEPTED),
        ("failed", "machine_start", Outcome.FAILED),
        ("no-answer", "machine_start", Outcome.NO_ANSWER),
    ],
)
async def test_each_status_gives_its_outcome(twilio, status, answered_by, outcome):
    fields = {"CallSid": CALL, "CallStatus": status, "AnsweredBy": answered_by}
    answer = await twilio.receive(signed(fields), never)

    assert (answer.status, [r.outcome for r in answer.receipts]) == (204, [outcome])


@pytest.mark.parametrize(
    ("timestamp", "at"),
    [
        ("Tue, 24 Nov 2026 09:30:05 +0000", datetime(2026, 11, 24, 9, 30, 5, tzinfo=UTC)),
        ("Tue, 24 Nov 2026 17:30:05 +0800", datetime(2026, 11, 24, 9, 30, 5, tzinfo=UTC)),
        ("Tue, 24 Nov 2026 09:30:05 -0000", None),
        ("yesterday", None),
        ("", None),
    ],
)
async def test_the_instant_is_twilios(twilio, timestamp, at):
    fields = {"CallSid": CALL, "CallStatus": "completed", "Timestamp": timestamp}
    answer = await twilio.receive(signed(fields), never)

    assert answer.receipts[0].at == at


@pytest.mark.parametrize(
    ("error", "dead"), [("13224", True), ("13227", False), ("99999", False), ("", False)]
)
async def test_a_number_that_cannot_work_is_dead(twilio, error, dead):
    fields = {"CallSid": CALL, "CallStatus": "failed", "ErrorCode": error}
    answer = await twilio.receive(signed(fields), never)

    [receipt] = answer.receipts
    assert (receipt.code, receipt.address_dead) == (error or None, dead)


@pytest.mark.parametrize(
    "forged",
    [
        pressed("1", token="other"),
        signed({"CallSid": CALL, "AnsweredBy": "fax"}, "event=amd", token="other"),
        signed({"CallSid": CALL, "CallStatus": "completed"}, token="other"),
    ],
)
async def test_a_forged_callback_is_forbidden_and_hears_nothing(twilio, forged):
    answer = await twilio.receive(forged, never)

    assert (answer.status, answer.receipts, answer.body) == (403, (), b"")


@pytest.mark.parametrize("event", ["amd", "status"])
async def test_a_signed_callback_of_one_kind_is_not_taken_for_another(twilio, event):
    genuine = signed({"CallSid": CALL, "Digits": "1"}, f"event={event}")
    moved = Callback(
        method="POST",
        url=f"{URL}?event=digits",
        ref=REF,
        headers=genuine.headers,
        query={"event": "digits"},
        body=genuine.body,
        now=genuine.now,
    )

    assert (await twilio.receive(moved, never)).status == 403


async def test_the_only_call_made_meanwhile_is_found(sim):
    twilio = adapter(sim.url)
    started = datetime.now(UTC)
    nobody = await twilio.look_up(REF, Pii("+12025550111"), started)
    handed = await twilio.send(message("+12025550111", callback="http://127.0.0.1:9/cb/x/tw/" + REF))
    receipt = await twilio.look_up(REF, Pii("+12025550111"), started)
    await twilio.send(message("+12025550111"))
    two = await twilio.look_up(REF, Pii("+12025550111"), started)
    await twilio.aclose()

    assert (nobody, two) == (NotShown(), None)
    assert (receipt.ref, receipt.provider_id) == (REF, handed.provider_id)
    assert receipt.outcome in {Outcome.ACCEPTED, Outcome.NO_ANSWER}


async def test_a_provider_that_cannot_tell_is_no_answer(scripted):
    twilio = adapter((await scripted(reset)).url)
    receipt = await twilio.look_up(REF, Pii("+12025550110"), datetime.now(UTC))
    await twilio.aclose()

    assert receipt is None


async def test_check_tries_the_credentials_and_calls_nobody(sim):
    twilio, wrong = adapter(sim.url), adapter(sim.url, auth_token="wrong")
    checked, refused = await twilio.check(), await wrong.check()
    await twilio.aclose()
    await wrong.aclose()

    assert (checked.ok, refused.ok, sim.ledger()) == (True, False, [])


@pytest.mark.parametrize(
    ("more", "named"),
    [
        ({"sender": "ACME"}, "sender"),
        ({"settings": {"talk_s": "91"}}, "talk_s"),
        ({"settings": {"talk_s": "29"}}, "talk_s"),
        ({"settings": {"talk_s": "long"}}, "talk_s"),
    ],
)
async def test_a_wrong_setting_is_named(more, named):
    with pytest.raises(SetupError, match=named):
        adapter("http://127.0.0.1:9", **more)


@pytest.mark.parametrize(
    ("status", "answer", "back"),
    [
        (200, {"sid": CALL, "status": "canceled"}, True),
        (200, {"sid": CALL, "status": "in-progress"}, False),
        (200, {"sid": CALL, "status": "completed"}, False),
        (404, {"code": 20404, "message": "not found", "status": 404}, False),
    ],
)
async def test_a_call_is_taken_back_only_when_twilio_says_so(scripted, status, answer, back):
    server = await scripted(answering(status, json.dumps(answer).encode()))
    twilio = adapter(server.url)
    taken = await twilio.cancel(CALL)
    await twilio.aclose()

    assert taken is back
    assert server.requests[0].startswith(
        b"POST /2010-04-01/Accounts/%b/Calls/%b.json" % (SID.encode(), CALL.encode())
    )
    assert request(server) == {"Status": "canceled"}


async def test_a_call_whose_recall_is_not_answered_may_still_ring(scripted):
    twilio = adapter((await scripted(reset)).url)
    taken = await twilio.cancel(CALL)
    await twilio.aclose()

    assert taken is False
