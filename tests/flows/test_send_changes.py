"""What changes between accepted and called, and what that leaves of the call."""

import asyncio
from collections import Counter

import pytest
from makers import borrower, by_id, debt, phone, reminder, rows
from sendrig import ON_SQLITE, TENANT, done
from smtp_peer import peer
from sqlalchemy import update

from gateway.domain import Channel
from gateway.errors import Conflict
from gateway.store import schema

SMS = {"channels": ["sms"]}
HELD = {"id": "h1", "reason": "attorney", "from": "2026-11-20T00:00:00Z", "until": None}


async def nothing(rig, n):
    pass


async def paid(rig, n):
    return await rig.happens(f"L-{n}", type="paid")


async def disputed(rig, n):
    return await rig.happens(f"L-{n}", type="disputed")


async def promised(rig, n):
    await rig.happens(f"L-{n}", type="promised", until="2026-11-26")


async def hardship(rig, n):
    await rig.happens(f"L-{n}", type="hardship")


async def opted_out(rig, n):
    await rig.puts(f"B-{n}", opt_outs=[{"channel": "sms", "at": "2026-11-24T01:00:00Z"}])


async def opted_out_of_all(rig, n):
    await rig.puts(f"B-{n}", opt_outs=[{"channel": "all", "at": "2026-11-24T01:00:00Z"}])


async def held(rig, n):
    await rig.puts(f"B-{n}", holds=[HELD])


async def moved_away(rig, n):
    """Where they are now, it is night."""
    await rig.puts(f"B-{n}", time_zones=[{"zone": "America/New_York", "source": "declared"}])


async def cancelled(rig, n):
    (row,) = await rows(rig.database, "reminder", f"debt = 'L-{n}'")
    await rig.intake.cancel(TENANT, row.id, {"reason": "no longer wanted"})


async def account_off(rig, n):
    async with rig.database.write() as conn:
        await conn.execute(update(schema.account).values(enabled=False))
    await rig.gateway.accounts.refresh()


CHANGES = {
    11: (paid, "suppressed", "debt_paid"),
    12: (disputed, "suppressed", "debt_disputed"),
    13: (promised, "deferred", "debt_promised"),
    14: (hardship, "deferred", "debt_hardship"),
    15: (opted_out, "suppressed", "opted_out"),
    16: (opted_out_of_all, "suppressed", "opted_out"),
    19: (held, "suppressed", "held"),
    20: (moved_away, "deferred", "OP.BASELINE.HOURS"),
    21: (cancelled, "cancelled", None),
    22: (nothing, "sent", None),
}
"""By number of the borrower: what happens, and what becomes of their reminder."""


async def one_each(rig):
    return await rig.take(*(reminder(n, **SMS) for n in CHANGES))


async def what_became(rig, names):
    return {
        n: ((row := await rig.reminder(name)).state, row.reason)
        for n, name in zip(CHANGES, names, strict=True)
    }


EXPECTED = {n: (state, reason) for n, (_, state, reason) in CHANGES.items()}


async def test_a_change_before_the_decision_stops_the_call(rig):
    names = await one_each(rig)

    for n, (change, _, _) in CHANGES.items():
        await change(rig, n)
    await rig.drain()

    assert await what_became(rig, names) == EXPECTED
    assert [line["to"] for line in rig.reached()] == [phone(22)]
    assert [a.state for a in await rig.attempts()] == ["accepted"]


async def test_a_change_between_the_decision_and_the_go_stops_the_call(rig):
    names = await one_each(rig)
    seen, first = [], asyncio.Lock()

    async def all_decided():
        return len(await rig.attempts()) == len(CHANGES)

    async def before_go(intents):
        async with first:
            if not seen:
                await rig.until(all_decided)
                seen.extend(await rig.attempts())
                for n, (change, _, _) in CHANGES.items():
                    await change(rig, n)

    await rig.drain(before_go=before_go)

    assert [a.state for a in seen] == ["intent"] * len(CHANGES)
    assert await what_became(rig, names) == EXPECTED
    assert [line["to"] for line in rig.reached()] == [phone(22)]
    withdrawn = [
        a for a in await rig.attempts() if a.state == "void" and a.reminder != names[list(CHANGES).index(22)]
    ]
    assert len(withdrawn) == len(CHANGES) - 1
    assert {a.called_at for a in withdrawn} == {None}


