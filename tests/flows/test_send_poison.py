"""A reminder on which T1 breaks is set aside, on record; its queue goes on, and what was mended goes out."""

import asyncio
from datetime import timedelta

import orjson
import pytest
from cli_rig import ran
from makers import borrower, by_id, debt, phone, rows
from sendrig import ON_SQLITE, TENANT
from sqlalchemy import text, update

from gateway.domain import from_us
from gateway.store import schema
from gateway.store.keys import Role

MANY = 6


async def spoilt(rig, table, key, **values):
    """Rows as no version of ours writes them; what they were before."""
    (before,) = await rows(rig.database, table.name, f"id = '{key}'")
    async with rig.database.write() as conn:
        await conn.execute(update(table).where(table.c.id == key).values(**values))
    return {name: getattr(before, name) for name in values}


async def several(rig, **asked):
    """Reminders of as many persons, by id."""
    for n in range(1, MANY + 1):
        await rig.put(
            borrower(n, addresses=[{"channel": "sms", "value": phone(n), "kind": "personal"}]), debt(n)
        )
    return await rig.take(*(by_id(n, channels=["sms"], **asked) for n in range(1, MANY + 1)))


async def test_poison_is_set_aside_and_its_queue_goes_on(rig):
    """A borrower that cannot be read breaks the facts, a channel that is none the claim."""
    names = await several(rig)
    await spoilt(rig, schema.borrower, "B-2", profile="{")
    await spoilt(rig, schema.reminder, names[4], channels='["pigeon"]')

    await rig.drain()

    aside = {name: await rig.reminder(name) for name in (names[1], names[4])}
    assert {(r.state, r.reason, r.by) for r in aside.values()} == {
        ("deferred", "quarantined", "StoreRefused"),
        ("deferred", "quarantined", "ValueError"),
    }
    assert [r.next_at - r.updated_at for r in aside.values()] == [900_000_000] * 2
    assert len(rig.reached()) == MANY - 2
    assert await rig.attempts(names[1]) == []
    told = await rows(rig.database, "record", "reason = 'quarantined'")
    assert {(r.reminder, r.borrower, orjson.loads(r.leaf)["body"]["error"]) for r in told} == {
        (name, row.borrower, row.by) for name, row in aside.items()
    }


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
async def test_a_value_that_the_store_refuses_is_poison(rig):
    """SQLite keeps whatever it is given."""
    names = await several(rig)
    refusal = f"CASE WHEN reminder = '{names[2]}' THEN CAST(reminder AS integer) > 0 ELSE true END"
    async with rig.database.write() as conn:
        await conn.execute(text(f"ALTER TABLE attempt_ref ADD CHECK ({refusal})"))

    await rig.drain()

    row = await rig.reminder(names[2])
    assert (row.state, row.reason, row.by) == ("deferred", "quarantined", "StoreRefused")
    assert len(rig.reached()) == MANY - 1


@ON_SQLITE
async def test_what_was_mended_goes_through_all_checks_when_it_is_replayed(rig):
    names = await several(rig)
    before = await spoilt(rig, schema.borrower, "B-2", profile="{")
    await spoilt(rig, schema.borrower, "B-3", profile="{")
    await rig.drain()
    await spoilt(rig, schema.borrower, "B-2", **before)
    await spoilt(rig, schema.borrower, "B-3", **before)
    await rig.puts("B-3", opt_outs=[{"channel": "sms", "at": "2026-11-24T02:00:00Z"}])
    replays = rig.services.replays

    none = await replays.replay(TENANT, [names[0]], who="ann", reason="mended")
    replayed = await replays.replay(TENANT, None, who="ann", reason="mended")
    await rig.drain()

    assert (none.names, replayed.names) == ([], sorted(names[1:3]))
    assert (replayed.channels, replayed.more) == ({"sms"}, False)
    assert (await rig.reminder(names[1])).state in {"sent", "delivered"}
    row = await rig.reminder(names[2])
    assert (row.state, row.reason) == ("suppressed", "opted_out")
    assert len(rig.reached()) == MANY - 1
    (change,) = await rows(rig.database, "change", "kind = 'poison'")
    assert (change.who, change.reason) == ("ann", "mended")


