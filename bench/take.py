"""What a take costs: µs of the worker and of Redis a start, in batches of 200 under three quotas each.

    python bench/take.py [--rounds 300]

Four workers take in turn, so that claims of others are dealt with, too. A start is one asked for, granted or not.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from redis.asyncio import Redis

from gateway.embedded import Valkey
from gateway.pace.redis import RedisPace
from gateway.quotas.asked import Group, Pace, Wanted
from gateway.settings import RedisTarget

BATCH = 200
MOST_WORKER_US, MOST_REDIS_US = 20.0, 30.0
"""What a start may cost at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What a batch is made of: so many tenants in so many lanes, and the account's pace per second."""

    tenants: int
    lanes: int
    per_s: float

    def __str__(self) -> str:
        return f"{self.tenants:3} tenants x {self.lanes} lanes, {self.per_s:8.0f}/s"

    def wanted(self, worker: str) -> Wanted:
        """One batch of a worker."""
        names = [f"tenant-{number:03}" for number in range(self.tenants)]
        paces = [
            Pace(key="*/live|sms-all||", per_s=self.per_s * 2, burst=int(self.per_s), version=1),
            Pace(key="*/live|sms-cn||*/live|sms-cn", per_s=self.per_s, burst=int(self.per_s / 2), version=1),
            *(Pace(key=f"{n}/live|own||", per_s=self.per_s, burst=int(self.per_s), version=1) for n in names),
        ]
        sizes = [0] * (self.tenants * self.lanes)
        for number in range(BATCH):
            sizes[number % len(sizes)] += 1
        groups = [
            Group(
                pool="*/live|sms-cn",
                tenant=f"{names[place // self.lanes]}/live",
                weight=1.0 + place % 3,
                lane=place % self.lanes,
                paces=(0, 1, 2 + place // self.lanes),
                segments=(1,) * size,
            )
            for place, size in enumerate(sizes)
        ]
        return Wanted(worker=worker, paces=tuple(paces), groups=tuple(groups))


SHAPES = [
    Shape(tenants=tenants, lanes=lanes, per_s=per_s)
    for tenants, lanes in ((1, 1), (3, 3), (50, 1), (50, 3))
    for per_s in (1_000_000.0, 1_000.0)
]


async def measure(shape: Shape, target: RedisTarget, rounds: int) -> tuple[float, float, float]:
    """µs of the worker and of Redis a start asked for, and the share that was granted."""
    pace, redis = RedisPace(target), Redis(unix_socket_path=target.path)
    wanted = [shape.wanted(f"worker-{number}") for number in range(4)]
    await redis.flushall()
    for batch in wanted:
        await pace.take(batch, 1)
    await asyncio.sleep(0.3)
    before = await redis_us(redis)
    granted, worker = 0, 0.0
    for number in range(rounds):
        began = time.process_time()
        answer = await pace.take(wanted[number % 4], 1)
        worker += time.process_time() - began
        granted += sum(map(len, answer.starts))
        await asyncio.sleep(0.005)
    spent = await redis_us(redis) - before
    await pace.aclose()
    await redis.aclose()
    asked = rounds * BATCH
    return worker * 1e6 / asked, spent / asked, granted / asked


async def redis_us(redis: Redis) -> float:
    """µs of processor that its main thread has used."""
    cpu = await redis.info("cpu")
    return 1e6 * (float(cpu["used_cpu_user_main_thread"]) + float(cpu["used_cpu_sys_main_thread"]))


def say(line: str) -> None:
    """One line for whoever looks on."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


async def main(rounds: int) -> int:
    """Print the table; 1 when something costs more than it may."""
    worst = (0.0, 0.0)
    with tempfile.TemporaryDirectory() as folder:
        valkey = Valkey(Path(folder))
        await valkey.start()
        try:
            for shape in SHAPES:
                worker, redis, share = await measure(shape, RedisTarget(path=str(valkey.socket)), rounds)
                worst = max(worst[0], worker), max(worst[1], redis)
                say(f"{shape}: worker {worker:5.1f} µs, Redis {redis:5.1f} µs a start, {share:4.0%} granted")
        finally:
            await valkey.stop()
    within = worst[0] <= MOST_WORKER_US and worst[1] <= MOST_REDIS_US
    say(f"at most {MOST_WORKER_US:.0f} and {MOST_REDIS_US:.0f}: {'kept' if within else 'NOT kept'}")
    return 0 if within else 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=300, help="batches of each shape (default: 300)")
    sys.exit(asyncio.run(main(parser.parse_args().rounds)))
