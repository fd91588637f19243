"""Pauses and stops: set, listed, resumed, and what they stopped.

Setting and resuming ask no admission and use a connection of their own: a stop is never refused for load.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Path
from pydantic import BeforeValidator
from starlette.requests import Request
from starlette.responses import Response

from gateway.api import http
from gateway.api.auth import ByPauser, ByPauserAside, Caller, services
from gateway.api.paging import Paged, page
from gateway.api.schema import asks, gives, takes
from gateway.api.services import Services
from gateway.bodies import read
from gateway.bodies.pauses import PauseIn, ResumeIn
from gateway.errors import BadInput, Fault
from gateway.store.pages import Page
from gateway.store.pauses import Actor, Wanted

router = APIRouter(tags=["pauses"])

LONGEST = timedelta(days=366)

PAUSE: dict[str, Any] = {
    "idempotency_key": "wechat-outage-1",
    "kind": "pause",
    "scope": {"channel": "wechat"},
    "until": "2026-11-24T10:00:00Z",
    "reason": "the provider reports an outage",
}
SET: dict[str, Any] = {
    "id": "ps_01…",
    "kind": "pause",
    "scope": {"channel": "wechat"},
    "until": "2026-11-24T10:00:00Z",
    "at": "2026-11-24T09:00:00Z",
    "waiting": 312,
    "expires_meanwhile": 4,
    "calling": ["at_01…"],
}
STANDS: dict[str, Any] = {
    **SET,
    "owner": "acme",
    "state": "active",
    "reason": "the provider reports an outage",
    "set_by": "ann",
    "resume": None,
    "resumed_by": None,
    "resumed_at": None,
    "ramp_s": 0,
    "recalled": [],
    "may_arrive": [],
}
HELD: dict[str, Any] = {
    "id": "rm_01…",
    "tenant": "acme",
    "channel": "sms",
    "template": {"name": "pre_due", "version": 2},
    "state": "deferred",
    "expires_at": "2026-11-27T02:00:00Z",
}


@router.post("/v1/pauses", status_code=201, openapi_extra=takes(PauseIn, PAUSE), responses=gives(201, SET))
async def put(request: Request, caller: ByPauserAside) -> Response:
    """Set a pause or a stop: when this is answered, no call that it covers begins any more.

    `calling` are the attempts that were with a provider then; `expires_meanwhile` counts what waits and expires before
    `until` (without an end: within 24 hours).
    """
    body = read(PauseIn, http.keyed(await http.read_json(request), request))
    used = services(request)
    wanted = Wanted(
        key=body.idempotency_key,
        kind=body.kind,
        scope=body.scope.scope(),
        until=body.until,
        ramp_s=body.ramp_s,
        reason=body.reason,
    )
    answer = await used.pauses.again(wanted, caller.owner)
    if answer is None:
        faults = await _unfit(used, caller, body)
        if faults:
            raise BadInput(faults)
        answer = await used.pauses.put(wanted, _actor(caller))
    return http.answer(answer, 201)


async def _unfit(used: Services, caller: Caller, body: PauseIn) -> list[Fault]:
    """What the scope names that is not there, and an end that is past or too far: it would stop nothing."""
    now = (await used.setup_aside.moment()).policy
    faults = [
        Fault(at=f"/scope/{word}", code="word_unknown", message=_THERE_IS_NONE[word])
        for word in await used.pauses.misnamed(caller.owner, body.scope.scope())
    ]
    if body.until is not None and not now < body.until <= now + LONGEST:
        message = "send an instant that is still to come, within 366 days"
        faults.append(Fault(at="/until", code="until_unfit", message=message))
    return faults


_THERE_IS_NONE = {
    "adapter": "no account has such an adapter: see gateway account list",
    "account": "there is no such account: see gateway account list",
    "tenant": "there is no such tenant, or the key is another's: leave it out, or see gateway tenant list",
    "template": "the catalog has no such template",
}


def _actor(caller: Caller) -> Actor:
    return Actor(owner=caller.owner, holder=caller.holder, role=caller.role, since=caller.since)


def _flag(value: object) -> object:
    return {"true": True, "false": False}.get(value, value) if isinstance(value, str) else value


class ListIn(Paged):
    """Which: `active`, only those that hold."""

    active: Annotated[bool, BeforeValidator(_flag)] = False


@router.get("/v1/pauses", openapi_extra=asks(ListIn), responses=gives(200, {"items": [STANDS], "next": None}))
async def listed(request: Request, caller: ByPauser) -> Response:
    """Pauses and stops, the newest first: the tenant's own and the deployment's; for the deployment everybody's.

    `waiting` and `expires_meanwhile` are counted when each is set (null: not counted yet); its own page counts anew.
    """
    wanted = page(ListIn, request)
    found = await services(request).pauses.listed(
        caller.owner, active=wanted.active, limit=wanted.limit, after=wanted.after
    )
    return _listed(found)


@router.get(
    "/v1/pauses/{id}",
    responses=gives(200, {**STANDS, "applied": {"by": 3, "of": 3, "missing": []}}),
)
async def shown(request: Request, name: Annotated[str, Path(alias="id")], caller: ByPauser) -> Response:
    """One of them: who set it, what it stopped, what was recalled and what may still arrive, who asked to resume it.

    While it holds, `waiting` and `expires_meanwhile` are counted anew. A request to resume that is older than an hour
    is over: `resume` is null again.
    """
    return http.answer(await services(request).pauses.shown(caller.owner, http.known(name)))


@router.get(
    "/v1/pauses/{id}/reminders",
    openapi_extra=asks(Paged),
    responses=gives(200, {"items": [HELD], "next": None}),
)
async def reminders(request: Request, name: Annotated[str, Path(alias="id")], caller: ByPauser) -> Response:
    """The reminders that it holds up: open, within its scope, not called or with a further step to come.

    None once it has ended.
    """
    wanted = page(Paged, request)
    return _listed(
        await services(request).pauses.reminders(
            caller.owner, http.known(name), limit=wanted.limit, after=wanted.after
        )
    )


def _listed(found: Page) -> Response:
    return http.answer({"items": found.items, "next": found.next})


RESUME: Mapping[str, Any] = {"ramp_s": 300, "reason": "the provider is back"}


@router.post(
    "/v1/pauses/{id}/resume",
    openapi_extra=takes(ResumeIn, RESUME),
    responses={
        **gives(200, {"id": "ps_01…", "state": "resuming"}),
        **gives(202, {"id": "ps_01…", "state": "needs_second_holder"}),
    },
)
async def resume(request: Request, name: Annotated[str, Path(alias="id")], caller: ByPauserAside) -> Response:
    """End one. A pause: whoever has its setter's role, or an admin. A stop: two holders, one after the other.

    What it put off goes through all rules again; with `ramp_s` the pace grows back over so many seconds.
    """
    known = http.known(name)
    body = read(ResumeIn, await http.read_json(request))
    answer = await services(request).pauses.resume(known, body.ramp_s, body.reason, _actor(caller))
    return http.answer(answer, 200 if answer["state"] == "resuming" else 202)
