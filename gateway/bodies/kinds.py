"""The kinds of value that bodies are made of: ids, instants, dates, money, places, addresses.

Each refuses with a stable code and a message that says what to send instead, and never repeats what was sent.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import lru_cache
from typing import Annotated, Any, NamedTuple

import phonenumbers
from pydantic import AfterValidator, BeforeValidator, Field, PlainValidator, StringConstraints, WithJsonSchema
from pydantic_core import PydanticCustomError

from gateway.masking import Pii, reads_as_personal, scrub
from gateway.policy.localtime import read_date, read_instant, zone_names
from gateway.policy.numbers import COUNTRY, NUMBER, number_place
from gateway.policy.zones import Clue, zones_of_place
from gateway.templating import is_plain


def fault(code: str, message: str) -> PydanticCustomError:
    """A refusal in pydantic's own form. Braces in the message would be taken for a format."""
    return PydanticCustomError(code, message)


def write_instant(instant: datetime) -> str:
    """RFC 3339 with `Z`; microseconds only where there are any."""
    return instant.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _by(read: Callable[[str], Any], code: str, message: str) -> BeforeValidator:
    def validate(value: Any) -> Any:
        found = read(value) if isinstance(value, str) else None
        if found is None:
            raise fault(code, message)
        return found

    return BeforeValidator(validate)


Instant = Annotated[
    datetime,
    _by(
        read_instant,
        "instant_invalid",
        "send an RFC 3339 instant with its offset: 2026-11-30T10:00:00+08:00",
    ),
]
Day = Annotated[date, _by(read_date, "date_invalid", "send a date: 2026-11-30")]


def impersonal(value: str) -> str:
    """Refuse an id that reads as somebody's: ids are shown in logs."""
    if reads_as_personal(value):
        raise fault(
            "personal_data",
            "it reads as a phone number, an e-mail or an id number: use an id that names nobody",
        )
    return value


Id = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9._:-]{1,64}$", max_length=64), AfterValidator(impersonal)
]
Key = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9._:/-]{1,128}$", max_length=128), AfterValidator(impersonal)
]
"""An idempotency key."""
Word = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,63}$", max_length=64)]
TemplateName = Word


def _plain(value: str) -> str:
    if not is_plain(value):
        raise fault("text_unsafe", "leave out line breaks, control characters, 【】 and =?")
    return value


def _reason(value: str) -> str:
    _plain(value)
    if scrub(value) != value or reads_as_personal(value):
        raise fault("personal_data", "leave phone numbers, e-mail addresses and id numbers out of a reason")
    return value


Reason = Annotated[str, StringConstraints(max_length=500), AfterValidator(_reason)]


def _pii(longest: int) -> Callable[[Any], Pii[str]]:
    def validate(value: Any) -> Pii[str]:
        if isinstance(value, Pii):
            return value
        if not isinstance(value, str):
            raise fault("wrong_type", "send text")
        if not value.strip() or len(value) > longest:
            raise fault("length_invalid", f"send 1 to {longest} characters")
        return Pii(_plain(value.strip()))

    return validate


def _secret(longest: int) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "minLength": 1, "maxLength": longest})


PersonName = Annotated[Pii[str], PlainValidator(_pii(100)), _secret(100)]
NationalId = Annotated[Pii[str], PlainValidator(_pii(32)), _secret(32)]
AddressValue = Annotated[Pii[str], PlainValidator(_pii(254)), _secret(254)]

Language = Annotated[str, StringConstraints(pattern=r"^[a-z]{2,3}(-[A-Z][a-z]{3})?(-([A-Z]{2}|\d{3}))?$")]


def _place(value: str) -> str:
    form = re.fullmatch(r"([A-Z]{2})(-[A-Z0-9]{1,3}){0,2}", value)
    if form is None or form[1] not in phonenumbers.SUPPORTED_REGIONS:
        raise fault("place_unknown", "send an ISO 3166 code: CN, CN-GD, US-NY; of a city: US-NY-NYC")
    return value


Place = Annotated[str, StringConstraints(max_length=10), AfterValidator(_place)]


def _zone(value: str) -> str:
    if value not in zone_names():
        raise fault("zone_unknown", "send an IANA time zone: Asia/Shanghai, America/New_York")
    return value


Zone = Annotated[str, StringConstraints(max_length=64), AfterValidator(_zone)]

