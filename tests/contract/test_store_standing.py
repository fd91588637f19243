"""How accounts stand, over SQLite and PostgreSQL alike: what go is told, and what T2 writes."""

import asyncio
from datetime import timedelta

import orjson
import pytest
from makers import NOW, borrower, by_id, debt, rows, set_clock
from sqlalchemy import insert, update

from gateway.domain import Handed, HandOver, Tenant, to_us
from gateway.intake import Done
from gateway.quotas.model import Load
from gateway.standing import Breaker, Ending
from gateway.store import schema, standing
from gateway.store.standing import Standings
from gateway.work import Start

TENANT = Tenant("acme/live")
POOL = "acme/live|sms-cn"
HOUR = timedelta(hours=1)
ON_SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
"""For what the kind of store cannot change."""


@pytest.fixture
async def store(database):
    """Its clocks stand a day apart, so that none is taken for the other."""
    await set_clock(database, NOW + timedelta(days=1))
    for name, tenant, adapter, settings, weight in (
        ("sms-cn", "acme/live", "aliyun_sms", {}, None),
        ("sms-intl", "acme/live", "twilio_sms", {}, None),
        ("fast", "acme/live", "twilio_sms", {"pace": "100"}, None),
        ("voice", "acme/live", "twilio_voice", {}, None),
        ("both", "acme/live", "aliyun_sms", {}, 3),
        ("both", "beta/live", "aliyun_sms", {}, 1),
    ):
        async with database.write() as conn:
            await conn.execute(
                insert(schema.account).values(
                    tenant=tenant,
                    name=name,
                    adapter=adapter,
                    sender="+15005550006",
                    settings=orjson.dumps(settings).decode(),
                    weight=weight,
                    enabled=True,
                    revision=1,
                    updated_at=0,
                )
            )
    return Standings(database)


def load(account="sms-cn", adapter="aliyun_sms", tenant=TENANT, *, segments=1, shared=False):
    return Load(
        tenant=tenant,
        channel="sms",
        adapter=adapter,
        account=account,
        template="pre_due",
        shared=shared,
        segments=segments,
    )


def start(ref, deliver_by, of=None):
    return Start(
        ref=ref,
        load=of or load(),
        template_version=1,
        portfolios=frozenset(),
        places=frozenset(),
        deliver_by=deliver_by,
    )


async def admitted(database, *refs, of=None, within=HOUR):
    """Which of these may go now, and why the others may not."""
    async with database.write() as conn:
        moment = await database.moment(conn)
        starts = [start(ref, moment.real + within, of) for ref in refs]
        refused = await standing.admit(conn, moment, starts, await standing.read(conn))
    return [ref for ref in refs if ref not in refused], refused


async def learn(database, *endings, pool=POOL, adapter="aliyun_sms", ref="", **handed):
    async with database.write() as conn:
        moment = await database.moment(conn)
        told = [
            Ending(pool=pool, adapter=adapter, handed=Handed(ending=ending, code="42", **handed), ref=ref)
            for ending in endings
        ]
        await standing.learn(conn, moment, told)


async def stands(store, pool=POOL):
    _, found = await store.standings()
    return found.get(pool)


async def seq(database):
    return (await rows(database, "live"))[0].seq


async def attempt(database, ref, state="calling", *, ago=0.0, account="sms-cn", tenant="acme/live"):
    """An attempt that was called so many seconds ago."""
    async with database.write() as conn:
        called = (await database.moment(conn)).real - timedelta(seconds=ago)
        where = {"tenant": tenant, "ref": ref, "started_at": to_us(NOW)}
        await conn.execute(
            insert(schema.attempt_ref).values(**where, reminder="rm_1", adapter="aliyun_sms", account=account)
        )
        await conn.execute(
            insert(schema.attempt).values(
                **where,
                reminder="rm_1",
                origin="gateway",
                person="p",
                borrower="b",
                debt="d",
                creditor="c",
                channel="sms",
                adapter="aliyun_sms",
                account=account,
                recipient_role="debtor",
                actor_role="creditor",
                flags="[]",
                state=state,
                deadline=to_us(called + timedelta(seconds=8)),
                called_at=to_us(called),
            )
        )


