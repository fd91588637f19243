"""Reading and checking a folder of templates: every mistake at once, each with its place."""

from __future__ import annotations

import json
import tomllib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from hashlib import sha256
from importlib.resources.abc import Traversable
from typing import Annotated, Any, ClassVar

from liquid.exceptions import LiquidError
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from gateway.domain import ActorRole, Channel, Money, Purpose
from gateway.errors import BadInput, Fault
from gateway.masking import Pii
from gateway.segments import segments
from gateway.templating.engine import compiled, environment
from gateway.templating.model import REMINDERS, Binding, LanguageTag, Name, Place, Template, Text, ValidWhile
from gateway.templating.values import FOR_ANYONE, SUPPLIED, Values

CATALOG = "catalog.toml"
LONGEST_FILE = 16_384
SIGNATURE, CALLBACK = "Sample", "1 5 5 5 0 1 0 0"
"""What stands for an account's in a text that is tried."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One `[[template]]` of the catalog. `expires_after` is ISO 8601 (`PT24H`), `places` ISO 3166."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    name: Name
    version: Annotated[int, Field(ge=1)]
    approved: bool
    facts: Annotated[tuple[Name, ...], Field(max_length=32)] = ()
    expires_after: Annotated[timedelta, Field(gt=timedelta(0), le=timedelta(days=90))]
    valid_while: ValidWhile | None = None
    purposes: Annotated[tuple[Purpose, ...], Field(min_length=1)] = REMINDERS
    actors: Annotated[tuple[ActorRole, ...], Field(min_length=1)] = (ActorRole.CREDITOR,)
    places: Annotated[tuple[Place, ...], Field(max_length=256)] = ()
    binding: tuple[Binding, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """The catalog: `languages` are those in which every text must be there."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    languages: Annotated[tuple[LanguageTag, ...], Field(min_length=1)]
    default_language: LanguageTag
    template: tuple[Entry, ...]


_LISTING = TypeAdapter(Listing)
_ENTRY = TypeAdapter(Entry)


def load(folder: Traversable) -> list[Template]:
    """Every template of the folder; BadInput with every mistake that was found."""
    listing = _listing(folder)
    faults = [*_listing_faults(listing), *_stray_files(folder, listing)]
    made = [_template(folder, listing, entry, faults) for entry in listing.template]
    if faults:
        raise _unusable(faults)
    return made


def _unusable(faults: list[Fault]) -> BadInput:
    return BadInput(
        faults, "the message templates are not usable; mend what is listed", code="template_invalid"
    )


def _listing(folder: Traversable) -> Listing:
    try:
        return _LISTING.validate_python(tomllib.loads((folder / CATALOG).read_text("utf-8")))
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as wrong:
        raise _unusable([Fault(at=CATALOG, code="catalog_unreadable", message=str(wrong))]) from None
    except ValidationError as wrong:
        raise _unusable([_as_fault(error) for error in wrong.errors(include_input=False)]) from None


def _as_fault(error: Any) -> Fault:
    place = "/".join(str(part) for part in error["loc"])
    return Fault(at=f"{CATALOG}:/{place}", code="catalog_invalid", message=error["msg"])


def _listing_faults(listing: Listing) -> Iterator[Fault]:
    for name, times in Counter(entry.name for entry in listing.template).items():
        if times > 1:
            yield Fault(
                at=CATALOG, code="template_twice", message=f"{name} is listed {times} times; keep one"
            )
    if listing.default_language not in listing.languages:
        yield Fault(
            at=f"{CATALOG}:/default_language", code="language_unknown", message="name one of `languages`"
        )


def _stray_files(folder: Traversable, listing: Listing) -> Iterator[Fault]:
    """Texts that nothing would ever use."""
    known = {file_name(channel, language) for channel in Channel for language in listing.languages}
    names = {entry.name for entry in listing.template}
    for inner in sorted(folder.iterdir(), key=lambda found: found.name):
        if not inner.is_dir() or inner.name.startswith(("_", ".")):
            continue
        if inner.name not in names:
            yield Fault(
                at=inner.name, code="template_unlisted", message=f"list it in {CATALOG}, or remove it"
            )
            continue
        for found in sorted(file.name for file in inner.iterdir()):
            if found not in known:
                message = "its name is no <channel>.<language>.liquid of this catalog; rename or remove it"
                yield Fault(at=f"{inner.name}/{found}", code="text_unused", message=message)


