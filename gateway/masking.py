"""Personal data that will not print, and the masks that people see in its place.

A mask is for the eye only: it is never a key, since 3 + 4 digits of a phone leave ten thousand candidates.
"""

from __future__ import annotations

import re
from string import ascii_letters, digits
from typing import Any, Generic, NoReturn, TypeVar, overload
from unicodedata import normalize

from stdnum import verhoeff

T = TypeVar("T")

MASK = "***"


class Pii(Generic[T]):
    """A personal value or a secret. `str`, `repr` and `format` show a mask; `reveal` is the one way out.

    It refuses pickle, copy and JSON, so it cannot slip into a queue, a log or a cache.
    """

    __slots__ = ("_value",)

    def __init__(self, value: T) -> None:
        self._value = value

    def reveal(self, reason: str) -> T:  # noqa: ARG002 (the reason is for the reader and for grep)
        """Give the clear value; `reason` says why, in a few words, for whoever greps."""
        return self._value

    def __repr__(self) -> str:
        return f"Pii({MASK})"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return repr(self)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Pii) and bool(self._value == other._value)

    def __hash__(self) -> int:
        return hash(self._value)

    def __reduce__(self) -> NoReturn:
        raise TypeError("personal data does not go into a pickle or a copy")

    __getstate__ = __reduce__

    def __iter__(self) -> Any:
        raise TypeError("personal data is not taken apart; reveal it where it is used")


# Masks, one per kind of value.

_SEPARATORS = re.compile(r"[\s.()\-]+")
_CN_MOBILE = re.compile(r"(?:(?:\+|00)?86)?(1[3-9]\d{9})")
_CN_LANDLINE = re.compile(r"0[1-9]\d{8,10}")
_HAN = re.compile(r"[\u3400-\u9fff\U00020000-\U0003ffff·]+")
_COMPOUND_SURNAMES = (
    "欧阳 太史 端木 上官 司马 东方 独孤 南宫 万俟 闻人 夏侯 诸葛 尉迟 公羊 赫连 澹台 皇甫 "
    "宗政 濮阳 公冶 太叔 申屠 公孙 慕容 仲孙 钟离 长孙 宇文 司徒 鲜于 司空 闾丘 子车 亓官 "
    "司寇 巫马 公西 颛孙 壤驷 公良 漆雕 乐正 宰父 谷梁 拓跋 夹谷 轩辕 令狐 段干 百里 呼延 "
    "东郭 南门 羊舌 微生 梁丘 左丘 西门 第五 南荣 东里 即墨 达奚 褚师"
)


def mask_phone(value: str) -> str:
    """`138****1234`; other countries `+141****0123`; never fewer than four digits hidden."""
    plain = _SEPARATORS.sub("", normalize("NFKC", value))
    if mobile := _CN_MOBILE.fullmatch(plain):
        return f"{mobile[1][:3]}****{mobile[1][-4:]}"
    if _CN_LANDLINE.fullmatch(plain):
        return f"{plain[:4]}****{plain[-2:]}"
    number = plain.lstrip("+")
    tail = 4 if len(number) >= 8 else 0  # noqa: PLR2004 (four digits stay hidden, four show)
    head = max(0, min(3, len(number) - 8))
    plus = "+" if plain.startswith("+") and head else ""
    return f"{plus}{number[:head]}****{number[len(number) - tail :]}"


def mask_name(value: str) -> str:
    """`张*`, `张**`, `欧阳*`, `阿依·***`, `J***`."""
    name = normalize("NFKC", value).strip()
    if len(name) <= 1:
        return "*"
    if not _HAN.fullmatch(name):
        return f"{name[0]}{MASK}"
    if "·" in name:
        return f"{name.split('·', 1)[0]}·{MASK}"
    surname = 2 if len(name) > 2 and name[:2] in _COMPOUND_SURNAMES else 1  # noqa: PLR2004 (two characters)
    return name[:surname] + "*" * (len(name) - surname)


def mask_id(value: str) -> str:
    """`1****************X`: the first and the last character of an identity number."""
    plain = _SEPARATORS.sub("", normalize("NFKC", value))
    if len(plain) < 8:  # noqa: PLR2004 (too short to show any of it)
        return MASK
    return plain[0] + "*" * (len(plain) - 2) + plain[-1]


def mask_email(value: str) -> str:
    """`d***@126.com`."""
    local, at, domain = normalize("NFKC", value).strip().rpartition("@")
    if not at:
        return MASK
    return f"{local[0] if len(local) > 1 else ''}{MASK}@{domain}"


