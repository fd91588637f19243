"""Connections to one SMTP relay: opened with TLS and log-in, kept, lent to one mail at a time."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from aiosmtplib import SMTP, SMTPException

from gateway.domain import Handed, HandOver

QUIT_S = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """How long things may take and connections may last, in seconds.

    `approach`: all that comes before the mail's text, waiting for a free connection, TLS and log-in
    included. `dot`: the reply to the final dot. Relays end connections that are `idle`, of an `age`, or have
    carried so many `mails`; one idle for longer than `trusted` is asked (RSET) before it is used.
    """

    approach: float = 20
    dot: float = 60
    trusted: float = 2
    reset: float = 5
    idle: float = 30
    age: float = 300
    mails: int = 100


class Refused(Exception):
    """The mail was not taken, for a reason that is known; the connection is still in step."""

    def __init__(self, handed: Handed) -> None:
        super().__init__(handed.code)
        self.handed = handed


FAILURES = (SMTPException, OSError, TimeoutError)
"""What a network, or a server that does not speak SMTP, makes of a conversation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Relay:
    """Where to connect and how: TLS from the start, by STARTTLS, or not (`tls` None)."""

    host: str
    port: int
    helo: str
    tls: ssl.SSLContext | None
    from_start: bool
    login: tuple[str, str] | None

    async def connect(self) -> SMTP:
        """A connection that is ready for MAIL; raises Refused or one of FAILURES."""
        smtp = SMTP(
            hostname=self.host,
            port=self.port,
            local_hostname=self.helo,
            use_tls=self.from_start,
            start_tls=False,
            tls_context=self.tls,
        )
        try:
            await self._greet(smtp)
        except BaseException:
            smtp.close()
            raise
        return smtp

    async def visit(self) -> None:
        """Connect, ask for nothing, and leave."""
        smtp = await self.connect()
        try:
            await smtp.noop()
            await smtp.quit()
        finally:
            smtp.close()

    async def _greet(self, smtp: SMTP) -> None:
        await smtp.connect()
        await smtp.ehlo()
        if self.tls is not None and not self.from_start:
            if not smtp.supports_extension("starttls"):
                raise Refused(Handed(ending=HandOver.CONFIG, code="starttls_not_offered"))
            await smtp.starttls()
            await smtp.ehlo()
        if self.login is not None:
            if not smtp.supported_auth_methods:
                raise Refused(Handed(ending=HandOver.CONFIG, code="auth_not_offered"))
            await smtp.login(*self.login)


@dataclass(slots=True)
class Link:
    """A connection and what its age is reckoned from; `mails` counts those it has carried."""

    smtp: SMTP
    born: float
    mails: int = 0
    in_step: bool = True
    idle_since: float = 0.0


class Pool:
    """At most `size` connections to one relay, each lent to one mail at a time, the newest used first."""

    def __init__(self, relay: Relay, size: int, bounds: Bounds) -> None:
        self._relay = relay
        self._bounds = bounds
        self.size = size
        self._room = asyncio.Semaphore(size)
        self._loop = asyncio.get_running_loop()
        self._idle: list[Link] = []
        self._sweep: asyncio.TimerHandle | None = None

    @asynccontextmanager
    async def lend(self) -> AsyncIterator[Link]:
        """A link that answers; it comes back unless its block was left by something other than Refused."""
        async with self._room:
            link = await self._usable() or Link(await self._relay.connect(), self._loop.time())
            try:
                yield link
            except Refused:
                link.in_step = False
                self._keep(link)
                raise
            except BaseException:
                link.smtp.close()
                raise
            self._keep(link)

    async def _usable(self) -> Link | None:
        while self._idle:
            link, ready = self._idle.pop(), False
            try:
                ready = await self._answers(link)
            finally:
                if not ready:
                    _part(link.smtp)
            if ready:
                return link
        return None

    async def _answers(self, link: Link) -> bool:
        now, bounds = self._loop.time(), self._bounds
        if not link.smtp.is_connected or now - link.born > bounds.age or link.mails >= bounds.mails:
            return False
        if link.in_step and now - link.idle_since < bounds.trusted:
            return True
        with suppress(*FAILURES):
            await link.smtp.rset(timeout=bounds.reset)
            link.in_step = link.smtp.is_connected
            return link.in_step
        return False

    def _keep(self, link: Link) -> None:
        link.mails += 1
        link.idle_since = self._loop.time()
        self._idle.append(link)
        if self._sweep is None:
            self._sweep = self._loop.call_later(self._bounds.idle, self._part_with_idle)

    def _part_with_idle(self) -> None:
        limit = self._loop.time() - self._bounds.idle
        for link in self._idle:
            if link.idle_since <= limit:
                _part(link.smtp)
        self._idle = [link for link in self._idle if link.smtp.is_connected]
        wait = self._bounds.idle / 4
        self._sweep = self._loop.call_later(wait, self._part_with_idle) if self._idle else None

    async def aclose(self) -> None:
        """Take leave of the relay on every idle connection."""
        if self._sweep is not None:
            self._sweep.cancel()
        idle, self._idle = self._idle, []
        await asyncio.gather(*(_quit(link.smtp) for link in idle))


async def _quit(smtp: SMTP) -> None:
    with suppress(*FAILURES):
        await smtp.quit(timeout=QUIT_S)
    smtp.close()


def _part(smtp: SMTP) -> None:
    """Take leave without waiting for the answer."""
    if smtp.protocol is not None and smtp.is_connected:
        smtp.protocol.write(b"QUIT\r\n")
    smtp.close()
