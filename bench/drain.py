"""One drain: how long from the first reminder to the last, by the providers' ledger, and what processor it took."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from stand import Program, Stand, StandError
from work import recipients

POLL_S = 0.2
STALLED_S = 60.0
SETTLE_S = 1.0
"""After the last one went out, its outcome is still written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Drained:
    """What one drain showed. `cpu_us`: µs of processor a reminder, of `worker`, `postgres`, `valkey`, `providers`."""

    count: int
    seconds: float
    cpu_us: dict[str, float] = field(default_factory=dict)
    lost: int
    twice: int
    strangers: int

    @property
    def rate(self) -> float:
        """Reminders a second."""
        return self.count / self.seconds

    @property
    def faults(self) -> int:
        """Reminders that did not reach whom they were for, once."""
        return self.lost + self.twice + self.strangers


def drain(
    stand: Stand,
    workers: Sequence[Program],
    begin: Callable[[], object],
    count: int,
    channels: str,
    told: Callable[[int], object] = lambda _: None,
    why: Callable[[], object] = lambda: "",
) -> Drained:
    """Let it begin and wait for `count` reminders; `told` hears how far it is, `why` says what ails one that stalls."""
    stand.postgres.say("CHECKPOINT")
    stand.providers.ask("reset")
    before = _cpu(stand, workers)
    begin()
    _all_out(stand, workers, count, told, why)
    time.sleep(SETTLE_S)
    after = _cpu(stand, workers)
    times = Counter(stand.providers.ask("reached"))
    wanted = set(recipients(count, channels))
    return Drained(
        count=count,
        seconds=stand.providers.reached().seconds,
        cpu_us={name: 1e6 * (after[name] - before[name]) / count for name in after},
        lost=len(wanted - times.keys()),
        twice=sum(times[to] > 1 for to in wanted),
        strangers=len(times.keys() - wanted),
    )


def _cpu(stand: Stand, workers: Sequence[Program]) -> dict[str, float]:
    return {
        "worker": sum(worker.cpu_s() for worker in workers),
        **{name: server.cpu_s() for name, server in stand.servers().items()},
    }


def _all_out(
    stand: Stand,
    workers: Sequence[Program],
    count: int,
    told: Callable[[int], object],
    why: Callable[[], object],
) -> None:
    far, since = 0, time.monotonic()
    while far < count:
        time.sleep(POLL_S)
        now = stand.providers.reached().count
        if not all(worker.alive() for worker in workers):
            raise StandError(f"a worker ended after {now} of {count}: see its log with --keep-logs")
        if now > far:
            far, since = now, time.monotonic()
            told(far)
        elif time.monotonic() - since > STALLED_S:
            raise StandError(f"nothing went out for {STALLED_S:.0f} s after {far} of {count}: {why()}")