def file_name(channel: Channel, language: str) -> str:
    """The name of a text's file."""
    return f"{channel}.{language}.liquid"


def _template(folder: Traversable, listing: Listing, entry: Entry, faults: list[Fault]) -> Template:
    """Build one template, adding every mistake to `faults`."""
    sources = dict(_sources(folder, listing, entry, faults))
    texts = {key: _split(*key, source) for key, source in sources.items()}
    before = len(faults)
    for (channel, language), text in texts.items():
        faults += _text_faults(f"{entry.name}/{file_name(channel, language)}", channel, text, entry)
    for index, binding in enumerate(entry.binding):
        faults += _binding_faults(f"{CATALOG}:{entry.name}/binding/{index}", binding, entry, texts)
    faults += _fact_faults(entry, list(sources.values()))
    made = Template(
        name=entry.name,
        version=entry.version,
        approved=entry.approved,
        facts=frozenset(entry.facts),
        expires_after=entry.expires_after,
        valid_while=entry.valid_while,
        content_hash=_content_hash(entry, sources),
        default_language=listing.default_language,
        purposes=frozenset(entry.purposes),
        actors=frozenset(entry.actors),
        places=entry.places,
        bindings=entry.binding,
        texts=texts,
    )
    if len(faults) == before:
        faults += _sample_faults(made)
    return made


def _sources(
    folder: Traversable, listing: Listing, entry: Entry, faults: list[Fault]
) -> Iterator[tuple[tuple[Channel, str], str]]:
    for channel in Channel:
        for language in listing.languages:
            at = f"{entry.name}/{file_name(channel, language)}"
            try:
                source = (folder / entry.name / file_name(channel, language)).read_text("utf-8")
            except FileNotFoundError:
                faults.append(Fault(at=at, code="text_missing", message="write this text, in this file"))
            except (OSError, UnicodeDecodeError) as wrong:
                faults.append(Fault(at=at, code="text_unreadable", message=type(wrong).__name__))
            else:
                if len(source) > LONGEST_FILE:
                    message = f"shorten it to {LONGEST_FILE} characters"
                    faults.append(Fault(at=at, code="text_too_long", message=message))
                yield (channel, language), source


def _split(channel: Channel, language: str, source: str) -> Text:
    """Take a file apart; a part that is not there stays None and is a mistake found later."""
    if channel is Channel.EMAIL and source.startswith("Subject:"):
        subject, _, body = source.removeprefix("Subject:").partition("\n")
        return Text(language=language, main=body, subject=subject)
    if channel is Channel.VOICE and "\n---\n" in source:
        first, _, second = source.partition("\n---\n")
        return Text(language=language, main=first, second=second)
    return Text(language=language, main=source)


def _text_faults(at: str, channel: Channel, text: Text, entry: Entry) -> Iterator[Fault]:
    everything = SUPPLIED | set(entry.facts)
    if channel is Channel.EMAIL and not (text.subject and text.main.startswith("\n")):
        yield Fault(at=at, code="subject_missing", message="begin with `Subject: …` and an empty line")
    if channel is Channel.VOICE and not text.second:
        yield Fault(
            at=at, code="stage_missing", message="put a line `---` between the two stages of the call"
        )
    in_main = FOR_ANYONE if channel is Channel.VOICE else everything
    yield from _source_faults(at, text.main, text.language, in_main, everything)
    yield from _source_faults(f"{at} (subject)", text.subject or "", text.language, FOR_ANYONE, everything)
    yield from _source_faults(
        f"{at} (second stage)", text.second or "", text.language, everything, everything
    )


def _source_faults(
    at: str, source: str, language: str, allowed: frozenset[str], everything: frozenset[str]
) -> Iterator[Fault]:
    """Mistakes that can be seen without filling the source in."""
    try:
        found = compiled(source, language).analyze()
    except LiquidError as wrong:
        yield Fault(at=at, code="template_syntax", message=_said(wrong))
        return
    for name in sorted(found.globals):
        if name not in everything:
            message = f"no value of this name: {name}; declare it in the catalog's `facts`, or correct it"
            yield Fault(at=at, code="variable_unknown", message=message)
        elif name not in allowed:
            message = f"{name} must not be told before it is known who listens or reads; move it"
            yield Fault(at=at, code="variable_too_early", message=message)
    known = environment(language).filters
    for name in sorted(set(found.filters) - set(known)):
        message = f"no filter {name}; there are: {', '.join(sorted(known))}"
        yield Fault(at=at, code="filter_unknown", message=message)


