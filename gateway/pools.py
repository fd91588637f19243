"""Pools of PostgreSQL's connections: what every store of ours asks of them."""

from __future__ import annotations

from typing import Any

from sqlalchemy import event
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.ext.asyncio import AsyncEngine


def watched(engine: AsyncEngine) -> AsyncEngine:
    """The driver knows when the server has closed a connection: no round trip asks for it before each use."""

    @event.listens_for(engine.sync_engine, "checkout")
    def on_checkout(dbapi: Any, _record: Any, _proxy: Any) -> None:
        if dbapi.driver_connection.is_closed():
            raise DisconnectionError

    return engine


def reading(engine: AsyncEngine) -> AsyncEngine:
    """The same connections without a transaction around each statement that only reads: two round trips less."""
    return engine.execution_options(isolation_level="AUTOCOMMIT")
