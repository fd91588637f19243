"""One-click unsubscribing (RFC 8058) and the page for readers whose mail program does not offer it."""

from __future__ import annotations

from email import message_from_bytes
from urllib.parse import parse_qsl

from gateway.domain import Outcome, Receipt
from gateway.ports import Answer, Callback

MAX_FORM = 4096


def answer(callback: Callback) -> Answer:
    """What to say to a visit of `List-Unsubscribe`. Only a POST changes anything: scanners open every link.

    Who has the link has the mail, so it was delivered. That the link is ours was checked by its token.
    """
    match callback.method:
        case "GET" | "HEAD":
            return Answer(status=200, content_type=_HTML, body=_ASK)
        case "POST" if _is_one_click(callback):
            receipt = Receipt(outcome=Outcome.DELIVERED, ref=callback.ref, code="unsubscribe", opt_out=True)
            return Answer(status=200, content_type=_HTML, body=_DONE, receipts=(receipt,))
        case "POST":
            return Answer(status=400, body=b"send List-Unsubscribe=One-Click\n")
    return Answer(status=405)


def _is_one_click(callback: Callback) -> bool:
    """Whether the body is `List-Unsubscribe=One-Click`, in either of the forms that RFC 8058 §3.2 allows."""
    kind = next((value for name, value in callback.headers.items() if name.lower() == "content-type"), "")
    if len(callback.body) > MAX_FORM or not kind.isascii():
        return False
    if not kind.lower().startswith("multipart/form-data"):
        return (b"List-Unsubscribe", b"One-Click") in parse_qsl(callback.body)
    parts = message_from_bytes(b"Content-Type: " + kind.encode() + b"\r\n\r\n" + callback.body).walk()
    return any(
        part.get_param("name", header="content-disposition") == "List-Unsubscribe"
        and part.get_payload(decode=True) == b"One-Click"
        for part in parts
    )


_HTML = "text/html"
_PAGE = """<!doctype html>
<html lang="zh-CN">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex">
<meta name="referrer" content="no-referrer">
<title>退订邮件 · Unsubscribe</title>
<style>body{font:1.1rem/1.6 system-ui,sans-serif;max-width:30rem;margin:4rem auto;padding:0 1rem}
button{font:inherit;padding:.5rem 1.5rem}</style>
{}
</html>
"""
_ASK = _PAGE.replace(
    "{}",
    """<p>停止接收此发件人的邮件<br><span lang="en">Stop receiving e-mail from this sender</span></p>
<form method="post">
<input type="hidden" name="List-Unsubscribe" value="One-Click">
<button>退订 · <span lang="en">Unsubscribe</span></button>
</form>""",
).encode()
_DONE = _PAGE.replace(
    "{}",
    """<p>已退订。此发件人不会再向您发送邮件。<br>
<span lang="en">Done. This sender will not e-mail you again.</span></p>""",
).encode()
