"""Adapters, one file each, found by name and loaded when used.

`channels/NAME.py` holds a class `Adapter` (gateway.ports.Adapter). A third party's distribution adds
one by an entry point of the group `gateway.channels`: `NAME = "package.module:Class"`.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import entry_points
from pkgutil import iter_modules
from typing import cast

from gateway.errors import SetupError
from gateway.ports import AdapterFactory

GROUP = "gateway.channels"


def names() -> list[str]:
    """Every adapter there is, shipped and third-party, without loading any."""
    return sorted(_shipped() | {e.name for e in entry_points(group=GROUP)})


def _shipped() -> set[str]:
    return {m.name for m in iter_modules(__path__) if not m.name.startswith("_")}


def load(name: str) -> AdapterFactory:
    """The adapter class of that name; SetupError when there is none."""
    if name in _shipped():
        return cast("AdapterFactory", import_module(f"channels.{name}").Adapter)
    for entry in entry_points(group=GROUP):
        if entry.name == name:
            try:
                return cast("AdapterFactory", entry.load())
            except (ImportError, AttributeError) as broken:
                message = f"the adapter {name} does not load ({type(broken).__name__}): mend its distribution"
                raise SetupError(message) from broken
    raise SetupError(f"no adapter of that name; there are: {', '.join(names())}")
