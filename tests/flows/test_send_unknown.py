"""Endings that nobody knows: counted, asked about, never sent again blindly. And those that are known: tried again."""

import asyncio
import itertools
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest
from makers import NOW, borrower, by_id, debt, phone, rows
from sendrig import NEVER, ON_SQLITE, TENANT, Hooked
from sqlalchemy import delete, text

from gateway.domain import Outcome, Receipt, to_us
from gateway.errors import Unavailable
from gateway.pauses import Kind, PauseScope
from gateway.store import schema
from gateway.store.keys import Role
from gateway.store.pauses import Actor, Wanted

ABROAD = "+12025550110"
OPENID = "openid-of-zhangsan-000000001"
ADDRESSES = [
    {"channel": "sms", "value": ABROAD, "kind": "personal"},
    {"channel": "voice", "value": ABROAD, "kind": "personal"},
    {"channel": "email", "value": "swallow@example.com", "kind": "personal"},
    {"channel": "wechat", "value": OPENID, "kind": "personal"},
]
MAINLAND = [{"channel": "sms", "value": phone(1), "kind": "personal"}, *ADDRESSES[1:]]
OVER = timedelta(seconds=6)
"""Longer than the quarantine of these gateways."""
AGAIN = timedelta(minutes=2, seconds=1)
"""Longer than the wait between the first question and the second."""
DAY = timedelta(days=1)


_numbers = itertools.count()


def elsewhere(addresses):
    """The same with a number of this test's own: of two alike in the provider's list nothing would be known."""
    number = f"+1202556{next(_numbers):03d}0"
    return [{**a, "value": a["value"].replace(ABROAD, number)} for a in addresses]


async def unanswered(rig, channel, provider, addresses=ADDRESSES):
    """A reminder whose call did its work and got no answer; its attempt."""
    if provider is not None:
        await rig.simulators.next(provider, "drop")
    await rig.put(borrower(1, addresses=elsewhere(addresses)), debt(1))
    (name,) = await rig.take(by_id(1, channels=[channel]))
    await rig.drain()
    (attempt,) = await rig.attempts(name)
    assert (attempt.state, (await rig.reminder(name)).state) == ("unknown", "unknown")
    assert len(rig.reached()) == 1
    return attempt


async def asked_about(rig, *waits):
    """The attempt, after reconcile came by so many times, so long apart."""
    for wait in waits:
        await rig.aged(seconds=wait.total_seconds())
        await rig.duties.reconcile.once()
    (attempt,) = await rig.attempts()
    return attempt


async def test_nobody_is_asked_before_the_quarantine_is_over(rig):
    await unanswered(rig, "sms", "twilio")

    during = await asked_about(rig, timedelta(seconds=2))
    after = await asked_about(rig, OVER)

    assert (during.state, during.settle_tries) == ("unknown", 0)
    assert after.state != "unknown"


@ON_SQLITE
@pytest.mark.parametrize(
    ("channel", "provider", "addresses"),
    [("sms", "twilio", ADDRESSES), ("voice", "twilio", ADDRESSES), ("sms", "aliyun", MAINLAND)],
    ids=["twilio_sms", "twilio_voice", "aliyun_sms"],
)
async def test_the_providers_own_list_settles_an_unknown(channel, provider, addresses, rig):
    before = await unanswered(rig, channel, provider, addresses)

    after = await asked_about(rig, OVER)
    await rig.drain()

    assert after.state in {"accepted", "delivered", "conversation", "answered"}
    assert (await rig.reminder(before.reminder)).state in {"sent", "delivered", "read"}
    assert after.settle_at is None
    assert len(rig.reached()) == 1


@ON_SQLITE
async def test_a_message_that_is_known_to_be_anothers_settles_none_that_never_came(rig):
    """Two to one number through one sender: the provider lists one, and whose it is was answered."""
    await rig.put(borrower(1, addresses=elsewhere(ADDRESSES)), debt(1))
    await rig.simulators.next("twilio", "status")
    (lost,) = await rig.take(by_id(1, channels=["sms"]))
    await rig.drain()
    (came,) = await rig.take(by_id(1, channels=["sms"], idempotency_key="another", repeat=True))
    await rig.drain()
    assert [await stands(rig, name) for name in (lost, came)] == [("unknown", "http_503"), ("accepted", None)]

    for wait in (OVER, AGAIN):
        await rig.aged(seconds=wait.total_seconds())
        await rig.duties.reconcile.once()

    assert await stands(rig, lost) == ("failed", "not_shown")
    assert (await stands(rig, came))[0] == "accepted"
    assert len(rig.reached()) == 1


