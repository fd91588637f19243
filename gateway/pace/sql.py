"""The pace from SQL: the same dealing over rows, for when Redis is gone or was never there."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import orjson

from gateway.quotas.asked import AHEAD_US, Granted, Pace, Wanted
from gateway.quotas.dealing import Claim, Claims, Meter, Pool, Share, State, room, take
from gateway.store import pace as rows
from gateway.store.database import Database

NAME = "sql"
ORIGIN_US = 1_735_689_600_000_000
"""2025: instants count from it, so that a float holds them to well under a microsecond."""
FORGET_US = 60_000_000
"""Claims of workers that have not asked for so long are dropped."""

_POOL = "domain|"


class SqlPace:
    """gateway.quotas.asked.Grants over the table `pace`. Each take is one short transaction."""

    def __init__(self, database: Database) -> None:
        self._db = database

    async def take(self, wanted: Wanted) -> Granted:
        """Grant what may start; nothing while the row `live` names another source."""
        keys = _keys(wanted.paces, {group.pool for group in wanted.groups})
        async with self._db.write() as conn:
            await rows.lock(conn)
            kept = await rows.read(conn, keys)
            if kept.source != NAME:
                return Granted(source=NAME, epoch=kept.epoch, starts=tuple(() for _ in wanted.groups))
            state, now = _state(kept), float(kept.now - ORIGIN_US)
            starts = take(state, wanted, now, empty_at=_empty_at(kept))
            await rows.write(conn, kept.epoch, _rows(state, now))
        return Granted(source=NAME, epoch=kept.epoch, starts=starts)

    async def room(self, paces: Sequence[Pace], worker: str) -> list[float]:
        """How much of each may start within ROOM_US. New meters begin with it."""
        keys = _keys(paces, ())
        async with self._db.read() as conn:
            kept = await rows.read(conn, keys)
        if any(pace.key not in kept.rows for pace in paces):
            async with self._db.write() as conn:
                await rows.lock(conn)
                kept = await rows.read(conn, keys)
                state, now = _state(kept), float(kept.now - ORIGIN_US)
                found = room(state, paces, worker, now, empty_at=_empty_at(kept))
                await rows.write(conn, kept.epoch, _rows(state, now))
                return found
        return room(_state(kept), paces, worker, float(kept.now - ORIGIN_US), empty_at=_empty_at(kept))


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
