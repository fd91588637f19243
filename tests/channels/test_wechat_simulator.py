"""The WeChat adapter and the shipped simulator, over sockets, with events coming back."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from aiohttp import ClientSession
from rig import REF, Tokens, account, in_fast_time, message, open_door, simulate, tools

from channels.wechat import Adapter
from gateway.domain import Handed, HandOver, Outcome
from gateway.ports import Checked
from gateway.simulators import wechat

APPID = "wx0123456789abcdef"
OPENID = "oia2TjuEGTNoeX76QEjQNrcURxG8"


def adapter(endpoint, tokens=None, **changed):
    keys = {"app_secret": "simulator", "token": "simulator"} | changed
    return Adapter(account("wechat", APPID, endpoint, keys), tools(tokens))


@pytest.fixture
async def world(tmp_path):
    """The simulator, the door its events come in by, and the adapter behind it."""
    async with (
        open_door() as door,
        simulate(wechat, tmp_path / "ledger", push_url=f"{door.url}/any") as simulator,
    ):
        door.adapter = adapter(simulator.url)
        yield simulator, door
        await door.adapter.aclose()


async def test_what_was_accepted_stands_in_the_ledger_as_it_was_asked_for(world):
    simulator, door = world

    ended = await door.adapter.send(message(OPENID, {"thing1": "张三", "amount2": "¥1,280.50"}, code="TPL-1"))

    line = simulator.ledger()[0]
    assert ended == Handed(ending=HandOver.ACCEPTED, provider_id=line["id"], code="0")
    assert (line["provider"], line["kind"], line["to"], line["ref"]) == ("wechat", "wechat", OPENID, REF)
    assert line["text"] == 'TPL-1 {"thing1":{"value":"张三"},"amount2":{"value":"¥1,280.50"}}'
    assert datetime.fromisoformat(line["at"]).utcoffset() == timedelta(0)


@pytest.mark.parametrize(
    ("ending", "outcome", "opt_out"), [("xG8", Outcome.DELIVERED, False), ("blk", Outcome.FAILED, True)]
)
async def test_a_signed_event_comes_back_that_names_the_message(world, ending, outcome, opt_out):
    _, door = world

    ended = await door.adapter.send(message(f"openid_{ending}"))
    await door.wait_for(1)

    receipt = door.receipts[0]
    assert (receipt.provider_id, receipt.outcome, receipt.opt_out) == (ended.provider_id, outcome, opt_out)
    assert abs(receipt.at - datetime.now(UTC)) < timedelta(minutes=1)
    assert door.statuses == [200]


def test_an_event_that_is_not_taken_comes_again_and_at_most_four_times(tmp_path):
    async def refused(times):
        async with (
            open_door() as door,
            simulate(wechat, tmp_path / f"ledger{times}", push_url=f"{door.url}/any") as simulator,
        ):
            door.adapter, door.refuse = adapter(simulator.url), times
            await door.adapter.send(message(OPENID))
            await asyncio.sleep(20)
            await door.adapter.aclose()
            return door.statuses, door.refuse

    assert in_fast_time(refused(3)) == ([200], 0)
    assert in_fast_time(refused(9)) == ([], 5)


async def test_an_event_signed_with_another_token_is_forbidden(world):
    simulator, door = world
    await door.adapter.aclose()
    door.adapter = adapter(simulator.url, token="other")
    async with asyncio.timeout(5), door.news:
        await door.adapter.send(message(OPENID))
        await door.news.wait()

    assert (door.statuses, door.receipts) == ([403], [])


@pytest.mark.parametrize(
    ("openid", "ending", "code"),
    [
        ("openid_block", HandOver.PERMANENT_RECIPIENT, "43004"),
        ("openid_quota", HandOver.RETRY_AFTER, "45009"),
        ("short", HandOver.PERMANENT_RECIPIENT, "40003"),
    ],
)
async def test_a_refused_message_reaches_nobody(world, openid, ending, code):
    simulator, door = world

    ended = await door.adapter.send(message(openid))

    assert (ended.ending, ended.code) == (ending, code)
    assert simulator.ledger() == []


async def test_a_busy_provider_is_unknown_and_the_same_reference_may_be_sent_again(world):
    simulator, door = world

    ended = [await door.adapter.send(message("openid_busy")) for _ in range(2)]

    assert [each.ending for each in ended] == [HandOver.UNKNOWN, HandOver.ACCEPTED]
    assert len(simulator.ledger()) == 1


async def test_a_second_send_of_one_reference_gives_the_first_id_and_reaches_nobody_twice(world):
    simulator, door = world

    ended = [await door.adapter.send(message(OPENID)) for _ in range(3)]
    other_ref = await door.adapter.send(message(OPENID, ref="at_2"))
    other_openid = await door.adapter.send(message("openid_other"))

    assert len({each.provider_id for each in ended}) == 1
    assert len({ended[0].provider_id, other_ref.provider_id, other_openid.provider_id}) == 3
    assert len(simulator.ledger()) == 3


@pytest.mark.parametrize("mode", ["swallow", "drop", "slow"])
def test_an_answer_lost_after_the_work_was_done_is_unknown_and_sending_again_is_harmless(tmp_path, mode):
    async def lost():
        async with simulate(wechat, tmp_path / "ledger") as simulator:
            under_test = adapter(simulator.url)
            await simulator.post("/_sim/next", mode=mode)
            ended = [await under_test.send(message(OPENID)) for _ in range(2)]
            await under_test.aclose()
            return ended, simulator.ledger()

    ended, ledger = in_fast_time(lost())

    assert [each.ending for each in ended] == [HandOver.UNKNOWN, HandOver.ACCEPTED]
    assert [line["id"] for line in ledger] == [ended[1].provider_id]


async def test_a_503_without_the_work_is_unknown(world):
    simulator, door = world
    await simulator.post("/_sim/next", mode="status", status=503)

    ended = await door.adapter.send(message(OPENID))

    assert (ended.ending, ended.code, simulator.ledger()) == (HandOver.UNKNOWN, "http_503", [])


async def test_workers_share_one_token_and_replace_it_when_it_has_run_out(world):
    simulator, _ = world
    tokens = Tokens()
    workers = [adapter(simulator.url, tokens) for _ in range(2)]

    first = [await each.send(message(OPENID, ref=f"at_{n}")) for n, each in enumerate(workers)]
    held = dict(tokens.held)
    await simulator.post("/_sim/tokens/expire")
    second = [await each.send(message(OPENID, ref=f"at_x{n}")) for n, each in enumerate(workers)]

    for each in workers:
        await each.aclose()
    assert {each.ending for each in first + second} == {HandOver.ACCEPTED}
    assert list(held) == list(tokens.held) == [f"wechat:live:{APPID}"]
    assert held != tokens.held
    assert len(simulator.ledger()) == 4


async def test_a_token_nobody_gave_out_is_replaced(world):
    simulator, _ = world
    tokens = Tokens()
    tokens.held[f"wechat:live:{APPID}"] = "made up"
    under_test = adapter(simulator.url, tokens)

    ended = await under_test.send(message(OPENID))

    await under_test.aclose()
    assert ended.ending is HandOver.ACCEPTED


async def test_values_too_long_for_their_keys_are_cut_and_accepted(world):
    _, door = world

    ended = await door.adapter.send(
        message(OPENID, {"thing1": "字" * 21, "phrase2": "已逾期三天了", "thing3": "一\n二"})
    )

    assert ended.ending is HandOver.ACCEPTED


async def test_a_wrong_secret_is_a_fault_of_the_set_up_and_a_check_tells(world):
    simulator, door = world
    under_test = adapter(simulator.url, app_secret="wrong")

    ended, checked = await under_test.send(message(OPENID)), await under_test.check()

    await under_test.aclose()
    assert (ended.ending, ended.code) == (HandOver.CONFIG, "40125")
    assert checked == Checked(ok=False, word="WeChat gives no token: 40125")
    assert (await door.adapter.check()).ok
    assert simulator.ledger() == []


# The simulator's own strictness


async def asked(url, path, **body):
    async with ClientSession() as http, http.post(f"{url}/cgi-bin/{path}", json=body) as answered:
        return await answered.json(content_type=None)


TICKET = {"grant_type": "client_credential", "appid": APPID, "secret": "simulator"}


async def test_a_token_stays_the_same_until_it_is_forced_anew(world):
    url = world[0].url
    first, same = [(await asked(url, "stable_token", **TICKET))["access_token"] for _ in range(2)]
    forced = (await asked(url, "stable_token", **TICKET, force_refresh=True))["access_token"]
    old = await asked(url, f"message/template/send?access_token={first}")

    assert first == same != forced
    assert old["errcode"] == 40001


@pytest.mark.parametrize(
    ("after", "values"),
    [(0, ["a"]), (6899.9, ["a"]), (6900, ["a", "b"]), (7199.9, ["a", "b"]), (7200, ["b"]), (9000, ["b"])],
)
def test_the_next_token_is_given_out_five_minutes_before_the_last_one_ends(after, values):
    known = wechat.rolled([], 100.0, "a")

    live = wechat.rolled(known, 100.0 + after, "b")

    assert [each.value for each in live] == values
    assert live[-1].ends - (100.0 + after) > 300


@pytest.mark.parametrize(
    ("changed", "errcode"),
    [({"grant_type": "x"}, 40002), ({"appid": ""}, 40013), ({"appid": 1}, 40013), ({"secret": "x"}, 40125)],
)
async def test_a_token_is_refused_with_its_reason(world, changed, errcode):
    assert (await asked(world[0].url, "stable_token", **TICKET | changed))["errcode"] == errcode


@pytest.mark.parametrize(
    ("changed", "errcode"),
    [
        ({}, 0),
        ({"touser": None}, 40003),
        ({"template_id": ""}, 40037),
        ({"data": []}, 47001),
        ({"data": {"thing1": "x"}}, 47001),
        ({"data": {"thing1": {"value": "字" * 20}}}, 0),
        ({"data": {"thing1": {"value": "字" * 21}}}, 47003),
        ({"data": {"thing1": {"value": ""}}}, 47003),
        ({"data": {"thing1": {"value": "一\n二"}}}, 47003),
    ],
)
async def test_a_message_is_refused_with_its_reason(world, changed, errcode):
    url = world[0].url
    token = (await asked(url, "stable_token", **TICKET))["access_token"]
    body = {"touser": OPENID, "template_id": "T", "data": {}} | changed

    assert (await asked(url, f"message/template/send?access_token={token}", **body))["errcode"] == errcode


async def test_a_message_without_a_token_is_refused(world):
    assert (await asked(world[0].url, "message/template/send"))["errcode"] == 41001
