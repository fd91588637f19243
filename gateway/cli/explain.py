"""`gateway explain`: why a reminder went out or did not, rule by rule."""

from __future__ import annotations

import re
from typing import Any

import click
from rich.table import Table
from rich.text import Text

from gateway.cli import show
from gateway.cli.mistakes import Command
from gateway.cli.session import Door, Session, part, with_session
from gateway.errors import GatewayError
from gateway.pauses import Kind

_UNDECIDED = {
    "en": "Nothing is decided about it yet: it is looked at when it is due, {next_at}.",
    "zh": "尚未作出决定：到期时（{next_at}）才会判断。",  # noqa: RUF001 (Chinese punctuation)
}
_OVER = {
    "en": "Nothing was decided about it: it ended before it was due.",
    "zh": "未作出过决定：到期之前已经结束。",  # noqa: RUF001 (Chinese punctuation)
}
_HELD = {
    "en": "Nothing is decided about it before {by} is resumed: see gateway pauses.",
    "zh": "在 {by} 恢复之前不会作出决定：参见 gateway pauses。",  # noqa: RUF001 (Chinese punctuation)
}
_PACED = {
    "en": "Nothing is decided about it yet: it waits its turn under the quota {by}: see gateway quota show {by}.",
    "zh": "尚未作出决定：正在配额 {by} 下排队；参见 gateway quota show {by}。",  # noqa: RUF001 (Chinese punctuation)
}
_ASIDE = {
    "en": "Nothing is decided about it: that breaks ({by}), so it is set aside, and is looked at again {next_at}."
    " Mend what the log says, then gateway poison replay {id}.",
    "zh": "尚未作出决定：判断时出错（{by}），已搁置，{next_at} 再试。"  # noqa: RUF001 (Chinese punctuation)
    "请按日志修复，然后执行 gateway poison replay {id}。",  # noqa: RUF001 (Chinese punctuation)
}
_RULE = re.compile(r"(\S+ \(\w+\))\W+(.*)")


@click.command(cls=Command)
@click.argument("id_", metavar="ID")
@click.option(
    "--lang", type=click.Choice(["en", "zh"]), default="en", show_default=True, help="In which language."
)
@click.option(
    "--json", "as_json", is_flag=True, help="Print the reminder with its decision and every finding."
)
@with_session()
def explain(door: Door, id_: str, lang: str, *, as_json: bool) -> None:
    """Say of the reminder ID what was decided, and every rule's word: citation, counter, zone, next opening."""
    reminder, text = door.run(lambda session: _ask(session, id_, None if as_json else lang))
    if as_json:
        show.as_json(reminder)
        return
    show.say(_head(reminder))
    if text is None:
        why = _undecided(reminder)[lang]
        show.say(why.format(id=reminder["id"], by=reminder["by"], next_at=show.at(reminder["next_at"])))
    else:
        _tell(text.splitlines())


def _undecided(reminder: dict[str, Any]) -> dict[str, str]:
    if reminder["reason"] in {kind.reason for kind in Kind}:
        return _HELD
    if reminder["reason"] == "quota":
        return _PACED
    if reminder["reason"] == "quarantined":
        return _ASIDE
    return _OVER if reminder["next_at"] is None else _UNDECIDED


async def _ask(session: Session, name: str, lang: str | None) -> tuple[dict[str, Any], str | None]:
    """The reminder, and its decision in words of a language, where there is one and they are asked for."""
    try:
        path = f"/v1/reminders/{part(name)}"
        reminder = await session.get(path)
    except GatewayError as wrong:
        if wrong.code != "not_found":
            raise
        message = (
            "there is no reminder of that id here: look at the id, at --tenant and at --mode (live or test)"
        )
        raise GatewayError(message, code=wrong.code) from None
    if lang is None or reminder["decision"] is None:
        return reminder, None
    return reminder, await session.text(f"{path}/explain", {"lang": lang})


def _head(reminder: dict[str, Any]) -> str:
    """`rm_…: deferred, OP.CAPS.DAY; decided 2026-11-24T15:30:01Z`."""
    said = [reminder["state"], *(reminder[key] for key in ("reason", "by") if reminder[key])]
    decision = reminder["decision"]
    when = f"; decided {show.at(decision['at'])}" if decision else ""
    return f"{reminder['id']}: {', '.join(said)}{when}"


def _tell(lines: list[str]) -> None:
    """The headline, then rules; on a terminal with their names on the left."""
    if not show.on_terminal():
        for line in lines:
            show.say(line)
        return
    rules = Table.grid(padding=(0, 2, 0, 0))
    rules.add_column(overflow="fold", ratio=2)
    rules.add_column(overflow="fold", ratio=5)
    for line in lines[1:]:
        found = _RULE.fullmatch(line)
        name, word = found.groups() if found else ("", line)
        rules.add_row(Text(show.clean(name)), Text(show.clean(word)))
    show.console().print(Text(show.clean(lines[0]), style="bold"), rules)
