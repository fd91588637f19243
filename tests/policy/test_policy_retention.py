"""How long records must and may be kept, under the law of several places together."""

import json

import pytest
from cli_rig import ran

from gateway.policy.parse import parse_pack, shipped
from gateway.policy.retention import terms

HEADER = '[pack]\nid = "X"\nversion = "1"\ntitle = "t"\nreview_status = "r"\nsource = "s"\napplies = ["XX"]\n'
RULE = '[[rule]]\nid = "X.{}"\nkind = "retention"\nrecords = ["recording"]\n{}\n'


def pack(*bodies):
    return parse_pack(HEADER + "".join(RULE.format(n, body) for n, body in enumerate(bodies)), "X.toml")


def recording(*bodies):
    return next(term for term in terms([pack(*bodies)]) if term.records == "recording")


def test_the_longest_minimum_and_the_shortest_maximum_bind():
    term = recording(
        'min = {years = 2, from = "event"}',
        'min = {days = 800, from = "event"}',
        'max = {years = 9, from = "event"}',
        'max = {years = 5, from = "closure"}',
    )

    assert [rule.id for rule in term.least] == ["X.1", "X.0"]
    assert [rule.id for rule in term.most] == ["X.3", "X.2"]
    assert not term.conflict


@pytest.mark.parametrize(
    ("least", "most", "conflict"),
    [
        ("years = 1", "years = 1", False),
        ("days = 366", "years = 1", True),
        ("days = 365", "years = 1", False),
        ("years = 3", "years = 1", True),
    ],
)
def test_a_maximum_below_a_minimum_is_a_conflict(least, most, conflict):
    term = recording(f'min = {{{least}, from = "event"}}', f'max = {{{most}, from = "event"}}')

    assert term.conflict is conflict


def test_a_rule_in_shadow_binds_nobody():
    assert recording('min = {years = 2, from = "event"}\nunsure = "why"').least == ()


def test_the_laws_of_greece_and_the_united_states_conflict_and_each_alone_does_not():
    both = terms([shipped()["GR"], shipped()["US.REGF"]])

    assert all(term.conflict for term in both)
    assert not any(term.conflict for name in ("GR", "US.REGF") for term in terms([shipped()[name]]))


def run(*words):
    return ran("policy", "retention", *words)


def test_the_command_names_what_binds_in_china():
    found = run("CN", "--json")

    decisions = next(one for one in json.loads(found.stdout) if one["records"] == "decision")
    assert (decisions["min"][0]["rule"], decisions["min"][0]["years"]) == ("CN.CFC.KEEP5Y", 5)
    assert "5 years from the last contact" in run("CN").stdout


def test_a_place_that_does_not_exist_is_refused():
    assert run("XX1").returncode == 2
