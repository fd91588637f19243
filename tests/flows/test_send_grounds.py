"""What a decision rests on is kept once for all that rest on the same; whoever reads one sees it whole."""

import orjson
from makers import borrower, by_id, debt, phone, rows
from sendrig import ON_SQLITE, TENANT
from sqlalchemy import text

from gateway.store.reads import Filter

GROUNDS = {"findings", "zones", "packs"}


async def people(rig, *numbers):
    for number in numbers:
        address = {"channel": "sms", "value": phone(number), "kind": "personal"}
        await rig.put(borrower(number, residence="CN-GD", addresses=[address]), debt(number))


async def decided(rig):
    """The latest decision of each reminder as the API shows it, and those of all records."""
    reads = rig.services.reads
    shown = [await reads.decision(TENANT, row.id) for row in await rows(rig.database, "reminder")]
    page = await reads.records(TENANT, Filter(), limit=100, after=None, newest_first=False)
    return shown, [record["body"]["decision"] for record in page.items if "decision" in record["body"]]


async def test_those_who_are_alike_rest_on_one_ground_and_every_decision_is_shown_whole(rig):
    await people(rig, *range(1, 21))
    await rig.take(*(by_id(n, channels=["sms"]) for n in range(1, 21)))
    await rig.drain()

    shown, recorded = await decided(rig)

    assert len(await rows(rig.database, "ground")) == 1
    assert len(shown) == len(recorded) == 20
    for decision in (*shown, *recorded):
        assert "ground" not in decision
        assert decision["action"] == "send"
        assert {found["rule"] for found in decision["findings"]} >= {"CN.GBT.HOURS", "OP.CAPS.DAY"}
        assert decision["zones"][0]["zone"] == "Asia/Shanghai"
        assert "CN.GBT" in {pack["pack"] for pack in decision["packs"]}


async def test_one_who_was_reached_before_rests_on_another_ground(rig):
    await people(rig, 1, 2)
    for key in ("a", "b"):
        await rig.take(by_id(1, idempotency_key=key, channels=["sms"], repeat=True))
        await rig.drain()
    await rig.take(by_id(2, channels=["sms"]))
    await rig.drain()

    _, recorded = await decided(rig)

    counted = [
        found["counted"] for one in recorded for found in one["findings"] if found["rule"] == "OP.CAPS.DAY"
    ]
    assert counted == [0, 1, 0]
    assert len(await rows(rig.database, "ground")) == 2


@ON_SQLITE
async def test_what_was_decided_before_grounds_were_kept_apart_is_shown_as_it_is(rig):
    await people(rig, 1)
    await rig.take(by_id(1, channels=["sms"]))
    await rig.drain()
    (whole,), _ = await decided(rig)
    async with rig.database.write() as conn:
        await conn.execute(
            text("UPDATE reminder SET decision = :whole"), {"whole": orjson.dumps(whole).decode()}
        )
        await conn.execute(text("DELETE FROM ground"))

    (shown,), _ = await decided(rig)

    assert shown == whole


@ON_SQLITE
async def test_a_ground_that_was_changed_is_not_shown_and_its_name_is(rig):
    await people(rig, 1)
    await rig.take(by_id(1, channels=["sms"]))
    await rig.drain()
    (kept,) = await rows(rig.database, "ground")
    async with rig.database.write() as conn:
        await conn.execute(text("UPDATE ground SET said = replace(said, 'OP.CAPS', 'OP.LAPS')"))

    shown, recorded = await decided(rig)

    for decision in (*shown, *recorded):
        assert decision["ground"] == kept.sha256
        assert {name: decision[name] for name in GROUNDS} == {name: [] for name in GROUNDS}
