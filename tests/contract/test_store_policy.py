"""What rules are told of the past and of assignments, and how packs are assigned, over SQLite and PostgreSQL alike."""

import asyncio
import os
from datetime import timedelta
from itertools import pairwise

import orjson
import pytest
from makers import NOW, borrower, contact, debt, reminder, rows

from gateway.domain import Channel, Tenant
from gateway.errors import BadInput, StaleVersion
from gateway.intake import Done
from gateway.policy.model import LOOKBACK
from gateway.quotas.model import Load
from gateway.store.assignments import Assignments
from gateway.store.keys import Operator
from gateway.work import Assignment, Ground, Intent, Start, Subject, Verdict

TENANT = Tenant("acme/live")
DAY = timedelta(days=1)


@pytest.fixture
async def person(database, store, intake):
    """Somebody with a debt."""
    await intake.borrowers(TENANT, [borrower(1)])
    await intake.debts(TENANT, [debt(1, borrower="B-1", portfolio="cards", product="credit_card")])
    (row,) = await rows(database, "borrower")
    return row.person


async def facts_of(store, person):
    async with store.transaction() as tx:
        return await tx.facts([Subject(tenant=TENANT, person=person, borrower="B-1", debt="L-1")])


async def told(store, intake, person, *contacts):
    """The history after these contacts."""
    bodies = [contact(1, idempotency_key=f"c{n}", **more) for n, more in enumerate(contacts)]
    for result in await intake.contacts(TENANT, bodies):
        assert isinstance(result, Done), result
    return (await facts_of(store, person)).history[TENANT, person]


def ago(**spans):
    return {"at": (NOW - timedelta(**spans)).isoformat()}


# The past.


async def test_a_contact_is_told_with_its_actor_and_technology(store, intake, person):
    said = {"actor": {"role": "agency", "id": "north"}, "technology": "ai_voice"}

    history = await told(store, intake, person, {**ago(days=2), **said}, ago(days=1))

    assert [(past.actor, past.technology) for past in history] == [("north", "ai_voice"), (None, None)]
    assert [past.adapter for past in history] == [None, None]


@pytest.mark.parametrize("outcome", ["conversation", "answered"])
async def test_who_was_spoken_with_is_told_however_long_ago(store, intake, person, outcome):
    history = await told(
        store,
        intake,
        person,
        {**ago(days=1500), "outcome": outcome},
        {**ago(days=1400), "outcome": "voicemail"},
        {**ago(days=1300), "outcome": "delivered", "channel": "sms"},
        {**ago(days=1), "outcome": "voicemail"},
    )

    assert [(past.state, NOW - past.at) for past in history] == [(outcome, 1500 * DAY), ("voicemail", DAY)]
    assert history[0].final_at == history[0].at


async def test_of_conversations_long_ago_that_no_rule_tells_apart_the_first_is_told(store, intake, person):
    other = {"actor": {"role": "agency", "id": "south"}}
    history = await told(
        store,
        intake,
        person,
        *(ago(days=days) for days in (300, 400, 500)),
        *({**ago(days=days), **other} for days in (200, 450)),
        {**ago(days=150), "flags": ["marketing"]},
    )

    assert [((NOW - past.at).days, past.actor, past.flags) for past in history] == [
        (500, None, ()),
        (450, "south", ()),
        (150, None, ("marketing",)),
    ]


async def test_at_the_edge_of_what_is_counted_each_event_is_told_once(store, intake, person):
    """What is older is told for caps that bind ever after; the rest is the history that they count in."""
    spans = [LOOKBACK + timedelta(hours=h) for h in (2, 1, -1, -2)]
    history = await told(store, intake, person, *({"at": (NOW - span).isoformat()} for span in spans))

    assert [NOW - past.at for past in history] == [spans[0], *spans[2:]]
    assert all(one.at < other.at for one, other in pairwise(history))


async def test_an_attempt_keeps_its_actor_technology_adapter_and_flags(database, store, intake):
    (result,) = await intake.reminders(
        TENANT, [reminder(1, channels=["voice"], actor={"role": "agency", "id": "north"})]
    )
    assert isinstance(result, Done), result
    (queue,) = await store.due_queues()
    (due,) = await store.pick({queue.name: 9}, "ow_1")
    async with store.transaction() as tx:
        await tx.lock_persons([(due.tenant, due.person)])
        (work,) = await tx.take([(due.tenant, due.id)])
        intent = Intent(
            work=work,
            ref="at_1",
            channel=Channel.VOICE,
            adapter="twilio_voice",
            account="voice",
            address="00",
            creditor="acme",
            segments=1,
            price=None,
            language="en",
            text_hash="00",
            text_enc=b"",
            borrower_revision=1,
            debt_revision=1,
            deadline=tx.moment.real,
            start=Start(
                ref="at_1",
                load=Load(
                    tenant=TENANT,
                    channel="voice",
                    adapter="twilio_voice",
                    account="voice",
                    template="pre_due",
                ),
                template_version=1,
                portfolios=frozenset(),
                places=frozenset(),
                deliver_by=tx.moment.real,
            ),
            technology="prerecorded",
            flags=("relaxed",),
        )
        verdict = Verdict(
            work=work,
            state="sending",
            reason=None,
            by=None,
            next_at=None,
            decision="{}",
            ground=Ground(sha256="0" * 64, said="{}"),
            intent=intent,
        )
        await tx.decide([verdict], "ow_1")

    (past,) = (await facts_of(store, work.person)).history[TENANT, work.person]

    assert (past.actor, past.technology, past.flags) == ("north", "prerecorded", ("relaxed",))
    assert past.adapter == "twilio_voice"


