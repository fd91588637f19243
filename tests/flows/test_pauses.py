"""Pauses and stops over the API: what they stop, who may set and end them, what is answered."""

from datetime import timedelta

import orjson
import pytest
from makers import NOW, reminder, rows, set_clock
from sqlalchemy import update

from gateway.domain import Mode
from gateway.store import schema
from gateway.store.keys import Operator, Role

PAUSES = "/v1/pauses"


def asked(key="p-1", **more):
    return {"idempotency_key": key, "kind": "pause", "scope": {}, "reason": "an outage", **more}


@pytest.fixture
async def ops(api):
    return await api.of("ops")


@pytest.fixture
async def key_of(api):
    """A client with a key of its own holder."""
    made = []

    async def key_of(holder, role="ops", tenant="acme"):
        by = Operator(who="tests", tenant=f"{tenant}/live")
        _, text = await api.services.setup.create_key(
            tenant=tenant, mode=Mode.LIVE, role=Role(role), holder=holder, expires_at=None, by=by
        )
        made.append(api.bare(text.reveal("used in a test")))
        return made[-1]

    yield key_of
    for client in made:
        await client.aclose()


async def put(client, status=201, **more):
    reply = await client.post(PAUSES, json=asked(**more))
    assert reply.status_code == status, reply.text
    return reply.json()


async def resume(client, name, status=200, **more):
    reply = await client.post(f"{PAUSES}/{name}/resume", json={"reason": "it is over", **more})
    assert reply.status_code == status, reply.text
    return reply.json()


async def test_a_pause_says_what_waits_and_what_expires_meanwhile(api, service, ops, sqlite):
    await set_clock(sqlite)
    await service.post("/v1/reminders/batch", json={"items": [reminder(n) for n in (1, 2, 3)]})
    await service.post(
        "/v1/reminders", json=reminder(4, expires_at=(NOW + timedelta(minutes=20)).isoformat())
    )

    until = (NOW + timedelta(hours=1)).isoformat()
    set_ = await put(ops, scope={"channel": "sms"}, until=until)

    assert {k: v for k, v in set_.items() if k not in {"id", "at"}} == {
        "kind": "pause",
        "scope": {"channel": "sms"},
        "until": "2026-11-24T03:00:00Z",
        "waiting": 4,
        "expires_meanwhile": 1,
        "calling": [],
    }
    assert set_["id"].startswith("ps_")
    held = (await ops.get(f"{PAUSES}/{set_['id']}/reminders", params={"limit": 3})).json()
    more = (await ops.get(f"{PAUSES}/{set_['id']}/reminders", params={"after": held["next"]})).json()
    assert more["next"] is None
    assert len({item["id"] for item in held["items"] + more["items"]}) == 4

    await service.post(
        "/v1/reminders", json=reminder(5, expires_at=(NOW + timedelta(minutes=40)).isoformat())
    )
    shown = (await ops.get(f"{PAUSES}/{set_['id']}")).json()
    assert (shown["waiting"], shown["expires_meanwhile"]) == (5, 2)
    (listed,) = (await ops.get(PAUSES)).json()["items"]
    assert (listed["waiting"], listed["expires_meanwhile"]) == (4, 1)  # of when it was set


async def test_the_same_request_gets_the_same_answer_and_after_its_end_none(ops):
    first = await ops.post(PAUSES, json=asked())
    again = await ops.post(PAUSES, json=asked())
    by_header = await ops.post(
        PAUSES,
        json={k: v for k, v in asked().items() if k != "idempotency_key"},
        headers={"Idempotency-Key": "p-1"},
    )
    assert first.content == again.content == by_header.content
    assert first.status_code == again.status_code == 201

    assert (await put(ops, 422, reason="another"))["code"] == "key_reused"
    await resume(ops, first.json()["id"])
    assert (await put(ops, 409))["code"] == "already_resumed"
    assert (await resume(ops, first.json()["id"], 409))["code"] == "already_resumed"


async def test_the_same_request_after_an_end_by_itself_is_refused_too(ops, sqlite):
    await set_clock(sqlite)
    until = (NOW + timedelta(minutes=1)).isoformat()
    made = await put(ops, until=until)
    await set_clock(sqlite, NOW + timedelta(minutes=1))

    assert (await put(ops, 409, until=until))["code"] == "already_resumed"
    assert (await resume(ops, made["id"], 409))["code"] == "already_resumed"
    assert (await ops.get(PAUSES, params={"active": "true"})).json()["items"] == []
    assert [item["state"] for item in (await ops.get(PAUSES)).json()["items"]] == ["resumed"]


