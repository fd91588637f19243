"""Pauses and stops while it sends: what gets no go, what goes on when they end, and what providers take back."""

import asyncio
import os
from dataclasses import replace
from datetime import timedelta

import pytest
from aiohttp import web
from makers import NOW, borrower, by_id, debt, phone, reminder, rows
from sendrig import ON_SQLITE, TENANT

from gateway.domain import Tenant
from gateway.pauses import Kind, PauseScope
from gateway.quotas.model import Scope
from gateway.store.keys import Role
from gateway.store.pauses import Actor, Wanted

SMS = {"channels": ["sms"]}
OPS = Actor(owner=TENANT, holder="ann", role=Role.OPS, since=NOW - timedelta(days=900))


def scope(**words):
    own = {
        word: words.pop(word) for word in ("portfolio", "jurisdiction", "template_version") if word in words
    }
    return PauseScope(quota=Scope(**words), **own)


@pytest.fixture
def pauses(rig):
    return rig.services.pauses


@pytest.fixture
def put(pauses):
    """Sets one; its answer."""

    async def put(*, kind="pause", until=None, ramp_s=0, by=OPS, **words):
        wanted = Wanted(
            key=os.urandom(8).hex(),
            kind=Kind(kind),
            scope=scope(**words),
            until=until,
            ramp_s=ramp_s,
            reason="a test",
        )
        return await pauses.put(wanted, by)

    return put


async def held(pauses, name):
    return {item["id"] for item in (await pauses.reminders(TENANT, name, limit=500, after=None)).items}


async def drain(rig, **hooks):
    """One drain of what is due by SMS: a queue that is wholly paused stays due."""
    async with rig.sender(**hooks) as sender:
        await sender.drain_one("sms")


async def resumed(rig, pauses, name, by=OPS):
    await pauses.resume(name, None, "it is over", by)
    await rig.duties.followup.once()


async def test_what_is_paused_waits_untouched_and_goes_when_it_is_resumed(rig, pauses, put):
    names = await rig.take(*(reminder(n, **SMS) for n in range(1, 4)))
    pause = await put(channel="sms")

    await drain(rig)
    assert rig.reached() == []
    assert await held(pauses, pause["id"]) == set(names)
    assert await rig.states() == {("waiting", None): 3}
    shown = await rig.services.reads.reminder(TENANT, names[0])
    assert (shown["state"], shown["reason"], shown["by"]) == ("waiting", "paused", pause["id"])

    await resumed(rig, pauses, pause["id"])
    await drain(rig)
    assert len(rig.reached()) == 3
    assert (await rig.services.reads.reminder(TENANT, names[0]))["reason"] is None
    assert await held(pauses, pause["id"]) == set()


async def test_a_step_that_is_still_to_come_is_held_up_and_counted_as_well(rig, pauses, put):
    step = [{"after_s": 3600, "channel": "email"}]
    to_come, over = await rig.take(reminder(1, **SMS, escalate=step), reminder(2, **SMS))
    await drain(rig)
    assert {(await rig.reminder(name)).state for name in (to_come, over)} == {"sent"}
    (waiting,) = await rig.take(reminder(3, **SMS))

    stop = await put(kind="stop")

    assert await held(pauses, stop["id"]) == {to_come, waiting}
    assert stop["waiting"] == (await pauses.shown(TENANT, stop["id"]))["waiting"] == 2
    assert stop["calling"] == []


@ON_SQLITE
async def test_a_step_waits_with_what_goes_by_its_own_channel(rig, put):
    """A pause of the channel before it does not hold it up; one of its own does."""
    mail = {"channel": "email", "value": "wang@example.com"}
    text = {"channel": "sms", "value": phone(1), "kind": "personal"}
    await rig.put(borrower(1, addresses=[text, mail]), debt(1))
    await rig.take(by_id(1, **SMS, escalate=[{"after_s": 3600, "channel": "email"}]))
    await rig.drain()
    await put(channel="sms")
    await rig.advance(hours=1, minutes=1)
    async with rig.sender() as sender:
        await sender.drain_one("email")

    assert [line["kind"] for line in rig.reached()] == ["sms", "email"]