async def becomes(database, ref, state):
    async with database.write() as conn:
        await conn.execute(update(schema.attempt).where(schema.attempt.c.ref == ref).values(state=state))


async def aged(database, **delta):
    """Let that much real time have passed since what stands was written."""
    past = timedelta(**delta) // timedelta(microseconds=1)
    async with database.write() as conn:
        for row in await rows(database, "standing"):
            said = orjson.loads(row.state)
            said |= {k: v - past for k, v in said.items() if k.endswith(("_at", "_until", "_since"))}
            await conn.execute(
                update(schema.standing)
                .where(schema.standing.c.pool == row.pool)
                .values(
                    state=orjson.dumps(said).decode(),
                    clears_at=row.clears_at - past if row.clears_at is not None else None,
                )
            )


async def half_open(database, store, pool=POOL, adapter="aliyun_sms"):
    await learn(database, HandOver.CONFIG, pool=pool, adapter=adapter)
    await store.checked(pool, ok=True)


async def test_what_goes_well_leaves_no_trace(database, store):
    before = await seq(database)
    await learn(database, HandOver.ACCEPTED, HandOver.CONTENT, HandOver.OPT_OUT)

    assert (await admitted(database, "at_1", "at_2"))[0] == ["at_1", "at_2"]
    assert (await rows(database, "standing"), await seq(database)) == ([], before)


async def test_a_configuration_error_stops_the_next_go_and_is_a_numbered_change(database, store):
    before = await seq(database)
    await learn(database, HandOver.ACCEPTED, HandOver.CONFIG)
    free, refused = await admitted(database, "at_1", "at_2")

    assert free == []
    assert {(r.reason, r.by) for r in refused.values()} == {("account_down", "sms-cn")}
    assert await seq(database) == before + 1
    (row,) = await rows(database, "standing")
    assert (bool(row.down), row.seq) == (True, before + 1)
    assert (await admitted(database, "at_1", of=load("fast", "twilio_sms")))[0] == ["at_1"]


@ON_SQLITE
async def test_a_refused_start_is_asked_again_soon_on_the_policy_clock(database, store):
    await learn(database, HandOver.CONFIG)
    _, refused = await admitted(database, "at_1")

    async with database.read() as conn:
        moment = await database.moment(conn)
    assert timedelta(0) < refused["at_1"].again - moment.policy <= timedelta(seconds=2)


@ON_SQLITE
async def test_calls_that_end_while_it_is_down_change_nothing(database, store):
    await learn(database, HandOver.CONFIG)
    before = await stands(store)
    await learn(database, *[HandOver.ACCEPTED] * 5)

    assert await stands(store) == before


async def test_one_of_a_batch_probes_and_the_next_only_after_it(database, store):
    await half_open(database, store)

    assert (await admitted(database, "at_1", "at_2"))[0] == ["at_1"]
    await attempt(database, "at_1")
    assert (await admitted(database, "at_3"))[0] == []
    await learn(database, HandOver.ACCEPTED, ref="at_1")
    assert (await admitted(database, "at_3"))[0] == ["at_3"]


@ON_SQLITE
async def test_three_probes_close_it_and_each_step_is_numbered(database, store):
    await half_open(database, store)
    before = await seq(database)
    for n in range(3):
        assert (await admitted(database, f"at_{n}"))[0] == [f"at_{n}"]
        await learn(database, HandOver.ACCEPTED, ref=f"at_{n}")

    assert (await stands(store)).breaker is Breaker.CLOSED
    assert await seq(database) == before + 6
    assert (await admitted(database, "at_8", "at_9"))[0] == ["at_8", "at_9"]


