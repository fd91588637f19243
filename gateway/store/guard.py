"""What go is guarded by: pauses, whose word the pace is, how accounts stand, which quotas there are, a failover.

All of it in one statement, after another has taken the lock that setters take alone: in one with the lock it would
be read as it stood before the lock was had.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

import orjson
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway import pauses
from gateway.domain import to_us
from gateway.pauses import Pause
from gateway.ports import Moment
from gateway.standing import Standing, from_json
from gateway.store.live import GO_LOCK
from gateway.store.pauses import pause
from gateway.store.server import FROZEN
from gateway.store.words import Words
from gateway.work import Refusal, Start, Word

FAILOVER = "failover"
"""Who stops whatever would be called while the database may have forgotten calls."""
AGAIN = timedelta(minutes=1)
"""After this, what it stopped is looked at again."""

_SHARED = text("SELECT pg_advisory_xact_lock_shared(:key)")


def _stands(all_of: str, array: str, frozen: str) -> str:
    return f"""
SELECT (SELECT CAST({all_of}({array}(owner, id, kind, scope, until)) AS TEXT) FROM pause
        WHERE resumed_at IS NULL AND (until IS NULL OR until > :now)) AS pauses,
       (SELECT CAST({all_of}({array}(owner, name, version)) AS TEXT) FROM quota WHERE NOT gone) AS versions,
       (SELECT CAST({all_of}({array}(pool, state)) AS TEXT) FROM standing WHERE state <> '{{}}') AS standings,
       source, epoch, {frozen} AS frozen FROM live WHERE id = 1"""  # noqa: S608 (functions' names of ours)


_STANDS = {
    "sqlite": Words(_stands("json_group_array", "json_array", FROZEN["sqlite"])),
    "postgresql": Words(_stands("json_agg", "json_build_array", FROZEN["postgresql"])),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Stands:
    """How things stand, and stay while this transaction lasts."""

    now: Moment
    pauses: Sequence[Pause]
    word: Word
    versions: Mapping[tuple[str, str], int]
    """Of the quotas that were set, by owner and name."""
    standings: Mapping[str, Standing]
    """Of the accounts of which something is to be said, by pool."""
    frozen: bool

    def barred(self, starts: Sequence[Start]) -> dict[str, Refusal]:
        """Which of these starts a pause bars, by ref; after a failover all of them."""
        if self.frozen:
            stopped = Refusal(reason="stopped", by=FAILOVER, again=self.now.policy + AGAIN)
            return {start.ref: stopped for start in starts}
        found = ((start.ref, pauses.first(self.pauses, start, self.now.policy)) for start in starts)
        return {ref: one.refusal() for ref, one in found if one is not None}


async def guard(conn: AsyncConnection, moment: Moment) -> Stands:
    """How things stand; no pause is set and no pace changes hands until this transaction ends.

    On SQLite the one writer's lock is what keeps a setter out.
    """
    if conn.dialect.name == "postgresql":
        await conn.execute(_SHARED, {"key": GO_LOCK})
    return await as_they_stand(conn, moment)


async def as_they_stand(conn: AsyncConnection, moment: Moment) -> Stands:
    """How things stand, for whoever took the lock in a statement before."""
    (row,) = await _STANDS[conn.dialect.name].run(conn, now=to_us(moment.policy))
    return Stands(
        now=moment,
        pauses=[pause(*one) for one in orjson.loads(row.pauses or "[]")],
        word=(row.source, row.epoch),
        versions={(owner, name): version for owner, name, version in orjson.loads(row.versions or "[]")},
        standings={
            pool: from_json(orjson.loads(state)) for pool, state in orjson.loads(row.standings or "[]")
        },
        frozen=bool(row.frozen),
    )
