"""After a failover: what the new server does not know of calls is brought back from journals, then it thaws.

Whatever may have been called and has no ending is `unknown`, counts, and is asked of its provider; nothing of it is
sent again. What a journal does not tell of was surely not called: the sweep withdraws it, as always.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from itertools import islice
from typing import Any

import orjson
from sqlalchemy import bindparam, case, func, insert, or_, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway import outcomes
from gateway.domain import Mode, Tenant, to_us
from gateway.endings import outcome_entry
from gateway.errors import Conflict
from gateway.ports import Moment
from gateway.store import schema, server
from gateway.store.changes import Changes
from gateway.store.database import Database
from gateway.store.dispatch import DispatchTx
from gateway.store.journal import KEPT_S, Noted
from gateway.store.keys import EVERY
from gateway.store.live import keep_goes_out
from gateway.store.log import Log

SLICE = 500
CODE = "failover"
"""The code of attempts whose ending a failover made us forget."""

_ATTEMPT, _REMINDER, _BORROWER, _OWNER = (
    schema.attempt.c,
    schema.reminder.c,
    schema.borrower.c,
    schema.owner.c,
)
_LIVE, _IDEMPOTENCY = schema.live.c, schema.idempotency.c
_DEPLOYMENT = Tenant(f"{EVERY}/{Mode.LIVE}")

Key = tuple[str, str]
Marks = dict[Key, Noted]
"""By reminder the latest of its goes that are brought back."""


@dataclass(slots=True, kw_only=True)
class Thawed:
    """What it came to.

    `brought_back`: reminders of which the server did not know that they were called. `unknown`: calls that their
    providers are asked about now. `forgotten`: reminders that it does not know though they were called (tenant, id,
    idempotency key): whoever handed them in must not do so again.
    """

    brought_back: int = 0
    unknown: int = 0
    forgotten: list[Mapping[str, str]] = field(default_factory=list)


class _DryRun(Exception):
    """Nothing of it shall stay."""


class Failover:
    """What `gateway db thaw` does."""

    def __init__(
        self,
        database: Database,
        log: Log,
        entropy: Callable[[int], bytes],
        *,
        ways: Callable[[str], outcomes.Ways],
    ) -> None:
        self._db = database
        self._log = log
        self._changes = Changes(log, entropy)
        self._ways = ways

    async def thaw(
        self,
        noted: Iterable[Noted],
        *,
        heard: Collection[str],
        lost: Collection[str],
        who: str,
        reason: str,
        dry_run: bool,
    ) -> Thawed:
        """Bring back what was noted, and let calls be made again; in one transaction.

        `heard`: workers whose journals these are; `lost`: those whose journals are gone. Conflict `not_frozen`, and
        `journals_missing` that names workers which are neither.
        """
        thawed = Thawed()
        try:
            async with self._db.write() as conn:
                moment = await self._begin(conn)
                await _need_all(conn, {*heard, *lost})
                tx, marks = DispatchTx(conn, moment, self._log), Marks()
                for part in _parts(noted):
                    await self._count(tx, await _bring_back(tx, part, marks), thawed)
                thawed.brought_back = len(marks)
                await _take_for_called(conn, lost, marks)
                await _mark(conn, marks)
                await self._ask(tx, thawed)
                after = {"brought_back": thawed.brought_back, "unknown": thawed.unknown}
                after["forgotten"] = len(thawed.forgotten)
                await self._end(conn, moment, who, reason, after)
                if dry_run:
                    raise _DryRun  # noqa: TRY301 (it takes the transaction back)
        except _DryRun:
            pass
        return thawed

    async def nothing_lost(self, *, who: str, reason: str) -> None:
        """Let calls be made again on somebody's word that the server has every commit. Conflict `not_frozen`."""
        async with self._db.write() as conn:
            moment = await self._begin(conn)
            await self._end(conn, moment, who, reason, {"nothing_lost": True})

    async def _begin(self, conn: AsyncConnection) -> Moment:
        await keep_goes_out(conn)
        if not await server.frozen(conn):
            raise Conflict("nothing is frozen: this is the server that is written down", code="not_frozen")
        return await self._db.moment(conn)

    async def _end(
        self, conn: AsyncConnection, moment: Moment, who: str, reason: str, after: Mapping[str, Any]
    ) -> None:
        now = await server.standing(conn)
        await server.accept(conn)
        await self._changes.note(
            *(conn, moment, _DEPLOYMENT, who),
            kind="failover",
            name="thaw",
            before={"server": now.known},
            after={"server": now.answers, **after},
            reason=reason,
        )

    async def _count(self, tx: DispatchTx, forgotten: Sequence[Noted], thawed: Thawed) -> None:
        """What was called for reminders that are not there counts as contacts with borrowers that are."""
        places = {(o.attempt["tenant"], o.attempt["borrower"]) for o in forgotten}
        persons = await _persons(tx.conn, _BORROWER, places)
        contacts = [
            _contact_row(
                one, persons[place], to_us(tx.moment.policy + self._ways(one.attempt["adapter"]).final_after)
            )
            for one in forgotten
            if (place := (one.attempt["tenant"], one.attempt["borrower"])) in persons
        ]
        if contacts:
            await tx.conn.execute(insert(schema.attempt), contacts)
        thawed.forgotten += [
            {"tenant": o.attempt["tenant"], "id": o.attempt["reminder"], "idempotency_key": o.key}
            for o in forgotten
        ]

    async def _ask(self, tx: DispatchTx, thawed: Thawed) -> None:
        """Make every call without an ending unknown, to be asked about at once."""
        while refs := await _calling(tx.conn):
            called = list((await tx.attempts(refs)).values())
            assert called, "a call has a reminder"  # noqa: S101 (else this would never end)
            steps = await tx.steps_after(called)
            lost = [
                replace(
                    outcomes.unknown(a, self._ways(a.adapter), tx.moment, timedelta(0), steps.get(a.ref)),
                    code=CODE,
                )
                for a in called
            ]
            await tx.finish(lost)
            await tx.append([outcome_entry(o, tx.moment) for o in lost])
            thawed.unknown += len(lost)


