"""Zones, calendars and clues: from packaged data alone, exact to the second."""

import zoneinfo
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from policy_draws import ZONES

from gateway.errors import PolicyError
from gateway.policy import calendars, localtime, zones
from gateway.policy.calendars import SHIPPED
from gateway.policy.zones import zones_of_place


def at(text):
    return localtime.seconds(datetime.fromisoformat(text))


def test_the_system_s_time_zone_data_is_shut_out():
    assert zoneinfo.TZPATH == ()
    assert localtime.TZDATA_VERSION >= "2026f"


def test_vancouver_is_read_from_the_package():
    assert localtime.zone("America/Vancouver").segment(at("2026-11-24T04:30:00Z"))[0] == -7 * 3600


def test_a_zone_that_does_not_exist_is_refused():
    with pytest.raises(PolicyError):
        localtime.zone("Europe/Londres")


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(ZONES), st.integers(at("1990-01-01T00:00:00Z"), at("2090-01-01T00:00:00Z")))
def test_a_segment_has_one_offset_from_its_start_to_its_end(name, when):
    offset, end = localtime.zone(name).segment(when)
    info = zoneinfo.ZoneInfo(name)
    seen = {
        datetime.fromtimestamp(when + (end - 1 - when) * step // 40, tz=info).utcoffset()
        for step in range(41)
    }

    assert end > when
    assert seen == {timedelta(seconds=offset)}


@pytest.mark.parametrize("name", ["America/Santiago", "Asia/Beirut", "Pacific/Apia", "America/St_Johns"])
def test_the_dates_of_many_instants_are_those_of_each_also_where_the_clock_changes(name):
    zone = localtime.zone(name)
    when, times = at("2010-06-01T00:00:00Z"), []
    while when < at("2013-06-01T00:00:00Z"):
        _, when = zone.segment(when)
        times += [when - 1, when, when + 1]

    assert zone.days(times) == [zone.day(second) for second in times]


@pytest.mark.parametrize(
    ("name", "day", "begins"),
    [
        ("Europe/London", date(2026, 11, 24), "2026-11-24T00:00:00Z"),
        ("America/Santiago", date(2026, 9, 6), "2026-09-06T04:00:00Z"),
        ("Pacific/Kiritimati", date(2026, 11, 24), "2026-11-23T10:00:00Z"),
        ("Etc/GMT+12", date(2026, 11, 24), "2026-11-24T12:00:00Z"),
        ("Pacific/Chatham", date(2026, 11, 24), "2026-11-23T10:15:00Z"),
        ("Pacific/Apia", date(2011, 12, 30), "2011-12-30T10:00:00Z"),
    ],
)
def test_a_date_begins_when_its_clocks_say_so_be_it_late_or_skipped(name, day, begins):
    assert localtime.start_of_date(localtime.zone(name), day) == at(begins)


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("2026-11-30T08:00:00Z", datetime(2026, 11, 30, 8, tzinfo=UTC)),
        ("2026-11-30T08:00:00.25+05:30", datetime(2026, 11, 30, 2, 30, 0, 250_000, tzinfo=UTC)),
        ("1900-01-01T00:00:00Z", datetime(1900, 1, 1, tzinfo=UTC)),
        ("2199-12-31T23:59:59Z", datetime(2199, 12, 31, 23, 59, 59, tzinfo=UTC)),
        ("2026-11-30T08:00:00", None),
        ("2026-11-30 08:00:00Z", None),
        ("20261130T080000Z", None),
        ("2026-11-30T24:00:00Z", None),
        ("2026-11-30T08:00:60Z", None),
        ("1899-12-31T23:59:59Z", None),
        ("2200-01-01T00:00:00Z", None),
        ("0001-01-01T00:00:00+23:00", None),
        ("\uff12026-11-30T08:00:00Z", None),
    ],
)
def test_an_instant_is_read_only_in_its_one_form(text, read):
    assert localtime.read_instant(text) == read


def ordinal(text):
    return date.fromisoformat(text).toordinal()


@pytest.mark.parametrize(
    ("name", "day", "note"),
    [
        ("workday:CN", "2026-12-31", None),
        ("workday:CN", "2027-01-01", "calendar workday:CN ends 2026-12-31"),
        ("workday:CN", "2000-12-31", "calendar workday:CN begins 2001-01-01"),
        ("CN", "2027-01-01", "calendar CN ends 2026-12-31"),
        ("IN-KA", "2027-01-01", "calendar IN-KA ends 2026-12-31"),
        ("TH", "2027-01-01", "calendar TH ends 2026-12-31"),
        ("ID", "2027-12-31", None),
        ("ID", "2028-01-01", "calendar ID ends 2027-12-31"),
        ("RU", "2028-01-01", "calendar RU ends 2027-12-31"),
        ("US", "2090-01-01", None),
        ("CA-ON", "2090-01-01", None),
        ("GB", "2090-01-01", None),
    ],
)
def test_a_proclaimed_calendar_ends_and_one_of_law_does_not(name, day, note):
    assert SHIPPED.uncovered(name, ordinal(day)) == note


def test_every_calendar_that_ends_is_one_that_exists_and_says_why():
    for name, (_, _, source) in calendars._proclaimed().items():
        assert name == "workday:CN" or calendars.is_calendar(name)
        assert source


@pytest.mark.parametrize(
    ("day", "works"),
    [
        ("2026-10-09", True),
        ("2026-10-10", True),
        ("2026-10-11", False),
        ("2026-10-07", False),
        ("2026-02-14", True),
        ("2026-01-04", True),
        ("2026-01-02", False),
    ],
)
def test_make_up_days_are_worked_in_china(day, works):
    assert SHIPPED.is_workday("workday:CN", ordinal(day)) is works


@pytest.mark.parametrize(
    ("place", "names"),
    [
        ("CN", ["Asia/Shanghai"]),
        ("CN-XJ", ["Asia/Shanghai"]),
        ("CN-HK", ["Asia/Hong_Kong"]),
        ("IN", ["Asia/Kolkata"]),
        ("GB", ["Europe/London"]),
        ("US-NY", ["America/New_York"]),
        ("US-TN", ["America/Chicago", "America/New_York"]),
        ("US-PR", ["America/Puerto_Rico"]),
        ("ID", ["Asia/Jakarta", "Asia/Makassar", "Asia/Jayapura"]),
        ("DE", ["Europe/Berlin"]),
        ("NZ", ["Pacific/Auckland", "Pacific/Chatham"]),
        ("XX", []),
    ],
)
def test_a_place_has_its_zones(place, names):
    assert list(zones_of_place(place)) == names


def test_every_zone_in_the_table_of_places_exists_under_its_present_name():
    listed = {name for names in zones._listed().values() for name in names}

    assert {name for name in listed if zones.canonical(name) != name} == set()


def test_a_country_of_many_zones_has_them_all():
    assert len(zones_of_place("US")) == 8
    assert len(zones_of_place("CA")) > 8
