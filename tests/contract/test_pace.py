"""The pace: one contract for Redis and SQL, the script against its reference, and the switch between the two."""

import asyncio
import os
import random
import signal
import time
from collections import Counter
from contextlib import suppress

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pacing import a_group, a_pace
from redis.asyncio import Redis
from sqlalchemy import event, text

from gateway.errors import Unavailable
from gateway.pace.redis import KEYS, SCRIPT, RedisPace, _pace, _sizes
from gateway.pace.sql import SqlPace
from gateway.pace.switch import Switch
from gateway.quotas import dealing
from gateway.quotas.asked import AHEAD_US, Wanted
from gateway.settings import RedisTarget
from gateway.store import pace as rows
from gateway.store.database import Database
from gateway.store.live import GO_LOCK
from gateway.store.pace import REDIS, SQL, Source, Sources
from gateway.tokens import connect

TIMED = SCRIPT.replace("redis.call('TIME')", "{ARGV[3], ARGV[4]}")
"""The script with the time as an argument."""
START = 1_790_000_000_000_000 - 1_735_689_600_000_000
FAST = 20
"""How much faster than real time a switch's own clock runs here."""


@pytest.fixture
async def redis_pace(valkey, redis):
    pace = RedisPace(RedisTarget(path=str(valkey.socket)))
    yield pace
    await pace.aclose()


class OfEpoch:
    """RedisPace as of one epoch."""

    def __init__(self, pace, epoch):
        self.pace, self.epoch = pace, epoch

    async def take(self, wanted):
        return await self.pace.take(wanted, self.epoch)

    async def room(self, paces, worker):
        return await self.pace.room(paces, worker, self.epoch)


@pytest.fixture(params=["redis", "sqlite_url", "postgres_url"])
def granter_url(request):
    """The database of whoever grants; None for Redis."""
    return None if request.param == "redis" else request.getfixturevalue(request.param)


@pytest.fixture
async def granter(granter_url, redis_pace):
    """Whoever grants, of each kind."""
    if granter_url is None:
        yield OfEpoch(redis_pace, 1)
        return
    database = Database(granter_url)
    yield SqlPace(database)
    await database.aclose()


def wanted(pace, *, worker="w1", count=100, **more):
    return Wanted(worker=worker, paces=(pace,), groups=(a_group(count=count, **more),))


async def test_a_new_bucket_is_empty_and_then_two_workers_share_its_pace(granter):
    pace, began, starts = a_pace(per_s=50, burst=1), time.monotonic(), []
    while len(starts) < 20 and time.monotonic() < began + 10:
        for worker in ("w1", "w2"):
            asked = time.monotonic()
            granted = await granter.take(wanted(pace, worker=worker))
            starts += [(asked + at / 1e6, time.monotonic() + at / 1e6) for at in granted.starts[0]]
        await asyncio.sleep(0.01)
    earliest, latest = zip(*sorted(starts), strict=True)
    assert latest[0] >= began + 0.02
    assert len(starts) >= 20
    for number, at in enumerate(latest):
        assert at >= began + 0.02 * (number + 1)
    assert max(earliest) <= time.monotonic() + AHEAD_US / 1e6


async def test_a_start_needs_a_slot_of_every_pace_or_takes_none(granter):
    paces = (a_pace("wide", 1000, 100), a_pace("slow", 0.001, 1))
    before = await granter.room(paces[:1], "w1")
    both = Wanted(worker="w1", paces=paces, groups=(a_group(paces=(0, 1)),))
    granted = await granter.take(both)
    assert granted.starts == ((),)
    assert (await granter.room(paces[:1], "w1"))[0] >= before[0]


async def test_what_another_worker_waits_for_is_no_room(granter):
    pace = a_pace(per_s=10, burst=1)
    await granter.room([pace], "w1")
    await granter.take(wanted(pace, count=7))
    (own,) = await granter.room([pace], "w1")
    (others,) = await granter.room([pace], "w2")
    assert others < own
    assert others <= 4
    await asyncio.sleep(0.65)
    (others,) = await granter.room([pace], "w2")
    assert others >= 9


