"""When it opens and when it closes, by trying every instant at which anything can change, in order."""

from datetime import date, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

from gateway.audit.reading import allowed
from gateway.policy.model import Cooldown, Elapsed, OptOut, Spacing, Window

SECOND, MINUTE, HOUR, DAY = (timedelta(seconds=size) for size in (1, 60, 3600, 86_400))


def opening(packs, question, *, now, end, **known):
    """The first instant in (now, end) at which no rule objects, None when there is none."""
    tried = changes(packs, now, end, **known)
    return next((at for at in tried if allowed(packs, question, at=at, **known)), None)


def closing(packs, question, *, now, limit, **known):
    """The first instant in (now, limit) at which a rule objects, else `limit`."""
    tried = changes(packs, now, limit, **known)
    return next((at for at in tried if not allowed(packs, question, at=at, **known)), limit)


def changes(packs, now, end, *, zones, history, facts, told, overrides):
    """Every instant in (now, end) at which any rule may change its mind, in order."""
    rules = [rule for pack in packs for rule in pack.rules]
    found = {*of_events(rules, history), *of_consents(told), *of_opt_out(rules, facts)}
    shown = clocks(rules, told)
    for name in {*zones, *(rule.zone for rule in rules if rule.zone is not None)}:
        found |= of_clock(ZoneInfo(name), shown, now, end)
    return sorted(at for at in found if now < at < end)


def of_events(rules, history):
    """Where an event comes into being, and where it leaves what a rule looks back on by elapsed time."""
    lengths = {0} | {back.seconds for rule in rules if isinstance(back := looks_back(rule), Elapsed)}
    for event in history:
        yield from (event.at.replace(microsecond=0) + timedelta(seconds=length) for length in lengths)


def looks_back(rule):
    """The span of time that a rule looks back on, None when it does not."""
    return rule.rest if isinstance(rule, Cooldown | Spacing) else getattr(rule, "window", None)


def of_consents(told):
    for consent in told.consents:
        yield from (at for at in (consent.given_at, consent.until, consent.revoked_at) if at is not None)


def of_opt_out(rules, facts):
    if facts.get("optout_at"):
        since = moment(facts["optout_at"]).replace(microsecond=0)
        yield since
        for rule in rules:
            if isinstance(rule, OptOut) and rule.confirm_within_s is not None:
                yield since + timedelta(seconds=rule.confirm_within_s + 1)


def moment(fact):
    """A fact that is a date or an instant, from its value or its text; anything else as it is."""
    if not isinstance(fact, str):
        return fact
    try:
        return date.fromisoformat(fact) if len(fact) == len("2026-11-30") else datetime.fromisoformat(fact)
    except ValueError:
        return fact


def clocks(rules, told):
    """The seconds of a local day at which a rule or a wish begins or ends; midnight is always one."""
    hours = [wish.hours for wish in told.windows]
    for rule in rules:
        if isinstance(rule, Window):
            hours += [*(one for day in rule.week for one in day), *rule.workdays]
            hours += [] if rule.holiday_as is None else [rule.holiday_as.hours]
    return {0} | {edge for one in hours for edge in (one.open, one.close)}


def of_clock(zone, shown, now, end):
    """Each instant from now to the end at which the zone's clock shows one of these, and each change of its offset."""
    stretches = [now, *turns(zone, now, end), end]
    found = set(stretches)
    for start, stop in pairwise(stretches):
        ahead = offset(zone, start)
        midnight = (start + ahead).replace(hour=0, minute=0, second=0) - ahead
        while midnight < stop:
            edges = {midnight + clock * SECOND for clock in shown}
            found |= {at for at in edges if start <= at < stop}
            midnight += DAY
    return found


def turns(zone, now, end):
    """The instants at which the zone's offset from UTC changes: looked for by the hour, the minute, the second."""
    at = now
    while at < end:
        for step in (HOUR, MINUTE, SECOND):
            while at < end and offset(zone, at + step) == offset(zone, at):
                at += step
        at += SECOND
        if at < end:
            yield at


def offset(zone, at):
    return at.astimezone(zone).utcoffset()
