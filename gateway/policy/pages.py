"""The pages of packs in Markdown, made from the packs' files alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from gateway.policy import words
from gateway.policy.model import AnyRule, Content, Pack, Retention, Window
from gateway.policy.overview import MADE, for_whom, overview, safe
from gateway.policy.picture import week_svg
from gateway.policy.week import of_holidays, ordinary
from gateway.policy.written import Written

_FORCES = {
    "law": "law",
    "presumption": "presumption of the law",
    "guideline": "regulator's guideline",
    "standard": "recommended standard",
    "self": "self-regulation",
    "operator": "operator's own rule",
    "draft": "draft",
}
_SCOPE = {
    "purposes": "only for purposes",
    "exempt_purposes": "not for purposes",
    "actors": "only for actors",
    "institutions": "only for institutions",
    "products": "only for products",
    "adapters": "only through adapters",
    "since_fact": "in force from",
    "until_fact": "in force before",
}
_SEE = "[All packs](README.md)"


def pages(packs: Sequence[Written]) -> dict[str, str]:
    """Every file of the folder, by its path in it: `README.md`, `PACK.md`, `img/RULE.svg`."""
    found = {"README.md": overview(packs)}
    for written in packs:
        found[f"{written.stem}.md"] = page(written)
        for rule in written.pack.rules:
            if isinstance(rule, Window) and ordinary(rule):
                found[_picture(rule)] = week_svg(rule, of_holidays(rule, written.pack))
    return found


def page(written: Written) -> str:
    """The page of one pack."""
    pack = written.pack
    lines = [f"# {pack.id}", "", safe(pack.title), "", f"{MADE} {_SEE}", "", *_header(written)]
    for heading, belongs in _SECTIONS.items():
        chosen = [(keys, rule) for keys, rule in written.pairs if belongs(rule)]
        if chosen:
            lines += [
                "",
                f"## {heading}",
                *(line for keys, rule in chosen for line in _rule(keys, rule, pack)),
            ]
    return "\n".join(lines) + "\n"


_SECTIONS: dict[str, Callable[[AnyRule], bool]] = {
    "Rules": lambda rule: not rule.in_shadow and not isinstance(rule, Content | Retention),
    "What texts must say": lambda rule: not rule.in_shadow and isinstance(rule, Content),
    "How long records are kept": lambda rule: not rule.in_shadow and isinstance(rule, Retention),
    "In shadow": lambda rule: rule.in_shadow,
}


def _header(written: Written) -> Iterator[str]:
    pack = written.pack
    facts = {
        "version": pack.version,
        "for": for_whom(pack),
        "in force": _dates(pack),
        **{name: words.term(written.header[key]) for key, name in _SCOPE.items() if key in written.header},
        "an answered call counts as": pack.answered_as
        and f"`{pack.answered_as}`, unless it surely was a machine",
        "holidays": pack.holidays and "its hours close on the public holidays of the borrower's residence",
        "review": pack.review_status,
        "next review by": pack.review_by,
        "source": pack.source,
    }
    yield from ("| | |", "|---|---|")
    yield from (f"| {name} | {safe(str(fact))} |" for name, fact in facts.items() if fact)


def _dates(of: Pack | AnyRule) -> str | None:
    said = [f"from {of.since}"] if of.since else []
    said += [f"before {of.until}"] if of.until else []
    return " and ".join(said) or None


def _rule(keys: Mapping[str, Any], rule: AnyRule, pack: Pack) -> Iterator[str]:
    yield from ("", f"### {rule.id}", "")
    yield safe(words.sentence(keys))
    if isinstance(rule, Window) and ordinary(rule):
        yield from ("", *_hours(rule, pack), "", f"![The week of {rule.id}]({_picture(rule)})")
    yield ""
    if rule.in_shadow:
        why = rule.unsure or "a draft, not in force"
        yield f"- **It never objects**, it is only recorded: {safe(why)}"
    yield from (f"- {heading}: {safe(said)}" for heading, said in words.terms(keys))
    yield f"- {_FORCES[rule.force].capitalize()}: {safe(rule.cite) or 'no citation'}"
    yield f"- Read in {safe(rule.source) or 'no source'}, checked {rule.checked or 'never'}"


def _hours(rule: Window, pack: Pack) -> Iterator[str]:
    found = words.hours(rule, of_holidays(rule, pack))
    yield f"| {' | '.join(days for days, _ in found)} |"
    yield f"|{'---|' * len(found)}"
    yield f"| {' | '.join(text for _, text in found)} |"


def _picture(rule: AnyRule) -> str:
    return f"img/{rule.id}.svg"
