"""Who is one person with whom. Pure: a shared phone or id number joins, over any number of steps."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence

from gateway.intake.rows import Joined, Known


def join(shown: Mapping[str, Iterable[bytes]], known: Known, create: Callable[[], str]) -> Joined:
    """Persons for borrowers that show these blind indexes; of several, the oldest (smallest id) stays."""
    groups = _groups(shown, known)
    persons: dict[str, str] = {}
    created: list[str] = []
    merged: dict[str, str] = {}
    identities: dict[bytes, str] = {}
    for borrowers, blinds, existing in groups:
        if existing:
            survivor = min(existing)
        else:
            survivor = create()
            created.append(survivor)
        persons |= dict.fromkeys(borrowers, survivor)
        merged |= dict.fromkeys(existing - {survivor}, survivor)
        identities |= {blind: survivor for blind in blinds if blind not in known.owners}
    return Joined(persons=persons, created=created, merged=merged, identities=identities)


Node = tuple[str, str | bytes]
Group = tuple[list[str], list[bytes], set[str]]


def _groups(shown: Mapping[str, Iterable[bytes]], known: Known) -> Sequence[Group]:
    """Borrowers, blind indexes and existing persons that hang together."""
    union = _Union()
    for borrower, blinds in shown.items():
        me: Node = ("borrower", borrower)
        union.link(me, me)
        if borrower in known.persons:
            union.link(me, ("person", known.persons[borrower]))
        for blind in blinds:
            union.link(me, ("blind", blind))
            if blind in known.owners:
                union.link(me, ("person", known.owners[blind]))
    groups: dict[Node, Group] = defaultdict(lambda: ([], [], set()))
    for node in union.nodes():
        borrowers, blinds_, persons = groups[union.root(node)]
        match node:
            case ("blind", bytes(blind)):
                blinds_.append(blind)
            case ("person", str(name)):
                persons.add(name)
            case (_, str(name)):
                borrowers.append(name)
    return list(groups.values())


class _Union:
    """Disjoint sets, halving paths."""

    def __init__(self) -> None:
        self._roots: dict[Node, Node] = {}

    def root(self, node: Node) -> Node:
        roots = self._roots
        roots.setdefault(node, node)
        while roots[node] != node:
            roots[node] = node = roots[roots[node]]
        return node

    def link(self, one: Node, other: Node) -> None:
        self._roots[self.root(other)] = self.root(one)

    def nodes(self) -> list[Node]:
        return list(self._roots)
