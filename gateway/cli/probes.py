"""What `gateway config check` asks of servers: PostgreSQL, Redis, and a gateway that runs on the data folder."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import orjson
from redis.asyncio import Redis
from redis.exceptions import AuthenticationError, NoPermissionError, RedisError, ResponseError

from gateway.cli.checks import Line, fail, ok, warn
from gateway.cli.session import Session
from gateway.errors import SetupError, Unavailable
from gateway.settings import RedisTarget, Settings
from gateway.store import migrate
from gateway.store.database import Database
from gateway.tokens import connect
from gateway.vault import KeyRing, Vault

APART_WARN_S, APART_FAIL_S = 2.0, 10.0
OLDEST_POSTGRESQL = 15
"""The oldest that its makers still mend."""
TENANTS = 50
"""The accounts of so many tenants are looked at."""
PATIENCE_S = 10


def apart(check: str, seconds: float) -> Line:
    """Whether a server's clock agrees with this machine's."""
    word = f"{abs(seconds):.1f} s {'ahead of' if seconds > 0 else 'behind'} this machine"
    if abs(seconds) > APART_FAIL_S:
        return fail(check, f"{word}: set both by NTP")
    if abs(seconds) > APART_WARN_S:
        return warn(check, f"{word}: set both by NTP")
    return ok(check, "agrees with this machine's")


async def postgresql(settings: Settings, patience_s: float = PATIENCE_S) -> list[Line]:
    """Whether the database answers, its version, clock and schema."""
    database = Database(settings.database)
    try:
        async with asyncio.timeout(patience_s), database.read() as conn:
            number = int((await conn.exec_driver_sql("SHOW server_version_num")).scalar_one())
            began = time.time()
            at = (await conn.exec_driver_sql("SELECT EXTRACT(EPOCH FROM clock_timestamp())")).scalar_one()
            ended = time.time()
        return [
            _postgresql_version(number),
            apart("database clock", float(at) - (began + ended) / 2),
            await _schema(database),
        ]
    except (Unavailable, TimeoutError):
        return [
            fail("database", "it does not answer: see GATEWAY_DATABASE_URL, and that it runs and lets us in")
        ]
    finally:
        await database.aclose()


def _postgresql_version(number: int) -> Line:
    """The version of a number such as 180001."""
    major, minor = divmod(number, 10_000)
    if major < OLDEST_POSTGRESQL:
        return warn(
            "database", f"PostgreSQL {major} has no more updates: move to {OLDEST_POSTGRESQL} or newer"
        )
    return ok("database", f"PostgreSQL {major}.{minor}")


async def _schema(database: Database) -> Line:
    try:
        await migrate.check(database)
    except SetupError as old:
        return fail("schema", old.message)
    return ok("schema", "of this version")


async def vault(settings: Settings, patience_s: float = PATIENCE_S) -> Line:
    """Whether the vault answers and belongs to this key ring."""
    try:
        ring = KeyRing.load(settings.keyring_file)
    except SetupError:
        return fail("vault", "not looked at: it takes the key ring")
    store = Vault(settings.vault, ring)
    try:
        async with asyncio.timeout(patience_s):
            await store.check()
    except (Unavailable, TimeoutError):
        return fail("vault", "it does not answer: see GATEWAY_VAULT_URL, and that it runs and lets us in")
    except SetupError as wrong:
        return fail("vault", wrong.message)
    finally:
        await store.aclose()
    return ok("vault", "made with this key ring")


async def embedded_schema(settings: Settings) -> Line:
    """The schema of the data folder's file; `up` brings an older one to its own version."""
    if not await asyncio.to_thread(Path(settings.database.database or "").exists):
        return ok("schema", "the first `gateway up` makes it")
    database = Database(settings.database)
    try:
        await migrate.check(database)
    except Unavailable as lost:
        return fail("schema", lost.message)
    except SetupError:
        return warn("schema", "of another version: the next `gateway up` brings an older one to this one")
    finally:
        await database.aclose()
    return ok("schema", "of this version")


async def redis(target: RedisTarget) -> list[Line]:
    """Whether Redis answers, its version, clock, and how it keeps what it has."""
    client = connect(target)
    try:
        began = time.time()
        seconds, micros = await client.time()
        ended = time.time()
        at = int(seconds) + int(micros) / 1_000_000
        clock = apart("redis clock", at - (began + ended) / 2)
        return [await _redis_version(client), clock, *await _redis_keeping(client), *_wake_ups(target)]
    except AuthenticationError:
        return [fail("redis", "it refuses the login: see user and password in GATEWAY_REDIS_URL")]
    except NoPermissionError:
        return [fail("redis", "this user may not use it: see deploy/README.md for the rights it needs")]
    except (RedisError, OSError):
        return [fail("redis", "it does not answer: see GATEWAY_REDIS_URL, and that it runs")]
    finally:
        await client.aclose()


def _wake_ups(target: RedisTarget) -> list[Line]:
    if target.kind != "cluster":
        return []
    return [ok("wake-ups", "a cluster carries none: workers look for what is due once a second")]


async def _redis_version(client: Redis) -> Line:
    try:
        info: Mapping[str, Any] = await client.info("server")
    except ResponseError:
        return warn("redis", "it answers, but does not tell its version")
    name = "Valkey" if "valkey_version" in info else "Redis"
    return ok("redis", f"{name} {info.get('valkey_version') or info.get('redis_version')}")


async def _redis_keeping(client: Redis) -> list[Line]:
    try:
        said = [await client.config_get(name) for name in ("appendonly", "maxmemory-policy")]
    except ResponseError:
        return [warn("redis settings", "it does not tell them (managed?): see that nothing is evicted there")]
    return list(_keeping({_text(k): _text(v) for each in said for k, v in each.items()}))


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _keeping(said: Mapping[str, str]) -> Iterator[Line]:
    policy = said.get("maxmemory-policy", "noeviction")
    if policy != "noeviction":
        yield warn("redis settings", f"maxmemory-policy is {policy}: set noeviction, or wake-ups are lost")
    if said.get("appendonly") != "yes":
        yield warn("redis settings", "appendonly is off: after a restart everything waits for the next sweep")
    if policy == "noeviction" and said.get("appendonly") == "yes":
        yield ok("redis settings", "appendonly, noeviction")


async def accounts(session: Session) -> list[Line]:
    """Every account of every tenant and mode: usable or not."""
    lines, usable = [], 0
    for tenant in (await session.get("/v1/tenants"))["items"][:TENANTS]:
        for mode in ("live", "test"):
            asked = session.of(tenant["name"], mode)
            for item in (await asked.get("/v1/accounts"))["items"]:
                usable += item["broken"] is None
                if item["broken"] is not None:
                    lines.append(
                        fail("accounts", f"{tenant['name']}/{mode} {item['name']}: {item['broken']}")
                    )
    if usable:
        return [*lines, ok("accounts", f"{usable} usable; `gateway account check` tries their credentials")]
    return lines or [warn("accounts", "there is none: bring some in with `gateway account import FILE`")]


async def running(session: Session) -> list[Line]:
    """What the gateway that runs on the data folder says of itself, and its accounts."""
    _, answer = await session.ask("GET", "/readyz")
    missing: Mapping[str, str] = orjson.loads(answer).get("missing", {})
    lines = [fail("gateway", f"it runs, but is not ready: {what}") for what in missing.values()]
    return [*(lines or [ok("gateway", "it runs and is ready")]), *await accounts(session)]
