"""The WeChat adapter against scripted sockets: classes of answers, tokens, the limits of values."""

import asyncio
import json
from datetime import UTC, datetime, timedelta, timezone
from urllib.parse import parse_qsl, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rig import (
    REF,
    Tokens,
    account,
    answer,
    cut,
    in_fast_time,
    message,
    raw,
    scripted,
    silence,
    tools,
    unused_port,
)

import channels
from channels.wechat import CODES, LIMITS, Adapter, fit, token_life, until_midnight
from gateway.domain import Channel, Handed, HandOver
from gateway.errors import SetupError
from gateway.ports import Checked

APPID = "wx0123456789abcdef"
OPENID = "oia2TjuEGTNoeX76QEjQNrcURxG8"
KEYS = {"app_secret": "simulator", "token": "simulator"}
NAME = f"wechat:live:{APPID}"
TOKEN = answer(200, {"access_token": "T1", "expires_in": 7200})


def adapter(endpoint, tokens=None, **keys):
    return Adapter(account("wechat", APPID, endpoint, KEYS | keys), tools(tokens))


def holding(token="T0"):
    tokens = Tokens()
    tokens.held[NAME] = token
    return tokens


async def sent(*acts, tokens=None, to=OPENID, variables=None, **how):
    """How one send ended and what the scripted server read; a token is held unless told otherwise."""
    async with scripted(*acts) as server:
        under_test = adapter(server.url, tokens or holding())
        try:
            return await under_test.send(message(to, variables, **how)), server.requests
        finally:
            await under_test.aclose()


def body(request):
    return json.loads(request.partition(b"\r\n\r\n")[2])


def target(request):
    parts = urlsplit(request.split(b" ")[1].decode())
    return parts.path, dict(parse_qsl(parts.query))


async def test_the_request_carries_the_template_its_values_and_our_reference():
    ended, requests = await sent(
        answer(200, {"errcode": 0, "errmsg": "ok", "msgid": 200163836}),
        variables={"thing1": "张三", "amount2": "¥1,280.50"},
        code="TPL-1",
    )

    assert ended == Handed(ending=HandOver.ACCEPTED, provider_id="200163836", code="0")
    assert target(requests[0]) == ("/cgi-bin/message/template/send", {"access_token": "T0"})
    assert body(requests[0]) == {
        "touser": OPENID,
        "template_id": "TPL-1",
        "client_msg_id": REF,
        "data": {"thing1": {"value": "张三"}, "amount2": {"value": "¥1,280.50"}},
    }


async def test_the_variable_named_url_becomes_the_messages_link():
    _, requests = await sent(
        answer(200, {"errcode": 0, "msgid": 1}), variables={"_url": "https://pay.example/1", "thing1": "x"}
    )

    assert body(requests[0])["url"] == "https://pay.example/1"
    assert body(requests[0])["data"] == {"thing1": {"value": "x"}}


# The classes of answers


ERRCODES = {
    HandOver.CONFIG: [40013, 40125, 40164, 48001, 48004, 50002, 89503],
    HandOver.PERMANENT_RECIPIENT: [40003, 43004, 50005, 46004],
    HandOver.OPT_OUT: [43101, 48002, 43019],
    HandOver.CONTENT: [40037, 41030, 47001, 47003, 87014, 45026],
    HandOver.UNKNOWN: [-1, 61450, 99999],
}


@pytest.mark.parametrize(("code", "ending"), [(c, ending) for ending, all_ in ERRCODES.items() for c in all_])
async def test_an_errcode_has_its_class_though_it_comes_with_http_200(code, ending):
    ended, requests = await sent(answer(200, {"errcode": code, "errmsg": f"refused {OPENID}"}))

    assert ended == Handed(ending=ending, code=str(code))
    assert len(requests) == 1


def test_the_table_has_a_row_for_the_unknown():
    assert CODES["unknown"] is HandOver.UNKNOWN


@pytest.mark.parametrize(
    ("code", "pause", "reach"),
    [
        (45009, timedelta(hours=6, minutes=30), "account"),
        (43117, timedelta(hours=1), "recipient"),
        (45011, timedelta(minutes=1), "rate"),
        (45047, timedelta(minutes=1), "rate"),
    ],
)
async def test_a_limit_says_when_to_try_again_and_whom_it_concerns(code, pause, reach):
    ended, _ = await sent(answer(200, {"errcode": code}))

    assert ended == Handed(ending=HandOver.RETRY_AFTER, code=str(code), retry_after=pause, reach=reach)


