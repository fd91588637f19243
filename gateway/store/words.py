"""The statements that are asked most, on PostgreSQL put to the driver itself.

SQLAlchemy's way to it costs four times what the driver does, and a worker that keeps a pace asks some 150 a second.
"""

from __future__ import annotations

import re
from collections import namedtuple
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, cast

from asyncpg import InterfaceError, PostgresError
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, IntegrityError, ProgrammingError
from sqlalchemy.ext.asyncio import AsyncConnection

_BOUND = re.compile(r"(?<![:\w]):(\w+)")
_KINDS = {"23": IntegrityError, "42": ProgrammingError}
"""By classes of SQLSTATE, as SQLAlchemy tells them apart."""


class Words:
    """One statement as text, with names (`:name`) for what is bound; `fixed` are bound already."""

    def __init__(self, sql: str, fixed: Mapping[str, Any] | None = None) -> None:
        self._text = text(sql)
        self._fixed = dict(fixed or {})
        self._names = tuple(dict.fromkeys(_BOUND.findall(sql)))
        places = {name: f"${place}" for place, name in enumerate(self._names, 1)}
        self._sql = _BOUND.sub(lambda found: places[found[1]], sql)
        self._row: Callable[[Iterable[Any]], Any] | None = None

    async def run(self, conn: AsyncConnection, **bound: Any) -> Sequence[Any]:
        """Its rows, as tuples that know their columns' names.

        SQLAlchemy begins a transaction with the first statement that it is asked itself, and keeps count of it: so the
        driver is asked where one is under way.
        """
        given = {**self._fixed, **bound}
        driver = await _driver(conn)
        if driver is None:
            asked = await conn.execute(self._text, given)
            return asked.all() if asked.returns_rows else []
        try:
            found = await driver.fetch(self._sql, *(given[name] for name in self._names))
        except (PostgresError, InterfaceError) as wrong:
            kind = _KINDS.get((getattr(wrong, "sqlstate", None) or "")[:2], DBAPIError)
            raise kind(None, None, wrong) from wrong
        if not found:
            return []
        if self._row is None:
            self._row = _row(found[0].keys())
        return list(map(self._row, found))


def _row(names: Iterable[str]) -> Callable[[Iterable[Any]], Any]:
    named: Any = namedtuple  # noqa: PYI024 (its names are the statement's)
    return cast("Callable[[Iterable[Any]], Any]", named("Row", list(names), rename=True)._make)


async def _driver(conn: AsyncConnection) -> Any:
    """PostgreSQL's, within a transaction."""
    if conn.dialect.name != "postgresql":
        return None
    driver: Any = (await conn.get_raw_connection()).driver_connection
    return driver if driver.is_in_transaction() else None
