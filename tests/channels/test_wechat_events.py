"""What WeChat pushes: signatures, encryption, entities, and what the events say."""

import base64
import hashlib
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import given
from hypothesis import strategies as st
from rig import account, in_fast_time, no_script, tools

from channels.wechat import Adapter
from gateway.domain import Outcome, Receipt
from gateway.ports import Answer, Callback

APPID = "wx0123456789abcdef"
TOKEN = "spamtest"
AES_KEY = "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG"
NOW = datetime(2025, 11, 24, 16, 20, 34, tzinfo=UTC)
TIMESTAMP = "1764001234"
NONCE = "1763976601"
FULL_WIDTH = "".join(chr(0xFF10 + int(digit)) for digit in TIMESTAMP)
FINISHED = (
    "<xml><ToUserName><![CDATA[gh_7f083739789a]]></ToUserName>"
    "<FromUserName><![CDATA[oia2TjuEGTNoeX76QEjQNrcURxG8]]></FromUserName>"
    "<CreateTime>1763976600</CreateTime><MsgType><![CDATA[event]]></MsgType>"
    "<Event><![CDATA[TEMPLATESENDJOBFINISH]]></Event><MsgID>200163836</MsgID>"
    "<Status><![CDATA[{status}]]></Status></xml>"
)
FORBIDDEN = Answer(status=403)
SUCCESS = Answer(status=200, body=b"success")


def adapter(encoding_aes_key=None):
    keys = {"app_secret": "s", "token": TOKEN}
    if encoding_aes_key:
        keys["encoding_aes_key"] = encoding_aes_key
    return Adapter(account("wechat", APPID, "http://127.0.0.1:9", keys), tools())


@pytest.fixture
async def plain():
    under_test = adapter()
    yield under_test
    await under_test.aclose()


@pytest.fixture
async def sealed():
    under_test = adapter(AES_KEY)
    yield under_test
    await under_test.aclose()


def sign(*parts, timestamp=TIMESTAMP, nonce=NONCE, token=TOKEN):
    """By another road than the adapter's: bytes, sorted in place, hashed piece by piece."""
    pieces = [part.encode() for part in (token, timestamp, nonce, *parts)]
    pieces.sort()
    digest = hashlib.new("sha1")
    for piece in pieces:
        digest.update(piece)
    return digest.hexdigest()


def seal(xml, *, key=AES_KEY, appid=APPID, padding=None):
    """By another road than the adapter's: CBC by hand from single AES blocks, 32-byte padding by hand."""
    secret = base64.b64decode(key + "=")
    text = b"0123456789abcdef" + len(xml).to_bytes(4, "big") + xml + appid.encode()
    missing = 32 - len(text) % 32
    text += bytes([missing]) * missing if padding is None else padding(missing)
    block, before, out = Cipher(algorithms.AES(secret), modes.ECB()).encryptor(), secret[:16], b""
    for at in range(0, len(text), 16):
        before = block.update(bytes(a ^ b for a, b in zip(text[at : at + 16], before, strict=True)))
        out += before
    return base64.b64encode(out).decode()


def callback(body="", *, method="POST", now=NOW, **query):
    data = body if isinstance(body, bytes) else body.encode()
    given_ = {"timestamp": TIMESTAMP, "nonce": NONCE} | {k: v for k, v in query.items() if v is not None}
    return Callback(method=method, url="http://x/cb", ref="any", headers={}, query=given_, body=data, now=now)


def encrypted(inner, **how):
    encrypt = seal(inner.encode(), **how)
    body = f"<xml><ToUserName><![CDATA[gh]]></ToUserName><Encrypt><![CDATA[{encrypt}]]></Encrypt></xml>"
    return callback(body, encrypt_type="aes", signature=sign(), msg_signature=sign(encrypt))


def test_the_moment_of_these_tests_is_the_timestamp_they_are_signed_with():
    assert NOW.timestamp() == int(TIMESTAMP)


# The echo that WeChat's console asks for


async def test_the_echo_is_given_back_to_whoever_signs_with_the_token(plain):
    asked = callback(method="GET", echostr="5838479218127813673", signature=sign())

    assert await plain.receive(asked, no_script) == Answer(status=200, body=b"5838479218127813673")


