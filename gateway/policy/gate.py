"""What the gateway adds around the packs: debt, holds, opt-outs, zones, channels, the permit's end.

What is not known means not now, and is never a final word: it defers and is looked at again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field, replace
from datetime import date, datetime, timedelta
from typing import Any, TypeAlias, assert_never

from gateway.domain import Action, Channel, DebtState, Purpose
from gateway.errors import PolicyError
from gateway.policy.calendars import SHIPPED, Calendars
from gateway.policy.decide import holding, judge, open_until, relaxed_flags
from gateway.policy.localtime import TZDATA_VERSION, instant, seconds, start_of_date, zone
from gateway.policy.model import (
    FINAL,
    NOTHING_TOLD,
    AnyRule,
    Blackout,
    Event,
    Fact,
    Finding,
    Pack,
    Question,
    Review,
    ThirdParty,
    Told,
    Verdict,
    Window,
)
from gateway.policy.packs import Applied, Packs, applying, through
from gateway.policy.zones import Zones
from gateway.values import dataclass

LOOK_AGAIN = timedelta(minutes=15)
"""When what was not known is looked at again."""
CALL_RUNS = timedelta(seconds=60)
"""When a person is looked at again while a call to them can still become a conversation."""
MOST_ALIKE, MOST_INSTANTS = 4096, 4
"""Words of one instant, and instants: batches that are decided on side by side each have their own."""
ALL = "all"
"""The word of an opt-out from every channel."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reachable:
    """A living address and a way to it: the key it is known by, never the address itself; its kind, who would speak.

    `adapter`: through which it would go; an address that several serve is there once for each, the preferred first.
    """

    address_key: str
    kind: str
    technology: str | None = None
    adapter: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """A stop that a person or a service has set on borrower or debt; `until` None means for good."""

    id: str
    reason: str
    since: datetime
    until: datetime | None = None
    allow_purposes: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class DebtNow:
    """The debt as last told; older than `stale_after` is not known. `until`: what payment is promised for."""

    id: str
    creditor: str
    state: DebtState
    state_at: datetime
    stale_after: timedelta
    until: date | None = None
    due_date: date | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """Everything that one decision reads, beside history and packs.

    `borrower` is the person. `addresses`: living ones by channel. `opt_outs`: (channel or `all`, since).
    `valid_on`: the only local date that the text may leave on. `facts`: those of borrower and debt
    together; `dpd`, `due_date`, `overdue_since` and `optout_at` are derived here. `open_voice`: a call to the
    person can still change. `licences` and `assigned`: places and packs of the tenant's assignment.
    """

    borrower: str
    debt: DebtNow
    purpose: str
    channels: tuple[Channel, ...]
    addresses: Mapping[Channel, tuple[Reachable, ...]]
    zones: Zones
    expires_at: datetime
    not_before: datetime | None = None
    valid_on: date | None = None
    residence: str | None = None
    governing_law: str | None = None
    recipient_role: str = "debtor"
    actor_role: str = "creditor"
    actor: str | None = None
    product: str | None = None
    institution: str | None = None
    licences: tuple[str, ...] = ()
    assigned: tuple[str, ...] = ()
    duplicate: bool = False
    open_voice: bool = False
    opt_outs: tuple[tuple[str, datetime], ...] = ()
    holds: tuple[Hold, ...] = ()
    facts: Mapping[str, Fact] | None = None
    told: Told = NOTHING_TOLD


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What to do with a reminder now, and everything that it rests on.

    `adapter`, `deliver_by`: with a send, the way that is open and when the provider must have delivered. `flags`: what
    the attempt is marked with.
    `until`: when it is decided anew. `opens`: when it may go out, though that may be too late; None when that is not
    known (`again`: it is only looked at again). `ends`: when its time is over, where that comes first.
    `note`: which pack or fact cannot be used. `calendars`: the version of those read. `asked` and `reach`: what it
    was given.
    """

    action: Action
    reason: str | None
    at: datetime
    zones: Zones
    until: datetime | None = None
    again: bool = False
    opens: datetime | None = None
    ends: datetime | None = None
    channel: Channel | None = None
    address_key: str | None = None
    adapter: str | None = None
    deliver_by: datetime | None = None
    findings: tuple[Finding, ...] = ()
    flags: frozenset[str] = frozenset()
    packs: tuple[Pack, ...] = ()
    note: str | None = None
    tzdata: str = TZDATA_VERSION
    calendars: str = SHIPPED.version
    asked: Snapshot | None = None
    reach: Mapping[Channel, timedelta] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Word:
    """An outcome on its way to a decision."""

    action: Action
    reason: str | None = None
    until: datetime | None = None
    again: bool = False
    channel: Channel | None = None
    address_key: str | None = None
    adapter: str | None = None
    deliver_by: datetime | None = None
    findings: tuple[Finding, ...] = ()
    flags: frozenset[str] = frozenset()
    packs: tuple[Pack, ...] = ()
    note: str | None = None


_Words: TypeAlias = "dict[tuple[object, ...], tuple[_Word, datetime]]"
"""By likeness the word of a way and the end of the time that it was looked for."""


@dataclass(slots=True)
class Alike:
    """Words on people without a history, of a few instants: they are the same for all who are alike (_likeness)."""

    _words: dict[datetime, tuple[Calendars, _Words]] = field(default_factory=dict)

    def at(self, when: datetime, calendars: Calendars) -> _Words:
        """Those of that instant."""
        known = self._words.get(when)
        if known is None or known[0] is not calendars or len(known[1]) >= MOST_ALIKE:
            if len(self._words) >= MOST_INSTANTS:
                del self._words[next(iter(self._words))]
            known = self._words[when] = calendars, {}
        return known[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Look:
    """The parts of a decision that every channel's word is made of."""

    snapshot: Snapshot
    applied: Applied
    calendars: Calendars
    history: Sequence[Event]
    at: datetime
    permit: timedelta
    last: datetime  # nothing is delivered after it
    alike: _Words


