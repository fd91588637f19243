"""A backlog run through quotas, from one event to the next: fair between tenants, by lane, nothing decided anew. Pure.

Between two events (a limit is used up or opens again, a line runs out, something falls due) everything starts at
steady rates; these are dealt as the take deals starts: by weight among the tenants of an account, within a tenant
by lane with FLOORS, and what one cannot use goes to the others at once.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf

from gateway.quotas.asked import FLOORS
from gateway.quotas.limits import EMPTY, Limit

COARSE = 1 / 500
"""Of the time that has passed; what a line leaves over in a shorter while is not dealt to others."""
SHORTEST_S = 0.01


@dataclass(slots=True)
class Batch:
    """Reminders of one line that fall due and expire together, in seconds from now; `left` have not started."""

    due: float
    expires: float
    left: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """What a line came to: starts as (since, until, number), expiries as (at, number).

    `at_mark`: what was due and waited still at the line's `mark`.
    """

    starts: Sequence[tuple[float, float, float]]
    expired: Sequence[tuple[float, float]]
    at_mark: float

    @property
    def started(self) -> float:
        """How many started."""
        return sum(number for _, _, number in self.starts)


@dataclass(slots=True, kw_only=True, eq=False)
class Line:
    """What waits for the same and goes the same way, in the order of its due times.

    `uses` are the limits that it needs, with the units that one start weighs in each. `mark`: when it is looked at
    what waits still.
    """

    pool: str
    tenant: str
    weight: float
    lane: int
    batches: Sequence[Batch]
    uses: Sequence[tuple[Limit, float]] = ()
    mark: float = inf
    _head: int = 0
    _fallen: int = 0
    _ready: float = 0.0
    _at_mark: float = 0.0
    _starts: list[tuple[float, float, float]] = field(default_factory=list)
    _expired: list[tuple[float, float]] = field(default_factory=list)

    def ready(self, t: float) -> float:
        """How many are due and wait (what expired behind the head is still among them)."""
        self._fall(t)
        self._drop(t)
        return self._ready if self._head < self._fallen else 0.0

    def _fall(self, t: float) -> None:
        """Take up what fell due."""
        while self._fallen < len(self.batches) and self.batches[self._fallen].due <= t + EMPTY:
            self._ready += self.batches[self._fallen].left
            self._fallen += 1

    def _drop(self, t: float) -> None:
        """Let go of heads that are empty or expired."""
        while self._head < self._fallen:
            head = self.batches[self._head]
            if head.left > EMPTY and head.expires > t + EMPTY:
                return
            self._leave(head)

    def _leave(self, head: Batch) -> None:
        if head.left > EMPTY:
            self._expired.append((max(head.expires, head.due), head.left))
        self._ready -= head.left
        self._head += 1

    def falls_due(self) -> float:
        """When the next batch falls due."""
        return self.batches[self._fallen].due if self._fallen < len(self.batches) else inf

    def lasts(self, t: float, rate: float, most: float) -> float:
        """Seconds until nothing waits at so many starts a second; `most` at most."""
        at, end = t, t + most
        for place in range(self._head, len(self.batches)):
            batch = self.batches[place]
            if batch.due > at + EMPTY or at >= end:
                break
            at = max(at, min(at + batch.left / rate, batch.expires))
        return min(at, end) - t

    def serve(self, t: float, until: float, number: float) -> float:
        """Start so many of the first, evenly; how many there were."""
        self._fall(until)
        rate = number / (until - t) if until > t else inf
        at, served = t, 0.0
        while self._head < self._fallen and number - served > EMPTY:
            head = self.batches[self._head]
            at = max(at, head.due) if until > t else at
            can = min(head.left, number - served)
            if rate < inf:
                can = min(can, max(0.0, min(until, head.expires) - at) * rate)
                at += can / rate
            elif head.expires <= at + EMPTY:
                can = 0.0
            head.left -= can
            self._ready -= can
            served += can
            if head.left <= EMPTY or head.expires <= at + EMPTY:
                self._leave(head)
            elif rate < inf and at >= until - EMPTY:
                break
        if served > 0:
            self._starts.append((t, at, served))
        return served

    def look(self) -> None:
        """Keep how many wait at `mark`, which is now."""
        self.ready(self.mark)
        self._at_mark = sum(
            b.left for b in self.batches[self._head : self._fallen] if b.expires > self.mark + EMPTY
        )

    def ran(self) -> Ran:
        """What it came to; what is left over expires."""
        left = [(batch.expires, batch.left) for batch in self.batches[self._head :] if batch.left > EMPTY]
        return Ran(starts=self._starts, expired=[*self._expired, *left], at_mark=self._at_mark)


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """From `at` on other quotas hold: `apply` retunes the limits and gives lines other uses."""

    at: float
    apply: Callable[[], None]


def run(lines: Sequence[Line], turns: Sequence[Turn] = ()) -> None:
    """Run every line dry: all that waits starts or expires. Lines share limits; `turns` come in order."""
    end = max((batch.expires for line in lines for batch in line.batches), default=0.0)
    t, stops = 0.0, _stops(lines, turns)
    while t < end:
        while stops and stops[-1][0] <= t + EMPTY:
            stops.pop()[1]()
        waiting = _at_once([line for line in lines if line.ready(t) > EMPTY], t)
        rates, pulled = _steady(waiting, t)
        busy = set(waiting)
        until = min(
            end,
            stops[-1][0] if stops else inf,
            min((line.falls_due() for line in lines if line not in busy), default=inf),
            t + _lasts(rates, pulled, t),
            _opens(waiting, t),
        )
        until = max(until, t + EMPTY)
        _flow(rates, t, until)
        t = until


def _stops(lines: Sequence[Line], turns: Sequence[Turn]) -> list[tuple[float, Callable[[], None]]]:
    """What is done at which instant, the first last."""
    stops = [(turn.at, turn.apply) for turn in turns]
    stops += [(line.mark, line.look) for line in lines if line.mark < inf]
    return sorted(stops, key=lambda stop: stop[0], reverse=True)


def _at_once(waiting: Sequence[Line], t: float) -> Sequence[Line]:
    """Start what needs no waiting: what is saved up, what a window or a day has left. Those that wait still."""
    while True:
        rooms = _rooms(waiting, lambda limit: limit.left(t))
        able = [line for line in waiting if all(rooms[limit] > EMPTY for limit, _ in line.uses)]
        if not able:
            return waiting
        dealt = _dealt(able, rooms, t, {line: line.ready(t) for line in able})
        _spend({line: line.serve(t, t, number) for line, number in dealt.items()}, t, t)
        waiting = [line for line in waiting if line.ready(t) > EMPTY]


def _steady(waiting: Sequence[Line], t: float) -> tuple[dict[Line, float], dict[Limit, float]]:
    """Starts a second of each line that has any, and what that takes of each limit a second."""
    paces = _rooms(waiting, lambda limit: limit.pace(t) if limit.left(t) <= EMPTY else inf)
    able = [line for line in waiting if all(paces[limit] > 0 for limit, _ in line.uses)]
    rates = _dealt(able, paces, t, dict.fromkeys(able, inf))
    pulled: dict[Limit, float] = defaultdict(float)
    for line, rate in rates.items():
        for limit, units in line.uses:
            pulled[limit] += rate * units
    return rates, pulled


def _rooms(lines: Iterable[Line], room: Callable[[Limit], float]) -> dict[Limit, float]:
    return {limit: room(limit) for limit in {limit for line in lines for limit, _ in line.uses}}


def _lasts(rates: Mapping[Line, float], pulled: Mapping[Limit, float], t: float) -> float:
    """Seconds that these rates hold: until a limit is used up, or a line runs out (not to the last moment)."""
    used_up = min(
        (limit.lasts(t, use) for limit, use in pulled.items() if use > 0 and limit.left(t) > EMPTY),
        default=inf,
    )
    ran_out = used_up
    for line, rate in rates.items():
        ran_out = min(ran_out, line.lasts(t, rate, ran_out))
    return min(used_up, max(ran_out, t * COARSE + SHORTEST_S))


def _opens(waiting: Sequence[Line], t: float) -> float:
    """When the first limit opens that somebody waits for."""
    return min(
        (limit.opens(t) for line in waiting for limit, _ in line.uses if limit.left(t) <= EMPTY),
        default=inf,
    )


def _flow(rates: Mapping[Line, float], t: float, until: float) -> None:
    _spend({line: line.serve(t, until, rate * (until - t)) for line, rate in rates.items()}, t, until)


def _spend(served: Mapping[Line, float], t: float, until: float) -> None:
    """Take what started off its limits, each once: what one line leaves of a moment is not saved up for another."""
    units: dict[Limit, float] = defaultdict(float)
    for line, number in served.items():
        for limit, each in line.uses:
            units[limit] += number * each
    for limit, spent in units.items():
        limit.spend(t, until, spent)


# Dealing.


def _dealt(
    lines: Sequence[Line], rooms: Mapping[Limit, float], t: float, most: Mapping[Line, float]
) -> dict[Line, float]:
    """The rooms dealt to lines, `most` to each: all grow together, by their speeds, until something stops them."""
    room, dealt, growing = dict(rooms), dict.fromkeys(lines, 0.0), list(lines)
    while growing:
        speeds = dict(_speeds(growing, t))
        pulls: dict[Limit, float] = defaultdict(float)
        for line, speed in speeds.items():
            for limit, units in line.uses:
                pulls[limit] += speed * units
        step = min(
            *(room[limit] / pull for limit, pull in pulls.items()),
            *((most[line] - dealt[line]) / speed for line, speed in speeds.items()),
            inf,
        )
        for line, speed in speeds.items():
            dealt[line] += speed * step
        for limit, pull in pulls.items():
            room[limit] -= pull * step
        full = {limit for limit in pulls if room[limit] <= EMPTY / 2}
        stopped = {
            line
            for line in growing
            if most[line] - dealt[line] <= EMPTY / 2 or any(limit in full for limit, _ in line.uses)
        }
        growing = [line for line in growing if line not in stopped]
        if not stopped:
            break
    return dealt


def _speeds(lines: Sequence[Line], t: float) -> Iterator[tuple[Line, float]]:
    """How fast lines grow beside each other: tenants of an account by weight, their lanes by FLOORS."""
    lanes: dict[tuple[str, str], dict[int, list[Line]]] = defaultdict(lambda: defaultdict(list))
    for line in lines:
        lanes[line.pool, line.tenant][line.lane].append(line)
    for own in lanes.values():
        for lane, share in _lane_shares(own):
            together = own[lane]
            waiting = sum(line.ready(t) for line in together)
            for line in together:
                yield line, line.weight * share * line.ready(t) / waiting


def _lane_shares(lanes: Iterable[int]) -> Iterator[tuple[int, float]]:
    first, *others = sorted(lanes)
    yield first, 1 - sum(FLOORS[lane] for lane in others)
    for lane in others:
        yield lane, FLOORS[lane]
