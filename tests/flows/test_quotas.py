"""Quotas over the API: what is set, merged, refused and taken back, who sees it, and what they have used."""

import asyncio
from datetime import timedelta
from decimal import Decimal

import pytest
from makers import NOW, reminder, rows, set_clock
from sqlalchemy import insert, update

from gateway.domain import Money, Tenant, to_us
from gateway.quotas.model import Book, Load
from gateway.store import counted, quotas, schema
from gateway.store.keys import EVERY
from gateway.work import Start

QUOTAS = "/v1/quotas"
PATH = f"{QUOTAS}/sms-cn"


@pytest.fixture
async def ops(api, sqlite):
    await set_clock(sqlite)
    await account(sqlite, "acme/live", "sms-cn")
    return await api.of("ops")


@pytest.fixture
async def everywhere(api, ops):
    """The deployment's own."""
    return await api.of("ops", tenant=EVERY)


async def account(database, tenant, name, **more):
    async with database.write() as conn:
        await conn.execute(
            insert(schema.account).values(
                tenant=tenant,
                name=name,
                adapter="aliyun_sms",
                sender="x",
                settings=more.pop("settings", "{}"),
                enabled=True,
                revision=1,
                updated_at=0,
                **more,
            )
        )


async def put(client, path=PATH, status=200, **more):
    reply = await client.put(path, json={"reason": "agreed with the provider", **more})
    assert reply.status_code == status, reply.text
    return reply.json()


async def shown(client, path=PATH):
    reply = await client.get(path)
    assert reply.status_code == 200, reply.text
    return reply.json()


async def held(database):
    async with database.read() as conn:
        return {(q.owner, q.name): q for q in await quotas.read(conn)}


async def test_a_quota_is_set_then_changed_key_by_key(ops):
    first = await put(
        ops,
        scope={"channel": "sms", "account": "sms-cn"},
        rate=50,
        burst=5,
        per_day=20000,
        zone="Asia/Shanghai",
        closed=[{"from": "12:00", "to": "14:00"}],
        budget={"amount": "500.00", "currency": "CNY", "per": "day"},
    )
    second = await put(
        ops, version=1, rate=0.5, burst=None, budget={"alarm_at": 0.9}, scope={"channel": None}
    )

    assert {key: first[key] for key in first if key not in {"set_at", "reason"}} == {
        "owner": "acme",
        "name": "sms-cn",
        "scope": {"channel": "sms", "account": "sms-cn"},
        "each": [],
        "unit": "message",
        "rate": 50,
        "burst": 5,
        "per_minute": None,
        "per_hour": None,
        "per_day": 20000,
        "concurrency": None,
        "zone": "Asia/Shanghai",
        "closed": [{"from": "12:00", "to": "14:00"}],
        "budget": {"amount": "500.00", "currency": "CNY", "per": "day", "alarm_at": 0.8},
        "until": None,
        "before": None,
        "version": 1,
        "set_by": "a-ops",
        "applied": {"by": 0, "of": 0, "missing": []},
        "used": {"of": None, "rate": 0, "minute": 0, "hour": 0, "day": 0, "calls": 0, "budget": None},
        "factor": 1.0,
        "granted_by": "sql",
    }
    changed = {key for key in first if first[key] != second[key]} - {"set_at"}
    assert changed == {"scope", "rate", "burst", "budget", "version"}
    assert second["scope"] == {"account": "sms-cn"}
    assert (second["rate"], second["burst"], second["version"]) == (0.5, None, 2)
    assert second["budget"] == {"amount": "500.00", "currency": "CNY", "per": "day", "alarm_at": 0.9}
    assert await shown(ops) == second


async def test_of_two_people_the_second_is_shown_the_firsts_change(ops):
    stands = await put(ops, rate=50)

    unseen = await put(ops, status=409, rate=40)
    slipped = await put(ops, status=409, rate=40, version=3)
    nothing = await put(ops, f"{QUOTAS}/other", 409, rate=40, version=1)

    assert [problem["code"] for problem in (unseen, slipped, nothing)] == ["stale_version"] * 3
    assert (unseen["current"], slipped["current"], nothing["current"]) == (stands, stands, None)
    assert "version 1 stands" in unseen["detail"]
    assert await shown(ops) == stands


