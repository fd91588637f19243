"""How long records must and may be kept under several packs together: the longest minimum, the shortest maximum."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from gateway.policy.model import Kept, Pack, Retention
from gateway.policy.parse import RECORDS

_LONG_YEAR, _SHORT_YEAR = 366, 365


class Term(NamedTuple):
    """What is asked of one class of records (decision, message, recording).

    `least`: rules with a minimum, the longest first; `most`: rules with a maximum, the shortest first.
    """

    records: str
    least: tuple[Retention, ...]
    most: tuple[Retention, ...]

    @property
    def conflict(self) -> bool:
        """Whether something must be kept longer than it may be: then a human decides, record by record."""
        if not self.least or not self.most:
            return False
        return _shortest(self.most[0]) < _length(self.least[0].min, _SHORT_YEAR)


def terms(packs: Sequence[Pack]) -> tuple[Term, ...]:
    """The terms of each class of records under these packs; rules in shadow bind nobody."""
    rules = [r for pack in packs for r in pack.rules if isinstance(r, Retention) and not r.in_shadow]
    return tuple(_term(records, [rule for rule in rules if records in rule.records]) for records in RECORDS)


def _term(records: str, rules: Sequence[Retention]) -> Term:
    least = sorted((r for r in rules if r.min is not None), key=_longest, reverse=True)
    most = sorted((r for r in rules if r.max is not None), key=_shortest)
    return Term(records, tuple(least), tuple(most))


def _longest(rule: Retention) -> int:
    return _length(rule.min, _LONG_YEAR)


def _shortest(rule: Retention) -> int:
    return _length(rule.max, _SHORT_YEAR)


def _length(kept: Kept | None, year: int) -> int:
    """Days, with years of that many."""
    return 0 if kept is None else (kept.days or 0) + (kept.years or 0) * year
