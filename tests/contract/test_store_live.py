"""What workers read twice a second: one statement while nothing changed, and every change with the next."""

import os
from datetime import timedelta
from decimal import Decimal

import pytest
from makers import NOW, set_clock
from sqlalchemy import event, insert

from gateway.domain import Account, HandOver, Mode, Tenant
from gateway.domain import Handed as Answer
from gateway.pauses import Kind, PauseScope
from gateway.quotas.model import Scope
from gateway.standing import Ending
from gateway.store import schema, standing
from gateway.store.accounts import AccountRows
from gateway.store.keys import Role
from gateway.store.live_config import LiveRows
from gateway.store.pauses import Actor, Pauses
from gateway.store.pauses import Wanted as WantedPause
from gateway.store.quota_acts import Quotas, Wanted

TENANT = Tenant("acme/live")
POOL = "acme/live|sms-intl"
TEXTS = Account(
    tenant=TENANT,
    name="sms-intl",
    mode=Mode.LIVE,
    adapter="twilio_sms",
    endpoint=None,
    sender="+15005550006",
    price=None,
    settings={"pace": "3"},
)


@pytest.fixture
async def live(database):
    await set_clock(database, NOW)
    return LiveRows(database)


@pytest.fixture
def asked(database):
    """The statements that were sent since it was last emptied."""
    found = []

    def note(conn, cursor, statement, *rest):
        found.append(statement)

    event.listen(database._writer.sync_engine, "before_cursor_execute", note)
    if database.sqlite:
        event.listen(database._reader.sync_engine, "before_cursor_execute", note)
    return found


async def test_while_nothing_changed_it_is_one_statement(live, asked):
    first = await live.read(())
    asked.clear()
    again = await live.read(())

    assert len([words for words in asked if words != "BEGIN"]) == 1
    assert (again.seq, again.quotas, again.pauses) == (first.seq, first.quotas, first.pauses)
    assert again.moment.real > first.moment.real


async def test_a_quota_that_is_set_changed_and_unset_is_read_next(live, database, log):
    acts = Quotas(database, log, os.urandom, channel_of=lambda _: "sms")
    seen = [(await live.read(())).quotas]
    for version, rate in ((None, Decimal(50)), (1, Decimal(20)), (2, None)):
        said = {"rate": rate} if rate else {}
        wanted = Wanted(owner=TENANT, name="sms", said=said, version=version, reason="r", who="ann")
        await (acts.put(wanted) if rate else acts.delete(wanted))
        seen.append((await live.read(())).quotas)

    assert [[quota.rate for quota in quotas] for quotas in seen] == [[], [50], [20], []]


async def test_a_pause_that_is_set_and_lifted_is_read_next(live, database, log):
    pauses = Pauses(
        *(database, log, os.urandom),
        channel_of=lambda _: "sms",
        has_template=lambda _: True,
        one_person=False,
    )
    by = Actor(owner=TENANT, holder="ann", role=Role.OPS, since=NOW)
    wanted = WantedPause(
        key="k",
        kind=Kind.PAUSE,
        scope=PauseScope(quota=Scope(channel="sms")),
        until=NOW + timedelta(hours=1),
        ramp_s=0,
        reason="r",
    )
    assert (await live.read(())).pauses == ()
    made = await pauses.put(wanted, by)
    (held,) = (await live.read(())).pauses
    assert (held.id, held.holds(NOW + timedelta(minutes=59)), held.holds(held.until)) == (
        made["id"],
        True,
        False,
    )
    await pauses.resume(made["id"], 60, "r", by)

    (ended,) = (await live.read(())).pauses
    assert (ended.holds(NOW), ended.ramp_s) == (False, 60)


async def test_what_an_account_comes_with_is_read_next_though_no_number_says_it(live, database, log):
    accounts = AccountRows(database, log, lambda prefix: prefix + os.urandom(4).hex())
    seen = [await live.read(())]
    for pace in ("3", "7"):
        account = Account(**{**_fields(TEXTS), "settings": {"pace": pace}})
        await accounts.put([account], who="ann", reason="r", renewed=())
        seen.append(await live.read(()))

    assert [[quota.rate for quota in one.quotas] for one in seen] == [[], [3], [7]]
    assert len({one.seq for one in seen}) == 1


def _fields(account):
    return {name: getattr(account, name) for name in account.__dataclass_fields__}


async def test_how_an_account_stands_is_read_next_though_no_number_says_it(live, database):
    async with database.write() as conn:
        await conn.execute(insert(schema.standing).values(pool=POOL, state="{}", down=False, seq=0))
    seen = [await live.read(())]
    for _ in range(2):
        async with database.write() as conn:
            handed = Answer(ending=HandOver.NOT_SENT, code="refused")
            ending = Ending(pool=POOL, adapter="twilio_sms", handed=handed)
            await standing.learn(conn, await database.moment(conn), [ending])
        seen.append(await live.read(()))

    errors = [[sum(t.errors for t in s.tallies) for s in one.standings.values()] for one in seen]
    assert errors == [[], [1], [2]]
    assert len({one.seq for one in seen}) == 1


async def test_who_grants_the_pace_is_read_next(live, database):
    before = await live.read(())
    async with database.write() as conn:
        await conn.execute(schema.live.update().values(source="redis", epoch=8))
    after = await live.read(())

    assert [(one.source, one.epoch) for one in (before, after)] == [("sql", 1), ("redis", 8)]