async def test_groups_get_as_many_times_as_they_have_starts_at_most_and_empty_takes_none(granter):
    pace = a_pace(per_s=1e6, burst=1000)
    await granter.room([pace], "w1")
    await asyncio.sleep(0.15)
    groups = (a_group("beta", count=3), a_group("acme", count=0), a_group("acme", count=2, segments=(4, 1)))
    granted = await granter.take(Wanted(worker="w1", paces=(pace,), groups=groups))
    assert [len(given_) for given_ in granted.starts] == [3, 0, 2]
    assert (await granter.take(Wanted(worker="w1", paces=(), groups=()))).starts == ()
    assert await granter.room([], "w1") == []


# Redis.


async def full(pace, granter):
    """A meter with its burst saved up: so many start at once."""
    await granter.room([pace], "w1")
    await asyncio.sleep(0.1 + 2 * pace.burst / pace.per_s)
    return len((await granter.take(wanted(pace, count=pace.burst // 2))).starts[0])


async def at_once(pace, granter):
    granted = await granter.take(wanted(pace))
    return [at for at in granted.starts[0] if at < AHEAD_US]


async def test_a_flushed_meter_is_empty_and_owes_what_may_still_be_out(redis, redis_pace):
    pace, granter = a_pace(per_s=200, burst=20), OfEpoch(redis_pace, 1)
    assert await full(pace, granter) == 10
    await redis.flushall()
    assert await at_once(pace, granter) == []


@pytest.mark.parametrize("told", [True, False])
async def test_a_meter_that_a_restarted_redis_read_from_its_file_is_new_for_who_tells_the_run(
    valkey, redis, redis_pace, told
):
    if not told:  # the mutant: connections that come back without a word
        await redis_pace.aclose()
        redis_pace._redis = connect(RedisTarget(path=str(valkey.socket)))
    pace, granter = a_pace(per_s=200, burst=20), OfEpoch(redis_pace, 1)
    assert await full(pace, granter) == 10
    os.kill(valkey.pid, signal.SIGKILL)
    await asyncio.to_thread(valkey._child.wait)
    with pytest.raises(Unavailable):
        await granter.take(wanted(pace))
    await valkey._spawn()
    assert len(await redis.keys("*:m:*")) == 1
    assert (await at_once(pace, granter) == []) is told


async def test_a_newer_epoch_begins_empty_and_an_older_one_gets_and_changes_nothing(redis, redis_pace):
    pace = a_pace(per_s=200, burst=20)
    old, new = OfEpoch(redis_pace, 3), OfEpoch(redis_pace, 4)
    assert await full(pace, old) == 10
    assert await at_once(pace, new) == []
    before = {key: await redis.dump(key) for key in await redis.keys("*") if not key.endswith(b":claims")}
    with pytest.raises(Unavailable):
        await old.take(wanted(pace))
    with pytest.raises(Unavailable):
        await old.room([pace], "w1")
    assert before == {key: await redis.dump(key) for key in before}


async def test_every_key_has_one_hash_tag_and_an_end(redis, redis_pace):
    await redis_pace.take(wanted(a_pace()), 1)
    for key in await redis.keys("*"):
        assert key.startswith(KEYS.encode())
        assert await redis.pttl(key) > 0 or key.rpartition(b":")[2] in {b"epoch", b"run"}


# SQL.


async def test_sql_grants_nothing_while_redis_does(database):
    pace = SqlPace(database)
    await pace.take(wanted(a_pace(per_s=1e6, burst=1000)))
    async with database.write() as conn:
        await conn.execute(text("UPDATE live SET source = 'redis', epoch = 8"))
    granted = await pace.take(wanted(a_pace(per_s=1e6, burst=1000)))
    assert (granted.epoch, granted.starts) == (8, ((),))


async def test_workers_that_lease_at_the_same_instant_share_what_there_is(database_url):
    databases = [Database(database_url) for _ in range(4)]
    paces, pace = [SqlPace(database) for database in databases], a_pace(per_s=100, burst=10)
    await asyncio.gather(*(each.room([pace], "w") for each in paces))
    await asyncio.sleep(0.1)
    asked = [wanted(pace, worker=f"w{number}", count=60) for number in range(4)]
    answers = await asyncio.gather(*map(SqlPace.take, paces, asked))
    leased = sum(len(granted.starts[0]) for granted in answers)
    leased += sum(len(slots) for each in paces for slots in each._slots.values())
    assert 50 <= leased <= 90
    await asyncio.gather(*(database.aclose() for database in databases))


async def test_a_take_waits_for_whoever_has_the_pace_and_gives_up_in_time(postgres_url):
    database, other = Database(postgres_url), Database(postgres_url)
    pace = SqlPace(database)
    async with other.write() as conn:
        await rows.lock(conn)
        asked = time.monotonic()
        with pytest.raises(Unavailable):
            await pace.take(wanted(a_pace()))
        assert 0.5 <= time.monotonic() - asked < 2
    assert (await pace.take(wanted(a_pace()))).epoch == 1
    await asyncio.gather(database.aclose(), other.aclose())


async def test_sql_begins_after_what_the_source_before_it_may_have_granted(sqlite):
    fast = a_pace(per_s=1e6, burst=1)
    first = await SqlPace(sqlite).take(wanted(fast, count=1))
    assert first.starts[0][0] < 1000
    await Sources(sqlite).swap(1, REDIS)
    await Sources(sqlite).swap(2, SQL)
    granted = await SqlPace(sqlite).take(wanted(fast, count=1))
    assert granted.epoch == 3
    assert 50_000 < granted.starts[0][0] <= AHEAD_US


async def test_sql_is_asked_again_only_after_a_while_for_what_it_had_no_slot_for_and_at_once_for_what_is_new(
    sqlite,
):
    pace, slow = SqlPace(sqlite), a_pace("slow", 0.01, 1)
    counted = Counter()

    @event.listens_for(sqlite._writer.sync_engine, "commit")
    def count(conn):
        counted["commits"] += 1

    for _ in range(5):
        assert (await pace.take(wanted(slow))).starts == ((),)
    assert counted["commits"] == 1
    await pace.take(wanted(a_pace("other", 0.01, 1)))
    assert counted["commits"] == 2
    await asyncio.sleep(0.21)
    await pace.take(wanted(slow))
    assert counted["commits"] == 3


async def test_a_leased_slot_is_given_out_when_it_is_near_and_lost_when_nobody_comes(sqlite):
    now = [100.0]
    pace = SqlPace(sqlite, lambda: now[0])
    tens = a_pace("tens", 10, 1)
    assert (await pace.take(wanted(tens, count=4))).starts[0] in ((), (99_999,), (100_000,))
    now[0] += 0.15
    (given_,) = (await pace.take(wanted(tens, count=4))).starts
    assert len(given_) in (1, 2)
    now[0] += 10
    assert (await pace.take(wanted(tens, count=4))).starts == ((),)


# The switch.


@pytest.mark.parametrize(
    ("to", "after_s", "held", "next_"),
    [
        (SQL, 599, 5, 10),
        (SQL, 599, 200, 300),
        (SQL, 599, 300, 300),
        (SQL, 600, 300, 5),
        (REDIS, 1, 40, 40),
    ],
)
def test_the_hold_doubles_when_it_flaps_and_is_forgotten_after_ten_quiet_minutes(to, after_s, held, next_):
    source = Source(source="-", epoch=1, since=1_000_000, hold_s=held)
    assert source.next_hold_s(to, 1_000_000 + after_s * 1_000_000) == next_


async def test_of_two_who_change_the_source_at_once_one_does(database):
    sources = Sources(database)
    changed = await asyncio.gather(*(sources.swap(1, REDIS) for _ in range(3)))
    assert sorted(done for _, done in changed) == [False, False, True]
    assert {(source.source, source.epoch) for source, _ in changed} == {(REDIS, 2)}


async def test_the_source_changes_between_goes_only(postgres_url):
    database = Database(postgres_url)
    async with database.write() as conn:
        await conn.execute(text("SELECT pg_advisory_xact_lock_shared(:key)"), {"key": GO_LOCK})
        change = asyncio.create_task(Sources(database).swap(1, REDIS))
        await asyncio.sleep(0.15)
        assert not change.done()
    assert (await change)[1]
    await database.aclose()


@pytest.fixture
async def switch(valkey, redis, sqlite):
    """A switch whose own clock runs fast, and the configuration that it reads."""
    pace = RedisPace(RedisTarget(path=str(valkey.socket)))
    async with sqlite.write() as conn:
        await conn.execute(text("UPDATE live SET hold_s = 1"))
    known = {"word": (SQL, 1)}
    switch = Switch(
        sql=SqlPace(sqlite),
        redis=pace,
        sources=Sources(sqlite),
        word=lambda: known["word"],
        monotonic=lambda: time.monotonic() * FAST,
    )

    async def read():
        while True:
            standing, _ = await Sources(sqlite).standing()
            known["word"] = (standing.source, standing.epoch)
            await asyncio.sleep(0.05)

    tasks = [asyncio.create_task(switch.run()), asyncio.create_task(read())]
    yield switch
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await pace.aclose()


async def until(what, seconds=5):
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end
        await asyncio.sleep(0.02)


async def test_redis_is_trusted_after_good_answers_left_when_it_dies_and_held_off_then(switch, valkey):
    ask = wanted(a_pace(per_s=1000, burst=100))
    assert (await switch.take(ask)).source == SQL
    await until(lambda: switch.word == (REDIS, 2))
    granted = await switch.take(ask)
    assert (granted.source, granted.epoch) == (REDIS, 2)
    os.kill(valkey.pid, signal.SIGKILL)
    await asyncio.to_thread(valkey._child.wait)
    with pytest.raises(Unavailable):
        await switch.take(ask)
    await until(lambda: switch.word == (SQL, 3))
    assert (await switch.take(ask)).source == SQL
    assert (await switch.room(ask.paces, "w1"))[0] > 0
    await valkey._spawn()
    standing, now = await switch._sources.standing()
    assert standing.hold_s == 2
    assert not standing.held(standing.since + 1_999_999)
    assert standing.held(standing.since + 2_000_000)
    assert now >= standing.since


async def test_a_redis_that_knows_a_newer_epoch_than_a_database_of_old_is_caught_up_with(switch, redis):
    await redis.set(f"{KEYS}:epoch", 70)
    await until(lambda: switch.word == (REDIS, 71))
    assert (await switch.take(wanted(a_pace()))).epoch == 71
    await redis.set(f"{KEYS}:epoch", 90)
    with pytest.raises(Unavailable):
        await switch.take(wanted(a_pace()))
    await asyncio.sleep(2 / FAST)
    for _ in range(2):
        with suppress(Unavailable):
            await switch.take(wanted(a_pace()))
    assert switch.word == (SQL, 72)


async def test_without_a_redis_sql_grants_for_good(sqlite):
    await Sources(sqlite).swap(1, REDIS)
    switch = Switch(
        sql=SqlPace(sqlite),
        redis=None,
        sources=Sources(sqlite),
        word=lambda: (REDIS, 2),
        monotonic=time.monotonic,
    )
    await switch.run()
    granted = await switch.take(wanted(a_pace(per_s=1e6, burst=1)))
    assert (granted.source, granted.epoch) == (SQL, 3)


# The script against its reference.


PACES = st.builds(
    a_pace,
    key=st.sampled_from("abcde"),
    per_s=st.sampled_from([0.001, 0.2, 1.0, 3.0, 50.0, 333.0, 5000.0]),
    burst=st.sampled_from([1, 2, 5, 40, 10**9]),
    version=st.integers(1, 3),
    segments=st.booleans(),
)
GROUPS = st.lists(
    st.builds(
        a_group,
        tenant=st.sampled_from(["acme", "beta", "delta"]),
        lane=st.integers(0, 2),
        paces=st.lists(st.integers(0, 2), min_size=1, max_size=3, unique=True).map(tuple),
        weight=st.sampled_from([1.0, 3.0, 0.7]),
        pool=st.sampled_from(["pool", "other"]),
        segments=st.lists(st.integers(1, 4), max_size=30).map(tuple),
    ),
    max_size=6,
)
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["take", "take", "take", "room"]),
        st.sampled_from(["w1", "w2", "w3"]),
        st.lists(PACES, min_size=3, max_size=3).map(tuple),
        GROUPS.map(tuple),
        st.sampled_from([0, 1, 19_000, 20_000, 61_003, 260_000, 5_000_000, 30_000_000, -40_000]),
    ),
    min_size=1,
    max_size=9,
)


def dealt(steps):
    """What the reference answers."""
    state, now, answers = dealing.State(), START, []
    for what, worker, paces, groups, passed in steps:
        now += passed
        at = float(now)
        if what == "room":
            found = dealing.room(state, paces, worker, at, empty_at=at + AHEAD_US)
            answers.append(",".join(f"{each:.0f}" for each in found))
        else:
            asked = Wanted(worker=worker, paces=paces, groups=groups)
            starts = dealing.take(state, asked, at, empty_at=at + AHEAD_US)
            answers.append(";".join(",".join(map(str, given_)) for given_ in starts))
    return answers


async def scripted(script, steps, redis):
    """What the script answers."""
    await redis.flushall()
    answers, now = [], START
    for what, worker, paces, groups, passed in steps:
        now += passed
        asked = {"worker": worker, "epoch": 1, "paces": [_pace(p) for p in paces]}
        asked["groups"] = [[g.pool, g.tenant, g.weight, g.lane, g.paces, _sizes(g.segments)] for g in groups]
        real = now + 1_735_689_600_000_000
        args = (KEYS, what, orjson.dumps(asked), real // 1_000_000, real % 1_000_000)
        answers.append((await redis.eval(script, 1, *args)).decode())
    return answers


def test_the_script_deals_as_its_reference_does(valkey):
    with asyncio.Runner() as runner:
        redis = Redis(unix_socket_path=str(valkey.socket))

        @given(STEPS)
        def agree(steps):
            assert runner.run(scripted(TIMED, steps, redis)) == dealt(steps)

        agree()
        runner.run(redis.aclose())


MUTANTS = {
    "a newly active tenant brings its past along": (
        "share[1] = max(share[1], pool.time)",
        "share[1] = share[1]",
    ),
    "ties go to nobody's name": ("left == right and a.name < b.name", "left == right and a.name > b.name"),
    "claims of others are forgotten": ("abs(now - at) <= CLAIM", "false"),
    "an older version wins": ("if version >= meter.version or", "if true or"),
    "a changed rate sheds what is owed": ("(burst - saved) * unit", "burst * unit"),
    "a new meter is full": ("tat = empty_at + burst * unit", "tat = now"),
    "a clock set back bars for long": ("meter.tat + (now - meter.at)", "meter.tat"),
    "segments count once": ("spent = group.sizes[given] * spent", "spent = spent"),
    "floors are not kept": ("hand.work[2] >= 1", "hand.work[2] >= 1e9"),
    "who its own quota holds back is owed the others' slots": (
        "held[1][1] + (pool.time - held[2])",
        "held[1][1]",
    ),
}


def test_each_mutant_of_the_script_deals_otherwise(valkey):
    drawn = random.Random(7)

    def step():
        paces = tuple(
            a_pace(
                key=drawn.choice("abcd"),
                per_s=drawn.choice([1.0, 50.0, 333.0]),
                burst=drawn.choice([1, 5]),
                version=drawn.choice([1, 1, 2]),
                segments=drawn.random() < 0.3,
            )
            for _ in range(3)
        )
        groups = tuple(
            a_group(
                tenant=drawn.choice(["acme", "beta", "delta"]),
                lane=drawn.randrange(3),
                paces=tuple(drawn.sample(range(3), 2)),
                weight=drawn.choice([1.0, 3.0]),
                segments=tuple(drawn.choice([1, 1, 3]) for _ in range(drawn.randrange(1, 20))),
            )
            for _ in range(4)
        )
        passed = drawn.choice([0, 20_000, 20_000, 61_000, 260_000, -40_000])
        return drawn.choice(["take", "take", "room"]), drawn.choice(["w1", "w2"]), paces, groups, passed

    steps = [step() for _ in range(150)]
    right = dealt(steps)

    async def survivors():
        redis = Redis(unix_socket_path=str(valkey.socket))
        found = []
        for name, (old, new) in MUTANTS.items():
            assert TIMED.count(old) == 1, name
            if await scripted(TIMED.replace(old, new), steps, redis) == right:
                found.append(name)
        assert await scripted(TIMED, steps, redis) == right
        await redis.aclose()
        return found

    assert asyncio.run(survivors()) == []
