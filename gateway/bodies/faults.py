"""From pydantic's errors to ours: every fault at once, as JSON pointers, codes and what to do."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from gateway.errors import BadInput, Fault

M = TypeVar("M", bound=BaseModel)

MAX_FAULTS = 100

_PLAIN_NAME = re.compile(r"[a-z][a-z_]{0,39}")
"""Names that may be repeated; any other key of a caller might itself be personal."""

_WORDS = {
    "missing": ("missing", "this key is required"),
    "extra_forbidden": ("unknown_key", "leave this key out, or see /openapi.json for the keys there are"),
    "string_type": ("wrong_type", "send text"),
    "int_type": ("wrong_type", "send a whole number"),
    "bool_type": ("wrong_type", "send true or false"),
    "list_type": ("wrong_type", "send a list"),
    "dict_type": ("wrong_type", "send an object"),
    "model_type": ("wrong_type", "send an object"),
    "model_attributes_type": ("wrong_type", "send an object"),
    "string_too_long": ("length_invalid", "send at most {max_length} characters"),
    "string_too_short": ("length_invalid", "send at least {min_length} characters"),
    "too_long": ("length_invalid", "send at most {max_length} items"),
    "too_short": ("length_invalid", "send at least {min_length} item"),
    "greater_than_equal": ("out_of_range", "send {ge} or more"),
    "less_than_equal": ("out_of_range", "send {le} or less"),
    "enum": ("word_unknown", "send one of {expected}"),
    "literal_error": ("word_unknown", "send one of {expected}"),
    "string_pattern_mismatch": ("form_invalid", "send text of the form {pattern}"),
}
_NAMED = {"channel": "channel_unknown", "channels": "channel_unknown", "purpose": "purpose_unknown"}
_OURS = frozenset(
    {"instant_invalid", "date_invalid", "personal_data", "text_unsafe", "wrong_type", "length_invalid"}
    | {"place_unknown", "zone_unknown", "amount_invalid", "currency_unknown", "fact_invalid", "fact_reserved"}
    | {"openid_invalid", "phone_impossible", "email_invalid", "duplicate", "null_refused", "until_needed"}
    | {"amount_unwanted", "hours_invalid", "ramp_unfit", "word_unknown", "out_of_range"}
)
"""Codes that our own kinds and models refuse with."""


def codes() -> frozenset[str]:
    """Every code that a fault of a body's form can have."""
    return _OURS | {code for code, _ in _WORDS.values()} | set(_NAMED.values()) | {"invalid"}


def read(kind: type[M], raw: object) -> M:
    """A body of that kind; BadInput with every fault there is."""
    try:
        return kind.model_validate(raw)
    except ValidationError as wrong:
        faults = [
            _fault(error) for error in wrong.errors(include_url=False, include_input=False)[:MAX_FAULTS]
        ]
        raise BadInput(faults) from None


def _fault(error: ErrorDetails) -> Fault:
    code, message = _word(error)
    return Fault(at=pointer(error["loc"]), code=code, message=message)


def _word(error: ErrorDetails) -> tuple[str, str]:
    kind = error["type"]
    if kind in _OURS:
        return kind, error["msg"]
    code, message = _WORDS.get(kind, ("invalid", "see /openapi.json for what belongs here"))
    if code == "word_unknown":
        field = next((part for part in reversed(error["loc"]) if isinstance(part, str)), "")
        code = _NAMED.get(field, code)
    return code, message.format_map(_Limits(error.get("ctx", {})))


class _Limits(dict[str, Any]):
    """What pydantic says of our own limits; never a caller's value."""

    def __init__(self, context: Mapping[str, Any]) -> None:
        super().__init__({k: v for k, v in context.items() if k in _LIMITS})

    def __missing__(self, key: str) -> str:
        return "what /openapi.json says"


_LIMITS = frozenset({"max_length", "min_length", "ge", "le", "expected", "pattern"})


def pointer(loc: tuple[int | str, ...]) -> str:
    """RFC 6901, without the marks of unions; it ends before a key of the caller's own making."""
    parts: list[str] = []
    for part in loc:
        if isinstance(part, str) and (part.startswith("~") or part == "[key]"):
            continue
        if isinstance(part, str) and not _PLAIN_NAME.fullmatch(part):
            break
        parts.append(f"/{part}")
    return "".join(parts)
