"""One recorded decision under other packs: what becomes of it, what cannot be said, and how both are counted."""

import xml.etree.ElementTree as ET
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest

from gateway.domain import Channel, DebtState
from gateway.errors import PolicyError
from gateway.policy.bars import changes_svg
from gateway.policy.calendars import SHIPPED
from gateway.policy.explain import decision_json
from gateway.policy.gate import DebtNow, Reachable, Snapshot, decide
from gateway.policy.inputs import written
from gateway.policy.model import Consent, Event, Told
from gateway.policy.packs import load
from gateway.policy.parse import parse_pack
from gateway.policy.tally import Cell, Count, Tally, read_tally, tally_json
from gateway.policy.whatif import Change, Gap, Kind, Proposal, Seen, Why, cautions, local_date, replay
from gateway.policy.zones import possible_zones

LOADED = load()
NOON = datetime(2026, 11, 24, 4, 0, tzinfo=UTC)  # 12:00 in Shanghai, a Tuesday
NIGHT = datetime(2026, 11, 24, 15, 0, tzinfo=UTC)  # 23:00 there
PERMIT_S = 10
REACH = {Channel.VOICE: timedelta(seconds=150)}
MINE = Reachable(address_key="N1", kind="personal")
DEBT = DebtNow(
    id="D1",
    creditor="K1",
    state=DebtState.OPEN,
    state_at=NOON - timedelta(hours=1),
    stale_after=timedelta(days=2),
    due_date=date(2026, 11, 20),
)
PLAIN = Snapshot(
    borrower="P1",
    debt=DEBT,
    purpose="collection",
    channels=(Channel.SMS,),
    addresses={Channel.SMS: (MINE,), Channel.EMAIL: (MINE,)},
    zones=possible_zones([("Asia/Shanghai", "declared")], None, []),
    expires_at=NOON + timedelta(days=3),
    residence="CN",
    governing_law="CN",
)
ELSEWHERE = replace(PLAIN, residence=None, governing_law=None)
BOTH = replace(PLAIN, channels=(Channel.SMS, Channel.EMAIL))
AGREED = replace(PLAIN, told=Told(consents=(Consent(kind="contact", given_at=NOON - timedelta(days=9)),)))


def pack(rules, applies='"everyone"', name="NEW", header=""):
    """A pack of these rules (TOML without the common keys)."""
    tables = "".join(
        f'[[rule]]\nid = "{name}.{n}"\ncite = "x"\nforce = "operator"\n{rule}\n'
        for n, rule in enumerate(rules)
    )
    head = (
        f'id = "{name}"\nversion = "1"\ntitle = "x"\nsource = "x"\nreview_status = "x"\napplies = {applies}'
    )
    return parse_pack(f"[pack]\n{head}\n{header}\n{tables}", "new.toml")


def hours(opens, closes, more=""):
    days = '["mon", "tue", "wed", "thu", "fri", "sat", "sun"]'
    return f'kind = "window"\ndays = [{{on = {days}, open = "{opens}", close = "{closes}"}}]\n{more}'


def seen(asked=PLAIN, at=NOON, history=(), caps=None, **said):
    """The record of a decision with the packs that are loaded."""
    decision = decide(asked, LOADED, now=at, permit=timedelta(seconds=PERMIT_S), history=history, reach=REACH)
    return Seen(
        at=at,
        said={**decision_json(decision), **said},
        inputs={**written(asked), "caps": caps or {}, "permit_s": PERMIT_S},
        history=history,
    )


def tried(record, *packs, **caps):
    proposal = Proposal(LOADED, packs, {name.replace("_", "."): most for name, most in caps.items()})
    return replay(record, proposal, reach=REACH, calendars=SHIPPED)


def sent(count):
    """So many messages, an hour apart, the last one an hour before noon."""
    return tuple(
        Event(at=NOON - timedelta(hours=n + 1), channel="sms", outcome="delivered", borrower="P1", debt="D1")
        for n in range(count)
    )


HOLD = 'kind = "hold"\nfact = "attorney"'
CLOSED = 'kind = "window"\ndays = []'
KNOWN = replace(PLAIN, facts={"attorney": "2026-11-01"})

