"""What a text must say and must not say: the rules of kind `content`, held against one text. Pure.

The blocks that such rules name are data (content.toml): phrases by language, and for some blocks what stands
for them in this one text, such as the creditor's name. Phrases are recognised, not understood: what passes
here has still to be read by whoever approves it.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field
from datetime import datetime
from enum import StrEnum
from functools import cache, lru_cache
from importlib import resources
from typing import Any
from unicodedata import normalize

from gateway.errors import Fault
from gateway.policy.ask import Ask
from gateway.policy.localtime import Here, seconds, zone
from gateway.policy.model import Content, Fact, Pack, Question
from gateway.policy.rules import in_force, in_scope
from gateway.values import dataclass

START = 80
"""Characters within which an announcement has to come."""

_SHORTEST = 2
_LETTERS = "[0-9a-z\u00c0-\u052f\u1e00-\u1fff]"
_LETTER = frozenset(re.findall(_LETTERS, "".join(map(chr, range(0x2000)))))
"""Of scripts that part words: Latin, Greek, Cyrillic."""
_TOKENS = {
    "*": ".{0,24}?",
    "{number}": "[0-9]",
    "{phone}": r"(?<![0-9-])(?![0-9]{4}-[0-9]{2}-[0-9]{2})[+]?[(]?[0-9](?:[ ()-]{0,2}[0-9]){6,17}",
}
_NUMBERS = frozenset({"{number}", "{phone}"})
_TOKEN = re.compile(r"(\*|\{number\}|\{phone\})")
_UNSEEN = re.compile(
    "[\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufeff]"  # hyphenation, joiners, direction
    "|[\"'`\u00b4\u2018-\u201f\u00ab\u00bb\u2039\u203a\u300c-\u300f]"  # quotation marks
)
_BLANKS = re.compile(r"\s+")
_ANY = "any"


class Part(StrEnum):
    """Where in a text a block is looked for."""

    WHOLE = "whole"
    OPENING = "opening"
    START = "start"


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One thing that a text says or does not say. `phrases` and `example` by primary language tag."""

    name: str
    add: str
    remove: str
    part: Part
    phrases: Mapping[str, re.Pattern[str]]
    example: Mapping[str, str]

    @property
    def languages(self) -> list[str]:
        """Those in which it is recognised."""
        return sorted(self.phrases.keys() - {_ANY})


@dataclass(frozen=True, kw_only=True)
class Said:
    """One text as it is read or heard. `opening`: what comes before it is known who listens; `rest`: what follows.

    `values`: what stands for a block in this text, by the block's name. `names`: people's and institutions',
    in which nothing forbidden is looked for.
    """

    channel: str
    language: str
    opening: str
    rest: str = ""
    values: Mapping[str, Sequence[str]] = field(default_factory=dict)
    names: Sequence[str] = ()

    _laid_out: dict[object, str] = field(default_factory=dict, init=False, repr=False, compare=False)
    """What was normalised of it, remembered as long as this: many blocks are looked for in one text."""

    def part(self, part: Part) -> str:
        """A part of it, normal."""
        if part is Part.START:
            return self.part(Part.OPENING)[:START]
        if part is Part.WHOLE and not self.rest:
            part = Part.OPENING
        if part not in self._laid_out:
            self._laid_out[part] = normal(
                self.opening if part is Part.OPENING else f"{self.opening}\n{self.rest}"
            )
        return self._laid_out[part]

    def unnamed(self, part: Part, kept: Sequence[str]) -> str:
        """A part of it with a blank in the place of each name but those that are `kept`."""
        place = part, *kept
        found = self._laid_out.get(place)
        if found is None:
            found = self.part(part)
            for name in self.names:
                if name not in kept:
                    found = _without(found, normal(name))
            self._laid_out[place] = found
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Breach:
    """One rule that one text does not keep.

    `code`: `content_missing`, `content_forbidden`, or `content_unreadable` when nothing is known of the block in
    the text's language.
    """

    rule: Content
    block: Block
    code: str
    channel: str
    language: str

    @property
    def enforced(self) -> bool:
        """False of a rule in shadow, and where it can only not be told that nothing forbidden is said."""
        unseen = self.code == "content_unreadable" and self.block.name in self.rule.forbid
        return not (self.rule.in_shadow or unseen)

    def fault(self, at: str) -> Fault:
        """What to do, in terms of the rule; nothing of the text."""
        return Fault(at=at, code=self.code, message=f"{self.rule.id} ({self.rule.cite}): {self._what()}")

    def _what(self) -> str:
        block, text = self.block, f"this text ({self.channel}, {self.language})"
        match self.code:
            case "content_missing":
                example = block.example.get(primary(self.language))
                such_as = f", such as: {example}" if example else ""
                return f"{text} lacks {block.name}: {block.add}{such_as}"
            case "content_forbidden":
                return f"{text} holds {block.name}: {block.remove}"
            case _:
                known = ", ".join(block.languages) or "no language"
                return f"{block.name} is not recognised in {text}: add phrases to content.toml (there are: {known})"


def concerning(
    packs: Iterable[Pack],
    question: Question,
    *,
    facts: Mapping[str, Fact],
    zones: Sequence[str],
    at: datetime,
) -> list[Content]:
    """The rules on content that bind a reminder at that instant, in one of its zones at least.

    No consent makes them give way.
    """
    ask, second = Ask(question, (), facts), seconds(at)
    theirs = [Here(zone(name), second) for name in zones]
    return [rule for rule in _about(tuple(packs), question) if _binds(rule, ask, theirs, second)]