def decide(
    snapshot: Snapshot,
    packs: Packs,
    *,
    now: datetime,
    permit: timedelta,
    history: Sequence[Event],
    reach: Mapping[Channel, timedelta],
    calendars: Calendars = SHIPPED,
    alike: Alike | None = None,
) -> Decision:
    """Whether, when and on which channel this reminder may reach this person.

    Judged from `now` to the end of the permit to call and of `reach`, how long after hand-over a channel
    still disturbs. `packs` are all that are loaded; those that apply are chosen here. `alike` spares whoever decides on
    many at one instant most of the work.
    """
    word = _final_word(snapshot, history, now)
    if word is None:
        try:
            applied = _applying(snapshot, packs)
        except PolicyError as wrong:
            word = replace(_later(now, "policy_unavailable"), note=str(wrong) or None)
        else:
            look = _Look(
                snapshot=snapshot,
                applied=applied,
                calendars=calendars,
                history=history,
                at=now,
                permit=permit,
                last=_last(snapshot),
                alike=(alike or Alike()).at(now, calendars),
            )
            word = _not_yet(snapshot, now) or _by_channels(look, reach)
    return _decision(word, snapshot, now, reach, calendars)


def _last(snapshot: Snapshot) -> datetime:
    """The instant after which nothing is delivered."""
    if snapshot.valid_on is None or not snapshot.zones.names:
        return snapshot.expires_at
    return min(snapshot.expires_at, _ends(snapshot.valid_on, snapshot.zones))


def _decision(
    word: _Word, snapshot: Snapshot, now: datetime, reach: Mapping[Channel, timedelta], calendars: Calendars
) -> Decision:
    last = _last(snapshot)
    return Decision(
        action=word.action,
        reason=word.reason,
        at=now,
        zones=snapshot.zones,
        until=None if word.until is None else min(word.until, snapshot.expires_at),
        again=word.again,
        opens=None if word.again else word.until,
        ends=last if word.until is not None and word.until >= last else None,
        channel=word.channel,
        address_key=word.address_key,
        adapter=word.adapter,
        deliver_by=word.deliver_by,
        findings=word.findings,
        flags=word.flags,
        packs=word.packs,
        note=word.note,
        calendars=calendars.version,
        asked=snapshot,
        reach=reach,
    )


def _applying(snapshot: Snapshot, packs: Packs) -> Applied:
    if isinstance(packs, PolicyError):
        raise packs
    return applying(
        packs,
        residence=snapshot.residence,
        governing_law=snapshot.governing_law,
        licences=snapshot.licences,
        assigned=snapshot.assigned,
    )


def _stop(reason: str) -> _Word:
    return _Word(action=Action.SUPPRESS, reason=reason)


def _wait(until: datetime, reason: str) -> _Word:
    return _Word(action=Action.DEFER, reason=reason, until=until)


def _later(now: datetime, reason: str, after: timedelta = LOOK_AGAIN) -> _Word:
    """Nobody knows when it opens."""
    return replace(_wait(now + after, reason), again=True)


