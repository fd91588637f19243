"""What a change of quotas would do to the work that waits, before anybody makes it. Nothing is changed."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Protocol

from gateway.accounts import Connected
from gateway.domain import Channel, Mode, Money, Tenant
from gateway.errors import BadInput, Fault
from gateway.pauses import Pause, first_of_queue
from gateway.quotas import spec
from gateway.quotas.catalogue import of_no_account
from gateway.quotas.counting import Tally
from gateway.quotas.flows import Terms, Waiting, Way
from gateway.quotas.model import EVERYONE, Load, Quota, with_changes
from gateway.quotas.plan import Plan, plan
from gateway.work import Queue

CALL_S, TURN_S = 0.3, 0.25
"""Seconds that a call is taken to last where nothing is known of it; and from the end of one until the next begins in
its place: the outcome is written together with others, and the next one is decided on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """So many reminders of a queue that fall due together and expire together.

    `country`: of their numbers, where accounts differ by that.
    """

    queue: Queue
    country: str | None
    due: datetime
    expires: datetime
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Stock:
    """All that waits, and what it depends on. `now` is the policy clock's.

    `own` are the quotas that accounts come with; `lately`: starts of the last days as (load, number); `call_s`:
    seconds that calls last, by tenant and account.
    """

    now: datetime
    quotas: Sequence[Quota]
    own: Sequence[Quota]
    pauses: Sequence[Pause]
    groups: Sequence[Group]
    lately: Sequence[tuple[Load, int]]
    call_s: Mapping[tuple[Tenant, str], float]


class PlanStore(Protocol):
    """Where it is read from."""

    async def stock(self, mode: Mode, *, by_country: bool) -> Stock:
        """All that waits in a mode; by its numbers' countries, or all of them together."""

    async def tallies(self, held: Sequence[Quota], now: datetime) -> Mapping[str, Tally]:
        """What buckets of these quotas have counted until now."""


class Accounts(Protocol):
    """The accounts that can carry reminders."""

    def ways_of(self, tenant: Tenant, channel: Channel, template: str) -> list[Connected]:
        """Those of a queue, by name."""

    def by_country(self) -> bool:
        """Whether any of them serves some countries alone."""


class Planning:
    """Makes plans, one at a time: each takes a processor for a second or two."""

    def __init__(self, store: PlanStore, accounts: Accounts) -> None:
        self._store = store
        self._accounts = accounts
        self._one = asyncio.Lock()

    async def plan(
        self, owner: Tenant, wanted: Mapping[str, Mapping[str, Any] | None]
    ) -> tuple[datetime, Plan]:
        """When it was made, and what quotas of an owner, changed so (by name; None takes one away), would do.

        All that waits is replayed, as accounts are shared; a tenant sees its own queues, the deployment everybody's.
        BadInput with every fault of the proposal, at `/quotas/{name}/…`.
        """
        async with self._one:
            stock = await self._store.stock(
                Mode(owner.partition("/")[2]), by_country=self._accounts.by_country()
            )
            proposed = with_changes(stock.quotas, dict(_changes(owner, wanted, stock)))
            terms = [
                Terms(quotas=held, tallies=await self._store.tallies(held, stock.now))
                for held in (stock.quotas, proposed)
            ]
            waiting = list(_Ways(stock, self._accounts).waiting())
            made = await asyncio.to_thread(plan, waiting, today=terms[0], proposed=terms[1], now=stock.now)
        own = [q for q in made.queues if owner.partition("/")[0] in (EVERYONE, q.tenant.partition("/")[0])]
        return stock.now, replace(made, queues=tuple(own))


# What is proposed.


def _changes(
    owner: Tenant, wanted: Mapping[str, Mapping[str, Any] | None], stock: Stock
) -> Iterator[tuple[tuple[Tenant, str], Quota | None]]:
    stands = {quota.name: quota for quota in stock.quotas if quota.owner == owner}
    own = {quota.name: quota for quota in stock.own if quota.owner == owner}
    faults: list[Fault] = []
    for name, said in wanted.items():
        if said is None:
            if name not in stands:
                message = "there is no quota of that name to take away: see gateway quota list"
                faults.append(Fault(at=f"/quotas/{name}", code="not_found", message=message))
            yield (owner, name), own.get(name)
            continue
        made, wrong = _changed(owner, name, stands.get(name), said, stock.now)
        faults += [replace(fault, at=f"/quotas/{name}{fault.at}") for fault in wrong]
        if made is not None:
            yield (owner, name), made
    if faults:
        raise BadInput(faults)


