"""Pii stays inside, masks show little, the scrubber sees through encodings."""

import base64
import copy
import json
import pickle
import pprint
from dataclasses import asdict, dataclass

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain import ulid
from gateway.masking import (
    Pii,
    mask_any,
    mask_card,
    mask_email,
    mask_id,
    mask_name,
    mask_openid,
    mask_phone,
    reads_as_personal,
    scrub,
)

PHONE = "+8613812341234"
SECRET = Pii(PHONE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    phone: Pii[str]


@pytest.mark.parametrize(
    "show",
    [
        str,
        repr,
        lambda p: f"{p}",
        lambda p: f"{p!r:>40}",
        lambda p: f"{p:>40}",
        lambda p: "%s" % p,  # noqa: UP031 (the old way must hold as well)
        lambda p: str([p]) + str({"a": p}),
        lambda p: repr(Holder(phone=p)),
        pprint.pformat,
        lambda p: json.dumps({"a": p}, default=str),
        lambda p: str(KeyError(p)),
    ],
)
def test_pii_prints_as_a_mask(show):
    assert "138" not in show(SECRET)
    assert "***" in show(SECRET)


@pytest.mark.parametrize(
    "take",
    [
        pickle.dumps,
        lambda p: pickle.dumps(p, 2),
        copy.copy,
        copy.deepcopy,
        lambda p: asdict(Holder(phone=p)),
        json.dumps,
        orjson.dumps,
        lambda p: orjson.dumps({"a": [p]}),
        lambda p: orjson.dumps(Holder(phone=p)),
        list,
        lambda p: p.__getstate__(),
        vars,
    ],
)
def test_pii_does_not_go_into_json_pickles_or_copies(take):
    with pytest.raises(TypeError):
        take(SECRET)


def test_pii_is_revealed_only_by_name():
    assert SECRET.reveal("test") == PHONE
    assert Pii(PHONE) == SECRET
    assert hash(Pii(PHONE)) == hash(SECRET)
    assert SECRET != PHONE


@pytest.mark.parametrize(
    ("value", "mask"),
    [
        ("+8613812341234", "138****1234"),
        ("13812341234", "138****1234"),
        ("0086 138-1234-1234", "138****1234"),
        ("１３８１２３４１２３４", "138****1234"),  # noqa: RUF001 (full width is the point)
        ("+14155550123", "+141****0123"),
        ("+447700900123", "+447****0123"),
        ("0915-8123479", "0915****79"),
        ("+29012345", "****2345"),
        ("1234567", "****"),
        ("", "****"),
    ],
)
def test_phones_show_three_and_four_digits(value, mask):
    assert mask_phone(value) == mask


@given(st.from_regex(r"\+[1-9][0-9]{3,14}", fullmatch=True))
def test_a_phone_mask_hides_at_least_four_digits(phone):
    shown = [c for c in mask_phone(phone) if c.isdigit()]

    assert len(phone) - 1 - len(shown) >= 4


@pytest.mark.parametrize(
    ("value", "mask"),
    [
        ("张三", "张*"),
        ("张三丰", "张**"),
        ("欧阳锋", "欧阳*"),
        ("欧阳", "欧*"),
        ("司马相如", "司马**"),
        ("阿依·古丽", "阿依·***"),
        ("John Smith", "J***"),
        ("Ö", "*"),
        ("", "*"),
    ],
)
def test_names_show_the_surname_or_the_first_letter(value, mask):
    assert mask_name(value) == mask


@pytest.mark.parametrize(
    ("of", "value", "mask"),
    [
        (mask_id, "11010119900307774X", "1****************X"),
        (mask_id, "1234567", "***"),
        (mask_email, "d.user@126.com", "d***@126.com"),
        (mask_email, "d@126.com", "***@126.com"),
        (mask_email, "nobody", "***"),
        (mask_card, "6228480402564890018", "6228 **** **** 0018"),
        (mask_card, "6228 4804 0256 4890 018", "6228 **** **** 0018"),
        (mask_card, "62284804025", "***"),
        (mask_openid, "oABCdefghijklmnopqrstuvwxyz1", "oABC***z1"),
        (mask_openid, "oABC", "***"),
    ],
)
def test_other_masks(of, value, mask):
    assert of(value) == mask


@pytest.mark.parametrize(
    ("channel", "value", "mask"),
    [
        ("sms", PHONE, "138****1234"),
        ("voice", PHONE, "138****1234"),
        ("email", "d.user@126.com", "d***@126.com"),
        ("wechat", "oABCdefghijklmnopqrstuvwxyz1", "oABC***z1"),
        ("fax", "anything", "***"),
    ],
)
def test_an_address_is_masked_by_its_channel(channel, value, mask):
    assert mask_any(channel, value) == mask


def wide(text):
    return "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in text)


ENCODINGS = {
    "clear": lambda v: v,
    "in words": lambda v: f"to{v}now",
    "full width": wide,
    "json": lambda v: json.dumps(wide(v)),
    "json, ascii escaped": lambda v: "".join(f"\\u{ord(c):04x}" for c in v),
    "json in json": lambda v: json.dumps(json.dumps(wide(v))),
    "url": lambda v: "".join(f"%{b:02X}" for b in v.encode()),
    "url, full width": lambda v: "".join(f"%{b:02x}" for b in wide(v).encode()),
    "bytes": lambda v: repr(v.encode()),
    "number of a sentence": lambda v: f"2026-11-24 {v} 12.5",
}
OF_NUMBERS = {
    "spaced": lambda v: f"{v[:-8]} {v[-8:-4]} {v[-4:]}",
    "dashed": lambda v: f"{v[:-8]}-{v[-8:-4]}-{v[-4:]}",
    "utf-16 bytes": lambda v: repr(v.encode("utf-16-le")),
    "utf-16 in json": lambda v: json.dumps(v.encode("utf-16-le").decode("latin-1")),
    "hex": lambda v: v.encode().hex(),
    "base64": lambda v: base64.b64encode(v.encode()).decode(),
    "base64, second": lambda v: base64.b64encode(b"a" + v.encode()).decode(),
    "base64, third": lambda v: base64.urlsafe_b64encode(b"ab" + v.encode()).decode(),
}
NUMBERS = {
    "phone": "13812341234",
    "phone with country": PHONE,
    "phone abroad": "+447700900123",
    "id": "110101199003077774",
    "card": "6228480402564890018",
}


@pytest.mark.parametrize("encoding", [*ENCODINGS, *OF_NUMBERS])
@pytest.mark.parametrize("kind", NUMBERS)
def test_numbers_do_not_pass_the_scrubber(kind, encoding):
    encoded = {**ENCODINGS, **OF_NUMBERS}[encoding](NUMBERS[kind])

    scrubbed = scrub(f'{{"event":"{encoded}"}}')

    assert encoded not in scrubbed
    assert "***" in scrubbed
    assert scrub(f'{{"event":"{encoded}"}}'.encode()) == scrubbed.encode()


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("mail", ["d.user@126.com", "dünya+x@mail.example.co.uk"])
def test_mails_do_not_pass_the_scrubber(mail, encoding):
    encoded = ENCODINGS[encoding](mail)
    if mail.encode().isascii() or encoding in {"clear", "in words", "full width"}:
        scrubbed = scrub(encoded)

        assert encoded not in scrubbed
        assert "***" in scrubbed


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("key gw_live_01JD_c2VjcmV0.x", "key gw_live_***"),
        ("GET /v1/x?phone=138&y=1 HTTP/1.1", "GET /v1/x?*** HTTP/1.1"),
        ("postgresql://user:pass@db:5432/x", "postgresql://***@db:5432/x"),
        ('<d.user@126.com>: "Recipient" d@x.cn', '<d***@126.com>: "Recipient" ***@x.cn'),
        ("4111 13812341234", "4111 138****1234"),
        ("at_01JD13812341234XN6T3V2W1Y0 13812341234", "at_01JD13812341234XN6T3V2W1Y0 138****1234"),
    ],
)
def test_what_the_scrubber_leaves_of_a_line(line, shown):
    assert scrub(line) == shown


