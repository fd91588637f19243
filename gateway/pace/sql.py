"""The pace from SQL: the same dealing over rows, for when Redis is gone or was never there."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import orjson

from gateway.quotas.asked import AHEAD_US, Granted, Group, Pace, Wanted
from gateway.quotas.dealing import Claim, Claims, Meter, Pool, Share, State, room, take
from gateway.store import pace as rows
from gateway.store.database import Database

NAME = "sql"
ORIGIN_US = 1_735_689_600_000_000
"""2025: instants count from it, so that a float holds them to well under a microsecond."""
LEASE_US = 500_000
"""How far ahead slots are leased."""
AGAIN_S = 0.2
CLAIM_US = 600_000
"""Claims count for longer than the time between two leases."""
AHEAD_S = AHEAD_US / 1e6
FORGET_US = 60_000_000
"""Claims of workers that have not asked for so long are dropped."""

_POOL = "domain|"

Kind = tuple[str | int, ...]


class SqlPace:
    """gateway.quotas.asked.Grants over the table `pace`.

    Slots are leased up to LEASE_US ahead by one short transaction, and given out as grants when they are near. What
    could not be leased is asked for again after AGAIN_S; what is new at once.
    """

    def __init__(self, database: Database, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._db = database
        self._monotonic = monotonic
        self._epoch = 0
        self._slots: dict[Kind, deque[float]] = {}
        self._ask_at: dict[Kind, float] = {}

    async def take(self, wanted: Wanted) -> Granted:
        """Grant what may start; nothing while the row `live` names another source."""
        kinds = [_kind(wanted, group) for group in wanted.groups]
        now = self._monotonic()
        self._drop_stale(now)
        lacking = [
            kind
            for kind, group in zip(kinds, wanted.groups, strict=True)
            if len(group.segments) > len(self._slots.get(kind, ()))
        ]
        if any(self._ask_at.get(kind, now) <= now for kind in lacking):
            await self._lease(wanted, kinds)
            now = self._monotonic()
        starts = [
            self._near(kind, len(g.segments), now) for kind, g in zip(kinds, wanted.groups, strict=True)
        ]
        return Granted(source=NAME, epoch=self._epoch, starts=tuple(starts))

    def _drop_stale(self, now: float) -> None:
        """Slots that nobody used in time are gone."""
        for kind, slots in list(self._slots.items()):
            while slots and slots[0] < now - AHEAD_S:
                slots.popleft()
            if not slots:
                del self._slots[kind]

    def _near(self, kind: Kind, count: int, now: float) -> tuple[int, ...]:
        slots = self._slots.get(kind)
        found: list[int] = []
        while slots and len(found) < count and slots[0] <= now + AHEAD_S:
            found.append(max(0, int((slots.popleft() - now) * 1e6)))
        return tuple(found)

    async def _lease(self, wanted: Wanted, kinds: Sequence[Kind]) -> None:
        """Lease slots for what has none yet."""
        more = replace(
            wanted,
            groups=tuple(
                replace(group, segments=group.segments[len(self._slots.get(kind, ())) :])
                for kind, group in zip(kinds, wanted.groups, strict=True)
            ),
        )
        epoch, leased = await self._deal(more)
        now = self._monotonic()
        if epoch != self._epoch:
            self._epoch, self._slots = epoch, {}
        self._ask_at = {}
        for kind, group, given in zip(kinds, more.groups, leased, strict=True):
            if given:
                self._slots.setdefault(kind, deque()).extend(now + at / 1e6 for at in given)
            if len(given) < len(group.segments):
                self._ask_at[kind] = now + AGAIN_S

    async def _deal(self, wanted: Wanted) -> tuple[int, Sequence[tuple[int, ...]]]:
        async with self._db.write() as conn:
            await rows.lock(conn)
            kept = await rows.read(conn, _keys(wanted.paces, {group.pool for group in wanted.groups}))
            if kept.source != NAME:
                return kept.epoch, [() for _ in wanted.groups]
            state, now = _state(kept), float(kept.now - ORIGIN_US)
            starts = take(state, wanted, now, empty_at=_empty_at(kept), ahead_us=LEASE_US, claim_us=CLAIM_US)
            await rows.write(conn, kept.epoch, _rows(state, now))
            return kept.epoch, starts

    async def room(self, paces: Sequence[Pace], worker: str) -> list[float]:
        """How much of each may start within ROOM_US. New meters begin with it."""
        keys = _keys(paces, ())
        async with self._db.read() as conn:
            kept = await rows.read(conn, keys)
        if all(pace.key in kept.rows for pace in paces):
            return _room(kept, _state(kept), paces, worker)
        async with self._db.write() as conn:
            await rows.lock(conn)
            kept = await rows.read(conn, keys)
            state = _state(kept)
            found = _room(kept, state, paces, worker)
            await rows.write(conn, kept.epoch, _rows(state, float(kept.now - ORIGIN_US)))
            return found


def _room(kept: rows.Kept, state: State, paces: Sequence[Pace], worker: str) -> list[float]:
    now = float(kept.now - ORIGIN_US)
    return room(state, paces, worker, now, empty_at=_empty_at(kept), claim_us=CLAIM_US)


def _kind(wanted: Wanted, group: Group) -> Kind:
    """What may use the same slots."""
    return (group.pool, group.tenant, group.lane, *(wanted.paces[pace].key for pace in group.paces))


def _empty_at(kept: rows.Kept) -> float:
    """New meters begin empty: now, but after all that was granted before the source last changed."""
    return float(max(kept.now, kept.since + AHEAD_US) - ORIGIN_US)


def _keys(paces: Iterable[Pace], pools: Iterable[str]) -> set[str]:
    return {rows.CLAIMS, *(pace.key for pace in paces), *(_POOL + pool for pool in pools)}


def _state(kept: rows.Kept) -> State:
    state = State()
    for key, row in kept.rows.items():
        found = orjson.loads(row)
        if key == rows.CLAIMS:
            state.claims = {worker: _claims(*each) for worker, each in found.items()}
        elif key.startswith(_POOL):
            time, dealt, shares = found
            kept_shares = {tenant: Share(own, owed) for tenant, (own, owed) in shares.items()}
            state.pools[key.removeprefix(_POOL)] = Pool(time, dealt, kept_shares)
        else:
            state.meters[key] = Meter(*found)
    return state


def _claims(at: float, claims: list[list[object]], wants: dict[str, float]) -> Claims:
    return Claims(at, [Claim(*each) for each in claims], wants)  # type: ignore[arg-type]  # as _rows wrote them


def _rows(state: State, now: float) -> dict[str, str]:
    found: dict[str, object] = {
        rows.CLAIMS: {
            worker: [
                each.at,
                [[c.pool, c.tenant, c.weight, c.lane, c.count, c.keys, c.units] for c in each.claims],
                each.wants,
            ]
            for worker, each in state.claims.items()
            if abs(now - each.at) <= FORGET_US
        }
    }
    for key, meter in state.meters.items():
        found[key] = [meter.tat, meter.per_s, meter.burst, meter.version, meter.at, meter.seen, meter.changed]
    for name, pool in state.pools.items():
        shares = {tenant: [share.time, share.owed] for tenant, share in pool.shares.items()}
        found[_POOL + name] = [pool.time, pool.dealt, shares]
    return {key: orjson.dumps(each).decode() for key, each in found.items()}
