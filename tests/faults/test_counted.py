"""A day's quota and a day's budget are exact, whatever is killed or forgotten, and begin anew at midnight."""

import asyncio
from collections import Counter
from datetime import timedelta

import pytest
from makers import NOW, borrower, reminder, rows

pytestmark = pytest.mark.timeout(600)
A_DAY, MAILS = 100, 80
TO_MIDNIGHT = timedelta(minutes=30)
ZONE = "America/Noronha"
"""Two hours behind UTC all year: midnight there is 10:00 in Shanghai, where texts may be sent."""


def mailed(number):
    addresses = [{"channel": "email", "value": f"b{number}@example.com"}]
    return reminder(number, borrower=borrower(number, addresses=addresses), channels=["email"])


async def counted(fleet):
    """Calls that were let go so far, by channel."""
    found = await rows(fleet.rig.database, "attempt", "called_at IS NOT NULL AND state <> 'void'")
    return Counter(row.channel for row in found)


async def near_midnight(fleet):
    """Move the policy clock to five seconds before it."""
    async with fleet.rig.database.read() as conn:
        now = (await fleet.rig.database.moment(conn)).policy
    await fleet.rig.advance(seconds=(NOW - now).total_seconds() - 5)


async def test_a_day_quota_and_a_budget_are_exact_over_a_flush_a_kill_and_midnight(fleet_of, figure):
    fleet = await fleet_of(0, clock=NOW - TO_MIDNIGHT)
    await fleet.quota("day", scope={"channel": "sms"}, per_day=A_DAY, rate=20, burst=2, zone=ZONE)
    money = {"amount": f"{MAILS * 0.0001:.4f}", "currency": "USD", "per": "day"}
    await fleet.quota("money", scope={"channel": "email"}, budget=money, rate=20, burst=2, zone=ZONE)
    await fleet.take(3 * A_DAY)
    await fleet.take_all([mailed(n) for n in range(1000, 1000 + 3 * MAILS)])
    await fleet.all_join(4)

    await fleet.until(lambda: asyncio.sleep(0, len(fleet.sent()) > A_DAY / 2))
    await fleet.redis.say("FLUSHALL")
    await fleet.kill_one()
    full = {"sms": A_DAY, "email": MAILS}

    async def is_full():
        return dict(await counted(fleet)) == full

    await fleet.until(is_full, patience=90)
    await fleet.goes_on(3)
    assert dict(await counted(fleet)) == full

    await near_midnight(fleet)
    both = {channel: 2 * count for channel, count in full.items()}

    async def is_full_again():
        return dict(await counted(fleet)) == both

    await fleet.until(is_full_again, patience=180)
    await fleet.goes_on(5)
    for channel, count in (await counted(fleet)).items():
        figure(f"{channel} counted of {both[channel]}", count)
    assert dict(await counted(fleet)) == both
    assert fleet.reached_twice() == set()
    reached = Counter(line["kind"] for line in fleet.rig.reached())
    assert reached["sms"] <= 2 * A_DAY
    assert reached["email"] <= 2 * MAILS
