"""Delivery status notifications (RFC 3464), as mail servers send them: which mail of ours, and what became of it.

Anybody who knows the return path can have a mail read here. So its three layers (the mail, its parts, the fields of
each recipient) are taken apart one below the other, each no deeper and no longer than a report is, and only by the
standard library's parser of header lines: its parser of whole mails calls itself for each part within a part, and
those of `email.policy.default` for each comment within a comment.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from email.message import Message
from email.parser import HeaderParser

MAX_MAIL = 256 * 1024
"""Bytes that are looked at: what was returned of the mail comes last and may be cut."""
MAX_PARTS = 8
MAX_RECIPIENTS = 64
MAX_TYPE = 998
"""Characters of a Content-Type; a line may have as many (RFC 5322 §2.1.1)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fate:
    """What a report says of one recipient: `action` (RFC 3464 §2.3.3, lower case) and its reason.

    `code` is the basic code that a mail server gave (RFC 5321 §4.2), `enhanced` the status (RFC 3463), each "" where
    there is none.
    """

    action: str
    code: str = ""
    enhanced: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A report about the mail of one attempt; it names one recipient at least."""

    ref: str
    fates: tuple[Fate, ...]


def read(mail: bytes) -> Report | None:
    """The report that a mail is, or None where it is none or about no attempt. Raises nothing; keeps no address."""
    parts = _parts(mail[:MAX_MAIL].decode("latin-1"))
    told = next((part for part in parts if part.get_content_type() in _STATUS), None)
    if told is None:
        return None
    about, *recipients = [_head(block) for block in _BLANK.split(_text(told).strip(), MAX_RECIPIENTS)]
    ref = _REF.fullmatch(about.get("Original-Envelope-Id", "").strip()) or _returned(parts)
    fates = tuple(_fate(fields) for fields in recipients if "Action" in fields)
    return Report(ref=ref[1], fates=fates) if ref and fates else None


def _parts(mail: str) -> list[Message]:
    """The parts of a multipart/report (RFC 6522), which is always the outermost; none of any other mail."""
    top = _head(mail)
    kind = top.get("Content-Type", "")
    if len(kind) > MAX_TYPE or top.get_content_type() != "multipart/report":
        return []
    found = _BOUNDARY.search(kind)
    if found is None:
        return []
    line = re.compile(rf"^--{re.escape(found[1] or found[2])}(?:--)?[ \t]*\r?\n", re.MULTILINE)
    return [_head(part) for part in line.split(str(top.get_payload()), MAX_PARTS)[1:]]


def _head(text: str) -> Message:
    """Header lines as a message; whatever follows them is its text."""
    return HeaderParser().parsestr(text)


def _text(part: Message) -> str:
    """What a part holds, without its transfer encoding."""
    decoded = part.get_payload(decode=True)
    return decoded.decode("latin-1") if isinstance(decoded, bytes) else ""


def _returned(parts: list[Message]) -> re.Match[str] | None:
    """Our ref in the Message-ID of the mail that a report is about, or of the headers that came back of it."""
    for part in parts:
        if part.get_content_type() in _RETURNED:
            return _MESSAGE_ID.match(_head(_text(part)).get("Message-ID", ""))
    return None


def _fate(fields: Message) -> Fate:
    """What is said of one recipient. A status that tells no more than its class gives way to the server's own code."""
    action = _WORD.match(fields.get("Action", ""))
    status = _ENHANCED.match(fields.get("Status", ""))
    said = _SMTP.match(fields.get("Diagnostic-Code", ""))
    enhanced, code = status[1] if status else "", said[1] if said else ""
    if said and said[2] and (not enhanced or enhanced.endswith(".0.0")):
        enhanced = said[2]
    if enhanced and code[:1] != enhanced[:1]:
        code = ""
    return Fate(action=action[1].lower() if action else "", code=code, enhanced=enhanced)


_STATUS = frozenset({"message/delivery-status", "message/global-delivery-status"})
_RETURNED = frozenset({"text/rfc822-headers", "message/rfc822", "message/global-headers", "message/global"})
"""Those with `global` are for addresses beyond ASCII (RFC 6533)."""
_BOUNDARY = re.compile(r';\s*boundary\s*=\s*(?:"([^"\r\n]+)"|([^\s";]+))', re.IGNORECASE)
_BLANK = re.compile(r"\n[ \t\r]*\n")
_REF = re.compile(r"(at_[0-9A-Z]{26})")
_MESSAGE_ID = re.compile(r"\s*<(at_[0-9A-Z]{26})@")
_WORD = re.compile(r"\s*([A-Za-z]{1,20})\b")
_ENHANCED = re.compile(r"\s*([245]\.[0-9]{1,3}\.[0-9]{1,3})\b")
_SMTP = re.compile(
    r"\s*smtp\s*;\s*([245][0-9]{2})\b(?:[ -]\s*([245]\.[0-9]{1,3}\.[0-9]{1,3})\b)?", re.IGNORECASE
)
"""The reply of a mail server as a Diagnostic-Code has it: `smtp; 550 5.1.1 …`, or `550-5.1.1` where it has lines."""
