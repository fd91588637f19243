"""The HTTP API, over services that wiring built."""

from __future__ import annotations

from functools import cache
from importlib.metadata import PackageNotFoundError, version

from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.responses import Response

from gateway.api import http, schema
from gateway.api.routes import (
    audit,
    doors,
    health,
    operators,
    pauses,
    plan,
    policies,
    quotas,
    reminders,
    simulation,
    subjects,
    top,
    unknowns,
    workers,
)
from gateway.api.services import Services
from gateway.errors import GatewayError

PARTS = (
    reminders,
    subjects,
    operators,
    top,
    unknowns,
    workers,
    pauses,
    plan,
    quotas,
    policies,
    simulation,
    audit,
    doors,
    health,
)


def routes() -> list[APIRoute]:
    """Every route there is."""
    return [route for part in PARTS for route in part.router.routes if isinstance(route, APIRoute)]


def build(services: Services) -> FastAPI:
    """The application. It starts and closes nothing: wiring does."""
    app = _bare(services)
    for part in PARTS:
        app.include_router(part.router)

    @cache
    def contract() -> bytes:
        return http.dumps(schema.openapi(routes(), _version()))

    @app.get("/openapi.json", include_in_schema=False)
    async def openapi() -> Response:
        return Response(contract(), media_type="application/json")

    return app


def build_health(services: Services) -> FastAPI:
    """A worker's application: health and figures, nothing else."""
    app = _bare(services)
    app.include_router(health.router)
    return app


def _bare(services: Services) -> FastAPI:
    """An application with our errors and our frame, and no route yet."""
    frame = Middleware(
        http.Frame,
        metrics=services.metrics,
        entropy=services.entropy,
        monotonic=services.monotonic,
    )
    app = FastAPI(
        title="Outreach gateway", openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False
    )
    app.state.services = services
    for kind in (GatewayError, HTTPException):
        app.add_exception_handler(kind, http.on_error)
    app.add_middleware(frame.cls, *frame.args, **frame.kwargs)
    return app


def _version() -> str:
    try:
        return version("outreach-gateway")
    except PackageNotFoundError:  # run from a checkout
        return "0"
