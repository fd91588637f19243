"""How long a single reminder takes from its acceptance to its provider while nothing else is to do.

    python bench/idle.py [--count 200] [--workers 1]

One POST after the other, each after a pause of drawn length, over the API of a gateway with its own PostgreSQL (fsync
on) and Valkey: from the answer to the request that reaches the provider. It ends with 1 when a goal is missed.
"""

from __future__ import annotations

import argparse
import sys
import time
from random import Random
from statistics import quantiles

import orjson
from ours import Ours, Run
from posting import post
from rich.console import Console
from rich.progress import track
from stand import Stand, StandError, standing
from work import item

P50_MS, P99_MS = 60.0, 250.0
PAUSE_S = (0.3, 1.5)
PATIENCE_S, LOOK_S = 20.0, 0.002


def delay_ms(stand: Stand, run: Run, number: int) -> float:
    """From the answer to one POST until it reached the provider."""
    _, (answer,) = post(f"{run.url}/v1/reminders", run.key, [orjson.dumps(item(number, "sms", due=True))], 1)
    accepted_ns = time.monotonic_ns()
    if not answer.startswith(b"202"):
        raise StandError(f"the API answered {answer[:500].decode()}")
    until = time.monotonic() + PATIENCE_S
    while (reached := stand.providers.ask("count"))["count"] <= number:
        if time.monotonic() > until:
            raise StandError(f"nothing was sent within {PATIENCE_S:.0f} s")
        time.sleep(LOOK_S)
    return (reached["last_ns"] - accepted_ns) / 1e6


def main() -> int:
    """Measure, tell, and say whether the goals are met."""
    given = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    given.add_argument("--count", type=int, default=200)
    given.add_argument("--workers", type=int, default=1)
    said = given.parse_args()
    console, random = Console(), Random(1)  # noqa: S311 (pauses)
    with standing(None) as stand:
        ours = Ours(stand)
        ours.make()
        with ours.served() as run:
            run.begin()
            run.join(said.workers)
            stand.providers.ask("reset")
            delays: list[float] = []
            for number in track(range(said.count), "one after the other", console=console):
                time.sleep(random.uniform(*PAUSE_S))
                delays.append(delay_ms(stand, run, number))
    cuts = quantiles(delays, n=100)
    p50, p99 = cuts[49], cuts[98]
    console.print(
        f"{said.count} reminders, {said.workers} workers: p50 {p50:.0f} ms (goal {P50_MS:.0f}), "
        f"p99 {p99:.0f} ms (goal {P99_MS:.0f}), longest {max(delays):.0f} ms"
    )
    return 0 if p50 <= P50_MS and p99 <= P99_MS else 1


if __name__ == "__main__":
    sys.exit(main())