@pytest.mark.parametrize("withdrawn", [True, False])
async def test_a_probe_that_was_withdrawn_or_never_written_frees_its_place(database, store, withdrawn):
    await half_open(database, store)
    await admitted(database, "at_1")
    if withdrawn:
        await attempt(database, "at_1", "void")

    assert (await admitted(database, "at_2"))[0] == ["at_2"]


async def test_a_probe_whose_owner_was_lost_failed(database, store):
    await half_open(database, store)
    await admitted(database, "at_1")
    await attempt(database, "at_1")
    assert (await admitted(database, "at_2"))[0] == []
    await becomes(database, "at_1", "unknown")

    assert (await admitted(database, "at_2"))[0] == []
    assert (await stands(store)).breaker is Breaker.OPEN


async def test_goes_at_the_same_time_let_one_probe_through(database, store):
    await half_open(database, store)
    for n in range(8):
        await attempt(database, f"at_{n}")
    found = await asyncio.gather(*(admitted(database, f"at_{n}") for n in range(8)))

    assert sum(len(free) for free, _ in found) == 1


async def test_good_calls_of_the_last_minute_are_looked_up_at_the_first_error(database, store):
    for n in range(11):
        await attempt(database, f"at_{n}", "accepted", ago=30)
    for n in range(11, 20):
        await attempt(database, f"at_{n}", "accepted", ago=90)
    await attempt(database, "at_x", "accepted", ago=30, account="fast")
    await learn(database, *[HandOver.NOT_SENT] * 10)
    assert not (await stands(store)).down
    await learn(database, HandOver.NOT_SENT)

    assert (await stands(store)).why == "errors"


@pytest.mark.parametrize(("answered_ago", "down"), [(7, True), (3, False)])
async def test_calls_that_hang_open_it_with_the_first_that_timed_out(database, store, answered_ago, down):
    for n in range(4):
        await attempt(database, f"at_{n}", ago=6 + n)
    await attempt(database, "at_8", ago=4)
    await attempt(database, "at_9", "delivered", ago=answered_ago)
    await learn(database, HandOver.UNKNOWN)

    assert (await stands(store)).down is down


async def test_whoever_shares_an_account_shares_how_it_stands(database, store):
    pool = "*/live|both"
    for n in range(2):
        await attempt(database, f"at_{n}", ago=8, account="both")
        await attempt(database, f"at_b{n}", ago=8, account="both", tenant="beta/live")
        await attempt(database, f"at_t{n}", ago=8, account="both", tenant="beta/test")
    await learn(database, HandOver.UNKNOWN, pool=pool)

    assert (await stands(store, pool)).down
    for tenant in ("acme/live", "beta/live"):
        free, _ = await admitted(database, "at_1", of=load("both", tenant=Tenant(tenant), shared=True))
        assert free == []


@ON_SQLITE
async def test_a_day_that_is_used_up_is_waited_for_until_the_providers_midnight(database, store):
    await learn(database, HandOver.RETRY_AFTER, reach="account")
    free, refused = await admitted(database, "at_1")
    async with database.read() as conn:
        moment = await database.moment(conn)

    assert (free, refused["at_1"].reason, refused["at_1"].by) == ([], "quota", "sms-cn")
    again = refused["at_1"].again - (moment.policy - moment.real)
    assert (again + timedelta(hours=8)).time().replace(microsecond=0).isoformat() in ("00:00:00", "23:59:59")


@ON_SQLITE
async def test_throttles_are_numbered_once_a_halving(database, store):
    before = await seq(database)
    for _ in range(5):
        await learn(database, *[HandOver.RETRY_AFTER] * 20, reach="rate")

    assert (await stands(store)).level == 1
    assert await seq(database) == before + 1
    assert (await admitted(database, "at_1"))[0] == ["at_1"]


