"""Each kind of rule as one function: whether it objects here and now, and how long that holds.

`holds_until` is an instant before which the answer stays the same if nothing else happens. It may be
early, never late: whoever searches asks again there. So a search jumps from edge to edge and ends.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping
from datetime import date
from functools import lru_cache
from typing import Any, NamedTuple, assert_never

from gateway.policy.ask import Ask
from gateway.policy.calendars import Calendars
from gateway.policy.localtime import DAY, NEVER, TZDATA_VERSION, Here, Zone, seconds
from gateway.policy.model import (
    CHANNELS,
    FAILURES,
    FORMS,
    OUTCOMES,
    UNJUDGED,
    UNKNOWN,
    WEEKDAYS,
    AnyRule,
    Blackout,
    BorrowerWindow,
    Cap,
    ChannelLock,
    Consent,
    ConsentRequired,
    Cooldown,
    Coverage,
    Dates,
    Elapsed,
    FromFact,
    Hold,
    HoldUntil,
    Hours,
    IsoWeek,
    Month,
    OptOut,
    OwnWindow,
    Prerequisite,
    Question,
    Refusal,
    Review,
    Spacing,
    Span,
    ThirdParty,
    Window,
)

_NEVER_DAY = 1 << 40
"""A date after every other one."""


_AGREES, _OBJECTS = False, True
_NOT_IN_FORCE = False

RELAXED = "relaxed by consent"
"""The note of a rule that would object, and gives way to a consent."""


class Answer(NamedTuple):
    """One rule's word at one instant in one zone."""

    objects: bool
    holds_until: int
    counted: int | None = None
    note: str | None = None
    in_force: bool = True


def concerns(rule: AnyRule, ask: Ask) -> bool:
    """Whether the rule has a word on this question at all, whatever the time."""
    question = ask.question
    if not in_scope(rule, question):
        return False
    match rule:
        case Window():
            return _at_such_an_address(rule, question) and _is_on(rule, ask)
        case Cap():
            return _at_such_an_address(rule, question)
        case Hold() | HoldUntil() | Review():
            return question.purpose not in rule.allow_purposes
        case ThirdParty() | Refusal():
            return question.recipient_role in rule.roles
        case _:
            return not isinstance(rule, UNJUDGED)


def in_scope(rule: AnyRule, question: Question) -> bool:
    """Whether the rule is about such a reminder; what the question does not say is taken to be so."""
    if question.purpose in rule.exempt_purposes or not rule.exempt_flags.isdisjoint(question.flags):
        return False
    for key, named in _scopes(rule):
        said = getattr(question, key)
        if said is not None and said not in named:
            return False
    return True


@lru_cache(maxsize=65_536)
def _scopes(rule: AnyRule) -> tuple[tuple[str, frozenset[str]], ...]:
    """The keys of a question that the rule names values of."""
    named = (
        ("channel", rule.channels),
        ("purpose", rule.purposes),
        ("actor_role", rule.actors),
        ("institution", rule.institutions),
        ("product", rule.products),
        ("technology", rule.technologies),
        ("adapter", rule.adapters),
    )
    return tuple((key, values) for key, values in named if values is not None)


def in_force(rule: AnyRule, ask: Ask, here: Here) -> bool:
    """Whether the rule is in force on that local date."""
    first, after = _force_dates(rule, ask, here.zone)
    return first <= here.day < after


def answer(rule: AnyRule, ask: Ask, here: Here) -> Answer:
    """The rule's word, within the dates on which it is in force and unless a consent makes it give way."""
    first, after, fixed = _dated(rule)
    if not fixed:
        first, after = _force_dates(rule, ask, here.zone)
    if here.day < first:
        return Answer(_AGREES, here.start_of(first), None, None, _NOT_IN_FORCE)
    if here.day >= after:
        return Answer(_AGREES, here.end, None, None, _NOT_IN_FORCE)
    word = KINDS[type(rule)](rule, ask, here)
    if rule.relaxed_by is not None and ask.told.consents:
        word = _unless_relaxed(word, rule, ask, here)
    if after != _NEVER_DAY:
        return _cut(word, here.start_of(after))
    return _cut(word, here.end) if first else word  # dates return where a clock goes back past midnight


def is_relaxed(rule: AnyRule, ask: Ask, here: Here) -> bool:
    """Whether a consent makes the rule give way here and now."""
    return rule.relaxed_by is not None and any(
        given <= here.at < end for given, end in _relaxing(rule, ask, here)
    )


