"""The demo's data: invented, complete, the same every time, and far from every edge of the clock."""

import json
import re
import tomllib
from collections import Counter
from datetime import UTC, date, datetime, time, timedelta
from importlib.resources import files
from zoneinfo import ZoneInfo

import phonenumbers
import pytest

from examples import ANCHORS, CLOCK_STARTS, FEED_COMES, STANDS, TODAY, accounts, load
from examples.cases import CASES
from gateway.templating import Catalog, check_facts

EXAMPLE = load()
BORROWERS = {borrower["id"]: borrower for borrower in EXAMPLE.borrowers}
DEBTS = {debt["id"]: debt for debt in EXAMPLE.debts}
CASE_OF = {borrower: case for case in CASES for borrower in EXAMPLE.cases[case.name]}
CATALOG = Catalog.load()
ID = re.compile(r"[BL]-(CN|US|IN|GB)-\d{3}(-[a-f])?")
DRAMA = re.compile(r"\+447700900\d{3}")
"""Ofcom's numbers for drama; they are possible, and no list of real numbers has them."""

MORNINGS = [
    ("Asia/Shanghai", "CN"),
    ("Asia/Kolkata", "IN"),
    ("Europe/London", "GB"),
    ("America/New_York", "US"),
    ("America/Los_Angeles", "US"),
]
EDGES = [
    CLOCK_STARTS,
    *(
        datetime(2026, 11, day, 8, tzinfo=ZoneInfo(zone)).astimezone(UTC)
        for zone, _ in MORNINGS
        for day in (24, 25)
    ),
]


def instants():
    """Every instant that decides when something may go out or ends."""
    for reminder in EXAMPLE.reminders:
        due = date.fromisoformat(DEBTS[reminder["debt"]]["due_date"])
        for key in ("not_before", "expires_at"):
            if key in reminder:
                yield datetime.fromisoformat(reminder[key])
        if "anchor" in reminder:
            clock = time.fromisoformat(reminder["anchor"]["at"])
            day = due + timedelta(days=int(reminder["anchor"]["due"][:-1]))
            for zone in zones(reminder["borrower"]):
                yield datetime.combine(day, clock, ZoneInfo(zone)).astimezone(UTC)
    for borrower in EXAMPLE.borrowers:
        for hold in borrower.get("holds", []):
            yield datetime.fromisoformat(hold["from"])
            if hold["until"]:
                yield datetime.fromisoformat(hold["until"])


def zones(borrower):
    return [evidence["zone"] for evidence in BORROWERS[borrower].get("time_zones", [])]


def addresses(*channels):
    return [
        (borrower, address["value"])
        for borrower in EXAMPLE.borrowers
        for address in borrower["addresses"]
        if address["channel"] in channels
    ]


def of(case):
    return [reminder for reminder in EXAMPLE.reminders if CASE_OF[reminder["borrower"]].name == case]


def test_there_are_a_thousand_reminders_for_two_hundred_borrowers_in_four_countries():
    assert len(EXAMPLE.reminders) == 1_000
    assert Counter(borrower[2:4] for borrower in BORROWERS) == {"CN": 110, "US": 40, "IN": 30, "GB": 20}


def test_the_data_are_the_same_on_every_call_and_nobody_else_can_change_them():
    other = load()
    assert other == EXAMPLE

    other.reminders[0]["facts"]["pay_url"] = "https://changed.example.com"
    other.borrowers[0]["addresses"].clear()
    assert load() == EXAMPLE


@pytest.mark.parametrize("kind", ["borrowers", "debts"])
def test_every_id_is_there_once_and_reads_as_no_number(kind):
    ids = [item["id"] for item in getattr(EXAMPLE, kind)]

    assert len(set(ids)) == len(ids)
    assert all(ID.fullmatch(name) for name in ids)


