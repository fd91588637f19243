"""What other packs or caps would have made of recorded decisions, one by one.

First-order effects only: each decision is taken again with the history as it was, also where an earlier
contact in it would not have come about.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from enum import StrEnum
from typing import Any, NamedTuple

from gateway.domain import Action, Channel
from gateway.errors import PolicyError
from gateway.policy.calendars import Calendars
from gateway.policy.gate import Decision, Snapshot, decide
from gateway.policy.inputs import read
from gateway.policy.localtime import seconds, zone
from gateway.policy.model import AnyRule, Cap, Content, Event, Finding, Pack
from gateway.policy.packs import ASSIGNED, with_overrides
from gateway.policy.unread import CONSENTS, barred, reads, spared, standing, unread

NOT_RULES = frozenset(
    {"account_down", "rejected_content", "lookup_failed", "policy_unavailable", "template_unusable"}
)
"""Reasons that no pack gave: such a decision would have been the same."""

Caps = Mapping[str, int]


class Kind(StrEnum):
    """What becomes of a reminder's decision."""

    BLOCKED = "blocked"
    DEFERRED = "deferred"
    ALLOWED = "allowed"
    REROUTED = "rerouted"


class Why(StrEnum):
    """Why a decision cannot be taken again."""

    NOT_RECORDED = "not_recorded"
    ERASED = "erased"
    CHANGED_SINCE = "changed_since"
    FACT = "fact"
    CONSENTS = "consents"


class Change(NamedTuple):
    """A decision that would have been another: by which rule, and how much later or sooner."""

    kind: Kind
    rule: str
    by: timedelta | None = None


class Gap(NamedTuple):
    """A decision of which that cannot be said: why, and which fact is not known."""

    why: Why
    fact: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A recorded decision: its JSON, and what it read (None, or a `Why`, where that cannot be had)."""

    at: datetime
    said: Mapping[str, Any]
    inputs: Mapping[str, Any] | Why
    history: Sequence[Event]


class Proposal:
    """Packs and caps to be tried, beside those that are loaded. PolicyError when a cap is of no rule."""

    def __init__(self, loaded: tuple[Pack, ...], proposed: tuple[Pack, ...], caps: Caps) -> None:
        self.ids = frozenset(pack.id for pack in proposed)
        self.assigned = tuple(sorted(pack.id for pack in proposed if ASSIGNED in pack.applies))
        self._loaded = loaded
        self._merged = (*(pack for pack in loaded if pack.id not in self.ids), *proposed)
        self._caps = dict(caps)
        self._tuned: dict[tuple[bool, tuple[tuple[str, int], ...]], tuple[Pack, ...]] = {}
        with_overrides(self._merged, self._caps)

    def before(self, caps: Caps) -> tuple[Pack, ...]:
        """The packs that are loaded, with a tenant's caps."""
        return self._with(self._loaded, caps, proposed=False)

    def after(self, caps: Caps) -> tuple[Pack, ...]:
        """The packs with those proposed, with a tenant's caps where no other is proposed."""
        return self._with(self._merged, {**caps, **self._caps}, proposed=True)

    def _with(self, packs: tuple[Pack, ...], caps: Caps, *, proposed: bool) -> tuple[Pack, ...]:
        key = (proposed, tuple(sorted(caps.items())))
        if key not in self._tuned:
            there = {rule.id for pack in packs for rule in pack.rules if isinstance(rule, Cap)}
            self._tuned[key] = with_overrides(packs, {name: caps[name] for name in caps if name in there})
        return self._tuned[key]


def replay(
    seen: Seen, proposal: Proposal, *, reach: Mapping[Channel, timedelta], calendars: Calendars
) -> Change | Gap | None:
    """What would have become of a decision; None when nothing else.

    `reach`: how long after hand-over each channel still disturbs, where the record does not say.
    """
    if seen.said["reason"] in NOT_RULES:
        return None
    if isinstance(seen.inputs, Why):
        return Gap(seen.inputs)
    try:
        asked, caps = read(seen.inputs), seen.inputs["caps"]
        permit = timedelta(seconds=seen.inputs["permit_s"])
        reach = _reach(seen.inputs, reach)
    except (KeyError, TypeError, ValueError):  # written by a version that kept less
        return Gap(Why.NOT_RECORDED)

    def decided(snapshot: Snapshot, packs: tuple[Pack, ...]) -> Decision:
        return decide(
            snapshot,
            packs,
            now=seen.at,
            permit=permit,
            history=seen.history,
            reach=reach,
            calendars=calendars,
        )

    before = decided(asked, proposal.before(caps))
    if not _agrees(before, seen.said):
        return Gap(Why.CHANGED_SINCE)
    asked = replace(asked, assigned=tuple(dict.fromkeys((*asked.assigned, *proposal.assigned))))
    packs = proposal.after(caps)
    after = decided(asked, packs)
    missing = unread(after.packs, before.packs, asked, proposal.ids)
    if missing:
        after = decided(asked, spared(packs, missing, proposal.ids))
        role, known = asked.recipient_role, standing(asked)
        worst = decided(asked, barred(packs, missing, proposal.ids, role=role, standing=known))
        if after.action is Action.SEND and (worst.action, worst.channel) != (after.action, after.channel):
            return _gap(worst, missing, packs)
    return _change(seen, after)


