"""Worked cases: a file of packs and questions in JSON, decided and compared with what they expect."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any, NamedTuple

from gateway.domain import Action
from gateway.errors import Fault, PolicyError
from gateway.policy.ask import as_moment
from gateway.policy.decide import HORIZON_DAYS, judge
from gateway.policy.faults import (
    Duplicates,
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
    utc_instant,
    whole,
    whole_second,
    word,
    zone_name,
)
from gateway.policy.model import (
    CHANNELS,
    FORMS,
    OUTCOMES,
    TECHNOLOGIES,
    WEEKDAYS,
    Absence,
    AnyRule,
    Case,
    Consent,
    Event,
    Expected,
    Fact,
    HoldUntil,
    OptOut,
    OwnWindow,
    Pack,
    Prerequisite,
    Question,
    Told,
    Verdict,
    Window,
)
from gateway.policy.parse import ACTORS, OPEN_CLOSE, a_channels, hours_of, parse_rules, shipped

_MOST_DAYS = 3660


class Result(NamedTuple):
    """A case, its verdict and whether that is what it expects (None when it expects nothing)."""

    case: Case
    verdict: Verdict
    ok: bool | None

    @property
    def rules(self) -> list[str]:
        """The ids that object now, each once."""
        return list(dict.fromkeys(finding.of.id for finding in self.verdict.objecting))

    @property
    def shadow(self) -> list[str]:
        """The ids of drafts that would, each once."""
        return list(dict.fromkeys(finding.of.id for finding in self.verdict.findings if finding.shadow))

    def as_json(self) -> dict[str, Any]:
        """The object that `--json` prints."""
        return {
            "id": self.case.id,
            "decision": self.verdict.action.value,
            "until": written(self.verdict.until),
            "rules": self.rules,
            "shadow": self.shadow,
            "ok": self.ok,
        }


def written(instant: datetime | None) -> str | None:
    """An instant of whole seconds as `2026-11-24T13:00:00Z`."""
    return None if instant is None else instant.strftime("%Y-%m-%dT%H:%M:%SZ")


def check(source: bytes, more: Iterable[Pack] = ()) -> list[Result]:
    """Decide every case of a JSON text; PolicyError names every mistake with its place."""
    return [decide_case(case) for case in parse_cases(source, more)]


def decide_case(case: Case) -> Result:
    """Judge one case by its packs alone and compare."""
    verdict = judge(
        case.packs,
        case.question,
        zones=case.zones,
        history=case.history,
        facts=case.facts,
        told=case.told,
        now=case.at,
        horizon_days=case.horizon_days,
    )
    result = Result(case, verdict, None)
    expected = case.expected
    if expected is None:
        return result
    ok = (verdict.action, verdict.until) == (expected.action, expected.until)
    return result._replace(ok=ok and set(expected.rules) <= set(result.rules))


def parse_cases(source: bytes, more: Iterable[Pack] = ()) -> list[Case]:
    """The cases of a JSON text with their packs; PolicyError names every mistake with its place.

    A pack that the text lacks is one of `more`, else the shipped one.
    """
    faults = Faults()
    top = read_keys(_json(source), {"packs": Key(_as_is), "cases": Key(_as_is, required=True)}, "", faults)
    packs = {pack.id: pack for pack in more} | dict(_packs(top.get("packs", {}), faults))
    cases = top.get("cases", [])
    if not isinstance(cases, list):
        faults.add("/cases", "wrong_type", "this must be a list")
        cases = []
    found = [_case(one, below("/cases", place), faults, packs) for place, one in enumerate(cases)]
    if faults:
        raise PolicyError(faults)
    return [case for case in found if case is not None]


def _json(source: bytes) -> Any:
    try:
        return json.loads(source.decode("utf-8-sig"), object_pairs_hook=Duplicates)
    except json.JSONDecodeError as wrong:
        at, message = f"line {wrong.lineno} column {wrong.colno}", f"this is not JSON: {wrong.msg}"
    except UnicodeDecodeError as wrong:
        at, message = f"byte {wrong.start}", "this is not UTF-8; save the file as UTF-8"
    except (ValueError, RecursionError):
        at, message = "/", "a number is too long, or the nesting too deep"
    raise PolicyError([Fault(at=at, code="malformed_json", message=message)])


def _as_is(value: Any, _at: str, _faults: Faults) -> Any:
    return value


def _packs(value: Any, faults: Faults) -> Mapping[str, Pack | None]:
    """The file's own packs; None for one with mistakes, which are noted."""
    if not isinstance(value, dict):
        faults.add("/packs", "wrong_type", "this must be an object: pack id → list of rules")
        return {}
    for name in value.twice if isinstance(value, Duplicates) else ():
        faults.add(below("/packs", name), "key_twice", "give this pack once")
    return {name: _pack(name, rules, faults) for name, rules in value.items()}


