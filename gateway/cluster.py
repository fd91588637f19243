"""A connection to whichever node of a Redis Cluster holds our keys: all have one hash tag, and so one slot.

As redis-py's connection to the master that sentinels name, it looks anew whenever it connects, and leaves a node that
holds them no longer. So a node that takes over is met by new connections alone, which tell it its run (gateway.pace).
"""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from typing import Any

from redis.asyncio.connection import Connection, SSLConnection
from redis.crc import key_slot
from redis.exceptions import ConnectionError as ConnectionLost
from redis.exceptions import RedisError, ResponseError

TAG = "{gateway}"
"""Begins the names of keys that stand together."""
SLOT = key_slot(TAG.encode())

_GONE = ("MOVED ", "ASK ", "CLUSTERDOWN ", "You can't write against a read only replica")
"""How the refusals of a node begin that holds the slot no longer, or is cut off from those that do."""


class HolderConnection(Connection):
    """To the node that holds SLOT, as any of `hosts` names it."""

    plain: type[Connection] = Connection
    """How `hosts` are asked."""

    def __init__(self, *, hosts: deque[tuple[str, int]], **options: Any) -> None:
        """`hosts` are asked in turn, all connections of a pool by the same list: the first is whose word was good."""
        super().__init__(**options)
        self._hosts = hosts
        self._asking = {name: value for name, value in options.items() if name != "redis_connect_func"}

    async def _connect(self) -> None:
        self.host, self.port = await self._holder()
        await super()._connect()  # type: ignore[no-untyped-call]

    async def _holder(self) -> tuple[str, int]:
        for host, port in tuple(self._hosts):
            with suppress(RedisError, OSError, TimeoutError):
                for first, last, (at, number, *_), *_ in await self._slots(host, port):
                    if first <= SLOT <= last:
                        return (at or b"").decode() or host, number
            self._hosts.rotate(-1)
        raise ConnectionLost("no node of the cluster names one that holds our keys")

    async def _slots(self, host: str, port: int) -> Any:
        """Ranges of slots, each with its nodes, the primary first; a node that knows no name of its own gives none."""
        asked = self.plain(**self._asking | {"host": host, "port": port})
        try:
            await asked.connect()  # type: ignore[no-untyped-call]
            await asked.send_command("CLUSTER", "SLOTS")
            return await asked.read_response()
        finally:
            await asked.disconnect(nowait=True)

    async def read_response(self, *args: Any, **options: Any) -> Any:
        """One answer; ConnectionError, and no connection any more, where this node holds our keys no longer."""
        try:
            return await super().read_response(*args, **options)
        except ResponseError as refused:
            if str(refused).startswith(_GONE):
                await self.disconnect(nowait=True)
                self._hosts.rotate(-1)  # who named it may be cut off from the others
                raise ConnectionLost("this node of the cluster holds our keys no longer") from refused
            raise


class SafeHolderConnection(HolderConnection, SSLConnection):
    """The same over TLS."""

    plain = SSLConnection