def window(rule: Window, ask: Ask, here: Here) -> Answer:
    """Objects when the local time is in none of the date's hours, and on dates its calendars do not cover."""
    note = _uncovered(rule.calendars, here.day, ask.calendars)
    if note is not None:
        return _bars(here.start_of(here.day + 1), note=note)
    now, edge = here.second, DAY
    for hours in _hours(rule, here.day, ask.calendars):
        if hours.open <= now < hours.close:
            return _passes(min(here.at + hours.close - now, here.end))
        if now < hours.open < edge:
            edge = hours.open
    return _bars(min(here.at + edge - now, here.end))


def cap(rule: Cap, ask: Ask, here: Here) -> Answer:
    """Objects when the events of the span and this one are more than `max`."""
    if rule.only_after is not None and not _starts(rule, rule.only_after, ask, here.at):
        return _passes(ask.next_event(here.at))
    places = ask.kept(_counting(rule), here.at, lambda: _counted(rule, ask))
    inside = _inside(rule.window, places, ask, here) if places else []
    counted = len(inside)
    if counted < rule.max:
        return _passes(_no_sooner(rule.window, ask, here), counted)
    if rule.max == 0:
        return _bars(NEVER, counted)
    inside.sort()  # it stays closed until so many have left that one more fits
    return _bars(_leaves(rule.window, inside[counted - rule.max], here), counted)


def cooldown(rule: Cooldown, ask: Ask, here: Here) -> Answer:
    """Objects while an event with such an outcome is too recent."""
    return _rest(rule.rest, _starts(rule, rule.after, ask, here.at), ask, here)


def spacing(rule: Spacing, ask: Ask, here: Here) -> Answer:
    """Objects while any event is too recent."""
    places = ask.kept(rule, here.at, lambda: _of(rule, OUTCOMES, ask))
    return _rest(rule.rest, places, ask, here)


def channel_lock(rule: ChannelLock, ask: Ask, here: Here) -> Answer:
    """Objects when there are such events in the span and none of them used exactly this channel."""
    places = _starts(rule, rule.after, ask, here.at)
    inside = _inside(rule.window, places, ask, here)
    change = _no_sooner(rule.window, ask, here)
    if not inside:
        return _passes(change)
    own = [p for p in places if ask.events[p].channel == ask.question.channel]
    opened = bool(_inside(rule.window, own, ask, here))
    leaves = _leaves(rule.window, min(inside) if opened else max(inside), here)
    return Answer(objects=not opened, holds_until=min(change, leaves), counted=len(inside))


def prerequisite(rule: Prerequisite, ask: Ask, here: Here) -> Answer:
    """Objects until the fact is set and old enough, and once it is too old."""
    day = ask.day_of(rule.fact, here.zone)
    if day is None:
        return _bars(NEVER)
    word = _before(day + rule.dates, here)
    if rule.within_dates is None or word.objects:
        return word
    too_old = day + rule.within_dates + 1
    return _bars(here.end) if here.day >= too_old else _cut(word, here.start_of(too_old))


def hold(rule: Hold, ask: Ask, _here: Here) -> Answer:
    """Objects while the fact is set."""
    return _bars(NEVER) if ask.is_set(rule.fact) else _passes(NEVER)


def hold_until(rule: HoldUntil, ask: Ask, here: Here) -> Answer:
    """Objects before the fact's date and `plus_dates`, unless a fact voids it."""
    day = ask.day_of(rule.fact, here.zone)
    if day is None or (rule.unless is not None and ask.is_set(rule.unless)):
        return _passes(NEVER)
    return _before(day + rule.plus_dates, here)


def opt_out(rule: OptOut, ask: Ask, here: Here) -> Answer:
    """Objects from `optout_at` on, but for a confirmation within its seconds."""
    since = ask.instant_of("optout_at")
    if since is None:
        return _passes(NEVER)
    if here.at < since:
        return _passes(since)
    if ask.question.purpose == "optout_confirmation" and rule.confirm_within_s is not None:
        too_late = since + rule.confirm_within_s + 1
        if here.at < too_late:
            return _passes(too_late)
    return _bars(NEVER)


def third_party(rule: ThirdParty, ask: Ask, here: Here) -> Answer:
    """Objects to other purposes, and unless the latest calls to the debtor all failed, often and long enough ago."""
    calls = ask.kept("calls to the debtor", here.at, lambda: _calls_to_debtor(ask))
    run = 0
    while run < len(calls) and ask.events[calls[-1 - run]].outcome in FAILURES:
        run += 1
    if rule.only_purposes is not None and ask.question.purpose not in rule.only_purposes:
        return _bars(NEVER, run)
    change = ask.next_event(here.at)
    if run < rule.fails:
        return _bars(change, run)
    decisive = ask.days(here.zone)[calls[rule.fails - 1 - run]]
    word = _before(decisive + rule.delay_dates, here)
    return Answer(objects=word.objects, holds_until=min(change, word.holds_until), counted=run)


