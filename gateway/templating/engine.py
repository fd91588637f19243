"""Liquid with bounds: our own filters, no undefined variable, no include, no runaway loop or text.

Filters (all that a template may use):
    money        ¥1,280.50 · $120.50 · JPY 1,000        plain_money  the same without separators
    sms_money    ₹ as INR 1,280.50: that one sign would take an English SMS out of the GSM alphabet
    date         11月30日 · 30 Nov 2026                  full_date    2026年11月30日 · 30 Nov 2026
    cut: N       at most N characters, the last an ellipsis when something was left out
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from functools import cache, lru_cache
from typing import cast

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
    return compiled(source, language).render(context).strip()


def primary(language: str) -> str:
    """The first subtag of a language tag, lower case: `zh` of `zh-CN`."""
    return language.partition("-")[0].lower()


def money(value: object) -> str:
    """An exact amount, never rounded: symbol or ISO code, thousands apart."""
    amount = _money(value)
    return _sign(amount) + f"{amount.amount:,.{_digits(amount)}f}"


def plain_money(value: object) -> str:
    """The same without separators, as WeChat's `amount` asks for."""
    amount = _money(value)
    return _sign(amount) + f"{amount.amount:.{_digits(amount)}f}"


def sms_money(value: object) -> str:
    """`money` in the GSM 7-bit alphabet, where 160 characters cost what 70 do outside it."""
    return money(value).replace("₹", "INR ")


def cut(value: object, length: int) -> str:
    """At most `length` characters, for providers that refuse a longer value."""
    text = str(value)
    return text if len(text) <= length else text[: length - 1] + "…"


def _sign(money: Money) -> str:
    return SYMBOLS.get(money.currency) or money.currency + " "


def _digits(money: Money) -> int:
    exponent = cast("int", money.amount.normalize().as_tuple().exponent)
    return max(MINOR_DIGITS.get(money.currency, 2), -exponent)


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
