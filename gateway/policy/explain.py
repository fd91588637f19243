"""A decision as JSON for machines and the record, and as sentences for people."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from functools import lru_cache
from importlib import resources
from typing import Any, assert_never

from gateway.domain import Action
from gateway.policy.gate import Decision
from gateway.policy.localtime import read_instant, seconds, zone
from gateway.policy.model import (
    Cap,
    ChannelLock,
    Cooldown,
    Dates,
    Elapsed,
    Finding,
    IsoWeek,
    Month,
    Span,
    ThirdParty,
)
from gateway.policy.rules import RELAXED

_HOUR, _MINUTE = 3600, 60


def decision_json(decision: Decision) -> dict[str, Any]:
    """A decision as the API shows it; it names no person, number or address."""
    return {**outline_json(decision), **grounds_json(decision)}


def outline_json(decision: Decision) -> dict[str, Any]:
    """A decision without what it rests on."""
    return {
        "action": decision.action.value,
        "channel": None if decision.channel is None else decision.channel.value,
        "until": _written(decision.until),
        "again": decision.again,
        "opens": _written(decision.opens),
        "ends": _written(decision.ends),
        "reason": decision.reason,
        "at": _written(decision.at),
        "deliver_by": _written(decision.deliver_by),
        "tzdata": decision.tzdata,
        "calendars": decision.calendars,
        **({"note": decision.note} if decision.note is not None else {}),
    }


def grounds_json(decision: Decision) -> dict[str, Any]:
    """What a decision rests on: what rules found, the clues to zones, the packs. Many decisions have it alike."""
    return {
        "findings": [finding_json(finding) for finding in decision.findings],
        "zones": [clue._asdict() for clue in decision.zones.evidence],
        "packs": [
            {
                "pack": pack.id,
                "version": pack.version,
                "review_status": pack.review_status,
                "sha256": pack.digest,
            }
            for pack in decision.packs
        ],
    }


def whole_json(decision: Mapping[str, Any], grounds: Mapping[str, Any]) -> dict[str, Any]:
    """A decision that is kept as an outline with the digest of its grounds, as the API shows it."""
    return {**{name: value for name, value in decision.items() if name != "ground"}, **grounds}


def finding_json(finding: Finding) -> dict[str, Any]:
    """One finding in the API's shape, and beside it what is needed to say it in words."""
    rule = finding.of
    return {
        "rule": rule.id,
        "pack": rule.pack,
        "version": rule.version,
        "cite": rule.cite,
        "force": rule.force,
        "objects": finding.objects and not rule.in_shadow,
        "shadow": finding.shadow,
        "channel": finding.channel,
        "zone": finding.zone,
        "counted": finding.counted,
        "max": finding.max,
        "next": _written(finding.next),
        "kind": rule.kind,
        **dict(_terms(finding)),
    }


def sentences(decision: Mapping[str, Any], lang: str = "en") -> list[str]:
    """What was decided, then one line a fault and a rule, those that object first; then what their packs rest on.

    From a decision's JSON; `lang` is `en` or `zh`.
    """
    texts = _texts()[lang]
    by_rule: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for finding in decision["findings"]:
        by_rule.setdefault((finding["rule"], finding["channel"]), []).append(finding)
    spoke = {finding["pack"] for finding in decision["findings"]}
    statuses = [
        f"{pack['pack']} {pack['version']}{texts['colon']}{pack['review_status']}"
        for pack in decision["packs"]
        if pack.get("review_status") and pack["pack"] in spoke
    ]
    lines = [_line(found, texts) for found in sorted(map(_telling, by_rule.values()), key=_standing)]
    faults = [fault["message"] for fault in decision.get("faults", ())]
    return [_headline(decision, texts), *faults, *lines, *statuses]


def _standing(finding: Mapping[str, Any]) -> int:
    """What objects comes first, then what would."""
    return 0 if finding["objects"] else 1 if finding["shadow"] else 2