def _parts(noted: Iterable[Noted]) -> Iterator[dict[str, Noted]]:
    """Goes by ref, some at a time; of two for one ref, whose first came too late, the later one counts."""
    rest = iter(noted)
    while part := list(islice(rest, SLICE)):
        yield {one.attempt["ref"]: one for one in part}


async def _need_all(conn: AsyncConnection, known: Collection[str]) -> None:
    """Conflict unless the journal of every worker that may have called before it froze is there, or known to be lost.

    Where no worker lived to see it freeze, the last heartbeat tells when that was.
    """
    seen = select(func.max(_OWNER.heartbeat_at)).scalar_subquery()
    froze = select(case((_LIVE.frozen_at < seen, _LIVE.frozen_at), else_=seen)).scalar_subquery()
    since = froze - int(KEPT_S * 1_000_000)
    owes = select(_ATTEMPT.owner).where(_ATTEMPT.state.in_(("intent", "calling")))
    rows = await conn.execute(
        select(_OWNER.id, _OWNER.place).where(or_(_OWNER.heartbeat_at > since, _OWNER.id.in_(owes)))
    )
    missing = sorted(f"{r.id} ({r.place})" for r in rows if r.id not in known)
    if missing:
        raise Conflict(
            f"the journals of these workers are missing: {', '.join(missing)}. Give their folders with --journal, or"
            " name those whose journals are gone with --lost",
            code="journals_missing",
        )


async def _bring_back(tx: DispatchTx, part: Mapping[str, Noted], marks: Marks) -> list[Noted]:
    """Let what was called stand as `calling`, as it did before; goes whose reminders are not there at all."""
    conn = tx.conn
    keys = [(one.attempt["tenant"], ref) for ref, one in part.items()]
    there = {
        r.ref: r.state
        for r in await conn.execute(
            select(_ATTEMPT.ref, _ATTEMPT.state).where(tuple_(_ATTEMPT.tenant, _ATTEMPT.ref).in_(keys))
        )
    }
    unmarked = [one for ref, one in part.items() if there.get(ref) == "intent"]
    missing = [one for ref, one in part.items() if ref not in there]
    stands = await _reminders(conn, missing)
    lost = [_as_it_stands(one, *stands[_place(one)]) for one in missing if _place(one) in stands]
    if unmarked:
        await tx.attempts([one.attempt["ref"] for one in unmarked])  # in the order of locks
        await conn.execute(_CALLED, [_called_row(one) for one in unmarked])
    if lost:
        await conn.execute(insert(schema.attempt_ref), [_ref_row(one) for one in lost])
        await conn.execute(insert(schema.attempt), [_attempt_row(one) for one in lost])
    for one in (*unmarked, *lost):
        latest = marks.setdefault(_place(one), one)
        if (one.attempt["fence"], one.at) > (latest.attempt["fence"], latest.at):
            marks[_place(one)] = one
    return [one for one in missing if _place(one) not in stands]


