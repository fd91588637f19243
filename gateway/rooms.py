"""What may start soon, as far as one worker knows: so that it decides on no more than can go.

A view is made for one round of a drain: from the pace that is left after other workers' claims, what is left of
counted quotas, this worker's own calls and claims, and the pauses. It only bars; go decides.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from zlib import crc32

from gateway.accounts import Connected
from gateway.accounts import refusal as barred
from gateway.deciding import Desk
from gateway.domain import Channel, Tenant, queue_of
from gateway.errors import Unavailable
from gateway.live import Live
from gateway.pauses import first, first_of_queue
from gateway.quotas.asked import Grants, Pace
from gateway.quotas.model import Bucket, Load
from gateway.quotas.shares import TRIAL, Shares, Turn, Waiter, Way
from gateway.starts import Starts
from gateway.work import Queue, Refusal, Start, Verdict

BESIDE, ROUNDS = 256, 4
"""Starts through one account that a process has decided on or calls at once, and how many rounds of its calls they may
be: where calls take long, more would wait until they are given up."""
BATCH = 200
"""Reminders that one T1 decides on at most."""
AT_LEAST, FADES = 10.0, 0.995
"""Of a queue so many are picked for each account that has room, until it is known which they go through. What that is
reckoned from fades with each decision."""
LEAST, SURELY, BELIEVED, FORGETS = 0.02, 0.8, 1.0, 0.96
"""Where rules let few of a queue go, more are picked than may start, so many that less than all of the room is used up.
One uses at least so much of it; so many are taken to have gone before the first was decided on. It is soon forgotten:
what was picked beyond the room has to wait."""
UNPACED = 64.0
"""Starts a second of what has no pace, where turns are given."""
SOON, LATER = timedelta(seconds=2), timedelta(seconds=10)
"""When to look again at a reminder whose quota had no room for the way it was decided to go: as late as its turn may
come after those that were refused before it, within these. Those whose turn would come later are spread over them."""


@dataclass(slots=True, kw_only=True)
class View:
    """The room of one round, used up as it is dealt."""

    now: datetime
    queues: dict[str, Waiter] = field(default_factory=dict)
    """By name, those that no pause covers."""
    left: dict[str, float] = field(default_factory=dict)
    """Units by key: a pace's bucket, `counted|` and a bucket, an account's pool."""
    again: dict[str, datetime] = field(default_factory=dict)
    """When a key that has no room has some, where that is known."""
    per_s: dict[str, float] = field(default_factory=dict)
    """Starts per second of the keys that are paces; of an account, as if each of its calls took a second."""
    keys: dict[tuple[str, str, str], tuple[str, ...]] = field(default_factory=dict)
    """What a start needs room of, by tenant, account's pool and template."""

    def open_queues(self) -> list[str]:
        """Queues of which something can start."""
        return [name for name, w in self.queues.items() if w.room(self.left) >= 1]


