"""The witness says of every send whether it was allowed, from the log alone; what breaks a rule it finds."""

from dataclasses import replace
from datetime import timedelta
from hashlib import sha256

import orjson
import pytest
from makers import NOW, borrower, by_id, contact, debt, phone, rows
from sendrig import ON_SQLITE, TENANT
from sqlalchemy import text
from test_send_caps import Unlocked, have_one_slot_left, race_for_the_last_slot

from gateway.deciding import Desk
from gateway.policy.model import Cap, Hours, Window
from gateway.ports import Entry

DAY = timedelta(days=1)
CLEAN = {"refused": 0, "violations": [], "undeterminable": {}, "withdrawn": 0, "next": None}


def everywhere(number):
    return [
        {"channel": "sms", "value": phone(number), "kind": "personal"},
        {"channel": "email", "value": f"zhangsan{number}@example.com", "kind": "personal"},
        {"channel": "voice", "value": phone(number), "kind": "personal"},
    ]


async def check(rig, since=NOW - DAY, until=NOW + 30 * DAY, limit=50):
    """All pages as one."""
    after, found = "", []
    while after is not None:
        page = await rig.services.audits.check(TENANT, since, until, after=after, limit=limit)
        found.append(page)
        after = page["next"]
    return {
        **found[-1],
        "checked": sum(page["checked"] for page in found),
        "violations": [one for page in found for one in page["violations"]],
    }


def broken(found):
    return sorted({one["rule"] for one in found["violations"]})


async def people(rig, *numbers, **more):
    for number in numbers:
        await rig.put(borrower(number, residence="CN-GD", addresses=everywhere(number), **more), debt(number))


def asked(number, key, *channels, **more):
    return by_id(
        number, idempotency_key=f"{number}:{key}", channels=list(channels or ["sms"]), repeat=True, **more
    )


async def two_days(rig):
    """Caps are reached, a night comes, somebody opts out, others make contacts, two borrowers become one person."""
    await people(rig, 1, 2, 3, 4, 5)
    await rig.contacts(contact(2), contact(3, channel="sms", outcome="delivered", address=phone(3)))
    await rig.check(borrower="B-4", debt="L-4", channel="voice", purpose="collection")
    for day in range(2):
        await rig.take(
            *(asked(n, f"{day}{c}{i}", c) for n in range(1, 6) for c in ("sms", "email") for i in (1, 2))
        )
        await rig.take(*(asked(n, f"{day}voice", "voice", "email") for n in (1, 2, 3)))
        await rig.drain()
        if day == 0:
            await rig.puts("B-5", opt_outs=[{"channel": "sms", "at": NOW.isoformat()}])
            await rig.puts("B-2", addresses=[*everywhere(2), {"channel": "sms", "value": phone(1)}])
        await rig.advance(hours=12)
        await rig.take(asked(4, f"night{day}", "sms", "email"))
        await rig.drain()
        await rig.advance(hours=12)
        for number in range(1, 6):
            await rig.put({"id": f"B-{number}"}, debt(number, state="open", state_at=await now(rig)))


async def now(rig):
    async with rig.database.read() as conn:
        return (await rig.database.moment(conn)).policy.isoformat()


@ON_SQLITE
async def test_what_went_by_the_rules_is_found_to_have_gone_by_them(rig):
    await two_days(rig)

    found = await check(rig, limit=2)

    sent = [a for a in await rig.attempts() if a.state != "void"]
    assert found == {**CLEAN, "checked": len(sent)}
    assert len(sent) >= 15
    states = {row.reason for row in await rows(rig.database, "record", "state = 'deferred'")}
    assert {"OP.CAPS.DAY", "CN.GBT.HOURS"} <= states


def loosened(packs, change):
    """Packs under the versions and digests of the true ones, with other rules."""
    return tuple(replace(pack, rules=tuple(map(change, pack.rules))) for pack in packs)


def no_caps(rule):
    return replace(rule, max=1000) if isinstance(rule, Cap) else rule


def no_nights(rule):
    if not isinstance(rule, Window):
        return rule
    return replace(rule, week=((Hours(open=0, close=86_400),),) * 7, closed_on_holidays=None)


def without_law(packs):
    return tuple(replace(pack, applies=("assigned",)) if "CN" in pack.applies else pack for pack in packs)


def sit(rig, packs):
    """Let another desk decide, whose packs are not what they are called."""
    gateway = rig.gateway
    gateway.desk = Desk(
        catalog=gateway.catalog,
        packs=packs,
        stated=gateway.overrides,
        accounts=gateway.accounts,
        vault=gateway.vault,
        entropy=gateway.desk._entropy,
    )


@ON_SQLITE
@pytest.mark.parametrize(
    ("change", "hours", "sends", "rules"),
    [
        (lambda packs: loosened(packs, no_caps), 0, 5, {"OP.CAPS.DAY"}),
        (lambda packs: loosened(packs, no_nights), 13, 3, {"CN.GBT.HOURS"}),
        (without_law, 0, 3, {"CN.GBT", "CN.PIPL"}),
    ],
    ids=["a cap is not kept", "nor the night", "a pack is not asked"],
)
async def test_a_gateway_that_breaks_a_rule_is_found_out(rig, change, hours, sends, rules):
    await people(rig, 1)
    await rig.advance(hours=hours)
    sit(rig, change(rig.gateway.packs))
    await rig.take(*(asked(1, n) for n in range(5)))
    await rig.drain()
    assert len(await rig.attempts()) == sends

    found = await check(rig)

    assert found["checked"] == sends
    assert rules <= set(broken(found))
    attempts = {a.ref for a in await rig.attempts()}
    assert {one["attempt"] for one in found["violations"]} <= attempts


