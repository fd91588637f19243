"""What mail servers say later (RFC 3464), posted to the account's address: which attempt, and what became of it."""

from __future__ import annotations

import time

import pytest
from aiohttp import ClientSession
from hypothesis import given
from hypothesis import strategies as st
from reports import BEYOND_ASCII, EXCHANGE, EXIM, GMAIL, POSTFIX, fate, report
from rig import open_door
from smtp_peer import REF, TOOLS, mailer, message, peer

from channels import _dsn
from channels.smtp import STATUSES, receipt
from gateway.domain import HandOver, Outcome, Receipt

OTHER = "at_01JDQ0000000000000000000AA"
BY_ID = f"<{REF}@bank.example>"


def told(mail):
    """The receipt in a mail, None where there is none."""
    found = _dsn.read(mail.encode() if isinstance(mail, str) else mail)
    return receipt(found) if found else None


def failed(code, *, dead=False):
    return Receipt(outcome=Outcome.FAILED, ref=REF, code=code, address_dead=dead)


def crlf(mail):
    return mail.replace("\n", "\r\n")


@pytest.mark.parametrize(
    ("mail", "says"),
    [
        (POSTFIX, failed("550 5.1.1", dead=True)),
        (EXIM, failed("550 5.1.1", dead=True)),
        (EXCHANGE, failed("550 5.1.10", dead=True)),
        (GMAIL, failed("550 5.7.26")),
        (BEYOND_ASCII, failed("550 5.1.1", dead=True)),
    ],
    ids=["Postfix", "Exim", "Exchange", "Gmail", "beyond ASCII"],
)
@pytest.mark.parametrize("ends", [str, crlf], ids=["LF", "CRLF"])
def test_reports_of_usual_mail_servers_are_read(mail, says, ends):
    assert told(ends(mail)) == says


@pytest.mark.parametrize(
    ("fields", "outcome", "code", "dead"),
    [
        (fate("delivered", "2.0.0", "smtp; 250 2.0.0 Ok: queued as 1A2B"), Outcome.DELIVERED, "250 2.0.0", False),
        (fate("Delivered (to the mailbox)", "2.1.5"), Outcome.DELIVERED, "2.1.5", False),
        (fate("relayed", "2.0.0"), Outcome.ACCEPTED, "2.0.0", False),
        (fate("expanded", ""), Outcome.ACCEPTED, "expanded", False),
        (fate("delayed", "4.4.1", "X-Postfix; connect to mx.example.com: timed out"), Outcome.ACCEPTED, "4.4.1", False),
        (fate("invented", "2.0.0"), Outcome.UNKNOWN, "2.0.0", False),
        (fate("", "5.1.1"), Outcome.UNKNOWN, "5.1.1", False),
        # the address
        (fate("failed", "5.1.1 (bad address)"), Outcome.FAILED, "5.1.1", True),
        (fate("FAILED", "5.1.10"), Outcome.FAILED, "5.1.10", True),
        (fate("failed", "5.2.1", "smtp; 550 mailbox disabled"), Outcome.FAILED, "550 5.2.1", True),
        (fate("failed", "5.0.0", "smtp; 550-5.1.1 no such person"), Outcome.FAILED, "550 5.1.1", True),
        (fate("failed", "", "SMTP;550 5.1.1 no such person"), Outcome.FAILED, "550 5.1.1", True),
        # the set-up, the text, the network, or nobody knows: the address may be good
        (fate("failed", "5.7.1", "smtp; 554 5.7.1 <borrower@example.com>: denied"), Outcome.FAILED, "554 5.7.1", False),
        (fate("failed", "5.3.4"), Outcome.FAILED, "5.3.4", False),
        (fate("failed", "4.4.7"), Outcome.FAILED, "4.4.7", False),
        (fate("failed", "4.2.2", "smtp; 452 4.2.2 full"), Outcome.FAILED, "452 4.2.2", False),
        (fate("failed", "5.0.0", "smtp; 450 4.2.1 retry timeout exceeded"), Outcome.FAILED, "450 4.2.1", False),
        (fate("failed", "5.0.0", "smtp; 550 no"), Outcome.FAILED, "550 5.0.0", False),
        (fate("failed", "4.4.7", "smtp; 550 5.1.1 no such person"), Outcome.FAILED, "4.4.7", False),
        (fate("failed", "soon", "smtp; no"), Outcome.FAILED, "failed", False),
        (fate("failed", "2.0.0"), Outcome.FAILED, "2.0.0", False),
        (fate("failed", "5.1.1111"), Outcome.FAILED, "failed", False),
    ],
)  # fmt: skip
def test_an_action_and_its_status_say_what_became_of_a_mail(fields, outcome, code, dead):
    assert told(report(fields)) == Receipt(outcome=outcome, ref=REF, code=code, address_dead=dead)


