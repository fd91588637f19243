"""Records of the send log: canonical bytes, final when written, that name nobody.

A leaf is JSON in canonical form (RFC 8785; no floats, integers within 53 bits):

    {"at": "2026-11-24T20:45:00.123456Z", "attempt": "at_…", "body": {…}, "channel": "sms", "id": "…",
     "ids": {"borrower": pseudonym, "debt": pseudonym, …}, "kind": "decision", "reason": "…",
     "reminder": "rm_…", "sealed": {"address": commitment, …}, "state": "…", "tenant": "acme/live", "v": 1}

What is absent is left out. What it takes to open a leaf (the salt, the clear ids and values) is the side,
which the caller encrypts under the borrower's key: when that key is destroyed the leaf still verifies, and
no value in it can be found any more, not even by guessing with the log's own keys.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from functools import lru_cache
from types import MappingProxyType, NoneType
from typing import Any, NamedTuple, TypeAlias

import orjson

from gateway.domain import Tenant
from gateway.masking import Pii

Json: TypeAlias = "str | int | bool | Sequence[Json] | Mapping[str, Json] | None"

VERSION = 1
SALT_BYTES = 16
MAX_LEAF = 65_536

_CANONICAL = (
    orjson.OPT_SORT_KEYS
    | orjson.OPT_STRICT_INTEGER
    | orjson.OPT_PASSTHROUGH_DATACLASS
    | orjson.OPT_PASSTHROUGH_DATETIME
)
_REMEMBERED = 16_384
_NONE: Mapping[str, Any] = MappingProxyType({})


class Kind(StrEnum):
    """What a record is about."""

    ACCEPTED = "accepted"
    DECISION = "decision"
    ATTEMPT = "attempt"
    OUTCOME = "outcome"
    RECEIPT = "receipt"
    OPT_OUT = "opt_out"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    BORROWER = "borrower"
    DEBT = "debt"
    CONTACT = "contact"
    RESERVATION = "reservation"
    CONFIG = "config"


class LogKeys:
    """The two secrets of the log, separate, so that neither opens what the other hides."""

    __slots__ = ("_commitments", "pseudonym")

    def __init__(self, *, pseudonyms: bytes, commitments: bytes) -> None:
        @lru_cache(_REMEMBERED)
        def remembered(tenant: str, kind: str, name: str) -> str:
            return pseudonym(pseudonyms, tenant, kind, name)

        self.pseudonym = remembered
        self._commitments = commitments

    def opening(self, salt: bytes) -> bytes:
        """The secret that opens one record's commitments and no other's: HMAC-SHA256 of its salt."""
        return hmac.digest(self._commitments, salt, "sha256")


def pseudonym(key: bytes, tenant: str, kind: str, name: str) -> str:
    """32 hex digits that stand for an id of `kind` (borrower, debt, …) within one tenant."""
    return hmac.digest(key, f"{tenant}\0{kind}\0{name}".encode(), "sha256").hex()[:32]


def commit(opening: bytes, name: str, value: str) -> str:
    """64 hex digits that bind a record to a value: SHA-256 of the opening (32 bytes), name, NUL, value.

    Whoever is shown the opening and the value can check it with any SHA-256 tool, and learns no key.
    """
    return hashlib.sha256(opening + f"{name}\0{value}".encode()).hexdigest()


def leaf_hash(leaf: bytes) -> bytes:
    """The Merkle leaf hash of RFC 6962 §2.1."""
    return hashlib.sha256(b"\0" + leaf).digest()


class Built(NamedTuple):
    """A record's bytes: the leaf, final, and its side, to be encrypted under the borrower's key."""

    leaf: bytes
    side: bytes


def build(
    keys: LogKeys,
    *,
    id: str,  # noqa: A002 (the record's own word for it)
    salt: bytes,
    tenant: Tenant,
    kind: Kind,
    at: datetime,
    reminder: str | None = None,
    attempt: str | None = None,
    borrower: str | None = None,
    channel: str | None = None,
    state: str | None = None,
    reason: str | None = None,
    ids: Mapping[str, str] = _NONE,
    body: Mapping[str, Json] = _NONE,
    clear: Mapping[str, Pii[str]] = _NONE,
) -> Built:
    """Make a record's bytes.

    `salt`: 16 fresh random bytes. `borrower` and `ids` (by kind: `debt`, `actor`, `key`, …) are ids that
    services chose: pseudonyms. `body`: words and numbers, never of a person. `clear`: personal values
    (`address`, `text_sha256`, …): commitments.
    TypeError for what canonical JSON has no one text for, ValueError for a leaf over 64 KiB.
    """
    named = dict(ids) if borrower is None else {"borrower": borrower, **ids}
    values = {name: value.reveal("the send log commits to it") for name, value in clear.items()}
    document: dict[str, Json] = {
        "v": VERSION,
        "id": id,
        "tenant": tenant,
        "at": _instant(at),
        "kind": kind,
    }
    said = {"reminder": reminder, "attempt": attempt, "channel": channel, "state": state, "reason": reason}
    document.update({word: value for word, value in said.items() if value is not None})
    if named:
        document["ids"] = {word: keys.pseudonym(tenant, word, name) for word, name in named.items()}
    if body:
        document["body"] = words = dict(body)
        _refuse_floats(words)
    if values:
        document["sealed"] = _commitments(keys, salt, values)
    leaf = orjson.dumps(document, option=_CANONICAL)
    if len(leaf) > MAX_LEAF:
        raise ValueError("a record is too long; put less into its body")
    return Built(leaf=leaf, side=orjson.dumps({"salt": salt.hex(), "ids": named, "clear": values}))


def disagreements(leaf: bytes, side: bytes, keys: LogKeys) -> tuple[str, ...]:
    """The names of ids and values of a decrypted side that a leaf does not confirm; empty when all agree."""
    said, opened = orjson.loads(leaf), orjson.loads(side)
    ids = {kind: keys.pseudonym(said["tenant"], kind, name) for kind, name in opened["ids"].items()}
    sealed = _commitments(keys, bytes.fromhex(opened["salt"]), opened["clear"])
    return _differing(said.get("ids", {}), ids) + _differing(said.get("sealed", {}), sealed)


def canonical(value: Mapping[str, Json] | Sequence[Json]) -> bytes:
    """A part of a body in canonical form; TypeError for what has no one text."""
    _refuse_floats(value)
    return orjson.dumps(value, option=_CANONICAL)


def _commitments(keys: LogKeys, salt: bytes, clear: Mapping[str, str]) -> dict[str, str]:
    if len(salt) != SALT_BYTES:
        raise ValueError("a record's salt has 16 bytes")
    opening = keys.opening(salt)
    return {name: commit(opening, name, value) for name, value in clear.items()}


def _differing(one: Mapping[str, str], other: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name)))


@lru_cache(64)
def _instant(at: datetime) -> str:
    """RFC 3339 with six decimals, always in UTC."""
    if at.tzinfo is None:
        raise ValueError("an instant needs a UTC offset")
    if at.tzinfo is not UTC:
        at = at.astimezone(UTC)
    return f"{at.isoformat(timespec='microseconds')[:26]}Z"


_ATOMS = frozenset({str, int, bool, NoneType, orjson.Fragment})


def _refuse_floats(value: Mapping[str, Json] | Sequence[Json]) -> None:
    """TypeError where a float stands: its text is not the same everywhere, and money is never one."""
    for inner in value.values() if isinstance(value, dict) else value:
        if type(inner) in _ATOMS:
            continue
        if isinstance(inner, (dict, list, tuple)):
            _refuse_floats(inner)
        elif not isinstance(inner, (str, int, NoneType, orjson.Fragment)):
            raise TypeError("a record holds text, whole numbers, lists and objects; write a decimal as text")