async def test_the_echo_is_signed_the_same_way_in_encrypted_mode(sealed):
    asked = callback(method="GET", echostr="58", signature=sign())

    assert (await sealed.receive(asked, no_script)).body == b"58"


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize(
    "query",
    [
        pytest.param({}, id="no signature"),
        pytest.param({"signature": ""}, id="empty"),
        pytest.param({"signature": sign(token="other")}, id="another token"),
        pytest.param({"signature": sign(nonce="1")}, id="another nonce"),
        pytest.param({"signature": sign(timestamp="1764001235")}, id="another time"),
        pytest.param({"signature": sign().upper()}, id="other case"),
        pytest.param({"signature": sign()[:-1]}, id="cut"),
        pytest.param({"signature": "签" * 40}, id="not ASCII"),
        pytest.param({"msg_signature": sign()}, id="under another name"),
    ],
)
async def test_what_the_token_did_not_sign_is_forbidden(plain, method, query):
    asked = callback(FINISHED.format(status="success"), method=method, echostr="x", **query)

    assert await plain.receive(asked, no_script) == FORBIDDEN


@pytest.mark.parametrize(
    ("off", "status"), [(-300, 200), (300, 200), (-301, 403), (301, 403), (-86_400, 403), (86_400, 403)]
)
async def test_a_signature_is_good_for_five_minutes(plain, off, status):
    asked = callback(FINISHED.format(status="success"), now=NOW + timedelta(seconds=off), signature=sign())

    assert (await plain.receive(asked, no_script)).status == status


@pytest.mark.parametrize("timestamp", ["", "now", "1764001234.0", "-1764001234", FULL_WIDTH, "9" * 12])
async def test_a_time_that_is_none_is_forbidden(plain, timestamp):
    asked = callback("<xml/>", timestamp=timestamp, signature=sign(timestamp=timestamp))

    assert await plain.receive(asked, no_script) == FORBIDDEN


# Events


@pytest.mark.parametrize(
    ("status", "outcome", "code", "opt_out"),
    [
        ("success", Outcome.DELIVERED, "success", False),
        ("failed:user block", Outcome.FAILED, "failed:userblock", True),
        ("failed: user block", Outcome.FAILED, "failed:userblock", True),
        ("failed: system failed", Outcome.FAILED, "failed:systemfailed", False),
        ("failed:system failed", Outcome.FAILED, "failed:systemfailed", False),
        ("failed:freq limit", Outcome.FAILED, "failed:freqlimit", False),
        ("something new", Outcome.UNKNOWN, "unknown", False),
        ("", Outcome.UNKNOWN, "unknown", False),
    ],
)
async def test_a_finished_job_is_a_receipt_that_names_its_message(plain, status, outcome, code, opt_out):
    answered = await plain.receive(callback(FINISHED.format(status=status), signature=sign()), no_script)

    assert (answered.status, answered.content_type, answered.body) == (200, "text/plain", b"success")
    assert answered.receipts == (
        Receipt(
            outcome=outcome,
            provider_id="200163836",
            at=datetime(2025, 11, 24, 9, 30, tzinfo=UTC),
            code=code,
            opt_out=opt_out,
        ),
    )


@pytest.mark.parametrize(
    "body",
    [
        "<xml><MsgType>event</MsgType><Event>unsubscribe</Event><FromUserName>o</FromUserName></xml>",
        "<xml><MsgType>text</MsgType><Content>退订</Content><MsgId>1</MsgId></xml>",
        "<xml><Event>TEMPLATESENDJOBFINISH</Event><Status>success</Status></xml>",
        "<xml><Event>TEMPLATESENDJOBFINISH</Event><MsgID>1 OR 1</MsgID><Status>success</Status></xml>",
        "<xml/>",
    ],
)
async def test_an_event_that_names_no_attempt_is_answered_and_left(plain, body):
    assert await plain.receive(callback(body, signature=sign()), no_script) == SUCCESS


@pytest.mark.parametrize(
    ("written", "at"), [("", None), ("soon", None), ("9" * 12, None), ("0", datetime(1970, 1, 1, tzinfo=UTC))]
)
async def test_a_time_that_cannot_be_read_is_none(plain, written, at):
    body = FINISHED.format(status="success").replace("1763976600", written)

    answered = await plain.receive(callback(body, signature=sign()), no_script)

    assert answered.receipts[0].at == at


