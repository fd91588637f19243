"""What borrowers asked for: windows and blackouts are added, or ended by their own id, and nothing else."""

import json

import pytest
from makers import borrower, contact, debt, rows, set_clock


@pytest.fixture(autouse=True)
async def ten_in_shanghai(sqlite):
    await set_clock(sqlite)


async def put(client, status=200, **body):
    reply = await client.put("/v1/borrowers/B-1", json=body)
    assert reply.status_code == status, reply.text
    return reply.json()


async def kept(sqlite):
    (row,) = await rows(sqlite, "borrower")
    return json.loads(row.profile), row.revision


MORNINGS = {"id": "w1", "kind": "deny", "on": ["mon", "fri"], "open": "09:00", "close": "12:00"}
AT_WORK = {"id": "w2", "kind": "deny", "address_kinds": ["workplace"], "channels": ["voice", "visit"]}
SUMMER = {"id": "w3", "kind": "allow", "open": "18:30", "close": "24:00", "from": "2026-06-01"}
MOURNING = {"id": "b1", "reason": "mourning", "from": "2026-12-20"}
UNSAID = dict.fromkeys(("on", "open", "close", "channels", "address_kinds", "from", "until"))


async def test_windows_and_blackouts_are_kept_as_they_were_told_and_shown(sqlite, service):
    await put(service, windows=[MORNINGS, AT_WORK, SUMMER], blackouts=[MOURNING])

    profile, _ = await kept(sqlite)
    assert profile["windows"] == [{**UNSAID, **told} for told in (MORNINGS, AT_WORK, SUMMER)]
    assert profile["blackouts"] == [{**MOURNING, "until": None}]
    shown = (await service.get("/v1/borrowers/B-1")).json()
    assert (shown["windows"], shown["blackouts"]) == (profile["windows"], profile["blackouts"])


@pytest.mark.parametrize("wipe", [[], None])
async def test_they_are_never_wiped(sqlite, service, wipe):
    await put(service, windows=[MORNINGS], blackouts=[MOURNING])
    before = await kept(sqlite)

    await put(service, windows=wipe, blackouts=wipe)

    assert await kept(sqlite) == before


async def test_they_are_added_to_and_each_change_raises_the_revision(sqlite, service):
    await put(service, **{k: v for k, v in borrower().items() if k != "id"})
    for count, more in enumerate(
        ({"windows": [MORNINGS]}, {"windows": [AT_WORK]}, {"blackouts": [MOURNING]}), start=2
    ):
        await put(service, **more)
        await put(service, **more)
        assert (await kept(sqlite))[1] == count

    profile, _ = await kept(sqlite)
    assert [len(profile[kind]) for kind in ("windows", "blackouts")] == [2, 1]


async def test_one_is_ended_by_its_id_and_changed_in_nothing_else(sqlite, service):
    await put(service, windows=[MORNINGS, AT_WORK], blackouts=[MOURNING])

    await put(
        service,
        windows=[{**MORNINGS, "kind": "allow", "close": "10:00", "until": "2026-12-01"}],
        blackouts=[{**MOURNING, "from": "2027-01-01", "until": "2026-12-27"}],
    )

    profile, revision = await kept(sqlite)
    assert profile["windows"] == [
        {**UNSAID, **MORNINGS, "until": "2026-12-01"},
        {**UNSAID, **AT_WORK},
    ]
    assert profile["blackouts"] == [{**MOURNING, "until": "2026-12-27"}]
    assert revision == 2


async def test_there_is_a_bound_to_what_is_kept(service):
    for part in range(4):
        await put(service, windows=[{**MORNINGS, "id": f"w{part}-{n}"} for n in range(50)])

    answer = await put(service, 422, windows=[{**MORNINGS, "id": "one-more"}])

    assert (answer["errors"][0]["at"], answer["errors"][0]["code"]) == ("/windows", "too_many")


