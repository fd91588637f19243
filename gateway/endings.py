"""From a call's end to its outcome: many written together, each guarded by the state of its own attempt (T2)."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from datetime import timedelta
from typing import Protocol

from gateway import outcomes
from gateway.accounts import Connected
from gateway.deciding import Ready
from gateway.domain import Handed, HandOver, Outcome, Receipt, Tenant
from gateway.errors import StoreRefused, Unavailable
from gateway.poison import Broken, sifted
from gateway.ports import Entry, Moment
from gateway.quotas.model import Book
from gateway.standing import Ending
from gateway.telemetry import get
from gateway.values import dataclass
from gateway.work import Attempt, Facts, Key, Outturn, Refusal, Start, Step, Subject, Verdict, Work

FLUSH, APART, MANY = 0.02, 0.15, 32
"""Seconds that outcomes wait for each other before T2, and that fewer than MANY wait after the T2 before."""
UNWRITTEN = "unwritten"
"""The code of an ending of which the store refused the provider's own words."""
RETRY = 1.0
"""Seconds between two tries to reach a store that is not there."""

log = get(__name__)


class DispatchTx(Protocol):
    """One transaction, as dispatch uses it (gateway.store.dispatch)."""

    moment: Moment

    async def append(self, entries: Sequence[Entry]) -> None:
        """Write records."""

    async def lock_persons(self, keys: Sequence[Key], *, free: bool = False) -> list[Key]:
        """Lock the rows that caps are counted under; `free`: those that nobody holds."""

    async def claim(
        self, persons: Sequence[Key], borrowers: Sequence[Key], queues: Sequence[str], limit: int
    ) -> list[Work]:
        """Take what is due of locked persons."""

    async def take(self, keys: Sequence[Key]) -> list[Work]:
        """Take these."""

    async def acquit(self, works: Sequence[Work]) -> None:
        """They are suspects no more."""

    async def facts(self, subjects: Sequence[Work | Subject]) -> Facts:
        """Read what deciding needs."""

    async def decide(self, verdicts: Sequence[Verdict], owner: str) -> None:
        """Write decisions and intents."""

    async def void(
        self, keys: Sequence[Key], *, from_states: tuple[str, ...] = ..., why: Mapping[str, Refusal] = ...
    ) -> list[Attempt]:
        """Withdraw what was surely not called."""

    async def uncall(self, starts: Sequence[Start], owner: str, book: Book) -> set[str]:
        """Calls that their owner has not begun are intents again, and not counted; their refs."""

    async def give_back(self, starts: Sequence[Start], book: Book) -> None:
        """Count starts no more that were counted and surely not called."""

    async def learn(self, ended: Sequence[Ending]) -> None:
        """What endings of calls say of accounts."""

    async def look_again(self, persons: Sequence[Key]) -> None:
        """Make due what rules put off for them."""

    async def attempts(self, refs: Sequence[str]) -> dict[str, Attempt]:
        """Attempts by ref, locked."""

    async def steps_after(self, attempts: Sequence[Attempt]) -> dict[str, Step]:
        """What follows these calls, by ref, where something follows and their ending is not written yet."""

    async def steps_to_come(self, attempts: Sequence[Attempt]) -> set[str]:
        """Refs of those whose reminder has a time for what follows them."""

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """A call that is over, waiting for T2."""

    ready: Ready
    handed: Handed
    written: asyncio.Future[None]


