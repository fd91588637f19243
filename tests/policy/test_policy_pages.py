"""The pages of packs: made from the packs' files, and committed as they are made."""

from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from cli_rig import ran
from test_policy_lint import CAP, FROM, HEADER, HOURS

from gateway.policy import parse, words
from gateway.policy.model import Window
from gateway.policy.pages import page, pages
from gateway.policy.picture import week_svg
from gateway.policy.week import ordinary
from gateway.policy.written import read_written, shipped_files

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs/packs"
SHIPPED = shipped_files()
NINE_DAYS = '{days = 9, from = "event"}'
SVG = "{http://www.w3.org/2000/svg}"


def written(*rules, header=HEADER):
    return read_written(header + "".join(rules), "ZZ.toml")


def rule(keys):
    return f'[[rule]]\nid = "ZZ.R"\n{FROM}{keys}\n'


def test_the_committed_pages_are_what_the_packs_make_now():
    made = pages(SHIPPED)
    there = {str(path.relative_to(FOLDER)) for path in FOLDER.rglob("*") if path.is_file()}

    stale = [
        name for name, text in made.items() if name not in there or (FOLDER / name).read_text("utf-8") != text
    ]

    assert (stale, there - made.keys()) == ([], set()), "run: make docs"


@pytest.mark.parametrize("pack", SHIPPED, ids=lambda pack: pack.stem)
def test_a_page_has_every_rule_with_its_source_and_the_shadow_apart(pack):
    text = page(pack)
    shadow = text.partition("\n## In shadow\n")[2]

    for one in pack.pack.rules:
        assert text.count(f"\n### {one.id}\n") == 1
        assert (f"### {one.id}\n" in shadow) == one.in_shadow
    assert text.count("\n- Read in ") == len(pack.rules)
    assert pack.header["version"] in text


