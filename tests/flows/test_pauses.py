"""Pauses and stops over the API: what they stop, who may set and end them, what is answered."""

from datetime import timedelta

import pytest
from makers import NOW, reminder, rows, set_clock
from sqlalchemy import insert, update

from gateway.store import schema
from gateway.store.keys import Operator, Role

PAUSES = "/v1/pauses"


def asked(key="p-1", **more):
    return {"idempotency_key": key, "kind": "pause", "scope": {}, "reason": "an outage", **more}


@pytest.fixture
async def ops(api):
    return await api.of("ops")


@pytest.fixture
async def key_of(api):
    """A client with a key of its own holder."""
    made = []

    async def key_of(holder, role="ops", tenant="acme"):
        by = Operator(who="tests", tenant=f"{tenant}/live")
        _, text = await api.services.setup.create_key(
            tenant=tenant, mode="live", role=Role(role), holder=holder, expires_at=None, by=by
        )
        made.append(api.bare(text.reveal("used in a test")))
        return made[-1]

    yield key_of
    for client in made:
        await client.aclose()


async def put(client, status=201, **more):
    reply = await client.post(PAUSES, json=asked(**more))
    assert reply.status_code == status, reply.text
    return reply.json()


async def resume(client, name, status=200, **more):
    reply = await client.post(f"{PAUSES}/{name}/resume", json={"reason": "it is over", **more})
    assert reply.status_code == status, reply.text
    return reply.json()


async def test_a_pause_says_what_waits_and_what_expires_meanwhile(api, service, ops, sqlite):
    await set_clock(sqlite)
    await service.post("/v1/reminders/batch", json={"items": [reminder(n) for n in (1, 2, 3)]})
    await service.post("/v1/reminders", json=reminder(4, expires_at=(NOW + timedelta(minutes=20)).isoformat()))

    until = (NOW + timedelta(hours=1)).isoformat()
    set_ = await put(ops, scope={"channel": "sms"}, until=until)

    assert {k: v for k, v in set_.items() if k not in {"id", "at"}} == {
        "kind": "pause",
        "scope": {"channel": "sms"},
        "until": "2026-11-24T03:00:00Z",
        "waiting": 4,
        "expires_meanwhile": 1,
        "calling": [],
    }
    assert set_["id"].startswith("ps_")
    held = (await ops.get(f"{PAUSES}/{set_['id']}/reminders", params={"limit": 3})).json()
    more = (await ops.get(f"{PAUSES}/{set_['id']}/reminders", params={"after": held["next"]})).json()
    assert more["next"] is None
    assert len({item["id"] for item in held["items"] + more["items"]}) == 4
