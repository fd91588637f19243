"""From JSON and TOML to packs and rules. Every mistake of a source is named at once, with its place."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import fields
from functools import lru_cache
from hashlib import sha256
from importlib import resources
from typing import Any

from gateway.domain import ActorRole
from gateway.errors import Fault, PolicyError
from gateway.policy.calendars import WORKDAY_CN, is_calendar
from gateway.policy.faults import (
    LARGEST,
    Faults,
    Key,
    a_date,
    a_set,
    below,
    loose_text,
    many,
    number,
    read_keys,
    text,
    whole,
    word,
    zone_name,
)
from gateway.policy.model import (
    CHANNELS,
    CHAT,
    FORCES,
    FORMS,
    MOST_DAYS,
    OUTCOMES,
    PER,
    TECHNOLOGIES,
    WEEKDAYS,
    Above,
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
    FromFact,
    Hold,
    HoldUntil,
    HolidayHours,
    Hours,
    IsoWeek,
    Kept,
    Month,
    OptOut,
    Pack,
    Prerequisite,
    Refusal,
    Relaxed,
    Retention,
    Review,
    Spacing,
    Span,
    ThirdParty,
    Window,
)
from gateway.policy.zones import is_place, same_place

STARTS = ("event", "last_contact", "closure")
ACTORS = tuple(role.value for role in ActorRole)
RECORDS = ("decision", "message", "recording")
_ID = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)
_RELEASE = re.compile(r"20\d\d[a-z]", re.ASCII)
_CLOCK = re.compile(r"([01]\d|2[0-3]):([0-5]\d)|24:00", re.ASCII)
_MINUTE, _HOUR, _DAY = 60, 3600, 86_400


def parse_rules(value: Any, at: str, faults: Faults, pack: Mapping[str, Any]) -> tuple[AnyRule, ...]:
    """The rules of one pack from a list; `pack` has the header's keys, its id among them."""
    if not isinstance(value, list):
        faults.add(at, "wrong_type", "a pack must be a list of rules")
        return ()
    found = [_rule(one, below(at, place), faults, pack) for place, one in enumerate(value)]
    rules = tuple(rule for rule in found if rule is not None)
    _ids_once(value, at, faults)
    return rules


def parse_pack(source: str, where: str) -> Pack:
    """One pack from TOML text; PolicyError names every mistake as `where:/rule/0/key`."""
    faults = Faults()
    try:
        table = tomllib.loads(source)
    except tomllib.TOMLDecodeError as wrong:
        raise PolicyError([Fault(at=where, code="malformed_toml", message=str(wrong))]) from None
    keys = {"pack": Key(_as_is, required=True), "rule": Key(_as_is, required=True)}
    tables = read_keys(table, keys, "", faults)
    header = read_keys(tables.get("pack", {}), _HEADER, "/pack", faults)
    _dates_in_order(header, "/pack", faults)
    rules = parse_rules(tables.get("rule", []), "/rule", faults, header)
    _ids_of_a_form(tables.get("rule", []), faults)
    if faults:
        raise PolicyError([Fault(at=f"{where}:{f.at}", code=f.code, message=f.message) for f in faults])
    known = {key: found for key, found in header.items() if key in _OF_PACK}
    return Pack(rules=rules, digest=digest(source), **known)


def digest(source: str) -> str:
    """What a pack's text is known by for ever."""
    return sha256(source.encode()).hexdigest()


def _dates_in_order(read: Mapping[str, Any], at: str, faults: Faults) -> None:
    """`since` comes before `until`."""
    if "since" in read and "until" in read and read["since"] >= read["until"]:
        faults.add(below(at, "since"), "since_not_before_until", "since must be before until")


def _ids_once(value: list[Any], at: str, faults: Faults) -> None:
    """A rule's id names one rule of its pack."""
    seen: set[str] = set()
    for place, one in enumerate(value):
        name = one.get("id") if isinstance(one, dict) else None
        if isinstance(name, str):
            if name in seen:
                faults.add(below(below(at, place), "id"), "id_twice", "another rule of this pack has this id")
            seen.add(name)


