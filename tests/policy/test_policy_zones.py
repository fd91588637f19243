"""Where a borrower may be: every clue is kept, each with how well it knows, and none is forgotten."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from phonenumbers.tzdata import TIMEZONE_DATA

from gateway.policy import numbers, zones
from gateway.policy.numbers import kept_clue, number_clue
from gateway.policy.zones import Clue, Evidence, Zones, differing, possible_zones, together, zones_of_place


def clue(number):
    found = number_clue(number)
    return None if found is None else (found.quality, *found.zones)


NUMBERS = [
    # North America: an exchange that is known, one that is not, a whole area code in one zone.
    ("+14232661234", "exchange", "America/New_York"),
    ("+14235551234", "fallback", "America/Chicago", "America/New_York"),
    ("+12705551234", "fallback", "America/New_York", "America/Chicago"),
    ("+18505551234", "fallback", "America/New_York", "America/Chicago"),
    ("+12085551234", "fallback", "America/Boise", "America/Los_Angeles"),
    ("+19285551234", "fallback", "America/Phoenix", "America/Denver"),
    ("+13645551234", "fallback", "America/New_York", "America/Chicago"),
    ("+14155552671", "area", "America/Los_Angeles"),
    ("+12125551234", "area", "America/New_York"),
    ("+17875551234", "area", "America/Puerto_Rico"),
    ("+16714721234", "area", "Pacific/Guam"),
    # British Columbia: Fort St John and Fort Nelson have their own time, the East Kootenay that of Alberta.
    ("+12507851234", "exchange", "America/Dawson_Creek"),
    ("+12507741234", "exchange", "America/Fort_Nelson"),
    ("+12504281234", "exchange", "America/Creston"),
    ("+12504261234", "exchange", "America/Edmonton"),
    ("+12505551234", "fallback", "America/Vancouver", "America/Edmonton"),
    ("+17785551234", "fallback", "America/Vancouver", "America/Edmonton", "America/Dawson_Creek"),
    ("+18676681234", "exchange", "America/Whitehorse"),
    ("+18676451234", "exchange", "America/Rankin_Inlet"),
    # Numbers without an area code tell their country.
    ("+6281234567890", "country", "Asia/Jakarta", "Asia/Makassar", "Asia/Jayapura"),
    (
        *("+61412345678", "country", "Australia/Sydney", "Australia/Brisbane", "Australia/Adelaide"),
        *("Australia/Darwin", "Australia/Perth", "Australia/Lord_Howe"),
    ),
    ("+6421123456", "country", "Pacific/Auckland", "Pacific/Chatham"),
    ("+8613800138000", "country", "Asia/Shanghai"),
    ("+919876543210", "country", "Asia/Kolkata"),
    ("+447911123456", "country", "Europe/Guernsey"),
    # Others with an area code.
    ("+62361123456", "area", "Asia/Makassar"),
    ("+61262345678", "area", "Australia/Sydney"),
    ("+61721001234", "exchange", "Australia/Brisbane"),
    ("+61732101234", "fallback", "Australia/Brisbane", "Australia/Sydney"),
    ("+61891234567", "fallback", "Australia/Adelaide", "Australia/Darwin", "Australia/Perth"),
    ("+34928123456", "area", "Atlantic/Canary"),
    ("+351295123456", "area", "Atlantic/Azores"),
    ("+5511987654321", "area", "America/Sao_Paulo"),
    ("+558131312345", "fallback", "America/Recife", "America/Noronha"),
    ("+559432221234", "area", "America/Belem"),
    ("+559221211234", "area", "America/Manaus"),
    ("+56612234567", "area", "America/Punta_Arenas"),
    ("+56322123456", "fallback", "America/Santiago", "Pacific/Easter"),
    ("+526141234567", "area", "America/Chihuahua"),
    ("+526641234567", "area", "America/Tijuana"),
    ("+74951234567", "area", "Europe/Moscow"),
    ("+78452123456", "area", "Europe/Saratov"),
    ("+74232123456", "area", "Asia/Vladivostok"),
]


@pytest.mark.parametrize(("number", "quality", "names"), [(n, q, names) for n, q, *names in NUMBERS])
def test_a_number_is_evidence_as_far_as_it_goes(number, quality, names):
    assert clue(number) == (quality, *names)


@pytest.mark.parametrize(
    "number",
    [
        "+18005551234",  # toll-free
        "+18885551234",
        "+19005551234",  # premium rate
        "+448001111111",
        "+443001234567",
        "+447011234567",  # a personal number
        "+445611234567",  # voice over IP
        "+883510000000",  # of no country
        "+15335551234",
        "12125551234",
        "+1",
        "",
    ],
)
def test_a_number_of_no_place_is_no_evidence(number):
    assert number_clue(number) is None


def test_every_prefix_that_is_corrected_is_one_that_is_read_otherwise():
    for prefix, known in numbers._known().items():
        listed = next(
            (TIMEZONE_DATA[prefix[:n]] for n in range(len(prefix), 0, -1) if prefix[:n] in TIMEZONE_DATA), ()
        )
        assert known.quality in {"exchange", "area", "fallback"}
        assert {zones.canonical(name) for name in known.zones} == set(known.zones)
        assert (len(differing(known.zones)) > 1) == (known.quality == "fallback")
        within = [other for other in numbers._known() if prefix.startswith(other) and prefix != other]
        assert set(known.zones) != set(listed) or within, prefix


def test_a_listed_exchange_of_north_america_is_read_as_it_is_listed():
    exchanges = [p for p in TIMEZONE_DATA if len(p) == 7 and p.startswith("1") and p not in numbers._known()]
    read = {p: found for p in exchanges if (found := number_clue(f"+{p}2345"))}

    assert len(read) > 1000
    assert {p: found.zones for p, found in read.items()} == {
        p: differing(zones.canonical(name) for name in TIMEZONE_DATA[p]) for p in read
    }


# Places.


@pytest.mark.parametrize(
    ("place", "names"),
    [
        ("US-NY-NYC", ["America/New_York"]),
        ("US-TN-MEM", ["America/Chicago", "America/New_York"]),
        ("BR-SP", ["America/Sao_Paulo"]),
        ("BR-PE", ["America/Recife", "America/Noronha"]),
        ("MX-CHH", ["America/Chihuahua", "America/Ciudad_Juarez", "America/Ojinaga"]),
        ("MX-SON", ["America/Hermosillo"]),
        ("CL-MA", ["America/Punta_Arenas"]),
        ("ID-BA", ["Asia/Makassar"]),
        ("RU-KGD", ["Europe/Kaliningrad"]),
        ("RU-SA", ["Asia/Yakutsk", "Asia/Ust-Nera", "Asia/Srednekolymsk"]),
        ("ES-CN", ["Atlantic/Canary"]),
        ("PT-20", ["Atlantic/Azores"]),
        ("XX-YY", []),
    ],
)
def test_a_part_of_a_country_has_its_own_zones(place, names):
    assert list(zones_of_place(place)) == names


@pytest.mark.parametrize("country", ["US", "CA", "AU", "BR", "MX", "CL", "ID", "RU", "ES", "PT"])
def test_the_parts_of_a_country_have_its_zones_and_no_others(country):
    parts = [place for place in zones._listed() if place.startswith(f"{country}-")]
    clocks = {zones._clock(name) for place in parts for name in zones_of_place(place)}

    # Eucla, Macquarie Island and the like belong to parts whose law they follow, and are left out.
    assert clocks <= {zones._clock(name) for name in zones._countries()[country]}
    assert clocks >= {zones._clock(name) for name in zones_of_place(country)}


# Clues together.


def evidence(zone, source, quality, *, counts):
    return Evidence(zone, source, quality, counts)


MOBILE_OF_INDONESIA = number_clue("+6281234567890")
OF_BALI = number_clue("+62361123456")
EASTERN = number_clue("+12125551234")
UNSURE = number_clue("+14235551234")
MOBILE_OF_AUSTRALIA = number_clue("+61412345678")

OF_PAPUA = number_clue("+67570123456")

TOGETHER = [
    # nothing, and one clue alone
    ([], None, [], []),
    ([], "XX", [], []),
    ([("Nowhere/Land", "declared")], None, [], []),
    ([], None, [EASTERN], ["America/New_York"]),
    ([], None, [UNSURE], ["America/Chicago", "America/New_York"]),
    ([], None, [MOBILE_OF_INDONESIA], ["Asia/Jakarta", "Asia/Makassar", "Asia/Jayapura"]),
    ([], "US-TN", [], ["America/Chicago", "America/New_York"]),
    ([("Asia/Calcutta", "declared")], None, [], ["Asia/Kolkata"]),
    # clues that conflict: all of them
    ([("America/Los_Angeles", "address")], None, [EASTERN], ["America/Los_Angeles", "America/New_York"]),
    ([("America/Los_Angeles", "service")], None, [EASTERN], ["America/Los_Angeles", "America/New_York"]),
    ([], "US-CA", [EASTERN], ["America/Los_Angeles", "America/New_York"]),
    ([("America/New_York", "address")], "US-CA", [], ["America/New_York", "America/Los_Angeles"]),
    ([("Asia/Shanghai", "service"), ("Asia/Tokyo", "address")], None, [], ["Asia/Shanghai", "Asia/Tokyo"]),
    (
        [],
        "US-NY",
        [MOBILE_OF_INDONESIA],
        ["America/New_York", "Asia/Jakarta", "Asia/Makassar", "Asia/Jayapura"],
    ),
    ([], None, [EASTERN, UNSURE], ["America/New_York", "America/Chicago"]),
    ([], "US-GA", [UNSURE], ["America/New_York", "America/Chicago"]),
    # what the borrower declared outweighs what is only inferred, not what others state
    ([("America/Los_Angeles", "declared")], "US-CA", [EASTERN], ["America/Los_Angeles"]),
    ([("America/Los_Angeles", "declared")], "US-NY", [UNSURE, MOBILE_OF_INDONESIA], ["America/Los_Angeles"]),
    (
        [("America/New_York", "declared"), ("Asia/Shanghai", "address")],
        "GB",
        [EASTERN],
        ["America/New_York", "Asia/Shanghai"],
    ),
    ([("Nowhere/Land", "declared")], "CN", [EASTERN], ["Asia/Shanghai", "America/New_York"]),
    # a clue that knows a country only says nothing new where a better one lies in it
    ([], "AU-WA", [MOBILE_OF_AUSTRALIA], ["Australia/Perth"]),
    ([], "AU-VIC", [MOBILE_OF_AUSTRALIA], ["Australia/Melbourne"]),
    ([("Asia/Makassar", "service")], "ID", [MOBILE_OF_INDONESIA], ["Asia/Makassar"]),
    ([], None, [MOBILE_OF_INDONESIA, OF_BALI], ["Asia/Makassar"]),
    ([("America/Chicago", "address")], "US-TN", [], ["America/Chicago"]),
    ([("America/Chicago", "address")], "US", [EASTERN], ["America/Chicago", "America/New_York"]),
    ([], "AU-QLD", [OF_PAPUA], ["Australia/Brisbane", "Pacific/Bougainville"]),
    # a number never says where in the residence somebody is
    ([], "US-TN", [EASTERN], ["America/Chicago", "America/New_York"]),
    ([], "ID", [OF_BALI], ["Asia/Jakarta", "Asia/Makassar", "Asia/Jayapura"]),
]


@pytest.mark.parametrize(("stated", "residence", "phones", "names"), TOGETHER, ids=range(len(TOGETHER)))
def test_clues_add_up_to_the_zones_that_remain_possible(stated, residence, phones, names):
    assert list(possible_zones(stated, residence, phones).names) == names


def test_all_evidence_is_kept_and_what_is_outweighed_is_marked():
    found = possible_zones(
        [("America/Los_Angeles", "declared"), ("America/Denver", "address")], "US-TN", [UNSURE, EASTERN]
    )

    assert found.evidence == (
        evidence("America/Los_Angeles", "declared", "stated", counts=True),
        evidence("America/Denver", "address", "stated", counts=True),
        evidence("America/Chicago", "residence", "place", counts=False),
        evidence("America/New_York", "residence", "place", counts=False),
        evidence("America/Chicago", "number", "fallback", counts=False),
        evidence("America/New_York", "number", "fallback", counts=False),
        evidence("America/New_York", "number", "area", counts=False),
    )


def test_how_well_a_residence_is_known_is_said():
    assert [e.quality for e in possible_zones([], "US-NY", []).evidence] == ["place"]
    assert {e.quality for e in possible_zones([], "US", []).evidence} == {"country"}
    assert [e.quality for e in possible_zones([], "CN-GD", []).evidence] == ["country"]


PLACES = ["US-CA", "US-NY", "US-TN", "US", "AU-WA", "AU", "ID", "GB", "CN", None, "XX"]
PHONES = [number for number, *_ in NUMBERS]
STATED = st.tuples(
    st.sampled_from(["America/Chicago", "Asia/Makassar", "Mars/Base"]),
    st.sampled_from(["declared", "address", "service"]),
)


@given(st.lists(STATED, max_size=3), st.sampled_from(PLACES), st.lists(st.sampled_from(PHONES), max_size=3))
def test_zones_remain_possible_whenever_anything_is_known_and_in_whatever_order(stated, residence, phones):
    clues = [number_clue(number) for number in phones]
    found = possible_zones(stated, residence, clues)
    turned = possible_zones(reversed(stated), residence, reversed(clues))

    assert bool(found.names) == bool(found.evidence)
    assert {zones._clock(n) for n in found.names} == {
        zones._clock(e.zone) for e in found.evidence if e.counts
    }
    assert {zones._clock(n) for n in turned.names} == {zones._clock(n) for n in found.names}
    assert {(e.zone, e.source, e.quality) for e in found.evidence} == {
        (e.zone, e.source, e.quality) for e in turned.evidence
    }


@given(st.sampled_from(PLACES), st.lists(st.sampled_from(PHONES), max_size=3), st.sampled_from(PHONES))
def test_a_number_more_never_opens_a_zone_that_was_closed(residence, phones, another):
    clues = [number_clue(number) for number in phones if number_clue(number).quality != "country"]
    before = possible_zones([], residence, clues)
    after = possible_zones([], residence, [*clues, number_clue(another)])

    assert {zones._clock(n) for n in before.names} <= {zones._clock(n) for n in after.names}


def test_somebody_who_is_several_borrowers_may_be_wherever_one_of_them_may_be():
    one = possible_zones([("Asia/Shanghai", "declared")], "US-NY", [])
    other = possible_zones([], "US-CA", [])

    both = together(one, other)

    assert both.names == ("Asia/Shanghai", "America/Los_Angeles")
    assert both.evidence == (*one.evidence, *other.evidence)
    assert together() == Zones(names=(), evidence=())


def test_zones_that_show_the_same_time_are_one_name():
    found = possible_zones([], "GB", [number_clue("+447911123456")])

    assert found.names == ("Europe/London",)
    assert evidence("Europe/Guernsey", "number", "country", counts=True) in found.evidence


@pytest.mark.parametrize("number", ["+14235551234", "+6281234567890", "+14232661234"])
def test_what_is_kept_of_a_number_is_read_again_and_holds_no_digit_of_it(number):
    kept = number_clue(number).as_json()

    assert kept_clue(json.dumps(kept)) == number_clue(number)
    assert not any(sign.isdigit() for sign in str(kept))


def test_zones_that_were_kept_without_a_quality_count_in_full():
    assert kept_clue('["Asia/Jakarta", "Asia/Makassar"]') == Clue(
        "number", "area", ("Asia/Jakarta", "Asia/Makassar")
    )
    assert kept_clue("[]") is None
    assert kept_clue("null") is None