@pytest.mark.parametrize(
    "line",
    [
        '{"timestamp":"2026-11-24T20:45:00.123456Z","took_ms":12.5,"port":8080}',
        '{"reminder":"rm_01JD5K4QZP8XN6T3V2W1Y0R9S7","who":"0123456789abcdef13812341234abcde"}',
        '{"fp":"13812341234abcdef13812341234abcdef13812341234abcdef13812341234aa"}',
        "0.138123412345 9.0.43 127.0.0.1:8080 2026-11-24 10:00:00+08:00",
        "is it? yes; 50% done; a@b; order 4111 1111 1111 1112",
        "1795467890123 179546789012",
    ],
)
def test_the_scrubber_leaves_all_else_alone(line):
    assert scrub(line) == line


@given(st.text(max_size=200))
def test_the_scrubber_takes_any_text_and_says_the_same_twice(text):
    assert scrub(scrub(text)) == scrub(text)


@given(st.binary(max_size=200))
def test_the_scrubber_takes_any_bytes(data):
    assert isinstance(scrub(data), bytes)


@given(
    st.recursive(st.text() | st.booleans(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner))
)
def test_scrubbed_json_is_still_json(value):
    json.loads(scrub(orjson.dumps(value).decode()))


@pytest.mark.parametrize(
    "text",
    [
        "13812341234",
        "8613812341234",
        "008613812341234",
        "L:13812341234:due",
        "138-1234-1234",
        "B-+8613812341234",
        "919876543210",
        "447700900123",
        "415-555-0123",
        "1-415-555-0123",
        "d.user@126.com",
        "110101199003077774",
        "11010119900307707X",
        "078-05-1120",
        "ABCPE1234F",
        "2341-2341-2346",
    ],
)
def test_ids_that_read_as_a_person_are_seen(text):
    assert reads_as_personal(text)


