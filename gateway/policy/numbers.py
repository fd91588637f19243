"""What a phone number says of the time zone that its holder lives by, and how well it knows."""

from __future__ import annotations

import tomllib
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from functools import lru_cache
from importlib import resources
from typing import NamedTuple

import orjson
import phonenumbers
from phonenumbers import PhoneNumber, PhoneNumberType
from phonenumbers.tzdata import TIMEZONE_DATA, TIMEZONE_LONGEST_PREFIX

from gateway.policy.zones import Clue, canonical, differing, zones_of_place

NUMBER = "number"
"""The source of these clues."""

EXCHANGE, AREA, FALLBACK, COUNTRY = "exchange", "area", "fallback", "country"
"""How well a number is known: to its exchange; to its area code; to one of several zones that it cannot tell
apart; or to its country only, as most mobile numbers are."""

_NOWHERE = frozenset(
    {
        PhoneNumberType.TOLL_FREE,
        PhoneNumberType.PREMIUM_RATE,
        PhoneNumberType.SHARED_COST,
        PhoneNumberType.PERSONAL_NUMBER,
        PhoneNumberType.VOIP,
        PhoneNumberType.PAGER,
        PhoneNumberType.UAN,
        PhoneNumberType.VOICEMAIL,
    }
)
"""Numbers that say nothing about where their holder is."""

_LOCAL_MOBILES = frozenset({52, 54, 55})  # Mexico, Argentina, Brazil: a mobile number has an area code
_NORTH_AMERICA = 1  # its exchanges are listed one by one, and an unknown one falls back to an arbitrary zone
_INTERNATIONAL = "001"  # the region of numbers of no country


class _Known(NamedTuple):
    """What we know better than phonenumbers of the numbers under a prefix."""

    zones: tuple[str, ...]
    quality: str
    instead_of: str | None


@lru_cache(maxsize=65_536)
def number_clue(number: str) -> Clue | None:
    """The zones of an E.164 number, of its exchange where it has one; None where it says nothing."""
    try:
        return number_place(phonenumbers.parse(number))[1]
    except phonenumbers.NumberParseException:
        return None


def number_place(parsed: PhoneNumber) -> tuple[str | None, Clue | None]:
    """The country of a number (ISO 3166), and what it says of the zone."""
    region, kind = phonenumbers.region_code_for_number(parsed), phonenumbers.number_type(parsed)
    if region in (None, _INTERNATIONAL) or kind in _NOWHERE:
        return region, None
    roams = kind == PhoneNumberType.MOBILE and parsed.country_code not in _LOCAL_MOBILES
    if not roams and phonenumbers.is_number_geographical(parsed):
        found = _by_prefix(parsed)
        if found is not None:
            return region, found
    return region, _clue(COUNTRY, zones_of_place(region))


@lru_cache(maxsize=4096)
def kept_clue(said: str) -> Clue | None:
    """A number's clue from its JSON; the first version kept no more than the names of the zones."""
    found = orjson.loads(said)
    if isinstance(found, dict):
        return Clue(NUMBER, found["quality"], tuple(found["zones"]))
    return _clue(AREA, found or ())


def _clue(quality: str, zones: Sequence[str]) -> Clue | None:
    return Clue(source=NUMBER, quality=quality, zones=tuple(zones)) if zones else None


def _by_prefix(parsed: PhoneNumber) -> Clue | None:
    """What its digits say, None when no more than the country."""
    digits = f"{parsed.country_code}{phonenumbers.national_significant_number(parsed)}"
    known = next((_known()[p] for p in _prefixes(digits) if p in _known()), None)
    if known is not None and known.instead_of is None:
        return _clue(known.quality, known.zones)
    listed = next((p for p in _prefixes(digits) if p in TIMEZONE_DATA), "")
    country = len(str(parsed.country_code))
    if len(listed) <= country:
        return None
    area = digits[: country + phonenumbers.length_of_geographical_area_code(parsed)]
    further = _below(max(listed, area, key=len)) if parsed.country_code == _NORTH_AMERICA else ()
    zones = _differing([*TIMEZONE_DATA[listed], *further], known)
    if len(zones) > 1:
        return _clue(FALLBACK, zones)
    return _clue(EXCHANGE if len(listed) > len(area) > country else AREA, zones)


def _prefixes(digits: str) -> Iterator[str]:
    return (digits[:length] for length in range(TIMEZONE_LONGEST_PREFIX, 0, -1))


def _below(prefix: str) -> Iterator[str]:
    """The zones of all longer prefixes: an exchange that none of them matches, as a new one, may be in any."""
    listed = _listed()
    for place in range(bisect_left(listed, prefix), len(listed)):
        if not listed[place].startswith(prefix):
            return
        yield from TIMEZONE_DATA[listed[place]]


def _differing(names: Sequence[str], known: _Known | None) -> tuple[str, ...]:
    """These zones under their present names, one that is known better replaced."""
    present = [name for listed in names if (name := canonical(listed)) is not None]
    if known is not None:
        present = [n for name in present for n in (known.zones if name == known.instead_of else (name,))]
    return differing(present)


@lru_cache(maxsize=1)
def _listed() -> list[str]:
    """Every prefix that phonenumbers has a zone for, sorted."""
    return sorted(TIMEZONE_DATA)


@lru_cache(maxsize=1)
def _known() -> dict[str, _Known]:
    text = resources.files("gateway.policy").joinpath("numbers.toml").read_text("utf-8")
    return {
        prefix: _Known(tuple(entry["zones"]), entry["quality"], entry.get("instead_of"))
        for entry in tomllib.loads(text)["numbers"]
        for prefix in entry["prefixes"]
    }