async def test_an_account_that_is_switched_off_before_the_go_calls_nobody(rig):
    (name,) = await rig.take(reminder(1, **SMS))
    seen = []

    async def before_go(intents):
        seen.extend(intents)
        await account_off(rig, 1)

    await rig.drain(before_go=before_go)

    assert len(seen) == 1
    row = await rig.reminder(name)
    assert (row.state, row.reason) == ("deferred", "account_down")
    assert rig.reached() == []


@ON_SQLITE
@pytest.mark.parametrize("change", [paid, opted_out, held, account_off])
async def test_a_change_after_the_go_comes_too_late_and_says_so(change, rig):
    (name,) = await rig.take(reminder(1, **SMS))
    await rig.simulators.next("aliyun", "slow", seconds=1)
    changes = []

    async def meanwhile():
        await asyncio.sleep(0.4)  # the call has begun: its slot has passed
        return await change(rig, 1)

    async def after_go(granted):
        assert len(granted) == 1
        changes.append(asyncio.create_task(meanwhile()))

    await rig.drain(after_go=after_go)
    answers = [await one for one in changes if change is paid]

    assert len(rig.reached()) == 1
    assert (await rig.reminder(name)).state == "sent"
    assert [answer["too_late"] for answer in answers] == [[name]] * len(answers)


async def test_a_cancel_after_the_go_is_told_too_late(rig):
    (name,) = await rig.take(reminder(1, **SMS))
    told = []

    async def after_go(granted):
        try:
            await rig.intake.cancel(TENANT, name, {})
        except Conflict as late:
            told.append(late.code)

    await rig.drain(after_go=after_go)

    assert set(told) == {"too_late"}  # more than once where a go gets too old for its call
    assert len(rig.reached()) == 1


async def test_of_a_cancel_and_a_go_at_once_exactly_one_wins(rig, database_url, open_rig):
    """Nobody who was told `cancelled` is reached; everybody else is, once."""
    other = rig if rig.database.sqlite else await open_rig(database_url, clock=None)
    names = await rig.take(*(reminder(n, **SMS) for n in range(100, 160)))
    told = {}

    async def first_call():
        while not rig.reached():  # noqa: ASYNC110 (the ledger is another process's)
            await asyncio.sleep(0.02)

    async def cancel(name, place):
        await asyncio.sleep(place / 150)
        if place % 2:  # every other one waits for the first call, however slow the machine
            await first_call()
        try:
            told[name] = (await rig.intake.cancel(TENANT, name, {})).status
        except Conflict as late:
            told[name] = late.code

    async with rig.sender() as a, other.sender() as b:
        await asyncio.gather(a.drain(), b.drain(), *(cancel(name, place) for place, name in enumerate(names)))
        await asyncio.gather(a.drain(), b.drain())

    by_attempt = {a.ref: a.reminder for a in await rig.attempts()}
    called = [by_attempt[line["ref"]] for line in rig.reached()]
    cancelled = {name for name, answer in told.items() if answer == 200}
    assert len(told) == 60
    assert cancelled
    assert called
    assert sorted(called) == sorted(set(names) - cancelled)


@ON_SQLITE
async def test_a_part_payment_lowers_the_amount_in_the_text(rig):
    (name,) = await rig.take(reminder(1, **SMS))

    await rig.happens("L-1", type="paid", amount={"amount": "280.50", "currency": "CNY"})
    await rig.drain()

    (line,) = rig.reached()
    assert "1,000.00" in line["text"]
    assert "1,280.50" not in line["text"]
    assert (await rig.reminder(name)).state == "sent"


async def test_a_payment_in_part_between_decision_and_go_is_decided_and_written_anew(rig):
    await rig.take(reminder(1, **SMS))
    times = []

    async def before_go(intents):
        if not times:
            await rig.happens("L-1", type="paid", amount={"amount": "280.50", "currency": "CNY"})
        times.append(len(intents))

    await rig.drain(before_go=before_go)

    (line,) = rig.reached()
    assert times == [1, 1]
    assert "1,000.00" in line["text"]
    assert [a.state for a in await rig.attempts()] == ["void", "accepted"]


