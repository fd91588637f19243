"""Who is one person with whom."""

from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st
from makers import borrower, by_id, contact, phone, reminder, rows

from gateway.intake.persons import join
from gateway.intake.rows import Known

borrowers = st.sampled_from([f"B-{n}" for n in range(6)])
blinds = st.sampled_from([bytes([n]) for n in range(6)])
persons = st.sampled_from([f"pn_{n}" for n in range(5)])


def apply(joined, known):
    """What the store holds afterwards."""
    people = {**known.persons, **joined.persons}
    owners = {**known.owners, **joined.identities}
    return Known(
        persons={b: joined.merged.get(p, p) for b, p in people.items()},
        owners={b: joined.merged.get(p, p) for b, p in owners.items()},
    )


@given(
    st.dictionaries(borrowers, st.sets(blinds, max_size=3), min_size=1),
    st.dictionaries(borrowers, persons),
    st.dictionaries(blinds, persons),
)
def test_whoever_shows_the_same_is_the_same_person_and_nobody_is_lost(shown, people, owners):
    known = Known(persons=people, owners=owners)
    fresh = count()

    joined = join(shown, known, lambda: f"pn_new{next(fresh)}")

    after = apply(joined, known)
    assert set(joined.persons) == set(shown)
    for name, showing in shown.items():
        assert {after.owners[blind] for blind in showing} <= {after.persons[name]}
        if name in people:
            assert after.persons[name] == joined.merged.get(people[name], people[name])
    assert not joined.merged.keys() & set(joined.merged.values())
    assert not joined.merged.keys() & set(joined.created)
    again = join(shown, after, lambda: pytest.fail("nobody is new any more"))
    assert (again.merged, again.identities, list(again.created)) == ({}, {}, [])


@given(st.dictionaries(borrowers, st.sets(blinds, max_size=3), min_size=1), st.randoms())
def test_the_order_of_a_batch_does_not_matter(shown, random):
    order = list(shown)
    random.shuffle(order)
    fresh = count()
    one, two = (
        join({b: shown[b] for b in some}, Known(persons={}, owners={}), lambda: f"pn_{next(fresh)}")
        for some in (list(shown), order)
    )

    def together(joined):
        return {
            frozenset(b for b, p in joined.persons.items() if p == person)
            for person in joined.persons.values()
        }

    assert together(one) == together(two)


def test_of_several_persons_the_oldest_stays():
    known = Known(persons={"B-1": "pn_2", "B-2": "pn_1"}, owners={b"x": "pn_3"})

    joined = join({"B-1": [b"x", b"y"], "B-2": [b"y"]}, known, lambda: "pn_9")

    assert joined.persons == {"B-1": "pn_1", "B-2": "pn_1"}
    assert joined.merged == {"pn_2": "pn_1", "pn_3": "pn_1"}
    assert joined.identities == {b"y": "pn_1"}


def sharing(number, *phones, **more):
    addresses = [{"channel": "sms", "value": phone(n), "kind": "personal"} for n in phones]
    return borrower(number, addresses=addresses, **more)


async def put(service, *bodies):
    reply = await service.post("/v1/borrowers/batch", json={"items": list(bodies)})
    assert [r["status"] for r in reply.json()["results"]] == [200] * len(bodies), reply.text


async def person_of(sqlite):
    return {row.id: row.person for row in await rows(sqlite, "borrower")}


async def test_two_who_share_a_phone_are_one_person(sqlite, service):
    await put(service, sharing(1, 1))
    await put(service, sharing(2, 1, 2))

    found = await person_of(sqlite)
    assert found["B-1"] == found["B-2"]


async def test_a_number_is_the_same_on_the_phone_and_by_sms(sqlite, service):
    await put(service, sharing(1, 1))
    await put(service, borrower(2, addresses=[{"channel": "voice", "value": phone(1)}]))

    assert len(set((await person_of(sqlite)).values())) == 1


async def test_a_workplaces_number_and_a_mail_address_join_nobody(sqlite, service):
    work = {"channel": "voice", "value": phone(9), "kind": "workplace"}
    mail = {"channel": "email", "value": "info@example.com"}

    await put(service, borrower(1, addresses=[work, mail]), borrower(2, addresses=[work, mail]))

    assert len(set((await person_of(sqlite)).values())) == 2


async def test_an_id_number_joins_however_it_is_written(sqlite, service):
    await put(service, sharing(1, 1, national_id="11010519491231002X"))
    await put(service, sharing(2, 2, national_id="110105 19491231-002x"))

    assert len(set((await person_of(sqlite)).values())) == 1


async def test_two_tenants_share_nobody(sqlite, api, service):
    beta = await api.of(tenant="beta")
    await put(service, sharing(1, 1))
    await put(beta, sharing(1, 1))

    assert len(set(row.person for row in await rows(sqlite, "borrower"))) == 2  # noqa: C401 (reads alike)


async def test_a_chain_of_shared_numbers_merges_all_and_all_that_is_theirs(sqlite, service, bell):
    """1-2 and 3-4 are two persons with reminders and a contact each, until 5 shows a phone of both."""
    items = [
        reminder(1, borrower=sharing(1, 1, 2)),
        reminder(2, borrower=sharing(2, 2)),
        reminder(3, borrower=sharing(3, 3, 4)),
        reminder(4, borrower=sharing(4, 4)),
    ]
    await service.post("/v1/reminders/batch", json={"items": items})
    contacts = [contact(1), contact(3)]
    told = await service.post("/v1/contacts/batch", json={"items": contacts})
    assert [r["status"] for r in told.json()["results"]] == [201, 201], told.text
    before = await person_of(sqlite)
    assert (before["B-1"], before["B-3"]) == (before["B-2"], before["B-4"])
    assert before["B-1"] != before["B-3"]

    await put(service, sharing(5, 1, 3))

    survivor = min(before.values())
    assert set((await person_of(sqlite)).values()) == {survivor}
    for table in ("reminder", "attempt", "identity"):
        assert {row.person for row in await rows(sqlite, table)} == {survivor}, table


async def test_nothing_splits_a_person_again_by_itself(sqlite, service):
    await put(service, sharing(1, 1), sharing(2, 1))
    await put(service, sharing(1, 7), sharing(2, 8))

    assert len(set((await person_of(sqlite)).values())) == 1


async def test_a_reminder_by_id_goes_to_the_person_as_it_is_now(sqlite, service):
    await service.post("/v1/reminders/batch", json={"items": [reminder(1), reminder(2)]})
    await put(service, sharing(2, 1))

    await service.post("/v1/reminders", json=by_id(2, idempotency_key="later"))

    found = await person_of(sqlite)
    assert found["B-1"] == found["B-2"]
    assert {row.person for row in await rows(sqlite, "reminder")} == {found["B-1"]}


async def test_a_reminder_by_id_goes_to_the_person_that_its_own_batch_makes(sqlite, service):
    await service.post("/v1/reminders/batch", json={"items": [reminder(1), reminder(2)]})
    items = [by_id(2, idempotency_key="later"), reminder(5, borrower=sharing(5, 1, 2))]

    results = (await service.post("/v1/reminders/batch", json={"items": items})).json()["results"]

    assert [r["status"] for r in results] == [202, 202]
    (person,) = set((await person_of(sqlite)).values())
    assert {row.person for row in await rows(sqlite, "reminder")} == {person}