def test_every_kind_of_rule_has_a_sentence():
    assert set(words._SENTENCES) == set(parse._KINDS)


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ('kind = "cap"\nmax = 7\nwindow = {type = "dates", n = 7}\nchannels = ["voice"]\nper = ["borrower", "debt"]',
         "At most 7 calls in 7 dates per borrower and debt."),
        ('kind = "cap"\nmax = 1\nwindow = {type = "hours", n = 24}\nchannels = ["sms", "email"]',
         "At most 1 contact by sms or email in 24 hours."),
        ('kind = "cap"\nmax = 3\nwindow = {type = "day"}\nchannels = ["voice"]\ncount_outcomes = ["conversation"]',
         "At most 3 conversations by voice a day."),
        ('kind = "cap"\nmax = 0\nwindow = {type = "day"}\nchannels = ["visit"]', "No contacts by visit."),
        ('kind = "cap"\nmax = 2\nwindow = {type = "month"}\nonly_after = "conversation"',
         "At most 2 contacts a calendar month, once there has been a contact with outcome `conversation`."),
        ('kind = "cap"\nmax = 1\nwindow = {type = "week"}\naddress_kinds = ["workplace"]\nper = ["debt"]',
         "At most 1 contact a calendar week at an address of kind `workplace` per debt."),
        ('kind = "cooldown"\nafter = "conversation"\ndates = 7\nper = ["debt"]',
         "After a conversation with the same debt, silence for 7 dates, its own being the first."),
        ('kind = "spacing"\nhours = 48', "After any contact, silence for 48 hours."),
        ('kind = "channel_lock"\nafter = "read"\nwindow = {type = "week"}',
         "After a contact with outcome `read`, only the channels that such contacts used, in that calendar week."),
        ('kind = "prerequisite"\nfact = "notice"\ndates = 6\nwithin_dates = 60',
         "Contact only where `notice` is set, from 6 dates after it on until 60 dates after it."),
        ('kind = "prerequisite"\nfact = "notice"\ndates = 0', "Contact only where `notice` is set, from that date on."),
        ('kind = "window"\naddress_kinds = ["workplace"]\ndays = []', "No contact at an address of kind `workplace`."),
        ('kind = "hold"\nfact = "cease"\nallow_purposes = ["notice"]',
         "No contact while `cease` is set, but for `notice`."),
        ('kind = "hold_until"\nfact = "promise"\nplus_dates = 1\nunless = "broken"',
         "No contact before the date `promise` plus 1 date, unless `broken` is set."),
        ('kind = "opt_out"\nchannels = ["sms"]\nconfirm_within_s = 300',
         "No contact by sms from `optout_at` on, but one confirmation within 300 seconds."),
        ('kind = "third_party"\nroles = ["spouse"]\nfails = 3\ndelay_dates = 1',
         "Recipients in the role `spouse` only after 3 failed calls in a row to the debtor, and 1 date later."),
        ('kind = "third_party"\nroles = ["x"]\nfails = 1\ndelay_dates = 1\nonly_purposes = ["relay"]',
         ("Recipients in the role `x` for `relay` alone, only after 1 failed call in a row to the debtor, "
          "and 1 date later.")),
        ('kind = "refusal"\nroles = ["spouse", "contact"]',
         "Recipients in the role `spouse` or `contact` never once `contact_refused` is set."),
        ('kind = "blackout"\nreasons = ["wedding"]', "No contact during a blackout for `wedding`."),
        ('kind = "consent_required"\nform = "written"\nunless = "number_given"',
         "Contact only with a written or separate consent to it, or where `number_given` is set."),
        ('kind = "coverage"\ncalendars = ["CN"]\ntzdata = "2026a"',
         "Contact only while the calendar `CN` covers the date and the time-zone data is 2026a or newer."),
        ('kind = "review"\nfact = "vulnerable"', "A human looks first while `vulnerable` is set."),
        ('kind = "content"\nchannels = ["sms"]\nrequire = ["optout_instruction"]',
         "Every text by sms holds `optout_instruction`."),
        ('kind = "retention"\nrecords = ["message"]\nmin = {years = 1, from = "last_contact"}',
         "Records (`message`) are kept at least 1 year from the last contact."),
        (f'kind = "retention"\nrecords = ["message"]\nmin = {NINE_DAYS}\nmax = {NINE_DAYS}',
         "Records (`message`) are kept for 9 days from what they record, then destroyed."),
        ('kind = "retention"\nrecords = ["decision", "recording"]\nmax = {days = 90, from = "closure"}',
         "Records (`decision` and `recording`) are kept at most 90 days from the debt's closure."),
    ],
)  # fmt: skip
def test_a_rule_is_said_as_a_person_would(keys, said):
    assert f"\n{said}\n" in page(written(rule(keys)))


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ("since = 2026-09-01", "- In force from: 2026-09-01"),
        ('actors = ["agency", "debt_buyer"]', "- Only for actors: `agency` and `debt_buyer`"),
        ('since_fact = {fact = "due_date", plus_dates = 31}', "- In force from: the date `due_date` plus 31 dates"),
        ('until_fact = {fact = "due_date", plus_dates = -1}', "- In force before: the date `due_date` minus 1 date"),
        ('relaxed_by = {form = "oral", flag = "x"}',
         "- Relaxed by: an oral or stronger consent that names this rule; the attempt carries the flag `x`"),
        ('relaxed_by = {form = "oral", dates = 7}',
         "- Relaxed by: an oral or stronger consent that names this rule, for 7 dates from the day it was given"),
        ('count_outcomes = ["read"]', "- Counted outcomes: `read` (an unknown one always is)"),
        ('unsure = "two copies | disagree"', "- **It never objects**, it is only recorded: two copies \\| disagree"),
        ('note = "Stricter than needed."', "- Note: Stricter than needed."),
        ('force = "self"', "- Self-regulation: s. 1"),
    ],
)  # fmt: skip
def test_what_narrows_a_rule_is_said_beside_it(keys, said):
    assert f"\n{said}\n" in page(written(f"{CAP}{keys}\n"))


def test_rules_on_texts_and_on_records_have_their_own_headings():
    content, keep = (
        rule('kind = "content"\nrequire = ["creditor_name"]'),
        rule('kind = "retention"\nrecords = ["message"]'),
    )
    keep = keep.replace("ZZ.R", "ZZ.KEEP") + 'min = {years = 3, from = "event"}\n'

    headings = [line for line in page(written(HOURS, content, keep)).splitlines() if line.startswith("## ")]

    assert headings == ["## Rules", "## What texts must say", "## How long records are kept"]


