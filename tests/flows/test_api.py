"""The doors of the API: keys, roles, tenants, lists, what operators set up, what is said of it."""

import json
import re
import sys
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path

import pytest
from makers import by_id, phone, reminder, rows, set_clock
from pydantic import BaseModel

import gateway
from gateway import bodies, telemetry
from gateway.api import examples, problems
from gateway.api.app import routes
from gateway.api.schema import roles_of
from gateway.domain import Account, Channel, Mode
from gateway.errors import GatewayError
from gateway.ports import Answer
from gateway.store.keys import EVERY, Role

ROLES = {
    ("POST", "/v1/reminders"): "service",
    ("POST", "/v1/reminders/batch"): "service",
    ("POST", "/v1/reminders/preview"): "service ops compliance compliance-approver",
    ("GET", "/v1/reminders"): "service ops compliance compliance-approver",
    ("GET", "/v1/reminders/{id}"): "service ops compliance compliance-approver",
    ("POST", "/v1/reminders/{id}/cancel"): "service ops",
    ("GET", "/v1/reminders/{id}/explain"): "service ops compliance compliance-approver",
    ("PUT", "/v1/borrowers/{id}"): "service",
    ("POST", "/v1/borrowers/batch"): "service",
    ("GET", "/v1/borrowers/{id}"): "service ops compliance compliance-approver",
    ("PUT", "/v1/debts/{id}"): "service",
    ("POST", "/v1/debts/batch"): "service",
    ("POST", "/v1/debts/{id}/events"): "service",
    ("POST", "/v1/debts/events/batch"): "service",
    ("POST", "/v1/contacts"): "service",
    ("POST", "/v1/contacts/batch"): "service",
    ("POST", "/v1/contacts/check"): "service",
    ("GET", "/v1/stats"): "service ops compliance compliance-approver",
    ("GET", "/v1/top"): "ops",
    ("GET", "/v1/log"): "ops compliance compliance-approver",
    ("POST", "/v1/tenants"): "",
    ("GET", "/v1/tenants"): "",
    ("PUT", "/v1/tenants/{name}"): "",
    ("POST", "/v1/apikeys"): "",
    ("GET", "/v1/apikeys"): "",
    ("POST", "/v1/apikeys/{id}/revoke"): "",
    ("GET", "/v1/accounts"): "ops compliance compliance-approver",
    ("POST", "/v1/accounts"): "ops",
    ("POST", "/v1/accounts/{id}/check"): "ops",
    ("GET", "/v1/caps"): "service ops compliance compliance-approver",
    ("PUT", "/v1/caps"): "compliance compliance-approver",
    ("GET", "/v1/quotas"): "ops",
    ("GET", "/v1/quotas/{name}"): "ops",
    ("GET", "/v1/quotas/{name}/history"): "ops",
    ("PUT", "/v1/quotas/{name}"): "ops",
    ("POST", "/v1/quotas/{name}/delete"): "ops",
    ("POST", "/v1/quotas/plan"): "ops",
    ("POST", "/v1/pauses"): "ops compliance",
    ("GET", "/v1/pauses"): "ops compliance",
    ("GET", "/v1/pauses/{id}"): "ops compliance",
    ("GET", "/v1/pauses/{id}/reminders"): "ops compliance",
    ("POST", "/v1/pauses/{id}/resume"): "ops compliance",
    ("POST", "/v1/reminders/replay"): "ops",
    ("GET", "/v1/workers"): "ops",
    ("POST", "/v1/workers/quiet"): "ops",
    ("GET", "/v1/unknowns"): "ops compliance compliance-approver",
    ("POST", "/v1/unknowns/{id}/settle"): "ops compliance compliance-approver",
    ("GET", "/v1/policies"): "ops compliance compliance-approver",
    ("GET", "/v1/policies/{portfolio}/history"): "ops compliance compliance-approver",
    ("PUT", "/v1/policies/{portfolio}"): "compliance compliance-approver",
    ("GET", "/v1/audit/check"): "compliance compliance-approver",
    ("POST", "/v1/policy/simulate"): "ops compliance compliance-approver",
    ("GET", "/v1/clock"): "service ops compliance compliance-approver",
    ("POST", "/v1/clock"): "ops",
}
OPEN = {"/cb/{adapter}/{account}/{ref}", "/livez", "/readyz", "/metrics", "/docs/errors"}
WHOLE = {("POST", "/v1/tenants"), ("GET", "/v1/workers"), ("POST", "/v1/workers/quiet")}
"""For keys of the whole deployment only."""


