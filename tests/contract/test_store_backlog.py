"""The roll-ups say what a COUNT would, whatever was done to reminders, and whoever folds when."""

import asyncio
import random

import pytest
from makers import NOW, rows
from rollup_counts import both
from sqlalchemy import bindparam, delete, insert, text, update

from gateway.backlog import Backlog, Due, Lane
from gateway.domain import Tenant, to_us
from gateway.store import schema
from gateway.store.backlog import PEEK, BacklogStore, rolled
from gateway.telemetry import Metrics

TENANTS = ("acme/live", "acme/test", "beta/live")
STATES = {
    "waiting": None,
    "deferred": "OP.CAPS.DAY",
    "sending": None,
    "sent": None,
    "suppressed": "duplicate",
}
WAIT = ("waiting", "deferred")
REMINDER = schema.reminder.c


def row(number, tenant="acme/live", channel="sms", template="pre_due", priority=1, **more):
    """A reminder's row, with nothing in it that these tests do not ask about."""
    return {
        "tenant": tenant,
        "id": f"rm_{number}",
        "key": f"k-{number}",
        "state": "waiting",
        "reason": None,
        "person": "pn_1",
        "borrower": "B-1",
        "debt": "L-1",
        "due_date": "2026-11-30",
        "queue": f"{channel}|{tenant}|{template}|{priority}",
        "channel": channel,
        "channels": "[]",
        "purpose": "collection",
        "actor_role": "creditor",
        "actor_id": "acme",
        "recipient_role": "debtor",
        "template": template,
        "template_version": 1,
        "facts_enc": b"",
        "priority": priority,
        "expires_at": 0,
        "repeat": False,
        "escalate": "[]",
        "next_at": to_us(NOW),
        "places": "[]",
        "accepted_at": 0,
        "updated_at": 0,
        **more,
    }


async def add(database, *reminders):
    async with database.write() as conn:
        await conn.execute(insert(schema.reminder), list(reminders))


@pytest.fixture
def store(database):
    return BacklogStore(database)


async def work(database, draw, first):
    """Random work on reminders of this worker's own: some of it is undone, one at a time and many at once."""
    names = []
    for step in range(12):
        async with database.write() as conn:
            undone = await conn.begin_nested()
            names += await _step(conn, draw, first + 100 * step, names)
            await (undone.rollback() if draw.random() < 0.2 else undone.commit())