@pytest.mark.parametrize(
    ("fates", "outcome", "dead"),
    [
        ([fate("failed"), fate("delivered", "2.0.0")], Outcome.DELIVERED, False),
        ([fate("expanded", "2.0.0"), fate("failed")], Outcome.ACCEPTED, False),
        ([fate("failed"), fate("invented")], Outcome.UNKNOWN, False),
        ([fate("failed", "5.1.1"), fate("failed", "5.7.1")], Outcome.FAILED, False),
        ([fate("failed", "5.1.1"), fate("failed", "5.1.2")], Outcome.FAILED, True),
    ],
)
def test_of_several_mailboxes_behind_an_address_the_one_that_was_reached_counts(fates, outcome, dead):
    says = told(report(*fates))

    assert (says.outcome, says.address_dead) == (outcome, dead)


@pytest.mark.parametrize(
    ("mail", "ref"),
    [
        (report(fate()), REF),
        (report(fate(), ref=None, returned=BY_ID), REF),
        (report(fate(), ref="their-own-id", returned=BY_ID), REF),
        (report(fate(), ref=OTHER, returned=BY_ID), OTHER),
        (report(fate(), ref=None), None),
        (report(fate(), ref=REF[:-1]), None),
        (report(fate(), ref=REF + "0"), None),
        (report(fate(), ref=None, returned=f"<{REF}>"), None),
        (report(fate(), ref=None, returned=f"<x{REF}@bank.example>"), None),
        (report(fate(), ref=None, returned="<20261130@elsewhere.example>"), None),
    ],
)
def test_the_attempt_is_named_by_the_envelopes_id_or_else_by_the_message_id_that_came_back(mail, ref):
    says = told(mail)

    assert (says.ref if says else None) == ref


PLAIN = "From: borrower@example.com\nTo: bounces@bank.example\n"
NO_REPORTS = {
    "nothing": "",
    "no mail": "\x00\xff\n\n\n",
    "a reply": PLAIN + f"In-Reply-To: {BY_ID}\nSubject: Re: Payment due\n\nI have paid.\n",
    "an absence": PLAIN + f"Auto-Submitted: auto-replied\nIn-Reply-To: {BY_ID}\n\nI am away.\n",
    "a read receipt": report(fate()).replace("message/delivery-status", "message/disposition-notification"),
    "a forwarded report": report(fate()).replace("multipart/report", "multipart/mixed"),
    "a report in a report": PLAIN + "Content-Type: multipart/report; boundary=a\n\n--a\n" + report(fate()) + "--a--\n",
    "no boundary": report(fate()).replace('; boundary="b"', ""),
    "an empty boundary": report(fate()).replace('boundary="b"', 'boundary=""'),
    "another boundary": report(fate()).replace('boundary="b"', 'boundary="c"'),
    "a boundary of a pattern": report(fate()).replace('boundary="b"', 'boundary=".*"'),
    "no recipients": report(),
    "UTF-16": report(fate()).encode("utf-16"),
    "a status in broken base64": report(fate()).replace(
        "message/delivery-status\n", "message/delivery-status\nContent-Transfer-Encoding: base64\n"
    ),
    "the ninth part": report(fate()).replace("--b\nContent-Type: text/plain\n\n", "--b\n\n" * 9, 1),
}  # fmt: skip


@pytest.mark.parametrize("mail", NO_REPORTS.values(), ids=NO_REPORTS)
def test_what_is_no_report_says_nothing(mail):
    assert told(mail) is None


NESTED = "".join(f"--{n}\nContent-Type: multipart/mixed; boundary={n + 1}\n\n" for n in range(5000))
HEAD = "Content-Type: multipart/report; boundary="
LONG = {
    "parts within parts": HEAD + "0\n\n" + NESTED,
    "parts without end": HEAD + "b\n\n" + "--b\n" * 60_000,
    "recipients without end": report(*[fate("delayed", "4.4.1")] * 3_000),
    "blank lines": report("\n \n" * 80_000),
    "comments within comments": report(fate()).replace("From:", "From: " + "(" * 100_000, 1),
    "a type of comments": HEAD + "(" * 100_000 + "\n\n",
    "a type of quotes": HEAD + '"' + '";' * 100_000 + "\n\n",
    "a header without end": "Subject: x\n" + " x\n" * 80_000 + "\n",
    "headers without end": "X:\n" * 80_000 + "\n",
    "spaces in the status": report("Action: failed\nStatus:" + " " * 200_000 + "5.1.1"),
    "digits in the status": report("Action: failed\nStatus: 5." + "1" * 200_000),
    "soft line ends": report("x=\n" * 80_000).replace(
        "message/delivery-status\n", "message/delivery-status\nContent-Transfer-Encoding: quoted-printable\n"
    ),
}  # fmt: skip


