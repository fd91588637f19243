"""A person's timeline as it was known at each instant, and each thing that makes a send a violation. Pure."""

from copy import deepcopy
from datetime import UTC, date, datetime, timedelta

import orjson
import pytest

from gateway.audit.check import JUST_AFTER, JUST_BEFORE, Known, check
from gateway.audit.timeline import Opened, timeline
from gateway.domain import Action, Channel, DebtState
from gateway.policy.calendars import SHIPPED
from gateway.policy.explain import decision_json
from gateway.policy.gate import DebtNow, Reachable, Snapshot, decide
from gateway.policy.inputs import written
from gateway.policy.parse import parse_pack, shipped
from gateway.policy.zones import possible_zones

PACKS = tuple(shipped().values())
NOON = datetime(2026, 11, 24, 4, 0, tzinfo=UTC)  # 12:00 in Shanghai
S, H, D = timedelta(seconds=1), timedelta(hours=1), timedelta(days=1)
SNAPSHOT = Snapshot(
    borrower="P1",
    debt=DebtNow(
        id="D1",
        creditor="K1",
        state=DebtState.OPEN,
        state_at=NOON - H,
        stale_after=D,
        due_date=date(2026, 11, 20),
    ),
    purpose="collection",
    channels=(Channel.SMS,),
    addresses={Channel.SMS: (Reachable(address_key="N1", kind="personal"),)},
    zones=possible_zones([("Asia/Shanghai", "declared")], None, []),
    expires_at=NOON + 3 * D,
    residence="CN",
    governing_law="CN",
)


def opened(kind, at, body, *, ids=None, clear=None, erased=False, **leaf):
    said = {"id": f"lg_{kind}_{at.isoformat()}_{leaf.get('attempt')}", "kind": kind, "at": at.isoformat()}
    side = {"ids": {"debt": "D1", "creditor": "K1", **(ids or {})}, "clear": clear or {}}
    return Opened(leaf={**said, **leaf, "body": body}, side=None if erased else side)


def sent(attempt="at_1", at=NOON, *, person="P1", place=0, inputs=None, body=None, erased=False):
    """The record of a decision to send, as the gateway writes it."""
    decision = decide(SNAPSHOT, PACKS, now=NOON, permit=10 * S, history=(), reach={Channel.SMS: timedelta()})
    assert decision.action is Action.SEND
    read = {**written(SNAPSHOT), "caps": {}, "permit_s": 10, "borrower": person, **(inputs or {})}
    said = {
        "decision": decision_json(decision),
        "person": person,
        "place": place,
        "policy": "now",
        "flags": [],
        "technology": None,
        "recipient_role": "debtor",
        **(body or {}),
    }
    return opened(
        "decision",
        at,
        said,
        clear={"inputs": orjson.dumps(read).decode(), "address_key": "N1"},
        erased=erased,
        reminder=f"rm_{attempt}",
        attempt=attempt,
        channel="sms",
        state="sending",
    )


def became(state, at, *, final=None, attempt="at_1", channel="sms"):
    return opened(
        "outcome",
        at,
        {"final_at": final.isoformat() if final else None},
        attempt=attempt,
        state=state,
        channel=channel,
    )


