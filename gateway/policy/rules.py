"""Each kind of rule as one function: whether it objects here and now, and how long that holds.

`holds_until` is an instant before which the answer stays the same if nothing else happens. It may be
early, never late: whoever searches asks again there. So a search jumps from edge to edge and ends.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import date
from functools import lru_cache
from typing import Any, NamedTuple, assert_never

from gateway.policy.ask import Ask
from gateway.policy.calendars import is_holiday, is_workday, uncovered
from gateway.policy.localtime import DAY, NEVER, Here
from gateway.policy.model import (
    CHANNELS,
    FAILURES,
    OUTCOMES,
    UNKNOWN,
    AnyRule,
    Cap,
    ChannelLock,
    Cooldown,
    Dates,
    Elapsed,
    Hold,
    HoldUntil,
    Hours,
    IsoWeek,
    Month,
    OptOut,
    Prerequisite,
    Refusal,
    Spacing,
    Span,
    ThirdParty,
    Window,
)


class Answer(NamedTuple):
    """One rule's word at one instant in one zone."""

    objects: bool
    holds_until: int
    counted: int | None = None
    note: str | None = None


def concerns(rule: AnyRule, ask: Ask) -> bool:
    """Whether the rule has a word on this question at all, whatever the time."""
    question = ask.question
    if rule.channels is not None and question.channel not in rule.channels:
        return False
    if question.purpose in rule.exempt_purposes or not rule.exempt_flags.isdisjoint(question.flags):
        return False
    match rule:
        case Window():
            return _window_concerns(rule, ask)
        case Hold() | HoldUntil():
            return question.purpose not in rule.allow_purposes
        case ThirdParty() | Refusal():
            return question.recipient_role in rule.roles
        case _:
            return True


def in_force(rule: AnyRule, day: int) -> bool:
    """Whether the rule is in force on that local date (an ordinal)."""
    return (rule.since is None or rule.since.toordinal() <= day) and (
        rule.until is None or day < rule.until.toordinal()
    )


def answer(rule: AnyRule, ask: Ask, here: Here) -> Answer:
    """The rule's word, within the dates on which it is in force."""
    if rule.since is not None and here.day < rule.since.toordinal():
        return _passes(here.start_of(rule.since.toordinal()))
    if rule.until is None:
        return KINDS[type(rule)](rule, ask, here)
    last = rule.until.toordinal()
    if here.day >= last:
        return _passes(here.end)
    word = KINDS[type(rule)](rule, ask, here)
    return word._replace(holds_until=min(word.holds_until, here.start_of(last)))


def window(rule: Window, _ask: Ask, here: Here) -> Answer:
    """Objects when the local time is in none of the date's hours, and on dates its calendars do not cover."""
    note = _uncovered(rule, here.day)
    if note is not None:
        return _bars(here.start_of(here.day + 1), note=note)
    now, edge = here.second, DAY
    for hours in _hours(rule, here.day):
        if hours.open <= now < hours.close:
            return _passes(min(here.at + hours.close - now, here.end))
        if now < hours.open < edge:
            edge = hours.open
    return _bars(min(here.at + edge - now, here.end))


def cap(rule: Cap, ask: Ask, here: Here) -> Answer:
    """Objects when the events of the span and this one are more than `max`."""
    if rule.only_after is not None and not _starts(rule, rule.only_after, ask, here.at):
        return _passes(ask.next_event(here.at))
    places = ask.kept(rule, here.at, lambda: _counted(rule, ask))
    inside = _inside(rule.window, places, ask, here)
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
    places = ask.kept(rule, here.at, lambda: _of(rule.per, OUTCOMES, rule.channels, ask))
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
    """Objects until the fact is set and old enough."""
    day = ask.day_of(rule.fact, here.zone)
    return _bars(NEVER) if day is None else _before(day + rule.dates, here)


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
    """Objects unless the latest calls to the debtor are a run of failures that is long and old enough."""
    calls = ask.kept("calls to the debtor", here.at, lambda: _calls_to_debtor(ask))
    run = 0
    while run < len(calls) and ask.events[calls[-1 - run]].outcome in FAILURES:
        run += 1
    change = ask.next_event(here.at)
    if run < rule.fails:
        return _bars(change, run)
    decisive = ask.days(here.zone)[calls[rule.fails - 1 - run]]
    word = _before(decisive + rule.delay_dates, here)
    return Answer(objects=word.objects, holds_until=min(change, word.holds_until), counted=run)


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
}
"""Kind of rule → what evaluates it."""


