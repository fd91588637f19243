"""What-if over a true send log: reminders sent through the desk, then replayed through other packs and caps."""

from __future__ import annotations

from importlib import resources

import httpx2
import pytest
from makers import borrower, by_id, debt, rows
from sendrig import ON_SQLITE, TENANT

from gateway.api.app import build
from gateway.domain import Mode
from gateway.policy.written import shipped_files
from gateway.store.keys import Operator, Role

SPAN = {"from": "2026-11-24", "to": "2026-11-28"}
WHERE = {"residence": "CN-GD"}
PACKS = resources.files("gateway.policy.packs")


@pytest.fixture
async def ask(rig):
    """Asks the route as compliance would."""
    _, key = await rig.services.setup.create_key(
        tenant="acme",
        mode=Mode.LIVE,
        role=Role.COMPLIANCE,
        holder="ann",
        expires_at=None,
        by=Operator(who="tests", tenant=TENANT),
    )
    headers = {"Authorization": f"Bearer {key.reveal('used in a test')}"}
    app = httpx2.ASGITransport(app=build(rig.services))
    async with httpx2.AsyncClient(transport=app, base_url="http://gateway", headers=headers) as client:

        async def asked(status=200, **body):
            answer = await client.post("/v1/policy/simulate", json={**SPAN, **body})
            assert answer.status_code == status, answer.text
            return answer.json()

        yield asked


async def send(rig, person, count, **more):
    """So many messages to one person, sent as far as they may be."""
    await rig.put(borrower(person, **{**WHERE, **more}), debt(person))
    names = await rig.take(
        *(by_id(person, idempotency_key=f"{person}.{n}", channels=["sms"], repeat=True) for n in range(count))
    )
    await rig.drain()
    return names


def told(answer):
    """(kind, rule) → count."""
    return {(row["kind"], row["rule"]): row["count"] for row in answer["changes"]}


async def test_a_cap_of_two_would_have_deferred_the_third_of_each_person(rig, ask):
    await send(rig, 1, 4)
    await send(rig, 2, 3)
    await send(rig, 3, 2)
    assert len(rig.reached()) == 8

    found = await ask(caps={"OP.CAPS.DAY": 2})

    assert told(found) == {("deferred", "OP.CAPS.DAY"): 2}
    (row,) = found["changes"]
    assert row["day"] == "2026-11-24"
    assert row["minutes"] == [[22 * 60, 2]]  # 10:00 to 08:00 of the next day, in Shanghai
    assert (found["decisions"], found["reminder_days"]) == (9, 9)
    assert found["undeterminable"] == []
    assert found["next"] is None


@ON_SQLITE
async def test_identical_packs_and_caps_change_nothing_of_all_that_was_tried(rig, ask):
    await send(rig, 1, 4)
    before = [len(await rows(rig.database, table)) for table in ("record", "attempt", "reminder")]

    found = await ask(caps={"OP.CAPS.DAY": 3}, packs=[shipped("CN.GBT"), shipped("OP.CAPS")])

    assert (found["changes"], found["undeterminable"]) == ([], [])
    assert found["decisions"] == 4
    assert [len(await rows(rig.database, table)) for table in ("record", "attempt", "reminder")] == before


def shipped(name):
    (written,) = [written for written in shipped_files() if written.pack.id == name]
    return {"name": written.name, "toml": PACKS.joinpath(written.name).read_text("utf-8")}
