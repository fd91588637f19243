"""Accounts: read from accounts.toml once, kept in SQL and the vault, connected when first used."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import tomllib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal, InvalidOperation
from math import inf, log
from pathlib import Path
from typing import Any, Protocol, cast

from gateway.domain import Account, Channel, Mode, Money, Tenant
from gateway.errors import BadInput, Fault, NotFound, SetupError
from gateway.masking import Pii
from gateway.outcomes import Ways
from gateway.ports import Adapter, AdapterFactory, Checked, Checks, Moment, SharedTokens, Tools
from gateway.quotas.catalogue import faults as routing_faults
from gateway.quotas.catalogue import pace_of, unit_of
from gateway.quotas.model import Load, pool_of
from gateway.standing import Breaker, Standing, shown
from gateway.work import Refusal

MAX_FILE = 256 * 1024
RETIRED_S = 120.0
"""How long an adapter whose account changed stays open: longer than any permit and call together."""
LOOK_AGAIN = timedelta(minutes=15)
"""What waits for an account that is down is decided on again after this, or as soon as it is back."""
SAMPLE = 8
"""Of so many reminders that could go another way, one probes an account that is half open."""
_KEYS = {
    "name",
    "tenant",
    "tenants",
    "mode",
    "adapter",
    "endpoint",
    "sender",
    "price",
    "credentials",
    "settings",
}
_NEEDED = {"name", "mode", "adapter", "sender"}
_TABLES = {"tenants", "price", "credentials", "settings"}
MOST_SHARE = 1_000
"""The largest weight of a tenant in a shared account."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountRow:
    """An account as stored, without its credentials."""

    account: Account
    enabled: bool
    revision: int


class AccountStore(Protocol):
    """Where accounts are kept."""

    async def accounts(self) -> list[AccountRow]:
        """Every account of every tenant, without credentials."""


