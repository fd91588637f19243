"""What becomes of each item of a batch, and how one idempotency key gets one answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import orjson

from gateway.bodies import Body, read
from gateway.errors import BadInput, Fault, GatewayError

B = TypeVar("B", bound=Body)
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """An answer, as bytes: what is replayed is the same to the byte."""

    status: int
    body: bytes


Result = Done | GatewayError
"""What one item gets."""


def done(status: int, body: Mapping[str, Any]) -> Done:
    """An answer of these keys."""
    return Done(status=status, body=orjson.dumps(body))


def refused(*faults: Fault) -> BadInput:
    """A refusal; where all faults have one code that may stand for a whole answer, it does."""
    codes = {fault.code for fault in faults}
    whole = codes & WHOLE
    return BadInput(faults, code=whole.pop() if len(codes) == 1 and whole else None)


WHOLE = frozenset({"template_unknown", "template_unapproved", "template_unbound", "fact_missing"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Item(Generic[B]):
    """One item that is well formed: its place, its key, the text it came as."""

    index: int
    key: str
    canonical: str
    body: B


@dataclass(slots=True)
class Intaken(Generic[B]):
    """A batch as it came in: results of what is not well formed, and the items that are."""

    results: dict[int, Result]
    items: list[Item[B]]


async def paced(items: Iterable[T]) -> AsyncIterator[T]:
    """Items one by one, with room for others in the loop after every few: a batch must not hold calls up."""
    for place, item in enumerate(items):
        if place % AT_A_STRETCH == AT_A_STRETCH - 1:
            await asyncio.sleep(0)
        yield item


AT_A_STRETCH = 32
"""Items that are worked on without a pause."""


async def take_in(kind: type[B], raws: Sequence[object], *, keyed: bool) -> Intaken[B]:
    """Check the form of every item; `keyed` ones need an idempotency key."""
    taken: Intaken[B] = Intaken(results={}, items=[])
    async for index, raw in paced(enumerate(raws)):
        try:
            body = read(kind, raw)
            key = _key(body) if keyed else ""
        except BadInput as wrong:
            taken.results[index] = wrong
            continue
        taken.items.append(Item(index=index, key=key, canonical=_canonical(raw) if keyed else "", body=body))
    return taken


def _key(body: Body) -> str:
    key: str | None = getattr(body, "idempotency_key", None)
    if key is None:
        raise BadInput(
            [Fault(at="/idempotency_key", code="missing", message="give each request a key of its own")]
        )
    return key


def _canonical(raw: object) -> str:
    """A body's text in one order, without its key, which a header may carry instead."""
    if isinstance(raw, dict):
        raw = {name: value for name, value in raw.items() if name != "idempotency_key"}
    return orjson.dumps(raw, option=orjson.OPT_SORT_KEYS).decode()


def in_order(results: Mapping[int, Result], count: int) -> list[Result]:
    """One result per item, in the order of the items."""
    return [results[index] for index in range(count)]
