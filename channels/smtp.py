"""E-mail over SMTP (RFC 5321) to one relay.

The phases are driven one by one, so that *not sent* and *unknown* are told apart: until the mail's text
is on its way nothing can have been accepted, and from then on only a reply says what became of it. One
mail has one recipient.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from ipaddress import ip_address
from typing import Annotated, ClassVar, Literal
from urllib.parse import urlsplit

from aiosmtplib import SMTP, SMTPConnectError, SMTPResponse, SMTPResponseException, SMTPServerDisconnected
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, FilePath, SecretStr, model_validator

from channels import _dsn, _one_click
from channels._http import read_settings
from channels._mail import Letterhead, Mail, Unfit, build, hostile, mailbox
from channels._pipeline import write_together
from channels._relay import FAILURES, Bounds, Link, Pool, Refused, Relay
from gateway.domain import Account, Channel, Handed, HandOver, Message, Outcome, Receipt
from gateway.errors import SetupError
from gateway.ports import Answer, Callback, Checked, Script, Tools


class Phase(StrEnum):
    """Where a reply came: `connect` is all before MAIL, `dot` all after the mail's text, `report` what came later."""

    CONNECT = "connect"
    MAIL = "mail"
    RCPT = "rcpt"
    DATA = "data"
    DOT = "dot"
    REPORT = "report"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What a reply means for the attempt; see `Handed`."""

    ending: HandOver
    retry_after: timedelta | None = None
    reach: str | None = None


def _later(reach: str, **span: int) -> Row:
    return Row(ending=HandOver.RETRY_AFTER, retry_after=timedelta(**span), reach=reach)


_DEAD = Row(ending=HandOver.PERMANENT_RECIPIENT)
_TEXT = Row(ending=HandOver.CONTENT)
_SET_UP = Row(ending=HandOver.CONFIG)

REPLIES: Mapping[str, Row] = {
    # the relay, or this mailbox, cannot take it now
    "421": _later("rate", minutes=1),
    "421 4.7.1": _later("rate", minutes=5),
    "4.3": _later("rate", minutes=5),
    "4.4": _later("rate", minutes=1),
    "4.5.3": _later("rate", minutes=1),
    "4.7.28": _later("rate", hours=1),
    "4.2.0": _later("recipient", minutes=5),
    "4.2.1": _later("recipient", hours=4),
    "4.2.2": _later("recipient", hours=4),
    "4.7.1": _later("recipient", minutes=5),
    "4 rcpt": _later("recipient", minutes=5),
    "4": _later("rate", minutes=1),
    # the address
    "5.1.1": _DEAD,
    "5.1.2": _DEAD,
    "5.1.3": _DEAD,
    "5.1.6": _DEAD,
    "5.1.10": _DEAD,
    "5.2.1": _DEAD,
    "5.2.2": _DEAD,
    "5 rcpt": _DEAD,
    # the text
    "5.2.3": _TEXT,
    "5.3.4": _TEXT,
    "552 mail": _TEXT,
    "5.7.0 dot": _TEXT,
    "5.7.1 dot": _TEXT,
    "5 data": _TEXT,
    "5 dot": _TEXT,
    # the set-up: sender, credentials, the relay's policy, our own syntax
    "5.1.7": _SET_UP,
    "5.1.8": _SET_UP,
    "5.5": _SET_UP,
    "5.7": _SET_UP,
    "501": _SET_UP,
    "503": _SET_UP,
    "530": _SET_UP,
    "534": _SET_UP,
    "535": _SET_UP,
    "555": _SET_UP,
    "5": _SET_UP,
    # no refusal that SMTP knows
    "unknown dot": Row(ending=HandOver.UNKNOWN),
    "unknown": Row(ending=HandOver.NOT_SENT),
}
"""Rows by basic code (RFC 5321 §4.2), enhanced code or its first two parts (RFC 3463), and phase."""

STATUSES: Mapping[str, Outcome] = {
    "delivered": Outcome.DELIVERED,
    "relayed": Outcome.ACCEPTED,
    "expanded": Outcome.ACCEPTED,
    "delayed": Outcome.ACCEPTED,
    "unknown": Outcome.UNKNOWN,
    "failed": Outcome.FAILED,
}
"""Action of a report (RFC 3464 §2.3.3) → outcome; where a mail has several, the first of these holds."""

_ENHANCED = re.compile(r"([245])\.\d{1,3}\.\d{1,3}\b")


def classify(phase: Phase, code: int, text: str) -> Handed:
    """What a refusal means. Its text is not kept: it may name people."""
    digit = str(code)[:1]
    found = _ENHANCED.match(text)
    enhanced = found.group() if found and found[1] == digit else ""
    row = _row(phase, f"{code}", enhanced)
    word = f"{code} {enhanced}".rstrip()
    return Handed(ending=row.ending, code=word, retry_after=row.retry_after, reach=row.reach)


def _row(phase: Phase, code: str, enhanced: str) -> Row:
    digit = (code or enhanced)[:1]
    keys = [f"{code} {phase}", code, f"{digit} {phase}", digit, f"unknown {phase}", "unknown"]
    if enhanced:
        keys[:0] = [f"{code} {enhanced}", f"{enhanced} {phase}", enhanced, enhanced.rpartition(".")[0]]
    row = next(REPLIES[key] for key in keys if key in REPLIES)
    if row is _DEAD and phase in {Phase.CONNECT, Phase.MAIL}:
        return REPLIES[digit]  # the relay had not heard of the recipient yet
    return row


def receipt(report: _dsn.Report) -> Receipt:
    """What a report says of its attempt.

    An address may stand for several mailboxes: it is dead where all are, and whoever was reached was reached.
    """
    known = [(fate.action if fate.action in STATUSES else "unknown", fate) for fate in report.fates]
    order = list(STATUSES)
    action, fate = min(known, key=lambda one: order.index(one[0]))
    rows = [_row(Phase.REPORT, one.code, one.enhanced) for one in report.fates]
    return Receipt(
        outcome=STATUSES[action],
        ref=report.ref,
        code=f"{fate.code} {fate.enhanced}".strip() or action,
        address_dead=action == "failed" and all(row is _DEAD for row in rows),
    )


def _handed(refusal: Refused | SMTPResponseException) -> Handed:
    """The library raises replies itself only while it connects; later ones are read here."""
    if isinstance(refusal, Refused):
        return refusal.handed
    return classify(Phase.CONNECT, refusal.code, refusal.message)


def _word(failure: BaseException) -> str:
    """One word for a failure, without the server's text."""
    match failure.__cause__ or failure:
        case ssl.SSLCertVerificationError():
            return "tls_certificate"
        case ssl.SSLError():
            return "tls"
    match failure:
        case SMTPConnectError():
            return "connect"
        case TimeoutError():
            return "timeout"
        case ConnectionError():
            return "disconnected"
    return "protocol"


