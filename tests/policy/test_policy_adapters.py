"""Rules about what goes through an adapter: whom they concern, what they count, and which way the gate takes."""

from dataclasses import replace
from datetime import timedelta
from random import Random

import pytest
from test_policy_gate import NOON, PACKS, PERMIT, PLAIN, event, said, utc

from gateway.domain import Action, Channel
from gateway.policy.content import concerning
from gateway.policy.decide import judge
from gateway.policy.explain import decision_json, sentences
from gateway.policy.gate import Reachable, decide
from gateway.policy.inputs import read, written
from gateway.policy.model import Elapsed, Question
from gateway.policy.packs import applying, load, through
from gateway.policy.pages import page
from gateway.policy.parse import parse_pack, shipped
from gateway.policy.written import read_written

HEAD = """\
[pack]
id = "PROVIDER.DOVES"
version = "1"
title = "t"
review_status = "r"
source = "s"
applies = "everyone"
"""
TWICE = """
[[rule]]
id = "PROVIDER.DOVES.TWICE"
kind = "cap"
max = 2
window = {type = "hours", n = 24}
per = ["address"]
"""
DOVES = parse_pack(HEAD + 'adapters = ["doves"]\n' + TWICE, "DOVES.toml")
BY_DOVES, BY_CROWS = (
    Reachable(address_key="N1", kind="personal", adapter=name) for name in ("doves", "crows")
)
BOTH = replace(PLAIN, channels=(Channel.SMS,), addresses={Channel.SMS: (BY_DOVES, BY_CROWS)})


def ask(snapshot=BOTH, history=(), packs=(*PACKS, DOVES), now=NOON):
    return decide(snapshot, packs, now=now, permit=PERMIT, history=history, reach={})


def flown(*hours, adapter="doves", address="N1"):
    """Messages so many hours ago."""
    return [event(NOON - timedelta(hours=h), adapter=adapter, address=address) for h in hours]


def by(*ways):
    return replace(BOTH, addresses={Channel.SMS: ways})


def test_the_first_way_is_taken_while_its_provider_allows_it():
    assert [ask(history=flown(*range(1, n + 1))).adapter for n in range(3)] == ["doves", "doves", "crows"]


def test_the_way_that_would_be_used_first_is_asked_first():
    assert ask(by(BY_CROWS, BY_DOVES)).adapter == "crows"


def test_a_channel_waits_only_when_none_of_its_accounts_is_open():
    full = flown(1, 2)

    assert said(ask(history=full)) == ("send", None, None)
    assert said(ask(by(BY_DOVES), full)) == ("defer", "PROVIDER.DOVES.TWICE", utc(25, 2))


def test_it_waits_for_the_way_that_opens_first():
    crows = parse_pack(
        HEAD.replace("DOVES", "CROWS") + 'adapters = ["crows"]\n' + TWICE.replace("DOVES", "CROWS"),
        "CROWS.toml",
    )
    packs = (*PACKS, DOVES, crows)
    history = [*flown(2, 3), *flown(1, 3.5, adapter="crows")]
    history = [replace(one, borrower="P2") for one in history]  # the operator's own cap is not at its end

    assert said(ask(history=history, packs=packs)) == ("defer", "PROVIDER.CROWS.TWICE", utc(25, 0, 30))


def test_one_address_closed_for_one_provider_is_left_for_the_other_before_the_next_address():
    second = Reachable(address_key="N2", kind="personal", adapter="doves")

    taken = ask(by(BY_DOVES, BY_CROWS, second), flown(1, 2))

    assert (taken.adapter, taken.address_key) == ("crows", "N1")


def test_what_holds_for_everyone_counts_what_went_through_any():
    history = [*flown(1), *flown(2, 3, adapter="crows")]

    assert said(ask(history=history))[1] == "OP.CAPS.DAY"


@pytest.mark.parametrize(
    ("adapter", "asked"),
    [("doves", True), ("crows", False), (None, True)],
    ids=["its own", "another", "not said"],
)
def test_a_pack_for_some_adapters_is_asked_of_what_goes_through_them(adapter, asked):
    decision = ask(by(replace(BY_DOVES, adapter=adapter)))

    assert ("PROVIDER.DOVES" in [pack.id for pack in decision.packs]) == asked


def test_a_pack_with_a_rule_for_all_is_asked_of_everything_and_so_is_one_without_rules():
    mixed = parse_pack(HEAD + TWICE + 'adapters = ["doves"]\n' + TWICE.replace("TWICE", "ALL"), "M.toml")
    empty = replace(DOVES, rules=(), broken="it cannot be read")

    assert through("crows", (DOVES, mixed, empty)) == (mixed, empty)


@pytest.mark.parametrize(
    ("adapters", "counted"),
    [
        (["doves", "doves"], True),
        (["doves", "crows"], False),
        (["doves", None], True),
        ([None, None], True),
    ],
)
def test_events_of_which_nobody_knows_the_adapter_count(adapters, counted):
    history = [flown(n + 1, adapter=name)[0] for n, name in enumerate(adapters)]

    assert (said(ask(by(BY_DOVES), history))[1] == "PROVIDER.DOVES.TWICE") == counted


