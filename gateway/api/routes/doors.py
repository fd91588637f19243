"""Doors without a key: providers' callbacks, what errors mean."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from gateway.api import http, problems
from gateway.api.auth import services

router = APIRouter()


@router.api_route("/cb/{adapter}/{account}/{ref}", methods=list(http.METHODS), include_in_schema=False)
async def callback(request: Request, adapter: str, account: str, ref: str) -> Response:
    """Take in a provider's request; the adapter checks its signature."""
    query = request.scope["query_string"].decode("latin-1")
    path = request.scope.get("raw_path", request.scope["path"].encode()).decode("latin-1")
    answer = await services(request).callbacks.receive(
        adapter,
        account,
        ref,
        method=request.method,
        target=f"{path}?{query}" if query else path,
        headers=dict(request.headers),
        body=await http.read_bytes(request, http.SINGLE),
    )
    return Response(answer.body, status_code=answer.status, media_type=answer.content_type)


@router.get("/docs/errors", include_in_schema=False)
async def errors() -> Response:
    """What each code means, and what to do next."""
    return problems.page()
