"""What each kind of rule objects to, one sentence of the language after the other."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date
from typing import assert_never

import tzdata  # type: ignore[import-untyped]  # it has no types

from gateway.audit.here import FORMS, Here
from gateway.policy.model import (
    FAILURES,
    UNKNOWN,
    WEEKDAYS,
    AnyRule,
    Blackout,
    BorrowerWindow,
    Cap,
    ChannelLock,
    ConsentRequired,
    Content,
    Cooldown,
    Coverage,
    Dates,
    Elapsed,
    Event,
    Hold,
    HoldUntil,
    Hours,
    IsoWeek,
    Month,
    OptOut,
    OwnWindow,
    Prerequisite,
    Refusal,
    Retention,
    Review,
    Spacing,
    Span,
    ThirdParty,
    Window,
)


def objects(rule: AnyRule, here: Here) -> bool:  # noqa: C901, PLR0911, PLR0912 (one case for each kind)
    """Whether the rule, which concerns the reminder and is in force, objects."""
    match rule:
        case Window():
            return _window(rule, here)
        case Cap():
            return _there(rule, here) and _binds(rule, here) and count(rule, here) + 1 > rule.max
        case Cooldown():
            return any(_too_recent(rule.rest, event, here) for event in _after(rule, here))
        case Spacing():
            return any(_too_recent(rule.rest, event, here) for event in _events(rule, here))
        case ChannelLock():
            used = {event.channel for event in _after(rule, here) if _inside(rule.window, event, here)}
            return bool(used) and here.question.channel not in used
        case Prerequisite():
            return _prerequisite(rule, here)
        case Hold() | Review():
            return here.is_set(rule.fact) and here.question.purpose not in rule.allow_purposes
        case HoldUntil():
            return _hold_until(rule, here)
        case OptOut():
            return _opt_out(rule, here)
        case ThirdParty():
            return here.question.recipient_role in rule.roles and not (
                _for_such_a_purpose(rule, here) and _failed_often(rule, here)
            )
        case Refusal():
            return here.question.recipient_role in rule.roles and here.is_set("contact_refused")
        case BorrowerWindow():
            return _borrower_window(here)
        case Blackout():
            return _blackout(rule, here)
        case ConsentRequired():
            return _consent_required(rule, here)
        case Coverage():
            return _uncovered(rule.calendars, here) or _stale(rule)
        case Content() | Retention():
            return False
        case _:
            assert_never(rule)


def count(rule: Cap, here: Here) -> int:
    """How many earlier contacts a cap counts now."""
    return sum(
        _inside(rule.window, event, here)
        and not event.flags & rule.exclude_flags
        and (event.outcome == UNKNOWN or _counted_outcome(rule, event.outcome))
        for event in _events(rule, here)
    )


def _counted_outcome(rule: Cap, outcome: str) -> bool:
    named = rule.count_outcomes is None or outcome in rule.count_outcomes
    return named and outcome not in rule.exclude_outcomes


def _there(rule: Window | Cap, here: Here) -> bool:
    """Whether the reminder is to an address of a kind that the rule names; of an unknown kind it is to none."""
    return rule.address_kinds is None or here.question.address_kind in rule.address_kinds


def _binds(rule: Cap, here: Here) -> bool:
    """Whether the outcome that a cap waits for has ever happened, on any channel and with any flag."""
    if rule.only_after is None:
        return True
    return any(
        event.outcome in rule.only_after and event.outcome != UNKNOWN for event in _shared(rule.per, here)
    )


def _shared(per: Iterable[str], here: Here) -> list[Event]:
    """The events that share these keys with the reminder; a key that either side lacks matches."""

    def same(key: str, event: Event) -> bool:
        mine, theirs = getattr(here.question, key), getattr(event, key)
        return mine is None or theirs is None or mine == theirs

    return [event for event in here.events if all(same(key, event) for key in per)]


def _events(rule: Cap | Cooldown | Spacing, here: Here) -> list[Event]:
    """The events that share the keys of the rule, on its channels, by its technologies and adapters as far as known."""
    return [
        event
        for event in _shared(rule.per, here)
        if (rule.channels is None or event.channel in rule.channels)
        and (rule.technologies is None or event.technology is None or event.technology in rule.technologies)
        and (rule.adapters is None or event.adapter is None or event.adapter in rule.adapters)
    ]


def _after(rule: Cooldown | ChannelLock, here: Here) -> list[Event]:
    """The events whose outcome starts the rule; an unknown one starts nothing. A lock looks at all channels."""
    events = _shared(rule.per, here) if isinstance(rule, ChannelLock) else _events(rule, here)
    return [event for event in events if event.outcome in rule.after and event.outcome != UNKNOWN]


def _inside(span: Span, event: Event, here: Here) -> bool:
    """Whether an event lies in the window that ends now."""
    day = event.at.astimezone(here.zone).date()
    match span:
        case Dates(n=n):
            return 0 <= here.dates_since(event.at) < n
        case Elapsed(seconds=seconds):
            return here.seconds_since(event.at) < seconds
        case IsoWeek():
            return day.isocalendar()[:2] == here.today.isocalendar()[:2]
        case Month():
            return (day.year, day.month) == (here.today.year, here.today.month)
        case _:
            assert_never(span)


def _too_recent(rest: Dates | Elapsed, event: Event, here: Here) -> bool:
    """Whether so many local dates have not passed yet, the event's own being day 1; or so much time."""
    match rest:
        case Dates(n=n):
            return here.dates_since(event.at) < n
        case Elapsed(seconds=seconds):
            return here.seconds_since(event.at) < seconds
        case _:
            assert_never(rest)


