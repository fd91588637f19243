"""What nobody can tell is listed, and decided by a person: once, on record, and never against a later word."""

import asyncio
from datetime import timedelta

import orjson
import pytest
from cli_rig import ran
from makers import borrower, by_id, debt, rows
from sendrig import ON_SQLITE, TENANT
from sqlalchemy import update

from gateway.domain import Outcome, Receipt
from gateway.errors import BadInput, Conflict, NotFound
from gateway.store import schema
from gateway.store.keys import Role
from gateway.store.unknowns import Which

ABROAD = "+12025550110"
AT = [
    {"channel": "sms", "value": ABROAD, "kind": "personal"},
    {"channel": "voice", "value": ABROAD, "kind": "personal"},
]
BY = {"who": "ann", "reason": "the provider's console shows it"}


async def unknown(rig, *, reached=True, **asked):
    """A reminder by SMS whose call got no answer, whether it did its work or not; its attempt, still asked about."""
    await rig.simulators.next("twilio", *(("drop",) if reached else ("status",)), status=503)
    await rig.put(borrower(1, addresses=AT), debt(1))
    (name,) = await rig.take(by_id(1, channels=["sms"], **asked))
    await rig.drain()
    (attempt,) = await rig.attempts(name)
    assert (attempt.state, len(rig.reached())) == ("unknown", int(reached))
    return attempt


async def parked(rig, **more):
    """The same after the last question: reconcile writes no further time."""
    attempt = await unknown(rig, **more)
    async with rig.database.write() as conn:
        await conn.execute(update(schema.attempt).values(settle_at=None, settle_tries=4))
    return attempt


async def listed(rig, tenant=TENANT, **wanted):
    return (await rig.services.unknown_rows.listed(tenant, Which(**wanted), limit=10, after=None)).items


async def settle(rig, attempt, word, tenant=TENANT):
    return await rig.services.unknowns.settle(tenant, attempt.ref, word, **BY)


async def state(rig, attempt):
    """Of the attempt and its reminder."""
    (now,) = [a for a in await rig.attempts() if a.ref == attempt.ref]
    return now.state, (await rig.reminder(attempt.reminder)).state


async def test_what_is_parked_is_listed_behind_masks_and_what_is_still_asked_only_on_demand(rig):
    attempt = await unknown(rig)
    assert (await listed(rig), [i["ref"] for i in await listed(rig, asked=True)]) == ([], [attempt.ref])

    async with rig.database.write() as conn:
        await conn.execute(update(schema.attempt).values(settle_at=None, settle_tries=4))
    (item,) = await listed(rig, channel="sms", account=attempt.account, borrower=attempt.borrower)

    assert (item["ref"], item["reminder"], item["asked"]) == (attempt.ref, attempt.reminder, 4)
    assert "*" in item["to"]
    assert ABROAD not in str(item)
    assert ABROAD[2:] not in str(item)
    assert await listed(rig, channel="voice") == []
    assert await listed(rig, tenant="acme/test") == []


async def test_one_settled_as_delivered_is_over_on_record_and_cannot_be_decided_again(rig):
    attempt = await parked(rig)

    assert (await settle(rig, attempt, "delivered"))["state"] == "delivered"

    assert await state(rig, attempt) == ("delivered", "delivered")
    assert await listed(rig, asked=True) == []
    with pytest.raises(Conflict, match="it is known by now: delivered") as again:
        await settle(rig, attempt, "not_sent")
    assert again.value.code == "already_settled"
    await rig.drain()
    assert len(rig.reached()) == 1
    (change,) = await rows(rig.database, "change", "kind = 'unknown'")
    assert (change.who, change.name, change.reason) == ("ann", attempt.ref, BY["reason"])
    assert orjson.loads(change.after) == {"as": "delivered"}
    (record,) = await rows(rig.database, "record", "kind = 'outcome' AND state = 'delivered'")
    assert orjson.loads(record.leaf)["body"]["code"] == "decided"


async def test_one_settled_as_not_sent_goes_again_through_all_checks(rig):
    attempt = await parked(rig, reached=False)

    await settle(rig, attempt, "not_sent")
    assert await state(rig, attempt) == ("rejected", "waiting")
    await rig.drain()

    (line,) = rig.reached()
    assert line["ref"] != attempt.ref
    assert [a.state for a in await rig.attempts()] == ["rejected", "accepted"]


@ON_SQLITE
async def test_one_settled_as_not_sent_whose_debt_was_paid_meanwhile_goes_nowhere(rig):
    attempt = await parked(rig, reached=False)
    await rig.happens("L-1", type="paid")

    await settle(rig, attempt, "not_sent")
    await rig.drain()

    row = await rig.reminder(attempt.reminder)
    assert (row.state, row.reason, rig.reached()) == ("suppressed", "debt_paid", [])


