"""From an intent to its call: one take for all that wait, then go, then the call at the start that was granted.

What could not start costs no slot: a slot is taken right before go, and what was taken is used within 250 ms or
not at all.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Protocol

from gateway.deciding import Ready
from gateway.domain import Handed, HandOver, Message
from gateway.endings import RETRY, Endings, Opens, freed
from gateway.errors import Unavailable
from gateway.live import FACTOR, Live
from gateway.ports import Moment
from gateway.quotas.asked import AHEAD_US, LATE_US, Grants, Group, Pace, Wanted
from gateway.quotas.model import Book, Load
from gateway.telemetry import Metrics, get
from gateway.values import dataclass
from gateway.work import Intent, Refusal, Went, Word

TICK, SLOW_TICK, FEW = 0.02, 0.075, 8
"""Seconds from one take to the next while something waits; the longer where the last one gave so few starts, and fewer
than might have been: slots are granted further ahead than that, and a go for one costs as much as a go for many."""
PATIENCE = 8.0
"""Seconds that an intent waits for its start before it is given up: its permit lasts hardly longer."""
LATE_LASTS = 0.5
"""Seconds for which this process decides on nothing more after a call that came too late for its slot."""
HELD_BACK = 1.0
"""Seconds for which this process starts nothing through an account after a configuration error; its breaker follows."""
AT_MOST = 500
"""Starts in one take."""

_SLEEPS = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
"""Goes on while the machine is suspended, as the loop's clock does not."""

log = get(__name__)


class StartStore(Opens, Protocol):
    """The store, as starts use it."""

    async def go(self, intents: Sequence[Intent], owner: str, word: Word | None, book: Book) -> Went:
        """Which may be called now, and why others may not."""


class Journal(Protocol):
    """Where what was given a go is noted before it is called, beside a store that may fail over and forget it."""

    async def note(self, intents: Sequence[Intent], now: Moment) -> None:
        """Note these on this host's own disk; OSError when that cannot be done: then none of them may be called."""


class Owner(Protocol):
    """The process as the owner of its intents; `fit` is false while it may start no call."""

    @property
    def id(self) -> str:
        """Its name in the store."""

    @property
    def fit(self) -> bool:
        """Whether it holds its lock and its heartbeat is fresh."""


Links = Callable[[str, str, str], str]
"""(adapter, account, ref) → the address at which receipts of that attempt come in."""


