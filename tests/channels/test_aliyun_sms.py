"""The Aliyun adapter against scripted sockets: signatures, the classes of answers, receipts, look-up."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qsl, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rig import (
    NOW,
    REF,
    account,
    answer,
    cut,
    in_fast_time,
    message,
    no_script,
    raw,
    scripted,
    silence,
    tools,
    unused_port,
)

import channels
from channels.aliyun_sms import CODES, PAGES, Adapter, canonical_query, days, signed_headers
from gateway.domain import HandOver, NotShown, Outcome, Receipt
from gateway.errors import SetupError
from gateway.masking import Pii
from gateway.ports import Callback

KEY = {"access_key_id": "LTAI-test", "access_key_secret": "simulator"}
MOBILE = "+8613800138000"


def adapter(endpoint, **changed):
    return Adapter(account("aliyun_sms", "安心贷", endpoint, KEY | changed), tools())


async def sent(act, *, to=MOBILE, variables=None, **how):
    """How one send to a scripted server ended, and what that server read."""
    async with scripted(act) as server:
        under_test = adapter(server.url)
        try:
            return await under_test.send(message(to, variables, **how)), server.requests
        finally:
            await under_test.aclose()


# Signatures


EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
RUN = {"ImageId": "win2019_1809_x64_dtc_zh-cn_40G_alibase_20230811.vhd", "RegionId": "cn-shanghai"}
SMS = {
    "PhoneNumbers": "13800138000",
    "SignName": "安心贷",
    "TemplateCode": "SMS_154950909",
    "TemplateParam": '{"name":"张三","amount":"1,280.50 元"}',
    "OutId": "at_01KB0000000000000000000000",
}


@pytest.mark.parametrize(
    ("host", "action", "version", "date", "nonce", "query", "key", "expected"),
    [
        pytest.param(
            *("ecs.cn-shanghai.aliyuncs.com", "RunInstances", "2014-05-26", "2023-10-26T10:22:32Z"),
            *("3156853299f313e23d1673dc12e1703d", RUN, ("YourAccessKeyId", "YourAccessKeySecret")),
            "06563a9e1b43f5dfe96b81484da74bceab24a1d853912eee15083a6f0f3283c0",
            id="the example of Alibaba's page on V3 signatures",
        ),
        pytest.param(
            *("ecs.cn-shanghai.aliyuncs.com", "RunInstances", "2014-05-26", "2023-10-26T09:01:01Z"),
            *("d410180a5abf7fe235dd9b74aca91fc0", RUN, ("YourAccessKeyId", "YourAccessKeySecret")),
            "e521358f7776c97df52e6b2891a8bc73026794a071b50c3323388c4e0df64804",
            id="the header example of the same page",
        ),
        pytest.param(
            *("dysmsapi.aliyuncs.com", "SendSms", "2017-05-25", "2026-11-24T03:04:05Z"),
            *("3156853299f313e23d1673dc12e1703d", SMS, ("LTAI5tExample", "example-secret")),
            "e8078e44fcfe39d908121f65d24a7dbaa0b9e1b419699f111a4bff2190407951",
            id="as alibabacloud_tea_openapi 0.4.6 signs a SendSms",
        ),
    ],
)
def test_a_signature_is_the_one_the_vendor_gives(host, action, version, date, nonce, query, key, expected):
    headers = {
        "host": host,
        "x-acs-action": action,
        "x-acs-content-sha256": EMPTY,
        "x-acs-date": date,
        "x-acs-signature-nonce": nonce,
        "x-acs-version": version,
    }

    signed = signed_headers(headers, canonical_query(query), key_id=key[0], secret=key[1])

    assert signed["Authorization"] == (
        f"ACS3-HMAC-SHA256 Credential={key[0]},SignedHeaders={';'.join(sorted(headers))},Signature={expected}"
    )
    assert headers.items() <= signed.items()


@given(st.dictionaries(st.text(min_size=1), st.text(), max_size=5))
def test_every_parameter_arrives_as_it_was_signed(parameters):
    query = canonical_query(parameters)

    assert dict(parse_qsl(query, keep_blank_values=True)) == parameters
    assert query.isascii()
    assert not set(query) & set(" +*")


async def test_the_request_is_one_post_with_all_in_the_query_and_an_empty_body():
    ended, requests = await sent(
        answer(200, {"Code": "OK", "BizId": "9^0"}), variables={"name": "张三", "amount": "1,280.50"}
    )

    assert ended.ending is HandOver.ACCEPTED
    head, _, body = requests[0].decode().partition("\r\n\r\n")
    start, *lines = head.split("\r\n")
    method, target, _ = start.split(" ")
    names = {line.split(":")[0].lower() for line in lines}
    assert (method, urlsplit(target).path, body) == ("POST", "/", "")
    assert dict(parse_qsl(urlsplit(target).query)) == {
        "PhoneNumbers": "13800138000",
        "SignName": "安心贷",
        "TemplateCode": "SMS_1",
        "TemplateParam": '{"name":"张三","amount":"1,280.50"}',
        "OutId": REF,
    }
    assert "content-type" not in names, "a header that is sent but not signed is refused"


async def test_a_template_without_variables_is_sent_without_parameters():
    _, requests = await sent(answer(200, {"Code": "OK", "BizId": "9^0"}))

    assert b"TemplateParam" not in requests[0]


async def test_a_number_from_elsewhere_keeps_its_country_code():
    _, requests = await sent(answer(200, {"Code": "OK", "BizId": "9^0"}), to="+85251234567")

    assert b"PhoneNumbers=85251234567&" in requests[0]


# The classes of answers


REFUSALS = {
    HandOver.PERMANENT_RECIPIENT: ["isv.MOBILE_NUMBER_ILLEGAL", "isv.DOMESTIC_NUMBER_NOT_SUPPORTED"],
    HandOver.CONTENT: [
        "isv.SMS_TEMPLATE_ILLEGAL",
        "isv.TEMPLATE_MISSING_PARAMETERS",
        "isv.INVALID_PARAMETERS",
        "isv.INVALID_JSON_PARAM",
        "isv.PARAM_LENGTH_LIMIT",
        "isv.PARAM_NOT_SUPPORT_URL",
        "isv.BLACK_KEY_CONTROL_LIMIT",
        "isv.SMS_CONTENT_ILLEGAL",
        "isv.TEMPLATE_PARAMS_ILLEGAL",
    ],
    HandOver.CONFIG: [
        "isv.MONTH_LIMIT_CONTROL",
        "isv.OUT_OF_SERVICE",
        "isv.AMOUNT_NOT_ENOUGH",
        "isv.ACCOUNT_NOT_EXISTS",
        "isv.ACCOUNT_ABNORMAL",
        "isv.PRODUCT_UN_SUBSCRIPT",
        "isp.RAM_PERMISSION_DENY",
        "isv.DENY_IP_RANGE",
        "isv.SIGN_STATE_ILLEGAL",
        "isv.SMS_SIGN_ILLEGAL",
        "isv.SMS_SIGNATURE_ILLEGAL",
        "isv.SMS_SIGNATURE_SCENE_ILLEGAL",
        "SignatureDoesNotMatch",
        "InvalidAccessKeyId.NotFound",
        "InvalidTimeStamp.Expired",
        "Forbidden.RAM",
    ],
    HandOver.UNKNOWN: ["isp.SYSTEM_ERROR", "isp.GATEWAY_ERROR", "isv.NEVER_HEARD_OF", "Strange.Thing"],
}


@pytest.mark.parametrize(("code", "ending"), [(c, ending) for ending, all_ in REFUSALS.items() for c in all_])
async def test_a_business_refusal_has_its_class_though_it_comes_with_http_200(code, ending):
    ended, requests = await sent(
        answer(200, {"Code": code, "Message": "给 13800138000 失败", "RequestId": "R"})
    )

    assert (ended.ending, ended.code, ended.retry_after) == (ending, code, None)
    assert len(requests) == 1


def test_every_code_of_the_table_is_in_one_class_and_there_is_a_row_for_the_unknown():
    assert CODES["unknown"] is HandOver.UNKNOWN
    assert HandOver.ACCEPTED not in CODES.values()


@pytest.mark.parametrize(
    ("code", "text", "pause", "reach"),
    [
        ("isv.BUSINESS_LIMIT_CONTROL", "触发分钟级流控Permits:1", 60, "recipient"),
        ("isv.BUSINESS_LIMIT_CONTROL", "触发小时级流控Permits:5", 3600, "recipient"),
        ("isv.BUSINESS_LIMIT_CONTROL", "触发天级流控Permits:50", 86_400, "recipient"),
        ("isv.BUSINESS_LIMIT_CONTROL", "limit", 86_400, "recipient"),
        ("isv.BUSINESS_LIMIT_CONTROL", None, 86_400, "recipient"),
        ("isv.DAY_LIMIT_CONTROL", "over", 86_400, "account"),
        ("Throttling", "slow down", 5, "rate"),
        ("Throttling.User", "slow down", 5, "rate"),
    ],
)
async def test_a_limit_says_when_to_try_again_and_whom_it_concerns(code, text, pause, reach):
    ended, _ = await sent(answer(200, {"Code": code, "Message": text}))

    assert ended.ending is HandOver.RETRY_AFTER
    assert (ended.retry_after, ended.reach) == (timedelta(seconds=pause), reach)


@pytest.mark.parametrize(
    ("act", "ending", "code"),
    [
        pytest.param(answer(200, {"Code": "OK"}), HandOver.UNKNOWN, "no_biz_id", id="OK without BizId"),
        pytest.param(
            answer(200, {"Code": "OK", "BizId": ""}), HandOver.UNKNOWN, "no_biz_id", id="empty BizId"
        ),
        pytest.param(
            answer(200, {"Code": "OK", "BizId": 7}), HandOver.UNKNOWN, "no_biz_id", id="BizId no text"
        ),
        pytest.param(answer(200), HandOver.UNKNOWN, "unreadable", id="empty 200"),
        pytest.param(answer(200, b"<html>"), HandOver.UNKNOWN, "unreadable", id="200 that is no JSON"),
        pytest.param(answer(200, []), HandOver.UNKNOWN, "unreadable", id="200 that is no object"),
        pytest.param(answer(200, b"[" * 60_000), HandOver.UNKNOWN, "unreadable", id="deeply nested"),
        pytest.param(answer(200, {"Code": {}}), HandOver.UNKNOWN, "unreadable", id="Code no text"),
        pytest.param(
            answer(200, {"Code": "13800138000"}),
            HandOver.UNKNOWN,
            "unreadable",
            id="Code that reads as a number",
        ),
        pytest.param(answer(200, {"Code": "x" * 65}), HandOver.UNKNOWN, "unreadable", id="Code too long"),
        pytest.param(
            answer(200, {"Code": "x" * 64}), HandOver.UNKNOWN, "x" * 64, id="Code just short enough"
        ),
        pytest.param(answer(202), HandOver.UNKNOWN, "http_202", id="a success that is not ours"),
        pytest.param(answer(307, b"", "Location: /again"), HandOver.CONFIG, "http_307", id="redirect"),
        pytest.param(
            answer(403, {"Code": "SignatureDoesNotMatch"}), HandOver.CONFIG, "SignatureDoesNotMatch", id="403"
        ),
        pytest.param(answer(404, b"not here"), HandOver.CONFIG, "http_404", id="not our provider"),
        pytest.param(
            answer(400, {"Code": "Strange"}), HandOver.CONFIG, "Strange", id="unknown code, refused by HTTP"
        ),
        pytest.param(answer(408), HandOver.UNKNOWN, "http_408", id="408"),
        pytest.param(answer(429), HandOver.RETRY_AFTER, "http_429", id="429"),
        pytest.param(answer(499), HandOver.CONFIG, "http_499", id="last 4xx"),
        pytest.param(
            answer(500, {"Code": "isv.AMOUNT_NOT_ENOUGH"}),
            HandOver.UNKNOWN,
            "http_500",
            id="500 whatever it says",
        ),
        pytest.param(
            answer(503, {"Code": "Throttling"}), HandOver.UNKNOWN, "http_503", id="503 whatever it says"
        ),
        pytest.param(cut, HandOver.UNKNOWN, "connection", id="reset after the request"),
        pytest.param(raw(b""), HandOver.UNKNOWN, "connection", id="closed without an answer"),
        pytest.param(
            raw(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{"),
            HandOver.UNKNOWN,
            "connection",
            id="cut off",
        ),
        pytest.param(raw(b"\x00\x01 garbage\r\n\r\n"), HandOver.UNKNOWN, "connection", id="no HTTP"),
        pytest.param(
            raw(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nnope"),
            HandOver.UNKNOWN,
            "connection",
            id="gzip that is none",
        ),
        pytest.param(answer(200, b"x" * 65_537), HandOver.UNKNOWN, "too_long", id="one byte over the limit"),
        pytest.param(answer(200, b"x" * 65_536), HandOver.UNKNOWN, "unreadable", id="as long as the limit"),
    ],
)
async def test_an_answer_that_is_no_yes_is_never_taken_for_one_nor_sent_again(act, ending, code):
    ended, requests = await sent(act)

    assert (ended.ending, ended.code, ended.provider_id) == (ending, code, None)
    assert len(requests) == 1


PIECES = [
    b"HTTP/1.1 200 OK\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\n",
    b"HTTP/1.1 404 X\r\n",
    b"Content-Length: 13\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Content-Encoding: deflate\r\n",
    b"Location: /\r\n",
    b"\r\n",
    b"d\r\n",
    b'{"Code":"OK"}',
    b"0\r\n\r\n",
]


@given(st.lists(st.sampled_from(PIECES) | st.binary(max_size=20), max_size=8).map(b"".join))
def test_whatever_bytes_come_back_send_does_not_raise(data):
    ended, requests = in_fast_time(sent(raw(data)))

    assert ended.ending in {HandOver.UNKNOWN, HandOver.CONFIG}
    assert len(requests) == 1


async def test_a_refused_connection_was_not_sent():
    under_test = adapter(f"http://127.0.0.1:{unused_port()}")

    ended = await under_test.send(message(MOBILE))

    await under_test.aclose()
    assert (ended.ending, ended.code) == (HandOver.NOT_SENT, "connection")


def test_a_tls_handshake_that_never_ends_was_not_sent():
    async def handshake():
        async with scripted(answer(200)) as server:
            under_test = adapter(server.url.replace("http:", "https:"))
            start = asyncio.get_running_loop().time()
            ended = await under_test.send(message(MOBILE))
            seconds = asyncio.get_running_loop().time() - start
            await under_test.aclose()
            return ended, server.requests, seconds

    ended, requests, seconds = in_fast_time(handshake())

    assert (ended.ending, ended.code, requests) == (HandOver.NOT_SENT, "timeout", [])
    assert 3 <= seconds <= 6


def test_a_provider_that_never_answers_is_unknown_after_the_time_the_adapter_declares():
    async def timed():
        loop = asyncio.get_running_loop()
        start = loop.time()
        ended, requests = await sent(silence)
        return ended, len(requests), loop.time() - start

    ended, requests, seconds = in_fast_time(timed())

    assert (ended.ending, ended.code, requests) == (HandOver.UNKNOWN, "timeout", 1)
    assert seconds <= Adapter.call_timeout.total_seconds() + 1


# Before sending


@pytest.mark.parametrize(
    ("how", "ending", "code"),
    [
        ({"left": timedelta(0)}, HandOver.EXPIRED, "past_deliver_by"),
        ({"left": timedelta(microseconds=-1)}, HandOver.EXPIRED, "past_deliver_by"),
        ({"code": None}, HandOver.CONTENT, "template_unbound"),
        ({"code": ""}, HandOver.CONTENT, "template_unbound"),
        ({"to": "13800138000"}, HandOver.PERMANENT_RECIPIENT, "not_e164"),
        ({"to": "+8613800138000,+8613800138001"}, HandOver.PERMANENT_RECIPIENT, "not_e164"),
        ({"variables": {"a": "【安心贷"}}, HandOver.CONTENT, "variable_signature"),
        ({"variables": {"a": "安心贷】"}}, HandOver.CONTENT, "variable_signature"),
        ({"variables": {"a": "︻安心贷︼"}}, HandOver.CONTENT, "variable_signature"),
        ({"variables": {"ok": "1", "a": "https://pay.example/x"}}, HandOver.CONTENT, "variable_link"),
        ({"variables": {"a": "点击www.a还款"}}, HandOver.CONTENT, "variable_link"),
        ({"variables": {"a": "点击Pay-1.CN还款"}}, HandOver.CONTENT, "variable_link"),
        ({"variables": {"a": "点击pay\uff0ecn还款"}}, HandOver.CONTENT, "variable_link"),
        ({"variables": {"a": "10.0.0.1"}}, HandOver.CONTENT, "variable_link"),
        ({"variables": {"a": "一行\n两行"}}, HandOver.CONTENT, "variable_control"),
        ({"variables": {"a": "\ud83d"}}, HandOver.CONTENT, "variable_control"),
        ({"variables": {"a": "字" * 36}}, HandOver.CONTENT, "variable_too_long"),
    ],
)
async def test_what_may_not_go_out_is_refused_without_a_request(how, ending, code):
    ended, requests = await sent(answer(200, {"Code": "OK", "BizId": "9^0"}), **how)

    assert (ended.ending, ended.code, requests) == (ending, code, [])


@pytest.mark.parametrize(
    "how",
    [
        {"left": timedelta(microseconds=1)},
        {"variables": {"a": "字" * 35}},
        {"variables": {"a": "1,280.50 元", "b": "No.5 J.Smith", "c": "v1.2.3", "d": "2026.11.30"}},
        {"variables": {"a": ""}},
    ],
)
async def test_what_is_just_inside_the_limits_goes_out(how):
    ended, requests = await sent(answer(200, {"Code": "OK", "BizId": "9^0"}), **how)

    assert (ended.ending, ended.provider_id, len(requests)) == (HandOver.ACCEPTED, "9^0", 1)


# Set-up


@pytest.mark.parametrize("missing", ["access_key_id", "access_key_secret"])
async def test_a_missing_credential_is_named(missing):
    given_ = {name: value for name, value in KEY.items() if name != missing}

    with pytest.raises(SetupError, match=f"cn .aliyun_sms.: {missing} is missing"):
        Adapter(account("aliyun_sms", "安心贷", None, given_), tools())


async def test_every_fault_of_the_set_up_is_named_at_once_and_no_value_is_shown():
    wrong = account("aliyun_sms", "【安心贷】", "ftp://x", {"access_key": "hush"})

    with pytest.raises(SetupError) as raised:
        Adapter(wrong, tools())

    said = raised.value.message
    for name in ("sender", "endpoint", "access_key_id", "access_key_secret", "access_key is not known"):
        assert name in said
    assert "hush" not in said
    assert "ftp" not in said


async def test_settings_that_route_between_accounts_are_not_the_adapters():
    routed = account("aliyun_sms", "安心贷", None, KEY, countries="CN", except_countries="US CA")

    await Adapter(routed, tools()).aclose()


async def test_the_adapter_is_found_by_its_name_and_the_shared_helper_is_not_one():
    assert channels.load("aliyun_sms") is Adapter
    assert not [name for name in channels.names() if name.startswith("_")]


# Receipts


def callback(rows, *, ref="unguessable"):
    body = rows if isinstance(rows, bytes) else json.dumps(rows).encode()
    return Callback(
        method="POST", url="http://127.0.0.1:9/x", ref=ref, headers={}, query={}, body=body, now=NOW
    )


@pytest.fixture
async def receiving():
    under_test = adapter("http://127.0.0.1:9")
    yield under_test
    await under_test.aclose()


def report(**changed):
    row = {
        "phone_number": "13800138000",
        "send_time": "2026-11-24 17:00:00",
        "report_time": "2026-11-24 17:00:05",
        "success": False,
        "err_code": "UNDELIV",
        "err_msg": "用户接收失败",
        "sms_size": "1",
        "biz_id": "9^0",
        "out_id": REF,
    }
    return row | changed


@pytest.mark.parametrize(
    ("changed", "outcome", "opt_out", "dead"),
    [
        ({"success": True, "err_code": "DELIVERED"}, Outcome.DELIVERED, False, False),
        ({"success": True, "err_code": "W-BLACK"}, Outcome.DELIVERED, False, False),
        ({"success": None, "err_code": "DELIVRD"}, Outcome.DELIVERED, False, False),
        ({"err_code": "UNDELIV"}, Outcome.FAILED, False, False),
        ({"err_code": "EXPIRED"}, Outcome.FAILED, False, False),
        ({"err_code": "MK:0005"}, Outcome.FAILED, False, False),
        ({"err_code": "SIGNBLOCKED"}, Outcome.FAILED, False, False),
        ({"err_code": "NEVER-HEARD"}, Outcome.FAILED, False, False),
        ({"err_code": "W-BLACK"}, Outcome.FAILED, True, False),
        ({"err_code": "TDBLACK"}, Outcome.FAILED, True, False),
        ({"err_code": "MBBLACK"}, Outcome.FAILED, True, False),
        ({"err_code": "unsubscribe"}, Outcome.FAILED, True, False),
        ({"err_code": "退订"}, Outcome.FAILED, True, False),
        ({"err_code": "MK:0000"}, Outcome.FAILED, False, True),
        ({"err_code": "MK:0001"}, Outcome.FAILED, False, True),
        ({"err_code": "PHONEERR"}, Outcome.FAILED, False, True),
    ],
)
async def test_a_carriers_word_becomes_ours(receiving, changed, outcome, opt_out, dead):
    answered = await receiving.receive(callback([report(**changed)]), no_script)

    assert answered.receipts == (
        Receipt(
            outcome=outcome,
            ref=REF,
            provider_id="9^0",
            at=datetime(2026, 11, 24, 9, 0, 5, tzinfo=UTC),
            code=changed["err_code"],
            opt_out=opt_out,
            address_dead=dead,
        ),
    )


async def test_a_push_is_answered_as_the_provider_wants_it(receiving):
    answered = await receiving.receive(callback([report(), report(out_id="at_2")]), no_script)

    assert (answered.status, answered.content_type) == (200, "application/json")
    assert json.loads(answered.body) == {"code": 0, "msg": "ok"}
    assert [each.ref for each in answered.receipts] == [REF, "at_2"]


@pytest.mark.parametrize("ref", ["", "unguessabl", "unguessable2", "UNGUESSABLE", "令牌"])
async def test_a_push_without_the_accounts_token_is_forbidden(receiving, ref):
    answered = await receiving.receive(callback([report()], ref=ref), no_script)

    assert (answered.status, answered.receipts) == (403, ())


@pytest.mark.parametrize("body", [b"", b"{}", b"null", b"\xff", b"[", b"[" * 100_000, b'"text"'])
async def test_a_push_that_is_no_list_is_a_bad_request(receiving, body):
    answered = await receiving.receive(callback(body), no_script)

    assert (answered.status, answered.receipts) == (400, ())


@pytest.mark.parametrize(
    "row", [1, None, [], {}, {"content": "TD"}, report(out_id="", biz_id=""), report(out_id="a b", biz_id=9)]
)
async def test_a_row_that_names_no_attempt_is_left_out_and_the_others_are_read(receiving, row):
    answered = await receiving.receive(callback([row, report()]), no_script)

    assert (answered.status, len(answered.receipts)) == (200, 1)


@pytest.mark.parametrize("time", [None, "", "yesterday", "2026-13-01 00:00:00", 5])
async def test_a_time_that_cannot_be_read_is_none(receiving, time):
    answered = await receiving.receive(callback([report(report_time=time)]), no_script)

    assert answered.receipts[0].at is None


@pytest.mark.parametrize("code", ["13800138000", "to 13800138000", "x" * 65, "a b", "", {"x": 1}])
async def test_a_carriers_word_that_is_not_fit_to_keep_is_not_kept(receiving, code):
    answered = await receiving.receive(callback([report(err_code=code)]), no_script)

    assert answered.receipts[0].code == "unreadable"


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda x: st.lists(x) | st.dictionaries(st.sampled_from(sorted(report())), x),
    )
)
def test_whatever_json_is_pushed_receive_does_not_raise(rows):
    async def pushed():
        under_test = adapter("http://127.0.0.1:9")
        answered = await under_test.receive(callback(rows), no_script)
        await under_test.aclose()
        return answered

    assert in_fast_time(pushed()).status in {200, 400}


# Look-up


def detail(**changed):
    row = {"OutId": REF, "SendStatus": 3, "ErrCode": "DELIVERED", "ReceiveDate": "2026-11-24 17:30:09"}
    return row | changed


def page(*rows):
    return answer(
        200, {"Code": "OK", "TotalCount": "1", "SmsSendDetailDTOs": {"SmsSendDetailDTO": list(rows)}}
    )


async def looked_up(*acts, started_at=NOW):
    async with scripted(*acts) as server:
        under_test = adapter(server.url)
        try:
            return await under_test.look_up(REF, Pii(MOBILE), started_at), server.requests
        finally:
            await under_test.aclose()


@pytest.mark.parametrize(
    ("changed", "outcome", "opt_out", "dead"),
    [
        ({"SendStatus": 1, "ErrCode": None}, Outcome.ACCEPTED, False, False),
        ({"SendStatus": "1"}, Outcome.ACCEPTED, False, False),
        ({"SendStatus": 3}, Outcome.DELIVERED, False, False),
        ({"SendStatus": 2, "ErrCode": "UNDELIV"}, Outcome.FAILED, False, False),
        ({"SendStatus": 2, "ErrCode": "W-BLACK"}, Outcome.FAILED, True, False),
        ({"SendStatus": 2, "ErrCode": "MK:0001"}, Outcome.FAILED, False, True),
    ],
)
async def test_a_row_with_our_out_id_says_what_became_of_it(changed, outcome, opt_out, dead):
    found, _ = await looked_up(page(detail(OutId="at_other", SendStatus=2), detail(**changed)))

    assert (found.outcome, found.ref, found.opt_out, found.address_dead) == (outcome, REF, opt_out, dead)


@pytest.mark.parametrize(
    "act",
    [
        page(detail(SendStatus=9)),
        page(detail(SendStatus=None)),
        page(None, 1, []),
        page(None),
        answer(200, {"Code": "isv.INVALID_PARAMETERS"}),
        answer(200, {"Code": "isv.ERR", "SmsSendDetailDTOs": {"SmsSendDetailDTO": []}}),
        answer(200, {"SmsSendDetailDTOs": []}),
        answer(200, {"SmsSendDetailDTOs": {"SmsSendDetailDTO": {}}}),
        answer(200, b"nonsense"),
        answer(500),
        cut,
    ],
)
async def test_a_look_up_that_finds_nothing_certain_is_none(act):
    found, _ = await looked_up(act)

    assert found is None


@pytest.mark.parametrize("act", [page(), page(detail(OutId="at_other"))])
async def test_a_look_up_whose_lists_are_whole_without_ours_says_that_it_is_not_shown(act):
    found, _ = await looked_up(act)

    assert found == NotShown()


async def test_a_look_up_of_which_one_day_is_not_answered_shows_nobody_missing():
    before_midnight = datetime(2026, 11, 24, 15, 58, tzinfo=UTC)
    found, requests = await looked_up(page(), answer(500), started_at=before_midnight)

    assert (found, len(requests)) == (None, 2)


async def test_a_look_up_asks_for_the_number_and_its_shanghai_date():
    _, requests = await looked_up(page(), started_at=datetime(2026, 11, 24, 16, 0, tzinfo=UTC))

    query = dict(parse_qsl(urlsplit(requests[0].split(b" ")[1].decode()).query))
    assert query == {
        "PhoneNumber": "13800138000",
        "SendDate": "20261125",
        "PageSize": "50",
        "CurrentPage": "1",
    }


async def test_a_look_up_turns_pages_until_one_is_not_full():
    found, requests = await looked_up(page(*[detail(OutId="at_other")] * 50), page(detail()))

    assert (found.outcome, len(requests)) == (Outcome.DELIVERED, 2)


async def test_a_look_up_ends_though_the_pages_do_not():
    found, requests = await looked_up(page(*[detail(OutId="at_other")] * 50))

    assert (found, len(requests)) == (None, PAGES)


@pytest.mark.parametrize(
    ("started_at", "expected"),
    [
        (datetime(2026, 11, 24, 15, 54, 59, tzinfo=UTC), ["20261124"]),
        (datetime(2026, 11, 24, 15, 55, tzinfo=UTC), ["20261124", "20261125"]),
        (datetime(2026, 11, 24, 15, 59, 59, tzinfo=UTC), ["20261124", "20261125"]),
        (datetime(2026, 11, 24, 16, 0, tzinfo=UTC), ["20261125"]),
    ],
)
def test_around_midnight_in_shanghai_both_days_are_asked_for(started_at, expected):
    assert days(started_at) == expected
