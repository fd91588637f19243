"""Unknown endings: after the quarantine the provider is asked; nothing is ever sent again blindly.

    channel       asked by                       sent again
    sms, voice    the provider's own list        never; it failed where the list, read twice, does not show it
    email         nobody: delivery reports tell  never
    wechat        the same `client_msg_id`       within the provider's window, as long as what it was decided on
                                                 stands: the provider drops the second one itself

What cannot be told, or no longer, is parked: it stays `unknown`, counts in every cap, and waits for a person.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import Protocol, TypeAlias, cast

from gateway.accounts import Accounts, Connected
from gateway.domain import HandOver, Message, NotShown, Outcome, Receipt, Tenant
from gateway.endings import DispatchTx, after_receipt, freed, given_up_by, learn_from, outcome_entry
from gateway.errors import Unavailable
from gateway.masking import Pii
from gateway.outcomes import NOT_SHOWN, not_shown
from gateway.ports import LooksUp, Moment, SendsAgain
from gateway.starts import Links
from gateway.sweep import Graves, forever
from gateway.tasks import end
from gateway.telemetry import Metrics, get
from gateway.texts import Texts
from gateway.work import Attempt, Outturn

EVERY = 2.0
LIMIT, AT_ONCE = 50, 8
"""Attempts through one account that are looked at, and questions about them that are under way, at once."""
CALLS_LONG = 3
"""A question may last so many times as long as a call: some ask page by page."""
ASK_AGAIN = (timedelta(seconds=45), timedelta(minutes=2), timedelta(minutes=10), timedelta(hours=1))
"""Waits between questions that the provider could not answer; after the last one the attempt is parked.

The first is so short that what its provider twice does not show is settled a minute after the quarantine.
"""

log = get(__name__)

Whereto: TypeAlias = tuple[Tenant, str, str, str]
"""Tenant, adapter, account and address: what a provider is asked about by."""


class ReconcileTx(DispatchTx, Protocol):
    """One transaction, as reconcile uses it."""

    async def to_settle(self, limit: int) -> dict[str, Attempt]:
        """Unknown attempts whose time has come, so many at most of each account."""

    async def stands_until(self, attempt: Attempt) -> datetime | None:
        """Until when its decision holds; None when borrower, debt, account or reminder are not as they were."""

    async def address(self, tenant: Tenant, borrower: str, key: str) -> bytes | None:
        """One address, sealed."""


class ReconcileStore(Protocol):
    """The store, as reconcile uses it."""

    def transaction(self) -> AbstractAsyncContextManager[ReconcileTx]:
        """One transaction."""

    async def refs_of(self, adapter: str, account: str, provider_ids: Sequence[str]) -> dict[str, str]:
        """Provider's id → our ref."""


