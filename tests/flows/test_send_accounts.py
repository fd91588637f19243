"""Accounts that fail, throttle or have used up their day: what waits, what goes another way, what comes back."""

import asyncio
from datetime import timedelta

import orjson
import pytest
from makers import NOW, borrower, phone, reminder, rows
from moody import against
from sendrig import ON_SQLITE, SIGNED_IN, TENANT
from sqlalchemy import update
from test_send_outages import working

import channels
from gateway.accounts import parse
from gateway.domain import Tenant, to_us
from gateway.errors import BadInput
from gateway.outcomes import MAX_TRIES
from gateway.standing import Breaker, Standing
from gateway.store import schema

POOL = f"{TENANT}|sms-cn"
BETA = Tenant("beta/live")
SMS = {"channels": ["sms"]}
SECOND = """
[[account]]
name = "sms-second"
tenant = "acme"
mode = "live"
adapter = "twilio_sms"
endpoint = "http://127.0.0.1:{twilio}"
sender = "+15005550006"
[account.credentials]
account_sid = "env:SIM_TWILIO_ACCOUNT_SID"
auth_token = "env:SIM_TWILIO_AUTH_TOKEN"
[account.settings]
pace = 500
"""


async def refuses(rig, code, *, status=200, count=1000):
    """Aliyun answers its next sends so, and does nothing."""
    await rig.simulators.next(
        "aliyun", "status", status=status, body=orjson.dumps({"Code": code}).decode(), count=count
    )


async def bring_in(rig, text):
    drawn = parse(text.format(**rig.simulators.ports), adapters=channels.names(), environ=SIGNED_IN)
    await rig.gateway.account_desk.bring_in(drawn, who="tests", reason="a test")
    return drawn


async def stands(rig, pool=POOL):
    _, standings = await rig.gateway.standings.standings()
    return standings.get(pool, Standing())


async def listed(rig, name="sms-cn"):
    (found,) = [a for a in await rig.gateway.account_desk.listed(TENANT) if a["name"] == name]
    return found


async def aged(rig, **delta):
    """Let that much real time have passed since its breaker opened."""
    past = timedelta(**delta) // timedelta(microseconds=1)
    (row,) = await rows(rig.database, "standing", f"pool = '{POOL}'")
    said = orjson.loads(row.state)
    said["probe_at"] -= past
    async with rig.database.write() as conn:
        await conn.execute(update(schema.standing).values(state=orjson.dumps(said).decode()))


async def come_back(rig):
    """The provider is asked after, and what waits is let in until nothing does."""
    for _ in range(12):
        await rig.duties.probing.once()
        await rig.drain()
        if {state for state, _ in await rig.states()} <= {"sent"}:
            return


def some(people, **more):
    return [reminder(n, **{**SMS, **more}) for n in people]


def by_mail(n, **more):
    """A reminder by SMS or else by e-mail."""
    mail = {"channel": "email", "value": f"b{n}@example.com", "kind": "personal"}
    person = borrower(n)
    return reminder(
        n, borrower={**person, "addresses": [*person["addresses"], mail]}, channels=["sms", "email"], **more
    )


async def test_a_wrong_password_stops_the_account_and_what_waits_goes_out_when_it_is_mended(rig):
    await refuses(rig, "SignatureDoesNotMatch", status=400)
    await rig.take(*some(range(5)))
    await rig.drain()

    tried = [a for a in await rig.attempts() if a.state == "rejected"]
    assert 1 <= len(tried) <= 5
    await rig.advance(seconds=3)
    await rig.drain()
    assert await rig.states() == {("deferred", "account_down"): 5}
    assert len([a for a in await rig.attempts() if a.state == "rejected"]) == len(tried), (
        "nothing more was tried"
    )
    shown = (await listed(rig))["standing"]
    assert (shown["breaker"], shown["why"], shown["code"]) == ("open", "config", "SignatureDoesNotMatch")

    await rig.simulators.heal()
    checked = await rig.gateway.account_desk.check(TENANT, "sms-cn")
    assert (checked["ok"], checked["standing"]["breaker"]) == (True, "half_open")
    await come_back(rig)
    assert await rig.states() == {("sent", None): 5}
    assert (await stands(rig)).breaker is Breaker.CLOSED
    assert sorted(line["to"] for line in rig.reached()) == sorted(phone(n) for n in range(5))


