"""`gateway vault`: make a key ring, rotate it, and wrap the data keys anew."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from gateway.cli.mistakes import Group
from gateway.settings import Settings, load
from gateway.vault import KeyRing, Vault
from gateway.vault.ring import add_key

keyring_option = click.option(
    "--keyring", type=click.Path(path_type=Path), help="The key ring file. [GATEWAY_KEYRING]"
)
vault_option = click.option("--vault-url", help="Where the data keys are. [GATEWAY_VAULT_URL]")
data_option = click.option(
    "--data", type=click.Path(path_type=Path), help="The folder of the embedded profile. [GATEWAY_DATA]"
)


@click.group(cls=Group)
def vault() -> None:
    """The key ring and the borrowers' data keys that it wraps."""


@vault.command()
@keyring_option
@data_option
def init(keyring: Path | None, data: Path | None) -> None:
    """Make a key ring: a file that only this user may read. None is ever overwritten."""
    ring = KeyRing.create(load(keyring=keyring, data=data).keyring_file)
    click.echo(f"{ring.path} is made. Keep a copy of it in a safe place: without it nothing can be read.")


@vault.command()
@keyring_option
@vault_option
@data_option
@click.option(
    "--add-only", is_flag=True, help="Add the key, and leave the wrapping to `gateway vault rewrap`."
)
def rotate(keyring: Path | None, vault_url: str | None, data: Path | None, *, add_only: bool) -> None:
    """Add a wrapping key to the ring and wrap every data key anew.

    Where several hosts hold the ring: --add-only, give every host the file, then `gateway vault rewrap`.
    """
    settings = load(keyring=keyring, vault_url=vault_url, data=data)
    ring = add_key(settings.keyring_file)
    click.echo(f"{ring.path} has a new key, {ring.current}; keep a copy of the file as it is now.")
    if not add_only:
        asyncio.run(_rewrap(settings))


@vault.command()
@keyring_option
@vault_option
@data_option
def rewrap(keyring: Path | None, vault_url: str | None, data: Path | None) -> None:
    """Wrap every data key under the ring's current key; go on where an earlier run was cut off."""
    asyncio.run(_rewrap(load(keyring=keyring, vault_url=vault_url, data=data)))


async def _rewrap(settings: Settings) -> None:
    ring = KeyRing.load(settings.keyring_file)
    store = Vault(settings.vault, ring)
    try:
        await store.check()
        count = sum([size async for size in store.rewrap()])
    finally:
        await store.aclose()
    click.echo(f"{count} data keys are wrapped anew under {ring.current}.")