class Credentials(Protocol):
    """Where credentials are kept (the vault)."""

    async def credentials(self, tenant: Tenant, account: str) -> Mapping[str, Pii[str]]:
        """An account's credentials."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Connected:
    """An account and the adapter built for it."""

    account: Account
    adapter: Adapter
    ways: Ways

    @property
    def channel(self) -> Channel:
        """The channel it serves."""
        return self.adapter.channel

    def load(
        self, tenant: Tenant, template: str, priority: int, *, segments: int = 1, cost: Money | None = None
    ) -> Load:
        """What one start through it weighs on quotas."""
        return Load(
            tenant=tenant,
            channel=self.channel.value,
            adapter=self.account.adapter,
            account=self.account.name,
            template=template,
            shared=self.account.weight is not None,
            priority=priority,
            segments=segments,
            cost=cost,
        )

    @property
    def pool(self) -> str:
        """The account, unique in the deployment (gateway.quotas.model.pool_of)."""
        return _pool(self.account)

    def serves(self, country: str | None) -> bool:
        """Whether numbers of this country go through it (settings `countries`, `except_countries`)."""
        only = self.account.settings.get("countries", "").split()
        barred = self.account.settings.get("except_countries", "").split()
        return (not only or country in only) and country not in barred

    @property
    def by_country(self) -> bool:
        """Whether it serves some countries alone."""
        settings = self.account.settings
        return bool(settings.get("countries") or settings.get("except_countries"))

    def stands_in_for(self, other: Connected) -> bool:
        """Whether what waits for the other can go through it: they serve a country in common."""
        mine, theirs = (one.account.settings.get("countries", "").split() for one in (self, other))
        named = mine or theirs
        return not named or any(self.serves(country) and other.serves(country) for country in named)


def _pool(account: Account) -> str:
    return pool_of(account.tenant, account.name, shared=account.weight is not None)


def ordered(able: Sequence[Connected], reminder: str, tries: int) -> list[Connected]:
    """Accounts in the order in which a reminder tries them; after each hand-over that was refused the next in turn.

    By weight (settings `weight`), each reminder drawn by its own id; those without one are fall-backs. Where none
    has a weight, the first by name is the primary.
    """
    ranked = sorted(able, key=lambda one: (_rank(one, reminder), one.account.name))
    turn = tries % len(ranked) if ranked else 0
    return ranked[turn:] + ranked[:turn]


def _rank(one: Connected, reminder: str) -> float:
    """Weighted rendezvous hashing: the least goes first, each as often as its weight is a part of all."""
    weight = int(one.account.settings.get("weight", "0"))
    drawn = hashlib.sha256(f"{one.account.name}|{reminder}".encode()).digest()
    return -log((int.from_bytes(drawn[:8]) + 1) / 2**64) / weight if weight else inf


def choose(
    able: Sequence[Connected], reminder: str, tries: int, standings: Mapping[str, Standing], moment: Moment
) -> tuple[Connected, Refusal | None]:
    """The account for a reminder among those (at least one) that can serve it; a refusal when none may start now.

    The first that may start. One that is half open takes a sample of what could go another way.
    """
    order = ordered(able, reminder, tries)
    barred = [standings.get(one.pool, Standing()).barred(moment.real) for one in order]
    free = [one for one, why in zip(order, barred, strict=True) if why is None]
    if free:
        sampled = hashlib.sha256(reminder.encode()).digest()[0] % SAMPLE == 0
        sure = free if sampled else [one for one in free if not _half_open(one, standings)]
        return (sure or free)[0], None
    one, why = min(
        ((one, why) for one, why in zip(order, barred, strict=True) if why), key=lambda pair: pair[1][1]
    )
    return one, refusal(one.account.name, why, moment)


def refusal(account: str, why: tuple[str, datetime], moment: Moment) -> Refusal:
    """What a standing that bars (gateway.standing.Standing.barred) says to a start."""
    reason, until = why
    wait = LOOK_AGAIN if reason == "account_down" else until - moment.real
    return Refusal(reason=reason, by=account, again=moment.policy + wait)


def _half_open(one: Connected, standings: Mapping[str, Standing]) -> bool:
    return standings.get(one.pool, Standing()).breaker is Breaker.HALF_OPEN


class Accounts:
    """The accounts that this process knows, refreshed every two seconds at most."""

    def __init__(
        self,
        *,
        store: AccountStore,
        credentials: Credentials,
        load: Callable[[str], AdapterFactory],
        tokens: SharedTokens,
        public_url: str,
        callback_key: bytes,
    ) -> None:
        self._store = store
        self._credentials = credentials
        self._load = load
        self._tokens = tokens
        self._public_url = public_url
        self._key = callback_key
        self._connected: dict[tuple[Tenant, str], tuple[int, Connected]] = {}
        self._of: dict[tuple[Tenant, Channel], tuple[Connected, ...]] = {}
        """What `of` answered; it is asked for each reminder."""
        self._retired: list[tuple[float, Adapter]] = []
        self._refreshing = asyncio.Lock()
        self.broken: dict[tuple[Tenant, str], str] = {}
        """Accounts that cannot be used, and why."""

    async def refresh(self) -> None:
        """Take up what changed in the store; close what is gone once nobody can be calling through it."""
        async with self._refreshing:
            await self._take_up()

    async def _take_up(self) -> None:
        rows = {(r.account.tenant, r.account.name): r for r in await self._store.accounts() if r.enabled}
        for key in [k for k, (rev, _) in self._connected.items() if k not in rows or rows[k].revision != rev]:
            _, old = self._connected.pop(key)
            self._of.clear()
            self._retired.append((_now() + RETIRED_S, old.adapter))
        await self._close_retired()
        self.broken = {key: why for key, why in self.broken.items() if key in rows}
        for key, row in rows.items():
            if key not in self._connected:
                await self._connect(row)

    async def _close_retired(self) -> None:
        for over in [one for one in self._retired if one[0] <= _now()]:
            self._retired.remove(over)
            await over[1].aclose()

    async def _connect(self, row: AccountRow) -> None:
        key = (row.account.tenant, row.account.name)
        try:
            secrets = await self._credentials.credentials(*key)
            connected = self.build(replace(row.account, credentials=secrets))
        except SetupError as wrong:
            self.broken[key] = wrong.message
            return
        self.broken.pop(key, None)
        self._connected[key] = (row.revision, connected)
        self._of.clear()

    def build(self, account: Account) -> Connected:
        """An account with its adapter; SetupError when its settings or credentials will not do."""
        tools = Tools(
            tokens=self._tokens,
            public_url=self._public_url,
            callback_token=self._callback_token(account),
        )
        adapter = self._load(account.adapter)(account, tools)
        if getattr(adapter, "at_once", 0) < 1:
            raise SetupError(
                f"the adapter {account.adapter} does not say how many calls it has open at once (`at_once`):"
                " install a version of it that does"
            )
        return Connected(account=account, adapter=adapter, ways=_ways(adapter))

    def named(self, tenant: Tenant, name: str) -> Connected | None:
        """The account of that name."""
        found = self._connected.get((tenant, name))
        return found[1] if found else None

    def by_country(self) -> bool:
        """Whether any serves some countries alone."""
        return any(one.by_country for _, one in self._connected.values())

    def in_pool(self, pool: str) -> Connected | None:
        """An account by its pool; of a shared one any tenant's."""
        return next((c for _, (_, c) in sorted(self._connected.items()) if c.pool == pool), None)

    def beside(self, connected: Connected) -> list[str]:
        """The accounts, by name, whose reminders can go through this one instead."""
        owners = {c.account.tenant for _, c in self._connected.values() if c.pool == connected.pool}
        others = [one for tenant in owners for one in self.of(tenant, connected.channel)]
        mine = connected.account.name
        return sorted(
            {o.account.name for o in others if connected.stands_in_for(o) and o.account.name != mine}
        )

    def of(self, tenant: Tenant, channel: Channel) -> tuple[Connected, ...]:
        """A tenant's accounts of a channel, by name."""
        found = self._of.get((tenant, channel))
        if found is None:
            mine = [c for (t, _), (_, c) in sorted(self._connected.items()) if t == tenant]
            found = self._of[tenant, channel] = tuple(c for c in mine if c.channel is channel)
        return found

    def ways(self, adapter: str) -> Ways:
        """What an adapter says of itself, connected or not."""
        return _ways(self._load(adapter))

    def recallable(self) -> list[str]:
        """The adapters whose providers may take back what they have not delivered yet."""
        found = [connected for _, connected in self._connected.values()]
        return sorted({one.account.adapter for one in found if hasattr(one.adapter, "cancel")})

    def longest_call_s(self) -> float:
        """The longest call time-out of all that are connected, in seconds."""
        times = [c.adapter.call_timeout.total_seconds() for _, c in self._connected.values()]
        return max(times, default=60.0)

    def link(self, ref: str) -> str:
        """The token without which nobody but the provider can use an attempt's callback address."""
        return hmac.digest(self._key, b"ref|" + ref.encode(), "sha256").hex()[:32]

    def address(self, adapter: str, account: str, ref: str) -> str:
        """Where receipts of an attempt come in."""
        return f"{self._public_url}/cb/{adapter}/{account}/{ref}?t={self.link(ref)}"

    def _callback_token(self, account: Account) -> str:
        owner = _pool(account).partition("|")[0]  # one address for all who share an account
        said = f"account|{owner}|{account.adapter}|{account.name}".encode()
        return hmac.digest(self._key, said, "sha256").hex()[:32]

    def callback_url(self, account: Account) -> str:
        """Where a provider that pushes per account (Aliyun, WeChat) is told to push."""
        return f"{self._public_url}/cb/{account.adapter}/{account.name}/{self._callback_token(account)}"

    def by_callback_token(self, adapter: str, name: str, token: str) -> Connected | None:
        """The account whose own callback address ends so."""
        for _, connected in self._connected.values():
            account = connected.account
            mine = self._callback_token(account).encode()
            if (account.adapter, account.name) == (adapter, name) and hmac.compare_digest(
                mine, token.encode()
            ):
                return connected
        return None

    async def aclose(self) -> None:
        """Close every adapter."""
        for adapter in (
            *(connected.adapter for _, connected in self._connected.values()),
            *(adapter for _, adapter in self._retired),
        ):
            await adapter.aclose()
        self._connected.clear()
        self._of.clear()
        self._retired.clear()