def test_every_route_is_in_the_matrix_or_open():
    found = {(method, route.path) for route in routes() for method in route.methods if route.path not in OPEN}

    assert found == set(ROLES)


def test_every_route_says_the_roles_of_the_matrix():
    said = {(method, route.path): roles_of(route) for route in routes() for method in route.methods}

    for at, roles in ROLES.items():
        assert said[at] == {*roles.split(), "admin"}, at


@pytest.mark.parametrize("role", Role)
async def test_a_role_passes_where_the_matrix_says_and_nowhere_else(api, role):
    client = await api.of(role)
    wrong = []
    for (method, path), roles in ROLES.items():
        reply = await client.request(method, path.replace("{id}", "nobody"), json={})
        passes = role in (*roles.split(), "admin")
        if (reply.status_code == 403) is passes and (method, path) not in WHOLE:
            wrong.append((method, path, reply.status_code))

    assert wrong == []


async def test_without_a_key_or_with_a_wrong_one_no_route_opens(api):
    good = await api.key()
    spoiled = good[:-1] + ("a" if good[-1] != "a" else "b")
    for client, code in (
        (api.bare(), "key_missing"),
        (api.bare("gw_live_x"), "key_wrong"),
        (api.bare(spoiled), "key_wrong"),
    ):
        async with client:
            for method, path in ROLES:
                reply = await client.request(method, path.replace("{id}", "nobody"), json={})
                assert (reply.status_code, reply.json()["code"]) == (401, code), path
                assert reply.headers["www-authenticate"] == "Bearer"
                assert good[8:] not in reply.text


async def test_a_header_of_another_form_is_no_key(api):
    async with api.bare() as client:
        for header in ("", "Basic abc", "Bearer", "Bearer ", "bearer gw_live_"):
            assert (await client.get("/v1/stats", headers={"Authorization": header})).status_code == 401


async def test_a_key_of_the_test_mode_opens_the_test_world_only(api, sqlite):
    client = await api.of(mode="test")

    await client.post("/v1/reminders", json=reminder())

    assert {row.tenant for row in await rows(sqlite, "reminder")} == {"acme/test"}


# The deployment's own keys.


async def test_a_key_of_the_deployment_names_the_tenant_it_acts_for(api, sqlite):
    await api.of(tenant="acme")
    whole = await api.of("admin", tenant=EVERY)

    reply = await whole.post("/v1/reminders", json=reminder(), headers={"Gateway-Tenant": "beta"})

    assert reply.status_code == 202
    assert {row.tenant for row in await rows(sqlite, "reminder")} == {"beta/live"}


async def test_a_tenant_that_is_not_there_cannot_be_named(api):
    whole = await api.of("admin", tenant=EVERY)

    named = await whole.get("/v1/stats", headers={"Gateway-Tenant": "nobody"})
    unnamed = await whole.get("/v1/stats")

    assert (named.status_code, unnamed.status_code) == (404, 404)


async def test_a_tenants_key_speaks_for_no_other(api):
    client = await api.of("admin")

    for name, status in (("acme", 200), ("beta", 403)):
        assert (await client.get("/v1/stats", headers={"Gateway-Tenant": name})).status_code == status


async def test_tenants_are_made_by_the_deployments_key_only(api):
    whole, own = await api.of("admin", tenant=EVERY), await api.of("admin")

    assert (await own.post("/v1/tenants", json={"name": "gamma"})).status_code == 403
    assert (await whole.post("/v1/tenants", json={"name": "gamma"})).status_code == 201
    assert (await whole.post("/v1/tenants", json={"name": "gamma"})).status_code == 409
    assert (await whole.post("/v1/tenants", json={"name": "Not A Name"})).status_code == 422
    personal = (await whole.post("/v1/tenants", json={"name": "13800138000"})).json()
    assert [(fault["at"], fault["code"]) for fault in personal["errors"]] == [("/name", "personal_data")]
    assert "13800138000" not in str(personal)
    assert [t["name"] for t in (await whole.get("/v1/tenants")).json()["items"]] == ["acme", "beta", "gamma"]
    assert [t["name"] for t in (await own.get("/v1/tenants")).json()["items"]] == ["acme"]