@pytest.mark.parametrize("kind", ["pause", "stop"])
async def test_one_set_between_deciding_and_go_gives_no_go_and_says_which_it_is(rig, pauses, put, kind):
    names = await rig.take(*(reminder(n, **SMS) for n in range(1, 4)))
    made = []

    async def before(_intents):
        if not made:
            made.append(await put(kind=kind, account="sms-cn"))

    await drain(rig, before_go=before)

    assert rig.reached() == []
    (pause,) = made
    assert pause["calling"] == []
    reason = {"pause": "paused", "stop": "stopped"}[kind]
    assert await rig.states() == {("deferred", reason): 3}
    found = [await rig.reminder(name) for name in names]
    assert {row.by for row in found} == {pause["id"]}
    assert [row.next_at for row in found] == [row.expires_at for row in found]
    assert {row.state for row in await rig.attempts()} == {"void"}
    assert await held(pauses, pause["id"]) == set(names)


async def test_one_set_during_a_call_names_it_and_says_later_that_it_may_arrive(rig, pauses, put):
    await rig.take(reminder(1, **SMS))
    await rig.simulators.next("aliyun", "slow", seconds=2)

    draining = asyncio.create_task(drain(rig))
    await rig.until(lambda: asyncio.sleep(0, rig.reached()))
    stop = await put(kind="stop")
    refs = [row.ref for row in await rig.attempts() if row.state == "calling"]
    assert stop["calling"] == refs != []
    await rig.duties.followup.once()
    assert (await pauses.shown(TENANT, stop["id"]))["may_arrive"] == []

    await draining
    for _ in range(2):
        await rig.duties.followup.once()
    shown = await pauses.shown(TENANT, stop["id"])
    assert (shown["recalled"], shown["may_arrive"]) == ([], refs)
    assert [bool(row.followed) for row in await rows(rig.database, "pause")] == [True]


@ON_SQLITE
async def test_what_was_put_off_by_a_worker_that_had_not_heard_of_the_end_is_due_again(rig, pauses, put):
    (name,) = await rig.take(reminder(1, **SMS))
    pause = await put(account="sms-cn")
    async with rig.sender() as sender:
        await resumed(rig, pauses, pause["id"])
        await sender.drain_one("sms")
    assert (await rig.reminder(name)).by == pause["id"]

    await rig.duties.followup.once()
    await drain(rig)
    assert len(rig.reached()) == 1

    await rig.aged("pause.resumed_at", seconds=61)
    await rig.duties.followup.once()
    assert [bool(row.followed) for row in await rows(rig.database, "pause")] == [True]


@ON_SQLITE
async def test_its_end_is_an_act_on_record_and_lets_go(rig, pauses, put):
    await rig.take(reminder(1, **SMS))
    pause = await put(account="sms-cn", until=NOW + timedelta(minutes=10))
    await drain(rig)
    (row,) = await rows(rig.database, "reminder")
    assert (row.state, row.reason, row.by) == ("deferred", "paused", pause["id"])

    await rig.advance(minutes=9)
    await rig.duties.followup.once()
    assert (await pauses.shown(TENANT, pause["id"]))["state"] == "active"
    await rig.advance(minutes=1)
    await rig.duties.followup.once()
    await drain(rig)

    shown = await pauses.shown(TENANT, pause["id"])
    assert (shown["state"], shown["resumed_by"]) == ("resumed", "gateway")
    assert [row.who for row in await rows(rig.database, "change", f"name = '{pause['id']}'")] == [
        "ann",
        "gateway",
    ]
    assert len(rig.reached()) == 1


@ON_SQLITE
@pytest.mark.parametrize("words", [{"portfolio": "cards"}, {"jurisdiction": "CN"}], ids=str)
async def test_changing_the_debt_or_the_borrower_leads_out_of_no_stop(rig, pauses, put, words):
    raw = reminder(1, **SMS)
    raw["debt"] |= {"portfolio": "cards", "governing_law": "CN-GD"}
    (name,) = await rig.take(raw)
    stop = await put(kind="stop", **words)

    moved = debt(1, portfolio="loans", governing_law="VN", borrower="B-1")
    await rig.services.intake.debts(TENANT, [moved])
    await rig.puts(residence="VN")
    await drain(rig)

    assert rig.reached() == []
    assert (await rig.reminder(name)).reason == "stopped"
    assert await held(pauses, stop["id"]) == {name}


