"""What becomes of mails that a relay took, by the reports that come to the return path and are posted on."""

from __future__ import annotations

from contextlib import asynccontextmanager, closing

import aiohttp
import pytest
from makers import borrower, by_id, debt, reminder, rows
from sendrig import ON_SQLITE, SIGNED_IN, TENANT

import channels
from gateway.accounts import parse
from gateway.errors import NotFound
from gateway.simulators import smtp
from gateway.simulators.ledger import Ledger

RETURN_PATH = "bounces@example.com"
STRANGE = "at_01JDQ0000000000000000000AA"


def at(address):
    """A borrower with that mailbox, and a phone abroad."""
    mail = {"channel": "email", "value": address, "kind": "personal"}
    sms = {"channel": "sms", "value": "+12025550110", "kind": "personal"}
    return borrower(1, addresses=[mail, sms])


def report(ref, action="failed", status="5.1.1"):
    """A report about one attempt, as it is posted."""
    lines = (
        "Content-Type: multipart/report; report-type=delivery-status; boundary=b",
        "",
        "--b",
        "Content-Type: message/delivery-status",
        "",
        "Reporting-MTA: dns; relay.example.com",
        f"Original-Envelope-Id: {ref}",
        "",
        "Final-Recipient: rfc822; zhangsan@example.com",
        f"Action: {action}",
        f"Status: {status}",
        "",
        "--b--",
    )
    return "\r\n".join(lines).encode()


def callback_url(rig, account="mail"):
    """Where a mail server posts what comes to an account's return path."""
    return rig.gateway.accounts.callback_url(rig.gateway.accounts.named(TENANT, account).account)


async def posted(rig, mail, *, account="mail", token=None):
    """Post a mail, without a socket."""
    return await rig.receive(
        "smtp", account, token or callback_url(rig, account).rpartition("/")[2], body=mail
    )


async def bring_in(rig, port, *, settings=f'return_path = "{RETURN_PATH}"'):
    """The account's relay is at this port, and it has these settings."""
    text = rig.simulators.accounts(smtp=port)
    text = text.replace(
        'sender = "reminders@example.com"\n', f'sender = "reminders@example.com"\nsettings = {{{settings}}}\n'
    )
    drawn = parse(text, adapters=channels.names(), environ=SIGNED_IN)
    await rig.gateway.account_desk.bring_in(drawn, who="tests", reason="a test")
    await rig.gateway.accounts.refresh()


@asynccontextmanager
async def relay_that_reports(rig, folder, **more):
    """The API on its socket, and a relay that posts its reports there."""
    async with rig.served():
        with closing(Ledger(folder / "relay.jsonl")) as ledger:
            url = callback_url(rig)
            running = await smtp.serve(host="127.0.0.1", port=0, ledger=ledger, delay=0.05, push_url=url)
            try:
                await bring_in(rig, running.port, **more)
                yield
            finally:
                await running.aclose()


async def sent_to(rig, address, **more):
    """A mail that was just handed over: the name of its reminder."""
    await rig.put(at(address), debt(1))
    (name,) = await rig.take(by_id(1, channels=["email"], **more))
    await rig.drain()
    return name


async def stands(rig, name, state):
    row = await rig.reminder(name)
    return row if row.state == state else None


async def next_mail(rig):
    """What becomes of another mail to the same borrower."""
    (name,) = await rig.take(by_id(1, idempotency_key="next", channels=["email"], repeat=True))
    await rig.drain()
    row = await rig.reminder(name)
    return row.state, row.reason


async def test_a_mail_whose_reply_was_lost_is_delivered_once_its_relay_says_so(rig, tmp_path):
    async with relay_that_reports(rig, tmp_path):
        name = await sent_to(rig, "swallow@example.com")
        assert [a.ending for a in await rig.attempts()] == ["unknown"]
        await rig.until(lambda: stands(rig, name, "delivered"))

    (attempt,) = await rig.attempts()
    assert (attempt.state, attempt.code, attempt.settle_at) == ("delivered", "2.0.0", None)


async def test_a_mail_that_bounces_has_failed_and_its_address_is_dead(rig, tmp_path):
    async with relay_that_reports(rig, tmp_path):
        name = await sent_to(rig, "dead@example.com", escalate=[{"after_s": 3600, "channel": "sms"}])
        await rig.until(lambda: stands(rig, name, "failed"))
        assert await next_mail(rig) == ("suppressed", "no_address")

    (attempt,) = await rig.attempts()
    assert (attempt.state, attempt.ending, attempt.code) == ("failed", "accepted", "5.1.1")
    await rig.advance(minutes=61)
    await rig.drain()
    assert [line["kind"] for line in rig.reached()] == ["sms"]