async def test_a_debt_is_told_with_what_it_is_for_and_who_owes_it(store, person):
    owed = (await facts_of(store, person)).debts[TENANT, "L-1"]

    assert (owed.product, owed.debtor_kind, owed.portfolio) == ("credit_card", "person", "cards")


# Packs assigned.


@pytest.fixture
def assignments(database, log):
    return Assignments(database, log, os.urandom)


BY = Operator(who="ann", tenant=TENANT)


def assigned(portfolio="", version=1, **more):
    return Assignment(
        **{"portfolio": portfolio, "version": version, "licences": (), "institution": None, "packs": ()}
        | more
    )


async def test_a_debt_has_its_portfolios_assignment_or_else_the_tenants(store, person, assignments):
    assert (await facts_of(store, person)).assigned(TENANT, "cards") is None

    whole = assigned(licences=("US-MA", "US-NY-NYC"))
    await assignments.put(whole, "licensed", BY)
    await assignments.put(assigned("other", packs=("CN.GBT",)), "another", BY)
    facts = await facts_of(store, person)
    assert facts.assignments == {(TENANT, ""): whole}
    assert (facts.assigned(TENANT, "cards"), facts.assigned(TENANT, None)) == (whole, whole)

    await assignments.put(assigned("cards", institution="bank"), "a bank", BY)
    second = assigned("cards", 2, institution="card_issuer", packs=("CN.GBT",))
    await assignments.put(second, "cards after all", BY)
    facts = await facts_of(store, person)
    assert facts.assignments == {(TENANT, ""): whole, (TENANT, "cards"): second}
    assert (facts.assigned(TENANT, "cards"), facts.assigned(TENANT, None)) == (second, whole)


@pytest.mark.parametrize("other", ["beta/live", "acme/test"])
async def test_another_tenants_assignment_is_nothing_to_us(store, person, assignments, other):
    await assignments.put(assigned(packs=("CN.GBT",)), "theirs", Operator(who="bob", tenant=Tenant(other)))

    assert (await facts_of(store, person)).assignments == {}
    assert (await assignments.listed(TENANT, limit=9, after=None)).items == []
    assert (await assignments.history(TENANT, "", limit=9, after=None)).items == []


async def test_assigning_is_an_act_with_history_and_record(database, assignments):
    await assignments.put(assigned("cards", packs=("CN.GBT",)), "the regulator asked", BY)
    shown = await assignments.put(assigned("cards", 2), "no more", BY)

    assert {name: shown[name] for name in ("portfolio", "version", "packs", "who", "reason")} == {
        "portfolio": "cards",
        "version": 2,
        "packs": [],
        "who": "ann",
        "reason": "no more",
    }
    first, second = sorted(await rows(database, "change"), key=lambda r: r.after)
    assert (first.kind, first.name, first.who, first.before, first.reason) == (
        *("policy", "cards", "ann", None, "the regulator asked"),
    )
    assert (second.before, second.reason) == (first.after, "no more")
    bodies = [orjson.loads(row.leaf)["body"] for row in await rows(database, "record", "kind = 'config'")]
    assert sorted(body["after"]["version"] for body in bodies) == [1, 2]
    assert {(body["what"], body["name"], body["who"]) for body in bodies} == {("policy", "cards", "ann")}
    assert len(await rows(database, "policy_assignment")) == 2


@pytest.mark.parametrize("version", [1, 3])
async def test_only_the_version_after_the_one_that_stands_is_taken(database, assignments, version):
    await assignments.put(assigned(licences=("US-MA",)), "first", BY)

    with pytest.raises(StaleVersion, match="version 1 stands") as refused:
        await assignments.put(assigned(version=version), "second", BY)

    assert refused.value.current["licences"] == ["US-MA"]
    assert len(await rows(database, "policy_assignment")) == len(await rows(database, "change")) == 1


async def test_a_version_of_what_was_never_assigned_is_stale(assignments):
    with pytest.raises(StaleVersion, match="leave `version` out") as refused:
        await assignments.put(assigned("cards", 2), "a slip", BY)

    assert refused.value.current is None


async def test_of_many_who_assign_at_once_one_is_first_and_the_others_are_told(database, assignments):
    ends = await asyncio.gather(
        *(assignments.put(assigned(institution=f"i{n}"), f"try {n}", BY) for n in range(8)),
        return_exceptions=True,
    )

    (won,) = [end for end in ends if not isinstance(end, StaleVersion)]
    assert {end.current["institution"] for end in ends if isinstance(end, StaleVersion)} == {
        won["institution"]
    }
    assert len(await rows(database, "policy_assignment")) == 1


async def test_what_is_in_force_and_its_history_come_page_by_page(assignments):
    for name in ("", "b", "a", "c"):
        for version in (1, 2, 3):
            await assignments.put(assigned(name, version), "again", BY)

    async def pages(ask, key):
        found, after = [], None
        while True:
            page = await ask(limit=2, after=after)
            found.append([item[key] for item in page.items])
            if page.next is None:
                return found
            after = page.next

    async def listed(**more):
        return await assignments.listed(TENANT, **more)

    async def history(**more):
        return await assignments.history(TENANT, "b", **more)

    assert await pages(listed, "portfolio") == [[None, "a"], ["b", "c"]]
    assert await pages(listed, "version") == [[3, 3], [3, 3]]
    assert await pages(history, "version") == [[3, 2], [1]]
    with pytest.raises(BadInput):
        await listed(limit=2, after="not one of ours")
