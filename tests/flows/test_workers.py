"""Workers are listed, and told to take nothing new: what they call is finished, and others go on."""

import asyncio
from contextlib import asynccontextmanager

import orjson
import pytest
from cli_rig import ran
from makers import borrower, by_id, debt, phone, rows
from sendrig import ON_SQLITE

from gateway.domain import Mode
from gateway.errors import NotFound
from gateway.quotas.model import deployment
from gateway.store.keys import EVERY, Role
from gateway.worker import work

BY = {"who": "ann", "reason": "its host is replaced"}
EVERYWHERE = deployment(Mode.LIVE)


async def listed(rig):
    return (await rig.services.workers.listed(limit=10, after=None)).items


async def test_workers_are_listed_until_they_are_gone_and_told_on_record(rig):
    async with rig.sender() as first:
        owners = first.parts.owners
        name = owners.id
        (item,) = await listed(rig)
        assert (item["id"], item["state"], item["under_way"]) == (name, "working", 0)
        assert item["at"].rpartition(":")[2].isdigit()
        assert not await owners.told_quiet()

        with pytest.raises(NotFound):
            await rig.services.workers.quiet("ow_nobody", EVERYWHERE, **BY)
        assert not await owners.told_quiet()
        told = await rig.services.workers.quiet(name, EVERYWHERE, **BY)
        again = await rig.services.workers.quiet(None, EVERYWHERE, **BY)

        assert told == again == [name]
        assert await owners.told_quiet()
        assert [w["state"] for w in await listed(rig)] == ["quiet"]
    assert await listed(rig) == []
    changes = await rows(rig.database, "change", "kind = 'worker'")
    assert {(c.name, c.who, c.reason) for c in changes} == {(n, *BY.values()) for n in (name, "all")}


@asynccontextmanager
async def working(rig):
    """A worker as `gateway worker` runs it; it must live to the end and end when it is told to."""
    parts, stop = rig.gateway.worker(), asyncio.Event()
    task = asyncio.create_task(work(parts, stop, seen=False))
    try:
        yield parts
    finally:
        assert not task.done(), task.exception()
        stop.set()
        await asyncio.wait_for(task, 20)


@ON_SQLITE
async def test_one_that_is_told_takes_nothing_new_finishes_its_call_and_lives(rig, monkeypatch):
    await rig.put(borrower(1, addresses=[{"channel": "sms", "value": phone(1), "kind": "personal"}]), debt(1))
    await rig.simulators.next("aliyun", "slow", seconds=1.2)
    key = await rig.key(Role.OPS, EVERY)
    monkeypatch.setenv("GATEWAY_API_KEY", key)
    async with rig.served() as url, working(rig) as parts:

        async def said(*words):
            return await asyncio.to_thread(ran, "worker", *words, "--url", url)

        (before,) = await rig.take(by_id(1, channels=["sms"]))
        await rig.until(lambda: _calling(rig))
        told = await said("quiet", parts.owners.id, "--reason", "its host is replaced")
        (shown,) = orjson.loads((await said("list", "--json")).stdout)
        neither = await said("quiet", "--reason", "x")
        await rig.until(lambda: asyncio.sleep(0, parts.dispatch._quiet))
        (after,) = await rig.take(by_id(1, channels=["sms"], idempotency_key="after", repeat=True))
        await asyncio.sleep(1.3)  # a sweep goes by
        await rig.until(lambda: _sent(rig, before))

        assert (await rig.reminder(after)).state == "waiting"
        assert (shown["state"], shown["under_way"]) == ("quiet", 1)
        assert told.stdout == f"told to take nothing new: {parts.owners.id}\n"
        assert neither.returncode == 2
    await rig.drain()
    assert (await rig.reminder(after)).state in {"sent", "delivered"}
    assert len(rig.reached()) == 2


async def _calling(rig):
    return [a for a in await rig.attempts() if a.state == "calling"]


async def _sent(rig, name):
    return (await rig.reminder(name)).state in {"sent", "delivered"}
