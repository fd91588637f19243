"""Bodies of pauses and stops."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, StringConstraints, model_validator

from gateway.bodies.kinds import Id, Instant, Key, Place, Reason, TemplateName, Word, fault
from gateway.bodies.models import Body
from gateway.domain import Channel
from gateway.pauses import LONGEST_RAMP_S, Kind, PauseScope
from gateway.quotas.model import Scope

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,31}$")]
Ramp = Annotated[int, Field(ge=0, le=LONGEST_RAMP_S)]
"""Seconds until the pace is whole again."""
Why = Annotated[Reason, Field(min_length=1)]


class PauseScopeIn(Body):
    """What is covered; an absent word covers all."""

    channel: Channel | None = Field(default=None, strict=False)
    adapter: Word | None = None
    account: Id | None = None
    tenant: Name | None = None
    template: TemplateName | None = None
    portfolio: Id | None = None
    jurisdiction: Place | None = None
    template_version: Annotated[int, Field(ge=1, le=2**31 - 1)] | None = None

    def scope(self) -> PauseScope:
        """The scope as a value."""
        return PauseScope(
            quota=Scope(
                channel=self.channel.value if self.channel else None,
                adapter=self.adapter,
                account=self.account,
                tenant=self.tenant,
                template=self.template,
            ),
            portfolio=self.portfolio,
            jurisdiction=self.jurisdiction,
            template_version=self.template_version,
        )


RAMPS_BY_QUOTAS = (
    "a ramp slows paces: leave it out where portfolio, jurisdiction or template_version is named"
)


class PauseIn(Body):
    """A pause, or a stop. `ramp_s`: once it ends, the pace is whole again after so many seconds."""

    idempotency_key: Key
    kind: Kind = Field(strict=False)
    scope: PauseScopeIn
    until: Instant | None = None
    ramp_s: Ramp = 0
    reason: Why

    @model_validator(mode="after")
    def _ramp(self) -> Self:
        if self.ramp_s and not self.scope.scope().has_ramp:
            raise fault("ramp_unfit", RAMPS_BY_QUOTAS)
        return self


class ResumeIn(Body):
    """The end of one. `ramp_s` takes the place of what was asked for when it was set."""

    ramp_s: Ramp | None = None
    reason: Why
