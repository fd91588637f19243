"""Two Valkeys, one the replica of the other, and three sentinels that make it the master when the master is gone."""

import asyncio
import subprocess
from contextlib import AsyncExitStack
from pathlib import Path

import fleet
import redis.asyncio
import sendrig

from gateway.embedded import valkey_binary

SERVICE, QUORUM = "reminders", 2
DOWN_MS, FAIL_OVER_MS = 1000, 3000
ELECTED_S = 90.0


class Sentinels:
    """As an async context: `url` is what workers are told; `fail_over` kills whoever is the master."""

    def __init__(self, folder):
        self.nodes = [fleet.Redis(Path(folder) / f"node{n}") for n in range(2)]
        self.folder, self.ports, self._stack = Path(folder), [], AsyncExitStack()

    @property
    def url(self):
        return f"redis+sentinel://{','.join(f'127.0.0.1:{port}' for port in self.ports)}/{SERVICE}"

    async def __aenter__(self):
        for node in self.nodes:
            await node.start()
            self._stack.callback(node.kill)
        await self.nodes[1].say("REPLICAOF", "127.0.0.1", self.nodes[0].port)
        for number in range(3):
            self._watch(number)
        await fleet.until(self._watched, ELECTED_S)
        return self

    async def __aexit__(self, *_):
        await self._stack.aclose()

    def _watch(self, number):
        """One more sentinel; it keeps what it learns in its own file."""
        port, file = sendrig.free_port(), self.folder / f"sentinel{number}.conf"
        file.write_text(
            f"port {port}\nbind 127.0.0.1\ndir {self.folder}\nlogfile {file}.log\n"
            f"sentinel monitor {SERVICE} 127.0.0.1 {self.nodes[0].port} {QUORUM}\n"
            f"sentinel down-after-milliseconds {SERVICE} {DOWN_MS}\n"
            f"sentinel failover-timeout {SERVICE} {FAIL_OVER_MS}\n"
        )
        process = subprocess.Popen([valkey_binary(), str(file), "--sentinel"], stdout=subprocess.DEVNULL)
        self.ports.append(port)
        self._stack.callback(process.wait, 10)
        self._stack.callback(process.kill)

    async def _ask(self, *words):
        async with redis.asyncio.from_url(f"redis://127.0.0.1:{self.ports[0]}") as client:
            return await client.execute_command("SENTINEL", *words)

    async def _watched(self):
        """All three know each other and the replica, without which nobody is elected."""
        try:
            others, replicas = await self._ask("SENTINELS", SERVICE), await self._ask("REPLICAS", SERVICE)
        except (redis.exceptions.RedisError, OSError):
            return False
        return len(others) == 2 and len(replicas) >= 1

    async def master(self):
        """The node that the sentinels name."""
        _, port = await self._ask("GET-MASTER-ADDR-BY-NAME", SERVICE)
        return next(node for node in self.nodes if node.port == int(port))

    async def fail_over(self, *, lag_s):
        """The master is gone, and its replica takes over with what it knew `lag_s` before; the dead one comes back."""
        old = await self.master()
        (new,) = (node for node in self.nodes if node is not old)
        await new.say("CONFIG", "SET", "masterauth", "that the master does not know")
        await new.say("CLIENT", "KILL", "TYPE", "master")
        await asyncio.sleep(lag_s)
        old.kill()
        await fleet.until(lambda: self._is_master(new), ELECTED_S)
        await new.say("CONFIG", "SET", "masterauth", "")
        await asyncio.sleep(FAIL_OVER_MS / 1000)
        await old.start()
        await fleet.until(self._together, ELECTED_S)

    async def _is_master(self, node):
        role, *_ = await self._role(node)
        return role == b"master" and await self.master() is node

    async def _together(self):
        """One is the master, whichever it is by now, and the other its replica, and up to date."""
        master = await self.master()
        (other,) = (node for node in self.nodes if node is not master)
        role, *rest = await self._role(other)
        return role == b"slave" and rest[1] == master.port and rest[2] == b"connected"

    async def _role(self, node):
        """What it says it is; sentinels cut its connections when they make it something else."""
        try:
            return await node.say("ROLE")
        except (redis.exceptions.RedisError, OSError):
            return [b"away"]
