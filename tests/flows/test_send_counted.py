"""Counted quotas from the queue to the provider's ledger: money, hours that are closed, a worker that dies."""

import asyncio
from datetime import timedelta
from decimal import Decimal

import pytest
from makers import NOW, reminder, rows
from sendrig import ON_SQLITE, TENANT
from sqlalchemy import text

from gateway.domain import to_us
from gateway.errors import Unavailable
from gateway.store.quota_acts import Wanted


async def set_quota(rig, name, version=None, **said):
    said = {"zone": "Asia/Shanghai", **said}
    wanted = Wanted(owner=TENANT, name=name, said=said, version=version, reason="r", who="tests")
    return await rig.services.quotas.put(wanted)


async def round_of(rig, sender):
    """What a worker does within the next second."""
    await rig.gateway.live.refresh()
    await sender.drain_one("sms")


async def texts(rig, number):
    return await rig.take(*(reminder(n, channels=["sms"]) for n in range(100, 100 + number)))


async def called(rig):
    return await rows(rig.database, "attempt", "called_at IS NOT NULL")


@ON_SQLITE
async def test_a_budget_of_a_day_is_spent_by_the_attempts_own_prices_and_again_tomorrow(rig):
    await set_quota(rig, "money", budget={"amount": "0.20", "currency": "CNY", "per": "day"})
    await texts(rig, 7)

    async with rig.sender() as sender:
        for _ in range(4):
            await round_of(rig, sender)
        first = await called(rig)
        ringing = await rig.services.quotas.alarms()
        await rig.advance(hours=23)  # 09:00 of the next day
        for _ in range(4):
            await round_of(rig, sender)

    prices = [Decimal(row.price_amount) for row in first]
    assert sum(prices) == Decimal("0.18") > Decimal("0.20") - Decimal("0.045")
    assert [(alarm.quota, alarm.used) for alarm in ringing] == [("acme/live|money", 0.9)]
    assert len(rig.reached()) == 7
    assert {state for state, _ in await rig.states()} == {"sent"}


@ON_SQLITE
async def test_nothing_starts_in_closed_hours_and_all_of_it_after_them(rig):
    """It is 10:00 in Shanghai."""
    await set_quota(rig, "noon", closed=[{"from": "09:30", "to": "14:00"}], scope={"account": "sms-cn"})
    await texts(rig, 5)

    async with rig.sender() as sender:
        for _ in range(2):
            await round_of(rig, sender)
        assert await called(rig) == []
        await rig.advance(hours=3, minutes=59)
        await round_of(rig, sender)
        assert await called(rig) == []
        await rig.advance(minutes=1)
        await round_of(rig, sender)

    assert len(rig.reached()) == 5


@ON_SQLITE
async def test_what_was_never_picked_says_for_which_quota_it_waits_as_long_as_it_does(rig):
    limits = {"closed": {"closed": [{"from": "09:30", "to": "14:00"}]}, "day": {"per_day": 2}}
    for name, limit in limits.items():
        await set_quota(rig, name, scope={"channel": "sms"}, **limit)

    async def waits():
        shown = [await rig.services.reads.reminder(TENANT, name) for name in names]
        return {(one["reason"], one["by"]) for one in shown if one["state"] == "waiting"}

    async with rig.sender() as sender:
        await rig.take(reminder(99, channels=["sms"]))
        await round_of(rig, sender)
        names = await texts(rig, 5)
        await round_of(rig, sender)
        assert await called(rig) == []
        assert await waits() == {("quota", "closed")}
        await rig.advance(hours=4)
        assert await waits() == {(None, None)}
        for _ in range(2):
            await round_of(rig, sender)
        assert len(rig.reached()) == 2
        names = await rig.take(*(reminder(n, channels=["sms"]) for n in (200, 201)))
        await round_of(rig, sender)
        assert await waits() == {("quota", "day")}
        await rig.advance(hours=10)
        assert await waits() == {(None, None)}


async def test_a_go_whose_answer_was_lost_is_counted_no_more_and_the_day_is_given_wholly(rig):
    await set_quota(rig, "day", per_day=4)
    await texts(rig, 9)

    lost = []

    async def after_go(granted):
        """The first counts as not given: its owner withdraws it."""
        if not lost:
            lost.extend(granted)
            raise Unavailable

    async with rig.sender(after_go=after_go) as sender:
        for _ in range(3):
            await round_of(rig, sender)

    assert len(lost) >= 1
    assert {row.ref for row in await called(rig) if row.state == "void"} == set(lost)
    assert len(rig.reached()) == 4
    assert (await rig.services.quotas.shown(TENANT, "day"))["used"]["day"] == 4


async def test_what_a_dead_worker_was_let_do_stays_counted(rig):
    await set_quota(rig, "day", per_day=4)
    await texts(rig, 9)
    died = []

    async def after_go(granted):
        died.extend(granted)
        await asyncio.Event().wait()

    async with rig.sender(after_go=after_go) as sender:
        drain = asyncio.create_task(sender.drain_one("sms"))
        await rig.until(lambda: asyncio.sleep(0, died))
        await sender.die(drain)
    async with rig.sender() as sender:
        for _ in range(3):
            await round_of(rig, sender)

    assert {row.ref for row in await called(rig) if row.state == "calling"} == set(died)
    assert len(rig.reached()) + len(died) == 4


@pytest.mark.parametrize("taken_away", [False, True])
async def test_what_a_days_count_put_off_goes_as_soon_as_there_is_more_of_it(rig, taken_away):
    """Ten hours before midnight; what another quota put off, and what waits for its turn, stays."""
    await set_quota(rig, "day", per_day=2)
    ids = await texts(rig, 5)
    hours = to_us(NOW + timedelta(hours=14))
    said = {
        ids[0]: ("day", hours),
        ids[1]: ("day", hours),
        ids[2]: ("other", hours),
        ids[3]: ("day", to_us(NOW) + 9_000_000),
    }
    async with rig.database.write() as conn:
        for name, (by, at) in said.items():
            await conn.execute(
                text(
                    "UPDATE reminder SET state = 'deferred', reason = 'quota', by = :by, next_at = :at WHERE id = :id"
                ),
                {"by": by, "at": at, "id": name},
            )
    quotas = rig.services.quotas
    if taken_away:
        await quotas.delete(Wanted(owner=TENANT, name="day", said={}, version=1, reason="r", who="tests"))
    else:
        await set_quota(rig, "day", version=1, per_day=100)

    (changed,) = await quotas.changed()
    more = await quotas.let_go(changed)

    now = to_us((await rig.gateway.store.moment()).policy)
    found = {row.id: row.next_at for row in await rows(rig.database, "reminder")}
    assert not more
    assert {name for name, at in found.items() if at <= now} == {ids[0], ids[1], ids[4]}
    assert (found[ids[2]], found[ids[3]]) == (hours, said[ids[3]][1])