def test_a_rule_names_its_own_adapters_in_place_of_its_packs():
    pack = parse_pack(HEAD + 'adapters = ["doves"]\n' + TWICE + 'adapters = ["crows"]\n', "X.toml")

    assert [rule.adapters for rule in (*DOVES.rules, *pack.rules)] == [{"doves"}, {"crows"}]


def test_a_text_is_held_against_the_rules_of_the_way_it_goes():
    rule = '\n[[rule]]\nid = "X.STOP"\nkind = "content"\nadapters = ["doves"]\nrequire = ["optout_instruction"]\n'
    pack = parse_pack(HEAD + rule, "X.toml")

    named = [
        len(list(concerning([pack], Question(channel="sms", adapter=way), facts={}, zones=["UTC"], at=NOON)))
        for way in ("doves", "crows", None)
    ]

    assert named == [1, 0, 1]


def test_what_a_decision_read_names_the_ways_and_is_read_back():
    again = read(written(BOTH))

    assert again.addresses == BOTH.addresses
    assert decision_json(ask(again, flown(1, 2))) | {"zones": []} == decision_json(
        ask(history=flown(1, 2))
    ) | {"zones": []}


def test_a_record_from_before_is_read_as_not_said():
    kept = written(BOTH)
    for way in kept["addresses"]["sms"]:
        del way["adapter"]

    assert [way.adapter for way in read(kept).addresses[Channel.SMS]] == [None, None]


def test_what_was_counted_is_said_with_through_whom():
    told = decision_json(ask(by(BY_DOVES), flown(1, 2)))

    (english,) = [line for line in sentences(told) if line.startswith("PROVIDER.DOVES.TWICE")]
    (chinese,) = [line for line in sentences(told, "zh") if line.startswith("PROVIDER.DOVES.TWICE")]

    assert "2 of 2 contacts through doves in 24 hours" in english
    assert "24小时内经doves的联系已2次" in chinese


def test_the_page_of_a_pack_says_through_whom():
    whole = page(read_written(HEAD + 'adapters = ["doves"]\n' + TWICE, "DOVES.toml"))
    one = page(read_written(HEAD + TWICE + 'adapters = ["crows", "doves"]\n', "DOVES.toml"))

    assert "| only through adapters | `doves` |" in whole
    assert "- Only through adapters: `crows` and `doves`" in one


# What ships.


def test_the_shipped_packs_of_providers_are_for_everyone_and_for_adapters_that_ship():
    packs = [pack for name, pack in shipped().items() if name.startswith("PROVIDER.")]

    assert {name for pack in packs for rule in pack.rules for name in rule.adapters} == {
        *("aliyun_sms", "twilio_sms", "wechat")
    }
    assert all(pack.applies == ("everyone",) for pack in packs)


@pytest.mark.parametrize(
    ("adapter", "asked"),
    [
        ("aliyun_sms", ["PROVIDER.ALIYUN"]),
        ("twilio_sms", ["PROVIDER.TWILIO"]),
        ("wechat", ["PROVIDER.WECHAT"]),
        ("smtp", []),
    ],
)
def test_each_provider_has_its_own(adapter, asked):
    found = applying(load(), residence="CN", governing_law="CN").everyone

    assert [pack.id for pack in through(adapter, found) if pack.id.startswith("PROVIDER.")] == asked


def sent_at_will(pack, seed):
    """When messages to one number went through it, out of two days on which each went as soon as it may."""
    r, history = Random(seed), []
    for second in sorted(r.randrange(48 * 3600) for _ in range(160)):
        at, way = (
            NOON + timedelta(seconds=second),
            r.choice(["aliyun_sms", "aliyun_sms", "aliyun_sms", "twilio_sms"]),
        )
        question = Question(channel="sms", address="N1", adapter=way)
        verdict = judge([pack], question, zones=["Asia/Shanghai"], history=history, facts={}, now=at)
        if verdict.action is Action.SEND:
            history.append(event(at, address="N1", adapter=way))
    return [one.at for one in history if one.adapter == "aliyun_sms"]


def fullest(times):
    """The most in any 24 hours."""
    return max(sum(at - timedelta(hours=24) < other <= at for other in times) for at in times)


def slipped(**slip):
    pack = shipped()["PROVIDER.ALIYUN"]
    return replace(pack, rules=tuple(replace(rule, **slip) for rule in pack.rules))


@pytest.mark.parametrize("seed", range(3))
def test_fifty_reach_one_number_in_24_hours_and_no_more(seed):
    assert fullest(sent_at_will(shipped()["PROVIDER.ALIYUN"], seed)) == 50


@pytest.mark.parametrize(
    ("slip", "most"),
    [
        ({"max": 51}, 51),
        ({"window": Elapsed(seconds=23 * 3600)}, 51),
        ({"adapters": frozenset({"twilio_sms"})}, 51),
    ],
    ids=["one more", "an hour short", "another provider"],
)
def test_a_slip_in_the_rule_is_seen_in_what_reaches_the_number(slip, most):
    assert max(fullest(sent_at_will(slipped(**slip), seed)) for seed in range(3)) >= most


def test_a_rule_that_counts_what_went_through_others_lets_fewer_through():
    forgets = slipped(adapters=None)

    assert fullest(sent_at_will(forgets, 0)) < 50
