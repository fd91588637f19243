"""What opens at 08:00 in three tenants goes out at the quota's pace, fair between tenants, within each by priority."""

import asyncio
from bisect import bisect_left
from datetime import timedelta

import paces
import pytest
from makers import NOW, rows
from paces import SECOND

pytestmark = pytest.mark.timeout(3600)
RATE, BURST = 120, 4
EACH = {"urgent": 17_700, "normal": 9_400, "bulk": 6_250}
WEIGHTS = {"acme": 2, "beta": 1, "gamma": 1}
FLOORS = {"normal": 0.10, "bulk": 0.05}
TOKENS, SPARE = 2, 0.01
"""How far below its floor a lane may be; what else may go before urgent ones that no worker has at hand."""
NIGHT = NOW - timedelta(hours=2, minutes=10)
"""07:50 in Shanghai, where texts about debts begin at 08:00."""


async def test_what_opens_at_eight_is_spread_by_weight_and_priority(fleet_of, figure):
    fleet = await fleet_of(0, shared=WEIGHTS, clock=NIGHT)
    await fleet.quota("account", scope={"account": "sms-cn"}, rate=RATE, burst=BURST)
    lanes = {}
    for tenant in WEIGHTS:
        for lane, count in EACH.items():
            lanes[tenant, lane] = await fleet.take_for(tenant, count, priority=lane)
    total = len(WEIGHTS) * sum(EACH.values())
    await fleet.all_join(4)

    async def deferred():
        found = await rows(fleet.rig.database, "reminder", "state = 'deferred'")
        return len(found) == total and {row.reason for row in found}

    (reason,) = await fleet.until(deferred, patience=1200)
    assert reason.endswith("HOURS")
    assert fleet.sent() == []
    await fleet.rig.advance(minutes=10)
    await fleet.until(lambda: asyncio.sleep(1, fleet.reached() == total), patience=total / RATE * 1.2 + 60)

    times = {lane: fleet.sent_to(numbers) for lane, numbers in lanes.items()}
    everything = sorted(at for one in times.values() for at in one)
    figure("deferred to 08:00, and sent", len(everything))
    figure(f"starts a second at {RATE} a second", total / ((everything[-1] - everything[0]) / SECOND))
    figure("most in any second", paces.most(everything, SECOND))
    assert paces.over(everything, RATE, BURST) == {}
    assert (everything[-1] - everything[0]) / SECOND <= 1.05 * total / RATE
    unknown = await rows(fleet.rig.database, "attempt", "ending = 'unknown'")
    figure("of which ended unknown", len(unknown))
    assert unknown == []
    first, last = everything[0], min(max(ats) for (_, lane), ats in times.items() if lane == "bulk")
    assert fair(times, first, last) == []
    behind = [passed_over(times, tenant) for tenant in WEIGHTS]
    figure("of a tenant's starts, while urgent ones wait, of those", f"{1 - max(behind):.3f}")
    assert max(behind) <= sum(FLOORS.values()) + SPARE
    short = max(below_its_floor(times, tenant, lane) for lane in FLOORS for tenant in WEIGHTS)
    figure("starts that a lane was below its floor at most, while urgent ones wait", short)
    assert short <= TOKENS


def fair(times, first, last):
    """Minutes in which a tenant that still waited got less than nine tenths of its share, by tenant."""
    ends = {t: max(times[t, lane][-1] for lane in EACH) for t in WEIGHTS}
    until = min(last, *ends.values())
    found = []
    for start in range(first, until - 60 * SECOND, 5 * SECOND):
        seen = {
            tenant: sum(len(paces.between(times[tenant, lane], start, start + 60 * SECOND)) for lane in EACH)
            for tenant in WEIGHTS
        }
        share = {t: sum(seen.values()) * weight / sum(WEIGHTS.values()) for t, weight in WEIGHTS.items()}
        found += [(t, seen[t], share[t]) for t in WEIGHTS if seen[t] < 0.9 * share[t]]
    return found


def passed_over(times, tenant):
    """What part of a tenant's starts was of other lanes while urgent ones waited."""
    last = times[tenant, "urgent"][-1]
    until = {lane: bisect_left(times[tenant, lane], last) for lane in EACH}
    return (until["normal"] + until["bulk"]) / sum(until.values())


def below_its_floor(times, tenant, lane):
    """How many starts a lane, while it and urgent ones waited, was behind its least share of the tenant at most."""
    own = times[tenant, lane]
    all_of_it = sorted(at for name in EACH for at in times[tenant, name])
    end = min(own[-1], times[tenant, "urgent"][-1])
    waited = enumerate((at for at in all_of_it if at < end), 1)
    return max(FLOORS[lane] * number - bisect_left(own, at + 1) for number, at in waited)