def _written(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat().replace("+00:00", "Z")


def _terms(finding: Finding) -> Iterator[tuple[str, Any]]:
    """A note; what a rule counts over what; after what it is silent."""
    rule = finding.of
    if finding.note is not None:
        yield "note", finding.note
    if rule.unsure:
        yield "unsure", rule.unsure
    match rule:
        case Cap():
            yield "over", _over(rule.window)
            yield "outcomes", None if rule.count_outcomes is None else sorted(rule.count_outcomes)
            yield "channels", None if rule.channels is None else sorted(rule.channels)
            if rule.adapters is not None:
                yield "adapters", sorted(rule.adapters)
        case Cooldown() | ChannelLock():
            yield "after", sorted(rule.after)
        case ThirdParty(only_purposes=named) if named is not None:
            yield "only_purposes", sorted(named)
        case _:
            pass


def _over(span: Span) -> dict[str, Any]:
    """A span in the words of the rule language."""
    match span:
        case Dates(n=1):
            return {"type": "day"}
        case Dates(n=n):
            return {"type": "dates", "n": n}
        case Elapsed(seconds=lasting) if lasting % _HOUR == 0:
            return {"type": "hours", "n": lasting // _HOUR}
        case Elapsed(seconds=lasting):
            return {"type": "minutes", "n": lasting // _MINUTE}
        case IsoWeek():
            return {"type": "week"}
        case Month():
            return {"type": "month"}
        case _:
            assert_never(span)


def _telling(findings: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """Of one rule's findings in several zones, the one that binds: it objects, and opens last."""
    return max(findings, key=_weight)


def _weight(finding: Mapping[str, Any]) -> tuple[bool, bool, str, int]:
    bars = finding["objects"] or finding["shadow"]
    return bars, bars and finding["next"] is None, finding["next"] or "", finding["counted"] or 0


def _headline(decision: Mapping[str, Any], texts: Mapping[str, Any]) -> str:
    zones = list(dict.fromkeys(clue["zone"] for clue in decision["zones"] if clue.get("counts", True)))
    reason = texts["reason"].get(decision["reason"], decision["reason"])
    note = _noted(decision.get("note"), texts)
    filled: str = texts[_outcome(decision)].format(
        channel=decision["channel"],
        deliver_by=_local(decision["deliver_by"], zones),
        until=_local(decision["until"], zones),
        opens=_local(decision.get("opens"), zones),
        ends=_local(decision.get("ends"), zones),
        reason=reason if note is None else f"{reason}{texts['colon']}{note}",
    )
    return filled


def _outcome(decision: Mapping[str, Any]) -> str:
    """Which headline says it: a wait for an opening, one that its end cuts short, or until it is looked at again."""
    action: str = decision["action"]
    if action != Action.DEFER:
        return action
    if decision.get("ends"):
        return "ends_unsure" if decision["again"] else "ends_first"
    return "again" if decision.get("again") else action


def _noted(note: str | None, texts: Mapping[str, Any]) -> str | None:
    """A note in the language of these texts; one of no known form stays as it is."""
    if note is None:
        return None
    for form, said in texts["note"].items():
        if (found := re.fullmatch(form, note)) is not None:
            return str(said.format(*found.groups()))
    return note


def _line(finding: Mapping[str, Any], texts: Mapping[str, Any]) -> str:
    """`CN.GBT.EFF3DAY (voice): 3 of 3 effective calls today; opens 2026-11-25 00:00 Asia/Shanghai; …`."""
    bars = finding["objects"] or finding["shadow"]
    note = finding.get("note")
    parts = [_word(finding, texts, bars=bars or note == RELAXED)]
    if bars:
        opens = _local(finding["next"], [finding["zone"]])
        parts.append(texts["opens"].format(next=opens) if opens else texts["never"])
    if finding.get("only_purposes"):
        parts.append(texts["purposes"].format(purposes=", ".join(finding["only_purposes"])))
    if finding.get("unsure"):
        parts.append(texts["unsure"].format(why=finding["unsure"]))
    elif finding["force"] == "draft":
        parts.append(texts["shadow"])
    parts += [extra for extra in (_noted(note, texts), finding["cite"]) if extra]
    return f"{finding['rule']} ({finding['channel']}){texts['colon']}{texts['join'].join(parts)}"


def _word(finding: Mapping[str, Any], texts: Mapping[str, Any], *, bars: bool) -> str:
    kind = finding["kind"]
    if kind == Cap.kind and finding["counted"] is not None:
        over = finding["over"]
        text = texts["full"] if bars else texts["free"]
        when = texts["over"][over["type"]].format(n=over.get("n"))
        what = texts["what"][_unit(finding)]
        if finding.get("adapters"):
            what = texts["through"].format(what=what, adapters=", ".join(finding["adapters"]))
        return str(text.format(counted=finding["counted"], max=finding["max"], what=what, over=when))
    said = texts["objects" if bars else "allows"]
    return str(said.get(kind, said.get("other", kind)).format(counted=finding["counted"]))


def _unit(finding: Mapping[str, Any]) -> str:
    """What a cap counts, in one word."""
    if finding["outcomes"] is not None and set(finding["outcomes"]) <= {"conversation", "answered"}:
        return "conversation"
    return "voice" if finding["channels"] == ["voice"] else "contact"


def _local(at: str | None, zones: Sequence[str]) -> str | None:
    """An instant as the clocks of these zones show it: `2026-11-25 08:00 Asia/Shanghai`."""
    instant = read_instant(at) if at is not None else None
    if instant is None:
        return None
    shown = [
        f"{instant + timedelta(seconds=zone(name).segment(seconds(instant))[0]):%Y-%m-%d %H:%M} {name}"
        for name in zones
    ]
    return " / ".join(shown) or f"{instant:%Y-%m-%d %H:%M} UTC"


@lru_cache(maxsize=1)
def _texts() -> dict[str, dict[str, Any]]:
    return tomllib.loads(resources.files("gateway.policy").joinpath("sentences.toml").read_text("utf-8"))
