"""What every simulator's `serve` gives back."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A simulator that listens on `port` until `aclose`."""

    port: int
    close: Callable[[], Awaitable[None]]

    async def aclose(self) -> None:
        """Stop listening, end what is under way and let go of everything."""
        await self.close()
