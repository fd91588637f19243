"""The next channel: by escalation, when an address is dead, and when the preferred one is closed."""

import asyncio
from contextlib import asynccontextmanager

import orjson
import pytest
from aiohttp import web
from makers import borrower, by_id, debt, phone, reminder, rows
from sendrig import ON_SQLITE, TENANT, Hooked, done
from sqlalchemy import text

from gateway.domain import Outcome, Receipt
from gateway.errors import Conflict, Unavailable

ABROAD = "+12025550110"
MAIL = "zhangsan@example.com"
OPENID = "openid-of-zhangsan-000000001"


def at(channel, value, kind="personal"):
    return {"channel": channel, "value": value, "kind": kind}


EVERYWHERE = [at("sms", ABROAD), at("voice", ABROAD), at("email", MAIL), at("wechat", OPENID)]
IN_AN_HOUR = [{"after_s": 3600, "channel": "email"}, {"after_s": 7200, "channel": "wechat"}]


@pytest.fixture
def kinds(rig):
    """The kinds of what was reached, in order."""
    return lambda: [line["kind"] for line in rig.reached()]


async def take(rig, addresses=EVERYWHERE, **more):
    await rig.put(borrower(1, addresses=addresses), debt(1))
    (name,) = await rig.take(by_id(1, **more))
    return name


async def standing(rig, name):
    row = await rig.reminder(name)
    return row.state, row.reason


async def test_every_step_of_an_escalation_goes_at_its_time_and_once(rig, kinds):
    name = await take(rig, channels=["sms"], escalate=IN_AN_HOUR)
    seen = []
    for minutes in (0, 59, 2, 118, 3, 600):
        await rig.advance(minutes=minutes)
        await rig.drain()
        seen.append(len(kinds()))

    assert seen == [1, 1, 2, 2, 3, 3]
    assert kinds() == ["sms", "email", "wechat"]
    assert await standing(rig, name) == ("sent", None)
    assert {a.reminder for a in await rig.attempts()} == {name}


@ON_SQLITE
async def test_what_was_delivered_escalates_no_further(rig, kinds):
    async with rig.served():
        name = await take(rig, channels=["sms"], escalate=IN_AN_HOUR)
        await rig.drain()
        await rig.until(lambda: delivered(rig, name))
    await rig.advance(hours=5)
    await rig.drain()

    assert kinds() == ["sms"]
    assert await standing(rig, name) == ("delivered", None)


async def delivered(rig, name):
    return (await rig.reminder(name)).state == "delivered"


class Unanswered(Hooked):
    """Commits the first outcome of a batch, and the answer to that is lost."""

    lost = False

    @asynccontextmanager
    async def transaction(self):
        ended = None
        async with self._store.transaction() as tx:
            yield tx
            ended = await tx.conn.scalar(text("SELECT count(*) FROM attempt WHERE ended_at IS NOT NULL"))
        if ended and not self.lost:
            self.lost = True
            raise Unavailable


@pytest.mark.parametrize("steps", [1, 2])
async def test_an_outcome_that_is_written_twice_skips_no_step_and_begins_nothing_anew(steps, rig, kinds):
    """The answer to the call is lost as well: an unknown may be written over an unknown."""
    await rig.simulators.next("twilio", "drop")
    name = await take(rig, channels=["sms"], escalate=IN_AN_HOUR[:steps])
    store = Unanswered(rig.gateway.store)
    async with rig.sender(store=store) as sender:
        await sender.drain()
    assert store.lost
    assert await standing(rig, name) == ("unknown", None)
    for hours in (1, 2, 24):
        await rig.advance(hours=hours, minutes=1)
        await rig.drain()

    assert kinds() == ["sms", "email", "wechat"][: 1 + steps]
    row = await rig.reminder(name)
    assert (row.state, row.step, row.next_at) == ("sent", steps, None)


@pytest.mark.parametrize("receipt", [False, True])
async def test_an_escalation_goes_on_when_its_owner_died_in_the_call(receipt, rig, kinds):
    """A receipt may have come before: then nothing is unknown, and no ending is ever written."""
    await rig.simulators.next("twilio", "swallow")
    name = await take(rig, channels=["sms"], escalate=IN_AN_HOUR)
    async with rig.sender() as sender:
        draining = asyncio.create_task(sender.drain())
        await rig.until(lambda: asyncio.sleep(0, rig.reached()))
        if receipt:
            await fails(rig)
        await sender.die(draining)
    await buried(rig)
    assert await standing(rig, name) == (("failed" if receipt else "unknown"), None)
    seen = []
    for minutes in (59, 2, 118, 3):
        await rig.advance(minutes=minutes)
        await rig.drain()
        seen.append(len(kinds()))

    assert seen == [1, 2, 2, 3]
    assert kinds() == ["sms", "email", "wechat"]