@ON_SQLITE
async def test_a_question_without_an_answer_is_none_of_the_two_that_do_not_show_it(rig):
    """Its account is off when it is asked about first."""
    await rig.put(borrower(1, addresses=elsewhere(ADDRESSES)), debt(1))
    await rig.simulators.next("twilio", "status")
    (name,) = await rig.take(by_id(1, channels=["sms"]))
    await rig.drain()

    found = []
    for wait, on in ((OVER, False), (AGAIN, True), (DAY, True)):
        async with rig.database.write() as conn:
            await conn.execute(text("UPDATE account SET revision = revision + 1, enabled = :on"), {"on": on})
        await rig.gateway.accounts.refresh()
        await rig.aged(seconds=wait.total_seconds())
        await rig.duties.reconcile.once()
        found.append(await stands(rig, name))

    assert found == [("unknown", "http_503"), ("unknown", "not_shown"), ("failed", "not_shown")]


async def stands(rig, reminder):
    (attempt,) = await rig.attempts(reminder)
    return attempt.state, attempt.code


async def test_the_same_key_settles_an_unknown_where_the_provider_drops_the_second(rig):
    before = await unanswered(rig, "wechat", "wechat")

    after = await asked_about(rig, OVER)

    assert (after.state, after.provider_id) == ("accepted", rig.reached()[0]["id"])
    assert (await rig.reminder(before.reminder)).state == "sent"
    assert [line["ref"] for line in rig.reached()] == [before.ref]


@ON_SQLITE
async def test_the_same_key_is_not_used_once_the_provider_may_have_forgotten_it(rig):
    await unanswered(rig, "wechat", "wechat")
    await rig.aged("attempt.called_at", minutes=9)

    after = await asked_about(rig, OVER, *[DAY] * 4)

    assert (after.state, after.settle_at) == ("unknown", None)
    assert len(rig.reached()) == 1


class CutOff(Hooked):
    """From its first go on this store is away, until it is told to be there."""

    away = tried = False

    async def go(self, *asked):
        went = await super().go(*asked)
        self.away = True
        return went

    @asynccontextmanager
    async def transaction(self):
        if self.away:
            self.tried = True
            raise Unavailable
        async with self._store.transaction() as tx:
            yield tx


class Between(Hooked):
    """Something happens after the first transaction."""

    def __init__(self, store, happens):
        super().__init__(store)
        self._happens, self._begun = happens, 0

    @asynccontextmanager
    async def transaction(self):
        self._begun += 1
        if self._begun == 2:
            await self._happens()
        async with self._store.transaction() as tx:
            yield tx


@asynccontextmanager
async def with_a_refusal_unwritten(rig):
    """A call that surely came to nothing; its owner cannot write that, and is judged dead. Yields how to let it."""
    await rig.put(borrower(1, addresses=ADDRESSES), debt(1))
    await rig.take(by_id(1, channels=["wechat"]))
    await rig.turn_to("wechat", NEVER)
    store = CutOff(rig.gateway.store)
    async with rig.sender(store=store) as sender:
        draining = asyncio.create_task(sender.drain_one("wechat"))
        await rig.until(lambda: asyncio.sleep(0, store.tried))
        await rig.turn_to("wechat", rig.simulators.ports["wechat"])
        await sender.judged_dead()
        assert [a.state for a in await rig.attempts()] == ["unknown"]

        async def writes():
            store.away = False
            await draining

        yield writes


