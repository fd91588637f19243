"""docs/language.md says the whole language, and its examples come out as they say."""

import json
import re
from pathlib import Path

import pytest
from cli_rig import ran

from gateway.policy import check, model, parse
from gateway.policy.check import decide_case, parse_cases

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/language.md").read_text("utf-8")
KINDS = dict(re.findall(r"^### `(\w+)`\n(.*?)(?=^##|\Z)", PAGE, re.MULTILINE | re.DOTALL))
EXAMPLES = re.findall(r"^```json\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
CASES = [case for example in EXAMPLES for case in parse_cases(example.encode())]
SHARED = "Keys that every rule may have"


def section(heading):
    return PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]


def code(text):
    return set(re.findall(r"`(\w+)`", text))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_an_example_comes_out_as_it_says(case):
    result = decide_case(case)

    assert result.ok, result.as_json()


def test_the_examples_run_as_files(tmp_path):
    (tmp_path / "CASES.json").write_text(EXAMPLES[0])

    ended = ran("policy", "check", "CASES.json", cwd=tmp_path)

    assert (ended.returncode, ended.stdout.splitlines()[-1]) == (0, "3 of 3 as expected")


def test_every_kind_has_a_section_and_an_example_of_it():
    packs = [pack for example in EXAMPLES for pack in json.loads(example)["packs"].values()]
    kinds = {rules[0]["kind"] for rules in packs}

    assert set(KINDS) == kinds == set(parse._KINDS)


@pytest.mark.parametrize("kind", sorted(parse._KINDS))
def test_a_section_names_every_key_of_its_kind(kind):
    assert set(parse._KINDS[kind][1]) - code(KINDS[kind]) == set()


def test_every_key_of_any_rule_and_of_a_header_is_described():
    assert set(parse._COMMON) - code(section(SHARED)) == set()
    assert set(parse._HEADER) - code(section("A pack's file")) == set()


def test_every_key_of_a_case_is_described():
    told = code(section("A case")) | set(re.findall(r"\w+", section("A case")))

    assert {*check._CASE, *check._QUESTION, *check._EVENT} - told == set()


def test_every_word_of_the_language_is_named():
    named = code(PAGE)

    assert {*model.CHANNELS, *model.OUTCOMES, *model.FORCES, *model.PER, *model.WEEKDAYS} - named <= set(
        model.WEEKDAYS
    )
