"""From due to decided: what may start soon is picked, claimed and decided, and its intents wait for their start.

Intent first: a commit stands between deciding and calling, and another between calling and anything else
(T1, go, call, T2). Whatever is killed in between, a second contact needs a second intent, and a second
intent needs the first one to be surely void.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import timedelta
from functools import partial
from typing import Protocol

from gateway.deciding import Desk, Weighed
from gateway.endings import Endings, Opens
from gateway.errors import Unavailable
from gateway.live import Live
from gateway.poison import Broken, sifted, singly
from gateway.quotas.shares import numbers
from gateway.rooms import BATCH, Rooms, View
from gateway.starts import Owner, Starts
from gateway.suspects import ENDED, STRIKES, Notes, Turns
from gateway.tasks import end
from gateway.telemetry import Metrics, get
from gateway.work import Due, Key, Queue

LEAST_BATCH = 10
AT_ONCE = 2
"""T1s of one drain under way at once: while one waits for its statements, another decides."""
ALONE_LASTS, BESIDE_LASTS = 0.06, 0.5
"""Seconds that a T1 is meant to last: where nobody else writes meanwhile (calls wait for their go), beside others."""
PERMIT = timedelta(seconds=10)
"""From T1 to the call at most (real time); the decision holds for its whole length."""
SLICE = 4
"""Decisions between which other work of this process comes to its turn: calls have a time to begin at."""
LOOK_S = 0.2
"""Seconds after which a drain with calls under way looks for more."""
MOST_LOOKS = 3
"""While more waits for its start than may be picked beside it, so many looks go by: few cost as much as many."""

log = get(__name__)


class DispatchStore(Opens, Protocol):
    """The store, as dispatch uses it."""

    async def due_queues(self) -> list[Queue]:
        """Queues with something due."""

    async def pick(self, wanted: Mapping[str, int], owner: str) -> list[Due]:
        """Due reminders of these queues, unlocked, and a few suspects that this owner may try."""

    async def borrowers_of(self, persons: Sequence[Key]) -> list[Key]:
        """All borrowers of these persons, unlocked."""

    async def put_aside(self, due: Due, error: str) -> None:
        """Let a reminder wait as `quarantined`, on record; `error`: what kind of thing broke on it."""


class Decider(Owner, Notes, Protocol):
    """The process as the owner of its intents, and what it notes before it decides."""


class Dispatch:
    """Drains channels of due reminders. One per process; `run` must be running beside it."""

    def __init__(
        self,
        *,
        store: DispatchStore,
        desk: Desk,
        owner: Decider,
        live: Live,
        rooms: Rooms,
        starts: Starts,
        endings: Endings,
        metrics: Metrics,
        one_writer: bool,
    ) -> None:
        """`one_writer`: while one transaction writes, no other does (SQLite)."""
        self._one_writer = one_writer
        self._store = store
        self._desk = desk
        self._owner = owner
        self._live = live
        self._rooms = rooms
        self._starts = starts
        self._endings = endings
        self._metrics = metrics
        self._turns = Turns(owner)
        self._quiet = False
        self._at_once = 1 if one_writer else AT_ONCE
        self._batch = float(BATCH) / 4

    def quiet(self) -> None:
        """Take nothing new; what is being called is finished."""
        self._quiet = True

    async def run(self) -> None:
        """Start calls and write their outcomes until cancelled; raises when either is broken."""
        both = [asyncio.create_task(self._starts.run()), asyncio.create_task(self._endings.run())]
        try:
            done, _ = await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            done.pop().result()
        finally:
            await end(both)

    async def finish(self) -> None:
        """Withdraw what has no start yet, and wait for all that is being called."""
        await self._starts.give_up()

    async def drain(self, channel: str) -> None:
        """Work a channel until nothing more of it can start and all that was started is written."""
        under_way: set[asyncio.Future[None]] = set()
        looks = 0
        while not self._quiet and self._owner.fit and self._live.sends:
            if self._starts.behind():
                await asyncio.sleep(LOOK_S)
                continue
            view = await self._rooms.look(await self._store.due_queues())
            dealt = self._rooms.deal(view, channel, round(self._batch) * self._at_once)
            waiting = self._starts.waiting()
            if under_way and looks < MOST_LOOKS and waiting > sum(turn.waiter.uses for turn in dealt):
                looks += 1
                await self._starts.fewer_wait(min(BATCH / 4, waiting / 2), within_s=LOOK_S)
                continue
            looks = 0
            due = await self._store.pick(numbers(dealt), self._owner.id)
            claimed = await self._claim_all(due, view) if due else None
            if claimed is not None:
                self._rooms.learn(channel, dealt, claimed.verdicts)
                under_way |= set(self._starts.add(claimed.ready))
            under_way = {over for over in under_way if not over.done()}
            if claimed is None and not under_way:
                return
            if claimed is not None and claimed.verdicts:
                continue
            if under_way:
                await asyncio.wait(under_way, timeout=LOOK_S)
            else:
                await asyncio.sleep(LOOK_S)
        if under_way:
            await asyncio.wait(under_way)

    async def _claim_all(self, due: Sequence[Due], view: View) -> Weighed:
        """T1 of all of them; suspects come last, one after another.

        Nothing is called before they were tried: where one of them ends the process, what was only meant is decided on
        anew, and what was being called is known to nobody.
        """
        calm = [one for one in due if not one.strikes]
        claimed = await self._claim_surely(calm, view) if calm else Weighed()
        for one in due:
            if one.strikes and not self._quiet:
                try:
                    await self._claim_suspect(one, view, claimed)
                except Unavailable:  # what was claimed before is kept
                    log.warning("store_away")
                    break
        return claimed

    async def _claim_surely(self, due: Sequence[Due], view: View) -> Weighed:
        """T1 of all of them, several at once; on which it breaks, that is set aside and holds up nobody else.

        Where the store fails one of them, what the others have claimed is kept; it is raised where it fails all.
        """
        claimed, failed = Weighed(), list[BaseException]()
        shares = _shared(due, self._at_once)
        work = partial(self._claim, view)
        async with self._turns.together([(one.tenant, one.id) for one in due]):
            sifting = (sifted(share, work) for share in shares)
            for done in await asyncio.gather(*sifting, return_exceptions=True):
                if isinstance(done, BaseException):
                    log.warning("store_away")
                    failed.append(done)
                else:
                    await self._keep(done, claimed)
        if len(failed) == len(shares):
            raise failed[0]
        return claimed

    async def _claim_suspect(self, one: Due, view: View, claimed: Weighed) -> None:
        """T1 of a suspect, and of nothing else; on which too many processes ended, that is set aside untried."""
        if one.strikes >= STRIKES:
            log.error("reminder_poison", reminder=one.id, error=ENDED)
            await self._store.put_aside(one, ENDED)
            return
        async with self._turns.alone((one.tenant, one.id)) as mine:
            if mine:
                await self._keep(await singly([one], partial(self._claim, view)), claimed)

    async def _keep(self, done: tuple[list[Weighed], list[Broken[Due]]], claimed: Weighed) -> None:
        """What T1 came to is added to what was claimed; on which it broke, that is set aside."""
        parts, broken = done
        for one in broken:
            error = type(one.error).__name__
            log.error("reminder_poison", reminder=one.item.id, error=error, exc_info=one.error)
            await self._store.put_aside(one.item, error)
        for part in parts:
            claimed.ready += part.ready
            claimed.verdicts += part.verdicts

    async def _claim(self, view: View, due: Sequence[Due], alone: bool) -> Weighed:  # noqa: FBT001 (sifted)
        """T1: everything from the locks to the intents, in one transaction; `alone`: of these and no others."""
        began = asyncio.get_running_loop().time()
        borrowers = await self._store.borrowers_of(sorted({(d.tenant, d.person) for d in due}))
        keys = await self._desk.prepare(borrowers)
        refusal = partial(self._rooms.refusal, view)
        async with self._store.transaction() as tx:
            locking = asyncio.get_running_loop().time()
            waited = 0.0
            persons = await tx.lock_persons([(d.tenant, d.person) for d in due], free=True)
            if alone:
                works = await tx.take([(d.tenant, d.id) for d in due] if persons else [])
            else:
                works = await tx.claim(persons, borrowers, view.open_queues(), 2 * len(due))
            weighed = Weighed()
            if not works:
                return weighed
            facts = await tx.facts(works)
            for place, work in enumerate(works):
                self._desk.weigh_one(work, facts, keys, tx.moment, PERMIT, refusal, weighed)
                if place % SLICE == 0:
                    waited += await self._give_way()
            await tx.append(weighed.entries)
            if alone:
                await tx.acquit(works)
            await tx.decide(weighed.verdicts, self._owner.id)  # last: others wait for grounds that are new
        if not alone:
            self._fit_batch(len(works), asyncio.get_running_loop().time() - locking - waited)
        self._metrics.took("t1", asyncio.get_running_loop().time() - began)
        for verdict in weighed.verdicts:
            self._metrics.decided(verdict.state, verdict.reason)
        return weighed

    async def _give_way(self) -> float:
        """Let other work come to its turn; a go under way first of all, its slots soon pass. Seconds waited."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        await (asyncio.sleep(0) if self._one_writer else self._starts.no_go())
        return loop.time() - began

    def _fit_batch(self, count: int, seconds: float) -> None:
        """Take so many at a time that a T1 lasts as it is meant to, however fast the machine."""
        if count:
            fits = count * (ALONE_LASTS if self._one_writer else BESIDE_LASTS) / seconds
            self._batch = min(float(BATCH), max(float(LEAST_BATCH), (self._batch + fits) / 2))


def _shared(due: Sequence[Due], parts: int) -> list[list[Due]]:
    """In so many parts at most, none of them small; what a person has due is ranked together and stays together."""
    places: dict[Key, int] = {}
    most = max(1, min(parts, len(due) // LEAST_BATCH))
    shares: list[list[Due]] = [[] for _ in range(most)]
    for one in due:
        shares[places.setdefault((one.tenant, one.person), len(places) % most)].append(one)
    return [share for share in shares if share]