@pytest.mark.parametrize(
    ("now", "pause"),
    [
        (datetime(2026, 11, 24, 15, 59, 59, tzinfo=UTC), timedelta(seconds=1)),
        (datetime(2026, 11, 24, 16, 0, tzinfo=UTC), timedelta(days=1)),
        (datetime(2026, 12, 31, 16, 0, 1, tzinfo=UTC), timedelta(hours=23, minutes=59, seconds=59)),
        (datetime(2026, 11, 25, 1, 0, tzinfo=timezone(timedelta(hours=9))), timedelta(days=1)),
    ],
)
def test_the_day_of_a_quota_ends_at_midnight_in_shanghai(now, pause):
    assert until_midnight(now) == pause


@pytest.mark.parametrize(
    ("act", "ending", "code"),
    [
        pytest.param(answer(200, {"errcode": 0}), HandOver.UNKNOWN, "no_msgid", id="0 without msgid"),
        pytest.param(
            answer(200, {"errcode": 0, "msgid": ""}), HandOver.UNKNOWN, "no_msgid", id="msgid empty"
        ),
        pytest.param(answer(200, {"errcode": 0, "msgid": {}}), HandOver.UNKNOWN, "no_msgid", id="msgid odd"),
        pytest.param(
            answer(200, {"errcode": 0, "msgid": True}), HandOver.UNKNOWN, "no_msgid", id="msgid true"
        ),
        pytest.param(
            answer(200, {"errcode": 45065}), HandOver.UNKNOWN, "no_msgid", id="known already, no msgid"
        ),
        pytest.param(answer(200, {"msgid": 5}), HandOver.UNKNOWN, "unreadable", id="msgid without errcode"),
        pytest.param(answer(200, {"errcode": "x"}), HandOver.UNKNOWN, "unreadable", id="errcode no number"),
        pytest.param(answer(200, b"<html>"), HandOver.UNKNOWN, "unreadable", id="no JSON"),
        pytest.param(answer(200), HandOver.UNKNOWN, "unreadable", id="empty"),
        pytest.param(answer(302, b"", "Location: /x"), HandOver.CONFIG, "http_302", id="redirect"),
        pytest.param(answer(404), HandOver.CONFIG, "http_404", id="not our provider"),
        pytest.param(answer(408), HandOver.UNKNOWN, "http_408", id="408"),
        pytest.param(answer(429), HandOver.RETRY_AFTER, "http_429", id="429"),
        pytest.param(
            answer(500, {"errcode": 43004}), HandOver.UNKNOWN, "http_500", id="500 whatever it says"
        ),
        pytest.param(cut, HandOver.UNKNOWN, "connection", id="reset after the request"),
        pytest.param(
            raw(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{"), HandOver.UNKNOWN, "connection", id="cut"
        ),
    ],
)
async def test_an_answer_that_is_no_yes_is_never_taken_for_one_nor_sent_again(act, ending, code):
    ended, requests = await sent(act)

    assert (ended.ending, ended.code, ended.provider_id) == (ending, code, None)
    assert len(requests) == 1


@pytest.mark.parametrize("errcode", [0, 45065])
@pytest.mark.parametrize("msgid", [200163836, "200163836"])
async def test_a_message_that_is_known_already_was_accepted(errcode, msgid):
    ended, _ = await sent(answer(200, {"errcode": errcode, "msgid": msgid}))

    assert (ended.ending, ended.provider_id) == (HandOver.ACCEPTED, "200163836")


async def test_a_refused_connection_was_not_sent():
    under_test = adapter(f"http://127.0.0.1:{unused_port()}", holding())

    ended = await under_test.send(message(OPENID))

    await under_test.aclose()
    assert (ended.ending, ended.code) == (HandOver.NOT_SENT, "connection")


def test_a_provider_that_never_answers_is_unknown():
    ended, requests = in_fast_time(sent(silence))

    assert (ended.ending, ended.code, len(requests)) == (HandOver.UNKNOWN, "timeout", 1)


# Tokens


async def test_without_a_token_one_is_fetched_unforced_and_shared_until_the_next_is_given_out():
    tokens = Tokens()

    ended, requests = await sent(TOKEN, answer(200, {"errcode": 0, "msgid": 1}), tokens=tokens)

    assert ended.ending is HandOver.ACCEPTED
    assert target(requests[0]) == ("/cgi-bin/stable_token", {})
    assert body(requests[0]) == {
        "grant_type": "client_credential",
        "appid": APPID,
        "secret": "simulator",
        "force_refresh": False,
    }
    assert target(requests[1])[1] == {"access_token": "T1"}
    assert (tokens.held, tokens.lives) == ({NAME: "T1"}, {NAME: timedelta(seconds=6900)})


@pytest.mark.parametrize(
    ("expires_in", "life"), [(7200, 6900), (361, 61), (360, 60), (359, 60), (60, 60), (59, 59), (1, 1)]
)
def test_a_token_is_not_kept_past_its_end(expires_in, life):
    assert token_life(expires_in) == timedelta(seconds=life)


@pytest.mark.parametrize("errcode", [40001, 40014, 42001, 41001])
async def test_a_refused_token_is_dropped_and_the_call_made_once_more_with_another(errcode):
    tokens = holding("stale")

    ended, requests = await sent(
        answer(200, {"errcode": errcode}), TOKEN, answer(200, {"errcode": 0, "msgid": 1}), tokens=tokens
    )

    assert ended.ending is HandOver.ACCEPTED
    assert [target(each)[0].rpartition("/")[2] for each in requests] == ["send", "stable_token", "send"]
    assert body(requests[1])["force_refresh"] is False
    assert body(requests[0])["client_msg_id"] == body(requests[2])["client_msg_id"] == REF
    assert tokens.held == {NAME: "T1"}


async def test_a_token_refused_twice_is_a_fault_of_the_set_up():
    ended, requests = await sent(answer(200, {"errcode": 40001}), TOKEN, answer(200, {"errcode": 40001}))

    assert (ended.ending, ended.code, len(requests)) == (HandOver.CONFIG, "40001", 3)


async def test_a_token_that_another_worker_replaced_meanwhile_is_used_not_dropped():
    tokens = holding("stale")

    async def refuse_and_replace(writer):
        tokens.held[NAME] = "T9"
        await answer(200, {"errcode": 42001})(writer)

    ended, requests = await sent(refuse_and_replace, answer(200, {"errcode": 0, "msgid": 1}), tokens=tokens)

    assert ended.ending is HandOver.ACCEPTED
    assert [target(each)[1]["access_token"] for each in requests] == ["stale", "T9"]
    assert tokens.held == {NAME: "T9"}


@pytest.mark.parametrize(
    ("act", "ending", "code"),
    [
        pytest.param(answer(200, {"errcode": 40125}), HandOver.CONFIG, "40125", id="wrong secret"),
        pytest.param(answer(200, {"errcode": 40164}), HandOver.CONFIG, "40164", id="address not on the list"),
        pytest.param(answer(200, {"errcode": 40001}), HandOver.CONFIG, "40001", id="40001 for a token"),
        pytest.param(answer(200, {"errcode": 45011}), HandOver.RETRY_AFTER, "45011", id="too many a minute"),
        pytest.param(answer(404), HandOver.CONFIG, "http_404", id="not our provider"),
        pytest.param(answer(200, {"errcode": -1}), HandOver.NOT_SENT, "-1", id="busy"),
        pytest.param(answer(200, {"errcode": 99999}), HandOver.NOT_SENT, "99999", id="unheard of"),
        pytest.param(
            answer(200, {"errcode": 0, "msgid": 1}), HandOver.NOT_SENT, "0", id="a yes without a token"
        ),
        pytest.param(
            answer(200, {"access_token": "T"}), HandOver.NOT_SENT, "unreadable", id="without its life"
        ),
        pytest.param(
            answer(200, {"access_token": "T", "expires_in": 0}), HandOver.NOT_SENT, "unreadable", id="dead"
        ),
        pytest.param(
            answer(200, {"access_token": "", "expires_in": 9}), HandOver.NOT_SENT, "unreadable", id="empty"
        ),
        pytest.param(answer(200, b"x"), HandOver.NOT_SENT, "unreadable", id="no JSON"),
        pytest.param(answer(500), HandOver.NOT_SENT, "http_500", id="500"),
        pytest.param(cut, HandOver.NOT_SENT, "connection", id="reset"),
    ],
)
async def test_without_a_token_no_message_was_sent(act, ending, code):
    tokens = Tokens()

    ended, requests = await sent(act, tokens=tokens)

    assert (ended.ending, ended.code) == (ending, code)
    assert [target(each)[0] for each in requests] == ["/cgi-bin/stable_token"]
    assert tokens.held == {}


def test_many_sends_at_once_fetch_one_token_and_share_a_failed_fetch():
    async def burst(*acts):
        async with scripted(*acts) as server:
            under_test = adapter(server.url, Tokens())
            ended = await asyncio.gather(*[under_test.send(message(OPENID)) for _ in range(20)])
            await under_test.aclose()
            paths = [target(each)[0].rpartition("/")[2] for each in server.requests]
            return {each.ending for each in ended}, paths.count("stable_token"), paths.count("send")

    assert asyncio.run(burst(TOKEN, answer(200, {"errcode": 0, "msgid": 1}))) == ({HandOver.ACCEPTED}, 1, 20)
    assert in_fast_time(burst(silence)) == ({HandOver.NOT_SENT}, 1, 0)


def test_the_slowest_send_ends_within_the_time_the_adapter_declares():
    async def timed():
        async def late(writer):
            await asyncio.sleep(9)
            await answer(200, {"errcode": 40001})(writer)

        async def late_token(writer):
            await asyncio.sleep(9)
            await TOKEN(writer)

        loop = asyncio.get_running_loop()
        start = loop.time()
        ended, requests = await sent(late_token, late, late_token, silence, tokens=Tokens())
        return ended, len(requests), loop.time() - start

    ended, requests, seconds = in_fast_time(timed())

    assert (ended.ending, ended.code, requests) == (HandOver.UNKNOWN, "timeout", 4)
    assert 37 <= seconds <= Adapter.call_timeout.total_seconds() + 1


def test_a_closed_adapter_leaves_no_fetch_behind():
    async def closed():
        async with scripted(silence) as server:
            under_test = adapter(server.url, Tokens())
            sending = asyncio.create_task(under_test.send(message(OPENID)))
            await asyncio.sleep(1)
            await under_test.aclose()
            await asyncio.gather(sending, return_exceptions=True)
            return len(asyncio.all_tasks()) - 1 - len(server.requests)

    assert in_fast_time(closed()) == 0


# Before sending


@pytest.mark.parametrize(
    ("how", "ending", "code"),
    [
        ({"left": timedelta(0)}, HandOver.EXPIRED, "past_deliver_by"),
        ({"code": None}, HandOver.CONTENT, "template_unbound"),
        ({"to": ""}, HandOver.PERMANENT_RECIPIENT, "not_openid"),
        ({"to": "张三"}, HandOver.PERMANENT_RECIPIENT, "not_openid"),
        ({"to": "o" * 65}, HandOver.PERMANENT_RECIPIENT, "not_openid"),
    ],
)
async def test_what_may_not_go_out_is_refused_without_a_request(how, ending, code):
    ended, requests = await sent(answer(200, {"errcode": 0, "msgid": 1}), **how)

    assert (ended.ending, ended.code, requests) == (ending, code, [])


@pytest.mark.parametrize("how", [{"left": timedelta(microseconds=1)}, {"to": "o" * 64}])
async def test_what_is_just_inside_the_limits_goes_out(how):
    ended, requests = await sent(answer(200, {"errcode": 0, "msgid": 1}), **how)

    assert (ended.ending, len(requests)) == (HandOver.ACCEPTED, 1)


@pytest.mark.parametrize(
    ("name", "limit"),
    [
        ("thing1", 20),
        ("thing", 20),
        ("const12", 20),
        ("character_string3", 32),
        ("phrase4", 5),
        ("phone_number5", 17),
    ],
)
def test_a_value_is_cut_to_what_its_key_allows(name, limit):
    assert fit(name, "字" * limit) == "字" * limit
    assert fit(name, "字" * (limit + 1)) == "字" * limit


@pytest.mark.parametrize("name", ["amount1", "number2", "date3", "time4", "keyword1", "first"])
def test_an_amount_a_number_or_a_date_is_never_cut(name):
    assert fit(name, "9" * 40) == "9" * 40


@given(st.sampled_from([*LIMITS, "amount"]), st.text())
def test_a_value_is_on_one_line_and_within_its_limit(name, value):
    fitted = fit(f"{name}1", value)

    assert "\n" not in fitted
    assert len(fitted) <= LIMITS.get(name, len(value))


# Set-up


@pytest.mark.parametrize("missing", ["app_secret", "token"])
async def test_a_missing_credential_is_named(missing):
    given_ = {name: value for name, value in KEYS.items() if name != missing}

    with pytest.raises(SetupError, match=f"cn .wechat.: {missing} is missing"):
        Adapter(account("wechat", APPID, None, given_), tools())


@pytest.mark.parametrize("key", ["", "a" * 42, "a" * 44, "a" * 42 + "!"])
async def test_an_aes_key_that_is_none_is_refused_and_not_shown(key):
    with pytest.raises(SetupError, match=r"encoding_aes_key: .*43 letters") as raised:
        adapter(None, encoding_aes_key=key)

    assert not key or key not in raised.value.message


async def test_the_adapter_is_found_by_its_name():
    assert channels.load("wechat") is Adapter
    assert Adapter.channel is Channel.WECHAT
    assert Adapter.again_within < timedelta(minutes=10)


# Check


@pytest.mark.parametrize(
    ("act", "expected"),
    [
        (TOKEN, Checked(ok=True, word="the appid and its secret work from this address")),
        (answer(200, {"errcode": 40164}), Checked(ok=False, word="WeChat gives no token: 40164")),
        (answer(503), Checked(ok=False, word="WeChat gives no token: http_503")),
        (cut, Checked(ok=False, word="no answer from WeChat (connection)")),
    ],
)
async def test_a_check_asks_for_a_token_even_where_one_is_held(act, expected):
    async with scripted(act) as server:
        under_test = adapter(server.url, holding())

        checked = await under_test.check()

        await under_test.aclose()
    assert (checked, len(server.requests)) == (expected, 1)