def _pack(name: str, rules: Any, faults: Faults) -> Pack | None:
    before = len(faults)
    read = parse_rules(rules, below("/packs", name), faults, {"id": name})
    return Pack(id=name, rules=read) if len(faults) == before else None


def _fact(value: Any, at: str, faults: Faults) -> Fact:
    if value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, list | dict):
        faults.add(at, "wrong_type", "a fact must be a text, a number, true or false")
        return None
    return number(value, at, faults)


def _facts(value: Any, at: str, faults: Faults) -> Mapping[str, Fact] | None:
    if not isinstance(value, dict):
        faults.add(at, "wrong_type", "this must be an object: name → fact")
        return None
    for name in value.twice if isinstance(value, Duplicates) else ():
        faults.add(below(at, name), "key_twice", "give this fact once")
    return {name: _fact(fact, below(at, name), faults) for name, fact in value.items()}


def _without_nulls(value: Any, keys: Mapping[str, Key]) -> Any:
    """An object without its optional keys that are null: they say no more than absent ones."""
    if not isinstance(value, dict):
        return value
    kept = [(key, v) for key, v in value.items() if v is not None or key not in keys or keys[key].required]
    twice = value.twice if isinstance(value, Duplicates) else []
    return Duplicates([*kept, *((key, value[key]) for key in twice)])


def _consent(value: Any, at: str, faults: Faults) -> Consent | None:
    read = read_keys(_without_nulls(value, _CONSENT), _CONSENT, at, faults)
    return Consent(**read) if "kind" in read and "given_at" in read else None


def _own_window(value: Any, at: str, faults: Faults) -> OwnWindow | None:
    read = read_keys(_without_nulls(value, _OWN_WINDOW), _OWN_WINDOW, at, faults)
    if ("open" in read) != ("close" in read):
        faults.add(at, "one_of_two", "give open and close, or neither")
        return None
    hours = hours_of(read, at, faults)
    shaped: dict[str, Any] = {key: found for key, found in read.items() if key not in OPEN_CLOSE}
    if hours is not None:
        shaped["hours"] = hours
    return OwnWindow(**shaped) if "kind" in read else None


def _absence(value: Any, at: str, faults: Faults) -> Absence | None:
    read = read_keys(_without_nulls(value, _ABSENCE), _ABSENCE, at, faults)
    return Absence(**read) if "reason" in read and "since" in read else None


def _question(value: Any, at: str, faults: Faults) -> Question | None:
    read = read_keys(_without_nulls(value, _QUESTION), _QUESTION, at, faults)
    return Question(**read) if "channel" in read else None


def _event(value: Any, at: str, faults: Faults) -> Event | None:
    read = read_keys(_without_nulls(value, _EVENT), _EVENT, at, faults)
    return Event(**read) if "channel" in read and "at" in read else None


def _expected(value: Any, at: str, faults: Faults) -> Expected | None:
    read = read_keys(value, _EXPECTED, at, faults)
    return Expected(action=Action(read["decision"]), until=read.get("until")) if "decision" in read else None


def _expected_until(value: Any, at: str, faults: Faults) -> datetime | None:
    return None if value is None else whole_second(value, at, faults)


def _zones(value: Any, at: str, faults: Faults) -> tuple[str, ...] | None:
    if value == []:
        faults.add(at, "empty", "give at least one time zone")
    return many(zone_name)(value, at, faults)