@ON_SQLITE
@pytest.mark.parametrize(("minutes", "rules"), [(57, []), (58, ["CN.CBA.HOURS", "CN.GBT.HOURS"])])
async def test_a_call_that_would_be_talked_on_past_closing_is_found_out(rig, minutes, rules):
    await people(rig, 1)
    await rig.advance(hours=11, minutes=minutes)  # 22:00 is closing, a call may last two minutes
    sit(rig, loosened(rig.gateway.packs, no_nights))
    await rig.take(asked(1, "a", "voice"))
    await rig.drain()

    found = await check(rig)

    assert found["checked"] == 1
    assert broken(found) == rules
    assert all("disturb" in one["what"] for one in found["violations"])


async def test_an_attempt_without_a_decision_is_found(rig):
    await people(rig, 1)
    await rig.take(asked(1, "a"))
    await rig.drain()
    async with rig.database.write() as conn:
        stray = Entry(
            tenant=TENANT,
            kind="outcome",
            at=NOW,
            attempt="at_stray",
            borrower="B-1",
            channel="sms",
            state="accepted",
        )
        await rig.gateway.log.append(conn, [stray])

    found = await check(rig)

    assert [(one["rule"], one["attempt"]) for one in found["violations"]] == [("undecided", "at_stray")]


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
async def test_workers_that_do_not_wait_for_each_other_are_found_out(rig, database_url, open_rig):
    other = await open_rig(database_url, clock=None)
    await have_one_slot_left(rig)
    await rig.advance(seconds=5)

    reached = await race_for_the_last_slot(rig, other, Unlocked, 20)

    found = await check(rig)
    assert found["checked"] == len(reached) > 1
    assert len({one["attempt"] for one in found["violations"]}) == len(reached) - 1
    assert "OP.CAPS.DAY" in broken(found)


@ON_SQLITE
async def test_a_send_that_is_only_in_the_log_counts_in_the_caps_of_those_after_it(rig):
    await people(rig, 1)
    await rig.take(asked(1, "a"))
    await rig.drain()
    (kept,) = await rows(rig.database, "record", "attempt IS NOT NULL AND kind = 'decision'")
    body = orjson.loads(kept.leaf)["body"]
    async with rig.database.write() as conn:
        moment = await rig.database.moment(conn)
        entries = [
            Entry(
                tenant=TENANT,
                kind="decision",
                at=moment.policy + timedelta(seconds=n),
                attempt=f"at_{n}",
                borrower="B-1",
                channel="sms",
                state="sending",
                ids={"debt": "L-1"},
                body=body,
            )
            for n in range(4)
        ]
        await rig.gateway.log.append(conn, entries)
    await rig.advance(seconds=10)
    sit(rig, loosened(rig.gateway.packs, no_caps))
    await rig.take(asked(1, "b"))
    await rig.drain()

    found = await check(rig)

    (last,) = (await rig.attempts())[1:]
    assert "OP.CAPS.DAY" in broken(found)
    assert {one["attempt"] for one in found["violations"]} == {last.ref}
    assert found["undeterminable"] == {"inputs_not_recorded": 4}


@ON_SQLITE
@pytest.mark.parametrize(
    ("harm", "why"),
    [
        ("erase", "inputs_erased"),
        ("DELETE FROM pack_text WHERE pack = 'OP.CAPS'", "pack_text_missing"),
        ("UPDATE pack_text SET text = text || '#' WHERE pack = 'OP.CAPS'", "pack_text_missing"),
        ("UPDATE record_side SET side_enc = x'00'", "record_altered"),
        ("UPDATE ground SET said = replace(said, 'OP.CAPS', 'OP.LAPS')", "record_altered"),
        ("DELETE FROM ground", "record_altered"),
    ],
)
async def test_what_cannot_be_worked_out_is_said_to_be_so(rig, harm, why):
    await people(rig, 1)
    await rig.take(asked(1, "a"))
    await rig.drain()
    if harm == "erase":
        await rig.gateway.vault.destroy(TENANT, "B-1")
    else:
        async with rig.database.write() as conn:
            await conn.execute(text(harm))

    found = await check(rig)

    assert (found["checked"], found["violations"], found["undeterminable"]) == (1, [], {why: 1})


@ON_SQLITE
async def test_the_packs_in_use_are_kept_once_and_are_on_record(rig):
    gateway = rig.gateway
    await gateway.keep_packs()
    (first,) = await rows(rig.database, "record", "tenant = '*/live' AND kind = 'config'")
    listed = orjson.loads(first.leaf)["body"]["after"]
    texts = {row.sha256: row.text for row in await rows(rig.database, "pack_text")}

    await gateway.pack_texts.keep(gateway.packs[:2], list(texts.values()), "ops")

    assert {one["sha256"] for one in listed["packs"]} == set(texts)
    assert all(sha256(text.encode()).hexdigest() == name for name, text in texts.items())
    assert len(await rows(rig.database, "record", "tenant = '*/live' AND kind = 'config'")) == 2
    assert {pack.id for pack in await gateway.pack_texts.packs(listed["sha256"])} == {
        pack.id for pack in gateway.packs
    }
