"""A rule in English, from its keys in the words of the language: for the pages of packs and for `diff`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from gateway.policy.model import WEEKDAYS, AnyRule, Hours, Window
from gateway.policy.week import day_spans, longest, ordinary

Keys = Mapping[str, Any]
"""A rule as its file has it."""

DAYS = tuple(day.capitalize() for day in WEEKDAYS)
CLOSED = "closed"
_TIMES = {"day": "a day", "week": "a calendar week", "month": "a calendar month"}
_CONSENTS = {"oral": "an oral or stronger", "written": "a written or separate", "separate": "a separate"}
_SAME = {"day": "on that date", "week": "in that calendar week", "month": "in that calendar month"}


def sentence(keys: Keys) -> str:
    """What the rule asks, in one sentence."""
    return _SENTENCES[keys["kind"]](keys)


def terms(keys: Keys) -> Iterator[tuple[str, str]]:
    """What else its keys say: (heading, words), in a fixed order."""
    for key, heading in _TERMS.items():
        if key in keys:
            always = " (an unknown one always is)" if key == "count_outcomes" else ""
            yield heading, term(keys[key]) + always


def value(key: str, found: Any, rule: AnyRule | None) -> str | None:
    """The value of a key on one line, the same for what means the same; None for a key that is not there."""
    match found:
        case None:
            return None
        case list() if isinstance(rule, Window) and key == "days":
            return _days(rule)
        case list():
            return ", ".join(sorted(str(one) for one in found))
        case dict():
            return ", ".join(f"{name} {value(name, found[name], None)}" for name in sorted(found))
        case bool():
            return str(found).lower()
        case _:
            return str(found)


def _days(rule: Window) -> str:
    """`Mon-Fri 08:00-21:00; Sat 09:00-12:00; workday:CN 08:00-20:00`; what is closed is left out."""
    texts = [_clocks(rule.week[day]) for day in range(7)]
    named = [f"{days} {text}" for days, text in runs(texts) if text != CLOSED]
    named += [f"{rule.workday_calendar} {_clocks(rule.workdays)}"] if rule.workdays else []
    return "; ".join(named) or CLOSED


def hours(rule: Window, holidays: int | None) -> list[tuple[str, str]]:
    """The hours of weekdays, those that have the same together, and of holidays: (`Mon-Fri`, `08:00-21:00`)."""
    week = ordinary(rule)
    found = runs([clock_spans(day_spans(week, day)) for day in range(7)])
    return found if holidays is None else [*found, ("holidays", of_holiday(holidays))]


def runs(texts: Sequence[str]) -> list[tuple[str, str]]:
    """Weekdays in a row with the same text as one."""
    starts = [day for day in range(len(texts)) if day == 0 or texts[day] != texts[day - 1]]
    ends = [*(start - 1 for start in starts[1:]), len(texts) - 1]
    return [
        (DAYS[a] if a == b else f"{DAYS[a]}-{DAYS[b]}", texts[a]) for a, b in zip(starts, ends, strict=True)
    ]


def of_holiday(holidays: int) -> str:
    """The hours of a holiday, on a weekday that is open at all."""
    return clock_spans(longest(holidays))


def clock_spans(spans: Iterable[tuple[int, int]]) -> str:
    """`08:00-12:00 and 13:00-21:00`, or `closed`."""
    return " and ".join(f"{_clock(a)}-{_clock(b)}" for a, b in spans) or CLOSED


def whose_time(zone: str | None) -> str:
    """Whose local time a rule means."""
    if zone is None:
        return "local time in every zone the borrower may be in"
    return f"local time of {zone.removeprefix('fixed:')}, wherever the borrower is"


def listed(words: Iterable[str], last: str = "and") -> str:
    """`a, b and c`; of nothing, `none`."""
    *most, end = [*words] or ["none"]
    return f"{', '.join(most)} {last} {end}" if most else end


def plural(number: int, noun: str) -> str:
    """`1 date`, `7 dates`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _clocks(found: Iterable[Hours]) -> str:
    return clock_spans(sorted((one.open // 60, one.close // 60) for one in found))


def _clock(minutes: int) -> str:
    return f"{minutes // 60:02}:{minutes % 60:02}"


def term(found: Any) -> str:
    """The value of a key that narrows, widens or dates a rule."""
    match found:
        case list():
            return _quoted(found)
        case {"fact": fact, "gt": number}:
            return f"`{fact}` is more than {number}"
        case {"fact": fact}:
            return f"the date `{fact}`{_shift(found.get('plus_dates', 0))}"
        case dict():
            return f"{_CONSENTS.get(found.get('form', ''), 'any')} consent that names this rule{_while_relaxed(found)}"
        case _:
            return str(found)


def _shift(dates: int) -> str:
    return f" {'plus' if dates > 0 else 'minus'} {plural(abs(dates), 'date')}" if dates else ""


def _while_relaxed(found: Keys) -> str:
    dates = f", for {plural(found['dates'], 'date')} from the day it was given" if "dates" in found else ""
    return dates + (f"; the attempt carries the flag `{found['flag']}`" if "flag" in found else "")


def _window(keys: Keys) -> str:
    where = _at(keys)
    if not keys["days"]:
        return f"No contact{_by(keys)}{where}."
    return f"Contact{_by(keys)}{where} only within these hours; {whose_time(keys.get('zone'))}."


def _cap(keys: Keys) -> str:
    most = (
        f"At most {keys['max']} {_noun(keys)} {_over(keys['window'])}" if keys["max"] else f"No {_noun(keys)}"
    )
    once = keys.get("only_after")
    after = f", once there has been a contact with outcome `{once}`" if once else ""
    return f"{most}{_at(keys)}{_per(keys)}{after}."


def _cooldown(keys: Keys) -> str:
    return f"After {_a(keys['after'])}{_by(keys)}{_with(keys)}, silence {_rest(keys)}."


def _spacing(keys: Keys) -> str:
    return f"After any contact{_by(keys)}{_with(keys)}, silence {_rest(keys)}."


def _channel_lock(keys: Keys) -> str:
    when = _SAME.get(keys["window"]["type"]) or _over(keys["window"])
    return f"After {_a(keys['after'])}{_with(keys)}, only the channels that such contacts used, {when}."


def _prerequisite(keys: Keys) -> str:
    from_ = f"{plural(keys['dates'], 'date')} after it" if keys["dates"] else "that date"
    last = f" until {plural(keys['within_dates'], 'date')} after it" if "within_dates" in keys else ""
    return f"Contact{_by(keys)} only where `{keys['fact']}` is set, from {from_} on{last}."


def _hold(keys: Keys) -> str:
    return f"No contact{_by(keys)} while `{keys['fact']}` is set{_but_for(keys)}."


def _hold_until(keys: Keys) -> str:
    plus = f" plus {plural(keys['plus_dates'], 'date')}" if keys["plus_dates"] else ""
    unless = f", unless `{keys['unless']}` is set" if "unless" in keys else ""
    return f"No contact{_by(keys)} before the date `{keys['fact']}`{plus}{unless}{_but_for(keys)}."


def _opt_out(keys: Keys) -> str:
    within = keys.get("confirm_within_s")
    but = (
        "not even a confirmation"
        if within is None
        else f"but one confirmation within {plural(within, 'second')}"
    )
    return f"No contact{_by(keys)} from `optout_at` on, {but}."


def _third_party(keys: Keys) -> str:
    fails, dates = plural(keys["fails"], "failed call"), plural(keys["delay_dates"], "date")
    what = f" for {_quoted(keys['only_purposes'], 'or')} alone," if "only_purposes" in keys else ""
    return f"{_roles(keys)}{what} only after {fails} in a row to the debtor, and {dates} later."


def _refusal(keys: Keys) -> str:
    return f"{_roles(keys)} never once `contact_refused` is set."


def _borrower_window(keys: Keys) -> str:
    return (
        f"Contact{_by(keys)} only at the times, and never at the times and places, that the borrower named."
    )


def _blackout(keys: Keys) -> str:
    why = f" for {_quoted(keys['reasons'], 'or')}" if "reasons" in keys else ""
    return f"No contact{_by(keys)} during a blackout{why}."


def _consent_required(keys: Keys) -> str:
    unless = f", or where `{keys['unless']}` is set" if "unless" in keys else ""
    return f"Contact{_by(keys)} only with {_CONSENTS.get(keys.get('form', ''), 'any')} consent to it{unless}."


def _coverage(keys: Keys) -> str:
    needs = [f"the calendar {_quoted(keys['calendars'])} covers the date"] if "calendars" in keys else []
    needs += [f"the time-zone data is {keys['tzdata']} or newer"] if "tzdata" in keys else []
    return f"Contact{_by(keys)} only while {listed(needs)}."


def _review(keys: Keys) -> str:
    return f"A human looks first while `{keys['fact']}` is set{_but_for(keys)}."


def _content(keys: Keys) -> str:
    says = [f"holds {_quoted(keys['require'])}"] if "require" in keys else []
    says += [f"holds none of {_quoted(keys['forbid'], 'or')}"] if "forbid" in keys else []
    return f"Every text{_by(keys)} {listed(says)}."


def _retention(keys: Keys) -> str:
    least, most = keys.get("min"), keys.get("max")
    if least == most:
        kept = [f"for {_lasting(keys['min'])}, then destroyed"]
    else:
        kept = [f"at least {_lasting(least)}"] if least else []
        kept += [f"at most {_lasting(most)}"] if most else []
    return f"Records ({_quoted(keys['records'])}) are kept {listed(kept)}."


def _lasting(span: Keys) -> str:
    since = {"event": "what they record", "last_contact": "the last contact", "closure": "the debt's closure"}
    unit = "years" if "years" in span else "days"
    return f"{plural(span[unit], unit[:-1])} from {since[span['from']]}"


def _noun(keys: Keys) -> str:
    """What a cap counts, in the number that its `max` asks for."""
    s = "" if keys["max"] == 1 else "s"
    if keys.get("count_outcomes") == ["conversation"]:
        return f"conversation{s}{_by(keys)}"
    return f"call{s}" if keys.get("channels") == ["voice"] else f"contact{s}{_by(keys)}"


def _by(keys: Keys) -> str:
    return f" by {listed(keys['channels'], 'or')}" if "channels" in keys else ""


def _at(keys: Keys) -> str:
    kinds = keys.get("address_kinds")
    return f" at an address of kind {_quoted(kinds, 'or')}" if kinds is not None else ""


def _over(window: Keys) -> str:
    kind = window["type"]
    return _TIMES.get(kind) or f"in {plural(window['n'], kind.removesuffix('s'))}"


def _rest(keys: Keys) -> str:
    if "hours" in keys:
        return f"for {plural(keys['hours'], 'hour')}"
    return f"for {plural(keys['dates'], 'date')}, its own being the first"


def cap_in_short(keys: Keys) -> str:
    """`7 calls in 7 dates`, and where it is not always in force, when."""
    dates = "".join(
        f" {word} {keys[key]}" for key, word in (("since", "from"), ("until", "before")) if key in keys
    )
    most = f"{keys['max']} {_noun(keys)} {_over(keys['window'])}" if keys["max"] else f"no {_noun(keys)}"
    return most + _at(keys) + dates


def _per(keys: Keys) -> str:
    return (
        f" per {listed(keys['per'])}".replace("recipient_role", "recipient's role") if keys.get("per") else ""
    )


def _with(keys: Keys) -> str:
    return _per(keys).replace(" per ", " with the same ", 1)


def _a(outcome: str) -> str:
    return f"a contact with outcome `{outcome}`" if outcome != "conversation" else "a conversation"


def _but_for(keys: Keys) -> str:
    return f", but for {_quoted(keys['allow_purposes'])}" if keys.get("allow_purposes") else ""


def _roles(keys: Keys) -> str:
    return f"Recipients in the role {_quoted(keys['roles'], 'or')}"


def _quoted(words: Iterable[str], last: str = "and") -> str:
    return listed((f"`{word}`" for word in words), last)


_SENTENCES: dict[str, Callable[[Keys], str]] = {
    "window": _window,
    "cap": _cap,
    "cooldown": _cooldown,
    "spacing": _spacing,
    "channel_lock": _channel_lock,
    "prerequisite": _prerequisite,
    "hold": _hold,
    "hold_until": _hold_until,
    "opt_out": _opt_out,
    "third_party": _third_party,
    "refusal": _refusal,
    "borrower_window": _borrower_window,
    "blackout": _blackout,
    "consent_required": _consent_required,
    "coverage": _coverage,
    "review": _review,
    "content": _content,
    "retention": _retention,
}
_TERMS = {
    "count_outcomes": "Counted outcomes",
    "exclude_outcomes": "Not counted, outcomes",
    "exclude_flags": "Not counted, flags",
    "purposes": "Only for purposes",
    "actors": "Only for actors",
    "institutions": "Only for institutions",
    "products": "Only for products",
    "technologies": "Only for technologies",
    "adapters": "Only through adapters",
    "exempt_purposes": "Not for purposes",
    "exempt_flags": "Not for flags",
    "not_if": "Not if",
    "relaxed_by": "Relaxed by",
    "since": "In force from",
    "until": "In force before",
    "since_fact": "In force from",
    "until_fact": "In force before",
    "note": "Note",
}
