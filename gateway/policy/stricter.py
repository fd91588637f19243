"""Which way one key of a rule changed, where that is sure whatever the question and the history."""

from __future__ import annotations

from datetime import date
from enum import StrEnum
from math import inf
from typing import Any, NamedTuple

from gateway.policy.localtime import read_date
from gateway.policy.model import (
    CHAT,
    AnyRule,
    Cap,
    ChannelLock,
    ConsentRequired,
    Dates,
    Elapsed,
    IsoWeek,
    Month,
    Retention,
    Span,
    Window,
)
from gateway.policy.week import within

_WEEK_DAYS, _MONTH_DAYS = 7, 31


class Effect(StrEnum):
    """`stricter`: it objects whenever it did before. `changed`: that cannot be told. `shadow`: it never objects."""

    STRICTER = "stricter"
    LOOSER = "looser"
    CHANGED = "changed"
    SHADOW = "shadow"
    WORDING = "wording"


class _More(NamedTuple):
    """What more of a number or more words in a list mean, and what the key's absence stands for."""

    means: Effect
    absent: Any = None


_EVERYTHING = None
_WORDING = ("title", "version", "review_status", "review_by", "cite", "source", "checked", "note")
_NUMBERS = {
    "max": _More(Effect.LOOSER),
    "dates": _More(Effect.STRICTER),
    "hours": _More(Effect.STRICTER),
    "plus_dates": _More(Effect.STRICTER),
    "within_dates": _More(Effect.LOOSER, inf),
    "fails": _More(Effect.STRICTER),
    "delay_dates": _More(Effect.STRICTER),
    "confirm_within_s": _More(Effect.LOOSER, -1),
    "since": _More(Effect.LOOSER, date.min),
    "until": _More(Effect.STRICTER, date.max),
}
_LISTS = {
    **dict.fromkeys(
        (
            "channels",
            "purposes",
            "actors",
            "institutions",
            "products",
            "technologies",
            "adapters",
            "address_kinds",
            "reasons",
        ),
        _More(Effect.STRICTER, _EVERYTHING),
    ),
    "count_outcomes": _More(Effect.STRICTER, _EVERYTHING),
    "only_purposes": _More(Effect.LOOSER, _EVERYTHING),
    **dict.fromkeys(("roles", "require", "forbid", "calendars"), _More(Effect.STRICTER, ())),
    **dict.fromkeys(
        ("exempt_purposes", "exempt_flags", "exclude_outcomes", "exclude_flags", "allow_purposes", "per"),
        _More(Effect.LOOSER, ()),
    ),
}
_EXCEPTIONS = ("not_if", "unless", "only_after", "relaxed_by", "since_fact", "until_fact")
"""Keys without which the rule objects more often."""
_HOURS = ("days", "closed_on_holidays", "holiday_as")
_FORMS = (None, "oral", "written", "separate")
_OTHER_WAY = {Effect.STRICTER: Effect.LOOSER, Effect.LOOSER: Effect.STRICTER}


def effect(key: str, old: Any, new: Any, before: AnyRule | None, after: AnyRule | None) -> Effect:
    """Which way it goes that `key` was `old` and is `new`; the rules are None where the header is meant."""
    if key in _WORDING:
        return Effect.WORDING
    match before, after:
        case (Window(), Window()) if key in _HOURS:
            way = _both(_closes(before, after), _closes(after, before))
        case (Cap(), Cap()) if key == "window":
            way = _both(_holds(after.window, before.window), _holds(before.window, after.window))
        case (ConsentRequired(), _) if key == "form":
            way = Effect.STRICTER if _FORMS.index(new) > _FORMS.index(old) else Effect.LOOSER
        case (ChannelLock(), _) if key == "per":
            way = Effect.CHANGED  # with more keys fewer contacts lock, and fewer unlock
        case (Retention(), _):
            way = Effect.CHANGED
        case _:
            way = _of_key(key, old, new)
    return way


def _of_key(key: str, old: Any, new: Any) -> Effect:
    if key in _NUMBERS:
        return _number(_NUMBERS[key], old, new)
    if key in _LISTS:
        return _list(_LISTS[key], old, new)
    if key in _EXCEPTIONS and None in (old, new):
        return Effect.LOOSER if old is None else Effect.STRICTER
    return Effect.CHANGED


def _both(stricter: bool, looser: bool) -> Effect:  # noqa: FBT001 (a pair of facts)
    if stricter == looser:
        return Effect.CHANGED
    return Effect.STRICTER if stricter else Effect.LOOSER


def _closes(before: Window, after: Window) -> bool:
    """Whether the later hours lie within the earlier, on every date, beyond the calendars' ends too."""
    return within(after, before) and set(before.calendars) <= set(after.calendars)


def _holds(outer: Span, inner: Span) -> bool:
    """Whether every event of the inner span is in the outer."""
    match outer, inner:
        case (Dates(n=wide), Dates(n=narrow)):
            return wide >= narrow
        case (Elapsed(seconds=wide), Elapsed(seconds=narrow)):
            return wide >= narrow
        case (Dates(n=wide), IsoWeek()):
            return wide >= _WEEK_DAYS
        case (Dates(n=wide), Month()):
            return wide >= _MONTH_DAYS
        case (IsoWeek() | Month(), Dates(n=1)):
            return True
        case _:
            return False


def _number(more: _More, old: Any, new: Any) -> Effect:
    low, high = (_comparable(more.absent if value is None else value) for value in (old, new))
    if low is None or high is None:
        return Effect.CHANGED
    return more.means if high > low else _OTHER_WAY[more.means]


def _comparable(value: Any) -> Any:
    return read_date(value) if isinstance(value, str) else value


def _list(more: _More, old: Any, new: Any) -> Effect:
    """By what the lists hold; None is everything."""
    before, after = (_words(more.absent if value is None else value) for value in (old, new))
    if after is None or (before is not None and before < after):
        return more.means
    if before is None or after < before:
        return _OTHER_WAY[more.means]
    return Effect.CHANGED


def _words(value: Any) -> frozenset[str] | None:
    if value is None:
        return None
    return frozenset(value) - {"chat"} | (CHAT if "chat" in value else frozenset())