CASES = [
    ("nothing is proposed that objects", seen(), [pack([hours("08:00", "20:00")])], None),
    ("a fact that was told", seen(KNOWN), [pack([HOLD])], Change(Kind.BLOCKED, "NEW.0")),
    (
        "later hours",
        seen(),
        [pack([hours("15:00", "20:00")])],
        Change(Kind.DEFERRED, "NEW.0", timedelta(hours=3)),
    ),
    (
        "hours around the clock",
        seen(ELSEWHERE, at=NIGHT),
        [pack([hours("00:00", "24:00")], '"elsewhere"', "OP.BASELINE")],
        Change(Kind.ALLOWED, "OP.BASELINE.HOURS", timedelta(hours=9)),
    ),
    (
        "no message, and mail goes",
        seen(BOTH),
        [pack([f'{CLOSED}\nchannels = ["sms"]'])],
        Change(Kind.REROUTED, "NEW.0"),
    ),
    ("a pack of another place", seen(), [pack([CLOSED], '["US"]')], None),
    ("a pack that would be assigned", seen(), [pack([CLOSED], '"assigned"')], Change(Kind.BLOCKED, "NEW.0")),
    ("a draft", seen(), [pack(['kind = "window"\ndays = []\nunsure = "x"'])], None),
    ("a fact that nobody was asked for", seen(), [pack([HOLD])], Gap(Why.FACT, "attorney")),
    ("the same of a draft", seen(), [pack([f'{HOLD}\nunsure = "x"'])], None),
    ("the same for others", seen(), [pack([f'{HOLD}\nchannels = ["voice"]'])], None),
    (
        "the same for a purpose that it allows",
        seen(),
        [pack([f'{HOLD}\nallow_purposes = ["collection"]'])],
        None,
    ),
    (
        "the same beside a rule that defers in any case",
        seen(),
        [pack([HOLD, hours("15:00", "20:00")])],
        Change(Kind.DEFERRED, "NEW.1", timedelta(hours=3)),
    ),
    (
        "two facts that nobody was asked for",
        seen(),
        [pack([HOLD, 'kind = "prerequisite"\nfact = "notice"\ndates = 3'])],
        Gap(Why.FACT, "attorney, notice"),
    ),
    (
        "a rule from an unknown date on, which lets it pass anyway",
        seen(),
        [pack([hours("08:00", "20:00", 'since_fact = {fact = "sued_on", plus_dates = 3}')])],
        None,
    ),
    (
        "a rule from an unknown date on, which would not",
        seen(),
        [pack([hours("15:00", "20:00", 'since_fact = {fact = "sued_on", plus_dates = 3}')])],
        Gap(Why.FACT, "sued_on"),
    ),
    (
        "a rule from a date on that follows from the debt",
        seen(),
        [pack([f'{CLOSED}\nsince_fact = {{fact = "due_date", plus_dates = 30}}'])],
        None,
    ),
    (
        "a number that nobody was asked for",
        seen(),
        [pack([hours("15:00", "20:00", 'not_if = {fact = "complaints", gt = 0}')])],
        Gap(Why.FACT, "complaints"),
    ),
    ("consents that nobody was asked for", seen(), [pack(['kind = "consent_required"'])], Gap(Why.CONSENTS)),
    ("a consent that was given", seen(AGREED), [pack(['kind = "consent_required"'])], None),
    (
        "a consent that was given in no such form",
        seen(AGREED),
        [pack(['kind = "consent_required"\nform = "written"'])],
        Change(Kind.BLOCKED, "NEW.0"),
    ),
    (
        "a fact that stands for a consent",
        seen(replace(PLAIN, facts={"customer": True})),
        [pack(['kind = "consent_required"\nunless = "customer"'])],
        None,
    ),
    (
        "a fact that might stand for a consent",
        seen(),
        [pack(['kind = "consent_required"\nunless = "customer"'])],
        Gap(Why.FACT, "customer"),
    ),
    (
        "a rest after what was told",
        seen(replace(PLAIN, facts={"bereaved_on": "2026-11-23"})),
        [pack(['kind = "hold_until"\nfact = "bereaved_on"\nplus_dates = 3'])],
        Change(Kind.DEFERRED, "NEW.0", timedelta(hours=44)),
    ),
    (
        "a rest that something unknown may void",
        seen(replace(PLAIN, facts={"bereaved_on": "2026-11-23"})),
        [pack(['kind = "hold_until"\nfact = "bereaved_on"\nplus_dates = 3\nunless = "settled"'])],
        Gap(Why.FACT, "settled"),
    ),
    (
        "a rest after something unknown",
        seen(),
        [pack(['kind = "hold_until"\nfact = "bereaved_on"\nplus_dates = 3'])],
        Gap(Why.FACT, "bereaved_on"),
    ),
    (
        "a rule up to an unknown date",
        seen(),
        [pack([f'{CLOSED}\nuntil_fact = {{fact = "sued_on", plus_dates = 0}}'])],
        Gap(Why.FACT, "sued_on"),
    ),
    ("a refusal, of a debtor", seen(), [pack(['kind = "refusal"\nroles = ["guarantor"]'])], None),
    ("a text that was refused", seen(action="suppress", reason="rejected_content"), [pack([CLOSED])], None),
    ("an account that was down", seen(action="defer", reason="account_down"), [pack([CLOSED])], None),
    (
        "what the packs in use decide otherwise today",
        seen(action="suppress", reason="OLD.RULE"),
        [pack([CLOSED])],
        Gap(Why.CHANGED_SINCE),
    ),
    (
        "a channel that the packs in use take no more",
        seen(channel="email"),
        [pack([CLOSED])],
        Gap(Why.CHANGED_SINCE),
    ),
    ("nothing kept", replace(seen(), inputs=Why.NOT_RECORDED), [pack([CLOSED])], Gap(Why.NOT_RECORDED)),
    ("less kept", replace(seen(), inputs={"borrower": "P1"}), [pack([CLOSED])], Gap(Why.NOT_RECORDED)),
    ("a key that is gone", replace(seen(), inputs=Why.ERASED), [pack([CLOSED])], Gap(Why.ERASED)),
]