def _now() -> float:
    return asyncio.get_running_loop().time()


def _ways(adapter: Any) -> Ways:
    return Ways(final=adapter.final, final_after=adapter.final_after)


def parse(text: str, *, adapters: Sequence[str], environ: Mapping[str, str]) -> list[Account]:
    """Accounts of an accounts.toml, credentials resolved; BadInput names every mistake and no value."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as wrong:
        raise BadInput([Fault(at="accounts.toml", code="malformed_toml", message=str(wrong))]) from wrong
    faults: list[Fault] = [
        Fault(at=name, code="unknown_key", message="the file holds [[account]] tables and nothing else")
        for name in sorted(document.keys() - {"account"})
    ]
    found: list[Account] = []
    items = document.get("account", [])
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise BadInput(
            [*faults, Fault(at="account", code="wrong_type", message="begin each with [[account]]")]
        )
    for place, item in enumerate(items):
        mine = _accounts(item, f"account[{place}]", adapters, environ, faults)
        known = {(account.tenant, account.name) for account in found}
        if any((account.tenant, account.name) in known for account in mine):
            message = "give each account of a tenant its own name"
            faults.append(Fault(at=f"account[{place}].name", code="name_taken", message=message))
        found.extend(mine)
    if faults:
        raise BadInput(faults)
    return found


def _accounts(
    item: Mapping[str, Any],
    at: str,
    adapters: Sequence[str],
    environ: Mapping[str, str],
    faults: list[Fault],
) -> list[Account]:
    """An account: one of its tenant's own, or where it is shared one for each tenant with its weight."""
    before = len(faults)
    if ("tenant" in item) == ("tenants" in item):
        message = 'set tenant = "acme", or tenants = {acme = 3, beta = 1} where several share it; not both'
        faults.append(Fault(at=f"{at}.tenant", code="missing", message=message))
    faults += [Fault(at=f"{at}.{k}", code="missing", message=f"set {k}") for k in sorted(_NEEDED - set(item))]
    faults += [
        Fault(at=f"{at}.{k}", code="unknown_key", message=f"known keys: {' '.join(sorted(_KEYS))}")
        for k in sorted(set(item) - _KEYS)
    ]
    wrong = [k for k in sorted(_KEYS & set(item)) if not isinstance(item[k], dict if k in _TABLES else str)]
    if wrong:
        faults += [
            Fault(at=f"{at}.{k}", code="wrong_type", message="a table" if k in _TABLES else "text in quotes")
            for k in wrong
        ]
        return []
    owners = _owners(item, at, faults)
    if item.get("adapter") not in adapters and "adapter" in item:
        faults.append(
            Fault(at=f"{at}.adapter", code="adapter_unknown", message=f"there are: {' '.join(adapters)}")
        )
    if item.get("mode") not in (Mode.LIVE, Mode.TEST) and "mode" in item:
        faults.append(Fault(at=f"{at}.mode", code="mode_unknown", message="live or test"))
    price = _price(item.get("price"), f"{at}.price", faults)
    credentials = {
        key: _secret(value, f"{at}.credentials.{key}", environ, faults)
        for key, value in item.get("credentials", {}).items()
    }
    if len(faults) > before:
        return []
    return [
        Account(
            tenant=Tenant(f"{tenant}/{item['mode']}"),
            name=item["name"],
            mode=Mode(item["mode"]),
            adapter=item["adapter"],
            endpoint=item.get("endpoint"),
            sender=item["sender"],
            price=price,
            credentials=credentials,
            settings={k: _setting(v) for k, v in item.get("settings", {}).items()},
            weight=weight,
        )
        for tenant, weight in owners.items()
    ]


