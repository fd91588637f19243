"""What ops change live, as workers read it twice a second: one statement, and the rest of it when that says so."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import update

from gateway.live import Config
from gateway.pauses import Pause
from gateway.quotas.model import Bucket, Quota
from gateway.store import counted, pauses, quotas, schema, standing
from gateway.store.database import Database
from gateway.store.server import FROZEN

_FIRST = {
    dialect: ", seq, source, epoch, (SELECT COALESCE(SUM(revision), 0) FROM account),"  # noqa: S608 (ours)
    f" {FROZEN[dialect]}, {said} FROM live"
    for dialect, said in standing.SAID.items()
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Numbered:
    """What depends on two numbers alone: that of the last change, and the sum of the accounts' revisions.

    Both only rise. What accounts come with changes without the first, and how accounts stand without either.
    """

    seq: int
    revisions: int
    quotas: tuple[Quota, ...]
    pauses: tuple[Pause, ...]


class LiveRows:
    """gateway.live.ConfigStore. It remembers what it read last."""

    def __init__(self, database: Database) -> None:
        self._db = database
        self._known: _Numbered | None = None

    async def read(self, buckets: Iterable[Bucket]) -> Config:
        """Everything as it stands now, and what is left of these counted buckets."""
        async with self._db.read() as conn:
            moment, (seq, source, epoch, revisions, frozen, said) = await self._db.moment_and(
                conn, _FIRST[self._db.dialect]
            )
            known = self._known
            if known is None or (known.seq, known.revisions) != (seq, int(revisions)):
                known = self._known = _Numbered(  # at least as new as its numbers, which were read before it
                    seq=seq,
                    revisions=int(revisions),
                    quotas=tuple(await quotas.read(conn)),
                    pauses=tuple(await pauses.read(conn)),
                )
            some = list(buckets)
            return Config(
                moment=moment,
                seq=seq,
                source=source,
                epoch=epoch,
                quotas=known.quotas,
                pauses=known.pauses,
                standings=standing.told(said),
                frozen=bool(frozen),
                left=await counted.left(conn, moment, some) if some else {},
            )

    async def applied(self, owner: str, seq: int) -> None:
        """Say that a worker works by what stood at this number."""
        async with self._db.write() as conn:
            await conn.execute(update(schema.owner).where(schema.owner.c.id == owner).values(applied=seq))
