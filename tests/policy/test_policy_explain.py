"""A decision said to machines and to people."""

import json
import re
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import pytest
from test_policy_gate import DEBT, MINE, NOON, PACKS, PLAIN, ask, event, utc

from gateway.domain import Channel, DebtState
from gateway.policy import explain
from gateway.policy.ask import wrong_fact
from gateway.policy.explain import decision_json, sentences
from gateway.policy.model import Absence, Consent, OwnWindow, Told
from gateway.policy.packs import with_overrides
from gateway.policy.parse import parse_pack, shipped
from gateway.policy.zones import possible_zones

US_REGF = shipped()["US.REGF"]
API = {"rule", "pack", "version", "cite", "force", "objects", "shadow", "channel", "zone"}
API |= {"counted", "max", "next"}


def test_a_decision_s_json_has_the_api_s_shape_and_names_nobody():
    told = decision_json(ask())
    written = json.dumps(told)

    assert {"action", "channel", "until", "reason", "at", "findings"} <= set(told)
    assert all(set(finding) >= API for finding in told["findings"])
    assert (told["action"], told["channel"], told["at"]) == ("send", "sms", "2026-11-24T04:00:00Z")
    assert told["zones"] == [
        {"zone": "Asia/Shanghai", "source": "declared", "quality": "stated", "counts": True}
    ]
    assert told["tzdata"] >= "2026f"
    assert not any(secret in written for secret in (PLAIN.borrower, MINE.address_key, DEBT.id))


def test_a_zone_that_is_outweighed_is_kept_and_not_said():
    zones = possible_zones([("Asia/Shanghai", "declared")], "US-NY", [])
    told = decision_json(ask(replace(PLAIN, zones=zones)))

    assert [(clue["zone"], clue["counts"]) for clue in told["zones"]] == [
        ("Asia/Shanghai", True),
        ("America/New_York", False),
    ]
    headline = sentences(told)[0]
    assert "Asia/Shanghai" in headline
    assert "New_York" not in headline


def test_three_effective_calls_are_said_as_a_person_would():
    talks = [event(NOON - timedelta(hours=hours), "conversation", "voice") for hours in (1, 2, 3)]
    calls = replace(PLAIN, channels=(Channel.VOICE,))
    told = decision_json(ask(calls, history=talks, packs=with_overrides(PACKS, {"OP.CAPS.DAY": 9})))

    english, chinese = sentences(told), "\n".join(sentences(told, "zh"))

    assert english[0] == "Waits until 2026-11-25 08:00 Asia/Shanghai: CN.GBT.EFF3DAY."
    line = next(line for line in english if line.startswith("CN.GBT.EFF3DAY (voice)"))
    _, said = line.split(": ", 1)
    assert said.startswith(
        "3 of 3 effective calls today; opens 2026-11-25 00:00 Asia/Shanghai; GB/T 45251-2025"
    )
    assert "今日有效通话已3次" in chinese
    assert "2026-11-25 00:00 Asia/Shanghai可联系" in chinese


def test_each_rule_has_one_line_however_many_zones():
    both = possible_zones([("Asia/Shanghai", "declared"), ("America/New_York", "address")], None, [])
    told = decision_json(
        ask(replace(PLAIN, zones=both, residence="US", channels=(Channel.SMS,)), now=utc(24, 4))
    )
    lines = sentences(told)

    spoke = {finding["pack"] for finding in told["findings"]}
    assert len(lines) == 1 + len({finding["rule"] for finding in told["findings"]}) + len(spoke)
    assert f"US.REGF {US_REGF.version}: {US_REGF.review_status}" in lines
    hours = "US.REGF.HOURS (sms): outside the hours of contact; opens 2026-11-24 08:00 America/New_York"
    assert any(line.startswith(hours) for line in lines)
    assert lines[0].startswith(
        "Waits until 2026-11-25 08:00 Asia/Shanghai / 2026-11-24 19:00 America/New_York"
    )


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_a_send_and_a_stop_are_said_too(lang):
    sent, stopped = ask(), ask(replace(PLAIN, debt=replace(DEBT, state=DebtState.PAID)))

    assert "2026-11-24 22:00 Asia/Shanghai" in sentences(decision_json(sent), lang)[0]
    (line,) = sentences(decision_json(stopped), lang)
    assert {"en": "the debt is paid", "zh": "债务已还清"}[lang] in line


