"""Liquid with bounds: our own filters, no undefined variable, no include, no runaway loop or text.

Filters (all that a template may use):
    money        ¥1,280.50 · $120.50 · JPY 1,000        plain_money  the same without separators
    sms_money    ₹ as INR 1,280.50: that one sign would take an English SMS out of the GSM alphabet
    date         11月30日 · 30 Nov 2026                  full_date    2026年11月30日 · 30 Nov 2026
    cut: N       at most N characters, the last an ellipsis when something was left out
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from functools import cache, lru_cache
from typing import NamedTuple, TypeAlias, cast

from liquid import BoundTemplate, Environment, StrictUndefined

from gateway.domain import Money

SYMBOLS = {"CNY": "¥", "EUR": "€", "GBP": "£", "INR": "₹", "USD": "$"}
MINOR_DIGITS = {
    "BHD": 3,
    "CLP": 0,
    "ISK": 0,
    "JOD": 3,
    "JPY": 0,
    "KRW": 0,
    "KWD": 3,
    "OMR": 3,
    "TND": 3,
    "VND": 0,
}
"""ISO 4217 minor units where they are not 2."""
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
REFUSED_TAGS = ("include", "render", "increment", "decrement", "cycle", "tablerow")


class _Bounded(Environment):
    """Limits for what people may write; the output limit is in bytes."""

    loop_iteration_limit = 1_000
    output_stream_limit = 4_096
    local_namespace_limit = 4_096
    block_nesting_limit = 8


@cache
def environment(language: str) -> Environment:
    """The environment for one language; only the filters above, and only harmless tags."""
    made = _Bounded(undefined=StrictUndefined)
    made.filters.clear()
    made.add_filter("money", money)
    made.add_filter("plain_money", plain_money)
    made.add_filter("sms_money", sms_money)
    made.add_filter("cut", cut)
    short, full = _DATES.get(primary(language), (date.isoformat, date.isoformat))
    made.add_filter("date", lambda value: short(_date(value)))
    made.add_filter("full_date", lambda value: full(_date(value)))
    for tag in REFUSED_TAGS:
        made.tags.pop(tag)
    return made


@lru_cache(maxsize=4_096)
def compiled(source: str, language: str) -> BoundTemplate:
    """Compile once. Raises liquid.exceptions.LiquidError for a mistake in the source."""
    return environment(language).from_string(source)


def produce(source: str, language: str, context: Mapping[str, object]) -> str:
    """Fill a source in, without the white space around it. Values are never read as templates."""
    made = quickly(source, language, context)
    return compiled(source, language).render(context).strip() if made is None else made


def primary(language: str) -> str:
    """The first subtag of a language tag, lower case: `zh` of `zh-CN`."""
    return language.partition("-")[0].lower()


def money(value: object) -> str:
    """An exact amount, never rounded: symbol or ISO code, thousands apart."""
    return _figures(_money(value), ",")


def plain_money(value: object) -> str:
    """The same without separators, as WeChat's `amount` asks for."""
    return _figures(_money(value), "")


def sms_money(value: object) -> str:
    """`money` in the GSM 7-bit alphabet, where 160 characters cost what 70 do outside it."""
    return money(value).replace("₹", "INR ")


def cut(value: object, length: int) -> str:
    """At most `length` characters, for providers that refuse a longer value."""
    text = str(value)
    return text if len(text) <= length else text[: length - 1] + "…"


@lru_cache(maxsize=4_096)
def _figures(money: Money, apart: str) -> str:
    sign = SYMBOLS.get(money.currency) or money.currency + " "
    return sign + f"{money.amount:{apart}.{_digits(money)}f}"


def _digits(money: Money) -> int:
    least = MINOR_DIGITS.get(money.currency, 2)
    if -cast("int", money.amount.as_tuple().exponent) <= least:
        return least
    return max(least, -cast("int", money.amount.normalize().as_tuple().exponent))


def _money(value: object) -> Money:
    if not isinstance(value, Money):
        raise TypeError("only an amount of money goes through this filter")
    return value


