"""Pauses and stops as values: what they cover, which of them bars a start, and how one that ended lets go.

A pause is lifted by whoever may; a stop, the kill switch, only by a second holder. To a start they are the same:
while one in force covers it, it gets no go. What a reminder was accepted under counts beside what is true now.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from gateway.domain import Tenant
from gateway.quotas.model import EVERYONE, Load, Scope
from gateway.work import Queue, Refusal, Start

WORDS = (
    "channel",
    "adapter",
    "account",
    "tenant",
    "template",
    "portfolio",
    "jurisdiction",
    "template_version",
)
"""What a scope may name."""
LEAST_FACTOR = 1 / 16
"""What a ramp begins with."""
LONGEST_RAMP_S = 86_400


class Kind(StrEnum):
    """Who may end it."""

    PAUSE = "pause"
    STOP = "stop"

    @property
    def reason(self) -> str:
        """Why a reminder that it covers waits."""
        return "paused" if self is Kind.PAUSE else "stopped"


@dataclass(frozen=True, slots=True, kw_only=True)
class PauseScope:
    """What is covered; an absent word covers all. A jurisdiction (ISO 3166) covers its parts: CN covers CN-GD."""

    quota: Scope = field(default_factory=Scope)
    portfolio: str | None = None
    jurisdiction: str | None = None
    template_version: int | None = None

    def words(self) -> dict[str, str | int]:
        """The words it names."""
        own = {word: getattr(self, word) for word in ("portfolio", "jurisdiction", "template_version")}
        return self.quota.words() | {word: value for word, value in own.items() if value is not None}

    @property
    def has_ramp(self) -> bool:
        """Whether it is in the words of quotas, whose paces can grow little by little."""
        return self.words() == self.quota.words()

    def covers(self, start: Start) -> bool:
        """Whether every word it names is the start's, as it was accepted or as it is now."""
        return (
            self.quota.covers(start.load)
            and (self.portfolio is None or self.portfolio in start.portfolios)
            and (
                self.jurisdiction is None or any(_within(place, self.jurisdiction) for place in start.places)
            )
            and self.template_version in (None, start.template_version)
        )

    def covers_queue(self, queue: Queue) -> bool:
        """Whether it covers all that can wait there, whatever it is and whichever way it goes."""
        waits = {
            "channel": queue.channel.value,
            "tenant": queue.tenant.partition("/")[0],
            "template": queue.template,
        }
        return all(waits.get(word) == value for word, value in self.words().items())


def _within(place: str, jurisdiction: str) -> bool:
    return place == jurisdiction or place.startswith(f"{jurisdiction}-")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause:
    """One pause or stop. `owner` is a tenant, or `*/live`, the deployment. `until` is the policy clock's.

    `resumed_at` is real time; `ramp_s` seconds after its end the pace is whole again (0: at once).
    """

    owner: Tenant
    id: str
    kind: Kind
    scope: PauseScope
    until: datetime | None = None
    resumed_at: datetime | None = None
    ramp_s: int = 0

    def holds(self, now: datetime) -> bool:
        """Whether it is in force (policy clock)."""
        return self.resumed_at is None and (self.until is None or now < self.until)

    def covers(self, start: Start) -> bool:
        """Whether it bars this start while it is in force: the scope's words, and the owner's tenant and mode."""
        return self._owns(start.load.tenant) and self.scope.covers(start)

    def covers_queue(self, queue: Queue) -> bool:
        """Whether nothing of this queue may start while it is in force."""
        return self._owns(queue.tenant) and self.scope.covers_queue(queue)

    def _owns(self, tenant: Tenant) -> bool:
        name, _, mode = self.owner.partition("/")
        its, _, of = tenant.partition("/")
        return mode == of and name in (EVERYONE, its)

    def refusal(self) -> Refusal:
        """What it says to a start."""
        return Refusal(reason=self.kind.reason, by=self.id, again=self.until)

    def factor(self, load: Load, now: datetime) -> float:
        """The share of its pace (LEAST_FACTOR to 1) that a load has while this, ended, lets go little by little.

        `now` is real time. 1 where it never covered the load. Only a scope in the words of quotas has a ramp.
        """
        if not self.ramp_s or self.resumed_at is None or not self.scope.has_ramp:
            return 1.0
        if not self._owns(load.tenant) or not self.scope.quota.covers(load):
            return 1.0
        return min(1.0, max(LEAST_FACTOR, (now - self.resumed_at) / timedelta(seconds=self.ramp_s)))


def first(pauses: Iterable[Pause], start: Start, now: datetime) -> Pause | None:
    """The one that bars a start: a stop before a pause, then the one that holds longest."""
    return _weightiest(p for p in pauses if p.holds(now) and p.covers(start))


def first_of_queue(pauses: Iterable[Pause], queue: Queue, now: datetime) -> Pause | None:
    """The one that bars all that waits in a queue, if any does."""
    return _weightiest(p for p in pauses if p.holds(now) and p.covers_queue(queue))


def _weightiest(barring: Iterable[Pause]) -> Pause | None:
    def weight(pause: Pause) -> tuple[bool, bool, float, str]:
        lasts = pause.until.timestamp() if pause.until is not None else 0.0
        return pause.kind is Kind.STOP, pause.until is None, lasts, pause.id

    return max(barring, key=weight, default=None)


def ramp_factor(pauses: Iterable[Pause], load: Load, now: datetime) -> float:
    """The share of its pace that a load has while pauses that ended let go: the least of theirs; `now` is real time."""
    return min((pause.factor(load, now) for pause in pauses), default=1.0)
