"""Quotas: what stands, how far it is applied and used, its history, and changing it while all runs."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from gateway.api import http
from gateway.api.auth import ByTuner, Caller, services
from gateway.api.paging import Paged, page
from gateway.api.schema import asks, gives, takes
from gateway.api.services import Services
from gateway.bodies import read
from gateway.bodies.quotas import NamedQuotaIn, QuotaGone, QuotaIn
from gateway.errors import Fault
from gateway.pauses import PauseScope
from gateway.quotas.model import Scope
from gateway.store.pages import Page
from gateway.store.quota_acts import Wanted

router = APIRouter(tags=["quotas"])

CHANGED: dict[str, Any] = {
    "scope": {"channel": "sms", "account": "sms-cn"},
    "rate": 50,
    "burst": 5,
    "per_day": 20000,
    "concurrency": 32,
    "zone": "Asia/Shanghai",
    "closed": [{"from": "12:00", "to": "14:00"}],
    "budget": {"amount": "500.00", "currency": "CNY", "per": "day", "alarm_at": 0.8},
    "version": 6,
    "reason": "agreed with the provider",
}
SPEC: dict[str, Any] = {
    "scope": {"channel": "sms", "account": "sms-cn"},
    "each": [],
    "unit": "message",
    "rate": 50,
    "burst": 5,
    "per_minute": None,
    "per_hour": None,
    "per_day": 20000,
    "concurrency": 32,
    "zone": "Asia/Shanghai",
    "closed": [{"from": "12:00", "to": "14:00"}],
    "budget": {"amount": "500.00", "currency": "CNY", "per": "day", "alarm_at": 0.8},
}
QUOTA: dict[str, Any] = {
    "owner": "acme",
    "name": "sms-cn",
    **SPEC,
    "until": None,
    "before": None,
    "version": 7,
    "set_by": "ann",
    "set_at": "2026-11-24T02:00:00Z",
    "reason": "agreed with the provider",
    "applied": {"by": 3, "of": 3, "missing": []},
    "used": {
        "of": None,
        "rate": 49.8,
        "minute": 2988,
        "hour": 9120,
        "day": 9120,
        "calls": 11,
        "budget": "410.4",
    },
    "factor": 1.0,
    "granted_by": "redis",
}
CHANGE: dict[str, Any] = {
    "version": 7,
    "at": "2026-11-24T02:00:00Z",
    "who": "ann",
    "reason": "agreed with the provider",
    "before": {**SPEC, "rate": 35, "until": None, "version": 6},
    "after": {**SPEC, "until": None, "version": 7},
}


@router.get("/v1/quotas", openapi_extra=asks(Paged), responses=gives(200, {"items": [QUOTA], "next": None}))
async def quotas(request: Request, caller: ByTuner) -> Response:
    """Quotas by owner and name: the tenant's own and the deployment's; for the deployment everybody's.

    `applied` counts the workers that go by it. `used` is of the bucket that is nearest to its end; `factor` is the
    share of the pace that breakers, throttles and ramps leave.
    """
    wanted = page(Paged, request)
    return _listed(
        await services(request).quotas.listed(caller.owner, limit=wanted.limit, after=wanted.after)
    )


@router.get("/v1/quotas/{name}", responses=gives(200, QUOTA))
async def shown(request: Request, name: str, caller: ByTuner) -> Response:
    """One of them: the tenant's own of that name, else the deployment's."""
    return http.answer(await services(request).quotas.shown(caller.owner, http.known(name)))


@router.get(
    "/v1/quotas/{name}/history",
    openapi_extra=asks(Paged),
    responses=gives(200, {"items": [CHANGE], "next": None}),
)
async def history(request: Request, name: str, caller: ByTuner) -> Response:
    """Every change of one's own of that name, the newest first; `after` is null where it was unset."""
    wanted = page(Paged, request)
    return _listed(
        await services(request).quotas.history(
            caller.owner, http.known(name), limit=wanted.limit, after=wanted.after
        )
    )


@router.put("/v1/quotas/{name}", openapi_extra=takes(QuotaIn, CHANGED), responses=gives(200, QUOTA))
async def put(request: Request, name: str, caller: ByTuner) -> Response:
    """Set a quota, or change it: absent keys stay, null takes one away. It reaches every worker within 2 s.

    `until` takes the change back by itself. Whoever has not seen what stands gets 409 `stale_version` with it.
    """
    body = read(NamedQuotaIn, http.named(await http.read_json(request), "name", name))
    used, said = services(request), body.said()
    wanted = Wanted(
        owner=caller.owner,
        name=body.name,
        said=said,
        version=body.version,
        reason=body.reason,
        who=caller.holder,
    )
    return http.answer(await used.quotas.put(wanted, await _misnamed(used, caller, said)))


async def _misnamed(used: Services, caller: Caller, said: dict[str, Any]) -> list[Fault]:
    """What the scope names that is not there: it would cover nothing."""
    named = {word: value for word, value in (said.get("scope") or {}).items() if value is not None}
    scope = PauseScope(quota=Scope(**named))
    return [
        Fault(at=f"/scope/{word}", code="word_unknown", message=_THERE_IS_NONE[word])
        for word in await used.pauses.misnamed(caller.owner, scope)
    ]


_THERE_IS_NONE = {
    "adapter": "no account has such an adapter: see gateway account list",
    "account": "there is no such account: see gateway account list",
    "tenant": "there is no such tenant, or the key is another's: leave it out, or see gateway tenant list",
    "template": "the catalog has no such template",
}


@router.post(
    "/v1/quotas/{name}/delete",
    openapi_extra=takes(QuotaGone, {"version": 7, "reason": "it was for November"}),
    responses=gives(200, {"name": "sms-cn"}),
)
async def delete(request: Request, name: str, caller: ByTuner) -> Response:
    """Unset a quota: what its account comes with holds again, if anything. Its history stays."""
    known = http.known(name)
    body = read(QuotaGone, await http.read_json(request))
    await services(request).quotas.delete(
        Wanted(
            owner=caller.owner,
            name=known,
            said={},
            version=body.version,
            reason=body.reason,
            who=caller.holder,
        )
    )
    return http.answer({"name": known})


def _listed(found: Page) -> Response:
    return http.answer({"items": found.items, "next": found.next})
