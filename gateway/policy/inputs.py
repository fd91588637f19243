"""What a decision read, as JSON for its record and back: enough to decide it again.

Instants are RFC 3339 in UTC, dates ISO 8601, spans whole seconds. Consents, windows and blackouts have the shape
that they have in cases. It names addresses by their keys, and no one by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime, timedelta
from typing import Any

from gateway.domain import Channel, DebtState
from gateway.policy.gate import DebtNow, Hold, Reachable, Snapshot
from gateway.policy.model import Absence, Consent, Hours, OwnWindow, Told
from gateway.policy.zones import Evidence, Zones

_MINUTE, _HOUR = 60, 3600


def written(asked: Snapshot) -> dict[str, Any]:
    """A snapshot as JSON."""
    debt = asked.debt
    return {
        "borrower": asked.borrower,
        "debt": {
            "id": debt.id,
            "creditor": debt.creditor,
            "state": debt.state.value,
            "state_at": _at(debt.state_at),
            "stale_after_s": int(debt.stale_after.total_seconds()),
            "until": _day(debt.until),
            "due_date": _day(debt.due_date),
        },
        "purpose": asked.purpose,
        "channels": [channel.value for channel in asked.channels],
        "addresses": {
            channel.value: [
                {
                    "address": to.address_key,
                    "kind": to.kind,
                    "technology": to.technology,
                    "adapter": to.adapter,
                }
                for to in found
            ]
            for channel, found in asked.addresses.items()
        },
        "zones": list(asked.zones.names),
        "expires_at": _at(asked.expires_at),
        "not_before": _at(asked.not_before),
        "valid_on": _day(asked.valid_on),
        "residence": asked.residence,
        "governing_law": asked.governing_law,
        "recipient_role": asked.recipient_role,
        "actor": asked.actor,
        "actor_role": asked.actor_role,
        "product": asked.product,
        "institution": asked.institution,
        "licences": list(asked.licences),
        "assigned": list(asked.assigned),
        "duplicate": asked.duplicate,
        "open_voice": asked.open_voice,
        "opt_outs": [[word, _at(at)] for word, at in asked.opt_outs],
        "holds": [_hold(hold) for hold in asked.holds],
        "facts": dict(asked.facts or {}),
        "consents": [_consent(consent) for consent in asked.told.consents],
        "windows": [_window(own) for own in asked.told.windows],
        "blackouts": [
            {"reason": off.reason, "since": _day(off.since), "until": _day(off.until)}
            for off in asked.told.blackouts
        ],
    }


def read(said: Mapping[str, Any]) -> Snapshot:
    """The snapshot that was written."""
    debt = said["debt"]
    return Snapshot(
        borrower=said["borrower"],
        debt=DebtNow(
            id=debt["id"],
            creditor=debt["creditor"],
            state=DebtState(debt["state"]),
            state_at=_instant(debt["state_at"]),
            stale_after=timedelta(seconds=debt["stale_after_s"]),
            until=_date(debt["until"]),
            due_date=_date(debt["due_date"]),
        ),
        purpose=said["purpose"],
        channels=tuple(Channel(word) for word in said["channels"]),
        addresses={
            Channel(word): tuple(
                Reachable(
                    address_key=to["address"],
                    kind=to["kind"],
                    technology=to["technology"],
                    adapter=to.get("adapter"),  # older records hold none
                )
                for to in found
            )
            for word, found in said["addresses"].items()
        },
        zones=Zones(
            names=tuple(said["zones"]),
            evidence=tuple(Evidence(name, "record", "stated", counts=True) for name in said["zones"]),
        ),
        expires_at=_instant(said["expires_at"]),
        not_before=_maybe(said["not_before"]),
        valid_on=_date(said["valid_on"]),
        residence=said["residence"],
        governing_law=said["governing_law"],
        recipient_role=said["recipient_role"],
        actor=said["actor"],
        actor_role=said["actor_role"],
        product=said["product"],
        institution=said["institution"],
        licences=tuple(said["licences"]),
        assigned=tuple(said["assigned"]),
        duplicate=said["duplicate"],
        open_voice=said["open_voice"],
        opt_outs=tuple((word, _instant(at)) for word, at in said["opt_outs"]),
        holds=tuple(_read_hold(hold) for hold in said["holds"]),
        facts=said["facts"],
        told=Told(
            consents=tuple(_read_consent(consent) for consent in said["consents"]),
            windows=tuple(_read_window(own) for own in said["windows"]),
            blackouts=tuple(
                Absence(
                    reason=off["reason"], since=date.fromisoformat(off["since"]), until=_date(off["until"])
                )
                for off in said["blackouts"]
            ),
        ),
    )


def _at(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat().replace("+00:00", "Z")


def _day(day: date | None) -> str | None:
    return None if day is None else day.isoformat()


def _instant(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _maybe(text: str | None) -> datetime | None:
    return None if text is None else _instant(text)


def _date(text: str | None) -> date | None:
    return None if text is None else date.fromisoformat(text)


def _clock(second: int) -> str:
    return f"{second // _HOUR:02}:{second % _HOUR // _MINUTE:02}"


def _second(clock: str) -> int:
    return int(clock[:2]) * _HOUR + int(clock[3:]) * _MINUTE


def _hold(hold: Hold) -> dict[str, Any]:
    return {
        "id": hold.id,
        "reason": hold.reason,
        "since": _at(hold.since),
        "until": _at(hold.until),
        "allow_purposes": sorted(hold.allow_purposes),
    }


def _read_hold(said: Mapping[str, Any]) -> Hold:
    return Hold(
        id=said["id"],
        reason=said["reason"],
        since=_instant(said["since"]),
        until=_maybe(said["until"]),
        allow_purposes=frozenset(said["allow_purposes"]),
    )


def _consent(consent: Consent) -> dict[str, Any]:
    return {
        "kind": consent.kind,
        "rules": sorted(consent.rules),
        "channel": consent.channel,
        "form": consent.form,
        "given_at": _at(consent.given_at),
        "until": _at(consent.until),
        "revoked_at": _at(consent.revoked_at),
    }


def _read_consent(said: Mapping[str, Any]) -> Consent:
    return Consent(
        kind=said["kind"],
        rules=frozenset(said["rules"]),
        channel=said["channel"],
        form=said["form"],
        given_at=_instant(said["given_at"]),
        until=_maybe(said["until"]),
        revoked_at=_maybe(said["revoked_at"]),
    )


def _window(own: OwnWindow) -> dict[str, Any]:
    return {
        "kind": own.kind,
        "on": sorted(own.on),
        "open": _clock(own.hours.open),
        "close": _clock(own.hours.close),
        "channels": None if own.channels is None else sorted(own.channels),
        "address_kinds": None if own.address_kinds is None else sorted(own.address_kinds),
        "since": _day(own.since),
        "until": _day(own.until),
    }


def _read_window(said: Mapping[str, Any]) -> OwnWindow:
    channels, kinds = said["channels"], said["address_kinds"]
    return OwnWindow(
        kind=said["kind"],
        on=frozenset(said["on"]),
        hours=Hours(open=_second(said["open"]), close=_second(said["close"])),
        channels=None if channels is None else frozenset(channels),
        address_kinds=None if kinds is None else frozenset(kinds),
        since=_date(said["since"]),
        until=_date(said["until"]),
    )