class Endings:
    """Writes what calls came to. One per process; `run` must be running beside whoever calls."""

    def __init__(self, store: Opens, quarantine: timedelta) -> None:
        self._store = store
        self._quarantine = quarantine
        self._ended: asyncio.Queue[Ended] = asyncio.Queue()

    async def write(self, ready: Ready, handed: Handed) -> None:
        """Write what a call came to; returns when it is written."""
        ended = Ended(ready=ready, handed=handed, written=asyncio.get_running_loop().create_future())
        self._ended.put_nowait(ended)
        await ended.written

    async def run(self) -> None:
        """Write outcomes, many at a time, until cancelled; a store that is away is waited for."""
        loop = asyncio.get_running_loop()
        wrote = float("-inf")
        while True:
            ended = [await self._ended.get()]
            await asyncio.sleep(FLUSH)
            if self._ended.qsize() < MANY:
                await asyncio.sleep(max(0.0, wrote + APART - loop.time()))
            while not self._ended.empty():
                ended.append(self._ended.get_nowait())
            wrote = loop.time()
            await self._write_surely(ended)
            for e in ended:
                e.written.set_result(None)

    async def _write_surely(self, ended: Sequence[Ended]) -> None:
        left = {id(one): one for one in ended}

        async def write(some: Sequence[Ended], _alone: bool) -> None:  # noqa: FBT001 (sifted)
            await self._write(some)
            for one in some:
                del left[id(one)]

        while left:
            try:
                _, broken = await sifted(list(left.values()), write)
                for one in broken:
                    await self._write_bare(one)
                    del left[id(one.item)]
            except Unavailable:
                log.warning("store_away", waiting=len(left))
                await asyncio.sleep(RETRY)

    async def _write_bare(self, one: Broken[Ended]) -> None:
        """One on which writing breaks, without what its provider said; raises when that breaks as well."""
        log.error("ending_poison", error=type(one.error).__name__, exc_info=one.error)
        bare = replace(one.item.handed, code=UNWRITTEN, provider_id=None)
        try:
            await self._write([replace(one.item, handed=bare)])
        except StoreRefused as refused:
            raise RuntimeError("an outcome cannot be written") from refused

    async def _write(self, ended: Sequence[Ended]) -> None:
        """T2, guarded by the attempt's own state: only a `calling`, or an unknown of a lost owner, takes an ending.

        Of an unknown that was asked about by the same request again, our own call's refusal says nothing any more.
        """
        await self._learn(ended)
        refused = [e.ready.person for e in ended if e.handed.ending.outcome is Outcome.REJECTED]
        async with self._store.transaction() as tx:
            await tx.lock_persons(refused)
            current = await tx.attempts([e.ready.intent.ref for e in ended])
            kept = [(e, current[e.ready.intent.ref]) for e in ended if e.ready.intent.ref in current]
            if len(kept) < len(ended):  # the store failed over and forgot them; the journal tells of them
                log.error("attempts_forgotten", count=len(ended) - len(kept))
            to_come = await tx.steps_to_come([attempt for e, attempt in kept if _refused_late(e, attempt)])
            outturns = [
                self._outturn(e, attempt, tx.moment, step_to_come=attempt.ref in to_come)
                for e, attempt in kept
            ]
            known = [o for o in outturns if o is not None]
            await tx.finish(known)
            await tx.learn([e.ready.ending(e.handed) for e in ended])
            await tx.look_again(refused)
            await tx.append([outcome_entry(o, tx.moment) for o in known])

    def _outturn(
        self, ended: Ended, attempt: Attempt, moment: Moment, *, step_to_come: bool
    ) -> Outturn | None:
        if ended.handed.ending.outcome is Outcome.REJECTED and _may_have_gone_again(ended.ready, attempt):
            return None
        if attempt.state in (
            "intent",
            "calling",
            Outcome.UNKNOWN,
        ):  # an intent: its go was forgotten by a failover
            called = ended.ready.called(attempt)
            return outcomes.after_call(
                called, ended.handed, moment, self._quarantine, step_to_come=step_to_come
            )
        if attempt.ending is None:
            return outcomes.overtaken(attempt, ended.handed, moment)
        return outcomes.late(attempt, ended.handed, ended.ready.ways, moment)

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


def _refused_late(ended: Ended, attempt: Attempt) -> bool:
    """Whether it was refused after it was taken for unknown: what follows an unknown has its time by then."""
    return ended.handed.ending.outcome is Outcome.REJECTED and attempt.state == Outcome.UNKNOWN


def _may_have_gone_again(ready: Ready, attempt: Attempt) -> bool:
    """Whether the same request may have gone out again meanwhile, and have reached somebody."""
    return (
        attempt.state == Outcome.UNKNOWN
        and attempt.settle_tries > 0
        and hasattr(ready.adapter, "again_within")
    )


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


async def after_receipt(
    tx: DispatchTx, attempt: Attempt, receipt: Receipt, ways: outcomes.Ways
) -> Outturn | None:
    """What a provider's word makes of an attempt (gateway.outcomes)."""
    to_come = await tx.steps_to_come([attempt] if receipt.refusal is not None else [])
    steps = await tx.steps_after([attempt] if attempt.state == "calling" else [])
    return outcomes.after_receipt(
        attempt,
        receipt,
        ways,
        tx.moment,
        next_step=steps.get(attempt.ref),
        step_to_come=attempt.ref in to_come,
    )


def given_up_by(connected: Connected, attempt: Attempt, refusal: Handed) -> Ending:
    """What an account learns of a message that its provider took and gave up."""
    return Ending(pool=connected.pool, adapter=connected.account.adapter, handed=refusal, ref=attempt.ref)


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
