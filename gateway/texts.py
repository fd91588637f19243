"""What is said, sealed under its borrower's key and opened again where it is needed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

import orjson

from gateway.domain import Rendered, Tenant
from gateway.masking import Pii
from gateway.work import Attempt, Key


class SubjectKey(Protocol):
    """One borrower's data key."""

    def seal(self, clear: bytes, *, table: str, column: str, row: str) -> bytes:
        """Encrypt, bound to the place."""

    def open(self, sealed: bytes, *, table: str, column: str, row: str) -> bytes:
        """Decrypt what was sealed for that place."""


Keys = Mapping[Key, SubjectKey]
"""Data keys by (tenant, borrower)."""


class Vault(Protocol):
    """Where data keys are kept."""

    async def keys_for(
        self, tenant: Tenant, subjects: Sequence[str], *, create: bool
    ) -> Mapping[str, SubjectKey]:
        """The keys of these borrowers."""

    async def keys(self, whose: Iterable[Key], *, create: bool) -> Keys:
        """The keys of these, of any tenants."""


def pack_text(rendered: Rendered) -> bytes:
    """All that was or will be said, as JSON to be sealed."""
    reveal = "sealed on the attempt"
    return orjson.dumps(
        {
            "language": rendered.language,
            "text": rendered.text.reveal(reveal),
            "subject": rendered.subject.reveal(reveal) if rendered.subject else None,
            "second": rendered.second.reveal(reveal) if rendered.second else None,
            "code": rendered.code,
            "variables": {k: v.reveal(reveal) for k, v in rendered.variables.items()},
            "segments": rendered.segments,
            "sha256": rendered.sha256,
        }
    )


def unpack_text(packed: bytes) -> Rendered:
    """What `pack_text` packed."""
    said = orjson.loads(packed)
    return Rendered(
        language=said["language"],
        text=Pii(said["text"]),
        sha256=said["sha256"],
        segments=said["segments"],
        subject=Pii(said["subject"]) if said["subject"] else None,
        second=Pii(said["second"]) if said["second"] else None,
        code=said["code"],
        variables={k: Pii(v) for k, v in said["variables"].items()},
    )


def open_address(key: SubjectKey, blind: str, sealed: bytes) -> Pii[str]:
    """An address in clear, for the adapter."""
    return Pii(key.open(sealed, table="address", column="value_enc", row=blind).decode())


class Texts:
    """Opens what was sealed on attempts."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault

    async def _key(self, attempt: Attempt) -> SubjectKey | None:
        keys = await self._vault.keys_for(attempt.tenant, [attempt.borrower], create=False)
        return keys.get(attempt.borrower)

    async def rendered(self, attempt: Attempt) -> Rendered | None:
        """All that the attempt says; None once its borrower's key is destroyed."""
        key = await self._key(attempt)
        if key is None or attempt.text_enc is None:
            return None
        return unpack_text(key.open(attempt.text_enc, table="attempt", column="text_enc", row=attempt.ref))

    async def second(self, attempt: Attempt) -> Pii[str] | None:
        """What a call says after 1 was pressed."""
        rendered = await self.rendered(attempt)
        return rendered.second if rendered else None

    async def address(self, attempt: Attempt, sealed: bytes) -> Pii[str] | None:
        """The address of an attempt; None once its borrower's key is destroyed."""
        key = await self._key(attempt)
        return None if key is None else open_address(key, attempt.address, sealed)