def mask_card(value: str) -> str:
    """`6228 **** **** 1234`."""
    plain = _SEPARATORS.sub("", normalize("NFKC", value))
    if len(plain) < 12:  # noqa: PLR2004 (the shortest card number in use)
        return MASK
    return f"{plain[:4]} **** **** {plain[-4:]}"


def mask_openid(value: str) -> str:
    """`oABC***yz`: the first four and the last two characters of a WeChat openid or unionid."""
    return f"{value[:4]}{MASK}{value[-2:]}" if len(value) >= 16 else MASK  # noqa: PLR2004 (openids have 28)


def mask_any(channel: str, value: str) -> str:
    """The mask of an address on a channel; `***` for a channel that is not known."""
    match channel:
        case "sms" | "voice":
            return mask_phone(value)
        case "email":
            return mask_email(value)
        case "wechat":
            return mask_openid(value)
        case _:
            return MASK


# The last gate over a line that is already rendered.

_RUN = re.compile(r"[0-9+][0-9 .()\-\u00a0\\uxX]{8,}")
"""Wherever a number of a person could stand; cheap to look for, and judged by `_NUMBERS`."""
_SEP = r"(?:[ .()\-\u00a0]|\\+(?:u0000|x00)){0,2}"
_NUMBERS = re.compile(
    rf"""(?<![0-9])
    (?: (?P<phone>
            (?:(?:(?:\+|00){_SEP})?8{_SEP}6{_SEP})?1{_SEP}[3-9](?:{_SEP}[0-9]){{9}}
          | (?:\+|00){_SEP}[1-9](?:{_SEP}[0-9]){{7,14}}
          | 0[1-9][0-9]{{1,2}}[ -][0-9]{{7,8}})
      | [1-9](?:{_SEP}[0-9]){{13,18}}(?:{_SEP}[Xx])?
    )(?![0-9])""",
    re.VERBOSE,
)
_OURS = re.compile(r"\b(?:[0-9a-f]{64}|[0-9a-f]{32}|[a-z]{2}_[0-9A-Z]{26})\b")
"""Hashes and ids of our own, in which a phone may seem to stand by chance."""
_ENCODED = re.compile(
    r"3[0-9](?:3[0-9]){10,}"
    r"|[MNO][DTjz][AEIMQUYcgk][w-z0-5](?:[MNO][DTjz][AEIMQUYcgk][w-z0-5]){2,}[A-Za-z0-9+/_=-]{0,4}"
)
"""Eleven digits and more as hexadecimal or base64 of their UTF-8."""

_MAIL = re.compile(
    r"""(?P<login>(?<=://)[^\s/@"]{1,200}@) | [^\s"'<>@,;:=()\[\]\\/]{1,64}@[\w.-]{1,200}\.\w{2,}""",
    re.VERBOSE,
)
_KEY = re.compile(r"\b(gw_(?:live|test)_)[\w.-]+")
_QUERY = re.compile(r"""(?<=[\w/])\?[\w.%\[\]-]{1,64}=[^\s"'\\<>]*""")
_ESCAPED = re.compile(r"\\+u([0-9A-F]{4})|%(?:EF%B([CD])%([89AB][0-9A-F])|([2-7][0-9A-F]))", re.IGNORECASE)
_NARROW = {ord(char) + 0xFEE0: char for char in f"{ascii_letters}{digits}+@.-_()"}
"""Full-width forms that a person's number or address may be written in."""


@overload
def scrub(line: str) -> str: ...
@overload
def scrub(line: bytes) -> bytes: ...
def scrub(line: str | bytes) -> str | bytes:
    """Mask what reads as personal in a rendered line.

    That is: phones, identity numbers, cards, e-mails, our API keys, logins and queries of URLs; in clear,
    full width, spaced, escaped (JSON, URL), and long numbers in hexadecimal or base64. JSON stays whole as
    long as a number of such a shape stands inside a string.
    """
    if isinstance(line, bytes):
        return scrub(line.decode(errors="surrogateescape")).encode(errors="surrogateescape")
    if "\\u" in line or "%" in line:
        line = _ESCAPED.sub(_unescape, line)
    if not line.isascii():
        line = line.translate(_NARROW)
    if "@" in line:
        line = _MAIL.sub(_hide_mail, line)
    if "gw_" in line:
        line = _KEY.sub(rf"\1{MASK}", line)
    if "?" in line:
        line = _QUERY.sub(f"?{MASK}", line)
    return _RUN.sub(_hide_run, _ENCODED.sub(MASK, line))