ENTITIES = '<!DOCTYPE x [<!ENTITY a "success">]>' + FINISHED.format(status="success").replace(
    "success", "&a;"
)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(ENTITIES, id="an entity"),
        pytest.param('<!DOCTYPE xml SYSTEM "file:///etc/passwd"><xml/>', id="a document type"),
        pytest.param("<xml>&a;</xml>", id="an entity that is not declared"),
        pytest.param(ENTITIES.encode("utf-16"), id="an entity in UTF-16"),
        pytest.param(b'<?xml version="1.0" encoding="utf-7"?>+ADw-x/>', id="UTF-7"),
        pytest.param("", id="nothing"),
        pytest.param("<xml>", id="cut off"),
        pytest.param("{}", id="JSON"),
        pytest.param(b"\xff\xfe", id="no UTF-8"),
        pytest.param("<xml>\x00</xml>", id="a NUL"),
        pytest.param("<xml>" + " " * 65_536 + "</xml>", id="too long"),
    ],
)
async def test_a_body_that_is_no_plain_event_is_a_bad_request(plain, body):
    assert await plain.receive(callback(body, signature=sign()), no_script) == Answer(status=400)


async def test_a_deeply_nested_body_is_read_and_left(plain):
    body = "<a>" * 9_000 + "</a>" * 9_000

    assert await plain.receive(callback(body, signature=sign()), no_script) == SUCCESS


@given(st.binary(max_size=200) | st.text(alphabet="<>/!&;xml[]CDATA\"' ", max_size=200))
def test_whatever_is_pushed_receive_does_not_raise(body):
    async def pushed(key):
        under_test = adapter(key)
        answered = await under_test.receive(
            callback(body, signature=sign(), msg_signature=sign("")), no_script
        )
        await under_test.aclose()
        return answered.status

    assert in_fast_time(pushed(None)) in {200, 400}
    assert in_fast_time(pushed(AES_KEY)) in {400, 403}


# Encryption


BY_WECHATPY = (
    "1GqvvxwA+9OaWX8dYN9G+CS3iW/rNKtrdTKGXvgGfQr22xiQ4RQVvheZbH8EmoDL8OPb/7y+ogeG+7IVXyCb/o8lRT8p9JgfKj8C7Crdue/r"
    "w3esZBek7H00VJAgudubOxnzPuVpk51rOJGUmNVpjjnquvAbjAbWhol9kNXmTIcG+G1LZkR+ucYmucgXRfe0diVjij3aBK0xgVp9kUdJi6ps"
    "jDUQBkvnYDz32SVk/N4XxeogMh6auFV3e6XgyytS/oJ4tqH6F0sLc7EYJ1Z3iEoRBmuq3NZWH9Aicsan753yqiuG1fAb0pXftYV0v8giJR8b"
    "jprta1CHYrQrmVEK2G8LQ0nif2SKw09fL7y1Kkx42LLadrbjXxZw4MIZutC9CgpOk9P1eTd/lNiQv9JMDhPWrXk5pNALpdEocfbc2k6H4TGy"
    "s0MM3LJrlPLLjdnZQ//RGHHwHkE1q64kS47p/Cn6pjd2kiv/24o3UvhzWz2sB18Fw+7tftIlNeAyyob+"
)
"""`FINISHED` with `failed:user block`, encrypted by wechatpy 1.8.18."""


async def test_an_event_encrypted_by_wechatpy_is_read(sealed):
    body = f"<xml><Encrypt><![CDATA[{BY_WECHATPY}]]></Encrypt></xml>"
    asked = callback(body, encrypt_type="aes", msg_signature="52decca262c807e828830f937f2bd8d075f2d450")

    answered = await sealed.receive(asked, no_script)

    assert (answered.body, answered.receipts[0].provider_id, answered.receipts[0].opt_out) == (
        b"success",
        "200163836",
        True,
    )