def borrower_window(_rule: BorrowerWindow, ask: Ask, here: Here) -> Answer:
    """Objects in hours that the borrower denies, and outside those allowed where any are."""
    if not ask.told.windows:
        return _passes(NEVER)
    told = [own for own in ask.told.windows if _own_concerns(own, ask.question)]
    known = [own for own in told if _within(here.day, own.since, own.until)]
    weekday = WEEKDAYS[(here.day + 6) % 7]
    today = [own for own in known if weekday in own.on]
    inside = [own for own in today if own.hours.open <= here.second < own.hours.close]
    allows = any(own.kind == "allow" for own in known)
    barred = any(own.kind == "deny" for own in inside) or (
        allows and not any(own.kind == "allow" for own in inside)
    )
    edges = (edge for own in today for edge in (own.hours.open, own.hours.close) if edge > here.second)
    return Answer(barred, min(here.at + min(edges, default=DAY) - here.second, here.start_of(here.day + 1)))


def blackout(rule: Blackout, ask: Ask, here: Here) -> Answer:
    """Objects on the dates of such an event."""
    known = [off for off in ask.told.blackouts if rule.reasons is None or off.reason in rule.reasons]
    for off in known:
        if _within(here.day, off.since, off.until):
            return _bars(here.end if off.until is None else here.start_of(off.until.toordinal()))
    ahead = [off.since.toordinal() for off in known if off.since.toordinal() > here.day]
    return _passes(here.start_of(min(ahead)) if ahead else here.end)


def consent_required(rule: ConsentRequired, ask: Ask, here: Here) -> Answer:
    """Objects without a live consent in such a form, or a fact that stands for one."""
    if rule.unless is not None and ask.is_set(rule.unless):
        return _passes(NEVER)
    spans = [_span(consent) for consent in _consents("contact", rule.form, ask)]
    live = any(given <= here.at < end for given, end in spans)
    return Answer(not live, _next_edge(spans, here.at))


def coverage(rule: Coverage, ask: Ask, here: Here) -> Answer:
    """Objects on dates that a calendar does not cover, and with time-zone data that is too old."""
    if rule.tzdata is not None and rule.tzdata > TZDATA_VERSION:
        return _bars(NEVER, note=f"time-zone data is of {TZDATA_VERSION}, older than {rule.tzdata}")
    note = _uncovered(rule.calendars, here.day, ask.calendars)
    return Answer(note is not None, here.start_of(here.day + 1), note=note)


def review(rule: Review, ask: Ask, _here: Here) -> Answer:
    """Objects while the fact is set."""
    return _bars(NEVER) if ask.is_set(rule.fact) else _passes(NEVER)


def refusal(_rule: Refusal, ask: Ask, _here: Here) -> Answer:
    """Objects once the person has refused."""
    return _bars(NEVER) if ask.is_set("contact_refused") else _passes(NEVER)


KINDS: Mapping[type, Callable[[Any, Ask, Here], Answer]] = {
    Window: window,
    Cap: cap,
    Cooldown: cooldown,
    Spacing: spacing,
    ChannelLock: channel_lock,
    Prerequisite: prerequisite,
    Hold: hold,
    HoldUntil: hold_until,
    OptOut: opt_out,
    ThirdParty: third_party,
    Refusal: refusal,
    BorrowerWindow: borrower_window,
    Blackout: blackout,
    ConsentRequired: consent_required,
    Coverage: coverage,
    Review: review,
}
"""Kind of rule → what evaluates it."""


def _bars(until: int, counted: int | None = None, note: str | None = None) -> Answer:
    return Answer(_OBJECTS, until, counted, note)


def _passes(until: int, counted: int | None = None) -> Answer:
    return Answer(_AGREES, until, counted)


def _force_dates(rule: AnyRule, ask: Ask, zone: Zone) -> tuple[int, int]:
    """The first date on which the rule is in force, and the first one on which it no longer is (ordinals)."""
    first, after, _ = _dated(rule)
    if rule.since_fact is not None and (day := _fact_date(rule.since_fact, ask, zone)) is not None:
        first = max(first, day)
    if rule.until_fact is not None and (day := _fact_date(rule.until_fact, ask, zone)) is not None:
        after = min(after, day)
    return first, after