async def test_two_who_change_it_at_once_cannot_both_be_first(ops):
    await put(ops, rate=50)

    replies = await asyncio.gather(
        *(ops.put(PATH, json={"rate": rate, "version": 1, "reason": "faster"}) for rate in range(60, 68))
    )

    codes = sorted(reply.status_code for reply in replies)
    assert codes == [200, *[409] * 7]
    assert (await shown(ops))["version"] == 2


async def test_a_change_is_in_the_history_in_the_send_log_and_has_a_number(ops, sqlite):
    await put(ops, rate=50)
    await put(ops, rate=40, version=1, reason="too fast")
    await ops.post(f"{PATH}/delete", json={"version": 2, "reason": "not needed"})
    found = (await ops.get(f"{PATH}/history")).json()

    assert [(c["version"], c["who"], c["reason"]) for c in found["items"]] == [
        (3, "a-ops", "not needed"),
        (2, "a-ops", "too fast"),
        (1, "a-ops", "agreed with the provider"),
    ]
    rates = [tuple(c[side] and c[side]["rate"] for side in ("before", "after")) for c in found["items"]]
    assert rates == [(40, None), (50, 40), (None, 50)]
    assert [row.seq for row in await rows(sqlite, "quota")] == [3]
    assert [row.seq for row in await rows(sqlite, "live")] == [3]
    assert len(await rows(sqlite, "record", "kind = 'config'")) >= 3
    assert (await ops.get(PATH)).status_code == 404
    page = (await ops.get(f"{PATH}/history?limit=2")).json()
    rest = (await ops.get(f"{PATH}/history", params={"after": page["next"]})).json()
    assert page["items"] + rest["items"] == found["items"]


async def test_what_was_unset_may_be_set_again_and_its_version_goes_on(ops):
    await put(ops, rate=50)
    assert (await ops.post(f"{PATH}/delete", json={"version": 2, "reason": "x"})).status_code == 409
    assert (await ops.post(f"{PATH}/delete", json={"version": 1, "reason": "x"})).json() == {"name": "sms-cn"}
    assert (await ops.post(f"{PATH}/delete", json={"version": 2, "reason": "x"})).status_code == 404

    assert (await put(ops, per_day=10))["version"] == 3
    assert (await shown(ops))["rate"] is None


MISTAKES = [
    ({"rate": 0}, "/rate", "out_of_range"),
    ({"rate": 0.0009}, "/rate", "out_of_range"),
    ({"rate": 100_001}, "/rate", "out_of_range"),
    ({"rate": "50"}, "/rate", "wrong_type"),
    ({"rate": True}, "/rate", "wrong_type"),
    ({"rate": 5, "burst": 0}, "/burst", "out_of_range"),
    ({"per_day": 1.5}, "/per_day", "wrong_type"),
    ({"concurrency": 10_001}, "/concurrency", "out_of_range"),
    ({"zone": "Peking"}, "/zone", "zone_unknown"),
    ({"closed": [{"from": "12:00", "to": "24:00"}]}, "/closed/0/to", "form_invalid"),
    ({"budget": {"amount": 5, "currency": "CNY", "per": "day"}}, "/budget/amount", "amount_invalid"),
    ({"budget": {"amount": "0.00", "currency": "CNY", "per": "day"}}, "/budget/amount", "out_of_range"),
    ({"budget": {"amount": "5", "currency": "XXX", "per": "day"}}, "/budget/currency", "currency_unknown"),
    ({"budget": {"amount": "5", "currency": "CNY", "per": "week"}}, "/budget/per", "word_unknown"),
    ({"budget": {"amount": "5", "currency": "CNY"}}, "/budget/per", "missing"),
    ({"budget": {"alarm_at": 1.1}}, "/budget/alarm_at", "out_of_range"),
    ({"rate": 5, "each": ["colour"]}, "/each", "word_unknown"),
    ({"rate": 5, "each": ["tenant", "tenant"]}, "/each", "duplicate"),
    ({"rate": 5, "scope": {"channel": "fax"}}, "/scope/channel", "channel_unknown"),
    ({"rate": 5, "scope": {"portfolio": "cards"}}, "/scope/portfolio", "unknown_key"),
    ({"rate": 5, "scope": {"account": "sms-cm"}}, "/scope/account", "word_unknown"),
    ({"rate": 5, "scope": {"adapter": "twilio_sms"}}, "/scope/adapter", "word_unknown"),
    ({"rate": 5, "scope": {"template": "none"}}, "/scope/template", "word_unknown"),
    ({}, "", "missing"),
    ({"burst": 5, "per_day": 5}, "/burst", "quota_unfit"),
    ({"rate": 5, "each": ["account"], "scope": {"account": "sms-cn"}}, "/each/0", "quota_unfit"),
    (
        {"closed": [{"from": "08:00", "to": "20:00"}, {"from": "20:00", "to": "08:00"}]},
        "/closed",
        "hours_invalid",
    ),
    ({"rate": 5, "until": "2026-11-24T02:00:00Z"}, "/until", "until_unfit"),
    ({"rate": 5, "until": "2027-11-26T02:00:00Z"}, "/until", "until_unfit"),
    ({"rate": 5, "version": -1}, "/version", "out_of_range"),
    ({"rate": 5, "reason": "call 13812345678"}, "/reason", "personal_data"),
    ({"rate": 5, "colour": 1}, "/colour", "unknown_key"),
    ({"rate": 5, "name": "other"}, "/name", "id_differs"),
]


