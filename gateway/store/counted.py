"""Counted quotas: what go counts, in its own transaction, before a call begins.

Two things are counted. A *load* is all that quotas can tell of a start (tenant, channel, account, template, parts):
every start is counted there, whatever quotas there are, so that one set at noon knows the morning. A *bucket* is a
quota's own sum. Any change of a quota forgets all buckets, and the next go adds them up from the loads again.

go has taken GO_LOCK shared before, and whoever changes a quota takes it alone: so no go counts by one version after
another has begun by the next. On SQLite the one writer's lock does all of this.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from zlib import crc32

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    and_,
    bindparam,
    collate,
    delete,
    func,
    literal,
    or_,
    select,
    text,
    tuple_,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.domain import Money, Tenant, from_us, to_us
from gateway.ports import Moment
from gateway.quotas import counting
from gateway.quotas.counting import COUNTED, MINUTE_US, QUARTER_US, SLICE_US, Left, Span, Tally
from gateway.quotas.model import Book, Bucket, Load, Quota, in_force
from gateway.store import quotas, schema
from gateway.store.among import keyed
from gateway.store.database import chunks
from gateway.store.words import Words
from gateway.work import Refusal, Start

ALARM = "alarm"
"""The span under which it is noted that a budget's alarm rang."""
LOAD_SLICE, LOAD_QUARTER = "load_slice", "load_quarter"
"""Spans of loads: 5 s, kept for the last hour; 15 min, kept for the month."""
BUCKET_LOCK = 0x716F
"""First half of the advisory transaction locks on buckets; the second is a hash of the bucket's key."""
KEPT = {
    Span.SLICE: timedelta(minutes=10),
    LOAD_SLICE: timedelta(hours=2),
    Span.MINUTE: timedelta(hours=2),
    Span.DAY: timedelta(days=40),
    LOAD_QUARTER: timedelta(days=40),
    Span.MONTH: timedelta(days=40),
    ALARM: timedelta(days=40),
}
"""How long counts of each span can matter, with room to spare."""

Rows = dict[tuple[str, str, int], tuple[int, int]]
"""Units and micros by (bucket or load, span, start)."""

_COUNT, _ATTEMPT, _ACCOUNT, _QUOTA = (
    table.c for table in (schema.quota_count, schema.attempt, schema.account, schema.quota)
)
_NEVER = 2**62
_STORED = select(schema.quota_count).where(
    _COUNT.bucket.in_(bindparam("keys", expanding=True)),
    or_(
        *(
            and_(_COUNT.span == span.value, _COUNT.start >= bindparam(f"{span}s", type_=BigInteger))
            for span in Span
        )
    ),
)
_OF_BUCKETS = [span.value for span in Span]
_IN_ORDER = (
    select(_COUNT.start)
    .where(_COUNT.span.in_(_OF_BUCKETS))
    .order_by(collate(_COUNT.bucket, "C"), collate(_COUNT.span, "C"), _COUNT.start)
    .with_for_update()
)
"""Locks them as _LESS does: what is given back meanwhile must not wait for this in a ring."""
_VERSIONS = select(_QUOTA.owner, _QUOTA.name, _QUOTA.version).where(_QUOTA.gone.is_(False))
_LOCK = text("SELECT pg_advisory_xact_lock(:kind, k) FROM unnest(CAST(:keys AS integer[])) AS k")


