import asyncio
import json
import signal
import socket
import sys
from base64 import b64encode

import pytest
from aiohttp import ClientSession
from twilio.request_validator import RequestValidator
from twilio_wire import REF, SID, TOKEN, Simulator, account, message, tools

from channels.twilio_sms import Adapter
from gateway.domain import HandOver, Outcome
from gateway.simulators import twilio
from gateway.simulators.__main__ import options
from gateway.simulators.ledger import Ledger
from gateway.simulators.twilio_callbacks import signature

BASE = f"/2010-04-01/Accounts/{SID}"
SMS = {"To": "+12025550110", "From": "+12025550100", "Body": "hello"}
DIAL = {"To": "+12025550110", "From": "+12025550100", "Twiml": "<Response><Say>hello</Say></Response>"}


def basic(user=SID, secret=TOKEN):
    return {"Authorization": "Basic " + b64encode(f"{user}:{secret}".encode()).decode()}


async def ask(sim, method, path, fields=None, headers=None):
    async with (
        ClientSession() as session,
        session.request(method, sim.url + path, data=fields, headers=headers or basic()) as reply,
    ):
        return reply.status, await reply.json()


def test_the_published_example_has_its_published_signature():
    fields = {
        "CallSid": "CA1234567890ABCDE",
        "Digits": "1234",
        "From": "+14158675309",
        "To": "+18005551212",
        "Caller": "+14158675309",
    }

    assert (
        signature("12345", "https://mycompany.com/myapp.php?foo=1&bar=2", fields)
        == "RSOYDt4T1cUTdK1PDd93/VVr8B8="
    )


@pytest.mark.parametrize("fields", [{}, {"b": "", "a": "x y", "A": "您"}])
def test_the_vendors_validator_takes_its_signatures(fields):
    url = "http://127.0.0.1:8080/cb/x/y/z?event=amd"

    assert RequestValidator("secret").validate(url, fields, signature("secret", url, fields))


@pytest.mark.parametrize(
    "headers",
    [
        {"X": "none"},
        basic(secret="wrong"),
        basic(user="AC" + "1" * 32),
        {"Authorization": "Basic %"},
        {"Authorization": "Bearer x"},
    ],
)
@pytest.mark.parametrize("path", [".json", "/Messages.json", "/Calls.json"])
async def test_whoever_is_not_known_is_refused(sim, headers, path):
    status, body = await ask(sim, "GET", BASE + path, headers=headers)

    assert (status, body["code"]) == (401, 20003)


@pytest.mark.parametrize("user", [SID, "SK" + "2" * 32])
async def test_account_and_api_key_are_known(sim, user):
    status, body = await ask(sim, "GET", BASE + ".json", headers=basic(user))

    assert (status, body["sid"], body["status"]) == (200, SID, "active")


@pytest.mark.parametrize(
    ("path", "fields", "code"),
    [
        ("/Messages.json", SMS | {"To": ""}, 21604),
        ("/Messages.json", SMS | {"From": ""}, 21603),
        ("/Messages.json", SMS | {"Body": ""}, 21602),
        ("/Messages.json", SMS | {"Body": "x" * 1600}, None),
        ("/Messages.json", SMS | {"Body": "x" * 1601}, 21617),
        ("/Messages.json", SMS | {"ValidityPeriod": "0"}, 21624),
        ("/Messages.json", SMS | {"ValidityPeriod": "1"}, None),
        ("/Messages.json", SMS | {"ValidityPeriod": "36000"}, None),
        ("/Messages.json", SMS | {"ValidityPeriod": "36001"}, 21624),
        ("/Messages.json", SMS | {"ValidityPeriod": "1.5"}, 21624),
        ("/Calls.json", DIAL | {"To": ""}, 21201),
        ("/Calls.json", DIAL | {"From": ""}, 21213),
        ("/Calls.json", DIAL | {"Twiml": ""}, 21205),
        ("/Calls.json", DIAL | {"Twiml": "<Response>"}, 12100),
        ("/Calls.json", DIAL, None),
    ],
)
async def test_a_wrong_create_is_refused_and_not_in_the_ledger(sim, path, fields, code):
    status, body = await ask(sim, "POST", BASE + path, fields)

    assert (status, body.get("code")) == ((400, code) if code else (201, None))
    assert len(sim.ledger()) == (code is None)


async def test_what_was_created_is_listed_newest_first(sim):
    sids = [
        (await ask(sim, "POST", BASE + "/Messages.json", SMS | {"Body": str(n)}))[1]["sid"] for n in range(3)
    ]
    await ask(sim, "POST", BASE + "/Messages.json", SMS | {"To": "+12025550111"})

    _, body = await ask(sim, "GET", BASE + "/Messages.json?To=%2B12025550110&PageSize=2")
    _, others = await ask(sim, "GET", BASE + "/Messages.json?From=%2B12025550199")

    assert [m["sid"] for m in body["messages"]] == [sids[2], sids[1]]
    assert others["messages"] == []


