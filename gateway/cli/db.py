"""`gateway db`: bring both databases to this version's schema, and let calls be made again after a failover."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gateway.bodies import ThawIn, read
from gateway.cli import show
from gateway.cli.caps import REASON_FORM
from gateway.cli.mistakes import Group
from gateway.cli.options import PlaceOptions, place_options
from gateway.cli.session import named, operator_name
from gateway.errors import BadInput, Fault
from gateway.settings import Settings, load
from gateway.store import migrate
from gateway.store.database import Database
from gateway.vault import KeyRing, Vault

if TYPE_CHECKING:
    from gateway.store.failover import Thawed


@click.group(cls=Group)
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


@db.command()
@click.option(
    "--journal",
    "folders",
    multiple=True,
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="A folder of journals (GATEWAY_JOURNAL of a worker's host); give each of them.",
)
@click.option("--lost", multiple=True, metavar="WORKER", help="A worker whose journal is gone with its host.")
@click.option(
    "--nothing-lost", is_flag=True, help="The new server has every commit: it was replicated synchronously."
)
@click.option("--reason", required=True, help="Why; it is kept in the history and the send log.")
@click.option("--operator", default=None, help="Who acts, for the history; the user of this machine.")
@click.option("--dry-run", is_flag=True, help="Say what it would come to, and change nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@place_options("database_url", "vault_url", "keyring", "data")
def thaw(
    options: PlaceOptions,
    *,
    folders: Sequence[Path],
    lost: Sequence[str],
    nothing_lost: bool,
    reason: str,
    operator: str | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """After a failover of PostgreSQL: bring back what the new server does not know of calls, and send again.

    Until then nothing is sent. What was called and has no ending is unknown, counts, and is asked of its provider.
    """
    if nothing_lost == bool(folders or lost) or (nothing_lost and dry_run):
        message = "give the workers' journals (--journal, --lost), or --nothing-lost and none of them"
        raise BadInput([Fault(at="--journal", code="form_invalid", message=message)])
    with named({"/reason": ("--reason", REASON_FORM)}):
        why = read(ThawIn, {"reason": reason}).reason
    thawed = asyncio.run(
        _thaw(load(**options), folders, lost, who=operator_name(operator), reason=why, dry_run=dry_run)
    )
    if as_json:
        show.as_json(
            {"brought_back": thawed.brought_back, "unknown": thawed.unknown, "forgotten": thawed.forgotten}
        )
        return
    show.say(
        f"{thawed.brought_back} reminders that were called brought back, {thawed.unknown} calls asked about now"
    )
    show.table(
        ("tenant", "idempotency key", "reminder"),
        [(one["tenant"], one["idempotency_key"], one["id"]) for one in thawed.forgotten],
        empty="every reminder that was called is there",
    )
    if thawed.forgotten:
        show.say("these were called and are not there any more: whoever handed them in must not do so again")
    show.say("nothing was changed" if dry_run else "calls are made again")


async def _thaw(
    settings: Settings, folders: Sequence[Path], lost: Sequence[str], *, who: str, reason: str, dry_run: bool
) -> Thawed:
    from gateway.store import journal  # noqa: PLC0415 (no other command of these needs all of it)
    from gateway.store.failover import Thawed  # noqa: PLC0415
    from gateway.wiring import Gateway, Place  # noqa: PLC0415

    ring = KeyRing.load(settings.keyring_file)
    gateway = Gateway(Place(settings=settings, ring=ring, redis=None, public_url=""))
    try:
        await migrate.check(gateway.database)
        await gateway.vault.check()
        if not folders and not lost:
            await gateway.failover.nothing_lost(who=who, reason=reason)
            return Thawed()
        return await gateway.failover.thaw(
            journal.read(folders),
            heard=journal.owners(folders),
            lost=lost,
            who=who,
            reason=reason,
            dry_run=dry_run,
        )
    finally:
        await gateway.aclose()
