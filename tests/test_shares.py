"""Room is shared among what waits: fair between tenants, with a floor for each lane, and never more than there is."""

from collections import Counter
from dataclasses import replace
from datetime import timedelta
from math import inf
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from makers import NOW

from gateway.quotas.shares import Shares, Waiter, Way, numbers
from gateway.rooms import Rooms, View


def waiter(
    tenant="a", lane=1, *, name=None, weight=1.0, age=0, keys=("pool",), uses=1.0, on_trial=False, ways=()
):
    return Waiter(
        name=name or f"{tenant}{lane}",
        tenant=tenant,
        weight=weight,
        lane=lane,
        oldest=NOW - timedelta(seconds=age),
        ways=ways or (Way(1.0, inf, keys),),
        uses=uses,
        on_trial=on_trial,
    )


def deal(shares, waiting, left, most, claims):
    """How many of each queue are dealt, and had."""
    dealt = shares.deal(waiting, left, most, claims)
    shares.decided(dealt, numbers(dealt))
    return numbers(dealt)


def test_tenants_share_by_weight():
    dealt = deal(Shares(), [waiter("a", weight=3.0), waiter("b")], {"pool": 40}, 40, {})

    assert dealt == {"a1": 30, "b1": 10}


def test_an_idle_tenants_share_goes_to_the_others_at_once():
    shares = Shares()
    deal(shares, [waiter("a")], {"pool": 100}, 100, {})

    assert deal(shares, [waiter("a"), waiter("b")], {"pool": 10}, 10, {}) == {"a1": 5, "b1": 5}


def test_a_room_of_one_comes_round_to_every_tenant():
    shares, waiting = Shares(), [waiter(t) for t in "abc"]

    got = [name for _ in range(9) for name in deal(shares, waiting, {"pool": 1}, 10, {})]

    assert Counter(got) == {"a1": 3, "b1": 3, "c1": 3}


def test_the_urgent_go_first_and_normal_and_bulk_keep_their_floors():
    dealt = deal(Shares(), [waiter(lane=lane) for lane in range(3)], {"pool": 200}, 200, {})

    assert dealt["a1"] == pytest.approx(20, abs=2)
    assert dealt["a2"] == pytest.approx(10, abs=2)
    assert sum(dealt.values()) == 200


def test_a_lane_of_which_none_waits_for_its_start_is_picked_before_it_is_owed_and_no_more_often():
    waiting, claimed = [waiter(lane=lane) for lane in range(3)], {("a", 1): 1, ("a", 2): 1}

    assert deal(Shares(), waiting, {"pool": 8}, 8, {}) == {"a0": 6, "a1": 1, "a2": 1}
    assert deal(Shares(), waiting, {"pool": 8}, 8, claimed) == {"a0": 8}
    shares, got = Shares(), Counter[str]()
    for _ in range(100):
        got.update(deal(shares, waiting, {"pool": 10}, 10, {}))
    assert (got["a1"], got["a2"]) == (pytest.approx(100, abs=2), pytest.approx(50, abs=2))


def verdict(queue):
    """One of a queue that was decided on."""
    return SimpleNamespace(
        work=SimpleNamespace(queue=queue), moves_to=None, intent=None, state="deferred", reason="x"
    )


def test_what_was_dealt_and_not_decided_on_is_held_against_nobody():
    waiting, shares, got = [waiter(lane=lane) for lane in range(3)], Shares(), Counter[str]()
    for turn in range(1000):
        picked = turn % 4 == 3
        dealt = shares.deal(waiting, {"pool": 6}, 6, {("a", lane): picked for lane in (1, 2)})
        if picked:
            shares.decided(dealt, numbers(dealt))
            got.update(numbers(dealt))

    assert got["a1"] == pytest.approx(0.10 * got.total(), abs=2)
    assert got["a2"] == pytest.approx(0.05 * got.total(), abs=2)


def test_what_is_dealt_on_one_channel_leaves_the_floors_of_another():
    rooms = Rooms(
        live=None, desk=None, grants=None, starts=SimpleNamespace(claims=lambda _channel: {}), worker="w"
    )
    names = ("sms|a|care|0", "sms|a|care|2", "email|a|care|2")
    waiting = {name: waiter(lane=int(name[-1]), name=name) for name in names}
    view = View(now=NOW, queues=waiting, left={"pool": 100})

    got = Counter[str]()
    for _ in range(50):
        for channel in ("sms", "email"):
            dealt = rooms.deal(view, channel, 10)
            rooms.learn(channel, dealt, [verdict(turn.waiter.name) for turn in dealt])
            got.update(numbers(dealt))

    assert got["sms|a|care|2"] >= 0.05 * 500 - 2