async def fails(rig):
    """The provider says of the only attempt that it failed."""
    (attempt,) = await rig.attempts()
    connected = rig.gateway.accounts.named(TENANT, attempt.account)
    assert await rig.services.callbacks.take(connected, [Receipt(outcome=Outcome.FAILED, ref=attempt.ref)])


async def buried(rig):
    """Another worker judges who is dead, and sweeps."""
    owners = rig.duties.owners
    await owners.register()
    if owners._heart is not None:
        await rig.until(lambda: asyncio.sleep(0, owners._heart.steady))
    await rig.aged("owner.heartbeat_at", seconds=11)
    await rig.duties.sweep.once()


async def test_who_was_judged_dead_and_writes_its_outcome_after_all_begins_the_same_step(rig, kinds):
    await rig.simulators.next("twilio", "slow", seconds=1)
    name = await take(rig, channels=["sms"], escalate=IN_AN_HOUR)
    async with rig.sender() as sender:
        draining = asyncio.create_task(sender.drain())
        await rig.until(lambda: asyncio.sleep(0, rig.reached()))
        await sender.judged_dead()
        before = await rig.reminder(name)
        await draining
    assert (before.state, before.step) == ("unknown", 1)
    assert await standing(rig, name) == ("sent", None)
    for hours in (1, 2, 24):
        await rig.advance(hours=hours, minutes=1)
        await rig.drain()

    assert kinds() == ["sms", "email", "wechat"]


class Holding:
    """A provider that answers a message once it is told what."""

    def __init__(self):
        self.asked, self.answer = asyncio.Event(), asyncio.get_running_loop().create_future()

    async def create(self, _request):
        self.asked.set()
        status, said = await self.answer
        return web.json_response(said, status=status)


@pytest.fixture
async def holding():
    provider, app = Holding(), web.Application()
    app.add_routes([web.post("/2010-04-01/Accounts/{account}/Messages.json", provider.create)])
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    provider.port = runner.addresses[0][1]
    yield provider
    await runner.cleanup()


TAKEN = 201, {"sid": f"SM{0:032x}", "status": "queued"}
INVALID = 400, {"code": 21211, "message": "refused", "status": 400}
TOO_FAST = 429, {"code": 20429, "message": "refused", "status": 429}
NO_SUCH_KEY = 401, {"code": 20003, "message": "refused", "status": 401}


@asynccontextmanager
async def called_by_one_judged_dead(rig, holding, **more):
    """A reminder whose call is unknown while its owner still waits for the answer; after that it is written."""
    await rig.turn_to("twilio", holding.port)
    name = await take(rig, channels=["sms"], **more)
    async with rig.sender() as sender:
        draining = asyncio.create_task(sender.drain())
        await holding.asked.wait()
        await sender.judged_dead()
        yield name
        await draining


@pytest.mark.parametrize("answer", [INVALID, TOO_FAST, NO_SUCH_KEY], ids=["invalid", "too_fast", "no_key"])
async def test_a_refusal_that_comes_after_its_owner_was_judged_dead_leaves_the_next_step_its_time(
    answer, rig, kinds, holding
):
    async with called_by_one_judged_dead(rig, holding, escalate=IN_AN_HOUR) as name:
        before = await rig.reminder(name)
        holding.answer.set_result(answer)

    (attempt,) = await rig.attempts()
    after = await rig.reminder(name)
    assert (before.state, before.step, before.channel) == ("unknown", 1, "email")
    assert attempt.state == "rejected"
    assert (after.next_at, after.step, after.channel) == (before.next_at, 1, "email")
    seen = []
    for minutes in (58, 3, 118, 3):
        await rig.advance(minutes=minutes)
        await rig.drain()
        seen.append(kinds())
    assert seen == [[], ["email"], ["email"], ["email", "wechat"]]


async def cancel(rig, name):
    """What a cancel is answered."""
    return orjson.loads((await rig.intake.cancel(TENANT, name, {})).body)


async def test_a_cancel_takes_back_the_step_to_come_and_tells_what_was_sent(rig, kinds):
    name = await take(rig, channels=["sms"], escalate=IN_AN_HOUR)
    await rig.drain()

    told = [await cancel(rig, name) for _ in range(2)]
    await rig.advance(hours=5)
    await rig.drain()

    assert told == [{"id": name, "state": "sent"}] * 2
    assert kinds() == ["sms"]
    assert await standing(rig, name) == ("sent", "cancelled")
    assert (await rig.reminder(name)).next_at is None
    (record,) = await rows(rig.database, "record", "kind = 'cancelled'")
    assert (record.reminder, record.channel, record.state) == (name, "email", "sent")


