"""What commands print: tables for a terminal, aligned text for everything else, JSON where it is asked for.

All of it passes the gate that log lines pass: nothing that reads as personal comes out in clear.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import click
import orjson
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from gateway.masking import scrub

GAP = "  "
WHOLE = {"at", "id", "name", "reminder", "rule"}
"""Columns that are never broken: one copies them."""


def on_terminal() -> bool:
    """Whether a person reads along."""
    return sys.stdout.isatty()


def console() -> Console:
    """The terminal, which marks up nothing by itself."""
    return Console(highlight=False, markup=False, emoji=False)


def say(line: str) -> None:
    """One line, behind masks; a terminal that is too narrow breaks it between words."""
    if on_terminal():
        console().print(Text(clean(line)))
    else:
        click.echo(clean(line))


def clean(text: str) -> str:
    """A text without control characters, and without what reads as personal."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in scrub(text))


def as_json(value: Any) -> None:
    """A value as indented JSON, each text in it behind masks."""
    click.echo(orjson.dumps(_masked(value), option=orjson.OPT_INDENT_2).decode())


def as_json_line(value: Any) -> None:
    """The same on one line."""
    click.echo(orjson.dumps(_masked(value)).decode())


def _masked(value: Any) -> Any:
    match value:
        case str():
            return scrub(str(value))
        case Mapping():
            return {name: _masked(inner) for name, inner in value.items()}
        case list() | tuple():
            return [_masked(inner) for inner in value]
        case _:
            return value


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, empty: str) -> None:
    """Rows under their columns; `empty` is said, to stderr, when there are none. None is shown as `-`."""
    cells = [[_cell(value) for value in row] for row in rows]
    if not cells:
        click.echo(empty, err=True)
    elif on_terminal():
        _draw(columns, cells)
    else:
        for line in aligned([[name.upper() for name in columns], *cells]):
            click.echo(line)


def _cell(value: object) -> str:
    return "-" if value is None or value == "" else clean(str(value))


def _draw(columns: Sequence[str], cells: Sequence[Sequence[str]]) -> None:
    drawn = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for name in columns:
        drawn.add_column(name, overflow="fold", no_wrap=name in WHOLE)
    for row in cells:
        drawn.add_row(*(Text(cell) for cell in row))
    console().print(drawn)


def aligned(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Lines whose columns stand one below the other; wide characters count as two."""
    widths = [max(cell_len(cell) for cell in column) for column in zip(*rows, strict=True)]
    for row in rows:
        filled = (cell + " " * (w - cell_len(cell)) for cell, w in zip(row, widths, strict=True))
        yield GAP.join(filled).rstrip()


def at(instant: str | None) -> str | None:
    """An instant of the API to the second: `2026-11-24T02:00:00Z`."""
    return None if instant is None else f"{instant[:19]}Z"
