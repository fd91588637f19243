"""Providers' access tokens, shared by all workers through Redis; without Redis each process keeps its own."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any

from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.sentinel import Sentinel
from redis.exceptions import RedisError

from gateway.cluster import TAG, HolderConnection, SafeHolderConnection
from gateway.settings import RedisTarget

PREFIX = f"{TAG}:token:"
TIMEOUT_S = 0.5

_DROP = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0"


def connect(
    target: RedisTarget,
    *,
    timeout_s: float = TIMEOUT_S,
    on_connect: Callable[[Any], Awaitable[None]] | None = None,
) -> Redis:
    """A client for any target that gives up in time; `on_connect` makes every connection ready."""
    password = target.password.reveal("to log in to Redis") if target.password else None
    common: dict[str, Any] = {
        "db": target.db,
        "username": target.username,
        "password": password,
        "socket_timeout": timeout_s,
        "socket_connect_timeout": timeout_s,
        "redis_connect_func": on_connect,
    }
    if target.kind == "cluster":
        kind = SafeHolderConnection if target.tls else HolderConnection
        return Redis.from_pool(ConnectionPool(connection_class=kind, hosts=deque(target.hosts), **common))
    if target.path:
        return Redis(unix_socket_path=target.path, **common)
    common["ssl"] = target.tls
    if target.kind == "sentinel":
        sentinel = Sentinel(list(target.hosts), socket_timeout=timeout_s)  # type: ignore[no-untyped-call]
        found: Redis = sentinel.master_for(target.service or "mymaster", **common)
        return found
    host, port = target.hosts[0]
    return Redis(host=host, port=port, **common)


class RedisTokens:
    """gateway.ports.SharedTokens over Redis, with this process's own copy for when it is away, or None."""

    def __init__(self, redis: Redis | None, clock: Callable[[], float]) -> None:
        self._redis = redis
        self._clock = clock
        self._own: dict[str, tuple[str, float]] = {}

    async def get(self, name: str) -> str | None:
        """The shared token, else this process's own."""
        if self._redis is not None:
            with suppress(RedisError, OSError):
                found = await self._redis.get(PREFIX + name)
                return found.decode() if found else None
        token, until = self._own.get(name, ("", 0.0))
        return token if until > self._clock() else None

    async def put(self, name: str, token: str, ttl: timedelta) -> None:
        """Share a token for `ttl`."""
        self._own[name] = (token, self._clock() + ttl.total_seconds())
        if self._redis is not None:
            with suppress(RedisError, OSError):
                await self._redis.set(PREFIX + name, token, px=int(ttl.total_seconds() * 1000))

    async def drop(self, name: str, token: str) -> None:
        """Forget it, only if it is still this one."""
        if self._own.get(name, ("", 0.0))[0] == token:
            del self._own[name]
        if self._redis is not None:
            with suppress(RedisError, OSError):
                await self._redis.eval(_DROP, 1, PREFIX + name, token)  # type: ignore[misc]  # typed sync
