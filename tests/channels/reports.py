"""Delivery reports as mail servers write them, about invented people, for the tests of e-mail."""

from __future__ import annotations

from smtp_peer import REF

POSTFIX = f"""\
Return-Path: <>
Received: by relay.bank.example (Postfix)
\tid 4XbT2k0z; Mon, 30 Nov 2026 17:30:05 +0800 (CST)
Date: Mon, 30 Nov 2026 17:30:05 +0800 (CST)
From: MAILER-DAEMON@relay.bank.example (Mail Delivery System)
Subject: Undelivered Mail Returned to Sender
To: bounces@bank.example
Auto-Submitted: auto-replied
MIME-Version: 1.0
Content-Type: multipart/report; report-type=delivery-status;
\tboundary="4XbT2j1y.1796031005/relay.bank.example"
Message-Id: <20261130093005.4XbT2k0z@relay.bank.example>

This is a MIME-encapsulated message.

--4XbT2j1y.1796031005/relay.bank.example
Content-Description: Notification
Content-Type: text/plain; charset=us-ascii

<borrower@example.com>: host mx.example.com[192.0.2.25] said: 550 5.1.1
    <borrower@example.com>: Recipient address rejected: User unknown (in reply
    to RCPT TO command)

--4XbT2j1y.1796031005/relay.bank.example
Content-Description: Delivery report
Content-Type: message/delivery-status

Reporting-MTA: dns; relay.bank.example
Original-Envelope-Id: {REF}
X-Postfix-Queue-ID: 4XbT2j1y
X-Postfix-Sender: rfc822; bounces@bank.example
Arrival-Date: Mon, 30 Nov 2026 17:30:04 +0800 (CST)

Final-Recipient: rfc822; borrower@example.com
Original-Recipient: rfc822;borrower@example.com
Action: failed
Status: 5.1.1
Remote-MTA: dns; mx.example.com
Diagnostic-Code: smtp; 550 5.1.1 <borrower@example.com>: Recipient address
    rejected: User unknown

--4XbT2j1y.1796031005/relay.bank.example
Content-Description: Undelivered Message Headers
Content-Type: text/rfc822-headers

Return-Path: <bounces@bank.example>
From: <reminders@bank.example>
To: <borrower@example.com>
Subject: Payment due
Message-ID: <{REF}@bank.example>

--4XbT2j1y.1796031005/relay.bank.example--
"""

EXIM = f"""\
From MAILER-DAEMON Mon Nov 30 17:30:05 2026
Return-path: <>
Received: from Debian-exim by relay.bank.example with local (Exim 4.96)
\tid 1tYq3x-0007Ab-2C for bounces@bank.example; Mon, 30 Nov 2026 17:30:05 +0800
X-Failed-Recipients: borrower@example.com
Auto-Submitted: auto-replied
From: Mail Delivery System <Mailer-Daemon@relay.bank.example>
To: bounces@bank.example
Content-Type: multipart/report; report-type=delivery-status; boundary=1796031005-eximdsn-1804289383
MIME-Version: 1.0
Subject: Mail delivery failed: returning message to sender
Message-Id: <E1tYq3x-0007Ab-2C@relay.bank.example>

--1796031005-eximdsn-1804289383
Content-type: text/plain; charset=us-ascii

This message was created automatically by mail delivery software.

  borrower@example.com
    host mx.example.com [192.0.2.25]
    SMTP error from remote mail server after RCPT TO:<borrower@example.com>:
    550-5.1.1 The account does not exist.

--1796031005-eximdsn-1804289383
Content-type: message/delivery-status

Reporting-MTA: dns; relay.bank.example
Original-Envelope-ID: {REF}

Action: failed
Final-Recipient: rfc822;borrower@example.com
Status: 5.0.0
Remote-MTA: dns; mx.example.com
Diagnostic-Code: smtp; 550-5.1.1 The account does not exist.
 550 5.1.1 Please check it.

--1796031005-eximdsn-1804289383
Content-type: text/rfc822-headers

Return-path: <bounces@bank.example>
From: <reminders@bank.example>
Message-ID: <{REF}@bank.example>


--1796031005-eximdsn-1804289383--
"""

EXCHANGE = f"""\
From: <postmaster@example.com>
To: <bounces@bank.example>
Date: Mon, 30 Nov 2026 09:30:05 +0000
Content-Type: multipart/report; report-type=delivery-status;
\tboundary="05feef14-0a2a-4ad5-9e0c-6b2b39a2e7b1"
X-MS-Exchange-Message-Is-Ndr:
Content-Language: en-US
Message-ID: <9e1c4b7f-9a55-4a2b-8d5a-3c57e6a4e1f0@mail.example.com>
In-Reply-To: <{REF}@bank.example>
Subject: Undeliverable: Payment due
Auto-Submitted: auto-replied

--05feef14-0a2a-4ad5-9e0c-6b2b39a2e7b1
Content-Type: multipart/alternative; differences=Content-Type;
\tboundary="2f9c5ad0-7b8c-4e1a-b4de-31fd2b9d5c3e"

--2f9c5ad0-7b8c-4e1a-b4de-31fd2b9d5c3e
Content-Type: text/plain; charset="utf-8"
Content-Transfer-Encoding: base64

WW91ciBtZXNzYWdlIGNvdWxkbid0IGJlIGRlbGl2ZXJlZC4=

--2f9c5ad0-7b8c-4e1a-b4de-31fd2b9d5c3e
Content-Type: text/html; charset="utf-8"

<p>Your message to borrower@example.com couldn't be delivered.</p>

--2f9c5ad0-7b8c-4e1a-b4de-31fd2b9d5c3e--

--05feef14-0a2a-4ad5-9e0c-6b2b39a2e7b1
Content-Type: message/delivery-status

Reporting-MTA: dns;mail.example.com
Received-From-MTA: dns;relay.bank.example
Arrival-Date: Mon, 30 Nov 2026 09:30:04 +0000

Final-Recipient: rfc822;borrower@example.com
Action: failed
Status: 5.1.10
Diagnostic-Code: smtp;550 5.1.10 RESOLVER.ADR.RecipientNotFound; Recipient not found by SMTP address lookup
X-Display-Name: Borrower

--05feef14-0a2a-4ad5-9e0c-6b2b39a2e7b1
Content-Type: message/rfc822

Received: from relay.bank.example (192.0.2.7) by mail.example.com
From: <reminders@bank.example>
To: <borrower@example.com>
Subject: Payment due
Message-ID: <{REF}@bank.example>
MIME-Version: 1.0

Please pay.

--05feef14-0a2a-4ad5-9e0c-6b2b39a2e7b1--
"""

