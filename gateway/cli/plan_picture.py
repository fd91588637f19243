"""A plan as a picture: for each queue how many wait over time, today beside proposed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any
from xml.sax.saxutils import escape

TODAY, PROPOSED, MIDNIGHT = "#8a939b", "#2166ac", "#c2a24a"
MOST = 24
"""At most so many queues are drawn, those with the most waiting first."""
_LEFT, _TOP, _WIDTH, _HIGH, _EVERY = 64, 40, 560, 64, 110
_FONT = 'font-family="sans-serif" font-size="11" fill="#333"'
_LABELS = 5


def draw(found: Mapping[str, Any]) -> str:
    """An SVG of what `POST /v1/quotas/plan` answered."""
    queues = sorted(found["queues"], key=lambda queue: -queue["waiting"])[:MOST]
    times = [datetime.fromisoformat(at) for at in found["times"]]
    width, height = _LEFT + _WIDTH + 24, _TOP + max(1, len(queues)) * _EVERY
    size = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} {_FONT} role="img">',
        "<title>How many wait over time, today and as proposed</title>",
        f'<rect width="{width}" height="{height}" rx="6" fill="#fff"/>',
        *_legend(),
        *(line for n, queue in enumerate(queues) for line in _panel(queue, times, _TOP + n * _EVERY)),
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def _legend() -> Iterator[str]:
    for place, (name, colour) in enumerate(
        (("today", TODAY), ("proposed", PROPOSED), ("midnight", MIDNIGHT))
    ):
        x = _LEFT + place * 90
        yield f'<path d="M{x} 16h14" stroke="{colour}" stroke-width="3"/>'
        yield f'<text x="{x + 20}" y="20">{name}</text>'


def _panel(queue: Mapping[str, Any], times: Sequence[datetime], top: int) -> Iterator[str]:
    """One queue: its name, a scale, midnight, and the two curves."""
    most, base = max(1, queue["waiting"]), top + 20 + _HIGH
    name = f"{queue['channel']} {queue['tenant']} {queue['priority']}"
    yield f'<text x="{_LEFT}" y="{top + 12}" font-weight="bold">{escape(name)}</text>'
    for count, y in ((0, base), (most, base - _HIGH)):
        yield f'<path d="M{_LEFT} {y}h{_WIDTH}" stroke="#e8eaed"/>'
        yield f'<text x="{_LEFT - 6}" y="{y + 4}" text-anchor="end">{count}</text>'
    yield from _midnight(datetime.fromisoformat(queue["day_ends"]), times, base)
    for side, colour, wide in (("now", TODAY, 3), ("proposed", PROPOSED, 1.5)):
        points = " ".join(_points(queue[side]["curve"], most, base))
        yield f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="{wide}"/>'
    yield from _scale(times, base)


def _points(curve: Sequence[int], most: int, base: int) -> Iterator[str]:
    for n, waiting in enumerate(curve):
        yield f"{_x(n / (len(curve) - 1)):.1f},{base - _HIGH * waiting / most:.1f}"


def _midnight(at: datetime, times: Sequence[datetime], base: int) -> Iterator[str]:
    if times[0] < at < times[-1]:
        x = _x((at - times[0]) / (times[-1] - times[0]))
        yield f'<path d="M{x:.1f} {base}v-{_HIGH}" stroke="{MIDNIGHT}" stroke-dasharray="3 3"/>'


def _scale(times: Sequence[datetime], base: int) -> Iterator[str]:
    """When, in UTC, below the curves."""
    form = "%H:%M:%S" if (times[-1] - times[0]).total_seconds() < 600 else "%m-%d %H:%M"  # noqa: PLR2004
    for n in range(_LABELS):
        part = n / (_LABELS - 1)
        at = times[0] + (times[-1] - times[0]) * part
        anchor = "start" if n == 0 else "end" if n == _LABELS - 1 else "middle"
        yield f'<text x="{_x(part):.1f}" y="{base + 13}" font-size="9" text-anchor="{anchor}">{at:{form}}</text>'


def _x(part: float) -> float:
    return _LEFT + _WIDTH * part
