"""The invented borrowers: numbers that nobody has, or that look like nobody's, and names that say so.

US 555-01xx and British 07700 900xxx are kept for fiction (NANPA, Ofcom). China and India keep none:
+86 161 0000 xxxx and +91 66600 0xxxx look unassigned. Never send to any of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from examples.cases import CASES, Case

CHINESE = "王李张刘陈杨赵黄周吴徐孙胡朱高林何郭马罗"
ENGLISH = ("Alex", "Sam", "Robin", "Jamie", "Casey", "Jordan", "Taylor", "Morgan", "Riley", "Quinn")
INDIAN = ("Asha", "Ravi", "Meera", "Arjun", "Kiran", "Anil", "Divya", "Nisha", "Vikram", "Leela")
CHINA = ("CN-GD", "CN-BJ", "CN-SH", "CN-ZJ", "CN-SC")
INDIA = ("IN-MH", "IN-KA", "IN-DL")
AMERICA = (
    ("212", "US-NY", "America/New_York"),
    ("312", "US-IL", "America/Chicago"),
    ("415", "US-CA", "America/Los_Angeles"),
    ("303", "US-CO", "America/Denver"),
    ("206", "US-WA", "America/Los_Angeles"),
)
USUAL = {"CN": "zh-CN", "US": "en", "IN": "en", "GB": "en-GB"}
OTHERS = {("CN", 9): "en", ("US", 3): "zh-CN", ("US", 7): "es", ("IN", 5): "hi"}
"""Country and last digit of the number → another language; no template is written in Spanish or Hindi."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """An invented borrower: `number` counts within the country, `item` is the body of its PUT with its id."""

    id: str
    country: str
    number: int
    item: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Home:
    """Where a borrower is and how to ring there."""

    phone: str
    residence: str | None
    zone: str | None


def people(case: Case) -> Iterator[Person]:
    """A case's borrowers, numbered on from the cases before it."""
    for country, many in case.where.items():
        first = _first(case, country)
        for place in range(many):
            number = first + place
            phone_of = number - place % 2 if case.shared else number
            yield _person(case, country, number, phone_of, place)


def _first(case: Case, country: str) -> int:
    so_far = list(accumulate((each.where.get(country, 0) for each in CASES), initial=1))
    return so_far[CASES.index(case)]


def _person(case: Case, country: str, number: int, phone_of: int, place: int) -> Person:
    borrower = f"B-{country}-{number:03d}"
    ending = case.endings[(place if phone_of == number else place - 1) % len(case.endings)]
    home = _home(case, country, phone_of, place, ending)
    item: dict[str, Any] = {
        "id": borrower,
        "name": _name(country, number),
        "language": OTHERS.get((country, number % 10), USUAL[country]),
        "addresses": list(_addresses(case, borrower, home.phone)),
    }
    if home.residence:
        item["residence"] = home.residence
    if home.zone:
        item["time_zones"] = [{"zone": home.zone, "source": "declared" if case.place else "address"}]
    return Person(id=borrower, country=country, number=number, item=item | _wishes(case, country))


def _home(case: Case, country: str, number: int, place: int, ending: str) -> Home:
    match country, case.place:
        case "US", "nowhere":
            return Home(phone="", residence=None, zone=None)
        case "US", "212+CA":
            phone = f"+1212555019{place}"
            return Home(phone=phone, residence="US-CA", zone="America/Los_Angeles")
        case "US", _:
            area, residence, zone = AMERICA[number % len(AMERICA)]
            return Home(phone=f"+1{area}55501{number // 5}{ending}", residence=residence, zone=zone)
        case "CN", _:
            phone = f"+861610000{number:03d}{ending}"
            return Home(phone=phone, residence=CHINA[number % len(CHINA)], zone="Asia/Shanghai")
        case "IN", _:
            phone = f"+91666000{number:03d}{ending}"
            return Home(phone=phone, residence=INDIA[number % len(INDIA)], zone="Asia/Kolkata")
        case _:
            return Home(phone=f"+447700900{number:02d}{ending}", residence="GB-ENG", zone="Europe/London")


def _name(country: str, number: int) -> str:
    if country == "CN":
        return f"{CHINESE[number % len(CHINESE)]}示例"
    first = INDIAN if country == "IN" else ENGLISH
    return f"{first[number % len(first)]} Example"


def _addresses(case: Case, borrower: str, phone: str) -> Iterator[dict[str, str]]:
    tail = borrower.removeprefix("B-")
    for channel in case.has:
        match channel:
            case "sms":
                yield {"channel": "sms", "value": phone, "kind": case.sms_kind}
            case "voice":
                yield {"channel": "voice", "value": phone, "kind": "personal"}
            case "email":
                value = f"{case.mail}{borrower.lower()}@example.com"
                yield {"channel": "email", "value": value, "kind": "personal"}
            case "wechat" if tail.startswith("CN"):
                openid = f"oEXAMPLE-{tail}-".ljust(28 - len(case.openid), "0") + case.openid
                yield {"channel": "wechat", "value": openid, "kind": "personal"}


def _wishes(case: Case, country: str) -> dict[str, Any]:
    """What they agreed to, refused, or asked for."""
    wishes: dict[str, Any] = {}
    if country == "US" and case.place != "nowhere":
        wishes["consents"] = [
            {
                "id": f"c-{channel}",
                "kind": "contact",
                "channel": channel,
                "form": "written",
                "given_at": "2026-05-01T16:00:00Z",
            }
            for channel in case.has
            if channel in {"sms", "voice"}
        ]
    if case.opt_out:
        wishes["opt_outs"] = [{"channel": case.opt_out, "at": "2026-11-01T09:00:00Z"}]
    if case.hold:
        wishes["holds"] = [dict(case.hold)]
    if case.borrower_facts:
        wishes["policy_facts"] = dict(case.borrower_facts)
    return wishes
