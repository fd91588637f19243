"""A PostgreSQL that is not the one that was: nothing is called, nothing withdrawn, until the journals told of calls."""

import asyncio
from dataclasses import replace

import pytest
from makers import borrower, by_id, debt, rows
from sendrig import TENANT
from sqlalchemy import text

from gateway.errors import Conflict
from gateway.store import journal

ON_POSTGRESQL = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
ANOTHER = "UPDATE live SET server = '7/00000001'"
BY = {"who": "ann", "reason": "the first server is gone"}


@pytest.fixture
async def noted(database_url, open_rig, tmp_path):
    """A gateway whose workers keep journals, over a server that is written down."""
    rig = await open_rig(database_url, journal=tmp_path / "journal")
    await says(rig, ANOTHER, "UPDATE live SET server = NULL")
    return rig


async def says(rig, *statements):
    async with rig.database.write() as conn:
        for statement in statements:
            await conn.execute(text(statement))


async def sent(rig, *numbers):
    """Reminders to as many people, sent; their attempts."""
    for number in numbers:
        await rig.put(borrower(number), debt(number))
    names = await rig.take(*(by_id(number, channels=["sms"]) for number in numbers))
    await rig.drain()
    assert await rig.states() == {("sent", None): len(numbers)}
    return [(await rig.attempts(name))[0] for name in names]


async def forgets_deciding(rig, attempt):
    await says(
        rig,
        f"DELETE FROM attempt WHERE ref = '{attempt.ref}'",
        f"DELETE FROM attempt_ref WHERE ref = '{attempt.ref}'",
        "UPDATE reminder SET state = 'waiting', attempt = NULL, called = FALSE, fence = 0, next_at = accepted_at"
        f" WHERE id = '{attempt.reminder}'",
    )


async def forgets_go(rig, attempt):
    await says(
        rig,
        f"UPDATE attempt SET state = 'intent', called_at = NULL, ending = NULL WHERE ref = '{attempt.ref}'",
        f"UPDATE reminder SET state = 'sending', called = FALSE WHERE id = '{attempt.reminder}'",
    )


async def forgets_ending(rig, attempt):
    await says(
        rig,
        f"UPDATE attempt SET state = 'calling', ending = NULL WHERE ref = '{attempt.ref}'",
        f"UPDATE reminder SET state = 'sending' WHERE id = '{attempt.reminder}'",
    )


async def forgets_reminder(rig, attempt):
    await forgets_deciding(rig, attempt)
    await says(rig, f"DELETE FROM reminder WHERE id = '{attempt.reminder}'")


def folders(rig):
    return [rig.gateway.place.settings.journal]


async def thaw(rig, *, lost=(), dry_run=False, heard=None):
    given = folders(rig) if heard is None else heard
    told = journal.read(given), journal.owners(given)
    return await rig.gateway.failover.thaw(told[0], heard=told[1], lost=lost, dry_run=dry_run, **BY)


async def states(rig):
    return {attempt.ref: attempt.state for attempt in await rig.attempts()}


