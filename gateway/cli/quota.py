"""`gateway quota`: what provider accounts may be used for, looked at and changed while all runs."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import click

from gateway.cli import show
from gateway.cli.caps import REASON_FORM
from gateway.cli.mistakes import Group
from gateway.cli.pause import UNTIL_FORM, end_of
from gateway.cli.plan import plan
from gateway.cli.session import Door, Session, named, part, with_session
from gateway.errors import BadInput, StaleVersion
from gateway.quotas import spec
from gateway.quotas.model import WORDS

MOST = 10_000
WAITS_S, LOOKS_EVERY_S = 3.0, 0.25
"""A change is taken up within 2 s; so long is waited to say that it was."""
PERIODS = {"per_minute": "min", "per_hour": "h", "per_day": "day"}

_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_REASON = click.option("--reason", required=True, help="Why; it is kept in the history and the send log.")
_VERSION = click.option(
    "--version",
    type=click.IntRange(0),
    default=None,
    help="The version that was seen; else the one that stands.",
)


@click.group(cls=Group)
def quota() -> None:
    """What accounts of providers may be used for: pace, counts, hours, money. Of the deployment, or of one --tenant."""


@quota.command("list")
@_JSON
@with_session()
def list_command(door: Door, *, as_json: bool) -> None:
    """List quotas with what is used of them and how many workers go by them."""
    found = door.run(lambda session: session.items("/v1/quotas", {}, MOST))
    if as_json:
        show.as_json(found)
        return
    columns = ("name", "of", "covers", "limits", "used", "applied")
    show.table(columns, [_row(item) for item in found], empty="no quota: gateway quota set NAME key=value…")
    if any(item["granted_by"] != "redis" for item in found):
        show.say("pace by sql: Redis is away, or was and is watched for a while")


def _row(item: Mapping[str, Any]) -> tuple[object, ...]:
    slowed = f", now {item['factor']:.0%} of it" if item["factor"] < 1 else ""
    ends = f", until {show.at(item['until'])}" if item["until"] else ""
    said = f"{limits(item)}{slowed}{ends}"
    return item["name"], item["owner"], _covers(item), said, _used(item), _applied(item)


@quota.command("show")
@click.argument("name")
@_JSON
@with_session()
def show_command(door: Door, name: str, *, as_json: bool) -> None:
    """Show the quota NAME: what it says, who set it and why, what is used, what slows it."""
    found = door.run(lambda session: session.get(_path(name)))
    if as_json:
        show.as_json(found)
        return
    for line in show.aligned([[label, str(value)] for label, value in _lines(found)]):
        show.say(line)


def _lines(item: Mapping[str, Any]) -> Iterator[tuple[str, object]]:
    yield "name", f"{item['name']}, version {item['version']}, of {_whose(item)}"
    yield "covers", _covers(item)
    yield "limits", limits(item)
    if any(item[key] for key in ("per_day", "closed", "budget")):
        yield "zone", item["zone"]
    if item["until"]:
        stood = item["before"]
        yield "until", f"{show.at(item['until'])}, then {limits(stood) if stood else 'none'}"
    yield "used", _used(item) or "nothing"
    if item["factor"] < 1:
        yield "factor", f"{item['factor']:.0%} of the pace: see gateway account list, gateway pauses"
    yield "pace by", item["granted_by"]
    yield "applied", _applied(item)
    yield "set by", f"{item['set_by']}{_on(item)}"


def _on(item: Mapping[str, Any]) -> str:
    return f" on {show.at(item['set_at'])}: {item['reason']}" if item["set_at"] else ""


@quota.command("set")
@click.argument("name")
@click.argument("words", nargs=-1, metavar="KEY=VALUE...")
@click.option(
    "--until", default=None, help=f"When it is taken back by itself: {UNTIL_FORM}; `never` keeps it."
)
@_VERSION
@_REASON
@_JSON
@with_session()
def set_command(
    door: Door,
    *,
    name: str,
    words: Sequence[str],
    until: str | None,
    version: int | None,
    reason: str,
    as_json: bool,
) -> None:
    """Set or change the quota NAME: keys that are not named stay, an empty value takes one away.

    KEY is one of channel, adapter, account, tenant, template (what it covers), each=account,… (a bucket for every
    one), unit=segment, rate=50 and burst=5, per_minute, per_hour, per_day, concurrency, zone=Asia/Shanghai,
    closed=12:00-14:00, budget=500.00/CNY/day and alarm_at=0.8.
    """
    said, wrong = spec.keywords(words)
    if wrong:
        raise BadInput(wrong)
    with named(_PLACES), _stale_told(name, as_json=as_json):
        done = door.run(lambda session: _set(session, name, {**said, "reason": reason}, version, until))
    if as_json:
        show.as_json(done.after)
        return
    _tell(done)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Done:
    """A change: what stood (None: nothing), who had made it so (None: nobody), and what stands."""

    before: Mapping[str, Any] | None
    change_before: Mapping[str, Any] | None
    after: Mapping[str, Any]


async def _set(
    session: Session, name: str, said: Mapping[str, Any], version: int | None, until: str | None
) -> _Done:
    body = {**said, **(await _end(session, until) if until is not None else {})}
    await session.put(_path(name), {**body, "version": await _seen(session, name, version)})
    changes = await _newest(session, name, 2)
    return _Done(
        before=changes[0]["before"] if changes else None,
        change_before=changes[1] if len(changes) > 1 else None,
        after=await _taken_up(session, name),
    )


async def _end(session: Session, until: str) -> Mapping[str, Any]:
    return {"until": None if until == "never" else await end_of(session, until)}


async def _seen(session: Session, name: str, version: int | None) -> int | None:
    """The version that was seen, else that of one's own that stands; the deployment's of that name is another's."""
    if version is not None:
        return version
    changes = await _newest(session, name, 1)
    return changes[0]["version"] if changes and changes[0]["after"] else None