@lru_cache(maxsize=4_096)
def _about(packs: tuple[Pack, ...], question: Question) -> tuple[Content, ...]:
    return tuple(
        rule
        for pack in packs
        for rule in pack.rules
        if isinstance(rule, Content) and in_scope(rule, question)
    )


def _binds(rule: Content, ask: Ask, theirs: Sequence[Here], at: int) -> bool:
    heres = theirs if rule.zone is None else [Here(zone(rule.zone), at)]
    return any(in_force(rule, ask, here) for here in heres)


def breaches(rules: Iterable[Content], said: Said) -> list[Breach]:
    """Everything that a text lacks or holds against these rules, by rule and block, each once."""
    return [
        Breach(rule=rule, block=block, code=code, channel=said.channel, language=said.language)
        for rule in rules
        for names, wanted in ((rule.require, True), (rule.forbid, False))
        for block in (blocks()[name] for name in names)
        if (code := _code(block, said, wanted=wanted)) is not None
    ]


def _code(block: Block, said: Said, *, wanted: bool) -> str | None:
    """What is wrong, None when nothing is."""
    standing = stands(block, said, unnamed=not wanted)
    if standing is None:
        return "content_unreadable"
    if standing == wanted:
        return None
    return "content_missing" if wanted else "content_forbidden"


def stands(block: Block, said: Said, *, unnamed: bool = False) -> bool | None:
    """Whether a block stands in a text, None when it cannot be told in this language.

    With `unnamed` the names are taken out first: a creditor may be called what is forbidden.
    """
    values = said.values.get(block.name, ())
    text = said.unnamed(block.part, values) if unnamed else said.part(block.part)
    for value in values:
        if _places(text, _known(value)):
            return True
    known = block.phrases.get(primary(said.language))
    for pattern in (block.phrases.get(_ANY), known):
        if pattern is not None and pattern.search(text):
            return True
    return False if known is not None or (values and not block.languages) else None


def _without(text: str, name: str) -> str:
    """A text with a blank for each place of the name."""
    for at in reversed(_places(text, name)):
        text = f"{text[:at]} {text[at + len(name) :]}"
    return text


def _places(text: str, words: str) -> list[int]:
    """Where these words stand, as whole words where their script parts words; one character stands nowhere."""
    if len(words) < _SHORTEST:
        return []
    found, at = [], text.find(words)
    while at >= 0:
        end = at + len(words)
        if not (_joined(text[at - 1 : at], words[0]) or _joined(words[-1], text[end : end + 1])):
            found.append(at)
        at = text.find(words, at + 1)
    return found


def _joined(left: str, right: str) -> bool:
    return left in _LETTER and right in _LETTER


def normal(text: str) -> str:
    """A text as phrases are compared: NFKC, case-folded, one blank for many, without quotation marks."""
    return _BLANKS.sub(" ", normalize("NFKC", _UNSEEN.sub("", text)).casefold()).strip()


_known = lru_cache(4_096)(normal)
"""Of what stands for a block: creditors, numbers, amounts. People's names are not remembered beyond their own text."""


@lru_cache(1_024)
def primary(language: str) -> str:
    """The first subtag of a language tag, lower case: `zh` of `zh-CN`."""
    return language.partition("-")[0].lower()


@cache
def blocks() -> Mapping[str, Block]:
    """The blocks that ship with the gateway, by name."""
    text = (resources.files("gateway.policy") / "content.toml").read_text("utf-8")
    return {name: _block(name, entry) for name, entry in tomllib.loads(text).items()}


def _block(name: str, entry: Mapping[str, Any]) -> Block:
    return Block(
        name=name,
        add=entry["add"],
        remove=entry["remove"],
        part=Part(entry["part"]),
        phrases={
            language: _finder(_parts(phrase) for phrase in phrases)
            for language, phrases in entry.get("phrases", {}).items()
        },
        example=entry.get("example", {}),
    )


def _parts(phrase: str) -> tuple[str, str, str]:
    """A phrase as a pattern: what bars a letter before it, itself, what bars one after it. Repetitions are bounded."""
    parts = ["", *filter(None, _TOKEN.split(normal(phrase))), ""]
    written = [
        part
        for left, part, right in zip(parts, parts[1:], parts[2:], strict=False)
        for part in _written(part, left in _NUMBERS, right in _NUMBERS)
    ]
    return written[0], "".join(written[1:-1]), written[-1]


def _written(part: str, after_number: bool, before_number: bool) -> tuple[str, str, str]:  # noqa: FBT001 (named where called)
    """A token, or these words as whole words where their script parts words: before, itself, after."""
    if part in _TOKENS:
        return "", _TOKENS[part], ""
    before = f"(?<!{_LETTERS})" if part[:1] in _LETTER and not after_number else ""
    after = f"(?!{_LETTERS})" if part[-1:] in _LETTER and not before_number else ""
    return before, re.escape(part), after


def _finder(phrases: Iterable[tuple[str, str, str]]) -> re.Pattern[str]:
    """One pattern for all of them. Those that begin and end alike stand together: such a bar takes long to compile."""
    alike: dict[tuple[str, str], list[str]] = {}
    for before, pattern, after in phrases:
        alike.setdefault((before, after), []).append(pattern)
    return re.compile("|".join(f"{b}(?:{'|'.join(patterns)}){a}" for (b, a), patterns in alike.items()))