async def admit(
    conn: AsyncConnection, moment: Moment, book: Book, starts: Sequence[Start]
) -> dict[str, Refusal]:
    """Count those of these starts that every counted quota has room for, in their order; why others may not, by ref.

    Part of go, after GO_LOCK, with the book `as_it_stands`. Locks of other rows must not be asked for after it.
    """
    if not starts:
        return {}
    now = moment.policy
    covering = {start.ref: _counted(book, start.load) for start in starts}
    buckets = {bucket.key: bucket for found in covering.values() for bucket in found}
    await _lock(conn, buckets)
    tallies, rows = await _tallies(conn, now, buckets.values())
    counts = {
        key: [(span, counting.under(span, b.quota.zone, now)) for span in counting.spans(b.quota)]
        for key, b in buckets.items()
    }
    refused: dict[str, Refusal] = {}
    for start in starts:
        refusal = _refusal(covering[start.ref], tallies, start.load, now)
        if refusal is not None:
            refused[start.ref] = refusal
            continue
        for bucket in covering[start.ref]:
            units, micros = bucket.units(start.load), counting.micros_of(bucket.quota.budget, start.load.cost)
            tally = tallies[bucket.key]
            tally.calling += 1
            for span, at in counts[bucket.key]:
                tally.add(span, at, units, micros)
                _add(rows, (bucket.key, span, at), units, micros)
        _add_load(rows, start.load, now, 1)
    await _write(conn, rows)
    return refused


async def give_back(conn: AsyncConnection, moment: Moment, book: Book, starts: Sequence[Start]) -> None:
    """Count no more what got its go and was surely not called. The last thing of its transaction."""
    called = await _called(conn, starts)
    stored = {(row.owner, row.name): row.version for row in await conn.execute(_VERSIONS)}
    book = await as_it_stands(conn, book, stored, moment.policy)
    loads: Rows = {}
    kept: Rows = {}
    for start in starts:
        if start.ref not in called:
            continue
        at = moment.policy + (called[start.ref] - moment.real)
        _add_load(loads, start.load, at, -1)
        for bucket in _counted(book, start.load):
            units, micros = bucket.units(start.load), counting.micros_of(bucket.quota.budget, start.load.cost)
            for span in counting.spans(bucket.quota):
                under = counting.under(span, bucket.quota.zone, at)
                _add(kept, (bucket.key, span, under), units, micros)
    await _lock(conn, {key for key, _, _ in kept})
    if kept:
        await conn.execute(_LESS, _params(kept))
    await _write(conn, loads)


async def left(conn: AsyncConnection, moment: Moment, buckets: Sequence[Bucket]) -> dict[str, Left]:
    """What is left of each bucket, by key, as far as it can be seen without a lock."""
    tallies, _ = await _tallies(conn, moment.policy, buckets)
    return {b.key: counting.left(b, tallies[b.key], moment.policy) for b in buckets}


@dataclass(frozen=True, slots=True, kw_only=True)
class Used:
    """What a bucket has used: starts a second, units of the minute, hour and day, open calls, money of its budget."""

    key: str
    quota: Quota
    rate: float
    minute: int
    hour: int
    day: int
    calls: int
    budget: Decimal

    def share_of_budget(self) -> float:
        """1 is all of it; 0 where there is none."""
        budget = self.quota.budget
        return float(self.budget / budget.amount) if budget is not None and budget.amount else 0.0

    def fullness(self) -> float:
        """The share of the limit that is nearest to its end."""
        quota = self.quota
        held = (
            (quota.rate, self.rate),
            (quota.per_minute, self.minute),
            (quota.per_hour, self.hour),
            (quota.per_day, self.day),
            (quota.concurrency, self.calls),
        )
        return max(self.share_of_budget(), *(used / float(limit) for limit, used in held if limit), 0.0)


async def used(conn: AsyncConnection, moment: Moment, quotas_: Sequence[Quota]) -> list[Used]:
    """What every bucket that these quotas ever counted in has used, whatever they limit."""
    now = moment.policy
    tallies: dict[str, Tally] = defaultdict(Tally)
    rows = await from_loads(conn, now, quotas_, _all_spans)
    for (key, span, start), (units, micros) in rows.items():
        tallies[key].add(Span(span), start, units, micros)
    for key, number in (await calling(conn, quotas_)).items():
        tallies[key].calling = number
    by_name = {f"{quota.owner}|{quota.name}": quota for quota in quotas_}
    return [_used(key, tally, by_name[key.partition("||")[0]], now) for key, tally in sorted(tallies.items())]


def _all_spans(quota: Quota) -> Iterable[Span]:
    return counting.spans(quota) | {Span.SLICE, Span.MINUTE, Span.DAY}