@given(st.text(alphabet=st.characters(exclude_categories=["Cs", "Cc"]), max_size=80))
def test_an_encrypted_event_of_any_length_is_read(padding):
    inner = FINISHED.format(status="success").replace(
        "</xml>", f"<X><![CDATA[{padding.replace(']]>', '')}]]></X></xml>"
    )

    async def received():
        under_test = adapter(AES_KEY)
        answered = await under_test.receive(encrypted(inner), no_script)
        await under_test.aclose()
        return answered

    answered = in_fast_time(received())

    assert [each.outcome for each in answered.receipts] == [Outcome.DELIVERED]


async def test_with_a_key_set_a_plain_event_is_forbidden_however_well_signed(sealed):
    asked = callback(FINISHED.format(status="success"), signature=sign(), msg_signature=sign())

    assert await sealed.receive(asked, no_script) == FORBIDDEN


async def test_without_a_key_an_encrypted_event_says_nothing(plain):
    assert await plain.receive(encrypted(FINISHED.format(status="success")), no_script) == SUCCESS


async def test_the_open_fields_beside_an_encrypted_event_are_not_believed(sealed):
    encrypt = seal(b"<xml/>")
    open_fields = FINISHED.format(status="success").removesuffix("</xml>")
    asked = callback(f"{open_fields}<Encrypt>{encrypt}</Encrypt></xml>", msg_signature=sign(encrypt))

    assert await sealed.receive(asked, no_script) == SUCCESS


@pytest.mark.parametrize(
    "how",
    [
        pytest.param({"appid": "wx0123456789abcdee"}, id="for another account"),
        pytest.param({"appid": APPID + "0"}, id="for a longer appid"),
        pytest.param({"appid": ""}, id="for nobody"),
        pytest.param({"key": AES_KEY[::-1]}, id="with another key"),
        pytest.param({"padding": lambda n: bytes([n]) * (n - 1) + b"\x00"}, id="padded with 0 at the end"),
        pytest.param({"padding": lambda n: b"\x01" * (n - 1) + bytes([n])}, id="padded unevenly"),
    ],
)
async def test_what_was_sealed_otherwise_is_forbidden(sealed, how):
    assert await sealed.receive(encrypted(FINISHED.format(status="success"), **how), no_script) == FORBIDDEN


@pytest.mark.parametrize(("longer", "status"), [(0, 200), (32, 403)])
async def test_padding_is_at_most_32_bytes(sealed, longer, status):
    inner = "<xml/>" + " " * ((31 - 16 - 4 - len(APPID) - len("<xml/>")) % 32)
    if not longer:
        inner += " "

    asked = encrypted(inner, padding=lambda n: bytes([n + longer]) * (n + longer))

    assert (await sealed.receive(asked, no_script)).status == status


@pytest.mark.parametrize(
    "encrypt", ["", "AAAA", "not base64!", "A" * 64, base64.b64encode(b"\x00" * 16).decode()]
)
async def test_what_cannot_be_opened_is_forbidden(sealed, encrypt):
    asked = callback(f"<xml><Encrypt>{encrypt}</Encrypt></xml>", msg_signature=sign(encrypt))

    assert await sealed.receive(asked, no_script) == FORBIDDEN


async def test_a_length_beyond_the_text_is_forbidden(sealed):
    secret = base64.b64decode(AES_KEY + "=")
    text = b"0" * 16 + (2**31).to_bytes(4, "big") + b"<xml/>" + b"\x06" * 6
    encryptor = Cipher(algorithms.AES(secret), modes.CBC(secret[:16])).encryptor()
    encrypt = base64.b64encode(encryptor.update(text)).decode()
    asked = callback(f"<xml><Encrypt>{encrypt}</Encrypt></xml>", msg_signature=sign(encrypt))

    assert await sealed.receive(asked, no_script) == FORBIDDEN


async def test_an_encrypted_event_needs_its_own_signature(sealed):
    asked = encrypted(FINISHED.format(status="success"))
    wrong = dict(asked.query) | {"msg_signature": sign()}

    answered = await sealed.receive(
        callback(asked.body, **{k: v for k, v in wrong.items() if k not in {"timestamp", "nonce"}}), no_script
    )

    assert answered == FORBIDDEN


async def test_an_entity_inside_an_encrypted_event_is_a_bad_request(sealed):
    assert await sealed.receive(encrypted(ENTITIES), no_script) == Answer(status=400)