async def _newest(session: Session, name: str, most: int) -> Sequence[Mapping[str, Any]]:
    """The latest changes of one's own."""
    found: Sequence[Mapping[str, Any]] = await session.items(f"{_path(name)}/history", {}, most)
    return found


@contextmanager
def _stale_told(name: str, *, as_json: bool = False) -> Iterator[None]:
    """Whoever is too late is shown what stands."""
    try:
        yield
    except StaleVersion as wrong:
        if as_json:
            show.as_json({"code": wrong.code, "detail": wrong.message, "current": wrong.current})
        elif wrong.current is not None:
            item = wrong.current
            click.echo(show.clean(f"{name} stands at {limits(item)}, version {item['version']}"), err=True)
            click.echo(show.clean(f"set by {item['set_by']}{_on(item)}"), err=True)
        raise


async def _taken_up(session: Session, name: str) -> Mapping[str, Any]:
    """What stands, once every worker goes by it, or after a while."""
    for _ in range(round(WAITS_S / LOOKS_EVERY_S)):
        item: Mapping[str, Any] = await session.get(_path(name))
        if item["applied"]["by"] == item["applied"]["of"]:
            break
        await asyncio.sleep(LOOKS_EVERY_S)
    return item


def _tell(done: _Done) -> None:
    after = done.after
    was = limits(done.before) if done.before else "none"
    show.say(f"{after['name']} ({_covers(after)}): {was} → {limits(after)}, version {after['version']}")
    if done.before and (made := done.change_before):
        show.say(f"what stood was set by {made['who']} on {show.at(made['at'])}: {made['reason']}")
    if after["until"]:
        stood = after["before"]
        show.say(f"until {show.at(after['until'])}, then {limits(stood) if stood else 'none'}")
    show.say(f"applied by {_applied(after)}")


@quota.command("unset")
@click.argument("name")
@_VERSION
@_REASON
@_JSON
@with_session()
def unset(door: Door, *, name: str, version: int | None, reason: str, as_json: bool) -> None:
    """Unset the quota NAME: what its account comes with holds again, if anything."""
    with named(_PLACES), _stale_told(name, as_json=as_json):
        change = door.run(lambda session: _unset(session, name, version, reason))
    if as_json:
        show.as_json(change)
        return
    show.say(f"{name}: unset")


