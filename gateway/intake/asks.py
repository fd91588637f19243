"""What intake asks of the world: a transaction, keys, blind indexes, bindings, the bell."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from gateway.domain import Channel, Tenant
from gateway.intake.rows import Answer, Borrower, Debt, Joined, Known, Move, Waiting
from gateway.ports import Entry, Moment
from gateway.templating import Template

T = TypeVar("T")

Row = Mapping[str, Any]
"""A row ready for its table, by column."""


class IntakeTx(Protocol):
    """One transaction of one tenant. All calls are batched; locks are taken in the order of ids."""

    moment: Moment

    async def append(self, entries: Sequence[Entry]) -> None:
        """Write records of the send log."""

    async def answers(self, route: str, keys: Sequence[str]) -> dict[str, Answer]:
        """What these idempotency keys were answered before."""

    async def claim(self, route: str, answers: Mapping[str, Answer]) -> None:
        """Keep these answers."""

    async def lock_persons(self, borrowers: Sequence[str], blinds: Sequence[bytes], *, share: bool) -> Known:
        """Lock the persons of these; with `share`, only against change."""

    async def join(self, joined: Joined) -> None:
        """Make persons, name what they show, and merge."""

    async def borrowers(self, ids: Sequence[str], *, lock: bool) -> dict[str, Borrower]:
        """Borrowers with their addresses."""

    async def put_borrowers(self, rows: Sequence[Borrower], *, new: set[str], addressed: set[str]) -> None:
        """Write borrowers; the addresses of those `addressed` are replaced."""

    async def debts(self, ids: Sequence[str], *, lock: str) -> dict[str, Debt]:
        """Debts; `lock` is `none`, `share` (they stay as they are) or `write`."""

    async def put_debts(self, rows: Sequence[Debt], *, new: set[str]) -> None:
        """Write debts."""

    async def add_debt_events(self, rows: Sequence[Row]) -> None:
        """Keep what happened to debts."""

    async def approvals(self, names: Sequence[str]) -> dict[tuple[str, int, str], bool]:
        """Approval by template, version and content hash, where somebody said."""

    async def add_reminders(self, rows: Sequence[Row]) -> None:
        """Write new reminders."""

    async def waiting(self, *, debts: Sequence[str] = (), borrowers: Sequence[str] = ()) -> list[Waiting]:
        """Reminders of these that are not over: waiting, deferred, or with a provider now."""

    async def held(self, *, debts: Sequence[str] = (), borrowers: Sequence[str] = ()) -> list[Waiting]:
        """The same, locked until this transaction ends; not for whoever has locked a debt."""

    async def move(self, moves: Sequence[Move]) -> None:
        """Set when reminders go, as long as they were not called."""

    async def cancel(self, name: str) -> Waiting | None:
        """Take back what is to come of a reminder; what it is then, None when nothing is."""

    async def state(self, name: str) -> tuple[str, str | None] | None:
        """A reminder's state, and its reason."""

    async def reservations(self, ids: Sequence[str]) -> dict[str, str]:
        """Reservations that no contact has named yet → their borrower."""

    async def add_contacts(self, rows: Sequence[Row], used: Sequence[str]) -> None:
        """Write contacts made elsewhere, and use up the reservations that they name."""


class IntakeStore(Protocol):
    """Where intake writes."""

    async def run(self, tenant: Tenant, work: Callable[[IntakeTx], Awaitable[T]]) -> T:
        """Do the work in one transaction, and again when another request was first."""


class SubjectKey(Protocol):
    """The key of one borrower."""

    def seal(self, clear: bytes, *, table: str, column: str, row: str) -> bytes:
        """Encrypt, bound to the place."""

    def open(self, sealed: bytes, *, table: str, column: str, row: str) -> bytes:
        """Decrypt what was sealed for that place."""


class Vault(Protocol):
    """Where borrowers' keys are kept; written before the data, one commit a batch."""

    async def keys_for(
        self, tenant: Tenant, subjects: Sequence[str], *, create: bool
    ) -> Mapping[str, SubjectKey]:
        """The keys of these borrowers; those without one are left out unless `create`."""


class Blinds(Protocol):
    """Keyed fingerprints to find by."""

    def blind(self, kind: str, value: str) -> bytes:
        """The fingerprint of a normalised value of a kind."""


Blind = Callable[[str, str], bytes]
"""Blinds.blind."""


class Bindings(Protocol):
    """Whether accounts can carry a template."""

    def bound(self, tenant: Tenant, template: Template, channel: Channel) -> bool:
        """Whether an account of this channel can: it takes free text, or its provider has the template."""


class Wake(Protocol):
    """The bell."""

    def ring(self, channels: Iterable[str]) -> None:
        """Say that these channels have work; never waits, never fails."""
