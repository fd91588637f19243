"""Borrowers, debts and their events, contacts made elsewhere."""

from __future__ import annotations

from functools import partial
from typing import Annotated

from fastapi import APIRouter, Path
from starlette.requests import Request
from starlette.responses import Response

from gateway.api import http
from gateway.api.auth import ByAnyone, ByService, services
from gateway.api.examples import (
    BORROWER,
    BORROWER_NOW,
    CONTACT,
    DEBT,
    EVENT,
    EVENT_DONE,
    QUESTION,
    UPDATED,
)
from gateway.api.schema import gives, takes, takes_items
from gateway.bodies import (
    BorrowerIn,
    BorrowerItem,
    CheckIn,
    ContactIn,
    DebtIn,
    DebtItem,
    EventIn,
    EventItem,
    read,
)

router = APIRouter(tags=["borrowers, debts, contacts"])


@router.post(
    "/v1/borrowers/batch",
    openapi_extra=takes_items(BorrowerItem, {"id": "B-1", **BORROWER}),
    responses=gives(200, {"results": [{"index": 0, "status": 200, "body": UPDATED}]}),
)
async def put_borrowers(request: Request, caller: ByService) -> Response:
    """Put up to 1 000 borrowers."""
    used = services(request)
    results = await http.in_turn(request, used.admission, partial(used.intake.borrowers, caller.tenant))
    return http.batch(results, request)


@router.put("/v1/borrowers/{id}", openapi_extra=takes(BorrowerIn, BORROWER), responses=gives(200, UPDATED))
async def put_borrower(
    request: Request, name: Annotated[str, Path(alias="id")], caller: ByService
) -> Response:
    """Put a borrower: keys that are carried replace, others stay."""
    raw = http.named(await http.read_json(request), "id", name)
    return http.single(await services(request).intake.borrowers(caller.tenant, [raw]))


@router.get("/v1/borrowers/{id}", responses=gives(200, BORROWER_NOW))
async def borrower(request: Request, name: Annotated[str, Path(alias="id")], caller: ByAnyone) -> Response:
    """A borrower, with every personal value masked."""
    return http.answer(await services(request).reads.borrower(caller.tenant, http.known(name)))


@router.post(
    "/v1/debts/batch",
    openapi_extra=takes_items(DebtItem, {"id": "L-1", **DEBT}),
    responses=gives(200, {"results": [{"index": 0, "status": 200, "body": {**UPDATED, "id": "L-1"}}]}),
)
async def put_debts(request: Request, caller: ByService) -> Response:
    """Put up to 1 000 debts."""
    used = services(request)
    results = await http.in_turn(request, used.admission, partial(used.intake.debts, caller.tenant))
    return http.batch(results, request)


@router.post(
    "/v1/debts/events/batch",
    openapi_extra=takes_items(EventItem, {"debt": "L-1", **EVENT}),
    responses=gives(200, {"results": [{"index": 0, "status": 200, "body": EVENT_DONE}]}),
)
async def happen_batch(request: Request, caller: ByService) -> Response:
    """Tell up to 1 000 events of debts; they wait for no turn, as what was paid must get in whatever else does."""
    items = await http.read_items(request)
    return http.batch(await services(request).intake.events(caller.tenant, items), request)


@router.put(
    "/v1/debts/{id}", openapi_extra=takes(DebtIn, DEBT), responses=gives(200, {**UPDATED, "id": "L-1"})
)
async def put_debt(request: Request, name: Annotated[str, Path(alias="id")], caller: ByService) -> Response:
    """Put a debt: keys that are carried replace, others stay; anchored reminders follow its due date."""
    raw = http.named(await http.read_json(request), "id", name)
    return http.single(await services(request).intake.debts(caller.tenant, [raw]))


@router.post("/v1/debts/{id}/events", openapi_extra=takes(EventIn, EVENT), responses=gives(200, EVENT_DONE))
async def happen(request: Request, name: Annotated[str, Path(alias="id")], caller: ByService) -> Response:
    """Tell what happened to a debt; paid and disputed stop its reminders."""
    raw = http.keyed(http.named(await http.read_json(request), "debt", http.known(name)), request)
    results = await services(request).intake.events(caller.tenant, [raw])
    return http.single(results, missing="/debt")


@router.post(
    "/v1/contacts",
    status_code=201,
    openapi_extra=takes(ContactIn, CONTACT),
    responses=gives(201, {"id": "ct_01…"}),
)
async def contact(request: Request, caller: ByService) -> Response:
    """Tell a contact that was made elsewhere: it draws on the same caps."""
    raw = http.keyed(await http.read_json(request), request)
    return http.single(await services(request).intake.contacts(caller.tenant, [raw]))


@router.post(
    "/v1/contacts/batch",
    openapi_extra=takes_items(ContactIn, CONTACT),
    responses=gives(200, {"results": [{"index": 0, "status": 201, "body": {"id": "ct_01…"}}]}),
)
async def contacts(request: Request, caller: ByService) -> Response:
    """Tell up to 1 000 contacts that were made elsewhere."""
    used = services(request)
    results = await http.in_turn(request, used.admission, partial(used.intake.contacts, caller.tenant))
    return http.batch(results, request)


@router.post(
    "/v1/contacts/check",
    openapi_extra=takes(CheckIn, QUESTION),
    responses=gives(
        200,
        {
            "decision": {"action": "send", "channel": "voice", "until": None, "reason": None},
            "reservation": "rs_01…",
            "until": "2026-11-24T02:10:00Z",
        },
    ),
)
async def check(request: Request, caller: ByService) -> Response:
    """Ask whether a contact may be made now; a yes keeps its place in the caps for ten minutes."""
    used = services(request)
    used.admission.check(caller.tenant)
    body = read(CheckIn, await http.read_json(request))
    return http.answer(await used.asks.check(caller.tenant, body))
