"""Whether what was sent was allowed: worked out again from the send log alone."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import BeforeValidator, Field, StringConstraints
from starlette.requests import Request
from starlette.responses import Response

from gateway.api import http
from gateway.api.auth import ByCompliance, services
from gateway.api.schema import asks, gives
from gateway.bodies import Body, Instant, read
from gateway.errors import BadInput, Fault

router = APIRouter(tags=["audit"])

USUAL, MOST = 50, 200
"""Persons on a page."""


def _number(value: object) -> object:
    return int(value) if isinstance(value, str) and value.isascii() and value.isdigit() else value


class CheckSpan(Body):
    """Which sends: decided from `from` to before `to`. `after`: the answer's `next` of the page before."""

    since: Instant = Field(alias="from")
    until: Instant = Field(alias="to")
    after: Annotated[str, StringConstraints(max_length=64)] = ""
    limit: Annotated[int, BeforeValidator(_number), Field(ge=1, le=MOST)] = USUAL


FOUND: dict[str, Any] = {
    "checked": 353,
    "refused": 14,
    "withdrawn": 2,
    "violations": [
        {
            "record": "lg_01KTBC4Q8ZJ2M6XW7R9E5T1VHN",
            "at": "2026-11-24T02:00:00Z",
            "reminder": "rm_01KTBC4Q8ZJ2M6XW7R9E5T1VHN",
            "attempt": "at_01KTBC4Q8ZJ2M6XW7R9E5T1VHN",
            "rule": "OP.CAPS.DAY",
            "what": "objects in Asia/Shanghai when it was decided, 3 counted before it",
        }
    ],
    "undeterminable": {"inputs_erased": 1},
    "next": None,
}


@router.get("/v1/audit/check", openapi_extra=asks(CheckSpan), responses=gives(200, FOUND))
async def check(request: Request, caller: ByCompliance) -> Response:
    """Check each send of a page of persons against the packs in force then; `next` asks for the next page."""
    asked = read(CheckSpan, dict(request.query_params))
    if asked.until <= asked.since:
        raise BadInput([Fault(at="/to", code="out_of_range", message="give an instant after `from`")])
    found = await services(request).audits.check(
        caller.tenant, asked.since, asked.until, after=asked.after, limit=asked.limit
    )
    return http.answer(found)