@ON_SQLITE
async def test_while_it_is_down_its_provider_is_asked_and_no_reminder_is_spent(rig):
    await rig.turn_to("aliyun", 1)
    await rig.take(*some(range(12)))
    for _ in range(4):
        await rig.drain()
        await rig.advance(minutes=1)
    assert (await stands(rig)).why == "errors"
    spent = len(await rig.attempts())
    await aged(rig, seconds=6)
    await rig.duties.probing.once()
    await rig.advance(minutes=20)
    await rig.drain()

    standing = await stands(rig)
    assert (standing.breaker, standing.interval.total_seconds()) == (Breaker.OPEN, 10)
    assert len(await rig.attempts()) == spent
    await rig.turn_to("aliyun", rig.simulators.ports["aliyun"])
    await aged(rig, seconds=11)
    await come_back(rig)
    assert await rig.states() == {("sent", None): 12}


@ON_SQLITE
async def test_the_next_account_takes_over_and_the_primarys_failure_stays_visible(rig):
    await bring_in(rig, SECOND)
    await refuses(rig, "isv.AMOUNT_NOT_ENOUGH")
    (first,) = await rig.take(reminder(1, **SMS))
    await rig.drain()
    await rig.advance(seconds=3)
    await rig.drain()
    await rig.take(*some(range(2, 8)))
    await rig.drain()

    assert [(a.account, a.state, a.code) for a in await rig.attempts(first)] == [
        ("sms-cn", "rejected", "isv.AMOUNT_NOT_ENOUGH"),
        ("sms-second", "accepted", None),
    ]
    assert await rig.states() == {("sent", None): 7}
    assert {a.account for a in await rig.attempts() if a.state == "accepted"} == {"sms-second"}
    assert (await listed(rig))["standing"]["code"] == "isv.AMOUNT_NOT_ENOUGH"
    assert (await listed(rig, "sms-second"))["standing"]["breaker"] == "closed"


@ON_SQLITE
async def test_what_waits_for_one_of_two_that_are_down_goes_when_the_other_is_back(rig):
    await bring_in(rig, SECOND)
    await refuses(rig, "SignatureDoesNotMatch", status=400)
    await rig.simulators.next("twilio", "status", status=401, body='{"code": 20003}', count=1000)
    await rig.take(*some(range(1, 8)))
    for _ in range(3):
        await rig.drain()
        await rig.advance(seconds=3)
    assert await rig.states() == {("deferred", "account_down"): 7}
    assert {row.by for row in await rows(rig.database, "reminder")} == {"sms-cn"}

    await rig.simulators.next("twilio", "drop", count=0)
    await rig.gateway.account_desk.check(TENANT, "sms-second")
    await come_back(rig)
    assert await rig.states() == {("sent", None): 7}
    assert {a.account for a in await rig.attempts() if a.state == "accepted"} == {"sms-second"}
    assert (await stands(rig)).down


@ON_SQLITE
async def test_an_unknown_ending_is_never_tried_through_another_account(rig):
    await bring_in(rig, SECOND)
    await rig.simulators.next("aliyun", "drop")
    (name,) = await rig.take(reminder(1, **SMS))
    await rig.drain()
    await rig.advance(minutes=20)
    await rig.drain()

    assert [(a.account, a.state) for a in await rig.attempts(name)] == [("sms-cn", "unknown")]