_KEYS = {
    **dict.fromkeys(
        ("borrower", "debt", "creditor", "address", "recipient_role", "actor", "adapter"), Key(text)
    ),
    "technology": Key(word(TECHNOLOGIES)),
}
_FLAGS = Key(a_set(text))
_QUESTION = {
    "channel": Key(word(CHANNELS), required=True),
    "purpose": Key(text),
    "address_kind": Key(text),
    "actor_role": Key(word(ACTORS)),
    "institution": Key(text),
    "product": Key(text),
    "flags": _FLAGS,
    **_KEYS,
}
_EVENT = {
    "at": Key(utc_instant, required=True),
    "channel": Key(word(CHANNELS), required=True),
    "outcome": Key(word(OUTCOMES)),
    "flags": _FLAGS,
    **_KEYS,
}
_CONSENT = {
    "id": Key(text),
    "kind": Key(word(("contact", "relax")), required=True),
    "rules": Key(a_set(text)),
    "channel": Key(word(CHANNELS | {"all"})),
    "form": Key(word(FORMS)),
    "given_at": Key(whole_second, required=True),
    "until": Key(whole_second),
    "revoked_at": Key(whole_second),
}
_DATES = {"since": Key(a_date), "until": Key(a_date)}
_OWN_WINDOW = {
    "id": Key(text),
    "kind": Key(word(("allow", "deny")), required=True),
    "on": Key(a_set(word(WEEKDAYS))),
    "open": OPEN_CLOSE["open"]._replace(required=False),
    "close": OPEN_CLOSE["close"]._replace(required=False),
    "channels": Key(a_channels),
    "address_kinds": Key(a_set(text)),
    **_DATES,
}
_ABSENCE = {
    "id": Key(text),
    "reason": Key(text, required=True),
    "since": Key(a_date, required=True),
    "until": Key(a_date),
}
_EXPECTED = {
    "decision": Key(word(tuple(action.value for action in Action)), required=True),
    "until": Key(_expected_until),
}
_CASE = {
    "id": Key(text, required=True),
    "title": Key(loose_text),
    "packs": Key(many(text), required=True),
    "zones": Key(_zones, required=True),
    "now": Key(whole_second, required=True),
    "reminder": Key(_question, required=True),
    "history": Key(many(_event)),
    "facts": Key(_facts),
    "consents": Key(many(_consent)),
    "windows": Key(many(_own_window)),
    "blackouts": Key(many(_absence)),
    "horizon_days": Key(whole(0, _MOST_DAYS)),
    "expect": Key(_expected),
    "rules": Key(many(text)),
}


def _case(value: Any, at: str, faults: Faults, packs: Mapping[str, Pack | None]) -> Case | None:
    """One case, None when it has a mistake."""
    before = len(faults)
    read = read_keys(_without_nulls(value, _CASE), _CASE, at, faults)
    named = _named(read.get("packs", ()), below(at, "packs"), faults, packs)
    _fact_types(named, read.get("facts", {}), below(at, "facts"), faults)
    if len(faults) > before:
        return None
    expected = read.get("expect")
    return Case(
        id=read["id"],
        title=read.get("title", ""),
        packs=named,
        zones=read["zones"],
        at=read["now"],
        question=read["reminder"],
        history=read.get("history", ()),
        facts=read.get("facts", {}),
        told=Told(**{key: read[key] for key in ("consents", "windows", "blackouts") if key in read}),
        horizon_days=read.get("horizon_days", HORIZON_DAYS),
        expected=expected
        and Expected(action=expected.action, until=expected.until, rules=read.get("rules", ())),
    )


def _named(
    names: Iterable[str], at: str, faults: Faults, packs: Mapping[str, Pack | None]
) -> tuple[Pack, ...]:
    """The packs of these ids: the file's own, else the shipped ones."""
    found = []
    for place, name in enumerate(names):
        pack = packs[name] if name in packs else shipped().get(name)
        if pack is not None:
            found.append(pack)
        elif name not in packs:
            faults.add(below(at, place), "pack_unknown", "neither this file nor the gateway has such a pack")
    return tuple(found)


def _fact_types(packs: Iterable[Pack], facts: Mapping[str, Fact], at: str, faults: Faults) -> None:
    """Every fact that a rule reads as a date, an instant or a number must be one, where it is set."""
    needs = dict.fromkeys(need for pack in packs for rule in pack.rules for need in _needs(rule))
    for name, wanted, fits in needs:
        value = facts.get(name)
        if value is not None and value is not False and not fits(value):
            faults.add(below(at, name), "wrong_type", f"this fact must be {wanted}")


_Need = tuple[str, str, Callable[[Fact], bool]]


def _needs(rule: AnyRule) -> tuple[_Need, ...]:
    """The facts that a rule reads as more than set or not set, and how."""
    dated = [of.fact for of in (rule.since_fact, rule.until_fact) if of is not None]
    return (*_needs_of_kind(rule), *((fact, "a date or an instant", _is_moment) for fact in dated))


def _needs_of_kind(rule: AnyRule) -> tuple[_Need, ...]:
    match rule:
        case Prerequisite(fact=fact) | HoldUntil(fact=fact):
            return ((fact, "a date or an instant", _is_moment),)
        case OptOut():
            return (("optout_at", "an instant", _is_instant),)
        case Window(not_if=condition) if condition is not None:
            return ((condition.fact, "a number", _is_number),)
        case _:
            return ()


def _is_moment(value: Fact) -> bool:
    return as_moment(value) is not None


def _is_instant(value: Fact) -> bool:
    return isinstance(as_moment(value), datetime)


def _is_number(value: Fact) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