_CURRENCIES = frozenset(
    re.findall(
        r"\w+",
        """
AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BHD BIF BMD BND BOB BRL BSD BTN BWP BYN BZD CAD
CDF CHF CLP CNY COP CRC CUP CVE CZK DJF DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD
GNF GTQ GYD HKD HNL HTG HUF IDR ILS INR IQD IRR ISK JMD JOD JPY KES KGS KHR KMF KPW KRW KWD KYD
KZT LAK LBP LKR LRD LSL LYD MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MYR MZN NAD NGN NIO
NOK NPR NZD OMR PAB PEN PGK PHP PKR PLN PYG QAR RON RSD RUB RWF SAR SBD SCR SDG SEK SGD SHP SLE
SOS SRD SSP STN SVC SYP SZL THB TJS TMT TND TOP TRY TTD TWD TZS UAH UGX USD UYU UZS VED VES VND
VUV WST XAF XCD XCG XOF XPF YER ZAR ZMW ZWG
""",
    )
)
"""ISO 4217, currencies of money that a debt can be in."""


def _amount(value: Any) -> Decimal:
    if not isinstance(value, str) or not re.fullmatch(r"[0-9]{1,15}(\.[0-9]{1,4})?", value):
        raise fault("amount_invalid", 'send decimal text, not a number: "1280.50"')
    return Decimal(value)


def _currency(value: str) -> str:
    if value not in _CURRENCIES:
        raise fault("currency_unknown", "send an ISO 4217 code: CNY, USD")
    return value


Amount = Annotated[
    Decimal,
    PlainValidator(_amount),
    WithJsonSchema({"type": "string", "pattern": r"^[0-9]{1,15}(\.[0-9]{1,4})?$"}),
]
Currency = Annotated[str, StringConstraints(max_length=3), AfterValidator(_currency)]

FactName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,63}$")]


def _policy_fact(value: Any) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int) and abs(value) < 2**53:
        return value
    if isinstance(value, str) and (read_date(value) or read_instant(value)):
        return value
    raise fault("fact_invalid", "send true, false, null, a whole number, a date or an instant")


PolicyFact = Annotated[
    bool | int | str | None,
    PlainValidator(_policy_fact),
    WithJsonSchema({"type": ["boolean", "integer", "string", "null"]}),
]
FactText = Annotated[str, Field(max_length=512)]

# Addresses. Phone numbers are read here and nowhere later.

PHONES = frozenset({"sms", "voice", "whatsapp", "fax"})
"""Channels whose addresses are phone numbers."""

_EMAIL = re.compile(
    r"(?=.{3,254}$)(?=[^@]{1,64}@)[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*"
    r"@([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]([a-z0-9-]{0,61}[a-z0-9])?",
)
_OPENID = re.compile(r"[A-Za-z0-9_-]{28}")
_OFCOM_DRAMA = re.compile(r"\+44(7700900|1632960|2079460)[0-9]{3}")
"""Numbers that Ofcom keeps for drama: nobody has them, so examples and trials may use them."""


def normal_address(channel: str, value: str) -> str:
    """The one spelling of an address: E.164, an e-mail with a small domain, a WeChat openid."""
    if channel in PHONES:
        return read_phone(value).e164
    if channel == "email":
        return _email(value)
    if channel == "wechat" and not _OPENID.fullmatch(value):
        raise fault("openid_invalid", "send the follower's openid: 28 letters, digits, _ and -")
    return value


class Phone(NamedTuple):
    """A number that can exist: its one spelling, its country (ISO 3166), and what it says of the zone."""

    e164: str
    country: str | None
    clue: Clue | None


@lru_cache(64)
def read_phone(value: str) -> Phone:
    """A number as services write it. The last few are remembered: most stand under two channels of a borrower."""
    wanted = fault("phone_impossible", "send a number that can exist, in E.164: + country code and number")
    if not value.startswith("+"):
        raise wanted
    try:
        number = phonenumbers.parse(value, None)
    except phonenumbers.NumberParseException:
        raise wanted from None
    e164 = phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)
    if not number.extension and _OFCOM_DRAMA.fullmatch(e164):
        return Phone(e164, "GB", Clue(NUMBER, COUNTRY, zones_of_place("GB")))
    if number.extension or not phonenumbers.is_valid_number(number):
        raise wanted
    return Phone(e164, *number_place(number))


def _email(value: str) -> str:
    local, at, domain = value.rpartition("@")
    try:
        ascii_domain = domain.encode("idna").decode() if domain else ""
    except UnicodeError:
        ascii_domain = ""
    normal = f"{local}{at}{ascii_domain.lower()}"
    if not _EMAIL.fullmatch(normal):
        raise fault("email_invalid", "send one address without a name: user@example.com")
    return normal
