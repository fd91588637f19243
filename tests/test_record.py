"""A record's bytes: pinned for ever, canonical, and silent about people."""

import hashlib
import hmac
import json
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain import Priority, Tenant
from gateway.masking import Pii
from gateway.sendlog.record import MAX_LEAF, Kind, LogKeys, build, commit, disagreements, leaf_hash, pseudonym

ACME = Tenant("acme/live")
AT = datetime(2026, 11, 24, 20, 45, 0, 123456, tzinfo=UTC)
KEYS = LogKeys(pseudonyms=b"p" * 32, commitments=b"c" * 32)
SALT = bytes(range(16))
PHONE = "+8613812341234"


def attempt(**changes):
    given = {
        "salt": SALT,
        "id": "lr_01JD5K4QZP8XN6T3V2W1Y0R9S7",
        "tenant": ACME,
        "at": AT,
        "kind": Kind.ATTEMPT,
        "reminder": "rm_01JD5K4QZP8XN6T3V2W1Y0R9S7",
        "attempt": "at_01JD5K4QZP8XN6T3V2W1Y0R9S8",
        "borrower": "B-1",
        "channel": "sms",
        "state": "intent",
        "ids": {"debt": "L-1"},
        "body": {"segments": 2, "price": {"amount": "0.045"}, "code": None},
        "clear": {"address": Pii(PHONE)},
    }
    return build(KEYS, **{**given, **changes})


def test_the_bytes_of_a_record_are_pinned():
    built = attempt()

    assert built.leaf == (
        b'{"at":"2026-11-24T20:45:00.123456Z","attempt":"at_01JD5K4QZP8XN6T3V2W1Y0R9S8",'
        b'"body":{"code":null,"price":{"amount":"0.045"},"segments":2},"channel":"sms",'
        b'"id":"lr_01JD5K4QZP8XN6T3V2W1Y0R9S7",'
        b'"ids":{"borrower":"a0e3f561bef24bd618a083d4dbbde985","debt":"92b73c62f53cde81a14728883d90b6d7"},'
        b'"kind":"attempt","reminder":"rm_01JD5K4QZP8XN6T3V2W1Y0R9S7",'
        b'"sealed":{"address":"aae5177571287b7c8f0759555150c863a3c7e5cf5f081da03ab2d1f0c3b7f695"},'
        b'"state":"intent","tenant":"acme/live","v":1}'
    )
    assert leaf_hash(built.leaf).hex() == "0e31b40a5a92c0a44488e05346e0166e74d52a54d64feed20b7acdb9f8b1ef23"


def test_the_shortest_record_is_pinned():
    built = build(KEYS, salt=SALT, id="lr_1", tenant=ACME, at=AT.replace(microsecond=0), kind=Kind.CONFIG)

    assert built.leaf == (
        b'{"at":"2026-11-24T20:45:00.000000Z","id":"lr_1","kind":"config","tenant":"acme/live","v":1}'
    )


def test_the_empty_leaf_hashes_as_rfc_6962_says():
    assert leaf_hash(b"").hex() == "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"


def test_pseudonyms_and_commitments_can_be_made_with_the_standard_library_alone():
    said = json.loads(attempt().leaf)
    opening = hmac.new(b"c" * 32, SALT, hashlib.sha256).digest()

    expected = hmac.new(b"p" * 32, b"acme/live\0borrower\0B-1", hashlib.sha256).hexdigest()[:32]
    assert said["ids"]["borrower"] == expected
    assert said["sealed"]["address"] == hashlib.sha256(opening + b"address\0" + PHONE.encode()).hexdigest()


def test_a_leaf_names_nobody():
    built = attempt(ids={"debt": "L-1", "actor": "agency-7", "key": "k-1"})

    for clear in (PHONE, PHONE[3:], "B-1", "L-1", "agency-7", "k-1"):
        assert clear.encode() not in built.leaf


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("acme/live", "borrower", "B-1"), ("acme/test", "borrower", "B-1")),
        (("acme/live", "borrower", "B-1"), ("acme/live", "debt", "B-1")),
        (("acme/live", "borrower", "B-1"), ("acme/live", "borrower", "B-2")),
        (("acme", "a", "b"), ("acm", "ea", "b")),
    ],
)
def test_pseudonyms_join_nothing_across_tenants_kinds_and_ids(one, other):
    assert KEYS.pseudonym(*one) != KEYS.pseudonym(*other)
    assert KEYS.pseudonym(*one) == pseudonym(b"p" * 32, *one)