@lru_cache(maxsize=65_536)
def _dated(rule: AnyRule) -> tuple[int, int, bool]:
    """The dates that the rule itself names, as ordinals, and whether no fact moves them."""
    return (
        0 if rule.since is None else rule.since.toordinal(),
        _NEVER_DAY if rule.until is None else rule.until.toordinal(),
        rule.since_fact is None and rule.until_fact is None,
    )


def _fact_date(wanted: FromFact, ask: Ask, zone: Zone) -> int | None:
    day = ask.day_of(wanted.fact, zone)
    return None if day is None else day + wanted.plus_dates


def _cut(word: Answer, at: int) -> Answer:
    """The same word, good until that instant at most."""
    return word if word.holds_until <= at else Answer(word.objects, at, word.counted, word.note)


def _unless_relaxed(word: Answer, rule: AnyRule, ask: Ask, here: Here) -> Answer:
    """The rule's word, and that it gives way where it would object and a consent stands against that."""
    spans = list(_relaxing(rule, ask, here))
    edge = min(_next_edge(spans, here.at), here.end)
    if word.objects and any(given <= here.at < end for given, end in spans):
        return Answer(objects=False, holds_until=edge, counted=word.counted, note=RELAXED)
    return _cut(word, edge)


def _relaxing(rule: AnyRule, ask: Ask, here: Here) -> Iterator[tuple[int, int]]:
    """From when to when each consent makes the rule give way."""
    relaxed = rule.relaxed_by
    assert relaxed is not None  # noqa: S101 (asked of such rules only)
    for consent in _consents("relax", relaxed.form, ask):
        if rule.id in consent.rules:
            given, end = _span(consent)
            if relaxed.dates is not None:
                over = here.zone.day(given) + relaxed.dates
                end = min(end, here.start_of(over) if here.day < over else here.at)
            yield given, end


def _consents(kind: str, form: str | None, ask: Ask) -> list[Consent]:
    """The consents of that kind, live or not, that cover the question's channel in at least that form."""
    least = 0 if form is None else FORMS.index(form)
    return [
        consent
        for consent in ask.told.consents
        if consent.kind == kind
        and consent.channel in (None, "all", ask.question.channel)
        and (form is None or (consent.form is not None and FORMS.index(consent.form) >= least))
    ]


def _span(consent: Consent) -> tuple[int, int]:
    """From when a consent is live, and from when no longer."""
    ends = [seconds(end) for end in (consent.until, consent.revoked_at) if end is not None]
    return seconds(consent.given_at), min(ends, default=NEVER)


def _next_edge(spans: list[tuple[int, int]], at: int) -> int:
    """The first beginning or end after that instant."""
    return min((edge for span in spans for edge in span if edge > at), default=NEVER)


def _own_concerns(own: OwnWindow, question: Question) -> bool:
    return (own.channels is None or question.channel in own.channels) and (
        own.address_kinds is None or question.address_kind in own.address_kinds
    )


def _within(day: int, since: date | None, until: date | None) -> bool:
    return (since is None or since.toordinal() <= day) and (until is None or day < until.toordinal())


def _at_such_an_address(rule: Window | Cap, question: Question) -> bool:
    return rule.address_kinds is None or question.address_kind in rule.address_kinds


def _is_on(rule: Window, ask: Ask) -> bool:
    return rule.not_if is None or ask.number_of(rule.not_if.fact) <= rule.not_if.gt


def _uncovered(names: tuple[str, ...], day: int, calendars: Calendars) -> str | None:
    """What to say when one of these calendars does not cover that date."""
    for name in names:
        if (note := calendars.uncovered(name, day)) is not None:
            return note
    return None


def _hours(rule: Window, day: int, calendars: Calendars) -> tuple[Hours, ...]:
    """The hours of that date, every calendar looked up."""
    hours = rule.week[(day + 6) % 7]
    if not rule.calendars:
        return hours
    if rule.closed_on_holidays is not None and calendars.is_holiday(rule.closed_on_holidays, day):
        return ()
    if rule.workday_calendar is not None and calendars.is_workday(rule.workday_calendar, day):
        hours += rule.workdays
    if hours and rule.holiday_as is not None and calendars.is_holiday(rule.holiday_as.calendar, day):
        return (rule.holiday_as.hours,)
    return hours


def _of(rule: Cap | Cooldown | Spacing, outcomes: frozenset[str], ask: Ask) -> list[int]:
    """The events that share the rule's keys, of these outcomes, on its channels, of its technologies and adapters."""
    on = CHANNELS if rule.channels is None else rule.channels
    events, by, through = ask.events, rule.technologies, rule.adapters
    places = [p for p in ask.shared(rule.per) if (e := events[p]).outcome in outcomes and e.channel in on]
    if by is not None:
        places = [p for p in places if events[p].technology is None or events[p].technology in by]
    if through is not None:
        places = [p for p in places if events[p].adapter is None or events[p].adapter in through]
    return places