@ON_SQLITE
async def test_a_reminder_is_not_poison_because_another_of_its_person_is(rig):
    await rig.put(
        borrower(1, addresses=[{"channel": "sms", "value": phone(1), "kind": "personal"}]), debt(1), debt(2)
    )
    bad, good = await rig.take(
        by_id(1, channels=["sms"]), by_id(1, channels=["sms"], debt="L-2", idempotency_key="good")
    )
    await spoilt(rig, schema.reminder, bad, channels="{")

    await rig.drain()

    assert (await rig.reminder(bad)).reason == "quarantined"
    assert (await rig.reminder(good)).state in {"sent", "delivered"}


@ON_SQLITE
async def test_the_commands_list_and_replay(rig, monkeypatch):
    names = await several(rig)
    for name in ("B-1", "B-2"):
        await spoilt(rig, schema.borrower, name, profile="{")
    await rig.drain()
    key = await rig.key(Role.OPS)
    monkeypatch.setenv("GATEWAY_API_KEY", key)
    async with rig.served() as url:

        async def said(*words):
            return await asyncio.to_thread(ran, *words, "--url", url)

        told = await said("poison", "list", "--json")
        why = [await said("explain", names[0], "--lang", lang) for lang in ("en", "zh")]
        neither = await said("poison", "replay", "--reason", "mended")
        one = await said("poison", "replay", names[0], names[3], names[0], "--reason", "mended")
        none = await said("poison", "replay", *names[2:4], "--reason", "mended", "--json")
        person = await said("poison", "replay", names[0], "13800138000", "--reason", "mended")
        rest = await said("poison", "replay", "--all", "--reason", "mended", "--json")

    assert {(i["id"], i["by"]) for i in orjson.loads(told.stdout)} == {
        (name, "StoreRefused") for name in names[:2]
    }
    for each in why:
        assert "StoreRefused" in each.stdout
        assert f"gateway poison replay {names[0]}" in each.stdout
    look = "due already or not set aside here: look at the ids, at --tenant and at --mode\n"
    assert (neither.returncode, person.returncode) == (2, 2)
    assert person.stderr.startswith("REMINDER, no. 2: it reads as a phone number")
    assert (one.returncode, one.stdout, one.stderr) == (
        1,
        "1 due again\n",
        f"1 of 2 left as they are, {look}",
    )
    assert (none.returncode, none.stderr) == (1, f"2 of 2 left as they are, {look}")
    assert orjson.loads(none.stdout) == {"replayed": 0, "reminders": [], "not_replayed": 2}
    assert rest.returncode == 0
    assert orjson.loads(rest.stdout) == {"replayed": 1, "reminders": [names[1]], "not_replayed": 0}


@ON_SQLITE
async def test_what_stays_poison_waits_longer_each_time_and_is_over_when_its_time_is(rig):
    (name, *_) = await several(rig)
    await spoilt(rig, schema.borrower, "B-1", profile="{")
    waits = []
    while True:
        await rig.drain()
        row = await rig.reminder(name)
        if row.next_at is None:
            break
        waits.append(row.next_at - row.updated_at)
        await rig.advance(microseconds=waits[-1] + 1000)

    quarter = timedelta(minutes=15) // timedelta(microseconds=1)
    assert waits[:4] == [quarter, 4 * quarter, 16 * quarter, 64 * quarter]
    assert (row.state, row.reason) == ("expired", "expired")
    assert from_us(row.updated_at) >= from_us(row.expires_at)


async def test_an_outcome_that_cannot_be_written_holds_up_no_other(rig):
    """Then the worker ends: only that lets others settle the call."""
    names, spoilt_refs = await several(rig), []

    async def spoils_one(granted):
        if granted and not spoilt_refs:
            spoilt_refs.append(min(granted))
            async with rig.database.write() as conn:
                one = schema.attempt.c.ref == min(granted)
                await conn.execute(update(schema.attempt).where(one).values(channel="pigeon"))

    async def others_written():
        return (await rig.states()).get(("sent", None)) == len(names) - 1

    async with rig.sender(after_go=spoils_one) as sender:
        draining = asyncio.create_task(sender.drain())
        await rig.until(others_written)
        await sender.die(draining)

    assert len(rig.reached()) == len(names)
    assert [a.state for a in await rig.attempts() if a.ref in spoilt_refs] == ["calling"]
