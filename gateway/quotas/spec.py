"""Quotas as JSON and as keywords, and what is wrong with them. Pure.

The JSON is that of `PUT /v1/quotas/{name}` without `until`, `version` and `reason`; the store keeps it as it is.
Keywords are those of `gateway quota set`: `channel=sms rate=50 closed=12:00-14:00 budget=500.00/CNY/day`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, time
from decimal import Decimal, InvalidOperation
from typing import Any

from gateway.domain import Tenant
from gateway.errors import Fault
from gateway.quotas.model import LIMITS, WORDS, Budget, Closed, Per, Quota, Scope, Unit

NUMBERS = ("burst", "per_minute", "per_hour", "per_day", "concurrency")
"""Keys whose values are whole numbers."""
KEYS = ("scope", "each", "unit", "rate", *NUMBERS, "zone", "closed", "budget")
_DAY_MIN = 24 * 60


# JSON.


def write(quota: Quota) -> dict[str, Any]:
    """A quota's own words; every key is there."""
    return {
        "scope": quota.scope.words(),
        "each": list(quota.each),
        "unit": quota.unit.value,
        "rate": None if quota.rate is None else plain(quota.rate),
        **{name: getattr(quota, name) for name in NUMBERS},
        "zone": quota.zone,
        "closed": [{"from": f"{c.since:%H:%M}", "to": f"{c.until:%H:%M}"} for c in quota.closed],
        "budget": None if quota.budget is None else _write_budget(quota.budget),
    }


def _write_budget(budget: Budget) -> dict[str, Any]:
    return {
        "amount": str(budget.amount),
        "currency": budget.currency,
        "per": budget.per.value,
        "alarm_at": plain(budget.alarm_at),
    }


def plain(number: Decimal) -> int | float:
    """A number of JSON: whole where it is."""
    return int(number) if number == number.to_integral_value() else float(number)


def read(
    owner: Tenant,
    name: str,
    said: Mapping[str, Any],
    *,
    version: int,
    until: datetime | None = None,
    before: Quota | None = None,
) -> Quota:
    """A quota of JSON whose form was checked; null and what is absent are what an absent key means."""
    held = {key: value for key, value in said.items() if value is not None}
    numbers: dict[str, Any] = {key: held.get(key) for key in NUMBERS}
    budget = held.get("budget")
    return Quota(
        owner=owner,
        name=name,
        scope=Scope(**held.get("scope", {})),
        each=tuple(held.get("each", ())),
        unit=Unit(held.get("unit", Unit.MESSAGE)),
        rate=Decimal(str(held["rate"])) if "rate" in held else None,
        **numbers,
        zone=held.get("zone", "UTC"),
        closed=tuple(_hours(one) for one in held.get("closed", ())),
        budget=None if budget is None else _budget(budget),
        version=version,
        until=until,
        before=before,
    )


def _hours(said: Mapping[str, str]) -> Closed:
    return Closed(since=time.fromisoformat(said["from"]), until=time.fromisoformat(said["to"]))


def _budget(said: Mapping[str, Any]) -> Budget:
    return Budget(
        amount=Decimal(said["amount"]),
        currency=said["currency"],
        per=Per(said["per"]),
        alarm_at=Decimal(str(said.get("alarm_at", "0.8"))),
    )


def merge(stands: Mapping[str, Any], said: Mapping[str, Any]) -> dict[str, Any]:
    """What a change makes of a quota's JSON: absent keys stay, null takes one away; so in scope and budget."""
    merged = {**stands, **{key: value for key, value in said.items() if key in KEYS}}
    for key in ("scope", "budget"):
        if said.get(key) is not None:
            inner = {**(stands.get(key) or {}), **said[key]}
            merged[key] = {name: value for name, value in inner.items() if value is not None}
    return merged


# What is wrong although each key is right.


def lacking(said: Mapping[str, Any]) -> list[Fault]:
    """Keys of a budget that are not there."""
    budget = said.get("budget")
    names = [] if budget is None else [n for n in ("amount", "currency", "per") if n not in budget]
    return [Fault(at=f"/budget/{name}", code="missing", message="this key is required") for name in names]


def faults(quota: Quota) -> list[Fault]:
    """What no single key can show."""
    return list(_faults(quota))


