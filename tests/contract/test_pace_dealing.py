"""The reference of the dealing, with the time as an argument: bounds, nesting, fairness, floors, changes."""

from collections import Counter, defaultdict
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pacing import SECOND, Crowd, Reference, a_group, a_pace, bound, peak

from gateway.quotas import dealing
from gateway.quotas.asked import Wanted

ONE = [({"paces": ("a",)}, None)]


def lane(group):
    return group.lane


def tenant(group):
    return group.tenant


def within(crowd, pace):
    return all(peak(crowd.starts, seconds) <= bound(pace, seconds) for seconds in (1, 10))


@pytest.mark.parametrize(
    ("per_s", "burst", "seconds"),
    [(0.2, 1, 60), (1, 1, 60), (12, 1, 20), (50, 1, 20), (50, 5, 20), (200, 20, 10), (5000, 500, 2)],
)
def test_a_pace_is_kept_and_used_up_at_any_rate(per_s, burst, seconds):
    pace = a_pace(per_s=per_s, burst=burst)
    crowd = Crowd(Reference(), [pace], ONE, workers=2, held=200 if per_s > 1000 else 20).run(seconds)
    assert within(crowd, pace)
    assert len([at for at, *_ in crowd.starts if at < crowd.now]) >= per_s * (seconds - 0.3) - 1


def test_nothing_is_saved_up_while_idle_beyond_the_burst():
    granter, pace = Reference(), a_pace(per_s=50, burst=5)
    first = Crowd(granter, [pace], ONE).run(2)
    first.now += 3600 * SECOND
    second = Crowd(granter, [pace], ONE)
    second.now = first.now
    second.turns = [(first.now, worker) for _, worker in second.turns]
    second.run(2)
    assert within(second, pace)
    assert min(at for at, *_ in second.starts) < first.now + 200_000


def test_nested_quotas_are_each_kept_and_none_costs_the_others_pace():
    paces = [a_pace("acc", 50, 1), a_pace("t1", 20, 1), a_pace("t2", 12, 1), a_pace("t3", 40, 1)]
    queues = [({"tenant": f"t{n}", "paces": (f"t{n}", "acc")}, None) for n in (1, 2, 3)]
    crowd = Crowd(Reference(), paces, queues, workers=3).run(10)
    for pace in paces:
        assert within_key(crowd, pace)
    shares = crowd.by(tenant)
    assert shares["t2"] == pytest.approx(12, rel=0.03)
    assert shares["t1"] == pytest.approx(19, rel=0.03)
    assert sum(shares.values()) == pytest.approx(50, rel=0.02)


def within_key(crowd, pace):
    own = [start for start in crowd.starts if pace.key in start[1].paces]
    return all(peak(own, seconds) <= bound(pace, seconds) for seconds in (1, 10))


def test_accounts_under_one_quota_take_turns():
    paces = [a_pace("all", 40, 4), a_pace("one", 30, 3), a_pace("two", 30, 3)]
    queues = [({"pool": name, "paces": (name, "all")}, None) for name in ("one", "two")]
    crowd = Crowd(Reference(), paces, queues).run(20)
    shares = crowd.by(lambda group: group.pool)
    assert shares["one"] == pytest.approx(shares["two"], rel=0.1)
    assert sum(shares.values()) == pytest.approx(40, rel=0.03)


def test_tenants_share_by_weight_and_an_idle_ones_share_goes_to_the_others_at_once():
    weights = (("x", 3.0), ("y", 1.0), ("z", 1.0))
    queues = [({"tenant": name, "weight": weight, "paces": ("a",)}, None) for name, weight in weights]
    crowd = Crowd(Reference(), [a_pace(per_s=100, burst=10)], queues, workers=2).run(5)
    z = crowd.queues.pop()
    crowd.run(5)
    crowd.queues.append(z)
    crowd.run(5)
    for since, until, fair in ((1, 5, (60, 20, 20)), (6, 10, (75, 25, 0)), (11, 15, (60, 20, 20))):
        shares = crowd.by(tenant, since, until)
        assert [shares.get(name, 0) for name in "xyz"] == pytest.approx(fair, rel=0.07)


@pytest.mark.parametrize("holder", [None, "w1"])
def test_a_tenant_whose_own_quota_held_it_back_takes_no_more_than_its_share_once_that_is_raised(holder):
    paces = [a_pace("acc", 50, 5), a_pace("own", 5, 1)]
    queues = [
        ({"tenant": "x", "paces": ("acc",)}, holder and "w0"),
        ({"tenant": "y", "paces": ("own", "acc")}, holder),
    ]
    crowd = Crowd(Reference(), paces, queues, workers=2).run(20)
    assert crowd.by(tenant, 1, 20) == pytest.approx({"x": 45, "y": 5}, rel=0.03)
    crowd.set(own={"per_s": 50.0, "burst": 5})
    crowd.run(5)
    assert crowd.by(tenant, 20.5, 25) == pytest.approx({"x": 25, "y": 25}, rel=0.07)