async def _reminders(conn: AsyncConnection, missing: Sequence[Noted]) -> dict[Key, tuple[str, str]]:
    """Of those that are there, by the place noted: their ids and persons as they stand.

    One that was forgotten and handed in again has another id, under the same idempotency key.
    """
    names = {_place(one): _place(one) for one in missing}
    found = await _persons(conn, _REMINDER, names.values())
    keys = {(one.attempt["tenant"], one.key): _place(one) for one in missing if _place(one) not in found}
    asked = tuple_(_IDEMPOTENCY.tenant, _IDEMPOTENCY.key).in_(sorted(keys))
    for row in await conn.execute(
        select(_IDEMPOTENCY.tenant, _IDEMPOTENCY.key, _IDEMPOTENCY.answer).where(
            _IDEMPOTENCY.route == "reminders", asked
        )
    ):
        names[keys[row.tenant, row.key]] = row.tenant, orjson.loads(row.answer)["id"]
    found |= await _persons(conn, _REMINDER, [name for name in names.values() if name not in found])
    return {place: (name[1], found[name]) for place, name in names.items() if name in found}


async def _persons(conn: AsyncConnection, table: Any, keys: Iterable[Key]) -> dict[Key, str]:
    """Whose these rows (tenant, id) of a table are."""
    rows = await conn.execute(
        select(table.tenant, table.id, table.person).where(
            tuple_(table.tenant, table.id).in_(sorted(set(keys)))
        )
    )
    return {(r.tenant, r.id): r.person for r in rows}


async def _mark(conn: AsyncConnection, marks: Marks) -> None:
    """Let reminders stand as T1 and go left them; a cancel that was confirmed meanwhile stands."""
    if marks:
        await conn.execute(_SENDING, [_mark_row(marks[place]) for place in sorted(marks)])


async def _take_for_called(conn: AsyncConnection, lost: Collection[str], marks: Marks) -> None:
    """Of workers whose journals are gone, an intent may be one whose go was forgotten."""
    rows = await conn.execute(
        update(schema.attempt)
        .where(_ATTEMPT.state == "intent", _ATTEMPT.owner.in_(sorted(lost)))
        .values(state="calling", called_at=_ATTEMPT.started_at)
        .returning(_ATTEMPT.tenant, _ATTEMPT.ref, _ATTEMPT.reminder, _ATTEMPT.fence, _ATTEMPT.started_at)
    )
    for row in rows:
        if (row.tenant, row.reminder) not in marks:
            noted = {"tenant": row.tenant, "ref": row.ref, "reminder": row.reminder, "fence": row.fence}
            marks[row.tenant, row.reminder] = Noted(at=row.started_at, key="", step=0, attempt=noted)


async def _calling(conn: AsyncConnection) -> list[str]:
    rows = await conn.execute(select(_ATTEMPT.ref).where(_ATTEMPT.state == "calling").limit(SLICE))
    return [r.ref for r in rows]


def _larger(column: Any, bound: str) -> Any:
    return case((column < bindparam(bound), bindparam(bound)), else_=column)


_CALLED = (
    update(schema.attempt)
    .where(
        _ATTEMPT.tenant == bindparam("k_tenant"),
        _ATTEMPT.ref == bindparam("k_ref"),
        _ATTEMPT.state == "intent",
    )
    .values(state="calling", called_at=bindparam("at"))
)
_SENDING = (
    update(schema.reminder)
    .where(_REMINDER.tenant == bindparam("k_tenant"), _REMINDER.id == bindparam("k_id"))
    .values(
        state=case((_REMINDER.state == "cancelled", _REMINDER.state), else_="sending"),
        attempt=bindparam("k_ref"),
        called=True,
        next_at=None,
        fence=_larger(_REMINDER.fence, "k_fence"),
        step=_larger(_REMINDER.step, "k_step"),
    )
)


def _place(noted: Noted) -> Key:
    return noted.attempt["tenant"], noted.attempt["reminder"]


def _as_it_stands(noted: Noted, reminder: str, person: str) -> Noted:
    return replace(noted, attempt={**noted.attempt, "reminder": reminder, "person": person})


def _called_row(noted: Noted) -> dict[str, Any]:
    return {"k_tenant": noted.attempt["tenant"], "k_ref": noted.attempt["ref"], "at": noted.at}


def _mark_row(noted: Noted) -> dict[str, Any]:
    row = noted.attempt
    return {
        "k_tenant": row["tenant"],
        "k_id": row["reminder"],
        "k_ref": row["ref"],
        "k_fence": row["fence"],
        "k_step": noted.step,
    }


def _ref_row(noted: Noted) -> dict[str, Any]:
    return {
        key: noted.attempt[key] for key in ("ref", "tenant", "started_at", "reminder", "adapter", "account")
    }


def _attempt_row(noted: Noted) -> dict[str, Any]:
    return {**noted.attempt, "state": "calling", "called_at": noted.at}


def _contact_row(noted: Noted, person: str, final_at: int) -> dict[str, Any]:
    """A contact of which nobody knows how it ended."""
    row = {**noted.attempt, "person": person, "state": "unknown", "called_at": noted.at, "final_at": final_at}
    return {**row, "origin": "contact", "reminder": None, "deadline": None, "owner": None}
