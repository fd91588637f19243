"""What operators set up: tenants, API keys, their own numbers in OP.CAPS, the clock of a test deployment.

Every act is one transaction with its history (who, before, after, reason) and its record in the send log.
"""

from __future__ import annotations

import hmac
import re
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Protocol
from zlib import crc32

from sqlalchemy import Row, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.domain import Mode, Tenant, from_us, to_us
from gateway.errors import BadInput, Conflict, Fault, NotFound, Unauthorised
from gateway.masking import Pii
from gateway.ports import Moment
from gateway.store import schema
from gateway.store.changes import Changes
from gateway.store.database import Database
from gateway.store.log import Log

EVERY = "*"
"""The tenant of the deployment's own keys."""
CACHED_S = 2.0
"""How long a revoked key may still be taken, at most."""

_CACHED = 4096
_BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_SECRET = 43
"""Digits of base 62 in 256 bits."""
_KEY = re.compile(r"(gw_(live|test)_([0-9a-z]{12})_([0-9A-Za-z]{43}))_([0-9A-Za-z]{6})")
_WRONG = "this key is not known, was revoked or has run out: ask an admin for another"


class Role(StrEnum):
    """What a key may do; routes declare theirs, and `admin` may use every route."""

    SERVICE = "service"
    OPS = "ops"
    COMPLIANCE = "compliance"
    COMPLIANCE_APPROVER = "compliance-approver"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """A key as it is kept. `tenant` is a tenant's name, or `*`."""

    id: str
    tenant: str
    mode: Mode
    role: Role
    holder: str
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Operator:
    """Who acts, in the history and the record: a key's holder, or a named person at the machine."""

    who: str
    tenant: Tenant


@dataclass(frozen=True, slots=True, kw_only=True)
class Cap:
    """A tenant's own number in a rule."""

    rule: str
    max: int
    at: datetime
    who: str
    reason: str


class Blinds(Protocol):
    """A keyed hash."""

    def blind(self, kind: str, value: str) -> bytes:
        """The hash of a value of a kind."""


