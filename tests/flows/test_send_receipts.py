"""What providers say afterwards: in any order, more than once, by whomever it is signed, and what it stops."""

import asyncio
import hashlib
import time
from urllib.parse import urlencode

import aiohttp
import orjson
import pytest
from makers import borrower, by_id, debt, phone, reminder, rows
from sendrig import ON_SQLITE, TENANT

from gateway.errors import NotFound
from gateway.simulators.twilio_callbacks import signature
from gateway.standing import Standing
from gateway.store.standing import Standings

ABROAD = "+12025550110"
MAIL = "zhangsan@example.com"
OPENID = "openid-of-zhangsan-000000001"
ADDRESSES = [
    {"channel": "sms", "value": ABROAD, "kind": "personal"},
    {"channel": "voice", "value": ABROAD, "kind": "personal"},
    {"channel": "email", "value": MAIL, "kind": "personal"},
    {"channel": "wechat", "value": OPENID, "kind": "personal"},
]
URLENCODED = {"Content-Type": "application/x-www-form-urlencoded"}


async def sent(rig, channel="sms", **more):
    """A reminder that was just handed over; its attempt."""
    await rig.put(borrower(1, addresses=ADDRESSES), debt(1))
    await rig.take(by_id(1, channels=[channel], **more))
    await rig.drain()
    (attempt,) = await rig.attempts()
    assert attempt.state == "accepted"
    return attempt


async def twilio_says(rig, attempt, *, event="", secret="simulator", **fields):
    """A callback as Twilio sends and signs it."""
    link = rig.gateway.accounts.address(attempt.adapter, attempt.account, attempt.ref)
    target = link.removeprefix(rig.gateway.place.public_url) + event
    said = {"MessageSid": "SM1", **fields}
    headers = {"X-Twilio-Signature": signature(secret, link + event, said)}
    path, _, query = target.partition("?")
    return await rig.services.callbacks.receive(
        *path.split("/")[2:],
        method="POST",
        target=f"{path}?{query}",
        headers=headers,
        body=urlencode(said).encode(),
    )


async def everything(rig):
    """Every row of the tables that a receipt may touch."""
    tables = ("attempt", "attempt_ref", "reminder", "borrower", "address", "record", "record_side")
    return {table: sorted(map(repr, await rows(rig.database, table))) for table in tables}


async def reported(rig):
    """The states that receipts wrote to the log."""
    found = await rows(rig.database, "record", "kind = 'receipt'")
    return [row.state for row in sorted(found, key=lambda row: row.id)]


@ON_SQLITE
@pytest.mark.parametrize(("last_digit", "ends"), [("0", "delivered"), ("7", "failed")])
async def test_what_the_provider_reports_becomes_the_reminders_state(last_digit, ends, rig):
    there = [{"channel": "sms", "value": f"+1202555011{last_digit}", "kind": "personal"}]
    async with rig.served():
        (name,) = await rig.take(reminder(1, borrower=borrower(1, addresses=there), channels=["sms"]))
        await rig.drain()
        row = await rig.until(lambda: in_state(rig, name, ends))

    (attempt,) = await rig.attempts()
    assert (attempt.state, attempt.ending) == (ends, "accepted")
    assert attempt.provider_id == rig.reached()[0]["id"]
    assert row.next_at is None
    assert (await reported(rig))[-1] == ends


async def in_state(rig, name, state):
    row = await rig.reminder(name)
    return row if row.state == state else None


async def test_receipts_that_come_before_the_answer_stand_when_the_answer_comes(rig):
    await rig.simulators.next("twilio", "slow", seconds=2.5)
    async with rig.served():
        await rig.put(borrower(1, addresses=ADDRESSES), debt(1))
        (name,) = await rig.take(by_id(1, channels=["sms"]))
        draining = asyncio.create_task(rig.drain())
        await rig.until(lambda: in_state(rig, name, "delivered"))
        (during,) = await rig.attempts()
        await draining

    (attempt,) = await rig.attempts()
    assert (during.state, during.ending) == ("delivered", None)
    assert (attempt.state, attempt.ending) == ("delivered", "accepted")
    assert attempt.provider_id == rig.reached()[0]["id"]
    assert (await rig.reminder(name)).state == "delivered"


async def test_receipts_twice_and_out_of_order_end_at_the_highest_word(rig):
    attempt = await sent(rig)

    for status in ("sent", "delivered", "queued", "sent", "delivered", "failed", "undelivered"):
        assert (await twilio_says(rig, attempt, MessageStatus=status)).status < 300

    (after,) = await rig.attempts()
    assert after.state == "delivered"
    assert await reported(rig) == ["delivered"]
    assert (await rig.reminder(attempt.reminder)).state == "delivered"