async def test_the_name_of_an_accounts_pace_is_that_of_its_owner_alone(sqlite, ops, everywhere):
    """By another owner and without a scope it would hold up the whole deployment."""
    told = await put(everywhere, f"{QUOTAS}/pace.sms-cn", 422, rate=3)

    assert [(e["at"], e["code"]) for e in told["errors"]] == [("/name", "quota_unfit")]
    assert await rows(sqlite, "quota") == []
    assert (await put(ops, f"{QUOTAS}/pace.sms-cn", rate=3))["scope"] == {"account": "sms-cn"}


async def test_each_mistake_is_told_at_its_place_and_nothing_is_set(sqlite, ops):
    told = [(await put(ops, status=422, **more))["errors"] for more, _, _ in MISTAKES]

    assert [[(e["at"], e["code"]) for e in errors] for errors in told] == [[m[1:]] for m in MISTAKES]
    assert await rows(sqlite, "quota") == []
    assert await rows(sqlite, "change", "kind = 'quota'") == []


async def test_what_does_not_go_with_what_stands_is_told_too(ops):
    await put(ops, rate=50, burst=5, scope={"account": "sms-cn"})

    told = await put(ops, status=422, version=1, rate=None, each=["account"])

    assert {error["at"] for error in told["errors"]} == {"", "/burst", "/each/0"}


async def test_tenants_see_their_own_and_what_of_the_deployment_concerns_them(api, ops, everywhere, sqlite):
    beta = await api.of("ops", tenant="beta")
    await put(ops, rate=50)
    await put(beta, rate=60)
    await put(everywhere, f"{QUOTAS}/all", rate=100, each=["tenant"])
    await put(everywhere, f"{QUOTAS}/for-beta", rate=9, scope={"tenant": "beta"})
    await put(everywhere, PATH, rate=70)

    names = {
        who: [(q["owner"], q["name"]) for q in (await client.get(QUOTAS)).json()["items"]]
        for who, client in (("acme", ops), ("beta", beta), ("*", everywhere))
    }

    whole = [("*", "all"), ("*", "for-beta"), ("*", "sms-cn")]
    own = {who: [q for q in names[who] if q[0] == who and q[1] != "pace.sms-cn"] for who in ("acme", "beta")}
    assert own == {"acme": [("acme", "sms-cn")], "beta": [("beta", "sms-cn")]}
    assert [q for q in names["acme"] if q[0] == "*"] == [whole[0], whole[2]]
    assert [q for q in names["beta"] if q[0] == "*"] == whole
    assert [q for q in names["*"] if q[0] == "*"] == whole
    assert ("beta", "sms-cn") in names["*"]
    assert ((await shown(ops))["rate"], (await shown(beta))["rate"]) == (50, 60)
    assert ((await shown(everywhere))["rate"], (await shown(ops, f"{QUOTAS}/all"))["rate"]) == (70, 100)
    assert (await ops.get(f"{QUOTAS}/for-beta")).status_code == 404
    first = (await everywhere.get(f"{QUOTAS}?limit=2")).json()
    rest = (await everywhere.get(QUOTAS, params={"after": first["next"]})).json()
    assert [(q["owner"], q["name"]) for q in first["items"] + rest["items"]] == names["*"]