@ON_SQLITE
async def test_without_a_return_path_only_what_goes_wrong_is_reported(rig, tmp_path):
    async with relay_that_reports(rig, tmp_path, settings=""):
        fine = await sent_to(rig, "zhangsan@example.com")
        (bad,) = await rig.take(
            reminder(2, borrower={**at("dead@example.com"), "id": "B-2"}, channels=["email"])
        )
        await rig.drain()
        await rig.until(lambda: stands(rig, bad, "failed"))

    assert (await rig.reminder(fine)).state == "sent"


@ON_SQLITE
@pytest.mark.parametrize(
    ("to", "ending"), [("swallow@example.com", "unknown"), ("san@example.com", "accepted")]
)
async def test_a_mail_that_is_delayed_is_with_its_relay_and_nothing_is_final(to, ending, rig):
    name = await sent_to(rig, to)
    (before,) = await rig.attempts()
    assert before.state == ending

    assert (await posted(rig, report(before.ref, "delayed", "4.4.1"))).status == 204

    (after,) = await rig.attempts()
    assert (after.state, after.ending) == ("accepted", ending)
    assert abs(after.final_at - before.final_at) < 1_000_000
    assert (await rig.reminder(name)).state == "sent"
    assert len(await rows(rig.database, "record", "kind = 'receipt'")) == (ending == "unknown")
    assert (await next_mail(rig))[1] is None


@ON_SQLITE
@pytest.mark.parametrize(
    ("status", "then"), [("5.1.1", ("suppressed", "no_address")), ("5.7.26", ("sent", None))]
)
async def test_only_a_bounce_for_the_addresss_own_sake_strikes_it_out(status, then, rig):
    await sent_to(rig, "san@example.com")
    (attempt,) = await rig.attempts()

    for _ in range(2):
        assert (await posted(rig, report(attempt.ref, "failed", status))).status == 204

    (after,) = await rig.attempts()
    assert (after.state, after.code) == ("failed", status)
    assert len(await rows(rig.database, "record", "kind = 'receipt'")) == 1
    assert await next_mail(rig) == then


@ON_SQLITE
async def test_a_mail_that_was_delivered_stays_so(rig):
    name = await sent_to(rig, "san@example.com")
    (attempt,) = await rig.attempts()

    for action, status in (
        ("relayed", "2.0.0"),
        ("delivered", "2.0.0"),
        ("delayed", "4.4.1"),
        ("failed", "4.4.7"),
    ):
        await posted(rig, report(attempt.ref, action, status))

    assert (await rig.reminder(name)).state == "delivered"


async def everything(rig):
    """Every row of the tables that a receipt may touch."""
    tables = ("attempt", "attempt_ref", "reminder", "borrower", "address", "record", "record_side")
    return {table: sorted(map(repr, await rows(rig.database, table))) for table in tables}


async def test_a_mail_about_nothing_of_ours_is_taken_and_leaves_no_trace(rig):
    """A mail server sends again what is not taken."""
    await sent_to(rig, "san@example.com")
    before = await everything(rig)

    for mail in (
        report(STRANGE),
        report("their-own-id"),
        b"From: zhangsan@example.com\r\nAuto-Submitted: auto-replied\r\n\r\nI am away.\r\n",
        b"\xff" * 1000,
        b"",
    ):
        assert (await posted(rig, mail)).status == 204

    assert await everything(rig) == before


async def test_a_report_about_another_accounts_attempt_changes_nothing(rig):
    await rig.put(at("san@example.com"), debt(1))
    await rig.take(by_id(1, channels=["sms"]))
    await rig.drain()
    (attempt,) = await rig.attempts()
    before = await everything(rig)

    assert (await posted(rig, report(attempt.ref))).status == 204
    assert await everything(rig) == before


async def test_who_does_not_know_an_accounts_address_says_nothing(rig):
    await sent_to(rig, "san@example.com")
    (attempt,) = await rig.attempts()
    before = await everything(rig)

    for token in ("guessed", "0" * 32, attempt.ref, STRANGE, callback_url(rig, "sms-cn").rpartition("/")[2]):
        with pytest.raises(NotFound):
            await posted(rig, report(attempt.ref), token=token)

    assert await everything(rig) == before


async def test_over_the_wire_a_report_is_taken_as_curl_posts_it(sqlite_url, open_rig):
    rig = await open_rig(sqlite_url)
    name = await sent_to(rig, "san@example.com")
    (attempt,) = await rig.attempts()
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    answers = []
    async with rig.served(), aiohttp.ClientSession(headers=form) as http:
        url = callback_url(rig)
        mail = report(attempt.ref)
        for at_, body in ((url[:-1], mail), (url, mail + b"x" * 256 * 1024), (url, b"nothing"), (url, mail)):
            async with http.post(at_, data=body) as answer:
                answers.append(answer.status)

    assert answers == [404, 413, 204, 204]
    assert (await rig.reminder(name)).state == "failed"