async def test_a_key_is_made_shown_once_used_and_revoked(api):
    admin = await api.of("admin")
    body = {"role": "service", "holder": "loan-core", "expires_at": "2099-01-01T00:00:00Z"}
    made = (await admin.post("/v1/apikeys", json=body)).json()

    async with api.bare(made["key"]) as client:
        assert (await client.get("/v1/stats")).status_code == 200
        listed = await admin.get("/v1/apikeys")
        assert (await admin.post(f"/v1/apikeys/{made['id']}/revoke")).json()["revoked_at"] is not None
        assert (await client.get("/v1/stats")).status_code == 401

    assert made["key"].startswith(f"gw_live_{made['id']}_")
    assert made["key"].split("_")[3] not in listed.text
    shown = {key: made[key] for key in made if key != "key"}
    assert shown in listed.json()["items"]


async def test_an_admin_of_one_tenant_makes_no_keys_for_another(api):
    admin, whole = await api.of("admin"), await api.of("admin", tenant=EVERY)
    body = {"tenant": "beta", "role": "service", "holder": "loan-core"}

    assert (await admin.post("/v1/apikeys", json=body)).status_code == 403
    assert (await admin.post("/v1/apikeys", json={**body, "tenant": EVERY})).status_code == 403
    made = await whole.post("/v1/apikeys", json=body)
    assert made.status_code == 201
    assert (await admin.post(f"/v1/apikeys/{made.json()['id']}/revoke")).status_code == 404
    assert {key["tenant"] for key in (await admin.get("/v1/apikeys")).json()["items"]} == {"acme"}


# Accounts, caps, the clock.


async def test_accounts_are_brought_in_listed_and_tried(api):
    ops = await api.of("ops")
    account = {
        "name": "sms-cn",
        "adapter": "aliyun_sms",
        "sender": "示例",
        "price": {"amount": "0.045", "currency": "CNY"},
        "credentials": {"access_key_secret": "very-secret"},
        "settings": {"countries": "CN"},
    }

    brought = await ops.post("/v1/accounts", json={"accounts": [account], "reason": "set-up"})

    assert brought.json() == {"written": ["sms-cn"]}
    kept = api.accounts.kept["acme/live", "sms-cn"]
    assert isinstance(kept, Account)
    assert (kept.mode, kept.price.amount.as_tuple().digits) == (Mode.LIVE, (4, 5))
    assert kept.credentials["access_key_secret"].reveal("test") == "very-secret"
    assert "very-secret" not in repr(kept)
    assert (await ops.get("/v1/accounts")).json()["items"] == [{"name": "sms-cn"}]
    assert (await ops.post("/v1/accounts/sms-cn/check")).json()["ok"] is True
    assert (await ops.post("/v1/accounts/none/check")).status_code == 404


async def test_a_credential_that_is_no_text_is_refused_without_a_word_of_it(api):
    ops = await api.of("ops")
    account = {
        "name": "a",
        "adapter": "smtp",
        "sender": "x@example.com",
        "credentials": {"password": 13987654321},
    }

    reply = await ops.post("/v1/accounts", json={"accounts": [account]})

    assert (reply.status_code, reply.json()["errors"][0]["code"]) == (422, "length_invalid")
    assert "13987654321" not in reply.text


async def test_an_account_of_another_tenant_or_mode_is_refused(api):
    ops, whole = await api.of("ops"), await api.of("admin", tenant=EVERY)
    account = {"name": "a", "adapter": "smtp", "sender": "x@example.com"}

    for other in ({"tenant": "beta"}, {"mode": "test"}):
        reply = await ops.post("/v1/accounts", json={"accounts": [{**account, **other}]})
        assert reply.json()["errors"][0]["at"] == "/accounts/0/tenant"
    both = {"accounts": [{**account, "tenant": "beta", "mode": "test"}]}
    reply = await whole.post("/v1/accounts", json=both, headers={"Gateway-Tenant": "acme"})
    assert reply.status_code == 200
    assert list(api.accounts.kept) == [("beta/test", "a")]


