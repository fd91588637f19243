"""What is put between the vendor's package and the wire changes nothing that either of them sees."""

import json
from urllib.parse import parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channels._http1 import Reply
from channels._twilio import _form, _told

TEXT = st.text(st.characters(exclude_categories=["Cs"]))


@given(
    st.dictionaries(st.sampled_from(["To", "Body", "From", "Twiml"]), TEXT | st.integers() | st.lists(TEXT))
)
def test_a_form_is_read_as_it_was_written(fields):
    pairs = [
        (name, str(item))
        for name, value in fields.items()
        for item in (value if isinstance(value, list) else [value])
    ]

    assert _form(fields).isascii()
    assert parse_qsl(_form(fields), keep_blank_values=True) == pairs


def test_a_text_that_cannot_be_sent_is_refused():
    with pytest.raises(ValueError, match="surrogates"):
        _form({"Body": "\ud800"})


@pytest.mark.parametrize(
    ("status", "body", "told"),
    [
        (201, {"sid": "SM1", "status": "queued", "date_created": "x"}, {"sid": "SM1", "status": "queued"}),
        (200, {"sid": None, "status": 7, "a": "b"}, {"sid": None, "status": 7}),
        (200, {"sid": "SM1", "date_created": "x"}, None),
        (200, {"messages": [{"sid": "SM1", "status": "sent", "date_created": "x"}]}, None),
        (400, {"sid": "SM1", "status": 400, "code": 21211, "message": "x"}, None),
        (200, ["sid", "status"], None),
    ],
)
def test_the_package_is_told_all_that_is_looked_at(status, body, told):
    assert json.loads(_told(Reply(status, {}, json.dumps(body).encode()))) == (told or body)


@pytest.mark.parametrize("body", [b"", b"<html>", b'{"sid": ', b"\xff"])
def test_what_is_no_json_is_told_as_it_came(body):
    assert _told(Reply(200, {}, body)) == body.decode("utf-8", "replace")