@ON_SQLITE
@pytest.mark.parametrize("words", [{"portfolio": "loans"}, {"jurisdiction": "VN"}], ids=str)
async def test_what_comes_under_a_stop_later_is_stopped_too(rig, pauses, put, words):
    raw = reminder(1, **SMS)
    raw["debt"] |= {"portfolio": "cards", "governing_law": "CN-GD"}
    (name,) = await rig.take(raw)
    stop = await put(kind="stop", **words)
    assert await held(pauses, stop["id"]) == set()

    await rig.services.intake.debts(TENANT, [debt(1, portfolio="loans", governing_law="VN", borrower="B-1")])
    await drain(rig)

    assert rig.reached() == []
    assert await held(pauses, stop["id"]) == {name}

    await pauses.resume(stop["id"], None, "it is over", replace(OPS, holder="bob"))
    await resumed(rig, pauses, stop["id"])
    await drain(rig)
    assert len(rig.reached()) == 1


@ON_SQLITE
async def test_the_deployment_stops_every_tenant_of_its_mode(rig, put):
    await rig.take(reminder(1, **SMS))
    everyone = Actor(owner=Tenant("*/live"), holder="root", role=Role.ADMIN, since=None)
    stop = await put(kind="stop", by=everyone)

    await drain(rig)

    assert rig.reached() == []
    assert stop["waiting"] == 1


class Ringing:
    """A provider whose calls ring until they are cancelled, but for the first: that one was answered."""

    def __init__(self):
        self.calls, self.cancelled = [], []

    async def create(self, _request):
        self.calls.append(f"CA{len(self.calls):032x}")
        return web.json_response({"sid": self.calls[-1], "status": "queued"}, status=201)

    async def update(self, request):
        sid = request.match_info["sid"]
        assert (await request.post())["Status"] == "canceled"
        if sid == self.calls[0]:
            return web.json_response({"sid": sid, "status": "in-progress"})
        self.cancelled.append(sid)
        return web.json_response({"sid": sid, "status": "canceled"})


@pytest.fixture
async def ringing():
    provider, app = Ringing(), web.Application()
    account = "/2010-04-01/Accounts/{account}"
    app.add_routes([web.post(f"{account}/Calls.json", provider.create)])
    app.add_routes([web.post(f"{account}/Calls/{{sid}}.json", provider.update)])
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    provider.port = runner.addresses[0][1]
    yield provider
    await runner.cleanup()


@ON_SQLITE
async def test_a_stop_takes_back_the_calls_that_still_ring_and_a_pause_does_not(rig, pauses, put, ringing):
    await rig.turn_to("twilio", ringing.port)
    numbers = [{"channel": "voice", "value": f"+1202555011{n}", "kind": "personal"} for n in range(3)]
    for n, number in enumerate(numbers, 1):
        raw = reminder(n, channels=["voice"])
        raw["borrower"] |= {"addresses": [number]}
        await rig.take(raw)
    async with rig.sender() as sender:
        await sender.drain_one("voice")
    refs = {row.provider_id: row.ref for row in await rows(rig.database, "attempt_ref")}
    assert len(ringing.calls) == 3

    await put()
    await rig.duties.followup.once()
    assert ringing.cancelled == []
    stop = await put(kind="stop", channel="voice")
    for _ in range(2):
        await rig.duties.followup.once()

    shown = await pauses.shown(TENANT, stop["id"])
    assert sorted(ringing.cancelled) == sorted(ringing.calls[1:])
    assert sorted(shown["recalled"]) == sorted(refs[sid] for sid in ringing.calls[1:])
    assert shown["may_arrive"] == [refs[ringing.calls[0]]]
    assert stop["calling"] == []