def _used(key: str, tally: Tally, quota: Quota, now: datetime) -> Used:
    whole = counting.floor(now, SLICE_US)
    recent = sum(tally.slices.get(whole - back * SLICE_US, 0) for back in (1, 2))
    return Used(
        key=key,
        quota=quota,
        rate=recent / (2 * SLICE_US / 1_000_000),
        minute=sum(tally.slices.values()),
        hour=sum(tally.minutes.values()),
        day=tally.day[0],
        calls=tally.calling,
        budget=counting.spent(quota, tally),
    )


async def forget(conn: AsyncConnection) -> None:
    """Let every bucket be added up anew. Only under GO_LOCK, alone."""
    if conn.dialect.name == "postgresql":
        await conn.execute(_IN_ORDER)
    await conn.execute(delete(schema.quota_count).where(_COUNT.span.in_(_OF_BUCKETS)))


async def prune(conn: AsyncConnection, moment: Moment) -> None:
    """Delete counts that are too old to matter."""
    for span, kept in KEPT.items():
        await conn.execute(
            delete(schema.quota_count).where(
                _COUNT.span == str(span), _COUNT.start < to_us(moment.policy - kept)
            )
        )


# Buckets.


def _counted(book: Book, load: Load) -> list[Bucket]:
    return [bucket for bucket in book.buckets(load) if bucket.limits & COUNTED]


def _refusal(
    buckets: Iterable[Bucket], tallies: Mapping[str, Tally], load: Load, now: datetime
) -> Refusal | None:
    """By the quota that lets go last."""
    short = [
        (again, bucket.quota.name)
        for bucket in buckets
        if (
            again := counting.refuses(
                bucket,
                tallies[bucket.key],
                bucket.units(load),
                counting.micros_of(bucket.quota.budget, load.cost),
                now,
            )
        )
        is not None
    ]
    if not short:
        return None
    again, name = max(short)
    return Refusal(reason="quota", by=name, again=again)


async def as_it_stands(
    conn: AsyncConnection, book: Book, stored: Mapping[tuple[str, str], int], now: datetime
) -> Book:
    """The book that a worker knows, unless a quota was changed or came to its end since it read them.

    `stored` has the versions of those that are set, by owner and name.
    """
    known = {(quota.owner, quota.name): quota.version for quota in book if quota.version}
    if stored == known and all(quota.at(now) is quota for quota in book):
        return book
    return in_force(await quotas.read(conn), now)


async def _lock(conn: AsyncConnection, keys: Iterable[str]) -> None:
    """Let counts of one bucket wait for each other, always in the same order."""
    numbers = sorted({crc32(key.encode()) - 2**31 for key in keys})
    if numbers and conn.dialect.name == "postgresql":
        await conn.execute(_LOCK, {"kind": BUCKET_LOCK, "keys": numbers})


async def _tallies(
    conn: AsyncConnection, now: datetime, buckets: Iterable[Bucket]
) -> tuple[dict[str, Tally], Rows]:
    """What buckets have counted; and the rows of those that had none, added up from the loads."""
    by_key = {bucket.key: bucket.quota for bucket in buckets}
    tallies = {key: Tally() for key in by_key}
    missing = {(key, span) for key, quota in by_key.items() for span in counting.spans(quota)}
    for (key, span, start), (units, micros) in (await _stored(conn, now, by_key)).items():
        missing.discard((key, Span(span)))
        tallies[key].add(Span(span), start, units, micros)
    rows: Rows = {}
    if missing:
        found = await from_loads(conn, now, {key: by_key[key] for key, _ in missing}.values())
        rows = {at: sums for at, sums in found.items() if (at[0], at[1]) in missing}
        for (key, span, start), (units, micros) in rows.items():
            tallies[key].add(Span(span), start, units, micros)
    open_ = [quota for quota in by_key.values() if quota.concurrency is not None]
    for key, number in (await calling(conn, open_)).items() if open_ else ():
        if key in tallies:
            tallies[key].calling = number
    return tallies, rows