def _own_mailbox(value: str) -> str:
    address = mailbox(value)
    if address is None or not address.isascii():
        raise ValueError("give a plain address, local@domain.tld, with its local part in ASCII")
    return address


def _display_name(value: str) -> str:
    if hostile(value):
        raise ValueError("leave out control characters, bidirectional overrides and '=?'")
    return value.strip()


def _relay_url(value: str) -> str:
    found = _URL.fullmatch(value)
    if found is None or not 0 < int(found["port"] or 1) < 65536:
        raise ValueError("give smtp://host:port or smtps://host:port; username and password are credentials")
    return value


_URL = re.compile(r"smtps?://(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+)(:(?P<port>[0-9]{1,5}))?")

DEFAULT_PORTS = {"smtp": 587, "smtps": 465}
"""Submission with STARTTLS (RFC 6409), and TLS from the start (RFC 8314)."""

Mailbox = Annotated[str, AfterValidator(_own_mailbox)]


class Settings(BaseModel):
    """An account's sender, endpoint, credentials and settings. Off loopback there is always TLS."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    sender: Mailbox
    endpoint: Annotated[str, AfterValidator(_relay_url)]
    username: str | None = None
    password: SecretStr | None = None
    from_name: Annotated[str, AfterValidator(_display_name)] = Field("", max_length=100)
    reply_to: Mailbox | None = None
    return_path: Mailbox | None = None
    """A mailbox of the account's own whose mails are posted to its callback URL; unset, reports of success, which would
    come one for each mail, are not asked for."""
    start_tls: Literal["auto", "always"] = "auto"
    """`always`: STARTTLS on loopback, too."""
    ca_file: FilePath | None = None
    """PEM file of the only authority to trust, in place of the system's."""
    pool_size: int = Field(16, ge=1, le=128)
    """Connections, each for one mail at a time."""

    @model_validator(mode="after")
    def _pair(self) -> Settings:
        if (self.username is None) != (self.password is None):
            raise ValueError("give both username and password, or neither")
        return self