class Setup:
    """Tenants, keys, caps and the clock."""

    def __init__(
        self,
        database: Database,
        log: Log,
        *,
        blinds: Blinds,
        entropy: Callable[[int], bytes],
        monotonic: Callable[[], float],
    ) -> None:
        self._db = database
        self._changes = Changes(log, entropy)
        self._blinds = blinds
        self._entropy = entropy
        self._monotonic = monotonic
        self._seen: set[str] = set()
        self._cache: OrderedDict[str, tuple[float, Row[Any] | None]] = OrderedDict()

    # Tenants.

    async def create_tenant(self, name: str, by: Operator) -> dict[str, str]:
        """A new tenant; Conflict when there is one of that name."""
        async with self._db.write() as conn:
            moment = await self._db.moment(conn)
            if await _has_tenant(conn, name):
                raise Conflict("there is a tenant of that name already")
            await conn.execute(insert(schema.tenant).values(name=name, created_at=to_us(moment.real)))
            tenant = Tenant(f"{name}/{Mode.LIVE}")
            await self._changes.note(conn, moment, tenant, by.who, kind="tenant", name=name, after={})
        return {"name": name}

    async def tenants(self, name: str | None) -> list[dict[str, Any]]:
        """Every tenant, or the one of that name."""
        columns = schema.tenant.c
        asked = select(schema.tenant).order_by(columns.name)
        async with self._db.read() as conn:
            rows = await conn.execute(asked if name is None else asked.where(columns.name == name))
            return [
                {"name": r.name, "created_at": from_us(r.created_at), "stale_after_s": r.stale_after_s}
                for r in rows
            ]

    async def set_stale_after(self, name: str, seconds: int, reason: str, by: Operator) -> None:
        """How old a debt's state may be before it holds the tenant's reminders; NotFound."""
        columns = schema.tenant.c
        async with self._db.write() as conn:
            moment = await self._db.moment(conn)
            before = await conn.scalar(select(columns.stale_after_s).where(columns.name == name))
            if before is None:
                raise NotFound("there is no tenant of that name: see gateway tenant list")
            await conn.execute(
                update(schema.tenant).where(columns.name == name).values(stale_after_s=seconds)
            )
            await self._changes.note(
                conn,
                moment,
                by.tenant,
                by.who,
                kind="tenant",
                name=name,
                before={"stale_after_s": before},
                after={"stale_after_s": seconds},
                reason=reason,
            )

    async def need_tenant(self, name: str) -> None:
        """NotFound unless there is such a tenant; one that was seen stays."""
        if name in self._seen:
            return
        async with self._db.read() as conn:
            if not await _has_tenant(conn, name):
                raise NotFound(
                    "there is no such tenant (`default` where none is named): create it, or name another"
                )
        self._seen.add(name)

    # Keys.

    async def create_key(
        self, *, tenant: str, mode: Mode, role: Role, holder: str, expires_at: datetime | None, by: Operator
    ) -> tuple[ApiKey, Pii[str]]:
        """A new key, and its text, which is shown once and kept nowhere."""
        name = _digits(self._entropy(16), 36, 12)
        secret = _digits(self._entropy(48), 62, _SECRET)
        head = f"gw_{mode}_{name}_{secret}"
        async with self._db.write() as conn:
            moment = await self._db.moment(conn)
            if tenant != EVERY and not await _has_tenant(conn, tenant):
                fault = Fault(at="/tenant", code="not_found", message="create the tenant first")
                raise BadInput([fault])
            key = ApiKey(
                id=name,
                tenant=tenant,
                mode=mode,
                role=role,
                holder=holder,
                created_at=moment.real,
                expires_at=expires_at,
                revoked_at=None,
            )
            await conn.execute(insert(schema.api_key).values(_key_row(key, self._hash(secret))))
            about = {"tenant": tenant, "mode": mode.value, "role": role.value, "holder": holder}
            await self._changes.note(conn, moment, by.tenant, by.who, kind="api_key", name=name, after=about)
        return key, Pii(f"{head}_{_checksum(head)}")

    async def keys(self, tenant: str | None) -> list[ApiKey]:
        """Every key, or a tenant's; never their secrets."""
        columns = schema.api_key.c
        asked = select(schema.api_key).order_by(columns.created_at, columns.id)
        async with self._db.read() as conn:
            rows = await conn.execute(asked if tenant is None else asked.where(columns.tenant == tenant))
            return [_key(r) for r in rows]

    async def revoke(self, name: str, tenant: str | None, by: Operator) -> ApiKey:
        """Revoke a key, of a tenant or of any; again, nothing happens. It ends everywhere within CACHED_S."""
        columns = schema.api_key.c
        where = [columns.id == name, *([columns.tenant == tenant] if tenant is not None else [])]
        async with self._db.write() as conn:
            moment = await self._db.moment(conn)
            row = (await conn.execute(select(schema.api_key).where(*where))).one_or_none()
            if row is None:
                raise NotFound
            if row.revoked_at is None:
                now = to_us(moment.real)
                await conn.execute(update(schema.api_key).where(*where).values(revoked_at=now))
                await self._changes.note(
                    conn, moment, by.tenant, by.who, kind="api_key", name=name, after={"revoked": True}
                )
        self._cache.pop(name, None)
        (key,) = [key for key in await self.keys(row.tenant) if key.id == name]
        return key

    async def authenticate(self, presented: Pii[str]) -> ApiKey:
        """The key that was presented; Unauthorised `key_wrong` otherwise."""
        found = _KEY.fullmatch(presented.reveal("checked against its hash"))
        if found is None or not hmac.compare_digest(found[5], _checksum(found[1])):
            raise Unauthorised(_WRONG, code="key_wrong")
        row = await self._row(found[3])
        if row is None or not hmac.compare_digest(bytes(row.secret_hash), self._hash(found[4])):
            raise Unauthorised(_WRONG, code="key_wrong")
        key = _key(row)
        if key.mode != found[2] or key.revoked_at is not None or row.expired:
            raise Unauthorised(_WRONG, code="key_wrong")
        return key

    async def _row(self, name: str) -> Row[Any] | None:
        """A key's row, of the last two seconds."""
        now = self._monotonic()
        hit = self._cache.get(name)
        if hit is not None and now - hit[0] < CACHED_S:
            return hit[1]
        columns = schema.api_key.c
        async with self._db.read() as conn:
            moment = await self._db.moment(conn)
            over = columns.expires_at <= to_us(moment.real)
            asked = select(schema.api_key, over.label("expired")).where(columns.id == name)
            row = (await conn.execute(asked)).one_or_none()
        self._cache[name] = (now, row)
        self._cache.move_to_end(name)
        while len(self._cache) > _CACHED:
            self._cache.popitem(last=False)
        return row

    def _hash(self, secret: str) -> bytes:
        return self._blinds.blind("api_key", secret)

    # Caps.

    async def caps(self, tenant: Tenant) -> list[Cap]:
        """The numbers that a tenant set for itself."""
        columns = schema.pack_override.c
        async with self._db.read() as conn:
            rows = await conn.execute(
                select(schema.pack_override).where(columns.tenant == tenant).order_by(columns.rule)
            )
            return [Cap(rule=r.rule, max=r.max, at=from_us(r.at), who=r.who, reason=r.reason) for r in rows]

    async def set_cap(self, rule: str, number: int, reason: str, by: Operator) -> None:
        """Set a tenant's own number in a rule."""
        columns = schema.pack_override.c
        where = (columns.tenant == by.tenant, columns.rule == rule)
        async with self._db.write() as conn:
            moment = await self._db.moment(conn)
            before = await conn.scalar(select(columns.max).where(*where).with_for_update())
            values = {"max": number, "at": to_us(moment.real), "who": by.who, "reason": reason}
            if before is None:
                await conn.execute(insert(schema.pack_override).values(tenant=by.tenant, rule=rule, **values))
            else:
                await conn.execute(update(schema.pack_override).where(*where).values(**values))
            was = None if before is None else {"max": before}
            await self._changes.note(
                *(conn, moment, by.tenant, by.who),
                kind="cap",
                name=rule,
                before=was,
                after={"max": number},
                reason=reason,
            )

    # The clock.

    async def moment(self) -> Moment:
        """Both clocks, now."""
        async with self._db.read() as conn:
            return await self._db.moment(conn)

    async def advance(self, seconds: int, by: Operator) -> Moment:
        """Move the policy clock ahead; only a test deployment may."""
        async with self._db.write() as conn:
            moment = await self._db.moment(conn)
            ahead = seconds * 1_000_000
            moved = await conn.execute(
                update(schema.clock).values(offset_us=schema.clock.c.offset_us + ahead)
            )
            if moved.rowcount == 0:
                await conn.execute(insert(schema.clock).values(id=1, offset_us=ahead))
            about = {"advance_s": seconds}
            await self._changes.note(
                conn, moment, by.tenant, by.who, kind="clock", name="policy", after=about
            )
            return await self._db.moment(conn)


