"""Brings a database to this version's schema, and makes the months that partitioned tables need next."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.domain import to_us
from gateway.errors import SetupError
from gateway.store.database import Database
from gateway.store.server import remember

AHEAD = 3
"""Months made ahead of time; what falls beyond them goes to a default partition."""
PARTITIONED = ("attempt", "record")
_LOCK = 0x6F757472  # any number that only this product uses


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")
    return config


async def upgrade(database: Database) -> str:
    """Run every version that is missing, one process at a time; the version it stands at then."""
    async with database.write() as conn:
        if not database.sqlite:
            await conn.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
        await conn.run_sync(_upgrade)
        await remember(conn)
        await make_months(conn, (await database.moment(conn)).policy)
        return await conn.run_sync(_version) or ""


def _upgrade(connection: Connection) -> None:
    config = _config()
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _version(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()


async def check(database: Database) -> None:
    """SetupError unless the schema is exactly this version's."""
    async with database.read() as conn:
        version = await conn.run_sync(_version)
    head = ScriptDirectory.from_config(_config()).get_current_head()
    if version != head:
        raise SetupError(
            "the database is not at this version's schema: run `gateway db upgrade`", code="schema"
        )


async def make_months(conn: AsyncConnection, now: datetime) -> None:
    """On PostgreSQL, a partition for this month and AHEAD more; a month with rows in the default stays there."""
    if conn.dialect.name != "postgresql":
        return
    for table in PARTITIONED:
        for ahead in range(AHEAD + 1):
            start, end = _month(now, ahead), _month(now, ahead + 1)
            name = f"{table}_{start:%Y%m}"
            taken = await conn.scalar(
                text(
                    f"SELECT EXISTS (SELECT 1 FROM {table}_default"  # noqa: S608 (our own names)
                    f" WHERE {_COLUMN[table]} >= :a AND {_COLUMN[table]} < :b)"
                ),
                {"a": to_us(start), "b": to_us(end)},
            )
            if not taken:
                await conn.execute(
                    text(
                        f"CREATE TABLE IF NOT EXISTS {name} PARTITION OF {table}"
                        f" FOR VALUES FROM ({to_us(start)}) TO ({to_us(end)})"
                    )
                )


_COLUMN = {"attempt": "started_at", "record": "at"}


def _month(now: datetime, ahead: int) -> datetime:
    months = now.year * 12 + now.month - 1 + ahead
    return datetime(months // 12, months % 12 + 1, 1, tzinfo=UTC)
