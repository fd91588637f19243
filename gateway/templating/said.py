"""A text that was filled in, laid out for the rules on content."""

from __future__ import annotations

from gateway.domain import Account, Channel, Rendered
from gateway.policy.content import Said
from gateway.templating.engine import cut, money, plain_money, sms_money
from gateway.templating.model import Text
from gateway.templating.values import Values, spoken

WECHAT_LONGEST = 20
"""Characters that WeChat takes of a name; templates cut it there."""


def said(
    channel: Channel, text: Text, values: Values, *, signature: str | None, callback: str | None
) -> Said:
    """What a text says, and what in it stands for the creditor, the number that calls and the debt."""
    creditors = [values.creditor, *([signature] if signature else [])]
    if channel is Channel.WECHAT:
        creditors.append(cut(values.creditor, WECHAT_LONGEST))
    return Said(
        channel=channel.value,
        language=text.language,
        opening="\n".join(filter(None, (text.subject, text.main))),
        rest=text.second or "",
        values={
            "creditor_name": creditors,
            "callback_number": [callback] if callback else [],
            "debt_detail": [show(values.amount) for show in (money, plain_money, sms_money)],
        },
        names=[values.name.reveal("a check of what a text says"), *creditors],
    )


def rendered_said(channel: Channel, rendered: Rendered, values: Values, account: Account) -> Said:
    """The same of what was rendered for an account."""
    reveal = "a check of what a text says"
    text = Text(
        language=rendered.language,
        main=rendered.text.reveal(reveal),
        subject=rendered.subject.reveal(reveal) if rendered.subject else None,
        second=rendered.second.reveal(reveal) if rendered.second else None,
    )
    signed = channel is Channel.SMS and rendered.code is not None
    return said(
        channel,
        text,
        values,
        signature=account.sender if signed else None,
        callback=spoken(account.sender) if channel is Channel.VOICE else None,
    )
