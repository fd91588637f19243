"""Which time zones a borrower may be in: every clue is kept, and a rule must hold in each that remains."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from importlib import resources
from typing import Any

import phonenumbers
from phonenumbers import PhoneNumberType
from phonenumbers.timezone import time_zones_for_geographical_number

from gateway.policy.localtime import Zone, seconds, zone_names

_NOWHERE = frozenset(
    {
        PhoneNumberType.TOLL_FREE,
        PhoneNumberType.PREMIUM_RATE,
        PhoneNumberType.SHARED_COST,
        PhoneNumberType.VOIP,
        PhoneNumberType.PAGER,
        PhoneNumberType.UAN,
        PhoneNumberType.VOICEMAIL,
    }
)
"""Numbers that say nothing about where their holder is."""

_LOCAL_MOBILES = frozenset({52, 54, 55})  # Mexico, Argentina, Brazil: a mobile number has an area code

_COMPARED = (seconds(datetime(2024, 1, 1, tzinfo=UTC)), seconds(datetime(2038, 1, 1, tzinfo=UTC)))
_INTERNATIONAL = "001"  # the region of numbers of no country


@dataclass(frozen=True, slots=True, kw_only=True)
class Zones:
    """The zones that remain possible, and the clues they come from: (zone, source), no number or address.

    Sources: `declared`, `address`, `service`, `residence`, `number`.
    """

    names: tuple[str, ...]
    evidence: tuple[tuple[str, str], ...]


def possible_zones(
    declared: Iterable[tuple[str, str]], residence: str | None, phones: Sequence[str]
) -> Zones:
    """Every zone that the clues leave possible; none when nothing is known.

    `declared` are (zone, source) that someone stated; they outweigh the rest. Without any, the
    residence (ISO 3166) and the phone numbers (E.164) speak together.
    """
    evidence = [(official, source) for name, source in declared if (official := canonical(name))]
    if not evidence:
        evidence = [(name, "residence") for name in zones_of_place(residence)] if residence else []
        evidence += [(name, "number") for number in phones for name in zones_of_number(number)]
    return Zones(names=_differing(name for name, _ in evidence), evidence=tuple(dict.fromkeys(evidence)))


def canonical(name: str) -> str | None:
    """The zone's present name (`Asia/Kolkata` for `Asia/Calcutta`), None when there is no such zone."""
    if name not in zone_names() or name == "Factory":
        return None
    while name not in _named_places() and name in _links():
        name = _links()[name]
    return name


def is_country(code: str) -> bool:
    """Whether ISO 3166 has that country."""
    return code in _countries()


@lru_cache(maxsize=4096)
def zones_of_place(place: str) -> tuple[str, ...]:
    """The zones of a country or of one of its parts (ISO 3166), those that show the same time once."""
    place = same_place(place)
    country = place.partition("-")[0]
    listed = _places()["zones"]
    names: Iterable[str] = listed.get(place) or listed.get(country) or _countries().get(country, ())
    return _differing(names)


def same_place(place: str) -> str:
    """The code of its own of a part that is a place of its own: `HK` for `CN-HK`."""
    known: str = _places()["same"].get(place, place)
    return known


@lru_cache(maxsize=65_536)
def zones_of_number(number: str) -> tuple[str, ...]:
    """The zones of an E.164 number: of its exchange where it has one, else of its country."""
    try:
        parsed = phonenumbers.parse(number)
    except phonenumbers.NumberParseException:
        return ()
    region = phonenumbers.region_code_for_number(parsed)
    if region in (None, _INTERNATIONAL) or phonenumbers.number_type(parsed) in _NOWHERE:
        return ()
    mobile = phonenumbers.number_type(parsed) == PhoneNumberType.MOBILE
    if not phonenumbers.is_number_geographical(parsed) or (
        mobile and parsed.country_code not in _LOCAL_MOBILES
    ):
        return zones_of_place(region)
    names = [canonical(name) for name in time_zones_for_geographical_number(parsed)]
    return tuple(dict.fromkeys(name for name in names if name is not None)) or zones_of_place(region)


def _differing(names: Iterable[str]) -> tuple[str, ...]:
    """These zones without those that show the same time as an earlier one from 2024 to 2037."""
    first: dict[tuple[tuple[int, int], ...], str] = {}
    for name in names:
        first.setdefault(_offsets(name), name)
    return tuple(first.values())


@lru_cache(maxsize=1024)
def _offsets(name: str) -> tuple[tuple[int, int], ...]:
    """The zone's offsets over the years compared, each with its end."""
    zone, (at, last) = Zone(name), _COMPARED
    found: list[tuple[int, int]] = []
    while at < last:
        offset, at = zone.segment(at)
        if found and found[-1][0] == offset:
            found.pop()
        found.append((offset, at))
    return tuple(found)


@lru_cache(maxsize=1)
def _places() -> dict[str, Any]:
    return tomllib.loads(resources.files("gateway.policy").joinpath("places.toml").read_text("utf-8"))


@lru_cache(maxsize=1)
def _countries() -> dict[str, tuple[str, ...]]:
    """Country → its zones, from zone.tab."""
    found: dict[str, list[str]] = {}
    for line in _database("zone.tab"):
        if not line.startswith("#"):
            country, _, name = line.split("\t")[:3]
            found.setdefault(country, []).append(name)
    return {country: tuple(names) for country, names in found.items()}


@lru_cache(maxsize=1)
def _named_places() -> frozenset[str]:
    return frozenset(name for names in _countries().values() for name in names)


@lru_cache(maxsize=1)
def _links() -> dict[str, str]:
    """Other names of zones → the zone they are links to."""
    lines = (line.split() for line in _database("tzdata.zi") if line.startswith("L "))
    return {name: target for _, target, name in lines}


def _database(name: str) -> list[str]:
    return resources.files("tzdata").joinpath("zoneinfo", name).read_text("utf-8").splitlines()