@pytest.fixture
async def slow(tmp_path):
    ledger = Ledger(tmp_path / "slow.jsonl")
    running = await twilio.serve(host="127.0.0.1", port=0, ledger=ledger, delay=1.05, push_url=None)
    yield Simulator(f"http://127.0.0.1:{running.port}", tmp_path / "slow.jsonl")
    await running.aclose()
    ledger.close()


async def test_a_message_that_waits_longer_than_it_may_expires(slow, door):
    door.adapter = Adapter(account("twilio_sms", slow.url), tools())
    handed = await door.adapter.send(message(left=1, callback=door.callback_url()))
    await door.until(lambda d: d.receipts)
    await door.adapter.aclose()

    assert handed.ending is HandOver.ACCEPTED
    assert [(r.outcome, r.code) for r in door.receipts] == [(Outcome.FAILED, "30036")]


@pytest.mark.parametrize(("status", "code"), [("canceled", None), ("completed", None), ("ringing", 21218)])
async def test_a_call_that_does_not_speak_yet_can_be_cancelled(slow, status, code):
    _, call = await ask(slow, "POST", BASE + "/Calls.json", DIAL)

    _, body = await ask(slow, "POST", f"{BASE}/Calls/{call['sid']}.json", {"Status": status})

    assert (body.get("code"), body["status"]) == ((code, 400) if code else (None, "canceled"))


async def test_an_unknown_call_cannot_be_cancelled(sim):
    status, body = await ask(sim, "POST", f"{BASE}/Calls/CA{'0' * 32}.json", {"Status": "canceled"})

    assert (status, body["code"]) == (404, 20404)


async def test_a_callback_is_tried_again_as_its_fragment_asks(sim, door):
    door.adapter = Adapter(account("twilio_sms", sim.url), tools())
    door.refuse = 1
    await door.adapter.send(message(callback=door.callback_url()))
    await door.until(lambda d: len(d.receipts) == 3)
    await door.adapter.aclose()

    assert door.outcomes() == ["accepted", "accepted", "delivered"]


async def test_a_callback_without_a_fragment_is_not_tried_again(sim, door):
    door.adapter = Adapter(account("twilio_sms", sim.url), tools())
    door.refuse = 1
    await ask(sim, "POST", BASE + "/Messages.json", SMS | {"StatusCallback": door.callback_url()})
    await door.until(lambda d: d.outcomes()[-1:] == ["delivered"])
    await door.adapter.aclose()

    assert door.outcomes() == ["accepted", "delivered"]
    assert sim.ledger()[0]["ref"] == REF


async def command(*arguments, **more):
    return await asyncio.create_subprocess_exec(
        sys.executable,
        *("-W", "error", "-m", "gateway.simulators", *map(str, arguments)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        **more,
    )


@pytest.mark.parametrize("ending", ["term", "parent", "kill"])
async def test_the_command_says_its_ports_and_leaves_its_ledger_behind(tmp_path, ending):
    path = tmp_path / "ledger.jsonl"
    parent = ["--with-parent"] if ending == "parent" else []
    process = await command("--ledger", path, "--twilio", 0, "--delay-ms", 0, *parent)
    ports = json.loads(await process.stdout.readline())
    sim = Simulator(f"http://127.0.0.1:{ports['twilio']}", path)
    await ask(sim, "POST", BASE + "/Messages.json", SMS)
    match ending:
        case "term":
            process.send_signal(signal.SIGTERM)
        case "parent":
            process.stdin.close()
        case "kill":
            process.kill()
    out, err = await process.communicate()

    assert (process.returncode, out, err) == (-9 if ending == "kill" else 0, b"", b"")
    assert list(ports) == ["twilio"]
    assert [line["text"] for line in sim.ledger()] == ["hello"]


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ([], "--ledger"),
        (["--ledger", "l"], "name at least one simulator"),
        (["--ledger", "l", "--twilio", "x"], "--twilio"),
    ],
)
def test_a_wrong_command_line_says_what_is_wrong(capsys, arguments, word):
    with pytest.raises(SystemExit) as ended:
        options(arguments)

    assert ended.value.code == 2
    assert word in capsys.readouterr().err


async def test_a_port_that_is_taken_is_bad_input(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        process = await command("--ledger", tmp_path / "l", "--twilio", taken.getsockname()[1])
        out, err = await process.communicate()

    assert (process.returncode, out) == (2, b"")
    assert b"choose another port or file" in err
