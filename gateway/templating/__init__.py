"""Message templates: what a borrower reads or hears, filled in from declared values only.

`templates/<template>/<channel>.<language>.liquid` hold the texts, `templates/catalog.toml` the rest.
An e-mail's file begins with `Subject: …` and an empty line; a call's has two stages with a line `---`
between them: what is said to whoever answers, and what is said once 1 was pressed. Where a provider
takes no free text, the file says what the provider will make of the bound variables.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from importlib.resources import files
from importlib.resources.abc import Traversable
from types import MappingProxyType
from typing import Self

from liquid.exceptions import LiquidError

from gateway.domain import Account, Channel, Rendered
from gateway.errors import BadInput, Fault
from gateway.masking import Pii
from gateway.segments import segments
from gateway.templating.load import load
from gateway.templating.model import Binding, Template, ValidWhile
from gateway.templating.values import Values, fact_faults, is_plain, spoken

__all__ = ["Binding", "Catalog", "Template", "ValidWhile", "Values", "check_facts", "is_plain", "render"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalog:
    """Every template of a folder, by name."""

    templates: Mapping[str, Template]

    @classmethod
    def load(cls, folder: Traversable | None = None) -> Self:
        """Read, compile and check a folder (the shipped one unless said); BadInput lists every mistake."""
        return cls(templates=_shipped() if folder is None else _by_name(folder))

    def get(self, name: str) -> Template | None:
        """The template of that name."""
        return self.templates.get(name)


@cache
def _shipped() -> Mapping[str, Template]:
    """The shipped templates: they are the same for the length of a process, and checking them takes a while."""
    return _by_name(files("templates"))


def _by_name(folder: Traversable) -> Mapping[str, Template]:
    return MappingProxyType({made.name: made for made in load(folder)})


def check_facts(template: Template, facts: Mapping[str, object]) -> list[Fault]:
    """Everything wrong with a reminder's facts: `fact_missing`, `fact_unknown`, `fact_invalid`."""
    return list(fact_faults(template.facts, facts))


def render(
    template: Template,
    channel: Channel,
    language: str,
    values: Values,
    *,
    account: Account,
    takes_free_text: bool,
) -> Rendered:
    """Fill a template in for one account, in the nearest language there is (model.nearest).

    A provider of SMS that takes no free text is a mainland Chinese one: it puts 【sender】 in front.
    Raises BadInput for missing or unsafe values, for no binding, and for a text that grew too long.
    """
    faults = [*check_facts(template, values.facts), *values.faults()]
    if faults:
        raise BadInput(faults, code=faults[0].code)
    binding = None if takes_free_text else _binding(template, account, language)
    mainland = channel is Channel.SMS and binding is not None
    context = values.context(
        account.sender if mainland else None, spoken(account.sender) if channel is Channel.VOICE else None
    )
    try:
        text = template.text(channel, binding.language if binding else language).fill(context)
        variables = binding.fill(context) if binding else {}
        parts = segments(text.main, mainland=mainland) if channel is Channel.SMS else 1
    except (LiquidError, ValueError):
        raise BadInput([TOO_LONG], code=TOO_LONG.code) from None
    return Rendered(
        language=text.language,
        text=Pii(text.main),
        sha256=sha256("\n".join(filter(None, (text.main, text.second))).encode()).hexdigest(),
        segments=parts,
        subject=Pii(text.subject) if text.subject else None,
        second=Pii(text.second) if text.second else None,
        code=binding.code if binding else None,
        variables={name: Pii(value) for name, value in variables.items()},
    )


TOO_LONG = Fault(
    at="/facts",
    code="text_too_long",
    message="the filled-in text is longer than the channel takes; shorten the facts",
)


def _binding(template: Template, account: Account, language: str) -> Binding:
    """The account's binding; BadInput `template_unbound` when there is none."""
    binding = template.bound(account.adapter, account.name, language)
    if binding is None:
        unbound = Fault(
            at="/template",
            code="template_unbound",
            message="this account's provider takes no free text; bind its own template code in catalog.toml",
        )
        raise BadInput([unbound], code=unbound.code)
    return binding
