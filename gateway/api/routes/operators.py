"""What operators look at and set up: counts, the send log, tenants, keys, accounts, caps, the clock."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path
from pydantic import AfterValidator, Field, PlainValidator, StringConstraints, WithJsonSchema
from starlette.requests import Request
from starlette.responses import Response

from gateway.accounts import MOST_SHARE
from gateway.api import http
from gateway.api.auth import (
    ByAdmin,
    ByAnyone,
    ByCompliance,
    ByOps,
    ByOpsOfAny,
    ByOpsOrCompliance,
    Caller,
    services,
)
from gateway.api.paging import Dated, page
from gateway.api.schema import asks, gives, takes
from gateway.bodies import Body, Id, Instant, MoneyIn, Reason, fault, impersonal, read
from gateway.domain import Account, Channel, Mode, Money, Tenant
from gateway.errors import BadInput, Conflict, Fault, Forbidden
from gateway.masking import Pii
from gateway.store.keys import ApiKey, Role, Setup
from gateway.store.reads import Filter

router = APIRouter(tags=["operators"])

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,31}$")]


STATS = {
    "states": {"sent": 12, "deferred": 4, "waiting": 3},
    "due": 3,
    "oldest_due_s": 0.4,
    "deferred": {"OP.CAPS.DAY": 4},
    "lanes": [{"channel": "sms", "tenant": "acme", "priority": "normal", "due": 3, "oldest_due_s": 0.4}],
}


@router.get("/v1/stats", responses=gives(200, STATS))
async def stats(request: Request, caller: ByAnyone) -> Response:
    """Reminders by state, and put off by reason; what is due and for how long the oldest, as a whole and by lane."""
    return http.answer(await services(request).reads.stats(caller.tenant))


class LogIn(Dated):
    """Which records."""

    borrower: str | None = Field(default=None, max_length=64)
    channel: str | None = Field(default=None, max_length=16)
    state: str | None = Field(default=None, max_length=32)
    reason: str | None = Field(default=None, max_length=64)
    order: Literal["newest", "oldest"] = "newest"


RECORD = {
    "id": "lg_01…",
    "at": "2026-11-24T02:00:00Z",
    "kind": "decision",
    "reminder": "rm_01…",
    "borrower": "B-1",
    "channel": "sms",
    "state": "deferred",
    "reason": "CN.GBT.hours",
    "body": {},
}


@router.get("/v1/log", openapi_extra=asks(LogIn), responses=gives(200, {"items": [RECORD], "next": None}))
async def records(request: Request, caller: ByOpsOrCompliance) -> Response:
    """Records of the send log, page by page; nothing in them is anybody's name, number or text."""
    wanted = page(LogIn, request)
    found = await services(request).reads.records(
        caller.tenant,
        Filter(
            borrower=wanted.borrower,
            channel=wanted.channel,
            state=wanted.state,
            reason=wanted.reason,
            since=wanted.since,
            until=wanted.until,
        ),
        limit=wanted.limit,
        after=wanted.after,
        newest_first=wanted.order == "newest",
    )
    return http.answer({"items": found.items, "next": found.next})


# Tenants and keys.


class TenantIn(Body):
    """A new tenant."""

    name: Annotated[Name, AfterValidator(impersonal)]


@router.post(
    "/v1/tenants",
    status_code=201,
    openapi_extra=takes(TenantIn, {"name": "acme"}),
    responses=gives(201, {"name": "acme"}),
)
async def create_tenant(request: Request, caller: ByAdmin) -> Response:
    """Make a tenant; only a key of the whole deployment may."""
    if not caller.everywhere:
        raise Forbidden("only a key of the whole deployment makes tenants")
    body = read(TenantIn, await http.read_json(request))
    return http.answer(await services(request).setup.create_tenant(body.name, caller.operator), 201)


@router.get("/v1/tenants", responses=gives(200, {"items": [{"name": "acme"}], "next": None}))
async def tenants(request: Request, caller: ByAdmin) -> Response:
    """Every tenant; for a tenant's key, its own."""
    found = await services(request).setup.tenants(caller.scope())
    return http.answer({"items": found, "next": None})