def _window(rule: Window, here: Here) -> bool:
    """Whether the time is in none of the date's hours, or the date is beyond a calendar that the rule names."""
    if not _there(rule, here):
        return False
    if rule.not_if is not None and here.number(rule.not_if.fact) > rule.not_if.gt:
        return False
    if _uncovered(rule.calendars, here):
        return True
    return not any(hours.open <= here.clock < hours.close for hours in _hours(rule, here))


def _hours(rule: Window, here: Here) -> list[Hours]:
    """The hours of the date: none on a holiday that closes it, others on one that replaces what an entry names."""
    day, days = here.today, here.days
    if rule.closed_on_holidays is not None and days.holiday(rule.closed_on_holidays, day):
        return []
    hours = list(rule.week[day.weekday()])
    if rule.workday_calendar is not None and days.workday(
        rule.workday_calendar.removeprefix("workday:"), day
    ):
        hours += rule.workdays
    instead = rule.holiday_as
    if hours and instead is not None and days.holiday(instead.calendar, day):
        return [instead.hours]
    return hours


def _uncovered(calendars: Iterable[str], here: Here) -> bool:
    return not all(here.days.official(name, here.today) for name in calendars)


def _stale(rule: Coverage) -> bool:
    """Whether the time-zone data in use is older than the rule asks for."""
    return rule.tzdata is not None and rule.tzdata > tzdata.IANA_VERSION


def _prerequisite(rule: Prerequisite, here: Here) -> bool:
    """Whether the fact is missing, too new or too old."""
    if not here.is_set(rule.fact):
        return True
    age = here.fact_age(rule.fact)
    return age < rule.dates or (rule.within_dates is not None and age > rule.within_dates)


def _hold_until(rule: HoldUntil, here: Here) -> bool:
    """Whether the date is before that of the fact and so many more, nothing voids it and no purpose is let through."""
    if not here.is_set(rule.fact) or here.question.purpose in rule.allow_purposes:
        return False
    if rule.unless is not None and here.is_set(rule.unless):
        return False
    return here.fact_age(rule.fact) < rule.plus_dates


def _opt_out(rule: OptOut, here: Here) -> bool:
    """Whether the person has opted out by now, and this is no confirmation in time."""
    if not here.is_set("optout_at"):
        return False
    passed = here.seconds_since(here.fact_instant("optout_at"))
    confirms = here.question.purpose == "optout_confirmation" and rule.confirm_within_s is not None
    return passed >= 0 and not (confirms and passed <= (rule.confirm_within_s or 0))


def _for_such_a_purpose(rule: ThirdParty, here: Here) -> bool:
    """Whether the purpose is one that the rule admits; where it names some, none said is none of them."""
    return rule.only_purposes is None or here.question.purpose in rule.only_purposes


def _failed_often(rule: ThirdParty, here: Here) -> bool:
    """Whether the latest calls to the debtor are a run of failures, long enough, its `fails`-th old enough."""
    run: list[Event] = []
    for event in here.events:
        if event.channel == "voice" and event.recipient_role == "debtor":
            run = [*run, event] if event.outcome in FAILURES else []
    return len(run) >= rule.fails and here.dates_since(run[rule.fails - 1].at) >= rule.delay_dates


def _borrower_window(here: Here) -> bool:
    """Whether the borrower has asked for silence at this time, or for other times on these dates."""
    asked = [window for window in here.told.windows if _asked(window, here)]
    denied = [window for window in asked if window.kind == "deny"]
    allowed = [window for window in asked if window.kind == "allow"]
    if any(_includes(window, here) for window in denied):
        return True
    return bool(allowed) and not any(_includes(window, here) for window in allowed)


def _asked(window: OwnWindow, here: Here) -> bool:
    """Whether what the borrower asked for concerns the reminder on this date, whatever the weekday and the hour."""
    question = here.question
    return (
        (window.channels is None or question.channel in window.channels)
        and (window.address_kinds is None or question.address_kind in window.address_kinds)
        and _between(window.since, here.today, window.until)
    )


def _includes(window: OwnWindow, here: Here) -> bool:
    """Whether the weekday and the time are in that window."""
    return (
        WEEKDAYS[here.today.weekday()] in window.on and window.hours.open <= here.clock < window.hours.close
    )


def _between(since: date | None, day: date, until: date | None) -> bool:
    return (since is None or since <= day) and (until is None or day < until)


def _blackout(rule: Blackout, here: Here) -> bool:
    """Whether the date is in a blackout for one of the rule's reasons."""
    return any(
        (rule.reasons is None or blackout.reason in rule.reasons)
        and _between(blackout.since, here.today, blackout.until)
        for blackout in here.told.blackouts
    )


def _consent_required(rule: ConsentRequired, here: Here) -> bool:
    """Whether no live consent to be contacted on the channel has the form, and no fact stands for one."""
    if rule.unless is not None and here.is_set(rule.unless):
        return False
    return not any(
        FORMS.index(consent.form) >= FORMS.index(rule.form) for consent in here.consents("contact")
    )
