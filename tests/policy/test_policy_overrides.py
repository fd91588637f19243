"""What operators state beside the shipped calendars: on its dates it stands, and every mistake is named."""

from datetime import date, timedelta
from pathlib import Path

import pytest

from gateway.errors import PolicyError
from gateway.policy.calendars import SHIPPED
from gateway.policy.overrides import LARGEST, NONE, parse_overrides

CHINA_2027 = """
[[calendar]]
name = "workday:CN"
begins = 2027-01-01
ends = 2027-12-31
source = "State Council, holiday arrangement for 2027"
holidays = [2027-01-01, 2027-02-05, "2027-02-08"]
workdays = [2027-02-14]
"""


def entry(name="CA-QC", begins="2026-06-01", ends="2026-06-30", **keys):
    lines = {"source": '"s"', "holidays": "[]", **keys}
    rest = "\n".join(f"{key} = {value}" for key, value in lines.items() if value is not None)
    return f'[[calendar]]\nname = "{name}"\nbegins = {begins}\nends = {ends}\n{rest}\n'


def stated(text):
    return parse_overrides(text, "days.toml").calendars


def ordinal(text):
    return date.fromisoformat(text).toordinal()


@pytest.mark.parametrize(
    ("day", "note", "holiday", "works"),
    [
        ("2026-12-31", None, False, True),
        ("2027-01-01", None, True, False),
        ("2027-02-05", None, True, False),
        ("2027-02-08", None, True, False),
        ("2027-02-09", None, False, True),
        ("2027-02-13", None, False, False),
        ("2027-02-14", None, False, True),
        ("2027-12-31", None, False, True),
        ("2028-01-01", "calendar CN ends 2027-12-31", None, None),
    ],
)
def test_an_entry_carries_a_calendar_on(day, note, holiday, works):
    found = stated(CHINA_2027)

    assert found.uncovered("CN", ordinal(day)) == note
    assert found.uncovered("workday:CN", ordinal(day)) == (note and note.replace("CN", "workday:CN"))
    if note is None:
        assert found.is_holiday("CN", ordinal(day)) is holiday
        assert found.is_workday("workday:CN", ordinal(day)) is works


def test_who_says_until_when_is_told():
    assert SHIPPED.coverage("CN").ends == date(2026, 12, 31)
    found = stated(CHINA_2027).coverage("workday:CN")

    assert (found.begins, found.ends) == (date(2001, 1, 1), date(2027, 12, 31))
    assert found.source == "State Council, holiday arrangement for 2027"


def test_on_its_dates_an_entry_takes_the_place_of_what_is_shipped_and_only_there():
    moved = stated(entry(begins="2026-06-24", ends="2026-06-26", holidays="[2026-06-26]"))
    shipped = [
        day for day in range(ordinal("2026-01-01"), ordinal("2026-12-31")) if SHIPPED.is_holiday("CA-QC", day)
    ]

    assert ordinal("2026-06-24") in shipped
    now = [
        day for day in range(ordinal("2026-01-01"), ordinal("2026-12-31")) if moved.is_holiday("CA-QC", day)
    ]
    assert set(shipped) ^ set(now) == {ordinal("2026-06-24"), ordinal("2026-06-26")}
    assert not moved.is_holiday("CA-ON", ordinal("2026-06-26"))


def test_a_country_s_holidays_are_added_to_those_of_its_parts_and_take_none_from_them():
    mourning = stated(entry("US", begins="2026-07-03", ends="2026-07-09", holidays="[2026-07-09]"))

    assert SHIPPED.is_holiday("US-NY", ordinal("2026-07-03"))
    assert not SHIPPED.is_holiday("US-NY", ordinal("2026-07-09"))
    assert mourning.is_holiday("US-NY", ordinal("2026-07-03"))
    assert mourning.is_holiday("US-NY", ordinal("2026-07-09"))
    assert not mourning.is_holiday("US", ordinal("2026-07-03"))


def test_a_part_s_own_entry_stands_alone():
    both = stated(
        entry("US", begins="2026-07-09", ends="2026-07-09", holidays="[2026-07-09]")
        + entry("US-NY", begins="2026-07-09", ends="2026-07-09")
    )

    assert both.is_holiday("US-NJ", ordinal("2026-07-09"))
    assert not both.is_holiday("US-NY", ordinal("2026-07-09"))


