"""Metrics of what ops tune: quotas, pauses, how accounts stand, who grants the pace, who works by the newest of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from gateway.live import Config
from gateway.pauses import Kind
from gateway.quotas.model import Quota, in_force
from gateway.sweep import forever
from gateway.telemetry import Metrics

EVERY_S = 5.0
SOURCES = ("redis", "sql")


@dataclass(frozen=True, slots=True, kw_only=True)
class Used:
    """What of a quota's limit one of its buckets has used: starts a second, units, calls at once, a share of money."""

    quota: str
    of: str
    limit: str
    number: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuned:
    """All of it at one moment; `behind` of `workers` do not work by the newest configuration yet.

    `factors`: what throttles, breakers and ramps leave of each quota's pace, at the account they leave least of.
    """

    config: Config
    used: tuple[Used, ...]
    factors: Mapping[str, float]
    workers: int
    behind: int


class TunedStore(Protocol):
    """Where it is read."""

    async def tuned(self) -> Tuned:
        """Read it."""


class Watch:
    """Reads now and then, for the metrics."""

    def __init__(self, store: TunedStore, metrics: Metrics) -> None:
        self._store = store
        self._metrics = metrics

    async def run(self) -> None:
        """Look until cancelled."""
        await forever(self.once, lambda: EVERY_S)

    async def once(self) -> None:
        """Look once."""
        tuned = await self._store.tuned()
        config, show = tuned.config, self._metrics.show
        book = {quota_label(quota): quota for quota in in_force(config.quotas, config.moment.policy)}
        limits: dict[tuple[str, ...], float] = {
            (label, limit): number for label, quota in book.items() for limit, number in limits_of(quota)
        }
        show("quota_limit", limits)
        show("quota_used", {(u.quota, u.of, u.limit): u.number for u in tuned.used if u.limit != "budget"})
        show(
            "quota_budget_used_ratio", {(u.quota, u.of): u.number for u in tuned.used if u.limit == "budget"}
        )
        show(
            "quota_budget_alarm_ratio",
            {(label,): float(quota.budget.alarm_at) for label, quota in book.items() if quota.budget},
        )
        show("quota_pace_factor", {(quota,): factor for quota, factor in tuned.factors.items()})
        show("account_breaker", {(pool, s.breaker): 1 for pool, s in config.standings.items()})
        show(
            "account_pace_factor",
            {(pool,): s.factor(config.moment.real) for pool, s in config.standings.items()},
        )
        held = [pause.kind for pause in config.pauses if pause.holds(config.moment.policy)]
        show("pauses", {(kind,): held.count(kind) for kind in Kind})
        show("pace_source", {(source,): float(source == config.source) for source in SOURCES})
        show("frozen", {("failover",): float(config.frozen)})
        show("workers", {("yes",): tuned.workers - tuned.behind, ("no",): tuned.behind})


def quota_label(quota: Quota) -> str:
    """A quota's name, unique in the deployment (gateway.quotas.model.Bucket.labels)."""
    return f"{quota.owner}|{quota.name}"


def limits_of(quota: Quota) -> Iterator[tuple[str, float]]:
    """A quota's limits that are numbers, by name."""
    for name in ("rate", "per_minute", "per_hour", "per_day", "concurrency"):
        number = getattr(quota, name)
        if number is not None:
            yield name, float(number)
    if quota.budget is not None:
        yield "budget", float(quota.budget.amount)