@ON_SQLITE
async def test_what_comes_too_fast_waits_and_never_fails(rig):
    await refuses(rig, "Throttling.User", status=400)
    (name,) = await rig.take(reminder(1, **SMS))
    async with rig.database.write() as conn:
        await conn.execute(update(schema.reminder).values(tries=MAX_TRIES - 1))
    for _ in range(3):
        await rig.drain()
        await rig.advance(seconds=6)
    row = await rig.reminder(name)

    assert (row.state, row.reason, row.by, row.tries) == ("deferred", "quota", "sms-cn", MAX_TRIES - 1)
    assert len([a for a in await rig.attempts() if a.state == "rejected"]) == 3
    standing = await stands(rig)
    assert not standing.down
    assert standing.level > 0
    await rig.simulators.heal()
    await rig.drain()
    assert await rig.states() == {("sent", None): 1}


@ON_SQLITE
async def test_a_day_that_is_used_up_is_waited_for_and_never_changes_the_channel(rig):
    await refuses(rig, "isv.DAY_LIMIT_CONTROL")
    await rig.take(reminder(1, **SMS), by_mail(2))
    await rig.drain()
    await rig.advance(seconds=3)
    await rig.drain()

    waiting = await rows(rig.database, "reminder")
    assert {(r.state, r.reason, r.by) for r in waiting} == {("deferred", "quota", "sms-cn")}
    until = (await stands(rig)).used_up_until
    offset = (await rows(rig.database, "clock"))[0].offset_us
    assert {abs(r.next_at - offset - to_us(until)) < 3_000_000 for r in waiting} == {True}
    assert (await listed(rig))["standing"]["barred"] == "quota"


@ON_SQLITE
async def test_what_came_when_the_day_was_used_up_goes_through_the_next_account_at_once(rig):
    await bring_in(rig, SECOND)
    await refuses(rig, "isv.DAY_LIMIT_CONTROL")
    await rig.take(reminder(1, **SMS))
    await rig.drain()
    await rig.advance(seconds=3)
    await rig.drain()

    assert [(a.account, a.state) for a in await rig.attempts()] == [
        ("sms-cn", "rejected"),
        ("sms-second", "accepted"),
    ]


@pytest.mark.parametrize(
    ("hour", "hours", "goes"),
    [(0, 48, None), (0, 0.2, "email"), (9.8, 13, "email"), (9.8, 23, None)],
    ids=["in time", "too late", "closed until it is too late", "closed for the night"],
)
@ON_SQLITE
async def test_an_account_that_is_down_changes_the_channel_only_where_waiting_would_mean_expiry(
    rig, hour, hours, goes
):
    await rig.advance(hours=hour)
    await refuses(rig, "SignatureDoesNotMatch", status=400)
    await rig.take(reminder(1, **SMS))
    await rig.drain()
    expires = (NOW + timedelta(hours=hours)).isoformat()
    (name,) = await rig.take(by_mail(2, expires_at=expires))
    await rig.drain()

    row = await rig.reminder(name)
    assert (row.state, row.reason) == (("sent", None) if goes else ("deferred", "account_down"))
    assert [a.channel for a in await rig.attempts(name) if a.state == "accepted"] == ([goes] if goes else [])


@pytest.mark.parametrize("other", ["none", "opted out"])
@ON_SQLITE
async def test_what_can_go_no_other_way_waits_to_its_end_for_the_account_and_goes_when_it_is_back(rig, other):
    await refuses(rig, "SignatureDoesNotMatch", status=400)
    await rig.take(reminder(1, **SMS))
    await rig.drain()
    soon = (NOW + timedelta(minutes=10)).isoformat()
    (name,) = await rig.take(
        reminder(2, expires_at=soon, **SMS) if other == "none" else by_mail(2, expires_at=soon)
    )
    if other == "opted out":
        await rig.puts("B-2", opt_outs=[{"channel": "email", "at": NOW.isoformat()}])
    await rig.drain()

    row = await rig.reminder(name)
    assert (row.state, row.reason, row.by) == ("deferred", "account_down", "sms-cn")
    await rig.simulators.heal()
    await rig.advance(seconds=3)
    await rig.gateway.account_desk.check(TENANT, "sms-cn")
    await come_back(rig)
    assert await rig.states() == {("sent", None): 2}


