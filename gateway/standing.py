"""How an account stands: its breaker, its throttle, and a day that its provider says is used up. Pure.

All of it runs on real time, the only one that providers know. A breaker opens by the first configuration error, by
the share of errors over a minute, or by calls that nobody answers. Open, it lets nothing through until the provider
was asked (`account check`); half open, one reminder at a time; three that were accepted in a row close it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from gateway.domain import Handed, HandOver, from_us, to_us
from gateway.quotas.catalogue import midnight

WINDOW = timedelta(seconds=60)
"""How long an error counts."""
SLICE = timedelta(seconds=5)
"""The window moves on in steps of this."""
LEAST_CALLS = 10
ERROR_SHARE = 0.5
"""Of at least LEAST_CALLS calls in the window, the share of errors that opens a breaker."""
SILENT = 5
"""So many calls without an answer, and no answer between, open a breaker."""
FIRST_PROBE = timedelta(seconds=5)
LAST_PROBE = timedelta(minutes=15)
"""From one probe that failed to the next; doubled each time."""
PROBE_LASTS = timedelta(seconds=120)
"""After this nobody waits for a probe's ending any more."""
SUCCESSES = 3
"""Probes that must succeed, one after another, before a breaker closes."""
RAMP = timedelta(seconds=30)
"""From closing to the full pace."""
LEAST = 1 / 16
"""Of the pace at least this much is left by a throttle, and this a ramp begins with."""
DEEPEST = 4
"""Halvings that LEAST is."""
HALVED_EVERY = timedelta(seconds=1)
DOUBLED_EVERY = timedelta(seconds=5)
HOUR = timedelta(hours=1)