async def test_an_account_that_tenants_share_is_brought_in_by_the_whole_deployment(api):
    ops, whole = await api.of("ops"), await api.of("ops", tenant=EVERY)
    account = {"name": "a", "adapter": "smtp", "sender": "x@example.com", "weight": 3}
    sent = {"accounts": [account]}

    refused = await ops.post("/v1/accounts", json=sent)
    assert [(e["at"], e["code"]) for e in refused.json()["errors"]] == [("/accounts/0/weight", "forbidden")]
    assert api.accounts.kept == {}
    reply = await whole.post("/v1/accounts", json=sent, headers={"Gateway-Tenant": "acme"})
    assert (reply.status_code, api.accounts.kept["acme/live", "a"].weight) == (200, 3)
    for weight in (0, 1001, "3", 1.5):
        wrong = {"accounts": [{**account, "weight": weight}]}
        reply = await whole.post("/v1/accounts", json=wrong, headers={"Gateway-Tenant": "acme"})
        assert [e["at"] for e in reply.json()["errors"]] == ["/accounts/0/weight"]


async def test_a_cap_of_ones_own_is_set_with_a_reason(api):
    compliance = await api.of("compliance")
    change = {"rule": "OP.CAPS.day", "max": 2, "reason": "complaints in October"}

    assert (await compliance.put("/v1/caps", json={**change, "reason": ""})).status_code == 422
    assert (await compliance.put("/v1/caps", json={**change, "rule": "OP.OTHER"})).json()["errors"][0][
        "code"
    ] == "rule_unknown"
    assert (await compliance.put("/v1/caps", json=change)).json() == {"rule": "OP.CAPS.day", "max": 2}

    day, week = (await compliance.get("/v1/caps")).json()["items"]
    assert (day["max"], day["own"]["max"], day["own"]["who"]) == (3, 2, "a-compliance")
    assert (week["max"], week["own"]) == (7, None)


async def test_the_clock_moves_where_it_may_and_wakes_every_queue(api, bell):
    ops = await api.of("ops")
    before = (await ops.get("/v1/clock")).json()

    after = (await ops.post("/v1/clock", json={"advance_s": 36000})).json()

    assert (before["offset_s"], after["offset_s"], after["movable"]) == (0.0, 36000.0, True)
    assert len(set(bell.rung)) == len(Channel)
    assert (await ops.post("/v1/clock", json={"advance_s": "1"})).status_code == 422


async def test_a_clock_that_keeps_real_time_cannot_be_moved(api):
    fixed = type(api)(
        type(api.services)(**{**_fields(api.services), "clock_movable": False}),
        api.desk,
        api.accounts,
        api.door,
    )
    async with fixed.bare(await api.key(Role.OPS)) as client:
        reply = await client.post("/v1/clock", json={"advance_s": 60})

    assert (reply.status_code, reply.json()["code"]) == (409, "conflict")


def _fields(frozen):
    return {name: getattr(frozen, name) for name in frozen.__slots__}


# Lists, the log, explaining.


async def test_the_log_is_filtered_paged_and_names_nobody(api, service):
    ops = await api.of("ops")
    await service.post("/v1/reminders/batch", json={"items": [reminder(n) for n in range(3)]})

    page = (await ops.get("/v1/log", params={"borrower": "B-1", "limit": 2})).json()
    rest = (await ops.get("/v1/log", params={"borrower": "B-1", "after": page["next"]})).json()
    oldest = (await ops.get("/v1/log", params={"borrower": "B-1", "order": "oldest"})).json()

    items = page["items"] + rest["items"]
    assert [len(page["items"]), len(rest["items"]), rest["next"]] == [2, 1, None]
    assert [item["id"] for item in oldest["items"]] == [item["id"] for item in items][::-1]
    accepted = (await ops.get("/v1/log", params={"state": "waiting", "channel": "sms"})).json()["items"]
    assert [item["kind"] for item in accepted] == ["accepted"] * 3
    assert accepted[0]["body"]["template"] == "pre_due"
    assert phone(1)[3:] not in json.dumps(items)


