"""What the core asks of the world: one narrow protocol per thing that has more than one body."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import field
from datetime import datetime, timedelta
from typing import Any, ClassVar, Protocol

from gateway.domain import Account, Channel, Handed, Message, NotShown, Outcome, Receipt, Tenant
from gateway.masking import Pii
from gateway.values import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """Now, twice: the database's clock (leases, permits, quarantine) and the policy clock (what rules see)."""

    real: datetime
    policy: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What a record of the send log says. `body` holds no personal data; `clear` holds what is only committed to.

    `at` is the policy clock's instant. `kind`: accepted decision attempt outcome receipt opt_out cancelled expired
    borrower debt contact reservation config.
    """

    tenant: Tenant
    kind: str
    at: datetime
    reminder: str | None = None
    attempt: str | None = None
    borrower: str | None = None
    channel: str | None = None
    state: str | None = None
    reason: str | None = None
    ids: Mapping[str, str] = field(default_factory=dict)
    """Further ids that services chose, by kind (`debt`, `key`, `actor`): pseudonyms in the record."""
    body: Mapping[str, Any] = field(default_factory=dict)
    clear: Mapping[str, Pii[str]] = field(default_factory=dict)


class SharedTokens(Protocol):
    """A provider's access token, shared by all workers (Redis), with one fetch at a time per process.

    Values are secrets of the provider, never of a borrower.
    """

    async def get(self, name: str) -> str | None:
        """The stored token, or None when there is none or it has run out."""

    async def put(self, name: str, token: str, ttl: timedelta) -> None:
        """Store a token for `ttl`."""

    async def drop(self, name: str, token: str) -> None:
        """Forget it, only if the stored one is still `token`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Callback:
    """A provider's HTTP request to us. `url` is what the provider called: GATEWAY_PUBLIC_URL + path + query.

    `ref` is the last part of the path: an attempt's ref, or the account's callback token for
    providers that push for a whole account.
    """

    method: str
    url: str
    ref: str
    headers: Mapping[str, str]
    query: Mapping[str, str]
    body: bytes
    now: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What to answer a provider, and what its request said. A request that fails its check answers 403."""

    status: int = 204
    content_type: str = "text/plain"
    body: bytes = b""
    receipts: tuple[Receipt, ...] = ()


Script = Callable[[], Awaitable[Pii[str] | None]]
"""Gives the second stage of the attempt a callback names (voice, after 1 was pressed)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """What `account check` found: whether the credentials work, and one line for a person."""

    ok: bool
    word: str


class Adapter(Protocol):
    """One provider spoken to in its own tongue. Built inside a running loop; `aclose` when done.

    `send` never raises for anything the provider or the network does: every ending is a `Handed`.
    """

    channel: ClassVar[Channel]
    takes_free_text: ClassVar[bool]
    """False where the provider fills its own template: then a binding is needed."""
    technology: ClassVar[str | None]
    """Who speaks: `prerecorded` for a fixed text in an artificial voice, `ai_voice` for one that converses; None
    where nothing is spoken."""
    final: ClassVar[frozenset[Outcome]]
    """Outcomes after which nothing further changes."""
    final_after: ClassVar[timedelta]
    """After this an attempt's last known outcome is taken as final."""
    call_timeout: ClassVar[timedelta]
    """The longest a `send` may take."""
    reach: ClassVar[timedelta]
    """How long after hand-over the borrower may still be disturbed by it (voice: ring + talk)."""

    @property
    def at_once(self) -> int:
        """The most calls that it has open at the same moment: more would wait in it while their go grows old."""

    async def send(self, message: Message) -> Handed:
        """Hand one message to the provider, once."""

    async def aclose(self) -> None:
        """Let go of connections."""


class Checks(Protocol):
    """An adapter that can try its credentials without sending."""

    async def check(self) -> Checked:
        """Ask the provider something harmless."""


class Receives(Protocol):
    """An adapter whose provider calls back.

    `provider_signs`: the adapter checks a signature of the provider's own; where there is none, the gateway
    asks for the token of an attempt's link before it calls `receive`. An account's address ends in its own.
    """

    provider_signs: ClassVar[bool]

    async def receive(self, callback: Callback, script: Script) -> Answer:
        """Verify the request's signature, read it, and say what to answer."""


class LooksUp(Protocol):
    """An adapter whose provider can be asked what became of an unknown attempt."""

    async def look_up(self, ref: str, address: Pii[str], started_at: datetime) -> Receipt | NotShown | None:
        """The provider's word, or None when it cannot tell. Raises nothing for a provider's failure: None.

        `NotShown` only when whole lists were read and hold nothing since `started_at` that could be this attempt.
        """


class Recalls(Protocol):
    """An adapter whose provider may take back what it has not delivered yet."""

    async def cancel(self, provider_id: str) -> bool:
        """Ask for it back; whether the provider surely did. Raises nothing for a provider's failure: False."""


class SendsAgain(Protocol):
    """An adapter whose provider drops a second request of the same ref (WeChat's `client_msg_id`)."""

    again_within: ClassVar[timedelta]
    """How long after the first request the provider still knows the ref."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """What an adapter is given beside its account. `public_url` is GATEWAY_PUBLIC_URL, no slash at its end.

    `callback_token` is the unguessable last path part for providers that push per account.
    """

    tokens: SharedTokens
    public_url: str
    callback_token: str


class AdapterFactory(Protocol):
    """The class an adapter module calls `Adapter`; raises SetupError naming each missing setting."""

    def __call__(self, account: Account, tools: Tools) -> Adapter:
        """Check the account's settings and build."""
