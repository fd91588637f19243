"""`gateway worker` with one mistake sown into it: `python mutant_worker.py NAME`. The ledger must give it away."""

import asyncio
import os
import sys
import time
from collections import defaultdict
from dataclasses import replace

import redis.asyncio

import gateway.deciding
import gateway.wiring
from gateway.cli import main
from gateway.dispatch import Dispatch
from gateway.domain import DebtState
from gateway.pace.switch import Switch
from gateway.quotas.asked import Granted, Group, Wanted
from gateway.snapshot import snapshot
from gateway.store import counted
from gateway.store.dispatch import DispatchTx
from gateway.work import Refusal

AT_MOST = 200
"""Takes for the same."""
WORKERS = 4
"""Among so many a local share is reckoned."""
BUCKET = """
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
local kept = redis.call('HMGET', KEYS[1], 'tokens', 'at')
local most, wanted = tonumber(ARGV[2]), tonumber(ARGV[3])
local tokens = math.min(most, tonumber(kept[1] or most) + (now - tonumber(kept[2] or now)) * tonumber(ARGV[1]))
local given = math.min(math.floor(tokens), wanted)
redis.call('HSET', KEYS[1], 'tokens', tokens - given, 'at', now)
return given
"""


def shared():
    """The Redis that all workers have."""
    return redis.asyncio.from_url(os.environ["GATEWAY_REDIS_URL"])


class Simple(Switch):
    """Grants at once as many as `given` says of the first pace of each group."""

    def __init__(self, **parts):
        super().__init__(**parts)
        self.redis = shared()

    async def take(self, wanted):
        starts = []
        for group in wanted.groups:
            given = await self.given(wanted.paces[group.paces[0]], len(group.segments))
            starts.append((0,) * given)
        source, epoch = self.word
        return Granted(source=source, epoch=epoch, starts=tuple(starts))

    async def room(self, paces, worker):
        return [pace.per_s for pace in paces]


class FixedWindow(Simple):
    """So many in each second of the clock."""

    async def given(self, pace, wanted):
        key = f"mutant:{pace.key}:{int(time.time())}"
        so_far = await self.redis.incrby(key, wanted)
        return int(max(0, min(wanted, pace.per_s - (so_far - wanted))))


class FullBucket(Simple):
    """A bucket that is not there is full."""

    async def given(self, pace, wanted):
        asked = (f"mutant:{pace.key}", pace.per_s, pace.burst, wanted)
        return int(await self.redis.eval(BUCKET, 1, *asked))


class LocalShare(Simple):
    """Each worker has a part of the pace to itself, however many there are."""

    def __init__(self, **parts):
        super().__init__(**parts)
        self.next = defaultdict(float)

    async def given(self, pace, wanted):
        now, each = time.monotonic(), WORKERS / pace.per_s
        at, given = max(self.next[pace.key], now - each), 0
        while given < wanted and at <= now:
            at, given = at + each, given + 1
        self.next[pace.key] = at
        return given


class TakesFirst(Dispatch):
    """Takes before it decides: what is suppressed cost a slot as well."""

    async def _claim(self, view, due, alone):
        weighed = await super()._claim(view, due, alone)
        unsent = len(weighed.verdicts) - len(weighed.ready)
        for ready in weighed.ready[:1]:
            load = ready.intent.start.load
            group = Group(
                pool=load.pool,
                tenant=load.tenant,
                weight=1.0,
                lane=load.priority,
                paces=tuple(range(len(self._live.paces(load)))),
                segments=(1,) * unsent,
            )
            await self._take_all(
                Wanted(worker="before", paces=self._live.paces(load), groups=(group,)), unsent
            )
        return weighed

    async def _take_all(self, wanted, unsent):
        """A take gives what may start within the next moment; the rest is asked for again."""
        for _ in range(AT_MOST):
            (group,) = wanted.groups
            granted = await self._starts._grants.take(
                replace(wanted, groups=(replace(group, segments=(1,) * unsent),))
            )
            unsent -= sum(len(starts) for starts in granted.starts)
            if unsent <= 0:
                break
            await asyncio.sleep(0.05)


async def counted_in_redis(_conn, moment, book, starts):
    """A day's starts are counted in Redis and nowhere else."""
    refused = {}
    async with shared() as server:
        for start in starts:
            for bucket in book.buckets(start.load):
                most = bucket.quota.per_day
                if most is not None and await server.incr(f"mutant:{bucket.key}") > most:
                    again = moment.policy.replace(hour=23, minute=59)
                    refused[start.ref] = Refusal(reason="quota", by=bucket.quota.name, again=again)
    return refused


def all_debts_open(ask, facts, *more):
    """Nobody has paid."""
    debts = {key: replace(debt, state=DebtState.OPEN) for key, debt in facts.debts.items()}
    return snapshot(ask, replace(facts, debts=debts), *more)


async def nothing_changed(_tx, intents):
    """Whatever T1 decided on is still so."""
    return list(intents)


def pays_no_heed():
    """Neither deciding nor go looks at debts."""
    gateway.deciding.snapshot = all_debts_open
    DispatchTx._unchanged = nothing_changed


MUTANTS = {
    "fixed window": lambda: setattr(gateway.wiring, "Switch", FixedWindow),
    "full bucket": lambda: setattr(gateway.wiring, "Switch", FullBucket),
    "local share": lambda: setattr(gateway.wiring, "Switch", LocalShare),
    "takes first": lambda: setattr(gateway.wiring, "Dispatch", TakesFirst),
    "pays no heed": pays_no_heed,
    "counted in redis": lambda: setattr(counted, "admit", counted_in_redis),
}

if __name__ == "__main__":
    MUTANTS[sys.argv.pop(1)]()
    sys.argv.append("worker")
    main()
