"""Every mistake has its place, a stable code, and no word of what was sent."""

import gzip
import json

import pytest
from makers import borrower, by_id, contact, debt, reminder, rows, set_clock

CANARY = "13987654321"


@pytest.fixture
async def there(sqlite, service):
    """Borrower and debt 1 are there, and another borrower's debt."""
    await set_clock(sqlite)
    for number in (1, 2):
        assert (await service.post("/v1/reminders", json=reminder(number))).status_code == 202
    return service


def one_address(**more):
    return {"borrower": borrower(addresses=[{"channel": "sms", "value": "+8613800000001", **more}])}


FAR = "2027-06-01T00:00:00Z"
REMINDERS = [
    # what belongs into a reminder
    ({"borrower": ...}, "/borrower", "missing"),
    ({"debt": ...}, "/debt", "missing"),
    ({"purpose": ...}, "/purpose", "missing"),
    ({"channels": ...}, "/channels", "missing"),
    ({"template": ...}, "/template", "missing"),
    ({"idempotency_key": ...}, "/idempotency_key", "missing"),
    ({"idempotency_key": ""}, "/idempotency_key", "form_invalid"),
    ({"idempotency_key": "a" * 129}, "/idempotency_key", "length_invalid"),
    ({"idempotency_key": CANARY}, "/idempotency_key", "personal_data"),
    ({"colour": "red"}, "/colour", "unknown_key"),
    ({CANARY: 1}, "", "unknown_key"),
    ({"borrower": 7}, "/borrower", "wrong_type"),
    ({"borrower": CANARY}, "/borrower", "personal_data"),
    ({"borrower": "user@example.com"}, "/borrower", "form_invalid"),
    ({"borrower": "a b"}, "/borrower", "form_invalid"),
    ({"borrower": "B" * 65}, "/borrower", "length_invalid"),
    ({"borrower": "B-404"}, "/borrower", "not_found"),
    ({"debt": "L-404"}, "/debt", "not_found"),
    ({"debt": "L-2"}, "/debt", "debt_of_another"),
    ({"channels": []}, "/channels", "length_invalid"),
    ({"channels": ["pigeon"]}, "/channels/0", "channel_unknown"),
    ({"channels": ["sms", "sms"]}, "/channels", "duplicate"),
    ({"channels": "sms"}, "/channels", "wrong_type"),
    ({"purpose": "nagging"}, "/purpose", "purpose_unknown"),
    ({"actor": {"role": "mob", "id": "x"}}, "/actor/role", "word_unknown"),
    ({"actor": {"role": "agency"}}, "/actor/id", "missing"),
    ({"recipient_role": "Debtor"}, "/recipient_role", "form_invalid"),
    ({"template": "nowhere"}, "/template", "template_unknown"),
    ({"facts": {}}, "/facts/pay_url", "fact_missing"),
    ({"facts": {"pay_url": "http://plain.example.com"}}, "/facts/pay_url", "fact_invalid"),
    ({"facts": {"pay_url": "https://x.example.com", "dpd": "3"}}, "/facts", "fact_unknown"),
    ({"facts": {"pay_url": 7}}, "/facts/pay_url", "wrong_type"),
    ({"facts": {CANARY: "x"}}, "/facts", "form_invalid"),
    ({"not_before": "tomorrow"}, "/not_before", "instant_invalid"),
    ({"not_before": "2026-11-25T10:00:00"}, "/not_before", "instant_invalid"),
    ({"not_before": 1795000000}, "/not_before", "instant_invalid"),
    ({"not_before": FAR}, "/not_before", "too_far"),
    ({"expires_at": "2026-11-24T01:59:59Z"}, "/expires_at", "expires_past"),
    ({"expires_at": FAR}, "/expires_at", "too_far"),
    (
        {"not_before": "2026-11-26T00:00:00Z", "expires_at": "2026-11-26T00:00:00Z"},
        "/expires_at",
        "expires_before_start",
    ),
    ({"anchor": {"due": "3", "at": "10:00"}}, "/anchor/due", "form_invalid"),
    ({"anchor": {"due": "-3d", "at": "24:00"}}, "/anchor/at", "form_invalid"),
    ({"anchor": {"due": "-3d"}}, "/anchor/at", "missing"),
    ({"anchor": {"due": "+99d", "at": "10:00"}}, "/anchor", "too_far"),
    ({"priority": "asap"}, "/priority", "word_unknown"),
    ({"repeat": "yes"}, "/repeat", "wrong_type"),
    ({"repeat": 1}, "/repeat", "wrong_type"),
    ({"segment": "a b"}, "/segment", "form_invalid"),
    ({"escalate": [{"after_s": 59, "channel": "voice"}]}, "/escalate/0/after_s", "out_of_range"),
    ({"escalate": [{"after_s": 60, "channel": "fax"}]}, "/escalate/0/channel", "channel_unknown"),
    ({"escalate": [{"after_s": 60, "channel": "voice"}] * 5}, "/escalate", "length_invalid"),
    # the borrower inline
    (one_address(value="13800000001"), "/borrower/addresses/0/value", "phone_impossible"),
    (one_address(value="+86123"), "/borrower/addresses/0/value", "phone_impossible"),
    (one_address(value="+8612345678901"), "/borrower/addresses/0/value", "phone_impossible"),
    (one_address(value="+999123456789"), "/borrower/addresses/0/value", "phone_impossible"),
    (one_address(value="+8613800000001;ext=5"), "/borrower/addresses/0/value", "phone_impossible"),
    (one_address(value="+86138\n00000001"), "/borrower/addresses/0/value", "text_unsafe"),
    (one_address(value=""), "/borrower/addresses/0/value", "length_invalid"),
    (one_address(value=None), "/borrower/addresses/0/value", "wrong_type"),
    (one_address(kind="secret"), "/borrower/addresses/0/kind", "word_unknown"),
    (one_address(channel="telex"), "/borrower/addresses/0/channel", "channel_unknown"),
    (one_address(channel="email", value="a@b"), "/borrower/addresses/0/value", "email_invalid"),
    (one_address(channel="email", value="A <a@b.com>"), "/borrower/addresses/0/value", "email_invalid"),
    (one_address(channel="email", value="a@b.com,c@d.com"), "/borrower/addresses/0/value", "email_invalid"),
    (one_address(channel="wechat", value="not-an-openid"), "/borrower/addresses/0/value", "openid_invalid"),
    ({"borrower": borrower(addresses=borrower()["addresses"] * 2)}, "/borrower/addresses", "duplicate"),
    ({"borrower": borrower(addresses=borrower()["addresses"] * 21)}, "/borrower/addresses", "length_invalid"),
    ({"borrower": borrower(name="")}, "/borrower/name", "length_invalid"),
    ({"borrower": borrower(name="张\n三")}, "/borrower/name", "text_unsafe"),
    ({"borrower": borrower(name="【银行】")}, "/borrower/name", "text_unsafe"),
    ({"borrower": borrower(language="chinese")}, "/borrower/language", "form_invalid"),
    ({"borrower": borrower(residence="XX")}, "/borrower/residence", "place_unknown"),
    ({"borrower": borrower(residence="CN-")}, "/borrower/residence", "place_unknown"),
    (
        {"borrower": borrower(time_zones=[{"zone": "Mars/Olympus"}])},
        "/borrower/time_zones/0/zone",
        "zone_unknown",
    ),
    (
        {"borrower": borrower(policy_facts={"cease_written": "soon"})},
        "/borrower/policy_facts/cease_written",
        "fact_invalid",
    ),
    ({"borrower": borrower(policy_facts={"dpd": 3})}, "/borrower/policy_facts", "fact_reserved"),
    (
        {"borrower": borrower(holds=[{"id": "h1", "reason": f"call {CANARY}", "from": FAR}])},
        "/borrower/holds/0/reason",
        "personal_data",
    ),
    (
        {"borrower": borrower(consents=[{"id": "c1", "kind": "any", "given_at": FAR}])},
        "/borrower/consents/0/kind",
        "word_unknown",
    ),
    ({"borrower": borrower(opt_outs=[{"channel": "sms"}])}, "/borrower/opt_outs/0/at", "missing"),
    # the debt inline
    ({"debt": {"id": "L-9", "creditor": "acme"}}, "/debt/due_date", "missing"),
    ({"debt": debt(due_date="30.11.2026")}, "/debt/due_date", "date_invalid"),
    ({"debt": debt(due_date="2026-02-30")}, "/debt/due_date", "date_invalid"),
    ({"debt": debt(creditor=None)}, "/debt/creditor", "null_refused"),
    ({"debt": debt(balance={"amount": 12.5, "currency": "CNY"})}, "/debt/balance/amount", "amount_invalid"),
    ({"debt": debt(balance={"amount": "-1", "currency": "CNY"})}, "/debt/balance/amount", "amount_invalid"),
    (
        {"debt": debt(balance={"amount": "1", "currency": "XXX"})},
        "/debt/balance/currency",
        "currency_unknown",
    ),
    ({"debt": debt(state="lost")}, "/debt/state", "word_unknown"),
    ({"debt": debt(state_at="2026-11-24T02:06:00Z")}, "/debt/state_at", "in_future"),
    ({"debt": debt(borrower="B-2")}, "/debt/borrower", "debt_of_another"),
]
SPECIAL = {"template_unknown", "fact_missing"}