async def test_the_log_is_filtered_by_time(api, service, sqlite):
    ops = await api.of("ops")
    await set_clock(sqlite, datetime(2026, 11, 20, tzinfo=UTC))
    await service.post("/v1/reminders", json=reminder(1, debt={**reminder()["debt"]}))
    await set_clock(sqlite, datetime(2026, 11, 21, tzinfo=UTC))
    await service.post("/v1/reminders", json=reminder(2))

    wanted = {"from": "2026-11-20T23:00:00Z", "to": "2026-11-22T00:00:00Z", "state": "waiting"}
    found = (await ops.get("/v1/log", params=wanted)).json()["items"]
    listed = (await ops.get("/v1/reminders", params={"to": "2026-11-20T23:00:00Z"})).json()["items"]

    assert [item["borrower"] for item in found] == ["B-2"]
    assert [item["borrower"] for item in listed] == ["B-1"]


async def test_a_decision_is_told_in_words(sqlite, service):
    name = (await service.post("/v1/reminders", json=reminder())).json()["id"]
    undecided = await service.get(f"/v1/reminders/{name}/explain")
    async with sqlite.write() as conn:
        await conn.exec_driver_sql('UPDATE reminder SET decision = \'{"action":"defer"}\'')

    told = [await service.get(f"/v1/reminders/{name}/explain?lang={lang}") for lang in ("en", "zh", "fr")]

    assert undecided.status_code == 409
    assert [reply.text for reply in told[:2]] == ["en: defer", "zh: defer"]
    assert told[0].headers["content-type"] == "text/plain; charset=utf-8"
    assert told[2].status_code == 422
    shown = (await service.get(f"/v1/reminders/{name}")).json()
    assert shown["decision"] == {"action": "defer"}


async def test_of_what_is_set_aside_it_is_told_why_and_what_to_do(sqlite, service):
    name = (await service.post("/v1/reminders", json=reminder())).json()["id"]
    async with sqlite.write() as conn:
        await conn.exec_driver_sql(
            "UPDATE reminder SET state = 'deferred', reason = 'quarantined', by = 'ValueError', channels = '{'"
        )

    told = await service.get(f"/v1/reminders/{name}/explain")

    assert (told.status_code, told.json()["code"]) == (409, "quarantined")
    assert "(ValueError)" in told.json()["detail"]
    assert "gateway poison replay" in told.json()["detail"]


# Questions, callbacks, overload.


async def test_questions_are_checked_and_handed_on(api, service):
    ask = {"borrower": "B-1", "debt": "L-1", "channel": "voice", "purpose": "collection", "address": phone(1)}

    checked = await service.post("/v1/contacts/check", json=ask)
    previewed = await service.post("/v1/reminders/preview", json=by_id())

    assert checked.json()["reservation"] is None
    assert previewed.json() == {"decision": {"action": "send"}, "rendered": []}
    (_, tenant, question), (_, _, raw) = api.desk.asked
    assert (tenant, question.channel, question.purpose) == ("acme/live", "voice", "collection")
    assert question.technology == "live"
    assert question.address.reveal("test") == phone(1)
    assert raw == by_id()


async def test_a_full_house_is_said_with_when_to_come_again_and_stops_no_stop(api, service):
    await service.post("/v1/reminders", json=reminder())
    api.door.shut = True

    for path, body in (("/v1/reminders", reminder(2)), ("/v1/reminders/batch", {"items": [reminder(2)]})):
        reply = await service.post(path, json=body)
        assert (reply.status_code, reply.json()["code"], reply.headers["retry-after"]) == (
            429,
            "overloaded",
            "7",
        )
    paid = await service.post("/v1/debts/L-1/events", json={"idempotency_key": "e", "type": "paid"})
    assert paid.status_code == 200
    assert (await service.put("/v1/borrowers/B-1", json={"opt_outs": []})).status_code == 200
    for path, item in BATCHES.items():
        reply = await service.post(path, json={"items": [item]})
        assert (reply.status_code, reply.json()["results"][0]["status"] < 300) == (200, True), path


BATCHES = {
    "/v1/borrowers/batch": {"id": "B-1", "opt_outs": []},
    "/v1/debts/batch": {"id": "L-1", "due_date": "2026-12-01"},
    "/v1/contacts/batch": {"idempotency_key": "c", **examples.CONTACT},
    "/v1/debts/events/batch": {"idempotency_key": "f", "debt": "L-1", "type": "paid"},
}