class ApiKeyIn(Body):
    """A new key. `tenant` `*` is the deployment's own."""

    tenant: Name | Literal["*"] | None = None
    mode: Mode = Field(default=Mode.LIVE, strict=False)
    role: Role = Field(strict=False)
    holder: Id
    expires_at: Instant | None = None


KEY = {
    "id": "0123456789ab",
    "tenant": "acme",
    "mode": "live",
    "role": "service",
    "holder": "loan-core",
    "created_at": "2026-11-24T02:00:00Z",
    "expires_at": None,
    "revoked_at": None,
}


@router.post(
    "/v1/apikeys",
    status_code=201,
    openapi_extra=takes(ApiKeyIn, {"tenant": "acme", "role": "service", "holder": "loan-core"}),
    responses=gives(201, {**KEY, "key": "gw_live_…"}),
)
async def create_key(request: Request, caller: ByAdmin) -> Response:
    """Make a key. Its text is shown here and never again, so this has no idempotency key to replay it by."""
    body = read(ApiKeyIn, await http.read_json(request))
    tenant = body.tenant or caller.name
    if not caller.everywhere and tenant != caller.name:
        raise Forbidden("only a key of the whole deployment makes keys for other tenants")
    made, text = await services(request).setup.create_key(
        tenant=tenant,
        mode=body.mode,
        role=body.role,
        holder=body.holder,
        expires_at=body.expires_at,
        by=caller.operator,
    )
    return http.answer({**_shown(made), "key": text.reveal("shown once to who made it")}, 201)


@router.get("/v1/apikeys", responses=gives(200, {"items": [KEY], "next": None}))
async def keys(request: Request, caller: ByAdmin) -> Response:
    """Every key of the tenant, or of the deployment, without their texts."""
    found = await services(request).setup.keys(caller.scope())
    return http.answer({"items": [_shown(key) for key in found], "next": None})


@router.post("/v1/apikeys/{id}/revoke", responses=gives(200, KEY))
async def revoke(request: Request, name: Annotated[str, Path(alias="id")], caller: ByAdmin) -> Response:
    """Revoke a key; within two seconds nobody takes it any more."""
    gone = await services(request).setup.revoke(http.known(name), caller.scope(), caller.operator)
    return http.answer(_shown(gone))


def _shown(key: ApiKey) -> dict[str, Any]:
    return {
        "id": key.id,
        "tenant": key.tenant,
        "mode": key.mode,
        "role": key.role,
        "holder": key.holder,
        "created_at": key.created_at,
        "expires_at": key.expires_at,
        "revoked_at": key.revoked_at,
    }


class StaleIn(Body):
    """How old a debt's state may be before it holds reminders, and why that is right."""

    stale_after_s: Annotated[int, Field(ge=60, le=31 * 86400)]
    reason: Annotated[Reason, Field(min_length=1)]


@router.put(
    "/v1/tenants/{name}",
    openapi_extra=takes(StaleIn, {"stale_after_s": 43200, "reason": "debts are reported twice a day"}),
    responses=gives(200, {"name": "acme", "stale_after_s": 43200}),
)
async def set_stale_after(request: Request, name: str, caller: ByAdmin) -> Response:
    """Set how old a debt's state may be (24 h unless set) before it holds reminders: an act on record."""
    body = read(StaleIn, await http.read_json(request))
    if not caller.everywhere and name != caller.name:
        raise Forbidden("this key sets its own tenant only")
    await services(request).setup.set_stale_after(
        http.known(name), body.stale_after_s, body.reason, caller.operator
    )
    return http.answer({"name": name, "stale_after_s": body.stale_after_s})


# Accounts.


def _credential(value: object) -> Pii[str]:
    if not isinstance(value, str) or not 0 < len(value) <= LONGEST_CREDENTIAL:
        raise fault("length_invalid", f"send text of 1 to {LONGEST_CREDENTIAL} characters")
    return Pii(value)


LONGEST_CREDENTIAL = 8192


