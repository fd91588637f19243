"""What the routes call: one frozen object, filled by wiring."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from gateway.bodies import CheckIn
from gateway.domain import Account, Tenant
from gateway.intake import Intake
from gateway.intake.asks import Wake
from gateway.planning import Planning
from gateway.policy.tally import Tally
from gateway.ports import Answer
from gateway.store.assignments import Assignments
from gateway.store.keys import Setup
from gateway.store.pauses import Pauses
from gateway.store.poison import Replays
from gateway.store.quota_acts import Quotas
from gateway.store.reads import Reads
from gateway.store.top import Top
from gateway.store.unknowns import UnknownRows
from gateway.store.workers import Workers
from gateway.telemetry import Metrics
from gateway.unknowns import Unknowns
from gateway.whatif import Wanted


class Asks(Protocol):
    """Questions that decide without sending."""

    async def preview(self, tenant: Tenant, raw: object) -> Mapping[str, Any]:
        """What would be decided and rendered now; nothing is kept."""

    async def check(self, tenant: Tenant, body: CheckIn) -> Mapping[str, Any]:
        """Whether a contact may be made now, and the place that is kept for it."""


class Audits(Protocol):
    """The witness."""

    async def check(
        self, tenant: Tenant, since: datetime, until: datetime, *, after: str, limit: int
    ) -> Mapping[str, Any]:
        """What the sends of a page of persons came to."""


class Callbacks(Protocol):
    """Where providers' words come in."""

    async def receive(
        self,
        adapter: str,
        account: str,
        ref: str,
        *,
        method: str,
        target: str,
        headers: Mapping[str, str],
        body: bytes,
    ) -> Answer:
        """Verify and take in one request of a provider; `target` is its path and query as they came."""


class Simulation(Protocol):
    """The send log replayed."""

    async def page(self, tenant: Tenant, wanted: Wanted, *, after: str) -> tuple[Tally, str | None]:
        """What a proposal comes to for the persons after that one, and after whom to go on."""


class AccountDesk(Protocol):
    """Accounts, as operators see them."""

    async def listed(self, tenant: Tenant) -> Sequence[Mapping[str, Any]]:
        """A tenant's accounts, without credentials."""

    async def bring_in(self, accounts: Sequence[Account], *, who: str, reason: str) -> Sequence[str]:
        """Write accounts that are new or differ; the names of those written."""

    async def check(self, tenant: Tenant, name: str) -> Mapping[str, Any]:
        """Try an account's credentials without sending: {"name", "ok", "word"}; NotFound."""


class Admission(Protocol):
    """Backpressure."""

    def check(self, tenant: Tenant) -> None:
        """Overloaded when more of a tenant waits than can be done in time."""

    def room(self) -> None:
        """Overloaded while too many batches wait for their turn."""

    def turn(self) -> AbstractAsyncContextManager[None]:
        """A batch's turn to be taken in, whatever is due; Overloaded while too many wait for theirs."""


class Health(Protocol):
    """Whether this process can do its work."""

    async def missing(self) -> Mapping[str, str]:
        """What is not there, and what to do about it; empty when it is ready."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """Everything that the routes use. `setup_aside` is `setup` over the connection that no load takes.

    `caps` are the rules of OP.CAPS with the numbers they ship with; `packs` the ids of those that are loaded;
    `explain` tells a stored decision in a language; `monotonic` gives seconds.
    """

    intake: Intake
    reads: Reads
    top: Top
    unknowns: Unknowns
    unknown_rows: UnknownRows
    replays: Replays
    workers: Workers
    setup: Setup
    setup_aside: Setup
    pauses: Pauses
    quotas: Quotas
    planning: Planning
    assignments: Assignments
    asks: Asks
    simulation: Simulation
    audits: Audits
    callbacks: Callbacks
    accounts: AccountDesk
    admission: Admission
    health: Health
    metrics: Metrics
    wake: Wake
    explain: Callable[[Mapping[str, Any], str], str]
    caps: Mapping[str, int]
    packs: frozenset[str]
    clock_movable: bool
    entropy: Callable[[int], bytes]
    monotonic: Callable[[], float]