@pytest.mark.parametrize(
    "text",
    [
        "L-1:2026-11-30:due",
        "B-CN-017",
        "20261124204500",
        "1795467890",
        "1795467890123",
        "12812341234",
        "113812341234",
        "B13812341234",
        "110101199003077775",
        "110101199013077774",
        "4155550123",
        "2026-11-30",
        "2026-1130-0001",
        "000-05-1120",
        "ABCDE1234F",
        "550e8400-e29b-41d4-a716-446655440000",
        ulid("rm_", 1_795_467_890_123_456, b"0123456789"),
        "acme/live",
        "",
    ],
)
def test_ordinary_ids_pass(text):
    assert not reads_as_personal(text)


@given(st.integers(0, 2**41), st.binary(min_size=10, max_size=10))
def test_a_ulid_never_reads_as_a_person(at_ms, entropy):
    assert not reads_as_personal(ulid("", at_ms * 1000, entropy))


@pytest.mark.parametrize(
    "shape",
    [
        r"(?:86[-._:]?)?1[3-9][0-9][-._:]?[0-9]{4}[-._:]?[0-9]{4}",
        r"91[-._:]?[6-9][0-9]{4}[-._:]?[0-9]{5}",
        r"44[-._:]?7[0-9]{3}[-._:]?[0-9]{6}",
        r"[2-9][0-9]{2}[-.][2-9][0-9]{2}[-.][0-9]{4}",
        r"[1-7][0-9]{2}-[1-9]{2}-[1-9]{4}",
        r"[A-Z]{3}P[A-Z][0-9]{4}[A-Z]",
        r"[a-z]{1,9}@[a-z]{1,9}\.[a-z]{2,3}",
    ],
)
@given(st.data())
def test_whatever_has_the_shape_of_a_number_or_an_address_reads_as_a_person(shape, data):
    text = data.draw(st.from_regex(shape, fullmatch=True).filter(lambda drawn: not drawn.startswith("666")))
    assert reads_as_personal(text)
    assert reads_as_personal(f"L:{text}:due")
