"""Pages of lists. They go by key, never by offset; where the next one begins is opaque to whoever asks."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import orjson

from gateway.errors import BadInput, Fault


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A part of a list, and where the next one begins."""

    items: list[dict[str, Any]]
    next: str | None


R = TypeVar("R")


def page(
    rows: Sequence[R], limit: int, show: Callable[[R], dict[str, Any]], place: Callable[[R], list[str]]
) -> Page:
    """A page of at most `limit` of these rows; one row more says that there is another page."""
    more = len(rows) > limit
    last = urlsafe_b64encode(orjson.dumps(place(rows[limit - 1]))).decode().rstrip("=") if more else None
    return Page(items=[show(row) for row in rows[:limit]], next=last)


_BAD_PLACE = Fault(at="/after", code="form_invalid", message="send `next` of the page before, as it came")


def place(after: str, parts: int) -> list[str]:
    """The key of the row before a page; BadInput."""
    try:
        found = orjson.loads(urlsafe_b64decode(after + "=" * (-len(after) % 4)))
    except ValueError:
        raise BadInput([_BAD_PLACE]) from None
    if not isinstance(found, list) or len(found) != parts or not all(_plain(part) for part in found):
        raise BadInput([_BAD_PLACE])
    return found


def _plain(part: object) -> bool:
    return isinstance(part, str) and len(part) <= 64 and part.isascii() and part.isprintable()  # noqa: PLR2004 (our ids are shorter)


def number(text: str) -> int:
    """A number in such a key; BadInput."""
    if not text.isdigit() or len(text) > 18:  # noqa: PLR2004 (more would not fit the column)
        raise BadInput([_BAD_PLACE])
    return int(text)