@ON_POSTGRESQL
async def test_what_was_called_before_a_failover_is_not_called_again_whatever_of_it_is_forgotten(noted):
    attempts = await sent(noted, 1, 2, 3, 4, 5)
    kept, deciding, go, ending, gone = attempts
    await forgets_deciding(noted, deciding)
    await forgets_go(noted, go)
    await forgets_ending(noted, ending)
    await forgets_reminder(noted, gone)
    await says(noted, ANOTHER)

    await noted.gateway.live.refresh()
    assert noted.gateway.live.frozen
    async with noted.sender() as sender:
        await sender.drain_one("sms")
    await noted.aged(minutes=10)
    await noted.duties.sweep.once()
    assert await states(noted) == {kept.ref: "accepted", go.ref: "intent", ending.ref: "calling"}

    foreseen = await thaw(noted, dry_run=True)
    assert (await noted.reminder(deciding.reminder)).state == "waiting"
    thawed = await thaw(noted)

    assert thawed == foreseen
    assert (thawed.brought_back, thawed.unknown) == (2, 3)
    assert thawed.forgotten == [{"tenant": TENANT, "id": gone.reminder, "idempotency_key": "k-5"}]
    unknown = dict.fromkeys((deciding.ref, go.ref, ending.ref), "unknown")
    assert await states(noted) == {kept.ref: "accepted", **unknown}
    assert {a.code for a in await noted.attempts() if a.state == "unknown"} == {"failover"}
    (contact,) = await rows(noted.database, "attempt", "origin = 'contact'")
    assert (contact.borrower, contact.state) == ("B-5", "unknown")

    await noted.duties.reconcile.once()
    await noted.drain()
    assert await noted.states() == {("sent", None): 1, ("delivered", None): 3}
    assert len(noted.reached()) == 5
    (change,) = await rows(noted.database, "change", "kind = 'failover'")
    assert (change.who, change.reason) == ("ann", BY["reason"])


@ON_POSTGRESQL
async def test_after_the_thaw_calls_are_made_again(noted):
    await sent(noted, 1)
    await says(noted, ANOTHER)
    await noted.put(borrower(2), debt(2))
    await noted.take(by_id(2, channels=["sms"]))
    async with noted.sender() as sender:
        await sender.drain_one("sms")
    assert len(noted.reached()) == 1

    await thaw(noted)
    await noted.drain()

    assert len(noted.reached()) == 2


@ON_POSTGRESQL
async def test_one_that_was_forgotten_and_handed_in_again_while_frozen_is_not_called_again(noted):
    (attempt,) = await sent(noted, 1)
    await forgets_reminder(noted, attempt)
    await says(noted, ANOTHER, "DELETE FROM idempotency")
    (again,) = await noted.take(by_id(1, channels=["sms"]))
    assert again != attempt.reminder

    thawed = await thaw(noted)
    await noted.drain()

    assert thawed.forgotten == []
    assert (await noted.reminder(again)).state == "unknown"
    assert len(noted.reached()) == 1


@ON_POSTGRESQL
async def test_a_cancel_while_frozen_takes_the_next_step_from_what_was_called(noted):
    await noted.put(borrower(1), debt(1))
    steps = [{"after_s": 60, "channel": "email"}]
    (name,) = await noted.take(by_id(1, channels=["sms"], escalate=steps))
    await noted.drain()
    await forgets_deciding(noted, (await noted.attempts(name))[0])
    await says(noted, ANOTHER)
    await noted.intake.cancel(TENANT, name, {})

    await thaw(noted)

    row = await noted.reminder(name)
    assert (row.state, row.next_at, row.called) == ("unknown", None, True)


@ON_POSTGRESQL
async def test_what_was_called_for_a_forgotten_reminder_counts_for_the_person_that_its_borrower_is_now(noted):
    (attempt,) = await sent(noted, 1)
    await forgets_reminder(noted, attempt)
    await says(noted, ANOTHER, "UPDATE borrower SET person = 'pn_other'")

    await thaw(noted)

    (contact,) = await rows(noted.database, "attempt", "origin = 'contact'")
    assert contact.person == "pn_other"


@ON_POSTGRESQL
async def test_of_two_calls_for_one_reminder_the_later_one_is_its_last_whichever_is_read_first(noted):
    (attempt,) = await sent(noted, 1)
    await forgets_deciding(noted, attempt)
    await says(noted, ANOTHER)
    (one,) = journal.read(folders(noted))
    later = {**one.attempt, "ref": "at_later", "fence": one.attempt["fence"] + 1}
    both = [replace(one, at=one.at + 1, attempt=later), one]

    await noted.gateway.failover.thaw(both, heard=[attempt.owner], lost=(), dry_run=False, **BY)

    row = await noted.reminder(attempt.reminder)
    assert (row.attempt, row.fence, row.state) == ("at_later", 2, "unknown")
    assert set((await states(noted)).values()) == {"unknown"}


