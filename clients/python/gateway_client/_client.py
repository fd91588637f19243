"""The two clients: the same calls, tried in the same way, one waiting and one awaiting."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

import httpx2

from gateway_client import _calls as calls
from gateway_client._calls import Call, new_key
from gateway_client._errors import NotUnderstood
from gateway_client._tries import Answer, Lost, Retry, Tries, read
from gateway_client._version import __version__
from gateway_client._words import (
    Accepted,
    Borrower,
    Cancelled,
    Contact,
    ContactAnswer,
    ContactQuestion,
    ContactTaken,
    Debt,
    DebtEvent,
    DebtEventOf,
    DebtEventTaken,
    Filters,
    NamedBorrower,
    NamedDebt,
    NewReminder,
    Preview,
    Reminder,
    Result,
    Stored,
)

T = TypeVar("T")

CONNECT_TIMEOUT_S = 5.0
NOT_SENT = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout)
"""Failures before a connection stood: the gateway has seen nothing."""


class _Common:
    """What both clients are made of. `repr` shows the address, never the key."""

    def __init__(self, key: str, url: str, timeout_s: float, retry: Retry) -> None:
        if not key or not key.isascii() or not key.isprintable() or " " in key:
            raise ValueError("give an API key of the gateway: gw_live_… or gw_test_…")
        self._url, self._retry = url.rstrip("/"), retry
        self._settings: dict[str, Any] = {
            "base_url": self._url,
            "timeout": httpx2.Timeout(timeout_s, connect=min(timeout_s, CONNECT_TIMEOUT_S)),
            "headers": {
                "authorization": f"Bearer {key}",
                "accept": "application/json",
                "user-agent": f"outreach-gateway-client/{__version__}",
            },
        }

    def __repr__(self) -> str:
        return f"{type(self).__name__}(url={self._url!r})"

    def _tries(self) -> Tries:
        return Tries(self._retry, random.uniform)


def _request(call: Call[Any]) -> dict[str, Any]:
    headers = {} if call.body is None else {"content-type": "application/json"}
    return {"method": call.method, "url": call.path, "content": call.body, "headers": headers}


def _answer(reply: httpx2.Response) -> Answer:
    return Answer(
        status=reply.status_code, headers=reply.headers, content=reply.content, now=datetime.now(UTC)
    )


def _lost(failure: httpx2.RequestError) -> Lost:
    return Lost(what=type(failure).__name__, may_have_arrived=not isinstance(failure, NOT_SENT))


def _following(page: Any, after: str | None) -> str | None:
    """Where a list goes on; a list that does not move on is not the gateway's."""
    following: str | None = page["next"]
    if following is not None and following == after:
        raise NotUnderstood(200)
    return following