def _id(value: Any, at: str, faults: Faults) -> str | None:
    """An id of a pack or of a rule, as it stands in file names, URLs and metrics."""
    found = text(value, at, faults)
    if found is None or _ID.fullmatch(found):
        return found
    faults.add(at, "id_form", "an id has 1 to 64 letters A-Z, digits, dots, hyphens and underscores")
    return None


def _ids_of_a_form(rules: Any, faults: Faults) -> None:
    """The rules' ids in a file; those in somebody's cases may be any text."""
    for place, one in enumerate(rules if isinstance(rules, list) else []):
        name = one.get("id") if isinstance(one, dict) else None
        if isinstance(name, str) and name:
            _id(name, f"/rule/{place}/id", faults)


def shipped_texts() -> Iterator[tuple[str, str]]:
    """(file name, TOML text) of each pack that comes with the gateway."""
    for file in sorted(resources.files("gateway.policy.packs").iterdir(), key=lambda file: file.name):
        if file.name.endswith(".toml"):
            yield file.name, file.read_text("utf-8")


@lru_cache(maxsize=1)
def shipped() -> Mapping[str, Pack]:
    """The packs that come with the gateway, by id; PolicyError with all their mistakes."""
    packs: list[Pack] = []
    faults: list[Fault] = []
    for name, source in shipped_texts():
        try:
            packs.append(parse_pack(source, name))
        except PolicyError as wrong:
            faults += wrong.faults
    if faults:
        raise PolicyError(faults)
    return {pack.id: pack for pack in packs}


def _as_is(value: Any, _at: str, _faults: Faults) -> Any:
    return value


def _clock(value: Any, at: str, faults: Faults) -> int | None:
    """Seconds of the day of `08:00`; `24:00` is its end."""
    if isinstance(value, str) and _CLOCK.fullmatch(value):
        return int(value[:2]) * _HOUR + int(value[3:]) * _MINUTE
    faults.add(at, "wrong_type", "this must be a time of day from 00:00 to 24:00")
    return None


def hours_of(read: dict[str, Any], at: str, faults: Faults) -> Hours | None:
    """Hours from the keys `open` and `close` of what was read."""
    if "open" not in read or "close" not in read:
        return None
    if read["open"] >= read["close"]:
        faults.add(below(at, "open"), "open_not_before_close", "open must be before close")
        return None
    return Hours(open=read["open"], close=read["close"])


def _calendar(value: Any, at: str, faults: Faults) -> str | None:
    if isinstance(value, str) and is_calendar(value):
        return value
    faults.add(at, "calendar_unknown", "no such calendar; use an ISO 3166 code, US or CA-ON")
    return None


def _any_calendar(value: Any, at: str, faults: Faults) -> str | None:
    return WORKDAY_CN if value == WORKDAY_CN else _calendar(value, at, faults)


def _holiday_as(value: Any, at: str, faults: Faults) -> HolidayHours | None:
    read = read_keys(value, {"calendar": Key(_calendar, required=True), **OPEN_CLOSE}, at, faults)
    hours = hours_of(read, at, faults)
    return HolidayHours(calendar=read["calendar"], hours=hours) if hours and "calendar" in read else None


def _on(value: Any, at: str, faults: Faults) -> frozenset[str] | None:
    """The dates that an entry names: weekdays, or the one calendar of working days."""
    if value == WORKDAY_CN:
        return frozenset([WORKDAY_CN])
    if isinstance(value, list):
        return a_set(word(WEEKDAYS))(value, at, faults)
    faults.add(at, "unknown_word", f"this must be a list of weekdays, or {WORKDAY_CN}")
    return None


def _entry(value: Any, at: str, faults: Faults) -> tuple[frozenset[str], Hours] | None:
    read = read_keys(value, {"on": Key(_on, required=True), **OPEN_CLOSE}, at, faults)
    hours = hours_of(read, at, faults)
    return (read["on"], hours) if hours and "on" in read else None


def _above(value: Any, at: str, faults: Faults) -> Above | None:
    read = read_keys(value, {"fact": Key(text, required=True), "gt": Key(number, required=True)}, at, faults)
    return Above(**read) if len(read) == len(("fact", "gt")) else None


