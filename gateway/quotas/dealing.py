"""Who may start when: paces as numbers, dealt fairly among tenants and lanes. The reference of `gateway/pace/pace.lua`.

A pace is a meter, one number: the instant `tat` (theoretical arrival time) at which its burst would be whole again.
A unit takes 1/rate of it. The next start is at `tat - (burst - 1) units`, not before now; in any window the starts
stay within rate x window + burst, plus what may start up to AHEAD_US later than it was entitled to.

Instants are µs of the granter's clock. Everything here changes the `State` it is given, and nothing else.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from heapq import heapify, heappop, heapreplace
from itertools import islice
from math import ceil, floor

from gateway.quotas.asked import AHEAD_US, CLAIM_US, FLOORS, ROOM_US, Group, Pace, Wanted

SECOND_US = 1e6
STALE_US = 10_000_000
"""A version that nobody brought for so long holds no more: by then whoever works by an older one has stopped."""
CALM_US = 2_000_000
"""A rate that changes more often carries all that is owed along, so that no to and fro sheds it."""
OWED_MOST = 2.0
"""Slots that a lane may be behind its floor; what is beyond them is forgotten."""


@dataclass(slots=True)
class Meter:
    """A pace as last seen, `at` is when. `seen`: when its `version` was last brought; `changed`: when its rate was."""

    tat: float
    per_s: float
    burst: int
    version: int
    at: float
    seen: float
    changed: float


@dataclass(slots=True)
class Share:
    """A tenant's place in the dealing: its virtual time, and the slots its normal and bulk lanes are behind."""

    time: float = 0.0
    owed: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0])


@dataclass(slots=True)
class Pool:
    """The dealing among the tenants of one account: the virtual time reached, and when it last gave a slot."""

    time: float = 0.0
    dealt: float = 0.0
    shares: dict[str, Share] = field(default_factory=dict)


@dataclass(slots=True)
class Claim:
    """Starts of one group that a worker could not be given: `count` of them, `units` each from these meters."""

    pool: str
    tenant: str
    weight: float
    lane: int
    count: int
    keys: tuple[str, ...]
    units: tuple[float, ...]


@dataclass(slots=True)
class Claims:
    """What one worker was left with at an instant, and the units of each meter it will want within ROOM_US."""

    at: float
    claims: list[Claim] = field(default_factory=list)
    wants: dict[str, float] = field(default_factory=dict)

    def fresh(self, now: float, claim_us: float) -> bool:
        """Whether they still count."""
        return abs(now - self.at) <= claim_us


@dataclass(slots=True)
class State:
    """Everything a granter keeps, of one epoch. What is missing is new."""

    meters: dict[str, Meter] = field(default_factory=dict)
    pools: dict[str, Pool] = field(default_factory=dict)
    claims: dict[str, Claims] = field(default_factory=dict)


def take(
    state: State,
    wanted: Wanted,
    now: float,
    *,
    empty_at: float,
    ahead_us: float = AHEAD_US,
    claim_us: float = CLAIM_US,
) -> tuple[tuple[int, ...], ...]:
    """Start times in µs from now for the first starts of each group, all within `ahead_us`.

    A new meter is empty, its first unit due one unit's time after `empty_at` (≥ now): later than now where
    earlier grants may still be out. What is left over stands as the worker's claims, which count for `claim_us`.
    """
    gauges = _gauges(state, wanted.paces, now, empty_at, ahead_us)
    table = _Table(state, wanted, now, gauges, ahead_us, claim_us)
    starts: list[list[int]] = [[] for _ in wanted.groups]
    for name in table.order():
        _deal(table, name, starts)
    for gauge in gauges:
        gauge.meter.tat = gauge.real
    state.claims[wanted.worker] = _left_over(wanted, starts, gauges, now)
    return tuple(map(tuple, starts))