@lru_cache(maxsize=65_536)
def _counting(rule: Cap) -> tuple[object, ...]:
    """By what a cap chooses the events that it counts: caps that choose alike share the choice."""
    return rule.per, _outcomes(rule), rule.channels, rule.technologies, rule.adapters, rule.exclude_flags


def _outcomes(rule: Cap) -> frozenset[str]:
    """The outcomes that a cap counts; an unknown one counts as any."""
    named = OUTCOMES if rule.count_outcomes is None else rule.count_outcomes
    return named - rule.exclude_outcomes | {UNKNOWN}


def _counted(rule: Cap, ask: Ask) -> list[int]:
    """The events that a cap counts, whatever its span."""
    places = _of(rule, _outcomes(rule), ask)
    if not rule.exclude_flags:
        return places
    return [p for p in places if rule.exclude_flags.isdisjoint(ask.events[p].flags)]


def _starts(rule: Cap | Cooldown | ChannelLock, after: frozenset[str], ask: Ask, at: int) -> list[int]:
    """The events that start something, which an unknown outcome never does; a cooldown minds the channel."""
    return ask.kept((rule, "starts"), at, lambda: _starting(rule, after - {UNKNOWN}, ask))


def _starting(rule: Cap | Cooldown | ChannelLock, after: frozenset[str], ask: Ask) -> list[int]:
    if isinstance(rule, Cooldown):
        return _of(rule, after, ask)
    return [p for p in ask.shared(rule.per) if ask.events[p].outcome in after]


def _calls_to_debtor(ask: Ask) -> list[int]:
    return [p for p, e in enumerate(ask.events) if e.channel == "voice" and e.recipient_role == "debtor"]


def _inside(span: Span, places: list[int], ask: Ask, here: Here) -> list[int]:
    """The events that are in the span now, each as what it is measured by: its instant or its local date."""
    if isinstance(span, Elapsed):
        times, oldest = ask.times, here.at - span.seconds
        return [times[p] for p in places if times[p] > oldest]
    first, after = _dates_of(span, here.day)
    days = ask.days(here.zone)
    if not ask.in_order(here.zone):
        return [days[p] for p in places if first <= days[p] < after]
    own = days if len(places) == len(days) else [days[p] for p in places]
    return own[bisect_left(own, first) : bisect_left(own, after)]


def _leaves(span: Span, measure: int, here: Here) -> int:
    """When an event of that instant or local date leaves the span."""
    match span:
        case Elapsed(seconds=seconds):
            return measure + seconds
        case Dates(n=n):
            return here.start_of(measure + n)
        case IsoWeek() | Month():
            return here.start_of(_dates_of(span, here.day)[1])
        case _:
            assert_never(span)


@lru_cache(maxsize=4096)
def _dates_of(span: Dates | IsoWeek | Month, day: int) -> tuple[int, int]:
    """The first date of the span that `day` is in, and the first one after it (ordinals)."""
    match span:
        case Dates(n=n):
            return day - n + 1, day + 1
        case IsoWeek():
            monday = day - (day + 6) % 7
            return monday, monday + 7
        case Month():
            first = date.fromordinal(day).replace(day=1)
            after = date(first.year + first.month // 12, first.month % 12 + 1, 1)
            return first.toordinal(), after.toordinal()
        case _:
            assert_never(span)


def _no_sooner(span: Span, ask: Ask, here: Here) -> int:
    """Until when no event enters the span: none comes, and no date returns by a change of the offset."""
    change = ask.next_event(here.at)
    return change if isinstance(span, Elapsed) else min(change, here.end)


def _rest(rest: Dates | Elapsed, places: list[int], ask: Ask, here: Here) -> Answer:
    """Objects while the latest of these events is too recent."""
    if places:
        match rest:
            case Elapsed(seconds=seconds):
                over = ask.times[places[-1]] + seconds
                if over > here.at:
                    return _bars(over)
            case Dates(n=n):
                days = ask.days(here.zone)
                word = _before(max(days[p] for p in places) + n, here)
                if word.objects:
                    return word
            case _:
                assert_never(rest)
    return _passes(_no_sooner(rest, ask, here))


def _before(day: int, here: Here) -> Answer:
    """Objects before that local date."""
    if here.day < day:
        return _bars(here.start_of(day))
    return _passes(here.end)