def _owners(item: Mapping[str, Any], at: str, faults: list[Fault]) -> Mapping[str, int | None]:
    """Whose account it is: one tenant's own (None), or several tenants' with their weights."""
    if "tenants" not in item:
        return {item["tenant"]: None} if "tenant" in item else {}
    if item["tenants"] and all(_is_share(weight) for weight in item["tenants"].values()):
        return dict(item["tenants"])
    message = f"each tenant with a whole number from 1 to {MOST_SHARE:,}, like {{acme = 3, beta = 1}}"
    faults.append(Fault(at=f"{at}.tenants", code="weight_malformed", message=message))
    return {}


def _is_share(weight: object) -> bool:
    return isinstance(weight, int) and not isinstance(weight, bool) and 1 <= weight <= MOST_SHARE


def _setting(value: Any) -> str:
    return " ".join(str(v) for v in value) if isinstance(value, list) else str(value)


def _price(item: Any, at: str, faults: list[Fault]) -> Money | None:
    if item is None:
        return None
    amount, currency = item.get("amount"), item.get("currency")
    try:
        price = Decimal(amount) if isinstance(amount, str) and isinstance(currency, str) else Decimal("NaN")
    except InvalidOperation:
        price = Decimal("NaN")
    if not price.is_finite():
        faults.append(
            Fault(at=at, code="price_malformed", message='like {amount = "0.045", currency = "CNY"}')
        )
        return None
    return Money(amount=price, currency=currency)