async def _stored(conn: AsyncConnection, now: datetime, by_key: Mapping[str, Quota]) -> Rows:
    """The buckets' own rows that matter now. Somebody whose clock is ahead may have counted already."""
    wanted = {
        (key, span): counting.since(span, quota.zone, now)
        for key, quota in by_key.items()
        for span in counting.spans(quota)
    }
    first = {
        f"{span}s": min((since for (_, of), since in wanted.items() if of is span), default=_NEVER)
        for span in Span
    }
    found: Rows = {}
    for part in chunks(sorted({key for key, _ in wanted})):
        for row in await conn.execute(_STORED, {"keys": part, **first}):
            span = Span(row.span)
            since = wanted.get((row.bucket, span))
            if since is not None and since <= row.start <= _latest(span, since):
                found[row.bucket, row.span, row.start] = (row.units, row.micros)
    return found


def _latest(span: Span, since: int) -> int:
    match span:
        case Span.SLICE:
            return since + 2 * counting.SLICES * SLICE_US
        case Span.MINUTE:
            return since + 2 * counting.MINUTES * MINUTE_US
        case _:
            return since


# Loads.


def load_key(load: Load) -> str:
    """Under what a start is counted by itself."""
    currency = load.cost.currency if load.cost else ""
    words = (load.tenant, load.channel, load.adapter, load.account, str(int(load.shared)), load.template)
    return "|".join((*words, str(load.segments), currency))


def load_of(key: str) -> Load:
    """A load from its key; its cost says only the currency."""
    tenant, channel, adapter, account, shared, template, segments, currency = key.split("|")
    return Load(
        tenant=Tenant(tenant),
        channel=channel,
        adapter=adapter,
        account=account,
        template=template,
        shared=shared == "1",
        segments=int(segments),
        cost=Money(amount=Decimal(0), currency=currency) if currency else None,
    )


def _add_load(rows: Rows, load: Load, at: datetime, number: int) -> None:
    micros = number * _micros(load.cost)
    key = load_key(load)
    _add(rows, (key, LOAD_SLICE, counting.floor(at, SLICE_US)), number, micros)
    _add(rows, (key, LOAD_QUARTER, counting.floor(at, QUARTER_US)), number, micros)


def _micros(cost: Money | None) -> int:
    return 0 if cost is None else counting.micros(cost.amount)


async def from_loads(
    conn: AsyncConnection,
    now: datetime,
    wanted: Iterable[Quota],
    spans: Callable[[Quota], Iterable[Span]] = counting.spans,
) -> Rows:
    """The rows of every bucket of these quotas, added up from the loads."""
    rows: Rows = {}
    sums: dict[tuple[Span, int], list[tuple[Load, int, int, int]]] = {}
    for quota in wanted:
        alone = Book([quota])
        for span in spans(quota):
            since = counting.since(span, quota.zone, now)
            if (span, since) not in sums:
                sums[span, since] = await _sums(conn, span, since)
            for load, start, number, micros in sums[span, since]:
                for bucket in alone.buckets(load):
                    paid = micros if _pays(quota, load) else 0
                    _add(rows, (bucket.key, span, start), number * bucket.units(load), paid)
    return rows


def _pays(quota: Quota, load: Load) -> bool:
    return quota.budget is not None and load.cost is not None and load.cost.currency == quota.budget.currency


async def _sums(conn: AsyncConnection, span: Span, since: int) -> list[tuple[Load, int, int, int]]:
    """Loads since an instant: (load, the span's start, messages, micros)."""
    starts: ColumnElement[int] = literal(since, BigInteger)
    kept = LOAD_QUARTER
    if span in (Span.SLICE, Span.MINUTE):
        starts = _COUNT.start - _COUNT.start % (SLICE_US if span is Span.SLICE else MINUTE_US)
        kept = LOAD_SLICE
    counted = (
        select(_COUNT.bucket, starts.label("under"), _COUNT.units, _COUNT.micros)
        .where(_COUNT.span == kept, _COUNT.start >= since)
        .subquery()
        .c
    )
    rows = await conn.execute(
        select(
            counted.bucket,
            counted.under,
            func.sum(counted.units).label("units"),
            func.sum(counted.micros).label("micros"),
        ).group_by(counted.bucket, counted.under)
    )
    return [(load_of(row.bucket), int(row.under), int(row.units), int(row.micros)) for row in rows]


