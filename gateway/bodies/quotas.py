"""Bodies of quotas. A key that is absent stays as it is, null takes it away; what stays is checked with it later."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any

import orjson
from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints, field_validator

from gateway.bodies.kinds import Amount, Currency, Id, Instant, Reason, TemplateName, Word, Zone, fault
from gateway.bodies.models import Body
from gateway.domain import Channel
from gateway.quotas import spec
from gateway.quotas.model import LEAST_RATE, MOST_RATE, WORDS, Per, Unit

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,31}$")]
Wall = Annotated[str, StringConstraints(pattern=r"^([01]\d|2[0-3]):[0-5]\d$")]
Count = Annotated[int, Field(ge=1, le=10**9)]
Calls = Annotated[int, Field(ge=1, le=10_000)]
Why = Annotated[Reason, Field(min_length=1)]
MOST_HOURS = 24
MOST_PLANNED = 50


def _number(value: Any) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise fault("wrong_type", "send a number")
    return Decimal(str(value))


def _rate(value: Any) -> Decimal:
    number = _number(value)
    if not LEAST_RATE <= number <= MOST_RATE:
        message = f"send a number from {LEAST_RATE} to {MOST_RATE}; for less, per_hour or per_day; for none, a pause"
        raise fault("out_of_range", message)
    return number


def _share(value: Any) -> Decimal:
    number = _number(value)
    if not 0 < number <= 1:
        raise fault("out_of_range", "send a number above 0 and at most 1")
    return number


def _some(amount: Decimal) -> Decimal:
    if not amount:
        raise fault("out_of_range", "send an amount above 0; to let nothing start, set a pause")
    return amount


Rate = Annotated[Decimal, BeforeValidator(_rate)]
Share = Annotated[Decimal, BeforeValidator(_share)]
Sum = Annotated[Amount, AfterValidator(_some)]


class ScopeIn(Body):
    """What is covered; an absent word covers all."""

    channel: Channel | None = Field(default=None, strict=False)
    adapter: Word | None = None
    account: Id | None = None
    tenant: Name | None = None
    template: TemplateName | None = None


class HoursIn(Body):
    """Hours of every day, from inclusive, to exclusive; over midnight where `to` is not later."""

    since: Wall = Field(alias="from")
    until: Wall = Field(alias="to")


class BudgetIn(Body):
    """Money a day or month, and the share of it at which an alarm rings."""

    amount: Sum | None = None
    currency: Currency | None = None
    per: Per | None = Field(default=None, strict=False)
    alarm_at: Share | None = None


class ChangeIn(Body):
    """What changes of a quota."""

    scope: ScopeIn | None = None
    each: list[str] | None = None
    unit: Unit | None = Field(default=None, strict=False)
    rate: Rate | None = None
    burst: Count | None = None
    per_minute: Count | None = None
    per_hour: Count | None = None
    per_day: Count | None = None
    concurrency: Calls | None = None
    zone: Zone | None = None
    closed: Annotated[list[HoursIn], Field(max_length=MOST_HOURS)] | None = None
    budget: BudgetIn | None = None
    until: Instant | None = None

    @field_validator("each")
    @classmethod
    def _words(cls, value: list[str] | None) -> list[str] | None:
        if value is not None and not set(value) <= set(WORDS):
            raise fault("word_unknown", f"send words of the scope: {' '.join(WORDS)}")
        if value is not None and len(set(value)) < len(value):
            raise fault("duplicate", "name each once")
        return value

    def said(self) -> dict[str, Any]:
        """The keys that change, as the store keeps them; `until` as an instant."""
        made = self.model_dump(by_alias=True, exclude_unset=True, include=set(spec.KEYS))
        if self.budget is not None and self.budget.amount is not None:
            made["budget"]["amount"] = str(self.budget.amount)
        said: dict[str, Any] = orjson.loads(orjson.dumps(made, default=spec.plain))
        return {**said, **({"until": self.until} if "until" in self.model_fields_set else {})}


class QuotaIn(ChangeIn):
    """What changes of a quota. `version` is the one that stands; none for the first."""

    version: Annotated[int, Field(ge=0, le=2**31 - 1)] | None = None
    reason: Why


class NamedQuotaIn(QuotaIn):
    """The same with its name."""

    name: Id


class PlanIn(Body):
    """Changes that are only tried, by the names of quotas; null takes one away. None at all: as things stand."""

    quotas: Annotated[dict[Id, ChangeIn | None], Field(max_length=MOST_PLANNED)]


class QuotaGone(Body):
    """The end of one."""

    version: Annotated[int, Field(ge=0, le=2**31 - 1)] | None = None
    reason: Why
