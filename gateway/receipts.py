"""What providers say later: callbacks are checked, translated by the adapter, and written to attempt and log."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol, cast
from urllib.parse import parse_qsl, urlsplit

from gateway.accounts import Accounts, Connected
from gateway.domain import Receipt
from gateway.endings import DispatchTx, after_receipt, freed, given_up_by, learn_from, outcome_entry
from gateway.errors import NotFound
from gateway.masking import Pii
from gateway.ports import Answer, Callback, Moment, Receives
from gateway.telemetry import Metrics
from gateway.texts import Texts
from gateway.work import Attempt, Key, Outturn

OVERTAKEN_S = (0.1, 0.3, 0.6, 1.0)
"""Pauses between looks for an id that is not known yet; providers wait five seconds for an answer."""


class ReceiptStore(Protocol):
    """The store, as receipts use it."""

    async def moment(self) -> Moment:
        """Both clocks."""

    async def find(self, ref: str) -> Attempt | None:
        """An attempt by its ref, unlocked."""

    async def refs_of(self, adapter: str, account: str, provider_ids: Sequence[str]) -> dict[str, str]:
        """Provider's id → our ref, unlocked."""

    def transaction(self) -> AbstractAsyncContextManager[DispatchTx]:
        """One transaction."""


class Callbacks:
    """Receives `/cb/{adapter}/{account}/{ref}`. An unknown ref is a 404 and leaves no trace."""

    def __init__(
        self, *, store: ReceiptStore, accounts: Accounts, texts: Texts, metrics: Metrics, public_url: str
    ) -> None:
        self._store = store
        self._accounts = accounts
        self._texts = texts
        self._metrics = metrics
        self._public_url = public_url

    async def receive(
        self,
        adapter: str,
        account: str,
        ref: str,
        *,
        method: str,
        target: str,
        headers: Mapping[str, str],
        body: bytes,
    ) -> Answer:
        """Answer a provider's request; `target` is its path and query as they came."""
        attempt = await self._store.find(ref)
        connected = self._connected(adapter, account, ref, attempt)
        query = dict(parse_qsl(urlsplit(target).query, keep_blank_values=True))
        receiver = cast("Receives", connected.adapter)
        unsigned = attempt is not None and not receiver.provider_signs  # an account's own ref is a token
        if unsigned and not self._linked(ref, query.get("t", "")):
            raise NotFound
        callback = Callback(
            method=method,
            url=self._public_url + target,
            ref=ref,
            headers=headers,
            query=query,
            body=body,
            now=(await self._store.moment()).real,
        )

        async def script() -> Pii[str] | None:
            return await self._texts.second(attempt) if attempt else None

        answer = await receiver.receive(callback, script)
        if answer.receipts and not await self.take(connected, answer.receipts):
            return Answer(status=503, body=b"not known yet: send it again")
        return answer

    def _connected(self, adapter: str, account: str, ref: str, attempt: Attempt | None) -> Connected:
        if attempt is not None:
            found = self._accounts.named(attempt.tenant, attempt.account)
            if found is None or (attempt.adapter, attempt.account) != (adapter, account):
                raise NotFound
        else:
            found = self._accounts.by_callback_token(adapter, account, ref)
        if found is None or not hasattr(found.adapter, "receive"):
            raise NotFound
        return found

    def _linked(self, ref: str, token: str) -> bool:
        return hmac.compare_digest(self._accounts.link(ref).encode(), token.encode())

    async def take(self, connected: Connected, receipts: Sequence[Receipt]) -> bool:
        """Write receipts of one account's provider; those that name no attempt of ours are counted and left.

        False when a provider's id is not known, or not yet: the provider does well to say it again.
        """
        account = connected.account
        refs = await self._refs(
            connected, {r.provider_id for r in receipts if r.ref is None and r.provider_id}
        )
        async with self._store.transaction() as tx:
            named = [(r.ref or refs.get(r.provider_id or ""), r) for r in receipts]
            known = await tx.attempts([ref for ref, _ in named if ref])
            ours = {ref: a for ref, a in known.items() if self._went_through(a, connected)}
            told = [(ours[ref], r) for ref, r in named if ref in ours]
            given_up = await self._write(tx, connected, told)
        await learn_from(self._store, told)  # before others of theirs are free
        await freed(self._store, given_up)
        self._metrics.receipts(account.adapter, known=len(told), strange=len(receipts) - len(told))
        return all(r.ref or r.provider_id in refs for r in receipts)

    def _went_through(self, attempt: Attempt, connected: Connected) -> bool:
        """Whether it is an attempt through this account: a shared one's provider pushes for all who share it."""
        found = self._accounts.named(attempt.tenant, attempt.account)
        return found is not None and found.pool == connected.pool

    async def _refs(self, connected: Connected, provider_ids: set[str]) -> dict[str, str]:
        """Provider's id → our ref. A receipt can overtake the answer that gives us the id: it is waited for."""
        refs: dict[str, str] = {}
        for pause in (0.0, *OVERTAKEN_S):
            missing = sorted(provider_ids - refs.keys())
            if not missing:
                break
            await asyncio.sleep(pause)
            refs |= await self._store.refs_of(connected.account.adapter, connected.account.name, missing)
        return refs

    async def _write(
        self, tx: DispatchTx, connected: Connected, told: Sequence[tuple[Attempt, Receipt]]
    ) -> list[Key]:
        """Write them; whose attempts came to nothing, because their provider gave them up."""
        latest: dict[str, Outturn] = {}
        given_up: list[Attempt] = []
        for attempt, receipt in told:
            before = latest.get(attempt.ref)
            now = _moved(attempt, before) if before else attempt
            outturn = await after_receipt(tx, now, receipt, connected.ways)
            if outturn is not None:
                latest[attempt.ref] = outturn
                await tx.finish([outturn])
                await tx.append([outcome_entry(outturn, tx.moment, "receipt")])
                if receipt.refusal is not None:
                    given_up.append(attempt)
                    await tx.learn([given_up_by(connected, attempt, receipt.refusal)])
        return [(attempt.tenant, attempt.person) for attempt in given_up]


def _moved(attempt: Attempt, outturn: Outturn) -> Attempt:
    fields: dict[str, Any] = {name: getattr(attempt, name) for name in attempt.__slots__}
    return Attempt(**fields | {"state": outturn.state})