@ON_SQLITE
async def test_a_reminder_waits_for_its_hour_and_goes_then(rig):
    (name,) = await rig.take(reminder(1, **SMS, not_before="2026-11-24T06:00:00Z"))
    await rig.drain()
    assert rig.reached() == []
    assert (await rig.reminder(name)).state == "waiting"

    await rig.advance(hours=4)
    await rig.drain()
    assert len(rig.reached()) == 1


@ON_SQLITE
async def test_what_did_not_go_out_in_time_expires(rig):
    night = {"not_before": "2026-11-24T12:30:00Z", "expires_at": "2026-11-24T20:00:00Z"}
    (name,) = await rig.take(reminder(1, **SMS, **night))

    await rig.advance(hours=11)
    await rig.drain()
    assert (await rig.reminder(name)).state == "deferred"
    await rig.advance(hours=8)
    await rig.drain()

    row = await rig.reminder(name)
    assert (row.state, row.reason, row.next_at) == ("expired", "expired", None)
    assert rig.reached() == []


@ON_SQLITE
async def test_a_text_leaves_only_while_it_is_true_where_the_borrower_is(rig):
    """`due_today` on its date alone, `pre_due` before it, `overdue` after it."""
    await rig.put(borrower(1), debt(1, due_date="2026-11-25"))
    texts = [("due_today", "due_today"), ("overdue_gentle", "collection"), ("pre_due", "pre_due_reminder")]
    today, overdue, before = await rig.take(
        *(
            by_id(1, idempotency_key=template, template=template, purpose=purpose, channels=["sms"])
            for template, purpose in texts
        )
    )
    await rig.drain()
    assert [await state(rig, n) for n in (today, overdue, before)] == ["deferred", "deferred", "sent"]

    await rig.advance(hours=23)
    await known_anew(rig)
    await rig.drain()
    assert [await state(rig, n) for n in (today, overdue)] == ["sent", "deferred"]

    await rig.advance(days=1)
    await known_anew(rig)
    await rig.drain()
    assert await state(rig, overdue) == "sent"
    assert len(rig.reached()) == 3


@ON_SQLITE
async def test_a_due_today_text_whose_day_is_over_never_leaves(rig):
    await rig.put(borrower(1), debt(1, due_date="2026-11-24"))
    (name,) = await rig.take(
        by_id(1, template="due_today", purpose="due_today", **SMS, not_before="2026-11-24T13:00:00Z")
    )

    await rig.advance(hours=15)
    await rig.drain()

    assert await state(rig, name) == "expired"
    assert rig.reached() == []


async def state(rig, name):
    return (await rig.reminder(name)).state


async def known_anew(rig):
    """The lender reports the debt as it was."""
    done(await rig.intake.debts(TENANT, [{"id": "L-1", "state": "open"}]))


@ON_SQLITE
async def test_what_changes_while_a_slow_relay_has_all_its_connections_busy_stops_every_further_mail(rig):
    """None of them waits for a connection with a go in its hand."""
    async with peer({"dot": "wait 1.5 250 Ok"}) as relay:
        await rig.turn_to("smtp", relay.port)
        (at_once,) = {way.adapter.at_once for way in rig.gateway.accounts.of(TENANT, Channel.EMAIL)}
        many = range(100, 100 + 5 * at_once)
        mails = [[{"channel": "email", "value": f"b{n}@example.com"}] for n in many]
        await rig.take(
            *(
                reminder(n, borrower=borrower(n, addresses=mail), channels=["email"])
                for n, mail in zip(many, mails, strict=True)
            )
        )
        async with asyncio.TaskGroup() as working:
            working.create_task(rig.drain())
            await rig.until(lambda: asyncio.sleep(0, len(relay.mails) >= at_once))
            await account_off(rig, 0)

        assert len(relay.mails) == at_once
        found = Counter(a.state for a in await rig.attempts())
        assert found["accepted"] == at_once
        assert sum(found.values()) <= 4 * at_once
