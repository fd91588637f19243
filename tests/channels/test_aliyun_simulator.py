"""The Aliyun adapter and the shipped simulator, over sockets, with receipts coming back."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from aiohttp import ClientSession
from rig import REF, account, in_fast_time, message, open_door, simulate, tools
from yarl import URL

from channels.aliyun_sms import Adapter, canonical_query, signed_headers
from gateway.domain import Handed, HandOver, NotShown, Outcome
from gateway.masking import Pii
from gateway.ports import Checked
from gateway.simulators import aliyun

EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
MOBILE = "+8613800138001"


def adapter(endpoint, secret="simulator", sender="安心贷"):
    key = {"access_key_id": "LTAI-any", "access_key_secret": secret}
    return Adapter(account("aliyun_sms", sender, endpoint, key), tools())


@pytest.fixture
async def world(tmp_path):
    """The simulator, the door its receipts come in by, and the adapter behind it."""
    async with (
        open_door() as door,
        simulate(aliyun, tmp_path / "ledger", push_url=f"{door.url}/unguessable") as simulator,
    ):
        door.adapter = adapter(simulator.url)
        yield simulator, door
        await door.adapter.aclose()


async def test_what_was_accepted_stands_in_the_ledger_as_it_was_asked_for(world):
    simulator, door = world

    ended = await door.adapter.send(message(MOBILE, {"name": "张三 +&=", "amount": "1,280.50"}))

    line = simulator.ledger()[0]
    assert ended == Handed(ending=HandOver.ACCEPTED, provider_id=line["id"], code="OK")
    assert (line["provider"], line["kind"], line["to"], line["ref"]) == ("aliyun", "sms", MOBILE, REF)
    assert line["text"] == '【安心贷】SMS_1 {"name":"张三 +&=","amount":"1,280.50"}'
    assert datetime.fromisoformat(line["at"]).utcoffset() == timedelta(0)


@pytest.mark.parametrize(
    ("digit", "outcome", "code", "opt_out"),
    [
        ("6", Outcome.DELIVERED, "DELIVERED", False),
        ("7", Outcome.FAILED, "UNDELIV", False),
        ("8", Outcome.FAILED, "W-BLACK", True),
        ("9", Outcome.DELIVERED, "DELIVERED", False),
    ],
)
async def test_a_receipt_comes_back_that_names_the_attempt(world, digit, outcome, code, opt_out):
    _, door = world

    ended = await door.adapter.send(message(f"+861380013800{digit}"))
    await door.wait_for(1)

    receipt = door.receipts[0]
    assert (receipt.ref, receipt.provider_id) == (REF, ended.provider_id)
    assert (receipt.outcome, receipt.code, receipt.opt_out) == (outcome, code, opt_out)
    assert abs(receipt.at - datetime.now(UTC)) < timedelta(minutes=1)


def test_a_receipt_that_is_not_taken_comes_again(tmp_path):
    async def refused_twice():
        async with (
            open_door() as door,
            simulate(aliyun, tmp_path / "ledger", push_url=f"{door.url}/unguessable") as simulator,
        ):
            door.adapter, door.refuse = adapter(simulator.url), 2
            await door.adapter.send(message(MOBILE))
            await door.wait_for(1)
            await door.adapter.aclose()
            return door.statuses

    assert in_fast_time(refused_twice()) == [200]


def test_a_push_to_a_wrong_path_is_forbidden_each_time(tmp_path):
    async def wrong():
        async with (
            open_door() as door,
            simulate(aliyun, tmp_path / "ledger", push_url=f"{door.url}/guessed") as simulator,
        ):
            door.adapter = adapter(simulator.url)
            await door.adapter.send(message(MOBILE))
            await asyncio.sleep(10)
            await door.adapter.aclose()
            return door

    door = in_fast_time(wrong())

    assert set(door.statuses) == {403}
    assert len(door.statuses) > 1
    assert door.receipts == []


@pytest.mark.parametrize("mode", ["swallow", "drop", "slow"])
def test_an_answer_lost_after_the_work_was_done_is_unknown_and_then_found(tmp_path, mode):
    async def lost():
        async with simulate(aliyun, tmp_path / "ledger") as simulator:
            under_test = adapter(simulator.url)
            await simulator.post("/_sim/next", mode=mode)
            ended = await under_test.send(message(MOBILE))
            found = await under_test.look_up(REF, Pii(MOBILE), datetime.now(UTC))
            await under_test.aclose()
            return ended, found, simulator.ledger()

    ended, found, ledger = in_fast_time(lost())

    assert ended.ending is HandOver.UNKNOWN
    assert (found.outcome, found.ref) == (Outcome.DELIVERED, REF)
    assert len(ledger) == 1


async def test_a_503_without_the_work_is_unknown_and_not_found(world):
    simulator, door = world
    await simulator.post("/_sim/next", mode="status", status=503, count=1)

    ended = await door.adapter.send(message(MOBILE))
    found = await door.adapter.look_up(REF, Pii(MOBILE), datetime.now(UTC))
    again = await door.adapter.send(message(MOBILE, ref="at_2"))

    assert (ended.ending, ended.code, found) == (HandOver.UNKNOWN, "http_503", NotShown())
    assert again.ending is HandOver.ACCEPTED
    assert [line["ref"] for line in simulator.ledger()] == ["at_2"]


@pytest.mark.parametrize(
    "fault", [{"mode": "sleep"}, {"mode": "status", "status": 99}, {"count": 1}, {"mode": "drop", "x": 1}]
)
async def test_a_fault_that_is_none_is_refused(world, fault):
    simulator, _ = world

    assert await simulator.post("/_sim/next", **fault) == 422


async def test_a_message_still_under_way_is_looked_up_as_accepted(tmp_path):
    async with simulate(aliyun, tmp_path / "ledger", delay=60) as simulator:
        under_test = adapter(simulator.url)
        await under_test.send(message("+8613800138008"))

        found = await under_test.look_up(REF, Pii("+8613800138008"), datetime.now(UTC))

        await under_test.aclose()
    assert (found.outcome, found.opt_out) == (Outcome.ACCEPTED, False)


async def test_a_look_up_finds_one_message_among_more_than_a_page(world):
    _, door = world
    for code in ("SMS_1", "SMS_2"):
        for number in range(30):
            await door.adapter.send(message(MOBILE, code=code, ref=f"at_{code}_{number}"))

    found = await door.adapter.look_up("at_SMS_1_0", Pii(MOBILE), datetime.now(UTC))
    other = await door.adapter.look_up("at_SMS_1_0", Pii("+8613800138002"), datetime.now(UTC))

    assert (found.outcome, other) == (Outcome.DELIVERED, NotShown())


async def test_the_fifty_first_notification_of_a_day_waits_a_day(world):
    simulator, door = world
    ended = [await door.adapter.send(message(MOBILE, ref=f"at_{number}")) for number in range(51)]
    other_template = await door.adapter.send(message(MOBILE, code="SMS_2"))
    other_person = await door.adapter.send(message("+8613800138002"))

    assert {each.ending for each in ended[:50]} == {HandOver.ACCEPTED}
    assert ended[50] == Handed(
        ending=HandOver.RETRY_AFTER,
        code="isv.BUSINESS_LIMIT_CONTROL",
        retry_after=timedelta(days=1),
        reach="recipient",
    )
    assert other_template.ending is other_person.ending is HandOver.ACCEPTED
    assert len(simulator.ledger()) == 52


async def test_a_foreign_number_is_refused_by_the_provider(world):
    _, door = world

    ended = await door.adapter.send(message("+12025550100"))

    assert (ended.ending, ended.code) == (HandOver.PERMANENT_RECIPIENT, "isv.MOBILE_NUMBER_ILLEGAL")


async def test_a_template_the_provider_does_not_know_is_content(world):
    _, door = world

    ended = await door.adapter.send(message(MOBILE, code="TPL-9"))

    assert (ended.ending, ended.code) == (HandOver.CONTENT, "isv.SMS_TEMPLATE_ILLEGAL")


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ({}, Checked(ok=True, word="the key works and the signature is approved")),
        (
            {"secret": "wrong"},
            Checked(ok=False, word="Aliyun refuses to show the signature: SignatureDoesNotMatch"),
        ),
        (
            {"sender": "安心pending"},
            Checked(ok=False, word="the key works, but the signature is not approved"),
        ),
    ],
)
async def test_a_check_tells_the_keys_and_the_signatures_state_without_sending(world, how, expected):
    simulator, _ = world
    under_test = adapter(simulator.url, **how)

    checked = await under_test.check()

    await under_test.aclose()
    assert checked == expected
    assert simulator.ledger() == []


async def test_a_check_without_a_provider_says_so():
    under_test = adapter("http://127.0.0.1:1")

    checked = await under_test.check()

    await under_test.aclose()
    assert checked == Checked(ok=False, word="no answer from Aliyun (connection)")


async def test_a_wrong_secret_is_a_fault_of_the_set_up(world):
    simulator, _ = world
    under_test = adapter(simulator.url, secret="wrong")

    ended = await under_test.send(message(MOBILE))

    await under_test.aclose()
    assert (ended.ending, ended.code) == (HandOver.CONFIG, "SignatureDoesNotMatch")
    assert simulator.ledger() == []


# The simulator's own strictness: each refusal here is one the adapter would otherwise never notice


def signed(url, *, at=None, nonce="n1", leave_out=(), action="GetSmsSign"):
    headers = {
        "host": URL(url).host_port_subcomponent,
        "x-acs-action": action,
        "x-acs-content-sha256": EMPTY,
        "x-acs-date": f"{at or datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
        "x-acs-signature-nonce": nonce,
        "x-acs-version": "2017-05-25",
    }
    query = canonical_query({"SignName": "安心贷"})
    few = {name: value for name, value in headers.items() if name not in leave_out}
    return query, headers | signed_headers(few, query, key_id="k", secret="simulator")


async def asked(url, query, headers, body=b""):
    async with ClientSession(skip_auto_headers={"Content-Type"}) as http:
        target = URL(f"{url}/?{query}", encoded=True)
        async with http.post(target, headers=headers, data=body or None) as answered:
            return (await answered.json())["Code"]


async def test_a_nonce_is_taken_once(world):
    url = world[0].url
    query, headers = signed(url)

    assert [await asked(url, query, headers) for _ in range(2)] == ["OK", "SignatureNonceUsed"]


@pytest.mark.parametrize(
    ("minutes", "code"),
    [(14.9, "OK"), (-14.9, "OK"), (15.1, "InvalidTimeStamp.Expired"), (-15.1, "InvalidTimeStamp.Expired")],
)
async def test_a_date_may_be_fifteen_minutes_off(world, minutes, code):
    url = world[0].url

    assert await asked(url, *signed(url, at=datetime.now(UTC) + timedelta(minutes=minutes))) == code


@pytest.mark.parametrize(
    "name", ["host", "x-acs-action", "x-acs-date", "x-acs-signature-nonce", "x-acs-version"]
)
async def test_a_header_that_is_not_signed_is_refused(world, name):
    url = world[0].url

    assert await asked(url, *signed(url, leave_out={name})) == "IncompleteSignature"


async def test_what_was_changed_after_signing_is_refused(world):
    url = world[0].url
    query, headers = signed(url)

    assert await asked(url, query + "x", headers) == "SignatureDoesNotMatch"
    assert await asked(url, query, headers, b"x") == "SignatureDoesNotMatch"
    assert await asked(url, query, headers | {"x-acs-action": "SendSms"}) == "SignatureDoesNotMatch"
    assert await asked(url, query, {}) == "IncompleteSignature"


async def test_an_action_that_is_not_there_is_not_found(world):
    url = world[0].url

    assert await asked(url, *signed(url, action="SendBatchSms")) == "InvalidAction.NotFound"
