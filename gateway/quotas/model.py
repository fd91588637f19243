"""Quotas as values, and which of them cover a start.

A quota protects a provider's account (a cap protects a borrower). It names what it covers by a scope; `each`
makes one bucket per value of a word, and a quota that names that value overrides it, limit by limit.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import field
from datetime import datetime, time
from decimal import Decimal
from enum import StrEnum

from gateway.domain import Mode, Money, Tenant
from gateway.values import dataclass

WORDS = ("channel", "adapter", "account", "tenant", "template")
"""What a scope may name."""
LIMITS = ("rate", "per_minute", "per_hour", "per_day", "concurrency", "closed", "budget")
"""What a quota may hold; each is overridden by itself."""
EVERYONE = "*"
"""The deployment, where a tenant's name would stand."""
LEAST_RATE, MOST_RATE = Decimal("0.001"), Decimal(100_000)
"""Units a second. What is slower is a number by hour or day: instants to the µs do not hold it."""
LEAST_BURST_S = 0.1
"""Seconds' worth of the pace that an absent `burst` is."""


class Unit(StrEnum):
    """What is counted: messages, or the parts of texts."""

    MESSAGE = "message"
    SEGMENT = "segment"


class Per(StrEnum):
    """What a budget is for."""

    DAY = "day"
    MONTH = "month"


