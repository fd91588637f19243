"""Slips that an engine could make, as changes of the rules that it alone is given."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import NamedTuple

from gateway.policy.model import WEEKDAYS, Hours, Window

ONE_DAY, ONE_SECOND = timedelta(days=1), timedelta(seconds=1)


class Mutant(NamedTuple):
    """A slip: the kinds of rule that show it, and what it makes of a rule, or of what was told (`of`).

    What it does not change it gives back itself.
    """

    kinds: list
    change: Callable
    of: str = "rules"


def without(key, empty=None, kinds=("window",), of="rules"):
    """The engine forgets a key."""
    return Mutant(
        list(kinds),
        lambda one: one if getattr(one, key, empty) == empty else replace(one, **{key: empty}),
        of,
    )


def shifted(key, by, *kinds, of="rules"):
    """The engine is off by that much in a number or a date."""
    return Mutant(list(kinds), lambda one: moved(one, key, by), of)


def moved(one, key, by):
    value = getattr(one, key, None)
    return one if value is None else replace(one, **{key: value + by})


def moved_in(key, part, by):
    """As `shifted`, for a number inside a key."""

    def change(rule):
        value = getattr(rule, key, None)
        inner = None if value is None else getattr(value, part, None)
        return rule if inner is None else replace(rule, **{key: replace(value, **{part: inner + by})})

    return change


def closing_late(rule):
    if not isinstance(rule, Window):
        return rule
    week = tuple(tuple(Hours(open=one.open, close=one.close + 1) for one in day) for day in rule.week)
    return replace(rule, week=week)


def permitting(wish):
    return replace(wish, kind="allow") if wish.kind == "deny" else wish


def any_form(rule):
    wanted = rule.relaxed_by
    return (
        rule
        if wanted is None or wanted.form is None
        else replace(rule, relaxed_by=replace(wanted, form=None))
    )


WISH, CONSENT = ["borrower_window"], ["consent_required", "hold"]
COMMON = ("window", "cap", "spacing", "hold")
COUNTING = ("cap", "cooldown", "spacing")
EDGES = {
    "a window that is still open when it closes": Mutant(["window"], closing_late),
    "a cap that lets one more through": shifted("max", 1, "cap"),
    "a cooldown one date short": Mutant(["cooldown"], moved_in("rest", "n", -1)),
    "a cooldown one second short": Mutant(["cooldown"], moved_in("rest", "seconds", -1)),
    "a consent that relaxes in any form": Mutant(list(COMMON), any_form),
    "a relaxation one date long": Mutant(list(COMMON), moved_in("relaxed_by", "dates", 1)),
    "a rule that begins by its fact a date late": Mutant(
        list(COMMON), moved_in("since_fact", "plus_dates", 1)
    ),
    "a fact that may be a date too old": shifted("within_dates", 1, "prerequisite"),
}
"""The slips that are tried in every run."""

MORE = {
    "a spacing one second short": Mutant(["spacing"], moved_in("rest", "seconds", -1)),
    "a spacing one date short": Mutant(["spacing"], moved_in("rest", "n", -1)),
    "a cap over one date more": Mutant(["cap"], moved_in("window", "n", 1)),
    "a cap over one second less": Mutant(["cap"], moved_in("window", "seconds", -1)),
    "a lock of one date more": Mutant(["channel_lock"], moved_in("window", "n", 1)),
    "a fact that may be a date too young": shifted("dates", -1, "prerequisite"),
    "a hold that ends a date early": shifted("plus_dates", -1, "hold_until"),
    "a confirmation that comes a second late": shifted("confirm_within_s", 1, "opt_out"),
    "one failed call too few": shifted("fails", 1, "third_party"),
    "a failed call of a date less": shifted("delay_dates", 1, "third_party"),
    "the purposes of an approach forgotten": without("only_purposes", None, ["third_party"]),
    "a rule that begins a date late": shifted("since", ONE_DAY, *COMMON),
    "a rule that ends a date late": shifted("until", ONE_DAY, *COMMON),
    "a rule that ends by its fact a date late": Mutant(list(COMMON), moved_in("until_fact", "plus_dates", 1)),
    "purposes forgotten": without("purposes", None, COMMON),
    "actors forgotten": without("actors", None, COMMON),
    "institutions forgotten": without("institutions", None, COMMON),
    "products forgotten": without("products", None, COMMON),
    "technologies forgotten": without("technologies", None, COUNTING),
    "adapters forgotten": without("adapters", None, COUNTING),
    "channels forgotten": without("channels", None, COUNTING),
    "exempt purposes forgotten": without("exempt_purposes", frozenset(), COMMON),
    "exempt flags forgotten": without("exempt_flags", frozenset(), COMMON),
    "relaxation forgotten": without("relaxed_by", None, COMMON),
    "shared keys forgotten": without("per", (), COUNTING),
    "a fixed zone forgotten": without("zone", None, COMMON),
    "doubt forgotten": without("unsure", "", COMMON),
    "counted outcomes forgotten": without("count_outcomes", None, ["cap"]),
    "excluded outcomes forgotten": without("exclude_outcomes", frozenset(), ["cap"]),
    "excluded flags forgotten": without("exclude_flags", frozenset(), ["cap"]),
    "a cap that does not wait": without("only_after", None, ["cap"]),
    "holidays forgotten": without("closed_on_holidays", None, ["window"]),
    "the hours of holidays forgotten": without("holiday_as", None, ["window"]),
    "address kinds forgotten": without("address_kinds", None, ["window", "cap"]),
    "a switch forgotten": without("not_if", None, ["window"]),
    "reasons forgotten": without("reasons", None, ["blackout"]),
    "a form forgotten": without("form", None, ["consent_required"]),
    "a fact that stands for consent forgotten": without("unless", None, ["consent_required", "hold_until"]),
    "the time-zone data forgotten": without("tzdata", None, ["coverage"]),
    "allowed purposes forgotten": without("allow_purposes", frozenset(), ["hold", "hold_until", "review"]),
    "the weekdays of a wish forgotten": without("on", frozenset(WEEKDAYS), WISH, "windows"),
    "the channels of a wish forgotten": without("channels", None, WISH, "windows"),
    "the places of a wish forgotten": without("address_kinds", None, WISH, "windows"),
    "the hours of a wish forgotten": without("hours", Hours(open=0, close=86_400), WISH, "windows"),
    "a wish that begins a date late": shifted("since", ONE_DAY, *WISH, of="windows"),
    "a wish that ends a date late": shifted("until", ONE_DAY, *WISH, of="windows"),
    "a refusal read as a permission": Mutant(WISH, permitting, "windows"),
    "a blackout a date long": shifted("until", ONE_DAY, "blackout", of="blackouts"),
    "a blackout that begins a date late": shifted("since", ONE_DAY, "blackout", of="blackouts"),
    "a revocation forgotten": without("revoked_at", None, CONSENT, "consents"),
    "a consent's end forgotten": without("until", None, CONSENT, "consents"),
    "a consent for any channel": without("channel", None, CONSENT, "consents"),
    "a consent a second early": shifted("given_at", -ONE_SECOND, *CONSENT, of="consents"),
    "a revocation a second late": shifted("revoked_at", ONE_SECOND, *CONSENT, of="consents"),
}
"""The others."""


def mutated(case, mutant):
    """The case with a slip in its rules or in what was told, None where it changes nothing."""
    if mutant.of != "rules":
        was = getattr(case.told, mutant.of)
        slips = tuple(mutant.change(one) for one in was)
        return None if slips == was else replace(case, told=replace(case.told, **{mutant.of: slips}))
    packs = tuple(replace(pack, rules=tuple(map(mutant.change, pack.rules))) for pack in case.packs)
    pairs = zip(case.packs, packs, strict=True)
    changed = any(one is not other for a, b in pairs for one, other in zip(a.rules, b.rules, strict=True))
    return replace(case, packs=packs) if changed else None
