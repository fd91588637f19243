"""`gateway top`: what is due, what starts, quotas, accounts in trouble, pauses and when each backlog clears, live."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

import click
from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from gateway.cli import show
from gateway.cli.mistakes import Command
from gateway.cli.session import Door, Session, with_session
from gateway.domain import Priority
from gateway.errors import GatewayError

PLAN_EVERY_S = 10.0
"""When each backlog clears is worked out so often: it takes more than the rest."""
MOST = 500
"""Quotas and pauses that are asked for."""
SHOWN = 12
"""Rows of one table on the screen; the fullest quotas, the most urgent lanes, the newest pauses."""
WIDEST = {"tenant": 12, "quota": 24, "scope": 24, "account": 20, "why": 18}
"""Columns that are cut before they push others off the screen."""
RANKS = {priority.value: priority.rank for priority in Priority}
TENTHS_BELOW, MINUTE, HOUR, DAY = 10, 60, 3600, 86400
LIMITS = (("per_minute", "minute"), ("per_hour", "hour"), ("per_day", "day"), ("concurrency", "calls"))
"""A quota's limit, and where what is used of it stands."""

Json = Mapping[str, Any]
Rows = Sequence[Sequence[str]]
LaneKey = tuple[str, str, str]
"""Channel, tenant, priority."""


@click.command(cls=Command)
@click.option("--once", is_flag=True, help="Show it once and end.")
@click.option(
    "--every",
    type=click.FloatRange(0.5, 60),
    default=1.0,
    show_default=True,
    help="Seconds from one look to the next.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object for each look.")
@with_session()
def top(door: Door, every: float, *, once: bool, as_json: bool) -> None:
    """What waits and what starts, live until Ctrl-C: quotas, accounts in trouble, pauses, when each backlog clears.

    Without --tenant, a key of the whole deployment sees all tenants.
    """
    try:
        door.run(lambda session: _top(session, every, once=once, as_json=as_json))
    except KeyboardInterrupt:
        click.echo(err=True)  # the prompt does not stand behind ^C


async def _top(session: Session, every: float, *, once: bool, as_json: bool) -> None:
    looks = Looks(session)
    if as_json or once or not show.on_terminal():
        await _print(looks, every, once=once, as_json=as_json)
        return
    with Live(console=show.console(), screen=True, auto_refresh=False) as live:
        while True:
            live.update(drawn(await looks.look()), refresh=True)
            await asyncio.sleep(every)


async def _print(looks: Looks, every: float, *, once: bool, as_json: bool) -> None:
    while True:
        seen = await looks.look()
        if not as_json:
            show.console().print(drawn(seen))
        elif once:
            show.as_json(seen)
        else:
            show.as_json_line(seen)
        if once:
            return
        await asyncio.sleep(every)


