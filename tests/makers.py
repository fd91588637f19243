"""Bodies that are right, for tests to spoil; and the policy clock set to where a test wants it."""

from datetime import UTC, datetime

from sqlalchemy import delete, insert, text

from gateway.domain import to_us
from gateway.store import schema

NOW = datetime(2026, 11, 24, 2, 0, tzinfo=UTC)
"""A Tuesday, 10:00 in Shanghai."""


async def set_clock(database, instant=NOW):
    """Let the policy clock stand (and go on from) there."""
    async with database.write() as conn:
        real = (await database.moment(conn)).real
        await conn.execute(delete(schema.clock))
        await conn.execute(insert(schema.clock).values(id=1, offset_us=to_us(instant) - to_us(real)))


async def rows(database, table, where="1=1"):
    """A table's rows."""
    async with database.read() as conn:
        return list(await conn.execute(text(f"SELECT * FROM {table} WHERE {where}")))


def borrower(number=1, **more):
    """A borrower as inline or in a batch, with a phone of their own."""
    return {
        "id": f"B-{number}",
        "name": "张三",
        "language": "zh-CN",
        "time_zones": [{"zone": "Asia/Shanghai", "source": "declared"}],
        "addresses": [{"channel": "sms", "value": phone(number), "kind": "personal"}],
        **more,
    }


def phone(number):
    """A mainland mobile number."""
    return f"+86138{number:08d}"


def debt(number=1, **more):
    """A debt as inline or in a batch."""
    return {
        "id": f"L-{number}",
        "creditor": "acme",
        "due_date": "2026-11-30",
        "balance": {"amount": "1280.50", "currency": "CNY"},
        **more,
    }


def reminder(number=1, **more):
    """A reminder with its borrower and debt inline."""
    return {
        "idempotency_key": f"k-{number}",
        "borrower": borrower(number),
        "debt": debt(number),
        "purpose": "pre_due_reminder",
        "channels": ["wechat", "sms"],
        "template": "pre_due",
        "facts": {"pay_url": "https://pay.example.com/x"},
        **more,
    }


def by_id(number=1, **more):
    """A reminder that names its borrower and debt by id."""
    return reminder(number, **{"borrower": f"B-{number}", "debt": f"L-{number}", **more})


def contact(number=1, **more):
    """A contact made elsewhere."""
    return {
        "idempotency_key": f"c-{number}",
        "borrower": f"B-{number}",
        "debt": f"L-{number}",
        "channel": "voice",
        "at": "2026-11-24T01:00:00Z",
        "outcome": "conversation",
        **more,
    }