KINDS = """
[pack]
id = "X"
version = "1"
title = "t"
review_status = "r"
source = "s"
applies = ["CN"]
""" + "".join(
    f'\n[[rule]]\nid = "X.{name}"\nkind = "{kind}"\n{keys}\n'
    for name, kind, keys in [
        ("WINDOW", "window", "days = []"),
        ("HOLIDAY", "window", 'days = []\nclosed_on_holidays = "TW"\nforce = "draft"'),
        ("DATES", "cap", 'max = 1\nwindow = {type = "dates", n = 7}'),
        ("HOURS", "cap", 'max = 1\nwindow = {type = "hours", n = 48}'),
        ("MINUTES", "cap", 'max = 1\nwindow = {type = "minutes", n = 90}'),
        ("WEEK", "cap", 'max = 1\nwindow = {type = "week"}'),
        ("MONTH", "cap", 'max = 9\nwindow = {type = "month"}'),
        ("AFTER", "cap", 'max = 9\nwindow = {type = "month"}\nonly_after = "sent"'),
        ("COOL", "cooldown", 'after = "conversation"\ndates = 2'),
        ("GAP", "spacing", "hours = 48"),
        ("LOCK", "channel_lock", 'after = "conversation"\nwindow = {type = "week"}'),
        ("PRE", "prerequisite", 'fact = "notice"\ndates = 1'),
        ("HOLD", "hold", 'fact = "held"'),
        ("UNTIL", "hold_until", 'fact = "promise"\nplus_dates = 1'),
        ("OUT", "opt_out", ""),
        ("THIRD", "third_party", 'roles = ["debtor"]\nfails = 1\ndelay_dates = 1\nonly_purposes = ["relay"]'),
        ("REFUSAL", "refusal", 'roles = ["debtor"]'),
        ("OWN", "borrower_window", ""),
        ("OFF", "blackout", 'unsure = "why"'),
        ("CONSENT", "consent_required", ""),
        ("COVERED", "coverage", 'calendars = ["CN"]'),
        ("LOOK", "review", 'fact = "vulnerable"'),
    ]
)


@pytest.mark.parametrize("lang", ["en", "zh"])
@pytest.mark.parametrize("objects", [True, False])
def test_every_kind_has_words_in_both_languages(lang, objects):
    packs = (*PACKS, parse_pack(KINDS, "X.toml"))
    facts = {
        "held": True,
        "promise": "2026-11-30",
        "contact_refused": True,
        "optout_at": "2026-11-01T00:00:00Z",
        "vulnerable": True,
    }
    consent = Consent(kind="contact", given_at=NOON - timedelta(days=9))
    off = Told(
        windows=(OwnWindow(kind="deny"),), blackouts=(Absence(reason="wedding", since=date(2026, 11, 1)),)
    )
    history = [event(NOON - timedelta(hours=1), "conversation", "voice")] * objects
    snapshot = replace(PLAIN, facts=facts if objects else {"notice": "2026-11-01"})
    snapshot = replace(snapshot, told=off if objects else Told(consents=(consent,)))
    told = decision_json(ask(snapshot, history=history, packs=packs))
    lines = sentences(told, lang)

    rules = [line.split(" (")[0] for line in lines[1:]]
    assert sorted(rules[: len(told["findings"])]) == sorted(finding["rule"] for finding in told["findings"])
    assert len(lines) == 1 + len(told["findings"]) + len({finding["pack"] for finding in told["findings"]})
    assert "{" not in "".join(lines)
    assert any({"en": "only for: relay", "zh": "仅限用途"}[lang] in line for line in lines)
    assert any({"en": "a draft, not enforced", "zh": "草案"}[lang] in line for line in lines)


