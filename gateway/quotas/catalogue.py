"""What providers publish of their senders' pace, as default quotas; and where a provider's day ends. Pure."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal, InvalidOperation
from functools import cache
from importlib import resources
from typing import Any
from zoneinfo import ZoneInfo

from gateway.domain import Account, Tenant
from gateway.errors import Fault
from gateway.quotas.model import LEAST_RATE, MOST_RATE, Quota, Scope, Unit, pool_of

SET_BY = "catalogue"
"""Who sets the default quotas."""
PREFIX = "pace."
"""A default quota is named by this and its account."""
MOST_WEIGHT = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A kind of sender. `sender` is what the senders of this kind look like; None: only an account that says so."""

    name: str
    pace: Decimal
    sender: re.Pattern[str] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """What is published for one adapter: `zone`, where the provider's day ends; `queues`, it keeps what is too much."""

    zone: str | None
    unit: Unit
    queues: bool
    source: str
    kinds: tuple[Kind, ...]


@cache
def published() -> Mapping[str, Published]:
    """The catalogue, by adapter."""
    text = resources.files("gateway.quotas").joinpath("catalogue.toml").read_text("utf-8")
    return {name: _published(item) for name, item in tomllib.loads(text)["adapter"].items()}


def _published(item: Mapping[str, Any]) -> Published:
    return Published(
        zone=item.get("zone"),
        unit=Unit(item["unit"]),
        queues=item["queues"],
        source=item["source"],
        kinds=tuple(
            Kind(
                name=kind["name"],
                pace=Decimal(kind["pace"]),
                sender=re.compile(kind["sender"]) if "sender" in kind else None,
            )
            for kind in item.get("kind", ())
        ),
    )


def pace_of(account: Account) -> Decimal | None:
    """Units a second that an account's sender may start: its own `pace`, else its kind's; None where none is known."""
    stated = _positive(account.settings.get("pace"))
    kind = kind_of(account)
    return stated if stated is not None else kind.pace if kind is not None else None


def kind_of(account: Account) -> Kind | None:
    """What an account's sender is: what it says itself, else what its sender looks like."""
    found = published().get(account.adapter)
    if found is None:
        return None
    said = account.settings.get("sender_kind")
    for kind in found.kinds:
        if kind.name == said if said else kind.sender is not None and kind.sender.fullmatch(account.sender):
            return kind
    return None


def unit_of(adapter: str) -> Unit:
    """What the pace of an adapter's senders counts."""
    found = published().get(adapter)
    return found.unit if found is not None else Unit.MESSAGE


def queues(adapter: str) -> bool:
    """Whether its provider takes more than the pace and delivers it later."""
    found = published().get(adapter)
    return found is not None and found.queues


def zone_of(adapter: str) -> str:
    """The zone in which its provider's day ends; UTC where none is published."""
    found = published().get(adapter)
    return (found.zone if found is not None else None) or "UTC"


def midnight(adapter: str, now: datetime) -> datetime | None:
    """The next midnight of an adapter's provider; None where nobody says when its day ends."""
    found = published().get(adapter)
    if found is None or found.zone is None:
        return None
    zone = ZoneInfo(found.zone)
    day = now.astimezone(zone).date() + timedelta(days=1)
    return datetime.combine(day, time(), zone).astimezone(UTC)


def defaults(accounts: Iterable[Account]) -> list[Quota]:
    """The quotas that accounts come with: one for each whose pace is known, `pace.<account>`, of version 0.

    A shared account has one for all who share it, and the deployment owns it.
    """
    found: dict[str, Quota] = {}
    for account in accounts:
        pace = pace_of(account)
        shared = account.weight is not None
        pool = pool_of(account.tenant, account.name, shared=shared)
        if pace is not None and pool not in found:
            found[pool] = Quota(
                owner=Tenant(pool.partition("|")[0]),
                name=f"{PREFIX}{account.name}",
                scope=Scope(account=account.name),
                unit=unit_of(account.adapter),
                rate=pace,
                zone=zone_of(account.adapter),
                version=0,
                published=True,
            )
    return list(found.values())


def of_no_account(name: str, stands: Quota | None) -> list[Fault]:
    """The name of what an account comes with means nothing else: by another owner it would cover everything."""
    if stands is not None or not name.startswith(PREFIX):
        return []
    message = "no account of this owner comes with it: name its tenant (--tenant), or choose another name"
    return [Fault(at="/name", code="quota_unfit", message=message)]


def faults(account: Account, at: str) -> list[Fault]:
    """What is wrong with the settings by which the gateway paces and weighs an account."""
    found = []
    pace, kind, weight = (account.settings.get(key) for key in ("pace", "sender_kind", "weight"))
    if pace is not None and _positive(pace) is None:
        message = f"units a second that the provider grants this sender, from {LEAST_RATE} to {MOST_RATE:,}"
        found.append(Fault(at=f"{at}/settings/pace", code="pace_malformed", message=message))
    if kind is not None and kind_of(account) is None:
        known = published().get(account.adapter)
        names = " ".join(k.name for k in known.kinds) if known is not None else ""
        message = f"one of: {names}" if names else "this adapter has no kinds of senders: take it out"
        found.append(Fault(at=f"{at}/settings/sender_kind", code="kind_unknown", message=message))
    if weight is not None and not (
        weight.isascii() and weight.isdecimal() and int(weight[:9]) <= MOST_WEIGHT
    ):
        message = f"a whole number from 0 to {MOST_WEIGHT:,}: its share among the accounts of its channel"
        found.append(Fault(at=f"{at}/settings/weight", code="weight_malformed", message=message))
    return found


def _positive(text: str | None) -> Decimal | None:
    try:
        number = Decimal(text or "NaN")
    except InvalidOperation:
        return None
    return number if number.is_finite() and LEAST_RATE <= number <= MOST_RATE else None