@ON_SQLITE
@pytest.mark.parametrize("forged", ["secret", "field", "other_attempt"])
async def test_a_forged_receipt_is_refused_and_changes_nothing(forged, rig):
    attempt = await sent(rig)
    before = await everything(rig)

    if forged == "secret":
        answer = await twilio_says(rig, attempt, secret="guessed", MessageStatus="delivered")
    else:
        link = rig.gateway.accounts.address("twilio_sms", "sms-intl", attempt.ref)
        signed_link = link if forged == "field" else link.replace(attempt.ref, "at_" + "0" * 26)
        answer = await rig.receive(
            "twilio_sms",
            "sms-intl",
            attempt.ref,
            query=link.partition("?")[2],
            headers={"X-Twilio-Signature": signature("simulator", signed_link, {"MessageStatus": "sent"})},
            body=b"MessageStatus=" + (b"delivered" if forged == "field" else b"sent"),
        )

    assert answer.status == 403
    assert await everything(rig) == before


async def test_a_receipt_for_nothing_of_ours_is_not_found_and_leaves_no_trace(rig):
    attempt = await sent(rig)
    before = await everything(rig)
    link = rig.gateway.accounts.link(attempt.ref)

    for adapter, account, ref in (
        ("twilio_sms", "sms-intl", "at_01JDQ0000000000000000000AA"),
        ("twilio_sms", "voice", attempt.ref),
        ("twilio_voice", "sms-intl", attempt.ref),
        ("smtp", "mail", attempt.ref),
        ("aliyun_sms", "sms-cn", "guessed"),
        ("nothing", "sms-intl", attempt.ref),
    ):
        with pytest.raises(NotFound):
            await rig.receive(adapter, account, ref, query=f"t={link}")

    assert await everything(rig) == before


async def test_over_the_wire_a_forged_receipt_is_a_403_and_an_unknown_one_a_404(sqlite_url, open_rig):
    rig = await open_rig(sqlite_url)
    attempt = await sent(rig)
    async with rig.served() as url, aiohttp.ClientSession() as http:
        answers = {}
        for ref in (attempt.ref, "at_01JDQ0000000000000000000AA"):
            async with http.post(
                f"{url}/cb/twilio_sms/sms-intl/{ref}", data={"MessageStatus": "read"}
            ) as answer:
                answers[answer.status] = await answer.text()

    assert set(answers) == {403, 404}
    assert ABROAD not in "".join(answers.values())


async def next_one(rig, channel, *others):
    """What becomes of another reminder on that channel, and which channel it went on."""
    before = len(rig.reached())
    (name,) = await rig.take(
        by_id(
            1,
            idempotency_key=f"next:{channel}:{len(others)}:{before}",
            channels=[channel, *others],
            repeat=True,
        )
    )
    await rig.drain()
    row = await rig.reminder(name)
    return row.state, row.reason, [line["kind"] for line in rig.reached()[before:]]


async def test_a_complaint_in_a_receipt_stops_the_next_message(rig):
    """Aliyun pushes one list for a whole account; the account's own token is what proves it."""
    await rig.put(borrower(1, addresses=[{"channel": "sms", "value": phone(1)}, *ADDRESSES[1:]]), debt(1))
    await rig.take(by_id(1, channels=["sms"]))
    await rig.drain()
    (attempt,) = await rig.attempts()
    connected = rig.gateway.accounts.named(TENANT, "sms-cn")
    token = rig.gateway.accounts.callback_url(connected.account).rpartition("/")[2]
    report = {"out_id": attempt.ref, "biz_id": "1^0", "success": False, "err_code": "W-BLACK"}
    alien = {**report, "out_id": "at_01JDQ0000000000000000000AA"}

    body = orjson.dumps([alien, report])
    answer = await rig.receive("aliyun_sms", "sms-cn", token, body=body)

    assert orjson.loads(answer.body)["code"] == 0
    (after,) = await rig.attempts()
    assert (after.state, after.code) == ("failed", "W-BLACK")
    assert await next_one(rig, "sms") == ("suppressed", "opted_out", [])
    assert await next_one(rig, "sms", "email") == ("sent", None, ["email"])


async def test_one_click_stops_the_next_mail_and_nothing_else_does(rig):
    attempt = await sent(rig, "email")
    link = f"t={rig.gateway.accounts.link(attempt.ref)}"
    click = {"headers": URLENCODED, "body": b"List-Unsubscribe=One-Click"}

    for query in ("t=" + "0" * 32, "", "t=" + rig.gateway.accounts.link("at_other")):
        with pytest.raises(NotFound):
            await rig.receive("smtp", "mail", attempt.ref, query=query, **click)
    looked = await rig.receive("smtp", "mail", attempt.ref, query=link, method="GET")
    assert looked.status == 200
    assert await next_one(rig, "email") == ("sent", None, ["email"])

    answer = await rig.receive("smtp", "mail", attempt.ref, query=link, **click)
    again = await rig.receive("smtp", "mail", attempt.ref, query=link, **click)

    assert (answer.status, again.status) == (200, 200)
    assert await next_one(rig, "email") == ("suppressed", "opted_out", [])
    assert len(await rows(rig.database, "record", "kind = 'opt_out'")) == 1
    assert await next_one(rig, "email", "sms") == ("sent", None, ["sms"])