def _final_word(snapshot: Snapshot, history: Sequence[Event], now: datetime) -> _Word | None:
    """What is settled before any pack is asked: the reminder's end, the debt, holds and opt-outs."""
    if now >= snapshot.expires_at:
        return _stop("expired")
    return _debt(snapshot, now) or _held(snapshot, now) or _opted_out_of_all(snapshot, history, now)


def _debt(snapshot: Snapshot, now: datetime) -> _Word | None:
    debt = snapshot.debt
    match debt.state:
        case DebtState.PAID | DebtState.DISPUTED:
            return _stop(f"debt_{debt.state.value}")
        case DebtState.HARDSHIP:
            return _later(now, "debt_hardship")
        case DebtState.PROMISED if (word := _promised(debt, snapshot.zones, now)) is not None:
            return word
        case DebtState.PROMISED | DebtState.OPEN:
            return _later(now, "debt_stale") if debt.state_at + debt.stale_after < now else None
        case _:
            assert_never(debt.state)


def _promised(debt: DebtNow, zones: Zones, now: datetime) -> _Word | None:
    """Wait for the day after the promised date; an unknown date or zone is looked at again."""
    if debt.until is None or not zones.names:
        return _later(now, "debt_promised")
    over = _begins(debt.until + timedelta(days=1), zones)
    return _wait(over, "debt_promised") if now < over else None


def _held(snapshot: Snapshot, now: datetime) -> _Word | None:
    holds = [
        hold
        for hold in snapshot.holds
        if hold.since <= now
        and (hold.until is None or now < hold.until)
        and snapshot.purpose not in hold.allow_purposes
    ]
    if any(hold.until is None for hold in holds):
        return _stop("held")
    ends = [hold.until for hold in holds if hold.until is not None]
    return _wait(max(ends), "held") if ends else None


def _opted_out_of_all(snapshot: Snapshot, history: Sequence[Event], now: datetime) -> _Word | None:
    since = _opted_out(snapshot, (ALL,), now)
    return None if since is None or _may_confirm(snapshot, history, since) else _stop("opted_out")


def _opted_out(snapshot: Snapshot, words: tuple[str, ...], now: datetime) -> datetime | None:
    """When the person last opted out by one of these words, None when never."""
    if not snapshot.opt_outs:
        return None
    return max((at for word, at in snapshot.opt_outs if word in words and at <= now), default=None)


def _may_confirm(snapshot: Snapshot, history: Sequence[Event], since: datetime) -> bool:
    """One confirmation per opt-out may go: none is in the history (flag `optout_confirmation`) since then."""
    confirmed = any(
        event.at >= since and Purpose.OPTOUT_CONFIRMATION.value in event.flags for event in history
    )
    return snapshot.purpose == Purpose.OPTOUT_CONFIRMATION.value and not confirmed


def _not_yet(snapshot: Snapshot, now: datetime) -> _Word | None:
    """What bars every channel alike: twice, where, before its time, on the wrong day, during a call."""
    if snapshot.duplicate:
        return _stop("duplicate")
    if not snapshot.zones.names:
        return _later(now, "zone_unknown")
    if snapshot.not_before is not None and now < snapshot.not_before:
        return _wait(snapshot.not_before, "not_before")
    if snapshot.valid_on is not None and (word := _valid_on(snapshot.valid_on, snapshot.zones, now)):
        return word
    return _later(now, "open_voice", CALL_RUNS) if snapshot.open_voice else None


def _valid_on(day: date, zones: Zones, now: datetime) -> _Word | None:
    """Wait until it is that date in every zone; past it in one, it is over."""
    begins, ends = _begins(day, zones), _ends(day, zones)
    if now >= ends or begins >= ends:
        return _stop("expired")
    return _wait(begins, "not_before") if now < begins else None


def _begins(day: date, zones: Zones) -> datetime:
    """When that date has begun in every zone."""
    return instant(max(start_of_date(zone(name), day) for name in zones.names))


def _ends(day: date, zones: Zones) -> datetime:
    """When that date is over in the first zone."""
    return instant(min(start_of_date(zone(name), day + timedelta(days=1)) for name in zones.names))


def _by_channels(look: _Look, reach: Mapping[Channel, timedelta]) -> _Word:
    """The first channel that is open, or opens in time; what every channel looked at says is kept."""
    words: list[_Word] = []
    for channel in look.snapshot.channels:
        if look.snapshot.addresses.get(channel):
            word = _channel(look, channel, reach.get(channel, timedelta()))
            words.append(word)
            if _settles(word, look.last):
                return _with_all(word, words)
    if not words:
        return _stop("no_address")
    return _with_all(next((word for word in words if word.action is Action.DEFER), words[0]), words)


