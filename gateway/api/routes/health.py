"""Whether a process lives and can work, and its figures: of the API and of a worker alike."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from gateway.api import http
from gateway.api.auth import local_or, services
from gateway.store.keys import Role

router = APIRouter()

PROBED = ["GET", "HEAD"]
"""Load balancers ask by HEAD: it is answered as GET is, and the server leaves the body out."""


@router.api_route("/livez", methods=PROBED, include_in_schema=False)
async def livez() -> Response:
    """Answer as long as the process runs."""
    return http.answer({"status": "ok"})


@router.api_route("/readyz", methods=PROBED, include_in_schema=False)
async def readyz(request: Request) -> Response:
    """Say whether work can be done, and if not, what is missing."""
    missing = await services(request).health.missing()
    if missing:
        return http.answer({"status": "not_ready", "missing": dict(missing)}, 503)
    return http.answer({"status": "ok"})


@router.api_route("/metrics", methods=PROBED, include_in_schema=False, dependencies=[local_or(Role.OPS)])
async def metrics(request: Request) -> Response:
    """Figures in the text format of Prometheus; from elsewhere with a key."""
    return Response(services(request).metrics.render(), media_type="text/plain; version=0.0.4; charset=utf-8")