class Looks:
    """One look after another, the dear part of it now and then."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._queues: Sequence[Json] | None = None
        self._planned_at = float("-inf")

    async def look(self) -> dict[str, Any]:
        """Everything as `--json` prints it; `queues` is None where nothing says when they clear."""
        now = asyncio.get_running_loop().time()
        if now - self._planned_at >= PLAN_EVERY_S:
            self._queues, self._planned_at = await self._plan(), now
        return {
            **await self._session.get("/v1/top"),
            "quotas": await self._session.items("/v1/quotas", {}, MOST),
            "pauses": await self._session.items("/v1/pauses", {"active": "true"}, MOST),
            "queues": self._queues,
        }

    async def _plan(self) -> Sequence[Json] | None:
        """When each queue clears as things stand: a plan that proposes nothing."""
        try:
            plan = await self._session.post("/v1/quotas/plan", {"quotas": {}})
        except GatewayError:
            return None
        return [
            {
                **{word: queue[word] for word in ("channel", "tenant", "priority", "waiting")},
                "clears_at": queue["now"]["drains_at"],
                "expires": queue["now"]["expires"],
            }
            for queue in plan["queues"]
        ]


# The screen. Nothing in it needs more than 80 columns.


def drawn(seen: Json) -> Group:
    """A look as tables, one below the other; one that would be empty is left out."""
    tables = (
        _table("channel tenant priority waiting due oldest starts/s clears", "lllrrrrr", _lanes(seen)),
        _table("quota pace/s limit used factor", "lrrrr", _quotas(seen["quotas"])),
        _table("account tenant breaker why again factor", "lllllr", _accounts(seen)),
        _table("id kind scope waited until", "lllrr", _pauses(seen["pauses"], seen["at"])),
    )
    return Group(_head(seen), *(part for table in tables if table is not None for part in (Text(), table)))


def _head(seen: Json) -> Text:
    workers, granted = seen["workers"], seen["granted_by"]
    head = Text(
        f"{seen['at'][11:19]} UTC   due {seen['due']}, oldest {_span(seen['oldest_due_s'])}   workers "
    )
    behind = workers["missing"] or not workers["of"]
    head.append(f"{workers['by']}/{workers['of']}", style="bold red" if behind else "")
    head.append(f"   pace by {granted}", style="yellow" if granted == "sql" else "")
    return head


def _table(columns: str, sides: str, rows: Rows) -> Table | None:
    if not rows:
        return None
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 1, 0, 0))
    for name, side in zip(columns.split(), sides, strict=True):
        table.add_column(
            name,
            justify="right" if side == "r" else "left",
            no_wrap=True,
            overflow="fold" if name in show.WHOLE else "ellipsis",
            max_width=WIDEST.get(name),
        )
    for row in rows[:SHOWN]:
        table.add_row(*(Text(show.clean(cell)) for cell in row))
    if len(rows) > SHOWN:
        table.add_row(Text(f"… {len(rows) - SHOWN} more", style="dim"))
    return table


def _lanes(seen: Json) -> Rows:
    """Lanes by priority, then by what is due; when each clears comes from the plan, else from the present pace.

    A plan knows nothing of accounts that fail or are throttled: where a tenant has such ones, it is the present pace.
    """
    troubled = {tenant for _, tenant, *_ in _accounts(seen)}
    lanes: dict[LaneKey, dict[str, Any]] = {}
    for queue in seen["queues"] or ():
        lanes[_lane(queue)] = {"waiting": queue["waiting"], "clears_at": queue["clears_at"]}
    for lane in seen["lanes"]:
        lanes.setdefault(_lane(lane), {}).update(due=lane["due"], oldest=lane["oldest_due_s"])
    starts = {(s["channel"], s["tenant"]): s["per_s"] for s in seen["starts"]}
    ordered = sorted(lanes.items(), key=lambda item: (RANKS[item[0][2]], -item[1].get("due", 0), item[0]))
    return [
        (
            *key,
            _number(lane.get("waiting")),
            str(lane.get("due", 0)),
            _span(lane["oldest"]) if "oldest" in lane else "-",
            _number(starts.get(key[:2])),
            _until(lane["clears_at"], seen["at"])
            if "clears_at" in lane and troubled.isdisjoint((key[1], "*"))
            else _at_this_pace(key, lanes, starts),
        )
        for key, lane in ordered
    ]


def _at_this_pace(
    key: LaneKey, lanes: Mapping[LaneKey, Json], starts: Mapping[tuple[str, str], float]
) -> str:
    """How long what is due takes, after what goes before it, were it to start as it does now: `~12m`."""
    channel, tenant, priority = key
    pace = starts.get((channel, tenant), 0)
    before = [word for word in RANKS if RANKS[word] <= RANKS[priority]]
    due = sum(lanes.get((channel, tenant, word), {}).get("due", 0) for word in before)
    return f"~{_span(due / pace)}" if pace and due else "-"


def _lane(of: Json) -> LaneKey:
    return of["channel"], of["tenant"].partition("/")[0], of["priority"]


def _quotas(quotas: Sequence[Json]) -> Rows:
    """The fullest first: its pace, the counted limit that is nearest to its end, and how much of that is used."""
    rows = []
    for quota in quotas:
        used = quota["used"] or {}
        pace = f"{used.get('rate', 0):g}/{quota['rate']:g}" if quota["rate"] else "-"
        full, limit = max(_counted(quota, used), default=(0.0, "-"))
        name = f"{quota['name']} (all)" if quota["owner"] == "*" else quota["name"]
        rows.append(
            (full, (name, pace, limit, f"{full:.0%}" if limit != "-" else "-", f"{quota['factor']:g}"))
        )
    return [row for _, row in sorted(rows, key=lambda one: (-one[0], one[1]))]


def _counted(quota: Json, used: Json) -> Iterator[tuple[float, str]]:
    for limit, where in LIMITS:
        if quota[limit]:
            number = used.get(where) or 0
            yield number / quota[limit], f"{number}/{quota[limit]} {where}"
    budget = quota["budget"]
    if budget is not None and Decimal(budget["amount"]):
        spent = Decimal(used.get("budget") or 0)
        share = float(spent / Decimal(budget["amount"]))
        yield share, f"{spent}/{budget['amount']} {budget['currency']}"


def _accounts(seen: Json) -> Rows:
    return [
        (
            account["account"],
            account["tenant"],
            account["breaker"],
            " ".join(word for word in (account["why"] or account["barred"], account["code"]) if word) or "-",
            _until(account["probe_at"] or account["used_up_until"], seen["at"]),
            f"{account['factor']:g}",
        )
        for account in seen["accounts"]
        if account["breaker"] != "closed" or account["barred"] or account["factor"] < 1
    ]


def _pauses(pauses: Sequence[Json], now: str) -> Rows:
    return [
        (
            pause["id"],
            pause["kind"],
            " ".join(f"{word}={value}" for word, value in pause["scope"].items()) or "all",
            _number(pause.get("waiting")),
            _until(pause["until"], now) if pause["until"] else "no end",
        )
        for pause in pauses
    ]


def _number(number: float | None) -> str:
    return "-" if number is None else f"{number:g}" if isinstance(number, float) else str(number)


def _until(instant: str | None, now: str) -> str:
    """How long from now: `in 12m`."""
    if instant is None:
        return "-"
    left = (datetime.fromisoformat(instant) - datetime.fromisoformat(now)).total_seconds()
    return f"in {_span(left)}" if left > 0 else "now"


def _span(seconds: float) -> str:
    """A length of time in at most six characters: `0.4s` `42s` `12m` `3h12m` `2d03h`."""
    whole = round(seconds)
    if seconds < TENTHS_BELOW:
        return f"{seconds:.1f}s"
    if whole < MINUTE:
        return f"{whole}s"
    if whole < HOUR:
        return f"{whole // MINUTE}m"
    if whole < DAY:
        return f"{whole // HOUR}h{whole % HOUR // MINUTE:02}m"
    return f"{whole // DAY}d{whole % DAY // HOUR:02}h"
