"""Which packs are added for a tenant and its portfolios: what is in force, its history, and setting it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import Field, StringConstraints, field_validator
from starlette.requests import Request
from starlette.responses import Response

from gateway.api import http
from gateway.api.auth import ByCompliance, ByOpsOrCompliance, services
from gateway.api.paging import Paged, page
from gateway.api.schema import asks, gives, takes
from gateway.bodies import Body, Id, Place, Reason, Word, fault, read
from gateway.errors import BadInput, Fault
from gateway.store.assignments import WHOLE
from gateway.store.pages import Page
from gateway.work import Assignment

router = APIRouter(tags=["policies"])

MOST = 100


class AssignmentIn(Body):
    """What is added to the packs of residence and law. `version` is the one that stands; none for the first."""

    licences: list[Place] = Field(max_length=MOST)
    institution: Word | None = None
    packs: list[Annotated[str, StringConstraints(max_length=64)]] = Field(max_length=MOST)
    version: Annotated[int, Field(ge=1)] | None = None
    reason: Annotated[Reason, Field(min_length=1)]

    @field_validator("licences", "packs")
    @classmethod
    def _each_once(cls, value: list[str]) -> list[str]:
        if len(set(value)) < len(value):
            raise fault("duplicate", "name each once")
        return value


class AssignmentOf(AssignmentIn):
    """The same with its portfolio; `_` is the whole tenant."""

    portfolio: Id


ASSIGNMENT: dict[str, Any] = {
    "portfolio": "cards",
    "version": 2,
    "licences": ["US-MA"],
    "institution": "bank",
    "packs": ["CN.CBA"],
    "at": "2026-11-24T02:00:00Z",
    "who": "ann",
    "reason": "licensed in Massachusetts",
}
CHANGED = {key: ASSIGNMENT[key] for key in ("licences", "institution", "packs", "reason")} | {"version": 1}


@router.get(
    "/v1/policies", openapi_extra=asks(Paged), responses=gives(200, {"items": [ASSIGNMENT], "next": None})
)
async def policies(request: Request, caller: ByOpsOrCompliance) -> Response:
    """What is assigned: the whole tenant's (portfolio null) first, then each portfolio's own in its place."""
    wanted = page(Paged, request)
    found = await services(request).assignments.listed(caller.tenant, limit=wanted.limit, after=wanted.after)
    return _listed(found)


@router.get(
    "/v1/policies/{portfolio}/history",
    openapi_extra=asks(Paged),
    responses=gives(200, {"items": [ASSIGNMENT], "next": None}),
)
async def history(request: Request, portfolio: str, caller: ByOpsOrCompliance) -> Response:
    """Every version of a portfolio's assignment (`_`: the whole tenant's), the newest first."""
    wanted = page(Paged, request)
    found = await services(request).assignments.history(
        caller.tenant, _key(http.known(portfolio)), limit=wanted.limit, after=wanted.after
    )
    return _listed(found)


@router.put(
    "/v1/policies/{portfolio}",
    openapi_extra=takes(AssignmentIn, CHANGED),
    responses=gives(200, ASSIGNMENT),
)
async def assign(request: Request, portfolio: str, caller: ByCompliance) -> Response:
    """Assign packs to a portfolio (`_`: the whole tenant), in place of what stands: an act on record."""
    body = read(AssignmentOf, http.named(await http.read_json(request), "portfolio", portfolio))
    used = services(request)
    faults = list(_unknown(body.packs, used.packs))
    if faults:
        raise BadInput(faults)
    wanted = Assignment(
        portfolio=_key(body.portfolio),
        version=(body.version or 0) + 1,
        licences=tuple(body.licences),
        institution=body.institution,
        packs=tuple(body.packs),
    )
    return http.answer(await used.assignments.put(wanted, body.reason, caller.operator))


def _key(portfolio: str) -> str:
    return "" if portfolio == WHOLE else portfolio


def _listed(found: Page) -> Response:
    return http.answer({"items": found.items, "next": found.next})


def _unknown(packs: list[str], known: frozenset[str]) -> Iterator[Fault]:
    named = ", ".join(sorted(known))
    message = f"there are: {named}" if named else "the packs cannot be loaded: see gateway config check"
    for at, pack in enumerate(packs):
        if pack not in known:
            yield Fault(at=f"/packs/{at}", code="pack_unknown", message=message)