def test_both_languages_have_the_same_texts():
    texts = explain._texts()

    assert texts["en"].keys() == texts["zh"].keys()
    for part in ("over", "what", "objects", "allows", "note", "reason"):
        assert texts["en"][part].keys() == texts["zh"][part].keys()


def test_a_calendar_s_end_is_said():
    taipei = possible_zones([("Asia/Taipei", "declared")], None, [])
    now = utc(24, 4).replace(year=2027)
    snapshot = replace(
        PLAIN,
        zones=taipei,
        residence="TW",
        governing_law=None,
        expires_at=now + timedelta(days=9),
        debt=replace(DEBT, state_at=now, due_date=date(2027, 11, 1)),
    )
    lines = sentences(decision_json(ask(snapshot, now=now)))

    again = "Waits, and is looked at again at 2027-11-24 12:15 Asia/Taipei: a calendar of holidays ends"
    assert lines[0].startswith(again)
    assert any("calendar TW ends 2026-12-31" in line and "no opening in sight" in line for line in lines)


NIGHT = utc(24, 15)  # 23:00 in Shanghai; it opens at 08:00
OPENS = utc(25, 0)


@pytest.mark.parametrize(
    ("ends", "english", "chinese"),
    [
        (
            OPENS + timedelta(seconds=1),
            "Waits until 2026-11-25 08:00 Asia/Shanghai: CN.GBT.HOURS.",
            "等到2026-11-25 08:00 Asia/Shanghai",
        ),
        (
            OPENS,
            "Waits, but its time is over at 2026-11-25 08:00 Asia/Shanghai, before it opens at 2026-11-25 08:00",
            "有效期到2026-11-25 08:00 Asia/Shanghai为止",
        ),
        (
            OPENS - timedelta(hours=2),
            "Waits, but its time is over at 2026-11-25 06:00 Asia/Shanghai, before it opens at 2026-11-25 08:00",
            "有效期到2026-11-25 06:00 Asia/Shanghai为止",
        ),
    ],
)
def test_an_opening_that_comes_too_late_is_not_waited_for(ends, english, chinese):
    told = decision_json(ask(replace(PLAIN, channels=(Channel.SMS,), expires_at=ends), now=NIGHT))

    assert told["opens"] == "2026-11-25T00:00:00Z"
    assert sentences(told)[0].startswith(english)
    assert chinese in sentences(told, "zh")[0]


def test_the_end_of_its_only_date_comes_before_an_opening_too():
    told = decision_json(ask(replace(PLAIN, valid_on=date(2026, 11, 24)), now=NIGHT))

    assert (told["until"], told["ends"]) == ("2026-11-25T00:00:00Z", "2026-11-24T16:00:00Z")
    assert sentences(told)[0].startswith("Waits, but its time is over at 2026-11-25 00:00 Asia/Shanghai")


UNKNOWN = [
    replace(PLAIN, debt=replace(DEBT, state=DebtState.HARDSHIP)),
    replace(PLAIN, debt=replace(DEBT, state_at=NOON - timedelta(hours=25))),
    replace(PLAIN, debt=replace(DEBT, state=DebtState.PROMISED)),
    replace(PLAIN, open_voice=True),
    replace(PLAIN, zones=possible_zones([], None, [])),
    replace(PLAIN, told=Told(blackouts=(Absence(reason="wedding", since=date(2026, 11, 1)),))),
    replace(PLAIN, facts={"vulnerable": True}),
    replace(PLAIN, facts={"seen": True}),
]
"""Nobody knows when these open."""
UNSURE = """
[pack]
id = "X"
version = "1"
title = "t"
review_status = "r"
source = "s"
applies = ["CN"]
[[rule]]
id = "X.OFF"
kind = "blackout"
[[rule]]
id = "X.LOOK"
kind = "review"
fact = "vulnerable"
[[rule]]
id = "X.SEEN"
kind = "prerequisite"
fact = "seen"
dates = 1
"""


