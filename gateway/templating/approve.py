"""Whether what a template says keeps the rules on content, looked at before anybody is sent it.

Each text is filled in with samples and held against every pack that may apply. A rule that surely binds in a
place that the catalog's entry names makes its approval void; any other is only told, for it is not yet known
who will be sent the text, and how. The same rules are kept once more when a text is filled in.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date

from gateway.domain import Channel
from gateway.errors import BadInput
from gateway.policy.content import Breach, breaches
from gateway.policy.model import Content, Pack
from gateway.templating.load import CALLBACK, SIGNATURE, file_name, sample
from gateway.templating.model import Template
from gateway.templating.said import said

_EVERYONE = "everyone"


@dataclass(frozen=True, slots=True, kw_only=True)
class Remark:
    """A rule that a template's text does not keep. `refused`: it makes the approval void."""

    at: str
    breach: Breach
    refused: bool


def approve(templates: Iterable[Template], packs: Sequence[Pack], *, today: date) -> None:
    """BadInput `template_unfit` with everything that makes the approval of a template void where it is to be used."""
    meant = [template for template in templates if template.approved and template.places]
    remarks = [remark for template in meant for remark in review(template, packs, today=today)]
    faults = [remark.breach.fault(remark.at) for remark in remarks if remark.refused]
    if faults:
        message = (
            "approved templates break the rules on content of places that they name; mend what is listed"
        )
        raise BadInput(faults, message, code="template_unfit")


def review(template: Template, packs: Sequence[Pack], *, today: date) -> list[Remark]:
    """Every rule that a text of the template does not keep, now or from a later date on."""
    of = {
        rule: pack
        for pack in packs
        for rule in pack.rules
        if isinstance(rule, Content) and _may_bind(rule, template, today)
    }
    return [
        Remark(
            at=f"{template.name}/{file_name(channel, language)}",
            breach=breach,
            refused=breach.enforced and _surely_binds(breach.rule, of[breach.rule], template),
        )
        for channel, language in (template.texts if of else ())
        for breach in _breaches(template, channel, language, of)
    ]


def _breaches(
    template: Template, channel: Channel, language: str, rules: Collection[Content]
) -> Iterator[Breach]:
    """What is wrong in a text, signed by its provider or not, each once."""
    values, source = sample(template), template.texts[channel, language]
    concerning = [rule for rule in rules if rule.channels is None or channel in rule.channels]
    callback = CALLBACK if channel is Channel.VOICE else None
    found: dict[tuple[Content, str], Breach] = {}
    for signature in (None, SIGNATURE) if channel is Channel.SMS else (None,):
        filled = source.fill(values.context(signature, callback))
        text = said(channel, filled, values, signature=signature, callback=callback)
        found |= {(breach.rule, breach.block.name): breach for breach in breaches(concerning, text)}
    yield from found.values()


def _may_bind(rule: Content, template: Template, today: date) -> bool:
    """Whether a reminder of this template may come under the rule."""
    return (
        (rule.until is None or today < rule.until)
        and (rule.purposes is None or not rule.purposes.isdisjoint(template.purposes))
        and (rule.actors is None or not rule.actors.isdisjoint(template.actors))
        and not rule.exempt_purposes.issuperset(template.purposes)
    )


def _surely_binds(rule: Content, pack: Pack, template: Template) -> bool:
    """Whether every reminder of this template comes under the rule in a place that the template names."""
    about = (rule.institutions, rule.products, rule.technologies, rule.adapters)
    narrowed = (*about, rule.since_fact, rule.until_fact)
    return (
        all(key is None for key in narrowed)
        and (rule.purposes is None or rule.purposes.issuperset(template.purposes))
        and (rule.actors is None or rule.actors.issuperset(template.actors))
        and any(code == _EVERYONE or _in(place, code) for place in template.places for code in pack.applies)
    )


def _in(place: str, code: str) -> bool:
    return place == code or place.startswith(f"{code}-")
