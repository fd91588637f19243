"""The bytes of a mail: what a reader sees, and that nothing smuggles itself into the headers."""

from __future__ import annotations

import base64
import re
from email import message_from_bytes
from email.policy import default
from unicodedata import category

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from smtp_peer import NOW, REF, UNSUBSCRIBE, mailer, message, peer

from channels import _mail
from channels._mail import Letterhead, Unfit, build, mailbox
from gateway.domain import Handed, HandOver

PLAIN = Letterhead(sender="reminders@bank.example")
CHINESE = Letterhead(sender="reminders@bank.example", name="安心贷(客服)", reply_to="care@bank.example")

HEADERS = [
    "Auto-Submitted",
    "Content-Transfer-Encoding",
    "Content-Type",
    "Date",
    "From",
    "List-Unsubscribe",
    "List-Unsubscribe-Post",
    "MIME-Version",
    "Message-ID",
    "Subject",
    "To",
]


def read(data: bytes):
    return message_from_bytes(data, policy=default)


def test_a_mail_says_what_a_reminder_must():
    mail = read(build(PLAIN, message()).data)

    assert sorted(mail.keys()) == HEADERS
    assert mail["From"] == "reminders@bank.example"
    assert mail["To"] == "borrower@example.com"
    assert mail["Subject"] == "Payment due"
    assert mail["Date"].datetime == NOW
    assert mail["Message-ID"] == f"<{REF}@bank.example>"
    assert mail["List-Unsubscribe"] == f"<{UNSUBSCRIBE}>"
    assert mail["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    assert mail["Auto-Submitted"] == "auto-generated"
    assert mail.get_content_type() == "text/plain"
    assert mail.get_content_charset() == "utf-8"
    assert mail.get_content() == "Please pay.\r\n"
    assert not mail.defects


async def test_a_chinese_mail_arrives_as_it_was_written():
    subject = "【安心贷】您尾号1234的账单将于11月30日到期应还1280.50元请按时还款🙂 谢谢您的配合与支持" * 2
    text = "尊敬的张伟\n请于 2026-11-30 前还款。\n"
    async with (
        peer() as server,
        mailer(server.port, from_name="安心贷", reply_to="care@bank.example") as adapter,
    ):
        handed = await adapter.send(message(subject=subject, text=text))

    mail = read(server.mails[0])
    assert handed.ending is HandOver.ACCEPTED
    assert mail["Subject"] == subject
    assert mail["From"] == "安心贷 <reminders@bank.example>"
    assert mail["From"].addresses[0].addr_spec == "reminders@bank.example"
    assert mail["Reply-To"] == "care@bank.example"
    assert mail.get_content() == text.replace("\n", "\r\n")
    assert server.mails[0].isascii()


@settings(deadline=None)
@given(st.text(st.characters(exclude_categories=("Cs",)), max_size=120))
def test_every_subject_is_refused_or_read_as_it_was(subject):
    hostile = any(re.search(p, subject) for p in (r"=\?", "[\u202a-\u202e\u2066-\u2069\u2028\u2029]"))
    if hostile or any(category(char) == "Cc" for char in subject) or not subject.strip():
        with pytest.raises(Unfit):
            build(PLAIN, message(subject=subject))
        return
    mail = read(build(PLAIN, message(subject=subject)).data)

    assert sorted(mail.keys()) == HEADERS
    assert str(mail["Subject"]) == subject.strip()
    assert mail.get_content() == "Please pay.\r\n"


@settings(deadline=None)
@given(
    st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\r\n"), min_size=1, max_size=400)
)
def test_every_text_is_read_as_it_was_in_short_lines(text):
    data = build(CHINESE, message(text=f"a{text}z\n.\n..b")).data

    assert read(data).get_payload(decode=True).decode() == f"a{text}z\r\n.\r\n..b\r\n"
    assert max(map(len, data.split(b"\r\n"))) <= 998
    assert not re.search(rb"(?<!\r)\n|\r(?!\n)", data)


@pytest.mark.parametrize("subject", ["到期" * 60, "a" * 300, "é" * 200, "🙂" * 50, "x 到期 y " * 20])
def test_lines_with_encoded_words_keep_within_76_characters(subject):
    head = build(CHINESE, message(subject=subject)).data.split(b"\r\n\r\n")[0]

    assert max(len(line) for line in head.split(b"\r\n") if b"=?" in line) <= 76


def encoded(value: bytes) -> str:
    return f"=?utf-8?b?{base64.b64encode(value).decode()}?="


HOSTILE = [
    "Hi\r\nBcc: x@evil.example",
    "Hi\nBcc: x@evil.example",
    "Hi\rBcc: x@evil.example",
    "Hi\r\n\r\nAnother body",
    "Hi\r\n .\r\nMAIL FROM:<x@evil.example>",
    "\r\nHi",
    "Hi\r\n",
    "Hi\n",
    "Hi\x00there",
    "Hi\x0bBcc: x@evil.example",
    "Hi\x0cBcc: x@evil.example",
    "Hi\x1cBcc: x@evil.example",
    "Hi\x1dx",
    "Hi\x1ex",
    "Hi\x85Bcc: x@evil.example",
    "Hi\u2028Bcc: x@evil.example",
    "Hi\u2029Bcc: x@evil.example",
    "Hi\tthere",
    "Hi\x1b[2J",
    "Hi\x08\x08\x08Ho",
    "Hi\x7f",
    "Hi\x9b2J",
    "Pay \u202egnp.exe",
    "Pay \u202d123",
    "Pay \u2066123\u2069",
    "Pay \u2068123",
    "Pay \ud83d",
    "=?utf-8?q?hi=0d=0aBcc=3a_x=40evil.example?=",
    "=?UTF-8?Q?hi=0D=0ABcc=3A_x=40evil.example?=",
    "=?utf-8?q?hi=0aBcc=3a_x=40evil.example?=",
    encoded(b"hi\r\nBcc: x@evil.example"),
    f"到期 {encoded(b'hi')} {encoded(b'Bcc: x@evil.example')}",
    "=?utf-7?q?+AA0-+AAo-Bcc:?=",
    "a =?",
    "到期=?utf-8?b?",
]


@pytest.mark.parametrize("value", HOSTILE, ids=ascii)
async def test_a_hostile_subject_is_refused_before_anything_is_sent(value):
    async with peer() as server, mailer(server.port) as adapter:
        handed = await adapter.send(message(subject=value))

    assert handed == Handed(ending=HandOver.CONTENT, code="header_injection")
    assert server.connections == 0


@pytest.mark.parametrize(
    "url",
    [
        "https://gw.example/u\r\nBcc: x@evil.example",
        "https://gw.example/u>, <mailto:x@evil.example",
        "https://gw.example/u x",
        "https://gw.example/\u202eu",
        "https://gw.example/退订",
        "https://gw.example/u?a=?utf-8?q?x?=",
        "mailto:x@evil.example",
        "",
    ],
)
async def test_a_hostile_unsubscribe_address_is_refused_before_anything_is_sent(url):
    async with peer() as server, mailer(server.port) as adapter:
        handed = await adapter.send(message(unsubscribe=url))

    assert handed == Handed(ending=HandOver.CONTENT, code="header_injection")
    assert server.connections == 0


@pytest.mark.parametrize(
    ("mail", "code"),
    [
        (message(subject=None), "subject_missing"),
        (message(subject="  "), "subject_missing"),
        (message(subject="x" * 901), "header_too_long"),
        (message(text="x" * (_mail.MAX_TEXT + 1)), "text_too_long"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_a_text_without_a_subject_or_over_its_limit_is_refused(mail, code):
    async with peer() as server, mailer(server.port) as adapter:
        handed = await adapter.send(mail)

    assert handed == Handed(ending=HandOver.CONTENT, code=code)
    assert server.connections == 0


@pytest.mark.parametrize(
    "mail", [message(subject="x" * 900), message(text="x" * _mail.MAX_TEXT)], ids=["subject", "text"]
)
def test_a_subject_and_a_text_at_their_limit_are_taken(mail):
    assert build(PLAIN, mail)


@pytest.mark.parametrize(
    "head",
    [
        "Subject: hi\r\nBcc: x@evil.example\r\n",
        "Subject: hi\nBcc: x@evil.example\r\n",
        "Subject: hi\rBcc: x@evil.example\r\n",
        "Subject: hi\r\n\r\nBcc: x\r\n",
        "Subject: hi\r\nSubject: hi\r\n",
        "Subject: ho\r\n",
        "Subject: =?utf-8?b?aG8=?=\r\n",
        "Subject\r\n",
        "",
    ],
)
def test_what_reads_back_otherwise_than_it_was_meant_is_refused(head):
    meant = [_mail._unstructured("Subject", "hi")]
    _mail._read_back("Subject: hi\r\n", meant)

    with pytest.raises(Unfit):
        _mail._read_back(head, meant)


WRONG_ADDRESSES = [
    "",
    "borrower",
    "@example.com",
    "borrower@",
    "borrower@example",
    "borrower@example.com\r\nRCPT TO:<x@evil.example>",
    "borrower@example.com\n",
    "borrower@example.com>",
    "<borrower@example.com>",
    "Borrower <borrower@example.com>",
    "borrower@example.com, x@evil.example",
    "borrower@example.com x@evil.example",
    "borrower@example.com NOTIFY=NEVER",
    '"borrower"@example.com',
    '"a\r\nb"@example.com',
    "a b@example.com",
    "a@b@example.com",
    ".a@example.com",
    "a.@example.com",
    "a..b@example.com",
    "a(comment)@example.com",
    "=?utf-8?q?a?=@example.com",
    "a@[127.0.0.1]",
    "a@127.0.0.1",
    "a@-example.com",
    "a@example-.com",
    "a@example..com",
    "a@example.com.",
    "a@exam_ple.com",
    "a@example\u3002com",
    "a@ex\u202eample.com",
    "a\u200b@example.com",
    "a\u202e@example.com",
    "a\x00@example.com",
    "\ud83d@example.com",
    "🙂@example.com",
    "a" * 65 + "@example.com",
    "张" * 22 + "@example.com",
    "a@" + "a" * 64 + ".com",
    "a@" + ".".join(["a" * 60] * 5) + ".com",
]


@pytest.mark.parametrize("address", WRONG_ADDRESSES, ids=ascii)
async def test_an_address_that_is_none_is_refused_before_anything_is_sent(address):
    async with peer() as server, mailer(server.port) as adapter:
        handed = await adapter.send(message(to=address))

    assert handed == Handed(ending=HandOver.PERMANENT_RECIPIENT, code="address_syntax")
    assert server.connections == 0


@pytest.mark.parametrize(
    ("address", "mailed_to"),
    [
        ("a@example.com", "a@example.com"),
        ("Ann.O'Hara+loan@EXAMPLE.Com", "Ann.O'Hara+loan@example.com"),
        ("a" * 64 + "@example.com", "a" * 64 + "@example.com"),
        ("a@xn--fsqu00a.xn--fiqs8s", "a@xn--fsqu00a.xn--fiqs8s"),
        ("a@例子.中国", "a@xn--fsqu00a.xn--fiqs8s"),
        ("张伟@例子.中国", "张伟@xn--fsqu00a.xn--fiqs8s"),
        ("राम@example.com", "राम@example.com"),
        ("a@3com.com", "a@3com.com"),
    ],
)
def test_an_address_is_kept_but_for_its_domains_form(address, mailed_to):
    assert mailbox(address) == mailed_to


@settings(deadline=None)
@given(st.emails())
def test_every_usual_address_is_read_as_it_was(address):
    """RFC 5321's dotted local parts, as hypothesis makes them; a longer address than 254 is none."""
    mailed_to = mailbox(address)

    if len(address) <= 254 and len(address.rpartition("@")[0]) <= 64 and "=?" not in address:
        assert mailed_to is not None
        assert mailed_to.lower() == address.lower()
        assert read(build(PLAIN, message(to=address)).data)["To"].addresses[0].addr_spec == mailed_to