def told(at, happened, *, channel="voice", outcome="conversation", person="P1", body=None):
    us = (happened - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    return opened(
        "contact",
        at,
        {"at_us": us, "person": person, "flags": [], **(body or {})},
        attempt=f"ct_{us}",
        channel=channel,
        state=outcome,
    )


def reserved(at, until):
    body = {"reservation": "rs_1", "until": until.isoformat(), "person": "P1", "recipient_role": "debtor"}
    return opened("reservation", at, body, channel="voice", state="reserved")


def merged(at, gone, stays):
    return opened("borrower", at, {"person": stays, "merged": [gone]})


def outcomes(records, at, *, person="P1"):
    """What a decision of `person` at that instant knew."""
    asking = sent("at_asking", at, person=person, place=50)
    line = timeline([*records, asking])
    (judged,) = [one for one in line.judged if one.attempt == "at_asking"]
    return [event.outcome for event in line.history(at, before=judged)]


GIVEN_UP = [became("accepted", NOON + S, final=NOON + 72 * H), became("rejected", NOON + 2 * S)]
"""Taken by its provider, and given up because there was too much."""


@pytest.mark.parametrize(
    ("records", "after", "known"),
    [
        ([], 5 * S, ["unknown"]),
        ([became("void", NOON + 2 * S, final=NOON + 2 * S)], 1 * S, ["unknown"]),
        ([became("void", NOON + 2 * S, final=NOON + 2 * S)], 2 * S, []),
        ([became("rejected", NOON + S, final=NOON + S)], 2 * S, []),
        ([became("accepted", NOON + S, final=NOON + 72 * H)], 71 * H, ["unknown"]),
        ([became("accepted", NOON + S, final=NOON + 72 * H)], 72 * H, ["sent"]),
        ([became("failed", NOON + S, final=NOON + S)], 2 * S, ["undelivered"]),
        ([became("delivered", NOON + S, final=NOON + 2 * S)], S, ["unknown"]),
        ([became("delivered", NOON + S, final=NOON + S)], S, ["delivered"]),
        ([became("unknown", NOON + S, final=NOON + H)], 2 * H, ["unknown"]),
        ([became("accepted", NOON + 2 * S), became("read", NOON + S, final=NOON + S)], H, ["read"]),
        ([became("rejected", NOON + S, final=NOON + S)], 74 * D, []),
        (GIVEN_UP, S, ["unknown"]),
        (GIVEN_UP, 2 * S, []),
        ([*GIVEN_UP, became("delivered", NOON + 3 * S, final=NOON + 3 * S)], 3 * S, ["delivered"]),
        ([became("read", NOON + S, final=NOON + S), became("rejected", NOON + 2 * S)], 3 * S, ["read"]),
        ([became("read", NOON + S, final=NOON + S)], 74 * D, ["read"]),
        ([became("read", NOON + S, final=NOON + S)], 75 * D, []),
        ([became("answered", NOON + S, final=NOON + S)], 75 * D, ["answered"]),
    ],
)
def test_an_attempt_counts_as_what_was_known_of_it_at_that_instant(records, after, known):
    assert outcomes([sent(), *records], NOON + after) == known


def test_of_those_decided_together_each_sees_those_before_it():
    line = timeline([sent(f"at_{n}", place=n) for n in (2, 0, 1)])

    assert [j.attempt for j in line.judged] == ["at_0", "at_1", "at_2"]
    assert [len(line.history(NOON, before=j)) for j in line.judged] == [0, 1, 2]


def test_a_contact_counts_once_it_is_told():
    contact = [told(NOON + H, NOON)]

    assert outcomes(contact, NOON + H - S) == []
    assert outcomes(contact, NOON + H) == ["conversation"]


def test_a_place_that_is_kept_counts_until_it_is_free_or_used():
    kept = [reserved(NOON, NOON + 600 * S)]
    used = told(NOON + 60 * S, NOON + 50 * S, body={"reservation": "rs_1"})

    assert outcomes(kept, NOON + 599 * S) == ["unknown"]
    assert outcomes(kept, NOON + 600 * S) == []
    assert outcomes([*kept, used], NOON + 60 * S) == ["conversation"]


def test_what_two_persons_did_is_one_history_from_their_merging_on():
    both = [sent("at_a", person="P1"), sent("at_b", person="P2"), merged(NOON + H, "P2", "P1")]

    assert len(outcomes(both, NOON + H - S)) == 1
    assert len(outcomes(both, NOON + H - S, person="P2")) == 1
    assert len(outcomes(both, NOON + H)) == 2


def found(*records, packs=PACKS, calendars=SHIPPED.version):
    known = Known(packs={"now": packs}, calendars=calendars)
    return check(timeline(records), since=NOON - D, until=NOON + D, known=known)


def broken(*records, **more):
    return {one.rule for one in found(*records, **more).violations}


def test_a_send_by_the_rules_is_none():
    came = found(sent())

    assert (came.checked, came.violations, came.gaps) == (1, [], [])


def debt(**changes):
    return {"debt": {**written(SNAPSHOT)["debt"], **changes}}


def text(at):
    return at.isoformat()


HOLD = {"id": "h1", "reason": "r", "since": text(NOON), "until": None, "allow_purposes": []}


@pytest.mark.parametrize(
    ("inputs", "rules"),
    [
        ({"expires_at": text(NOON)}, {"expired"}),
        ({"expires_at": text(NOON + S)}, set()),
        ({"not_before": text(NOON + S)}, {"not_before"}),
        ({"not_before": text(NOON)}, set()),
        ({"valid_on": "2026-11-25"}, {"expired"}),
        ({"valid_on": "2026-11-24"}, set()),
        (debt(state="paid"), {"debt_paid"}),
        (debt(state="disputed"), {"debt_disputed"}),
        (debt(state="hardship"), {"debt_hardship"}),
        (debt(state="promised", until="2026-11-24"), {"debt_promised"}),
        (debt(state="promised", until="2026-11-23"), set()),
        (debt(state="promised"), {"debt_promised"}),
        (debt(state_at=text(NOON - D - S)), {"debt_stale"}),
        (debt(state_at=text(NOON - D)), set()),
        ({"holds": [HOLD]}, {"held"}),
        ({"holds": [{**HOLD, "until": text(NOON)}]}, set()),
        ({"holds": [{**HOLD, "since": text(NOON + S)}]}, set()),
        ({"holds": [{**HOLD, "allow_purposes": ["collection"]}]}, set()),
        ({"opt_outs": [["voice", text(NOON)]]}, set()),
        ({"opt_outs": [["sms", text(NOON + S)]]}, set()),
        ({"duplicate": True}, {"duplicate"}),
        ({"zones": []}, {"zone_unknown"}),
        ({"channels": ["email"]}, {"no_address"}),
        ({"addresses": {"sms": []}}, {"no_address"}),
        ({"assigned": ["NO.SUCH"]}, {"NO.SUCH"}),
        ({"facts": {"contact_refused": True}}, set()),
        ({"licences": ["US-MA"]}, {"US-MA", "US.REGF"}),
    ],
)
def test_what_the_gateway_itself_must_see_to_is_held_against_it(inputs, rules):
    named = broken(sent(inputs=inputs))

    assert rules <= named if "licences" in inputs else named == rules


@pytest.mark.parametrize("word", ["sms", "all"])
def test_who_has_opted_out_may_be_sent_one_confirmation(word):
    out = {"opt_outs": [[word, text(NOON - 60 * S)]]}
    confirms = out | {"purpose": "optout_confirmation"}
    flagged = {"flags": ["optout_confirmation"]}

    assert "opted_out" in broken(sent(inputs=out))
    assert "opted_out" not in broken(sent(inputs=confirms, body=flagged))
    assert "opted_out" in broken(
        sent("at_0", NOON - 30 * S, inputs=confirms, body=flagged),
        became("delivered", NOON - 20 * S, final=NOON - 20 * S, attempt="at_0"),
        sent(inputs=confirms, body=flagged),
    )


@pytest.mark.parametrize(
    ("at", "rules"),
    [
        (datetime(2026, 11, 24, 13, 59, 49, tzinfo=UTC), set()),
        (datetime(2026, 11, 24, 13, 59, 50, tzinfo=UTC), {"X.HOURS"}),
        (datetime(2026, 11, 24, 14, 0, 0, tzinfo=UTC), {"X.HOURS"}),
        (datetime(2026, 11, 24, 0, 59, 59, tzinfo=UTC), {"X.HOURS"}),
        (datetime(2026, 11, 24, 1, 0, 0, tzinfo=UTC), set()),
    ],
)
def test_the_hours_hold_from_the_decision_to_the_end_of_the_permit(at, rules):
    pack = own('days = [{on = ["tue"], open = "09:00", close = "22:00"}]', kind="window", name="X.HOURS")
    body = {"decision": named(pack)}

    assert broken(sent(at=at, body=body), packs=(pack, EVERYWHERE)) == rules


@pytest.mark.parametrize(
    ("at", "reach_s", "rules"),
    [
        (datetime(2026, 11, 24, 13, 57, 49, tzinfo=UTC), {"sms": 120}, set()),
        (datetime(2026, 11, 24, 13, 57, 50, tzinfo=UTC), {"sms": 120}, {"X.HOURS"}),
        (datetime(2026, 11, 24, 13, 57, 50, tzinfo=UTC), {"sms": 0, "voice": 120}, set()),
        (datetime(2026, 11, 24, 13, 57, 50, tzinfo=UTC), {}, set()),
    ],
)
def test_the_hours_hold_for_as_long_as_the_channel_was_said_to_disturb(at, reach_s, rules):
    pack = own('days = [{on = ["tue"], open = "09:00", close = "22:00"}]', kind="window", name="X.HOURS")
    record = sent(at=at, inputs={"reach_s": reach_s}, body={"decision": named(pack)})

    assert broken(record, packs=(pack, EVERYWHERE)) == rules


def own(*keys, kind, name, applies='"everyone"'):
    header = f'id = "X"\nversion = "1"\ntitle = "t"\nreview_status = "r"\nsource = "s"\napplies = {applies}'
    rule = "\n".join([f'id = "{name}"', f'kind = "{kind}"', *keys])
    return parse_pack(f"[pack]\n{header}\n[[rule]]\n{rule}\n", "X.toml")


EVERYWHERE = own('fact = "nothing"', kind="hold", name="Y", applies='"elsewhere"')


def named(*packs, **changes):
    """A send's decision that was taken by these packs."""
    said = deepcopy(sent().leaf["body"]["decision"])
    listed = [{"pack": p.id, "version": p.version, "sha256": p.digest} for p in (*packs, EVERYWHERE)]
    return {**said, "packs": listed, **changes}


CAP = own("max = 1", "window = {type = 'day'}", kind="cap", name="X.CAP")
BY_CAP = {"decision": named(CAP)}
TWO = (CAP, EVERYWHERE)


def test_a_send_over_a_cap_is_named_with_what_was_counted():
    (one,) = found(sent("at_0", NOON - H, body=BY_CAP), sent(body=BY_CAP), packs=TWO).violations

    assert (one.attempt, one.rule, one.reminder) == ("at_1", "X.CAP", "rm_at_1")
    assert "1 counted before it" in one.what


@pytest.mark.parametrize(
    ("after", "rules"), [(-S, set()), (S, set()), (JUST_AFTER, set()), (JUST_AFTER + S, {"X.CAP"})]
)
def test_an_attempt_that_came_to_nothing_counts_until_that_is_told(after, rules):
    """Whoever decided may have waited for a lock while it was told."""
    void = became("void", NOON + after, final=NOON + after, attempt="at_0")

    assert broken(sent("at_0", NOON - H, body=BY_CAP), void, sent(body=BY_CAP), packs=TWO) == rules


@pytest.mark.parametrize(
    ("before", "rules"), [(timedelta(), set()), (JUST_BEFORE / 2, set()), (JUST_BEFORE, {"X.CAP"})]
)
def test_a_contact_told_just_before_may_not_have_been_there_to_be_read(before, rules):
    contact = told(NOON - before, NOON - H, channel="sms", outcome="delivered")

    assert broken(contact, sent(body=BY_CAP), packs=TWO) == rules


BY_DOVES = own("max = 1", "window = {type = 'day'}", "adapters = ['doves']", kind="cap", name="X.DOVES")


def through(adapter, attempt="at_1", at=NOON, *packs, known=("doves", "crows")):
    """A send through that adapter, taken by these packs; `known`: through which the address was known to be reached."""
    ways = [{"address": "N1", "kind": "personal", "technology": None, "adapter": name} for name in known]
    body = {"decision": named(*packs), "adapter": adapter}
    return sent(attempt, at, inputs={"addresses": {"sms": ways}}, body=body)


@pytest.mark.parametrize(
    ("first", "second", "rules"),
    [
        ("doves", "doves", {"X.DOVES"}),
        ("crows", "doves", set()),
        (None, "doves", {"X.DOVES"}),
    ],
)
def test_a_cap_of_a_provider_counts_what_went_through_it_and_what_nobody_knows(first, second, rules):
    earlier = through(first, "at_0", NOON - H, BY_DOVES)
    records = (earlier, through(second, "at_1", NOON, BY_DOVES))
    since_noon = Known(packs={"now": (BY_DOVES, EVERYWHERE)}, calendars=SHIPPED.version)

    came = check(timeline(records), since=NOON, until=NOON + D, known=since_noon)

    assert (came.checked, {one.rule for one in came.violations}) == (1, rules)


def test_a_contact_made_elsewhere_counts_in_a_cap_of_a_provider():
    contact = told(NOON - H, NOON - H, channel="sms", outcome="delivered")

    assert broken(contact, through("doves", "at_1", NOON, BY_DOVES), packs=(BY_DOVES, EVERYWHERE)) == {
        "X.DOVES"
    }


@pytest.mark.parametrize(("adapter", "rules"), [("doves", {"X"}), ("crows", set())])
def test_a_pack_of_a_provider_had_to_be_asked_of_what_went_through_it_alone(adapter, rules):
    assert broken(through(adapter), packs=(BY_DOVES, EVERYWHERE)) == rules


def test_a_way_that_the_decision_did_not_know_is_named():
    record = through("doves", "at_1", NOON, BY_DOVES, known=("crows",))

    assert broken(record, packs=(BY_DOVES, EVERYWHERE)) == {"no_address"}


def test_two_sends_at_once_are_counted_one_after_the_other():
    together = [sent(f"at_{n}", place=n, body=BY_CAP) for n in range(2)]

    assert [one.attempt for one in found(*together, packs=TWO).violations] == ["at_1"]


def test_a_tenants_own_number_in_a_cap_is_the_one_that_holds():
    two = [sent("at_0", NOON - H, body=BY_CAP), sent(body=BY_CAP, inputs={"caps": {"X.CAP": 2}})]

    assert broken(*two, packs=TWO) == set()


def test_a_call_that_is_not_over_bars_everything():
    call = told(NOON - 60 * S, NOON - 70 * S, channel="voice", outcome="no_answer")
    kept = reserved(NOON - 60 * S, NOON + 60 * S)

    assert "open_voice" not in broken(call, sent())
    assert "open_voice" in broken(kept, sent())


@pytest.mark.parametrize(
    ("decision", "packs", "rules"),
    [
        ({"packs": []}, TWO, {"X"}),
        ({}, (EVERYWHERE,), {"X", "policy_unavailable"}),
    ],
)
def test_a_pack_that_had_to_be_asked_and_was_not_is_named(decision, packs, rules):
    assert rules <= broken(sent(body={"decision": named(CAP, **decision)}), packs=packs)


def test_whom_no_rule_speaks_of_may_not_be_approached():
    inputs, body = {"recipient_role": "family"}, BY_CAP | {"recipient_role": "family"}

    assert broken(sent(inputs=inputs, body=body), packs=TWO) == {"third_party"}


def test_a_withdrawn_intent_is_no_send_and_a_refused_one_is():
    came = found(
        sent("at_0"),
        became("void", NOON + S, final=NOON + S, attempt="at_0"),
        sent("at_1", place=1),
        became("rejected", NOON + S, final=NOON + S),
    )

    assert (came.checked, came.withdrawn, came.refused) == (1, 1, 1)


@pytest.mark.parametrize(
    ("records", "more", "why"),
    [
        ([sent(erased=True)], {}, "inputs_erased"),
        ([sent(body={"policy": None})], {}, "inputs_not_recorded"),
        ([sent(body={"policy": "other"})], {}, "pack_text_missing"),
        ([sent("at_0", NOON - D - H, erased=True), sent()], {}, "contacts_erased"),
        ([sent("at_0", NOON - D - H), sent(inputs={"zones": ["No/Where"]})], {}, "data_changed"),
        ([sent(inputs={"duplicate": True})], {"calendars": "holidays 0.1"}, "data_changed"),
    ],
)
def test_what_cannot_be_said_is_counted_with_its_reason(records, more, why):
    came = found(*records, **more)

    assert ([gap.why for gap in came.gaps], came.violations) == ([why], [])
