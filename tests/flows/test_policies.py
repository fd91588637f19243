"""Packs assigned over the API: what is refused and where, who may, what stands, what was."""

import pytest
from makers import rows

WHOLE = "/v1/policies/_"


def wanted(**more):
    return {"licences": [], "institution": None, "packs": [], "reason": "asked by the board", **more}


@pytest.fixture
async def compliance(api):
    return await api.of("compliance")


async def assign(client, path=WHOLE, status=200, **more):
    reply = await client.put(path, json=wanted(**more))
    assert reply.status_code == status, reply.text
    return reply.json()


async def test_what_is_assigned_stands_until_the_next_version(api, compliance):
    ops = await api.of("ops")
    assert (await ops.get("/v1/policies")).json() == {"items": [], "next": None}

    first = await assign(compliance, licences=["US-MA", "US-NY-NYC"])
    second = await assign(
        compliance, version=1, institution="bank", packs=["CN.GBT"], reason="sold to a bank"
    )
    cards = await assign(compliance, "/v1/policies/cards", packs=["US.REGF"])

    assert {name: first[name] for name in first if name != "at"} == {
        "portfolio": None,
        "version": 1,
        "licences": ["US-MA", "US-NY-NYC"],
        "institution": None,
        "packs": [],
        "who": "a-compliance",
        "reason": "asked by the board",
    }
    assert first["at"].endswith("Z")
    assert (await ops.get("/v1/policies")).json() == {"items": [second, cards], "next": None}
    assert (await ops.get(f"{WHOLE}/history")).json() == {"items": [second, first], "next": None}
    assert (await ops.get("/v1/policies/cards/history")).json()["items"] == [cards]
    assert (await ops.get("/v1/policies/none/history")).json()["items"] == []


async def test_a_change_that_did_not_see_the_last_one_is_refused_with_what_stands(compliance):
    stands = await assign(compliance, licences=["US-MA"])

    unseen = await assign(compliance, status=409, packs=["CN.GBT"])
    slipped = await assign(compliance, status=409, version=7)
    nothing = await assign(compliance, "/v1/policies/cards", 409, version=1)

    assert [problem["code"] for problem in (unseen, slipped, nothing)] == ["stale_version"] * 3
    assert (unseen["current"], slipped["current"], nothing["current"]) == (stands, stands, None)
    assert "version 1 stands" in unseen["detail"]


MISTAKES = [
    (WHOLE, {"packs": ["CN.GBT", "CN.GTB"]}, "/packs/1", "pack_unknown"),
    (WHOLE, {"packs": ["CN.GBT", "CN.GBT"]}, "/packs", "duplicate"),
    (WHOLE, {"licences": ["US-MA", "ZZ"]}, "/licences/1", "place_unknown"),
    (WHOLE, {"licences": ["US-MA", "US-MA"]}, "/licences", "duplicate"),
    (WHOLE, {"licences": None}, "/licences", "wrong_type"),
    (WHOLE, {"licences": ["US-MA"] * 101}, "/licences", "length_invalid"),
    (WHOLE, {"institution": "A Bank"}, "/institution", "form_invalid"),
    (WHOLE, {"version": 0}, "/version", "out_of_range"),
    (WHOLE, {"reason": ""}, "/reason", "length_invalid"),
    (WHOLE, {"reason": "call 13812345678"}, "/reason", "personal_data"),
    (WHOLE, {"colour": 1}, "/colour", "unknown_key"),
    (WHOLE, {"portfolio": "cards"}, "/portfolio", "id_differs"),
    ("/v1/policies/13812345678", {}, "/portfolio", "personal_data"),
    ("/v1/policies/a%20b", {}, "/portfolio", "form_invalid"),
]


async def test_each_mistake_is_told_at_its_place_and_nothing_is_assigned(sqlite, compliance):
    told = [(await assign(compliance, path, 422, **more))["errors"] for path, more, _, _ in MISTAKES]

    assert [[(e["at"], e["code"]) for e in errors] for errors in told] == [[m[2:]] for m in MISTAKES]
    assert await rows(sqlite, "policy_assignment") == []
    assert await rows(sqlite, "change", "kind = 'policy'") == []


async def test_a_pack_that_is_not_loaded_is_refused_with_those_that_are(compliance):
    (told,) = (await assign(compliance, status=422, packs=["XX.NONE"]))["errors"]

    assert told["message"] == "there are: CN.GBT, US.REGF"


async def test_what_must_be_said_is_asked_for(compliance):
    problem = (await compliance.put(WHOLE, json={})).json()

    assert {error["at"] for error in problem["errors"]} == {"/licences", "/packs", "/reason"}


async def test_the_two_worlds_of_a_tenant_are_assigned_apart(api, compliance):
    trial = await api.of("compliance", mode="test")
    await assign(compliance, packs=["CN.GBT"])

    assert (await trial.get("/v1/policies")).json()["items"] == []
    assert (await assign(trial))["version"] == 1


async def test_lists_come_page_by_page(compliance):
    for name in ("_", "a", "b"):
        await assign(compliance, f"/v1/policies/{name}")
    first = (await compliance.get("/v1/policies?limit=2")).json()
    second = (await compliance.get("/v1/policies", params={"limit": 2, "after": first["next"]})).json()

    assert [item["portfolio"] for item in first["items"] + second["items"]] == [None, "a", "b"]
    assert second["next"] is None
    assert (await compliance.get("/v1/policies?from=2026-11-24T00:00:00Z")).status_code == 422
