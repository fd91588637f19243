"""How long what the packs rest on lasts: the calendars that their rules read, and the packs' own review."""

from __future__ import annotations

from collections.abc import Collection
from datetime import date, timedelta

from gateway.policy.calendars import Calendars
from gateway.policy.model import Pack, Window

LONG_AGO = timedelta(days=366)
"""What ended longer ago was never kept up, and says nothing new."""


def calendars_named(packs: Collection[Pack]) -> frozenset[str]:
    """The calendars that an enforced rule names: where one has ended, reminders wait."""
    return frozenset(
        name
        for pack in packs
        for rule in pack.rules
        if not rule.in_shadow and isinstance(rule, Window)
        for name in rule.calendars
    )


def calendars_of_residence(packs: Collection[Pack], calendars: Calendars, today: date) -> frozenset[str]:
    """The countries on whose holidays a pack closes that reads those of the residence: where no pack has hours.

    Only calendars that end, and those not that ended long ago.
    """
    if all(pack.holidays is None for pack in packs):
        return frozenset()
    covered = {place for pack in packs if _has_hours(pack) for place in pack.applies}
    found = {name for name in calendars.proclaimed() if name.isalpha() and name not in covered}
    return frozenset(name for name in found if calendars.days_left(name, today.toordinal()) > -LONG_AGO.days)


def reviews_due(packs: Collection[Pack], today: date) -> dict[str, date]:
    """Pack → the date by which somebody must have looked again; of a version that is over, none."""
    due: dict[str, date] = {}
    for pack in packs:
        if pack.review_by is not None and (pack.until is None or today < pack.until):
            due[pack.id] = min(pack.review_by, due.get(pack.id, pack.review_by))
    return due


def _has_hours(pack: Pack) -> bool:
    """Whether the pack has hours for every channel, lender and loan, at any time."""
    return any(isinstance(rule, Window) and not rule.in_shadow and _for_all(rule) for rule in pack.rules)


def _for_all(rule: Window) -> bool:
    scope = (rule.channels, rule.purposes, rule.actors, rule.institutions, rule.products, rule.technologies)
    when = (rule.adapters, rule.address_kinds, rule.not_if, rule.since_fact, rule.until_fact)
    return all(limit is None for limit in (*scope, *when))