@pytest.mark.parametrize("kind", ["reminders", "events", "contacts"])
def test_every_key_is_there_once_and_about_a_debt_of_its_borrower(kind):
    items = getattr(EXAMPLE, kind)
    keys = [item["idempotency_key"] for item in items]

    assert items
    assert len(set(keys)) == len(keys)
    for item in items:
        assert item["idempotency_key"].startswith(item["debt"] + ":")
        assert item.get("borrower", DEBTS[item["debt"]]["borrower"]) == DEBTS[item["debt"]]["borrower"]
        assert DEBTS[item["debt"]]["borrower"] in BORROWERS


def test_every_name_says_that_it_is_made_up():
    assert all("示例" in borrower["name"] or "Example" in borrower["name"] for borrower in EXAMPLE.borrowers)


def test_every_phone_number_could_exist_and_is_kept_for_fiction_where_such_numbers_are():
    for borrower, phone in addresses("sms", "voice"):
        number = phonenumbers.parse(phone)
        country = borrower["id"][2:4]

        assert phonenumbers.is_possible_number(number)
        assert phonenumbers.is_valid_number(number) or DRAMA.fullmatch(phone)
        assert re.fullmatch(
            {
                "US": r"\+1\d{3}55501\d\d",
                "GB": DRAMA.pattern,
                "CN": r"\+861610000\d{4}",
                "IN": r"\+91666000\d{4}",
            }[country],
            phone,
        )


def test_only_those_who_share_a_phone_have_the_same_number():
    owners = {}
    for borrower, phone in addresses("sms", "voice"):
        owners.setdefault(phone, set()).add(borrower["id"])
    shared = [sorted(ids) for ids in owners.values() if len(ids) > 1]

    assert all(len(ids) == 2 for ids in shared)
    assert sorted(name for ids in shared for name in ids) == sorted(EXAMPLE.cases["shared_phone"])


def test_every_mail_goes_to_example_com_and_every_openid_is_one():
    mails = [value for _, value in addresses("email")]
    openids = [value for _, value in addresses("wechat")]

    assert all(re.fullmatch(r"[a-z0-9-]+@example\.com", value) for value in mails)
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{28}", value) for value in openids)
    assert len(set(mails)) == len(mails)
    assert len(set(openids)) == len(openids)


def test_what_the_simulators_read_from_an_address_is_there_only_where_a_case_says_so():
    sms = {borrower["id"]: phone[-1] for borrower, phone in addresses("sms")}
    for case, ending in (("undelivered", "7"), ("stops", "8")):
        assert {name for name, last in sms.items() if last == ending} == set(EXAMPLE.cases[case])
    for case, start in (("bounces", "bounce"), ("mailbox_full", "full"), ("refused_as_spam", "spam")):
        assert {b["id"] for b, mail in addresses("email") if mail.startswith(start)} == set(
            EXAMPLE.cases[case]
        )
    assert {b["id"] for b, openid in addresses("wechat") if openid.endswith("block")} == set(
        EXAMPLE.cases["does_not_follow"]
    )
    calls = {phone[-1] for _, phone in addresses("voice")}
    assert calls >= set("123590")


def test_every_reminder_asks_for_a_template_with_its_facts_and_a_purpose_that_fits():
    purposes = {
        "pre_due": "pre_due_reminder",
        "due_today": "due_today",
        "overdue_gentle": "collection",
        "overdue_firm": "collection",
        "care": "service_notice",
    }
    for reminder in EXAMPLE.reminders:
        assert check_facts(CATALOG.get(reminder["template"]), reminder["facts"]) == []
        assert reminder["purpose"] == purposes[reminder["template"]]
    assert {reminder["template"] for reminder in EXAMPLE.reminders} == set(purposes)
    assert {c for reminder in EXAMPLE.reminders for c in reminder["channels"]} == {
        "sms",
        "email",
        "wechat",
        "voice",
    }


def test_nothing_is_within_ten_minutes_of_the_start_or_of_a_morning():
    found = list(instants())

    assert len(found) > 400
    for instant in found:
        assert min(abs(instant - edge) for edge in EDGES) > timedelta(minutes=10)


