"""From rows to what the gate reads: a `Snapshot`, and the history in the words of the rules. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Any

from gateway import outcomes
from gateway.domain import Channel, DebtState, Tenant
from gateway.policy.gate import DebtNow, Hold, Reachable, Snapshot
from gateway.policy.localtime import instant, start_of_date, zone
from gateway.policy.model import NOTHING_TOLD, WEEKDAYS, Absence, Consent, Event, Hours, OwnWindow, Told
from gateway.policy.overrides import Overrides
from gateway.policy.zones import Zones, possible_zones, together
from gateway.ports import Moment
from gateway.templating import Template, ValidWhile
from gateway.values import dataclass
from gateway.work import AddressRow, BorrowerRow, DebtRow, Facts, Past

STALE_AFTER = timedelta(hours=24)
"""For a tenant that set nothing else."""
DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """A question to the gate: a reminder, or somebody else's contact (`channels` in the words of the rules)."""

    tenant: Tenant
    person: str
    borrower: str
    debt: str
    purpose: str
    actor: str | None
    actor_role: str
    recipient_role: str
    channels: tuple[Channel, ...]
    expires_at: datetime
    not_before: datetime | None = None
    template: Template | None = None
    duplicate: bool = False
    tries: int = 0
    """Hand-overs that were refused so far."""
    reminder: str = ""
    """Its id, by which accounts are drawn; empty where none is stored."""


def snapshot(
    ask: Ask,
    facts: Facts,
    reachable: Mapping[Channel, tuple[Reachable, ...]],
    moment: Moment,
    stated: Overrides,
) -> Snapshot:
    """What is known of the borrower, the debt and the reminder.

    `reachable` are addresses that can be served; `stated` the events of regions.
    """
    borrower = facts.borrowers[ask.tenant, ask.borrower]
    debt = facts.debts[ask.tenant, ask.debt]
    siblings = facts.siblings.get((ask.tenant, ask.person), (borrower,))
    others = [sibling for sibling in siblings if sibling.id != borrower.id]
    zones = zones_of(borrower, facts.addresses.get((ask.tenant, ask.borrower), ()))
    if others:
        zones = together(zones, *(zones_of(other, ()) for other in others))
    residence = borrower.profile.get("residence")
    starts, ends, valid_on = _validity(ask, debt, zones)
    assigned = facts.assigned(ask.tenant, debt.portfolio)
    return Snapshot(
        borrower=ask.person,
        debt=DebtNow(
            id=debt.id,
            creditor=debt.creditor,
            state=DebtState(debt.state),
            state_at=debt.state_at,
            stale_after=facts.stale_after.get(ask.tenant.split("/")[0], STALE_AFTER),
            until=debt.until,
            due_date=debt.due_date,
        ),
        purpose=ask.purpose,
        channels=ask.channels,
        addresses=reachable,
        zones=zones,
        expires_at=ends,
        not_before=starts,
        valid_on=valid_on,
        residence=residence,
        governing_law=debt.governing_law,
        recipient_role=ask.recipient_role,
        actor_role=ask.actor_role,
        actor=ask.actor,
        product=debt.product,
        institution=assigned.institution if assigned else None,
        licences=(*(assigned.licences if assigned else ()), *_residences(others)),
        assigned=assigned.packs if assigned else (),
        duplicate=ask.duplicate,
        open_voice=_open_voice(facts.history.get((ask.tenant, ask.person), ()), moment.policy),
        opt_outs=tuple([(o["channel"], _instant(o["at"])) for o in _listed(siblings, "opt_outs")]),
        holds=tuple([_hold(h) for h in _listed(siblings, "holds")]),
        facts={**_set_facts((*others, borrower)), **debt.policy_facts},
        told=_told(borrower, siblings, stated.regional_blackouts(residence or debt.governing_law)),
    )


def _residences(borrowers: Sequence[BorrowerRow]) -> tuple[str, ...]:
    """Where a person's other borrowers live: the law of each holds."""
    found = (borrower.profile.get("residence") for borrower in borrowers)
    return tuple(dict.fromkeys(place for place in found if place))


def _told(
    borrower: BorrowerRow,
    siblings: Sequence[BorrowerRow],
    regional: Sequence[tuple[str, date, date | None]],
) -> Told:
    """The borrower's own consents; hours and events of every borrower of the person, and of the region."""
    consents, windows = _listed((borrower,), "consents"), _listed(siblings, "windows")
    blackouts = _listed(siblings, "blackouts")
    if not (consents or windows or blackouts or regional):
        return NOTHING_TOLD
    return Told(
        consents=tuple(map(_consent, consents)),
        windows=tuple(map(_own_window, windows)),
        blackouts=(
            *map(_absence, blackouts),
            *(Absence(reason=reason, since=since, until=until) for reason, since, until in regional),
        ),
    )


