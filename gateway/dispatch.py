"""From due to called: claim, decide, write the intent, ask for the go, call, write the outcome.

Intent first: a commit stands between deciding and calling, and another between calling and anything else
(T1, go, call, T2). Whatever is killed in between, a second contact needs a second intent, and a second
intent needs the first one to be surely void.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

from gateway import outcomes
from gateway.deciding import Desk, Ready
from gateway.domain import Handed, HandOver, Message, Outcome, Receipt, Tenant
from gateway.errors import Unavailable
from gateway.ports import Entry, Moment
from gateway.telemetry import Metrics, get
from gateway.work import Attempt, Due, Facts, Intent, Key, Outturn, Queue, Subject, Verdict, Work

BATCH = 200
CONCURRENCY = 32
PERMIT = timedelta(seconds=10)
"""From T1 to the call at most (real time); the decision holds for its whole length."""
GO_LASTS = 0.25
"""Seconds from go's commit to the call at most."""
FLUSH = 0.02
"""Seconds that outcomes wait for each other before T2."""
DRAIN_LASTS = 20.0
"""Seconds after which a drain ends by itself; whoever ran it rings for the next."""
RETRY = 1.0
"""Seconds between two tries to reach a store that is not there."""

log = get(__name__)


class DispatchTx(Protocol):
    """One transaction, as dispatch uses it (gateway.store.dispatch)."""

    moment: Moment

    async def append(self, entries: Sequence[Entry]) -> None:
        """Write records."""

    async def lock_persons(self, keys: Sequence[Key]) -> None:
        """Lock the rows that caps are counted under."""

    async def claim(self, dues: Sequence[Due]) -> list[Work]:
        """Take those still due."""

    async def facts(self, subjects: Sequence[Work | Subject]) -> Facts:
        """Read what deciding needs."""

    async def decide(self, verdicts: Sequence[Verdict], owner: str) -> None:
        """Write decisions and intents."""

    async def void(self, keys: Sequence[Key], *, from_states: tuple[str, ...] = ...) -> list[Attempt]:
        """Withdraw what was surely not called."""

    async def look_again(self, persons: Sequence[Key]) -> None:
        """Make due what rules put off for them."""

    async def attempts(self, refs: Sequence[str]) -> dict[str, Attempt]:
        """Attempts by ref, locked."""

    async def finish(self, outturns: Sequence[Outturn]) -> None:
        """Write outcomes."""

    async def mark_dead(self, addresses: Sequence[tuple[Tenant, str, str, str]]) -> None:
        """Addresses that can never work."""

    async def opt_out(self, tenant: Tenant, borrower: str, channel: str) -> bool:
        """Add an opt-out; False when it stood there."""


class Opens(Protocol):
    """A store that begins transactions."""

    def transaction(self) -> AbstractAsyncContextManager[DispatchTx]:
        """One transaction."""


class DispatchStore(Opens, Protocol):
    """The store, as dispatch uses it."""

    async def due_queues(self) -> list[Queue]:
        """Queues with something due."""

    async def pick(self, wanted: Mapping[str, int]) -> list[Due]:
        """Due reminders of these queues, unlocked."""

    async def go(self, intents: Sequence[Intent], owner: str) -> set[str]:
        """Refs that may be called now."""


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """A call that is over, waiting for T2."""

    ready: Ready
    handed: Handed
    written: asyncio.Future[None]