@ON_POSTGRESQL
async def test_a_workers_own_word_about_a_call_whose_go_was_forgotten_is_taken(noted):
    async def forgets(granted):
        for ref in granted:
            await says(noted, f"UPDATE attempt SET state = 'intent', called_at = NULL WHERE ref = '{ref}'")

    await noted.put(borrower(1), debt(1))
    (name,) = await noted.take(by_id(1, channels=["sms"]))
    await noted.drain(after_go=forgets)

    assert (await noted.reminder(name)).state == "sent"


@ON_POSTGRESQL
async def test_a_worker_that_was_forgotten_is_entered_with_its_next_beat(noted):
    async with noted.sender() as sender:
        await says(noted, "DELETE FROM owner")
        await noted.until(lambda: rows(noted.database, "owner"))

    (owner,) = await rows(noted.database, "owner")
    assert (owner.id, owner.dead_at is None) == (sender.parts.owners.id, False)


@ON_POSTGRESQL
async def test_a_worker_that_died_with_the_first_server_is_named_however_long_it_stayed_frozen(
    noted, tmp_path
):
    (attempt,) = await sent(noted, 1)
    await forgets_deciding(noted, attempt)
    await says(noted, ANOTHER)
    await noted.aged(hours=10)

    with pytest.raises(Conflict, match=attempt.owner):
        await thaw(noted, heard=[tmp_path / "elsewhere"])


@ON_POSTGRESQL
async def test_a_go_asked_of_another_server_is_refused_and_the_reminder_waits(noted):
    async def fails_over(_):
        await says(noted, ANOTHER)

    await noted.put(borrower(1), debt(1))
    (name,) = await noted.take(by_id(1, channels=["sms"]))
    async with noted.sender(before_go=fails_over) as sender:
        await sender.drain_one("sms")

    row = await noted.reminder(name)
    assert (row.state, row.reason, row.by) == ("deferred", "stopped", "failover")
    assert noted.reached() == []


@ON_POSTGRESQL
async def test_a_worker_whose_journal_is_missing_is_named_and_what_it_may_have_called_is_unknown(
    noted, tmp_path
):
    (attempt,) = await sent(noted, 1)
    await forgets_go(noted, attempt)
    await says(noted, ANOTHER)
    owner = (await rows(noted.database, "attempt"))[0].owner

    with pytest.raises(Conflict, match=owner) as refused:
        await thaw(noted, heard=[tmp_path / "elsewhere"])
    thawed = await thaw(noted, heard=[tmp_path / "elsewhere"], lost=[owner])

    assert refused.value.code == "journals_missing"
    assert thawed.unknown == 1
    assert await states(noted) == {attempt.ref: "unknown"}


@ON_POSTGRESQL
async def test_a_server_that_has_everything_is_believed_on_somebodys_word(noted):
    await sent(noted, 1)
    await says(noted, ANOTHER)
    await noted.gateway.failover.nothing_lost(**BY)

    await noted.gateway.live.refresh()

    assert not noted.gateway.live.frozen


@ON_POSTGRESQL
async def test_nothing_thaws_that_is_not_frozen(noted):
    with pytest.raises(Conflict) as refused:
        await thaw(noted)

    assert refused.value.code == "not_frozen"


@ON_POSTGRESQL
async def test_what_cannot_be_noted_is_not_called(noted):
    await noted.put(borrower(1), debt(1))
    (name,) = await noted.take(by_id(1, channels=["sms"]))
    async with noted.sender() as sender:
        sender.dispatch._starts._journal.close()
        draining = asyncio.create_task(sender.drain_one("sms"))
        await noted.until(lambda: has_void(noted))
        sender.dispatch.quiet()
        await draining

    assert (await noted.reminder(name)).state == "waiting"
    assert noted.reached() == []


async def has_void(rig):
    return "void" in (await states(rig)).values()
