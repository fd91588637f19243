"""What packs or caps that are only proposed would have changed; nothing is stored, and nothing changed."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import Field, StringConstraints
from starlette.requests import Request
from starlette.responses import Response

from gateway.api import http
from gateway.api.auth import ByOpsOrCompliance, services
from gateway.api.schema import gives, takes
from gateway.bodies import Body, Day, read
from gateway.errors import BadInput, Fault
from gateway.policy.tally import tally_json
from gateway.whatif import Wanted

router = APIRouter(tags=["policies"])

MOST_PACKS, MOST_CAPS, MOST_DAYS = 50, 100, 366
LARGEST = 1024 * 1024
"""Characters of one pack."""


class PackIn(Body):
    """A pack's file, its name and its text."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=128)]
    toml: Annotated[str, StringConstraints(max_length=LARGEST)]


class SimulateIn(Body):
    """What is tried on the decisions of local dates from `from` to before `to`.

    `packs` stand in place of loaded ones of the same ids; `caps` are rule → number. `after`: the answer's
    `next` of the page before.
    """

    packs: list[PackIn] = Field(default_factory=list, max_length=MOST_PACKS)
    caps: dict[Annotated[str, StringConstraints(max_length=64)], Annotated[int, Field(ge=0, le=1000)]] = (
        Field(default_factory=dict, max_length=MOST_CAPS)
    )
    since: Day = Field(alias="from")
    until: Day = Field(alias="to")
    after: Annotated[str, StringConstraints(max_length=64)] | None = None


ASKED: dict[str, Any] = {"packs": [], "caps": {"OP.CAPS.DAY": 2}, "from": "2026-11-01", "to": "2026-12-01"}
FOUND: dict[str, Any] = {
    "decisions": 5120,
    "reminder_days": 2240,
    "changes": [
        {
            "day": "2026-11-24",
            "kind": "deferred",
            "rule": "OP.CAPS.DAY",
            "count": 12,
            "minutes": [[840, 7], [842, 5]],
        }
    ],
    "undeterminable": [{"why": "fact", "fact": "attorney", "count": 3}],
    "next": None,
}


@router.post("/v1/policy/simulate", openapi_extra=takes(SimulateIn, ASKED), responses=gives(200, FOUND))
async def simulate(request: Request, caller: ByOpsOrCompliance) -> Response:
    """Replay the send log through proposed packs and caps, for some persons; the counts of all pages add up.

    `kind` is `blocked`, `deferred`, `allowed` or `rerouted`; a reminder counts once a day in each. `minutes` are
    pairs: so many minutes later (`deferred`) or sooner (`allowed`), and how many. First-order effects only.
    """
    body = read(SimulateIn, await http.read_json(request, http.BATCH))
    _check_span(body.since, body.until)
    wanted = Wanted(
        packs=tuple((pack.name, pack.toml) for pack in body.packs),
        caps=body.caps,
        since=body.since,
        until=body.until,
    )
    tally, after = await services(request).simulation.page(caller.tenant, wanted, after=body.after or "")
    return http.answer({**tally_json(tally), "next": after})


def _check_span(since: date, until: date) -> None:
    if not timedelta() < until - since <= timedelta(days=MOST_DAYS):
        message = f"`to` is the first date after the span: later than `from`, by {MOST_DAYS} days at most"
        raise BadInput([Fault(at="/to", code="out_of_range", message=message)])
