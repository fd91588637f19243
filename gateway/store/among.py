"""Rows by many keys at once, in one statement whose text does not depend on how many keys there are.

An IN list is another statement for every length: each is compiled, planned and prepared anew. Here the keys come
as one JSON array, which PostgreSQL and SQLite both read as rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import orjson
from sqlalchemy import Boolean, ColumnElement, Text, bindparam, cast, column, literal_column, select, tuple_
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeEngine


def among(name: str, *columns: ColumnElement[Any]) -> ColumnElement[bool]:
    """Whether these columns (of text and integers) are among the keys bound as `name`, made by `keyed`."""
    keys = _Elements(bindparam(name, type_=Text)).table_valued(column("value", Text))
    parts = (
        cast(keys.c.value.op("->>")(literal_column(str(place))), one.type)
        for place, one in enumerate(columns)
    )
    return tuple_(*columns).in_(select(*parts))


def one_of(name: str, column: ColumnElement[Any]) -> ColumnElement[bool]:
    """Whether a column of text is one of the values bound as `name`: a list on PostgreSQL, `listed` on SQLite.

    PostgreSQL plans and runs this faster than `among`, where one column is all that is asked for.
    """
    return _OneOf(column, bindparam(name))


def listed(values: Iterable[str]) -> str:
    """Values as SQLite's `one_of` wants them bound."""
    return orjson.dumps(list(values)).decode()


def given(name: str, **types: TypeEngine[Any]) -> dict[str, ColumnElement[Any]]:
    """Columns of rows bound as `name`, a JSON array of objects, by their keys: for UPDATE … FROM."""
    rows = _Elements(bindparam(name, type_=Text)).table_valued(column("value", Text))
    return {
        key: cast(rows.c.value.op("->>")(literal_column(f"'{key}'")), type_) for key, type_ in types.items()
    }


def json(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows (of text, integers, booleans and nothing) as `given` wants them bound."""
    return orjson.dumps(rows).decode()


def keyed(keys: Iterable[Sequence[Any]]) -> str:
    """Keys as `among` wants them bound; a key has one part for each column."""
    return orjson.dumps([list(key) for key in keys]).decode()


class _Elements(FunctionElement[Any]):
    """The elements of a JSON array as rows with a column `value`."""

    inherit_cache = True
    name = "elements"


class _OneOf(FunctionElement[bool]):
    """A column, and what it may be."""

    inherit_cache = True
    name = "one_of"
    type = Boolean()


@compiles(_OneOf, "postgresql")
def _any_on_postgresql(element: _OneOf, compiler: SQLCompiler, **kw: Any) -> str:
    column, values = (compiler.process(clause, **kw) for clause in element.clauses)
    return f"{column} = ANY(CAST({values} AS text[]))"


@compiles(_OneOf, "sqlite")
def _any_on_sqlite(element: _OneOf, compiler: SQLCompiler, **kw: Any) -> str:
    column, values = (compiler.process(clause, **kw) for clause in element.clauses)
    return f"{column} IN (SELECT value FROM json_each({values}))"  # noqa: S608 (a column and a bound name)


@compiles(_Elements, "postgresql")
def _on_postgresql(element: _Elements, compiler: SQLCompiler, **kw: Any) -> str:
    return f"jsonb_array_elements(CAST({compiler.process(element.clauses, **kw)} AS jsonb))"


@compiles(_Elements, "sqlite")
def _on_sqlite(element: _Elements, compiler: SQLCompiler, **kw: Any) -> str:
    return f"json_each({compiler.process(element.clauses, **kw)})"