def test_of_one_lane_the_queue_with_the_oldest_goes_first():
    assert deal(Shares(), [waiter(name="new"), waiter(name="old", age=9)], {"pool": 1}, 5, {}) == {"old": 1}


def test_what_needs_room_of_something_full_stays_and_the_rest_goes_on():
    waiting = [waiter(name="full", keys=("pool", "day")), waiter(name="free", keys=("pool",))]

    assert deal(Shares(), waiting, {"pool": 5, "day": 0}, 9, {}) == {"free": 5}


def test_more_is_picked_of_a_queue_of_which_rules_let_few_go():
    assert deal(Shares(), [waiter(uses=0.25)], {"pool": 10}, 100, {}) == {"a1": 40}


def test_a_lane_of_which_little_goes_leaves_the_next_one_half_of_what_may_be_picked():
    waiting = [waiter(lane=0, uses=0.125), waiter(lane=1, uses=0.25)]

    assert deal(Shares(), waiting, {"pool": 40}, 60, {}) == {"a0": 30, "a1": 30}


def test_of_a_lane_of_which_nothing_is_known_yet_a_few_are_tried_and_the_next_one_has_the_rest():
    waiting = [waiter(lane=0, on_trial=True), waiter(lane=1)]

    assert deal(Shares(), waiting, {"pool": 40}, 60, {}) == {"a0": 10, "a1": 30}
    assert deal(Shares(), waiting, {"pool": 10}, 60, {}) == {"a0": 5, "a1": 5}
    assert deal(Shares(), waiting[:1], {"pool": 40}, 60, {}) == {"a0": 10}


def test_queues_that_go_through_the_same_account_share_its_room_however_many_others_they_could_go_through():
    ways = (Way(1.0, 200.0, ("cn",)), Way(0.0, 0.0, ("world",)))
    waiting = [waiter("a", ways=ways), waiter("b", ways=ways)]

    assert deal(Shares(), waiting, {"cn": 10, "world": 60}, 100, {}) == {"a1": 5, "b1": 5}
    assert deal(Shares(), waiting, {"cn": 0, "world": 60}, 100, {}) == {}


def test_while_one_account_is_full_so_many_are_picked_as_will_fill_the_other():
    half = (Way(0.5, 100.0, ("cn",)), Way(0.5, 100.0, ("world",)))

    assert deal(Shares(), [waiter(ways=half)], {"cn": 0, "world": 6}, 100, {}) == {"a1": 11}
    assert deal(Shares(), [waiter(ways=half)], {"cn": 6, "world": 6}, 100, {}) == {"a1": 12}


def test_a_queue_that_no_account_serves_is_looked_at_for_what_it_is():
    nobody = replace(waiter(), ways=())

    assert deal(Shares(), [nobody], {}, 3, {}) == {"a1": 3}


def test_a_tenant_whose_work_is_mostly_suppressed_is_dealt_more_to_have_its_share_of_the_starts():
    waiting = [waiter("a", uses=0.25), waiter("b")]

    assert deal(Shares(), waiting, {"pool": 40}, 500, {}) == {"a1": 80, "b1": 20}


@given(
    st.lists(
        st.tuples(
            st.sampled_from("abcd"),
            st.integers(0, 2),
            st.floats(0.5, 5),
            st.lists(st.sampled_from(["x", "y", "z"]), unique=True),
            st.sampled_from([0.125, 0.25, 0.5, 1.0]),
        ),
        max_size=8,
    ),
    st.fixed_dictionaries({key: st.floats(-3, 30) for key in "xyz"}),
    st.integers(0, 40),
)
def test_no_key_is_dealt_beyond_its_room_and_nothing_that_fits_is_left(drawn, left, most):
    waiting = [
        waiter(tenant, lane, name=f"q{n}", weight=weight, keys=tuple(keys), uses=uses)
        for n, (tenant, lane, weight, keys, uses) in enumerate(drawn)
    ]

    dealt = deal(Shares(), waiting, left, most, {})

    used = {key: sum(dealt.get(w.name, 0) * w.uses for w in waiting if key in w.ways[0].keys) for key in left}
    assert all(used[key] <= max(0, left[key]) for key in left)
    assert sum(dealt.values()) <= most
    if sum(dealt.values()) < most:
        assert not [w for w in waiting if all(left[key] - used[key] >= 1 for key in w.ways[0].keys)]
