"""A million due reminders in three queues that are wholly paused: what drains beside them pay for looking."""

import time
from statistics import median

from sqlalchemy import text

from gateway.pauses import Kind, Pause, PauseScope, first_of_queue
from gateway.quotas.model import Scope
from gateway.store.dispatch import DispatchStore

MANY, BESIDE = 333_334, 40
PAUSED = {
    "wechat|acme/live|pre_due|1": Scope(channel="wechat"),
    "sms|beta/live|pre_due|1": Scope(tenant="beta"),
    "sms|acme/live|overdue|1": Scope(template="overdue"),
}
OPEN = "sms|acme/live|pre_due|1"
LOOKS = 300

_ADD = text(
    "WITH RECURSIVE s(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < CAST(:most AS INTEGER))"
    " INSERT INTO reminder (tenant, id, key, state, person, borrower, debt, due_date, queue, channel, channels,"
    " purpose, actor_role, actor_id, recipient_role, template, template_version, facts_enc, priority, expires_at,"
    " repeat, escalate, places, accepted_at, updated_at, next_at)"
    " SELECT CAST(:tenant AS TEXT), CAST(:queue AS TEXT) || n, n, 'waiting', 'pn_' || n, 'B-1', 'L-1',"
    " '2026-11-30', CAST(:queue AS TEXT), CAST(:channel AS TEXT), '[]', 'collection', 'creditor', 'acme', 'debtor',"
    " CAST(:template AS TEXT), 1, '', CAST(:priority AS INTEGER), 2, false, '[]', '[]', n, 0, 1 FROM s"
)


async def add(database, queue, number):
    """So many due reminders in a queue, each of a person of their own."""
    channel, tenant, template, priority = queue.split("|")
    said = {"channel": channel, "tenant": tenant, "template": template, "priority": int(priority)}
    async with database.write() as conn:
        await conn.execute(_ADD, {**said, "queue": queue, "most": number})


async def looked(store, pauses):
    """Milliseconds that one look of a drain takes: what is due, which of it is open, and a pick of that."""
    now, spent = (await store.moment()).policy, list[float]()
    for _ in range(LOOKS):
        began = time.perf_counter()
        due = [q for q in await store.due_queues() if first_of_queue(pauses, q, now) is None]
        picked = await store.pick({queue.name: BESIDE for queue in due}, "ow_1")
        spent.append(1000 * (time.perf_counter() - began))
        assert len(picked) == BESIDE
    return median(spent)


async def test_a_paused_queue_costs_those_beside_it_one_look_up_however_much_waits_in_it(database, figure):
    store = DispatchStore(database, None)
    pauses = [
        Pause(owner="*/live", id=f"ps_{n}", kind=Kind.STOP, scope=PauseScope(quota=scope))
        for n, scope in enumerate(PAUSED.values())
    ]
    await add(database, OPEN, BESIDE)
    for queue in PAUSED:
        await add(database, queue, 1)
    few = await looked(store, pauses)
    async with database.write() as conn:
        await conn.execute(text("DELETE FROM reminder WHERE queue <> :open"), {"open": OPEN})
    for queue in PAUSED:
        await add(database, queue, MANY)
    many = await looked(store, pauses)

    figure("ms that a look takes beside 3 that are paused, beside a million", f"{few:.2f}, {many:.2f}")
    assert many < 2 * few + 0.5
