"""The pace and tokens from a cluster: whichever node holds the keys is found, and one that takes over begins empty."""

import asyncio
import socket
from contextlib import ExitStack
from datetime import timedelta

import pytest
from clustered import Cluster
from pacing import a_pace
from sendrig import free_port
from test_pace import OfEpoch, at_once, full, wanted

from gateway.cli import probes
from gateway.errors import Unavailable
from gateway.pace.redis import RedisPace
from gateway.settings import RedisTarget
from gateway.tokens import RedisTokens, connect


@pytest.fixture(scope="module")
def gathered(tmp_path_factory):
    """One for the length of the module: it takes some seconds until each knows the others."""
    made = Cluster(tmp_path_factory.mktemp("cluster"))
    try:
        asyncio.run(made.gather())
        yield made
    finally:
        made.end()


@pytest.fixture
async def cluster(gathered):
    """The cluster, with nothing in it."""
    await gathered.holder.say("FLUSHALL")
    return gathered


@pytest.fixture
async def pace_of():
    """Paces from a target; closed at the test's end."""
    made = []

    def pace(target):
        made.append(RedisPace(target))
        return made[-1]

    yield pace
    for each in made:
        await each.aclose()


async def again(pace, granter):
    """What is granted at once, by whoever answers by now."""
    async with asyncio.timeout(10):
        while True:
            try:
                return await at_once(pace, granter)
            except Unavailable:
                await asyncio.sleep(0.05)


async def test_any_node_names_the_one_that_holds_the_keys(cluster, pace_of):
    plain = pace_of(RedisTarget(hosts=cluster.target.hosts))
    with pytest.raises(Unavailable):
        await OfEpoch(plain, 1).take(wanted(a_pace()))

    assert await full(a_pace(per_s=200, burst=20), OfEpoch(pace_of(cluster.target), 1)) == 10
    assert await cluster.holder.say("DBSIZE") > 0


@pytest.mark.parametrize("told", [True, False])
async def test_what_a_node_that_takes_over_knew_before_is_granted_twice_by_nobody_who_tells_its_run(
    cluster, pace_of, told
):
    redis = pace_of(cluster.target)
    if not told:  # the mutant: connections that are made without a word
        await redis.aclose()
        redis._redis = connect(cluster.target)
    pace, granter = a_pace(per_s=200, burst=20), OfEpoch(redis, 1)
    await asyncio.sleep(0.1)
    assert await full(pace, granter) == 10
    await cluster.lags()
    await asyncio.sleep(0.1)
    assert await at_once(pace, granter) != []
    await cluster.take_over()

    assert (await again(pace, granter) == []) is told


async def test_nodes_of_which_none_answers_grant_nothing_and_one_that_does_is_enough(cluster, pace_of):
    nowhere = ("127.0.0.1", free_port())
    with pytest.raises(Unavailable):
        await pace_of(RedisTarget(kind="cluster", hosts=(nowhere,))).probe()

    assert await pace_of(RedisTarget(kind="cluster", hosts=(nowhere, *cluster.target.hosts))).probe() == 0


async def test_who_names_a_node_that_refuses_is_not_asked_first_again(cluster, pace_of):
    """As a node that is cut off from the others, and still takes itself for the one."""
    with ExitStack() as stack:
        stale = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        at = stale.getsockname()[1]
        serving = asyncio.create_task(names(stale, cluster.other.port))
        pace = pace_of(RedisTarget(kind="cluster", hosts=(("127.0.0.1", at), *cluster.target.hosts)))
        with pytest.raises(Unavailable):
            await pace.probe()
        assert await pace.probe() == 0
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)


async def names(server, port):
    """Answer whatever is asked by naming a node for all slots."""
    answer = b"*1\r\n*3\r\n:0\r\n:16383\r\n*2\r\n$9\r\n127.0.0.1\r\n:%d\r\n" % port

    async def talk(reader, writer):
        while asked := await reader.read(1000):
            writer.write(answer if b"SLOTS" in asked else b"+OK\r\n" * asked.count(b"*"))
        writer.close()

    async with await asyncio.start_server(talk, sock=server) as serving:
        await serving.serve_forever()


async def test_tokens_are_shared_through_it(cluster):
    one, other = (connect(cluster.target) for _ in range(2))
    now = asyncio.get_running_loop().time
    await RedisTokens(one, now).put("wechat", "tok", timedelta(minutes=1))

    assert await RedisTokens(other, now).get("wechat") == "tok"
    for client in (one, other):
        await client.aclose()


async def test_config_check_says_that_it_carries_no_wake_ups(cluster):
    lines = {line.check: line for line in await probes.redis(cluster.target)}

    assert lines["redis"].status == "ok"
    assert lines["wake-ups"].word.startswith("a cluster carries none")
