"""Personal data that will not print, and the masks that people see in its place."""

from __future__ import annotations

from typing import Any, Generic, NoReturn, TypeVar

T = TypeVar("T")


class Pii(Generic[T]):
    """A personal value. `str`, `repr` and `format` show a mask; `reveal` is the one way out.

    It refuses pickle, copy and JSON, so it cannot slip into a queue, a log or a cache.
    """

    __slots__ = ("_value",)

    def __init__(self, value: T) -> None:
        self._value = value

    def reveal(self, reason: str) -> T:  # noqa: ARG002 (the reason is for the reader and for grep)
        """Give the clear value; `reason` says why, in a few words, for whoever greps."""
        return self._value

    def __repr__(self) -> str:
        return "Pii(***)"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return "Pii(***)"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Pii) and bool(self._value == other._value)

    def __hash__(self) -> int:
        return hash(self._value)

    def __reduce__(self) -> NoReturn:
        raise TypeError("personal data does not go into a pickle or a copy")

    def __iter__(self) -> Any:
        raise TypeError("personal data is not taken apart; reveal it where it is used")