async def calling(conn: AsyncConnection, wanted: Iterable[Quota]) -> dict[str, int]:
    """Open calls by bucket of these quotas."""
    words = (_ATTEMPT.tenant, _ATTEMPT.channel, _ATTEMPT.adapter, _ATTEMPT.account, _ATTEMPT.template)
    shared = _ACCOUNT.weight.is_not(None)
    rows = await conn.execute(
        select(*words, shared.label("shared"), func.count().label("number"))
        .join(schema.account, and_(_ACCOUNT.tenant == _ATTEMPT.tenant, _ACCOUNT.name == _ATTEMPT.account))
        .where(_ATTEMPT.state == "calling")
        .group_by(*words, shared)
    )
    found: dict[str, int] = defaultdict(int)
    books = [Book([quota]) for quota in wanted]
    for row in rows:
        load = Load(
            tenant=Tenant(row.tenant),
            channel=row.channel,
            adapter=row.adapter,
            account=row.account,
            template=row.template,
            shared=bool(row.shared),
        )
        for book in books:
            for bucket in book.buckets(load):
                found[bucket.key] += row.number
    return found


async def _called(conn: AsyncConnection, starts: Sequence[Start]) -> dict[str, datetime]:
    """When these got their go (real time), by ref."""
    found: dict[str, datetime] = {}
    for part in chunks([(start.load.tenant, start.ref) for start in starts]):
        rows = await conn.execute(
            select(_ATTEMPT.ref, _ATTEMPT.called_at).where(
                tuple_(_ATTEMPT.tenant, _ATTEMPT.ref).in_(part), _ATTEMPT.called_at.is_not(None)
            )
        )
        found.update({row.ref: from_us(row.called_at) for row in rows})
    return found


# Rows.


def _add(rows: Rows, at: tuple[str, str, int], units: int, micros: int) -> None:
    had = rows.get(at, (0, 0))
    rows[at] = (had[0] + units, had[1] + micros)


async def _write(conn: AsyncConnection, rows: Rows) -> None:
    """Add to rows, or make them; always in the same order, so that nobody waits in a ring."""
    if rows:
        added = [(*at, *sums) for at, sums in sorted(rows.items())]
        await _MORE[conn.dialect.name].run(conn, rows=keyed(added))


def _params(rows: Rows) -> list[dict[str, Any]]:
    return [
        {"k_bucket": bucket, "k_span": str(span), "k_start": start, "units": units, "micros": micros}
        for (bucket, span, start), (units, micros) in sorted(rows.items())
    ]


_MORE = {
    name: Words(
        "INSERT INTO quota_count (bucket, span, start, units, micros)"  # noqa: S608 (words of ours)
        " SELECT value ->> 0, value ->> 1,"
        " CAST(value ->> 2 AS bigint), CAST(value ->> 3 AS bigint), CAST(value ->> 4 AS bigint)"
        f" FROM {elements} WHERE true ON CONFLICT (bucket, span, start) DO UPDATE"
        " SET units = quota_count.units + excluded.units, micros = quota_count.micros + excluded.micros"
    )
    for name, elements in (
        ("sqlite", "json_each(:rows)"),
        ("postgresql", "json_array_elements(CAST(:rows AS json))"),
    )
}
"""Rows come as a JSON array, and are written in its order."""
_LESS = (
    update(schema.quota_count)
    .where(
        _COUNT.bucket == bindparam("k_bucket"),
        _COUNT.span == bindparam("k_span"),
        _COUNT.start == bindparam("k_start"),
    )
    .values(units=_COUNT.units - bindparam("units"), micros=_COUNT.micros - bindparam("micros"))
)