def spoiled(body, change):
    body = {**body, "idempotency_key": "spoiled", **change}
    return {name: value for name, value in body.items() if value is not ...}


async def test_each_mistake_of_a_reminder_is_told_at_its_place_and_spoils_no_other(sqlite, there):
    bodies = [spoiled(by_id(), change) for change, _, _ in REMINDERS] + [by_id(idempotency_key="good")]

    reply = await there.post("/v1/reminders/batch", json={"items": bodies})

    results = reply.json()["results"]
    assert [result["index"] for result in results] == list(range(len(bodies)))
    assert results[-1]["status"] == 202
    told = [
        (change, at, code, result)
        for (change, at, code), result in zip(REMINDERS, results, strict=False)
        if not _says(result, at, code)
    ]
    assert told == []
    assert CANARY not in reply.text
    assert len(await rows(sqlite, "reminder")) == 3


def _says(result, at, code):
    problem = result["error"]
    return (
        result["status"] == problem["status"] == 422
        and (at, code) in [(fault["at"], fault["code"]) for fault in problem["errors"]]
        and all(fault["message"] for fault in problem["errors"])
        and problem["code"] == (code if code in SPECIAL else "invalid_request")
    )


async def test_a_single_reminder_with_a_mistake_gets_a_problem_document(there):
    for change, at, code in (REMINDERS[0], REMINDERS[9], REMINDERS[27], REMINDERS[28]):
        reply = await there.post("/v1/reminders", json=spoiled(by_id(), change))

        problem = reply.json()
        assert reply.status_code == 422
        assert reply.headers["content-type"] == "application/problem+json"
        assert problem["errors"][0]["at"] == at
        assert problem["code"] == (code if code in SPECIAL else "invalid_request")
        assert problem["type"] == f"/docs/errors#{problem['code']}"
        assert problem["request_id"] == reply.headers["x-request-id"]


