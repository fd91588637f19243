"""What services hand in: checked whole, written in one transaction, answered once per idempotency key.

Everything comes as a batch (single reminders that come at once are one) and gives one result per item, in order;
an item that is wrong spoils none of the others. What has to fit is checked under the locks and before anything
is written, so that one commit takes the whole batch or, when the store fails, nothing of it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar

from gateway.bodies import (
    Body,
    BorrowerIn,
    BorrowerItem,
    CancelIn,
    ContactIn,
    DebtItem,
    EventItem,
    ReminderIn,
    read,
)
from gateway.domain import Tenant
from gateway.errors import Conflict, KeyReused, NotFound
from gateway.intake import debts, steps
from gateway.intake.asks import Bindings, Blinds, IntakeStore, IntakeTx, Vault, Wake
from gateway.intake.results import Done, Intaken, Item, Result, done, in_order, take_in
from gateway.intake.rows import Answer, Move, Waiting
from gateway.intake.steps import Tools, Work
from gateway.intake.times import zones_of
from gateway.intake.together import Together
from gateway.masking import Pii
from gateway.ports import Entry
from gateway.templating import Catalog

__all__ = ["Done", "Intake", "Result"]

B = TypeVar("B", bound=Body)

LOOK_ANEW = frozenset({"zone_unknown", "no_address"})
"""Reasons to defer that end when the borrower is known."""

Step = Callable[[IntakeTx, list[Item[B]], Work], Awaitable[None]]


class Intake:
    """Takes in reminders, borrowers, debts, events and contacts. One per process."""

    def __init__(
        self,
        *,
        store: IntakeStore,
        vault: Vault,
        blinds: Blinds,
        catalog: Catalog,
        bindings: Bindings,
        wake: Wake,
        entropy: Callable[[int], bytes],
    ) -> None:
        self._store = store
        self._vault = vault
        self._wake = wake
        self._blinds = blinds
        self._catalog = catalog
        self._bindings = bindings
        self._entropy = entropy
        self._together = Together(self.reminders)

    async def reminder(self, tenant: Tenant, raw: object) -> Result:
        """Accept one reminder, in one commit with those that come at the same time."""
        return await self._together.one(tenant, raw)

    async def reminders(self, tenant: Tenant, raws: Sequence[object]) -> list[Result]:
        """Accept reminders: 202 each, durable when this returns."""
        tools = self._tools(tenant)
        taken = await take_in(ReminderIn, raws, keyed=True)
        inline = {i.body.borrower.id for i in taken.items if isinstance(i.body.borrower, BorrowerIn)}
        refs = {item.body.borrower_id for item in taken.items} - inline
        keys = {
            **await self._vault.keys_for(tenant, sorted(refs), create=False),
            **await self._vault.keys_for(tenant, sorted(inline), create=True),
        }

        async def step(tx: IntakeTx, items: list[Item[ReminderIn]], work: Work) -> None:
            await steps.accept(tx, tools, items, keys, work)

        return await self._keyed(tenant, "reminders", taken, len(raws), step)

    async def cancel(self, tenant: Tenant, reminder: str, raw: object) -> Done:
        """Take back what is to come of a reminder: it, or the next step of its escalation. The state that it has then.

        Again, the same answer. Conflict `too_late` where nothing is to come.
        """
        body = read(CancelIn, raw)

        async def within(tx: IntakeTx) -> str:
            gone = await tx.cancel(reminder)
            if gone is not None:
                await tx.append([_cancelled(tenant, tx.moment.policy, gone, body)])
                return gone.state
            match await tx.state(reminder):
                case None:
                    raise NotFound
                case ("cancelled" as state, _) | (state, "cancelled"):
                    return state
                case _:
                    raise Conflict("its provider was called, or it is over: see its state", code="too_late")

        return done(200, {"id": reminder, "state": await self._store.run(tenant, within)})

    async def borrowers(self, tenant: Tenant, raws: Sequence[object]) -> list[Result]:
        """Put borrowers: 200 each."""
        tools = self._tools(tenant)
        taken = await take_in(BorrowerItem, raws, keyed=False)
        names = sorted({item.body.id for item in taken.items})
        keys = await self._vault.keys_for(tenant, names, create=True)

        async def within(tx: IntakeTx) -> Work:
            work = Work(results=dict(taken.results))
            await steps.put_borrowers(tx, tools, taken.items, keys, work)
            return work

        return await self._settle(tenant, within, taken, len(raws))

    async def debts(self, tenant: Tenant, raws: Sequence[object]) -> list[Result]:
        """Put debts: 200 each."""
        tools = self._tools(tenant)
        taken = await take_in(DebtItem, raws, keyed=False)

        async def within(tx: IntakeTx) -> Work:
            work = Work(results=dict(taken.results))
            await steps.put_debts(tx, tools, taken.items, work)
            return work

        return await self._settle(tenant, within, taken, len(raws))

    async def events(self, tenant: Tenant, raws: Sequence[object]) -> list[Result]:
        """Take in what happened to debts; each answer lists what is stopped, and what was called already."""
        tools = self._tools(tenant)
        taken = await take_in(EventItem, raws, keyed=True)
        named = {item.body.debt for item in taken.items}

        async def step(tx: IntakeTx, items: list[Item[EventItem]], work: Work) -> None:
            await steps.happen(tx, tools, items, work)

        return await self._keyed(tenant, "debts.events", taken, len(raws), step, follow=named)

    async def contacts(self, tenant: Tenant, raws: Sequence[object]) -> list[Result]:
        """Take in contacts that were made elsewhere: 201 each."""
        tools = self._tools(tenant)
        taken = await take_in(ContactIn, raws, keyed=True)

        async def step(tx: IntakeTx, items: list[Item[ContactIn]], work: Work) -> None:
            await steps.contact(tx, tools, items, work)

        return await self._keyed(tenant, "contacts", taken, len(raws), step)

    def _tools(self, tenant: Tenant) -> Tools:
        return Tools(
            tenant=tenant,
            catalog=self._catalog,
            bindings=self._bindings,
            blind=self._blinds.blind,
            entropy=self._entropy,
        )

    async def _keyed(
        self,
        tenant: Tenant,
        route: str,
        taken: Intaken[B],
        count: int,
        step: Step[B],
        follow: Iterable[str] = (),
    ) -> list[Result]:
        """Do what is new and answer what is known, in one transaction.

        A key that stands twice in a batch is a replay of itself: it is looked at once the first was done.
        """
        prints = {i.index: self._blinds.blind("body", i.canonical) for i in taken.items}

        async def within(tx: IntakeTx) -> Work:
            work = Work(results=dict(taken.results), debts=set(follow))
            known = await tx.answers(route, sorted({item.key for item in taken.items}))
            fresh: dict[str, Answer] = {}
            pending = taken.items
            while pending:
                first, pending = _split(pending, known, prints, work)
                if first:
                    await step(tx, first, work)
                made = _answers(first, prints, work)
                known, fresh = known | made, fresh | made
            await tx.claim(route, fresh)
            return work

        return await self._settle(tenant, within, taken, count)

    async def _settle(
        self,
        tenant: Tenant,
        within: Callable[[IntakeTx], Awaitable[Work]],
        taken: Intaken[Any],
        count: int,
    ) -> list[Result]:
        """Commit, then see to reminders that wait for what changed, then ring."""
        if not taken.items:
            return in_order(taken.results, count)
        work = await self._store.run(tenant, within)
        rung = work.channels | await self._follow(tenant, work)
        if rung:
            self._wake.ring(rung)
        return in_order(work.results, count)

    async def _follow(self, tenant: Tenant, work: Work) -> set[str]:
        """Move reminders whose debt or borrower changed, in another transaction; channels with something due.

        Debts stay as they are until the moves are written, so that of two changes the later one has the
        last word; reminders are locked, as one that is decided on just now is waited for. What was committed
        and not followed, because the store failed in between, is followed when the request comes again.
        """
        if not (work.debts or work.borrowers):
            return set()

        async def within(tx: IntakeTx) -> set[str]:
            waiting = await tx.held(debts=sorted(work.debts), borrowers=sorted(work.borrowers))
            if not waiting:
                return set()
            now = tx.moment.policy
            current = await tx.debts(sorted({w.debt for w in waiting} & work.debts), lock="share")
            homes = await tx.borrowers(sorted({w.borrower for w in waiting if w.anchor}), lock=False)
            zones = {name: zones_of(borrower) for name, borrower in homes.items()}
            moves = debts.moves(waiting, current, zones, now)
            moves += _anew(waiting, work, {move.id for move in moves}, now)
            await tx.move(moves)
            due = {move.id for move in moves if move.next_at <= now}
            return {w.channel for w in waiting if w.id in due}

        return await self._store.run(tenant, within)


def _split(
    pending: list[Item[B]], known: Mapping[str, Answer], prints: Mapping[int, bytes], work: Work
) -> tuple[list[Item[B]], list[Item[B]]]:
    """Answer the items whose keys are known; of the others, the first of each key, and the rest."""
    first: dict[str, Item[B]] = {}
    rest: list[Item[B]] = []
    for item in pending:
        if item.key in known:
            work.results[item.index] = _replay(known[item.key], prints[item.index])
        elif item.key in first:
            rest.append(item)
        else:
            first[item.key] = item
    return list(first.values()), rest


def _answers(items: Iterable[Item[B]], prints: Mapping[int, bytes], work: Work) -> dict[str, Answer]:
    found = {}
    for item in items:
        result = work.results[item.index]
        if isinstance(result, Done):
            found[item.key] = Answer(fingerprint=prints[item.index], status=result.status, body=result.body)
    return found


def _replay(answer: Answer, fingerprint: bytes) -> Result:
    if answer.fingerprint != fingerprint:
        return KeyReused()
    return Done(status=answer.status, body=answer.body)


def _cancelled(tenant: Tenant, now: datetime, gone: Waiting, body: CancelIn) -> Entry:
    return Entry(
        tenant=tenant,
        kind="cancelled",
        at=now,
        reminder=gone.id,
        borrower=gone.borrower,
        channel=gone.channel,
        state=gone.state,
        ids={"debt": gone.debt},
        clear={"reason": Pii(body.reason)} if body.reason else {},
    )


def _anew(waiting: Iterable[Waiting], work: Work, moved: set[str], now: datetime) -> list[Move]:
    """Reminders that waited for what was not known of their borrower, or by a rule and what the borrower said."""
    return [
        Move(
            id=w.id,
            next_at=max(now, w.not_before or now),
            due_date=w.due_date,
            not_before=w.not_before,
            expires_at=w.expires_at,
        )
        for w in waiting
        if _may_open(w, work) and not w.called and w.id not in moved
    ]


def _may_open(waiting: Waiting, work: Work) -> bool:
    """Whether what was put of its borrower may end the reason that it waits for; a rule's id has a dot."""
    if waiting.reason in LOOK_ANEW:
        return waiting.borrower in work.borrowers
    by_rule = waiting.reason is not None and ("." in waiting.reason or waiting.reason in ("held", "review"))
    return by_rule and waiting.borrower in work.changed