def test_what_is_planned_ahead_stays_beyond_the_demo():
    demo_ends = datetime(2026, 11, 26, tzinfo=UTC)
    ahead = [r for r in EXAMPLE.reminders if "anchor" in r and r["anchor"]["due"] != "-3d"]
    assert len(ahead) > 300

    for reminder in ahead:
        due = date.fromisoformat(DEBTS[reminder["debt"]]["due_date"])
        day = due + timedelta(days=ANCHORS[reminder["template"]])
        assert datetime(day.year, day.month, day.day, tzinfo=UTC) > demo_ends
        assert day < datetime.fromisoformat(reminder["expires_at"]).date() < date(2027, 2, 1)


def test_what_may_go_out_on_the_first_date_is_true_on_it():
    for reminder in EXAMPLE.reminders:
        case = CASE_OF[reminder["borrower"]]
        if "anchor" in reminder or case.name == "too_late":
            continue
        due = date.fromisoformat(DEBTS[reminder["debt"]]["due_date"])
        today = TODAY[reminder["borrower"][2:4]]
        valid_while = CATALOG.get(reminder["template"]).valid_while
        assert valid_while is None or valid_while.holds(due, today)


def test_an_anchored_first_reminder_is_three_days_before_a_payment_that_stands_so():
    for reminder in EXAMPLE.reminders:
        if reminder.get("anchor", {}).get("due") == "-3d":
            due = date.fromisoformat(DEBTS[reminder["debt"]]["due_date"])
            assert due - timedelta(days=STANDS["pre"]) == TODAY[reminder["borrower"][2:4]]


def test_no_reminder_is_there_twice_but_where_the_case_is_about_that():
    seen = Counter((reminder["debt"], reminder["template"]) for reminder in EXAMPLE.reminders)
    twice = {debt for (debt, _), times in seen.items() if times > 1}

    assert {DEBTS[debt]["borrower"] for debt in twice} == set(EXAMPLE.cases["sent_twice"])
    assert sum("repeat" in reminder for reminder in of("sent_twice")) == len(EXAMPLE.cases["sent_twice"])


def test_nobody_else_meets_the_cap_on_one_date():
    """Three a date and person, so that what is sent does not hang on which channel is served first."""
    at_once = Counter()
    for reminder in EXAMPLE.reminders:
        if "anchor" not in reminder or reminder["anchor"]["due"] == "-3d":
            date_of = reminder.get("not_before", "")[:10] if reminder["borrower"][2:4] in {"US", "GB"} else ""
            at_once[reminder["borrower"], date_of] += 1
    over = {borrower for (borrower, _), times in at_once.items() if times > 3}

    assert over == set(EXAMPLE.cases["over_cap"]) | set(EXAMPLE.cases["sent_twice"])


def test_who_is_over_the_cap_is_asked_for_on_one_channel_with_three_at_each_priority():
    for borrower in EXAMPLE.cases["over_cap"]:
        mine = [reminder for reminder in EXAMPLE.reminders if reminder["borrower"] == borrower]
        assert {tuple(reminder["channels"]) for reminder in mine} == {("sms",)}
        assert Counter(r["priority"] for r in mine) == {"urgent": 3, "normal": 3, "bulk": 2}


def test_events_come_only_where_it_is_night_so_that_no_call_comes_before_them():
    assert {event["type"] for event in EXAMPLE.events} == {"paid", "disputed", "promised"}
    for event in EXAMPLE.events:
        assert event["debt"][2:4] in {"CN", "IN"}
        assert DEBTS[event["debt"]]["state_at"] < event["at"] < CLOCK_STARTS.isoformat()
        assert ("until" in event) == (event["type"] == "promised")
        if event["type"] == "paid":
            assert event["amount"] == DEBTS[event["debt"]]["balance"]


def test_contacts_made_elsewhere_lie_before_the_start_and_in_the_day():
    for contact in EXAMPLE.contacts:
        at = datetime.fromisoformat(contact["at"])
        assert at < CLOCK_STARTS
        for zone in zones(contact["borrower"]):
            assert 9 <= at.astimezone(ZoneInfo(zone)).hour < 20