class Rooms:
    """Makes views, and answers for single starts within them."""

    def __init__(self, *, live: Live, desk: Desk, grants: Grants, starts: Starts, worker: str) -> None:
        self._live = live
        self._desk = desk
        self._grants = grants
        self._starts = starts
        self._worker = worker
        self._shares: dict[str, Shares] = defaultdict(Shares)
        """By channel: what is owed on one is not paid on another."""
        self._booked: dict[tuple[str, int], datetime] = {}
        self._went: dict[str, dict[str, float]] = defaultdict(dict)
        """By queue, how many were decided to go through each account, the latest weighing most."""
        self._tried: dict[str, float] = defaultdict(lambda: BELIEVED)
        self._stayed: dict[str, float] = defaultdict(lambda: BELIEVED)
        """By queue, how many were decided on, and how many of these may go on its own channel, quotas aside."""

    async def look(self, queues: Sequence[Queue]) -> View:
        """The room there is for these queues."""
        pauses, now = self._live.config.pauses, self._live.now
        view = View(now=now.policy)
        ways = {
            queue: self._desk.ways_of(queue.tenant, queue.channel, queue.template)
            for queue in queues
            if first_of_queue(pauses, queue, now.policy) is None
        }
        await self._measure(view, {load: way for queue in ways for load, way in self._loads(queue)})
        for queue, found in ways.items():
            view.queues[queue.name] = self._waiter(view, queue, found)
        return view

    def _loads(self, queue: Queue) -> Iterable[tuple[Load, Connected]]:
        """Every way that what waits there may go in the end, also on channels that it falls to."""
        for channel in Channel:
            for way in self._desk.ways_of(queue.tenant, channel, queue.template):
                yield self._load(queue, way), way

    def _load(self, queue: Queue, way: Connected) -> Load:
        return way.load(queue.tenant, queue.template, queue.priority)

    async def _measure(self, view: View, loads: Mapping[Load, Connected]) -> None:
        held = self._starts.held()
        paces: dict[str, Pace] = {}
        for load, way in loads.items():
            view.left[load.pool] = min(BESIDE, ROUNDS * way.adapter.at_once) - held[load.pool]
            view.per_s[load.pool] = float(way.adapter.at_once)
            paces |= {pace.key: pace for pace in self._live.paces(load)}
            for bucket in self._live.book.buckets(load):
                self._count(view, bucket, held[f"counted|{bucket.key}"])
        try:
            room = await self._grants.room(list(paces.values()), self._worker) if paces else []
        except Unavailable:
            room = [0.0] * len(paces)
        for (key, pace), units in zip(paces.items(), room, strict=True):
            view.left[key] = units - held[key]
            view.per_s[key] = pace.per_s

    def _count(self, view: View, bucket: Bucket, held: int) -> None:
        left = self._live.left(bucket)
        if left is not None and left.units is not None:
            key = f"counted|{bucket.key}"
            view.left[key] = left.units - held
            if left.again is not None:
                view.again[key] = left.again

    def _keys(self, view: View, load: Load) -> tuple[str, ...]:
        way = load.tenant, load.pool, load.template
        keys = view.keys.get(way)
        if keys is None:
            buckets = self._live.book.buckets(load)
            counted = [key for b in buckets if (key := f"counted|{b.key}") in view.left]
            keys = view.keys[way] = (load.pool, *(p.key for p in self._live.paces(load)), *counted)
        return keys

    def _waiter(self, view: View, queue: Queue, ways: Sequence[Connected]) -> Waiter:
        return Waiter(
            name=queue.name,
            tenant=queue.tenant,
            weight=float(ways[0].account.weight or 1) if ways else 1.0,
            lane=queue.priority,
            oldest=queue.oldest,
            ways=self._ways(view, queue, ways),
            uses=self._uses(queue.name),
            on_trial=self._tried[queue.name] < BELIEVED + TRIAL,
        )

    def _uses(self, queue: str) -> float:
        part = self._stayed[queue] / self._tried[queue]
        return min(1.0, max(LEAST, part / SURELY))

    def learn(self, channel: str, dealt: Sequence[Turn], verdicts: Sequence[Verdict]) -> None:
        """What was decided on of what was dealt; and what part of each queue may go, quotas aside.

        The rest is suppressed or goes another way. What is put off by rules says nothing: when it is due again, it goes
        like any other.
        """
        self._shares[channel].decided(dealt, Counter(verdict.work.queue for verdict in verdicts))
        for verdict in verdicts:
            queue, stays = verdict.work.queue, verdict.moves_to is None
            if verdict.intent is not None:
                goes = verdict.intent.channel == queue.partition("|")[0]
            elif verdict.state == "deferred" and stays and verdict.reason != "quota":
                continue
            else:
                goes = verdict.state == "deferred" and stays
            self._tried[queue] = self._tried[queue] * FORGETS + 1
            self._stayed[queue] = self._stayed[queue] * FORGETS + goes

    def _ways(self, view: View, queue: Queue, ways: Sequence[Connected]) -> tuple[Way, ...]:
        """By what part of a queue went each way of late: numbers of one country can go through one account only."""
        went = self._went[queue.name]
        total = sum(went.get(way.pool, 0.0) for way in ways)
        shares = [went.get(way.pool, 0.0) / total if total else 1 / len(ways) for way in ways]
        return tuple(
            Way(share, BATCH * share if total else AT_LEAST, self._keys(view, self._load(queue, way)))
            for way, share in zip(ways, shares, strict=True)
        )

    def _goes(self, load: Load) -> None:
        queue = queue_of(Channel(load.channel), Tenant(load.tenant), load.template, load.priority)
        went = self._went[queue]
        for pool in went:
            went[pool] *= FADES
        went[load.pool] = went.get(load.pool, 0.0) + 1

    def deal(self, view: View, channel: str, most: int) -> list[Turn]:
        """What to pick of the queues of a channel, `most` together."""
        waiting = [w for name, w in view.queues.items() if name.partition("|")[0] == channel]
        return self._shares[channel].deal(waiting, view.left, most, self._starts.claims(channel))

    def refusal(self, view: View, start: Start) -> Refusal | None:
        """Why this start would get no go now; else its room is used up in the view."""
        self._goes(start.load)
        pause = first(self._live.config.pauses, start, view.now)
        if pause is not None:
            return pause.refusal()
        standing = self._live.standings().get(start.load.pool)
        if standing is not None and (why := standing.barred(self._live.now.real)) is not None:
            return barred(start.load.account, why, self._live.now)
        keys = self._keys(view, start.load)
        for key in keys:
            if view.left.get(key, 1.0) < 1:
                again = self._turn(view, key, start)
                return Refusal(reason="quota", by=_by(key, start.load), again=again)
        for key in keys:
            if key in view.left:
                view.left[key] -= 1
        return None

    def _turn(self, view: View, key: str, start: Start) -> datetime:
        """When it may be the turn of one that this key has no room for: after those of its own lane."""
        if key in view.again:
            return view.again[key]
        took = timedelta(seconds=1 / view.per_s.get(key, UNPACED))
        lane = key, start.load.priority
        turn = max(self._booked.get(lane, view.now), view.now) + took
        self._booked[lane] = min(turn, view.now + LATER)
        if turn > view.now + LATER:
            turn = view.now + SOON + (LATER - SOON) * (crc32(start.ref.encode()) / 2**32)
        return max(turn, view.now + SOON)


def _by(key: str, load: Load) -> str:
    """Which quota, within a key; what an account has too many calls of is told by the account's name."""
    parts = key.removeprefix("counted|").split("|")
    return load.account if key == load.pool or parts[0] == "factor" else parts[1]
