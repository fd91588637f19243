"""Packs that a command names: a file, a folder of files, or the id of one that ships."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from gateway import own_packs
from gateway.errors import Fault, PolicyError
from gateway.policy.parse import shipped_texts
from gateway.policy.written import Written, read_all, shipped_files

LARGEST = 1024 * 1024
"""Bytes of one file."""


def packs_named(names: Iterable[str]) -> list[Written]:
    """The packs of these files, folders and shipped ids; PolicyError with the mistakes of one that has some."""
    return [written for name in names for written in _packs(name)]


def texts_named(names: Iterable[str]) -> list[tuple[str, str]]:
    """(file, text) of the packs of these files, folders and shipped ids, whatever is in them."""
    return [found for name in names for found in _texts(name)]


def _texts(name: str) -> Iterable[tuple[str, str]]:
    path = Path(name)
    if path.is_dir():
        return [(str(path / file), text) for file, text in own_packs.read(path)]
    if path.exists():
        return [(name, pack_text(path))]
    files = {written.name for written in _shipped(name)}
    return [(file, text) for file, text in shipped_texts() if file in files]


def _packs(name: str) -> Iterable[Written]:
    path = Path(name)
    if path.is_dir():
        return read_all(own_packs.read(path))
    if path.exists():
        return read_all([(path.name, pack_text(path))])
    return _shipped(name)


def _shipped(name: str) -> Iterable[Written]:
    found = [written for written in shipped_files() if name in (written.pack.id, written.stem)]
    if not found:
        ids = ", ".join(dict.fromkeys(written.pack.id for written in shipped_files()))
        message = f"neither a file, a folder nor a pack that ships; there are: {ids}"
        raise _refused(name, "pack_unknown", message)
    return found


def pack_text(file: Path) -> str:
    """The text of a pack's file, within bounds."""
    try:
        if file.stat().st_size > LARGEST:
            raise _refused(str(file), "too_large", "1 MiB is the most that a pack may have")
        return file.read_text(encoding="utf-8-sig")
    except OSError as wrong:
        why = wrong.strerror or "it cannot be read"
        raise _refused(str(file), "unreadable", f"cannot read it: {why}") from None
    except UnicodeDecodeError:
        raise _refused(str(file), "malformed_toml", "this is not UTF-8; save the file as UTF-8") from None


def _refused(at: str, code: str, message: str) -> PolicyError:
    return PolicyError([Fault(at=at, code=code, message=message)])
