"""What ops look at first, all at once: `gateway top` shows it."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from gateway.api import http
from gateway.api.auth import ByTuner, services
from gateway.api.routes.operators import STATS
from gateway.api.schema import gives

router = APIRouter(tags=["operators"])

TOP: dict[str, Any] = {
    "at": "2026-11-24T02:00:00Z",
    "granted_by": "redis",
    "since": "2026-11-23T18:00:00Z",
    "workers": {"by": 3, "of": 3, "missing": []},
    **STATS,
    "starts": [{"channel": "sms", "tenant": "acme", "per_s": 49.8}],
    "accounts": [
        {
            "account": "sms-cn",
            "tenant": "acme",
            "breaker": "half_open",
            "why": "errors",
            "code": "503",
            "since": "2026-11-24T01:58:00Z",
            "probe_at": None,
            "factor": 0.0625,
            "used_up_until": None,
            "barred": None,
        }
    ],
}


@router.get("/v1/top", responses=gives(200, TOP))
async def top(request: Request, caller: ByTuner) -> Response:
    """What is due and what starts, who grants the pace, and each account of which something is to be said.

    Of the key's tenant; for a key of the deployment that names none, of all tenants in its mode. `starts` are those of
    the last seconds; `workers` says how many work by the newest quotas, pauses and accounts.
    """
    return http.answer(await services(request).top.look(caller.owner))