def test_the_next_morning_s_report_names_only_debts_that_nothing_happened_to():
    named = {debt["id"] for debt in EXAMPLE.morning}
    changed = {event["debt"] for event in EXAMPLE.events}

    assert len(named) == len(EXAMPLE.morning) > 400
    assert not named & changed
    assert all(DEBTS[name]["state"] == "open" for name in named)
    assert all(datetime.fromisoformat(debt["state_at"]) < FEED_COMES for debt in EXAMPLE.morning)
    assert not named & {d["id"] for d in EXAMPLE.debts if CASE_OF[d["borrower"]].name == "stale"}


def test_debts_are_in_the_money_of_their_country():
    currencies = {"CN": "CNY", "US": "USD", "IN": "INR", "GB": "GBP"}
    for debt in EXAMPLE.debts:
        assert debt["balance"]["currency"] == currencies[debt["governing_law"]]
        assert re.fullmatch(r"[1-9]\d*\.\d\d", debt["balance"]["amount"])


def test_no_agency_uses_sms_in_the_united_states():
    agencies = [r for r in EXAMPLE.reminders if r["actor"]["role"] == "agency" and r["borrower"][2:4] == "US"]

    assert agencies
    assert not any("sms" in reminder["channels"] for reminder in agencies)


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_every_case_has_its_borrowers_and_its_line_in_the_readme(case):
    runs = []
    for country in ("CN", "US", "IN", "GB"):
        numbers = sorted(int(name[-3:]) for name in EXAMPLE.cases[case.name] if name[2:4] == country)
        assert len(numbers) == case.where.get(country, 0)
        if numbers:
            assert numbers == list(range(numbers[0], numbers[-1] + 1))
            end = f"…{numbers[-1]:03d}" if len(numbers) > 1 else ""
            runs.append(f"B-{country}-{numbers[0]:03d}{end}")
    readme = (files("examples") / "README.md").read_text("utf-8")

    assert f"| `{case.name}` | {case.says} | {', '.join(runs)} |" in readme


def test_the_accounts_are_five_with_credentials_from_the_environment_only():
    ports = {"twilio": 9001, "aliyun": 9002, "wechat": 9003, "smtp": 9004}
    listed = tomllib.loads(accounts(ports))["account"]

    assert [(account["name"], account["adapter"]) for account in listed] == [
        ("sms-cn", "aliyun_sms"),
        ("sms-intl", "twilio_sms"),
        ("voice", "twilio_voice"),
        ("mail", "smtp"),
        ("wechat", "wechat"),
    ]
    assert [account["endpoint"].rpartition(":")[2] for account in listed] == [
        "9002",
        "9001",
        "9001",
        "9004",
        "9003",
    ]
    secrets = [value for account in listed for value in account.get("credentials", {}).values()]
    assert len(secrets) == 8
    assert all(value.startswith("env:SIM_") for value in secrets)
    assert listed[0]["settings"]["countries"] == listed[1]["settings"]["except_countries"] == ["CN"]


def test_every_template_that_needs_a_binding_is_bound_for_the_accounts():
    for template in CATALOG.templates.values():
        assert template.bound("aliyun_sms", "sms-cn")
        assert template.bound("wechat", "wechat")


@pytest.mark.parametrize(
    ("name", "like"), [("borrower", "borrowers"), ("debt", "debts"), ("reminder", "reminders")]
)
def test_the_bodies_for_curl_have_the_shape_of_the_data(name, like):
    body = json.loads((files("examples") / f"{name}.json").read_text("utf-8"))
    known = {key for item in getattr(EXAMPLE, like) for key in item}

    assert set(body) <= known
    assert "id" not in body
    if name == "reminder":
        assert check_facts(CATALOG.get(body["template"]), body["facts"]) == []
        assert CATALOG.get(body["template"]).valid_while is None