def _secret(value: Any, at: str, environ: Mapping[str, str], faults: list[Fault]) -> Pii[str]:
    """A credential from where `env:NAME` or `file:PATH` points; a clear value is refused."""
    kind, _, place = value.partition(":") if isinstance(value, str) else ("", "", "")
    if kind == "env" and environ.get(place):
        return Pii(environ[place])
    if kind == "file" and Path(place).is_file():
        return Pii(Path(place).read_text(encoding="utf-8")[:MAX_FILE].strip())
    message = (
        "env:NAME of a variable that is set, or file:PATH of a file that can be read; never a clear value"
    )
    faults.append(Fault(at=at, code="credential_missing", message=message))
    return Pii("")


class AccountRows(AccountStore, Protocol):
    """Where accounts are kept and written."""

    async def put(
        self, accounts: Sequence[Account], *, who: str, reason: str, renewed: Collection[tuple[Tenant, str]]
    ) -> list[str]:
        """Write accounts that are new or differ, in their credentials (`renewed`) or otherwise; their names.

        A shared account is written with all who share it: whoever is not among them does so no more.
        """


class CredentialStore(Credentials, Protocol):
    """Where credentials are kept and written."""

    async def keep_credentials(
        self, tenant: Tenant, account: str, credentials: Mapping[str, Pii[str]]
    ) -> None:
        """Keep an account's credentials."""


class Standings(Protocol):
    """Where it is kept how accounts stand."""

    async def standings(self) -> tuple[Moment, Mapping[str, Standing]]:
        """Every account of which something is to be said, by pool."""

    async def checked(self, pool: str, *, ok: bool) -> Standing | None:
        """Write what asking a provider came to; how the account stands then."""