def test_hours_are_a_table_with_runs_of_days_and_holidays():
    mornings = '{on = ["mon", "tue", "wed"], open = "08:00", close = "12:00"}'
    evenings = '{on = ["mon", "sun"], open = "13:00", close = "20:30"}'
    holiday = 'holiday_as = {calendar = "TH", open = "08:00", close = "18:00"}\n'

    text = page(
        written(
            rule(f'kind = "window"\nzone = "fixed:Asia/Bangkok"\ndays = [{mornings}, {evenings}]') + holiday
        )
    )

    assert "| Mon | Tue-Wed | Thu-Sat | Sun | holidays |" in text
    assert "| 08:00-12:00 and 13:00-20:30 | 08:00-12:00 | closed | 13:00-20:30 | 08:00-18:00 |" in text
    assert "local time of Asia/Bangkok, wherever the borrower is" in text


def test_lists_that_hold_nothing_say_so():
    text = page(written(f"{CAP}channels = []\nper = []\nexempt_flags = []\n"))

    assert "At most 1 contact by none a day." in text
    assert "- Not for flags: none" in text


def test_hours_of_the_residence_close_on_its_holidays():
    text = page(written(HOURS, header=HEADER + 'holidays = "residence"\n'))

    assert "| Mon | Tue-Sun | holidays |\n|---|---|---|\n| 08:00-20:00 | closed | closed |" in text


def test_the_overview_names_hours_caps_and_scopes():
    weekend = 'days = [{on = ["sat"], open = "09:00", close = "12:00"}]\nchannels = ["sms"]'
    second = rule(f'kind = "window"\n{weekend}').replace("ZZ.R", "ZZ.SMS")

    text = pages([written(HOURS, second, CAP)])["README.md"]

    mixed = "all channels<br>sms | Mon 08:00-20:00; Tue-Fri closed<br>closed (sms)"
    assert f"| [ZZ](ZZ.md) | `ZZ` | {mixed} | closed<br>09:00-12:00 (sms) | closed | as any day |" in text
    assert "| 1 contact a day | all together | - |" in text


@pytest.mark.parametrize(
    "drawn", [(one, pack) for pack in SHIPPED for one in pack.pack.rules if isinstance(one, Window) and ordinary(one)],
    ids=lambda drawn: drawn[0].id,
)  # fmt: skip
def test_a_picture_is_a_well_formed_drawing_of_whole_days(drawn):
    one, pack = drawn
    root = ET.fromstring(pages([pack])[f"img/{one.id}.svg"])

    assert root.find(f"{SVG}title").text == f"{one.id}: hours of contact"
    assert {element.tag for element in root.iter()} == {
        SVG + name for name in ("svg", "title", "rect", "text")
    }
    bars = [bar for bar in root.iter(f"{SVG}rect") if bar.get("fill") != "#fff"]
    assert all(
        64 <= float(bar.get("x")) <= float(bar.get("x")) + float(bar.get("width")) <= 496 for bar in bars
    )


def test_a_bar_is_as_long_as_its_hours():
    one = written(HOURS).pack.rules[0]

    bars = ET.fromstring(week_svg(one, None)).iter(f"{SVG}rect")
    [bar] = [bar for bar in bars if bar.get("fill") == "#2f9e6b"]

    assert (float(bar.get("x")) - 64, float(bar.get("width"))) == (8 * 18, 12 * 18)


def test_the_command_writes_the_pages_of_any_pack(tmp_path):
    (tmp_path / "ZZ.toml").write_text(HEADER + HOURS)
    ended = ran("policy", "docs", "out", "ZZ.toml", cwd=tmp_path)

    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout == "1 packs, 3 files in out\n"
    assert {str(path.relative_to(tmp_path / "out")) for path in tmp_path.glob("out/**/*.*")} == {
        "README.md", "ZZ.md", "img/ZZ.HOURS.svg",
    }  # fmt: skip
    assert (tmp_path / "out/ZZ.md").read_text("utf-8") == page(written(HOURS))