@pytest.mark.parametrize("snapshot", UNKNOWN)
def test_what_is_only_looked_at_again_is_no_opening(snapshot):
    packs = (*PACKS, parse_pack(UNSURE, "X.toml"))
    snapshot = replace(snapshot, facts={"seen": "2026-11-01", **(snapshot.facts or {})})
    told = decision_json(ask(snapshot, packs=packs))
    cut = decision_json(ask(replace(snapshot, expires_at=NOON + timedelta(seconds=9)), packs=packs))

    assert (told["action"], told["again"], told["opens"], told["ends"]) == ("defer", True, None, None)
    assert sentences(told)[0].startswith("Waits, and is looked at again at 2026-11-24 ")
    assert "再次判断" in sentences(told, "zh")[0]
    assert "before it is looked at again" in sentences(cut)[0]
    assert "早于下次判断" in sentences(cut, "zh")[0]


def test_a_fact_of_the_wrong_type_is_named_and_its_value_is_not():
    packs = (*PACKS, parse_pack(UNSURE, "X.toml"))
    told = decision_json(ask(replace(PLAIN, facts={"seen": "a secret"}), packs=packs))

    assert told["reason"] == "lookup_failed"
    assert sentences(told)[0].endswith("the fact seen must be a date (2026-11-30) or an instant.")
    assert sentences(told, "zh")[0].endswith("事实seen须为日期(2026-11-30)或时刻。")
    assert "a secret" not in json.dumps(told)


@pytest.mark.parametrize(
    ("now", "said", "chinese"),
    [
        (
            NIGHT,
            "outside the hours of contact; gives way to a consent on record",
            "因已有同意记录而放行",
        ),
        (NOON, "within the hours of contact", "在可联系时段内"),
    ],
)
def test_a_consent_is_said_where_the_rule_would_object_without_it(now, said, chinese):
    consent = Consent(kind="relax", form="oral", rules=("CN.GBT.HOURS",), given_at=NOON - timedelta(days=9))
    told = decision_json(ask(replace(PLAIN, told=Told(consents=(consent,))), now=now))

    (line,) = (line for line in sentences(told) if line.startswith("CN.GBT.HOURS (sms)"))
    assert line.removeprefix("CN.GBT.HOURS (sms): ").startswith(said)
    assert ("gives way" in line) == (now == NIGHT)
    (line,) = (line for line in sentences(told, "zh") if line.startswith("CN.GBT.HOURS (sms)"))
    assert chinese in line
    assert ("不在可联系时段" in line) == (now == NIGHT)


NOTES = [
    "calendar TH ends 2027-01-05",
    "calendar TH begins 2026-01-01",
    "time-zone data is of 2026f, older than 2099a",
    "the pack my own.toml cannot be used",
    "the assigned pack X is not loaded",
    "no pack that applies everyone is loaded",
    "no such time zone; use an IANA name, Area/City",
    *(str(wrong_fact("f", wanted)) for wanted in ("a number", "a date (2026-11-30) or an instant")),
    str(wrong_fact("f", "an instant (2026-11-30T08:00:00Z)")),
]


@pytest.mark.parametrize("note", NOTES)
def test_a_note_is_said_in_both_languages(note):
    told = decision_json(ask(replace(PLAIN, open_voice=True))) | {"note": note}

    assert sentences(told)[0].endswith(f": {note}.")
    assert not re.search(r"\b(is|the|ends|begins|no|must)\b", sentences(told, "zh")[0])


def test_every_reason_of_the_page_on_states_has_a_sentence_in_both_languages():
    page = (Path(__file__).parents[2] / "docs" / "states.md").read_text("utf-8").partition("## Reasons")[2]
    reasons = set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE))

    assert {"quota", "rejected_content", "rejected_config", "account_down"} < reasons
    for lang in ("en", "zh"):
        assert reasons == explain._texts()[lang]["reason"].keys()