@ON_SQLITE
async def test_a_receipt_that_comes_first_wins_and_one_that_comes_after_a_no_calls_the_second_go_off(rig):
    attempt = await parked(rig)
    connected = rig.gateway.accounts.named(TENANT, attempt.account)
    await settle(rig, attempt, "not_sent")

    await rig.services.callbacks.take(connected, [Receipt(outcome=Outcome.ACCEPTED, ref=attempt.ref)])
    await rig.drain()

    assert await state(rig, attempt) == ("accepted", "sent")
    assert len(rig.reached()) == 1
    with pytest.raises(Conflict) as late:
        await settle(rig, attempt, "delivered")
    assert late.value.code == "already_settled"


async def test_of_two_who_decide_at_once_one_is_told_that_it_is_known(rig):
    attempt = await parked(rig)

    told = await asyncio.gather(
        *(settle(rig, attempt, word) for word in ("sent", "not_sent")), return_exceptions=True
    )

    assert sorted(type(one).__name__ for one in told) == ["Conflict", "dict"]
    assert len(await rows(rig.database, "change", "kind = 'unknown'")) == 1


@ON_SQLITE
@pytest.mark.parametrize(("word", "goes_on"), [("sent", True), ("not_sent", True), ("delivered", False)])
async def test_an_escalation_goes_on_unless_it_arrived(word, goes_on, rig):
    attempt = await parked(rig, escalate=[{"after_s": 3600, "channel": "voice"}])
    before = await rig.reminder(attempt.reminder)
    assert before.next_at is not None

    await settle(rig, attempt, word)

    after = await rig.reminder(attempt.reminder)
    assert (after.next_at, after.step) == (before.next_at if goes_on else None, before.step)


@ON_SQLITE
async def test_nobody_decides_while_the_provider_may_yet_tell_nor_in_words_of_another_channel(rig):
    attempt = await unknown(rig)

    with pytest.raises(Conflict, match="asked next at") as early:
        await settle(rig, attempt, "delivered")
    assert early.value.code == "still_asked"
    for word in ("busy", "accepted", "unknown", ""):
        with pytest.raises(BadInput):
            await settle(rig, attempt, word)
    with pytest.raises(NotFound):
        await settle(rig, attempt, "delivered", tenant="beta/live")
    assert await state(rig, attempt) == ("unknown", "unknown")


@ON_SQLITE
async def test_the_commands_list_and_settle(rig, monkeypatch):
    attempt = await parked(rig)
    key = await rig.key(Role.COMPLIANCE)
    monkeypatch.setenv("GATEWAY_API_KEY", key)
    async with rig.served() as url:

        async def said(*words):
            return await asyncio.to_thread(ran, "unknown", *words, "--url", url)

        shown, told = await said("list"), await said("list", "--json", "--channel", "sms")
        wrong = await said("settle", attempt.ref, "--as", "lost", "--reason", "x")
        of_a_call = await said("settle", attempt.ref, "--as", "answered", "--reason", "x")
        elsewhere = await said("settle", "at_none", "--as", "sent", "--reason", "x")
        done = await said("settle", attempt.ref, "--as", "not-sent", "--reason", "the console has none")
        again = await said("settle", attempt.ref, "--as", "sent", "--reason", "the console has none")
        empty = await said("list")

    assert [i["ref"] for i in orjson.loads(told.stdout)] == [attempt.ref]
    assert attempt.ref in shown.stdout
    assert ABROAD[2:] not in shown.stdout + told.stdout
    assert (wrong.returncode, done.returncode, again.returncode) == (2, 0, 2)
    assert of_a_call.stderr.endswith("; of anything else one of: delivered, failed, not-sent, read, sent\n")
    assert elsewhere.stderr.endswith("; look at --tenant and at --mode (live or test)\n")
    assert done.stdout.startswith(f"{attempt.ref} is rejected")
    assert "known by now" in again.stderr
    assert empty.stderr == "nothing is parked\n"


@ON_SQLITE
async def test_the_list_goes_by_pages(rig):
    await parked(rig)
    (first,) = await rows(rig.database, "attempt")
    kept = dict(first._mapping)
    async with rig.database.write() as conn:
        for n in range(1, 5):
            later = kept["deadline"] + n * timedelta(seconds=1) // timedelta(microseconds=1)
            await conn.execute(schema.attempt.insert().values({**kept, "ref": f"at_{n}", "deadline": later}))

    seen, after = [], None
    for _ in range(9):
        page = await rig.services.unknown_rows.listed(TENANT, Which(), limit=2, after=after)
        seen += [item["ref"] for item in page.items]
        after = page.next
        if after is None:
            break

    assert seen == [first.ref, "at_1", "at_2", "at_3", "at_4"]