def _with_all(word: _Word, words: Sequence[_Word]) -> _Word:
    """A channel's word with the findings and packs of every channel looked at."""
    if len(words) == 1:
        return word
    return replace(
        word,
        findings=tuple(finding for one in words for finding in one.findings),
        packs=tuple(dict.fromkeys(pack for one in words for pack in one.packs)),
    )


def _settles(word: _Word, last: datetime) -> bool:
    """Whether no further channel is looked at: this one is open, or will open in time."""
    in_time = word.until is not None and word.until < last
    return word.action is Action.SEND or (in_time and word.reason not in ("calendar_ends", "lookup_failed"))


def _channel(look: _Look, channel: Channel, reach: timedelta) -> _Word:
    """The word of one channel: of the first way that is open, else of the one that opens first."""
    since = _opted_out(look.snapshot, (ALL, channel), look.at)
    if since is not None and not _may_confirm(look.snapshot, look.history, since):
        return replace(_stop("opted_out"), channel=channel)
    facts = _facts(look.snapshot, channel, look.at)
    best: _Word | None = None
    for reachable in look.snapshot.addresses[channel]:
        try:
            word = _address(look, channel, reachable, facts, reach)
        except PolicyError as wrong:  # a fact of the wrong type, a zone that is gone: not known is not now
            return replace(_later(look.at, "lookup_failed"), channel=channel, note=str(wrong) or None)
        if word.action is Action.SEND:
            return word
        if best is None or _rank(word) < _rank(best):
            best = word
    assert best is not None  # noqa: S101 (a channel without an address is not asked)
    return best


def _rank(word: _Word) -> tuple[bool, float]:
    """Defer before suppress, the earlier before the later."""
    return word.action is not Action.DEFER, word.until.timestamp() if word.until is not None else 0.0


def _facts(snapshot: Snapshot, channel: Channel, now: datetime) -> Mapping[str, Fact]:
    """The facts that rules read on that channel: those looked up, and those that follow from the snapshot."""
    facts = dict(snapshot.facts or {})
    facts.pop("dpd", None)
    due = snapshot.debt.due_date
    if due is not None:
        at = seconds(now)
        facts["dpd"] = max([zone(name).day(at) for name in snapshot.zones.names]) - due.toordinal()
        facts["due_date"] = due
        facts.setdefault("overdue_since", due + timedelta(days=1))
    opted_out = _opted_out(snapshot, (ALL, channel), now)
    if opted_out is not None:
        facts["optout_at"] = opted_out
    return facts


def _address(
    look: _Look, channel: Channel, reachable: Reachable, facts: Mapping[str, Fact], reach: timedelta
) -> _Word:
    """The word of one way: open from now to the permit's end and reach, or when it opens."""
    if look.history:
        word, _ = _worked_out(look, channel, reachable, facts, reach)
    else:
        word = _as_of_alike(look, channel, reachable, facts, reach)
    return replace(
        word,
        address_key=word.address_key and reachable.address_key,
        deliver_by=word.deliver_by and min(word.deliver_by, look.last),
    )


def _as_of_alike(
    look: _Look, channel: Channel, reachable: Reachable, facts: Mapping[str, Fact], reach: timedelta
) -> _Word:
    """The word of this way, worked out anew only if nobody alike was looked at before, or not for as long."""
    likeness = _likeness(look, channel, reachable, facts, reach)
    found = look.alike.get(likeness)
    if found is not None:
        word, looked_to = found
        if word.deliver_by is None or word.deliver_by < looked_to or look.last <= looked_to:
            return word
    found = look.alike[likeness] = _worked_out(look, channel, reachable, facts, reach)
    return found[0]


def _likeness(
    look: _Look, channel: Channel, reachable: Reachable, facts: Mapping[str, Fact], reach: timedelta
) -> tuple[object, ...]:
    """All that a word rests on where there is no event that names of persons, debts and addresses could match.

    A fact's type belongs to it: true is not 1 to a rule.
    """
    snapshot = look.snapshot
    return (
        look.applied,
        look.permit,
        reach,
        channel,
        reachable.kind,
        reachable.technology,
        reachable.adapter,
        snapshot.purpose,
        snapshot.recipient_role,
        snapshot.actor_role,
        snapshot.institution,
        snapshot.product,
        snapshot.zones.names,
        snapshot.told,
        *[(name, type(fact), fact) for name, fact in facts.items()],
    )