def room(
    state: State,
    paces: Sequence[Pace],
    worker: str,
    now: float,
    *,
    empty_at: float,
    claim_us: float = CLAIM_US,
) -> list[float]:
    """Whole units of each pace that may start within ROOM_US after the other workers' claims. Meters it meets begin."""
    others = [
        each for name, each in sorted(state.claims.items()) if name != worker and each.fresh(now, claim_us)
    ]
    found = []
    for pace, gauge in zip(paces, _gauges(state, paces, now, empty_at, 0), strict=True):
        claimed = sum(each.wants.get(pace.key, 0.0) for each in others)
        found.append(max(0.0, float(floor(gauge.units(now + ROOM_US) - claimed))))
    return found


def _met(state: State, pace: Pace, now: float, empty_at: float) -> Meter:
    """The pace's meter, brought to now and to the newest version known of it."""
    unit = SECOND_US / pace.per_s
    meter = state.meters.get(pace.key)
    if meter is None:
        meter = Meter(empty_at + pace.burst * unit, pace.per_s, pace.burst, pace.version, now, now, now)
        state.meters[pace.key] = meter
        return meter
    if now < meter.at:  # the clock was set back: what was so far ahead still is
        meter.tat += now - meter.at
        meter.seen, meter.changed = min(meter.seen, now), min(meter.changed, now)
    meter.at = now
    meter.tat = max(meter.tat, now)
    if pace.version >= meter.version or now - meter.seen > STALE_US:
        if pace.per_s != meter.per_s or pace.burst != meter.burst:
            meter.tat = now + _carried(meter, pace, now) * unit
            meter.changed = now
        meter.per_s, meter.burst, meter.version, meter.seen = pace.per_s, pace.burst, pace.version, now
    return meter


def _carried(meter: Meter, pace: Pace, now: float) -> float:
    """Units used under a changed pace: what was saved up in proportion to its burst, what is owed as it is.

    A lower pace begins where the higher one's starts end, and does not pay for them: it would be silent for long.
    """
    saved = meter.burst - (meter.tat - now) * meter.per_s / SECOND_US
    if saved > 0:
        saved = saved * pace.burst / meter.burst
    elif pace.per_s < meter.per_s and now - meter.changed >= CALM_US:
        saved = saved * pace.per_s / meter.per_s
    return pace.burst - saved


def _gauges(
    state: State, paces: Sequence[Pace], now: float, empty_at: float, ahead_us: float
) -> list[_Gauge]:
    """One for each pace, in their order; paces of one key (two versions of it) share theirs."""
    for pace in paces:
        _met(state, pace, now, empty_at)
    by_key = {pace.key: _Gauge(state.meters[pace.key], now, ahead_us) for pace in paces}
    return [by_key[pace.key] for pace in paces]


class _Gauge:
    """A meter during one call: `real` is charged by own starts, `work` also by what is set aside for others."""

    __slots__ = ("back", "last", "meter", "real", "unit", "work")

    def __init__(self, meter: Meter, now: float, ahead_us: float) -> None:
        self.meter = meter
        self.unit = SECOND_US / meter.per_s
        self.back = (meter.burst - 1) * self.unit
        self.real = self.work = max(meter.tat, now)
        self.last = now + ahead_us + self.back

    def units(self, until: float) -> float:
        """Whole units that may start until then."""
        return float(floor((until + self.back - self.work) / self.unit) + 1)


@dataclass(slots=True)
class _Own:
    """A group of the caller during one call."""

    place: int
    segments: Sequence[int]
    gauges: list[tuple[_Gauge, bool]]
    next: int = 0


@dataclass(slots=True)
class _Other:
    """A claim of another worker during one call; `gauges` once its turn has come."""

    claim: Claim
    count: int
    gauges: list[tuple[_Gauge, float]] | None = None