async def test_where_too_many_batches_wait_all_come_again_but_what_was_paid(api, service):
    await service.post("/v1/reminders", json=reminder())
    api.door.crowded = True

    said = {
        path: await service.post(path, json={"items": [item]})
        for path, item in (BATCHES | {"/v1/reminders/batch": reminder(2)}).items()
    }

    paid = said.pop("/v1/debts/events/batch")
    assert (paid.status_code, paid.json()["results"][0]["status"]) == (200, 200)
    for path, reply in said.items():
        told = (reply.status_code, reply.json()["code"], reply.headers["retry-after"])
        assert told == (429, "overloaded", "1"), path
    assert (await service.post("/v1/reminders", json=reminder(2))).status_code == 202


async def test_a_callback_comes_through_as_it_was_sent(api):
    api.desk.answer = Answer(status=202, content_type="text/xml", body=b"<Response/>")
    path = "/cb/twilio_sms/main/at_1?t=a%2Fb&x=%E4%B8%AD"
    async with api.bare() as client:
        for method in ("GET", "POST", "PUT", "DELETE"):
            reply = await client.request(method, path, content=b"Body=1&x=%20", headers={"X-Sig": "s"})
            assert (reply.status_code, reply.content) == (202, b"<Response/>")
            assert reply.headers["content-type"] == "text/xml; charset=utf-8"

    assert [asked[3] for asked in api.desk.asked] == ["GET", "POST", "PUT", "DELETE"]
    for adapter, account, ref, _, target, headers, body in api.desk.asked:
        assert (adapter, account, ref, target) == ("twilio_sms", "main", "at_1", path)
        assert (headers["x-sig"], body) == ("s", b"Body=1&x=%20")


async def test_a_callback_that_is_too_long_is_refused(api):
    async with api.bare() as client:
        reply = await client.post("/cb/a/b/c", content=b"a" * (256 * 1024 + 1))

    assert reply.status_code == 413
    assert api.desk.asked == []


# Health, figures, what is written of it.


async def test_health_says_what_is_missing(api):
    async with api.bare() as client:
        well = await client.get("/readyz")
        api.desk.lacking = {"store": "start PostgreSQL"}
        ill = await client.get("/readyz")
        alive = await client.get("/livez")

    assert (well.status_code, well.json()) == (200, {"status": "ok"})
    assert (ill.status_code, ill.json()["missing"]) == (503, {"store": "start PostgreSQL"})
    assert alive.status_code == 200


async def test_figures_need_a_key_from_elsewhere(api, service):
    await service.post("/v1/reminders/batch", json={"items": [reminder(1), {}]})
    async with (
        api.bare() as near,
        api.bare(host="10.1.2.3") as far,
        api.bare(await api.key(), host="10.1.2.3") as ops,
    ):
        replies = [await client.get("/metrics") for client in (near, far, ops)]

    assert [reply.status_code for reply in replies] == [200, 401, 200]
    assert "gateway_reminders_accepted_total 1.0" in replies[0].text
    assert 'route="/v1/reminders/batch"' in replies[0].text


@pytest.fixture
def lines():
    """What is logged, at its usual level."""
    out = StringIO()
    telemetry._install("info", lambda: out, json=True, final=False)
    yield out
    telemetry._install("warning", lambda: sys.stderr, json=True, final=False)


async def test_a_request_is_logged_by_its_pattern_and_nothing_of_it(service, lines):
    await service.put("/v1/borrowers/B-17", json={"name": "欧阳若兰"})
    await service.get("/v1/reminders?borrower=13987654321")
    await service.get(f"/v1/reminders/{phone(3)}")

    told = [json.loads(line) for line in lines.getvalue().splitlines()]
    asked = [(line["method"], line["route"], line["status"]) for line in told]
    assert asked == [
        ("PUT", "/v1/borrowers/{id}", 200),
        ("GET", "/v1/reminders", 200),
        ("GET", "/v1/reminders/{id}", 404),
    ]
    assert {line["tenant"] for line in told} == {"acme/live"}
    for clear in ("B-17", "13987654321", phone(3)[3:], "若兰"):
        assert clear not in lines.getvalue()


async def test_what_goes_wrong_unforeseen_is_answered_without_a_word_of_it(api, service):
    api.desk.preview = None

    reply = await service.post("/v1/reminders/preview", json=by_id())

    problem = reply.json()
    assert (reply.status_code, problem["code"]) == (500, "internal")
    assert "NoneType" not in reply.text
    assert problem["request_id"] == reply.headers["x-request-id"]