def test_tenants_in_the_hands_of_one_worker_each_do_not_wait_for_one_another():
    queues = [({"tenant": f"t{n:02}", "paces": ("a",)}, f"w{n}") for n in range(12)]
    crowd = Crowd(Reference(), [a_pace(per_s=20, burst=1)], queues, workers=12, held=3).run(13)
    shares = crowd.by(tenant)
    assert len(shares) == 12
    assert all(share == pytest.approx(20 / 12, rel=0.11) for share in shares.values())


def test_lower_lanes_keep_their_floors_under_a_flood_of_urgent_and_no_more():
    queues = [({"lane": number, "paces": ("a",)}, None) for number in (0, 1, 2)]
    crowd = Crowd(Reference(), [a_pace(per_s=100, burst=10)], queues, workers=2).run(20)
    given, behind = defaultdict(int), 0.0
    for at, (_, group, _) in enumerate(sorted(crowd.starts, key=lambda start: start[0]), 1):
        given[group.lane] += 1
        if at > 20:  # those within 100 ms of each other have no order
            behind = max(behind, at * 0.10 - given[1] - 2, at * 0.05 - given[2] - 2)
    assert behind <= 0
    assert crowd.by(lane)[0] == pytest.approx(85, rel=0.02)


def test_a_lane_that_is_not_at_hand_all_the_time_keeps_its_floor_all_the_same():
    urgent, bulk = (({"lane": number, "paces": ("a",)}, None) for number in (0, 2))
    crowd = Crowd(Reference(), [a_pace(per_s=100, burst=1)], [urgent, bulk])
    for turn in range(100):
        crowd.queues = [urgent, bulk] if turn % 2 else [urgent]
        crowd.run(0.2)
    assert crowd.by(lane)[2] == pytest.approx(5, rel=0.04)


def test_fifty_tenants_in_three_lanes_are_served_alike():
    names = [f"t{n:02}" for n in range(50)]
    paces = [a_pace("acc", 400, 40), *(a_pace(name, 40, 4) for name in names)]
    queues = [
        ({"tenant": n, "lane": number, "paces": ("acc", n)}, None) for n in names for number in (0, 1, 2)
    ]
    crowd = Crowd(Reference(), paces, queues, workers=2, held=1).run(1.5)
    served = Counter(group.tenant for _, group, _ in crowd.starts)
    assert len(served) == 50
    assert max(served.values()) - min(served.values()) <= 1


def test_a_start_of_many_segments_may_go_into_debt_but_the_segments_keep_their_pace():
    pace = a_pace(per_s=10, burst=1, segments=True)
    crowd = Crowd(Reference(), [pace], [({"paces": ("a",), "segments": (3,) * 10}, None)]).run(20)
    assert sum(n for *_, n in crowd.starts) == pytest.approx(200, rel=0.05)
    assert peak(crowd.starts, 1) <= bound(pace, 1) + 2


def test_a_change_takes_hold_at_once_and_brings_no_second_window():
    crowd = Crowd(Reference(), [a_pace(per_s=50, burst=5)], ONE, workers=2).run(2)
    for per_s, burst in ((200, 20), (20, 2), (200, 20), (0.5, 1), (50, 5)):
        crowd.set(a={"per_s": float(per_s), "burst": burst})
        crowd.run(2)
        crowd.starts.clear()
        crowd.run(4)
        own = [start for start in crowd.starts if start[0] < crowd.now]
        assert peak(own, 1) <= bound(crowd.paces["a"], 1)
        assert len(own) >= per_s * 4 * 0.97 - burst


def test_of_two_versions_the_higher_wins_until_nobody_has_brought_it_for_ten_seconds():
    state, new, old = dealing.State(), a_pace(per_s=10, version=2), a_pace(per_s=1000, version=1)
    dealing.room(state, [new], "w1", 1e13, empty_at=1e13)
    dealing.room(state, [old], "w2", 1e13 + 10 * SECOND, empty_at=1e13)
    assert state.meters["a"].per_s == 10
    dealing.room(state, [old], "w2", 1e13 + 10 * SECOND + 1, empty_at=1e13)
    assert state.meters["a"].per_s == 1000


