"""Statements of questions: a reminder taken in and undone, a place kept in the caps."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

from sqlalchemy import insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.asks import Reservation
from gateway.domain import Tenant, to_us
from gateway.ports import Moment
from gateway.store import schema
from gateway.store.database import Database
from gateway.store.dispatch import DispatchTx
from gateway.store.intake import IntakeTx
from gateway.store.log import Log
from gateway.work import Due, Subject

T = TypeVar("T")


class _Undo(Exception):
    """Rolls a transaction back."""


class AskStore:
    """Transactions of questions."""

    def __init__(self, database: Database, log: Log) -> None:
        self._db = database
        self._log = log

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AskTx]:
        """One transaction."""
        async with self._db.write() as conn:
            yield AskTx(conn, await self._db.moment(conn), self._log)

    @asynccontextmanager
    async def undone(self) -> AsyncIterator[tuple[WithinOne, AskTx]]:
        """One transaction of intake and dispatch together that is rolled back at its end."""
        try:
            async with self._db.write() as conn:
                moment = await self._db.moment(conn)
                yield WithinOne(conn, moment, self._log), AskTx(conn, moment, self._log)
                raise _Undo  # noqa: TRY301 (it is how the transaction is told to roll back)
        except _Undo:
            return


class WithinOne:
    """gateway.intake.asks.IntakeStore within a transaction that somebody else ends."""

    def __init__(self, conn: AsyncConnection, moment: Moment, log: Log) -> None:
        self._conn = conn
        self._moment = moment
        self._log = log

    async def run(self, tenant: Tenant, work: Callable[[IntakeTx], Awaitable[T]]) -> T:
        """Do the work."""
        return await work(IntakeTx(self._conn, tenant, self._log, self._moment, self._same))

    async def _same(self, _conn: AsyncConnection) -> Moment:
        """All of it happens at one moment."""
        return self._moment


class AskTx(DispatchTx):
    """Statements of questions, beside those of dispatch."""

    async def due_now(self, tenant: Tenant, reminder: str) -> Due:
        """Make a reminder due, whatever its time."""
        table = schema.reminder.c
        row = (
            await self.conn.execute(
                update(schema.reminder)
                .where(table.tenant == tenant, table.id == reminder)
                .values(next_at=to_us(self.moment.policy))
                .returning(table.person, table.borrower)
            )
        ).one()
        return Due(tenant=tenant, id=reminder, person=row.person, borrower=row.borrower)

    async def subject(self, tenant: Tenant, borrower: str, debt: str) -> Subject | None:
        """Whom a borrower's id and a debt's stand for; None when there is no such pair."""
        person = await self.conn.scalar(
            select(schema.borrower.c.person)
            .join(
                schema.debt,
                (schema.debt.c.tenant == schema.borrower.c.tenant)
                & (schema.debt.c.borrower == schema.borrower.c.id),
            )
            .where(
                schema.borrower.c.tenant == tenant, schema.borrower.c.id == borrower, schema.debt.c.id == debt
            )
        )
        if person is None:
            return None
        return Subject(tenant=tenant, person=person, borrower=borrower, debt=debt)

    async def reserve(self, reservation: Reservation) -> None:
        """Keep a place."""
        subject = reservation.subject
        await self.conn.execute(
            insert(schema.reservation).values(
                tenant=subject.tenant,
                id=reservation.id,
                person=subject.person,
                borrower=subject.borrower,
                debt=subject.debt,
                creditor=reservation.creditor,
                channel=reservation.channel,
                address=reservation.address,
                recipient_role=reservation.recipient_role,
                actor_id=reservation.actor_id,
                at=to_us(self.moment.policy),
                until=to_us(reservation.until),
            )
        )
