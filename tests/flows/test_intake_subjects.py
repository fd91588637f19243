"""Borrowers and debts: what a PUT replaces and what it never takes away; what events stop; contacts."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from makers import NOW, borrower, by_id, contact, debt, phone, reminder, rows, set_clock
from sqlalchemy import insert, update

from gateway.domain import from_us
from gateway.store import schema


@pytest.fixture(autouse=True)
async def ten_in_shanghai(sqlite):
    await set_clock(sqlite)


async def put(client, path, body, status=200):
    reply = await client.put(path, json=body)
    assert reply.status_code == status, reply.text
    return reply.json()


async def profile(sqlite):
    (row,) = await rows(sqlite, "borrower")
    return json.loads(row.profile)


async def revision(sqlite, table="borrower"):
    (row,) = await rows(sqlite, table)
    return row.revision


FULL = {
    **borrower(residence="CN-GD", policy_facts={"cease_written": "2026-11-10"}),
    "consents": [{"id": "c1", "kind": "contact", "channel": "sms", "given_at": "2026-01-01T00:00:00Z"}],
    "opt_outs": [{"channel": "email", "at": "2026-02-01T00:00:00Z"}],
    "holds": [{"id": "h1", "reason": "attorney", "from": "2026-03-01T00:00:00Z"}],
}


async def test_a_put_replaces_what_it_carries_and_leaves_the_rest(sqlite, service):
    await put(service, "/v1/borrowers/B-1", FULL)
    before = await profile(sqlite)

    answer = await put(service, "/v1/borrowers/B-1", {"language": "en", "time_zones": None})

    after = await profile(sqlite)
    assert answer == {"id": "B-1", "updated_at": answer["updated_at"]}
    assert after.pop("language") == "en"
    assert after == {k: v for k, v in before.items() if k not in ("language", "time_zones")}
    assert len(await rows(sqlite, "address")) == 1


async def test_the_name_stays_when_only_the_id_number_comes(service):
    await put(service, "/v1/borrowers/B-1", {"name": "李四"})
    await put(service, "/v1/borrowers/B-1", {"national_id": "11010519491231002X"})

    shown = (await service.get("/v1/borrowers/B-1")).json()
    assert (shown["name"], shown["national_id"]) == ("李*", "1****************X")


async def test_a_null_takes_a_name_away(service):
    await put(service, "/v1/borrowers/B-1", {"name": "李四"})
    await put(service, "/v1/borrowers/B-1", {"name": None})

    assert (await service.get("/v1/borrowers/B-1")).json()["name"] is None


@pytest.mark.parametrize("wipe", [[], None])
async def test_consents_opt_outs_and_holds_are_never_wiped(sqlite, service, wipe):
    await put(service, "/v1/borrowers/B-1", FULL)
    before = await profile(sqlite)

    await put(service, "/v1/borrowers/B-1", {"consents": wipe, "opt_outs": wipe, "holds": wipe})

    assert await profile(sqlite) == before


async def test_they_are_added_to(sqlite, service):
    await put(service, "/v1/borrowers/B-1", FULL)
    more = {
        "consents": [
            {"id": "c2", "kind": "relax", "rules": ["US.REGF.window"], "given_at": "2026-04-01T00:00:00Z"}
        ],
        "opt_outs": [{"channel": "all", "at": "2026-04-01T00:00:00Z"}],
        "holds": [{"id": "h2", "reason": "complaint", "from": "2026-04-01T00:00:00Z"}],
    }

    await put(service, "/v1/borrowers/B-1", more)
    await put(service, "/v1/borrowers/B-1", more)

    after = await profile(sqlite)
    assert [len(after[kind]) for kind in ("consents", "opt_outs", "holds")] == [2, 2, 2]


async def test_a_consent_can_only_be_ended_and_only_sooner(sqlite, service):
    await put(service, "/v1/borrowers/B-1", FULL)
    revoked = {**FULL["consents"][0], "rules": ["X"], "revoked_at": "2026-05-01T00:00:00Z"}
    await put(service, "/v1/borrowers/B-1", {"consents": [revoked]})
    await put(service, "/v1/borrowers/B-1", {"consents": [{**revoked, "revoked_at": "2026-06-01T00:00:00Z"}]})
    await put(service, "/v1/borrowers/B-1", {"consents": FULL["consents"]})

    (consent,) = (await profile(sqlite))["consents"]
    assert consent["revoked_at"] == "2026-05-01T00:00:00Z"
    assert consent["rules"] == []


async def test_a_hold_is_ended_by_its_id(sqlite, service):
    await put(service, "/v1/borrowers/B-1", FULL)

    ended = {**FULL["holds"][0], "reason": "settled", "until": "2026-12-01T00:00:00Z"}
    await put(service, "/v1/borrowers/B-1", {"holds": [ended]})

    (hold,) = (await profile(sqlite))["holds"]
    assert (hold["reason"], hold["until"]) == ("attorney", "2026-12-01T00:00:00Z")


async def test_there_is_a_bound_to_what_is_kept(service):
    for part in range(10):
        opt_outs = [
            {"channel": "sms", "at": f"2026-01-{part + 1:02}T00:{minute:02}:00Z"} for minute in range(20)
        ]
        await put(service, "/v1/borrowers/B-1", {"opt_outs": opt_outs})

    answer = await put(
        service, "/v1/borrowers/B-1", {"opt_outs": [{"channel": "sms", "at": "2026-02-01T00:00:00Z"}]}, 422
    )

    assert (answer["errors"][0]["at"], answer["errors"][0]["code"]) == ("/opt_outs", "too_many")


async def test_addresses_are_replaced_and_what_is_dead_stays_dead(sqlite, service):
    two = [{"channel": "sms", "value": phone(1)}, {"channel": "email", "value": "A.b@Example.com"}]
    await put(service, "/v1/borrowers/B-1", {"addresses": two})
    async with sqlite.write() as conn:
        await conn.exec_driver_sql("UPDATE address SET dead_at = 1 WHERE channel = 'sms'")
    sealed = {row.channel: row.value_enc for row in await rows(sqlite, "address")}

    await put(
        service,
        "/v1/borrowers/B-1",
        {"addresses": [{"channel": "voice", "value": phone(2)}, {**two[0], "kind": "home"}]},
    )

    found = {row.channel: row for row in await rows(sqlite, "address")}
    assert set(found) == {"voice", "sms"}
    assert (found["voice"].position, found["sms"].position) == (0, 1)
    assert (found["sms"].dead_at, found["sms"].kind) == (1, "home")
    assert found["sms"].value_enc == sealed["sms"]
    assert (found["voice"].country, found["voice"].zones) == (
        "CN",
        '{"quality":"country","zones":["Asia/Shanghai"]}',
    )


async def test_a_put_that_changes_nothing_raises_no_revision_and_writes_no_record(sqlite, service):
    await put(service, "/v1/borrowers/B-1", FULL)
    records = len(await rows(sqlite, "record"))

    await put(service, "/v1/borrowers/B-1", FULL)

    assert await revision(sqlite) == 1
    assert len(await rows(sqlite, "record")) == records


async def test_every_change_raises_the_revision(sqlite, service):
    await put(service, "/v1/borrowers/B-1", FULL)
    for change in (
        {"name": "王五"},
        {"residence": "CN-BJ"},
        {"opt_outs": [{"channel": "sms", "at": "2026-02-01T00:00:00Z"}]},
        {"addresses": []},
    ):
        await put(service, "/v1/borrowers/B-1", change)

    assert await revision(sqlite) == 5


async def test_a_borrower_is_shown_behind_masks(service):
    body = {
        **FULL,
        "name": "欧阳若兰",
        "addresses": [
            *FULL["addresses"],
            {"channel": "email", "value": "lan@example.com"},
            {"channel": "wechat", "value": "o" * 28},
        ],
    }
    await put(service, "/v1/borrowers/B-1", body)

    reply = await service.get("/v1/borrowers/B-1")

    shown = reply.json()
    assert shown["name"] == "欧阳**"
    assert [a["value"] for a in shown["addresses"]] == ["138****0001", "l***@example.com", "oooo***oo"]
    assert shown["holds"][0]["reason"] == "attorney"
    for clear in ("若兰", phone(1), "lan@"):
        assert clear not in reply.text


@pytest.mark.parametrize(
    ("reason", "said", "anew"),
    [
        ("zone_unknown", {"residence": "CN-GD"}, True),
        ("OP.PERSON.TIMES", {}, False),
        ("OP.PERSON.TIMES", {"policy_facts": {"vulnerable": False}}, True),
        ("review", {"policy_facts": {"vulnerable": False}}, True),
        ("quota", {"policy_facts": {"vulnerable": False}}, False),
    ],
)
async def test_a_deferred_reminder_is_looked_at_anew_when_what_it_waits_for_may_be_over(
    sqlite, service, bell, reason, said, anew
):
    await service.post("/v1/reminders", json=reminder())
    async with sqlite.write() as conn:
        await conn.exec_driver_sql(
            f"UPDATE reminder SET state = 'deferred', reason = '{reason}', next_at = next_at + 900000000"
        )
    bell.rung.clear()

    await put(service, "/v1/borrowers/B-1", said)

    (row,) = await rows(sqlite, "reminder")
    assert (abs(from_us(row.next_at) - NOW) < timedelta(seconds=20)) is anew
    assert bell.rung == [row.channel] * anew


# Debts.


@pytest.fixture
async def there(service):
    reply = await service.post("/v1/reminders", json=reminder())
    assert reply.status_code == 202
    return reply.json()["id"]


async def test_a_debt_is_put_like_a_borrower(sqlite, service, there):
    await put(service, "/v1/debts/L-1", {"product": "card", "policy_facts": {"notice_sent": "2026-11-01"}})
    await put(service, "/v1/debts/L-1", {"portfolio": "north"})

    (row,) = await rows(sqlite, "debt")
    assert (row.product, row.portfolio, row.due_date, row.amount) == (
        "card",
        "north",
        "2026-11-30",
        "1280.50",
    )
    assert json.loads(row.policy_facts) == {"notice_sent": "2026-11-01"}
    assert row.revision == 3


async def test_a_state_that_is_only_confirmed_raises_no_revision(sqlite, service, there):
    await put(service, "/v1/debts/L-1", {"state": "open", "state_at": "2026-11-24T02:00:01Z"})

    (row,) = await rows(sqlite, "debt")
    assert row.revision == 1
    assert from_us(row.state_at) == datetime(2026, 11, 24, 2, 0, 1, tzinfo=UTC)


async def test_a_state_of_yesterday_does_not_undo_one_of_today(sqlite, service, there):
    await service.post("/v1/debts/L-1/events", json={"idempotency_key": "e", "type": "paid"})

    await put(service, "/v1/debts/L-1", {"state": "open", "state_at": "2026-11-23T00:00:00Z"})

    assert [row.state for row in await rows(sqlite, "debt")] == ["paid"]


async def happen(service, **event):
    reply = await service.post("/v1/debts/L-1/events", json={"idempotency_key": "e", **event})
    assert reply.status_code == 200, reply.text
    return reply.json()


@pytest.mark.parametrize(("kind", "state"), [("paid", "paid"), ("disputed", "disputed")])
async def test_paid_and_disputed_stop_what_waits_and_make_it_due(sqlite, service, there, bell, kind, state):
    later = await service.post(
        "/v1/reminders", json=by_id(idempotency_key="b", not_before="2026-11-25T00:00:00Z")
    )
    bell.rung.clear()

    answer = await happen(service, type=kind)

    assert answer["state"] == state
    assert answer["stopped"] == sorted([there, later.json()["id"]])
    assert answer["too_late"] == []
    for row in await rows(sqlite, "reminder"):
        assert abs(from_us(row.next_at) - NOW) < timedelta(seconds=20)
    assert len(bell.rung) == 1
    assert len(await rows(sqlite, "debt_event")) == 1


async def test_what_is_with_the_provider_is_told_as_too_late(sqlite, service, there):
    second = (await service.post("/v1/reminders", json=by_id(idempotency_key="b"))).json()["id"]
    calling = {
        "tenant": "acme/live",
        "ref": "at_1",
        "started_at": 1,
        "reminder": there,
        "origin": "gateway",
        "person": "p",
        "borrower": "B-1",
        "debt": "L-1",
        "creditor": "acme",
        "channel": "sms",
        "recipient_role": "debtor",
        "actor_role": "creditor",
        "flags": "[]",
        "state": "calling",
    }
    sent = {"state": "sending", "called": True, "attempt": "at_1", "next_at": None}
    async with sqlite.write() as conn:
        await conn.execute(update(schema.reminder).where(schema.reminder.c.id == there).values(sent))
        await conn.execute(insert(schema.attempt).values(calling))

    answer = await happen(service, type="paid")

    assert (answer["stopped"], answer["too_late"]) == ([second], [there])


async def test_one_claimed_and_not_called_is_stopped(sqlite, service, there):
    async with sqlite.write() as conn:
        await conn.exec_driver_sql("UPDATE reminder SET state = 'sending', next_at = NULL")

    assert (await happen(service, type="paid"))["stopped"] == [there]


async def test_a_part_payment_lowers_the_balance_and_stops_nothing(sqlite, service, there):
    answer = await happen(service, type="paid", amount={"amount": "280.50", "currency": "CNY"})

    (row,) = await rows(sqlite, "debt")
    assert (answer["state"], answer["stopped"]) == ("open", [])
    assert (row.amount, row.state, row.revision) == ("1000.00", "open", 2)


async def test_the_rest_of_it_pays_the_debt(sqlite, service, there):
    await happen(service, type="paid", amount={"amount": "280.50", "currency": "CNY"})

    answer = await happen(
        service, idempotency_key="rest", type="paid", amount={"amount": "1000.00", "currency": "CNY"}
    )

    assert (answer["state"], answer["stopped"]) == ("paid", [there])
    assert [row.amount for row in await rows(sqlite, "debt")] == ["0.00"]


async def test_a_promise_has_its_date_and_reopening_forgets_it(sqlite, service, there):
    await happen(service, type="promised", until="2026-12-05")
    (promised,) = await rows(sqlite, "debt")
    await happen(service, idempotency_key="again", type="reopened", reason="not kept")
    (reopened,) = await rows(sqlite, "debt")

    assert (promised.state, promised.until) == ("promised", "2026-12-05")
    assert (reopened.state, reopened.until) == ("open", None)


async def test_reopening_makes_due_what_the_debt_held_back(sqlite, service, there):
    await happen(service, type="hardship")
    async with sqlite.write() as conn:
        await conn.exec_driver_sql(
            "UPDATE reminder SET state = 'deferred', reason = 'debt_hardship', next_at = next_at + 900000000"
        )

    await happen(service, idempotency_key="again", type="reopened")

    (row,) = await rows(sqlite, "reminder")
    assert abs(from_us(row.next_at) - NOW) < timedelta(seconds=20)


async def test_an_old_reopening_does_not_undo_a_newer_payment(sqlite, service, there):
    await happen(service, type="paid")

    answer = await happen(service, idempotency_key="old", type="reopened", at="2026-11-20T00:00:00Z")

    assert answer["state"] == "paid"


async def test_an_old_payment_counts_all_the_same(service, there):
    assert (await happen(service, type="paid", at="2026-11-20T00:00:00Z"))["state"] == "paid"


async def test_an_event_is_taken_once_and_answered_to_the_byte(sqlite, service, there):
    event = {"idempotency_key": "e", "type": "paid", "amount": {"amount": "280.50", "currency": "CNY"}}
    replies = [await service.post("/v1/debts/L-1/events", json=event) for _ in range(2)]
    batch = await service.post("/v1/debts/events/batch", json={"items": [{"debt": "L-1", **event}]})

    assert replies[0].content == replies[1].content
    assert batch.json()["results"][0]["body"] == replies[0].json()
    assert [row.amount for row in await rows(sqlite, "debt")] == ["1000.00"]


async def test_events_of_one_debt_in_a_batch_add_up(sqlite, service, there):
    part = {"debt": "L-1", "type": "paid", "amount": {"amount": "640.25", "currency": "CNY"}}
    items = [
        {**part, "idempotency_key": "1"},
        {**part, "idempotency_key": "2"},
        {**part, "debt": "L-9", "idempotency_key": "3"},
    ]

    results = (await service.post("/v1/debts/events/batch", json={"items": items})).json()["results"]

    assert [r["status"] for r in results] == [200, 200, 422]
    assert [r["body"]["state"] for r in results[:2]] == ["open", "paid"]
    assert results[2]["error"]["errors"][0]["at"] == "/debt"


async def test_why_is_kept_and_not_in_the_record(sqlite, service, there):
    await happen(service, type="disputed", reason="not my debt")

    (record,) = await rows(sqlite, "record", "kind = 'debt' AND state = 'disputed'")
    assert [row.reason for row in await rows(sqlite, "debt_event")] == ["not my debt"]
    assert b"not my debt" not in record.leaf


async def test_a_batch_of_debts_gives_each_its_result(sqlite, service, there):
    items = [debt(5, borrower="B-1"), debt(6, borrower="B-404"), debt(7), debt(1, product="card")]

    results = (await service.post("/v1/debts/batch", json={"items": items})).json()["results"]

    assert [r["status"] for r in results] == [200, 422, 422, 200]
    assert {row.id for row in await rows(sqlite, "debt")} == {"L-1", "L-5"}


# Contacts.


async def test_a_contact_is_an_attempt_that_is_final(sqlite, service, there):
    reply = await service.post("/v1/contacts", json=contact(address=phone(1), flags=["prior_consent_7d"]))

    assert reply.status_code == 201
    (row,) = await rows(sqlite, "attempt")
    (address,) = await rows(sqlite, "address")
    (kept,) = await rows(sqlite, "borrower")
    assert reply.json() == {"id": row.ref}
    assert (row.origin, row.state, row.channel, row.person) == (
        "contact",
        "conversation",
        "voice",
        kept.person,
    )
    assert row.started_at == row.final_at == row.ended_at
    assert row.address == address.blind.hex()
    assert json.loads(row.flags) == ["prior_consent_7d"]


async def test_what_the_borrower_began_is_flagged_inbound(sqlite, service, there):
    await service.post("/v1/contacts", json=contact(direction="inbound", flags=["inbound"]))

    assert [json.loads(row.flags) for row in await rows(sqlite, "attempt")] == [["inbound"]]


async def reserve(sqlite, borrower):
    kept = {
        "tenant": "acme/live",
        "id": "rs_1",
        "person": "p",
        "borrower": borrower,
        "debt": "L-1",
        "creditor": "acme",
        "channel": "voice",
        "recipient_role": "debtor",
        "at": 1,
        "until": 2,
    }
    async with sqlite.write() as conn:
        await conn.execute(insert(schema.reservation).values(kept))


async def test_a_reservation_is_used_up_by_the_contact_that_names_it(sqlite, service, there):
    await reserve(sqlite, "B-1")
    items = [contact(1, reservation="rs_1"), contact(1, idempotency_key="b", reservation="rs_1")]

    results = (await service.post("/v1/contacts/batch", json={"items": items})).json()["results"]
    again = await service.post("/v1/contacts", json=contact(idempotency_key="c", reservation="rs_1"))

    assert [r["status"] for r in results] == [201, 422]
    assert again.json()["errors"][0]["code"] == "reservation_unknown"
    assert [row.used_at is not None for row in await rows(sqlite, "reservation")] == [True]
    assert len(await rows(sqlite, "attempt")) == 1


async def test_another_borrowers_reservation_cannot_be_named(sqlite, service, there):
    await reserve(sqlite, "B-2")

    reply = await service.post("/v1/contacts", json=contact(reservation="rs_1"))

    assert reply.json()["errors"][0]["code"] == "reservation_unknown"
