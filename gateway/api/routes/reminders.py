"""Reminders: taken in, looked at, cancelled, previewed, explained."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Literal

from fastapi import APIRouter, Path
from pydantic import Field
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from gateway.api import http
from gateway.api.auth import ByAnyone, ByOps, ByService, ByServiceOrOps, services
from gateway.api.examples import ACCEPTED, REMINDER, REMINDER_NOW
from gateway.api.paging import MOST, Dated, page
from gateway.api.schema import asks, gives, takes, takes_items
from gateway.bodies import Body, CancelIn, Id, ReminderIn, read
from gateway.bodies.pauses import Why
from gateway.domain import ReminderState
from gateway.errors import Conflict
from gateway.store.reads import Filter

router = APIRouter(tags=["reminders"])


@router.post(
    "/v1/reminders",
    status_code=202,
    openapi_extra=takes(ReminderIn, REMINDER),
    responses=gives(202, ACCEPTED),
)
async def enqueue(request: Request, caller: ByService) -> Response:
    """Hand in one reminder; its key may come as the header Idempotency-Key instead."""
    used = services(request)
    used.admission.check(caller.tenant)
    raw = http.keyed(await http.read_json(request), request)
    results = [await used.intake.reminder(caller.tenant, raw)]
    used.metrics.accepted(http.count_done(results))
    return http.single(results)


@router.post(
    "/v1/reminders/batch",
    openapi_extra=takes_items(ReminderIn, REMINDER),
    responses=gives(200, {"results": [{"index": 0, "status": 202, "body": ACCEPTED}]}),
)
async def enqueue_batch(request: Request, caller: ByService) -> Response:
    """Hand in up to 1 000 reminders, each with its own key and its own result."""
    used = services(request)
    used.admission.check(caller.tenant)
    results = await http.in_turn(request, used.admission, partial(used.intake.reminders, caller.tenant))
    used.metrics.accepted(http.count_done(results))
    return http.batch(results, request)


@router.post(
    "/v1/reminders/preview",
    openapi_extra=takes(ReminderIn, REMINDER),
    responses=gives(
        200,
        {
            "decision": {"action": "send", "channel": "sms", "until": None, "reason": None},
            "rendered": [{"channel": "sms", "language": "zh-CN", "text": "…", "segments": 1}],
        },
    ),
)
async def preview(request: Request, caller: ByAnyone) -> Response:
    """What would be decided and rendered now; nothing is kept."""
    used = services(request)
    used.admission.check(caller.tenant)
    raw = http.keyed(await http.read_json(request), request)
    return http.answer(await used.asks.preview(caller.tenant, raw))


class ReplayIn(Body):
    """Which: these, or without `reminders` all."""

    reminders: Annotated[list[Id], Field(min_length=1, max_length=MOST)] | None = None
    reason: Why


@router.post(
    "/v1/reminders/replay",
    openapi_extra=takes(ReplayIn, {"reminders": ["rm_01…"], "reason": "the row was mended"}),
    responses=gives(200, {"replayed": 1, "reminders": ["rm_01…"], "more": False}),
)
async def replay(request: Request, caller: ByOps) -> Response:
    """Make due again what is `quarantined` (`GET /v1/reminders?reason=quarantined`); it goes through all checks.

    At most 1 000 at once; `more`: there may be others, ask again. What is not quarantined stays as it is; `reminders`
    are those that are due again.
    """
    used = services(request)
    body = read(ReplayIn, await http.read_json(request))
    done = await used.replays.replay(caller.tenant, body.reminders, who=caller.holder, reason=body.reason)
    used.wake.ring(done.channels)
    return http.answer({"replayed": len(done.names), "reminders": done.names, "more": done.more})


class ListIn(Dated):
    """Which reminders."""

    borrower: str | None = Field(default=None, max_length=64)
    debt: str | None = Field(default=None, max_length=64)
    channel: Literal["sms", "email", "wechat", "voice"] | None = None
    state: ReminderState | None = Field(default=None, strict=False)
    reason: str | None = Field(default=None, max_length=64)


@router.get(
    "/v1/reminders", openapi_extra=asks(ListIn), responses=gives(200, {"items": [REMINDER_NOW], "next": None})
)
async def listed(request: Request, caller: ByAnyone) -> Response:
    """Reminders, the newest first, page by page."""
    wanted = page(ListIn, request)
    found = await services(request).reads.reminders(
        caller.tenant,
        Filter(
            borrower=wanted.borrower,
            debt=wanted.debt,
            channel=wanted.channel,
            state=wanted.state,
            reason=wanted.reason,
            since=wanted.since,
            until=wanted.until,
        ),
        limit=wanted.limit,
        after=wanted.after,
    )
    return http.answer({"items": found.items, "next": found.next})


@router.get("/v1/reminders/{id}", responses=gives(200, REMINDER_NOW))
async def shown(request: Request, name: Annotated[str, Path(alias="id")], caller: ByAnyone) -> Response:
    """One reminder: its state, its latest decision with every finding, its attempts."""
    return http.answer(await services(request).reads.reminder(caller.tenant, http.known(name)))


@router.post(
    "/v1/reminders/{id}/cancel",
    openapi_extra=takes(CancelIn, {"reason": "paid at the counter"}),
    responses=gives(200, {"id": "rm_01…", "state": "cancelled"}),
)
async def cancel(
    request: Request, name: Annotated[str, Path(alias="id")], caller: ByServiceOrOps
) -> Response:
    """Take back a reminder, or the next step of its escalation; 409 `too_late` where nothing is to come.

    `state` is what it is then: `cancelled`, or as its last contact stands where there was one.
    """
    raw = await http.read_json(request, empty={})
    return http.single([await services(request).intake.cancel(caller.tenant, http.known(name), raw)])


class ExplainIn(Body):
    """In which language."""

    lang: Literal["en", "zh"] = "en"


@router.get("/v1/reminders/{id}/explain", openapi_extra=asks(ExplainIn), response_class=PlainTextResponse)
async def explain(request: Request, name: Annotated[str, Path(alias="id")], caller: ByAnyone) -> Response:
    """Why it went or did not, rule by rule, in words; 409 `quarantined` where deciding on it breaks."""
    used = services(request)
    lang = read(ExplainIn, dict(request.query_params)).lang
    decision = await used.reads.decision(caller.tenant, http.known(name))
    if decision is None:
        error = await used.reads.set_aside(caller.tenant, name)
        if error is not None:
            message = f"deciding on it breaks ({error}): mend what the log says, then gateway poison replay"
            raise Conflict(message, code="quarantined")
        raise Conflict("nothing was decided about it yet: look again once it is due")
    return PlainTextResponse(used.explain(decision, lang))