def _relay(account: str, settings: Settings) -> Relay:
    url = urlsplit(settings.endpoint)
    host = url.hostname or ""
    tls = url.scheme == "smtps" or settings.start_tls == "always" or not _is_loopback(host)
    try:
        context = ssl.create_default_context(cafile=settings.ca_file) if tls else None
    except ssl.SSLError:
        raise SetupError(f"account {account} (smtp): ca_file holds no certificate in PEM form") from None
    secret = settings.password
    return Relay(
        host=host,
        port=url.port or DEFAULT_PORTS[url.scheme],
        helo=settings.sender.rpartition("@")[2],
        tls=context,
        from_start=url.scheme == "smtps",
        login=(settings.username, secret.get_secret_value()) if settings.username and secret else None,
    )


def _is_loopback(host: str) -> bool:
    with suppress(ValueError):
        return ip_address(host).is_loopback
    return host == "localhost"


class Adapter:
    """E-mail through one relay.

    Relays try for up to five days: an accepted mail of which no report comes by then is taken as sent. That it was
    delivered also shows from its reader's unsubscribing.
    """

    channel: ClassVar[Channel] = Channel.EMAIL
    takes_free_text: ClassVar[bool] = True
    technology: ClassVar[str | None] = None
    provider_signs: ClassVar[bool] = False
    final: ClassVar[frozenset[Outcome]] = frozenset({Outcome.DELIVERED, Outcome.FAILED, Outcome.REJECTED})
    final_after: ClassVar[timedelta] = timedelta(days=5)
    call_timeout: ClassVar[timedelta] = timedelta(seconds=85)
    reach: ClassVar[timedelta] = timedelta(0)

    def __init__(
        self,
        account: Account,
        tools: Tools,
        bounds: Bounds | None = None,
    ) -> None:
        settings = read_settings(Settings, account)
        self._letterhead = Letterhead(
            sender=settings.sender,
            name=settings.from_name,
            reply_to=settings.reply_to,
            return_path=settings.return_path,
        )
        self._notify = "NOTIFY=FAILURE,DELAY" if settings.return_path is None else _ALL_ENDS
        self._callback_token = tools.callback_token
        self._relay = _relay(account.name, settings)
        self._bounds = bounds or Bounds()
        self._pool = Pool(self._relay, settings.pool_size, self._bounds)
        self._loop = asyncio.get_running_loop()

    @property
    def at_once(self) -> int:
        """As many as the pool has connections."""
        return self._pool.size

    async def send(self, message: Message) -> Handed:
        """Hand one mail to the relay, once."""
        if message.now >= message.deliver_by:
            return _EXPIRED
        try:
            return await self._hand_over(build(self._letterhead, message), message)
        except Unfit as unfit:
            return unfit.handed
        except (Refused, SMTPResponseException) as refusal:
            return _handed(refusal)
        except FAILURES as failure:
            return Handed(ending=HandOver.NOT_SENT, code=_word(failure))

    async def _hand_over(self, mail: Mail, message: Message) -> Handed:
        latest = self._loop.time() + (message.deliver_by - message.now).total_seconds()
        async with asyncio.timeout(self._bounds.approach) as limit:
            while True:
                async with self._pool.lend() as link:
                    left_s = int(latest - self._loop.time())
                    options = _mail_options(link.smtp, mail, message.ref, left_s)
                    if not await _approach(link, mail, options, self._notify):
                        continue
                    if self._loop.time() >= latest:
                        link.smtp.close()
                        raise Refused(_EXPIRED)
                    if limit.expired():  # its cancellation was lost to a reply of the same instant
                        raise TimeoutError
                    limit.reschedule(None)
                    return await self._finish(link.smtp, mail)

    async def _finish(self, smtp: SMTP, mail: Mail) -> Handed:
        """The text and the final dot. SMTP.data() would not tell whether a failure came before them."""
        if smtp.protocol is None:
            raise SMTPServerDisconnected("lost after DATA")
        smtp.protocol.write(mail.data.replace(b"\r\n.", b"\r\n..") + b".\r\n")  # raises only if nothing left
        try:
            reply = await smtp.protocol.read_response(timeout=self._bounds.dot)
        except FAILURES as failure:
            smtp.close()
            return Handed(ending=HandOver.UNKNOWN, code=_word(failure))
        if reply.code // 100 != 2:
            raise Refused(classify(Phase.DOT, reply.code, reply.message))
        found = _QUEUE_ID.search(reply.message)
        return Handed(ending=HandOver.ACCEPTED, provider_id=found[found.lastindex or 0] if found else None)

    async def receive(self, callback: Callback, script: Script) -> Answer:  # noqa: ARG002 (the seam's signature)
        """A report, at the account's own address, or one-click unsubscribing; the caller checked either's token.

        What is no report, or about no mail of ours, is answered like any other: a mail server would send it again.
        """
        if callback.ref != self._callback_token:
            return _one_click.answer(callback)
        if callback.method != "POST":
            return Answer(status=405)
        report = _dsn.read(callback.body)
        return Answer(receipts=(receipt(report),) if report else ())

    async def check(self) -> Checked:
        """Connect, log in, say NOOP and part; no mail is begun."""
        where = f"{self._relay.host}:{self._relay.port}"
        try:
            async with asyncio.timeout(self._bounds.approach):
                await self._relay.visit()
        except (Refused, SMTPResponseException) as refusal:
            code = _handed(refusal).code or ""
            advice = _ADVICE.get(code, "check username, password, and that this host may send there")
            return Checked(ok=False, word=f"{where} refuses ({code}); {advice}")
        except FAILURES as failure:
            code = _word(failure)
            advice = _ADVICE.get(code, "check the endpoint and the network")
            return Checked(ok=False, word=f"{where} was not reached ({code}); {advice}")
        how = "over TLS" if self._relay.tls else "without TLS"
        return Checked(ok=True, word=f"{where} answers {how}{', logged in' if self._relay.login else ''}")

    async def aclose(self) -> None:
        """Let go of connections."""
        await self._pool.aclose()


