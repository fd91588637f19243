"""`gateway db upgrade`: bring both databases to this version's schema."""

from __future__ import annotations

import asyncio

import click

from gateway.cli.options import PlaceOptions, place_options
from gateway.settings import Settings, load
from gateway.store import migrate
from gateway.store.database import Database
from gateway.vault import KeyRing, Vault


@click.group()
def db() -> None:
    """The databases."""


@db.command()
@place_options("database_url", "vault_url", "keyring", "data")
def upgrade(options: PlaceOptions) -> None:
    """Run every migration that is missing; safe to repeat, and to run twice at once."""
    settings = load(**options)
    version = asyncio.run(_upgrade(settings))
    click.echo(f"the database stands at {version}, the vault is prepared")


async def _upgrade(settings: Settings) -> str:
    vault = Vault(settings.vault, KeyRing.load(settings.keyring_file))
    database = Database(settings.database)
    try:
        await vault.prepare()
        return await migrate.upgrade(database)
    finally:
        await vault.aclose()
        await database.aclose()