@pytest.mark.parametrize("cancelled_at_night", [True, False])
async def test_what_was_sent_before_its_step_was_cancelled_counts_as_sent_already(
    cancelled_at_night, rig, kinds
):
    name = await take(rig, channels=["sms"], escalate=[{"after_s": 11 * 3600, "channel": "email"}])
    await rig.drain()
    await rig.advance(hours=11, minutes=10)
    if cancelled_at_night:
        await rig.drain()
        assert await standing(rig, name) == ("deferred", "OP.BASELINE.HOURS")

    assert await cancel(rig, name) == {"id": name, "state": "sent"}
    (again,) = await rig.take(by_id(1, idempotency_key="again", channels=["sms"]))
    await rig.advance(hours=11)
    await rig.drain()

    assert kinds() == ["sms"]
    assert await standing(rig, name) == ("sent", "cancelled")
    assert await standing(rig, again) == ("suppressed", "duplicate")


async def test_a_step_that_is_cancelled_before_its_go_is_not_called_and_what_was_sent_is_followed(rig, kinds):
    name = await take(rig, channels=["sms"], escalate=IN_AN_HOUR)
    await rig.drain()
    (first,) = await rig.attempts()
    await rig.advance(minutes=61)
    told = []

    async def before_go(intents):
        told.append(await cancel(rig, name))

    await rig.drain(before_go=before_go)

    assert told == [{"id": name, "state": "sent"}]
    assert kinds() == ["sms"]
    assert [a.state for a in await rig.attempts()] == ["accepted", "void"]
    assert await standing(rig, name) == ("sent", "cancelled")
    connected = rig.gateway.accounts.named(TENANT, first.account)
    for outcome in (Outcome.FAILED, Outcome.DELIVERED):
        assert await rig.services.callbacks.take(connected, [Receipt(outcome=outcome, ref=first.ref)])
        assert await standing(rig, name) == (outcome, "cancelled")
        assert (await rig.reminder(name)).next_at is None
    assert await cancel(rig, name) == {"id": name, "state": "delivered"}


async def test_a_step_that_is_called_just_now_is_too_late_to_cancel_and_the_one_after_it_is_not(rig, kinds):
    name = await take(rig, channels=["sms"], escalate=IN_AN_HOUR)
    await rig.drain()
    await rig.advance(minutes=61)
    told = set()

    async def after_go(granted):
        try:
            await cancel(rig, name)
        except Conflict as late:
            told.add(late.code)

    await rig.drain(after_go=after_go)
    assert (told, kinds()) == ({"too_late"}, ["sms", "email"])

    assert await cancel(rig, name) == {"id": name, "state": "sent"}
    await rig.advance(hours=5)
    await rig.drain()
    assert kinds() == ["sms", "email"]
    with pytest.raises(Conflict):
        await cancel(rig, await over(rig))


async def over(rig):
    """A reminder of somebody else that is sent and has nothing to come."""
    (name,) = await rig.take(reminder(2, channels=["sms"]))
    await rig.drain()
    return name


@pytest.mark.parametrize(
    ("answer", "becomes"), [(TAKEN, "sent"), (INVALID, "cancelled"), (TOO_FAST, "cancelled")]
)
async def test_what_was_cancelled_while_nobody_knew_of_its_call_goes_no_further_whatever_comes_late(
    answer, becomes, rig, kinds, holding
):
    """Where nobody was reached, the same job under another key is no duplicate."""
    async with called_by_one_judged_dead(rig, holding, escalate=IN_AN_HOUR) as name:
        assert await cancel(rig, name) == {"id": name, "state": "unknown"}
        holding.answer.set_result(answer)

    assert await standing(rig, name) == (becomes, "cancelled")
    assert (await rig.reminder(name)).next_at is None
    assert await cancel(rig, name) == {"id": name, "state": becomes}
    (again,) = await rig.take(by_id(1, idempotency_key="again", channels=["email"]))
    await rig.advance(hours=5)
    await rig.drain()
    assert await standing(rig, name) == (becomes, "cancelled")
    assert await standing(rig, again) == (
        ("suppressed", "duplicate") if becomes == "sent" else ("sent", None)
    )
    assert kinds() == ([] if becomes == "sent" else ["email"])


@ON_SQLITE
async def test_after_the_last_step_there_is_nothing_to_do(rig, kinds):
    name = await take(rig, channels=["sms"], escalate=IN_AN_HOUR[:1])
    await rig.drain()
    async with rig.database.write() as conn:
        await conn.execute(text("UPDATE reminder SET step = 2, next_at = accepted_at"))
    await rig.drain()

    assert kinds() == ["sms"]
    assert await standing(rig, name) == ("sent", "no_address")
    assert (await rig.reminder(name)).next_at is None


