"""The statements of intake. Every method is batched; locks are taken in the order of ids.

Locks go persons, borrowers, debts, reminders; idempotency keys are claimed last. Whoever finds that the
rows it reckoned with changed before it had their lock, or that another request was first with a key or an
id, ends Contended, and the whole work is done again on what is true by then.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Select,
    Table,
    and_,
    bindparam,
    case,
    delete,
    literal_column,
    or_,
    select,
    update,
)
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway import outcomes
from gateway.domain import Tenant, to_us
from gateway.errors import StoreRefused, Unavailable
from gateway.intake.asks import Row
from gateway.intake.rows import Address, Answer, Borrower, Debt, Joined, Known, Move, Waiting
from gateway.outcomes import CANCELLED
from gateway.ports import Entry, Moment
from gateway.store import intake_rows as rows_of
from gateway.store import schema
from gateway.store.among import listed, one_of
from gateway.store.database import Database, chunks
from gateway.store.due import IS_DUE
from gateway.store.facts import last_contact
from gateway.store.log import Log
from gateway.store.statements import Worded, add
from gateway.store.words import Words
from gateway.telemetry import get

T = TypeVar("T")

log = get(__name__)

TRIES = 8
"""How often contended work is begun."""
RECORDS, ROWS = 500, 1000
"""Records and rows that are made ready at a stretch."""
UNCALLED = ("waiting", "deferred", "sending")
"""States of reminders that can still be moved or cancelled, as long as `called` is false."""

REFUSED = "the store refused what was to be written: nothing was accepted; it was noted in the log"

_DEADLOCK = {"40P01", "40001"}

_REMINDER, _BORROWER, _ADDRESS, _DEBT = schema.reminder.c, schema.borrower.c, schema.address.c, schema.debt.c
_ATTEMPT, _RESERVATION = schema.attempt.c, schema.reservation.c
_TO_COME = or_(
    and_(_REMINDER.state.in_(UNCALLED), _REMINDER.called.is_(False)),
    and_(IS_DUE, _REMINDER.next_at.is_not(None)),
)
"""A call, or the next step of an escalation."""


class Contended(Exception):
    """Another request was first."""


class IntakeStore:
    """Transactions of intake."""

    def __init__(self, database: Database, log: Log) -> None:
        self._db = database
        self._log = log

    async def run(self, tenant: Tenant, work: Callable[[IntakeTx], Awaitable[T]]) -> T:
        """Do the work in one transaction; again where it ended Contended or in a deadlock."""
        for _ in range(TRIES):
            try:
                async with self._db.write() as conn:
                    return await work(
                        IntakeTx(conn, tenant, self._log, await self._db.moment(conn), self._db.moment)
                    )
            except Contended:
                continue
            except Unavailable as lost:
                if _sqlstate(lost) not in _DEADLOCK:
                    raise
            except DBAPIError as refused:
                log.exception("store_refused", error=type(refused).__name__)
                raise StoreRefused(REFUSED) from refused
        raise Unavailable("other requests change the same rows: nothing was accepted; send it again")


def _sqlstate(lost: Unavailable) -> str | None:
    return getattr(getattr(lost.__cause__, "orig", None), "sqlstate", None)


class IntakeTx:
    """gateway.intake.asks.IntakeTx over one connection."""

    def __init__(
        self,
        conn: AsyncConnection,
        tenant: Tenant,
        log: Log,
        moment: Moment,
        clock: Callable[[AsyncConnection], Awaitable[Moment]],
    ) -> None:
        self.conn = conn
        self.moment = moment
        self._clock = clock
        self._tenant = tenant
        self._log = log
        self._alone = conn.dialect.name == "sqlite"

    async def append(self, entries: Sequence[Entry]) -> None:
        """Write records of the send log, some at a time: to make one takes a while."""
        for part in chunks(entries, RECORDS):
            await self._log.append(self.conn, part)

    async def _rows(self, asked: Worded, keys: Iterable[str], **more: Any) -> Sequence[Any]:
        """What a statement finds of this tenant by `keys`."""
        given = list(keys)
        if not given:
            return []
        return await asked.run(
            self.conn, tenant=self._tenant, keys=listed(given) if self._alone else given, **more
        )

    async def _insert(self, table: Table, rows: Iterable[Row]) -> None:
        for part in chunks([{"tenant": self._tenant, **row} for row in rows], ROWS):
            await add(self.conn, table, part)

    async def _insert_first(self, table: Table, rows: Iterable[Row]) -> None:
        """Insert, in the order of the primary key; Contended when another was first with any."""
        keys = [column.name for column in table.primary_key]
        given = sorted(
            ({"tenant": self._tenant, **row} for row in rows), key=lambda row: [row[key] for key in keys]
        )
        if given and await add(self.conn, table, given, free=True) < len(given):
            raise Contended

    # Idempotency.

    async def answers(self, route: str, keys: Sequence[str]) -> dict[str, Answer]:
        """What these idempotency keys were answered before."""
        rows = await self._rows(_ANSWERS, keys, route=route)
        return {r.key: Answer(fingerprint=r.fingerprint, status=r.status, body=r.answer) for r in rows}

    async def claim(self, route: str, answers: Mapping[str, Answer]) -> None:
        """Keep answers. Waits for a request in flight with one of the keys; Contended once it committed."""
        at = to_us(self.moment.policy)
        await self._insert_first(
            schema.idempotency,
            [
                {
                    "route": route,
                    "key": key,
                    "fingerprint": answer.fingerprint,
                    "status": answer.status,
                    "answer": answer.body,
                    "at": at,
                }
                for key, answer in answers.items()
            ],
        )

    # Persons and borrowers.

    async def lock_persons(self, borrowers: Sequence[str], blinds: Sequence[bytes], *, share: bool) -> Known:
        """Lock the persons of borrowers and blind indexes; Contended when they changed before that.

        `moment` is read anew: of two duplicates the one that T1 decided on while this waited came first.
        """
        seen = await self._known(borrowers, blinds)
        if self._alone:
            return seen
        await self._rows(_PERSONS[share], {*seen.persons.values(), *seen.owners.values()})
        self.moment = await self._clock(self.conn)
        if await self._known(borrowers, blinds) != seen:
            raise Contended
        return seen

    async def _known(self, borrowers: Sequence[str], blinds: Sequence[bytes]) -> Known:
        persons = await self._rows(_PERSONS_OF, borrowers)
        owners = await self._owners(blinds) if blinds else []
        return Known(
            persons={r.id: r.person for r in persons}, owners={bytes(r.blind): r.person for r in owners}
        )

    async def _owners(self, blinds: Sequence[bytes]) -> Sequence[Any]:
        if not self._alone:
            return await _OWNERS.run(self.conn, tenant=self._tenant, blinds=blinds)
        identity, found = schema.identity.c, list[Any]()
        for part in chunks(blinds):
            found += await self.conn.execute(
                select(identity.blind, identity.person).where(
                    identity.tenant == self._tenant, identity.blind.in_(part)
                )
            )
        return found

    async def join(self, joined: Joined) -> None:
        """Make persons, name what they show, and move all that belongs to those that are no more."""
        at = to_us(self.moment.policy)
        await self._insert_first(schema.person, [{"id": name, "created_at": at} for name in joined.created])
        await self._insert_first(
            schema.identity, [{"blind": b, "person": person} for b, person in joined.identities.items()]
        )
        for gone, stays in sorted(joined.merged.items()):
            await self._merge(gone, stays)

    async def _merge(self, gone: str, stays: str) -> None:
        """Rows of one person become another's. Its own row stays, for whoever waits for its lock."""
        for table in (
            schema.borrower,
            schema.reminder,
            schema.attempt,
            schema.reservation,
            schema.identity,
        ):
            await self.conn.execute(
                update(table)
                .where(table.c.tenant == self._tenant, table.c.person == gone)
                .values(person=stays)
            )

    async def borrowers(self, ids: Sequence[str], *, lock: bool) -> dict[str, Borrower]:
        """Borrowers with their addresses, in order of position."""
        rows = await self._rows(_BORROWERS[lock], ids)
        addresses: dict[str, list[Address]] = {}
        found = await self._rows(_ADDRESSES, [r.id for r in rows])
        for row in sorted(found, key=lambda r: r.position):
            addresses.setdefault(row.borrower, []).append(rows_of.address(row))
        return {r.id: rows_of.borrower(r, addresses.get(r.id, ())) for r in rows}

    async def put_borrowers(self, rows: Sequence[Borrower], *, new: set[str], addressed: set[str]) -> None:
        """Write borrowers; those `addressed` get the addresses they carry and no others."""
        at = to_us(self.moment.policy)
        await self._insert_first(
            schema.borrower, [{"id": b.id, **rows_of.borrower_row(b, at)} for b in rows if b.id in new]
        )
        await self._update(
            schema.borrower, [(b.id, rows_of.borrower_row(b, at)) for b in rows if b.id not in new]
        )
        for part in chunks(sorted(addressed - new)):
            await self.conn.execute(
                delete(schema.address).where(_ADDRESS.tenant == self._tenant, _ADDRESS.borrower.in_(part))
            )
        await self._insert(
            schema.address,
            [rows_of.address_row(b.id, a) for b in rows if b.id in addressed for a in b.addresses],
        )

    async def _update(self, table: Table, rows: Sequence[tuple[str, Row]]) -> None:
        """Set columns of rows by id, all rows the same columns."""
        if not rows:
            return
        values: dict[str, Any] = {name: bindparam(name) for name in rows[0][1]}
        await self.conn.execute(
            update(table)
            .where(table.c.tenant == bindparam("k_tenant"), table.c.id == bindparam("k_id"))
            .values(**values),
            [{"k_tenant": self._tenant, "k_id": name, **row} for name, row in rows],
        )

    # Debts.

    async def debts(self, ids: Sequence[str], *, lock: str) -> dict[str, Debt]:
        """Debts; locked against change (`share`), to be changed (`write`), or not (`none`)."""
        return {r.id: rows_of.debt(r) for r in await self._rows(_DEBTS[lock], ids)}

    async def put_debts(self, rows: Sequence[Debt], *, new: set[str]) -> None:
        """Write debts."""
        at = to_us(self.moment.policy)
        await self._insert_first(
            schema.debt, [{"id": d.id, **rows_of.debt_row(d, at)} for d in rows if d.id in new]
        )
        await self._update(schema.debt, [(d.id, rows_of.debt_row(d, at)) for d in rows if d.id not in new])

    async def add_debt_events(self, rows: Sequence[Row]) -> None:
        """Keep what happened to debts."""
        await self._insert(schema.debt_event, rows)

    # Reminders and contacts.

    async def approvals(self, names: Sequence[str]) -> dict[tuple[str, int, str], bool]:
        """Approval by template, version and content hash, where somebody said."""
        rows = await self._rows(_APPROVALS, names)
        return {(r.template, r.version, r.content_hash): r.approved for r in rows}

    async def add_reminders(self, rows: Sequence[Row]) -> None:
        """Write new reminders."""
        await self._insert(schema.reminder, rows)

    async def waiting(self, *, debts: Sequence[str] = (), borrowers: Sequence[str] = ()) -> list[Waiting]:
        """Reminders of these debts and borrowers that are not over, by id."""
        return await self._waiting(_WAITING_ON[False], debts, _WAITING_FOR[False], borrowers)

    async def held(self, *, debts: Sequence[str] = (), borrowers: Sequence[str] = ()) -> list[Waiting]:
        """The same, locked: what is being decided on now is seen as it was decided.

        Not for whoever has locked a debt: go locks reminders before debts.
        """
        return await self._waiting(_WAITING_ON[True], debts, _WAITING_FOR[True], borrowers)

    async def _waiting(
        self, on: Worded, debts: Sequence[str], of: Worded, borrowers: Sequence[str]
    ) -> list[Waiting]:
        found: dict[str, Waiting] = {}
        for asked, names in ((on, debts), (of, borrowers)):
            found |= {r.id: rows_of.waiting(r) for r in await self._rows(asked, names)}
        return [found[name] for name in sorted(found)]

    async def move(self, moves: Sequence[Move]) -> None:
        """Set when reminders go; one that is being decided keeps its hour and learns the rest."""
        if moves:
            await self.conn.execute(
                _MOVE, [rows_of.move_row(self._tenant, move, to_us(self.moment.policy)) for move in moves]
            )

    async def cancel(self, name: str) -> Waiting | None:
        """Take back what is to come of a reminder: what it is then, None where nothing is.

        Go is guarded by the same row, so one of the two wins. Attempts are looked at once that is locked: whoever
        was waited for may have made one. Where one was a contact the reminder stands as that does, and follows it.
        """
        mine = and_(_REMINDER.tenant == self._tenant, _REMINDER.id == name)
        held = await self.conn.execute(select(_REMINDER.step).where(mine, _TO_COME).with_for_update())
        row = held.one_or_none()
        if row is None:
            return None
        contact = await last_contact(self.conn, self._tenant, name) if row.step else None
        stands: Row = {"state": CANCELLED, "reason": None}
        if contact is not None:
            state = outcomes.reminder_state(contact.state)
            stands = {"state": state, "reason": CANCELLED, "attempt": contact.ref, "called": True}
        rows = await self.conn.execute(
            update(schema.reminder)
            .where(mine)
            .values(**stands, by=None, next_at=None, updated_at=to_us(self.moment.policy))
            .returning(schema.reminder)
        )
        return rows_of.waiting(rows.one())

    async def state(self, name: str) -> tuple[str, str | None] | None:
        """A reminder's state, and its reason."""
        rows = await self.conn.execute(
            select(_REMINDER.state, _REMINDER.reason).where(
                _REMINDER.tenant == self._tenant, _REMINDER.id == name
            )
        )
        row = rows.one_or_none()
        return None if row is None else (row.state, row.reason)

    async def reservations(self, ids: Sequence[str]) -> dict[str, str]:
        """Reservations that no contact has named yet → their borrower."""
        rows = await self._rows(_UNUSED, set(ids))
        return {r.id: r.borrower for r in rows}

    async def add_contacts(self, rows: Sequence[Row], used: Sequence[str]) -> None:
        """Write contacts made elsewhere, and use up the reservations that they name."""
        await self._insert(schema.attempt, rows)
        for part in chunks(used):
            await self.conn.execute(
                update(schema.reservation)
                .where(_RESERVATION.tenant == self._tenant, _RESERVATION.id.in_(part))
                .values(used_at=to_us(self.moment.policy))
            )


