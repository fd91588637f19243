"""One question laid out for the rules: its history sorted, matched and dated once for all of them."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime
from operator import attrgetter, le

from gateway.errors import Fault, PolicyError
from gateway.policy.calendars import SHIPPED, Calendars
from gateway.policy.localtime import EPOCH, NEVER, SECOND, Zone, read_date, read_instant, seconds
from gateway.policy.model import NOTHING_TOLD, Event, Fact, Question, Told


class Ask:
    """A question, what is known to answer it, and its history. Events are named by their place in time order."""

    __slots__ = (
        "_days",
        "_in_order",
        "_kept",
        "_shared",
        "calendars",
        "events",
        "facts",
        "question",
        "times",
        "told",
    )

    def __init__(
        self,
        question: Question,
        history: Sequence[Event],
        facts: Mapping[str, Fact],
        told: Told = NOTHING_TOLD,
        calendars: Calendars = SHIPPED,
    ) -> None:
        times = [(event.at - EPOCH) // SECOND for event in history]
        order = sorted(range(len(times)), key=times.__getitem__)  # stable: events of one second stay in order
        self.question = question
        self.facts = facts
        self.told = told
        self.calendars = calendars
        self.times = [times[place] for place in order]
        self.events = [history[place] for place in order]
        self._days: dict[str, list[int]] = {}
        self._in_order: dict[str, bool] = {}
        self._kept: dict[object, list[int]] = {}
        self._shared: dict[tuple[str, ...], list[int]] = {}

    def days(self, zone: Zone) -> list[int]:
        """The local date of each event in that zone."""
        days = self._days.get(zone.name)
        if days is None:
            days = self._days[zone.name] = zone.days(self.times)
        return days

    def in_order(self, zone: Zone) -> bool:
        """Whether the local dates in that zone never return (they do where a clock goes back past midnight)."""
        ordered = self._in_order.get(zone.name)
        if ordered is None:
            days = self.days(zone)
            ordered = self._in_order[zone.name] = all(map(le, days, days[1:]))
        return ordered

    def shared(self, per: tuple[str, ...]) -> list[int]:
        """The events that share these keys with the question; a key that either side lacks matches."""
        places = self._shared.get(per)
        if places is None:
            events, places = self.events, list(range(len(self.events)))
            for key in per:
                mine, theirs = getattr(self.question, key), attrgetter(key)
                if mine is not None:
                    places = [p for p in places if (found := theirs(events[p])) == mine or found is None]
            self._shared[per] = places
        return places

    def kept(self, key: object, at: int, choose: Callable[[], list[int]]) -> list[int]:
        """The events that `choose` chooses, remembered under `key`, as far as they exist at that instant."""
        places = self._kept.get(key)
        if places is None:
            places = self._kept[key] = choose()
        if not places or self.times[places[-1]] <= at:
            return places
        return places[: bisect_left(places, bisect_right(self.times, at))]

    def next_event(self, at: int) -> int:
        """When the next event comes into being after that instant."""
        place = bisect_right(self.times, at)
        return self.times[place] if place < len(self.times) else NEVER

    def is_set(self, name: str) -> bool:
        """Whether a fact is neither absent, null nor false."""
        value = self.facts.get(name)
        return value is not None and value is not False

    def day_of(self, name: str, zone: Zone) -> int | None:
        """A fact's local date in that zone, None when it is not set; PolicyError when it is no date."""
        if not self.is_set(name):
            return None
        value = as_moment(self.facts[name])
        match value:
            case datetime():
                return zone.day(seconds(value))
            case date():
                return value.toordinal()
            case None:
                raise wrong_fact(name, "a date (2026-11-30) or an instant")

    def instant_of(self, name: str) -> int | None:
        """A fact's instant, None when it is not set; PolicyError when it is none."""
        if not self.is_set(name):
            return None
        value = as_moment(self.facts[name])
        if not isinstance(value, datetime):
            raise wrong_fact(name, "an instant (2026-11-30T08:00:00Z)")
        return seconds(value)

    def number_of(self, name: str) -> float:
        """A fact's number, 0 when it is not set; PolicyError when it is none."""
        value = self.facts.get(name)
        if not self.is_set(name):
            return 0
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise wrong_fact(name, "a number")
        return value


def as_moment(value: Fact) -> date | datetime | None:
    """A date, or an aware instant, from its value or its ISO 8601 text; None when it is neither."""
    if isinstance(value, str):
        return read_date(value) or read_instant(value)
    if isinstance(value, datetime):
        return value if value.tzinfo is not None else None
    return value if isinstance(value, date) else None


def wrong_fact(name: str, wanted: str) -> PolicyError:
    """The error for a fact of the wrong type."""
    fault = Fault(at=f"/facts/{name}", code="wrong_type", message=f"this fact must be {wanted}")
    return PolicyError([fault], f"the fact {name} must be {wanted}")
