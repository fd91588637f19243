"""SMTP commands in one write (PIPELINING, RFC 2920), and the reply to each.

aiosmtplib reads one reply for each command that it writes and drops what comes along with it: while a group is under
way, what arrives on its connection is read here.
"""

from __future__ import annotations

import asyncio
import re
from typing import cast

from aiosmtplib import SMTP, SMTPResponse, SMTPServerDisconnected

GRACE_S = 1.0
"""How long the rest of a group is waited for once a command was refused."""
LIMIT = 32_768
"""What the replies to a group may have in bytes."""

_LINE = re.compile(rb"([0-9]{3})(?:(-)| |$)(.*)", re.DOTALL)
_CONTROL = re.compile(rb"[\x00-\x1f\x7f]")


class Group:
    """MAIL, RCPT and DATA that were written together; a reply that is none has the code -1, as in aiosmtplib."""

    def __init__(self, replies: dict[bytes, SMTPResponse]) -> None:
        self._replies = replies

    async def ask(self, command: bytes) -> SMTPResponse:
        """The reply to one of the commands; raises SMTPServerDisconnected where none came."""
        if command not in self._replies:
            raise SMTPServerDisconnected("lost within a group")
        return self._replies[command]


async def write_together(smtp: SMTP, mail: bytes, rcpt: bytes, data: bytes) -> Group:
    """Write the commands and wait for their replies, or for as many as there will be.

    The connection is closed unless each command has its reply and nothing came besides. It is closed, too, where DATA
    is accepted though MAIL or RCPT was not: RFC 2920 §3.1 has an empty mail sent there, in the hope that it is refused,
    but a connection that ends before the final dot cannot deliver anything to anybody (RFC 5321 §4.1.1.10).
    """
    commands = (mail, rcpt, data)
    if any(_CONTROL.search(command) for command in commands):
        raise ValueError("a command with a control character")
    protocol = smtp.protocol
    if protocol is None or protocol.transport is None or protocol.transport.is_closing():
        raise SMTPServerDisconnected("lost before MAIL")
    if protocol._buffer:  # noqa: SLF001 (a reply too many before: the library would take it for that to the text)
        smtp.close()
        raise SMTPServerDisconnected("out of step before MAIL")
    transport = cast(asyncio.Transport, protocol.transport)
    replies = _Replies(protocol, len(commands))
    transport.set_protocol(replies)
    try:
        transport.write(b"".join(command + b"\r\n" for command in commands))
        await replies.over
    finally:
        transport.set_protocol(protocol)
    if not replies.in_step():
        smtp.close()
    return Group(dict(zip(commands, replies.read, strict=False)))


class _Replies(asyncio.Protocol):
    """Reads the replies to so many commands; `over` is done when no more are waited for."""

    def __init__(self, owner: asyncio.BaseProtocol, wanted: int) -> None:
        self._loop = asyncio.get_running_loop()
        self.over: asyncio.Future[None] = self._loop.create_future()
        self.read: list[SMTPResponse] = []
        self._owner = owner
        self._wanted = wanted
        self._held = b""
        self._lines: list[bytes] = []
        self._room = LIMIT

    def in_step(self) -> bool:
        """Whether the server waits for what we are to say next."""
        if len(self.read) != self._wanted or self._held or self._lines:
            return False
        in_vain = self._is_refused() and self.read[-1].code // 100 == 3
        return not in_vain and all(reply.code not in {-1, 421} for reply in self.read)

    def data_received(self, data: bytes) -> None:
        """Read on; what is too much or no reply ends the waiting."""
        self._held += data
        self._room -= len(data)
        while b"\n" in self._held:
            line, _, self._held = self._held.partition(b"\n")
            self._take(line.rstrip(b"\r"))
        if len(self.read) >= self._wanted or self._room < 0 or any(reply.code < 0 for reply in self.read):
            self._end()
        elif self._is_refused():
            self._loop.call_later(GRACE_S, self._end)

    def connection_lost(self, exc: Exception | None) -> None:
        """No more will come; the library has to know, too."""
        self._end()
        self._owner.connection_lost(exc)

    def _is_refused(self) -> bool:
        return any(reply.code // 100 != 2 for reply in self.read[: self._wanted - 1])

    def _take(self, line: bytes) -> None:
        found = _LINE.fullmatch(line)
        if found is None:
            self.read.append(SMTPResponse(-1, ""))
            return
        self._lines.append(found[3])
        if found[2] is None:
            text = b"\n".join(self._lines).decode("utf-8", "surrogateescape")
            self.read.append(SMTPResponse(int(found[1]), text))
            self._lines = []

    def _end(self) -> None:
        if not self.over.done():
            self.over.set_result(None)