class Gateway(_Common):
    """The gateway, for code that waits. Use it in a `with` block, or `close` it; threads may share one.

    `timeout_s` bounds each wait for the network; `retry` says how patiently calls are tried again.
    Each call raises `Refused`, `NoAnswer` or `NotUnderstood`.
    """

    def __init__(
        self,
        key: str,
        *,
        url: str = "http://127.0.0.1:8080",
        timeout_s: float = 30.0,
        retry: Retry | None = None,
    ) -> None:
        super().__init__(key, url, timeout_s, retry or Retry())
        self._http = httpx2.Client(**self._settings)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the connections."""
        self._http.close()

    def enqueue(self, **reminder: Unpack[NewReminder]) -> Accepted:
        """Hand in one reminder. Without an `idempotency_key` it gets one, the same in every try."""
        return self._run(calls.enqueue(reminder, new_key))

    def enqueue_batch(self, reminders: Iterable[NewReminder]) -> list[Result]:
        """Hand in up to 1 000 reminders; one bad item does not spoil the rest."""
        return self._run(calls.enqueue_batch(reminders, new_key))["results"]

    def preview(self, **reminder: Unpack[NewReminder]) -> Preview:
        """What would be decided and rendered now; nothing is kept."""
        return self._run(calls.preview(reminder, new_key))

    def reminder(self, reminder_id: str) -> Reminder:
        """One reminder as it stands, with its decision and attempts."""
        return self._run(calls.reminder(reminder_id))

    def reminders(self, **filters: Unpack[Filters]) -> Iterator[Reminder]:
        """Every reminder that the filters leave; pages are fetched as they are needed."""
        after: str | None = None
        while True:
            page = self._run(calls.reminders(filters, after))
            yield from page["items"]
            if (after := _following(page, after)) is None:
                return

    def cancel(self, reminder_id: str, *, reason: str) -> Cancelled:
        """Stop one reminder, or what is to come of it; `Refused` with code `too_late` where nothing is."""
        return self._run(calls.cancel(reminder_id, reason))

    def put_borrower(self, borrower_id: str, /, **borrower: Unpack[Borrower]) -> Stored:
        """Set what is known of one borrower; what is not given stays."""
        return self._run(calls.put_borrower(borrower_id, borrower))

    def put_borrowers(self, borrowers: Iterable[NamedBorrower]) -> list[Result]:
        """Set what is known of up to 1 000 borrowers."""
        return self._run(calls.put_borrowers(borrowers))["results"]

    def put_debt(self, debt_id: str, /, **debt: Unpack[Debt]) -> Stored:
        """Set what is known of one debt; what is not given stays."""
        return self._run(calls.put_debt(debt_id, debt))

    def put_debts(self, debts: Iterable[NamedDebt]) -> list[Result]:
        """Set what is known of up to 1 000 debts."""
        return self._run(calls.put_debts(debts))["results"]

    def debt_event(self, debt_id: str, /, **event: Unpack[DebtEvent]) -> DebtEventTaken:
        """Say what happened to one debt; `paid` and `disputed` stop its waiting reminders."""
        return self._run(calls.debt_event(debt_id, event, new_key))

    def debt_events(self, events: Iterable[DebtEventOf]) -> list[Result]:
        """Say what happened to up to 1 000 debts."""
        return self._run(calls.debt_events(events, new_key))["results"]

    def contact(self, **made: Unpack[Contact]) -> ContactTaken:
        """Report one contact made elsewhere; it draws on the same caps."""
        return self._run(calls.contact(made, new_key))

    def contacts(self, made: Iterable[Contact]) -> list[Result]:
        """Report up to 1 000 contacts made elsewhere."""
        return self._run(calls.contacts(made, new_key))["results"]

    def check_contact(self, **question: Unpack[ContactQuestion]) -> ContactAnswer:
        """Ask whether a borrower may be reached now; a yes reserves a place for ten minutes."""
        return self._run(calls.check_contact(question))

    def _run(self, call: Call[T]) -> T:
        tries = self._tries()
        while True:
            got = self._send(call)
            if (pause := tries.pause_s(call, got)) is None:
                return read(call, got)
            time.sleep(pause)

    def _send(self, call: Call[Any]) -> Answer | Lost:
        try:
            return _answer(self._http.request(**_request(call)))
        except httpx2.RequestError as failure:
            return _lost(failure)


class AsyncGateway(_Common):
    """The gateway, for code that awaits. Use it in an `async with` block, or `aclose` it; tasks may share it.

    `timeout_s` bounds each wait for the network; `retry` says how patiently calls are tried again.
    Each call raises `Refused`, `NoAnswer` or `NotUnderstood`.
    """

    def __init__(
        self,
        key: str,
        *,
        url: str = "http://127.0.0.1:8080",
        timeout_s: float = 30.0,
        retry: Retry | None = None,
    ) -> None:
        super().__init__(key, url, timeout_s, retry or Retry())
        self._http = httpx2.AsyncClient(**self._settings)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Let go of the connections."""
        await self._http.aclose()

    async def enqueue(self, **reminder: Unpack[NewReminder]) -> Accepted:
        """Hand in one reminder. Without an `idempotency_key` it gets one, the same in every try."""
        return await self._run(calls.enqueue(reminder, new_key))

    async def enqueue_batch(self, reminders: Iterable[NewReminder]) -> list[Result]:
        """Hand in up to 1 000 reminders; one bad item does not spoil the rest."""
        return (await self._run(calls.enqueue_batch(reminders, new_key)))["results"]

    async def preview(self, **reminder: Unpack[NewReminder]) -> Preview:
        """What would be decided and rendered now; nothing is kept."""
        return await self._run(calls.preview(reminder, new_key))

    async def reminder(self, reminder_id: str) -> Reminder:
        """One reminder as it stands, with its decision and attempts."""
        return await self._run(calls.reminder(reminder_id))

    async def reminders(self, **filters: Unpack[Filters]) -> AsyncIterator[Reminder]:
        """Every reminder that the filters leave; pages are fetched as they are needed."""
        after: str | None = None
        while True:
            page = await self._run(calls.reminders(filters, after))
            for item in page["items"]:
                yield item
            if (after := _following(page, after)) is None:
                return

    async def cancel(self, reminder_id: str, *, reason: str) -> Cancelled:
        """Stop one reminder, or what is to come of it; `Refused` with code `too_late` where nothing is."""
        return await self._run(calls.cancel(reminder_id, reason))

    async def put_borrower(self, borrower_id: str, /, **borrower: Unpack[Borrower]) -> Stored:
        """Set what is known of one borrower; what is not given stays."""
        return await self._run(calls.put_borrower(borrower_id, borrower))

    async def put_borrowers(self, borrowers: Iterable[NamedBorrower]) -> list[Result]:
        """Set what is known of up to 1 000 borrowers."""
        return (await self._run(calls.put_borrowers(borrowers)))["results"]

    async def put_debt(self, debt_id: str, /, **debt: Unpack[Debt]) -> Stored:
        """Set what is known of one debt; what is not given stays."""
        return await self._run(calls.put_debt(debt_id, debt))

    async def put_debts(self, debts: Iterable[NamedDebt]) -> list[Result]:
        """Set what is known of up to 1 000 debts."""
        return (await self._run(calls.put_debts(debts)))["results"]

    async def debt_event(self, debt_id: str, /, **event: Unpack[DebtEvent]) -> DebtEventTaken:
        """Say what happened to one debt; `paid` and `disputed` stop its waiting reminders."""
        return await self._run(calls.debt_event(debt_id, event, new_key))

    async def debt_events(self, events: Iterable[DebtEventOf]) -> list[Result]:
        """Say what happened to up to 1 000 debts."""
        return (await self._run(calls.debt_events(events, new_key)))["results"]

    async def contact(self, **made: Unpack[Contact]) -> ContactTaken:
        """Report one contact made elsewhere; it draws on the same caps."""
        return await self._run(calls.contact(made, new_key))

    async def contacts(self, made: Iterable[Contact]) -> list[Result]:
        """Report up to 1 000 contacts made elsewhere."""
        return (await self._run(calls.contacts(made, new_key)))["results"]

    async def check_contact(self, **question: Unpack[ContactQuestion]) -> ContactAnswer:
        """Ask whether a borrower may be reached now; a yes reserves a place for ten minutes."""
        return await self._run(calls.check_contact(question))

    async def _run(self, call: Call[T]) -> T:
        tries = self._tries()
        while True:
            got = await self._send(call)
            if (pause := tries.pause_s(call, got)) is None:
                return read(call, got)
            await asyncio.sleep(pause)

    async def _send(self, call: Call[Any]) -> Answer | Lost:
        try:
            return _answer(await self._http.request(**_request(call)))
        except httpx2.RequestError as failure:
            return _lost(failure)