async def _step(conn, draw, number, names):
    made = []
    match draw.choice(("insert", "one", "many", "executemany", "delete")):
        case "insert":
            made = [
                row(number + n, draw.choice(TENANTS), priority=draw.randrange(3))
                for n in range(draw.randrange(1, 9))
            ]
            await conn.execute(insert(schema.reminder), made)
        case "one":
            await conn.execute(
                update(schema.reminder)
                .where(REMINDER.id.in_(draw.sample(names, min(1, len(names)))))
                .values(change(draw))
            )
        case "many":
            await conn.execute(
                update(schema.reminder)
                .where(REMINDER.id.in_(draw.sample(names, len(names) // 2)))
                .values(change(draw))
            )
        case "executemany":
            changes = [{"k": name, **change(draw)} for name in draw.sample(names, len(names) // 3)]
            if changes:
                fields = {name: bindparam(name) for name in ("state", "reason", "next_at", "queue")}
                await conn.execute(
                    update(schema.reminder).where(REMINDER.id == bindparam("k")).values(fields), changes
                )
        case "delete":
            await conn.execute(
                delete(schema.reminder).where(REMINDER.id.in_(draw.sample(names, len(names) // 4)))
            )
    return [each["id"] for each in made]


def change(draw):
    state = draw.choice(list(STATES))
    next_at = to_us(NOW) + draw.randrange(-200, 200) * 1_000_000 if state in WAIT else None
    return {
        "state": state,
        "reason": STATES[state],
        "next_at": next_at,
        "queue": f"{draw.choice(('sms', 'voice'))}|acme/live|pre_due|{draw.randrange(3)}",
    }


@pytest.mark.parametrize("seed", range(3))
async def test_after_random_work_of_several_at_once_the_roll_ups_are_what_a_count_gives(
    database, store, seed
):
    async def folds():
        for _ in range(5):
            await store.fold()
            await asyncio.sleep(0.01)

    workers = [work(database, random.Random(f"{seed} {n}"), 10_000 * n) for n in range(3)]
    await asyncio.gather(*workers, folds(), folds())

    counted, rolled_up = await both(database)
    assert len(counted) > 3
    assert rolled_up == counted
    await store.fold()
    assert await both(database) == [counted, counted]
    assert await rows(database, "backlog_delta") == []
    assert await rows(database, "backlog", "number = 0") == []


@pytest.mark.parametrize("what", ["insert", "update", "delete"])
async def test_without_one_of_the_triggers_the_roll_ups_would_be_wrong(database, what):
    async with database.write() as conn:
        of = "" if database.sqlite else " ON reminder"
        await conn.execute(text(f"DROP TRIGGER backlog_{what}{of}"))

    for seed in range(3):
        await work(database, random.Random(seed), 10_000 * seed)

    counted, rolled_up = await both(database)
    assert rolled_up != counted


LANE = Lane(rank=1, tenant=Tenant("acme/live"), channel="sms")
SECOND = 1_000_000


async def seen(database, now, tenant=None):
    async with database.read() as conn:
        return await rolled(conn, now, tenant)


@pytest.mark.parametrize(
    ("after_s", "due", "oldest_s"),
    [
        (-0.000001, 0, 0.0),
        (0, 1, 0.0),
        (29.999999, 1, 29.999999),
        (30, 2, 30.0),
        (59.999999, 2, 59.999999),
        (60, 2, 60.0),
        (90, 3, 90.0),
    ],
)
async def test_what_is_due_is_exact_within_the_minute_that_is_under_way(database, after_s, due, oldest_s):
    at = [0, 30, 90]
    await add(database, *(row(n, next_at=to_us(NOW) + s * SECOND) for n, s in enumerate(at)))

    found = await seen(database, to_us(NOW) + round(after_s * SECOND))

    assert found.lanes[LANE] == Due(number=due, oldest_s=oldest_s)


async def test_a_minute_that_is_too_full_to_look_at_counts_as_due_from_its_first_reminder_on(database):
    due, later = to_us(NOW) + SECOND, to_us(NOW) + 59 * SECOND
    await add(
        database,
        *(row(n, next_at=due) for n in range(PEEK)),
        *(row(PEEK + n, next_at=later) for n in range(5)),
    )

    assert (await seen(database, to_us(NOW) + 2 * SECOND)).due.number == PEEK + 5
    assert (await seen(database, to_us(NOW))).due.number == 0


async def test_lanes_and_tenants_are_kept_apart_and_templates_are_not(database):
    await add(
        database,
        row(1),
        row(2, template="care", next_at=to_us(NOW) - 5 * SECOND),
        row(3, tenant="acme/test"),
        row(4, priority=0, state="deferred", reason="OP.CAPS.DAY", next_at=to_us(NOW) + 9 * SECOND),
        row(5, state="sent", next_at=None),
    )

    everyone, own = await seen(database, to_us(NOW)), await seen(database, to_us(NOW), Tenant("acme/live"))

    assert everyone.lanes[LANE] == Due(number=2, oldest_s=5.0)
    assert everyone.due == Due(number=3, oldest_s=5.0)
    assert own.shown() == {
        "states": {"waiting": 2, "deferred": 1, "sent": 1},
        "due": 2,
        "oldest_due_s": 5.0,
        "deferred": {"OP.CAPS.DAY": 1},
        "lanes": [{"channel": "sms", "tenant": "acme", "priority": "normal", "due": 2, "oldest_due_s": 5.0}],
    }


async def test_metrics_show_what_waits_and_nothing_of_what_is_gone(database, store):
    metrics = Metrics()
    backlog = Backlog(store, metrics)
    await add(database, row(1, next_at=1), row(2, state="deferred", reason="OP.CAPS.DAY", next_at=1 << 60))
    await backlog.once()
    first = metrics.render().decode()
    async with database.write() as conn:
        await conn.execute(update(schema.reminder).values(state="unknown", reason=None, next_at=None))
    await backlog.once()
    then = metrics.render().decode()

    assert 'gateway_due{channel="sms",priority="normal",tenant="acme/live"} 1.0' in first
    assert 'gateway_deferred{reason="OP.CAPS.DAY",tenant="acme/live"} 1.0' in first
    assert 'gateway_due{channel="sms",priority="normal",tenant="acme/live"} 0.0' in then
    assert 'gateway_reminders{state="unknown",tenant="acme/live"} 2.0' in then
    assert "OP.CAPS.DAY" not in then
