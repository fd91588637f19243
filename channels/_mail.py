"""One reminder as the bytes of a mail (RFC 5322), made by parts and guarded against smuggled headers.

The standard library's `EmailMessage` is slow, and its serialisers have let encoded words become header
lines (CVE-2024-6923). Here every value is checked, written and read back before anything is sent.
"""

from __future__ import annotations

import re
from base64 import b64encode, encodebytes
from binascii import b2a_qp
from dataclasses import dataclass
from email.header import decode_header, make_header
from email.parser import HeaderParser
from email.utils import format_datetime
from unicodedata import category

from gateway.domain import Handed, HandOver, Message

MAX_TEXT = 256 * 1024
MAX_VALUE = 900
"""Characters of one header's value; a line may have 998 (RFC 5322 §2.1.1)."""


class Unfit(Exception):
    """No mail can be made of this; `handed` says what is wrong with it."""

    def __init__(self, ending: HandOver, code: str) -> None:
        super().__init__(code)
        self.handed = Handed(ending=ending, code=code)


@dataclass(frozen=True, slots=True, kw_only=True)
class Letterhead:
    """What all mails of one account share; addresses went through `mailbox`. `return_path`: the envelope's sender."""

    sender: str
    name: str = ""
    reply_to: str | None = None
    return_path: str | None = None

    @property
    def domain(self) -> str:
        """The sender's domain."""
        return self.sender.rpartition("@")[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mail:
    """A mail ready to be sent: CRLF line ends, no dots stuffed. `utf8`: it needs SMTPUTF8 (RFC 6531).

    `sender` and `recipient` are the envelope's.
    """

    sender: str
    recipient: str
    data: bytes
    utf8: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _Field:
    """A header: its name, the value a reader sees, and the value on the wire."""

    name: str
    value: str
    wire: str


_HOSTILE = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]|=\\?")
"""Controls, line and paragraph separators, bidirectional embeddings, overrides and isolates, lone
surrogates, and the start of an encoded word."""


def hostile(value: str) -> bool:
    """Whether a value may not stand in a header."""
    return _HOSTILE.search(value) is not None


def _clean(value: str) -> str:
    if hostile(value):
        raise Unfit(HandOver.CONTENT, "header_injection")
    if len(value) > MAX_VALUE:
        raise Unfit(HandOver.CONTENT, "header_too_long")
    return value


def _words(value: str) -> str:
    """Encoded words (RFC 2047), one a line, of 39 bytes at most so that a line keeps within 76 characters."""
    chunks, chunk = [], b""
    for character in value:
        raw = character.encode()
        if len(chunk) + len(raw) > 39:
            chunks.append(chunk)
            chunk = b""
        chunk += raw
    return "\r\n ".join(f"=?utf-8?b?{b64encode(part).decode()}?=" for part in [*chunks, chunk])


def _unstructured(name: str, value: str) -> _Field:
    plain = value.isascii() and len(value) <= 60
    return _Field(name=name, value=value, wire=value if plain else _words(value))


def _from(letterhead: Letterhead) -> _Field:
    address = f"<{letterhead.sender}>"
    if not letterhead.name:
        return _plain("From", address)
    plain = re.fullmatch(r"[A-Za-z0-9 ]{1,40}", letterhead.name)
    shown = letterhead.name if plain else _words(letterhead.name)
    return _Field(name="From", value=f"{letterhead.name} {address}", wire=f"{shown}\r\n {address}")


def _plain(name: str, value: str) -> _Field:
    return _Field(name=name, value=value, wire=value)


_LETTERS = {"Ll", "Lu", "Lt", "Lm", "Lo", "Mn", "Mc", "Nd"}
_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_LABEL = r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_LOCAL = re.compile(rf"{_ATOM}(\.{_ATOM})*")
_DOMAIN = re.compile(rf"({_LABEL}\.)+(?![0-9]){_LABEL}")


def _as_ascii(text: str) -> str:
    """Letters, marks and digits beyond ASCII as `x`, so that one pattern checks both kinds of address."""
    return "".join("x" if char > "\x7f" and category(char) in _LETTERS else char for char in text)