OTHERS = [
    ("PUT", "/v1/borrowers/B-1", {"id": "B-2"}, "/id", "id_differs"),
    ("PUT", "/v1/borrowers/a%20b", {}, "/id", "form_invalid"),
    ("PUT", "/v1/borrowers/B-1", {"addresses": "none"}, "/addresses", "wrong_type"),
    ("PUT", "/v1/borrowers/B-1", [], "", "wrong_type"),
    ("PUT", "/v1/debts/L-1", {"borrower": "B-404"}, "/borrower", "not_found"),
    ("PUT", "/v1/debts/L-9", {}, "/due_date", "missing"),
    ("PUT", "/v1/debts/L-1", {"due_date": None}, "/due_date", "null_refused"),
    ("POST", "/v1/debts/L-1/events", {"idempotency_key": "e", "type": "lost"}, "/type", "word_unknown"),
    ("POST", "/v1/debts/L-1/events", {"type": "paid"}, "/idempotency_key", "missing"),
    ("POST", "/v1/debts/L-1/events", {"idempotency_key": "e", "type": "promised"}, "", "until_needed"),
    (
        "POST",
        "/v1/debts/L-1/events",
        {"idempotency_key": "e", "type": "paid", "until": "2026-12-01"},
        *("", "until_needed"),
    ),
    (
        "POST",
        "/v1/debts/L-1/events",
        {"idempotency_key": "e", "type": "disputed", "amount": {"amount": "1", "currency": "CNY"}},
        *("", "amount_unwanted"),
    ),
    (
        "POST",
        "/v1/debts/L-1/events",
        {"idempotency_key": "e", "type": "paid", "amount": {"amount": "1", "currency": "USD"}},
        *("/amount/currency", "currency_differs"),
    ),
    (
        "POST",
        "/v1/debts/L-1/events",
        {"idempotency_key": "e", "type": "paid", "at": "2026-11-24T02:06:00Z"},
        *("/at", "in_future"),
    ),
    (
        "POST",
        "/v1/debts/L-1/events",
        {"idempotency_key": "e", "type": "paid", "reason": f"ask {CANARY}"},
        *("/reason", "personal_data"),
    ),
    ("POST", "/v1/contacts", contact(outcome="ghosted"), "/outcome", "word_unknown"),
    ("POST", "/v1/contacts", contact(channel="smoke"), "/channel", "channel_unknown"),
    ("POST", "/v1/contacts", contact(borrower="B-404"), "/borrower", "not_found"),
    ("POST", "/v1/contacts", contact(debt="L-404"), "/debt", "not_found"),
    ("POST", "/v1/contacts", contact(debt="L-2"), "/debt", "debt_of_another"),
    ("POST", "/v1/contacts", contact(at="2026-11-24T02:06:00Z"), "/at", "in_future"),
    ("POST", "/v1/contacts", contact(address="12"), "/address", "phone_impossible"),
    ("POST", "/v1/contacts", contact(reservation="rs_none"), "/reservation", "reservation_unknown"),
    ("POST", "/v1/contacts/check", {"borrower": "B-1"}, "/purpose", "missing"),
    ("POST", "/v1/reminders/rm_1/cancel", {"reason": 7}, "/reason", "wrong_type"),
    ("POST", "/v1/reminders/batch", {"items": {}}, "/items", "wrong_type"),
    ("POST", "/v1/reminders/batch", {"items": []}, "/items", "length_invalid"),
    ("POST", "/v1/reminders/batch", {"items": [1], "more": 1}, "", "unknown_key"),
    ("POST", "/v1/reminders/batch", [], "/items", "wrong_type"),
]


