"""Networks that fail, Redis and PostgreSQL killed under workers: nothing is lost, nobody is reached twice."""

import asyncio
import os
import signal
from collections import Counter
from contextlib import AsyncExitStack
from random import Random

import pytest
from killing import SEED, Deaths
from proxy import KINDS, Proxy
from sqlalchemy.engine import make_url

pytestmark = pytest.mark.timeout(3600)
FAULTS = int(os.environ.get("FAULTS_NETWORK", "320"))
"""FAULTS_NETWORK=40 is the short form; beside it FAULTS_REDIS and FAULTS_POSTGRES."""
REDIS = int(os.environ.get("FAULTS_REDIS", "30"))
POSTGRES = int(os.environ.get("FAULTS_POSTGRES", "10"))
PROVIDERS = ("aliyun", "twilio", "wechat", "smtp")
EACH_S = 0.8
"""Seconds between two faults, on average."""


def rerouted(environ, proxies):
    """What workers are told, with PostgreSQL and Redis behind proxies; the vault is left alone."""
    database = make_url(environ["GATEWAY_DATABASE_URL"]).set(port=proxies["postgres"].port)
    return environ | {
        "GATEWAY_DATABASE_URL": database.render_as_string(hide_password=False),
        "GATEWAY_REDIS_URL": f"redis://127.0.0.1:{proxies['redis'].port}",
    }


async def test_requests_are_refused_cut_swallowed_and_stalled_on_every_link_and_all_is_sent_once(
    postgres, fleet_of, simulators, figure
):
    r = Random(SEED)
    async with AsyncExitStack() as stack:
        proxies = {name: await stack.enter_async_context(Proxy(simulators.ports[name])) for name in PROVIDERS}
        fleet = await fleet_of(0, ports={name: proxies[name].port for name in PROVIDERS})
        proxies["postgres"] = await stack.enter_async_context(Proxy(postgres.port))
        proxies["redis"] = await stack.enter_async_context(Proxy(fleet.redis.port))
        fleet.environ |= rerouted(fleet.environ, proxies)
        work = Deaths(fleet, SEED)

        async def draw():
            while sum(proxy.done.total() for proxy in proxies.values()) < FAULTS:
                proxies[r.choice([*proxies])].next(r.choice(KINDS))
                await asyncio.sleep(r.expovariate(1 / EACH_S))
            for proxy in proxies.values():
                proxy.waiting.clear()

        try:
            await work.through(draw)
            verdict = await work.settled()
        finally:
            work.end()
        for name, proxy in proxies.items():
            figure(f"faults between workers and {name}", ", ".join(f"{k} {n}" for k, n in proxy.done.items()))
    verdict.told(figure)
    assert verdict.faults() == {}
    assert verdict.settles()
    assert verdict.tried["reached"] > FAULTS


async def test_redis_is_flushed_and_killed_again_and_again_and_all_is_sent_once(fleet_of, figure):
    fleet, r, done = await fleet_of(0), Random(SEED), Counter()
    work = Deaths(fleet, SEED)

    async def draw():
        for _ in range(REDIS):
            await asyncio.sleep(r.uniform(0.5, 3))
            if r.random() < 0.5:
                done["flushed"] += 1
                await fleet.redis.say("FLUSHALL")
            else:
                done["killed"] += 1
                fleet.redis.kill()
                await asyncio.sleep(r.uniform(0, 3))
                await fleet.redis.start()

    try:
        await work.through(draw)
        verdict = await work.settled()
    finally:
        work.end()
    figure("Redis", ", ".join(f"{how} {n}" for how, n in done.items()))
    verdict.told(figure)
    assert verdict.faults() == {}
    assert verdict.settles()
    assert verdict.tried["parked unknown"] == 0


async def test_postgresql_is_killed_again_and_again_and_all_is_sent_once(postgres, fleet_of, figure):
    fleet, r = await fleet_of(0), Random(SEED)
    work = Deaths(fleet, SEED)

    async def draw():
        for _ in range(POSTGRES):
            await asyncio.sleep(r.uniform(5, 10))
            await asyncio.to_thread(postgres.stop, signal.SIGQUIT)
            await asyncio.sleep(r.uniform(0, 2))
            await asyncio.to_thread(postgres.start)

    try:
        await work.through(draw)
        verdict = await work.settled()
    finally:
        work.end()
    figure("PostgreSQL left as a crash leaves it, and started", POSTGRES)
    verdict.told(figure)
    assert verdict.faults() == {}
    assert verdict.settles()
    assert verdict.tried["reached"] > 10 * POSTGRES