def _span(value: Any, at: str, faults: Faults) -> Span | None:
    """A cap's window."""
    given = value.get("type") if isinstance(value, dict) else None
    kind = given if isinstance(given, str) else ""
    counted = kind in _COUNTED
    most = MOST_DAYS * _DAY // _COUNTED.get(kind, _DAY)
    keys = {"type": Key(word((*_COUNTED, *_FIXED)), required=True), "n": Key(whole(1, most), required=True)}
    read = read_keys(value, keys if counted else {"type": keys["type"]}, at, faults)
    if counted and "n" in read:
        return Dates(n=read["n"]) if kind == "dates" else Elapsed(seconds=read["n"] * _COUNTED[kind])
    return _FIXED.get(kind)


def _from_fact(value: Any, at: str, faults: Faults) -> FromFact | None:
    keys = {"fact": Key(text, required=True), "plus_dates": Key(whole(-LARGEST), required=True)}
    read = read_keys(value, keys, at, faults)
    return FromFact(**read) if len(read) == len(keys) else None


def _relaxed(value: Any, at: str, faults: Faults) -> Relaxed | None:
    """By which consent a rule gives way."""
    keys = {"form": Key(word(FORMS)), "dates": Key(whole(1)), "flag": Key(text)}
    return Relaxed(**read_keys(value, keys, at, faults))


def _kept(value: Any, at: str, faults: Faults) -> Kept | None:
    """A length of time to keep records for."""
    keys = {"years": Key(whole(1, 100)), "days": Key(whole(1)), "from": Key(word(STARTS), required=True)}
    read = read_keys(value, keys, at, faults)
    if isinstance(value, dict) and ("years" in value) == ("days" in value):
        faults.add(at, "one_of_two", "give either years or days")
    elif "from" in read and ("years" in read or "days" in read):
        return Kept(days=read.get("days"), years=read.get("years"), start=read["from"])
    return None


def _release(value: Any, at: str, faults: Faults) -> str | None:
    """A release of the time-zone database."""
    if isinstance(value, str) and _RELEASE.fullmatch(value):
        return value
    faults.add(at, "wrong_type", "this must be a release of the time-zone database, 2026f")
    return None


@lru_cache(maxsize=1)
def _blocks() -> tuple[str, ...]:
    """The blocks that a rule on content may name (gateway.policy.content)."""
    source = resources.files("gateway.policy").joinpath("content.toml").read_text("utf-8")
    return tuple(tomllib.loads(source))


def _block(value: Any, at: str, faults: Faults) -> str | None:
    return word(_blocks())(value, at, faults)


def _fixed_zone(value: Any, at: str, faults: Faults) -> str | None:
    if isinstance(value, str) and value.startswith("fixed:"):
        return zone_name(value.removeprefix("fixed:"), at, faults)
    faults.add(at, "zone_unknown", "this must be fixed:Area/City, or absent for each of the borrower's zones")
    return None


def a_channels(value: Any, at: str, faults: Faults) -> frozenset[str] | None:
    """Channels; `chat` stands for its three."""
    named = a_set(word(CHANNELS | {"chat"}))(value, at, faults)
    if named is None:
        return None
    return (named - {"chat"}) | CHAT if "chat" in named else named


def _applies(value: Any, at: str, faults: Faults) -> tuple[str, ...] | None:
    """Places by ISO 3166, one at least, or a word."""
    if isinstance(value, str) and value in _APPLIES:
        return (value,)
    if isinstance(value, list) and value:
        return many(_place)(value, at, faults)
    faults.add(at, "wrong_type", f"this must be a list of one place or more, {_A_PLACE}; {_OR_A_WORD}")
    return None


def _place(value: Any, at: str, faults: Faults) -> str | None:
    if isinstance(value, str) and is_place(value):
        return same_place(value)
    faults.add(at, "place_unknown", f"no such place: give {_A_PLACE}; {_OR_A_WORD}")
    return None