Way = tuple[str, str, str]
"""Tenant, account and template."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """An intent that waits for its start, and until when (Starts._now)."""

    ready: Ready
    until: float
    over: asyncio.Future[None]

    @property
    def load(self) -> Load:
        """What it weighs on quotas."""
        return self.ready.intent.start.load

    @property
    def pool(self) -> str:
        """The account it goes through."""
        return self.load.pool

    @property
    def way(self) -> Way:
        """What decides which quotas cover it."""
        return self.load.tenant, self.pool, self.load.template


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """When (Starts._now) a call begins at the earliest and at the latest."""

    earliest: float
    latest: float


def slept() -> float:
    """Seconds that this machine was suspended for since it began, plus whatever it began with."""
    return time.clock_gettime(_SLEEPS) - time.monotonic()


class Starts:
    """Starts calls. One per process; `run` must be running."""

    def __init__(
        self,
        *,
        store: StartStore,
        journal: Journal,
        grants: Grants,
        live: Live,
        owner: Owner,
        endings: Endings,
        metrics: Metrics,
        links: Links,
        slept: Callable[[], float] = slept,
    ) -> None:
        self._slept = slept
        self._store = store
        self._journal = journal
        self._grants = grants
        self._live = live
        self._owner = owner
        self._endings = endings
        self._metrics = metrics
        self._links = links
        self._waiting: list[Waiting] = []
        self._calling: Counter[str] = Counter()
        self._tasks: set[asyncio.Task[None]] = set()
        self._some = asyncio.Event()
        self._late: list[Waiting] = []
        self._late_until = float("-inf")
        self._going = 0
        """Goes that are asked for. While there is one no more is taken: goes that pile up make each other too late."""
        self._no_go = asyncio.Event()
        self._no_go.set()
        self._misconfigured: dict[str, float] = {}

    def add(self, ready: Sequence[Ready]) -> list[asyncio.Future[None]]:
        """Let these start as soon as their quotas allow; the futures are done when all is written."""
        loop, until = asyncio.get_running_loop(), self._now() + PATIENCE
        added = [Waiting(ready=one, until=until, over=loop.create_future()) for one in ready]
        self._waiting.extend(added)
        self._some.set()
        return [one.over for one in added]

    def held(self) -> Counter[str]:
        """Units that wait for a start, by bucket; what waits and what is being called, by account."""
        held, paces = Counter(self._calling), self._paces(self._waiting)
        for one in self._waiting:
            load = one.load
            held[one.pool] += 1
            for pace in paces[one.way]:
                held[pace.key] += load.segments if pace.segments else 1
            for bucket in self._live.book.buckets(load):
                if bucket.limits != {"rate"}:
                    held[f"counted|{bucket.key}"] += bucket.units(load)
        return held

    def claims(self, channel: str) -> Counter[tuple[str, int]]:
        """What waits for its start on a channel, by tenant and lane."""
        loads = (one.load for one in self._waiting)
        return Counter((load.tenant, load.priority) for load in loads if load.channel == channel)

    def behind(self) -> bool:
        """Whether what waits has come too late for its slot just now: more work would only make it later."""
        return bool(self._waiting) and self._now() < self._late_until

    def waiting(self) -> int:
        """Intents that wait for their start."""
        return len(self._waiting)

    def _now(self) -> float:
        """The loop's clock, and what it did not count: permits and slots pass while the machine sleeps."""
        return asyncio.get_running_loop().time() + self._slept()

    async def fewer_wait(self, most: float, *, within_s: float) -> None:
        """Return when no more than `most` intents wait for their start, or when the time is over."""
        end = asyncio.get_running_loop().time() + within_s
        while len(self._waiting) > most and asyncio.get_running_loop().time() < end:  # noqa: ASYNC110 (they go one by one)
            await asyncio.sleep(TICK)

    async def no_go(self) -> None:
        """Return when no go is asked for (at once where none is, after others had their turn)."""
        await asyncio.sleep(0)
        await self._no_go.wait()

    async def run(self) -> None:
        """Take and go until cancelled."""
        while True:
            await self._some.wait()
            await self._no_go.wait()
            began = self._now()
            asked, started = await self._tick(began)
            if not self._waiting:
                self._some.clear()
            pause = SLOW_TICK if self._waiting and started < min(FEW, asked) else TICK
            await asyncio.sleep(max(0.0, began + pause - self._now()))

    async def give_up(self) -> None:
        """Withdraw all that has no start yet; returns when nothing of this process is under way."""
        while self._waiting or self._tasks:
            waiting, self._waiting = self._waiting, []
            await self._withdraw(waiting)
            if self._tasks:
                await asyncio.wait(self._tasks)

    async def _tick(self, now: float) -> tuple[int, int]:
        """One take; how many might have started, and how many did."""
        late = [one for one in self._waiting if one.until <= now]
        if late:
            self._leave(late)
            self._spawn(self._withdraw(late, why={} if self.behind() else self._out_of_pace(late)))
        able = self._able(now) if self._live.sends else []
        paces = self._paces(able)
        free = [one for one in able if not paces[one.way]]
        paced = [one for one in able if paces[one.way]]
        if free:
            slot = Slot(earliest=now, latest=now + (AHEAD_US + LATE_US) / 1e6)
            self._started([(one, slot) for one in free], None)
        return len(able), len(free) + (await self._take(paced, paces) if paced else 0)

    def _paces(self, ones: Iterable[Waiting]) -> dict[Way, tuple[Pace, ...]]:
        """The paces, as they are now, that each way needs a slot of."""
        loads = {one.way: one.load for one in ones}
        return {way: self._live.paces(load) for way, load in loads.items()}

    def _able(self, now: float) -> list[Waiting]:
        """What may start as far as this process is concerned: so many calls at once through one account."""
        calling: Counter[str] = Counter(self._calling)
        able: list[Waiting] = []
        for one in self._waiting:
            if self._misconfigured.get(one.pool, 0.0) > now:
                continue
            if calling[one.pool] < one.ready.adapter.at_once and len(able) < AT_MOST:
                calling[one.pool] += 1
                able.append(one)
        return able

    async def _take(self, paced: Sequence[Waiting], paces: Mapping[Way, tuple[Pace, ...]]) -> int:
        groups: dict[tuple[Way, int], list[Waiting]] = defaultdict(list)
        for one in paced:
            groups[one.way, one.load.priority].append(one)
        places: dict[str, int] = {}
        asked_for: list[Pace] = []
        for pace in (pace for way, _ in groups for pace in paces[way]):
            if places.setdefault(pace.key, len(places)) == len(asked_for):
                asked_for.append(pace)
        wanted = Wanted(
            worker=self._owner.id,
            paces=tuple(asked_for),
            groups=tuple(
                _group(ones, tuple(places[pace.key] for pace in paces[way]))
                for (way, _), ones in groups.items()
            ),
        )
        asked = self._now()
        try:
            granted = await self._grants.take(wanted)
        except Unavailable:
            return 0
        answered = self._now()
        self._metrics.took("take", answered - asked)
        started = [
            (one, Slot(earliest=answered + at / 1e6, latest=asked + (at + LATE_US) / 1e6))
            for ones, starts in zip(groups.values(), granted.starts, strict=True)
            for one, at in zip(ones, starts, strict=False)
        ]
        if started:
            self._started(started, (granted.source, granted.epoch))
        return len(started)

    def _started(self, granted: Sequence[tuple[Waiting, Slot]], word: Word | None) -> None:
        """Ask for the go of those that wait still: what was given up during the take may be void any moment."""
        waiting = {one.ready.intent.ref for one in self._waiting}
        started = [(one, slot) for one, slot in granted if one.ready.intent.ref in waiting]
        if not started:
            return
        self._leave([one for one, _ in started])
        self._calling.update(one.pool for one, _ in started)
        self._going += 1
        self._no_go.clear()
        self._spawn(self._go(started, word))

    def _leave(self, gone: Sequence[Waiting]) -> None:
        refs = {one.ready.intent.ref for one in gone}
        self._waiting = [one for one in self._waiting if one.ready.intent.ref not in refs]

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _go(self, started: Sequence[tuple[Waiting, Slot]], word: Word | None) -> None:
        """Ask for the go; a commit whose answer was lost counts as not given and is withdrawn."""
        asked = self._now()
        went = await self._went([one.ready.intent for one, _ in started], word)
        if went is None:
            await self._withdraw([one for one, _ in started], called=True)
            return
        self._metrics.took("go", self._now() - asked)
        refused = [one for one, _ in started if one.ready.intent.ref not in went.granted]
        granted = await self._noted(
            [(one, slot) for one, slot in started if one.ready.intent.ref in went.granted]
        )
        now = self._now()
        self._come_late([one for one, slot in granted if now > slot.latest])
        for one, slot in granted:
            if now <= slot.latest:
                self._spawn(self._call(one, slot))
        for refusal in went.refused.values():
            self._metrics.refused(refusal.reason, refusal.by)
        with suppress(Unavailable):
            await freed(self._store, [one.ready.person for one in refused])
        self._over(refused, called=True)

    async def _went(self, intents: Sequence[Intent], word: Word | None) -> Went | None:
        """What the go came to, None where that is not known.

        A T1 that waits for it holds locks: it may wait for this, which has its time-outs, and for nothing after it.
        """
        try:
            return await self._store.go(intents, self._owner.id, word, self._live.book)
        except Unavailable:
            return None
        except Exception as wrong:
            log.exception("go_broke", error=type(wrong).__name__)
            return None
        finally:
            self._going -= 1
            if not self._going:
                self._no_go.set()

    async def _noted(self, granted: Sequence[tuple[Waiting, Slot]]) -> Sequence[tuple[Waiting, Slot]]:
        """Those that may be called, now that they are noted: all of them, or none."""
        try:
            await self._journal.note([one.ready.intent for one, _ in granted], self._live.now)
        except OSError as wrong:
            log.exception("journal_failed", error=type(wrong).__name__, count=len(granted))
            self._spawn(self._withdraw([one for one, _ in granted], called=True))
            return []
        return granted

    def _count(self, one: Waiting) -> None:
        for bucket in self._live.book.buckets(one.load):
            self._metrics.started(*bucket.labels, bucket.units(one.load))

    async def _withdraw(
        self, ones: Sequence[Waiting], *, called: bool = False, why: Mapping[str, Refusal] | None = None
    ) -> None:
        """Void attempts that this process has not called and will not, however long the store is away."""
        starts = {one.ready.intent.ref: one.ready.intent.start for one in ones}
        while ones:
            try:
                async with self._store.transaction() as tx:
                    voided = await tx.void(
                        [one.ready.key for one in ones], from_states=("intent", "calling"), why=why or {}
                    )
                    counted = [starts[a.ref] for a in voided if a.called_at is not None]
                    await tx.give_back(counted, self._live.book)
                await freed(self._store, [one.ready.person for one in ones])
            except Unavailable:
                await asyncio.sleep(RETRY)
            else:
                break
        self._over(ones, called=called)

    def _come_late(self, ones: Sequence[Waiting]) -> None:
        """Their slot has passed before they could begin: they wait for another, as many as came late with them."""
        if ones and not self._late:
            self._spawn(self._wait_again())
        self._late.extend(ones)

    async def _wait_again(self) -> None:
        """Nobody was called: what came late just now is intents again."""
        await asyncio.sleep(TICK)
        ones, self._late = self._late, []
        starts = [one.ready.intent.start for one in ones]
        try:
            async with self._store.transaction() as tx:
                back = await tx.uncall(starts, self._owner.id, self._live.book)
        except Unavailable:
            await self._withdraw(ones, called=True)
            return
        self._late_until = self._now() + LATE_LASTS
        for _ in ones:
            self._metrics.refused("late", "")
        self._waiting.extend(one for one in ones if one.ready.intent.ref in back)
        self._calling.subtract(one.pool for one in ones)
        self._over([one for one in ones if one.ready.intent.ref not in back], called=False)
        self._some.set()

    def _over(self, ones: Sequence[Waiting], *, called: bool) -> None:
        if called:
            self._calling.subtract(one.pool for one in ones)
        for one in ones:
            if not one.over.done():
                one.over.set_result(None)
        if self._waiting:
            self._some.set()

    async def _call(self, one: Waiting, slot: Slot) -> None:
        await asyncio.sleep(max(0.0, slot.earliest - self._now()))
        began = self._now()
        if not self._owner.fit:
            await self._withdraw([one], called=True)
            return
        if began > slot.latest:
            self._come_late([one])
            return
        ready = one.ready
        self._count(one)
        handed = await hand_over(ready, self._message(ready))
        self._calling.subtract([one.pool])  # the line is free; what is told of it is written meanwhile
        if self._waiting:
            self._some.set()
        if handed.ending is HandOver.CONFIG:
            self._misconfigured[one.pool] = self._now() + HELD_BACK
        self._metrics.called(ready.intent.channel, ready.intent.adapter, handed.ending, self._now() - began)
        await self._endings.write(ready, handed)
        self._over([one], called=False)

    def _message(self, ready: Ready) -> Message:
        intent = ready.intent
        link = self._links(intent.adapter, intent.account, intent.ref)
        return Message(
            ref=intent.ref,
            address=ready.address,
            rendered=ready.rendered,
            now=ready.at,
            deliver_by=ready.deliver_by,
            callback_url=link,
            unsubscribe_url=link,
        )

    def _out_of_pace(self, late: Sequence[Waiting]) -> dict[str, Refusal]:
        """Whose pace had no slot in time: the slowest that covers each."""
        now, paces = self._live.now.policy, self._paces(late)
        return {
            one.ready.intent.ref: Refusal(reason="quota", by=_slowest(paces[one.way], one.load), again=now)
            for one in late
        }


def _group(ones: Sequence[Waiting], places: tuple[int, ...]) -> Group:
    load = ones[0].load
    return Group(
        pool=load.pool,
        tenant=load.tenant,
        weight=float(ones[0].ready.weight),
        lane=load.priority,
        paces=places,
        segments=tuple(one.load.segments for one in ones),
    )


def _slowest(paces: Sequence[Pace], load: Load) -> str:
    """The name of the quota whose pace is the slowest; where it is a factor, or none, that of the account."""
    if not paces:
        return load.account
    parts = min(paces, key=lambda pace: pace.per_s).key.split("|")
    return load.account if parts[0] == FACTOR else parts[1]


async def hand_over(ready: Ready, message: Message) -> Handed:
    """One call of an adapter with a hard time-out; whatever goes wrong in it is an unknown ending."""
    limit = ready.adapter.call_timeout.total_seconds()
    try:
        async with asyncio.timeout(limit):
            return await ready.adapter.send(message)
    except TimeoutError:
        return Handed(ending=HandOver.UNKNOWN, code="timeout")
    except Exception as wrong:
        log.exception("adapter_broke", adapter=ready.intent.adapter, error=type(wrong).__name__)
        return Handed(ending=HandOver.UNKNOWN, code="adapter_error")
