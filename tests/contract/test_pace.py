"""The pace: one contract for Redis and SQL, and the script against its reference."""

import asyncio

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis

from gateway.embedded import Valkey
from gateway.pace.redis import KEYS, SCRIPT, _pace, _sizes
from gateway.quotas import dealing
from gateway.quotas.asked import AHEAD_US, Group, Pace, Wanted

TIMED = SCRIPT.replace("redis.call('TIME')", "{ARGV[3], ARGV[4]}")
"""The script with the time as an argument."""
START = 1_790_000_000_000_000 - 1_735_689_600_000_000


def a_pace(key="a", per_s=50.0, burst=5, version=1, **more):
    return Pace(key=key, per_s=per_s, burst=burst, version=version, **more)


def a_group(tenant="acme", lane=1, paces=(0,), count=100, weight=1.0, pool="pool", segments=None):
    return Group(
        pool=pool,
        tenant=tenant,
        weight=weight,
        lane=lane,
        paces=paces,
        segments=(1,) * count if segments is None else segments,
    )


@pytest.fixture(scope="module")
def valkey(tmp_path_factory):
    server = Valkey(tmp_path_factory.mktemp("valkey"))
    with asyncio.Runner() as runner:
        runner.run(server._data.mkdir(parents=True, exist_ok=True) or asyncio.sleep(0))
        runner.run(server._spawn())
        yield server
        runner.run(server.stop())


PACES = st.builds(
    a_pace,
    key=st.sampled_from("abcde"),
    per_s=st.sampled_from([0.2, 1.0, 3.0, 50.0, 333.0, 5000.0]),
    burst=st.sampled_from([1, 2, 5, 40]),
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
        segments=st.lists(st.integers(1, 4), min_size=1, max_size=30).map(tuple),
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
    max_size=25,
)


def test_the_script_deals_as_its_reference_does(valkey):
    with asyncio.Runner() as runner:
        redis = Redis(unix_socket_path=str(valkey.socket))

        async def scripted(steps):
            await redis.flushall()
            answers, now = [], START
            for what, worker, paces, groups, passed in steps:
                now += passed
                asked = {"worker": worker, "epoch": 1, "paces": [_pace(p) for p in paces]}
                asked["groups"] = [
                    [g.pool, g.tenant, g.weight, g.lane, g.paces, _sizes(g.segments)] for g in groups
                ]
                real = now + 1_735_689_600_000_000
                args = (KEYS, what, orjson.dumps(asked), real // 1_000_000, real % 1_000_000)
                answers.append((await redis.eval(TIMED, 1, *args)).decode())
            return answers

        def dealt(steps):
            state, now, answers = dealing.State(), START, []
            for what, worker, paces, groups, passed in steps:
                now += passed
                at = float(now)
                if what == "room":
                    found = dealing.room(state, paces, worker, at, empty_at=at + AHEAD_US)
                    answers.append(",".join(f"{each:.0f}" for each in found))
                else:
                    wanted = Wanted(worker=worker, paces=paces, groups=groups)
                    starts = dealing.take(state, wanted, at, empty_at=at + AHEAD_US)
                    answers.append(";".join(",".join(map(str, given)) for given in starts))
            return answers

        @settings(max_examples=150)
        @given(STEPS)
        def agree(steps):
            assert runner.run(scripted(steps)) == dealt(steps)

        agree()
        runner.run(redis.aclose())