_APPLIES = ("everyone", "elsewhere", "assigned")
_A_PLACE = "an ISO 3166 code, CN or US-NY, of a city US-NY-NYC"
_OR_A_WORD = f"or, without a list, one of the words {', '.join(_APPLIES)}"
_COUNTED = {"dates": _DAY, "hours": _HOUR, "minutes": _MINUTE}
_FIXED: dict[str, Span] = {"day": Dates(n=1), "week": IsoWeek(), "month": Month()}
OPEN_CLOSE = {"open": Key(_clock, required=True), "close": Key(_clock, required=True)}
_WORDS = a_set(text)
_OUTCOME = word(OUTCOMES)
_OUTCOMES = a_set(_OUTCOME)
_PER = Key(many(word(PER)))
_COUNT = whole(0)

_COMMON = {
    "id": Key(text, required=True),
    "kind": Key(_as_is, required=True),
    "cite": Key(loose_text),
    "force": Key(word(FORCES)),
    "source": Key(loose_text),
    "checked": Key(a_date),
    "channels": Key(a_channels),
    "zone": Key(_fixed_zone),
    "since": Key(a_date),
    "until": Key(a_date),
    "since_fact": Key(_from_fact),
    "until_fact": Key(_from_fact),
    "purposes": Key(_WORDS),
    "exempt_purposes": Key(_WORDS),
    "exempt_flags": Key(_WORDS),
    "actors": Key(a_set(word(ACTORS))),
    "institutions": Key(_WORDS),
    "products": Key(_WORDS),
    "technologies": Key(a_set(word(TECHNOLOGIES))),
    "adapters": Key(_WORDS),
    "relaxed_by": Key(_relaxed),
    "unsure": Key(text),
    "note": Key(loose_text),
}
_SCOPE = (
    "since_fact",
    "until_fact",
    "purposes",
    "exempt_purposes",
    "actors",
    "institutions",
    "products",
    "adapters",
)
_INHERITED = ("since", "until", *_SCOPE)
"""Keys of a pack's header that hold for each of its rules that does not say otherwise."""
_REST = {"dates": Key(whole(0, MOST_DAYS)), "hours": Key(whole(0, MOST_DAYS * 24)), "per": _PER}
_WINDOW_KEYS = {
    "days": Key(many(_entry), required=True),
    "closed_on_holidays": Key(_calendar),
    "holiday_as": Key(_holiday_as),
    "address_kinds": Key(_WORDS),
    "not_if": Key(_above),
}
_CAP_KEYS = {
    "max": Key(_COUNT, required=True),
    "window": Key(_span, required=True),
    "per": _PER,
    "count_outcomes": Key(_OUTCOMES),
    "exclude_outcomes": Key(_OUTCOMES),
    "exclude_flags": Key(_WORDS),
    "only_after": Key(_OUTCOME),
    "address_kinds": Key(_WORDS),
}
_HOLD_UNTIL_KEYS = {
    "fact": Key(text, required=True),
    "plus_dates": Key(_COUNT, required=True),
    "unless": Key(text),
    "allow_purposes": Key(_WORDS),
}
_LOCK_KEYS = {"after": Key(_OUTCOME, required=True), "window": Key(_span, required=True), "per": _PER}
_THIRD_PARTY_KEYS = {
    "roles": Key(_WORDS, required=True),
    "fails": Key(whole(1), required=True),
    "delay_dates": Key(_COUNT, required=True),
    "only_purposes": Key(_WORDS),
}
_PREREQUISITE_KEYS = {
    "fact": Key(text, required=True),
    "dates": Key(_COUNT, required=True),
    "within_dates": Key(_COUNT),
}
_HOLD_KEYS = {"fact": Key(text, required=True), "allow_purposes": Key(_WORDS)}
_RETENTION_KEYS = {"records": Key(a_set(word(RECORDS)), required=True), "min": Key(_kept), "max": Key(_kept)}
_KINDS: dict[str, tuple[type[Any], dict[str, Key]]] = {
    Window.kind: (Window, _WINDOW_KEYS),
    Cap.kind: (Cap, _CAP_KEYS),
    Cooldown.kind: (Cooldown, {"after": Key(_OUTCOME, required=True), **_REST}),
    Spacing.kind: (Spacing, _REST),
    ChannelLock.kind: (ChannelLock, _LOCK_KEYS),
    Prerequisite.kind: (Prerequisite, _PREREQUISITE_KEYS),
    Hold.kind: (Hold, _HOLD_KEYS),
    HoldUntil.kind: (HoldUntil, _HOLD_UNTIL_KEYS),
    OptOut.kind: (OptOut, {"confirm_within_s": Key(whole(0, LARGEST * _HOUR))}),
    ThirdParty.kind: (ThirdParty, _THIRD_PARTY_KEYS),
    Refusal.kind: (Refusal, {"roles": Key(_WORDS, required=True)}),
    BorrowerWindow.kind: (BorrowerWindow, {}),
    Blackout.kind: (Blackout, {"reasons": Key(_WORDS)}),
    ConsentRequired.kind: (ConsentRequired, {"form": Key(word(FORMS)), "unless": Key(text)}),
    Coverage.kind: (Coverage, {"calendars": Key(many(_any_calendar)), "tzdata": Key(_release)}),
    Review.kind: (Review, _HOLD_KEYS),
    Content.kind: (Content, {"require": Key(many(_block)), "forbid": Key(many(_block))}),
    Retention.kind: (Retention, _RETENTION_KEYS),
}
_HEADER = {
    "id": Key(_id, required=True),
    "version": Key(text, required=True),
    "title": Key(text, required=True),
    "since": Key(a_date),
    "until": Key(a_date),
    "review_status": Key(text, required=True),
    "review_by": Key(a_date),
    "source": Key(text, required=True),
    "applies": Key(_applies, required=True),
    "answered_as": Key(_OUTCOME),
    "holidays": Key(word(("residence",))),
    **{key: _COMMON[key] for key in _SCOPE},
}


