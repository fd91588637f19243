"""From the records of one person to what was decided, and what was known of their contacts at each instant.

Nothing but the log is read: leaves as JSON and, where the key is still there, their opened sides.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import reduce
from typing import Any

import orjson

from gateway.policy.model import LOOKBACK, UNKNOWN, Event

SPOKEN = ("conversation", "answered")
NO_CONTACT = ("void", "rejected")
"""Ends of an attempt that reached nobody."""
OPEN = ("intent", "calling", "unknown")
_LEVELS = (
    ("intent", "calling", "void"),
    ("unknown", "rejected"),
    ("accepted",),
    ("failed", "no_answer", "busy", "voicemail"),
    ("delivered", "answered"),
    ("read", "conversation"),
)
"""A word on a later line stands whatever words of earlier lines come after it, but for `rejected` after `accepted`:
its provider took it, and gave it up before anybody was reached."""
_LEVEL = {word: level for level, words in enumerate(_LEVELS) for word in words}


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A record: its leaf, and its side unless the key is gone or the two disagree (`torn`)."""

    leaf: Mapping[str, Any]
    side: Mapping[str, Any] | None
    torn: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """One decision. `inputs`: what it read; None when that was never recorded, or cannot be opened any more.

    `place`: its place among those decided together. `policy`: the digest of the packs in use. `contact`: what the
    record says of the contact that followed (`technology`, `adapter`, `flags`, `address`), none unless it sent.
    """

    record: str
    at: datetime
    place: int
    person: str
    reminder: str | None
    attempt: str | None
    state: str
    reason: str | None
    decision: Mapping[str, Any]
    inputs: Mapping[str, Any] | None
    policy: str | None = None
    erased: bool = False
    torn: bool = False
    contact: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Word:
    """What was known of a contact from `told` on: a state, and when it could change no more."""

    told: datetime
    state: str
    final_at: datetime | None


def _level(word: Word) -> int:
    return _LEVEL.get(word.state, len(_LEVELS))


def _stands(before: Word | None, after: Word) -> Word:
    """Which of two words stands, the second of which was told later."""
    given_up = before is not None and after.state == "rejected" and before.state == "accepted"
    return after if before is None or given_up or _level(after) >= _level(before) else before


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A contact of the person's, or a place kept for one, with all that was told of it.

    `event` is final but for its outcome. `until`: when a place that is only kept is free. `erased`: whom it was
    about cannot be told any more.
    """

    ref: str
    person: str
    event: Event
    words: Sequence[Word]
    place: int = 0
    until: datetime | None = None
    freed: datetime | None = None
    erased: bool = False

    @property
    def ours(self) -> bool:
        """Whether it is an attempt of the gateway's own: its intent was there before whatever was decided after it."""
        return self.place >= 0

    def known(self, at: datetime) -> Word | None:
        """The word that stood then, None when there was none yet."""
        said = [word for n, word in enumerate(self.words) if word.told <= at or (self.ours and n == 0)]
        return reduce(_stands, sorted(said, key=lambda word: (word.told, _level(word))), None)

    def open(self, at: datetime) -> bool:
        """Whether it could still become something else."""
        if self.until is not None:
            return at < self.until and (self.freed is None or at < self.freed)
        word = self.known(at)
        return word is not None and (word.final_at is None or at < word.final_at)

    def outcome(self, at: datetime) -> str | None:
        """Its outcome in the words of the rules as it was known then; None when it was no contact."""
        word = self.known(at)
        if word is None or word.state in NO_CONTACT:
            return None
        if self.until is not None:
            return UNKNOWN if self.open(at) else None
        if word.state in OPEN or self.open(at):
            return UNKNOWN
        by_voice = self.event.channel == "voice"
        if word.state == "accepted":
            return UNKNOWN if by_voice else "sent"
        if word.state == "failed" and not by_voice:
            return "undelivered"
        return word.state


@dataclass(frozen=True, slots=True)
class Stray:
    """What was told first of an attempt of which no decision is recorded."""

    record: str
    told: datetime
    reminder: str | None
    attempt: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """One person's decisions and contacts, each in the order of their instants."""

    judged: Sequence[Judged]
    seen: Sequence[Seen]
    merged: Sequence[tuple[datetime, str, str]] = ()
    """(when, who is no more, whose everything is since)."""
    strays: Sequence[Stray] = ()

    def contacts(self, at: datetime, *, before: Judged) -> Iterator[Seen]:
        """The contacts with that decision's person that were known at `at`; attempts only if begun before it."""
        since = before.at - LOOKBACK
        for seen in self.seen:
            began = (seen.event.at, seen.place) < (before.at, before.place)
            word = seen.known(at)
            if not began or word is None or self._person(seen.person, at) != before.person:
                continue
            if seen.event.at > since or word.state in SPOKEN:
                yield seen

    def history(self, at: datetime, *, before: Judged) -> tuple[Event, ...]:
        """What had happened to that decision's person, as it was known at `at` (its own instant, as a rule)."""
        found = []
        for seen in self.contacts(at, before=before):
            outcome = seen.outcome(at)
            if outcome is not None:
                found.append(_with(seen.event, outcome, before.person))
        return tuple(found)

    def outcome_of(self, attempt: str) -> str | None:
        """The last state of an attempt that is recorded."""
        for seen in self.seen:
            if seen.ref == attempt:
                word = seen.known(max(word.told for word in seen.words))
                return word.state if word else None
        return None

    def _person(self, name: str, at: datetime) -> str:
        for when, gone, stays in self.merged:
            if gone == name and when <= at:
                name = stays
        return name