class AccountIn(Body):
    """An account as accounts.toml has it, its credentials resolved."""

    name: Id
    adapter: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,63}$")]
    sender: Annotated[str, StringConstraints(min_length=1, max_length=254)]
    endpoint: Annotated[str, StringConstraints(max_length=512)] | None = None
    price: MoneyIn | None = None
    credentials: dict[
        str, Annotated[Pii[str], PlainValidator(_credential), WithJsonSchema({"type": "string"})]
    ] = Field(default_factory=dict, max_length=20)
    settings: dict[str, Annotated[str, StringConstraints(max_length=512)]] = Field(
        default_factory=dict, max_length=50
    )
    tenant: Name | None = None
    mode: Mode | None = Field(default=None, strict=False)
    weight: Annotated[int, Field(ge=1, le=MOST_SHARE)] | None = None
    """The tenant's share where several share the account: then it comes once for each of them."""


class AccountsIn(Body):
    """Accounts to bring in."""

    accounts: list[AccountIn] = Field(min_length=1, max_length=200)
    reason: Reason = ""


STANDING = {
    "breaker": "closed",
    "why": None,
    "code": None,
    "since": None,
    "probe_at": None,
    "factor": 1.0,
    "used_up_until": None,
    "barred": None,
}
ACCOUNT = {
    "name": "sms-cn",
    "adapter": "aliyun_sms",
    "sender": "…",
    "weight": None,
    "enabled": True,
    "pace": 5000.0,
    "unit": "message",
    "broken": None,
    "standing": STANDING,
}


@router.get("/v1/accounts", responses=gives(200, {"items": [ACCOUNT], "next": None}))
async def accounts(request: Request, caller: ByOpsOrCompliance) -> Response:
    """The tenant's accounts, without credentials, and how they stand."""
    found = await services(request).accounts.listed(caller.tenant)
    return http.answer({"items": list(found), "next": None})


@router.post(
    "/v1/accounts",
    openapi_extra=takes(
        AccountsIn,
        {
            "accounts": [
                {"name": "sms-cn", "adapter": "aliyun_sms", "sender": "…", "credentials": {"key": "…"}}
            ],
            "reason": "first set-up",
        },
    ),
    responses=gives(200, {"written": ["sms-cn"]}),
)
async def bring_in(request: Request, caller: ByOpsOfAny) -> Response:
    """Bring in accounts; credentials go to the vault and are never shown again."""
    body = read(AccountsIn, await http.read_json(request))
    given = [_account(account, at, caller) for at, account in enumerate(body.accounts)]
    used = services(request)
    await _need_tenants(used.setup, given)
    written = await used.accounts.bring_in(given, who=caller.holder, reason=body.reason)
    return http.answer({"written": list(written)})


def _account(body: AccountIn, at: int, caller: Caller) -> Account:
    tenant, mode = body.tenant or caller.name, body.mode or caller.mode
    if not caller.everywhere and (tenant, mode) != (caller.name, caller.mode):
        message = "this key brings in accounts of its own tenant and mode only"
        raise BadInput([Fault(at=f"/accounts/{at}/tenant", code="forbidden", message=message)])
    if body.weight is not None and not caller.everywhere:
        message = "an account that tenants share is brought in with a key of the whole deployment"
        raise BadInput([Fault(at=f"/accounts/{at}/weight", code="forbidden", message=message)])
    return Account(
        tenant=Tenant(f"{tenant}/{mode}"),
        name=body.name,
        mode=mode,
        adapter=body.adapter,
        sender=body.sender,
        endpoint=body.endpoint,
        price=Money(amount=body.price.amount, currency=body.price.currency) if body.price else None,
        credentials=body.credentials,
        settings=body.settings,
        weight=body.weight,
    )


async def _need_tenants(setup: Setup, given: Sequence[Account]) -> None:
    known = {tenant["name"] for tenant in await setup.tenants(None)}
    faults = [
        Fault(at=f"/accounts/{at}/tenant", code="not_found", message="create the tenant first")
        for at, account in enumerate(given)
        if account.tenant.rpartition("/")[0] not in known
    ]
    if faults:
        raise BadInput(faults)


