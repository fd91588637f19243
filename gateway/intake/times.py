"""When a reminder may go, on the clocks that a borrower may live by. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from gateway.bodies import MAX_DAYS_AHEAD, AnchorIn, ReminderIn, write_instant
from gateway.errors import Fault
from gateway.intake.rows import Borrower, Waiting
from gateway.policy.zones import possible_zones
from gateway.templating import Template

SKEW = timedelta(minutes=5)
"""How far the clock of a service may be ahead of ours."""


def in_future(instant: datetime, now: datetime) -> bool:
    """Whether an instant that should be past is not, even by a clock that is somewhat ahead."""
    return instant > now + SKEW


def zones_of(borrower: Borrower) -> Sequence[str]:
    """Every zone the borrower may be in."""
    stated = [(given["zone"], given["source"]) for given in borrower.profile.get("time_zones") or ()]
    clues = [a.clue for a in borrower.addresses if a.dead_at is None and a.clue is not None]
    return possible_zones(stated, borrower.profile.get("residence"), clues).names


def anchor_instant(due_date: date, days: int, clock: time, zones: Sequence[str]) -> datetime:
    """That time of day, so many days after the due date, where it comes last; UTC where no zone is known."""
    local = datetime.combine(due_date + timedelta(days=days), clock)
    return max(local.replace(tzinfo=ZoneInfo(zone)).astimezone(UTC) for zone in zones or ("UTC",))


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """When a reminder is first due, from when and until when it may go, and what is kept of its anchor."""

    next_at: datetime
    not_before: datetime | None
    expires_at: datetime
    anchor: dict[str, str | int | None] | None


def schedule(
    body: ReminderIn, template: Template, due_date: date, zones: Sequence[str], now: datetime
) -> Schedule | list[Fault]:
    """The times of a new reminder, or what is wrong with them.

    `not_before` comes out as the later of the body's own and the anchor's; the anchor keeps the body's own,
    and its lifetime where the body gave no end, for the day when the due date moves.
    """
    anchor_at = _anchor_at(body.anchor, due_date, zones)
    starts = [instant for instant in (body.not_before, anchor_at) if instant is not None]
    not_before = max(starts, default=None)
    next_at = max([now, *starts])
    expires_at = body.expires_at or next_at + template.expires_after
    faults = _faults(body, next_at, expires_at, now)
    if faults:
        return faults
    return Schedule(
        next_at=next_at, not_before=not_before, expires_at=expires_at, anchor=_kept(body, template)
    )


def _anchor_at(anchor: AnchorIn | None, due_date: date, zones: Sequence[str]) -> datetime | None:
    return None if anchor is None else anchor_instant(due_date, anchor.days, anchor.clock, zones)


def _faults(body: ReminderIn, next_at: datetime, expires_at: datetime, now: datetime) -> list[Fault]:
    if expires_at <= now:
        return [Fault(at="/expires_at", code="expires_past", message="it is past: send a later one, or none")]
    if expires_at <= next_at:
        message = "it ends before it may begin: see not_before and anchor"
        return [Fault(at="/expires_at", code="expires_before_start", message=message)]
    if expires_at > now + timedelta(days=MAX_DAYS_AHEAD):
        message = f"a reminder waits at most {MAX_DAYS_AHEAD} days: send it later"
        at = "/expires_at" if body.expires_at else "/anchor" if body.anchor else "/not_before"
        return [Fault(at=at, code="too_far", message=message)]
    return []


def _kept(body: ReminderIn, template: Template) -> dict[str, str | int | None] | None:
    if body.anchor is None:
        return None
    return {
        "due": body.anchor.due,
        "at": body.anchor.at,
        "not_before": write_instant(body.not_before) if body.not_before else None,
        "expires_after_s": None if body.expires_at else int(template.expires_after.total_seconds()),
    }


def anchored(reminder: Waiting, due_date: date, zones: Sequence[str]) -> tuple[datetime, datetime]:
    """The `not_before` and `expires_at` of an anchored reminder under another due date."""
    kept = reminder.anchor or {}
    anchor = AnchorIn.model_validate({"due": kept["due"], "at": kept["at"]})
    starts = [anchor_instant(due_date, anchor.days, anchor.clock, zones)]
    if kept["not_before"]:
        starts.append(datetime.fromisoformat(kept["not_before"]))
    if kept["expires_after_s"] is None:
        return max(starts), reminder.expires_at
    return max(starts), max(starts) + timedelta(seconds=kept["expires_after_s"])
