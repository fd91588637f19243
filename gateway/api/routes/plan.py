"""What a change of quotas would do to the work that waits; nothing is changed."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from gateway.api import http
from gateway.api.auth import ByTuner, services
from gateway.api.schema import gives, takes
from gateway.bodies import read
from gateway.bodies.quotas import PlanIn
from gateway.domain import Priority
from gateway.quotas.plan import QueuePlan, Side

router = APIRouter(tags=["quotas"])

TRIED: dict[str, Any] = {"quotas": {"sms-cn": {"rate": 35}}}
PLANNED: dict[str, Any] = {
    "at": "2026-11-24T02:00:00Z",
    "times": ["2026-11-24T02:00:00Z", "2026-11-24T02:09:31.5Z"],
    "queues": [
        {
            "channel": "sms",
            "tenant": "acme",
            "priority": "normal",
            "waiting": 20000,
            "day_ends": "2026-11-24T16:00:00Z",
            "now": {
                "drains_at": "2026-11-24T02:06:40Z",
                "expires": 0,
                "rolls_over": 0,
                "cost": [{"amount": "900.00", "currency": "CNY"}],
                "curve": [20000, 0],
            },
            "proposed": {
                "drains_at": "2026-11-24T02:09:31.5Z",
                "expires": 12,
                "rolls_over": 0,
                "cost": [{"amount": "899.46", "currency": "CNY"}],
                "curve": [20000, 0],
            },
        }
    ],
}


@router.post("/v1/quotas/plan", openapi_extra=takes(PlanIn, TRIED), responses=gives(200, PLANNED))
async def planned(request: Request, caller: ByTuner) -> Response:
    """Replay the work that waits under today's quotas and under a proposal: nothing is applied, nothing decided anew.

    `drains_at`: from then on nothing of a queue waits; `expires` unsent; `rolls_over` waits still at `day_ends`;
    `curve` is how many wait at each of `times`. What rules will still suppress or put off is counted as if it went.
    """
    body = read(PlanIn, await http.read_json(request))
    wanted = {name: None if change is None else change.said() for name, change in body.quotas.items()}
    at, plan = await services(request).planning.plan(caller.owner, wanted)
    return http.answer({"at": at, "times": plan.times, "queues": [_queue(queue) for queue in plan.queues]})


def _queue(queue: QueuePlan) -> dict[str, Any]:
    return {
        "channel": queue.channel,
        "tenant": queue.tenant.partition("/")[0],
        "priority": list(Priority)[queue.priority].value,
        "waiting": queue.waiting,
        "day_ends": queue.day_ends,
        "now": _side(queue.now),
        "proposed": _side(queue.proposed),
    }


def _side(side: Side) -> dict[str, Any]:
    return {
        "drains_at": side.drains_at,
        "expires": side.expires,
        "rolls_over": side.rolls_over,
        "cost": [{"amount": f"{money.amount:.2f}", "currency": money.currency} for money in side.cost],
        "curve": side.curve,
    }
