"""A question as it stands at one instant in one zone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from zoneinfo import ZoneInfo

from gateway.audit.days import Days
from gateway.policy.model import Consent, Event, Fact, Question, Told

FORMS = (None, "oral", "written", "separate")
"""The forms of a consent, the weakest first; one without a form ranks below all others."""

_DATE_LENGTH = len("2026-11-30")


def whole(instant: datetime) -> datetime:
    """The second that an instant is in: everything counts from its own second on."""
    return instant.replace(microsecond=0)


@dataclass(frozen=True, slots=True)
class Here:
    """The reminder and all that is known, at an instant of whole seconds, seen from one zone."""

    question: Question
    history: Sequence[Event]
    facts: Mapping[str, Fact]
    told: Told
    at: datetime
    zone: ZoneInfo
    days: Days

    @property
    def today(self) -> date:
        """The local date."""
        return self.at.astimezone(self.zone).date()

    @property
    def clock(self) -> int:
        """What the clock on the wall shows, in seconds of the day."""
        local = self.at.astimezone(self.zone)
        return local.hour * 3600 + local.minute * 60 + local.second

    @property
    def events(self) -> list[Event]:
        """The contacts that exist by now, in the order of their seconds; those of one second as they were given."""
        return sorted((e for e in self.history if whole(e.at) <= self.at), key=lambda event: whole(event.at))

    def dates_since(self, instant: datetime) -> int:
        """How many local dates have passed since the local date of that instant."""
        return (self.today - whole(instant).astimezone(self.zone).date()).days

    def seconds_since(self, instant: datetime) -> float:
        """How many seconds have passed since that instant, whole ones."""
        return (self.at - whole(instant)).total_seconds()

    def is_set(self, fact: str) -> bool:
        """Whether a fact is neither absent, null nor false."""
        return self.facts.get(fact) is not None and self.facts[fact] is not False

    def fact_age(self, fact: str) -> int:
        """How many local dates have passed since the date of a fact that is set."""
        value = self._moment(fact)
        return self.dates_since(value) if isinstance(value, datetime) else (self.today - value).days

    def fact_instant(self, fact: str) -> datetime:
        """The instant of a fact that is set."""
        value = self._moment(fact)
        if not isinstance(value, datetime):
            raise ValueError(f"the fact {fact} must be an instant, 2026-11-30T08:00:00Z")  # noqa: TRY004 (a value)
        return value

    def number(self, fact: str) -> float:
        """The number of a fact; 0 when it is not set."""
        value = self.facts[fact] if self.is_set(fact) else 0
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(f"the fact {fact} must be a number")  # noqa: TRY004 (a value)
        return value

    def consents(self, kind: str) -> list[Consent]:
        """The consents of that kind that are live and cover the channel."""
        return [
            consent
            for consent in self.told.consents
            if consent.kind == kind
            and consent.channel in (None, "all", self.question.channel)
            and whole(consent.given_at) <= self.at
            and (consent.until is None or self.at < whole(consent.until))
            and (consent.revoked_at is None or self.at < whole(consent.revoked_at))
        ]

    def _moment(self, fact: str) -> date:
        """A fact's date or aware instant."""
        value = self.facts[fact]
        if isinstance(value, str):
            value = date.fromisoformat(value) if len(value) == _DATE_LENGTH else datetime.fromisoformat(value)
        aware = not isinstance(value, datetime) or value.tzinfo is not None
        if not isinstance(value, date) or not aware:
            raise ValueError(f"the fact {fact} must be a date, 2026-11-30, or an instant with its offset")
        return value