def _unescape(found: re.Match[str]) -> str:
    code, row, wide, percent = found.groups()
    offset = 0 if not wide else 0xFE80 if row in "Cc" else 0xFEC0  # the two rows that hold full-width forms
    char = chr(int(code or wide or percent, 16) + offset)
    plain = char.isalnum() or char in "+@.-_ " or ord(char) in _NARROW
    return char if plain else found[0]


def _hide_mail(found: re.Match[str]) -> str:
    return f"{MASK}@" if found["login"] else mask_email(found[0])


def _hide_run(found: re.Match[str]) -> str:
    text, start = found[0], found.start()
    masked = _NUMBERS.sub(_hide_number, text)
    if masked == text:
        return text
    for ours in _OURS.finditer(found.string, max(0, start - 64), start + 64):
        if ours.start() <= start < ours.end():
            kept = ours.end() - start
            return text[:kept] + _NUMBERS.sub(_hide_number, text[kept:])
    return masked


def _hide_number(found: re.Match[str]) -> str:
    text, number = found[0], _digits(found[0])
    if found["phone"]:
        return mask_phone(number)
    if _born(number):
        return mask_id(number)
    if number[0] in "3456" and _luhn(number):
        return mask_card(number)
    return text[0] + _NUMBERS.sub(_hide_number, text[1:])


def _digits(text: str) -> str:
    """The number alone: narrow, without separators."""
    return re.sub(r"\\+(?:u0000|x00)|[^0-9Xx+]", "", normalize("NFKC", text))


def _born(number: str) -> bool:
    """Whether a date stands where an 18-digit identity number has one; a wrong checksum is masked as well."""
    return len(number) == 18 and _ID18.fullmatch(number) is not None  # noqa: PLR2004 (GB 11643)


def _luhn(number: str) -> bool:
    """ISO/IEC 7812-1, annex B."""
    if not number.isdigit():
        return False
    doubled = sum(sum(divmod(2 * int(d), 10)) for d in number[-2::-2])
    return (doubled + sum(int(d) for d in number[-1::-2])) % 10 == 0


# What services may not choose as an id.

_PHONE_ID = re.compile(
    r"""(?<![0-9A-Za-z])(?:
        (?:(?:00)?86[-._:]?)?1[3-9]\d[-._:]?\d{4}[-._:]?\d{4}        # China, mobile
      | (?:00)?91[-._:]?[6-9]\d{4}[-._:]?\d{5}                       # India, mobile
      | (?:00)?44[-._:]?7\d{3}[-._:]?\d{6}                           # United Kingdom, mobile
      | (?:1[-.])?[2-9]\d{2}[-.][2-9]\d{2}[-.]\d{4}                  # North America, as it is written
    )(?![0-9A-Za-z])""",
    re.VERBOSE,
)
_ID18 = re.compile(
    r"(?<![0-9A-Za-z])[1-9]\d{5}(?:19|20)\d{2}(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])\d{3}[\dXx](?![0-9A-Za-z])"
)
_OTHER_ID = re.compile(
    r"""(?<![0-9A-Za-z])(?:
        (?!000|666|9)\d{3}-(?!00)\d{2}-(?!0000)\d{4}                 # United States, SSN
      | [A-Z]{3}P[A-Z]\d{4}[A-Z]                                     # India, PAN of a person
    )(?![0-9A-Za-z])""",
    re.VERBOSE,
)
_AADHAAR = re.compile(r"(?<![0-9A-Za-z])[2-9]\d{3}[-.]\d{4}[-.]\d{4}(?![0-9A-Za-z])")
_MAY_NAME = re.compile(r"@|(?:\d[-._:]?){9}|[A-Z]{3}P[A-Z]\d{4}")
"""What any of these has; most ids have none of it."""
_ID18_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)


def reads_as_personal(text: str) -> bool:
    """Whether an id that a service chose reads as a phone number, an e-mail or an identity number.

    Only shapes that are surely such, or carry a right checksum: a bare number of ten digits may be a loan.
    """
    if _MAY_NAME.search(text) is None:
        return False
    return bool(
        ("@" in text and _MAIL.search(text))
        or _PHONE_ID.search(text)
        or _OTHER_ID.search(text)
        or any(_id18(found[0]) for found in _ID18.finditer(text))
        or any(verhoeff.is_valid(_digits(found[0])) for found in _AADHAAR.finditer(text))
    )


def _id18(number: str) -> bool:
    """GB 11643-1999: ISO 7064 MOD 11-2."""
    remainder = sum(int(d) * w for d, w in zip(number[:17], _ID18_WEIGHTS, strict=True)) % 11
    return number[-1].upper() == "10X98765432"[remainder]
