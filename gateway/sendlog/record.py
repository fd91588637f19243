"""Records of the send log: canonical bytes, final when written, that name nobody.

A leaf is JSON in canonical form (RFC 8785; no floats, integers within 53 bits):

    {"at": "2026-11-24T20:45:00.123456Z", "facts": {words and numbers in clear}, "id": "…",
     "ids": {"borrower": pseudonym, …}, "kind": "decision", "refs": {"reminder": "rm_…", …},
     "sealed": {"address": commitment, …}, "tenant": "acme/live", "v": 1}

`facts`, `ids`, `refs` and `sealed` are left out when empty. What it takes to open a leaf (the salt, the
clear ids and values) is the side, which the caller encrypts under the borrower's key: when that key is
destroyed the leaf still verifies, and nobody can tell any more whom it was about, not even by guessing.
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
    """A record as it is stored: the final leaf, the side to be encrypted, and columns to filter by."""

    id: str
    tenant: Tenant
    at: datetime
    kind: Kind
    borrower: str | None
    debt: str | None
    reminder: str | None
    attempt: str | None
    channel: str | None
    state: str | None
    reason: str | None
    leaf: bytes
    side: bytes


def build(
    keys: LogKeys,
    *,
    salt: bytes,
    id: str,  # noqa: A002 (the record's own word for it)
    tenant: Tenant,
    at: datetime,
    kind: Kind,
    ids: Mapping[str, str] = _NONE,
    refs: Mapping[str, str] = _NONE,
    facts: Mapping[str, Json] = _NONE,
    values: Mapping[str, Pii[str]] = _NONE,
) -> Built:
    """Make a record.

    `salt`: 16 fresh random bytes. `ids`: ids that services chose, by kind (`borrower`, `debt`, `actor`,
    `key`, …); they become pseudonyms. `refs`: ids of our own (`reminder`, `attempt`, …), in clear. `facts`:
    words and numbers in clear (`channel`, `state`, `reason`, `findings`, …), never of a person. `values`:
    personal values (`address`, `text_sha256`, …); they become commitments.
    TypeError for what canonical JSON has no one text for, ValueError for a leaf over 64 KiB.
    """
    names = {word: keys.pseudonym(tenant, word, name) for word, name in ids.items()}
    clear = {name: value.reveal("the send log commits to it") for name, value in values.items()}
    document: dict[str, Json] = {
        "v": VERSION,
        "id": id,
        "tenant": tenant,
        "at": _instant(at),
        "kind": kind.value,
    }
    if names:
        document["ids"] = names
    if refs:
        document["refs"] = dict(refs)
    if facts:
        document["facts"] = words = dict(facts)
        _refuse_floats(words)
    if clear:
        document["sealed"] = _commitments(keys, salt, clear)
    leaf = orjson.dumps(document, option=_CANONICAL)
    if len(leaf) > MAX_LEAF:
        raise ValueError("a record is too long; put less into its facts")
    return Built(
        id=id,
        tenant=tenant,
        at=at,
        kind=kind,
        borrower=names.get("borrower"),
        debt=names.get("debt"),
        reminder=refs.get("reminder"),
        attempt=refs.get("attempt"),
        channel=_word(facts, "channel"),
        state=_word(facts, "state"),
        reason=_word(facts, "reason"),
        leaf=leaf,
        side=orjson.dumps({"salt": salt.hex(), "ids": dict(ids), "values": clear}),
    )


def disagreements(leaf: bytes, side: bytes, keys: LogKeys) -> tuple[str, ...]:
    """The names of ids and values of a decrypted side that a leaf does not confirm; empty when all agree."""
    said, opened = orjson.loads(leaf), orjson.loads(side)
    ids = {kind: keys.pseudonym(said["tenant"], kind, name) for kind, name in opened["ids"].items()}
    sealed = _commitments(keys, bytes.fromhex(opened["salt"]), opened["values"])
    return _differing(said.get("ids", {}), ids) + _differing(said.get("sealed", {}), sealed)


def _commitments(keys: LogKeys, salt: bytes, clear: Mapping[str, str]) -> dict[str, str]:
    if len(salt) != SALT_BYTES:
        raise ValueError("a record's salt has 16 bytes")
    opening = keys.opening(salt)
    return {name: commit(opening, name, value) for name, value in clear.items()}


def _differing(one: Mapping[str, str], other: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name)))


def _word(facts: Mapping[str, Json], name: str) -> str | None:
    value = facts.get(name)
    return value if isinstance(value, str) else None


@lru_cache(64)
def _instant(at: datetime) -> str:
    """RFC 3339 with six decimals, always in UTC."""
    if at.tzinfo is None:
        raise ValueError("an instant needs a UTC offset")
    if at.tzinfo is not UTC:
        at = at.astimezone(UTC)
    return f"{at.isoformat(timespec='microseconds')[:26]}Z"


_ATOMS = frozenset({str, int, bool, NoneType})


def _refuse_floats(value: Mapping[str, Json] | Sequence[Json]) -> None:
    """TypeError where a float stands: its text is not the same everywhere, and money is never one."""
    inside = value.values() if isinstance(value, dict) else value
    if _ATOMS.issuperset(map(type, inside)):
        return
    for inner in inside:
        if isinstance(inner, (dict, list, tuple)):
            _refuse_floats(inner)
        elif not isinstance(inner, (str, int, NoneType)):
            raise TypeError("a record holds text, whole numbers, lists and objects; write a decimal as text")
