"""The key ring: a file with a root secret and the keys that wrap data keys, one current."""

from __future__ import annotations

import os
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any, NoReturn

import orjson
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from gateway.errors import SetupError

Entropy = Callable[[int], bytes]

KEY, NONCE = 32, 12
"""Bytes of a key and of a nonce of AES-256-GCM."""
_LIMIT = 65_536
_DAMAGED = "{} is no key ring, or a damaged one: bring it back from its backup"


class KeyUse(StrEnum):
    """What a key derived from the ring is for; separate keys, so that no two tables can be joined by them."""

    BLIND_INDEX = "blind-index"
    LOG_PSEUDONYM = "log-pseudonym"
    LOG_COMMITMENT = "log-commitment"
    CALLBACK_TOKEN = "callback-token"  # noqa: S105 (a name)
    FINGERPRINT = "fingerprint"


class KeyRing:
    """A root secret, from which keys are derived, and the keys that wrap data keys."""

    __slots__ = ("_keys", "_root", "current", "path")

    def __init__(self, path: Path, *, root: bytes, keys: Mapping[str, bytes], current: str) -> None:
        self.path = path
        self.current = current
        self._root = root
        self._keys = {kid: AESGCM(key) for kid, key in keys.items()}

    def __reduce__(self) -> NoReturn:
        raise TypeError("a key ring does not go into a pickle or a copy")

    @classmethod
    def create(cls, path: Path, *, entropy: Entropy = os.urandom) -> KeyRing:
        """Make a key ring file, 0600; SetupError when there is a file already: none is ever overwritten."""
        document = {
            "format": 1,
            "root": _text64(entropy(KEY)),
            "current": "k1",
            "keys": {"k1": _text64(entropy(KEY))},
        }
        try:
            _write_new(path, document)
        except FileExistsError:
            raise SetupError(f"{path} is there already: a key ring is never overwritten") from None
        except OSError as wrong:
            raise SetupError(f"{path} cannot be written ({wrong.strerror}): give another place") from None
        return cls.load(path)

    @classmethod
    def load(cls, path: Path) -> KeyRing:
        """Read a key ring file; SetupError says what to do about one missing, damaged or open to others."""
        document = _read(path)
        try:
            return cls(path, **_parts(document))
        except (ValueError, KeyError, TypeError, AttributeError):
            raise SetupError(_DAMAGED.format(path)) from None

    def derive(self, use: KeyUse) -> bytes:
        """The 32 bytes for a purpose (HKDF-SHA256, RFC 5869); the same as long as the ring's root lives."""
        info = f"outreach-gateway/v1/{use}".encode()
        return HKDF(SHA256(), KEY, salt=None, info=info).derive(self._root)

    def knows(self, kid: str) -> bool:
        """Whether a key is in this ring."""
        return kid in self._keys

    def wrap(self, key: bytes, about: str, nonce: bytes) -> bytes:
        """Encrypt a data key under the current key."""
        return nonce + self._keys[self.current].encrypt(nonce, key, f"{self.current}\0{about}".encode())

    def unwrap(self, kid: str, wrapped: bytes, about: str) -> bytes:
        """Decrypt a data key; SetupError when it was wrapped by another ring or for another borrower."""
        try:
            return self._keys[kid].decrypt(wrapped[:NONCE], wrapped[NONCE:], f"{kid}\0{about}".encode())
        except (InvalidTag, KeyError):
            raise SetupError(
                "a data key does not open: this key ring is not the one that wrapped it"
            ) from None


def add_key(path: Path, *, entropy: Entropy = os.urandom) -> KeyRing:
    """Add a wrapping key to a key ring file and make it current; the older ones stay, to unwrap."""
    KeyRing.load(path)
    document = _read(path)
    kid = f"k{1 + len(document['keys'])}"
    document |= {"current": kid, "keys": {**document["keys"], kid: _text64(entropy(KEY))}}
    beside = path.with_name(f"{path.name}.new")
    try:
        _write_new(beside, document)
        beside.replace(path)
        _sync(path.parent)
    except FileExistsError:
        raise SetupError(
            f"another rotation is under way; if none is, delete {beside} and try again"
        ) from None
    except OSError as wrong:
        raise SetupError(f"{path} cannot be written ({wrong.strerror}): nothing was changed") from None
    return KeyRing.load(path)


def embedded_ring(path: Path, vault: Path, *, entropy: Entropy = os.urandom) -> KeyRing:
    """The key ring of a data folder, made at its first start; a lost one is not replaced."""
    if not path.exists() and not vault.exists():
        return KeyRing.create(path, entropy=entropy)
    return KeyRing.load(path)


def _read(path: Path) -> Any:
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            raw = file.read(_LIMIT)
    except FileNotFoundError:
        raise SetupError(
            f"there is no key ring at {path}: bring it back from its backup, or, for a new deployment, "
            "make one with `gateway vault init`"
        ) from None
    except OSError as wrong:
        raise SetupError(f"{path} cannot be read ({wrong.strerror}): give this user the right to") from None
    if mode & 0o037:
        raise SetupError(f"others may read or change {path}: chmod 600 {path}")
    try:
        return orjson.loads(raw)
    except ValueError:
        raise SetupError(_DAMAGED.format(path)) from None


def _parts(document: Any) -> dict[str, Any]:
    """Root, keys and current key of a key ring's document; ValueError and its like for anything else."""
    keys = {str(kid): _bytes64(key) for kid, key in document["keys"].items()}
    if document["format"] != 1 or document["current"] not in keys:
        raise ValueError
    return {"root": _bytes64(document["root"]), "keys": keys, "current": document["current"]}


def _write_new(path: Path, document: Mapping[str, Any]) -> None:
    """Write a file that must not be there, all of it and on the disk, or leave none."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(orjson.dumps(document, option=orjson.OPT_INDENT_2) + b"\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        path.unlink()
        raise
    _sync(path.parent)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _text64(key: bytes) -> str:
    return b64encode(key).decode()


def _bytes64(text64: str) -> bytes:
    key = b64decode(text64, validate=True)
    if len(key) != KEY:
        raise ValueError
    return key