HOURS = "/windows/0", "hours_invalid"
MISTAKES = [
    ({"windows": [MORNINGS | {"id": f"w{n}"} for n in range(51)]}, "/windows", "length_invalid"),
    ({"windows": [MORNINGS | {"open": "12:00"}]}, *HOURS),
    ({"windows": [MORNINGS | {"open": "12:01"}]}, *HOURS),
    ({"windows": [MORNINGS | {"open": None}]}, *HOURS),
    ({"windows": [{k: v for k, v in MORNINGS.items() if k != "close"}]}, *HOURS),
    ({"windows": [MORNINGS | {"open": "24:00"}]}, "/windows/0/open", "form_invalid"),
    ({"windows": [MORNINGS | {"open": "9:00"}]}, "/windows/0/open", "form_invalid"),
    ({"windows": [MORNINGS | {"close": "24:01"}]}, "/windows/0/close", "form_invalid"),
    ({"windows": [MORNINGS | {"kind": "maybe"}]}, "/windows/0/kind", "word_unknown"),
    ({"windows": [MORNINGS | {"on": []}]}, "/windows/0/on", "length_invalid"),
    ({"windows": [MORNINGS | {"on": ["monday"]}]}, "/windows/0/on/0", "word_unknown"),
    ({"windows": [MORNINGS | {"on": ["mon", "mon"]}]}, "/windows/0/on", "duplicate"),
    ({"windows": [AT_WORK | {"channels": ["pigeon"]}]}, "/windows/0/channels/0", "channel_unknown"),
    ({"windows": [AT_WORK | {"channels": []}]}, "/windows/0/channels", "length_invalid"),
    ({"windows": [AT_WORK | {"address_kinds": ["moon"]}]}, "/windows/0/address_kinds/0", "word_unknown"),
    ({"windows": [SUMMER | {"from": "2026-06-31"}]}, "/windows/0/from", "date_invalid"),
    ({"windows": [SUMMER | {"since": "2026-06-01"}]}, "/windows/0/since", "unknown_key"),
    ({"windows": [SUMMER | {"id": "13812345678"}]}, "/windows/0/id", "personal_data"),
    ({"windows": [{"kind": "deny"}]}, "/windows/0/id", "missing"),
    ({"blackouts": [MOURNING | {"id": f"b{n}"} for n in range(21)]}, "/blackouts", "length_invalid"),
    ({"blackouts": [MOURNING | {"reason": "Their mother died"}]}, "/blackouts/0/reason", "form_invalid"),
    ({"blackouts": [MOURNING | {"from": None}]}, "/blackouts/0/from", "date_invalid"),
    ({"blackouts": [{"id": "b1", "reason": "mourning"}]}, "/blackouts/0/from", "missing"),
    ({"residence": "US-A-B-C"}, "/residence", "place_unknown"),
]


async def test_each_mistake_is_told_at_its_place(sqlite, service):
    told = [(await put(service, 422, **body))["errors"] for body, _, _ in MISTAKES]

    assert [[(e["at"], e["code"]) for e in errors] for errors in told] == [[m[1:]] for m in MISTAKES]
    assert await rows(sqlite, "borrower") == []


async def test_a_city_with_rules_of_its_own_is_a_place(sqlite, service):
    await put(service, residence="US-NY-NYC")

    assert (await kept(sqlite))[0]["residence"] == "US-NY-NYC"


# Who made a contact, and with what.


async def test_a_contact_keeps_its_actor_and_technology_and_the_record_the_technology(sqlite, service):
    await put(service, **{k: v for k, v in borrower().items() if k != "id"})
    await service.put("/v1/debts/L-1", json={**debt(), "borrower": "B-1", "id": "L-1"})
    said = {"actor": {"role": "agency", "id": "north-desk"}, "technology": "prerecorded"}

    for body in (contact(1, **said), contact(2, borrower="B-1", debt="L-1", technology=None)):
        assert (await service.post("/v1/contacts", json=body)).status_code == 201

    one, two = sorted(await rows(sqlite, "attempt"), key=lambda row: row.ref)
    assert (one.actor_role, one.actor_id, one.technology) == ("agency", "north-desk", "prerecorded")
    assert (two.actor_role, two.actor_id, two.technology) == ("creditor", None, None)
    bodies = [json.loads(row.leaf)["body"] for row in await rows(sqlite, "record", "kind = 'contact'")]
    assert sorted(body.get("technology", "") for body in bodies) == ["", "prerecorded"]
    assert "north-desk" not in json.dumps(bodies)


@pytest.mark.parametrize("path", ["/v1/contacts", "/v1/contacts/check"])
async def test_a_technology_that_is_none_is_refused(service, path):
    reply = await service.post(path, json=contact(1, technology="robot"))

    assert ("/technology", "word_unknown") in [(e["at"], e["code"]) for e in reply.json()["errors"]]
