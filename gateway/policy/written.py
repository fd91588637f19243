"""Packs as they are written: the tables of a TOML file beside the pack that they mean."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import Any

from gateway.errors import Fault, PolicyError
from gateway.policy.model import AnyRule, Pack
from gateway.policy.parse import parse_pack


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """A pack's file: its name, its header and rules in the words of the language, and what they mean."""

    name: str
    header: Mapping[str, Any]
    rules: tuple[Mapping[str, Any], ...]
    pack: Pack

    @property
    def stem(self) -> str:
        """The file's name without its ending."""
        return self.name.removesuffix(".toml")

    @property
    def pairs(self) -> Iterator[tuple[Mapping[str, Any], AnyRule]]:
        """Each rule as it is written and as it is meant."""
        return zip(self.rules, self.pack.rules, strict=True)


def read_written(source: str, name: str) -> Written:
    """A pack from the text of its file; PolicyError names every mistake as `name:/rule/0/key`."""
    try:
        pack = parse_pack(source, name)
        table = tomllib.loads(source)
    except (ValueError, RecursionError):
        fault = Fault(at=name, code="malformed_toml", message="a number is too long, or the nesting too deep")
        raise PolicyError([fault]) from None
    return Written(name=name, header=table["pack"], rules=tuple(table["rule"]), pack=pack)


def read_all(files: Iterable[tuple[str, str]]) -> tuple[Written, ...]:
    """Packs from (name, text) of their files; PolicyError with the mistakes of all."""
    found: list[Written] = []
    faults: list[Fault] = []
    for name, source in files:
        try:
            found.append(read_written(source, name))
        except PolicyError as wrong:
            faults += wrong.faults
    if faults:
        raise PolicyError(faults)
    return tuple(found)


@lru_cache(maxsize=1)
def shipped_files() -> tuple[Written, ...]:
    """The files of the packs that come with the gateway, by name; PolicyError with all their mistakes."""
    folder = sorted(resources.files("gateway.policy.packs").iterdir(), key=lambda file: file.name)
    return read_all((file.name, file.read_text("utf-8")) for file in folder if file.name.endswith(".toml"))