LIFTS = (
    ("ops", "ops", 200),
    ("ops", "admin", 200),
    ("ops", "compliance", 403),
    ("compliance", "ops", 403),
    ("compliance", "compliance", 200),
    ("admin", "ops", 403),
    ("admin", "admin", 200),
)


async def test_a_pause_is_lifted_by_its_setters_role_or_an_admin(key_of):
    anns = {role: await key_of("ann", role) for role in ("ops", "compliance", "admin")}
    bobs = {role: await key_of("bob", role) for role in anns}

    for setter, lifter, status in LIFTS:
        made = await put(anns[setter], key=f"{setter}-{lifter}")
        await resume(bobs[lifter], made["id"], status)


@pytest.mark.parametrize("role", ["service", "compliance-approver"])
async def test_other_roles_neither_set_nor_see_them(api, ops, role):
    made = await put(ops)
    other = await api.of(role)

    assert (await put(other, 403, key="p-2"))["code"] == "forbidden"
    for path in (PAUSES, f"{PAUSES}/{made['id']}", f"{PAUSES}/{made['id']}/reminders"):
        assert (await other.get(path)).status_code == 403
    await resume(other, made["id"], 403)


async def aged(database, **seconds):
    """Let a stop have been set, and asked to be resumed, so many seconds earlier."""
    async with database.write() as conn:
        for column, past in seconds.items():
            changed = schema.pause.c[column] - past * 1_000_000
            await conn.execute(update(schema.pause).values({column: changed}))


async def test_a_stop_needs_a_second_holder_within_an_hour(key_of, sqlite):
    ann, bob, ann_too = await key_of("ann"), await key_of("bob"), await key_of("ann", "admin")
    stop = await put(ann, kind="stop")

    assert await resume(ann, stop["id"], 202) == {"id": stop["id"], "state": "needs_second_holder"}
    assert (await resume(ann_too, stop["id"], 202))["state"] == "needs_second_holder"
    shown = (await ann.get(f"{PAUSES}/{stop['id']}")).json()
    assert (shown["state"], shown["resume"]["asked_by"]) == ("needs_second_holder", "ann")

    await aged(sqlite, asked_at=3601)
    shown = (await ann.get(f"{PAUSES}/{stop['id']}")).json()
    (listed,) = (await ann.get(PAUSES)).json()["items"]
    assert (shown["state"], shown["resume"]) == (listed["state"], listed["resume"]) == ("active", None)
    assert (await resume(bob, stop["id"], 202))["state"] == "needs_second_holder"
    await aged(sqlite, asked_at=3598)
    assert (await resume(ann, stop["id"]))["state"] == "resuming"
    shown = (await ann.get(f"{PAUSES}/{stop['id']}")).json()
    assert (shown["state"], shown["resume"]["asked_by"], shown["resumed_by"]) == ("resumed", "bob", "ann")


async def test_keys_that_came_after_a_stop_neither_ask_nor_confirm(key_of):
    ann, bob = await key_of("ann"), await key_of("bob")
    stop = await put(ann, kind="stop")
    young = await key_of("carl", "admin")

    assert "younger" in (await resume(young, stop["id"], 403))["detail"]
    await resume(ann, stop["id"], 202)
    assert "younger" in (await resume(young, stop["id"], 403))["detail"]
    assert (await resume(bob, stop["id"]))["state"] == "resuming"


async def test_one_person_may_do_it_alone_where_the_deployment_says_so_and_it_shows(api, key_of, sqlite):
    api.services.pauses._one_person = True
    ann = await key_of("ann")
    stop = await put(ann, kind="stop")
    assert (await ann.get(f"{PAUSES}/{stop['id']}")).json()["one_person"] is True

    assert (await resume(ann, stop["id"]))["state"] == "resuming"

    ended = [row for row in await rows(sqlite, "change", "kind = 'pause'") if row.before]
    assert [orjson.loads(row.after)["one_person"] for row in ended] == [True]


WRONG = (
    ({"scope": None}, "/scope", "wrong_type"),
    ({"kind": "halt"}, "/kind", "word_unknown"),
    ({"reason": ""}, "/reason", "length_invalid"),
    ({"reason": "call +8613800138000"}, "/reason", "personal_data"),
    ({"scope": {"channel": "fax"}}, "/scope/channel", "channel_unknown"),
    ({"scope": {"colour": "red"}}, "/scope/colour", "unknown_key"),
    ({"scope": {"adapter": "pigeon"}}, "/scope/adapter", "word_unknown"),
    ({"scope": {"account": "sms-cm"}}, "/scope/account", "word_unknown"),
    ({"scope": {"tenant": "beta"}}, "/scope/tenant", "word_unknown"),
    ({"scope": {"template": "pre_deu"}}, "/scope/template", "word_unknown"),
    ({"scope": {"jurisdiction": "ZZ"}}, "/scope/jurisdiction", "place_unknown"),
    ({"scope": {"template_version": 0}}, "/scope/template_version", "out_of_range"),
    ({"scope": {"portfolio": "cards"}, "ramp_s": 60}, "", "ramp_unfit"),
    ({"ramp_s": 86_401}, "/ramp_s", "out_of_range"),
    ({"until": "tomorrow"}, "/until", "instant_invalid"),
    ({"until": NOW.isoformat()}, "/until", "until_unfit"),
    ({"until": (NOW + timedelta(days=367)).isoformat()}, "/until", "until_unfit"),
)


