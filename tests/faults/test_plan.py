"""Plans of ten drawn backlogs, beside what two workers then make of them."""

import asyncio
from collections import defaultdict
from datetime import timedelta
from random import Random

import pytest
from fleet import DEPLOYMENT
from makers import rows
from sqlalchemy import text

from gateway.bodies import write_instant
from gateway.domain import Priority, from_us, to_us

pytestmark = pytest.mark.timeout(1800)
BACKLOGS = 10
PRIORITIES = [priority.value for priority in Priority]
NEAR = 0.05
"""Of the drain time, or NEAREST_S where that is less: what falls due is found within a second, then learned about."""
NEAREST_S = 1.5
LENGTH_S = 60
"""Longer than any of these backlogs drains; what a day's quota keeps waits on."""
LEAD_S = 15
"""From a plan to the first due time: what waits is taken in before."""


def drawn(seed):
    """Quotas, and what waits: (tenant, priority, count)."""
    draw = Random(seed)
    quotas = {
        "plan-account": {"scope": {"account": "sms-cn"}, "rate": draw.choice([8, 10, 15])},
        "plan-acme": {
            "scope": {"tenant": "acme"},
            **draw.choice([{"rate": 4}, {"per_minute": 250}, {"per_hour": 5000}]),
        },
        "plan-day": {
            "scope": {"tenant": "beta"},
            "per_day": draw.choice([40, 100_000]),
            "zone": "Asia/Shanghai",
        },
    }
    work = [
        (tenant, priority, draw.randint(20, 60))
        for tenant in draw.choice([["acme"], ["beta"], ["acme", "beta"], ["acme", "beta"]])
        for priority in draw.sample(PRIORITIES, draw.randint(1, 3))
    ]
    return quotas, work


async def test_what_a_plan_says_comes_true(fleet_of, figure):
    fleet = await fleet_of(0, shared={"acme": 3, "beta": 1})
    await fleet.all_join(2)
    for seed in range(BACKLOGS):
        await one(fleet, *drawn(seed), seed)
    figure("backlogs that went as planned", BACKLOGS)


async def one(fleet, quotas, work, seed):
    """One backlog: taken in, planned, drained, compared; what did not start is taken away."""
    today = await starts(fleet)
    for name, said in quotas.items():
        if "per_day" in said:
            own = said["scope"]["tenant"]
            said["per_day"] += sum(len(at) for (tenant, _), at in today.items() if tenant == own)
        await fleet.quota(
            name, **{"rate": None, "per_minute": None, "per_hour": None, "per_day": None, **said}
        )
    moment = await clock(fleet)
    due = moment.policy.replace(microsecond=0) + timedelta(seconds=LEAD_S)  # a plan knows whole seconds
    for tenant, priority, count in work:
        await fleet.take_for(
            tenant,
            count,
            priority=priority,
            not_before=write_instant(due),
            expires_at=write_instant(due + timedelta(hours=1)),
        )
    await fleet.at_work()
    await fleet.until(lambda: put_off(fleet, due))
    before = await starts(fleet)
    at, plan = await fleet.rig.services.planning.plan(DEPLOYMENT, {})
    assert at < due, "the machine was too slow to take this in before it fell due"
    await asyncio.sleep((due - at).total_seconds() + LENGTH_S)
    after = await starts(fleet)
    offset = moment.policy - moment.real
    off = defaultdict(int)
    for queue in plan.queues:
        key = queue.tenant.partition("/")[0], queue.priority
        came = [when + offset for when in after[key][len(before[key]) :]]
        off[queue.tenant] += queue.waiting - queue.now.expires - len(came)
        compare(queue, came, due, f"backlog {seed}, {key}, {quotas}, {work}")
    assert set(off.values()) == {0}
    await forget(fleet)


def compare(queue, came, due, about):
    """Drain times within 5 %; starts to the few that a tenant's lanes may share otherwise where its day is used up."""
    goes = queue.waiting - queue.now.expires
    assert abs(goes - len(came)) <= (2 if queue.now.expires else 0), about
    if not queue.now.expires:
        near = max(NEAR * (max(came) - due).total_seconds(), NEAREST_S)
        assert abs((queue.now.drains_at - max(came)).total_seconds()) <= near, about


async def clock(fleet):
    async with fleet.rig.database.read() as conn:
        return await fleet.rig.database.moment(conn)


async def put_off(fleet, due):
    return not await rows(fleet.rig.database, "reminder", f"next_at < {to_us(due)} OR state = 'sending'")


async def starts(fleet):
    """When (real time) calls of each tenant and priority began, in order."""
    found = defaultdict(list)
    async with fleet.rig.database.read() as conn:
        called = await conn.execute(
            text(
                "SELECT a.tenant, r.priority, a.called_at FROM attempt a"
                " JOIN reminder r ON r.tenant = a.tenant AND r.id = a.reminder"
                " WHERE a.called_at IS NOT NULL AND a.state <> 'void' ORDER BY a.called_at"
            )
        )
        for row in called:
            found[row.tenant.partition("/")[0], row.priority].append(from_us(row.called_at))
    return found


async def forget(fleet):
    """What is left over is no part of the next backlog."""
    async with fleet.rig.database.write() as conn:
        await conn.execute(
            text(
                "UPDATE reminder SET state = 'cancelled', next_at = NULL WHERE state IN ('waiting', 'deferred')"
            )
        )