def _changed(
    owner: Tenant, name: str, stands: Quota | None, said: Mapping[str, Any], now: datetime
) -> tuple[Quota | None, list[Fault]]:
    merged = spec.merge(spec.write(stands) if stands is not None else {}, said)
    wrong = spec.lacking(merged)
    until = said.get("until", stands.until if stands is not None else None)
    if until is not None and until <= now:
        wrong.append(Fault(at="/until", code="until_unfit", message="send an instant that is still to come"))
    if wrong:
        return None, wrong
    version = stands.version + 1 if stands is not None else 1
    made = spec.read(owner, name, merged, version=version, until=until, before=stands)
    return made, [*spec.faults(made), *of_no_account(name, stands)]


# How what waits goes.


class _Ways:
    """By which accounts the queues of a backlog go: as they went lately, else by the accounts' weights."""

    def __init__(self, stock: Stock, accounts: Accounts) -> None:
        self._stock = stock
        self._accounts = accounts
        self._went: dict[tuple[Tenant, str, str], dict[str, int]] = defaultdict(lambda: defaultdict(int))
        self._parts: dict[tuple[Tenant, str, str], list[int]] = defaultdict(lambda: [0, 0])
        for load, number in stock.lately:
            self._went[load.tenant, load.channel, load.template][load.account] += number
            for template in (load.template, ""):
                sums = self._parts[load.tenant, load.account, template]
                sums[0] += number
                sums[1] += number * load.segments

    def waiting(self) -> Iterator[Waiting]:
        """The groups, each dealt to its ways."""
        dealt: dict[tuple[str, str | None], list[tuple[Way, float, _Dealt]]] = {}
        for group in self._stock.groups:
            alike = group.queue.name, group.country
            if alike not in dealt:
                ways = self._ways(group.queue, group.country)
                dealt[alike] = [(way, share, _Dealt()) for way, share in ways]
            for way, share, own in dealt[alike]:
                count = own.next(share * group.count)
                if count:
                    yield Waiting(way=way, due=self._due(group, way), expires=group.expires, count=count)

    def _due(self, group: Group, way: Way) -> datetime:
        """When it may start: not before a pause of all that waits there ends, and never where no account is."""
        never = group.expires + timedelta(seconds=1)
        if not way.load.account:
            return never
        pause = first_of_queue(self._stock.pauses, group.queue, self._stock.now)
        return group.due if pause is None else max(group.due, pause.until or never)

    def _ways(self, queue: Queue, country: str | None) -> Iterator[tuple[Way, float]]:
        ways = self._accounts.ways_of(queue.tenant, queue.channel, queue.template)
        able = [one for one in ways if country is None or one.serves(country)]
        if not able:
            yield _nowhere(queue), 1.0
            return
        went = self._went[queue.tenant, queue.channel.value, queue.template]
        weights = [float(went.get(one.account.name, 0)) for one in able]
        if not any(weights):
            weights = [float(one.account.settings.get("weight", "0")) for one in able]
        if not any(weights):
            weights = [1.0, *(0.0 for _ in able[1:])]
        for one, weight in zip(able, weights, strict=True):
            if weight:
                yield self._way(queue, one), weight / sum(weights)

    def _way(self, queue: Queue, one: Connected) -> Way:
        account, tenant = one.account, queue.tenant
        known = [self._parts.get((tenant, account.name, template)) for template in (queue.template, "")]
        number, parts = next((sums for sums in known if sums), (1, 1))
        segments = Decimal(parts) / number
        price = account.price
        if price is not None and one.channel is Channel.SMS:
            price = Money(amount=price.amount * segments.quantize(Decimal("0.0001")), currency=price.currency)
        return Way(
            load=one.load(tenant, queue.template, queue.priority),
            weight=float(account.weight or 1),
            segments=float(segments),
            price=price,
            call_s=self._stock.call_s.get((tenant, account.name), CALL_S) + TURN_S,
        )


def _nowhere(queue: Queue) -> Way:
    """The way of what no account can carry."""
    load = Load(
        tenant=queue.tenant,
        channel=queue.channel.value,
        adapter="",
        account="",
        template=queue.template,
        priority=queue.priority,
    )
    return Way(load=load)


@dataclass(slots=True)
class _Dealt:
    """Whole numbers out of shares, so that many small groups come to what they should together."""

    due: float = 0.0
    had: int = 0

    def next(self, share: float) -> int:
        """How many of the next group."""
        self.due += share
        given = round(self.due) - self.had
        self.had += given
        return given