@dataclass(slots=True)
class _Hand:
    """A tenant at the table: its share, the same as it would be with others' claims met, and what waits by lane."""

    share: Share
    weight: float
    time: float
    owed: list[float]
    own: tuple[deque[_Own], deque[_Own], deque[_Own]] = field(
        default_factory=lambda: (deque(), deque(), deque())
    )
    others: tuple[deque[_Other], deque[_Other], deque[_Other]] = field(
        default_factory=lambda: (deque(), deque(), deque())
    )
    barred: bool = False
    """Whether something of it waits on, for a pace that had no slot."""
    out: float | None = None
    """The virtual time that was reached when nothing of it could be dealt to any more."""

    def waits(self, lane: int) -> bool:
        return bool(self.own[lane] or self.others[lane])

    def lane(self) -> int | None:
        """Whose turn it is: a lane that is behind its floor, else the highest that waits; None when none does."""
        for lane in (2, 1):
            if self.owed[lane] >= 1 and self.waits(lane):
                return lane
        return next((lane for lane in (0, 1, 2) if self.waits(lane)), None)


class _Table:
    """What one call deals with: own groups and the fresh claims of others, by pool."""

    def __init__(
        self,
        state: State,
        wanted: Wanted,
        now: float,
        gauges: list[_Gauge],
        ahead_us: float,
        claim_us: float,
    ) -> None:
        self.now = now
        self._ahead_us = ahead_us
        self._state = state
        self._gauges = gauges
        self._by_key = {pace.key: gauge for pace, gauge in zip(wanted.paces, gauges, strict=True)}
        self._paces = wanted.paces
        self._own: dict[str, list[tuple[int, Group]]] = {}
        for place, group in enumerate(wanted.groups):
            if group.segments:
                self._own.setdefault(group.pool, []).append((place, group))
        self._claims: dict[str, list[Claim]] = {}
        self._active: set[tuple[str, str]] = set()
        for worker, claims in sorted(state.claims.items()):
            if claims.fresh(now, claim_us):
                self._active.update((claim.pool, claim.tenant) for claim in claims.claims)
                if worker != wanted.worker:
                    for claim in claims.claims:
                        self._claims.setdefault(claim.pool, []).append(claim)

    def order(self) -> list[str]:
        """The pools, the one that waits longest for a slot first: several may share a quota."""
        return sorted(self._own, key=lambda name: (self.pool(name).dealt, name))

    def pool(self, name: str) -> Pool:
        return self._state.pools.setdefault(name, Pool())

    def hands(self, name: str) -> dict[str, _Hand]:
        """The tenants that wait in a pool. Who did not wait before has nothing saved up."""
        hands: dict[str, _Hand] = {}
        for place, group in self._own[name]:
            paces = [(self._gauges[pace], self._paces[pace].segments) for pace in group.paces]
            hand = self._hand(hands, name, group.tenant, group.weight)
            hand.own[group.lane].append(_Own(place, group.segments, paces))
        for claim in self._claims.get(name, ()):
            hand = self._hand(hands, name, claim.tenant, claim.weight)
            hand.others[claim.lane].append(_Other(claim, claim.count))
        return hands

    def _hand(self, hands: dict[str, _Hand], name: str, tenant: str, weight: float) -> _Hand:
        hand = hands.get(tenant)
        if hand is None:
            pool = self.pool(name)
            share = pool.shares.setdefault(tenant, Share(pool.time))
            if (name, tenant) not in self._active:
                share.time = max(share.time, pool.time)
            hand = hands[tenant] = _Hand(share, weight, share.time, list(share.owed))
        return hand

    def known(self, claim: Claim) -> Iterator[tuple[_Gauge, float]]:
        """What a claim is counted by; meters that nobody keeps bar nothing."""
        for key, units in zip(claim.keys, claim.units, strict=True):
            gauge = self._by_key.get(key)
            if gauge is None and (meter := self._state.meters.get(key)) is not None:
                gauge = self._by_key[key] = _Gauge(meter, self.now, self._ahead_us)
            if gauge is not None:
                yield gauge, units