class Reconcile:
    """Asks providers about unknown attempts. One leader at a time."""

    def __init__(
        self,
        *,
        store: ReconcileStore,
        graves: Graves,
        accounts: Accounts,
        texts: Texts,
        links: Links,
        metrics: Metrics,
    ) -> None:
        self._store = store
        self._graves = graves
        self._accounts = accounts
        self._texts = texts
        self._links = links
        self._metrics = metrics
        self._settling = asyncio.Semaphore(AT_ONCE)
        """Answers are written by few connections: calls wait for those, too."""
        self._slots: dict[tuple[Tenant, str], asyncio.Semaphore] = defaultdict(
            lambda: asyncio.Semaphore(AT_ONCE)
        )
        self._asked: dict[Whereto, asyncio.Task[None]] = {}

    async def run(self) -> None:
        """Reconcile until cancelled. A provider whose answers take long holds up no other's."""
        try:
            await forever(self._ask_all, lambda: EVERY)
        finally:
            await end(self._asked.values())

    async def once(self) -> None:
        """Ask about all whose time has come, and wait for what that comes to."""
        await self._ask_all()
        for failed in await asyncio.gather(*self._asked.values(), return_exceptions=True):
            if isinstance(failed, BaseException):  # the store is away; all questions are over by now
                raise failed

    async def _ask_all(self) -> None:
        """Begin to ask. The questions go out between two transactions, never within one."""
        if not await self._graves.leads("reconcile"):
            return
        async with self._store.transaction() as tx:
            due = list((await tx.to_settle(LIMIT)).values())
            sealed = {a.ref: await tx.address(a.tenant, a.borrower, a.address) for a in due}
        alike: dict[Whereto, list[Attempt]] = defaultdict(list)
        for attempt in due:
            alike[attempt.tenant, attempt.adapter, attempt.account, attempt.address].append(attempt)
        for whereto, attempts in alike.items():
            if whereto not in self._asked:
                task = asyncio.create_task(self._each(attempts, sealed))
                self._asked[whereto] = task
                task.add_done_callback(partial(self._over, whereto))

    def _over(self, whereto: Whereto, task: asyncio.Task[None]) -> None:
        del self._asked[whereto]
        if not task.cancelled() and (wrong := task.exception()) is not None:
            log.warning("settling_failed", error=type(wrong).__name__)  # asked about again in the next round

    async def _each(self, attempts: Sequence[Attempt], sealed: Mapping[str, bytes | None]) -> None:
        """Those of one address one after the other: what is found is the one's or the other's."""
        for attempt in attempts:
            await self._one(attempt, sealed[attempt.ref])

    async def _one(self, attempt: Attempt, sealed: bytes | None) -> None:
        async with self._slots[attempt.tenant, attempt.account]:
            try:
                told = await self._ask(attempt, sealed)
            except Unavailable:
                raise
            except Exception as wrong:
                log.exception("asking_failed", adapter=attempt.adapter, error=type(wrong).__name__)
                told = None
            if isinstance(told, Receipt):  # first: once it is settled nobody asks again
                await learn_from(self._store, [(attempt, told)])
            await self._settle(attempt, told)
            if isinstance(told, Receipt) and told.refusal is not None:
                await freed(self._store, [(attempt.tenant, attempt.person)])

    async def _ask(self, attempt: Attempt, sealed: bytes | None) -> Receipt | NotShown | None:
        connected = self._accounts.named(attempt.tenant, attempt.account)
        if connected is None or sealed is None or attempt.called_at is None:
            return None
        address = await self._texts.address(attempt, sealed)
        if address is None:
            return None
        if hasattr(connected.adapter, "again_within"):
            return await self._again(connected, attempt, address)
        if hasattr(connected.adapter, "look_up"):
            async with _bounded(connected):
                found = await cast("LooksUp", connected.adapter).look_up(
                    attempt.ref, address, attempt.called_at
                )
            return NotShown() if await self._is_anothers(attempt, found) else found
        return None

    async def _is_anothers(self, attempt: Attempt, found: Receipt | NotShown | None) -> bool:
        """Whether the message that was found is known to be another attempt's: so this one is not among them."""
        if not isinstance(found, Receipt) or found.provider_id is None:
            return False
        known = await self._store.refs_of(attempt.adapter, attempt.account, [found.provider_id])
        return known.get(found.provider_id, attempt.ref) != attempt.ref

    async def _again(self, connected: Connected, attempt: Attempt, address: Pii[str]) -> Receipt | None:
        """The same request under the same key, while the provider still drops the second of the two itself.

        That it is asked is written first: what its owner, cut off meanwhile, says of the first request frees nothing
        from then on.
        """
        window = cast("SendsAgain", connected.adapter).again_within
        rendered = await self._texts.rendered(attempt)
        async with self._store.transaction() as tx:
            now, until = tx.moment, await tx.stands_until(attempt)
            current = (await tx.attempts([attempt.ref]))[attempt.ref]
            if rendered is None or attempt.called_at is None or now.real - attempt.called_at > window:
                return None
            if until is None or until <= now.policy or current.state != Outcome.UNKNOWN:
                return None
            await tx.finish([_asked(attempt, current)])
        message = Message(
            ref=attempt.ref,
            address=address,
            rendered=rendered,
            now=now.real,
            deliver_by=now.real + min(window, until - now.policy),
            callback_url=self._links(attempt.adapter, attempt.account, attempt.ref),
            unsubscribe_url=self._links(attempt.adapter, attempt.account, attempt.ref),
        )
        async with _bounded(connected):
            handed = await connected.adapter.send(message)
        if handed.ending is not HandOver.ACCEPTED:
            return None
        return Receipt(outcome=Outcome.ACCEPTED, ref=attempt.ref, provider_id=handed.provider_id)

    async def _settle(self, attempt: Attempt, told: Receipt | NotShown | None) -> None:
        async with self._settling, self._store.transaction() as tx:
            now = (await tx.attempts([attempt.ref]))[attempt.ref]
            found = await self._made_of(tx, attempt, now, told)
            if found is None and now.state != Outcome.UNKNOWN:
                return
            may_tell = self._may_tell(attempt, tx.moment)
            await tx.finish([found or (_later(attempt, now, tx.moment, told) if may_tell else _parked(now))])
            if found:
                await tx.append([outcome_entry(found, tx.moment)])
            connected = self._accounts.named(now.tenant, now.account)
            if isinstance(told, Receipt) and told.refusal is not None and connected is not None:
                await tx.learn([given_up_by(connected, now, told.refusal)])
        self._metrics.settled(attempt.adapter, found=found is not None)

    def _may_tell(self, attempt: Attempt, now: Moment) -> bool:
        """Whether its provider can be asked still; an account that is not there may come back."""
        connected = self._accounts.named(attempt.tenant, attempt.account)
        if connected is None or attempt.called_at is None:
            return True
        window: timedelta | None = getattr(connected.adapter, "again_within", None)
        if window is not None:
            return now.real - attempt.called_at <= window
        return hasattr(connected.adapter, "look_up")

    async def _made_of(
        self, tx: ReconcileTx, asked: Attempt, now: Attempt, told: Receipt | NotShown | None
    ) -> Outturn | None:
        """What the answer makes of it; that it is not shown is believed the second time: lists may come late."""
        if isinstance(told, Receipt):
            return await after_receipt(tx, now, told, self._accounts.ways(now.adapter))
        if isinstance(told, NotShown) and asked.code == NOT_SHOWN and now.state == Outcome.UNKNOWN:
            return not_shown(now, tx.moment)
        return None


def _bounded(connected: Connected) -> asyncio.Timeout:
    """A question that hangs must not hold up all others, and the lead with them; it counts as not answered."""
    return asyncio.timeout(CALLS_LONG * connected.adapter.call_timeout.total_seconds())


def _asked(attempt: Attempt, current: Attempt) -> Outturn:
    """An attempt as it stands, with the question written that it was taken up for."""
    return Outturn(
        attempt=replace(current, settle_tries=attempt.settle_tries + 1),
        state=current.state,
        final_at=current.final_at,
        settle_at=current.settle_at,
    )


def _parked(current: Attempt) -> Outturn:
    """It stays as it is, and waits for a person."""
    return Outturn(attempt=current, state=current.state, final_at=current.final_at, code=current.code)


def _later(attempt: Attempt, current: Attempt, moment: Moment, told: Receipt | NotShown | None) -> Outturn:
    """Ask again after the next wait, or park it: no further time is set. That it was not shown once is noted."""
    tries = attempt.settle_tries
    settle_at = moment.real + ASK_AGAIN[tries] if tries < len(ASK_AGAIN) else None
    code = NOT_SHOWN if isinstance(told, NotShown) else None
    return replace(_asked(attempt, current), settle_at=settle_at, code=code)
