"""Stops and pauses while four workers send: nothing begins a second after the answer, nothing is lost."""

import asyncio
import os
from datetime import UTC, datetime
from random import Random

import paces
import pytest
from fleet import DEPLOYMENT, now
from paces import SECOND

from gateway.domain import Tenant
from gateway.pauses import Kind, PauseScope
from gateway.quotas.model import Scope
from gateway.store.keys import Role
from gateway.store.pauses import Actor, Wanted

pytestmark = pytest.mark.timeout(1800)
WAITING, STOPS = 10_000, 20
PAUSES, AT_ONCE = 1_000, 8
LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)


def holder(name, owner=DEPLOYMENT):
    return Actor(owner=owner, holder=name, role=Role.ADMIN, since=LONG_AGO)


async def put(fleet, kind, owner=DEPLOYMENT, **words):
    """Set one; its id, and when (µs) the answer came."""
    wanted = Wanted(
        key=os.urandom(8).hex(),
        kind=Kind(kind),
        scope=PauseScope(quota=Scope(**words)),
        until=None,
        ramp_s=0,
        reason="a test",
    )
    answer = await fleet.rig.services.pauses.put(wanted, holder("ann", owner))
    return answer["id"], now()


async def resume(fleet, name, owner=DEPLOYMENT, holders=("ann",)):
    for who in holders:
        await fleet.rig.services.pauses.resume(name, None, "it is over", holder(who, owner))


async def stopped(fleet, name):
    """All that it holds up."""
    found, after = [], ""
    while after is not None:
        page = await fleet.rig.services.pauses.reminders(DEPLOYMENT, name, limit=500, after=after or None)
        found += [item["id"] for item in page.items]
        after = page.next
    return found


async def test_after_each_of_twenty_stops_no_send_begins_and_the_list_is_what_the_ledger_lacks(
    fleet_of, figure
):
    fleet = await fleet_of(0)
    await fleet.quota("sms", scope={"channel": "sms"}, rate=40, burst=4)
    names = await fleet.take(WAITING)
    await fleet.all_join(4)

    for _ in range(STOPS):
        began = len(fleet.sent())
        await fleet.until(lambda began=began: asyncio.sleep(0, len(fleet.sent()) > began + 50))
        name, answered = await put(fleet, "stop")
        await fleet.goes_on(3)
        assert paces.between(fleet.sent(), answered + SECOND, now()) == []
        reached = {line["to"] for line in fleet.rig.reached()}
        listed = await stopped(fleet, name)
        assert len(listed) == len(set(listed))
        assert set(listed) == {id_ for number, id_ in names.items() if number not in reached}
        await resume(fleet, name, holders=("ann", "bob"))

    figure("stops, none followed by a call a second after its answer", STOPS)
    figure("calls in all", len(fleet.sent()))
    assert fleet.reached_twice() == set()


async def test_no_call_is_made_under_any_of_a_thousand_drawn_pauses(fleet_of, figure):
    """Each is looked at from a second after its commit until somebody asks to resume it."""
    fleet, r = await fleet_of(0, shared={"acme": 1, "beta": 1, "gamma": 1}), Random(20261129)
    await fleet.quota("sms", scope={"channel": "sms"}, rate=50, burst=5)
    numbers, purpose = {}, {"pre_due": "pre_due_reminder", "care": "service_notice"}
    for tenant in ("acme", "beta", "gamma"):
        for template, why in purpose.items():
            numbers[tenant, template] = await fleet.take_for(tenant, 2000, template=template, purpose=why)
    everybody = dict.fromkeys(number for names in numbers.values() for number in names)
    await fleet.all_join(4)
    under = []

    async def draws():
        for _ in range(PAUSES // AT_ONCE):
            tenant, template = r.choice(list(numbers))
            owner, words, covered = r.choice(
                [
                    (DEPLOYMENT, {"tenant": tenant}, numbers[tenant, "pre_due"] | numbers[tenant, "care"]),
                    (Tenant(f"{tenant}/live"), {"template": template}, numbers[tenant, template]),
                    (DEPLOYMENT, {"account": "sms-cn"}, everybody),
                ]
            )
            name, answered = await put(fleet, "pause", owner, **words)
            await asyncio.sleep(r.uniform(0, 2.5))
            under.append((covered, answered + SECOND, now()))
            await resume(fleet, name, owner)
            await asyncio.sleep(r.uniform(0, 4))

    await asyncio.gather(*(draws() for _ in range(AT_ONCE)))

    lines = [(paces.instant(line), line["to"]) for line in fleet.rig.reached()]
    assert len(lines) > 500
    looked_at = [span for span in under if span[1] < span[2]]
    assert len(looked_at) > PAUSES / 3
    figure("calls", len(lines))
    figure("pauses", len(under))
    figure("pauses looked at for calls under them", len(looked_at))
    for covered, since, until in looked_at:
        assert [to for at, to in lines if since <= at < until and to in covered] == []
