"""Frozen dataclasses that cost as little to make as others.

At runtime a frozen dataclass sets each field by a call, which makes it three times as dear as one that is not, and
some fifteen are made for each reminder. mypy holds these frozen; at runtime nothing does.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dataclasses import dataclass
else:

    def dataclass(*, frozen: bool = False, eq: bool = True, **more: Any) -> Any:
        """As dataclasses.dataclass."""
        return dataclasses.dataclass(eq=eq, unsafe_hash=frozen and eq, **more)


__all__ = ["dataclass"]
