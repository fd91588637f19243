"""What data keys do: seal values for one place; and the blind index, to find what is only stored sealed."""

from __future__ import annotations

import hmac
from typing import NoReturn

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from gateway.domain import Tenant
from gateway.errors import SetupError
from gateway.vault.ring import NONCE, Entropy, KeyRing, KeyUse

_V1 = b"\x01"


class DataKey:
    """One borrower's key. A sealed value is `0x01 | nonce (12) | ciphertext | tag (16)`."""

    __slots__ = ("_aead", "_entropy", "_tenant")

    def __init__(self, key: bytes, tenant: Tenant, entropy: Entropy) -> None:
        self._aead = AESGCM(key)
        self._tenant = tenant
        self._entropy = entropy

    def __reduce__(self) -> NoReturn:
        raise TypeError("a data key does not go into a pickle or a copy")

    def seal(self, clear: bytes, *, table: str, column: str, row: str) -> bytes:
        """Encrypt a value for one place; it opens nowhere else."""
        nonce = self._entropy(NONCE)
        return _V1 + nonce + self._aead.encrypt(nonce, clear, self._place(table, column, row))

    def open(self, sealed: bytes, *, table: str, column: str, row: str) -> bytes:
        """Decrypt a value; SetupError when it is not of this key and place, or was changed."""
        if sealed[:1] != _V1:
            raise SetupError("a sealed value has a form that this release does not know: install a newer one")
        nonce, rest = sealed[1 : 1 + NONCE], sealed[1 + NONCE :]
        try:
            return self._aead.decrypt(nonce, rest, self._place(table, column, row))
        except (InvalidTag, ValueError):
            raise SetupError(
                f"a value of {table}.{column} does not open: it was changed or moved, or data and vault are "
                "not of one time; bring both back from backups of one time"
            ) from None

    def _place(self, table: str, column: str, row: str) -> bytes:
        return (
            f"{self._tenant}\0{table}\0{column}\0{row}".encode()
        )  # no part holds NUL: PostgreSQL has no such text


class BlindIndex:
    """Finds rows by a value that is stored only sealed: HMAC-SHA256, 16 bytes, under a key of its own."""

    __slots__ = ("_key",)

    def __init__(self, ring: KeyRing) -> None:
        self._key = ring.derive(KeyUse.BLIND_INDEX)

    def blind(self, kind: str, value: str) -> bytes:
        """The index of a normalised value of `kind` (`phone`, `national_id`, …)."""
        return hmac.digest(self._key, f"{kind}\0{value}".encode(), "sha256")[:16]
