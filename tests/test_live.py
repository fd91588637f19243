"""What a process knows of the paces that a start needs: quotas' own, and what a factor leaves of them."""

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest
from makers import NOW

from gateway.domain import Tenant
from gateway.live import FACTOR, Config, Live
from gateway.pauses import Kind, Pause, PauseScope
from gateway.ports import Moment
from gateway.quotas.model import Load, Quota, Scope
from gateway.standing import Breaker, Standing

ACME = Tenant("acme/live")
DEPLOYMENT = Tenant("*/live")
LOAD = Load(tenant=ACME, channel="sms", adapter="aliyun_sms", account="sms-cn", template="pre_due")
OTHER = replace(LOAD, template="overdue")
SMS = Quota(owner=DEPLOYMENT, name="sms", scope=Scope(channel="sms"), rate=Decimal(50))
OVERDUE = Quota(owner=DEPLOYMENT, name="overdue", scope=Scope(template="overdue"), rate=Decimal(5))
HALVED = Standing(level=1, throttled_at=NOW, halved_at=NOW)


class Told:
    """A store that says what it was told to say."""

    def __init__(self, config):
        self.config = config

    async def read(self, buckets):
        return self.config


async def knows(*quotas, standing=None, pauses=()):
    config = Config(
        moment=Moment(real=NOW, policy=NOW),
        seq=7,
        source="sql",
        epoch=1,
        quotas=quotas,
        pauses=pauses,
        standings={LOAD.pool: standing} if standing else {},
        left={},
        frozen=False,
    )
    live = Live(Told(config), lambda: 0.0)
    await live.refresh()
    return live


def left(live, load):
    """What factors leave of each pace, by key."""
    return {pace.key: pace.per_s for pace in live.paces(load) if pace.key.startswith(FACTOR)}


async def test_whole_paces_have_no_factor():
    live = await knows(SMS, OVERDUE)

    assert [pace.per_s for pace in live.paces(OTHER)] == [5, 50]
    assert left(live, OTHER) == {}


async def test_a_throttle_leaves_its_part_of_every_pace_of_the_account_whatever_else_goes_through_it():
    live = await knows(SMS, OVERDUE, standing=HALVED)

    assert sorted(left(live, OTHER).values()) == [2.5, 25]
    assert sorted(left(live, LOAD).values()) == [25]
    assert left(live, LOAD).items() <= left(live, OTHER).items(), "one pace has one rate, whoever asks"


async def test_where_nothing_states_a_rate_a_factor_is_a_part_of_a_thousand():
    live = await knows(standing=HALVED)

    assert list(left(live, LOAD).values()) == [500]


@pytest.mark.parametrize("closed_ago", [0, 1])
async def test_a_throttle_on_top_of_a_ramp_leaves_a_sixteenth(closed_ago):
    standing = replace(HALVED, level=4, closed_at=NOW - timedelta(seconds=closed_ago))
    live = await knows(SMS, standing=standing)

    assert standing.factor(NOW) == 1 / 16
    assert list(left(live, LOAD).values()) == [50 / 16]


async def test_an_account_that_is_half_open_has_a_sixteenth():
    live = await knows(SMS, standing=Standing(breaker=Breaker.HALF_OPEN))

    assert list(left(live, LOAD).values()) == [50 / 16]


async def test_what_is_resumed_has_one_pace_through_all_accounts_and_two_ramps_have_two():
    slow, fast = (
        Pause(
            owner=ACME,
            id=name,
            kind=Kind.PAUSE,
            scope=PauseScope(quota=Scope(template=template)),
            resumed_at=NOW - timedelta(seconds=seconds),
            ramp_s=100,
        )
        for name, template, seconds in (("ps_1", "pre_due", 10), ("ps_2", "overdue", 50))
    )
    live = await knows(SMS, pauses=(slow, fast))

    assert list(left(live, LOAD).values()) == [5]
    assert left(live, LOAD) == left(live, replace(LOAD, account="sms-intl"))
    assert list(left(live, OTHER).values()) == [25]


async def test_counts_are_read_of_buckets_that_were_asked_for_within_a_minute():
    class Asked(Told):
        buckets = ()

        async def read(self, buckets):
            self.buckets = list(buckets)
            return self.config

    now = 0.0
    daily = replace(SMS, rate=None, per_day=10)
    store = Asked((await knows(daily)).config)
    live = Live(store, lambda: now)
    await live.refresh()
    assert store.buckets == []
    (bucket,) = live.book.buckets(LOAD)
    live.left(bucket)
    for at, read in ((0.5, [bucket]), (59.9, [bucket]), (60.0, [])):
        now = at
        await live.refresh()
        assert store.buckets == read, at


async def test_a_quota_gives_way_at_its_end_without_anything_new_being_read():
    ends = replace(SMS, until=NOW + timedelta(seconds=1), before=replace(SMS, rate=Decimal(5)))
    live = await knows(ends)
    assert [quota.rate for quota in live.book] == [50]
    live._store.config = replace(
        live.config, moment=Moment(real=NOW, policy=NOW + timedelta(seconds=1)), seq=live.config.seq
    )
    await live.refresh()

    assert [quota.rate for quota in live.book] == [5]
