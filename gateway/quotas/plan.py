"""What a proposal would do to the work that waits: when each queue drains, what expires, what it costs. Pure.

The backlog as it stands is run through today's quotas and through the proposed ones (gateway.quotas.replay). Nothing
is decided anew: what waits starts when it is due and its quotas grant it, and what rules will still suppress or put
off is counted as if it went. How much one worker can do is not in it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from math import ceil

from gateway.domain import Money, Tenant
from gateway.quotas.counting import day_of
from gateway.quotas.flows import Flow, QueueKey, Terms, Waiting, Way
from gateway.quotas.limits import EMPTY
from gateway.quotas.model import Quota, in_force
from gateway.quotas.replay import Ran

POINTS = 60
"""Steps of a curve from now to the last drain."""
BY_DAY = frozenset({"per_day", "budget", "closed"})
"""Limits that know a zone's day."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """What becomes of a queue. `drains_at`: from then on nothing of it waits.

    `rolls_over`: how many were due before the queue's `day_ends` and wait still then; `curve`: how many wait at each
    of the plan's `times`.
    """

    drains_at: datetime
    expires: int
    rolls_over: int
    cost: tuple[Money, ...]
    curve: tuple[int, ...] = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class QueuePlan:
    """One queue under today's quotas and under the proposed. `day_ends`: the next midnight where its quotas count."""

    channel: str
    tenant: Tenant
    priority: int
    waiting: int
    day_ends: datetime
    now: Side
    proposed: Side


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """All queues, and the instants of their curves."""

    times: tuple[datetime, ...]
    queues: tuple[QueuePlan, ...]


def plan(waiting: Sequence[Waiting], *, today: Terms, proposed: Terms, now: datetime) -> Plan:
    """Replay the backlog under both."""
    queues: dict[QueueKey, list[Waiting]] = defaultdict(list)
    for one in waiting:
        queues[one.way.queue].append(one)
    day_ends = {key: _day_ends(held, (*proposed.quotas, *today.quotas), now) for key, held in queues.items()}
    marks = {key: (at - now).total_seconds() for key, at in day_ends.items()}
    flows = [Flow(waiting, terms, marks, now).run() for terms in (today, proposed)]
    step = (
        max((_end(ran) for flow in flows for rans in flow.values() for _, ran in rans), default=0.0) / POINTS
    )
    return Plan(
        times=tuple(now + timedelta(seconds=step * n) for n in range(POINTS + 1)),
        queues=tuple(
            QueuePlan(
                channel=key[0],
                tenant=key[1],
                priority=key[2],
                waiting=sum(one.count for one in queues[key]),
                day_ends=day_ends[key],
                now=_side(flows[0][key], queues[key], now, step),
                proposed=_side(flows[1][key], queues[key], now, step),
            )
            for key in sorted(queues)
        ),
    )


def _day_ends(waiting: Iterable[Waiting], quotas: Iterable[Quota], now: datetime) -> datetime:
    """The next midnight as a queue's quotas that know days count it, then as any of its quotas does, else UTC's."""
    book = in_force(quotas, now)
    own = {bucket.key: bucket for way in {one.way for one in waiting} for bucket in book.buckets(way.load)}
    by_day = [bucket for bucket in own.values() if bucket.limits & BY_DAY]
    zone = min(((bucket.key, bucket.quota.zone) for bucket in by_day or own.values()), default=("", "UTC"))[1]
    return day_of(zone, now)[1]


# What a queue's lines came to.


def _side(rans: Sequence[tuple[Way, Ran]], waiting: Sequence[Waiting], now: datetime, step: float) -> Side:
    count = sum(one.count for one in waiting)
    started = [(way, round(ran.started)) for way, ran in rans]
    expires = count - sum(number for _, number in started)
    return Side(
        drains_at=now + timedelta(seconds=max(_end(ran, expired=expires > 0) for _, ran in rans)),
        expires=expires,
        rolls_over=round(sum(ran.at_mark for _, ran in rans)),
        cost=tuple(_cost(started)),
        curve=tuple(_curve([ran for _, ran in rans], count, step)),
    )


def _end(ran: Ran, *, expired: bool = True) -> float:
    """When the last of it started or expired."""
    ends = [until for _, until, _ in ran.starts]
    return max([*ends, *(at for at, _ in ran.expired)] if expired or not ends else ends, default=0.0)


def _cost(started: Iterable[tuple[Way, int]]) -> Iterator[Money]:
    """One amount for each currency."""
    amounts: dict[str, Decimal] = defaultdict(Decimal)
    for way, number in started:
        if way.price is not None:
            amounts[way.price.currency] += way.price.amount * number
    return (Money(amount=amounts[currency], currency=currency) for currency in sorted(amounts))


def _curve(rans: Iterable[Ran], count: int, step: float) -> Iterator[int]:
    """How many wait at 0, `step`, 2 `step` … seconds."""
    gone = [0.0] * (POINTS + 2)
    for since, until, number in (leave for ran in rans for leave in _leaves(ran)):
        first, last = (ceil(at / step - EMPTY) if step else 0 for at in (since, until))
        for n in range(first, last):
            gone[n] += number * (n * step - since) / (until - since)
            gone[n + 1] -= number * (n * step - since) / (until - since)
        gone[last] += number
    waiting = float(count)
    for n in range(POINTS + 1):
        waiting -= gone[n]
        yield max(0, round(waiting))


def _leaves(ran: Ran) -> Iterator[tuple[float, float, float]]:
    yield from ran.starts
    yield from ((at, at, number) for at, number in ran.expired)