def _deal(table: _Table, name: str, starts: list[list[int]]) -> None:
    """Deal one pool's slots, the least served tenant first, until none of the caller's groups can be given one."""
    pool, hands = table.pool(name), table.hands(name)
    turns = [(hand.time, tenant) for tenant, hand in hands.items()]
    heapify(turns)
    groups = [group for hand in hands.values() for lane in hand.own for group in lane]
    covers = Counter(gauge for group in groups for gauge, _ in group.gauges)
    own = len(groups)
    while own:
        tenant = turns[0][1]
        hand = hands[tenant]
        lane = hand.lane()
        if lane is None:
            heappop(turns)
            hand.out = pool.time
        elif hand.own[lane]:
            group = hand.own[lane].popleft()
            barred = next((gauge for gauge, _ in group.gauges if gauge.work > gauge.last), None)
            if barred is not None:
                hand.barred = True
                own = 0 if covers[barred] == len(groups) else own - 1
                continue
            hand.own[lane].append(group)
            starts[group.place].append(_grant(group, table.now))
            pool.time = max(pool.time, hand.share.time)
            pool.dealt = table.now
            hand.share.time += 1 / hand.weight
            _charge(hand.share.owed, lane)
            _turn(turns, hand, lane, tenant)
            if group.next == len(group.segments):
                hand.own[lane].pop()
                own -= 1
        else:
            other = hand.others[lane][0]
            if other.gauges is None:
                other.gauges = list(table.known(other.claim))
            if any(gauge.work > gauge.last for gauge, _ in other.gauges):
                hand.others[lane].popleft()
                hand.barred = True
                continue
            for gauge, units in other.gauges:
                gauge.work += units * gauge.unit
            _turn(turns, hand, lane, tenant)
            other.count -= 1
            if not other.count:
                hand.others[lane].popleft()
    _hold_back(pool, hands.values())
    _forget(pool, hands)


def _grant(group: _Own, now: float) -> int:
    """Charge a group's next start to its paces; when it is. Many segments may go into debt once the first fits."""
    at = now
    for gauge, segments in group.gauges:
        at = max(at, gauge.real - gauge.back)
        spent = (group.segments[group.next] if segments else 1) * gauge.unit
        gauge.real += spent
        gauge.work += spent
    group.next += 1
    return ceil(at - now)


def _turn(turns: list[tuple[float, str]], hand: _Hand, lane: int, tenant: str) -> None:
    hand.time += 1 / hand.weight
    _charge(hand.owed, lane)
    heapreplace(turns, (hand.time, tenant))


def _charge(owed: list[float], lane: int) -> None:
    """One slot went to a lane. A low lane is owed its floor of it also while no worker has any of it at hand.

    Whether one has is chance: what waits, waits in the store, and is decided on shortly before it may start.
    """
    for low in (1, 2):
        owed[low] = min(owed[low] + FLOORS[low], OWED_MOST)
    owed[lane] = max(owed[lane] - 1, 0.0)


def _hold_back(pool: Pool, hands: Iterable[_Hand]) -> None:
    """Whom only its own quota barred while others were dealt to was as good as idle: it is owed none of those slots."""
    for hand in hands:
        if hand.barred and hand.out is not None:
            hand.share.time += pool.time - hand.out


def _forget(pool: Pool, hands: Iterable[str]) -> None:
    """Who neither waits nor is ahead has nothing to be remembered by."""
    waiting = set(hands)
    gone = [name for name, share in pool.shares.items() if share.time <= pool.time and name not in waiting]
    for name in gone:
        del pool.shares[name]


def _left_over(wanted: Wanted, starts: list[list[int]], gauges: list[_Gauge], now: float) -> Claims:
    left = Claims(now)
    for group, given in zip(wanted.groups, starts, strict=True):
        count = len(group.segments) - len(given)
        if not count:
            continue
        paces = [wanted.paces[pace] for pace in group.paces]
        mean = sum(islice(group.segments, len(given), None)) / count
        units = tuple(mean if pace.segments else 1.0 for pace in paces)
        keys = tuple(pace.key for pace in paces)
        left.claims.append(Claim(group.pool, group.tenant, group.weight, group.lane, count, keys, units))
        could = float(count)
        for pace, each in zip(group.paces, units, strict=True):
            could = min(could, max(0.0, floor(gauges[pace].units(now + ROOM_US) / each)))
        for pace, key, each in zip(group.paces, keys, units, strict=True):
            gauges[pace].work += could * each * gauges[pace].unit
            left.wants[key] = left.wants.get(key, 0.0) + could * each
    return left