async def test_a_refusal_that_is_written_after_the_provider_was_asked_again_frees_nothing(rig):
    """The provider took the second request, and its answer was lost."""
    async with with_a_refusal_unwritten(rig) as writes:
        await rig.simulators.next("wechat", "drop")
        asked = await asked_about(rig, OVER)
        assert (asked.state, asked.settle_tries, len(rig.reached())) == ("unknown", 1, 1)
        await writes()
    (late,) = await rig.attempts()
    assert (late.state, (await rig.reminder(late.reminder)).state) == ("unknown", "unknown")
    await rig.advance(minutes=30)
    await rig.drain()
    settled = await asked_about(rig, timedelta(minutes=3))

    assert (settled.state, settled.provider_id) == ("accepted", rig.reached()[0]["id"])
    assert (await rig.reminder(settled.reminder)).state == "sent"
    assert len(rig.reached()) == 1


async def test_what_was_refused_just_before_its_provider_would_be_asked_again_is_not_asked_about(rig):
    async with with_a_refusal_unwritten(rig) as writes:
        rig.gateway.store = Between(rig.gateway.store, writes)
        await rig.aged(seconds=OVER.total_seconds())
        await rig.gateway.worker().reconcile.once()
        rig.gateway.store = rig.gateway.store._store
        (first,) = await rig.attempts()
        assert (first.state, first.ending, rig.reached()) == ("rejected", "not_sent", [])
    await rig.advance(minutes=30)
    await rig.drain()

    (line,) = rig.reached()
    assert line["ref"] != first.ref
    assert [a.state for a in await rig.attempts()] == ["rejected", "accepted"]


@ON_SQLITE
async def test_what_a_look_up_tells_counts_though_another_word_came_meanwhile(rig):
    """A mainland number that ends in 8 complains."""
    number = [{"channel": "sms", "value": "+8613800000138", "kind": "personal"}]
    await rig.simulators.next("aliyun", "drop")
    await rig.put(borrower(1, addresses=number), debt(1))
    (name,) = await rig.take(by_id(1, channels=["sms"]))
    await rig.drain()
    (attempt,) = await rig.attempts()
    assert attempt.state == "unknown"

    async def said():
        connected = rig.gateway.accounts.named(TENANT, attempt.account)
        await rig.services.callbacks.take(connected, [Receipt(outcome=Outcome.ACCEPTED, ref=attempt.ref)])
        assert (await rig.reminder(name)).state == "sent"

    rig.gateway.store = Between(rig.gateway.store, said)
    await rig.aged(seconds=OVER.total_seconds())
    await rig.gateway.worker().reconcile.once()

    (after,) = await rig.attempts()
    assert (after.state, (await rig.reminder(name)).state) == ("failed", "failed")


async def stop_everything(rig):
    by = Actor(owner=TENANT, holder="ann", role=Role.OPS, since=NOW - timedelta(days=900))
    wanted = Wanted(key="s", kind=Kind.STOP, scope=PauseScope(), until=None, ramp_s=0, reason="a test")
    await rig.services.pauses.put(wanted, by)


@ON_SQLITE
@pytest.mark.parametrize("change", ["paid", "opted_out", "held", "night", "stopped"])
async def test_the_same_key_is_not_used_once_what_was_decided_does_not_hold(change, rig):
    """The first request may never have arrived: the second would reach somebody who is to be left alone by now."""
    await rig.simulators.next("wechat", "status", status=500)
    await rig.put(borrower(1, addresses=ADDRESSES), debt(1))
    (name,) = await rig.take(by_id(1, channels=["wechat"]))
    await rig.drain()
    assert [a.state for a in await rig.attempts(name)] == ["unknown"]

    match change:
        case "paid":
            await rig.happens("L-1", type="paid")
        case "opted_out":
            await rig.puts(opt_outs=[{"channel": "wechat", "at": "2026-11-24T02:00:00Z"}])
        case "held":
            await rig.puts(
                holds=[{"id": "h", "reason": "attorney", "from": "2026-11-24T01:00:00Z", "until": None}]
            )
        case "night":
            await rig.advance(hours=10, minutes=1)
        case "stopped":
            await stop_everything(rig)
    after = await asked_about(rig, OVER, *[DAY] * 4)

    assert (after.state, after.settle_at) == ("unknown", None)
    assert rig.reached() == []


