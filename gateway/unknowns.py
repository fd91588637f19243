"""Parked unknowns: what no provider can tell, a person decides, on record, and once.

    not_sent                                      nobody was reached: due again, through all checks
    sent                                          the provider took it, what became of it is not known
    delivered read failed                         of a message
    answered conversation voicemail no_answer busy failed      of a call

What a provider says before that stands, and what it says after it still moves the attempt up (gateway.outcomes).
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

from gateway import outcomes
from gateway.accounts import Accounts
from gateway.domain import Channel, Outcome, Receipt, Tenant
from gateway.endings import DispatchTx, after_receipt, outcome_entry
from gateway.errors import BadInput, Conflict, Fault, NotFound
from gateway.work import Attempt, Outturn

NOT_SENT = "not_sent"
_BOTH = {NOT_SENT: Outcome.REJECTED, "sent": Outcome.ACCEPTED, "failed": Outcome.FAILED}
MESSAGE: Mapping[str, Outcome] = _BOTH | {word.value: word for word in (Outcome.DELIVERED, Outcome.READ)}
CALL: Mapping[str, Outcome] = _BOTH | {
    word.value: word
    for word in (
        *(Outcome.ANSWERED, Outcome.CONVERSATION, Outcome.VOICEMAIL),
        *(Outcome.NO_ANSWER, Outcome.BUSY),
    )
}
"""What may be decided, and the attempt's state that it gives."""


class UnknownTx(DispatchTx, Protocol):
    """One transaction, as this uses it."""

    async def note(self, attempt: Attempt, word: str, *, who: str, reason: str) -> None:
        """Who decided what about it, and why, into the history."""


class UnknownStore(Protocol):
    """The store, as this uses it."""

    async def find(self, ref: str) -> Attempt | None:
        """An attempt by its ref, unlocked."""

    def transaction(self) -> AbstractAsyncContextManager[UnknownTx]:
        """One transaction."""


class Unknowns:
    """Settles what reconcile could not."""

    def __init__(self, store: UnknownStore, accounts: Accounts) -> None:
        self._store = store
        self._accounts = accounts

    async def settle(self, tenant: Tenant, ref: str, word: str, *, who: str, reason: str) -> dict[str, Any]:
        """Write what `who` decided about a parked attempt; {"ref", "reminder", "state"}.

        NotFound; BadInput for a word that is none of its channel's; Conflict `already_settled` when it is known by
        now, `still_asked` while its provider may yet tell.
        """
        seen = await self._store.find(ref)
        if seen is None or seen.tenant != tenant:
            raise NotFound
        outcome = _outcome(seen.channel, word)
        async with self._store.transaction() as tx:
            await tx.lock_persons([(seen.tenant, seen.person)])
            attempt = (await tx.attempts([ref]))[ref]
            _need_parked(attempt)
            outturn = await self._outturn(tx, attempt, outcome)
            await tx.finish([outturn])
            if outturn.refused:
                await tx.look_again([(attempt.tenant, attempt.person)])
            await tx.append([outcome_entry(outturn, tx.moment)])
            await tx.note(attempt, word, who=who, reason=reason)
        return {"ref": ref, "reminder": attempt.reminder, "state": outturn.state}

    async def _outturn(self, tx: DispatchTx, attempt: Attempt, outcome: Outcome) -> Outturn:
        """As after the provider's own word, or after a hand-over that surely came to nothing."""
        if outcome is Outcome.REJECTED:
            to_come = await tx.steps_to_come([attempt])
            return outcomes.not_sent_after_all(attempt, tx.moment, step_to_come=attempt.ref in to_come)
        said = Receipt(outcome=outcome, ref=attempt.ref, code=outcomes.DECIDED)
        outturn = await after_receipt(tx, attempt, said, self._accounts.ways(attempt.adapter))
        assert outturn is not None  # noqa: S101 (each of these words says more than unknown)
        return outturn


def _outcome(channel: Channel, word: str) -> Outcome:
    words = CALL if channel is Channel.VOICE else MESSAGE
    if word not in words:
        message = f"on this channel an attempt is one of: {', '.join(sorted(words))}"
        raise BadInput([Fault(at="/as", code="word_unknown", message=message)])
    return words[word]


def _need_parked(attempt: Attempt) -> None:
    if attempt.state != Outcome.UNKNOWN:
        raise Conflict(f"it is known by now: {attempt.state}", code="already_settled")
    if attempt.settle_at is not None:
        when = attempt.settle_at.isoformat(timespec="seconds")
        raise Conflict(f"its provider is asked next at {when}: wait for what it says", code="still_asked")