@pytest.mark.parametrize("mail", LONG.values(), ids=LONG)
def test_a_mail_that_is_made_to_take_long_does_not(mail):
    began = time.process_time()
    told(mail)

    assert time.process_time() - began < 1


def test_what_comes_after_the_limit_is_not_looked_at():
    padded = report(fate()).replace("What happened.", "x" * _dsn.MAX_MAIL)

    assert told(padded) is None
    assert told(report(fate()) + "x" * _dsn.MAX_MAIL) == failed("5.1.1", dead=True)


def test_a_report_is_read_whatever_else_stands_in_it():
    odd = "Subject: =?x-none?b?////?= \xe9\udcff\x00\nContent-Transfer-Encoding: \x01\n".encode(
        "utf-8", "surrogateescape"
    )

    assert told(odd + report(fate(said="smtp; 550 5.1.1 \ufffd \U0001f4e7")).encode()) == failed(
        "550 5.1.1", dead=True
    )


@given(
    st.binary(max_size=300),
    st.integers(0, 3000),
    st.integers(0, 3000),
    st.sampled_from([POSTFIX, GMAIL, BEYOND_ASCII]),
)
def test_a_broken_report_is_read_or_says_nothing_and_nothing_of_it_is_kept(junk, start, end, mail):
    raw = mail.encode()
    says = told(raw[:start] + junk + raw[end:])

    assert says is None or says.ref == REF
    assert "borrower" not in repr(says)


@given(st.binary(max_size=2000))
def test_no_bytes_raise(junk):
    assert told(HEAD.encode() + b"b\n\n--b\n" + junk) is None


def test_every_action_of_the_standard_has_its_word():
    assert set(STATUSES) == {"delivered", "relayed", "expanded", "delayed", "failed", "unknown"}
    assert list(STATUSES)[-1] == "failed"


# Over HTTP


async def post(mail, *, ref=TOOLS.callback_token, method="POST"):
    """Bring a mail as curl does: status, receipts."""
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    async with mailer(1) as adapter, open_door() as door, ClientSession() as http:
        door.adapter = adapter
        async with http.request(method, f"{door.url}/{ref}", data=mail, headers=form) as answer:
            return answer.status, door.receipts


async def test_a_report_that_is_posted_is_a_receipt():
    assert await post(POSTFIX) == (204, [failed("550 5.1.1", dead=True)])


@pytest.mark.parametrize("mail", [NO_REPORTS["a reply"], NO_REPORTS["no mail"], b""])
async def test_any_other_mail_is_taken_and_says_nothing(mail):
    assert await post(mail) == (204, [])


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE"])
async def test_any_other_method_says_nothing(method):
    assert await post(POSTFIX, method=method) == (405, [])


async def test_a_report_says_nothing_at_the_address_of_a_link():
    assert await post(POSTFIX, ref=REF) == (400, [])


# What is asked for


async def envelope(*offers, **settings):
    """MAIL and RCPT of a mail."""
    async with peer({}, *offers) as server, mailer(server.port, **settings) as adapter:
        assert (await adapter.send(message())).ending is HandOver.ACCEPTED
        return server.commands[1:3], server.mails[0]


async def test_an_account_with_a_return_path_asks_there_for_every_end():
    commands, mail = await envelope("DSN", return_path="bounces@bank.example")

    assert commands == [
        f"MAIL FROM:<bounces@bank.example> RET=HDRS ENVID={REF}",
        "RCPT TO:<borrower@example.com> NOTIFY=SUCCESS,FAILURE,DELAY",
    ]
    assert b"From: <reminders@bank.example>\r\n" in mail
    assert b"bounces" not in mail


async def test_a_relay_that_gives_no_reports_is_asked_for_none():
    commands, _ = await envelope(return_path="bounces@bank.example")

    assert commands == ["MAIL FROM:<bounces@bank.example>", "RCPT TO:<borrower@example.com>"]
