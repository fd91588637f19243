"""The texts of packs that are or were in use, and which were in use together, each by its digest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import orjson
from sqlalchemy import Table, select
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.domain import Mode, Tenant, to_us
from gateway.errors import PolicyError
from gateway.policy.inuse import digest_of, members
from gateway.policy.model import Pack
from gateway.policy.parse import digest, parse_pack
from gateway.store import schema
from gateway.store.changes import Changes
from gateway.store.database import Database, chunks
from gateway.store.keys import EVERY
from gateway.store.log import Log

DEPLOYMENT = Tenant(f"{EVERY}/{Mode.LIVE}")
"""Whose log says which packs are in use: packs are the same for every tenant."""
REMEMBERED = 8
_TEXT, _SET = schema.pack_text.c, schema.pack_set.c


class PackTexts:
    """Keeps packs for whoever looks at a decision later."""

    def __init__(self, database: Database, log: Log, entropy: Callable[[int], bytes]) -> None:
        self._db = database
        self._changes = Changes(log, entropy)
        self._read: dict[str, tuple[Pack, ...]] = {}

    async def keep(self, packs: Sequence[Pack], texts: Sequence[str], who: str) -> None:
        """Keep these packs, unless they are kept already; the log says so where they were not in use before."""
        listed = members(packs)
        name = digest_of(listed)
        async with self._db.read() as conn:
            if await conn.scalar(select(_SET.sha256).where(_SET.sha256 == name)) is not None:
                return
        by_digest = {digest(text): text for text in texts}
        async with self._db.write() as conn:
            moment = await self._db.moment(conn)
            at = to_us(moment.policy)
            rows = [
                {
                    "sha256": p.digest,
                    "pack": p.id,
                    "version": p.version,
                    "text": by_digest[p.digest],
                    "at": at,
                }
                for p in packs
                if p.digest in by_digest
            ]
            if rows:
                await conn.execute(_if_new(conn, schema.pack_text), rows)
            new = {"sha256": name, "packs": orjson.dumps(listed).decode(), "at": at}
            if (await conn.execute(_if_new(conn, schema.pack_set), new)).rowcount == 1:
                await self._changes.note(
                    *(conn, moment, DEPLOYMENT, who),
                    kind="packs",
                    name=name[:12],
                    after={"sha256": name, "packs": listed},
                )

    async def packs(self, name: str) -> tuple[Pack, ...] | None:
        """The packs that were in use under that digest, read again; None when a text is missing or was changed."""
        if name not in self._read:
            found = await self._find(name)
            if found is None:
                return None
            if len(self._read) >= REMEMBERED:
                self._read.clear()
            self._read[name] = found
        return self._read[name]

    async def _find(self, name: str) -> tuple[Pack, ...] | None:
        async with self._db.read() as conn:
            said = await conn.scalar(select(_SET.packs).where(_SET.sha256 == name))
            if said is None or digest_of(listed := orjson.loads(said)) != name:
                return None
            texts: dict[str, str] = {}
            for part in chunks([one["sha256"] for one in listed]):
                rows = await conn.execute(select(_TEXT.sha256, _TEXT.text).where(_TEXT.sha256.in_(part)))
                texts |= {row.sha256: row.text for row in rows if digest(row.text) == row.sha256}
        try:
            packs = [_pack(one, texts.get(one["sha256"])) for one in listed]
        except PolicyError:  # written in words that this release does not know
            return None
        return None if None in packs else tuple(pack for pack in packs if pack is not None)


def _pack(member: dict[str, Any], text: str | None) -> Pack | None:
    if member.get("broken"):
        return Pack(
            id=member["pack"],
            version=member["version"],
            rules=(),
            applies=tuple(member["applies"]),
            broken="it could not be read",
        )
    return None if text is None else parse_pack(text, member["pack"])


def _if_new(conn: AsyncConnection, table: Table) -> Any:
    """An insert that leaves what is there already."""
    make = sqlite_insert if conn.dialect.name == "sqlite" else postgresql_insert
    return make(table).on_conflict_do_nothing()
