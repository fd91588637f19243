"""The pace from Redis: one script, Redis' own time, and a meter that forgets nothing but what it must.

redis-py connects anew without a word, so the connect hook tells the server its own run id: what a restarted server
read from its file may be a second old, and would be granted twice.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from hashlib import sha1
from importlib.resources import files

import orjson
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import NoScriptError, RedisError

from gateway.cluster import TAG
from gateway.errors import Unavailable
from gateway.quotas.asked import AHEAD_US, LATE_US, Granted, Pace, Wanted
from gateway.settings import RedisTarget
from gateway.tokens import connect

NAME = "redis"
KEYS = f"{TAG}:pace"
"""Begins every key: one hash tag, so one slot of a cluster."""
TIMEOUT_S = (AHEAD_US + LATE_US) / 1e6
"""What is answered later could not be used. A take is about a millisecond; it is our own loop that may be late."""
SCRIPT = files(__package__).joinpath("pace.lua").read_text("utf-8")

_SHA = sha1(SCRIPT.encode(), usedforsecurity=False).hexdigest()  # Redis' own name of a script
_RUN = re.compile(rb"run_id:([0-9a-f]+)")


class RedisPace:
    """Grants by the script. Unavailable when Redis does not answer within TIMEOUT_S."""

    def __init__(self, target: RedisTarget) -> None:
        self._redis = connect(target, timeout_s=TIMEOUT_S, on_connect=_tell_run)

    async def take(self, wanted: Wanted, epoch: int) -> Granted:
        """Grant what may start. Unavailable, too, where Redis knows a newer epoch."""
        asked = {
            "worker": wanted.worker,
            "epoch": epoch,
            "paces": [_pace(pace) for pace in wanted.paces],
            "groups": [
                [g.pool, g.tenant, g.weight, g.lane, g.paces, _sizes(g.segments)] for g in wanted.groups
            ],
        }
        answer = await self._run("take", asked)
        given = answer.split(b";") if wanted.groups else []
        starts = tuple(tuple(map(int, each.split(b","))) if each else () for each in given)
        return Granted(source=NAME, epoch=epoch, starts=starts)

    async def room(self, paces: Sequence[Pace], worker: str, epoch: int) -> list[float]:
        """How many units of each may start within ROOM_US. Unavailable, too, where Redis knows a newer epoch."""
        if not paces:
            return []
        answer = await self._run(
            "room", {"worker": worker, "epoch": epoch, "paces": [_pace(pace) for pace in paces]}
        )
        return [float(each) for each in answer.split(b",")]

    async def probe(self) -> int:
        """The epoch that Redis knows; Unavailable where it cannot be written to."""
        return int(await self._run("probe", {}))

    async def aclose(self) -> None:
        """Close the connections."""
        await self._redis.aclose()

    async def _run(self, what: str, asked: dict[str, object]) -> bytes:
        args = (KEYS, what, orjson.dumps(asked).decode())
        try:
            try:
                answer: bytes | None = await self._redis.evalsha(_SHA, 1, *args)  # type: ignore[misc]  # typed sync
            except NoScriptError:
                answer = await self._redis.eval(SCRIPT, 1, *args)  # type: ignore[misc]
        except (RedisError, OSError) as lost:
            raise Unavailable("Redis grants no pace: it does not answer, or refuses the script") from lost
        if answer is None:
            raise Unavailable("Redis grants no pace: it knows a newer epoch")
        return answer


def _pace(pace: Pace) -> list[object]:
    return [pace.key, pace.per_s, pace.burst, pace.version, int(pace.segments)]


def _sizes(segments: tuple[int, ...]) -> int | tuple[int, ...]:
    """How many starts there are where each is of one segment, else the segments of each."""
    return len(segments) if max(segments, default=1) == 1 else segments


async def _tell_run(connection: AbstractConnection) -> None:
    """The connect hook: let the script know which run of the server it works in, or there is no connection."""
    try:
        await connection.on_connect()
        await connection.send_command("INFO", "server")
        found = _RUN.search(await connection.read_response())
        await connection.send_command("SET", f"{KEYS}:run", found[1] if found else b"unknown")
        await connection.read_response()
    except BaseException:
        await connection.disconnect(nowait=True)
        raise