def test_two_commitments_to_one_value_do_not_look_alike():
    one, other = attempt(), attempt(salt=bytes(16))
    assert json.loads(one.leaf)["sealed"] != json.loads(other.leaf)["sealed"]

    opening = KEYS.opening(SALT)
    assert commit(opening, "address", PHONE) != commit(opening, "other", PHONE)


def test_the_side_opens_its_leaf():
    built = attempt()

    assert disagreements(built.leaf, built.side, KEYS) == ()


@pytest.mark.parametrize(
    ("change", "names"),
    [
        (lambda side: side["clear"].update(address="+8613812341235"), ("address",)),
        (lambda side: side["clear"].pop("address"), ("address",)),
        (lambda side: side["clear"].update(extra="x"), ("extra",)),
        (lambda side: side["ids"].update(borrower="B-2"), ("borrower",)),
        (lambda side: side.update(salt="00" * 16), ("address",)),
        (lambda side: side["ids"].clear(), ("borrower", "debt")),
    ],
)
def test_a_changed_side_is_named(change, names):
    built = attempt()
    side = json.loads(built.side)

    change(side)

    assert disagreements(built.leaf, json.dumps(side).encode(), KEYS) == names


def test_a_leaf_without_its_side_opens_under_no_other_keys():
    built = attempt()
    others = LogKeys(pseudonyms=b"q" * 32, commitments=b"d" * 32)

    assert disagreements(built.leaf, built.side, others) == ("borrower", "debt", "address")


@pytest.mark.parametrize(
    "body",
    [
        {"a": 1.5},
        {"a": {"b": [1, {"c": 0.1}]}},
        {"a": (1.0,)},
        {"a": Decimal("1.5")},
        {"a": AT},
        {"a": Pii(PHONE)},
        {"a": b"x"},
        {"a": 2**53},
        {"a": -(2**53)},
        {"a": "\ud800"},
        {1: "a"},
    ],
)
def test_what_has_no_one_canonical_text_is_refused(body):
    with pytest.raises(TypeError) as refused:
        attempt(body=body)

    assert "138" not in str(refused.value)


def test_whole_numbers_reach_to_53_bits():
    assert b'"a":9007199254740991' in attempt(body={"a": 2**53 - 1}).leaf


def test_words_of_an_enumeration_are_their_text():
    assert b'"a":"urgent"' in attempt(body={"a": Priority.URGENT}).leaf


def test_an_instant_is_written_in_utc():
    shanghai = AT.astimezone(timezone(timedelta(hours=8)))

    assert attempt(at=shanghai).leaf == attempt().leaf


def test_an_instant_without_a_zone_is_refused():
    with pytest.raises(ValueError, match="UTC offset"):
        attempt(at=AT.replace(tzinfo=None))


@pytest.mark.parametrize("salt", [b"", bytes(15), bytes(17)])
def test_a_salt_of_another_length_is_refused(salt):
    with pytest.raises(ValueError, match="16 bytes"):
        attempt(salt=salt)


def test_a_leaf_has_a_bound():
    room = MAX_LEAF - len(attempt(body={"a": ""}).leaf)

    assert len(attempt(body={"a": "x" * room}).leaf) == MAX_LEAF
    with pytest.raises(ValueError, match="too long"):
        attempt(body={"a": "x" * (room + 1)})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text("abcXYZ_09", max_size=5), inner, max_size=4)
    ),
    max_leaves=20,
)


@given(st.dictionaries(st.text("abc_", min_size=1), JSON))
def test_the_leaf_is_what_another_writer_of_canonical_json_makes(body):
    leaf = attempt(body=body).leaf

    again = json.dumps(json.loads(leaf), sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    assert leaf == again.encode()
    assert json.loads(leaf).get("body", {}) == body


@given(
    st.dictionaries(st.text("abc", min_size=1), st.text()),
    st.dictionaries(st.text("xyz", min_size=1), st.text()),
)
def test_any_side_opens_its_leaf(ids, values):
    built = attempt(borrower=None, ids=ids, clear={name: Pii(value) for name, value in values.items()})

    assert disagreements(built.leaf, built.side, KEYS) == ()