async def _has_tenant(conn: AsyncConnection, name: str) -> bool:
    return await conn.scalar(select(schema.tenant.c.name).where(schema.tenant.c.name == name)) is not None


def _key(row: Row[Any]) -> ApiKey:
    return ApiKey(
        id=row.id,
        tenant=row.tenant,
        mode=Mode(row.mode),
        role=Role(row.role),
        holder=row.holder,
        created_at=from_us(row.created_at),
        expires_at=None if row.expires_at is None else from_us(row.expires_at),
        revoked_at=None if row.revoked_at is None else from_us(row.revoked_at),
    )


def _key_row(key: ApiKey, secret_hash: bytes) -> dict[str, Any]:
    return {
        "id": key.id,
        "tenant": key.tenant,
        "mode": key.mode.value,
        "role": key.role.value,
        "holder": key.holder,
        "secret_hash": secret_hash,
        "created_at": to_us(key.created_at),
        "expires_at": None if key.expires_at is None else to_us(key.expires_at),
        "revoked_at": None,
    }


def _digits(entropy: bytes, base: int, length: int) -> str:
    """So many digits of base 36 (small letters) or 62 from plenty of entropy."""
    number = int.from_bytes(entropy, "big")
    alphabet = _BASE62 if base == len(_BASE62) else _BASE62[:10] + _BASE62[36:]
    text = []
    for _ in range(length):
        number, digit = divmod(number, base)
        text.append(alphabet[digit])
    return "".join(text)


def _checksum(head: str) -> str:
    """Tells a mistyped key from a wrong one, without a look-up."""
    return _digits(crc32(head.encode()).to_bytes(4, "big"), 62, 6)