@ON_SQLITE
async def test_a_complaint_that_a_look_up_tells_of_stops_the_channel(rig):
    """A mainland number that ends in 8 complains."""
    blocked = [{"channel": "sms", "value": "+8613800000128", "kind": "personal"}, *ADDRESSES[2:]]
    await rig.simulators.next("aliyun", "drop")
    await rig.put(borrower(1, addresses=blocked), debt(1))
    await rig.take(by_id(1, channels=["sms"]))
    await rig.drain()
    await rig.until(lambda: asyncio.sleep(0.05, rig.reached()))

    after = await asked_about(rig, OVER)
    (name,) = await rig.take(by_id(1, idempotency_key="next", channels=["sms"], repeat=True))
    await rig.drain()

    assert (after.state, after.code) == ("failed", "W-BLACK")
    row = await rig.reminder(name)
    assert (row.state, row.reason) == ("suppressed", "opted_out")


async def test_what_nobody_can_tell_is_parked_and_stays_counted(rig):
    """A relay cannot be asked about a mail."""
    before = await unanswered(rig, "email", None)

    after = await asked_about(rig, OVER)
    await rig.drain()

    assert (after.state, after.settle_at, after.settle_tries) == ("unknown", None, 0)
    assert (await rig.reminder(before.reminder)).state == "unknown"
    assert len(rig.reached()) == 1


@ON_SQLITE
async def test_of_two_alike_in_the_providers_list_nothing_is_known(rig):
    """A message of the same minute to the same number may be the other one."""
    attempt = await unanswered(rig, "sms", "twilio")
    await rig.take(by_id(1, idempotency_key="second", channels=["sms"], repeat=True))
    await rig.drain()
    assert len(rig.reached()) == 2

    await rig.aged(seconds=OVER.total_seconds())
    await rig.duties.reconcile.once()

    (after,) = await rig.attempts(attempt.reminder)
    assert (after.state, after.settle_tries) == ("unknown", 1)


async def test_a_provider_that_does_not_answer_holds_up_no_question_to_another(rig):
    """WeChat is asked and swallows it; what is unknown at Twilio from then on is settled meanwhile."""
    hanging = await unanswered(rig, "wechat", "wechat")
    await rig.simulators.next("wechat", "swallow")
    await rig.aged(seconds=OVER.total_seconds())

    async def of(ref):
        return next(a for a in await rig.attempts() if a.ref == ref)

    async def is_asked():
        return (await of(hanging.ref)).settle_tries == 1

    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(rig.duties.reconcile.run())
        await rig.until(is_asked)
        await rig.simulators.next("twilio", "drop")
        (name,) = await rig.take(by_id(1, idempotency_key="sms", channels=["sms"], repeat=True))
        await rig.drain()
        (lost,) = await rig.attempts(name)
        await rig.aged(seconds=OVER.total_seconds())

        async def is_settled():
            return (await of(lost.ref)).state != "unknown"

        await rig.until(is_settled)
        still = await of(hanging.ref)
        running.cancel()

    assert (await of(lost.ref)).state == "accepted"
    assert (still.state, still.settle_tries) == ("unknown", 1)
    assert still.settle_at < to_us(datetime.now(UTC))  # no next time is set before the answer


async def test_an_unknown_takes_its_place_in_the_caps(rig):
    """One that nobody knows of and two that were accepted: the day's three."""
    await unanswered(rig, "email", None)
    more = [by_id(1, idempotency_key=f"k{n}", channels=["sms"], repeat=True) for n in range(4)]
    await rig.take(*more)
    await rig.drain()

    assert [line["kind"] for line in rig.reached()] == ["email", "sms", "sms"]
    assert (await rig.states())["deferred", "OP.CAPS.DAY"] == 2


@ON_SQLITE
async def test_what_its_provider_does_not_show_twice_failed_and_is_not_sent_again(rig):
    """503 without Retry-After: it may have been taken, so it is asked about, and found nowhere."""
    await rig.simulators.next("twilio", "status", status=503)
    await rig.put(borrower(1, addresses=elsewhere(ADDRESSES)), debt(1))
    (name,) = await rig.take(by_id(1, channels=["sms"]))
    await rig.drain()
    assert [a.state for a in await rig.attempts()] == ["unknown"]

    before = await asked_about(rig, OVER)
    after = await asked_about(rig, AGAIN)
    await rig.drain()

    assert (before.state, after.state, after.code, after.settle_at) == (
        "unknown",
        "failed",
        "not_shown",
        None,
    )
    assert after.final_at == before.final_at
    assert (await rig.reminder(name)).state == "failed"
    assert rig.reached() == []


