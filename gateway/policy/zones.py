"""Which time zones a borrower may be in: every clue is kept, and a rule must hold in each that remains."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from importlib import resources
from typing import Any, NamedTuple

from gateway.policy.localtime import Zone, seconds, zone_names
from gateway.values import dataclass

DECLARED, RESIDENCE = "declared", "residence"

_CODE = re.compile(r"([A-Z]{2})((?:-[A-Z0-9]{1,3}){0,2})", re.ASCII)
_NOBODYS = re.compile(r"AA|Q[M-Z]|X[A-Z]|ZZ", re.ASCII)
"""What ISO 3166-1 leaves to its users."""

_STATED, _PLACE, _COUNTRY = "stated", "place", "country"
_COMPARED = (seconds(datetime(2024, 1, 1, tzinfo=UTC)), seconds(datetime(2038, 1, 1, tzinfo=UTC)))


class Clue(NamedTuple):
    """One thing that is known, and the zones that it leaves possible; it holds no number and no address.

    Sources: `declared` by the borrower, `address` and `service` as a service states them, `residence`, `number`.
    Qualities: `stated`; of a residence `place` or `country`; of a number those of `gateway.policy.numbers`.
    """

    source: str
    quality: str
    zones: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """What is kept of a number's clue beside the number itself."""
        return {"quality": self.quality, "zones": list(self.zones)}


class Evidence(NamedTuple):
    """A zone that a clue leaves possible; one that does not count is outweighed by better clues."""

    zone: str
    source: str
    quality: str
    counts: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Zones:
    """The zones that remain possible, and all evidence, that which is outweighed too."""

    names: tuple[str, ...]
    evidence: tuple[Evidence, ...]


def possible_zones(
    stated: Iterable[tuple[str, str]], residence: str | None, numbers: Iterable[Clue]
) -> Zones:
    """Every zone that the clues leave possible (see `_possible`); many people have the same clues."""
    return _possible(tuple(stated), residence, tuple(numbers))


@lru_cache(maxsize=4096)
def _possible(stated: tuple[tuple[str, str], ...], residence: str | None, numbers: tuple[Clue, ...]) -> Zones:
    """Every zone that the clues leave possible; none when nothing is known.

    `stated` are (zone, source); `residence` is a place (ISO 3166). Clues add up (Regulation F, comment
    6(b)(1)(i)-2: where they conflict, the time must be right in all of these places), but for two:
    what the borrower declared outweighs residence and numbers, and a clue that tells no more than a place or a
    country (a residence, most mobile numbers) says nothing new where a better one lies in it.
    """
    told = [Clue(source, _STATED, (name,)) for given, source in stated if (name := canonical(given))]
    counting = list(told)
    home = _home(residence)
    phones = sorted(numbers, key=lambda clue: clue.quality == _COUNTRY)
    outweighed = any(clue.source == DECLARED for clue in told)
    for clue in (*home, *phones):
        vague = clue.source == RESIDENCE or clue.quality == _COUNTRY
        if not outweighed and not (vague and _agrees(clue, counting)):
            counting.append(clue)
    evidence = [
        Evidence(name, clue.source, clue.quality, clue in counting)
        for clue in (*told, *home, *phones)
        for name in clue.zones
    ]
    return Zones(
        names=differing(name for clue in counting for name in clue.zones),
        evidence=tuple(dict.fromkeys(evidence)),
    )


def together(*zones: Zones) -> Zones:
    """The zones of somebody who may be wherever any of these may be."""
    return Zones(
        names=differing(name for some in zones for name in some.names),
        evidence=tuple(dict.fromkeys(clue for some in zones for clue in some.evidence)),
    )


def _home(residence: str | None) -> tuple[Clue, ...]:
    """What a residence says, if anything."""
    if residence is None or not (zones := zones_of_place(residence)):
        return ()
    return (Clue(RESIDENCE, _COUNTRY if zones == zones_of_place(residence[:2]) else _PLACE, zones),)


def _agrees(clue: Clue, better: Iterable[Clue]) -> bool:
    """Whether one of its zones is, in the same country, one of these or shows the same time."""
    here = {_where(name) for name in clue.zones}
    return any(_where(name) in here for other in better for name in other.zones)


def _where(name: str) -> tuple[str | None, str]:
    return _zones().get(name), _clock(name)


def canonical(name: str) -> str | None:
    """The zone's present name (`Asia/Kolkata` for `Asia/Calcutta`), None when there is no such zone."""
    if name not in zone_names() or name == "Factory":
        return None
    while name not in _zones() and name in _links():
        name = _links()[name]
    return name


def is_country(code: str) -> bool:
    """Whether ISO 3166 has that country."""
    return code in _countries()


def is_place(code: str) -> bool:
    """Whether this is a country, a part of one or a city in it; a part is looked up where all are known."""
    form = _CODE.fullmatch(code)
    if form is None or not (is_country(form[1]) or _NOBODYS.fullmatch(form[1])):
        return False
    part = "-".join(code.split("-")[:2])
    return (
        part == form[1]
        or form[1] not in _places()["complete"]
        or part in _listed()
        or part != same_place(part)
    )


@lru_cache(maxsize=4096)
def zones_of_place(place: str) -> tuple[str, ...]:
    """The zones of a country or of one of its parts (ISO 3166), those that show the same time once."""
    place = same_place(place)
    while place not in _listed() and "-" in place:
        place = place.rpartition("-")[0]
    return differing(_listed().get(place) or _countries().get(place, ()))


def same_place(place: str) -> str:
    """The code of its own of a part that is a place of its own: `HK` for `CN-HK`."""
    known: str = _places()["same"].get(place, place)
    return known


def differing(names: Iterable[str]) -> tuple[str, ...]:
    """These zones without those that show the same time as an earlier one from 2024 to 2037."""
    first: dict[str, str] = {}
    for name in names:
        first.setdefault(_clock(name), name)
    return tuple(first.values())


@lru_cache(maxsize=1024)
def _clock(name: str) -> str:
    """What the zone's clocks show over the years compared: its offsets in seconds, each with its end."""
    zone, (at, last) = Zone(name), _COMPARED
    found: list[tuple[int, int]] = []
    while at < last:
        offset, at = zone.segment(at)
        if found and found[-1][0] == offset:
            found.pop()
        found.append((offset, at))
    return repr(found)


@lru_cache(maxsize=1)
def _places() -> dict[str, Any]:
    return tomllib.loads(resources.files("gateway.policy").joinpath("places.toml").read_text("utf-8"))


@lru_cache(maxsize=1)
def _listed() -> Mapping[str, Sequence[str]]:
    """Place → its zones, those that we know better than zone.tab."""
    parts = {place: (name,) for name, places in _places()["parts"].items() for place in places.split()}
    return {**parts, **_places()["zones"]}


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
def _zones() -> dict[str, str]:
    """Zone → the country that zone.tab has it in."""
    return {name: country for country, names in _countries().items() for name in names}


@lru_cache(maxsize=1)
def _links() -> dict[str, str]:
    """Other names of zones → the zone they are links to."""
    lines = (line.split() for line in _database("tzdata.zi") if line.startswith("L "))
    return {name: target for _, target, name in lines}


def _database(name: str) -> list[str]:
    return resources.files("tzdata").joinpath("zoneinfo", name).read_text("utf-8").splitlines()
