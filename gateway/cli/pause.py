"""`gateway pause`, `stop`, `resume` and `pauses`: hold up what a scope covers, and let it go again."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, TypeVar

import click

from gateway.cli import show
from gateway.cli.caps import REASON_FORM
from gateway.cli.mistakes import Command
from gateway.cli.session import Door, Session, named, part, with_session
from gateway.errors import BadInput, Fault
from gateway.pauses import WORDS, Kind

MOST = 10_000
UNTIL_FORM = "an instant with its offset, 2026-11-30T10:00:00+08:00, or a span from now: 10m, 2h, 1d"
_SPAN = re.compile(r"([1-9][0-9]{0,4})([mhd])")
_UNITS = {"m": "minutes", "h": "hours", "d": "days"}

F = TypeVar("F", bound=Callable[..., Any])

_REASON = click.option("--reason", required=True, help="Why; it is kept in the history and the send log.")
_RAMP = click.option(
    "--ramp",
    "ramp_s",
    type=click.IntRange(0),
    default=None,
    metavar="SECONDS",
    help="Once it ends, grow the pace back over so many seconds.",
)
_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def _setting(command: F) -> F:
    """The arguments of `pause` and `stop`."""
    for option in (
        with_session(),
        _JSON,
        _REASON,
        _RAMP,
        click.option("--until", default=None, help=f"When it ends by itself: {UNTIL_FORM}."),
        click.option("--all", "all_", is_flag=True, help="Everything there is, in place of a scope."),
        click.argument("scope", nargs=-1, metavar="[WORD=VALUE]..."),
    ):
        command = option(command)
    return command


@click.command(cls=Command)
@_setting
def pause(**given: Any) -> None:
    """Pause what WORD=VALUE covers, until it is resumed: no call that it covers begins any more.

    Words: channel, adapter, account, tenant, template, portfolio, jurisdiction, template_version. What is paused
    waits, and goes through all rules again. Whoever has the setter's role may resume it.
    """
    _put(Kind.PAUSE, **given)


@click.command(cls=Command)
@_setting
def stop(**given: Any) -> None:
    """Stop what WORD=VALUE covers, or --all: the kill switch. Two holders of keys have to resume it.

    Words: channel, adapter, account, tenant, template, portfolio, jurisdiction, template_version.
    """
    _put(Kind.STOP, **given)


def _put(
    kind: Kind,
    door: Door,
    *,
    scope: Sequence[str],
    all_: bool,
    until: str | None,
    ramp_s: int | None,
    reason: str,
    as_json: bool,
) -> None:
    body = {
        "idempotency_key": f"cli-{secrets.token_hex(8)}",
        "kind": kind.value,
        "scope": _scope(scope, all_=all_),
        "ramp_s": ramp_s or 0,
        "reason": reason,
    }

    async def put(session: Session) -> Any:
        end = None if until is None else await end_of(session, until)
        return await session.post("/v1/pauses", {**body, "until": end})

    with named(_PLACES):
        done = door.run(put)
    if as_json:
        show.as_json(done)
        return
    show.say(f"{done['id']}: {_what(done)} {'paused' if kind is Kind.PAUSE else 'stopped'}{_end(done)}")
    before = "before it ends" if done["until"] else "within a day"
    if done["waiting"] is None:
        show.say("what waits is still being counted: see gateway top")
    else:
        show.say(f"{done['waiting']} wait, {done['expires_meanwhile']} of them expire {before}")
    if done["calling"]:
        show.say(f"with a provider already: {', '.join(done['calling'])}")


def _scope(words: Sequence[str], *, all_: bool) -> dict[str, Any]:
    """The scope that WORD=VALUE says; BadInput with every mistake."""
    faults, found = [], dict[str, Any]()
    for at, said in enumerate(words, 1):
        word, equals, value = said.partition("=")
        if word not in WORDS or not equals or not value or word in found:
            faults.append(_fault(f"WORD=VALUE, no. {at}", f"give each word once: {', '.join(WORDS)}"))
        elif word == "template_version" and not value.isdecimal():
            faults.append(_fault("template_version", "a version is a whole number"))
        else:
            found[word] = int(value) if word == "template_version" else value
    if all_ == bool(words):
        faults.append(_fault("WORD=VALUE", "say what: words like channel=sms, or --all, and not both"))
    if faults:
        raise BadInput(faults)
    return found


async def end_of(session: Session, said: str) -> str:
    """An instant; a span is reckoned from now by the gateway's own clock of the day."""
    span = _SPAN.fullmatch(said)
    if span is None:
        return said
    now = datetime.fromisoformat((await session.get("/v1/clock"))["policy"])
    return (now + timedelta(**{_UNITS[span[2]]: int(span[1])})).isoformat(timespec="seconds")


def _fault(at: str, message: str) -> Fault:
    return Fault(at=at, code="form_invalid", message=message)


_PLACES: Mapping[str, tuple[str, str | None]] = {
    **{f"/scope/{word}": (word, None) for word in WORDS},
    "/until": ("--until", f"give {UNTIL_FORM}; it must be still to come"),
    "/ramp_s": ("--ramp", None),
    "": ("--ramp", None),
    "/reason": ("--reason", REASON_FORM),
}


def _what(shown: Mapping[str, Any]) -> str:
    return " ".join(f"{word}={value}" for word, value in shown["scope"].items()) or "everything"


def _end(shown: Mapping[str, Any]) -> str:
    return f" until {show.at(shown['until'])}" if shown["until"] else ""


@click.command(cls=Command)
@click.argument("id_", metavar="ID")
@_RAMP
@_REASON
@_JSON
@with_session()
def resume(door: Door, id_: str, *, ramp_s: int | None, reason: str, as_json: bool) -> None:
    """Resume what the pause or stop ID holds up: all of it goes through all rules again.

    A stop needs two holders of keys, both older than the stop: the second confirms within an hour.
    """
    path = f"/v1/pauses/{part(id_)}/resume"
    with named(_PLACES):
        done = door.run(lambda session: session.post(path, {"ramp_s": ramp_s, "reason": reason}))
    if as_json:
        show.as_json(done)
    elif done["state"] == "resuming":
        show.say(f"{done['id']}: resuming")
    else:
        show.say(f"{done['id']}: asked for; a second holder has to resume it too, within an hour")


@click.command(cls=Command)
@click.option("--all", "all_", is_flag=True, help="Also those that have ended.")
@_JSON
@with_session()
def pauses(door: Door, *, all_: bool, as_json: bool) -> None:
    """List the pauses and stops that hold, the newest first."""
    query = {} if all_ else {"active": "true"}
    found = door.run(lambda session: session.items("/v1/pauses", query, MOST))
    if as_json:
        show.as_json(found)
        return
    columns = ("id", "kind", "of", "scope", "until", "state", "set by", "because")
    show.table(columns, [_row(item) for item in found], empty="nothing is paused or stopped")


def _row(item: Mapping[str, Any]) -> tuple[object, ...]:
    asked = f" ({item['resume']['asked_by']} asked)" if item["state"] == "needs_second_holder" else ""
    alone = " (one person may resume)" if item.get("one_person") else ""
    return (
        *(item["id"], item["kind"], item["owner"], _what(item), show.at(item["until"])),
        *(item["state"] + asked + alone, item["set_by"], item["reason"]),
    )
