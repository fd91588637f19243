"""Two states of packs, rule by rule: what was added, removed or changed, and which way, where that is sure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gateway.policy import words
from gateway.policy.model import AnyRule, Retention
from gateway.policy.stricter import Effect, effect
from gateway.policy.written import Written

HEADER = "[pack]"
"""Stands for the rule where the header of a pack changed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One key of one rule, a whole rule (`key` is None), or a whole pack (`rule` is None, too)."""

    pack: str
    rule: str | None
    key: str | None
    old: str | None
    new: str | None
    effect: Effect


def diff(old: Sequence[Written], new: Sequence[Written]) -> list[Change]:
    """What leads from the one to the other. One pack is compared with one pack whatever their ids."""
    if len(old) == len(new) == 1:
        return list(_pack(old[0], new[0]))
    before, after = _by_id(old), _by_id(new)
    names = dict.fromkeys([*before, *after])
    return [change for name in names for change in _pack(before.get(name), after.get(name))]


def _by_id(packs: Sequence[Written]) -> Mapping[tuple[str, int], Written]:
    """Packs by id and, where one id has several versions, by their order in time."""
    found: dict[tuple[str, int], Written] = {}
    for written in sorted(packs, key=lambda one: (one.pack.id, str(one.pack.since or ""))):
        place = sum(1 for name, _ in found if name == written.pack.id)
        found[written.pack.id, place] = written
    return found


def _pack(old: Written | None, new: Written | None) -> Iterator[Change]:
    if old is None or new is None:
        yield _whole(old, new)
        return
    name = new.pack.id
    yield from _keys(name, HEADER, (old.header, None), (new.header, None))
    before, after = _rules(old), _rules(new)
    for rule in dict.fromkeys([*before, *after]):
        yield from _rule(name, rule, before.get(rule), after.get(rule))


def _whole(old: Written | None, new: Written | None) -> Change:
    """A pack that is new or gone. Other packs may apply in its stead, so no way is sure."""
    told = [
        None if one is None else f"version {one.pack.version}, {len(one.rules)} rules" for one in (old, new)
    ]
    pack = (new or old).pack  # type: ignore[union-attr]  # one of them is there
    return Change(pack=pack.id, rule=None, key=None, old=told[0], new=told[1], effect=Effect.CHANGED)


_Side = tuple[Mapping[str, Any], AnyRule | None]
"""A rule, or a header, as it is written and as it is meant."""


def _rules(written: Written) -> Mapping[str, _Side]:
    return {rule.id: (keys, rule) for keys, rule in zip(written.rules, written.pack.rules, strict=True)}


def _rule(pack: str, name: str, old: _Side | None, new: _Side | None) -> Iterator[Change]:
    if old is not None and new is not None and old[0]["kind"] == new[0]["kind"]:
        yield from _keys(pack, name, old, new)
        return
    told = [None if side is None else words.sentence(side[0]) for side in (old, new)]
    yield Change(pack=pack, rule=name, key=None, old=told[0], new=told[1], effect=_appears(old, new))


def _appears(old: _Side | None, new: _Side | None) -> Effect:
    """Which way it goes that a rule is new, gone, or of another kind."""
    if any(side is not None and _keeps(side) for side in (old, new)):
        return Effect.CHANGED
    before, after = (side is not None and _enforced(side) for side in (old, new))
    if before and after:
        return Effect.CHANGED
    if before == after:
        return Effect.SHADOW
    return Effect.STRICTER if after else Effect.LOOSER


def _enforced(side: _Side) -> bool:
    return side[1] is not None and not side[1].in_shadow


def _keeps(side: _Side) -> bool:
    """Whether it says how long records are kept, in earnest: that objects to nothing, but it holds."""
    return _enforced(side) and isinstance(side[1], Retention)


def _keys(pack: str, name: str, old: _Side, new: _Side) -> Iterator[Change]:
    """What changed in a rule of one kind, or in a header."""
    for key in dict.fromkeys([*old[0], *new[0]]):
        told = [words.value(key, keys.get(key), rule) for keys, rule in (old, new)]
        if told[0] != told[1]:
            way = _way(key, old, new)
            yield Change(pack=pack, rule=name, key=key, old=told[0], new=told[1], effect=way)


def _way(key: str, old: _Side, new: _Side) -> Effect:
    """A rule that objects at last is stricter in all that it says, one that goes into the shadow looser."""
    found = effect(key, old[0].get(key), new[0].get(key), old[1], new[1])
    if found == Effect.WORDING or old[1] is None or new[1] is None:
        return found
    if old[1].in_shadow or new[1].in_shadow:
        return _appears(old, new)
    return found
