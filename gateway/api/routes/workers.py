"""Worker processes: listed, and told to take nothing new. They serve all tenants."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from gateway.api import http
from gateway.api.auth import ByTuner, Caller, services
from gateway.api.paging import Paged, page
from gateway.api.schema import asks, gives, takes
from gateway.bodies import Body, Id, read
from gateway.bodies.pauses import Why
from gateway.errors import Forbidden

router = APIRouter(tags=["operators"])

WORKER: dict[str, Any] = {
    "id": "ow_01…",
    "at": "worker-0:7",
    "state": "working",
    "started_at": "2026-11-24T02:00:00Z",
    "heartbeat_at": "2026-11-24T08:00:00Z",
    "quiet_at": None,
    "under_way": 12,
}


def _need_everywhere(caller: Caller) -> None:
    if not caller.everywhere:
        raise Forbidden("workers serve every tenant: use a key of the whole deployment")


@router.get("/v1/workers", openapi_extra=asks(Paged), responses=gives(200, {"items": [WORKER], "next": None}))
async def listed(request: Request, caller: ByTuner) -> Response:
    """Workers that are not known to be dead, the oldest first: `working`, `quiet`, or `silent` (no heartbeat for 10 s).

    `under_way` counts what each is calling or about to call. Only for a key of the whole deployment.
    """
    _need_everywhere(caller)
    wanted = page(Paged, request)
    found = await services(request).workers.listed(limit=wanted.limit, after=wanted.after)
    return http.answer({"items": found.items, "next": found.next})


class QuietIn(Body):
    """Which: one by its id, or without `worker` all that there are."""

    worker: Id | None = None
    reason: Why


@router.post(
    "/v1/workers/quiet",
    openapi_extra=takes(QuietIn, {"worker": "ow_01…", "reason": "its host is to be replaced"}),
    responses=gives(200, {"quiet": ["ow_01…"]}),
)
async def quiet(request: Request, caller: ByTuner) -> Response:
    """Tell a worker, or all, to take nothing new: within a second or two; it finishes what it calls, and lives on.

    There is no way back: end it (SIGTERM) and start another. Only for a key of the whole deployment.
    """
    _need_everywhere(caller)
    body = read(QuietIn, await http.read_json(request))
    told = await services(request).workers.quiet(
        body.worker, caller.owner, who=caller.holder, reason=body.reason
    )
    return http.answer({"quiet": told})