async def test_a_path_or_method_that_is_not_there_is_a_problem_too(service):
    lost = await service.get("/v1/nothing")
    wrong = await service.delete("/v1/reminders")

    assert (lost.status_code, lost.json()["code"]) == (404, "not_found")
    assert (wrong.status_code, wrong.json()["code"]) == (405, "method_not_allowed")


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/v1/reminders", "GET, POST"),
        ("/v1/borrowers/B-1", "GET, PUT"),
        ("/v1/debts/batch", "POST, PUT"),  # `batch` may be a debt's id as well
        ("/livez", "GET, HEAD"),
        ("/openapi.json", "GET"),
    ],
)
async def test_a_method_that_is_not_there_is_answered_with_those_that_are(service, path, allowed):
    assert (await service.delete(path)).headers["allow"] == allowed


@pytest.fixture
async def contract(api):
    async with api.bare() as client:
        return (await client.get("/openapi.json")).json()


async def test_the_contract_lists_every_route_with_roles_and_examples(contract):
    for (method, path), roles in ROLES.items():
        operation = contract["paths"][path][method.lower()]
        assert operation["x-roles"] == sorted([*roles.split(), "admin"])
        assert operation["summary"]
        assert "422" not in operation["responses"]
        if (method != "GET" and not path.endswith(("/check", "/revoke"))) or path == "/v1/contacts/check":
            content = operation["requestBody"]["content"]["application/json"]
            assert content["example"]
    assert not {path for path in contract["paths"] if not path.startswith("/v1/")}


async def test_every_reference_of_the_contract_leads_somewhere(contract):
    there = {f"#/components/schemas/{name}" for name in contract["components"]["schemas"]}
    named = set(re.findall(r'"\$ref": "([^"]+)"', json.dumps(contract)))

    assert named <= there
    assert {"#/components/schemas/ReminderIn", "#/components/schemas/Problem"} <= named


@pytest.mark.parametrize(
    ("model", "example"),
    [
        (bodies.ReminderIn, examples.REMINDER),
        (bodies.BorrowerIn, examples.BORROWER),
        (bodies.DebtIn, examples.DEBT),
        (bodies.EventIn, examples.EVENT),
        (bodies.ContactIn, examples.CONTACT),
        (bodies.CheckIn, examples.QUESTION),
    ],
)
def test_every_example_is_right(model: type[BaseModel], example):
    assert bodies.read(model, example)


async def test_the_examples_work_one_after_the_other(service, sqlite):
    await set_clock(sqlite, datetime(2026, 11, 24, 3, tzinfo=UTC))
    assert (await service.post("/v1/reminders", json=examples.REMINDER)).status_code == 202
    assert (await service.put("/v1/borrowers/B-1", json=examples.BORROWER)).status_code == 200
    assert (await service.put("/v1/debts/L-1", json=examples.DEBT)).status_code == 200
    assert (await service.post("/v1/contacts", json=examples.CONTACT)).status_code == 201
    assert (await service.post("/v1/debts/L-1/events", json=examples.EVENT)).status_code == 200


async def test_the_page_of_errors_has_a_place_for_every_code(api):
    async with api.bare() as client:
        page = (await client.get("/docs/errors")).text

    for code in problems.TITLES.keys() | problems.FAULTS:
        assert page.count(f'id="{code}"') == 1, code


def test_every_code_of_a_fault_is_on_the_page():
    top = Path(gateway.__file__).parent
    sources = [path for part in ("bodies", "intake", "api") for path in (top / part).rglob("*.py")]
    given = {
        code
        for path in [*sources, top / "asks.py", top / "store" / "keys.py", top / "store" / "reads.py"]
        for code in re.findall(r"Fault\([^)]*?code=\"(\w+)\"", path.read_text(encoding="utf-8"))
    }

    assert len(given) > 15
    assert given <= problems.TITLES.keys() | problems.FAULTS


def test_every_error_of_ours_has_a_title_and_a_status():
    def kinds(root):
        return {root, *(each for kind in root.__subclasses__() for each in kinds(kind))}

    answered = {k for k in kinds(GatewayError) if k.__module__ == "gateway.errors"}
    codes = {kind.code for kind in answered} - {"error", "setup", "policy"}
    assert codes <= problems.TITLES.keys()