def _reach(inputs: Mapping[str, Any], otherwise: Mapping[Channel, timedelta]) -> Mapping[Channel, timedelta]:
    if "reach_s" not in inputs:
        return otherwise
    return {Channel(word): timedelta(seconds=span) for word, span in inputs["reach_s"].items()}


def local_date(at: datetime, said: Mapping[str, Any]) -> str:
    """The date of a decision where the borrower is (the first possible zone), else in UTC."""
    zones = [clue["zone"] for clue in said["zones"] if clue.get("counts", True)]
    try:
        day = zone(zones[0]).day(seconds(at))
    except (IndexError, PolicyError):
        return at.date().isoformat()
    return date.fromordinal(day).isoformat()


def _agrees(decision: Decision, said: Mapping[str, Any]) -> bool:
    """Whether the loaded packs would decide today as was recorded."""
    if decision.action.value != said["action"]:
        return False
    return decision.action is not Action.SEND or decision.channel == said["channel"]


def _change(seen: Seen, after: Decision) -> Change | None:
    was, said = Action(seen.said["action"]), seen.said
    match was, after.action:
        case Action.SEND, Action.SUPPRESS:
            return Change(Kind.BLOCKED, after.reason or "")
        case Action.SEND, Action.DEFER:
            return Change(
                Kind.DEFERRED, after.reason or "", None if after.until is None else after.until - seen.at
            )
        case Action.SEND, Action.SEND if after.channel != said["channel"]:
            return Change(Kind.REROUTED, _objector(after, said["channel"]))
        case Action.DEFER, Action.SEND:
            return Change(Kind.ALLOWED, said["reason"], datetime.fromisoformat(said["until"]) - seen.at)
        case Action.SUPPRESS, Action.SEND:
            return Change(Kind.ALLOWED, said["reason"])
        case _:
            return None


def _objector(decision: Decision, channel: str) -> str:
    """The first rule that objects to a channel."""
    return next((of.of.id for of in _objecting(decision) if of.channel == channel), "")


def _objecting(decision: Decision) -> Iterator[Finding]:
    return (found for found in decision.findings if found.objects and not found.of.in_shadow)


def _gap(worst: Decision, missing: Collection[str], packs: Sequence[Pack]) -> Gap:
    """Which of the missing facts it hangs on."""
    barring = {found.of.id for found in _objecting(worst)}
    rules = [rule for pack in packs for rule in pack.rules if rule.id in barring]
    names = sorted({name for rule in rules for name in reads(rule)} & set(missing))
    if names == [CONSENTS]:
        return Gap(Why.CONSENTS)
    return Gap(Why.FACT, ", ".join(name for name in names if name != CONSENTS))


def cautions(proposed: Sequence[Pack], since: date, until: date) -> list[str]:
    """What of these packs a replay of decisions from `since` to before `until` cannot show."""
    rules = [(pack, rule) for pack in proposed for rule in pack.rules]
    asleep = [
        rule.id for pack, rule in rules if not (_awake(pack, since, until) and _awake(rule, since, until))
    ]
    shadow = [rule.id for _, rule in rules if rule.in_shadow]
    texts = [rule.id for _, rule in rules if isinstance(rule, Content)]
    assigned = [pack.id for pack in proposed if ASSIGNED in pack.applies]
    said = {
        "in force on none of these dates, so they change nothing here": asleep,
        "drafts or unsure, so they never object": shadow,
        "about texts, which are not replayed": texts,
        "applied to everybody here, as if assigned to the whole tenant": assigned,
    }
    return [f"{', '.join(names)}: {what}" for what, names in said.items() if names]


def _awake(one: Pack | AnyRule, since: date, until: date) -> bool:
    return (one.since is None or one.since < until) and (one.until is None or since < one.until)
