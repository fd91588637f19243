"""The place of every part of a TOML text, in any layout."""

import random
import tomllib

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from toml_draws import BLOCKS, Hand, step

from gateway.policy.toml_lines import Place, Places

PACK = '''\
# a pack
[pack]
id = "X"
title = """
  [[rule]] in a text
"""
"applies" = [
  "US",  # and
  "PR",
]

[[rule]]
id = "X.HOURS"
days = [
  {on = ["mon", "tue"], open = "08:00", close = "21:00"},
  {on = ["sat"], open = "09:00", close = "12:00"}]
not_if.fact = "dpd"
not_if . "gt" = 15

[[rule]]
id = \'X.CAP\'
  [rule.window]
  type = "dates"
'''


def pointers(value, at=""):
    yield at
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in parts:
        yield from pointers(one, step(at, key))


@pytest.mark.parametrize(
    ("pointer", "place"),
    [
        ("/pack", (2, 1)),
        ("/pack/title", (4, 1)),
        ("/pack/applies", (7, 1)),
        ("/pack/applies/1", (9, 3)),
        ("/rule/0", (12, 1)),
        ("/rule/0/days/0/open", (15, 25)),
        ("/rule/0/days/1", (16, 3)),
        ("/rule/0/days/1/on/0", (16, 10)),
        ("/rule/0/not_if", (17, 1)),
        ("/rule/0/not_if/gt", (18, 10)),
        ("/rule/1/id", (21, 1)),
        ("/rule/1/window", (22, 3)),
        ("/rule/1/window/type", (23, 3)),
        ("/rule/1/window/n", (22, 3)),
        ("/rule/7/id", (12, 1)),
        ("/nothing/here", (1, 1)),
    ],
)
def test_a_part_or_what_should_hold_it_is_found(pointer, place):
    assert Places(PACK)[pointer] == Place(*place)


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_lines_end_as_they_may(newline):
    assert Places(PACK.replace("\n", newline))["/rule/1/window/type"] == Place(23, 3)


@given(table=BLOCKS.filter(lambda value: isinstance(value, dict)), seed=st.integers(0, 1 << 32))
@example(table={}, seed=0)
@settings(max_examples=150, deadline=None)
def test_every_part_of_a_drawn_layout_is_found_where_it_was_put(table, seed):
    hand = Hand(random.Random(seed).randrange)
    hand.table("", [], table)

    found = Places(hand.text)

    assert tomllib.loads(hand.text) == table
    assert set(found) == set(pointers(table))
    assert {at: tuple(found[at]) for at in found} == hand.places