def _worked_out(
    look: _Look, channel: Channel, reachable: Reachable, facts: Mapping[str, Fact], reach: timedelta
) -> tuple[_Word, datetime]:
    """The word of a way, whoever's it is (`deliver_by`: when it closes), and until when that was looked for."""
    snapshot = look.snapshot
    question = Question(
        channel=channel.value,
        borrower=snapshot.borrower,
        debt=snapshot.debt.id,
        creditor=snapshot.debt.creditor,
        address=reachable.address_key or None,
        purpose=snapshot.purpose,
        address_kind=reachable.kind,
        recipient_role=snapshot.recipient_role,
        technology=reachable.technology,
        adapter=reachable.adapter,
        actor=snapshot.actor,
        actor_role=snapshot.actor_role,
        institution=snapshot.institution,
        product=snapshot.product,
    )
    zones = snapshot.zones.names
    given: dict[str, Any] = {"zones": zones, "facts": facts, "now": look.at}
    plain = replace(question, purpose=None, flags=frozenset())  # what the law exempts, it has hours for
    at_home = any(map(_says_hours, holding(look.applied.home, plain, **given)))
    packs = through(reachable.adapter, look.applied.packs(hours_at_home=at_home))
    if snapshot.recipient_role != "debtor" and not _covers_role(holding(packs, question, **given)):
        return replace(_stop("third_party"), channel=channel, packs=packs), look.last
    clear_to = look.at + look.permit + reach
    limit = max(look.last, clear_to + timedelta(seconds=1))
    word = _judged(look, packs, question, facts, clear_to, limit)
    flags = relaxed_flags(packs, question, told=snapshot.told, **given)
    return replace(
        word,
        channel=channel,
        address_key=reachable.address_key,
        adapter=reachable.adapter,
        packs=packs,
        flags=flags,
    ), limit


def _says_hours(rule: AnyRule) -> bool:
    """Whether it gives hours for every kind of address."""
    return isinstance(rule, Window) and rule.address_kinds is None


def _covers_role(rules: Iterable[AnyRule]) -> bool:
    """Whether one of these rules says when others than the debtor may be approached."""
    return any(isinstance(rule, ThirdParty) for rule in rules)


def _judged(
    look: _Look,
    packs: tuple[Pack, ...],
    question: Question,
    facts: Mapping[str, Fact],
    clear_to: datetime,
    limit: datetime,
) -> _Word:
    """What these packs say, from now to the permit's end and reach (`clear_to`); when it closes, up to `limit`."""
    given: dict[str, Any] = {
        "zones": look.snapshot.zones.names,
        "history": look.history,
        "facts": facts,
        "told": look.snapshot.told,
        "calendars": look.calendars,
    }
    verdict = judge(packs, question, now=look.at, **given)
    if verdict.action is Action.SEND:
        closes = open_until(packs, question, now=look.at, limit=limit, **given)
        if closes > clear_to:
            return _Word(action=Action.SEND, deliver_by=closes, findings=verdict.findings)
        verdict = judge(packs, question, now=closes, **given)
    return replace(_closed(verdict, look.at), findings=verdict.findings)


def _closed(verdict: Verdict, now: datetime) -> _Word:
    """The word of a verdict that objects; a calendar that ends is not known, so it is no final word."""
    if verdict.until is not None:
        return _wait(verdict.until, _binding(verdict.objecting))
    if verdict.calendar_ends is not None:
        return _later(now, "calendar_ends")
    binding = _binding(verdict.objecting)
    if not any(isinstance(finding.of, FINAL) for finding in verdict.objecting):
        if any(isinstance(finding.of, Review) for finding in verdict.objecting):
            return _later(now, "review")
        if any(isinstance(f.of, Blackout) and f.next is None for f in verdict.objecting):
            return _later(now, binding)
    return _stop(binding)


def _binding(findings: Sequence[Finding]) -> str:
    """The rule that binds last: a final one, else one that does not open, else the one that opens last."""
    final = [finding for finding in findings if isinstance(finding.of, FINAL)]
    never = [finding for finding in findings if finding.next is None]
    bound = (final or never or sorted(findings, key=_opens, reverse=True))[0]
    return bound.of.id


def _opens(finding: Finding) -> float:
    return finding.next.timestamp() if finding.next is not None else 0.0
