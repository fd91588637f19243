"""`gateway policy lint`, `diff` and `docs`: the files of packs, looked at, compared and described."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

import channels
from gateway.cli import show
from gateway.cli.mistakes import Command
from gateway.cli.pack_files import pack_text, packs_named
from gateway.policy.diff import Change
from gateway.policy.diff import diff as changes_between
from gateway.policy.lint import Level, Remark
from gateway.policy.lint import lint as remarks_on
from gateway.policy.pages import pages
from gateway.policy.written import shipped_files


@click.command(cls=Command)
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array, an object per file.")
@click.pass_context
def lint(ctx: click.Context, files: Sequence[Path], *, as_json: bool) -> None:
    """Name every mistake in pack FILEs with its line, and what else somebody should look at.

    Exit code 0 when every file can be loaded, be there warnings or not; 2 when one cannot.
    """
    today = datetime.now(UTC).date()
    known: dict[str, Any] = {"today": today, "shipped": shipped_files(), "adapters": channels.names()}
    found = [(file, remarks_on(pack_text(file), **known)) for file in files]
    if as_json:
        _as_json([_report(file, remarks) for file, remarks in found])
    else:
        for file, remarks in found:
            _tell(file, remarks)
    ctx.exit(2 if any(_bad(remarks) for _, remarks in found) else 0)


@click.command(cls=Command)
@click.argument("old")
@click.argument("new")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array, an object per change.")
@click.pass_context
def diff(ctx: click.Context, old: str, new: str, *, as_json: bool) -> None:
    """Show rule by rule what leads from OLD to NEW: pack files, folders of them, or ids of shipped packs.

    Exit code 0 when nothing differs, 1 when something does, 2 when one of the two cannot be loaded.
    """
    changes = changes_between(packs_named([old]), packs_named([new]))
    if as_json:
        _as_json([_change(change) for change in changes])
    else:
        columns = ("pack", "rule", "key", "old", "new", "effect")
        show.table(columns, [tuple(_change(change).values()) for change in changes], empty="nothing differs")
    ctx.exit(1 if changes else 0)


@click.command(cls=Command)
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.argument("packs", metavar="[PACK]...", nargs=-1)
def docs(folder: Path, packs: Sequence[str]) -> None:
    """Write a page for each PACK (a file, a folder or a shipped id; without any, all that ship) into FOLDER."""
    chosen = packs_named(packs) if packs else shipped_files()
    written = pages(chosen)
    for name, text in written.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8", newline="\n")
    click.echo(f"{len(chosen)} packs, {len(written)} files in {folder}")


def _as_json(found: Sequence[Any]) -> None:
    click.echo(json.dumps(found, indent=1, ensure_ascii=False))


def _bad(remarks: Sequence[Remark]) -> bool:
    return any(remark.level is Level.ERROR for remark in remarks)


def _tell(file: Path, remarks: Sequence[Remark]) -> None:
    """`FILE:12:3: error: …`, as editors read it."""
    for remark in remarks:
        click.echo(f"{file}:{remark.line}:{remark.column}: {remark.level}: {remark.at}: {remark.message}")
    if not remarks:
        click.echo(f"{file}: fine")


def _report(file: Path, remarks: Sequence[Remark]) -> dict[str, Any]:
    told = [
        {
            "line": remark.line,
            "column": remark.column,
            "level": remark.level.value,
            "at": remark.at,
            "code": remark.code,
            "message": remark.message,
        }
        for remark in remarks
    ]
    return {"file": str(file), "ok": not _bad(remarks), "remarks": told}


def _change(change: Change) -> dict[str, str | None]:
    return {
        "pack": change.pack,
        "rule": change.rule,
        "key": change.key,
        "old": change.old,
        "new": change.new,
        "effect": change.effect.value,
    }