async def test_a_tenants_key_sets_none_of_the_deployment_nor_of_another(ops, everywhere):
    await put(everywhere, f"{QUOTAS}/all", rate=100)

    made = await put(ops, f"{QUOTAS}/all", rate=5)
    told = await put(ops, f"{QUOTAS}/x", 422, rate=5, scope={"tenant": "beta"})

    assert (made["owner"], made["version"]) == ("acme", 1)
    assert {error["at"] for error in told["errors"]} == {"/scope/tenant"}
    assert (await shown(everywhere, f"{QUOTAS}/all"))["rate"] == 100


async def test_an_end_gives_way_to_what_stood_before_by_itself_and_on_record(api, ops, sqlite):
    await put(ops, rate=50)
    until = (NOW + timedelta(hours=1)).isoformat()
    slow = await put(ops, version=1, rate=5, until=until)
    still = await put(ops, version=2, burst=2)
    await api.services.quotas.take_back()
    before = await shown(ops)

    await set_clock(sqlite, NOW + timedelta(hours=1))
    at_once = await shown(ops)
    await api.services.quotas.take_back()
    await api.services.quotas.take_back()
    after = await shown(ops)

    assert (slow["until"], slow["before"]["rate"]) == ("2026-11-24T03:00:00Z", 50)
    assert (still["rate"], still["until"], still["before"]["rate"]) == (5, slow["until"], 50)
    assert before == still
    assert (at_once["rate"], at_once["version"]) == (50, 4)
    assert (after["rate"], after["burst"], after["until"], after["version"]) == (50, None, None, 4)
    assert after["set_by"] == "gateway"
    newest = (await ops.get(f"{PATH}/history")).json()["items"][0]
    assert (newest["who"], newest["version"], newest["before"]["rate"], newest["after"]["rate"]) == (
        "gateway",
        4,
        5,
        50,
    )


async def test_what_stood_for_nothing_is_gone_at_its_end(api, ops, sqlite):
    await put(ops, rate=50, until=(NOW + timedelta(hours=1)).isoformat())

    await set_clock(sqlite, NOW + timedelta(hours=2))
    assert (await ops.get(PATH)).status_code == 404
    assert (await put(ops, status=409, version=1, rate=5))["current"] is None
    assert (await put(ops, rate=5))["version"] == 3


async def test_an_end_may_be_taken_away(ops):
    await put(ops, rate=50)
    await put(ops, version=1, rate=5, until=(NOW + timedelta(hours=1)).isoformat())
    lasts = await put(ops, version=2, until=None)

    assert (lasts["rate"], lasts["until"], lasts["before"]) == (5, None, None)


async def test_an_accounts_own_pace_stands_until_it_is_set_and_again_when_that_is_unset(ops, sqlite):
    path = f"{QUOTAS}/pace.sms-cn"
    own = await shown(ops, path)
    mine = await put(ops, path, rate=3, until=(NOW + timedelta(hours=1)).isoformat())
    kept = await put(ops, path, version=1, until=None)
    await ops.post(f"{path}/delete", json={"version": 2, "reason": "as published"})
    back = await shown(ops, path)

    assert (own["rate"], own["set_by"], own["version"]) == (5000, "catalogue", 0)
    assert (mine["rate"], mine["scope"], mine["before"]["rate"]) == (3, {"account": "sms-cn"}, 5000)
    assert (kept["rate"], kept["version"]) == (3, 2)
    assert (back["rate"], back["set_by"], back["version"]) == (5000, "catalogue", 3)
    (quota,) = [q for (_, name), q in (await held(sqlite)).items() if name == "pace.sms-cn"]
    load = Load(
        tenant=Tenant("acme/live"), channel="sms", adapter="aliyun_sms", account="sms-cn", template="t"
    )
    assert quota.version == 3
    assert [bucket.limits for bucket in Book([quota]).buckets(load)] == [{"rate"}]


async def test_an_accounts_own_pace_comes_back_at_the_end_of_what_stood_for_it(api, ops, sqlite):
    path = f"{QUOTAS}/pace.sms-cn"
    await put(ops, path, rate=3, until=(NOW + timedelta(hours=1)).isoformat())

    await set_clock(sqlite, NOW + timedelta(hours=1))
    at_once = await shown(ops, path)
    await api.services.quotas.take_back()
    after = await shown(ops, path)

    assert (at_once["rate"], after["rate"], after["set_by"], after["version"]) == (5000, 5000, "catalogue", 2)
    assert [row.gone for row in await rows(sqlite, "quota")] == [1]