class Dispatch:
    """Drains channels of due reminders. One per process; `run` must be running beside it."""

    def __init__(
        self,
        *,
        store: DispatchStore,
        desk: Desk,
        owner: Owner,
        metrics: Metrics,
        links: Links,
        quarantine: timedelta = outcomes.QUARANTINE,
    ) -> None:
        self._store = store
        self._desk = desk
        self._owner = owner
        self._metrics = metrics
        self._links = links
        self._quarantine = quarantine
        self._ended: asyncio.Queue[Ended] = asyncio.Queue()
        self._quiet = False

    def quiet(self) -> None:
        """Take nothing new; what is being called is finished."""
        self._quiet = True

    async def drain(self, channel: str) -> bool:
        """Work one channel until nothing is due or the time is up; True when more was left."""
        loop = asyncio.get_running_loop()
        end = loop.time() + DRAIN_LASTS
        while not self._quiet and self._owner.fit:
            queues = [q.name for q in await self._store.due_queues() if q.channel == channel]
            due = (await self._store.pick(dict.fromkeys(queues, BATCH)))[:BATCH]
            if not due:
                return False
            await self._start(await self._claim(due))
            if loop.time() > end:
                return True
        return False

    async def _claim(self, due: Sequence[Due]) -> list[Ready]:
        """T1: everything from the locks to the intents, in one transaction."""
        keys = await self._desk.prepare([(d.tenant, d.borrower) for d in due])
        async with self._store.transaction() as tx:
            await tx.lock_persons([(d.tenant, d.person) for d in due])
            works = await tx.claim(due)
            weighed = self._desk.weigh(works, await tx.facts(works), keys, tx.moment, PERMIT)
            await tx.decide(weighed.verdicts, self._owner.id)
            await tx.append(weighed.entries)
        for verdict in weighed.verdicts:
            self._metrics.decided(verdict.state, verdict.reason)
        return weighed.ready

    async def _start(self, ready: Sequence[Ready]) -> None:
        """Call CONCURRENCY at once at most, each after its go; return when all outcomes are written."""
        waiting = deque(ready)
        calling: set[asyncio.Task[None]] = set()
        while waiting or calling:
            free = CONCURRENCY - len(calling)
            if waiting and free > 0:
                batch = [waiting.popleft() for _ in range(min(free, len(waiting)))]
                calling |= await self._go(batch)
            if calling and (waiting or len(calling) >= CONCURRENCY):
                _, calling = await asyncio.wait(calling, return_when=asyncio.FIRST_COMPLETED)
            elif calling:
                await asyncio.wait(calling)
                calling = set()

    async def _go(self, batch: Sequence[Ready]) -> set[asyncio.Task[None]]:
        """Ask for the go; a commit whose answer was lost counts as not given and is withdrawn."""
        try:
            granted = await self._store.go([r.intent for r in batch], self._owner.id)
        except Unavailable:
            await self._withdraw(batch)
            return set()
        begun = asyncio.get_running_loop().time()
        calls = {
            asyncio.create_task(self._call(ready, begun)) for ready in batch if ready.intent.ref in granted
        }
        with suppress(Unavailable):
            await freed(self._store, [r.person for r in batch if r.intent.ref not in granted])
        return calls

    async def _withdraw(self, batch: Sequence[Ready]) -> None:
        """Void attempts that this process has not called and will not, however long the store is away."""
        while True:
            try:
                async with self._store.transaction() as tx:
                    await tx.void([r.key for r in batch], from_states=("intent", "calling"))
                await freed(self._store, [r.person for r in batch])
            except Unavailable:
                await asyncio.sleep(RETRY)
            else:
                return

    async def _call(self, ready: Ready, begun: float) -> None:
        loop = asyncio.get_running_loop()
        if loop.time() - begun > GO_LASTS or not self._owner.fit:
            await self._withdraw([ready])
            return
        handed = await hand_over(ready, self._message(ready))
        self._metrics.called(ready.intent.channel, ready.intent.adapter, handed.ending, loop.time() - begun)
        ended = Ended(ready=ready, handed=handed, written=loop.create_future())
        self._ended.put_nowait(ended)
        await ended.written

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

    async def run(self) -> None:
        """Write outcomes, many at a time, until cancelled; a store that is away is waited for."""
        while True:
            ended = [await self._ended.get()]
            await asyncio.sleep(FLUSH)
            while not self._ended.empty():
                ended.append(self._ended.get_nowait())
            await self._write_surely(ended)
            for e in ended:
                e.written.set_result(None)

    async def _write_surely(self, ended: Sequence[Ended]) -> None:
        while True:
            try:
                await self._write(ended)
            except Unavailable:
                log.warning("store_away", waiting=len(ended))
                await asyncio.sleep(RETRY)
            else:
                return

    async def _write(self, ended: Sequence[Ended]) -> None:
        """T2, guarded by the attempt's own state: only a `calling`, or an unknown of a lost owner, takes an ending."""
        await self._learn(ended)
        refused = [e.ready.person for e in ended if e.handed.ending.outcome is Outcome.REJECTED]
        async with self._store.transaction() as tx:
            await tx.lock_persons(refused)
            current = await tx.attempts([e.ready.intent.ref for e in ended])
            outturns = [self._outturn(e, current[e.ready.intent.ref], tx.moment) for e in ended]
            known = [o for o in outturns if o is not None]
            await tx.finish(known)
            await tx.look_again(refused)
            await tx.append([outcome_entry(o, tx.moment) for o in known])

    def _outturn(self, ended: Ended, attempt: Attempt, moment: Moment) -> Outturn | None:
        called = ended.ready.called(attempt)
        if attempt.state in ("calling", Outcome.UNKNOWN):
            return outcomes.after_call(called, ended.handed, moment, self._quarantine)
        return None if attempt.ending else outcomes.overtaken(called, ended.handed, moment)

    async def _learn(self, ended: Sequence[Ended]) -> None:
        by_ending: dict[HandOver, list[Learnt]] = defaultdict(list)
        for e in ended:
            work, intent = e.ready.work, e.ready.intent
            by_ending[e.handed.ending].append((work.tenant, work.borrower, intent.channel, intent.address))
        await learn(
            self._store,
            dead=by_ending[HandOver.PERMANENT_RECIPIENT],
            refused=by_ending[HandOver.OPT_OUT],
        )


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


