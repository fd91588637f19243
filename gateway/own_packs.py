"""A deployment's own packs: the TOML files of one folder, read whole and within bounds."""

from __future__ import annotations

from pathlib import Path

from gateway.errors import Fault, PolicyError

MOST, LARGEST = 200, 1024 * 1024
"""Files, and bytes of one."""


def read(folder: Path) -> tuple[tuple[str, str], ...]:
    """(name, text) of each `*.toml` in the folder, by name; PolicyError that names every file that cannot be used.

    A folder that is not there, or holds none, is a mistake as well: a pack that is not found must not mean
    that its rules are gone.
    """
    try:
        files = sorted(path for path in folder.glob("*.toml") if not path.name.startswith("."))
    except OSError as wrong:
        raise PolicyError([_unreadable(folder, wrong)]) from None
    if not files or len(files) > MOST:
        message = f"a folder of packs holds 1 to {MOST} files *.toml: see GATEWAY_PACKS"
        raise PolicyError([Fault(at=str(folder), code="unreadable", message=message)])
    found = [(path.name, _text(path)) for path in files]
    faults = [text for _, text in found if isinstance(text, Fault)]
    if faults:
        raise PolicyError(faults)
    return tuple((name, text) for name, text in found if isinstance(text, str))


def _text(path: Path) -> str | Fault:
    try:
        with path.open("rb") as file:
            raw = file.read(LARGEST + 1)
        if len(raw) > LARGEST:
            return Fault(
                at=str(path), code="too_large", message=f"split it: {LARGEST // 1024**2} MiB is the most"
            )
        return raw.decode("utf-8-sig")
    except OSError as wrong:
        return _unreadable(path, wrong)
    except UnicodeDecodeError:
        return Fault(at=str(path), code="unreadable", message="it is not UTF-8: write it anew as UTF-8")


def _unreadable(path: Path, wrong: OSError) -> Fault:
    return Fault(at=str(path), code="unreadable", message=f"cannot read it: {wrong.strerror or 'unknown'}")
