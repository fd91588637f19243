"""PUT of borrowers: what it carries replaces; what was agreed, asked or decided is added or ended, not wiped."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import orjson

from gateway.bodies import AddressIn, BorrowerIn
from gateway.domain import AddressKind, Channel, Tenant
from gateway.errors import Fault
from gateway.intake.asks import Blind, IntakeTx, SubjectKey
from gateway.intake.rows import Address, Borrower, Joined
from gateway.masking import Pii
from gateway.ports import Entry

MOST_KEPT = 200
"""Of one borrower and of each kind: consents, opt-outs, holds, windows, blackouts."""

_PHONE_CHANNELS = {"sms", "voice", "whatsapp", "fax"}


def blind_address(blind: Blind, channel: str, value: str) -> bytes:
    """An address's blind index; a number has the same one on every channel that dials it."""
    if channel in _PHONE_CHANNELS:
        return blind("phone", value)
    return blind(channel, value.casefold() if channel == "email" else value)


def identities(blind: Blind, body: BorrowerIn) -> list[bytes]:
    """What makes borrowers one person: phones that are not a workplace's, and id numbers."""
    shown = [
        blind_address(blind, address.channel, address.value.reveal("blind index"))
        for address in body.addresses or ()
        if address.channel in (Channel.SMS, Channel.VOICE) and address.kind is not AddressKind.WORKPLACE
    ]
    if body.national_id is not None:
        number = re.sub(r"[\s-]", "", body.national_id.reveal("blind index")).upper()
        shown.append(blind("national_id", number))
    return shown


@dataclass(frozen=True, slots=True, kw_only=True)
class Put:
    """One borrower to write, after one or several bodies."""

    before: Borrower | None
    after: Borrower
    carried: frozenset[str]
    clear: Mapping[str, Pii[str]]

    @property
    def changed(self) -> bool:
        """Whether anything is other than it was."""
        return self.before is None or self.after.revision != self.before.revision


def put(
    current: Put | Borrower | None, body: BorrowerIn, *, name: str, key: SubjectKey, blind: Blind
) -> Put | list[Fault]:
    """A borrower after a PUT of this body, or what is wrong with it."""
    earlier = current if isinstance(current, Put) else None
    before = current.before if isinstance(current, Put) else current
    now = current.after if isinstance(current, Put) else current
    carried = frozenset(body.model_fields_set - {"id"})
    profile = _profile(now.profile if now else {}, body, carried)
    faults = [
        Fault(at=f"/{kind}", code="too_many", message=f"a borrower keeps at most {MOST_KEPT} of these")
        for kind in _KEPT
        if len(profile.get(kind, ())) > MOST_KEPT
    ]
    if faults:
        return faults
    after = Borrower(
        id=name,
        person=now.person if now else "",
        profile=profile,
        pii_enc=_pii(now, body, carried, name, key),
        revision=now.revision if now else 0,
        addresses=_addresses(now, body, key, blind)
        if "addresses" in carried
        else (now.addresses if now else ()),
    )
    if after != now:
        after = replace(after, revision=after.revision + 1)
    return Put(
        before=before,
        after=after,
        carried=carried | (earlier.carried if earlier else frozenset()),
        clear={**(earlier.clear if earlier else {}), **_clear(body)},
    )


def _clear(body: BorrowerIn) -> dict[str, Pii[str]]:
    found = {"name": body.name} if body.name is not None else {}
    if body.national_id is not None:
        found["national_id"] = body.national_id
    found |= {f"address.{n}.{a.channel}": a.value for n, a in enumerate(body.addresses or ())}
    return found


def _profile(old: Mapping[str, Any], body: BorrowerIn, carried: Iterable[str]) -> dict[str, Any]:
    given = body.model_dump(mode="json", by_alias=True, include={*_PLAIN, *_KEPT} & set(carried))
    profile = dict(old)
    for name in _PLAIN & given.keys():
        if given[name] is None:
            profile.pop(name, None)
        else:
            profile[name] = given[name]
    for name in _KEPT.keys() & given.keys():
        profile[name] = _KEPT[name](old.get(name, []), given[name] or [])
    return profile


_PLAIN = {"language", "residence", "time_zones", "policy_facts"}