async def freed(store: Opens, persons: Sequence[Key]) -> None:
    """Attempts on these persons came to nothing: what was put off because of them is due again.

    Under the persons' locks, so that nobody is missed who counted them and has not committed yet.
    """
    if persons:
        async with store.transaction() as tx:
            await tx.lock_persons(persons)
            await tx.look_again(persons)


Learnt = tuple[Tenant, str, str, str]
"""A borrower's address: tenant, borrower, channel, its key."""


async def learn(store: Opens, *, dead: Sequence[Learnt], refused: Sequence[Learnt]) -> None:
    """Write what a provider's word says of borrowers: an address can never work, or the person refused its channel.

    In a transaction of its own, before the reminder is free again: the borrower's row comes before the
    reminder's in the order of locks.
    """
    if not dead and not refused:
        return
    async with store.transaction() as tx:
        await tx.mark_dead(dead)
        for tenant, borrower, channel, _ in refused:
            if await tx.opt_out(tenant, borrower, channel):
                entry = Entry(
                    tenant=tenant, kind="opt_out", at=tx.moment.policy, borrower=borrower, channel=channel
                )
                await tx.append([entry])


async def learn_from(store: Opens, told: Sequence[tuple[Attempt, Receipt]]) -> None:
    """Write what receipts say of borrowers."""
    places = [((a.tenant, a.borrower, a.channel.value, a.address), r) for a, r in told]
    await learn(
        store,
        dead=[place for place, r in places if r.address_dead],
        refused=[place for place, r in places if r.opt_out],
    )


def outcome_entry(outturn: Outturn, moment: Moment, kind: str = "outcome") -> Entry:
    """The record of what became of an attempt."""
    attempt = outturn.attempt
    return Entry(
        tenant=attempt.tenant,
        kind=kind,
        at=moment.policy,
        reminder=attempt.reminder,
        attempt=attempt.ref,
        borrower=attempt.borrower,
        channel=attempt.channel.value,
        state=outturn.state,
        reason=outturn.reason,
        body={
            "ending": outturn.ending,
            "code": outturn.code,
            "by": outturn.by,
            "account": attempt.account,
            "final_at": outturn.final_at.isoformat() if outturn.final_at else None,
        },
    )
