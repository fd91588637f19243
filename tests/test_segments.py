"""SMS parts: both alphabets, both sides of every edge, and what is never cut in two."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.segments import LONGEST, LONGEST_MAINLAND, segments

ABROAD = [
    ("nothing at all", "", 1),
    ("one GSM part, full", "a" * 160, 1),
    ("one septet more", "a" * 161, 2),
    ("two GSM parts, full", "a" * 306, 2),
    ("three", "a" * 307, 3),
    ("an extension character counts two", "€" * 80, 1),
    ("and no more than eighty fit", "€" * 80 + "a", 2),
    ("an escape is not cut from its character", "a" * 152 + "€" + "a" * 152, 3),
    ("the same length without one is two parts", "a" * 153 + "bb" + "a" * 151, 2),
    ("accents of the alphabet stay in it", "é" * 160, 1),
    ("a cedilla outside it makes all of it UCS-2", "a" * 70 + "ç", 2),
    ("one UCS-2 part, full", "款" * 70, 1),
    ("one unit more", "款" * 71, 2),
    ("two UCS-2 parts, full", "款" * 134, 2),
    ("three UCS-2 parts", "款" * 135, 3),
    ("a rupee sign is outside the GSM alphabet", "₹" + "a" * 70, 2),
    ("an emoji is two units", "😀" * 35, 1),
    ("thirty-six of them are too many", "😀" * 36, 2),
    ("a surrogate pair is not cut in two", "款" * 66 + "😀" + "款" * 66, 3),
    ("without the pair the same length is two parts", "款" * 134, 2),
    ("a line feed is in the alphabet", "a\n" * 80, 1),
    ("a tab is not", "a\t" * 36, 2),
]


@pytest.mark.parametrize(("case", "text", "parts"), ABROAD, ids=[row[0] for row in ABROAD])
def test_parts_outside_mainland_china(case, text, parts):
    assert segments(text, mainland=False) == parts


MAINLAND = [
    ("ASCII counts as Chinese does", "a" * 70, 1),
    ("seventy-one ASCII characters are two parts", "a" * 71, 2),
    ("two parts, full", "a" * 134, 2),
    ("three parts", "a" * 135, 3),
    ("the signature counts", "【示例信贷】" + "款" * 64, 1),
    ("one more than with the signature", "【示例信贷】" + "款" * 65, 2),
    ("an extension character is one unit", "€" * 70, 1),
]


@pytest.mark.parametrize(("case", "text", "parts"), MAINLAND, ids=[row[0] for row in MAINLAND])
def test_parts_in_mainland_china(case, text, parts):
    assert segments(text, mainland=True) == parts


@pytest.mark.parametrize(("mainland", "longest"), [(False, LONGEST), (True, LONGEST_MAINLAND)])
def test_a_text_no_provider_takes_is_refused(mainland, longest):
    assert segments("a" * longest, mainland=mainland) > 1
    with pytest.raises(ValueError, match="shorten"):
        segments("a" * (longest + 1), mainland=mainland)


@given(st.text(max_size=LONGEST_MAINLAND))
def test_parts_are_as_few_as_whole_characters_allow(text):
    units = len(text.encode("utf-16-le", "surrogatepass")) // 2
    parts = segments(text, mainland=True)

    assert parts == 1 if units <= 70 else -(-units // 67) <= parts <= -(-units // 66)
