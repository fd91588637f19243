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
    shipped = [m.name for m in iter_modules(__path__) if not m.name.startswith("_")]
    return sorted({*shipped, *(e.name for e in entry_points(group=GROUP))})


def load(name: str) -> AdapterFactory:
    """The adapter class of that name; SetupError when there is none."""
    for entry in entry_points(group=GROUP):
        if entry.name == name:
            return cast("AdapterFactory", entry.load())
    if name not in names():
        raise SetupError(f"no adapter of that name; there are: {', '.join(names())}")
    return cast("AdapterFactory", import_module(f"channels.{name}").Adapter)
