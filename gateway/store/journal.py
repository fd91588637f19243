"""What was given a go, noted on this host's own disk before it is called: what a standby that lagged does not know.

A file holds lines of JSON, one for each go, in order:

    {"at": µs real, "key": "the reminder's idempotency key", "step": 0, "attempt": {its row, without the text}}

It names nobody: ids that services chose, indexes that only the gateway's keys can make. A worker keeps its files for
KEPT_S; a standby that lags longer than that is past help from here.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from gateway.domain import to_us
from gateway.errors import SetupError
from gateway.ports import Moment
from gateway.store.rows import intent_row
from gateway.work import Intent

FILE_S, KEPT_S = 600.0, 7200.0
"""Seconds after which a worker begins another file, and for which it keeps what is full."""
_ROW = (
    *(
        "tenant",
        "ref",
        "started_at",
        "reminder",
        "origin",
        "person",
        "borrower",
        "debt",
        "creditor",
        "channel",
    ),
    *("adapter", "account", "address", "recipient_role", "actor_role", "actor_id", "technology", "flags"),
    *("fence", "owner", "deadline", "segments", "price_amount", "price_currency", "template"),
    *("template_version", "language", "text_hash", "borrower_revision", "debt_revision"),
)
"""What is noted of an attempt: all that is known before its call, but for the text."""
_ENDS = ".jsonl"


class Journal:
    """The files of one worker. `note` is asked for by one task at a time or several; lines never mix."""

    def __init__(self, folder: Path, owner: str, clock: Callable[[], float]) -> None:
        """Begin the first file, so that whoever looks later sees that this worker keeps a journal.

        `clock`: seconds since 1970, as files' times have them. SetupError when the folder cannot be written.
        """
        self._folder = folder
        self._owner = owner
        self._clock = clock
        self._writing = asyncio.Lock()
        try:
            self._file, self._begun = self._begin()
        except OSError as wrong:
            raise SetupError(
                f"{folder} cannot be written ({wrong.strerror}): give GATEWAY_JOURNAL a folder of this host's own"
            ) from None

    async def note(self, intents: Sequence[Intent], now: Moment) -> None:
        """Note what was given a go; returns when it is on the disk."""
        if not intents:
            return
        lines = b"".join(_line(intent, self._owner, now) for intent in intents)
        async with self._writing:
            await asyncio.to_thread(self._write, lines)

    def _write(self, lines: bytes) -> None:
        if self._clock() - self._begun > FILE_S:
            full = self._file
            self._file, self._begun = self._begin()
            os.close(full)
            self._forget()
        whole, written = os.fstat(self._file).st_size, 0
        try:
            while written < len(lines):
                written += os.write(self._file, lines[written:])
            os.fdatasync(self._file)
        except OSError:
            os.ftruncate(
                self._file, whole
            )  # nothing of it is called, and the next line must not hang on to half of one
            raise

    def _begin(self) -> tuple[int, float]:
        """Another file, open and surely there, and when it was begun."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        now = self._clock()
        path = self._folder / f"{self._owner}.{round(now)}{_ENDS}"
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            folder = os.open(self._folder, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError:
            os.close(file)
            raise
        return file, now

    def _forget(self) -> None:
        """Delete what is past keeping, of whichever worker."""
        for path in self._folder.glob(f"*{_ENDS}"):
            with suppress(FileNotFoundError):  # another worker of this host was quicker
                if self._clock() - path.stat().st_mtime > KEPT_S:
                    path.unlink()

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)


class NoJournal:
    """Where the database keeps all that it acknowledges."""

    async def note(self, intents: Sequence[Intent], now: Moment) -> None:
        """Nothing."""


def _line(intent: Intent, owner: str, now: Moment) -> bytes:
    row = intent_row(intent, owner, to_us(now.policy))
    noted = {"at": to_us(now.real), "key": intent.work.key, "step": intent.work.step}
    noted["attempt"] = {name: row[name] for name in _ROW}
    return orjson.dumps(noted) + b"\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Noted:
    """One go: when (µs, real), under which key its reminder was handed in, its step, and its attempt's row."""

    at: int
    key: str
    step: int
    attempt: Mapping[str, Any]


def owners(folders: Sequence[Path]) -> frozenset[str]:
    """Workers whose journals are there."""
    return frozenset(path.name.split(".")[0] for folder in folders for path in folder.glob(f"*{_ENDS}"))


def read(folders: Sequence[Path]) -> Iterator[Noted]:
    """Every go that was noted, file by file in order; SetupError names a file that cannot be read.

    A last line without its end was being written when its worker died: nothing of it was called.
    """
    for path in sorted(path for folder in folders for path in folder.glob(f"*{_ENDS}")):
        try:
            with path.open("rb") as lines:
                yield from (_noted(line) for line in lines if line.endswith(b"\n"))
        except (OSError, ValueError, KeyError, TypeError):
            raise SetupError(
                f"{path} cannot be read as a journal: bring the file as the worker left it"
            ) from None


def _noted(line: bytes) -> Noted:
    said = orjson.loads(line)
    return Noted(
        at=said["at"],
        key=said["key"],
        step=said["step"],
        attempt={name: said["attempt"][name] for name in _ROW},
    )
