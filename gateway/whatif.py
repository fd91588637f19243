"""The send log replayed through packs and caps that are only proposed, person by person. Nothing is changed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import Protocol

from gateway.accounts import Accounts
from gateway.audit.timeline import Judged, Timeline
from gateway.domain import Channel, Tenant
from gateway.errors import BadInput, Fault, PolicyError
from gateway.policy.calendars import Calendars
from gateway.policy.lint import lint
from gateway.policy.model import Pack
from gateway.policy.packs import Packs, overlap
from gateway.policy.tally import Count, Tally
from gateway.policy.whatif import Caps, Proposal, Seen, Why, local_date, replay
from gateway.policy.written import read_written

PERSONS, AT_ONCE = 100, 10
"""Persons on a page, and those read together."""
LONGEST_S = 5.0
"""Seconds after which a page ends early."""
_DAY = timedelta(days=1)
_LOST = Fault(at="", code="pack_unknown", message="the packs cannot be loaded: see gateway config check")


class Log(Protocol):
    """Who was decided on, and what the log says of them."""

    async def persons(
        self, tenant: Tenant, since: datetime, until: datetime, *, after: str, limit: int
    ) -> list[str]:
        """Ids of persons in order, after that one."""

    def timelines(
        self, tenant: Tenant, persons: Sequence[str], since: datetime, until: datetime
    ) -> AsyncIterator[Timeline]:
        """One for each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is tried: (name, TOML) of packs, numbers of caps; on local dates from `since` to before `until`."""

    packs: tuple[tuple[str, str], ...]
    caps: Caps
    since: date
    until: date


class WhatIf:
    """Replays for one process. `monotonic` gives seconds."""

    def __init__(
        self,
        *,
        log: Log,
        accounts: Accounts,
        packs: Packs,
        calendars: Calendars,
        monotonic: Callable[[], float],
    ) -> None:
        self._log = log
        self._accounts = accounts
        self._packs = packs
        self._calendars = calendars
        self._monotonic = monotonic

    async def page(self, tenant: Tenant, wanted: Wanted, *, after: str) -> tuple[Tally, str | None]:
        """What it comes to for the persons after that one, and after whom to go on; BadInput for what is proposed."""
        proposal = self._proposal(wanted)
        reach = {channel: self._reach(tenant, channel) for channel in Channel}
        count, ends = Count(), self._monotonic() + LONGEST_S
        since, until = (datetime.combine(day, time(), UTC) for day in (wanted.since, wanted.until))
        since, until = since - _DAY, until + _DAY  # local dates are up to 14 hours off
        persons = await self._log.persons(tenant, since, until, after=after, limit=PERSONS)
        for begin in range(0, len(persons), AT_ONCE):
            part = persons[begin : begin + AT_ONCE]
            async for line in self._log.timelines(tenant, part, since, until):
                for day, judged in _within(line, wanted):
                    seen = _seen(line, judged)
                    found = replay(seen, proposal, reach=reach, calendars=self._calendars)
                    count.see(judged.reminder or judged.record, day, found)
                await asyncio.sleep(0)
            if self._monotonic() > ends:
                return count.tally, part[-1]
        return count.tally, persons[-1] if len(persons) == PERSONS else None

    def _proposal(self, wanted: Wanted) -> Proposal:
        if not isinstance(self._packs, tuple):
            raise BadInput([_LOST])
        try:
            return Proposal(self._packs, _parsed(wanted.packs), wanted.caps)
        except PolicyError as wrong:
            faults = [Fault(at=f"/caps{f.at}", code=f.code, message=f.message) for f in wrong.faults]
            raise BadInput(faults) from None

    def _reach(self, tenant: Tenant, channel: Channel) -> timedelta:
        """How long a channel disturbs after hand-over, by the slowest of its accounts as they are now."""
        found = (connected.adapter.reach for connected in self._accounts.of(tenant, channel))
        return max(found, default=timedelta())


def _within(line: Timeline, wanted: Wanted) -> Iterator[tuple[str, Judged]]:
    """The decisions on those local dates, each with its date."""
    first, last = wanted.since.isoformat(), wanted.until.isoformat()
    for judged in line.judged:
        day = local_date(judged.at, judged.decision)
        if first <= day < last:
            yield day, judged


def _seen(line: Timeline, judged: Judged) -> Seen:
    return Seen(
        at=judged.at,
        said=judged.decision,
        inputs=judged.inputs or (Why.ERASED if judged.erased else Why.NOT_RECORDED),
        history=line.history(judged.at, before=judged),
    )


@lru_cache(maxsize=4)
def _parsed(files: tuple[tuple[str, str], ...]) -> tuple[Pack, ...]:
    """Packs from (name, TOML); BadInput with every mistake of all of them, and its line."""
    faults: list[Fault] = []
    packs: list[Pack] = []
    for place, (name, source) in enumerate(files):
        try:
            pack = read_written(source, name).pack
        except PolicyError:
            faults += _mistakes(place, source)
            continue
        if any(overlap(pack, other) for other in packs):
            message = (
                "a pack of the same id before it is in force on some of its dates: leave one of them out"
            )
            faults.append(Fault(at=f"/packs/{place}/toml", code="pack_malformed", message=message))
        packs.append(pack)
    if faults:
        raise BadInput(faults)
    return tuple(packs)


def _mistakes(place: int, source: str) -> list[Fault]:
    return [
        Fault(
            at=f"/packs/{place}/toml",
            code="pack_malformed",
            message=f"line {remark.line}, column {remark.column}: {remark.at}: {remark.message}",
        )
        for remark in lint(source, today=date.min, shipped=(), adapters=())
    ]
