"""Who calls: the key of a request, the tenant it speaks for, and the roles that each route names."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from ipaddress import ip_address
from typing import Annotated, Any

from fastapi import Depends
from starlette.requests import Request

from gateway.api.services import Services
from gateway.domain import Mode, Tenant
from gateway.errors import BadInput, Fault, Forbidden, Unauthorised
from gateway.masking import Pii
from gateway.quotas.model import deployment
from gateway.store.keys import EVERY, Operator, Role, Setup

DEFAULT = "default"
"""The tenant that a deployment's own key speaks for, unless the header says another."""
TENANT_HEADER, MODE_HEADER = "Gateway-Tenant", "Gateway-Mode"
OPERATOR = "gateway.operator"
"""Where a call within this process says who acts, in place of a key: part of the scope, which no request sets."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """A request's key. `everywhere`: it is the deployment's own, and may act for any tenant.

    `since`: when the key was made; None for an operator within this process. `whole`: no tenant was named.
    """

    name: str
    mode: Mode
    role: Role
    holder: str
    everywhere: bool
    since: datetime | None = None
    whole: bool = False

    @property
    def tenant(self) -> Tenant:
        """The tenant and the mode of the key."""
        return Tenant(f"{self.name}/{self.mode}")

    @property
    def owner(self) -> Tenant:
        """Whose quotas, pauses and stops it sets: its tenant's, or the deployment's where it names no tenant."""
        return deployment(self.mode) if self.whole else self.tenant

    @property
    def operator(self) -> Operator:
        """Who acts, for the history."""
        return Operator(who=self.holder, tenant=self.tenant)

    def scope(self) -> str | None:
        """The tenant that lists are held to; None for all."""
        return None if self.everywhere else self.name


def services(request: Request) -> Services:
    """What the routes call."""
    found: Services = request.app.state.services
    return found


async def caller(request: Request, setup: Setup | None = None) -> Caller:
    """The caller by its key, looked up in `setup`, or the operator within this process; Unauthorised."""
    operator = request.scope.get(OPERATOR)
    if operator is None:
        found = await _by_key(request, setup or services(request).setup)
    else:
        found = Caller(name=DEFAULT, mode=Mode.LIVE, role=Role.ADMIN, holder=operator, everywhere=True)
    found = _as_asked(found, request)
    request.scope["gateway.tenant"] = found.tenant
    return found


async def _by_key(request: Request, setup: Setup) -> Caller:
    scheme, _, presented = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not presented:
        raise Unauthorised
    key = await setup.authenticate(Pii(presented.strip()))
    everywhere = key.tenant == EVERY
    return Caller(
        name=DEFAULT if everywhere else key.tenant,
        mode=key.mode,
        role=key.role,
        holder=key.holder,
        everywhere=everywhere,
        since=key.created_at,
    )


def _as_asked(found: Caller, request: Request) -> Caller:
    """The caller for the tenant and mode that the headers name: a deployment's own key chooses, others may not."""
    tenant = request.headers.get(TENANT_HEADER, found.name)
    mode = request.headers.get(MODE_HEADER, found.mode.value)
    if tenant != found.name and not found.everywhere:
        raise Forbidden("this key is another tenant's: leave Gateway-Tenant out")
    if mode not in tuple(Mode):
        raise BadInput([Fault(at=MODE_HEADER, code="word_unknown", message="send live or test")])
    if mode != found.mode and not (found.everywhere and found.mode is Mode.LIVE):
        raise Forbidden("this key is of the other mode: leave Gateway-Mode out, or use a key of that mode")
    whole = found.everywhere and TENANT_HEADER.lower() not in request.headers
    return replace(found, name=tenant, mode=Mode(mode), whole=whole)


class Allow:
    """Lets callers of these roles in, and admins, whose tenant there is."""

    def __init__(
        self, roles: tuple[Role, ...], *, any_tenant: bool = False, whole: bool = False, aside: bool = False
    ) -> None:
        """`whole`: a key of the deployment need not name a tenant. `aside`: over the connection no load takes."""
        self.roles = frozenset({*roles, Role.ADMIN})
        self._any_tenant = any_tenant
        self._whole = whole
        self._aside = aside

    async def __call__(self, request: Request) -> Caller:
        """Give the caller; Unauthorised, Forbidden, or NotFound for a tenant."""
        used = services(request)
        setup = used.setup_aside if self._aside else used.setup
        found = await caller(request, setup)
        if found.role not in self.roles:
            raise Forbidden
        if found.everywhere and not self._any_tenant and not (self._whole and found.whole):
            await setup.need_tenant(found.name)
        return found


def local_or(*roles: Role) -> Any:
    """Nobody in particular from this machine; from elsewhere a caller of these roles, or an admin."""
    guard = Allow(roles)

    async def check(request: Request) -> None:
        if not _is_local(request):
            await guard(request)

    return Depends(check)


def _is_local(request: Request) -> bool:
    try:
        return request.client is not None and ip_address(request.client.host).is_loopback
    except ValueError:
        return False


_COMPLIANCE = (Role.COMPLIANCE, Role.COMPLIANCE_APPROVER)

ByService = Annotated[Caller, Depends(Allow((Role.SERVICE,)))]
ByOps = Annotated[Caller, Depends(Allow((Role.OPS,)))]
ByOpsOfAny = Annotated[Caller, Depends(Allow((Role.OPS,), any_tenant=True))]
ByServiceOrOps = Annotated[Caller, Depends(Allow((Role.SERVICE, Role.OPS)))]
ByCompliance = Annotated[Caller, Depends(Allow(_COMPLIANCE))]
ByOpsOrCompliance = Annotated[Caller, Depends(Allow((Role.OPS, *_COMPLIANCE)))]
_PAUSING = (Role.OPS, *_COMPLIANCE[:1])
ByPauser = Annotated[Caller, Depends(Allow(_PAUSING, whole=True))]
ByPauserAside = Annotated[Caller, Depends(Allow(_PAUSING, whole=True, aside=True))]
ByTuner = Annotated[Caller, Depends(Allow((Role.OPS,), whole=True))]
ByAnyone = Annotated[Caller, Depends(Allow(tuple(Role)))]
ByAdmin = Annotated[Caller, Depends(Allow((), any_tenant=True))]
"""Callers by role, for routes to name; an admin is let in everywhere."""
