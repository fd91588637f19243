"""Accounts: which of several takes a reminder, who shares one, and what pace a sender comes with."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.accounts import LOOK_AGAIN, Accounts, Connected, choose, ordered, parse
from gateway.domain import Account, Handed, HandOver, Mode, Tenant
from gateway.errors import BadInput, SetupError
from gateway.ports import Moment
from gateway.quotas import catalogue
from gateway.quotas.catalogue import defaults, kind_of, midnight, pace_of
from gateway.quotas.model import Book, Unit
from gateway.standing import Ending, Standing, after

NOW = datetime(2026, 11, 24, 2, 0, tzinfo=UTC)
MOMENT = Moment(real=NOW, policy=NOW + timedelta(days=3))
DOWN = after(
    Standing(), [Ending(pool="", adapter="", handed=Handed(ending=HandOver.CONFIG, code="20003"))], NOW
)
HALF = DOWN.asked(NOW, ok=True)
SPENT = Standing(used_up_until=NOW + timedelta(hours=14))


def account(name="sms", adapter="twilio_sms", sender="+15005550006", weight=None, tenant="acme", **settings):
    return Account(
        tenant=Tenant(f"{tenant}/live"),
        name=name,
        mode=Mode.LIVE,
        adapter=adapter,
        sender=sender,
        settings={key: str(value) for key, value in settings.items()},
        weight=weight,
    )


def connected(name, **more):
    return Connected(account=account(name, **more), adapter=SimpleNamespace(), ways=None)


def names(found):
    return [one.account.name for one in found]


def drawn(able, standings=None, tries=0):
    """Which account each of many reminders takes."""
    chosen = (choose(able, f"rm_{n}", tries, standings or {}, MOMENT) for n in range(2000))
    return Counter(one.account.name if why is None else (one.account.name, why.reason) for one, why in chosen)


# Which account.


def test_without_weights_the_first_by_name_is_the_primary():
    able = [connected("b"), connected("a"), connected("c")]

    assert drawn(able) == {"a": 2000}


@pytest.mark.parametrize("tries", [0, 1, 2, 3, 4])
def test_after_each_refused_hand_over_the_next_has_its_turn(tries):
    able = [connected("a"), connected("b"), connected("c")]

    assert names(ordered(able, "rm_1", tries))[0] == "abc"[tries % 3]


def weighted(name, weight):
    found = connected(name)
    return replace(found, account=replace(found.account, settings={"weight": str(weight)}))


def test_weights_share_reminders_out():
    found = drawn([weighted("a", 3), weighted("b", 1), connected("c")])

    assert found["c"] == 0
    assert 0.71 < found["a"] / 2000 < 0.79


@given(st.integers(0, 40), st.permutations(["a", "b", "c"]))
def test_the_same_reminder_always_has_the_same_order_and_every_account_its_place(tries, order):
    weights = {"a": 3, "b": 1, "c": 0}
    able = [weighted(name, weights[name]) for name in order]

    found = names(ordered(able, "rm_1", tries))
    assert sorted(found) == ["a", "b", "c"]
    assert found == names(ordered(able[::-1], "rm_1", tries))


def test_one_that_is_down_or_has_used_up_its_day_is_passed_over():
    able = [connected("a"), connected("b"), connected("c")]

    assert drawn(able, {"acme/live|a": DOWN}) == {"b": 2000}
    assert drawn(able, {"acme/live|a": DOWN, "acme/live|b": SPENT}) == {"c": 2000}


def test_when_none_may_start_the_first_that_is_back_says_until_when():
    able = [connected("a"), connected("b")]

    one, why = choose(able, "rm_1", 0, {"acme/live|a": SPENT, "acme/live|b": SPENT}, MOMENT)
    assert (why.reason, why.by, why.again) == ("quota", "a", MOMENT.policy + timedelta(hours=14))
    one, why = choose(able, "rm_1", 0, {"acme/live|a": SPENT, "acme/live|b": DOWN}, MOMENT)
    assert (one.account.name, why.reason, why.by) == ("b", "account_down", "b")
    assert why.again == MOMENT.policy + LOOK_AGAIN


def test_one_that_comes_back_takes_a_sample_of_what_could_go_another_way():
    able = [connected("a"), connected("b")]

    found = drawn(able, {"acme/live|a": HALF})
    assert 0.09 < found["a"] / 2000 < 0.16
    assert drawn(able[:1], {"acme/live|a": HALF}) == {"a": 2000}


def test_while_it_is_probed_nothing_else_goes_through_it():
    probed = HALF.probed_by("at_1", NOW)

    assert drawn([connected("a"), connected("b")], {"acme/live|a": probed}) == {"b": 2000}


# Shared accounts.


SHARED = """
[[account]]
name = "sms"
{owner}
mode = "live"
adapter = "twilio_sms"
sender = "+15005550006"
"""


def read(owner):
    return parse(SHARED.format(owner=owner), adapters=["twilio_sms"], environ={})


def faults(text):
    with pytest.raises(BadInput) as wrong:
        read(text) if "[[" not in text else parse(text, adapters=["twilio_sms"], environ={})
    return [(fault.at, fault.code) for fault in wrong.value.faults]


def test_a_shared_account_is_one_row_for_each_tenant_with_its_weight():
    found = read("tenants = {acme = 3, beta = 1}")

    assert [(a.tenant, a.name, a.weight) for a in found] == [("acme/live", "sms", 3), ("beta/live", "sms", 1)]
    assert [(a.tenant, a.weight) for a in read('tenant = "acme"')] == [("acme/live", None)]


@pytest.mark.parametrize("owner", ["", 'tenant = "acme"\ntenants = {acme = 1}'])
def test_an_account_has_one_owner_or_several_never_both_or_none(owner):
    assert faults(owner) == [("account[0].tenant", "missing")]


@pytest.mark.parametrize(
    "weights", ["{}", "{acme = 0}", "{acme = 1001}", "{acme = 1.5}", '{acme = "1"}', "{acme = true}"]
)
def test_weights_of_tenants_are_whole_numbers(weights):
    assert faults(f"tenants = {weights}") == [("account[0].tenants", "weight_malformed")]


def test_a_name_is_given_once_to_a_tenant_whoever_shares_it():
    both = SHARED.format(owner="tenants = {acme = 3, beta = 1}") + SHARED.format(owner='tenant = "beta"')

    assert faults(both) == [("account[1].name", "name_taken")]


# The pace a sender comes with.


@pytest.mark.parametrize(
    ("sender", "kind", "pace"),
    [
        ("+14155550100", "long_code", 1),
        ("+18335550100", "toll_free", 3),
        ("+12335550100", "long_code", 1),
        ("12345", "short_code", 100),
        ("MG" + "0" * 32, "long_code", 1),
        ("Acme", "alphanumeric", 10),
        ("A1 B2", "alphanumeric", 10),
        ("+4915112345678", "long_code", 1),
    ],
)
def test_a_twilio_sender_has_the_pace_of_its_kind(sender, kind, pace):
    one = account(sender=sender)

    assert (kind_of(one).name, pace_of(one)) == (kind, pace)


def test_an_account_says_better_what_it_is_and_what_was_granted():
    assert pace_of(account(sender_kind="whatsapp")) == 80
    assert pace_of(account(sender_kind="short_code", pace="400.5")) == Decimal("400.5")


@pytest.mark.parametrize(
    ("adapter", "pace"),
    [("twilio_voice", 1), ("aliyun_sms", 5000), ("wechat", None), ("smtp", None), ("own", None)],
)
def test_other_adapters_have_their_own_or_none(adapter, pace):
    assert pace_of(account(adapter=adapter)) == pace


def test_an_account_comes_with_its_pace_as_a_quota_that_covers_nothing_else():
    own, shared = account(), account("voice", "twilio_voice", weight=3)
    (first, second) = defaults([own, shared, account("voice", "twilio_voice", tenant="beta", weight=1)])

    assert (first.owner, first.name, first.rate, first.unit) == ("acme/live", "pace.sms", 1, Unit.SEGMENT)
    assert (second.owner, second.name, second.unit) == ("*/live", "pace.voice", Unit.MESSAGE)
    assert (first.version, first.burst_units) == (0, 1)
    book = Book([first, second])
    for one, keys in [
        (own, ["acme/live|pace.sms||"]),
        (account(tenant="beta"), []),
        (shared, ["*/live|pace.voice||"]),
        (account("voice", "twilio_voice", tenant="beta", weight=1), ["*/live|pace.voice||"]),
        (account("mail", "smtp", tenant="beta"), []),
    ]:
        load = Connected(
            account=one, adapter=SimpleNamespace(channel=SimpleNamespace(value="sms")), ways=None
        ).load(one.tenant, "care", 1)
        assert [bucket.key for bucket in book.buckets(load)] == keys


@pytest.mark.parametrize(
    ("settings", "codes"),
    [
        ({"pace": "0"}, ["pace_malformed"]),
        ({"pace": "0.0009"}, ["pace_malformed"]),
        ({"pace": "1e6"}, ["pace_malformed"]),
        ({"pace": "NaN"}, ["pace_malformed"]),
        ({"pace": "fast"}, ["pace_malformed"]),
        ({"sender_kind": "pigeon"}, ["kind_unknown"]),
        ({"weight": "-1"}, ["weight_malformed"]),
        ({"weight": "1001"}, ["weight_malformed"]),
        ({"pace": "0.5", "sender_kind": "toll_free", "weight": "0"}, []),
        ({"pace": "x", "weight": "x"}, ["pace_malformed", "weight_malformed"]),
    ],
)
def test_settings_that_pace_and_weigh_are_read_strictly(settings, codes):
    one = replace(account(), settings=settings)

    assert [fault.code for fault in catalogue.faults(one, "/accounts/0")] == codes


def test_every_entry_of_the_catalogue_names_its_source_and_an_adapter():
    found = catalogue.published()

    assert set(found) == {"twilio_sms", "twilio_voice", "aliyun_sms", "wechat", "smtp"}
    assert all(entry.source for entry in found.values())
    assert [name for name, entry in found.items() if entry.queues] == ["twilio_sms", "twilio_voice"]


@pytest.mark.parametrize(
    ("adapter", "now", "over"),
    [
        ("wechat", datetime(2026, 11, 24, 15, 59, 59, tzinfo=UTC), datetime(2026, 11, 24, 16, tzinfo=UTC)),
        ("wechat", datetime(2026, 11, 24, 16, tzinfo=UTC), datetime(2026, 11, 25, 16, tzinfo=UTC)),
        ("twilio_sms", datetime(2026, 12, 31, 23, 59, tzinfo=UTC), datetime(2027, 1, 1, 8, tzinfo=UTC)),
        ("twilio_sms", datetime(2026, 11, 1, 8, tzinfo=UTC), datetime(2026, 11, 2, 8, tzinfo=UTC)),
        ("smtp", NOW, None),
    ],
)
def test_a_providers_day_ends_at_its_own_midnight(adapter, now, over):
    assert midnight(adapter, now) == over


def test_an_adapter_that_does_not_say_how_many_calls_it_has_open_at_once_is_named_before_it_can_hold_up_others():
    class Older:
        def __init__(self, account, tools):
            pass

    made = Accounts(
        store=None,
        credentials=None,
        load=lambda _: Older,
        tokens=None,
        public_url="https://gw.example",
        callback_key=bytes(32),
    )
    with pytest.raises(SetupError, match=r"twilio_sms .*at_once.*install a version"):
        made.build(account("older"))
