"""Decisions with what they rest on, which is kept once for all that rest on the same."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from hashlib import sha256
from typing import Any

import orjson
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.policy.explain import whole_json
from gateway.store import schema
from gateway.store.among import among, keyed
from gateway.work import Ground

_NOTHING: Mapping[str, Any] = {"findings": [], "zones": [], "packs": []}


def rows_of(grounds: Iterable[Ground], now: int) -> list[dict[str, Any]]:
    """Each once, always in the same order: who writes the same at once waits for one another, and never in a ring."""
    known = {ground.sha256: ground.said for ground in grounds}
    return [{"sha256": digest, "said": said, "at": now} for digest, said in sorted(known.items())]


async def whole(
    conn: AsyncConnection, decisions: Sequence[Mapping[str, Any] | None]
) -> list[dict[str, Any] | None]:
    """These decisions as the API shows them; older ones hold all that they rest on themselves.

    One whose ground is gone, or not what its digest says, rests on nothing and still names it.
    """
    known = await _said(conn, {d["ground"] for d in decisions if d and "ground" in d})
    return [_whole(decision, known) if decision else None for decision in decisions]


async def leaves(conn: AsyncConnection, rows: Iterable[Any]) -> list[dict[str, Any]]:
    """What these records say, the decisions in them whole."""
    said = [orjson.loads(row.leaf) for row in rows]
    decisions = await whole(conn, [leaf.get("body", {}).get("decision") for leaf in said])
    return [
        leaf if decision is None else {**leaf, "body": {**leaf["body"], "decision": decision}}
        for leaf, decision in zip(said, decisions, strict=True)
    ]


def _whole(decision: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
    if "ground" not in decision:
        return dict(decision)
    grounds = known.get(decision["ground"])
    return {**decision, **_NOTHING} if grounds is None else whole_json(decision, grounds)


async def _said(conn: AsyncConnection, digests: Collection[str]) -> dict[str, Any]:
    if not digests:
        return {}
    ground = schema.ground.c
    rows = await conn.execute(
        select(ground.sha256, ground.said).where(among("digests", ground.sha256)),
        {"digests": keyed((digest,) for digest in digests)},
    )
    return {r.sha256: orjson.loads(r.said) for r in rows if sha256(r.said.encode()).hexdigest() == r.sha256}