async def test_a_payment_ends_an_escalation_and_leaves_what_was_sent(rig, kinds):
    name = await take(rig, channels=["sms"], escalate=IN_AN_HOUR)
    await rig.drain()
    await rig.happens("L-1", type="paid")
    await rig.advance(hours=5)
    await rig.drain()

    assert kinds() == ["sms"]
    assert await standing(rig, name) == ("sent", "debt_paid")
    assert (await rig.reminder(name)).next_at is None


@ON_SQLITE
async def test_a_step_that_falls_into_the_night_is_decided_in_the_morning(rig, kinds):
    name = await take(rig, channels=["sms"], escalate=[{"after_s": 12 * 3600, "channel": "email"}])
    await rig.drain()
    await rig.advance(hours=12, minutes=1)
    await rig.drain()
    assert (kinds(), await standing(rig, name)) == (["sms"], ("deferred", "OP.BASELINE.HOURS"))

    await rig.advance(hours=11)
    done(await rig.intake.debts(TENANT, [{"id": "L-1", "state": "open"}]))
    await rig.drain()
    assert (kinds(), await standing(rig, name)) == (["sms", "email"], ("sent", None))


async def test_a_dead_address_is_left_for_the_next_channel_and_dead_on_its_own_channel_only(rig, kinds):
    """A number that Twilio takes for invalid (+15005550001) as a message may still be called."""
    dead = "+15005550001"
    name = await take(rig, [at("sms", dead), at("voice", dead), at("email", MAIL)], channels=["sms", "email"])
    await rig.drain()

    assert kinds() == ["email"]
    assert await standing(rig, name) == ("sent", None)
    assert [(a.channel, a.ending, a.code) for a in await rig.attempts()] == [
        ("sms", "permanent_recipient", "21211"),
        ("email", "accepted", None),
    ]
    stand = {row.channel: row.dead_at is not None for row in await rows(rig.database, "address")}
    assert stand == {"sms": True, "voice": False, "email": False}

    (again,) = await rig.take(by_id(1, idempotency_key="again", channels=["sms"], repeat=True))
    await rig.drain()
    assert await standing(rig, again) == ("suppressed", "no_address")


@ON_SQLITE
async def test_a_second_address_of_the_channel_is_tried_before_the_next_channel(rig, kinds):
    name = await take(
        rig, [at("sms", "+15005550001"), at("sms", ABROAD), at("email", MAIL)], channels=["sms", "email"]
    )
    await rig.drain()

    assert [line["to"] for line in rig.reached()] == [ABROAD]
    assert await standing(rig, name) == ("sent", None)


async def test_what_was_put_off_because_of_a_refused_attempt_is_due_again(rig, kinds):
    """Three messages to a dead number hold the day's three slots for a moment; what waited for that goes after all."""
    await rig.put(
        borrower(1, addresses=[at("sms", "+15005550001"), at("email", MAIL), at("wechat", OPENID)]), debt(1)
    )
    names = await rig.take(
        *(by_id(1, idempotency_key=f"s{n}", channels=["sms"], repeat=True) for n in range(3)),
        *(by_id(1, idempotency_key=c, channels=[c], repeat=True) for c in ("email", "wechat")),
    )
    meanwhile = []

    async def before_go(intents):
        if not meanwhile:
            async with rig.sender() as other:
                await other.drain_one("email")
                await other.drain_one("wechat")
            meanwhile.extend([await standing(rig, name) for name in names])

    async with rig.sender(before_go=before_go) as sender:
        await sender.drain_one("sms")
        await sender.drain()

    assert meanwhile == [("sending", None)] * 3 + [("deferred", "OP.CAPS.DAY")] * 2
    assert [await standing(rig, n) for n in names] == [("suppressed", "no_address")] * 3 + [
        ("sent", None)
    ] * 2
    assert sorted(kinds()) == ["email", "wechat"]


@ON_SQLITE
async def test_the_next_channel_is_taken_where_the_preferred_one_does_not_open_in_time(rig, kinds):
    await rig.put(
        borrower(1, addresses=EVERYWHERE, opt_outs=[{"channel": "sms", "at": "2026-11-24T01:00:00Z"}]),
        debt(1),
    )
    (name,) = await rig.take(by_id(1, channels=["sms", "wechat", "email"]))
    await rig.drain()

    assert kinds() == ["wechat"]
    assert await standing(rig, name) == ("sent", None)


@ON_SQLITE
async def test_mainland_numbers_go_by_one_account_and_all_others_by_another(rig):
    await rig.take(
        reminder(1, channels=["sms"]),
        reminder(2, channels=["sms"], borrower=borrower(2, addresses=[at("sms", ABROAD)])),
    )
    await rig.drain()

    assert {line["to"]: line["provider"] for line in rig.reached()} == {phone(1): "aliyun", ABROAD: "twilio"}