_OF_PACK = frozenset(field.name for field in fields(Pack))


def _rule(value: Any, at: str, faults: Faults, pack: Mapping[str, Any]) -> AnyRule | None:
    """One rule, None when it has a mistake."""
    before = len(faults)
    if not isinstance(value, dict):
        faults.add(at, "wrong_type", "a rule must be an object")
        return None
    kind = value.get("kind")
    if not isinstance(kind, str) or kind not in _KINDS:
        faults.add(below(at, "kind"), "unknown_word", f"this must be one of: {', '.join(sorted(_KINDS))}")
        return None
    make, keys = _KINDS[kind]
    read = read_keys(value, _COMMON | keys, at, faults)
    _one_of_two(kind, value, at, faults)
    if len(faults) > before:
        return None
    inherited = {key: pack[key] for key in _INHERITED if key in pack}
    rule: AnyRule = make(
        pack=pack.get("id", ""), version=pack.get("version", ""), **(inherited | _shaped(read))
    )
    return rule


_ONE_AT_LEAST = {"calendars": (Coverage.kind,), "require": (Content.kind,), "min": (Retention.kind,)}


def _one_of_two(kind: str, value: dict[str, Any], at: str, faults: Faults) -> None:
    """Keys of which a rule may have one only, or must have one."""
    if kind in ("cooldown", "spacing") and ("dates" in value) == ("hours" in value):
        faults.add(at, "one_of_two", "give either dates or hours")
    for one, other in (("calendars", "tzdata"), ("require", "forbid"), ("min", "max")):
        if kind in _ONE_AT_LEAST[one] and one not in value and other not in value:
            faults.add(at, "one_at_least", f"give {one}, {other} or both")


def _shaped(read: dict[str, Any]) -> dict[str, Any]:
    """What was read of a rule, as the fields of its value."""
    match read.pop("kind"):
        case "window":
            read.update(_week(read.pop("days")))
        case "cooldown" | "spacing":
            read["rest"] = (
                Dates(n=read.pop("dates")) if "dates" in read else Elapsed(seconds=read.pop("hours") * _HOUR)
            )
    return {
        key: frozenset([found]) if key in ("after", "only_after") else found for key, found in read.items()
    }


def _week(entries: tuple[tuple[frozenset[str], Hours], ...]) -> dict[str, Any]:
    """The hours of each weekday, and those of working days."""
    workdays = tuple(hours for on, hours in entries if WORKDAY_CN in on)
    named = any(WORKDAY_CN in on for on, _ in entries)
    return {
        "week": tuple(tuple(hours for on, hours in entries if day in on) for day in WEEKDAYS),
        "workdays": workdays,
        "workday_calendar": WORKDAY_CN if named else None,
    }
