"""What ops tune and what is used of it, read for the metrics."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from gateway.quotas.model import in_force
from gateway.store import counted, live
from gateway.store.counted import Used as Counted
from gateway.store.database import Database
from gateway.store.live_config import LiveRows
from gateway.store.quota_views import factors
from gateway.watch import Tuned, Used, quota_label


class TunedRows:
    """gateway.watch.TunedStore. `channel_of` gives the channel of an adapter."""

    def __init__(self, database: Database, channel_of: Callable[[str], str]) -> None:
        self._db = database
        self._live = LiveRows(database)
        self._channel_of = channel_of

    async def tuned(self) -> Tuned:
        """All of it as it stands now."""
        config = await self._live.read(())
        async with self._db.read() as conn:
            book = in_force(config.quotas, config.moment.policy)
            used = await counted.used(conn, config.moment, list(book))
            applied = await live.applied(conn, config.seq)
            factor = await factors(conn, config.moment, self._channel_of)
        return Tuned(
            config=config,
            used=tuple(one for bucket in used for one in _used(bucket)),
            factors={quota_label(quota): factor(quota) for quota in book},
            workers=applied["of"],
            behind=len(applied["missing"]),
        )


def _used(bucket: Counted) -> Iterator[Used]:
    """What of each of its quota's limits a bucket has used."""
    quota, _, of = bucket.key.partition("||")
    budget = bucket.quota.budget
    numbers: dict[str, float] = {
        "rate": bucket.rate,
        "per_minute": bucket.minute,
        "per_hour": bucket.hour,
        "per_day": bucket.day,
        "concurrency": bucket.calls,
        "budget": float(bucket.budget / budget.amount) if budget and budget.amount else 0.0,
    }
    for limit, number in numbers.items():
        if limit in bucket.quota.limits():
            yield Used(quota=quota, of=of, limit=limit, number=number)