CHECKED = {"name": "sms-cn", "ok": True, "word": "signed in", "standing": STANDING}


@router.post("/v1/accounts/{id}/check", responses=gives(200, CHECKED))
async def check_account(request: Request, name: Annotated[str, Path(alias="id")], caller: ByOps) -> Response:
    """Try an account's credentials, without sending anything; when they work, reminders may probe one that is down."""
    return http.answer(await services(request).accounts.check(caller.tenant, http.known(name)))


# Caps and the clock.


class CapIn(Body):
    """A tenant's own number in a rule of OP.CAPS or PROVIDER.*, and why."""

    rule: Annotated[str, StringConstraints(max_length=64)]
    max: Annotated[int, Field(ge=0, le=1000)]
    reason: Annotated[Reason, Field(min_length=1)]


CAP = {"rule": "OP.CAPS.day", "max": 3, "own": None}


@router.get("/v1/caps", responses=gives(200, {"items": [CAP], "next": None}))
async def caps(request: Request, caller: ByAnyone) -> Response:
    """The counts that protect everyone: as they ship, and this tenant's own."""
    used = services(request)
    own = {cap.rule: cap for cap in await used.setup.caps(caller.tenant)}
    items = [
        {
            "rule": rule,
            "max": shipped,
            "own": None
            if rule not in own
            else {
                "max": own[rule].max,
                "at": own[rule].at,
                "who": own[rule].who,
                "reason": own[rule].reason,
            },
        }
        for rule, shipped in used.caps.items()
    ]
    return http.answer({"items": items, "next": None})


@router.put(
    "/v1/caps",
    openapi_extra=takes(CapIn, {"rule": "OP.CAPS.day", "max": 2, "reason": "complaints in October"}),
    responses=gives(200, {"rule": "OP.CAPS.day", "max": 2}),
)
async def set_cap(request: Request, caller: ByCompliance) -> Response:
    """Set this tenant's own number in a rule: an act on record, with its reason."""
    body = read(CapIn, await http.read_json(request))
    used = services(request)
    if body.rule not in used.caps:
        fault = Fault(at="/rule", code="rule_unknown", message=f"there are: {', '.join(used.caps)}")
        raise BadInput([fault])
    await used.setup.set_cap(body.rule, body.max, body.reason, caller.operator)
    return http.answer({"rule": body.rule, "max": body.max})


FURTHEST_S = 3660 * 86400


class ClockIn(Body):
    """How far the policy clock moves; back when it is negative."""

    advance_s: Annotated[int, Field(ge=-FURTHEST_S, le=FURTHEST_S)]


CLOCK = {
    "real": "2026-11-24T02:00:00Z",
    "policy": "2026-11-24T12:00:00Z",
    "offset_s": 36000.0,
    "movable": True,
}


@router.get("/v1/clock", responses=gives(200, CLOCK))
async def clock(request: Request, caller: ByAnyone) -> Response:  # noqa: ARG001 (it is let in)
    """The database's clock, and the policy clock that rules see."""
    used = services(request)
    moment = await used.setup.moment()
    return http.answer(_told(moment, movable=used.clock_movable))


@router.post("/v1/clock", openapi_extra=takes(ClockIn, {"advance_s": 36000}), responses=gives(200, CLOCK))
async def advance(request: Request, caller: ByOps) -> Response:
    """Move the policy clock, in a test deployment only."""
    used = services(request)
    body = read(ClockIn, await http.read_json(request))
    if not used.clock_movable:
        raise Conflict("this deployment keeps real time: only a test deployment's clock moves")
    moment = await used.setup.advance(body.advance_s, caller.operator)
    used.wake.ring(channel.value for channel in Channel)
    return http.answer(_told(moment, movable=True))


def _told(moment: Any, *, movable: bool) -> dict[str, Any]:
    return {
        "real": moment.real,
        "policy": moment.policy,
        "offset_s": (moment.policy - moment.real).total_seconds(),
        "movable": movable,
    }