async def test_each_mistake_in_another_body_is_told_at_its_place(there):
    wrong = []
    for method, path, body, at, code in OTHERS:
        reply = await there.request(method, path, json=body)
        found = [(fault["at"], fault["code"]) for fault in reply.json().get("errors", ())]
        if reply.status_code != 422 or (at, code) not in found or CANARY in reply.text:
            wrong.append((path, body, reply.status_code, found))

    assert wrong == []


async def test_every_mistake_is_told_at_once(there):
    body = spoiled(by_id(), {"channels": ["pigeon"], "purpose": "x", "priority": "y", "colour": 1})

    problem = (await there.post("/v1/reminders", json=body)).json()

    found = {fault["at"] for fault in problem["errors"]}
    assert found == {"/channels/0", "/purpose", "/priority", "/colour"}


async def test_a_wrong_template_does_not_hide_a_borrower_that_is_not_there(there):
    body = spoiled(by_id(), {"borrower": "B-404", "template": "nowhere"})

    problem = (await there.post("/v1/reminders", json=body)).json()

    assert {fault["code"] for fault in problem["errors"]} == {"not_found", "template_unknown"}
    assert problem["code"] == "invalid_request"


BODIES = [
    (b"", "malformed_json", 400),
    (b"{", "malformed_json", 400),
    (b"\xff\xfe{}", "malformed_json", 400),
    (b'{"a": NaN}', "malformed_json", 400),
    (b'{"a": 1} trailing', "malformed_json", 400),
    (b"[" * 33 + b"]" * 33, "malformed_json", 400),
    (b"[" * 100_000, "malformed_json", 400),
    (b'"' + b"a" * (256 * 1024) + b'"', "too_large", 413),
]


async def test_what_is_no_json_or_too_much_of_it_is_refused(service):
    replies = [await service.post("/v1/reminders", content=body) for body, _, _ in BODIES]

    told = [(reply.json()["code"], reply.status_code) for reply in replies]
    assert told == [(code, status) for _, code, status in BODIES]