async def test_what_is_wrong_is_named_with_its_place_and_nothing_is_set(ops, sqlite):
    await set_clock(sqlite)

    for more, at, code in WRONG:
        problem = await put(ops, 422, **more)
        assert [(fault["at"], fault["code"]) for fault in problem["errors"]] == [(at, code)], more
    assert await rows(sqlite, "pause") == []


async def test_several_mistakes_of_names_are_told_at_once(ops, sqlite):
    await set_clock(sqlite)
    scope = {"account": "sms-cm", "adapter": "pigeon", "template": "pre_deu"}

    problem = await put(ops, 422, scope=scope, until=NOW.isoformat())

    assert {f["at"] for f in problem["errors"]} == {
        *("/scope/account", "/scope/adapter", "/scope/template", "/until")
    }


async def test_a_tenant_sees_its_own_and_in_short_the_deployments(api, key_of, ops):
    root = await key_of("root", "admin", "*")
    whole = await put(root, kind="stop")
    mine = await put(ops)
    beta = await api.of("ops", "beta")
    theirs = await put(beta)

    listed = (await ops.get(PAUSES)).json()["items"]
    assert [(item["id"], item["owner"]) for item in listed] == [(mine["id"], "acme"), (whole["id"], "*")]
    assert "calling" not in listed[1]
    assert listed[0]["calling"] == []
    assert {item["id"] for item in (await root.get(PAUSES)).json()["items"]} == {
        *(whole["id"], mine["id"], theirs["id"])
    }
    short = await ops.get(f"{PAUSES}/{whole['id']}")
    assert (short.status_code, short.json()["applied"]["missing"]) == (200, [])
    assert not {"calling", "waiting", "expires_meanwhile"} & short.json().keys()
    assert (await ops.get(f"{PAUSES}/{whole['id']}/reminders")).status_code == 404
    assert (await ops.get(f"{PAUSES}/{theirs['id']}")).status_code == 404
    assert (await root.get(f"{PAUSES}/{theirs['id']}")).status_code == 200
    await resume(ops, whole["id"], 404)
    await resume(root, mine["id"], 404)
    for_acme = await root.post(
        f"{PAUSES}/{mine['id']}/resume", json={"reason": "it is over"}, headers={"Gateway-Tenant": "acme"}
    )
    assert for_acme.status_code == 200


async def test_a_ramp_is_asked_for_when_it_is_set_or_when_it_ends(ops, sqlite):
    first = await put(ops, ramp_s=60)
    second = await put(ops, key="p-2", scope={"portfolio": "cards"})

    await resume(ops, first["id"], ramp_s=300)
    problem = await resume(ops, second["id"], 422, ramp_s=300)

    assert [fault["code"] for fault in problem["errors"]] == ["ramp_unfit"]
    assert [row.ramp_s for row in await rows(sqlite, "pause", f"id = '{first['id']}'")] == [300]


async def test_the_ramp_that_the_first_of_two_holders_asks_for_is_that_of_the_end(key_of, sqlite):
    ann, bob = await key_of("ann"), await key_of("bob")
    stop = await put(ann, kind="stop")

    await resume(ann, stop["id"], 202, ramp_s=10)
    await resume(bob, stop["id"])

    assert [(row.ramp_s, row.resumed_by) for row in await rows(sqlite, "pause")] == [(10, "bob")]


async def test_whatever_load_there_is_a_stop_is_taken(api, ops):
    api.door.shut = True

    assert (await put(ops, kind="stop"))["id"]


async def test_setting_and_ending_are_acts_with_their_history_and_records(ops, sqlite):
    made = await put(ops, scope={"channel": "sms"})
    await resume(ops, made["id"])

    changes = await rows(sqlite, "change", f"name = '{made['id']}' ORDER BY id")
    assert [(row.kind, row.who, row.reason) for row in changes] == [
        ("pause", "a-ops", "an outage"),
        ("pause", "a-ops", "it is over"),
    ]
    assert orjson.loads(changes[0].after)["scope"] == {"channel": "sms"}
    assert len(await rows(sqlite, "record", "kind = 'config'")) >= 2
