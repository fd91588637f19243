"""Plans over what is stored: which work they see, which way it goes, and that they change nothing."""

from __future__ import annotations

from datetime import timedelta

import pytest
from makers import NOW, borrower, reminder, rows
from sendrig import ON_SQLITE, TENANT
from sqlalchemy import text

from gateway.domain import Mode, Money, Tenant, from_us, to_us
from gateway.errors import BadInput
from gateway.quotas.model import deployment
from gateway.store.plan import PlanStore

SMS_50 = {"sms": {"scope": {"channel": "sms"}, "rate": 0.05}}
EVERYBODY = deployment(Mode.LIVE)


async def take(rig, count, **more):
    """Reminders by SMS, one a person."""
    raws = [reminder(n, channels=["sms"], **more) for n in range(1, count + 1)]
    return await rig.take(*raws)


async def spread(rig, **columns):
    """Let all that waits have other columns."""
    names = ", ".join(f"{name} = :{name}" for name in columns)
    async with rig.database.write() as conn:
        await conn.execute(text(f"UPDATE reminder SET {names}"), columns)


async def planned(rig, wanted, owner=TENANT):
    _, plan = await rig.services.planning.plan(owner, wanted)
    return {(q.channel, q.tenant, q.priority): q for q in plan.queues}


async def test_a_plan_says_what_waits_when_it_drains_and_what_it_costs(rig):
    await take(rig, 20)
    before = [await rows(rig.database, table) for table in ("reminder", "quota", "change", "live")]
    (queue,) = (await planned(rig, SMS_50)).values()
    assert (queue.channel, queue.tenant, queue.waiting) == ("sms", TENANT, 20)
    assert queue.now.drains_at - NOW < timedelta(minutes=1)
    assert queue.proposed.drains_at - NOW == pytest.approx(timedelta(seconds=400), abs=timedelta(minutes=1))
    assert queue.now.cost == queue.proposed.cost
    assert queue.now.cost[0].amount > 0
    assert [await rows(rig.database, table) for table in ("reminder", "quota", "change", "live")] == before


async def test_what_expires_before_its_turn_is_told(rig):
    await take(rig, 20)
    await spread(rig, expires_at=to_us(NOW + timedelta(seconds=202)))
    (queue,) = (await planned(rig, SMS_50)).values()
    assert queue.now.expires == 0
    assert 9 <= queue.proposed.expires <= 13


@ON_SQLITE
async def test_what_a_quota_put_off_is_due_in_a_plan_and_what_a_rule_put_off_is_not(rig):
    await take(rig, 2)
    later = to_us(NOW + timedelta(hours=20))
    await spread(rig, state="deferred", reason="quota", by="sms", next_at=later)
    (queue,) = (await planned(rig, SMS_50)).values()
    assert queue.now.drains_at - NOW < timedelta(minutes=1)
    await spread(rig, reason="OP.CAPS.DAY", by="OP.CAPS.DAY")
    (queue,) = (await planned(rig, SMS_50)).values()
    assert queue.now.drains_at == pytest.approx(from_us(later), abs=timedelta(minutes=20))


@ON_SQLITE
async def test_a_tenant_plans_for_itself_and_the_deployment_for_everybody(rig):
    await take(rig, 3)
    assert await planned(rig, SMS_50, Tenant("beta/live")) == {}
    assert [q.waiting for q in (await planned(rig, SMS_50, EVERYBODY)).values()] == [3]
    assert await planned(rig, SMS_50, deployment(Mode.TEST)) == {}


@ON_SQLITE
async def test_what_a_pause_covers_waits_for_its_end(rig):
    await take(rig, 3)
    async with rig.database.write() as conn:
        await conn.execute(
            text(
                "INSERT INTO pause (owner, id, kind, scope, until, reason, set_by, set_role, at, seq, calling,"
                " recalled, may_arrive) VALUES (:owner, 'ps_1', 'pause', :scope, :until, 'x', 'a', 'ops', 0, 1,"
                " '[]', '[]', '[]')"
            ),
            {"owner": TENANT, "scope": '{"channel":"sms"}', "until": to_us(NOW + timedelta(hours=1))},
        )
    (queue,) = (await planned(rig, SMS_50)).values()
    assert queue.now.drains_at >= NOW + timedelta(hours=1)