def test_a_clock_that_is_set_back_bars_nothing_and_gives_nothing_twice():
    granter, pace = Reference(), a_pace(per_s=50, burst=5)
    before = Crowd(granter, [pace], ONE).run(2)
    after = Crowd(granter, [pace], ONE)
    after.now = before.now - 3600 * SECOND
    after.turns = [(after.now, worker) for _, worker in after.turns]
    after.run(2)
    assert 95 <= len(after.starts) <= 2 * 50 + 5
    moved = [(at - 3600 * SECOND, group, n) for at, group, n in before.starts]
    assert peak(moved + after.starts, 1) <= bound(pace, 1)


def test_a_pace_that_refuses_leaves_the_other_paces_whole():
    state = dealing.State()
    paces = (a_pace("wide", 1000, 100), a_pace("slow", 0.2, 1))
    for passed in (0, 600):
        now = 1e13 + passed * SECOND
        wanted = Wanted(worker="w", paces=paces, groups=(a_group(paces=(0, 1)),))
        given = dealing.take(state, wanted, now, empty_at=now)
    assert len(given[0]) == 1
    assert dealing.room(state, [paces[0]], "w", now, empty_at=now) == [1099.0]


def test_what_others_wait_for_is_no_room_and_is_forgotten_after_a_quarter_of_a_second():
    state, pace, now = dealing.State(), a_pace(per_s=10, burst=1), 1e13
    dealing.take(state, Wanted(worker="w1", paces=(pace,), groups=(a_group(count=6),)), now, empty_at=now)
    assert dealing.room(state, [pace], "w1", now, empty_at=now) == [9.0]
    assert dealing.room(state, [pace], "w2", now, empty_at=now) == [4.0]
    assert dealing.room(state, [pace], "w2", now + 250_000, empty_at=now) == [6.0]
    assert dealing.room(state, [pace], "w2", now + 250_001, empty_at=now) == [11.0]


@given(
    st.lists(
        st.tuples(
            st.integers(0, 400_000),
            st.sampled_from(["w1", "w2", "w3"]),
            st.integers(0, 60),
            st.sampled_from([(10.0, 1), (50.0, 5), (300.0, 30)]),
        ),
        max_size=60,
    )
)
def test_whatever_is_asked_no_window_holds_more_than_the_fastest_pace_allows(steps):
    granter, now, starts = Reference(), 1e13, []
    for version, (passed, worker, count, (per_s, burst)) in enumerate(steps):
        now += passed
        pace = a_pace(per_s=per_s, burst=burst, version=version)
        given_ = granter.take(Wanted(worker=worker, paces=(pace,), groups=(a_group(count=count),)), now)
        starts += [(now + at, None, 1) for at in given_[0]]
    assert all(peak(starts, s) <= 300 * (s + 0.1) + 30 for s in (0.1, 1, 60))


# Mutants that the same looks must catch.


class FixedWindow:
    """Counts by the clock's second."""

    def __init__(self):
        self.given = defaultdict(int)

    def take(self, wanted, now):
        pace, second = wanted.paces[0], now // SECOND
        free = max(0, int(pace.per_s) - self.given[second])
        given_ = min(free, len(wanted.groups[0].segments))
        self.given[second] += given_
        return [(0,) * given_]


class FullBucket(Reference):
    """Begins with its burst, and so again after every flush."""

    def take(self, wanted, now):
        pace = wanted.paces[0]
        return dealing.take(self.state, wanted, now, empty_at=now - pace.burst / pace.per_s * SECOND)


class LocalShare:
    """A quarter for each of four workers, each with a state of its own."""

    def __init__(self):
        self.states = defaultdict(dealing.State)

    def take(self, wanted, now):
        quarter = replace(wanted, paces=tuple(replace(p, per_s=p.per_s / 4) for p in wanted.paces))
        return dealing.take(self.states[wanted.worker], quarter, now, empty_at=now)


def flushed(granter, pace):
    crowd = Crowd(granter, [pace], ONE).run(1)
    for _ in range(8):
        granter.state = dealing.State()
        crowd.run(0.1)
    return crowd.run(1)


def joined(granter, pace):
    crowd = Crowd(granter, [pace], ONE)
    crowd.join("w5")
    return crowd.run(11)


def test_a_fixed_window_is_caught_under_a_burst_of_one():
    pace = a_pace(per_s=50, burst=1)
    assert not within(Crowd(FixedWindow(), [pace], ONE).run(5), pace)
    assert within(Crowd(Reference(), [pace], ONE).run(5), pace)


def test_a_full_bucket_after_a_flush_is_caught():
    pace = a_pace(per_s=50, burst=10)
    assert not within(flushed(FullBucket(), pace), pace)
    assert within(flushed(Reference(), pace), pace)


def test_a_local_share_is_caught_when_a_fifth_worker_joins():
    pace = a_pace(per_s=50, burst=5)
    assert not within(joined(LocalShare(), pace), pace)
    assert within(joined(Reference(), pace), pace)
