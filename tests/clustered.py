"""A cluster of three Valkeys: one holds all slots, one is its replica and may take over, one holds none."""

import asyncio
import subprocess
from contextlib import ExitStack

import redis.asyncio
from redis.exceptions import RedisError
from sendrig import free_port

from gateway.embedded import valkey_binary
from gateway.settings import RedisTarget

LAST_SLOT = 16_383
TOGETHER_S = 30


class Node:
    """One of them."""

    def __init__(self, folder):
        folder.mkdir()
        self.port, self.bus = free_port(), free_port()
        said = {
            "port": self.port,
            "cluster-port": self.bus,
            "bind": "127.0.0.1",
            "dir": folder,
            "logfile": folder / "log",
            "save": "",
            "appendonly": "yes",
            "repl-diskless-sync-delay": 0,
            "cluster-enabled": "yes",
            "cluster-node-timeout": 2000,
        }
        words = [str(word) for key, value in said.items() for word in (f"--{key}", value)]
        self.process = subprocess.Popen([valkey_binary(), *words], stdout=subprocess.DEVNULL)

    async def say(self, *words):
        """One command; None where it does not answer."""
        async with redis.asyncio.Redis(port=self.port) as client:
            try:
                return await client.execute_command(*words)
            except (RedisError, OSError):
                return None

    def kill(self):
        self.process.kill()
        self.process.wait(10)


class Cluster:
    """As an async context; `target` names the node that holds nothing."""

    def __init__(self, folder):
        self._stack = ExitStack()
        self.holder, self.replica, self.other = (Node(folder / name) for name in ("one", "two", "three"))
        for node in (self.holder, self.replica, self.other):
            self._stack.callback(node.kill)

    @property
    def url(self):
        return f"redis+cluster://127.0.0.1:{self.other.port}"

    @property
    def target(self):
        return RedisTarget(kind="cluster", hosts=(("127.0.0.1", self.other.port),))

    async def __aenter__(self):
        await self.gather()
        return self

    async def __aexit__(self, *_):
        self.end()

    async def gather(self):
        """Until each knows the others."""
        await until(lambda: self.holder.say("PING"))
        await self.holder.say("CLUSTER", "ADDSLOTSRANGE", 0, LAST_SLOT)
        for node in (self.replica, self.other):
            await until(lambda node=node: node.say("PING"))
            await node.say("CLUSTER", "MEET", "127.0.0.1", self.holder.port, self.holder.bus)
        await until(lambda: self._follows(self.replica, self.holder))
        await until(lambda: self._names(self.holder))

    def end(self):
        self._stack.close()

    async def lags(self):
        """The replica hears nothing more of who holds the slots."""
        await self.replica.say("CONFIG", "SET", "masterauth", "that nobody knows")
        await self.replica.say("CLIENT", "KILL", "TYPE", "master")

    async def take_over(self):
        """The replica holds the slots from now on, with what it knows; who held them follows."""
        await self.replica.say("CLUSTER", "FAILOVER", "TAKEOVER")
        await self.replica.say("CONFIG", "SET", "masterauth", "")
        self.holder, self.replica = self.replica, self.holder
        await until(lambda: self._names(self.holder))
        await until(lambda: self._is_near(self.replica))

    async def _follows(self, node, holder):
        name = (await holder.say("CLUSTER", "MYID")).decode()
        await node.say("CLUSTER", "REPLICATE", name)
        return await self._is_near(node)

    async def _is_near(self, node):
        role = await node.say("ROLE")
        return role and role[0] == b"slave" and role[3] == b"connected"

    async def _names(self, node):
        """Whether all name that node for every slot, and are ready."""
        for one in (self.holder, self.replica, self.other):
            found, state = await one.say("CLUSTER", "SLOTS"), await one.say("CLUSTER", "INFO")
            if not found or any(served[2][1] != node.port for served in found):
                return False
            if b"cluster_state:ok" not in state:
                return False
        return True


async def until(true):
    async with asyncio.timeout(TOGETHER_S):
        while not await true():  # noqa: ASYNC110 (other processes set no event)
            await asyncio.sleep(0.05)