def _faults(quota: Quota) -> Iterator[Fault]:
    if not quota.limits():
        yield Fault(at="", code="missing", message=f"a quota holds at least one of: {' '.join(LIMITS)}")
    if quota.burst is not None and quota.rate is None:
        yield Fault(
            at="/burst", code="quota_unfit", message="a burst goes with a rate: give one, or leave it out"
        )
    for place, word in enumerate(quota.each):
        if word in quota.scope.words():
            message = "the scope names one value of it already: leave it out here, or there"
            yield Fault(at=f"/each/{place}", code="quota_unfit", message=message)
    if quota.closed and not _open_minutes(quota.closed):
        message = "these hours leave no minute of the day open: use a pause"
        yield Fault(at="/closed", code="hours_invalid", message=message)
    words = quota.scope.words()
    for word in words.keys() & {"tenant"}:
        if quota.owner.partition("/")[0] not in ("*", words[word]):
            yield Fault(
                at=f"/scope/{word}", code="quota_unfit", message="this key is another tenant's: leave it out"
            )


def _open_minutes(closed: Sequence[Closed]) -> int:
    shut: set[int] = set()
    for hours in closed:
        first, last = (t.hour * 60 + t.minute for t in (hours.since, hours.until))
        shut.update(minute % _DAY_MIN for minute in range(first, last if last > first else last + _DAY_MIN))
    return _DAY_MIN - len(shut)


# Keywords.

_FORMS = {
    "each": "words of the scope with commas between them: account,template",
    "rate": "starts a second: 50, 0.5; nothing takes it away",
    "closed": "hours of every day: 12:00-14:00, more of them with commas between",
    "budget": "an amount, its currency and day or month: 500.00/CNY/day",
    "alarm_at": "a share of the budget, above 0 and at most 1: 0.8",
}
_MOST_DIGITS = 15
"""Of a number: more would be none of JSON's."""
_HOURS = re.compile(r"([0-2]\d:[0-5]\d)-([0-2]\d:[0-5]\d)")


def keywords(given: Sequence[str]) -> tuple[dict[str, Any], list[Fault]]:
    """The JSON of `key=value` words, and everything that is wrong with their form; an empty value takes a key away."""
    body: dict[str, Any] = {}
    wrong: list[Fault] = []
    seen: set[str] = set()
    for word in given:
        key, equals, value = word.partition("=")
        if not equals or key not in _READERS:
            known = " ".join(_READERS)
            wrong.append(
                Fault(at="key=value", code="unknown_key", message=f"give one of these keys: {known}")
            )
            continue
        if key in seen:
            wrong.append(Fault(at=key, code="duplicate", message="give it once"))
        seen.add(key)
        try:
            _READERS[key](body, key, value)
        except (ValueError, InvalidOperation):
            wrong.append(Fault(at=key, code="form_invalid", message=_FORMS.get(key, "a whole number: 20000")))
    return body, wrong


def _scope_word(body: dict[str, Any], key: str, value: str) -> None:
    body.setdefault("scope", {})[key] = value or None


def _text(body: dict[str, Any], key: str, value: str) -> None:
    body[key] = value or None


def _whole(body: dict[str, Any], key: str, value: str) -> None:
    if len(value) > _MOST_DIGITS:
        raise ValueError
    body[key] = int(value) if value else None


def _rate(body: dict[str, Any], key: str, value: str) -> None:
    body[key] = _number(value) if value else None


def _list(body: dict[str, Any], key: str, value: str) -> None:
    body[key] = value.split(",") if value else []


def _closed(body: dict[str, Any], key: str, value: str) -> None:
    body[key] = [_from_to(hours) for hours in value.split(",")] if value else []


def _money(body: dict[str, Any], key: str, value: str) -> None:
    if not value:
        body[key] = None
        return
    amount, currency, per = value.split("/")
    body[key] = {**(body.get(key) or {}), "amount": amount, "currency": currency, "per": per}


def _alarm(body: dict[str, Any], _key: str, value: str) -> None:
    body["budget"] = {**(body.get("budget") or {}), "alarm_at": _number(value)}


def _from_to(hours: str) -> dict[str, str]:
    found = _HOURS.fullmatch(hours)
    if found is None:
        raise ValueError
    return {"from": found[1], "to": found[2]}


def _number(value: str) -> int | float:
    number = Decimal(value)
    if not number.is_finite() or abs(number.adjusted()) > _MOST_DIGITS:
        raise ValueError
    return plain(number)


_READERS = {
    **dict.fromkeys(WORDS, _scope_word),
    "each": _list,
    "unit": _text,
    "rate": _rate,
    **dict.fromkeys(NUMBERS, _whole),
    "zone": _text,
    "closed": _closed,
    "budget": _money,
    "alarm_at": _alarm,
}
