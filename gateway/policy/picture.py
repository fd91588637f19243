"""The hours of a `window` as a small picture: a row for each weekday, a column for each hour."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from gateway.policy.model import Window
from gateway.policy.week import day_spans, longest, ordinary
from gateway.policy.words import DAYS, whose_time

_LEFT, _TOP, _HOUR, _ROW, _BAR = 64, 38, 18, 18, 14
_WIDTH = _LEFT + 24 * _HOUR + 16
_OPEN, _SHADOW, _CLOSED = "#2f9e6b", "#c2a24a", "#e8eaed"
_FONT = 'font-family="sans-serif" font-size="11" fill="#333"'
_EVERY = 3
"""Every so many hours one is named."""


def week_svg(rule: Window, holidays: int | None) -> str:
    """An SVG of the week's open hours, and of a holiday's where they differ; green, or ochre in shadow."""
    week = ordinary(rule)
    rows = [(DAYS[day], day_spans(week, day)) for day in range(7)]
    rows += [] if holidays is None else [("holiday", longest(holidays))]
    height = _TOP + len(rows) * _ROW + 28
    colour = _SHADOW if rule.in_shadow else _OPEN
    size = f'viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}"'
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} {_FONT} role="img">',
        f"<title>{escape(rule.id)}: hours of contact</title>",
        f'<rect width="{_WIDTH}" height="{height}" rx="6" fill="#fff"/>',
        f'<text x="8" y="16" font-size="12" font-weight="bold">{escape(rule.id)}</text>',
        *_scale(),
        *(line for place, (name, spans) in enumerate(rows) for line in _row(place, name, spans, colour)),
        f'<text x="8" y="{height - 9}" font-size="10">{escape(whose_time(rule.zone))}</text>',
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def _scale() -> Iterator[str]:
    for hour in range(0, 25, _EVERY):
        x = _LEFT + hour * _HOUR
        yield f'<text x="{x}" y="{_TOP - 6}" font-size="9" text-anchor="middle">{hour:02}</text>'


def _row(place: int, name: str, spans: tuple[tuple[int, int], ...], colour: str) -> Iterator[str]:
    y = _TOP + place * _ROW
    yield f'<text x="8" y="{y + 11}">{name}</text>'
    yield f'<rect x="{_LEFT}" y="{y}" width="{24 * _HOUR}" height="{_BAR}" fill="{_CLOSED}"/>'
    for a, b in spans:
        x, width = _LEFT + a * _HOUR / 60, (b - a) * _HOUR / 60
        yield f'<rect x="{x:g}" y="{y}" width="{width:g}" height="{_BAR}" fill="{colour}"/>'
