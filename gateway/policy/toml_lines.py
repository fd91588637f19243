"""Where each key and element of a TOML text stands, as `tomllib` keeps no places."""

from __future__ import annotations

import re
import tomllib
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from gateway.policy.faults import below

_BLANK = re.compile(r"(?:[ \t\n]|#[^\n]*)*")
_SPACE = re.compile(r"[ \t]*")
_STRING = re.compile(
    r"""
    \"{3} (?:[^\\]|\\.)*? \"{3} \"{0,2}  # a multi-line text may end with two quotes of its own
    | '{3} .*? '{3} '{0,2}
    | " (?:[^"\\]|\\.)* "
    | ' [^']* '
    """,
    re.DOTALL | re.VERBOSE,
)
_BARE = re.compile(r"[A-Za-z0-9_-]+")
_SCALAR = re.compile(r"[^,\]}#\n]*")


class Place(NamedTuple):
    """A line and a column, both counted from 1."""

    line: int
    column: int


class Places:
    """The places of a text that `tomllib` accepts, by JSON pointer (`/rule/3/days/0/open`)."""

    def __init__(self, source: str) -> None:
        text = source.replace("\r\n", "\n")
        self._starts = [0, *(found.end() for found in re.finditer("\n", text))]
        self._at: Mapping[str, int] = _Scan(text).run()

    def __iter__(self) -> Iterator[str]:
        return iter(self._at)

    def __getitem__(self, pointer: str) -> Place:
        """The place of a part; of one that is missing, that of what should hold it."""
        while pointer not in self._at:
            pointer = pointer.rpartition("/")[0]
        offset = self._at[pointer]
        line = bisect_right(self._starts, offset)
        return Place(line, offset - self._starts[line - 1] + 1)


class _Scan:
    """One walk over a text without syntax errors, noting where each part begins."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._pos = 0
        self._found = {"": 0}
        self._last: dict[str, int] = {}  # array of tables → its last element so far

    def run(self) -> dict[str, int]:
        table = ""
        self._skip(_BLANK)
        while self._pos < len(self._text):
            if self._text[self._pos] == "[":
                table = self._header()
            else:
                self._pair(table)
            self._skip(_BLANK)
        return self._found

    def _header(self) -> str:
        """`[a.b]`, or `[[a.b]]`, which begins the next element; the pointer of what follows."""
        start, several = self._pos, self._text.startswith("[[", self._pos)
        self._pos += 1 + several
        *parents, name = (key for key, _ in self._keys())
        self._pos += 1 + several
        table = ""
        for key in parents:
            table = self._newest(self._note(below(table, key), start))
        table = self._note(below(table, name), start)
        if several:
            self._last[table] = self._last.get(table, -1) + 1
        return self._note(self._newest(table), start)

    def _newest(self, table: str) -> str:
        """The last element of an array of tables, anything else itself."""
        return below(table, self._last[table]) if table in self._last else table

    def _pair(self, table: str) -> None:
        for key, start in self._keys():
            table = self._note(below(table, key), start)
        self._pos += 1  # the equals sign
        self._skip(_SPACE)
        self._value(table)

    def _keys(self) -> list[tuple[str, int]]:
        """The parts of a key with their offsets, up to what follows it."""
        keys: list[tuple[str, int]] = []
        while not keys or self._text[self._pos] == ".":
            self._pos += bool(keys)
            self._skip(_SPACE)
            start = self._pos
            quoted = self._text[start] in "\"'"
            key = self._skip(_STRING if quoted else _BARE)
            keys.append((tomllib.loads(f"key = {key}")["key"] if quoted else key, start))
            self._skip(_SPACE)
        return keys

    def _value(self, at: str) -> None:
        match self._text[self._pos]:
            case "[":
                for place in self._parts("]"):
                    self._value(self._note(below(at, place), self._pos))
            case "{":
                for _ in self._parts("}"):
                    self._pair(at)
            case '"' | "'":
                self._skip(_STRING)
            case _:
                self._skip(_SCALAR)

    def _parts(self, close: str) -> Iterator[int]:
        """Stand before each part between brackets in turn, and at last behind them."""
        self._pos += 1
        self._skip(_BLANK)
        place = 0
        while self._text[self._pos] != close:
            yield place
            place += 1
            self._skip(_BLANK)
            self._pos += self._text[self._pos] == ","
            self._skip(_BLANK)
        self._pos += 1

    def _note(self, pointer: str, offset: int) -> str:
        self._found.setdefault(pointer, offset)
        return pointer

    def _skip(self, what: re.Pattern[str]) -> str:
        found = what.match(self._text, self._pos)
        if found is None:
            raise ValueError("tomllib refuses this text: look for its mistake first")
        self._pos = found.end()
        return found[0]