def timeline(records: Iterable[Opened]) -> Timeline:
    """What the records of one person's borrowers say."""
    kept = sorted(records, key=lambda record: (record.leaf["at"], _body(record).get("place", 0)))
    told: dict[str, list[Word]] = defaultdict(list)
    used: dict[str, datetime] = {}
    judged: list[Judged] = []
    begun: list[Seen] = []
    merged: list[tuple[datetime, str, str]] = []
    first: dict[str, Stray] = {}
    for record in kept:
        leaf, body, at = record.leaf, _body(record), _at(record.leaf["at"])
        match leaf["kind"]:
            case "decision" | "expired" if "decision" in body:
                judged.append(_judged(record))
                if leaf.get("attempt"):
                    begun.append(_attempted(record))
                    told[leaf["attempt"]].append(Word(told=at, state="intent", final_at=None))
            case "attempt" | "outcome" | "receipt" if leaf.get("attempt"):
                stray = Stray(leaf["id"], at, leaf.get("reminder"), leaf["attempt"])
                first.setdefault(stray.attempt, stray)
                told[leaf["attempt"]].append(_word(leaf, body))
            case "contact":
                begun.append(_contact(record))
                told[leaf["attempt"]].append(_word(leaf, body))
                if "reservation" in body:
                    used[body["reservation"]] = at
            case "reservation":
                begun.append(_reserved(record))
                told[body["reservation"]].append(Word(told=at, state="unknown", final_at=None))
            case "borrower":
                merged += [(at, gone, body["person"]) for gone in body.get("merged", ())]
            case _:
                pass
    seen = [_seen(one, told[one.ref], used.get(one.ref)) for one in begun]
    decided = {one.ref for one in begun}
    return Timeline(
        judged=judged,
        seen=sorted(seen, key=lambda one: one.event.at),
        merged=merged,
        strays=[stray for ref, stray in first.items() if ref not in decided],
    )


def _body(record: Opened) -> Mapping[str, Any]:
    found: Mapping[str, Any] = record.leaf.get("body", {})
    return found


def _at(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _word(leaf: Mapping[str, Any], body: Mapping[str, Any]) -> Word:
    """A word of an attempt; a withdrawal and a contact of others are final at once."""
    at = _at(leaf["at"])
    ends = body.get("final_at")
    open_end = "final_at" in body and ends is None
    return Word(told=at, state=leaf["state"], final_at=None if open_end else _at(ends) if ends else at)


def _inputs(record: Opened) -> Mapping[str, Any] | None:
    said = record.side["clear"].get("inputs") if record.side else None
    found: Mapping[str, Any] | None = orjson.loads(said) if said else None
    return found


def _judged(record: Opened) -> Judged:
    leaf, body, inputs = record.leaf, _body(record), _inputs(record)
    clear = record.side["clear"] if record.side else {}
    contact = {
        "technology": body.get("technology"),
        "adapter": body.get("adapter"),
        "flags": body.get("flags", ()),
        "address": clear.get("address_key"),
    }
    return Judged(
        record=leaf["id"],
        at=_at(leaf["at"]),
        place=body.get("place", 0),
        person=inputs["borrower"] if inputs else body.get("person", ""),
        reminder=leaf.get("reminder"),
        attempt=leaf.get("attempt"),
        state=leaf["state"],
        reason=leaf.get("reason"),
        decision=body["decision"],
        inputs=inputs,
        policy=body.get("policy"),
        erased=record.side is None and not record.torn,
        torn=record.torn,
        contact=contact if leaf.get("attempt") else {},
    )


def _event(record: Opened, at: datetime) -> Event:
    """A contact without its outcome; of an erased one only what the leaf says."""
    leaf, body = record.leaf, _body(record)
    ids = record.side["ids"] if record.side else {}
    clear = record.side["clear"] if record.side else {}
    return Event(
        at=at,
        channel=leaf["channel"],
        debt=ids.get("debt"),
        creditor=ids.get("creditor"),
        address=clear.get("address_key"),
        recipient_role=body.get("recipient_role", "debtor"),
        flags=frozenset(body.get("flags", ())),
        technology=body.get("technology"),
        adapter=body.get("adapter"),
        actor=ids.get("actor"),
    )


def _attempted(record: Opened) -> Seen:
    body = _body(record)
    return Seen(
        ref=record.leaf["attempt"],
        person=body.get("person", ""),
        event=_event(record, _at(record.leaf["at"])),
        words=(),
        place=body.get("place", 0),
        erased=record.side is None,
    )


def _contact(record: Opened) -> Seen:
    body = _body(record)
    microseconds = timedelta(microseconds=body["at_us"])
    return Seen(
        ref=record.leaf["attempt"],
        person=body.get("person", ""),
        event=_event(record, datetime.fromtimestamp(0, tz=_at(record.leaf["at"]).tzinfo) + microseconds),
        words=(),
        place=-1,
        erased=record.side is None,
    )


def _reserved(record: Opened) -> Seen:
    body = _body(record)
    return Seen(
        ref=body["reservation"],
        person=body.get("person", ""),
        event=_event(record, _at(record.leaf["at"])),
        words=(),
        place=-1,
        until=_at(body["until"]),
        erased=record.side is None,
    )


def _seen(one: Seen, words: Sequence[Word], freed: datetime | None) -> Seen:
    return Seen(
        ref=one.ref,
        person=one.person,
        event=one.event,
        words=words,
        place=one.place,
        until=one.until,
        freed=freed if one.until is not None else None,
        erased=one.erased,
    )


def _with(event: Event, outcome: str, person: str) -> Event:
    return Event(
        at=event.at,
        channel=event.channel,
        outcome=outcome,
        borrower=person,
        debt=event.debt,
        creditor=event.creditor,
        address=event.address,
        recipient_role=event.recipient_role,
        flags=event.flags,
        technology=event.technology,
        adapter=event.adapter,
        actor=event.actor,
    )
