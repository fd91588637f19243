"""A decision said to machines and to people."""

import json
from dataclasses import replace
from datetime import date, timedelta

import pytest
from test_policy_gate import DEBT, MINE, NOON, PACKS, PLAIN, ask, event, utc

from gateway.domain import Channel, DebtState
from gateway.policy import explain
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

    assert lines[0].startswith("Waits until 2027-11-24 12:15 Asia/Taipei: a calendar of holidays ends")
    assert any("calendar TW ends 2026-12-31" in line and "no opening in sight" in line for line in lines)
