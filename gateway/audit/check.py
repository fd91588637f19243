"""Whether each send was allowed, worked out anew from the log alone.

The packs, the inputs and the history are those of the log; the reading of rules is the witness's, and what the gateway
adds around packs is said again here in plain words. What cannot be worked out is counted as that, never as
fine.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from zoneinfo import ZoneInfoNotFoundError

import tzdata  # type: ignore[import-untyped]  # it has no types

from gateway.audit import asked
from gateway.audit.applying import ready, required, speaks_of_role
from gateway.audit.asked import EVERY_CHANNEL, Inputs
from gateway.audit.days import Stated
from gateway.audit.reading import Word, objecting
from gateway.audit.timeline import Judged, Timeline
from gateway.policy.model import Event, Fact, Pack, Question

JUST_BEFORE, JUST_AFTER = timedelta(milliseconds=250), timedelta(seconds=2)
"""An instant is taken when a transaction begins: what was told so shortly before a decision may not have been committed
when it read, and what was told so shortly after may have been, while it waited for a lock."""


class Violation(NamedTuple):
    """A send that was not allowed: by which rule (or word of the gateway's own) and how."""

    record: str
    at: datetime
    reminder: str | None
    attempt: str | None
    rule: str
    what: str


class Gap(NamedTuple):
    """A send of which it cannot be said."""

    record: str
    at: datetime
    attempt: str | None
    why: str


@dataclass(slots=True, kw_only=True)
class Found:
    """What a check came to. `refused`: how many of those checked a provider refused; `withdrawn`: never called."""

    checked: int = 0
    refused: int = 0
    withdrawn: int = 0
    violations: list[Violation] = field(default_factory=list)
    gaps: list[Gap] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What is read beside the log: packs by the digest that decisions name, and the data that dates rest on now."""

    packs: Mapping[str, Sequence[Pack] | None]
    calendars: str
    stated: Sequence[Stated] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Send:
    """One send with all that it is judged by. `histories`: as it may have been read."""

    judged: Judged
    inputs: Inputs
    question: Question
    facts: Mapping[str, Fact]
    loaded: Sequence[Pack]
    histories: Sequence[tuple[Event, ...]]
    known: Known

    @property
    def at(self) -> datetime:
        """When it was decided."""
        return self.judged.at


def check(line: Timeline, *, since: datetime, until: datetime, known: Known) -> Found:
    """Check every send of a person that was decided in [since, until)."""
    found = Found()
    for stray in line.strays:
        if since <= stray.told < until:
            found.checked += 1
            what = "an attempt of which no decision is recorded"
            found.violations.append(
                Violation(stray.record, stray.told, stray.reminder, stray.attempt, "undecided", what)
            )
    for judged in line.judged:
        if judged.state != "sending" or not since <= judged.at < until:
            continue
        ended = None if judged.attempt is None else line.outcome_of(judged.attempt)
        if ended == "void":
            found.withdrawn += 1
            continue
        found.checked += 1
        found.refused += ended == "rejected"
        _check_one(line, judged, known, found)
    return found


def _check_one(line: Timeline, judged: Judged, known: Known, found: Found) -> None:
    why = _unreadable(line, judged, known)
    if why is None:
        try:
            broken = list(_broken(line, judged, known))
        except ZoneInfoNotFoundError:
            broken, why = [], "data_changed"
        except ValueError:
            broken = [("lookup_failed", "a fact is not of the type that a rule reads")]
        if broken and _other_data(judged, known):
            why = "data_changed"
    if why is not None:
        found.gaps.append(Gap(judged.record, judged.at, judged.attempt, why))
        return
    first = dict(reversed(broken))
    found.violations += [
        Violation(judged.record, judged.at, judged.reminder, judged.attempt, rule, first[rule])
        for rule in reversed(first)
    ]


def _unreadable(line: Timeline, judged: Judged, known: Known) -> str | None:
    """Why a decision cannot be taken again, None when it can."""
    if judged.torn:
        return "record_altered"
    if judged.erased:
        return "inputs_erased"
    if judged.inputs is None or judged.policy is None:
        return "inputs_not_recorded"
    if known.packs.get(judged.policy) is None:
        return "pack_text_missing"
    if any(seen.erased for seen in line.contacts(judged.at + JUST_AFTER, before=judged)):
        return "contacts_erased"
    return None


def _other_data(judged: Judged, known: Known) -> bool:
    """Whether time zones or calendars have changed since, so that an objection may be theirs."""
    decision = judged.decision
    return (decision["tzdata"], decision["calendars"]) != (tzdata.IANA_VERSION, known.calendars)


def _broken(line: Timeline, judged: Judged, known: Known) -> Iterator[tuple[str, str]]:
    """Every rule, and every word of the gateway's own, that this send broke, and how."""
    inputs, at = judged.inputs or {}, judged.at
    views = (at - JUST_BEFORE, at, at + JUST_AFTER)
    histories = [line.history(when, before=judged) for when in views]
    yield from _around(judged, inputs, histories)
    if all(_voice_open(line, judged, when) for when in views):
        yield "open_voice", "a call to the person could still become a conversation"
    if not inputs["zones"]:
        yield "zone_unknown", "no time zone of the borrower was known"
        return
    address = asked.address_of(judged, inputs)
    if address is None:
        yield "no_address", "the address used is none of those that the decision knew"
    send = _Send(
        judged=judged,
        inputs=inputs,
        question=asked.question_of(judged, inputs, address["kind"] if address else None),
        facts=asked.facts_of(inputs, judged.decision["channel"], at),
        loaded=known.packs[judged.policy or ""] or (),
        histories=histories,
        known=known,
    )
    yield from _by_packs(send)


def _by_packs(send: _Send) -> Iterator[tuple[str, str]]:
    """What packs have to say: which had to be asked and were not, and what those that had to be asked object to."""
    inputs = send.inputs
    home = inputs["residence"] or inputs["governing_law"]
    packs = required(send.loaded, inputs, send.question, send.facts, send.at)
    yield from _not_asked(send, packs)
    rules = [ready(pack, home, inputs["caps"]) for pack in packs]
    when = {"zones": inputs["zones"], "at": send.at}
    if inputs["recipient_role"] != "debtor" and not speaks_of_role(rules, send.question, send.facts, **when):
        yield "third_party", "no rule says when others than the debtor may be approached"
    for at, where in _instants(send):
        views = [_objections(send, rules, history, at) for history in send.histories]
        for word in views[1]:
            if all(any(word.rule == other.rule for other in view) for view in views):
                counted = "" if word.counted is None else f", {word.counted} counted before it"
                yield word.rule, f"objects in {word.zone} {where}{counted}"


def _instants(send: _Send) -> Iterator[tuple[datetime, str]]:
    """When nothing may object: at both ends of the permit to call, and when the channel would disturb no more."""
    ends = send.at + timedelta(seconds=send.inputs["permit_s"])
    yield send.at, "when it was decided"
    yield ends, "at the end of the permit to call"
    reach_s = send.inputs.get("reach_s", {}).get(send.question.channel, 0)  # older records hold none
    if reach_s:
        yield ends + timedelta(seconds=reach_s), "before the channel would disturb no more"


def _objections(send: _Send, packs: Sequence[Pack], history: tuple[Event, ...], at: datetime) -> list[Word]:
    words = objecting(
        packs,
        send.question,
        zones=send.inputs["zones"],
        history=history,
        facts=send.facts,
        at=at,
        told=asked.told_of(send.inputs),
        overrides=send.known.stated,
    )
    return [word for word in words if not word.shadow]


def _not_asked(send: _Send, packs: Sequence[Pack]) -> Iterator[tuple[str, str]]:
    """Packs that had to apply and did not, and packs named that were not in use."""
    named = {(one["pack"], one["version"], one["sha256"]) for one in send.judged.decision["packs"]}
    loaded = {(pack.id, pack.version, pack.digest) for pack in send.loaded}
    for pack in packs:
        if pack.broken:
            yield pack.id, "the pack that applies could not be read: nothing may be sent"
        elif (pack.id, pack.version, pack.digest) not in named:
            yield pack.id, "the pack applies and was not asked"
    for name in send.inputs["assigned"]:
        if name not in {pack.id for pack in send.loaded}:
            yield name, "the pack is assigned and was not in use"
    for name, version, _ in sorted(named - loaded):
        yield name, f"version {version} was asked and was not in use"
    for word in ("everyone", "elsewhere"):
        if not any(word in pack.applies for pack in send.loaded):
            yield "policy_unavailable", f"no pack that applies {word} was in use"


def _voice_open(line: Timeline, judged: Judged, at: datetime) -> bool:
    """Whether a call to the person was not over, as it was known then."""
    return any(
        seen.event.channel == "voice" and seen.outcome(at) is not None and seen.open(at)
        for seen in line.contacts(at, before=judged)
    )


def _around(
    judged: Judged, inputs: Inputs, histories: Sequence[tuple[Event, ...]]
) -> Iterator[tuple[str, str]]:
    """What holds whatever the packs say: the reminder's time, the debt, holds, opt-outs, one contact only once."""
    at, channel = judged.at, judged.decision["channel"]
    yield from _in_time(inputs, at)
    yield from _debt(inputs, at)
    for hold in inputs["holds"]:
        ends = asked.instant(hold["until"])
        live = datetime.fromisoformat(hold["since"]) <= at and (ends is None or at < ends)
        if live and inputs["purpose"] not in hold["allow_purposes"]:
            yield "held", "a hold was in force"
    for words in ({EVERY_CHANNEL}, {EVERY_CHANNEL, channel}):
        out = asked.opted_out(inputs, words, at)
        if out is not None and not any(asked.may_confirm(inputs, history, out) for history in histories):
            yield "opted_out", "the person had opted out"
    if inputs["duplicate"]:
        yield "duplicate", "another reminder stood for the same contact"
    if channel not in inputs["channels"]:
        yield "no_address", "the channel is none of those that were asked for"


def _in_time(inputs: Inputs, at: datetime) -> Iterator[tuple[str, str]]:
    begins, only_on = asked.instant(inputs["not_before"]), asked.day(inputs["valid_on"])
    if at >= datetime.fromisoformat(inputs["expires_at"]):
        yield "expired", "the reminder had expired"
    if begins is not None and at < begins:
        yield "not_before", "it was not due yet"
    if only_on is not None and any(today != only_on for today in asked.local_dates(inputs, at)):
        yield "expired", "it is not the date on which its text is true"


def _debt(inputs: Inputs, at: datetime) -> Iterator[tuple[str, str]]:
    debt: Mapping[str, Any] = inputs["debt"]
    state, promised = debt["state"], asked.day(debt["until"])
    if state in ("paid", "disputed", "hardship"):
        yield f"debt_{state}", f"the debt was {state}"
    if state == "promised" and (
        promised is None or any(today <= promised for today in asked.local_dates(inputs, at))
    ):
        yield "debt_promised", "payment was promised and the date not over"
    told = datetime.fromisoformat(debt["state_at"])
    if state in ("open", "promised") and told + timedelta(seconds=debt["stale_after_s"]) < at:
        yield "debt_stale", "what was known of the debt was too old"
