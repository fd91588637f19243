"""Queries of lists: a page's size and place, and a span of time."""

from __future__ import annotations

from typing import Annotated, TypeVar

from pydantic import BeforeValidator, Field
from starlette.requests import Request

from gateway.bodies import Body, Instant, read

MOST, USUAL = 500, 100


def _number(value: object) -> object:
    return int(value) if isinstance(value, str) and value.isascii() and value.isdigit() else value


class Paged(Body):
    """What every list can be asked for."""

    limit: Annotated[int, BeforeValidator(_number), Field(ge=1, le=MOST)] = USUAL
    after: str | None = Field(default=None, max_length=256)


class Dated(Paged):
    """What a list by time can be asked for. `from` is inside, `to` is not."""

    since: Instant | None = Field(default=None, alias="from")
    until: Instant | None = Field(default=None, alias="to")


P = TypeVar("P", bound=Paged)


def page(kind: type[P], request: Request) -> P:
    """A list's query; BadInput for what it does not know."""
    return read(kind, dict(request.query_params))
