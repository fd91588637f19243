"""Reading untrusted JSON and TOML: every mistake at once, each with its place, never its value."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime
from difflib import get_close_matches
from typing import Any, NamedTuple, TypeVar

from gateway.errors import Fault
from gateway.policy.localtime import read_date, read_instant, zone_names

T = TypeVar("T")
LARGEST = 1_000_000
"""No number of days, hours or events in a rule is larger."""
_LONGEST_WORD = 40


class Faults(list[Fault]):
    """The mistakes found so far."""

    def add(self, at: str, code: str, message: str) -> None:
        """Note one mistake: its place as a JSON pointer, a code, and what to do."""
        self.append(Fault(at=at or "/", code=code, message=message))


Reader = Callable[[Any, str, Faults], T | None]
"""Reads a value at a place; None when it is wrong, the mistake noted."""


class Key(NamedTuple):
    """How the value of one key is read, and whether it must be there."""

    read: Reader[Any]
    required: bool = False


class Duplicates(dict[str, Any]):
    """A JSON object that remembers the keys it was given twice."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        seen: set[str] = set()
        self.twice = [key for key, _ in pairs if key in seen or seen.add(key)]  # type: ignore[func-returns-value]


def below(at: str, key: str | int) -> str:
    """The JSON pointer (RFC 6901) of a part."""
    return f"{at}/{str(key).replace('~', '~0').replace('/', '~1')}"


def read_keys(value: Any, keys: Mapping[str, Key], at: str, faults: Faults) -> dict[str, Any]:
    """Read an object of known keys; unknown, doubled and missing ones are mistakes."""
    if not isinstance(value, dict):
        faults.add(at, "wrong_type", "this must be an object")
        return {}
    for key in value:
        if key not in keys:
            faults.add(below(at, key), "unknown_key", f"no such key: {one_of(key, keys)}")
    for key in value.twice if isinstance(value, Duplicates) else ():
        faults.add(below(at, key), "key_twice", "give this key once")
    for key, wanted in keys.items():
        if wanted.required and key not in value:
            faults.add(below(at, key), "missing_key", "this key is required")
    read = {key: keys[key].read(value[key], below(at, key), faults) for key in value if key in keys}
    return {key: found for key, found in read.items() if found is not None}


def one_of(given: Any, words: Iterable[str]) -> str:
    """What to say of a word that is none of these: all of them, and the one that was most likely meant."""
    known = sorted(words)
    short = isinstance(given, str) and len(given) <= _LONGEST_WORD
    near = get_close_matches(given, known, n=1) if short else []
    meant = "".join(f"; did you mean {word}?" for word in near)
    return f"this must be one of: {', '.join(known)}{meant}"


def text(value: Any, at: str, faults: Faults) -> str | None:
    """A string that is not empty."""
    found = loose_text(value, at, faults)
    if found == "":
        faults.add(at, "empty", "this must not be empty")
        return None
    return found


def loose_text(value: Any, at: str, faults: Faults) -> str | None:
    """A string of Unicode text, be it empty."""
    if isinstance(value, str) and not any("\ud800" <= sign <= "\udfff" for sign in value):
        return value
    faults.add(at, "wrong_type", "this must be a text")
    return None


def word(words: frozenset[str] | tuple[str, ...]) -> Reader[str]:
    """One of these words."""

    def read(value: Any, at: str, faults: Faults) -> str | None:
        if isinstance(value, str) and value in words:
            return value
        faults.add(at, "unknown_word", one_of(value, words))
        return None

    return read


def many(read_one: Reader[T]) -> Reader[tuple[T, ...]]:
    """A list of such values."""

    def read(value: Any, at: str, faults: Faults) -> tuple[T, ...] | None:
        if not isinstance(value, list):
            faults.add(at, "wrong_type", "this must be a list")
            return None
        found = [read_one(one, below(at, place), faults) for place, one in enumerate(value)]
        return tuple(one for one in found if one is not None)

    return read


def a_set(read_one: Reader[str]) -> Reader[frozenset[str]]:
    """A list of such texts whose order does not matter."""
    read_all = many(read_one)

    def read(value: Any, at: str, faults: Faults) -> frozenset[str] | None:
        found = read_all(value, at, faults)
        return None if found is None else frozenset(found)

    return read


def whole(least: int, most: int = LARGEST) -> Reader[int]:
    """A whole number within bounds."""

    def read(value: Any, at: str, faults: Faults) -> int | None:
        if isinstance(value, int) and not isinstance(value, bool) and least <= value <= most:
            return value
        faults.add(at, "wrong_type", f"this must be a whole number from {least} to {most}")
        return None

    return read


def number(value: Any, at: str, faults: Faults) -> float | None:
    """A number that a float can hold."""
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max:
        return value
    faults.add(at, "wrong_type", "this must be a finite number, none too large for a float")
    return None


def a_date(value: Any, at: str, faults: Faults) -> date | None:
    """A date, as text or as TOML's own."""
    if isinstance(value, str) and (found := read_date(value)) is not None:
        return found
    if isinstance(value, date) and not isinstance(value, datetime):
        return value
    faults.add(at, "wrong_type", "this must be a date, 2026-11-30")
    return None


def utc_instant(value: Any, at: str, faults: Faults) -> datetime | None:
    """An instant written in UTC."""
    if (
        isinstance(value, str)
        and value.endswith(("Z", "+00:00"))
        and (found := read_instant(value)) is not None
    ):
        return found
    faults.add(at, "wrong_type", "this must be an instant in UTC, 2026-11-30T08:00:00Z")
    return None


def whole_second(value: Any, at: str, faults: Faults) -> datetime | None:
    """An instant written in UTC, without a fraction of a second."""
    found = utc_instant(value, at, faults)
    if found is not None and found.microsecond:
        faults.add(at, "wrong_type", "this must be an instant of whole seconds")
    return found


def zone_name(value: Any, at: str, faults: Faults) -> str | None:
    """The name of a time zone in the packaged database."""
    if isinstance(value, str) and value in zone_names():
        return value
    faults.add(at, "zone_unknown", "no such time zone; use an IANA name, Area/City")
    return None
