"""Accounts in SQL: rows without credentials, each change with its history and its record."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import orjson
from sqlalchemy import insert, select
from sqlalchemy.engine import Row
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.accounts import AccountRow
from gateway.domain import Account, Mode, Money, Tenant, to_us
from gateway.ports import Entry
from gateway.store import schema
from gateway.store.database import Database
from gateway.store.log import Log

_ACCOUNT = schema.account.c


@dataclass(frozen=True, slots=True, kw_only=True)
class _Put:
    """An account as it shall stand; `renewed`: its credentials are other ones, which nothing else here shows."""

    account: Account
    enabled: bool = True
    renewed: bool = False


class AccountRows:
    """gateway.accounts.AccountStore, and what imports them."""

    def __init__(self, database: Database, log: Log, new_id: Callable[[str], str]) -> None:
        self._db = database
        self._log = log
        self._new_id = new_id

    async def accounts(self) -> list[AccountRow]:
        """Every account of every tenant, without credentials."""
        async with self._db.read() as conn:
            rows = await conn.execute(select(schema.account).order_by(_ACCOUNT.tenant, _ACCOUNT.name))
            return [_row(r) for r in rows]

    async def put(
        self, accounts: Sequence[Account], *, who: str, reason: str, renewed: Collection[tuple[Tenant, str]]
    ) -> list[str]:
        """Write accounts that are new or differ, in their credentials (`renewed`) or otherwise; their names.

        A shared account is written with all who share it: whoever is not among them does so no more.
        """
        async with self._db.write() as conn:
            left = await self._left(conn, accounts)
            puts = [_Put(account=a, renewed=(a.tenant, a.name) in renewed) for a in accounts]
            puts += [_Put(account=a, enabled=False) for a in left]
            return [put.account.name for put in puts if await self._put_one(conn, put, who, reason)]

    async def _left(self, conn: AsyncConnection, accounts: Sequence[Account]) -> list[Account]:
        """Rows of shared accounts whose tenants are not named any more."""
        given = {(a.mode, a.name) for a in accounts if a.weight is not None}
        named = {(a.tenant, a.name) for a in accounts}
        rows = await conn.execute(
            select(schema.account).where(_ACCOUNT.weight.is_not(None), _ACCOUNT.enabled.is_(True))
        )
        shared = [account_of(row) for row in rows]
        return [a for a in shared if (a.mode, a.name) in given and (a.tenant, a.name) not in named]

    async def _put_one(self, conn: AsyncConnection, put: _Put, who: str, reason: str) -> bool:
        account = put.account
        where = (_ACCOUNT.tenant == account.tenant, _ACCOUNT.name == account.name)
        before = (await conn.execute(select(schema.account).where(*where))).one_or_none()
        said = _said(account, enabled=put.enabled)
        was = None if before is None else _said(account_of(before), enabled=before.enabled)
        if was == said and not put.renewed:
            return False
        moment = await self._db.moment(conn)
        now = to_us(moment.real)
        values = {
            **_columns(account),
            "enabled": put.enabled,
            "revision": 1 if before is None else before.revision + 1,
            "updated_at": now,
        }
        if before is None:
            await conn.execute(
                insert(schema.account).values(tenant=account.tenant, name=account.name, **values)
            )
        else:
            await conn.execute(schema.account.update().where(*where).values(**values))
        await conn.execute(
            insert(schema.change).values(
                tenant=account.tenant,
                id=self._new_id("ch_"),
                at=now,
                who=who,
                kind="account",
                name=account.name,
                before=was,
                after=said,
                reason=reason,
            )
        )
        await self._log.append(
            conn,
            [
                Entry(
                    tenant=account.tenant,
                    kind="config",
                    at=moment.policy,
                    reason=reason,
                    body={
                        "what": "account",
                        "name": account.name,
                        "who": who,
                        "credentials": "renewed" if put.renewed else "as they were",
                    },
                )
            ],
        )
        return True


def _columns(account: Account) -> dict[str, Any]:
    return {
        "adapter": account.adapter,
        "endpoint": account.endpoint,
        "sender": account.sender,
        "price_amount": str(account.price.amount) if account.price else None,
        "price_currency": account.price.currency if account.price else None,
        "settings": orjson.dumps(dict(account.settings), option=orjson.OPT_SORT_KEYS).decode(),
        "weight": account.weight,
    }


def _said(account: Account, *, enabled: bool) -> str:
    said = _columns(account) | {"enabled": enabled}
    return orjson.dumps(said, option=orjson.OPT_SORT_KEYS).decode()


def _row(row: Row[Any]) -> AccountRow:
    return AccountRow(account=account_of(row), enabled=row.enabled, revision=row.revision)


def account_of(row: Row[Any]) -> Account:
    """An account from its row, without credentials."""
    price = Money(amount=Decimal(row.price_amount), currency=row.price_currency) if row.price_amount else None
    return Account(
        tenant=Tenant(row.tenant),
        name=row.name,
        mode=Mode(row.tenant.rpartition("/")[2]),
        adapter=row.adapter,
        endpoint=row.endpoint,
        sender=row.sender,
        price=price,
        settings=orjson.loads(row.settings),
        weight=row.weight,
    )
