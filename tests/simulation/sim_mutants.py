"""Wrong designs, sown into the real code from outside: the ledger must give each of them away."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from unittest.mock import patch

import sim_providers

from gateway import endings, starts
from gateway.domain import HandOver, Outcome
from gateway.errors import Unavailable
from gateway.reconcile import Reconcile
from gateway.starts import Starts
from gateway.store.dispatch import DispatchStore, DispatchTx
from gateway.store.guard import Stands
from gateway.sweep import Sweep
from gateway.work import Outturn, Went


async def _go_without_fence(self, intents, owner, word, book):
    await _GO(self, intents, owner, word, book)
    return Went(granted=frozenset(i.ref for i in intents), refused={})


async def _go_unheard_is_given(self, intents, owner, word, book):
    try:
        return await _GO(self, intents, owner, word, book)
    except Unavailable:
        return Went(granted=frozenset(i.ref for i in intents), refused={})


async def _call_before_go(self, started, word):
    """The call is made, and go is asked for beside it."""
    for one, slot in started:
        self._spawn(self._call(one, replace(slot, latest=float("inf"))))
    try:
        await self._store.go([one.ready.intent for one, _ in started], self._owner.id, word, self._live.book)
    except Unavailable:
        pass
    finally:
        self._going -= 1
        if not self._going:
            self._no_go.set()


async def _time_out_is_no_call(ready, message):
    handed = await _HAND_OVER(ready, message)
    return replace(handed, ending=HandOver.NOT_SENT) if handed.ending is HandOver.UNKNOWN else handed


async def _unknown_is_free(self, attempt, receipt):
    async with self._store.transaction() as tx:
        now = (await tx.attempts([attempt.ref]))[attempt.ref]
        if now.state == Outcome.UNKNOWN:
            free = {"reminder_state": "waiting", "next_at": tx.moment.policy, "refused": True}
            await tx.finish([Outturn(attempt=now, state="rejected", final_at=tx.moment.policy, **free)])


async def _the_dead_called_nobody(self):
    dead = await self._graves.dead()
    if dead:
        async with self._store.transaction() as tx:
            left = (await tx.orphans(dead, 500)).values()
            await tx.void([(a.tenant, a.ref) for a in left], from_states=("intent", "calling"))


async def _unknowns_do_not_count(self, subjects):
    facts = await _FACTS(self, subjects)
    history = {
        key: [past for past in pasts if past.state != "unknown"] for key, pasts in facts.history.items()
    }
    return replace(facts, history=history)


async def _nobody_buries(self):
    """What the dead left stays."""


def _always(self, ended, attempt, moment):
    return endings.outcomes.after_call(ended.ready.called(attempt), ended.handed, moment, self._quarantine)


_GO, _FACTS, _HAND_OVER = DispatchStore.go, DispatchTx.facts, starts.hand_over

MUTANTS = {
    "go without a fence": [(DispatchStore, "go", _go_without_fence)],
    "a go whose answer is lost counts as given": [(DispatchStore, "go", _go_unheard_is_given)],
    "called before its go": [(Starts, "_go", _call_before_go)],
    "a time-out is no call": [(starts, "hand_over", _time_out_is_no_call)],
    "an unknown is free after its quarantine": [(Reconcile, "_settle", _unknown_is_free)],
    "what the dead were calling is free": [(Sweep, "_bury", _the_dead_called_nobody)],
    "asked again where there is no key": [(sim_providers.Provider, "again_within", timedelta(minutes=8))],
    "an unknown is not counted": [(DispatchTx, "facts", _unknowns_do_not_count)],
    "go reads no pauses": [(Stands, "barred", lambda _stands, _starts: {})],
    "nobody marks what the dead left": [(Sweep, "_bury", _nobody_buries)],
    "an outcome is written whatever became of the rows": [(endings.Endings, "_outturn", _always)],
    "a slot does not pass": [(starts, "LATE_US", 60_000_000)],
}


@contextmanager
def sown(name):
    """The code with one mistake in it."""
    (where, what, instead) = MUTANTS[name][0]
    with patch.object(where, what, instead, create=True):
        yield