def _consent(given: Mapping[str, Any]) -> Consent:
    return Consent(
        kind=given["kind"],
        given_at=_instant(given["given_at"]),
        rules=frozenset(given.get("rules") or ()),
        channel=given.get("channel"),
        form=given.get("form"),
        until=_instant(given["until"]) if given.get("until") else None,
        revoked_at=_instant(given["revoked_at"]) if given.get("revoked_at") else None,
    )


def _own_window(given: Mapping[str, Any]) -> OwnWindow:
    channels, kinds = given.get("channels"), given.get("address_kinds")
    return OwnWindow(
        kind=given["kind"],
        on=frozenset(given.get("on") or WEEKDAYS),
        hours=Hours(open=_clock(given.get("open") or "00:00"), close=_clock(given.get("close") or "24:00")),
        channels=frozenset(channels) if channels else None,
        address_kinds=frozenset(kinds) if kinds else None,
        since=_date(given.get("from")),
        until=_date(given.get("until")),
    )


def _absence(given: Mapping[str, Any]) -> Absence:
    return Absence(
        reason=given["reason"], since=date.fromisoformat(given["from"]), until=_date(given.get("until"))
    )


def _clock(text: str) -> int:
    """Seconds of the day of `09:00`."""
    return int(text[:2]) * 3600 + int(text[3:5]) * 60


def _date(text: str | None) -> date | None:
    return date.fromisoformat(text) if text else None


def _set_facts(borrowers: Sequence[BorrowerRow]) -> dict[str, Any]:
    """Facts that are set; one that is not does not undo a sibling's."""
    return {
        name: fact
        for borrower in borrowers
        for name, fact in (borrower.profile.get("policy_facts") or {}).items()
        if fact is not None and fact is not False
    }


def zones_of(borrower: BorrowerRow, addresses: Sequence[AddressRow]) -> Zones:
    """Every zone the borrower may be in, and all clues."""
    stated = [(z["zone"], z["source"]) for z in borrower.profile.get("time_zones") or ()]
    clues = [address.clue for address in addresses if address.clue is not None]
    return possible_zones(stated, borrower.profile.get("residence"), clues)


def _validity(ask: Ask, debt: DebtRow, zones: Zones) -> tuple[datetime | None, datetime, date | None]:
    """From when and until when the text is true where the borrower is, and the only date it is true on."""
    when = ask.template.valid_while if ask.template else None
    if when is None or not zones.names:
        return ask.not_before, ask.expires_at, None
    if when is ValidWhile.DUE_DATE_IS_TODAY:
        return ask.not_before, ask.expires_at, debt.due_date
    if when is ValidWhile.BEFORE_DUE:
        due = instant(min(start_of_date(zone(name), debt.due_date) for name in zones.names))
        return ask.not_before, min(ask.expires_at, due), None
    over = instant(max(start_of_date(zone(name), debt.due_date + DAY) for name in zones.names))
    return max(ask.not_before or over, over), ask.expires_at, None


def _listed(borrowers: Sequence[BorrowerRow], name: str) -> list[Mapping[str, Any]]:
    return [each for borrower in borrowers for each in borrower.profile.get(name) or ()]


def _instant(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _hold(held: Mapping[str, Any]) -> Hold:
    ends = [_instant(held[name]) for name in ("until", "ended_at") if held.get(name)]
    return Hold(
        id=held["id"],
        reason=held.get("reason") or "",
        since=_instant(held["from"]),
        until=min(ends, default=None),
        allow_purposes=frozenset(held.get("allow_purposes") or ()),
    )


def _open_voice(history: Sequence[Past], now: datetime) -> bool:
    """Whether a call to this person can still become a conversation."""
    return any(
        past.channel == Channel.VOICE and (past.final_at is None or past.final_at > now) for past in history
    )


def events(history: Sequence[Past], person: str, now: datetime) -> list[Event]:
    """A person's history in the words of the rules."""
    return [
        Event(
            at=past.at,
            channel=past.channel,
            outcome=outcomes.word(past.channel, past.state, past.final_at, now),
            borrower=person,
            debt=past.debt,
            creditor=past.creditor,
            address=past.address,
            recipient_role=past.recipient_role,
            flags=frozenset(past.flags),
            technology=past.technology,
            adapter=past.adapter,
            actor=past.actor,
        )
        for past in history
    ]