@ON_SQLITE
async def test_a_row_says_nothing_any_more_when_all_is_over(database, store):
    await learn(database, HandOver.RETRY_AFTER, HandOver.NOT_SENT, reach="rate")
    await aged(database, seconds=70)
    async with database.write() as conn:
        (row,) = await rows(database, "standing")
        said = orjson.loads(row.state)
        said["tallies"] = [[at - 70_000_000, calls, errors] for at, calls, errors in said["tallies"]]
        await conn.execute(update(schema.standing).values(state=orjson.dumps(said).decode()))
    await learn(database, HandOver.ACCEPTED)

    assert await stands(store) is None


# What a provider's own queue would not clear in time.


@ON_SQLITE
@pytest.mark.parametrize(
    ("of", "fit"),
    [
        (load("sms-intl", "twilio_sms"), 5),
        (load("sms-intl", "twilio_sms", segments=2), 2),
        (load("voice", "twilio_voice", segments=9), 5),
        (load("fast", "twilio_sms"), 20),
        (load("sms-cn", "aliyun_sms"), 20),
    ],
    ids=["segments", "long texts", "calls", "a pace of its own", "no queue"],
)
async def test_no_more_is_handed_over_than_a_providers_queue_clears_in_time(database, store, of, fit):
    refs = [f"at_{n:02}" for n in range(20)]
    free, refused = await admitted(database, *refs, of=of, within=timedelta(seconds=5.5))

    assert free == refs[:fit]
    assert {(r.reason, r.by) for r in refused.values()} <= {("quota", of.account)}


@ON_SQLITE
async def test_what_was_handed_over_stays_in_the_queue_until_it_is_cleared(database, store):
    of = load("sms-intl", "twilio_sms")
    assert len((await admitted(database, "a", "b", "c", of=of, within=timedelta(seconds=5)))[0]) == 3
    assert len((await admitted(database, "d", "e", "f", of=of, within=timedelta(seconds=5)))[0]) in (1, 2)
    await aged(database, seconds=20)

    assert len((await admitted(database, "g", "h", "i", of=of, within=timedelta(seconds=5)))[0]) == 3


@ON_SQLITE
async def test_what_would_come_out_too_late_is_asked_again_when_it_would_have_been(database, store):
    of = load("sms-intl", "twilio_sms", segments=9)
    _, refused = await admitted(database, "a", of=of, within=timedelta(seconds=8))
    async with database.read() as conn:
        moment = await database.moment(conn)

    assert timedelta(seconds=6) < refused["a"].again - moment.policy <= timedelta(seconds=8)


# What waits for an account.


async def test_what_waits_for_an_account_is_let_in_and_nothing_else(database, store, take_in):
    intake = take_in(database)
    for n in range(6):
        assert all(isinstance(r, Done) for r in await intake.borrowers(TENANT, [borrower(n)]))
        assert all(
            isinstance(r, Done) for r in await intake.debts(TENANT, [{**debt(n), "borrower": f"B-{n}"}])
        )
    found = await intake.reminders(TENANT, [by_id(n, channels=["sms"]) for n in range(6)])
    names = [orjson.loads(result.body)["id"] for result in found]
    waits = [("account_down", "sms-cn")] * 3 + [
        ("account_down", "fast"),
        ("quota", "sms-cn"),
        ("paused", "ps_1"),
    ]
    async with database.write() as conn:
        later = to_us((await database.moment(conn)).policy + HOUR)
        for name, (reason, by) in zip(names, waits, strict=True):
            await conn.execute(
                update(schema.reminder)
                .where(schema.reminder.c.id == name)
                .values(state="deferred", reason=reason, by=by, next_at=later)
            )

    assert await store.let_in("beta/live|sms-cn", 9) == 0
    assert await store.let_in("*/test|sms-cn", 9) == 0
    assert await store.let_in(POOL, 1) == 1
    assert await store.let_in("*/live|sms-cn", 9) == 2
    still = [row.id for row in await rows(database, "reminder", f"next_at = {later}")]
    assert sorted(still) == sorted(names[3:])
    assert await store.let_in(POOL, 9, ["fast"]) == 1, "what waits for another that it stands in for"
