"""Every state that can be reached, breadth first, and whether each can still come to an end."""

from array import array
from typing import NamedTuple


class Explored(NamedTuple):
    """What an exploration came to. `trace`: the shortest way to what is broken, by the labels of its steps."""

    states: int
    edges: int
    labels: frozenset[str]
    """Of every step that was taken."""
    broken: str | None = None
    trace: tuple[str, ...] = ()


STUCK = "a reminder is stuck: no step that comes by itself leads to an end"


def explore(start, steps, *, canonical, broken, ended, free):
    """Follow `steps` from `start` to the last state, or to the first that breaks a promise.

    `steps(state)`: (label, next state), or (label, the promise that is broken). States are one when `canonical` is.
    `broken(state)`: the promise that it breaks, or None. By steps whose labels are `free` an `ended` state must be
    within reach from each.
    """
    first = canonical(start)
    places, order, parents = {first: 0}, [first], array("l", [0])
    sources, targets, labels, edges = array("l"), array("l"), set(), 0

    def explored(wrong=None, place=0, *last):
        trace = (*_way(order, parents, steps, canonical, place), *last) if wrong else ()
        return Explored(len(order), edges, frozenset(labels), wrong, trace)

    for place, state in enumerate(order):  # it grows while it is read
        for label, following in steps(state):
            edges += 1
            labels.add(label)
            if isinstance(following, str):
                return explored(following, place, label)
            reached = canonical(following)
            known = places.get(reached)
            if known is None:
                known = places[reached] = len(order)
                order.append(reached)
                parents.append(place)
                wrong = broken(reached)
                if wrong is not None:
                    return explored(wrong, known)
            if free(label):
                sources.append(place)
                targets.append(known)
    stuck = _stuck(bytearray(map(ended, order)), sources, targets)
    return explored() if stuck is None else explored(STUCK, stuck)


def _way(order, parents, steps, canonical, place):
    """The labels of the shortest way to a state."""
    labels = []
    while place:
        state, place = order[place], parents[place]
        labels.append(
            next(
                label
                for label, following in steps(order[place])
                if not isinstance(following, str) and canonical(following) == state
            )
        )
    return tuple(reversed(labels))


def _stuck(good, sources, targets):
    """The first state from which no good one can be reached by these edges; None when there is none."""
    before = 0
    while before < (before := good.count(1)):
        for place in range(len(sources) - 1, -1, -1):  # most edges lead to states that were found later
            if good[targets[place]]:
                good[sources[place]] = 1
    return good.index(0) if 0 in good else None
