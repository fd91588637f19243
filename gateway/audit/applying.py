"""Which packs have to apply to a person and a debt, restated plainly from the packs' own headers."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import lru_cache
from importlib import resources
from typing import Any

import holidays

from gateway.audit.reading import standing
from gateway.policy.model import AnyRule, Cap, ChannelLock, Cooldown, Fact, Pack, Question, ThirdParty, Window

ANSWERED = "answered"


def required(
    packs: Sequence[Pack],
    inputs: Mapping[str, Any],
    question: Question,
    facts: Mapping[str, Fact],
    at: datetime,
) -> list[Pack]:
    """The packs that have to be asked, as they ship: of the place, the law, the licences, assigned, and for everyone.

    Those for elsewhere are among them where the law of the borrower's place gives no hours on this channel. One that
    speaks of other adapters alone is not.
    """
    home = inputs["residence"] or inputs["governing_law"]
    law = [place for place in (inputs["governing_law"], *inputs["licences"]) if place is not None]
    of_home = [pack for pack in packs if home is not None and covers(pack, home)]
    others = [
        pack
        for pack in packs
        if "everyone" in pack.applies
        or pack.id in inputs["assigned"]
        or any(covers(pack, place) for place in law)
    ]
    plain = replace(question, purpose=None, flags=frozenset())
    hours = [
        rule
        for rule in standing(of_home, plain, zones=inputs["zones"], facts=facts, at=at)
        if isinstance(rule, Window) and rule.address_kinds is None and not _off(rule, facts)
    ]
    elsewhere = [] if hours else [pack for pack in packs if "elsewhere" in pack.applies]
    named = dict.fromkeys([*of_home, *others, *elsewhere])
    return [pack for pack in named if not pack.rules or any(_goes_so(rule, question) for rule in pack.rules)]


def _goes_so(rule: AnyRule, question: Question) -> bool:
    """Whether the rule speaks of what goes through the question's adapter; where that is not known, of anything."""
    return rule.adapters is None or question.adapter is None or question.adapter in rule.adapters


def covers(pack: Pack, place: str) -> bool:
    """Whether a pack is for that place or for what it is a part of."""
    own = _same().get(place, place)
    return any(own == code or own.startswith(code + "-") for code in pack.applies)


def speaks_of_role(packs: Sequence[Pack], question: Question, facts: Mapping[str, Fact], **when: Any) -> bool:
    """Whether a rule in force says when somebody of that role may be approached."""
    found = standing(packs, question, facts=facts, **when)
    return any(isinstance(rule, ThirdParty) and question.recipient_role in rule.roles for rule in found)


def ready(pack: Pack, home: str | None, caps: Mapping[str, int]) -> Pack:
    """A pack as it is read for that place: its holidays, what an answered call counts as, a tenant's own numbers."""
    calendar = _calendar(home) if pack.holidays is not None else None
    return replace(pack, rules=tuple(_ready(rule, pack, calendar, caps) for rule in pack.rules))


def _ready(rule: AnyRule, pack: Pack, calendar: str | None, caps: Mapping[str, int]) -> AnyRule:
    if isinstance(rule, Window) and calendar is not None:
        return replace(rule, closed_on_holidays=calendar)
    if isinstance(rule, Cap):
        rule = replace(rule, max=caps.get(rule.id, rule.max))
    as_ = pack.answered_as
    if as_ is None:
        return rule
    if isinstance(rule, Cap):
        return replace(
            rule,
            count_outcomes=None if rule.count_outcomes is None else _too(rule.count_outcomes, as_),
            exclude_outcomes=_too(rule.exclude_outcomes, as_),
            only_after=None if rule.only_after is None else _too(rule.only_after, as_),
        )
    if isinstance(rule, Cooldown | ChannelLock):
        return replace(rule, after=_too(rule.after, as_))
    return rule


def _too(outcomes: frozenset[str], as_: str) -> frozenset[str]:
    return outcomes | {ANSWERED} if as_ in outcomes else outcomes


def _off(rule: Window, facts: Mapping[str, Fact]) -> bool:
    """Whether a fact switches these hours off."""
    if rule.not_if is None:
        return False
    value = facts.get(rule.not_if.fact) or 0
    return isinstance(value, int | float) and value > rule.not_if.gt


def _calendar(place: str | None) -> str | None:
    """The calendar of a place's public holidays: its own, else its country's."""
    if place is None:
        return None
    own = _same().get(place, place)
    country, _, part = own.partition("-")
    parts = holidays.list_supported_countries().get(country)
    if parts is None:
        return None
    return own if part and part in parts else country


@lru_cache(maxsize=1)
def _same() -> dict[str, str]:
    """Parts of a country that are places of their own, with the code they have as such."""
    text = resources.files("gateway.policy").joinpath("places.toml").read_text("utf-8")
    found: dict[str, str] = tomllib.loads(text)["same"]
    return found