def deployment(mode: Mode) -> Tenant:
    """The owner of what a deployment's own key sets."""
    return Tenant(f"{EVERYONE}/{mode}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """One start, as quotas see it. `segments` ≥ 1; `priority` 0 goes first; `shared`: the account carries tenants."""

    tenant: Tenant
    channel: str
    adapter: str
    account: str
    template: str
    shared: bool = False
    priority: int = 1
    segments: int = 1
    cost: Money | None = None

    @property
    def pool(self) -> str:
        """The account, unique in the deployment: whoever shares it shares this."""
        return pool_of(self.tenant, self.account, shared=self.shared)

    def word(self, name: str) -> str:
        """The value of a scope's word; the account by its pool, so that equal names of two tenants stay two."""
        match name:
            case "tenant":
                return self.tenant.partition("/")[0]
            case "account":
                return self.pool
            case "channel":
                return self.channel
            case "adapter":
                return self.adapter
            case _:
                return self.template


def pool_of(tenant: Tenant, account: str, *, shared: bool) -> str:
    """`acme/live|sms-cn`, and for a shared account `*/live|sms-cn`."""
    owner = f"{EVERYONE}/{tenant.partition('/')[2]}" if shared else tenant
    return f"{owner}|{account}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What is covered; an absent word covers all."""

    channel: str | None = None
    adapter: str | None = None
    account: str | None = None
    tenant: str | None = None
    template: str | None = None

    def words(self) -> dict[str, str]:
        """The words it names."""
        return {word: value for word in WORDS if (value := getattr(self, word)) is not None}

    def covers(self, load: Load) -> bool:
        """Whether every word it names is the load's."""
        return (
            self.channel in (None, load.channel)
            and self.adapter in (None, load.adapter)
            and self.account in (None, load.account)
            and self.tenant in (None, load.word("tenant"))
            and self.template in (None, load.template)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Closed:
    """Hours of every local day without starts, from inclusive, to exclusive; over midnight where to ≤ from."""

    since: time
    until: time


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """Money a local day or month; the alarm rings at that share of it."""

    amount: Decimal
    currency: str
    per: Per
    alarm_at: Decimal = Decimal("0.8")


@dataclass(frozen=True, slots=True, kw_only=True)
class Quota:
    """One quota, one version. `rate` per second; `burst` a total above the steady pace in any window.

    `owner` is a tenant, or `*/live`, the deployment. `zone` names the day of `per_day`, `closed` and `budget`.
    `until` (aware): from then on `before` holds again (None: the quota is gone).
    """

    owner: Tenant
    name: str
    scope: Scope = field(default_factory=Scope)
    each: tuple[str, ...] = ()
    unit: Unit = Unit.MESSAGE
    rate: Decimal | None = None
    burst: int | None = None
    per_minute: int | None = None
    per_hour: int | None = None
    per_day: int | None = None
    concurrency: int | None = None
    zone: str = "UTC"
    closed: tuple[Closed, ...] = ()
    budget: Budget | None = None
    version: int = 1
    until: datetime | None = None
    before: Quota | None = None
    published: bool = False
    """Whether it is what an account comes with, and nobody set it."""

    def at(self, now: datetime) -> Quota | None:
        """What holds at an instant: itself, or what it was before once its `until` has come; None when nothing does."""
        if self.until is None or now < self.until:
            return self
        return self.before.at(now) if self.before is not None else None

    def limits(self) -> frozenset[str]:
        """The limits it holds."""
        return frozenset(name for name in LIMITS if getattr(self, name) not in (None, ()))

    def covers(self, load: Load) -> bool:
        """Whether it counts this start: the scope's words, and the owner's tenant and mode."""
        name, _, mode = self.owner.partition("/")
        tenant, _, of = load.tenant.partition("/")
        return mode == of and name in (EVERYONE, tenant) and self.scope.covers(load)

    def overrides(self, other: Quota) -> bool:
        """Whether it names each value that the other makes buckets of, and nothing that the other leaves open.

        Only what the same owner set: no tenant gets around the deployment's, and no account's own pace around ops'.
        """
        if self.published or self.owner != other.owner:
            return False
        mine, theirs = self.scope.words(), other.scope.words()
        return bool(other.each) and set(other.each) <= set(mine) and set(mine) <= {*theirs, *other.each}

    @property
    def burst_units(self) -> int:
        """`burst`, or 100 ms' worth of the pace, at least 1."""
        if self.burst is not None:
            return self.burst
        return max(1, round(float(self.rate or 0) * LEAST_BURST_S))


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """Where starts are counted: a quota, for one value of each word of its `each`; only `limits` hold in it.

    `key` is unique in the deployment: `*/live|tw-pace||*/live|sms-cn`.
    """

    key: str
    quota: Quota
    limits: frozenset[str]

    @property
    def labels(self) -> tuple[str, str]:
        """The quota, unique in the deployment, and the values that this bucket is for."""
        quota, _, values = self.key.partition("||")
        return quota, values

    def units(self, load: Load) -> int:
        """What one start weighs here."""
        return load.segments if self.quota.unit is Unit.SEGMENT else 1


class Book:
    """All quotas in force at an instant, and the buckets that cover a start."""

    def __init__(self, quotas: Iterable[Quota] = ()) -> None:
        self._quotas = sorted(quotas, key=lambda q: (q.owner, q.name))
        self._known: dict[tuple[str, ...], tuple[Bucket, ...]] = {}

    def __iter__(self) -> Iterator[Quota]:
        return iter(self._quotas)

    def buckets(self, load: Load) -> tuple[Bucket, ...]:
        """The buckets that must all grant, in the order of their keys."""
        key = (load.tenant, load.channel, load.adapter, load.account, load.template, str(load.shared))
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = tuple(self._covering(load))
        return found

    def _covering(self, load: Load) -> Iterator[Bucket]:
        covering = [quota for quota in self._quotas if quota.covers(load)]
        for quota in covering:
            taken = [other.limits() for other in covering if other is not quota and other.overrides(quota)]
            limits = quota.limits().difference(*taken)
            if limits:
                values = "|".join(load.word(word) for word in quota.each)
                yield Bucket(key=f"{quota.owner}|{quota.name}||{values}", quota=quota, limits=limits)


def in_force(quotas: Iterable[Quota], now: datetime) -> Book:
    """The quotas as they hold at an instant."""
    return Book(held for quota in quotas if (held := quota.at(now)) is not None)


def with_changes(quotas: Iterable[Quota], changed: Mapping[tuple[Tenant, str], Quota | None]) -> list[Quota]:
    """The quotas as a proposal would leave them: by (owner, name), None takes one away."""
    standing = {(quota.owner, quota.name): quota for quota in quotas}
    return [quota for quota in (standing | dict(changed)).values() if quota is not None]