def _said(wrong: LiquidError | ValueError) -> str:
    """The mistake, and the line it is in."""
    where = wrong.context() if isinstance(wrong, LiquidError) else None
    line = f", in: {where[3].strip()[:80]}" if where else ""
    return f"{wrong.message if isinstance(wrong, LiquidError) else wrong}{line}"


def _binding_faults(
    at: str, binding: Binding, entry: Entry, texts: dict[tuple[Channel, str], Text]
) -> Iterator[Fault]:
    everything = SUPPLIED | set(entry.facts)
    text = texts.get((binding.channel, binding.language))
    if text is None:
        message = "there is no text of this channel and language that would say what the provider sends"
        yield Fault(at=at, code="binding_unheard", message=message)
    elif binding.channel is Channel.SMS and "signature" not in text.main:
        message = (
            "the text must begin with 【{{ signature }}】 where `signature` is set, as the provider's does"
        )
        yield Fault(at=at, code="signature_missing", message=message)
    for name, source in binding.variables.items():
        yield from _source_faults(f"{at}/variables/{name}", source, binding.language, everything, everything)


def _fact_faults(entry: Entry, sources: list[str]) -> Iterator[Fault]:
    for name in entry.facts:
        if name in SUPPLIED:
            message = f"{name} comes from the debt or the borrower; do not declare it"
            yield Fault(at=f"{CATALOG}:{entry.name}/facts", code="fact_supplied", message=message)
        elif not any(name in source for source in sources):
            message = f"no text uses {name}; remove it, or use it"
            yield Fault(at=f"{CATALOG}:{entry.name}/facts", code="fact_unused", message=message)


def sample(template: Template) -> Values:
    """What a template is filled in with to try it."""
    return Values(
        name=Pii("Sample Name"),
        creditor="Sample Creditor",
        amount=Money(amount=Decimal("1280.50"), currency="CNY"),
        due_date=date(2026, 11, 30),
        dpd=3,
        facts={
            name: "https://pay.example.com/s" if name.endswith("_url") else "sample"
            for name in template.facts
        },
    )


def _sample_faults(template: Template) -> Iterator[Fault]:
    """Mistakes that only show when a text is filled in."""
    values = sample(template)
    for (channel, language), text in template.texts.items():
        at = f"{template.name}/{file_name(channel, language)}"
        bindings = [
            bound for bound in template.bindings if (bound.channel, bound.language) == (channel, language)
        ]
        try:
            _ = text.fill(values.context(None, None))
            bound_text = text.fill(values.context(SIGNATURE, CALLBACK)).main
            if channel is Channel.SMS:
                segments(bound_text, mainland=bool(bindings))
            unsaid = {name for bound in bindings for name in _unsaid(bound, bound_text, values)}
        except (LiquidError, ValueError) as wrong:
            yield Fault(at=at, code="template_fails", message=_said(wrong))
            continue
        if "Money(" in bound_text:
            yield Fault(at=at, code="amount_bare", message="put `| money` behind amount")
        for name in sorted(unsaid):
            message = (
                f"the provider's variable {name} is not in this text as it will be sent; make them agree"
            )
            yield Fault(at=at, code="variable_unsaid", message=message)


def _unsaid(binding: Binding, text: str, values: Values) -> list[str]:
    filled = binding.fill(values.context(SIGNATURE, None))
    return [name for name, value in filled.items() if value not in text]


def _content_hash(entry: Entry, sources: dict[tuple[Channel, str], str]) -> str:
    listed = _ENTRY.dump_python(entry, mode="json", exclude={"approved"})
    texts = {file_name(*key): source for key, source in sources.items()}
    whole = json.dumps(
        {"entry": listed, "texts": texts}, ensure_ascii=False, sort_keys=True, separators=(",", ":")
    )
    return sha256(whole.encode()).hexdigest()