def _bars(until: int, counted: int | None = None, note: str | None = None) -> Answer:
    return Answer(objects=True, holds_until=until, counted=counted, note=note)


def _passes(until: int, counted: int | None = None) -> Answer:
    return Answer(objects=False, holds_until=until, counted=counted)


def _window_concerns(rule: Window, ask: Ask) -> bool:
    if rule.address_kinds is not None and ask.question.address_kind not in rule.address_kinds:
        return False
    return rule.not_if is None or ask.number_of(rule.not_if.fact) <= rule.not_if.gt


def _uncovered(rule: Window, day: int) -> str | None:
    """What to say when a calendar that the rule names does not cover that date."""
    for name in rule.calendars:
        if (note := uncovered(name, day)) is not None:
            return note
    return None


def _hours(rule: Window, day: int) -> tuple[Hours, ...]:
    """The hours of that date, every calendar looked up."""
    hours = rule.week[(day + 6) % 7]
    if not rule.calendars:
        return hours
    if rule.closed_on_holidays is not None and is_holiday(rule.closed_on_holidays, day):
        return ()
    if rule.workday_calendar is not None and is_workday(rule.workday_calendar, day):
        hours += rule.workdays
    if hours and rule.holiday_as is not None and is_holiday(rule.holiday_as.calendar, day):
        return (rule.holiday_as.hours,)
    return hours


def _of(
    per: tuple[str, ...], outcomes: frozenset[str], channels: frozenset[str] | None, ask: Ask
) -> list[int]:
    """The events with these shared keys, of these outcomes, on these channels (None: all)."""
    on = CHANNELS if channels is None else channels
    events = ask.events
    return [p for p in ask.shared(per) if (event := events[p]).outcome in outcomes and event.channel in on]


def _counted(rule: Cap, ask: Ask) -> list[int]:
    """The events that a cap counts, whatever its span; an unknown outcome counts as any."""
    named = OUTCOMES if rule.count_outcomes is None else rule.count_outcomes
    places = _of(rule.per, named - rule.exclude_outcomes | {UNKNOWN}, rule.channels, ask)
    if not rule.exclude_flags:
        return places
    return [p for p in places if rule.exclude_flags.isdisjoint(ask.events[p].flags)]


def _starts(rule: Cap | Cooldown | ChannelLock, after: frozenset[str], ask: Ask, at: int) -> list[int]:
    """The events that start something, which an unknown outcome never does; a cooldown minds the channel."""
    channels = rule.channels if isinstance(rule, Cooldown) else None
    return ask.kept((rule, "starts"), at, lambda: _of(rule.per, after - {UNKNOWN}, channels, ask))


def _calls_to_debtor(ask: Ask) -> list[int]:
    return [p for p, e in enumerate(ask.events) if e.channel == "voice" and e.recipient_role == "debtor"]


def _inside(span: Span, places: list[int], ask: Ask, here: Here) -> list[int]:
    """The events that are in the span now, each as what it is measured by: its instant or its local date."""
    if isinstance(span, Elapsed):
        times, oldest = ask.times, here.at - span.seconds
        return [times[p] for p in places if times[p] > oldest]
    first, after = _dates_of(span, here.day)
    days = ask.days(here.zone)
    return [days[p] for p in places if first <= days[p] < after]


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