async def _unset(session: Session, name: str, version: int | None, reason: str) -> Mapping[str, Any]:
    """The change, as the history has it."""
    seen = await _seen(session, name, version)
    await session.post(f"{_path(name)}/delete", {"version": seen, "reason": reason})
    return (await _newest(session, name, 1))[0]


@quota.command()
@click.argument("name")
@_JSON
@with_session()
def history(door: Door, name: str, *, as_json: bool) -> None:
    """List every change of the quota NAME, the newest first."""
    found = door.run(lambda session: session.items(f"{_path(name)}/history", {}, MOST))
    if as_json:
        show.as_json(found)
        return
    rows = [
        (
            *(item["version"], show.at(item["at"]), item["who"]),
            *(item["after"] and limits(item["after"]), item["after"] and show.at(item["after"]["until"])),
            item["reason"],
        )
        for item in found
    ]
    columns = ("version", "at", "who", "limits", "until", "because")
    show.table(columns, rows, empty="it was never set")


quota.add_command(plan)


# In words.


def limits(item: Mapping[str, Any]) -> str:
    """A quota's limits in a few words: `50/s burst 5, 20000/day, closed 12:00-14:00`."""
    parts = []
    if item["rate"] is not None:
        burst = f" burst {item['burst']}" if item["burst"] is not None else ""
        parts.append(f"{item['rate']}/s{burst}")
    parts += [f"{item[name]}/{word}" for name, word in PERIODS.items() if item[name] is not None]
    if item["concurrency"] is not None:
        parts.append(f"{item['concurrency']} calls")
    parts += [f"closed {hours['from']}-{hours['to']}" for hours in item["closed"]]
    if item["budget"] is not None:
        parts.append("{amount} {currency}/{per}".format_map(item["budget"]))
    return ", ".join(parts)


def _covers(item: Mapping[str, Any]) -> str:
    words = [f"{word}={value}" for word, value in item["scope"].items()]
    each = [f"each {' and '.join(item['each'])}"] if item["each"] else []
    unit = ["in segments"] if item["unit"] == "segment" else []
    return " ".join([*words, *each, *unit]) or "everything"


def _used(item: Mapping[str, Any]) -> str:
    """What is used of what it limits."""
    used, parts = item["used"], []
    if item["rate"] is not None:
        parts.append(f"{used['rate']}/s")
    for name, key, word in (
        ("per_minute", "minute", "min"),
        ("per_hour", "hour", "h"),
        ("per_day", "day", "day"),
    ):
        if item[name] is not None:
            parts.append(f"{used[key]}/{word}")
    if item["concurrency"] is not None:
        parts.append(f"{used['calls']} calls")
    if item["budget"] is not None:
        parts.append(f"{used['budget'] or 0} {item['budget']['currency']}")
    of = f" ({used['of']})" if used["of"] else ""
    return ", ".join(parts) + of


def _applied(item: Mapping[str, Any]) -> str:
    applied = item["applied"]
    missing = f", not yet by {', '.join(applied['missing'])}" if applied["missing"] else ""
    return f"{applied['by']}/{applied['of']} workers{missing}"


def _whose(item: Mapping[str, Any]) -> str:
    return "the deployment" if item["owner"] == "*" else str(item["owner"])


def _path(name: str) -> str:
    return f"/v1/quotas/{part(name)}"


_PLACES: Mapping[str, tuple[str, str | None]] = {
    **{f"/scope/{word}": (word, None) for word in WORDS},
    **{f"/{key}": (key, None) for key in spec.KEYS},
    **{f"/each/{place}": ("each", None) for place in range(len(WORDS))},
    **{f"/budget/{key}": ("budget", None) for key in ("amount", "currency", "per")},
    **{
        f"/closed/{place}/{key}": ("closed", "hours of a day: 12:00-14:00")
        for place in range(24)
        for key in ("from", "to")
    },
    "/budget/alarm_at": ("alarm_at", None),
    "/until": ("--until", f"give {UNTIL_FORM}; it must be still to come"),
    "/version": ("--version", None),
    "/name": ("NAME", None),
    "/reason": ("--reason", REASON_FORM),
    "": ("KEY=VALUE", None),
}
