"""The packs in use as one value: who they are, and a digest that a decision's record can name them by."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import Any

import orjson

from gateway.policy.model import Pack


def members(packs: Sequence[Pack]) -> list[dict[str, Any]]:
    """Each pack by id, version and its text's digest; of one that cannot be read whom it stands for, too."""
    found = [
        {
            "pack": pack.id,
            "version": pack.version,
            "sha256": pack.digest,
            **({"broken": True, "applies": list(pack.applies)} if pack.broken else {}),
        }
        for pack in packs
    ]
    return sorted(found, key=lambda one: (one["pack"], one["version"], one["sha256"]))


def digest_of(packs: Sequence[dict[str, Any]]) -> str:
    """The SHA-256 of these members, in hex: it vouches for the list as each member's own does for its text."""
    return sha256(orjson.dumps(packs, option=orjson.OPT_SORT_KEYS)).hexdigest()