class AccountDesk:
    """Accounts, as operators see and change them."""

    def __init__(
        self, accounts: Accounts, rows: AccountRows, vault: CredentialStore, standings: Standings
    ) -> None:
        self._accounts = accounts
        self._rows = rows
        self._vault = vault
        self._standings = standings

    async def listed(self, tenant: Tenant) -> list[dict[str, Any]]:
        """A tenant's accounts without credentials, how they stand, and what is wrong with those of no use."""
        moment, standings = await self._standings.standings()
        return [
            self._shown(row, standings.get(_pool(row.account), Standing()), moment)
            for row in await self._rows.accounts()
            if row.account.tenant == tenant
        ]

    def _shown(self, row: AccountRow, standing: Standing, moment: Moment) -> dict[str, Any]:
        account = row.account
        price = account.price
        pace = pace_of(account)
        return {
            "name": account.name,
            "adapter": account.adapter,
            "endpoint": account.endpoint,
            "sender": account.sender,
            "price": {"amount": str(price.amount), "currency": price.currency} if price else None,
            "settings": dict(account.settings),
            "weight": account.weight,
            "enabled": row.enabled,
            "pace": float(pace) if pace is not None else None,
            "unit": unit_of(account.adapter).value,
            "callback_url": self._accounts.callback_url(account),
            "broken": self._accounts.broken.get((account.tenant, account.name)),
            "standing": shown(standing, moment.real),
        }

    async def bring_in(self, accounts: Sequence[Account], *, who: str, reason: str) -> list[str]:
        """Write accounts that are new or differ, their credentials first; BadInput names what will not do."""
        known = [row.account for row in await self._rows.accounts()] + list(accounts)
        faults = [f for n, a in enumerate(accounts) for f in await self._faults(n, a, known)]
        if faults:
            raise BadInput(faults)
        renewed = {(a.tenant, a.name) for a in accounts if await self._renews(a)}
        for account in accounts:
            await self._vault.keep_credentials(account.tenant, account.name, account.credentials)
        written = await self._rows.put(accounts, who=who, reason=reason, renewed=renewed)
        await self._accounts.refresh()
        return written

    async def _renews(self, account: Account) -> bool:
        """Whether it brings other credentials than are kept."""
        return dict(account.credentials) != dict(await self._vault.credentials(account.tenant, account.name))

    async def _faults(self, place: int, account: Account, known: Sequence[Account]) -> list[Fault]:
        at = f"/accounts/{place}"
        found = routing_faults(account, at)
        if any(_clashes(account, other) for other in known):
            message = "a shared account and one that a tenant has alone cannot have one name: give it another"
            found.append(Fault(at=f"{at}/name", code="name_taken", message=message))
        if account.mode is Mode.TEST and account.endpoint is None:
            message = "a test account never reaches its provider: give the endpoint of a simulator"
            found.append(Fault(at=f"{at}/endpoint", code="test_endpoint_missing", message=message))
        return found or await self._unusable(at, account)

    async def _unusable(self, at: str, account: Account) -> list[Fault]:
        try:
            connected = self._accounts.build(account)
        except SetupError as wrong:
            return [Fault(at=at, code="account_unusable", message=wrong.message)]
        await connected.adapter.aclose()
        return []

    async def check(self, tenant: Tenant, name: str) -> dict[str, Any]:
        """Ask an account's provider something harmless; a good answer lets reminders probe one that is down."""
        await self._accounts.refresh()
        connected = self._accounts.named(tenant, name)
        broken = self._accounts.broken.get((tenant, name))
        if broken is not None:
            return {"name": name, "ok": False, "word": broken, "standing": None}
        if connected is None:
            raise NotFound
        checked = Checked(ok=True, word="its provider offers no check")
        if hasattr(connected.adapter, "check"):
            checked = await cast("Checks", connected.adapter).check()
        if checked.ok:
            await self._standings.checked(connected.pool, ok=True)
        moment, standings = await self._standings.standings()
        standing = standings.get(connected.pool, Standing())
        return {
            "name": name,
            "ok": checked.ok,
            "word": checked.word,
            "standing": shown(standing, moment.real),
        }


def _clashes(account: Account, other: Account) -> bool:
    """Whether one of the two is shared and bears the name of the other, which is not: quotas go by it."""
    same = (account.mode, account.name) == (other.mode, other.name)
    return same and (account.weight is None) != (other.weight is None)