def test_an_entry_of_a_country_does_not_carry_on_the_calendars_of_its_parts():
    found = stated(entry("IN", begins="2027-01-01", ends="2027-12-31"))

    assert found.uncovered("IN", ordinal("2027-01-01")) is None
    assert found.uncovered("IN-KA", ordinal("2027-01-01")) == "calendar IN-KA ends 2026-12-31"


GAP = entry("TH", begins="2027-02-01", ends="2027-02-28") + entry(
    "TH", begins="2027-03-01", ends="2027-03-31"
)


@pytest.mark.parametrize(
    ("day", "left", "note"),
    [
        ("2026-12-30", 1, None),
        ("2026-12-31", 0, None),
        ("2027-01-01", -1, "calendar TH ends 2026-12-31"),
        ("2027-01-31", -31, "calendar TH ends 2026-12-31"),
        ("2027-02-01", 58, None),
        ("2027-03-31", 0, None),
        ("2027-04-01", -1, "calendar TH ends 2027-03-31"),
        ("0001-01-01", -1, None),
    ],
)
def test_dates_that_are_left_out_are_not_covered(day, left, note):
    found = stated(GAP)

    assert found.days_left("TH", ordinal(day)) == left
    said = found.uncovered("TH", ordinal(day))
    assert said == note or (day < "1900" and said.startswith("calendar TH begins"))


def test_an_entry_may_begin_before_what_is_shipped():
    assert SHIPPED.uncovered("CN", ordinal("2000-12-31")) == "calendar CN begins 2001-01-01"
    found = stated(entry("CN", begins="2000-12-31", ends="2000-12-31", workdays="[]"))

    assert found.uncovered("CN", ordinal("2000-12-31")) is None
    assert found.coverage("CN").begins == date(2000, 12, 31)
    assert found.coverage("CN").source == SHIPPED.coverage("CN").source


def test_the_version_says_what_was_stated_in_whatever_order_it_was_written():
    one, other = entry("TH", holidays="[2026-06-02, 2026-06-03]"), entry("ID")

    assert SHIPPED.version.startswith("holidays 0.")
    assert stated("").version == SHIPPED.version
    assert stated(one + other).version.startswith(f"{SHIPPED.version}, overrides ")
    assert stated(one + other).version == stated(other + one).version
    assert stated(one).version != stated(one.replace("06-03", "06-04")).version


def test_each_instance_has_its_own_days():
    day = ordinal("2026-06-15")
    free = stated(entry("TH", holidays="[2026-06-15]"))

    assert [cal.is_holiday("TH", day) for cal in (SHIPPED, free, SHIPPED)] == [False, True, False]


WRONG = [
    ("[[calendar", ["days.toml"], "malformed_toml"),
    ("x = " + "1" * 5000, ["days.toml"], "malformed_toml"),
    (f"# {'x' * LARGEST}", ["days.toml"], "too_large"),
    ("[[calender]]", ["days.toml:1:/calender"], "unknown_key"),
    ("calendar = 1", ["days.toml:1:/calendar"], "wrong_type"),
    (entry("ZZ"), ["days.toml:2:/calendar/0/name"], "calendar_unknown"),
    (entry("CA-XX"), ["days.toml:2:/calendar/0/name"], "calendar_unknown"),
    (entry("workday:IN"), ["days.toml:2:/calendar/0/name"], "calendar_unknown"),
    (entry(source=None), ["days.toml:1:/calendar/0/source"], "missing_key"),
    (entry(holidays=None), ["days.toml:1:/calendar/0/holidays"], "missing_key"),
    (entry(note='"x"'), ["days.toml:7:/calendar/0/note"], "unknown_key"),
    (entry(begins="2026-06-01T00:00:00"), ["days.toml:3:/calendar/0/begins"], "wrong_type"),
    (entry(begins="2026-07-01"), ["days.toml:4:/calendar/0/ends"], "out_of_range"),
    (
        entry(holidays="[2026-05-31, 2026-06-01, 2026-06-30, 2026-07-01]"),
        ["days.toml:6:/calendar/0/holidays/0", "days.toml:6:/calendar/0/holidays/3"],
        "out_of_range",
    ),
    (entry("CN"), ["days.toml:1:/calendar/0/workdays"], "missing_key"),
    (entry("CN", workdays="[2026-06-12]"), ["days.toml:7:/calendar/0/workdays/0"], "out_of_range"),
    (
        entry("CN", holidays="[2026-06-13]", workdays="[2026-06-13]"),
        ["days.toml:7:/calendar/0/workdays/0"],
        "twice",
    ),
    (entry("RU", workdays="[2026-06-13]"), ["days.toml:7:/calendar/0/workdays"], "unknown_key"),
    (entry() + entry(begins="2026-06-30", ends="2026-07-30"), ["days.toml:7:/calendar/1"], "overlap"),
    (
        CHINA_2027 + entry("CN", "2027-12-31", "2028-01-01", workdays="[]"),
        ["days.toml:9:/calendar/1"],
        "overlap",
    ),
    (
        '[[blackout]]\nplace = "US"\nreason = "r"\nsource = "s"',
        ["days.toml:1:/blackout/0/since"],
        "missing_key",
    ),
    (
        '[[blackout]]\nplace = "US"\nreason = "r"\nsource = "s"\nsince = 2026-01-02\nuntil = 2026-01-02',
        ["days.toml:6:/blackout/0/until"],
        "out_of_range",
    ),
    (
        '[[blackout]]\nplace = "Dublin"\nreason = "r"\nsource = "s"\nsince = 2026-01-02',
        ["days.toml:2:/blackout/0/place"],
        "place_unknown",
    ),
]