_ALL_ENDS = "NOTIFY=SUCCESS,FAILURE,DELAY"
_EXPIRED = Handed(ending=HandOver.EXPIRED, code="deliver_by")

_QUEUE_ID = re.compile(
    r"queued as ([\w.-]{1,64})|\bid=([\w.-]{1,64})|InternalId=(\d{1,64})|ok:? +([\w.-]{8,64})$",
    re.ASCII | re.IGNORECASE,
)
"""The queue id as Postfix, Exim, Exchange and Amazon SES write it."""

_ADVICE = {
    "538": 'it takes a log-in only over TLS; set start_tls = "always"',
    "starttls_not_offered": "turn STARTTLS on there, or give smtps:// if that port starts with TLS",
    "auth_not_offered": "it offers no log-in that we know; take the credentials out or use another port",
    "tls_certificate": "its certificate is not valid for that name; mend it or give its authority as ca_file",
    "tls": "that port may not speak TLS from the start; try smtp://",
}


Ask = Callable[[bytes], Awaitable[SMTPResponse]]


async def _approach(link: Link, mail: Mail, mail_options: list[str], notify: str) -> bool:
    """MAIL, RCPT and DATA, at once where the relay offers it.

    False when a connection that served before is over at MAIL, which says nothing about this mail.
    """
    smtp = link.smtp
    if mail.utf8 and not smtp.supports_extension("smtputf8"):
        raise Refused(Handed(ending=HandOver.PERMANENT_RECIPIENT, code="smtputf8_not_offered"))
    rcpt_options = [notify] if smtp.supports_extension("dsn") else []
    begin = " ".join([f"MAIL FROM:<{mail.sender}>", *mail_options]).encode()
    name = " ".join([f"RCPT TO:<{mail.recipient}>", *rcpt_options]).encode()
    try:
        ask: Ask = smtp.execute_command
        if smtp.supports_extension("pipelining"):
            ask = (await write_together(smtp, begin, name, b"DATA")).ask
        await _say(ask, Phase.MAIL, begin)
    except (Refused, SMTPServerDisconnected):
        if link.mails == 0 or smtp.is_connected:
            raise
        return False
    await _say(ask, Phase.RCPT, name)
    await _say(ask, Phase.DATA, b"DATA", positive=3)
    return True


async def _say(ask: Ask, phase: Phase, command: bytes, *, positive: int = 2) -> None:
    """One command; raises Refused unless the reply's first digit is `positive`."""
    reply = await ask(command)
    if reply.code // 100 != positive:
        raise Refused(classify(phase, reply.code, reply.message))


def _mail_options(smtp: SMTP, mail: Mail, ref: str, left_s: int) -> list[str]:
    """SIZE (RFC 1870), SMTPUTF8 (RFC 6531), ENVID (RFC 3461), BY (RFC 2852): what is offered and needed."""
    offered, options = smtp.esmtp_extensions, []
    if "size" in offered:
        options.append(f"SIZE={len(mail.data)}")
    if mail.utf8:
        options.append("SMTPUTF8")
    if "dsn" in offered:
        options += ["RET=HDRS", f"ENVID={ref}"]
    least = offered.get("deliverby")
    if least is not None and left_s > _number(least):
        options.append(f"BY={left_s};R")
    return options


def _number(text: str) -> int:
    return int(text) if re.fullmatch("[0-9]{1,9}", text) else 0
