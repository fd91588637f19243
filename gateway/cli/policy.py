"""`gateway policy`: check worked cases against packs, look at packs, try and assign them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

import click

from gateway.cli.mistakes import Group
from gateway.cli.pack_files import packs_named
from gateway.errors import Fault, PolicyError
from gateway.policy.check import Result, check, written

LARGEST_FILE = 256 * 1024 * 1024


LATER = {
    **dict.fromkeys(("assign", "assigned", "history"), "gateway.cli.assign"),
    **dict.fromkeys(("lint", "diff", "docs"), "gateway.cli.policy_files"),
    "retention": "gateway.cli.retention",
    "simulate": "gateway.cli.simulate",
}
"""Command → the module that holds it."""


class _Policy(Group):
    """A group whose commands, but for `check`, are imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted([*super().list_commands(ctx), *LATER])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in LATER:
            return super().get_command(ctx, cmd_name)
        command: click.Command = getattr(import_module(LATER[cmd_name]), cmd_name)
        return command


@click.group(cls=_Policy)
def policy() -> None:
    """Check packs and cases of the rule language, compare, describe, try and assign packs."""


@policy.command("check")
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--packs",
    multiple=True,
    metavar="PATH",
    help="A pack's file, or a folder of them, before those that ship.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array, an object per case.")
@click.pass_context
def check_command(ctx: click.Context, file: Path, packs: Sequence[str], *, as_json: bool) -> None:
    """Decide every case in FILE with its packs and compare with what it expects.

    Exit code 0 when nothing disagreed, 1 when something did, 2 when the file is malformed.
    """
    results = check(_read(file), [written.pack for written in packs_named(packs)])
    if as_json:
        click.echo(json.dumps([result.as_json() for result in results], indent=1))
    else:
        _tell(results)
    ctx.exit(1 if any(result.ok is False for result in results) else 0)


def _read(file: Path) -> bytes:
    try:
        if file.stat().st_size > LARGEST_FILE:
            raise PolicyError(
                [Fault(at=str(file), code="too_large", message="split the file; 256 MiB is the most")]
            )
        return file.read_bytes()
    except OSError as wrong:
        why = wrong.strerror or "it cannot be read"
        raise PolicyError(
            [Fault(at=str(file), code="unreadable", message=f"cannot read it: {why}")]
        ) from None


def _tell(results: list[Result]) -> None:
    """One line per case, and how many agreed."""
    for result in results:
        verdict, expected = result.verdict, result.case.expected
        line = f"{_MARKS[result.ok]} {result.case.id}: {verdict.action}"
        line += f" until {written(verdict.until)}" if verdict.until else ""
        line += f" ({', '.join(result.rules)})" if result.rules else ""
        line += f" [shadow: {', '.join(result.shadow)}]" if result.shadow else ""
        if result.ok is False and expected is not None:
            line += f"; expected {expected.action}"
            line += f" until {written(expected.until)}" if expected.until else ""
            line += f" ({', '.join(expected.rules)})" if expected.rules else ""
        click.echo(line)
    compared = [result.ok for result in results if result.ok is not None]
    click.echo(f"{sum(compared)} of {len(compared)} as expected")


_MARKS = {True: "ok  ", False: "FAIL", None: "    "}