SHARED = """
[[account]]
name = "sms-shared"
tenants = {tenants}
mode = "live"
adapter = "twilio_sms"
endpoint = "http://127.0.0.1:{twilio}"
sender = "+15005550006"
[account.credentials]
account_sid = "env:SIM_TWILIO_ACCOUNT_SID"
auth_token = "env:SIM_TWILIO_AUTH_TOKEN"
"""


def shared(tenants):
    return SHARED.replace("{tenants}", "{{" + tenants + "}}")


@ON_SQLITE
async def test_tenants_share_an_account_its_address_and_how_it_stands(rig):
    drawn = await bring_in(rig, shared("acme = 3, beta = 1"))

    found = {
        a.account.tenant: a.account
        for a in await rig.gateway.account_rows.accounts()
        if a.account.name == "sms-shared"
    }
    assert {tenant: a.weight for tenant, a in found.items()} == {TENANT: 3, BETA: 1}
    assert len({rig.gateway.accounts.callback_url(a) for a in drawn}) == 1
    assert {rig.gateway.accounts.named(t, "sms-shared").pool for t in (TENANT, BETA)} == {"*/live|sms-shared"}


@ON_SQLITE
async def test_other_credentials_are_taken_up_though_nothing_else_differs(rig):
    before = rig.gateway.accounts.named(TENANT, "sms-cn")
    text = rig.simulators.accounts()
    same = parse(text, adapters=channels.names(), environ=SIGNED_IN)
    other = parse(text, adapters=channels.names(), environ={**SIGNED_IN, "SIM_ALIYUN_KEY_SECRET": "another"})
    desk = rig.gateway.account_desk

    assert await desk.bring_in(same, who="tests", reason="a test") == []
    assert rig.gateway.accounts.named(TENANT, "sms-cn") is before
    assert await desk.bring_in(other, who="tests", reason="a test") == ["sms-cn"]
    assert rig.gateway.accounts.named(TENANT, "sms-cn") is not before


@ON_SQLITE
async def test_whoever_is_left_out_shares_no_more_and_may_come_back(rig):
    await bring_in(rig, shared("acme = 3, beta = 1"))
    await bring_in(rig, shared("acme = 2"))
    assert rig.gateway.accounts.named(BETA, "sms-shared") is None
    assert rig.gateway.accounts.named(TENANT, "sms-shared").account.weight == 2
    await bring_in(rig, shared("acme = 2, beta = 1"))

    assert rig.gateway.accounts.named(BETA, "sms-shared").account.weight == 1


@ON_SQLITE
async def test_a_shared_account_and_one_that_a_tenant_has_alone_have_two_names(rig):
    await bring_in(rig, SECOND)
    with pytest.raises(BadInput) as wrong:
        await bring_in(rig, shared("acme = 3, beta = 1").replace("sms-shared", "sms-second"))

    assert [(f.at, f.code) for f in wrong.value.faults] == [
        ("/accounts/0/name", "name_taken"),
        ("/accounts/1/name", "name_taken"),
    ]


@ON_SQLITE
async def test_no_call_begins_250_ms_after_the_first_refusal_of_a_password(rig):
    async with against(rig) as provider, working(rig):
        provider.mood = "wrong password"
        await rig.take(*some(range(100, 160)))
        await rig.until(lambda: asyncio.sleep(0, provider.asked))
        await asyncio.sleep(1)

        assert max(provider.asked) - provider.asked[0] <= 250_000
        assert (await stands(rig)).why == "config"
        assert "failed" not in {state for state, _ in await rig.states()}
