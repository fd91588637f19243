"""How many parts an SMS is sent in, which is what is paid for (3GPP TS 23.038, 23.040).

Text within the GSM 7-bit alphabet fits 160 septets, or 153 a part once there are several; any other
text is UCS-2: 70 UTF-16 units, or 67 a part. A two-unit character is never cut in two. Mainland China
counts 70 and 67 for every text, ASCII too, signature included.
"""

from __future__ import annotations

from collections.abc import Sequence

LONGEST = 1600
"""Characters; Twilio refuses a longer body (error 21617)."""
LONGEST_MAINLAND = 500
"""Characters, signature included; Aliyun refuses a longer text."""

_BASIC = frozenset(
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿"
    "abcdefghijklmnopqrstuvwxyzäöñüà"
)
_EXTENDED = frozenset("\f^{}\\[~]|€")
"""Each takes two septets: an escape and itself."""
_GSM7 = _BASIC | _EXTENDED
_LAST_OF_ONE_UNIT = "\uffff"


def segments(text: str, *, mainland: bool) -> int:
    """Count the parts; an empty text is one. `mainland`: delivered by a mainland Chinese carrier.

    Raises ValueError when no provider would take a text this long.
    """
    if len(text) > (LONGEST_MAINLAND if mainland else LONGEST):
        raise ValueError("the text is longer than an SMS may be; shorten the template or its facts")
    if not mainland and _GSM7.issuperset(text):
        wide = [char in _EXTENDED for char in text] if not _EXTENDED.isdisjoint(text) else []
        return _parts(len(text), wide, 160, 153)
    beyond = len(text) and max(text) > _LAST_OF_ONE_UNIT
    return _parts(len(text), [char > _LAST_OF_ONE_UNIT for char in text] if beyond else [], 70, 67)


def _parts(length: int, wide: Sequence[bool], single: int, several: int) -> int:
    """`wide`: which characters take two units; empty where none does."""
    if length + sum(wide) <= single:
        return 1
    if not wide:
        return -(-length // several)
    parts, used = 1, 0
    for size in (1 + two for two in wide):
        if used + size > several:
            parts, used = parts + 1, 0
        used += size
    return parts
