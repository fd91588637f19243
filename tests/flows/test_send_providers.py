"""A channel is open if one of its accounts is: what a provider allows one recipient closes its own accounts alone."""

import os
from collections import Counter
from dataclasses import replace

import pytest
from makers import borrower, by_id, contact, debt, phone, rows
from sendrig import ON_SQLITE, SIGNED_IN, TENANT
from sqlalchemy import insert
from test_audit_check import broken, check, loosened, sit

import channels
from gateway.accounts import parse
from gateway.store import schema

RULE = "PROVIDER.ALIYUN.NUMBER24H"
NUMBER = [{"channel": "sms", "value": phone(1), "kind": "personal"}]
OPENID = [{"channel": "wechat", "value": "openid-of-zhangsan-000000001", "kind": "personal"}]


@pytest.fixture
async def both(rig):
    """A person with a mainland number, which both Aliyun and Twilio serve."""
    text = rig.simulators.accounts().replace('except_countries = ["CN"]\n', "")
    drawn = parse(text, adapters=channels.names(), environ=SIGNED_IN)
    await rig.gateway.account_desk.bring_in(drawn, who="tests", reason="a test")
    await rig.gateway.accounts.refresh()
    await rig.put(borrower(1, addresses=NUMBER), debt(1))
    return rig


async def allowed(rig, **most):
    """A tenant's own numbers for caps."""
    async with rig.database.write() as conn:
        for name, number in most.items():
            row = {"tenant": TENANT, "at": 0, "who": "tests", "reason": "a test"}
            await conn.execute(
                insert(schema.pack_override).values(rule=name.replace("_", "."), max=number, **row)
            )


async def remind(rig, channel="sms", count=1):
    """So many reminders one after another; their ids."""
    names = []
    for _ in range(count):
        names += await rig.take(
            by_id(1, idempotency_key=os.urandom(4).hex(), channels=[channel], repeat=True)
        )
        await rig.drain()
    return names


def went(rig):
    """How many messages each provider was handed."""
    return Counter(line["provider"] for line in rig.reached() if line["kind"] in ("sms", "wechat"))


@ON_SQLITE
async def test_a_number_that_one_provider_takes_no_more_for_is_reached_through_the_other(both):
    await allowed(both, PROVIDER_ALIYUN_NUMBER24H=1)

    (first, second) = await remind(both, count=2)

    assert went(both) == {"aliyun": 1, "twilio": 1}
    assert [(a.reminder, a.adapter, a.account) for a in await both.attempts()] == [
        (first, "aliyun_sms", "sms-cn"),
        (second, "twilio_sms", "sms-intl"),
    ]
    asked = (await both.services.reads.decision(TENANT, second))["packs"]
    assert [pack["pack"] for pack in asked if pack["pack"].startswith("PROVIDER.")] == ["PROVIDER.TWILIO"]
    found = await check(both)
    assert (found["checked"], found["violations"], found["undeterminable"]) == (2, [], {})


def counting_others(rule):
    """The rule as if it were about what goes through another."""
    return replace(rule, adapters=frozenset({"smtp"})) if rule.id == RULE else rule


@ON_SQLITE
async def test_a_gateway_that_keeps_to_another_providers_limit_is_found_out(both):
    sit(both, loosened(both.gateway.packs, counting_others))
    await allowed(both, PROVIDER_ALIYUN_NUMBER24H=1)

    await remind(both, count=2)

    assert went(both) == {"aliyun": 2}
    assert RULE in broken(await check(both))


@ON_SQLITE
async def test_when_neither_is_open_it_waits_for_the_one_that_opens_first(both):
    await allowed(both, PROVIDER_ALIYUN_NUMBER24H=1, PROVIDER_TWILIO_RUN=1)

    names = await remind(both, count=3)
    waiting = await both.reminder(names[2])

    assert went(both) == {"aliyun": 1, "twilio": 1}
    assert (waiting.state, waiting.reason) == ("deferred", "PROVIDER.TWILIO.RUN")

    await both.advance(minutes=9)
    await both.drain()

    assert went(both) == {"aliyun": 1, "twilio": 2}


@ON_SQLITE
async def test_a_message_sent_elsewhere_counts_for_every_provider(both):
    await allowed(both, PROVIDER_ALIYUN_NUMBER24H=1)
    at = "2026-11-24T01:00:00Z"
    await both.contacts(contact(1, at=at, channel="sms", outcome="delivered", address=phone(1)))

    await remind(both)

    assert went(both) == {"twilio": 1}


@ON_SQLITE
async def test_a_follower_is_reminded_once_a_day_by_wechat(rig):
    await rig.put(borrower(1, addresses=[*OPENID, *NUMBER]), debt(1))

    (_, second) = await remind(rig, "wechat", count=2)
    waiting = await rig.reminder(second)
    await remind(rig, "sms")

    assert (waiting.state, waiting.reason) == ("deferred", "PROVIDER.WECHAT.DAY")
    assert went(rig) == {"wechat": 1, "aliyun": 1}
    assert {row.adapter for row in await rows(rig.database, "attempt")} == {"wechat", "aliyun_sms"}