def _date(value: object) -> date:
    if not isinstance(value, date):
        raise TypeError("only a date goes through this filter")
    return value


def _chinese(day: date) -> str:
    return f"{day.month}月{day.day}日"


def _full_chinese(day: date) -> str:
    return f"{day.year}年{day.month}月{day.day}日"


def _english(day: date) -> str:
    return f"{day.day} {MONTHS[day.month - 1]} {day.year}"


_DATES = {"zh": (_chinese, _full_chinese), "en": (_english, _english)}
"""Language → its date and its full date; ISO 8601 for all others."""


# The same without the library's machinery: most of what is sent is text with a few values and one choice.

_PARTS = re.compile(
    r"(?P<out>\{\{ *(?P<name>[a-z_]+) *(?:\| *(?P<filter>[a-z_]+) *(?:: *(?P<number>[0-9]+) *)?)?\}\})"
    r"|\{% *(?:if +(?P<if>[a-z_]+)|(?P<word>else|endif)) *%\}"
)
_WORDS = {
    "and",
    "or",
    "not",
    "in",
    "contains",
    "true",
    "false",
    "nil",
    "null",
    "empty",
    "blank",
    "if",
    "else",
}
_LONG = 1_000
"""Longer texts are the library's, which knows how long one may be."""


class _Value(NamedTuple):
    """What stands for a variable."""

    name: str
    shown: Callable[..., object] | None
    arguments: tuple[int, ...]


class _Choice(NamedTuple):
    """One of two, by whether a variable is set."""

    name: str
    then: Sequence[_Part]
    otherwise: Sequence[_Part]


_Part: TypeAlias = str | _Value | _Choice


def quickly(source: str, language: str, context: Mapping[str, object]) -> str | None:
    """What `compiled` makes of it, where that is plain to see; else None, and it is asked, for its errors, too."""
    parts = _parts(source, language)
    if parts is None:
        return None
    try:
        text = "".join(_said(parts, context)).strip()
    except (KeyError, TypeError):
        return None
    return text if len(text) <= _LONG else None


def _said(parts: Sequence[_Part], context: Mapping[str, object]) -> list[str]:
    said: list[str] = []
    for part in parts:
        if isinstance(part, str):
            said.append(part)
        elif isinstance(part, _Choice):
            value = context[part.name]
            said += _said(part.otherwise if value is None or value is False else part.then, context)
        elif part.shown is None:
            said.append(_word(context[part.name]))
        else:
            said.append(_word(part.shown(context[part.name], *part.arguments)))
    return said


def _word(value: object) -> str:
    if type(value) is str:
        return value
    if type(value) is int:
        return str(value)
    if value is None:
        return ""
    raise TypeError("the library knows what becomes of it")


@lru_cache(maxsize=4_096)
def _parts(source: str, language: str) -> Sequence[_Part] | None:
    """A source taken apart; None where it has more than values, filters of ours and choices that are not nested."""
    filters = environment(language).filters
    outer: list[_Part] = []
    then: list[_Part] = []
    otherwise: list[_Part] = []
    now, chosen, end = outer, "", 0
    for found in _PARTS.finditer(source):
        now.append(source[end : found.start()])
        end = found.end()
        if found["out"]:
            if found["name"] in _WORDS or found["filter"] not in (None, *filters):
                return None
            arguments = (int(found["number"]),) if found["number"] else ()
            now.append(_Value(found["name"], filters.get(found["filter"] or ""), arguments))
        elif found["if"] and now is outer and found["if"] not in _WORDS:
            chosen, then, otherwise = found["if"], [], []
            now = then
        elif found["word"] == "else" and now is then and chosen:
            now = otherwise
        elif found["word"] == "endif" and chosen:
            outer.append(_Choice(chosen, tuple(then), tuple(otherwise)))
            now, chosen = outer, ""
        else:
            return None
    now.append(source[end:])
    left = "".join(part for one in (outer, then, otherwise) for part in one if isinstance(part, str))
    return None if chosen or "{{" in left or "{%" in left or "}}" in left or "%}" in left else tuple(outer)
