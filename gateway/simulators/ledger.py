"""What a simulated provider was asked to do, written so that it outlives a SIGKILL."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson


class Ledger:
    """An append-only file, one JSON object a line, each on the disk before `write` returns.

    It is a simulator's memory as well: one that starts anew knows what it was asked before.

    Lines have at least `provider`, `kind` (`sms call email wechat`), `to`, `ref` (ours, as it arrived,
    or null), `id` (the provider's), `text`, `at` (RFC 3339, the simulator's own clock).
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def write(self, **entry: Any) -> None:
        """Append one line and sync it."""
        os.write(self._fd, orjson.dumps(entry) + b"\n")
        os.fdatasync(self._fd)

    def lines(self, provider: str) -> list[Mapping[str, Any]]:
        """What a provider was asked so far, oldest first."""
        return [line for line in read(self._path) if line["provider"] == provider]

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._fd)


def read(path: Path) -> list[Mapping[str, Any]]:
    """Every whole line of a ledger, oldest first; a line cut off by a kill is left out."""
    if not path.exists():
        return []
    lines = path.read_bytes().split(b"\n")[:-1]
    return [orjson.loads(line) for line in lines if line]