def _consents(old: Sequence[dict[str, Any]], new: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Added by a new id; an id that is there already can only be ended, and sooner."""
    kept = {consent["id"]: dict(consent) for consent in old}
    for consent in new:
        stands = kept.setdefault(consent["id"], consent)
        for end in ("until", "revoked_at"):
            ends = [moment for moment in (stands[end], consent[end]) if moment]
            stands[end] = min(ends, key=datetime.fromisoformat) if ends else None
    return list(kept.values())


def _opt_outs(old: Sequence[dict[str, Any]], new: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [*old, *(opt_out for opt_out in new if opt_out not in old)]


def _ended(old: Sequence[dict[str, Any]], new: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Added by a new id; of one that is there already only its end can be set."""
    kept = {each["id"]: dict(each) for each in old}
    for each in new:
        kept.setdefault(each["id"], each)["until"] = each["until"]
    return list(kept.values())


_KEPT: Mapping[str, Callable[..., list[dict[str, Any]]]] = {
    "consents": _consents,
    "opt_outs": _opt_outs,
    "holds": _ended,
    "windows": _ended,
    "blackouts": _ended,
}


def _pii(now: Borrower | None, body: BorrowerIn, carried: Iterable[str], name: str, key: SubjectKey) -> bytes:
    given = {"name": body.name, "national_id": body.national_id}
    fresh = {
        kind: value.reveal("sealed for the store") if value is not None else None
        for kind, value in given.items()
        if kind in carried
    }
    place = {"table": "borrower", "column": "pii_enc", "row": name}
    if now is not None:
        old = orjson.loads(key.open(now.pii_enc, **place))
        if {**old, **fresh} == old:
            return now.pii_enc
        fresh = {**old, **fresh}
    return key.seal(orjson.dumps({"name": None, "national_id": None, **fresh}), **place)


def _addresses(now: Borrower | None, body: BorrowerIn, key: SubjectKey, blind: Blind) -> tuple[Address, ...]:
    old = {(a.channel, a.blind): a for a in now.addresses} if now else {}
    return tuple(_address(place, given, old, key, blind) for place, given in enumerate(body.addresses or ()))


def _address(
    position: int,
    given: AddressIn,
    old: Mapping[tuple[Channel, bytes], Address],
    key: SubjectKey,
    blind: Blind,
) -> Address:
    """An address as it will stand; one that was there keeps its seal and whether it is dead."""
    value = given.value.reveal("sealed for the store")
    index = blind_address(blind, given.channel, value)
    kept = old.get((given.channel, index))
    if kept is not None:
        return replace(kept, position=position, kind=given.kind.value, country=given.country, clue=given.clue)
    return Address(
        channel=given.channel,
        blind=index,
        position=position,
        value_enc=key.seal(value.encode(), table="address", column="value_enc", row=index.hex()),
        kind=given.kind.value,
        country=given.country,
        clue=given.clue,
        dead_at=None,
    )


async def write(tx: IntakeTx, tenant: Tenant, puts: Mapping[str, Put], joined: Joined) -> dict[str, Borrower]:
    """Write borrowers and their persons; what is stored now, by id."""
    await tx.join(joined)
    settled = {
        name: replace(put, after=replace(put.after, person=joined.persons[name]))
        for name, put in puts.items()
    }
    changed = {name: put for name, put in settled.items() if put.changed}
    await tx.put_borrowers(
        [put.after for put in changed.values()],
        new={name for name, put in changed.items() if put.before is None},
        addressed={name for name, put in changed.items() if "addresses" in put.carried},
    )
    await tx.append([_entry(tenant, tx.moment.policy, put, joined) for put in changed.values()])
    return {name: put.after for name, put in settled.items()}


def _entry(tenant: Tenant, now: datetime, put: Put, joined: Joined) -> Entry:
    after = put.after
    merged = sorted(gone for gone, stays in joined.merged.items() if stays == after.person)
    return Entry(
        tenant=tenant,
        kind="borrower",
        at=now,
        borrower=after.id,
        body={
            "revision": after.revision,
            "keys": sorted(put.carried),
            "person": after.person,
            **({"merged": merged} if merged else {}),
        },
        clear=put.clear,
    )