GMAIL = f"""\
Return-Path: <>
From: Mail Delivery Subsystem <mailer-daemon@mail.example.net>
To: bounces@bank.example
Auto-Submitted: auto-replied
Subject: Delivery Status Notification (Failure)
References: <{REF}@bank.example>
In-Reply-To: <{REF}@bank.example>
X-Failed-Recipients: borrower@example.com
Message-ID: <6a0b1c2d.050a0220.1a2b3c.4d5e.GMR@mx.example.net>
Date: Mon, 30 Nov 2026 01:30:05 -0800 (PST)
Content-Type: multipart/report; boundary="00000000000081a3d9062a1b2c3d"; report-type=delivery-status

--00000000000081a3d9062a1b2c3d
Content-Type: multipart/related; boundary="00000000000081a3e2062a1b2c40"

--00000000000081a3e2062a1b2c40
Content-Type: text/plain; charset="UTF-8"

Your message wasn't delivered to borrower@example.com.

--00000000000081a3e2062a1b2c40--
--00000000000081a3d9062a1b2c3d
Content-Type: message/delivery-status

Reporting-MTA: dns; mail.example.net
Arrival-Date: Mon, 30 Nov 2026 01:30:04 -0800 (PST)
X-Original-Message-ID: <{REF}@bank.example>

Final-Recipient: rfc822; borrower@example.com
Action: failed
Status: 5.7.26
Remote-MTA: dns; mx.example.com. (192.0.2.25, the server for the domain example.com.)
Diagnostic-Code: smtp; 550-5.7.26 This mail has been blocked because the sender is
 550-5.7.26 unauthenticated. - gsmtp
Last-Attempt-Date: Mon, 30 Nov 2026 01:30:05 -0800 (PST)

--00000000000081a3d9062a1b2c3d
Content-Type: message/rfc822

From: <reminders@bank.example>
To: <borrower@example.com>
Subject: Payment due
Message-ID: <{REF}@bank.example>

Please pay.

--00000000000081a3d9062a1b2c3d--
"""

BEYOND_ASCII = """\
From: MAILER-DAEMON@relay.bank.example
To: bounces@bank.example
MIME-Version: 1.0
Content-Type: multipart/report; report-type=delivery-status; boundary=utf8

--utf8
Content-Type: text/plain; charset=utf-8
Content-Transfer-Encoding: 8bit

<张伟@例子.中国> 没有这个邮箱

--utf8
Content-Type: message/global-delivery-status
Content-Transfer-Encoding: 8bit

Reporting-MTA: dns; relay.bank.example

Final-Recipient: utf-8; 张伟@例子.中国
Action: failed
Status: 5.1.1
Diagnostic-Code: smtp; 550 5.1.1 <张伟@例子.中国> 没有这个邮箱

--utf8
Content-Type: message/global-headers
Content-Transfer-Encoding: base64

RnJvbTogPHJlbWluZGVyc0BiYW5rLmV4YW1wbGU+DQpNZXNzYWdlLUlEOiA8YXRfMDFLQjlaNlEz
Wko1VjhXMlQ0UjdNMU4wUFFAYmFuay5leGFtcGxlPg0K

--utf8--
"""


def fate(action="failed", status="5.1.1", said=None):
    """The fields of one recipient."""
    lines = ["Final-Recipient: rfc822; borrower@example.com", f"Action: {action}"]
    lines += [f"Status: {status}"] if status else []
    return "\n".join([*lines, f"Diagnostic-Code: {said}"] if said else lines)


def report(*fates, ref=REF, returned=None):
    """A plain report of these fates: by the envelope's id (`ref`), by the Message-ID that came back, or by neither."""
    about = "Reporting-MTA: dns; relay.bank.example" + (f"\nOriginal-Envelope-Id: {ref}" if ref else "")
    came_back = (
        f"From: <reminders@bank.example>\nMessage-ID: {returned}\n"
        if returned
        else "From: <a@bank.example>\n"
    )
    return (
        "From: MAILER-DAEMON@relay.bank.example\nTo: bounces@bank.example\nMIME-Version: 1.0\n"
        'Content-Type: multipart/report; report-type=delivery-status; boundary="b"\n\n'
        "--b\nContent-Type: text/plain\n\nWhat happened.\n"
        "\n--b\nContent-Type: message/delivery-status\n\n" + "\n\n".join([about, *fates]) + "\n"
        f"\n--b\nContent-Type: text/rfc822-headers\n\n{came_back}\n--b--\n"
    )
