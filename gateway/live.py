"""What ops change while it runs, as this process knows it: polled, so that a change reaches every worker.

A process that cannot read it for STALE_S stops sending: it would not hear of a stop.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Protocol

from gateway.pauses import Pause
from gateway.ports import Moment
from gateway.quotas.asked import Pace
from gateway.quotas.counting import Left
from gateway.quotas.model import Book, Bucket, Load, Quota, Unit, in_force
from gateway.standing import Standing
from gateway.telemetry import get
from gateway.work import Word

EVERY_S = 0.5
STALE_S = 10.0
WATCHED_S = 60.0
"""What is left of a counted bucket is read for so long after it was asked for."""
FULL_PACE = 1000.0
"""Starts per second that a factor is a part of where no quota states a rate."""
FACTOR = "factor"
"""Begins the key of a pace that a factor makes."""
LEAST = 1 / 16
"""Of a pace at least this much is left by a factor."""

log = get(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Everything as it stood at `moment`; `seq` is the number of the last change."""

    moment: Moment
    seq: int
    source: str
    epoch: int
    quotas: tuple[Quota, ...]
    pauses: tuple[Pause, ...]
    standings: Mapping[str, Standing]
    left: Mapping[str, Left]
    frozen: bool
    """Whether the database failed over and may have forgotten calls (gateway.store.server)."""


class ConfigStore(Protocol):
    """Where it is kept."""

    async def read(self, buckets: Iterable[Bucket]) -> Config:
        """Read it, and what is left of these buckets."""

    async def applied(self, owner: str, seq: int) -> None:
        """Say what a worker works by."""


class Live:
    """The configuration in force in this process."""

    def __init__(self, store: ConfigStore, monotonic: Callable[[], float]) -> None:
        self._store = store
        self._monotonic = monotonic
        self._config: Config | None = None
        self._read_at = float("-inf")
        self._told = -1
        self._watched: dict[str, tuple[Bucket, float]] = {}
        self._book = Book()

    async def refresh(self, owner: str | None = None) -> None:
        """Read it; `owner`: the worker that works by it from now on."""
        began, before = self._monotonic(), self._config
        self._watched = {
            key: (bucket, asked)
            for key, (bucket, asked) in self._watched.items()
            if began - asked < WATCHED_S
        }
        config = await self._store.read([bucket for bucket, _ in self._watched.values()])
        if before is None or config.quotas is not before.quotas or any(q.until for q in config.quotas):
            self._book = in_force(config.quotas, config.moment.policy)
        if config.frozen and not self.frozen:
            log.error("frozen", hint="the database failed over: see docs/failover.md and `gateway db thaw`")
        self._config, self._read_at = config, began
        if owner is not None and config.seq != self._told:
            await self._store.applied(owner, config.seq)
            self._told = config.seq

    @property
    def sends(self) -> bool:
        """Whether it was read lately enough to send by, and lets anything be sent at all."""
        return self._monotonic() - self._read_at < STALE_S and not self.config.frozen

    @property
    def frozen(self) -> bool:
        """Whether nothing is sent because the database failed over; False where it was never read."""
        return self._config is not None and self._config.frozen

    @property
    def now(self) -> Moment:
        """Both clocks, as far as this process can tell."""
        moment = self.config.moment
        passed = timedelta(seconds=self._monotonic() - self._read_at)
        return Moment(real=moment.real + passed, policy=moment.policy + passed)

    @property
    def config(self) -> Config:
        """As it was read last."""
        assert self._config is not None, "refresh it first"  # noqa: S101
        return self._config

    @property
    def book(self) -> Book:
        """The quotas in force."""
        return self._book

    @property
    def word(self) -> Word:
        """Who grants the pace."""
        return self.config.source, self.config.epoch

    def standings(self) -> Mapping[str, Standing]:
        """How accounts stand, by pool; none where it was never read (a process that does not send)."""
        return self._config.standings if self._config is not None else {}

    def left(self, bucket: Bucket) -> Left | None:
        """What is left of a counted bucket; None while that is not known, or nothing is counted there."""
        if bucket.limits == {"rate"}:
            return None
        self._watched[bucket.key] = bucket, self._monotonic()
        return self.config.left.get(bucket.key)

    def paces(self, load: Load) -> tuple[Pace, ...]:
        """Every pace that a start needs a slot of: its quotas' rates, and what the least factor leaves of each."""
        rated = [b for b in self._book.buckets(load) if "rate" in b.limits and b.quota.rate]
        paces = [_pace(bucket, self.config.seq) for bucket in rated]
        factor, of = self._least(load)
        if factor < 1:
            whole = paces or [
                Pace(key="", per_s=FULL_PACE, burst=round(FULL_PACE / 10), version=self.config.seq)
            ]
            paces += [_ramped(pace, factor, of) for pace in whole]
        return tuple(paces)

    def _least(self, load: Load) -> tuple[float, str]:
        """What ramps leave of a start's paces (1 is all), and whose it is: the account's, or an ended pause's."""
        now, standing = self.now.real, self.config.standings.get(load.pool)
        own = (standing.factor(now) if standing else 1.0, load.pool)
        return min([own, *((pause.factor(load, now), pause.id) for pause in self.config.pauses)])


def _pace(bucket: Bucket, seq: int) -> Pace:
    """The configuration's number is its version: what holds again after a change is newer than the change."""
    quota = bucket.quota
    return Pace(
        key=bucket.key,
        per_s=float(quota.rate or 0),
        burst=quota.burst_units,
        version=seq,
        segments=quota.unit is Unit.SEGMENT,
    )


def _ramped(pace: Pace, factor: float, of: str) -> Pace:
    """What a factor leaves of a pace, to all that it is the factor of together."""
    per_s = max(LEAST, factor) * pace.per_s
    return replace(pace, key=f"{FACTOR}|{of}|{pace.key}", per_s=per_s, burst=max(1, round(per_s / 10)))