async def test_what_is_used_and_who_works_by_it_is_shown(ops, sqlite):
    await put(ops, per_day=100, concurrency=9, budget={"amount": "10", "currency": "CNY", "per": "month"})
    async with sqlite.write() as conn:
        moment = await sqlite.moment(conn)
        load = Load(
            tenant=Tenant("acme/live"),
            channel="sms",
            adapter="aliyun_sms",
            account="sms-cn",
            template="pre_due",
            cost=Money(amount=Decimal("0.045"), currency="CNY"),
        )
        starts = [start_of(n, load) for n in range(4)]
        assert await counted.admit(conn, moment, Book(), starts) == {}
        for name, applied, dead in (("ow_1", 1, None), ("ow_2", 0, None), ("ow_3", 0, to_us(NOW))):
            await conn.execute(
                insert(schema.owner).values(
                    id=name, lock_key=1, started_at=0, heartbeat_at=0, dead_at=dead, applied=applied
                )
            )

    found = await shown(ops)

    assert found["used"] == {
        "of": None,
        "rate": 0,
        "minute": 4,
        "hour": 4,
        "day": 4,
        "calls": 0,
        "budget": "0.18",
    }
    assert found["applied"] == {"by": 1, "of": 2, "missing": ["ow_2"]}
    async with sqlite.write() as conn:
        await conn.execute(update(schema.live).values(source="redis"))
    assert (await shown(ops))["granted_by"] == "redis"


async def test_a_budget_rings_once_a_month_at_its_share(api, ops, sqlite):
    await put(ops, budget={"amount": "1", "currency": "CNY", "per": "month", "alarm_at": 0.5})
    load = Load(
        tenant=Tenant("acme/live"),
        channel="sms",
        adapter="aliyun_sms",
        account="sms-cn",
        template="pre_due",
        cost=Money(amount=Decimal("0.25"), currency="CNY"),
    )

    async def go(number):
        async with sqlite.write() as conn:
            start = start_of(number, load)
            assert await counted.admit(conn, await sqlite.moment(conn), Book(), [start]) == {}
        return await api.services.quotas.alarms()

    rung = [await go(number) for number in range(3)]
    await set_clock(sqlite, NOW + timedelta(days=30))
    next_month = [await go(number) for number in range(3, 6)]

    heard = [[(a.quota, a.of, a.used) for a in some] for some in [*rung, *next_month]]
    once = [("acme/live|sms-cn", "", 0.5)]
    assert heard == [[], once, [], [], once, []]


async def test_what_is_due_while_a_pace_is_taken_up_says_for_which_quota_it_waits(service, ops, sqlite):
    """Of two that cover it the slower; and nothing is said while the pace leaves room."""
    await put(ops, rate=2)
    await put(ops, f"{QUOTAS}/slower", scope={"channel": "sms"}, rate=1)
    answer = await service.post("/v1/reminders", json=reminder(1, channels=["sms"]))
    path = f"/v1/reminders/{answer.json()['id']}"

    async def said():
        found = (await service.get(path)).json()
        return found["state"], found["reason"], found["by"]

    for starts, seen in ((7, None), (10, ("quota", "slower")), (20, ("quota", "slower"))):
        await started(sqlite, starts)
        assert await said() == ("waiting", *(seen or (None, None)))
    await ops.post(f"{QUOTAS}/slower/delete", json={"version": 1, "reason": "enough"})
    assert await said() == ("waiting", "quota", "sms-cn")
    await set_clock(sqlite, NOW + timedelta(seconds=20))
    assert await said() == ("waiting", None, None)


async def started(database, number):
    """So many have just started by the account."""
    load = Load(
        tenant=Tenant("acme/live"), channel="sms", adapter="aliyun_sms", account="sms-cn", template="x"
    )
    async with database.write() as conn:
        starts = [start_of(n, load) for n in range(number)]
        assert await counted.admit(conn, await database.moment(conn), Book(), starts) == {}


def start_of(number, load):
    return Start(
        ref=f"at_{number}",
        load=load,
        template_version=1,
        portfolios=frozenset(),
        places=frozenset(),
        deliver_by=NOW,
    )