class Breaker(StrEnum):
    """Whether an account is called: as ever, not at all, or one reminder at a time."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class Why(StrEnum):
    """What opened a breaker."""

    CONFIG = "config"
    ERRORS = "errors"
    UNANSWERED = "unanswered"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """A call that is over; `pool` is the account (gateway.quotas.model.pool_of), `ref` the attempt."""

    pool: str
    adapter: str
    handed: Handed
    ref: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """Calls and errors of one slice that began at `at`."""

    at: datetime
    calls: int
    errors: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Recent:
    """What the store knows of an account's calls: those answered well in the last minute, and those that hang.

    `hanging`: begun more than SLICE ago and not answered, while none that began since then was.
    """

    good: int = 0
    hanging: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """One account. `code` is the provider's own word for what opened the breaker."""

    breaker: Breaker = Breaker.CLOSED
    why: Why | None = None
    code: str | None = None
    opened_at: datetime | None = None
    probe_at: datetime | None = None
    """Open: when the provider is asked next. Half open: when the next reminder may go."""
    probe: str | None = None
    """The attempt that probes now, and until when it is waited for."""
    probe_until: datetime | None = None
    interval: timedelta = FIRST_PROBE
    successes: int = 0
    closed_at: datetime | None = None
    tallies: tuple[Tally, ...] = ()
    silent: int = 0
    silent_since: datetime | None = None
    level: int = 0
    """Halvings of the pace at `throttled_at`, the last throttle; one of them came at `halved_at`."""
    throttled_at: datetime | None = None
    halved_at: datetime | None = None
    used_up_until: datetime | None = None
    """The provider's midnight, after it said that the day is used up."""

    @property
    def down(self) -> bool:
        """Whether its breaker is not closed."""
        return self.breaker is not Breaker.CLOSED

    def barred(self, now: datetime) -> tuple[str, datetime] | None:
        """Why nothing may start through it (`account_down` or `quota`) and until when at least; None when it may."""
        back = self.back_at(now)
        if back is not None:
            return "account_down", back
        if self.used_up_until is not None and now < self.used_up_until:
            return "quota", self.used_up_until
        return None

    def back_at(self, now: datetime) -> datetime | None:
        """The earliest instant at which its breaker lets something through; None when it does now."""
        match self.breaker:
            case Breaker.CLOSED:
                return None
            case Breaker.OPEN:
                return max(now, self.probe_at or now)
            case Breaker.HALF_OPEN if self.probe is not None and self.probe_until is not None:
                return self.probe_until if now < self.probe_until else None
            case Breaker.HALF_OPEN:
                return self.probe_at if self.probe_at is not None and now < self.probe_at else None

    def factor(self, now: datetime) -> float:
        """What is left of its pace, 0 to 1."""
        ramp = self._ramp(now)
        return max(LEAST, ramp * 0.5 ** self.level_at(now)) if ramp else 0.0

    def _ramp(self, now: datetime) -> float:
        match self.breaker:
            case Breaker.OPEN:
                return 0.0
            case Breaker.HALF_OPEN:
                return LEAST
            case Breaker.CLOSED:
                return 1.0 if self.closed_at is None else min(1.0, max(LEAST, (now - self.closed_at) / RAMP))

    def level_at(self, now: datetime) -> int:
        """Halvings of the pace that are left: one less for each DOUBLED_EVERY without a throttle."""
        if self.throttled_at is None:
            return 0
        return max(0, self.level - max(0, (now - self.throttled_at) // DOUBLED_EVERY))

    def settled(self, now: datetime) -> Standing:
        """The same without what is over; an account of which nothing is to be said equals `Standing()`."""
        standing = replace(self, tallies=tuple(t for t in self.tallies if t.at > now - WINDOW))
        if standing.level_at(now) == 0:
            standing = replace(standing, level=0, throttled_at=None, halved_at=None)
        if standing.silent_since is not None and standing.silent_since <= now - WINDOW:
            standing = replace(standing, silent=0, silent_since=None)
        if standing.used_up_until is not None and standing.used_up_until <= now:
            standing = replace(standing, used_up_until=None)
        if standing.closed_at is not None and standing.closed_at <= now - RAMP:
            standing = replace(standing, closed_at=None)
        if not any(t.errors for t in standing.tallies):
            standing = replace(standing, tallies=())
        return standing

    def probed_by(self, ref: str, now: datetime) -> Standing:
        """Half open, with a reminder that goes as the one probe."""
        return replace(self, probe=ref, probe_until=now + PROBE_LASTS)

    def let_go(self, now: datetime) -> Standing:
        """Half open again for the next: the probe was withdrawn, or said nothing of the account."""
        return replace(self, probe=None, probe_until=None, probe_at=now)

    def asked(self, now: datetime, *, ok: bool) -> Standing:
        """After its provider was asked something harmless: half open when it answered well, else asked again later."""
        if self.breaker is Breaker.CLOSED:
            return self
        if not ok:
            return self._failed(now)
        if self.breaker is Breaker.HALF_OPEN:
            return self
        return replace(
            self, breaker=Breaker.HALF_OPEN, probe_at=now, probe=None, probe_until=None, successes=0
        )

    def opened(self, why: Why, code: str | None, now: datetime) -> Standing:
        """Open from now on."""
        return replace(
            self,
            breaker=Breaker.OPEN,
            why=why,
            code=code,
            opened_at=now,
            probe_at=now + FIRST_PROBE,
            interval=FIRST_PROBE,
            successes=0,
            closed_at=None,
            tallies=(),
            silent=0,
            silent_since=None,
        )

    def _failed(self, now: datetime) -> Standing:
        """A probe failed: open again, for twice as long."""
        interval = min(2 * self.interval, LAST_PROBE)
        return replace(
            self,
            breaker=Breaker.OPEN,
            probe_at=now + interval,
            probe=None,
            probe_until=None,
            interval=interval,
            successes=0,
        )

    def lost(self, now: datetime) -> Standing:
        """The probe's ending will not be known: it counts as a failure."""
        return self._failed(now)

    def _succeeded(self, now: datetime) -> Standing:
        successes = self.successes + 1
        if successes < SUCCESSES:
            return replace(self.let_go(now), successes=successes)
        return Standing(
            closed_at=now,
            level=self.level,
            throttled_at=self.throttled_at,
            halved_at=self.halved_at,
            used_up_until=self.used_up_until,
        )


def after(
    standing: Standing, endings: Iterable[Ending], now: datetime, recent: Recent = Recent()
) -> Standing:
    """How an account stands after these calls through it, in the order in which they ended."""
    if not standing.tallies and recent.good:
        standing = replace(standing, tallies=(Tally(at=now, calls=recent.good, errors=0),))
    for ending in endings:
        standing = _after_one(standing, ending, now, recent)
    return standing.settled(now)


def _after_one(standing: Standing, ending: Ending, now: datetime, recent: Recent) -> Standing:
    handed = ending.handed
    if handed.ending is HandOver.RETRY_AFTER:
        standing = _throttled(standing, ending, now)
    match standing.breaker:
        case Breaker.CLOSED:
            return _counted(standing, handed, now, recent)
        case Breaker.HALF_OPEN if ending.ref == standing.probe:
            return _probed(standing, handed, now)
        case _:
            return standing  # it began before the breaker opened: it says nothing of how things are now


def _throttled(standing: Standing, ending: Ending, now: datetime) -> Standing:
    match ending.handed.reach:
        case "recipient":
            return standing
        case "account":
            over = midnight(ending.adapter, now) or now + (ending.handed.retry_after or HOUR)
            return replace(standing, used_up_until=max(over, standing.used_up_until or over))
        case _:
            level = standing.level_at(now)
            if standing.halved_at is None or now - standing.halved_at >= HALVED_EVERY:
                return replace(standing, level=min(DEEPEST, level + 1), throttled_at=now, halved_at=now)
            return replace(standing, level=level, throttled_at=now)


def _probed(standing: Standing, handed: Handed, now: datetime) -> Standing:
    match handed.ending:
        case HandOver.ACCEPTED:
            return standing._succeeded(now)  # noqa: SLF001 (its own module)
        case HandOver.CONFIG | HandOver.NOT_SENT | HandOver.UNKNOWN:
            return replace(standing.lost(now), code=handed.code)
        case _:
            return standing.let_go(now)


def _counted(standing: Standing, handed: Handed, now: datetime, recent: Recent) -> Standing:
    if handed.ending is HandOver.CONFIG:
        return standing.opened(Why.CONFIG, handed.code, now)
    error = handed.ending in (HandOver.NOT_SENT, HandOver.UNKNOWN)
    standing = replace(standing, tallies=_added(standing.tallies, now, error=error))
    standing = _heard(standing, handed, now)
    if standing.silent and standing.silent + recent.hanging >= SILENT:
        return standing.opened(Why.UNANSWERED, handed.code, now)
    calls, errors = sum(t.calls for t in standing.tallies), sum(t.errors for t in standing.tallies)
    if error and calls >= LEAST_CALLS and errors >= ERROR_SHARE * calls:
        return standing.opened(Why.ERRORS, handed.code, now)
    return standing


def _heard(standing: Standing, handed: Handed, now: datetime) -> Standing:
    """With one more call that nobody answered, or none at all when the provider was heard of."""
    match handed.ending:
        case HandOver.NOT_SENT | HandOver.EXPIRED:
            return standing
        case HandOver.UNKNOWN if standing.silent_since is None or standing.silent_since <= now - WINDOW:
            return replace(standing, silent=1, silent_since=now)
        case HandOver.UNKNOWN:
            return replace(standing, silent=standing.silent + 1)
        case _:
            return replace(standing, silent=0, silent_since=None)


def _added(tallies: tuple[Tally, ...], now: datetime, *, error: bool) -> tuple[Tally, ...]:
    kept = tuple(t for t in tallies if t.at > now - WINDOW)
    if kept and now - kept[-1].at < SLICE:
        last = kept[-1]
        return (*kept[:-1], replace(last, calls=last.calls + 1, errors=last.errors + error))
    return (*kept, Tally(at=now, calls=1, errors=int(error)))


def shown(standing: Standing, now: datetime) -> dict[str, Any]:
    """As operators see it; instants are real time (UTC)."""
    barred = standing.barred(now)
    return {
        "breaker": standing.breaker.value,
        "why": standing.why.value if standing.why is not None else None,
        "code": standing.code,
        "since": _said(standing.opened_at),
        "probe_at": _said(standing.back_at(now)),
        "factor": round(standing.factor(now), 3),
        "used_up_until": _said(standing.used_up_until),
        "barred": barred[0] if barred is not None else None,
    }


def _said(instant: datetime | None) -> str | None:
    return instant.isoformat().replace("+00:00", "Z") if instant is not None else None


_INSTANTS = (
    "opened_at",
    "probe_at",
    "probe_until",
    "closed_at",
    "silent_since",
    "throttled_at",
    "halved_at",
    "used_up_until",
)
_PLAIN = ("code", "probe", "successes", "silent", "level")


def to_json(standing: Standing) -> dict[str, Any]:
    """As JSON: instants in µs, and nothing of what is as it is by itself."""
    said: dict[str, Any] = {}
    if standing.down:
        said |= {"breaker": standing.breaker.value, "interval_s": standing.interval.total_seconds()}
    if standing.why is not None:
        said["why"] = standing.why.value
    said |= {name: value for name in _PLAIN if (value := getattr(standing, name))}
    said |= {name: to_us(value) for name in _INSTANTS if (value := getattr(standing, name)) is not None}
    if standing.tallies:
        said["tallies"] = [[to_us(t.at), t.calls, t.errors] for t in standing.tallies]
    return said


def from_json(said: Mapping[str, Any]) -> Standing:
    """The standing that `to_json` made."""
    known: dict[str, Any] = {name: said[name] for name in _PLAIN if name in said}
    known |= {name: from_us(said[name]) for name in _INSTANTS if name in said}
    return Standing(
        breaker=Breaker(said.get("breaker", Breaker.CLOSED)),
        why=Why(said["why"]) if "why" in said else None,
        interval=timedelta(seconds=said.get("interval_s", FIRST_PROBE.total_seconds())),
        tallies=tuple(
            Tally(at=from_us(at), calls=calls, errors=errors) for at, calls, errors in said.get("tallies", ())
        ),
        **known,
    )