@ON_SQLITE
async def test_nine_on_a_call_stops_the_next_call(rig):
    attempt = await sent(rig, "voice")

    answer = await twilio_says(
        rig, attempt, event="&event=digits&lang=en-US", CallSid="CA1", Digits="9", CallStatus="in-progress"
    )
    await rig.advance(minutes=5)

    assert b"noted" in answer.body
    assert await next_one(rig, "voice") == ("suppressed", "opted_out", [])
    assert await next_one(rig, "voice", "sms") == ("sent", None, ["sms"])


@ON_SQLITE
async def test_a_refusal_that_the_provider_knows_of_stops_the_channel_at_once(rig):
    blocked = [{"channel": "sms", "value": "+12025550118", "kind": "personal"}, *ADDRESSES[2:]]
    await rig.put(borrower(1, addresses=blocked), debt(1))
    (name,) = await rig.take(by_id(1, channels=["sms", "email"]))
    await rig.drain()

    assert (await rig.reminder(name)).state == "sent"
    assert [line["kind"] for line in rig.reached()] == ["email"]
    assert [(a.channel, a.state, a.ending) for a in await rig.attempts()] == [
        ("sms", "rejected", "opt_out"),
        ("email", "accepted", "accepted"),
    ]
    assert await next_one(rig, "sms") == ("suppressed", "opted_out", [])


@ON_SQLITE
async def test_a_word_that_names_only_the_providers_id_waits_for_the_answer_that_tells_it(rig):
    """WeChat's event knows its own number alone, and may be quicker than the answer that gives the number."""
    await rig.simulators.next("wechat", "slow", seconds=0.4)
    await rig.put(borrower(1, addresses=ADDRESSES), debt(1))
    (name,) = await rig.take(by_id(1, channels=["wechat"]))
    draining = asyncio.create_task(rig.drain())
    await rig.until(lambda: asyncio.sleep(0, rig.reached()))

    answer = await wechat_event(rig, rig.reached()[0]["id"])
    await draining

    assert answer.body == b"success"
    assert (await rig.reminder(name)).state == "delivered"


async def wechat_event(rig, msgid, status="success"):
    connected = rig.gateway.accounts.named(TENANT, "wechat")
    token = rig.gateway.accounts.callback_url(connected.account).rpartition("/")[2]
    now, nonce = str(int(time.time())), "17"
    digest = hashlib.sha1("".join(sorted(("simulator", now, nonce))).encode()).hexdigest()
    body = (
        f"<xml><ToUserName>gh_1</ToUserName><FromUserName>{OPENID}</FromUserName><CreateTime>{now}</CreateTime>"
        f"<MsgType>event</MsgType><Event>TEMPLATESENDJOBFINISH</Event><MsgID>{msgid}</MsgID>"
        f"<Status>{status}</Status></xml>"
    )
    query = urlencode({"signature": digest, "timestamp": now, "nonce": nonce})
    return await rig.receive("wechat", "wechat", token, query=query, body=body.encode())


async def test_a_provider_that_took_what_it_had_refused_is_believed_and_not_asked_again(rig):
    await rig.simulators.next("twilio", "status", status=429, headers={"Retry-After": "60"})
    await rig.put(borrower(1, addresses=ADDRESSES), debt(1))
    (name,) = await rig.take(by_id(1, channels=["sms"]))
    await rig.drain()
    (attempt,) = await rig.attempts()
    assert (attempt.state, (await rig.reminder(name)).state) == ("rejected", "deferred")

    await twilio_says(rig, attempt, MessageStatus="sent")
    await rig.advance(minutes=5)
    await rig.drain()

    assert rig.reached() == []
    assert (await rig.reminder(name)).state == "sent"
    assert len(await rig.attempts()) == 1


