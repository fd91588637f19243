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

from sqlalchemy import bindparam, case, insert, or_, select, tuple_, update
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

_ATTEMPT, _REMINDER, _PERSON, _OWNER = (
    schema.attempt.c,
    schema.reminder.c,
    schema.person.c,
    schema.owner.c,
)
_DEPLOYMENT = Tenant(f"{EVERY}/{Mode.LIVE}")

Key = tuple[str, str]


@dataclass(slots=True, kw_only=True)
class Thawed:
    """What it came to. `brought_back`: attempts the server did not know; `unknown`: all that is asked of providers now.

    `forgotten`: reminders that it does not know though they were called (tenant, id, idempotency key): whoever handed
    them in must not do so again.
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
                await _need_all(conn, moment, {*heard, *lost})
                for part in _parts(noted):
                    await _bring_back(conn, part, thawed)
                await _take_for_called(conn, lost)
                await self._ask(DispatchTx(conn, moment, self._log), thawed)
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


async def _need_all(conn: AsyncConnection, moment: Moment, known: Collection[str]) -> None:
    """Conflict unless the journal of every worker that may have called lately is there, or known to be lost."""
    since = to_us(moment.real - timedelta(seconds=KEPT_S))
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


async def _bring_back(conn: AsyncConnection, part: Mapping[str, Noted], thawed: Thawed) -> None:
    """Let what was called stand as `calling`, as it did before: attempts that are not there, and those never marked."""
    there = {
        r.ref: r.state
        for r in await conn.execute(
            select(_ATTEMPT.ref, _ATTEMPT.state).where(
                tuple_(_ATTEMPT.tenant, _ATTEMPT.ref).in_([(o.attempt["tenant"], r) for r, o in part.items()])
            )
        )
    }
    unmarked = [one for ref, one in part.items() if there.get(ref) == "intent"]
    missing = [one for ref, one in part.items() if ref not in there]
    reminders = await _there(conn, _REMINDER, {_place(one) for one in missing})
    lost = [one for one in missing if _place(one) in reminders]
    if unmarked:
        await conn.execute(
            update(schema.attempt)
            .where(_ATTEMPT.tenant == bindparam("k_tenant"), _ATTEMPT.ref == bindparam("k_ref"))
            .values(state="calling", called_at=bindparam("at")),
            [{"k_tenant": o.attempt["tenant"], "k_ref": o.attempt["ref"], "at": o.at} for o in unmarked],
        )
    if lost:
        await conn.execute(insert(schema.attempt_ref), [_ref_row(one) for one in lost])
        await conn.execute(insert(schema.attempt), [_attempt_row(one) for one in lost])
    if unmarked or lost:
        await conn.execute(_MARK, [_mark_row(one) for one in (*unmarked, *lost)])
    thawed.brought_back += len(lost)
    await _count(conn, [one for one in missing if _place(one) not in reminders], thawed)


async def _count(conn: AsyncConnection, forgotten: Sequence[Noted], thawed: Thawed) -> None:
    """What was called for reminders that are not there counts as contacts, of persons that are."""
    persons = await _there(conn, _PERSON, {(o.attempt["tenant"], o.attempt["person"]) for o in forgotten})
    contacts = [_contact_row(o) for o in forgotten if (o.attempt["tenant"], o.attempt["person"]) in persons]
    if contacts:
        await conn.execute(insert(schema.attempt), contacts)
    thawed.forgotten += [
        {"tenant": o.attempt["tenant"], "id": o.attempt["reminder"], "idempotency_key": o.key}
        for o in forgotten
    ]


async def _there(conn: AsyncConnection, table: Any, keys: Collection[Key]) -> set[Key]:
    """Which of these (tenant, id) a table has."""
    rows = await conn.execute(
        select(table.tenant, table.id).where(tuple_(table.tenant, table.id).in_(sorted(keys)))
    )
    return {(r.tenant, r.id) for r in rows}


async def _take_for_called(conn: AsyncConnection, lost: Collection[str]) -> None:
    """Of workers whose journals are gone, an intent may be one whose go was forgotten."""
    where = _ATTEMPT.state == "intent", _ATTEMPT.owner.in_(sorted(lost))
    rows = await conn.execute(
        update(schema.attempt)
        .where(*where)
        .values(state="calling", called_at=_ATTEMPT.started_at)
        .returning(_ATTEMPT.tenant, _ATTEMPT.ref, _ATTEMPT.reminder, _ATTEMPT.fence)
    )
    marks = [
        {"k_tenant": r.tenant, "k_id": r.reminder, "k_ref": r.ref, "k_fence": r.fence}
        for r in rows
        if r.reminder
    ]
    if marks:
        await conn.execute(_MARK, marks)


async def _calling(conn: AsyncConnection) -> list[str]:
    rows = await conn.execute(select(_ATTEMPT.ref).where(_ATTEMPT.state == "calling").limit(SLICE))
    return [r.ref for r in rows]


_MARK = (
    update(schema.reminder)
    .where(_REMINDER.tenant == bindparam("k_tenant"), _REMINDER.id == bindparam("k_id"))
    .values(
        state="sending",
        attempt=bindparam("k_ref"),
        called=True,
        next_at=None,
        fence=case((_REMINDER.fence < bindparam("k_fence"), bindparam("k_fence")), else_=_REMINDER.fence),
    )
)
"""As T1 and go left it."""


def _place(noted: Noted) -> Key:
    return noted.attempt["tenant"], noted.attempt["reminder"]


def _mark_row(noted: Noted) -> dict[str, Any]:
    row = noted.attempt
    return {
        "k_tenant": row["tenant"],
        "k_id": row["reminder"],
        "k_ref": row["ref"],
        "k_fence": row["fence"],
    }


def _ref_row(noted: Noted) -> dict[str, Any]:
    return {
        key: noted.attempt[key] for key in ("ref", "tenant", "started_at", "reminder", "adapter", "account")
    }


def _attempt_row(noted: Noted) -> dict[str, Any]:
    return {**noted.attempt, "state": "calling", "called_at": noted.at}


def _contact_row(noted: Noted) -> dict[str, Any]:
    """A contact of which nobody knows how it ended: it counts for good."""
    row = {**noted.attempt, "state": "unknown", "called_at": noted.at}
    return {**row, "origin": "contact", "reminder": None, "deadline": None, "owner": None}
