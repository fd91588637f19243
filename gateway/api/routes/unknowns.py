"""Unknown endings that nobody can be asked about any more: listed, and decided by a person."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path
from pydantic import BeforeValidator, Field
from starlette.requests import Request
from starlette.responses import Response

from gateway.api import http
from gateway.api.auth import ByOpsOrCompliance, services
from gateway.api.paging import Dated, page
from gateway.api.schema import asks, gives, takes
from gateway.bodies import Body, read
from gateway.bodies.pauses import Why
from gateway.domain import Channel
from gateway.store.unknowns import Which

router = APIRouter(tags=["unknowns"])

UNKNOWN: dict[str, Any] = {
    "ref": "at_01…",
    "reminder": "rm_01…",
    "borrower": "B-1",
    "debt": "L-1",
    "channel": "sms",
    "adapter": "twilio_sms",
    "account": "sms-us",
    "to": "+1******0110",
    "called_at": "2026-11-24T02:00:00Z",
    "code": "timeout",
    "provider_id": None,
    "asked": 4,
    "asked_next_at": None,
}


def _flag(value: object) -> object:
    return {"true": True, "false": False}.get(value, value) if isinstance(value, str) else value


class ListIn(Dated):
    """Which: `from` and `to` bound when the attempt began; `asked`: also those whose provider is still asked."""

    channel: Channel | None = Field(default=None, strict=False)
    account: str | None = Field(default=None, max_length=64)
    borrower: str | None = Field(default=None, max_length=64)
    asked: Annotated[bool, BeforeValidator(_flag)] = False


@router.get(
    "/v1/unknowns", openapi_extra=asks(ListIn), responses=gives(200, {"items": [UNKNOWN], "next": None})
)
async def listed(request: Request, caller: ByOpsOrCompliance) -> Response:
    """Attempts whose ending nobody knows and whose provider is not asked any more, the longest so first.

    `asked` of each: how often its provider was. To find it there: by `provider_id` where that is known, else by
    `ref`, which the request carried, or by number and `called_at` (docs/states.md).
    """
    wanted = page(ListIn, request)
    found = await services(request).unknown_rows.listed(
        caller.tenant,
        Which(
            channel=wanted.channel.value if wanted.channel else None,
            account=wanted.account,
            borrower=wanted.borrower,
            since=wanted.since,
            until=wanted.until,
            asked=wanted.asked,
        ),
        limit=wanted.limit,
        after=wanted.after,
    )
    return http.answer({"items": found.items, "next": found.next})


class SettleIn(Body):
    """What became of it."""

    word: str = Field(alias="as", max_length=32)
    reason: Why


@router.post(
    "/v1/unknowns/{id}/settle",
    openapi_extra=takes(SettleIn, {"as": "delivered", "reason": "shown so in the provider's console"}),
    responses=gives(200, {"ref": "at_01…", "reminder": "rm_01…", "state": "delivered"}),
)
async def settle(
    request: Request, name: Annotated[str, Path(alias="id")], caller: ByOpsOrCompliance
) -> Response:
    """Decide what became of a parked attempt, once; 409 `already_settled` or `still_asked`.

    `not_sent`: nobody was reached, and the reminder is due again, through all checks. `sent`, `delivered`, `read`,
    `failed` (of a call `sent`, `answered`, `conversation`, `voicemail`, `no_answer`, `busy`, `failed`): as if the
    provider had said so.
    """
    ref = http.known(name)
    body = read(SettleIn, await http.read_json(request))
    answer = await services(request).unknowns.settle(
        caller.tenant, ref, body.word, who=caller.holder, reason=body.reason
    )
    return http.answer(answer)