@pytest.mark.parametrize(("record", "packs", "expected"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_a_decision_under_other_packs(record, packs, expected):
    assert tried(record, *packs) == expected


@pytest.mark.parametrize(
    ("had", "most", "expected"),
    [
        (1, 2, None),
        (2, 2, Change(Kind.DEFERRED, "OP.CAPS.DAY", timedelta(hours=20))),
        (2, 3, None),
        (3, 3, None),
        (3, 4, Change(Kind.ALLOWED, "OP.CAPS.DAY", timedelta(hours=20))),
    ],
)
def test_another_number_for_a_cap(had, most, expected):
    assert tried(seen(history=sent(had)), OP_CAPS_DAY=most) == expected


CLOSING = datetime(2026, 11, 24, 11, 58, tzinfo=UTC)  # 19:58 in Shanghai
CALL = replace(PLAIN, channels=(Channel.VOICE,), addresses={Channel.VOICE: (MINE,)})
LATE = pack([hours("08:00", "20:00")])


@pytest.mark.parametrize(
    ("reach_s", "expected"),
    [
        ({"voice": 109}, None),
        ({"voice": 110}, Change(Kind.DEFERRED, "NEW.0", timedelta(hours=12, minutes=2))),
        ({}, None),
        (None, Change(Kind.DEFERRED, "NEW.0", timedelta(hours=12, minutes=2))),
    ],
)
def test_a_channel_disturbs_for_as_long_as_was_recorded_else_as_the_accounts_say_now(reach_s, expected):
    record = seen(CALL, at=CLOSING)
    if reach_s is not None:
        record = replace(record, inputs={**record.inputs, "reach_s": reach_s})

    assert tried(record, LATE) == expected


def test_a_tenants_own_number_holds_where_none_is_proposed():
    record = replace(seen(history=sent(3)), inputs={**seen().inputs, "caps": {"OP.CAPS.DAY": 5}})
    record = replace(record, said={**record.said, "action": "send", "channel": "sms", "reason": None})

    assert tried(record, OP_CAPS_WEEK=9) is None
    assert tried(record, OP_CAPS_DAY=2) == Change(Kind.DEFERRED, "OP.CAPS.DAY", timedelta(hours=20))


def test_a_cap_that_no_rule_has_is_refused():
    with pytest.raises(PolicyError) as refused:
        Proposal(LOADED, (), {"OP.CAPS.DYA": 2})

    assert [(fault.at, fault.code) for fault in refused.value.faults] == [("/OP.CAPS.DYA", "rule_unknown")]


@pytest.mark.parametrize("name", sorted({p.id for p in LOADED}))
def test_a_pack_as_it_is_loaded_changes_nothing(name):
    same = [pack for pack in LOADED if pack.id == name and "assigned" not in pack.applies]

    assert tried(seen(), *same) is None
    assert tried(seen(at=NIGHT), *same) is None


def test_the_day_is_the_borrowers_and_utc_where_nobody_knows():
    late = datetime(2026, 11, 24, 20, 0, tzinfo=UTC)

    assert local_date(late, seen().said) == "2026-11-25"
    assert local_date(late, {"zones": []}) == "2026-11-24"


def test_a_reminder_counts_once_a_day_in_each_count():
    count = Count()
    deferred = Change(Kind.DEFERRED, "R", timedelta(hours=2))
    for reminder, day, found in [
        ("rm_1", "2026-11-24", deferred),
        ("rm_1", "2026-11-24", Change(Kind.DEFERRED, "R", timedelta(hours=1))),
        ("rm_1", "2026-11-24", None),
        ("rm_1", "2026-11-25", deferred),
        ("rm_2", "2026-11-24", Change(Kind.DEFERRED, "R", timedelta(hours=5))),
        ("rm_2", "2026-11-24", Change(Kind.ALLOWED, "S")),
        ("rm_3", "2026-11-24", Gap(Why.FACT, "attorney")),
        ("rm_3", "2026-11-24", Gap(Why.FACT, "attorney")),
    ]:
        count.see(reminder, day, found)
    tally = count.tally

    first, second = (Cell(day, Kind.DEFERRED, "R") for day in ("2026-11-24", "2026-11-25"))
    assert (tally.decisions, tally.reminder_days) == (8, 4)
    assert tally.changes == {first: 2, second: 1, Cell("2026-11-24", Kind.ALLOWED, "S"): 1}
    assert tally.gaps == {Gap(Why.FACT, "attorney"): 1}
    assert tally.median([first, second]) == 120
    assert tally.median([Cell("2026-11-24", Kind.ALLOWED, "S")]) is None


def test_parts_add_up_through_their_json():
    count = Count()
    count.see("rm_1", "2026-11-24", Change(Kind.DEFERRED, "R", timedelta(hours=2)))
    count.see("rm_2", "2026-11-24", Gap(Why.ERASED))
    total = Tally()
    for _ in range(2):
        total.add(read_tally(tally_json(count.tally)))

    assert tally_json(total) == {
        "decisions": 4,
        "reminder_days": 4,
        "changes": [
            {"day": "2026-11-24", "kind": "deferred", "rule": "R", "count": 2, "minutes": [(120, 2)]}
        ],
        "undeterminable": [{"why": "erased", "fact": None, "count": 2}],
    }


def test_what_a_replay_cannot_show_is_said():
    packs = [
        pack([CLOSED], name="LATE", header="since = 2027-01-01"),
        pack([f'{CLOSED}\nunsure = "x"', 'kind = "content"\nrequire = ["creditor_name"]'], '"assigned"'),
    ]

    assert cautions(packs, date(2026, 11, 1), date(2027, 1, 1)) == [
        "LATE.0: in force on none of these dates, so they change nothing here",
        "NEW.0: drafts or unsure, so they never object",
        "NEW.1: about texts, which are not replayed",
        "NEW: applied to everybody here, as if assigned to the whole tenant",
    ]
    assert cautions(packs[:1], date(2026, 11, 1), date(2027, 1, 2)) == []


def test_the_picture_has_a_bar_for_each_kind_of_each_day_in_proportion():
    tally = Tally()
    tally.changes.update(
        {Cell("2026-11-24", Kind.BLOCKED, "R"): 4, Cell("2026-11-25", Kind.DEFERRED, "R"): 1}
    )
    tally.changes.update({Cell("2026-11-25", Kind.DEFERRED, "S"): 1})
    svg = changes_svg(tally, date(2026, 11, 23), date(2026, 11, 27))

    bars = {
        rect[0].text: float(rect.get("height"))
        for rect in ET.fromstring(svg).iter("{http://www.w3.org/2000/svg}rect")
        if len(rect)
    }
    assert bars == {"2026-11-24: blocked 4": 160.0, "2026-11-25: deferred 2": 80.0}
    assert svg == changes_svg(tally, date(2026, 11, 23), date(2026, 11, 27))


@pytest.mark.parametrize("days", [1, 31, 366])
def test_a_picture_of_nothing_is_a_picture(days):
    until = date(2026, 1, 1) + timedelta(days=days)
    root = ET.fromstring(changes_svg(Tally(), date(2026, 1, 1), until))

    assert 300 < int(root.get("width")) < 1100
