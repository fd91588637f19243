"""The vault: a store of its own for borrowers' data keys, wrapped, and for accounts' credentials, sealed."""

from __future__ import annotations

import hmac
import os
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any, cast

import orjson
from aiosqlite import Connection as Driver
from asyncpg import PostgresError
from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    bindparam,
    delete,
    event,
    inspect,
    select,
    text,
    tuple_,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from gateway.domain import Tenant
from gateway.errors import SetupError, Unavailable
from gateway.masking import Pii
from gateway.pools import reading, watched
from gateway.vault.fields import DataKey
from gateway.vault.ring import KEY, NONCE, Entropy, KeyRing, KeyUse

TENANT_KEY = "*"
"""The subject whose data key seals what belongs to a tenant and to no borrower; no borrower is named so."""

VERSION = 1
_AT_ONCE = 500
_CACHED = 4096
_READ_S, _WRITE_S = 60.0, 2.0
"""How long another process may go on opening, and sealing, under a key that was destroyed."""
_LOCK = 7_306_023_112_004_401
"""PostgreSQL's advisory lock for making tables."""

Key = tuple[Tenant, str]
"""A tenant and whose key it is: a borrower, or TENANT_KEY."""

_metadata = MetaData()
_vault = Table(
    "vault",
    _metadata,
    Column("id", SmallInteger, primary_key=True, autoincrement=False),
    Column("version", SmallInteger, nullable=False),
    Column("fingerprint", LargeBinary, nullable=False),
)
_data_key = Table(
    "data_key",
    _metadata,
    Column("tenant", Text, primary_key=True),
    Column("subject", Text, primary_key=True),
    Column("wrapped", LargeBinary, nullable=False),
    Column("kid", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
)
_secret = Table(
    "secret",
    _metadata,
    Column("tenant", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("value_enc", LargeBinary, nullable=False),
)


class Vault:
    """Data keys and credentials. `clock` gives seconds since 1970."""

    def __init__(
        self,
        url: URL,
        ring: KeyRing,
        *,
        entropy: Entropy = os.urandom,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if url.get_backend_name() == "sqlite":
            self._engine = self._reader = _sqlite(url)
        else:
            self._engine = _postgresql(url)
            self._reader = reading(self._engine)
        self._ring = ring
        self._entropy = entropy
        self._clock = clock
        self._cache: OrderedDict[Key, tuple[float, DataKey]] = OrderedDict()

    async def prepare(self) -> None:
        """Make what is missing of the tables, and check the rest; as often as you like."""
        async with self._begin() as conn:
            if self._engine.dialect.name == "postgresql":
                await conn.execute(text(f"SELECT pg_advisory_xact_lock({_LOCK})"))
            await conn.run_sync(_metadata.create_all)
            row = {"id": 1, "version": VERSION, "fingerprint": self._ring.derive(KeyUse.FINGERPRINT)}
            await conn.execute(self._insert(_vault).on_conflict_do_nothing(), row)
        await self.check()

    async def check(self) -> None:
        """SetupError when the tables are missing or of another release, or the key ring is another one's."""
        async with self._begin() as conn:
            if not await conn.run_sync(lambda sync: inspect(sync).has_table("vault")):
                raise SetupError("the vault is not prepared: run `gateway db upgrade`")
            row = (await conn.execute(select(_vault.c.version, _vault.c.fingerprint))).one_or_none()
        if row is None or row.version != VERSION:
            raise SetupError("the vault is of another release: run `gateway db upgrade` with the newest one")
        if not hmac.compare_digest(bytes(row.fingerprint), self._ring.derive(KeyUse.FINGERPRINT)):
            raise SetupError(
                "this key ring is not the one that this vault was made with: see GATEWAY_KEYRING"
            )

    async def aclose(self) -> None:
        """Close every connection."""
        await self._engine.dispose()

    async def keys_for(self, tenant: Tenant, subjects: Iterable[str], *, create: bool) -> dict[str, DataKey]:
        """The data keys of borrowers, in one go; with `create` the missing ones are made and are durable.

        Without `create`, who has no key (never had one, or was erased) is left out.
        """
        keys = await self.keys(((tenant, subject) for subject in subjects), create=create)
        return {subject: key for (_, subject), key in keys.items()}

    async def keys(self, whose: Iterable[Key], *, create: bool) -> dict[Key, DataKey]:
        """The same for borrowers of several tenants."""
        wanted = dict.fromkeys(whose)
        since = self._clock() - (_WRITE_S if create else _READ_S)
        keys = {one: hit[1] for one in wanted if (hit := self._cache.get(one)) and hit[0] >= since}
        missing = [one for one in wanted if one not in keys]
        if missing:
            rows = await self._read(missing)
            lacking = [one for one in missing if one not in rows]
            if create and lacking:
                await self._make(lacking)
                rows |= await self._read(lacking)
            keys |= {one: self._remember(one, *row) for one, row in rows.items()}
        return keys

    async def destroy(self, tenant: Tenant, subject: str) -> bool:
        """Erase a borrower: what was sealed under the key opens no more. False when there was none."""
        same = (_data_key.c.tenant == tenant) & (_data_key.c.subject == subject)
        async with self._begin() as conn:
            gone = await conn.execute(delete(_data_key).where(same))
        self._cache.pop((tenant, subject), None)
        if self._engine.dialect.name == "sqlite":
            await self._empty_wal()
        return bool(gone.rowcount)

    async def credentials(self, tenant: Tenant, account: str) -> Mapping[str, Pii[str]]:
        """An account's credentials; empty when none are kept."""
        same = (_secret.c.tenant == tenant) & (_secret.c.name == account)
        async with self._begin() as conn:
            sealed = await conn.scalar(select(_secret.c.value_enc).where(same))
        keys = await self.keys_for(tenant, [TENANT_KEY], create=False)
        if sealed is None or TENANT_KEY not in keys:
            return {}
        clear = keys[TENANT_KEY].open(bytes(sealed), table="secret", column="value_enc", row=account)
        return {name: Pii(value) for name, value in orjson.loads(clear).items()}

    async def keep_credentials(
        self, tenant: Tenant, account: str, credentials: Mapping[str, Pii[str]]
    ) -> None:
        """Keep an account's credentials, in the place of those it had."""
        keys = await self.keys_for(tenant, [TENANT_KEY], create=True)
        clear = orjson.dumps({name: value.reveal("to seal it") for name, value in credentials.items()})
        sealed = keys[TENANT_KEY].seal(clear, table="secret", column="value_enc", row=account)
        keep = self._insert(_secret).values(tenant=tenant, name=account, value_enc=sealed)
        async with self._begin() as conn:
            await conn.execute(
                keep.on_conflict_do_update(index_elements=["tenant", "name"], set_={"value_enc": sealed})
            )

    async def rewrap(self, batch: int = _AT_ONCE) -> AsyncIterator[int]:
        """Wrap every data key under the ring's current key, a batch a transaction; gives each one's size."""
        last = ("", "")
        while True:
            async with self._begin() as conn:
                rows = await _older(conn, self._ring.current, last, batch)
                if rows:
                    await conn.execute(_REPLACE, [self._rewrapped(*row) for row in rows])
            if not rows:
                return
            last = rows[-1][:2]
            yield len(rows)

    def _rewrapped(self, tenant: Tenant, subject: str, wrapped: bytes, kid: str) -> dict[str, Any]:
        about = f"{tenant}\0{subject}"
        anew = self._ring.wrap(self._unwrap(kid, wrapped, about), about, self._entropy(NONCE))
        return {"t": tenant, "s": subject, "old": kid, "wrapped": anew, "kid": self._ring.current}

    async def _read(self, whose: Sequence[Key]) -> dict[Key, tuple[bytes, str]]:
        with _unavailable():
            async with self._reader.connect() as conn:
                asked = _KEYS[self._engine.dialect.name]
                rows = await conn.execute(asked, {"whose": orjson.dumps(whose).decode()})
                return {
                    (Tenant(tenant), subject): (bytes(wrapped), kid) for tenant, subject, wrapped, kid in rows
                }

    async def _make(self, whose: Sequence[Key]) -> None:
        """Write new keys; where another process was quicker, its key stands."""
        rows = [
            {
                "tenant": tenant,
                "subject": subject,
                "wrapped": self._ring.wrap(self._entropy(KEY), f"{tenant}\0{subject}", self._entropy(NONCE)),
                "kid": self._ring.current,
                "created_at": int(self._clock() * 1_000_000),
            }
            for tenant, subject in whose
        ]
        async with self._begin() as conn:
            await conn.execute(self._insert(_data_key).on_conflict_do_nothing(), rows)

    def _remember(self, whose: Key, wrapped: bytes, kid: str) -> DataKey:
        tenant, subject = whose
        key = DataKey(self._unwrap(kid, wrapped, f"{tenant}\0{subject}"), tenant, self._entropy)
        self._cache[whose] = (self._clock(), key)
        self._cache.move_to_end(whose)
        while len(self._cache) > _CACHED:
            self._cache.popitem(last=False)
        return key

    def _unwrap(self, kid: str, wrapped: bytes, about: str) -> bytes:
        if not self._ring.knows(kid):  # it was rotated since this process began
            self._ring = KeyRing.load(self._ring.path)
        return self._ring.unwrap(kid, wrapped, about)

    def _insert(self, table: Table) -> Any:
        return (sqlite if self._engine.dialect.name == "sqlite" else postgresql).insert(table)

    @asynccontextmanager
    async def _begin(self) -> AsyncIterator[AsyncConnection]:
        with _unavailable():
            async with self._engine.begin() as conn:
                yield conn

    async def _empty_wal(self) -> None:
        """Leave no copy of a deleted key in SQLite's log (the file itself overwrites: secure_delete)."""
        with _unavailable():
            async with self._engine.connect() as conn:
                raw = await conn.get_raw_connection()
                await cast("Driver", raw.driver_connection).execute_fetchall(
                    "PRAGMA wal_checkpoint(TRUNCATE)"
                )


_REPLACE = (
    update(_data_key)
    .where(_data_key.c.tenant == bindparam("t"), _data_key.c.subject == bindparam("s"))
    .where(_data_key.c.kid == bindparam("old"))
    .values(wrapped=bindparam("wrapped"), kid=bindparam("kid"))
)


async def _older(conn: AsyncConnection, current: str, last: tuple[str, str], limit: int) -> list[Any]:
    """Keys that older wrapping keys wrap, in order, from a place on."""
    place = tuple_(_data_key.c.tenant, _data_key.c.subject)
    rows = await conn.execute(
        select(_data_key.c.tenant, _data_key.c.subject, _data_key.c.wrapped, _data_key.c.kid)
        .where(_data_key.c.kid != current, place > last)
        .order_by(_data_key.c.tenant, _data_key.c.subject)
        .limit(limit)
    )
    return list(rows)


_KEYS = {
    name: text(
        f"SELECT k.tenant, k.subject, k.wrapped, k.kid FROM {elements} AS w"  # noqa: S608 (words of ours)
        " JOIN data_key k ON k.tenant = w.value ->> 0 AND k.subject = w.value ->> 1"
    )
    for name, elements in (
        ("sqlite", "json_each(:whose)"),
        ("postgresql", "json_array_elements(CAST(:whose AS json))"),
    )
}
"""Those of these (tenant, subject), as a JSON array: one text, however many."""


def _sqlite(url: URL) -> AsyncEngine:
    """One connection, which keeps the file to itself: one writer, and one process, by SQLite's own lock."""
    engine = create_async_engine(
        url, pool_size=1, max_overflow=0, pool_timeout=30, connect_args={"timeout": 5}, hide_parameters=True
    )

    @event.listens_for(engine.sync_engine, "connect")
    def on_connect(dbapi: Any, _record: Any) -> None:
        dbapi.isolation_level = None
        cursor = dbapi.cursor()
        for pragma in ("locking_mode=EXCLUSIVE", "journal_mode=WAL", "synchronous=FULL", "secure_delete=ON"):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def on_begin(conn: Connection) -> None:
        conn.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


def _postgresql(url: URL) -> AsyncEngine:
    return watched(
        create_async_engine(url, pool_size=5, max_overflow=0, pool_timeout=10, hide_parameters=True)
    )


@contextmanager
def _unavailable() -> Iterator[None]:
    """Turn a vault that is not there into Unavailable."""
    try:
        yield
    except (DBAPIError, PostgresError, PoolTimeoutError, OSError) as lost:
        if "database is locked" in str(lost):
            raise Unavailable("another process holds this vault: stop it first, or ask it") from lost
        if "disk is full" in str(lost) or "No space left" in str(lost):
            raise Unavailable(
                "the disk is full: nothing was accepted; free some space and send it again"
            ) from lost
        raise Unavailable(
            "the vault does not answer: nothing was accepted; see `gateway config check`"
        ) from lost
