"""What follows a pause, in SQL (gateway.followup.FollowUpStore)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from typing import Any

import orjson
from sqlalchemy import Row, and_, or_, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.domain import Outcome, Tenant, to_us
from gateway.followup import Handed, Stopped
from gateway.ports import Moment
from gateway.store import schema, stopped
from gateway.store.changes import Changes
from gateway.store.database import Database
from gateway.store.due import make_due
from gateway.store.live import raise_seq
from gateway.store.log import Log
from gateway.store.pauses import pause_of

ITSELF = "gateway"
"""Who ends what ends by itself."""
SLICE = 1000
MOST = 1000
"""Attempts of a stop that are asked back, the newest."""
ROUND = 50
"""Of these, in one round."""
QUEUES_LAST = timedelta(hours=10)
"""The longest that a provider queues what it was handed (Twilio's messages)."""
GOES_ON = timedelta(seconds=60)
"""How long after an end somebody may still be put off by a worker that has not heard of it."""

_WAITS = (
    ", (SELECT MIN(CASE WHEN followed THEN until ELSE 0 END) FROM pause"
    "   WHERE (resumed_at IS NULL AND until IS NOT NULL) OR NOT followed)"
)
_PAUSE, _REMINDER, _ATTEMPT = schema.pause.c, schema.reminder.c, schema.attempt.c


class FollowUps:
    """gateway.followup.FollowUpStore."""

    def __init__(self, database: Database, log: Log, entropy: Callable[[int], bytes]) -> None:
        self._db = database
        self._changes = Changes(log, entropy)

    async def waits(self) -> bool:
        """Whether anything is to be followed up, or has come to its end."""
        async with self._db.read() as conn:
            moment, (asks,) = await self._db.moment_and(conn, _WAITS)
            first = None if asks is None else int(asks)
            return first is not None and first <= to_us(moment.policy)

    async def end(self) -> None:
        """End those whose time is over, on record."""
        over = select(schema.pause).where(_PAUSE.resumed_at.is_(None), _PAUSE.until.is_not(None))
        async with self._db.read() as conn:
            now = to_us((await self._db.moment(conn)).policy)
            if not (await conn.execute(over.where(_PAUSE.until <= now).limit(1))).all():
                return
        async with self._db.write() as conn:
            moment = await self._db.moment(conn)
            ended = over.where(_PAUSE.until <= to_us(moment.policy)).limit(SLICE).with_for_update()
            for row in (await conn.execute(ended)).all():
                await self._end(conn, moment, row)

    async def _end(self, conn: AsyncConnection, moment: Moment, row: Row[Any]) -> None:
        await conn.execute(
            update(schema.pause)
            .where(_PAUSE.owner == row.owner, _PAUSE.id == row.id)
            .values(
                resumed_by=ITSELF,
                resumed_at=to_us(moment.real),
                followed=False,
                seq=await raise_seq(conn),
            )
        )
        await self._changes.note(
            conn,
            moment,
            Tenant(row.owner),
            ITSELF,
            kind="pause",
            name=row.id,
            before={"kind": row.kind},
            after={"state": "resuming", "ramp_s": row.ramp_s},
            reason="its time was over",
        )

    async def let_go(self) -> bool:
        """Make due a slice of what waits under those that ended; whether there may be more."""
        async with self._db.read() as conn:
            moment = await self._db.moment(conn)
            rows = await conn.execute(
                select(_PAUSE.owner, _PAUSE.id, _PAUSE.resumed_at).where(
                    _PAUSE.followed.is_(False), _PAUSE.resumed_at.is_not(None)
                )
            )
            ended = list(rows)
        if not ended:
            return False
        async with self._db.write() as conn:
            over = to_us(moment.real - GOES_ON)
            those = _REMINDER.by.in_([row.id for row in ended])
            freed = await make_due(conn, those, most=SLICE, now=to_us(moment.policy))
            if freed < SLICE:
                await _done(conn, [(r.owner, r.id) for r in ended if r.resumed_at < over])
        return freed == SLICE

    async def stops(self, recallable: Sequence[str]) -> list[Stopped]:
        """Stops that were not followed up yet, with what these adapters might take back."""
        async with self._db.read() as conn:
            rows = await conn.execute(
                select(schema.pause).where(
                    _PAUSE.followed.is_(False), _PAUSE.resumed_at.is_(None), _PAUSE.kind == "stop"
                )
            )
            return [await _stopped(conn, row, recallable) for row in rows.all()]

    async def followed(self, stop: Stopped, recalled: Iterable[str], may_arrive: Iterable[str]) -> None:
        """Note what a provider took back and what it did not; the stop is done with when nothing is left."""
        mine = (_PAUSE.owner == stop.owner, _PAUSE.id == stop.id)
        async with self._db.write() as conn:
            row = (await conn.execute(select(schema.pause).where(*mine).with_for_update())).one()
            await conn.execute(
                update(schema.pause)
                .where(*mine)
                .values(
                    recalled=_more(row.recalled, recalled),
                    may_arrive=_more(row.may_arrive, may_arrive),
                    followed=not stop.handed and row.resumed_at is None,
                )
            )


async def _done(conn: AsyncConnection, keys: Sequence[tuple[str, str]]) -> None:
    if keys:
        await conn.execute(
            update(schema.pause).where(tuple_(_PAUSE.owner, _PAUSE.id).in_(keys)).values(followed=True)
        )


async def _stopped(conn: AsyncConnection, row: Row[Any], recallable: Sequence[str]) -> Stopped:
    """A stop with what is still to be asked about."""
    pause = pause_of(row)
    asked = {*orjson.loads(row.recalled), *orjson.loads(row.may_arrive)}
    queued = and_(
        _ATTEMPT.state == Outcome.ACCEPTED,
        _ATTEMPT.deadline > row.at - QUEUES_LAST // timedelta(microseconds=1),
        _ATTEMPT.adapter.in_(recallable),
    )
    under_way = and_(
        _ATTEMPT.ref.in_(orjson.loads(row.calling)),
        _ATTEMPT.state.in_(("calling", Outcome.ACCEPTED, Outcome.UNKNOWN)),
    )
    found = [
        call
        for call in await stopped.calls(conn, pause, or_(queued, under_way), limit=MOST)
        if call.ref not in asked
    ]
    return Stopped(
        owner=pause.owner,
        id=pause.id,
        handed=tuple(
            Handed(
                tenant=call.tenant,
                ref=call.ref,
                account=call.account,
                calling=call.state == "calling",
                provider_id=call.provider_id,
            )
            for call in found[:ROUND]
        ),
    )


def _more(stands: str, refs: Iterable[str]) -> str:
    return orjson.dumps([*orjson.loads(stands), *refs]).decode()
