"""Reminders handed in: what is kept, when they are due, and one answer for one key."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson
import pytest
from makers import NOW, borrower, by_id, debt, phone, reminder, rows, set_clock

from gateway.domain import from_us


@pytest.fixture(autouse=True)
async def ten_in_shanghai(sqlite):
    await set_clock(sqlite)


async def accepted(service, body):
    reply = await service.post("/v1/reminders", json=body)
    assert reply.status_code == 202, reply.text
    return reply.json()["id"]


async def kept(sqlite, name):
    (row,) = await rows(sqlite, "reminder", f"id = '{name}'")
    return row


def near(us, instant):
    return abs(from_us(us) - instant) < timedelta(seconds=20)


async def test_a_reminder_is_kept_due_at_once_and_its_queue_is_rung(sqlite, service, bell):
    reply = await service.post("/v1/reminders", json=reminder())

    answer = reply.json()
    row = await kept(sqlite, answer["id"])
    assert set(answer) == {"id", "idempotency_key", "state", "accepted_at"}
    assert (answer["state"], answer["idempotency_key"]) == ("waiting", "k-1")
    assert (row.state, row.borrower, row.debt, row.due_date) == ("waiting", "B-1", "L-1", "2026-11-30")
    assert near(row.next_at, NOW)
    assert near(row.expires_at, NOW + timedelta(days=3))
    assert (row.actor_role, row.actor_id, row.recipient_role) == ("creditor", "acme", "debtor")
    assert bell.rung == [row.channel]


async def test_it_waits_under_the_first_channel_that_the_borrower_has_an_address_for(sqlite, service):
    name = await accepted(service, reminder(channels=["wechat", "email", "sms"]))

    assert (await kept(sqlite, name)).channel == "sms"


async def test_it_waits_under_its_first_channel_when_the_borrower_has_no_address(sqlite, service):
    name = await accepted(service, reminder(channels=["email", "voice"]))

    assert (await kept(sqlite, name)).channel == "email"


async def test_a_dead_address_is_none(sqlite, service):
    await accepted(service, reminder())
    async with sqlite.write() as conn:
        await conn.exec_driver_sql("UPDATE address SET dead_at = 1")

    name = await accepted(service, by_id(idempotency_key="again", channels=["voice", "sms"]))

    assert (await kept(sqlite, name)).channel == "voice"


async def test_what_is_not_before_a_time_is_due_then_and_lives_from_then_on(sqlite, service, bell):
    name = await accepted(service, reminder(not_before="2026-11-26T09:00:00+08:00"))

    row = await kept(sqlite, name)
    assert from_us(row.next_at) == datetime(2026, 11, 26, 1, tzinfo=UTC)
    assert row.not_before == row.next_at
    assert from_us(row.expires_at) == datetime(2026, 11, 29, 1, tzinfo=UTC)
    assert bell.rung == []


ANCHORS = [
    ({"due": "-3d", "at": "10:00"}, ["Asia/Shanghai"], "2026-11-27T02:00:00+00:00"),
    ({"due": "0d", "at": "09:30"}, ["Asia/Shanghai"], "2026-11-30T01:30:00+00:00"),
    ({"due": "+1d", "at": "09:30"}, ["America/New_York"], "2026-12-01T14:30:00+00:00"),
    ({"due": "-3d", "at": "10:00"}, ["America/New_York", "America/Los_Angeles"], "2026-11-27T18:00:00+00:00"),
]


@pytest.mark.parametrize(("anchor", "zones", "due"), ANCHORS)
async def test_an_anchor_is_reckoned_from_the_due_date_where_that_hour_comes_last(
    sqlite, service, anchor, zones, due
):
    where = borrower(time_zones=[{"zone": zone} for zone in zones])

    name = await accepted(service, reminder(borrower=where, anchor=anchor))

    row = await kept(sqlite, name)
    assert from_us(row.next_at).isoformat() == due
    assert row.not_before == row.next_at


async def test_without_stated_zones_the_residence_and_the_number_speak(sqlite, service):
    american = borrower(
        time_zones=None,
        residence="US-NY",
        addresses=[{"channel": "sms", "value": "+13105550199"}],
    )
    name = await accepted(service, reminder(borrower=american, anchor={"due": "-3d", "at": "10:00"}))

    assert from_us((await kept(sqlite, name)).next_at) == datetime(2026, 11, 27, 18, tzinfo=UTC)


async def test_an_anchor_that_is_past_is_due_now(sqlite, service):
    name = await accepted(service, reminder(anchor={"due": "-30d", "at": "10:00"}))

    assert near((await kept(sqlite, name)).next_at, NOW)


async def test_an_anchored_reminder_follows_the_due_date(sqlite, service):
    name = await accepted(service, reminder(anchor={"due": "-3d", "at": "10:00"}))

    assert (await service.put("/v1/debts/L-1", json={"due_date": "2026-12-10"})).status_code == 200

    row = await kept(sqlite, name)
    assert from_us(row.next_at) == datetime(2026, 12, 7, 2, tzinfo=UTC)
    assert from_us(row.not_before) == datetime(2026, 12, 7, 2, tzinfo=UTC)
    assert from_us(row.expires_at) == datetime(2026, 12, 10, 2, tzinfo=UTC)
    assert row.due_date == "2026-12-10"


async def test_an_anchored_reminder_whose_due_date_comes_near_is_due_at_once(sqlite, service, bell):
    name = await accepted(service, reminder(anchor={"due": "-3d", "at": "10:00"}))

    await service.put("/v1/debts/L-1", json={"due_date": "2026-11-26"})

    row = await kept(sqlite, name)
    assert near(row.next_at, NOW)
    assert bell.rung == [row.channel]


async def test_an_anchored_reminder_keeps_its_own_not_before_and_expires_at(sqlite, service):
    name = await accepted(
        service,
        reminder(
            anchor={"due": "-3d", "at": "10:00"},
            not_before="2026-11-25T00:00:00Z",
            expires_at="2026-12-20T00:00:00Z",
        ),
    )

    await service.put("/v1/debts/L-1", json={"due_date": "2026-11-27"})

    row = await kept(sqlite, name)
    assert from_us(row.next_at) == datetime(2026, 11, 25, tzinfo=UTC)
    assert from_us(row.expires_at) == datetime(2026, 12, 20, tzinfo=UTC)


async def test_a_reminder_with_the_provider_does_not_move(sqlite, service):
    name = await accepted(service, reminder(anchor={"due": "-3d", "at": "10:00"}))
    async with sqlite.write() as conn:
        await conn.exec_driver_sql("UPDATE reminder SET state = 'sending', called = 1, next_at = NULL")

    await service.put("/v1/debts/L-1", json={"due_date": "2026-12-10"})

    row = await kept(sqlite, name)
    assert (row.due_date, row.next_at) == ("2026-11-30", None)


async def test_one_that_is_being_decided_learns_its_new_time_and_keeps_its_hour(sqlite, service):
    name = await accepted(service, reminder(anchor={"due": "-3d", "at": "10:00"}))
    async with sqlite.write() as conn:
        await conn.exec_driver_sql("UPDATE reminder SET state = 'sending', next_at = NULL")

    await service.put("/v1/debts/L-1", json={"due_date": "2026-12-10"})

    row = await kept(sqlite, name)
    assert row.next_at is None
    assert from_us(row.not_before) == datetime(2026, 12, 7, 2, tzinfo=UTC)


async def test_facts_are_sealed_and_open_under_the_borrowers_key(sqlite, service, vault):
    name = await accepted(service, reminder())

    row = await kept(sqlite, name)
    keys = await vault.keys_for("acme/live", ["B-1"], create=False)
    clear = keys["B-1"].open(row.facts_enc, table="reminder", column="facts_enc", row=name)
    assert orjson.loads(clear) == {"pay_url": "https://pay.example.com/x"}
    assert b"pay.example" not in row.facts_enc


async def test_a_borrower_whose_key_was_destroyed_is_not_there(service, vault):
    await accepted(service, reminder())
    await vault.destroy("acme/live", "B-1")

    reply = await service.post("/v1/reminders", json=by_id(idempotency_key="later"))

    assert reply.json()["errors"] == [{**reply.json()["errors"][0], "at": "/borrower", "code": "not_found"}]


async def test_names_and_numbers_stand_nowhere_in_clear(sqlite, sqlite_url, service):
    await accepted(service, reminder(borrower=borrower(national_id="11010519491231002X", name="欧阳若兰")))

    folder = Path(sqlite_url.removeprefix("sqlite:///")).parent
    stored = b"".join(path.read_bytes() for path in folder.glob("*.db*"))
    for clear in (phone(1)[3:], "欧阳若兰", "11010519491231002X", "pay.example"):
        assert clear.encode() not in stored


# One key, one answer.


async def test_the_same_key_and_body_get_the_first_answer_to_the_byte(sqlite, service):
    first = await service.post("/v1/reminders", json=reminder())
    await set_clock(sqlite, NOW + timedelta(days=60))
    shuffled = dict(reversed(reminder().items()))
    again = await service.post("/v1/reminders", content=json.dumps(shuffled, indent=1))

    assert (again.status_code, again.content) == (first.status_code, first.content)
    assert len(await rows(sqlite, "reminder")) == 1


async def test_the_header_is_the_same_key(service):
    body = reminder()
    key = body.pop("idempotency_key")
    first = await service.post("/v1/reminders", json=body, headers={"Idempotency-Key": key})
    again = await service.post("/v1/reminders", json=reminder())

    assert again.content == first.content


async def test_another_body_under_the_same_key_is_refused(sqlite, service):
    await accepted(service, reminder())

    reply = await service.post("/v1/reminders", json=reminder(priority="urgent"))

    assert (reply.status_code, reply.json()["code"]) == (422, "key_reused")
    assert len(await rows(sqlite, "reminder")) == 1


async def test_a_refused_body_uses_up_no_key(service):
    assert (await service.post("/v1/reminders", json=reminder(template="nowhere"))).status_code == 422

    await accepted(service, reminder())


async def test_keys_of_two_tenants_and_modes_are_each_their_own(api):
    found = set()
    for tenant, mode in (("acme", "live"), ("acme", "test"), ("beta", "live")):
        client = await api.of(tenant=tenant, mode=mode)
        found.add(await accepted(client, reminder()))

    assert len(found) == 3


async def test_twenty_at_once_under_one_key_give_one_reminder_and_one_answer(sqlite, service):
    replies = await asyncio.gather(*(service.post("/v1/reminders", json=reminder()) for _ in range(20)))

    assert {reply.status_code for reply in replies} == {202}
    assert len({reply.content for reply in replies}) == 1
    assert len(await rows(sqlite, "reminder")) == 1


async def test_a_batch_gives_each_item_its_result_in_order(sqlite, service):
    items = [
        reminder(1),
        reminder(2, template="nowhere"),
        "no object",
        reminder(3),
        reminder(4, borrower="B-9"),
    ]

    results = (await service.post("/v1/reminders/batch", json={"items": items})).json()["results"]

    assert [(r["index"], r["status"]) for r in results] == [(0, 202), (1, 422), (2, 422), (3, 202), (4, 422)]
    assert [r["error"]["code"] for r in results if "error" in r] == [
        "template_unknown",
        "invalid_request",
        "invalid_request",
    ]
    assert {row.borrower for row in await rows(sqlite, "reminder")} == {"B-1", "B-3"}
    assert {row.id for row in await rows(sqlite, "borrower")} == {"B-1", "B-3"}


async def test_a_replayed_batch_gives_the_same_ids_and_takes_in_what_was_mended(sqlite, service):
    first = [reminder(1), reminder(2, template="nowhere"), reminder(3)]
    then = [reminder(1), reminder(2), reminder(3)]

    one = (await service.post("/v1/reminders/batch", json={"items": first})).json()["results"]
    two = (await service.post("/v1/reminders/batch", json={"items": then})).json()["results"]
    three = (await service.post("/v1/reminders/batch", json={"items": then})).json()["results"]

    assert [two[n]["body"] for n in (0, 2)] == [one[n]["body"] for n in (0, 2)]
    assert two == three
    assert len(await rows(sqlite, "reminder")) == 3


async def test_one_key_twice_in_a_batch_is_a_replay_of_itself(sqlite, service):
    items = [reminder(1), reminder(1), reminder(1, priority="bulk"), reminder(2)]

    results = (await service.post("/v1/reminders/batch", json={"items": items})).json()["results"]

    assert [r["status"] for r in results] == [202, 202, 422, 202]
    assert results[0]["body"] == results[1]["body"]
    assert results[2]["error"]["code"] == "key_reused"
    assert len(await rows(sqlite, "reminder")) == 2


async def test_a_key_whose_first_item_is_wrong_belongs_to_the_next(service):
    items = [reminder(1, template="nowhere"), reminder(1)]

    results = (await service.post("/v1/reminders/batch", json={"items": items})).json()["results"]

    assert [r["status"] for r in results] == [422, 202]


async def test_an_item_may_name_what_an_earlier_one_brought(sqlite, service):
    items = [reminder(1), by_id(1, idempotency_key="second")]

    results = (await service.post("/v1/reminders/batch", json={"items": items})).json()["results"]

    assert [r["status"] for r in results] == [202, 202]
    assert len({row.person for row in await rows(sqlite, "reminder")}) == 1


async def test_an_item_may_not_name_what_a_refused_one_brought(service):
    items = [reminder(1, template="nowhere"), by_id(1, idempotency_key="second")]

    results = (await service.post("/v1/reminders/batch", json={"items": items})).json()["results"]

    assert [r["status"] for r in results] == [422, 422]


async def test_inline_borrowers_and_debts_merge_in_the_order_of_the_items(sqlite, service):
    items = [
        reminder(1, borrower=borrower(language="en"), debt=debt(product="first")),
        reminder(
            1, idempotency_key="b", borrower={"id": "B-1", "residence": "CN"}, debt=debt(product="second")
        ),
    ]

    await service.post("/v1/reminders/batch", json={"items": items})

    (stored,) = await rows(sqlite, "borrower")
    profile = json.loads(stored.profile)
    assert (profile["language"], profile["residence"]) == ("en", "CN")
    assert [row.product for row in await rows(sqlite, "debt")] == ["second"]
    assert len(await rows(sqlite, "address")) == 1


async def test_every_accepted_reminder_has_its_record(sqlite, service):
    name = await accepted(service, reminder())

    records = await rows(sqlite, "record", "kind != 'config'")
    assert sorted(row.kind for row in records) == ["accepted", "borrower", "debt"]
    (record,) = [row for row in records if row.kind == "accepted"]
    assert (record.reminder, record.borrower, record.channel, record.state) == (name, "B-1", "sms", "waiting")
    assert b"L-1" not in record.leaf
    assert b"B-1" not in record.leaf
    assert b"pay.example" not in record.leaf


async def refusing(conn):
    await conn.exec_driver_sql(
        "CREATE TRIGGER no BEFORE INSERT ON reminder WHEN NEW.borrower = 'B-7'"
        " BEGIN SELECT RAISE(ABORT, 'no'); END"
    )


async def full(conn):
    pages = (await conn.exec_driver_sql("PRAGMA page_count")).scalar()
    await conn.exec_driver_sql(f"PRAGMA max_page_count={pages + 20}")


@pytest.mark.parametrize(("broken", "says"), [(refusing, "refused"), (full, "disk is full")])
async def test_a_store_that_fails_takes_nothing_of_a_batch(sqlite, service, broken, says):
    async with sqlite.write() as conn:
        await broken(conn)
    items = {"items": [reminder(n) for n in range(1, 300)]}

    reply = await service.post("/v1/reminders/batch", json=items)

    assert (reply.status_code, reply.json()["code"]) == (503, "store_unavailable")
    assert says in reply.json()["detail"]
    for table in ("reminder", "borrower", "debt", "idempotency"):
        assert await rows(sqlite, table) == []


def take_away(path):
    for left in path.parent.glob("gateway.db*"):
        left.unlink()
    path.mkdir()


async def test_a_store_that_is_gone_is_said_with_when_to_come_again(sqlite, sqlite_url, service):
    await accepted(service, reminder(1))
    await sqlite.aclose()
    take_away(Path(sqlite_url.removeprefix("sqlite:///")))

    reply = await service.post("/v1/reminders", json=reminder(2))

    assert (reply.status_code, reply.json()["code"]) == (503, "store_unavailable")
    assert reply.headers["retry-after"] == "5"


# Cancel.


async def test_a_waiting_reminder_can_be_cancelled_again_and_again(sqlite, service):
    name = await accepted(service, reminder())

    replies = [
        await service.post(f"/v1/reminders/{name}/cancel", json={"reason": "a mistake"}) for _ in range(2)
    ]

    row = await kept(sqlite, name)
    assert [r.status_code for r in replies] == [200, 200]
    assert replies[0].content == replies[1].content
    assert (row.state, row.next_at) == ("cancelled", None)
    assert len(await rows(sqlite, "record", "kind = 'cancelled'")) == 1


@pytest.mark.parametrize("state", ["sending", "sent", "delivered", "read", "failed", "unknown"])
async def test_what_was_called_cannot_be_cancelled(sqlite, service, state):
    name = await accepted(service, reminder())
    async with sqlite.write() as conn:
        await conn.exec_driver_sql(f"UPDATE reminder SET state = '{state}', called = 1, next_at = NULL")

    reply = await service.post(f"/v1/reminders/{name}/cancel", json={})

    assert (reply.status_code, reply.json()["code"]) == (409, "too_late")
    assert (await kept(sqlite, name)).state == state


@pytest.mark.parametrize("state", ["deferred", "sending"])
async def test_what_was_not_called_can_be_cancelled(sqlite, service, state):
    name = await accepted(service, reminder())
    async with sqlite.write() as conn:
        await conn.exec_driver_sql(f"UPDATE reminder SET state = '{state}'")

    assert (await service.post(f"/v1/reminders/{name}/cancel")).status_code == 200


async def test_another_tenants_reminder_is_not_there(api, service):
    name = await accepted(service, reminder())
    beta = await api.of(tenant="beta")
    test = await api.of(mode="test")

    for client in (beta, test):
        assert (await client.get(f"/v1/reminders/{name}")).status_code == 404
        assert (await client.post(f"/v1/reminders/{name}/cancel")).status_code == 404
        assert (await client.get("/v1/borrowers/B-1")).status_code == 404
        assert (await client.get("/v1/reminders")).json() == {"items": [], "next": None}
        assert (await client.post("/v1/reminders", json=by_id())).status_code == 422