@ON_SQLITE
@pytest.mark.parametrize(
    ("provider", "channel"), [("twilio", "sms"), ("wechat", "wechat"), ("smtp", "email")]
)
async def test_a_provider_that_is_not_there_was_not_reached_and_is_tried_again(
    provider, channel, database_url, open_rig
):
    rig = await open_rig(database_url, ports={provider: NEVER})
    willing = [
        *ADDRESSES[:2],
        {"channel": "email", "value": "b@example.com", "kind": "personal"},
        ADDRESSES[3],
    ]
    await rig.put(borrower(1, addresses=willing), debt(1))
    (name,) = await rig.take(by_id(1, channels=[channel]))
    await rig.drain()
    row = await rig.reminder(name)
    assert (row.state, row.reason, row.called) == ("deferred", "account_down", False)
    assert row.by is not None

    await rig.turn_to(provider, rig.simulators.ports[provider])
    await rig.advance(seconds=10)
    await rig.drain()

    assert len(rig.reached()) == 1
    assert (await rig.reminder(name)).state == "sent"
    assert [(a.state, a.ending) for a in await rig.attempts()] == [
        ("rejected", "not_sent"),
        ("accepted", "accepted"),
    ]


@ON_SQLITE
@pytest.mark.parametrize(
    ("provider", "status", "channel", "addresses", "pause"),
    [
        ("twilio", 429, "sms", ADDRESSES, 40),
        ("twilio", 503, "sms", ADDRESSES, 40),
        ("twilio", 429, "voice", ADDRESSES, 40),
        ("aliyun", 429, "sms", MAINLAND, 5),
        ("wechat", 429, "wechat", ADDRESSES, 60),
    ],
)
async def test_a_provider_that_asks_to_slow_down_is_left_alone_for_that_long(
    provider, status, channel, addresses, pause, rig
):
    await rig.simulators.next(provider, "status", status=status, headers={"Retry-After": "40"})
    await rig.put(borrower(1, addresses=addresses), debt(1))
    (name,) = await rig.take(by_id(1, channels=[channel]))
    await rig.drain()
    row = await rig.reminder(name)
    (attempt,) = await rig.attempts()
    assert (row.state, row.reason, row.by) == ("deferred", "quota", attempt.account)
    assert attempt.ending == "retry_after"

    await rig.advance(seconds=pause - 3)
    await rig.drain()
    assert rig.reached() == []
    await rig.advance(seconds=4)
    await rig.drain()

    assert len(rig.reached()) == 1
    assert (await rig.reminder(name)).state == "sent"


async def test_what_is_refused_again_and_again_waits_longer_each_time_and_is_given_up_in_the_end(
    open_rig, sqlite_url
):
    """Its account's breaker, which opens meanwhile, is taken for mended each time: real time stands still here."""
    rig = await open_rig(sqlite_url, ports={"twilio": NEVER})
    await rig.put(borrower(1, addresses=ADDRESSES), debt(1, due_date="2027-01-30"))
    (name,) = await rig.take(by_id(1, channels=["sms"], template="care", purpose="service_notice"))
    waits = []
    async with rig.sender() as sender:
        for _ in range(25):
            async with rig.database.write() as conn:
                await conn.execute(delete(schema.standing))
            await rig.gateway.live.refresh()
            await sender.drain()
            row = await rig.reminder(name)
            if row.next_at is None:
                break
            waits.append(row.next_at - row.updated_at)
            await rig.advance(microseconds=row.next_at - row.updated_at + 1000)

    assert (row.state, row.reason, row.tries) == ("failed", "account_down", 20)
    assert waits == sorted(waits)
    assert waits[0] == 5_000_000
    assert waits[-1] == 900_000_000
    assert len(await rows(rig.database, "attempt", "state = 'rejected'")) == 20
