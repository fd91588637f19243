"""One table of all packs, in Markdown: hours, caps and whom they count."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from gateway.policy import words
from gateway.policy.model import Cap, Pack, Window
from gateway.policy.week import DAY, day_spans, of_holidays, ordinary
from gateway.policy.written import Written

MADE = "*Made by `make docs` from the packs' files: change those.*"
_FOR = {
    "everyone": "everyone",
    "elsewhere": "wherever no law of a place gives hours for the channel",
    "assigned": "only tenants whose assignment names it",
}
_SAT, _SUN = 5, 6
_INTRO = (
    "What is enforced, at a glance; each pack's page has the rest, with its sources, and says whose clock is meant."
    " Hours are half-open: 21:00:00 is no longer within 08:00-21:00. A rule in shadow is evaluated and recorded, and"
    " never objects."
)
_COLUMNS = (
    "pack",
    "for",
    "hours of",
    "Mon-Fri",
    "Sat",
    "Sun",
    "holidays",
    "caps",
    "counted per",
    "in shadow",
)
_NARROWS = ("purposes", "actors", "institutions", "products", "adapters")


def overview(packs: Sequence[Written]) -> str:
    """The page that holds the table."""
    head = [f"| {' | '.join(_COLUMNS)} |", f"|{'---|' * len(_COLUMNS)}"]
    lines = [_line(written) for written in sorted(packs, key=lambda written: written.stem)]
    return "\n".join(["# The packs", "", MADE, "", _INTRO, "", *head, *lines]) + "\n"


def for_whom(pack: Pack) -> str:
    """The places or the word that say to whom a pack applies."""
    return words.listed(_FOR.get(place, f"`{place}`") for place in pack.applies)


def safe(text: str) -> str:
    """A text that Markdown shows as it is, in a table, too; `code` stays code."""
    for sign in ("|", "*", "<", "~"):
        text = text.replace(sign, f"\\{sign}")
    return " ".join(text.split())


def _line(written: Written) -> str:
    pack = written.pack
    pairs = [(keys, rule) for keys, rule in written.pairs if not rule.in_shadow]
    windows = [rule for _, rule in pairs if isinstance(rule, Window) and _gives_hours(rule)]
    caps = [keys for keys, rule in pairs if isinstance(rule, Cap)]
    cells = [
        f"[{pack.id}]({written.stem}.md)",
        for_whom(pack) + _narrowed(written),
        "<br>".join(dict.fromkeys(_channels(rule) for rule in windows)),
        _each(windows, _weekdays),
        _each(windows, lambda rule: words.clock_spans(day_spans(ordinary(rule), _SAT))),
        _each(windows, lambda rule: words.clock_spans(day_spans(ordinary(rule), _SUN))),
        _each(windows, lambda rule: _holiday(of_holidays(rule, pack))),
        "<br>".join(dict.fromkeys(words.cap_in_short(keys) for keys in caps)),
        "<br>".join(dict.fromkeys(words.listed(keys.get("per") or ["all together"]) for keys in caps)),
        str(len(pack.rules) - len(pairs) or ""),
    ]
    return f"| {' | '.join(cell or '-' for cell in cells)} |"


def _gives_hours(rule: Window) -> bool:
    """Whether it is not about some addresses only, nor closed altogether."""
    return rule.address_kinds is None and ordinary(rule) != 0


def _each(windows: Sequence[Window], say: Callable[[Window], str]) -> str:
    """What is said of every window once; where they differ, for which channels and dates."""
    texts = [say(rule) for rule in windows]
    if len(set(texts)) <= 1:
        return "".join(texts[:1])
    return "<br>".join(
        dict.fromkeys(f"{text}{_where(rule)}" for text, rule in zip(texts, windows, strict=True))
    )


def _narrowed(written: Written) -> str:
    """For which purposes, actors, institutions, products, adapters the pack is alone."""
    named = [f"{key}: {', '.join(written.header[key])}" for key in _NARROWS if key in written.header]
    return f" ({'; '.join(named)})" if named else ""


def _channels(rule: Window) -> str:
    return "all channels" if rule.channels is None else ", ".join(sorted(rule.channels))


def _where(rule: Window) -> str:
    said = [", ".join(sorted(rule.channels))] if rule.channels is not None else []
    said += [f"from {rule.since}"] if rule.since else []
    said += [f"before {rule.until}"] if rule.until else []
    return f" ({'; '.join(said)})" if said else ""


def _weekdays(rule: Window) -> str:
    """Monday to Friday, each run of days with the same hours."""
    week = ordinary(rule) & (1 << _SAT * DAY) - 1
    runs = [
        (days, text)
        for days, text in words.runs([words.clock_spans(day_spans(week, day)) for day in range(_SAT)])
    ]
    return runs[0][1] if len(runs) == 1 else "; ".join(f"{days} {text}" for days, text in runs)


def _holiday(holidays: int | None) -> str:
    return "as any day" if holidays is None else words.of_holiday(holidays)