@pytest.mark.parametrize(("text", "places", "code"), WRONG, ids=range(len(WRONG)))
def test_a_mistake_is_named_with_its_line(text, places, code):
    with pytest.raises(PolicyError) as wrong:
        parse_overrides(text, "days.toml")

    assert [fault.at for fault in wrong.value.faults] == places
    assert {fault.code for fault in wrong.value.faults} == {code}


def test_all_mistakes_are_named_at_once():
    text = entry("ZZ", begins="1") + entry(source='""') + "[[blackout]]\n"

    with pytest.raises(PolicyError) as wrong:
        parse_overrides(text, "days.toml")

    assert len(wrong.value.faults) == 7
    assert "ZZ" not in str(wrong.value.faults)


def test_entries_that_touch_do_not_overlap():
    found = stated(entry() + entry(begins="2026-07-01", ends="2026-07-01", holidays="[2026-07-01]"))

    assert found.is_holiday("CA-QC", ordinal("2026-07-01"))


STORM = '[[blackout]]\nplace = "US-DC"\nreason = "disaster"\nsince = 2026-09-01\nsource = "Mayor\'s Order"\n'
FEAST = (
    '[[blackout]]\nplace = "CN"\nreason = "festival"\nsince = 2027-02-05\nuntil = 2027-02-12\nsource = "s"\n'
)


@pytest.mark.parametrize(
    ("place", "reasons"),
    [
        ("US-DC", ["disaster"]),
        ("US-DC-X", ["disaster"]),
        ("US", []),
        ("US-D", []),
        ("CN", ["festival"]),
        ("CN-GD", ["festival"]),
        ("CN-HK", []),
        ("HK", []),
        (None, []),
    ],
)
def test_an_event_concerns_a_place_and_its_parts(place, reasons):
    found = parse_overrides(STORM + FEAST, "days.toml").regional_blackouts(place)

    assert [reason for reason, _, _ in found] == reasons


def test_an_event_has_its_dates():
    found = parse_overrides(STORM + FEAST, "days.toml")

    assert found.regional_blackouts("US-DC") == (("disaster", date(2026, 9, 1), None),)
    assert found.regional_blackouts("CN") == (("festival", date(2027, 2, 5), date(2027, 2, 12)),)


def test_the_file_in_the_docs_is_one():
    page = (Path(__file__).parents[2] / "docs" / "calendars.md").read_text("utf-8")
    found = parse_overrides(page.partition("```toml\n")[2].partition("```")[0], "days.toml")

    assert [override.calendar for override in found.calendars.overrides] == ["CA-QC", "CN"]
    assert found.regional_blackouts("US-DC") == (("disaster", date(2026, 11, 24), date(2026, 12, 1)),)


def test_without_a_file_nothing_is_stated():
    assert NONE.calendars is SHIPPED
    assert NONE.regional_blackouts("US") == ()
    assert stated("").coverage("CN").ends + timedelta(days=1) == date(2027, 1, 1)
