"""What proposed packs would change, as a small picture: a bar for each day, a colour for each kind of change."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta

from gateway.policy.tally import Tally
from gateway.policy.whatif import Kind

COLOURS = {
    Kind.BLOCKED: "#c0392b",
    Kind.DEFERRED: "#c2a24a",
    Kind.ALLOWED: "#2f9e6b",
    Kind.REROUTED: "#5b7db1",
}
_LEFT, _TOP, _HEIGHT, _FOOT = 52, 44, 160, 30
_WIDEST, _NARROWEST, _WIDTH = 28.0, 2.0, 900.0
_LABELS = 8
"""At most so many days are named."""
_FONT = 'font-family="sans-serif" font-size="11" fill="#333"'


def changes_svg(tally: Tally, since: date, until: date) -> str:
    """An SVG of the changes on the dates from `since` to before `until`, the kinds stacked."""
    days = [since + timedelta(days=n) for n in range((until - since).days)]
    step = max(_NARROWEST, min(_WIDEST, _WIDTH / len(days)))
    counts = {(day.isoformat(), kind): 0 for day in days for kind in Kind}
    for cell, count in tally.changes.items():
        counts[cell.day, cell.kind] += count
    most = max(sum(counts[day.isoformat(), kind] for kind in Kind) for day in days)
    width, height = round(_LEFT + max(len(days) * step, 360) + 16), _TOP + _HEIGHT + _FOOT
    size = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} {_FONT} role="img">',
        "<title>What would have been decided otherwise, by day</title>",
        f'<rect width="{width}" height="{height}" rx="6" fill="#fff"/>',
        *_legend(tally),
        *_scale(most, width),
        *(line for n, day in enumerate(days) for line in _bar(n, day, counts, step, most)),
        *_dates(days, step),
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def _legend(tally: Tally) -> Iterator[str]:
    for place, (kind, colour) in enumerate(COLOURS.items()):
        x = 8 + place * 100
        yield f'<rect x="{x}" y="10" width="10" height="10" fill="{colour}"/>'
        yield f'<text x="{x + 14}" y="19">{kind.value} {tally.total(kind)}</text>'


def _scale(most: int, width: int) -> Iterator[str]:
    """The base line, and one at the highest bar."""
    for count, y in ((0, _TOP + _HEIGHT), (most, _TOP)):
        yield f'<path d="M{_LEFT} {y}H{width - 8}" stroke="#e8eaed"/>'
        yield f'<text x="{_LEFT - 6}" y="{y + 4}" text-anchor="end">{count}</text>'


def _bar(n: int, day: date, counts: dict[tuple[str, Kind], int], step: float, most: int) -> Iterator[str]:
    x, y = _LEFT + n * step, float(_TOP + _HEIGHT)
    for kind, colour in COLOURS.items():
        count = counts[day.isoformat(), kind]
        if count:
            high = _HEIGHT * count / most
            y -= high
            yield (
                f'<rect x="{x:.1f}" y="{y:.1f}" width="{step * 0.8:.1f}" height="{high:.1f}" fill="{colour}">'
                f"<title>{day}: {kind.value} {count}</title></rect>"
            )


def _dates(days: list[date], step: float) -> Iterator[str]:
    every = -(-len(days) // _LABELS)
    for n in range(0, len(days), max(every, round(80 / step))):
        yield f'<text x="{_LEFT + n * step:.1f}" y="{_TOP + _HEIGHT + 18}" font-size="10">{days[n]}</text>'
