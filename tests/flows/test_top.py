"""`/v1/top` and `/v1/stats`: whose it is, what is due, what starts, which accounts limp."""

import pytest
from makers import NOW, reminder, set_clock
from sqlalchemy import insert

from gateway.domain import to_us
from gateway.quotas.counting import SLICE_US
from gateway.store import schema
from gateway.store.keys import EVERY

ACCOUNTS = [
    ("acme/live", "sms-own", None),
    ("acme/live", "sms-all", 3),
    ("beta/live", "sms-all", 1),
    ("beta/live", "sms-beta", None),
    ("acme/test", "sms-own", None),
]
LIMPS = '{"breaker": "open", "why": "config"}'


@pytest.fixture
async def stocked(serve, database):
    """Two tenants with a reminder each, accounts of theirs that are down, and starts of the last seconds."""
    api = serve(database)
    await set_clock(database)
    for tenant, number in (("acme", 1), ("beta", 2)):
        service = await api.of("service", tenant=tenant)
        await service.post("/v1/reminders", json=reminder(number, channels=["sms"], priority="urgent"))
    slices = [to_us(NOW) // SLICE_US * SLICE_US + n * SLICE_US for n in range(-2, 24)]
    account = {"adapter": "twilio_sms", "sender": "x", "settings": "{}", "enabled": True, "revision": 1}
    async with database.write() as conn:
        for tenant, name, weight in ACCOUNTS:
            values = account | {"updated_at": 0, "weight": weight}
            await conn.execute(insert(schema.account).values(tenant=tenant, name=name, **values))
        for pool in ("acme/live|sms-own", "*/live|sms-all", "beta/live|sms-beta", "acme/test|sms-own"):
            values = {"state": LIMPS, "down": True, "seq": 1}
            await conn.execute(insert(schema.standing).values(pool=pool, **values))
        for load, units in (("acme/live|sms", 20), ("beta/live|sms", 10), ("acme/test|sms", 45)):
            bucket = f"{load}|twilio_sms|sms-all|1|pre_due|1|"
            counted = {"bucket": bucket, "span": "load_slice", "units": units, "micros": 0}
            await conn.execute(insert(schema.quota_count), [counted | {"start": start} for start in slices])
    yield api
    await api.aclose()


async def look(api, **key):
    return (await (await api.of("ops", **key)).get("/v1/top")).json()


def named(items, *words):
    return {tuple(item[word] for word in words) for item in items}


async def test_a_tenant_sees_its_own(stocked):
    seen = await look(stocked)

    assert seen["states"] == {"waiting": 1}
    assert named(seen["lanes"], "channel", "tenant", "priority", "due") == {("sms", "acme", "urgent", 1)}
    assert named(seen["accounts"], "account", "tenant", "breaker") == {
        ("sms-own", "acme", "open"),
        ("sms-all", "*", "open"),
    }
    assert seen["starts"] == [{"channel": "sms", "tenant": "acme", "per_s": 4.0}]
    assert seen["workers"] == {"by": 0, "of": 0, "missing": []}


async def test_the_deployment_sees_every_tenant_of_its_mode(stocked):
    seen = await look(stocked, tenant=EVERY)

    assert seen["states"] == {"waiting": 2}
    assert named(seen["lanes"], "tenant", "due") == {("acme", 1), ("beta", 1)}
    assert len(seen["accounts"]) == 3
    assert named(seen["starts"], "tenant", "per_s") == {("acme", 4.0), ("beta", 2.0)}


async def test_a_key_of_the_other_mode_sees_the_other_world(stocked):
    seen = await look(stocked, mode="test")

    assert (seen["states"], seen["lanes"]) == ({}, [])
    assert named(seen["accounts"], "account", "tenant") == {("sms-own", "acme")}
    assert named(seen["starts"], "per_s") == {(9.0,)}


async def test_stats_are_the_tenants(stocked):
    stats = (await (await stocked.of("service")).get("/v1/stats")).json()

    assert stats["states"] == {"waiting": 1}
    assert (stats["due"], stats["deferred"]) == (1, {})
    assert stats["oldest_due_s"] >= 0
