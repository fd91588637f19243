"""What the gateway adds around the packs: in which order, with which words, and what is never final."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.domain import Action, Channel, DebtState
from gateway.errors import PolicyError
from gateway.policy.gate import Alike, DebtNow, Hold, Reachable, Snapshot, decide
from gateway.policy.model import WEEKDAYS, Absence, Event, Hours, OwnWindow, Told
from gateway.policy.packs import with_overrides
from gateway.policy.parse import parse_pack, shipped
from gateway.policy.zones import possible_zones

PACKS = tuple(shipped()[name] for name in ("CN.GBT", "IN.RBI", "OP.BASELINE", "OP.CAPS", "US.REGF"))
PERMIT = timedelta(seconds=10)
REACH = {Channel.VOICE: timedelta(seconds=150)}
NOON = datetime(2026, 11, 24, 4, 0, tzinfo=UTC)  # 12:00 in Shanghai
SHANGHAI = possible_zones([("Asia/Shanghai", "declared")], None, [])
MINE = Reachable(address_key="N1", kind="personal")
DEBT = DebtNow(
    id="D1",
    creditor="K1",
    state=DebtState.OPEN,
    state_at=NOON - timedelta(hours=1),
    stale_after=timedelta(hours=24),
    due_date=date(2026, 11, 20),
)
PLAIN = Snapshot(
    borrower="P1",
    debt=DEBT,
    purpose="collection",
    channels=(Channel.SMS, Channel.VOICE),
    addresses={Channel.SMS: (MINE,), Channel.VOICE: (MINE,)},
    zones=SHANGHAI,
    expires_at=NOON + timedelta(days=3),
    residence="CN",
    governing_law="CN",
)


def utc(*parts):
    return datetime(2026, 11, *parts, tzinfo=UTC)


def event(at, outcome="delivered", channel="sms", **keys):
    return Event(at=at, channel=channel, outcome=outcome, borrower="P1", debt="D1", creditor="K1", **keys)


def ask(snapshot=PLAIN, now=NOON, history=(), packs=PACKS):
    return decide(snapshot, packs, now=now, permit=PERMIT, history=history, reach=REACH)


def said(decision):
    return decision.action.value, decision.reason, decision.until


def pack_of(*keys, name="X.RULE"):
    """A pack of one rule for China."""
    header = 'id = "X"\nversion = "1"\ntitle = "t"\nreview_status = "r"\nsource = "s"\napplies = ["CN"]'
    rule = "\n".join([f'id = "{name}"', *keys])
    return parse_pack(f"[pack]\n{header}\n[[rule]]\n{rule}\n", "X.toml")


def with_debt(**changes):
    return replace(PLAIN, debt=replace(DEBT, **changes))


def hold(**changes):
    return Hold(**({"id": "h1", "reason": "attorney", "since": utc(1)} | changes))


LATER = NOON + timedelta(minutes=15)


def test_a_plain_reminder_goes_out_by_its_first_channel_before_the_window_closes():
    decision = ask()

    assert (decision.action, decision.channel, decision.address_key) == (Action.SEND, Channel.SMS, "N1")
    assert (decision.reason, decision.until) == (None, None)
    assert decision.deliver_by == utc(24, 14)
    assert [pack.id for pack in decision.packs] == ["CN.GBT", "OP.CAPS"]
    assert decision.tzdata >= "2026f"
    assert decision.zones == SHANGHAI
    assert [finding.of.id for finding in decision.findings] == ["CN.GBT.HOURS", "OP.CAPS.DAY", "OP.CAPS.WEEK"]


@pytest.mark.parametrize(
    ("snapshot", "expected"),
    [
        (replace(PLAIN, expires_at=NOON), ("suppress", "expired", None)),
        (with_debt(state=DebtState.PAID), ("suppress", "debt_paid", None)),
        (with_debt(state=DebtState.DISPUTED), ("suppress", "debt_disputed", None)),
        (with_debt(state=DebtState.HARDSHIP), ("defer", "debt_hardship", LATER)),
        (
            with_debt(state=DebtState.PROMISED, until=date(2026, 11, 24)),
            ("defer", "debt_promised", utc(24, 16)),
        ),
        (with_debt(state=DebtState.PROMISED, until=date(2026, 11, 23)), ("send", None, None)),
        (with_debt(state=DebtState.PROMISED), ("defer", "debt_promised", LATER)),
        (with_debt(state_at=NOON - timedelta(hours=24)), ("send", None, None)),
        (with_debt(state_at=NOON - timedelta(hours=24, seconds=1)), ("defer", "debt_stale", LATER)),
        (replace(PLAIN, holds=(hold(),)), ("suppress", "held", None)),
        (replace(PLAIN, holds=(hold(since=NOON),)), ("suppress", "held", None)),
        (replace(PLAIN, holds=(hold(since=NOON + timedelta(seconds=1)),)), ("send", None, None)),
        (replace(PLAIN, holds=(hold(until=NOON),)), ("send", None, None)),
        (
            replace(PLAIN, holds=(hold(until=utc(25)), hold(id="h2", until=utc(26)))),
            ("defer", "held", utc(26)),
        ),
        (replace(PLAIN, holds=(hold(until=utc(25)), hold(id="h2"))), ("suppress", "held", None)),
        (replace(PLAIN, holds=(hold(allow_purposes=frozenset({"collection"})),)), ("send", None, None)),
        (replace(PLAIN, opt_outs=(("all", NOON),)), ("suppress", "opted_out", None)),
        (replace(PLAIN, opt_outs=(("all", NOON + timedelta(seconds=1)),)), ("send", None, None)),
        (
            replace(PLAIN, opt_outs=(("sms", utc(1)), ("voice", utc(1)))),
            ("suppress", "opted_out", None),
        ),
        (replace(PLAIN, recipient_role="spouse"), ("suppress", "third_party", None)),
        (replace(PLAIN, duplicate=True), ("suppress", "duplicate", None)),
        (replace(PLAIN, zones=possible_zones([], None, [])), ("defer", "zone_unknown", LATER)),
        (replace(PLAIN, not_before=utc(24, 6)), ("defer", "not_before", utc(24, 6))),
        (replace(PLAIN, not_before=NOON), ("send", None, None)),
        (replace(PLAIN, open_voice=True), ("defer", "open_voice", NOON + timedelta(seconds=60))),
        (replace(PLAIN, addresses={}), ("suppress", "no_address", None)),
        (replace(PLAIN, channels=(Channel.EMAIL,)), ("suppress", "no_address", None)),
    ],
)
def test_what_stands_around_the_packs_has_its_own_word(snapshot, expected):
    assert said(ask(snapshot)) == expected


@pytest.mark.parametrize(
    ("first", "second", "reason"),
    [
        ({"expires_at": NOON}, {"debt": replace(DEBT, state=DebtState.PAID)}, "expired"),
        ({"debt": replace(DEBT, state=DebtState.PAID)}, {"holds": (hold(),)}, "debt_paid"),
        ({"holds": (hold(),)}, {"opt_outs": (("all", utc(1)),)}, "held"),
        ({"opt_outs": (("all", utc(1)),)}, {"recipient_role": "spouse"}, "opted_out"),
        ({"duplicate": True}, {"recipient_role": "spouse"}, "duplicate"),
        ({"duplicate": True}, {"zones": possible_zones([], None, [])}, "duplicate"),
        ({"zones": possible_zones([], None, [])}, {"not_before": utc(25)}, "zone_unknown"),
        ({"not_before": utc(25)}, {"open_voice": True}, "not_before"),
    ],
)
def test_the_words_have_an_order(first, second, reason):
    assert ask(replace(PLAIN, **first, **second)).reason == reason


def test_a_wait_never_goes_past_the_reminder_s_end():
    ends = NOON + timedelta(minutes=5)

    assert said(ask(replace(with_debt(state=DebtState.HARDSHIP), expires_at=ends)))[2] == ends
    assert said(ask(replace(PLAIN, not_before=utc(30))))[2] == PLAIN.expires_at


def test_a_promise_is_over_when_its_date_is_over_in_every_zone():
    both = possible_zones([("Asia/Shanghai", "declared"), ("America/New_York", "address")], None, [])
    snapshot = replace(with_debt(state=DebtState.PROMISED, until=date(2026, 11, 24)), zones=both)

    assert said(ask(snapshot)) == ("defer", "debt_promised", utc(25, 5))
    assert said(ask(snapshot, now=utc(25, 5)))[1] != "debt_promised"


@pytest.mark.parametrize(
    ("packs", "residence"),
    [
        (PolicyError([]), "CN"),
        ((), "CN"),
        (tuple(p for p in PACKS if p.id != "OP.CAPS"), "CN"),
        (tuple(p for p in PACKS if p.id != "OP.BASELINE"), "FR"),
    ],
)
def test_packs_that_are_not_there_never_mean_no_rules(packs, residence):
    decision = ask(replace(PLAIN, residence=residence), packs=packs)

    assert said(decision) == ("defer", "policy_unavailable", LATER)


@pytest.mark.parametrize(
    ("rule", "wrong", "right"),
    [
        ('kind = "prerequisite"\nfact = "seen"\ndates = 1', True, "2026-11-01"),
        ('kind = "prerequisite"\nfact = "seen"\ndates = 1', "soon", datetime(2026, 11, 1, tzinfo=UTC)),
        ('kind = "prerequisite"\nfact = "seen"\ndates = 1', datetime(2026, 11, 1), date(2026, 11, 1)),
        ('kind = "window"\ndays = []\nnot_if = {fact = "seen", gt = 1}', "2", 2),
        ('kind = "window"\ndays = []\nnot_if = {fact = "seen", gt = 0}', True, 1.5),
        ('kind = "opt_out"', "2026-11-01", "2026-12-01T00:00:00+08:00"),
    ],
)
def test_a_fact_of_the_wrong_type_is_a_failed_look_up(rule, wrong, right):
    name = "optout_at" if rule == 'kind = "opt_out"' else "seen"
    packs = (*PACKS, pack_of(rule))

    assert said(ask(replace(PLAIN, facts={name: wrong}), packs=packs)) == ("defer", "lookup_failed", LATER)
    assert said(ask(replace(PLAIN, facts={name: right}), packs=packs))[0] == "send"


def test_a_third_party_is_reached_only_where_a_rule_covers_the_role():
    packs = (
        *PACKS,
        pack_of('kind = "third_party"', 'roles = ["spouse"]', "fails = 1", "delay_dates = 0", name="X.THIRD"),
    )
    failed = [event(utc(24, 1), "no_answer", "voice")]
    spouse = replace(PLAIN, recipient_role="spouse", borrower="P2")

    assert said(ask(spouse, packs=packs, history=failed))[0] == "send"
    assert said(ask(spouse, packs=packs)) == ("suppress", "X.THIRD", None)
    assert (
        said(ask(replace(spouse, recipient_role="employer"), packs=packs, history=failed))[1] == "third_party"
    )


def test_twenty_texts_in_a_day_give_three():
    history, sent = [], 0
    for minute in range(20):
        now = NOON + timedelta(minutes=minute)
        decision = ask(now=now, history=history)
        if decision.action is Action.SEND:
            sent += 1
            history.append(event(now, "unknown", decision.channel.value))

    assert sent == 3
    assert said(decision) == ("defer", "OP.CAPS.DAY", utc(25))


def test_a_tenant_s_own_cap_is_the_one_that_counts():
    history = [event(NOON - timedelta(hours=hours)) for hours in (1, 2, 3)]

    assert ask(history=history).action is Action.DEFER
    assert ask(history=history, packs=with_overrides(PACKS, {"OP.CAPS.DAY": 4})).action is Action.SEND


def test_two_conversations_today_leave_one_call_and_an_answered_one_counts_in_china():
    talks = [event(NOON - timedelta(hours=hours), "conversation", "voice") for hours in (1, 2)]
    answered = [*talks, event(NOON - timedelta(hours=3), "answered", "voice")]
    calls = replace(PLAIN, channels=(Channel.VOICE,))
    loose = with_overrides(PACKS, {"OP.CAPS.DAY": 9})

    assert ask(calls, history=talks, packs=loose).action is Action.SEND
    assert said(ask(calls, history=answered, packs=loose)) == ("defer", "CN.GBT.EFF3DAY", utc(25))


@pytest.mark.parametrize(
    ("channel", "before_close", "action"),
    [
        (Channel.SMS, 11, "send"),
        (Channel.SMS, 10, "defer"),
        (Channel.VOICE, 161, "send"),
        (Channel.VOICE, 160, "defer"),
    ],
)
def test_a_contact_must_be_over_before_the_window_closes(channel, before_close, action):
    now = utc(24, 14) - timedelta(seconds=before_close)
    decision = ask(replace(PLAIN, channels=(channel,)), now=now)

    assert decision.action.value == action
    if action == "defer":
        assert said(decision) == ("defer", "CN.GBT.HOURS", utc(25))
        assert any(finding.objects for finding in decision.findings)


def test_a_microsecond_does_not_open_a_window_early():
    just_before = utc(24) - timedelta(microseconds=1)

    assert said(ask(now=just_before)) == ("defer", "CN.GBT.HOURS", utc(24))
    assert ask(now=utc(24)).action is Action.SEND


def test_a_channel_that_will_not_open_in_time_gives_way_to_the_next():
    talks = [event(NOON - timedelta(hours=hours), "conversation", "voice") for hours in (1, 2, 3)]
    loose = with_overrides(PACKS, {"OP.CAPS.DAY": 9})
    first_voice = replace(PLAIN, channels=(Channel.VOICE, Channel.SMS), expires_at=utc(24, 12))
    decision = ask(first_voice, history=talks, packs=loose)

    assert (decision.action, decision.channel) == (Action.SEND, Channel.SMS)
    assert decision.deliver_by == utc(24, 12)
    assert {finding.channel for finding in decision.findings} == {"voice", "sms"}


def test_a_channel_that_opens_in_time_is_waited_for():
    talks = [event(NOON - timedelta(hours=hours), "conversation", "voice") for hours in (1, 2, 3)]
    loose = with_overrides(PACKS, {"OP.CAPS.DAY": 9})
    decision = ask(replace(PLAIN, channels=(Channel.VOICE, Channel.SMS)), history=talks, packs=loose)

    assert (decision.action, decision.channel) == (Action.DEFER, Channel.VOICE)
    assert said(decision) == ("defer", "CN.GBT.EFF3DAY", utc(25))


def test_an_opted_out_channel_and_one_without_address_give_way():
    channels = (Channel.EMAIL, Channel.SMS, Channel.VOICE)
    decision = ask(replace(PLAIN, channels=channels, opt_outs=(("sms", utc(1)),)))

    assert (decision.action, decision.channel) == (Action.SEND, Channel.VOICE)


def test_what_opens_too_late_on_every_channel_waits_for_its_end():
    night = replace(PLAIN, expires_at=utc(24, 23), opt_outs=(("sms", utc(1)),))
    decision = ask(night, now=utc(24, 15))

    assert said(decision) == ("defer", "CN.GBT.HOURS", utc(24, 23))


def test_the_first_address_that_is_open_is_taken():
    packs = (
        *PACKS,
        pack_of(
            'kind = "window"',
            'address_kinds = ["workplace"]',
            'days = [{on = ["tue"], open = "09:00", close = "10:00"}]',
            name="X.WORK",
        ),
    )
    work, home = Reachable(address_key="W", kind="workplace"), Reachable(address_key="H", kind="home")
    both = replace(PLAIN, addresses={Channel.SMS: (work, home)})

    assert ask(both, packs=packs).address_key == "H"
    assert ask(both, packs=packs, now=utc(24, 1)).address_key == "W"
    assert said(ask(replace(PLAIN, addresses={Channel.SMS: (work,)}), packs=packs))[1] == "X.WORK"


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        (utc(23, 15, 59, 59), ("defer", "not_before", utc(23, 16))),
        (utc(24, 13, 59, 49), ("send", None, None)),
        (utc(24, 15, 59, 59), ("defer", "CN.GBT.HOURS", utc(25))),
        (utc(24, 16), ("suppress", "expired", None)),
    ],
)
def test_a_text_for_one_date_leaves_on_no_other(now, expected):
    assert said(ask(replace(PLAIN, valid_on=date(2026, 11, 24)), now=now)) == expected


def test_a_date_must_be_the_same_in_every_zone():
    both = possible_zones([("Asia/Shanghai", "declared"), ("America/New_York", "address")], None, [])
    today = replace(PLAIN, zones=both, valid_on=date(2026, 11, 24), channels=(Channel.SMS,))
    far = possible_zones([("Pacific/Kiritimati", "declared"), ("Etc/GMT+12", "address")], None, [])

    assert said(ask(today, now=utc(24, 4))) == ("defer", "not_before", utc(24, 5))
    assert ask(today, now=utc(24, 5)).deliver_by == utc(24, 14)
    assert said(ask(replace(today, zones=far))) == ("suppress", "expired", None)


def test_a_text_for_one_date_must_be_delivered_on_it():
    zones = possible_zones([("America/New_York", "declared"), ("America/Chicago", "address")], None, [])
    answer = replace(PLAIN, zones=zones, residence="US", governing_law="US", purpose="response_to_inbound")

    assert ask(replace(answer, valid_on=date(2026, 11, 24)), now=utc(24, 19)).deliver_by == utc(25, 5)
    assert ask(answer, now=utc(24, 19)).deliver_by == PLAIN.expires_at


def test_one_confirmation_per_opt_out_passes_it():
    stopped = replace(PLAIN, purpose="optout_confirmation", opt_outs=(("all", NOON - timedelta(seconds=9)),))
    confirmed = event(NOON - timedelta(seconds=5), "unknown", flags=frozenset({"optout_confirmation"}))
    at_once = replace(confirmed, at=NOON - timedelta(seconds=9))
    earlier = event(NOON - timedelta(seconds=10), "delivered", flags=frozenset({"optout_confirmation"}))

    assert ask(stopped).action is Action.SEND
    assert said(ask(stopped, history=[confirmed])) == ("suppress", "opted_out", None)
    assert said(ask(stopped, history=[at_once])) == ("suppress", "opted_out", None)
    assert ask(stopped, history=[earlier]).action is Action.SEND


def test_an_opt_out_is_a_fact_for_the_packs():
    packs = (*PACKS, pack_of('kind = "opt_out"', "confirm_within_s = 300", name="X.REVOKE"))
    late = replace(PLAIN, purpose="optout_confirmation", opt_outs=(("sms", NOON - timedelta(seconds=301)),))
    in_time = replace(late, opt_outs=(("sms", NOON - timedelta(seconds=200)),))

    assert said(ask(replace(late, channels=(Channel.SMS,)), packs=packs)) == ("suppress", "X.REVOKE", None)
    assert ask(in_time, packs=packs).channel is Channel.SMS


def test_days_past_due_come_from_the_debt_and_the_latest_date_of_all_zones():
    packs = (
        *PACKS,
        pack_of('kind = "window"', "days = []", 'not_if = {fact = "dpd", gt = 4}', name="X.LATE"),
    )
    both = possible_zones([("Pacific/Auckland", "declared"), ("Asia/Shanghai", "address")], None, [])
    lied = replace(PLAIN, facts={"dpd": 99})

    assert said(ask(lied, packs=packs)) == ("suppress", "X.LATE", None)
    assert ask(replace(lied, zones=both), packs=packs, now=utc(24, 11)).action is Action.SEND
    assert said(ask(with_debt(due_date=None), packs=packs))[1] == "X.LATE"


def test_a_calendar_that_ends_is_not_known_and_so_never_the_last_word():
    taipei = possible_zones([("Asia/Taipei", "declared")], None, [])
    now = datetime(2026, 12, 31, 13, 0, tzinfo=UTC)
    known = replace(DEBT, state_at=now)
    snapshot = replace(
        PLAIN,
        zones=taipei,
        residence="TW",
        governing_law="TW",
        debt=known,
        expires_at=now + timedelta(days=9),
    )
    beyond = now + timedelta(hours=4)

    assert said(ask(snapshot, now=now)) == ("defer", "calendar_ends", now + timedelta(minutes=15))
    decision = ask(snapshot, now=beyond)
    assert said(decision) == ("defer", "calendar_ends", beyond + timedelta(minutes=15))
    assert "calendar TW ends 2026-12-31" in [finding.note for finding in decision.findings]


def test_a_hold_by_rule_is_the_last_word_and_names_its_rule():
    us = possible_zones([("America/New_York", "declared")], None, [])
    now = utc(24, 3)
    snapshot = replace(
        PLAIN, zones=us, residence="US-NY", governing_law="US", facts={"cease_written": "2026-11-10"}
    )

    assert said(ask(snapshot, now=now)) == ("suppress", "US.REGF.CEASE", None)


def test_the_rule_that_opens_last_is_the_reason():
    history = [event(NOON - timedelta(days=days)) for days in (0, 0, 0, 5, 5, 5, 5)]

    assert said(ask(history=history)) == ("defer", "OP.CAPS.WEEK", utc(26))


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 3 * 86400),
    st.lists(st.integers(-8 * 86400, 0), max_size=9),
    st.sampled_from(["CN", "US-TX", "IN", "GB", "FR", None]),
    st.booleans(),
)
def test_a_wait_ends_in_a_send_or_at_the_reminder_s_end(after, ages, residence, voice_first):
    """Looked at again when it was said to open, nothing else having happened, a reminder goes out."""
    now = NOON + timedelta(seconds=after)
    history = [event(now + timedelta(seconds=age), "unknown") for age in ages]
    channels = (Channel.VOICE, Channel.SMS) if voice_first else (Channel.SMS, Channel.VOICE)
    snapshot = replace(
        PLAIN,
        zones=possible_zones([], residence or "CN", []),
        residence=residence,
        governing_law=None,
        channels=channels,
        debt=replace(DEBT, stale_after=timedelta(days=99)),
        expires_at=now + timedelta(days=12),
    )
    decision = ask(snapshot, now=now, history=history)
    if decision.action is Action.DEFER:
        again = ask(snapshot, now=decision.until, history=history)
        assert again.action is Action.SEND
        decision = again

    assert decision.action is Action.SEND
    assert decision.deliver_by <= snapshot.expires_at
    assert decision.deliver_by > decision.at + PERMIT


SOMEBODY = st.fixed_dictionaries(
    {
        "residence": st.sampled_from(["CN", "US-TX", "IN", "GB", None]),
        "purpose": st.sampled_from(["collection", "pre_due_reminder", "service_notice"]),
        "recipient_role": st.sampled_from(["debtor", "debtor", "debtor", "family"]),
        "actor_role": st.sampled_from(["creditor", "agency"]),
        "product": st.sampled_from([None, "card"]),
        "expires_at": st.sampled_from([NOON + timedelta(seconds=s) for s in (11, 3600, 86400, 9 * 86400)]),
        "channels": st.permutations([Channel.SMS, Channel.VOICE]).map(tuple),
        "facts": st.sampled_from([None, {}, {"strange": True}, {"strange": 1}, {"strange": 2.5}]),
        "told": st.sampled_from(
            [
                Told(),
                Told(
                    windows=(
                        OwnWindow(kind="deny", hours=Hours(open=0, close=86400), on=frozenset(WEEKDAYS)),
                    )
                ),
                Told(blackouts=(Absence(reason="festival", since=date(2026, 11, 24)),)),
            ]
        ),
        "debt": st.sampled_from(
            [DEBT, replace(DEBT, due_date=date(2026, 11, 24)), replace(DEBT, due_date=None)]
        ),
        "addresses": st.sampled_from(
            [
                PLAIN.addresses,
                {Channel.SMS: (replace(MINE, address_key="N2"), replace(MINE, adapter="aliyun_sms"))},
                {Channel.VOICE: (replace(MINE, kind="work"), MINE)},
            ]
        ),
    }
)


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.tuples(SOMEBODY, st.lists(st.integers(-8 * 86400, 0), max_size=2)), min_size=2, max_size=12),
    st.integers(0, 86400),
)
def test_many_decided_together_get_the_word_that_each_would_get_alone(crowd, after):
    """A rule that reads a fact tells true from 1 and breaks on one of them."""
    now, alike = NOON + timedelta(seconds=after), Alike()
    packs = (*PACKS, pack_of('kind = "window"', "days = []", 'not_if = {fact = "strange", gt = 0}'))
    for place, (changes, ages) in enumerate(crowd):
        snapshot = replace(PLAIN, **changes, borrower=f"P{place}")
        history = [
            replace(event(now + timedelta(seconds=age), "unknown"), borrower=f"P{place}") for age in ages
        ]
        asked = {"now": now, "permit": PERMIT, "history": history, "reach": REACH}

        assert decide(snapshot, packs, **asked, alike=alike) == decide(snapshot, packs, **asked)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"facts": {"strange": 1}}, {"facts": {"strange": True}}),
        ({"expires_at": NOON + timedelta(seconds=30)}, {}),
        ({}, {"expires_at": NOON + timedelta(seconds=30)}),
        ({"purpose": "service_notice"}, {}),
        ({"residence": "US-TX"}, {}),
    ],
)
def test_two_who_are_not_alike_do_not_get_each_other_s_word(one, other):
    rule = ('kind = "window"', "days = []", 'not_if = {fact = "strange", gt = 0}', 'channels = ["voice"]')
    asked = {"now": NOON, "permit": PERMIT, "history": (), "reach": REACH}
    packs, alike = (*PACKS, pack_of(*rule)), Alike()
    first = replace(PLAIN, channels=(Channel.VOICE,), **{"facts": {"strange": 1}, **one})
    second = replace(PLAIN, channels=(Channel.VOICE,), **{"facts": {"strange": 1}, **other})

    decide(first, packs, **asked, alike=alike)

    assert decide(second, packs, **asked, alike=alike) == decide(second, packs, **asked)
