"""A template as loaded: its texts, its bindings, what it needs and when what it says is true."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from datetime import date, timedelta
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Annotated, ClassVar, assert_never

from pydantic import ConfigDict, Field

from gateway.domain import ActorRole, Approvals, Channel, Purpose
from gateway.templating.engine import primary, produce
from gateway.values import dataclass

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,63}$")]
LanguageTag = Annotated[str, Field(pattern=r"^[a-z]{2,3}(-[A-Za-z0-9]{2,8})*$")]
Place = Annotated[str, Field(pattern=r"^[A-Z]{2}(-[A-Z0-9]{1,3}){0,2}$")]
"""ISO 3166; a city as `US-NY-NYC`."""
Written = Annotated[str, Field(min_length=1, max_length=256)]

REMINDERS = (Purpose.SERVICE_NOTICE, Purpose.PRE_DUE_REMINDER, Purpose.DUE_TODAY, Purpose.COLLECTION)
"""What a template is for unless the catalog says otherwise."""


class ValidWhile(StrEnum):
    """When what a template says is true, by the borrower's local date."""

    BEFORE_DUE = "before_due"
    DUE_DATE_IS_TODAY = "due_date_is_today"
    OVERDUE = "overdue"

    def holds(self, due_date: date, today: date) -> bool:
        """Whether it is true on `today`; ask for each date it may be where the borrower is."""
        match self:
            case ValidWhile.BEFORE_DUE:
                return today < due_date
            case ValidWhile.DUE_DATE_IS_TODAY:
                return today == due_date
            case ValidWhile.OVERDUE:
                return today > due_date
            case _:
                assert_never(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Binding:
    """A provider's own template for one account (a name, or a pattern such as `sms-*`) and language.

    `variables` maps the provider's variables to Liquid; WeChat's `_url` is where a tap leads.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    channel: Channel
    adapter: Written
    account: Written
    language: LanguageTag
    code: Written
    variables: Mapping[Written, Written]

    def fill(self, context: Mapping[str, object]) -> dict[str, str]:
        """What the provider is given."""
        return {name: produce(source, self.language, context) for name, source in self.variables.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """One file, taken apart: an e-mail has a `subject`, a call a `second` stage. All of it is Liquid."""

    language: str
    main: str
    subject: str | None = None
    second: str | None = None

    def fill(self, context: Mapping[str, object]) -> Text:
        """The same text with its variables filled in."""
        return Text(
            language=self.language,
            main=produce(self.main, self.language, context),
            subject=self.subject and produce(self.subject, self.language, context),
            second=self.second and produce(self.second, self.language, context),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """One template. `approved` is what the catalog says; what holds now is kept per version and hash.

    `content_hash` covers every file and the catalog's entry but for its approval. `places`: where its approval has
    to keep the rules on content (gateway.templating.approve).
    """

    name: str
    version: int
    approved: bool
    facts: frozenset[str]
    expires_after: timedelta
    valid_while: ValidWhile | None
    content_hash: str
    default_language: str
    purposes: frozenset[Purpose]
    actors: frozenset[ActorRole]
    places: tuple[str, ...]
    bindings: tuple[Binding, ...]
    texts: Mapping[tuple[Channel, str], Text] = field(repr=False)

    def may_be_said(self, approvals: Approvals) -> bool:
        """Whether it is approved: what somebody said of this very text, else what the catalog says."""
        return approvals.get((self.name, self.version, self.content_hash), self.approved)

    def missing(self, facts: Mapping[str, object]) -> list[str]:
        """The declared facts that are not there."""
        return sorted(name for name in self.facts if not facts.get(name))

    def bound(self, adapter: str, account: str, language: str = "") -> Binding | None:
        """The provider's template for this account, in the nearest language it has one for."""
        mine = {
            binding.language: binding
            for binding in self.bindings
            if binding.adapter == adapter and fnmatchcase(account, binding.account)
        }
        return mine[nearest(language, list(mine), self.default_language)] if mine else None

    def text(self, channel: Channel, language: str) -> Text:
        """The text in the nearest language."""
        languages = [written for on, written in self.texts if on is channel]
        return self.texts[channel, nearest(language, languages, self.default_language)]


def nearest(wanted: str, have: Sequence[str], default: str) -> str:
    """The language itself, else one of the same primary tag, else the default, else the first there is."""
    for language in have:
        if language.lower() == wanted.lower():
            return language
    for language in have:
        if primary(language) == primary(wanted):
            return language
    return default if default in have else have[0]
