"""No more is decided than can start: quotas, lanes and persons, from the queue to the ledger."""

import asyncio
from collections import Counter
from datetime import datetime

from makers import borrower, by_id, contact, debt, phone, reminder, rows
from sendrig import ON_SQLITE, TENANT

from gateway.store.quota_acts import Wanted

EVERYWHERE = [
    {"channel": "sms", "value": phone(1), "kind": "personal"},
    {"channel": "email", "value": "zhangsan@example.com", "kind": "personal"},
]


async def set_quota(rig, name="texts", **said):
    said = {"scope": {"channel": "sms"}, **said}
    wanted = Wanted(owner=TENANT, name=name, said=said, version=None, reason="a test", who="tests")
    await rig.services.quotas.put(wanted)


def starts(rig, kind="sms"):
    """When (s) each text reached the provider, by its own ledger."""
    return sorted(
        datetime.fromisoformat(line["at"]).timestamp() for line in rig.reached() if line["kind"] == kind
    )


async def test_a_rate_holds_over_two_workers_and_nothing_is_lost(rig, database_url, open_rig):
    other = rig if rig.database.sqlite else await open_rig(database_url, clock=None)
    await set_quota(rig, rate=40, burst=1)
    await rig.take(*(reminder(n, channels=["sms"]) for n in range(100, 140)))

    async with rig.sender() as a, other.sender() as b:
        while len(rig.reached()) < 40:
            await asyncio.gather(a.drain_one("sms"), b.drain_one("sms"))
            await asyncio.sleep(0.05)

    at = starts(rig)
    assert len({line["to"] for line in rig.reached()}) == len(at) == 40
    assert all(later - first > 0.35 for first, later in zip(at, at[20:], strict=False))
    assert {row.reason for row in await rows(rig.database, "reminder")} == {None}


@ON_SQLITE
async def test_a_day_that_is_used_up_is_told_once_and_holds_until_its_midnight(rig):
    await set_quota(rig, per_day=3, zone="Asia/Shanghai")
    names = await rig.take(*(reminder(n, channels=["sms"]) for n in range(100, 110)))
    async with rig.sender() as sender:
        await sender.drain_one("sms")
        for _ in range(5):
            await rig.gateway.live.refresh()
            await sender.drain_one("sms")
        assert len(rig.reached()) == 3

        told = Counter(
            row.reminder
            for row in await rows(rig.database, "record", "kind = 'decision' AND reason = 'quota'")
        )
        assert set(told.values()) <= {1}
        await rig.advance(hours=23)  # 09:00 of the next day in Shanghai
        await rig.gateway.live.refresh()
        await sender.drain_one("sms")

    assert len(rig.reached()) == 6
    assert len(names) == 10


@ON_SQLITE
async def test_what_falls_to_another_channel_costs_the_first_nothing_and_waits_in_the_others_queue(rig):
    """Whoever refused texts is written to by mail, three a second; the texts go on at their own pace."""
    await set_quota(rig, "mails", scope={"channel": "email"}, rate=3, burst=1)
    people = []
    for n in range(100, 106):
        mail = {"channel": "email", "value": f"zhang{n}@example.com"}
        text = {"channel": "sms", "value": phone(n)}
        people.append(
            borrower(n, addresses=[text, mail], opt_outs=[{"channel": "sms", "at": "2026-11-20T00:00:00Z"}])
        )
    await rig.take(
        *(
            reminder(n, borrower=one, channels=["sms", "email"])
            for n, one in zip(range(100, 106), people, strict=True)
        )
    )
    async with rig.sender() as sender:
        await sender.drain_one("sms")
        waiting = await rows(rig.database, "reminder", "next_at IS NOT NULL")
        assert {(row.channel, row.reason, row.by) for row in waiting} <= {("email", "quota", "mails")}
        assert waiting
        await sender.drain_one("email")
        while len(rig.reached()) < 6:
            await sender.drain_one("email")

    assert {line["kind"] for line in rig.reached()} == {"email"}
    at = starts(rig, "email")
    assert at[-1] - at[0] > 1.3  # 5 thirds of a second, of which a call may be late by 250 ms


async def test_the_last_slot_of_a_person_goes_to_the_first_by_priority_value_and_expiry_on_any_channel(rig):
    await rig.put(borrower(1, addresses=EVERYWHERE), debt(1))
    await rig.contacts(
        *(contact(1, idempotency_key=f"c{n}", channel="sms", outcome="delivered") for n in range(2))
    )
    _, _, wins, _ = await rig.take(
        by_id(1, idempotency_key="bulk", channels=["sms"], priority="bulk", value="900", repeat=True),
        by_id(1, idempotency_key="poor", channels=["sms"], value="5", repeat=True),
        by_id(1, idempotency_key="rich", channels=["email"], value="70", repeat=True),
        by_id(1, idempotency_key="none", channels=["sms"], repeat=True),
    )
    async with rig.sender() as sender:
        await sender.drain_one("sms")  # whichever channel comes first

    assert [line["kind"] for line in rig.reached()] == ["email"]
    assert (await rig.reminder(wins)).state == "sent"
    assert (await rig.states())["deferred", "OP.CAPS.DAY"] == 3


async def test_the_first_by_value_gets_the_slot_also_where_more_is_due_than_there_is_room_for(rig):
    """It became due last, and a pace of one a second picks one reminder at a time."""
    await set_quota(rig, rate=1, burst=1)
    await rig.put(borrower(1, addresses=EVERYWHERE), debt(1))
    await rig.contacts(
        *(contact(1, idempotency_key=f"c{n}", channel="sms", outcome="delivered") for n in range(2))
    )
    names = []
    for n in range(4):
        more = {"value": str(n), "repeat": True, "idempotency_key": f"r{n}"}
        names += await rig.take(by_id(1, channels=["sms"], **more))
    async with rig.sender() as sender:
        while not rig.reached():
            await sender.drain_one("sms")

    assert len(rig.reached()) == 1
    assert (await rig.reminder(names[-1])).state == "sent"
