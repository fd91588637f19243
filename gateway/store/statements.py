"""Statements put in PostgreSQL's words once, and writes that go together: each a part of one WITH.

SQLite runs such writes in turn. On PostgreSQL all parts see the rows as they stood before the statement, so no two
of them may write the same row.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import orjson
from sqlalchemy import CompoundSelect, Select, Table, TextClause, Update, literal, text
from sqlalchemy.dialects import postgresql
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.store.words import Words

_IF_FREE = " ON CONFLICT DO NOTHING"
_POSTGRESQL = postgresql.dialect(paramstyle="named")  # type: ignore[no-untyped-call]  # SQLAlchemy ships it untyped


@dataclass(frozen=True, slots=True, kw_only=True)
class NewRows:
    """Rows to be inserted, bound as `name`: columns by name, the same in each; those left out are null.

    `free`: those whose keys are taken are left out.
    """

    table: Table
    name: str
    free: bool = False


Write = Update | NewRows


class Together:
    """Writes that always go together; made once, for it compiles them."""

    def __init__(self, *writes: Write) -> None:
        self._writes = tuple((write, _names(write)) for write in writes)
        fixed: dict[str, Any] = {}
        parts = [_part(place, write, fixed) for place, write in enumerate(writes)]
        self._at_once = Words(f"WITH {', '.join(parts)} SELECT 1", fixed)
        self._rows = frozenset(write.name for write in writes if isinstance(write, NewRows))

    async def run(self, conn: AsyncConnection, **bound: Any) -> None:
        """Write; what has no rows writes nothing."""
        if conn.dialect.name == "postgresql":
            rows = {name: orjson.dumps(bound[name], default=_hex).decode() for name in self._rows}
            await self._at_once.run(conn, **{**bound, **rows})
            return
        for write, names in self._writes:
            if isinstance(write, Update):
                await conn.execute(write, {name: bound[name] for name in names})
            elif bound[write.name]:
                new = sqlite_insert(write.table)
                await conn.execute(new.on_conflict_do_nothing() if write.free else new, bound[write.name])


def _part(place: int, write: Write, fixed: dict[str, Any]) -> str:
    """One of several; what is bound in it already is added to `fixed`."""
    if isinstance(write, NewRows):
        table, columns = write.table.name, ", ".join(column.name for column in write.table.c)
        return (
            f"w{place} AS (INSERT INTO {table} ({columns})"  # noqa: S608 (names of the schema)
            f" SELECT {columns} FROM json_populate_recordset(CAST(NULL AS {table}), CAST(:{write.name} AS json))"
            f"{_IF_FREE if write.free else ''})"
        )
    sql, own = _worded(write, f"w{place}_")
    fixed |= own
    return f"w{place} AS ({sql})"


async def add(
    conn: AsyncConnection, table: Table, rows: Sequence[Mapping[str, Any]], *, free: bool = False
) -> int:
    """Insert rows, all of the same columns, at once; how many. `free`: those whose keys are taken are left out."""
    if conn.dialect.name == "postgresql":
        given = orjson.dumps(rows, default=_hex).decode()
        added = await conn.execute(_added(table, tuple(rows[0]), free), {"rows": given})
        return int(added.rowcount)
    new = sqlite_insert(table)
    if not free:
        await conn.execute(new, rows)
        return len(rows)
    found = await conn.execute(new.on_conflict_do_nothing().returning(literal(1)), rows)
    return len(found.all())


@cache
def _added(table: Table, columns: tuple[str, ...], free: bool) -> TextClause:  # noqa: FBT001 (it is a key)
    names = ", ".join(columns)
    return text(
        f"INSERT INTO {table.name} ({names}) SELECT {names}"  # noqa: S608 (names of the schema)
        f" FROM json_populate_recordset(CAST(NULL AS {table.name}), CAST(:rows AS json))"
        f"{_IF_FREE if free else ''}"
    )


class Worded:
    """One statement as PostgreSQL's own words: what SQLAlchemy makes of a long one anew each time is made once."""

    def __init__(self, statement: Select[Any] | CompoundSelect[Any] | Update) -> None:
        self._statement = statement
        self._words = Words(*_worded(statement, "own_"))

    async def run(self, conn: AsyncConnection, **bound: Any) -> Sequence[Any]:
        """Execute it; rows have the names of the statement's columns."""
        if conn.dialect.name == "postgresql":
            return await self._words.run(conn, **bound)
        return (await conn.execute(self._statement, bound)).all()


def _worded(statement: Select[Any] | CompoundSelect[Any] | Update, prefix: str) -> tuple[str, dict[str, Any]]:
    """A statement's text, and what is bound in it already, under names that begin so."""
    made = statement.compile(dialect=_POSTGRESQL)
    sql, fixed = str(made), {}
    for bind, name in made.bind_names.items():
        bound = name
        if not bind.required:
            bound = f"{prefix}{name}"
            fixed[bound] = bind.value
        sql = re.sub(rf"(?<![:\w]):{name}::(\w+)", rf"CAST(:{bound} AS \1)", sql)
        sql = re.sub(rf"(?<![:\w]):{name}\b", f":{bound}", sql)
    return sql, fixed


def _names(write: Write) -> tuple[str, ...]:
    if isinstance(write, NewRows):
        return (write.name,)
    made = write.compile(dialect=_POSTGRESQL)
    return tuple(name for bind, name in made.bind_names.items() if bind.required)


def _hex(value: Any) -> str:
    """Bytes as PostgreSQL reads them."""
    if isinstance(value, bytes):
        return rf"\x{value.hex()}"
    raise TypeError