PLAIN = "it is not JSON, a number beyond what a double holds, or nested deeper than 32"
UNREADABLE = [
    (b"", {}, "the body is empty"),
    (b" \n", {}, "the body is empty"),
    (b"\xef\xbb\xbf{}", {}, "leave out the byte order mark"),
    (gzip.compress(b"{}"), {"Content-Encoding": "gzip"}, "Content-Encoding is not taken: send it plain"),
    (b'{"a": "\xff"}', {}, "the body is not UTF-8: look at byte 8"),
    (b'{\n "a": NaN}', {}, f"look at line 2, column 7: {PLAIN}"),
    ('{"欧阳": 1e999}'.encode(), {}, f"look at line 1, column 8: {PLAIN}"),
    (b'{"a": "\\ud800"}', {"Content-Encoding": "identity"}, f"look at line 1, column 8: {PLAIN}"),
]


@pytest.mark.parametrize(("body", "headers", "detail"), UNREADABLE)
async def test_why_a_body_cannot_be_read_is_said_without_a_word_of_it(service, body, headers, detail):
    reply = await service.post("/v1/reminders", content=body, headers=headers)

    assert (reply.status_code, reply.json()["detail"]) == (400, detail)


async def test_json_may_be_32_deep(service):
    reply = await service.post("/v1/reminders", content=b"[" * 32 + b"]" * 32)

    assert reply.status_code == 422


async def test_a_body_without_a_length_is_refused_once_it_is_too_long(service):
    seen = 0

    async def endless():
        nonlocal seen
        while seen < 1000:
            seen += 1
            yield b"a" * 8192

    reply = await service.post("/v1/reminders", content=endless())

    assert reply.status_code == 413
    assert seen < 40


async def test_a_batch_over_its_bounds_is_refused_whole(service):
    items = {"items": [{}] * 1001}

    assert (await service.post("/v1/reminders/batch", json=items)).status_code == 413
    assert (
        await service.post("/v1/reminders/batch", content=b" " * (4 * 1024 * 1024 + 1))
    ).status_code == 413


async def test_unapproved_and_unbound_templates_are_refused_by_name(sqlite, there, catalog, bindings):
    template = catalog.get("pre_due")
    bindings.unbound.add(("pre_due", "wechat"))
    unbound = (await there.post("/v1/reminders", json=spoiled(by_id(), {}))).json()
    bindings.unbound.clear()
    async with sqlite.write() as conn:
        await conn.exec_driver_sql(
            "INSERT INTO template_approval VALUES (?, ?, ?, ?, 0, 0, 'c')",
            ("acme/live", "pre_due", template.version, template.content_hash),
        )
    unapproved = (await there.post("/v1/reminders", json=spoiled(by_id(), {}))).json()

    assert (unbound["code"], unbound["errors"][0]["at"]) == ("template_unbound", "/channels/0")
    assert (unapproved["code"], unapproved["errors"][0]["at"]) == ("template_unapproved", "/template")


async def test_a_header_and_a_body_that_name_different_keys_are_refused(there):
    reply = await there.post(
        "/v1/reminders", json=by_id(idempotency_key="one"), headers={"Idempotency-Key": "two"}
    )

    assert reply.json()["errors"][0]["code"] == "key_differs"


async def test_a_query_with_a_mistake_is_refused(service):
    for query in ("limit=0", "limit=501", "limit=x", "state=gone", "from=now", "page=2"):
        reply = await service.get(f"/v1/reminders?{query}")
        assert reply.status_code == 422, query
        assert reply.json()["errors"], query


async def test_a_place_that_no_page_gave_is_refused(service):
    for after in ("x", "bnVsbA", "WyIxIiwiYSJd", "W10", "%00", "WzFd"):
        reply = await service.get(f"/v1/reminders?after={after}")
        assert (reply.status_code, reply.json()["errors"][0]["at"]) == (422, "/after"), after


async def test_what_is_not_there_is_not_found(service):
    for path in ("reminders/rm_none", "reminders/%00", "reminders/none/explain", "borrowers/B-404"):
        reply = await service.get(f"/v1/{path}")
        assert (reply.status_code, reply.json()["code"]) == (404, "not_found"), path


async def test_an_event_of_a_debt_that_is_not_there_is_not_found(service):
    body = {"idempotency_key": "e", "type": "paid"}

    assert (await service.post("/v1/debts/L-404/events", json=body)).status_code == 404
    assert (await service.post("/v1/debts/L%00/events", json=body)).status_code == 404


def test_there_are_enough_rows():
    assert len(REMINDERS) + len(OTHERS) > 110
    assert len({json.dumps(row[0], default=str) for row in REMINDERS}) == len(REMINDERS)