async def test_work_goes_the_ways_it_went_lately_with_its_parts(rig):
    await take(rig, 2)
    await rig.drain()
    assert {row.state for row in await rows(rig.database, "reminder")} == {"sent"}
    await rig.take(*[_other(n) for n in range(11, 31)])
    stock = await PlanStore(rig.database).stock(Mode.LIVE, by_country=False)
    assert sum(number for _, number in stock.lately) == 2
    assert all(0 < seconds < 5 for seconds in stock.call_s.values())
    ((load, _),) = stock.lately
    (queue,) = (await planned(rig, SMS_50)).values()
    account = rig.gateway.accounts.named(TENANT, load.account).account
    assert queue.now.cost == (
        Money(amount=account.price.amount * load.segments * 20, currency=account.price.currency),
    )


def _other(number):
    return reminder(number, channels=["sms"])


@ON_SQLITE
async def test_what_was_sent_today_counts_against_a_day_that_is_only_proposed(rig):
    await take(rig, 3)
    await rig.drain()
    await rig.take(*[_other(n) for n in range(11, 16)])
    (queue,) = (await planned(rig, {"day": {"per_day": 5, "zone": "Asia/Shanghai"}})).values()
    assert (queue.waiting, queue.now.rolls_over, queue.proposed.rolls_over) == (5, 0, 3)


@ON_SQLITE
async def test_a_backlog_of_too_many_groups_is_read_coarser(rig):
    await take(rig, 12)
    async with rig.database.write() as conn:
        await conn.execute(
            text(
                "UPDATE reminder SET next_at = :now + rowid * 61000000, expires_at = expires_at - rowid * 3600000000"
            ),
            {"now": to_us(NOW) + 3_600_000_000},
        )
    fine = await PlanStore(rig.database).stock(Mode.LIVE, by_country=False)
    coarse = await PlanStore(rig.database, most=5).stock(Mode.LIVE, by_country=False)
    assert (len(fine.groups), sum(g.count for g in fine.groups)) == (12, 12)
    assert len(coarse.groups) < 12
    assert sum(g.count for g in coarse.groups) == 12
    assert all(g.due <= h.due for g, h in zip(coarse.groups, fine.groups, strict=False))


@ON_SQLITE
async def test_every_fault_of_a_proposal_is_told_and_what_to_do_about_it(rig):
    with pytest.raises(BadInput) as refused:
        await planned(rig, {"a": {"burst": 5}, "b": None, "c": {"budget": {"amount": "1.00"}}})
    assert {fault.at for fault in refused.value.faults} == {
        "/quotas/a",
        "/quotas/a/burst",
        "/quotas/b",
        "/quotas/c/budget/currency",
        "/quotas/c/budget/per",
    }


async def test_the_api_answers_a_plan_and_refuses_what_is_malformed(api):
    ops = await api.of("ops")
    answer = await ops.post("/v1/quotas/plan", json={"quotas": {"sms": {"rate": 5}}})
    assert answer.status_code == 200, answer.text
    assert answer.json()["queues"] == []
    answer = await ops.post("/v1/quotas/plan", json={"quotas": {"sms": {"rate": 0, "rat": 1}}})
    assert {e["at"] for e in answer.json()["errors"]} == {"/quotas/sms/rate", "/quotas/sms/rat"}
    answer = await ops.post("/v1/quotas/plan", json={"quotas": {"pace.none": {"rate": 5}}})
    assert [(e["at"], e["code"]) for e in answer.json()["errors"]] == [
        ("/quotas/pace.none/name", "quota_unfit")
    ]
    assert (await ops.post("/v1/quotas/plan", json={"quotas": {}})).json()["queues"] == []
    service = await api.of("service")
    assert (await service.post("/v1/quotas/plan", json={"quotas": {}})).status_code == 403


async def test_numbers_of_a_country_are_planned_for_the_account_that_serves_it(rig):
    """Only Chinese numbers went so far; what waits are Singaporean ones, which another account takes."""
    await take(rig, 3)
    await rig.drain()
    abroad = [{"channel": "sms", "value": f"+658123456{n}", "kind": "personal"} for n in range(4)]
    people = [borrower(40 + n, addresses=[address]) for n, address in enumerate(abroad)]
    await rig.take(*[reminder(40 + n, borrower=one, channels=["sms"]) for n, one in enumerate(people)])

    slow = {"pace.sms-intl": {"rate": 0.5}}
    (queue,) = (await planned(rig, slow)).values()

    assert (queue.waiting, [price.currency for price in queue.now.cost]) == (4, ["USD"])
    assert queue.proposed.drains_at - NOW > timedelta(seconds=6) > queue.now.drains_at - NOW
