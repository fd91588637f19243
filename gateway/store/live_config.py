"""What ops change live, as workers read it: a few rows in one go, twice a second."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import select, update

from gateway.live import Config
from gateway.quotas.model import Bucket
from gateway.store import counted, pauses, quotas, schema, standing
from gateway.store.database import Database


class LiveRows:
    """gateway.live.ConfigStore."""

    def __init__(self, database: Database) -> None:
        self._db = database

    async def read(self, buckets: Iterable[Bucket]) -> Config:
        """Everything as it stands now, and what is left of these counted buckets."""
        async with self._db.read() as conn:
            moment = await self._db.moment(conn)
            row = (await conn.execute(select(schema.live))).one()
            return Config(
                moment=moment,
                seq=row.seq,
                source=row.source,
                epoch=row.epoch,
                quotas=tuple(await quotas.read(conn)),
                pauses=tuple(await pauses.read(conn)),
                standings=await standing.read(conn),
                left=await counted.left(conn, moment, list(buckets)),
            )

    async def applied(self, owner: str, seq: int) -> None:
        """Say that a worker works by what stood at this number."""
        async with self._db.write() as conn:
            await conn.execute(update(schema.owner).where(schema.owner.c.id == owner).values(applied=seq))
