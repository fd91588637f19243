"""What a template is filled with, and what a value may be."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import date
from ipaddress import ip_address
from urllib.parse import urlsplit

from gateway.domain import Money
from gateway.errors import Fault
from gateway.masking import Pii
from gateway.values import dataclass

SUPPLIED = frozenset({"name", "creditor", "amount", "due_date", "dpd", "signature", "callback"})
"""What the gateway itself fills in. `signature` is nil unless the provider puts it in front of the text,
`callback` unless a number calls."""
FOR_ANYONE = frozenset({"name", "creditor", "callback"})
"""What may be said before it is known who listens: an e-mail's subject, a call before the keypress."""
LONGEST = 512

_UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u2028\u2029]"  # line breaks and other controls: headers, TwiML
    "|[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]"  # bidi overrides: text that reads as another
    "|[\ud800-\udfff]"  # half a character
    "|[【】]"  # a second signature in a Chinese SMS
    r"|=\?"  # an encoded word (RFC 2047) in a header
)
_NUMBER = re.compile(r"[+]?[0-9]{3,15}")
_SAFE_URL = re.compile(r"https://[A-Za-z0-9][A-Za-z0-9.-]*[A-Za-z0-9](?:/[!#-;=?A-Z\[\]_a-z~]*)?")
"""An absolute address that nothing further has to be asked of."""
_URL = re.compile(r"https?://[!#-;=?-\[\]_a-z~]+", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Values:
    """What one reminder says: `amount`, `due_date` and `dpd` (days past due, 0 before) of the debt now.

    `creditor` is the name the borrower knows it by; `facts` are what the reminder itself brought.
    """

    name: Pii[str]
    creditor: str
    amount: Money
    due_date: date
    dpd: int
    facts: Mapping[str, str]

    def context(self, signature: str | None, callback: str | None) -> dict[str, object]:
        """The variables of a template."""
        return {
            "name": self.name.reveal("the text of a reminder"),
            "creditor": self.creditor,
            "amount": self.amount,
            "due_date": self.due_date,
            "dpd": self.dpd,
            "signature": signature,
            "callback": callback,
            **self.facts,
        }

    def faults(self) -> Iterator[Fault]:
        """What in the names cannot go into a message."""
        name = self.name.reveal("a check of what goes into a text")
        for at, value in (("/borrower/name", name), ("/debt/creditor", self.creditor)):
            if not value.strip():
                yield Fault(at=at, code="fact_missing", message="every template needs this name; give it")
            elif not is_plain(value):
                yield Fault(at=at, code="fact_invalid", message=NOT_PLAIN)


NOT_PLAIN = f"give plain text of at most {LONGEST} characters: no control characters, no 【】, no =?"
NOT_URL = "give an absolute https:// address of at most 512 ASCII characters, without user or spaces"


def spoken(number: str) -> str | None:
    """A telephone number as a voice says it, digit by digit; None of what is no such number."""
    return " ".join(number.removeprefix("+")) if _NUMBER.fullmatch(number) else None


def is_plain(value: str) -> bool:
    """Whether a text may go into any message: bounded, one line, nothing that reads as something else."""
    return len(value) <= LONGEST and not _UNSAFE.search(value)


def is_url(value: str) -> bool:
    """Whether it is an absolute https address (http for this machine's own, for trials)."""
    if not is_plain(value):
        return False
    if _SAFE_URL.fullmatch(value):
        return True
    if not _URL.fullmatch(value):
        return False
    try:
        parts = urlsplit(value)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return False
    return bool(host) and "@" not in parts.netloc and (parts.scheme == "https" or _is_loopback(host or ""))


def fact_faults(declared: Iterable[str], facts: Mapping[str, object]) -> Iterator[Fault]:
    """Everything wrong with the facts for a template that declares these, without a word of what was sent."""
    names = sorted(declared)
    for name in names:
        at = f"/facts/{name}"
        value = facts.get(name)
        if value is None or value == "":
            yield Fault(at=at, code="fact_missing", message="the template needs this fact; give it")
        elif not isinstance(value, str) or not is_plain(value):
            yield Fault(at=at, code="fact_invalid", message=NOT_PLAIN)
        elif name.endswith("_url") and not is_url(value):
            yield Fault(at=at, code="fact_invalid", message=NOT_URL)
    if not set(facts) <= set(names):
        words = ", ".join(names) or "none"
        yield Fault(
            at="/facts", code="fact_unknown", message=f"this template's facts are: {words}; leave others out"
        )


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