def mailbox(address: str) -> str | None:
    """The address with its domain in ASCII (RFC 5890), or None unless it is a plain `local@domain.tld`.

    Quoted local parts, address literals, comments and display names are not taken.
    """
    local, _, domain = address.rpartition("@")
    if not _LOCAL.fullmatch(_as_ascii(local)) or "=?" in local or not _DOMAIN.fullmatch(_as_ascii(domain)):
        return None
    try:
        domain = domain.encode("idna").decode().lower()
    except UnicodeError:
        return None
    size = len(local.encode())
    if size > 64 or size + 1 + len(domain) > 254 or not _DOMAIN.fullmatch(domain):
        return None
    return f"{local}@{domain}"


def build(letterhead: Letterhead, message: Message) -> Mail:
    """The mail of a message; raises Unfit for a hostile value, a wrong address or a text over the limit."""
    recipient = mailbox(message.address.reveal("to address the mail"))
    if recipient is None:
        raise Unfit(HandOver.PERMANENT_RECIPIENT, "address_syntax")
    encoding, body = _body(message.rendered.text.reveal("to send the mail"))
    fields = _fields(letterhead, message, recipient, encoding)
    head = "".join(f"{field.name}: {field.wire}\r\n" for field in fields)
    _read_back(head, fields)
    return Mail(
        sender=letterhead.return_path or letterhead.sender,
        recipient=recipient,
        data=head.encode() + b"\r\n" + body,
        utf8=not recipient.isascii(),
    )


def _fields(letterhead: Letterhead, message: Message, recipient: str, encoding: str) -> list[_Field]:
    subject = message.rendered.subject
    if subject is None or not (title := _clean(subject.reveal("to send the mail")).strip()):
        raise Unfit(HandOver.CONTENT, "subject_missing")
    unsubscribe = _clean(message.unsubscribe_url)
    if not re.fullmatch(r"https?://[!-;=?-~]+", unsubscribe):
        raise Unfit(HandOver.CONTENT, "header_injection")
    reply_to = [] if letterhead.reply_to is None else [_plain("Reply-To", f"<{letterhead.reply_to}>")]
    return [
        _from(letterhead),
        *reply_to,
        _plain("To", f"<{recipient}>"),
        _unstructured("Subject", title),
        _plain("Date", format_datetime(message.now)),
        _plain("Message-ID", _clean(f"<{message.ref}@{letterhead.domain}>")),
        _plain("List-Unsubscribe", f"<{unsubscribe}>"),
        _plain("List-Unsubscribe-Post", "List-Unsubscribe=One-Click"),
        _plain("Auto-Submitted", "auto-generated"),
        _plain("MIME-Version", "1.0"),
        _plain("Content-Type", "text/plain; charset=utf-8"),
        _plain("Content-Transfer-Encoding", encoding),
    ]


def _body(text: str) -> tuple[str, bytes]:
    """The transfer encoding and the encoded text: what is all ASCII stays legible."""
    if len(text) > MAX_TEXT:
        raise Unfit(HandOver.CONTENT, "text_too_long")
    lines = text.replace("\r\n", "\n").replace("\r", "\n").rstrip("\n") + "\n"
    if lines.isascii():
        return "quoted-printable", b2a_qp(lines.encode(), istext=True).replace(b"\n", b"\r\n")
    return "base64", encodebytes(lines.replace("\n", "\r\n").encode()).replace(b"\n", b"\r\n")


def _read_back(head: str, fields: list[_Field]) -> None:
    """Refuse the mail unless a parser finds the headers that were meant, each as often, and nothing else."""
    parsed = HeaderParser().parsestr(head)
    found = sorted((name, _decoded(value)) for name, value in parsed.items())
    if parsed.get_payload() or found != sorted((field.name, field.value) for field in fields):
        raise Unfit(HandOver.CONTENT, "header_injection")


def _decoded(value: str) -> str:
    line = value.replace("\r\n ", " ")
    return str(make_header(decode_header(line))) if "=?" in line else line