@ON_SQLITE
@pytest.mark.parametrize(("early", "goes_on"), [("sent", True), ("undelivered", True), ("delivered", False)])
async def test_an_escalation_survives_a_receipt_that_is_quicker_than_the_answer(early, goes_on, rig):
    await rig.simulators.next("twilio", "slow", seconds=0.4)
    await rig.put(borrower(1, addresses=ADDRESSES), debt(1))
    (name,) = await rig.take(by_id(1, channels=["sms"], escalate=[{"after_s": 3600, "channel": "email"}]))
    draining = asyncio.create_task(rig.drain())
    await rig.until(lambda: asyncio.sleep(0, rig.reached()))
    (attempt,) = await rig.attempts()
    await twilio_says(rig, attempt, MessageStatus=early)
    await draining
    assert [a.ending for a in await rig.attempts()] == ["accepted"]

    await rig.advance(minutes=59)
    await rig.drain()
    assert len(rig.reached()) == 1
    await rig.advance(minutes=2)
    await rig.drain()

    assert [line["kind"] for line in rig.reached()] == ["sms", "email"][: 1 + goes_on]
    assert (await rig.reminder(name)).state == ("sent" if goes_on else "delivered")


TOO_MUCH = {"MessageStatus": "failed", "ErrorCode": "30001"}


async def stands(rig):
    """How the account stands, which the rig's SMS abroad goes through."""
    _, found = await Standings(rig.database).standings()
    return found.get("acme/live|sms-intl", Standing())


async def test_what_a_provider_took_and_gave_up_because_there_was_too_much_goes_again_later(rig):
    first = await sent(rig)
    await twilio_says(rig, first, **TOO_MUCH)
    after = await everything(rig)

    row = await rig.reminder(first.reminder)
    assert (row.state, row.reason, row.by, row.tries) == ("deferred", "quota", "sms-intl", 0)
    assert [(a.state, a.ending, a.code) for a in await rig.attempts()] == [("rejected", "accepted", "30001")]
    assert (await stands(rig)).level == 1
    for late in (TOO_MUCH, {"MessageStatus": "sent"}, {"MessageStatus": "queued"}):
        await twilio_says(rig, first, **late)
    assert await everything(rig) == after

    await rig.advance(seconds=59)
    await rig.drain()
    assert len(await rig.attempts()) == 1
    await rig.advance(seconds=2)
    await rig.drain()

    assert [a.state for a in await rig.attempts()] == ["rejected", "accepted"]
    assert (await rig.reminder(first.reminder)).state == "sent"
    assert len(rig.reached()) == 2  # the first one only got into the provider's queue


@ON_SQLITE
async def test_a_day_that_a_carrier_says_later_is_used_up_closes_the_account(rig):
    await twilio_says(rig, await sent(rig), MessageStatus="undelivered", ErrorCode="30023")
    await rig.advance(seconds=3)
    await rig.drain()

    assert (await stands(rig)).used_up_until is not None
    assert await rig.states() == {("deferred", "quota"): 1}
    assert len(rig.reached()) == 1


@ON_SQLITE
async def test_what_was_given_up_before_its_answer_came_goes_again_too(rig):
    await rig.simulators.next("twilio", "slow", seconds=1.5)
    await rig.put(borrower(1, addresses=ADDRESSES), debt(1))
    (name,) = await rig.take(by_id(1, channels=["sms"], escalate=[{"after_s": 3600, "channel": "email"}]))
    draining = asyncio.create_task(rig.drain())
    await rig.until(lambda: asyncio.sleep(0, rig.reached()))
    (attempt,) = await rig.attempts()
    await twilio_says(rig, attempt, **TOO_MUCH)
    await draining

    assert [(a.state, a.ending) for a in await rig.attempts()] == [("rejected", "accepted")]
    await rig.advance(seconds=61)
    await rig.drain()
    assert [line["kind"] for line in rig.reached()] == ["sms", "sms"]
    row = await rig.reminder(name)
    assert (row.state, row.step) == ("sent", 1)


@ON_SQLITE
async def test_an_escalation_keeps_its_time_when_its_first_step_was_given_up(rig):
    attempt = await sent(rig, escalate=[{"after_s": 3600, "channel": "email"}])
    at = (await rig.reminder(attempt.reminder)).next_at
    await twilio_says(rig, attempt, **TOO_MUCH)

    row = await rig.reminder(attempt.reminder)
    assert (row.state, row.reason, row.next_at) == ("deferred", "quota", at)
    await rig.advance(minutes=61)
    await rig.drain()
    assert [line["kind"] for line in rig.reached()] == ["sms", "email"]
    assert (await rig.reminder(attempt.reminder)).state == "sent"


@ON_SQLITE
async def test_one_whose_step_was_cancelled_does_not_go_again_when_its_first_one_was_given_up(rig):
    attempt = await sent(rig, escalate=[{"after_s": 3600, "channel": "email"}])
    await rig.intake.cancel(TENANT, attempt.reminder, {})
    await twilio_says(rig, attempt, **TOO_MUCH)
    await rig.advance(hours=2)
    await rig.drain()

    assert [a.state for a in await rig.attempts()] == ["rejected"]
    assert len(rig.reached()) == 1
    row = await rig.reminder(attempt.reminder)
    assert (row.state, row.reason, row.next_at) == ("cancelled", "cancelled", None)