def _by(key: ColumnElement[Any], *more: ColumnElement[Any]) -> Select[Any]:
    """Whole rows (these columns where some are named) of a tenant by many keys."""
    table = key.table
    columns = more or (table,)
    return select(*columns).where(table.c.tenant == bindparam("tenant"), one_of("keys", key))


_ANSWERS = Worded(_by(schema.idempotency.c.key).where(schema.idempotency.c.route == bindparam("route")))
_APPROVALS = Worded(_by(schema.template_approval.c.template))
_OWNERS = Words("SELECT blind, person FROM identity WHERE tenant = :tenant AND blind = ANY(:blinds)")
_PERSONS_OF = Worded(_by(_BORROWER.id, _BORROWER.id, _BORROWER.person))
_ADDRESSES = Worded(_by(_ADDRESS.borrower))
_UNUSED = Worded(_by(_RESERVATION.id).where(_RESERVATION.used_at.is_(None)))
_PERSONS = {
    share: Worded(
        _by(schema.person.c.id, schema.person.c.id)
        .order_by(schema.person.c.id)
        .with_for_update(read=share, key_share=not share)
    )
    for share in (True, False)
}
_BORROWERS = {
    False: Worded(_by(_BORROWER.id)),
    True: Worded(_by(_BORROWER.id).order_by(_BORROWER.id).with_for_update(key_share=True)),
}
_DEBTS = {
    "none": Worded(_by(_DEBT.id)),
    "share": Worded(_by(_DEBT.id).order_by(_DEBT.id).with_for_update(read=True)),
    "write": Worded(_by(_DEBT.id).order_by(_DEBT.id).with_for_update(key_share=True)),
}
_WAITING = (
    select(schema.reminder, (_ATTEMPT.state == "calling").label("calling"))
    .outerjoin(
        schema.attempt,
        and_(_ATTEMPT.tenant == _REMINDER.tenant, _ATTEMPT.ref == _REMINDER.attempt),
    )
    .where(
        _REMINDER.tenant == bindparam("tenant"),
        _REMINDER.state.in_([literal_column(f"'{state}'") for state in UNCALLED]),
    )
)
_HELD = _WAITING.order_by(_REMINDER.tenant, _REMINDER.id).with_for_update(of=schema.reminder)
_WAITING_ON, _WAITING_FOR = (
    {lock: Worded(some.where(one_of("keys", column))) for lock, some in ((False, _WAITING), (True, _HELD))}
    for column in (_REMINDER.debt, _REMINDER.borrower)
)
_MOVE = (
    update(schema.reminder)
    .where(
        _REMINDER.tenant == bindparam("k_tenant"),
        _REMINDER.id == bindparam("k_id"),
        or_(*(_REMINDER.state == state for state in UNCALLED)),
        _REMINDER.called.is_(False),
    )
    .values(
        next_at=case(
            (_REMINDER.state == "sending", _REMINDER.next_at), else_=bindparam("next_at", type_=BigInteger)
        ),
        due_date=bindparam("due_date"),
        not_before=bindparam("not_before"),
        expires_at=bindparam("expires_at"),
        updated_at=bindparam("updated_at"),
    )
)
