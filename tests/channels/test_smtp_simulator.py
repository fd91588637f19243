"""The adapter and the shipped relay over real sockets: what the ledger says is what was handed over."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress

import pytest
from rig import open_door
from smtp_peer import REF, TOOLS, mailer, message

from gateway.domain import Handed, HandOver, Outcome, Receipt
from gateway.simulators import smtp
from gateway.simulators.ledger import Ledger, read

LAST = "at_01KB9Z6Q3ZJ5V8W2T4R7M1ZZZZ"


@pytest.fixture
async def relay(tmp_path):
    """A running relay: its port, and a call that reads its ledger."""
    path = tmp_path / "ledger.jsonl"
    ledger = Ledger(path)
    running = await smtp.serve(host="127.0.0.1", port=0, ledger=ledger, delay=0, push_url=None)
    yield running.port, lambda: read(path)
    await running.aclose()
    ledger.close()


async def test_a_mail_is_in_the_ledger_with_our_ref_and_its_words(relay):
    port, ledger = relay
    async with mailer(port, from_name="安心贷") as adapter:
        handed = await adapter.send(message(subject="账单到期提醒", text="请按时还款。\n谢谢"))

    (entry,) = ledger()
    assert handed == Handed(ending=HandOver.ACCEPTED, provider_id=entry["id"])
    assert (entry["provider"], entry["kind"]) == ("smtp", "email")
    assert (entry["to"], entry["ref"]) == ("borrower@example.com", REF)
    assert (entry["subject"], entry["text"]) == ("账单到期提醒", "请按时还款。\r\n谢谢\r\n")
    assert entry["at"]


@pytest.mark.parametrize(
    ("to", "ending", "code", "kept"),
    [
        ("bounce.1@example.com", HandOver.PERMANENT_RECIPIENT, "550 5.1.1", 0),
        ("full@example.com", HandOver.RETRY_AFTER, "452 4.2.2", 0),
        ("grey@example.com", HandOver.RETRY_AFTER, "451 4.7.1", 0),
        ("fast@example.com", HandOver.RETRY_AFTER, "450 4.7.28", 0),
        ("spam@example.com", HandOver.CONTENT, "554 5.7.1", 0),
        ("swallow@example.com", HandOver.UNKNOWN, "disconnected", 1),
        ("张伟@例子.中国", HandOver.ACCEPTED, None, 1),
    ],
)
async def test_what_happens_follows_from_the_recipient(relay, to, ending, code, kept):
    port, ledger = relay
    async with mailer(port) as adapter:
        handed = await adapter.send(message(to=to))

    assert (handed.ending, handed.code) == (ending, code)
    assert len(ledger()) == kept


async def test_greylisting_takes_the_second_try(relay):
    port, ledger = relay
    async with mailer(port) as adapter:
        endings = [(await adapter.send(message(to="grey@example.com"))).ending for _ in range(3)]

    assert endings == [HandOver.RETRY_AFTER, HandOver.ACCEPTED, HandOver.ACCEPTED]
    assert len(ledger()) == 2


async def test_many_mails_at_once_reach_the_ledger_once_each(relay):
    port, ledger = relay
    refs = [f"at_{n:03}" for n in range(60)]
    tos = [("borrower", "spam", "bounce", "swallow")[n % 4] + f"{n}@example.com" for n in range(60)]
    async with mailer(port) as adapter:
        handed = await asyncio.gather(
            *(adapter.send(message(to=to, ref=ref)) for to, ref in zip(tos, refs, strict=True))
        )

    reached = sorted(
        ref for ref, h in zip(refs, handed, strict=True) if h.ending in {HandOver.ACCEPTED, HandOver.UNKNOWN}
    )
    assert sorted(entry["ref"] for entry in ledger()) == reached
    assert len(reached) == 30


@pytest.mark.parametrize(
    ("to", "settings", "receipts"),
    [
        ("dead@example.com", {}, [(Outcome.FAILED, "5.1.1", True)]),
        ("late@example.com", {}, [(Outcome.ACCEPTED, "4.4.1", False)]),
        ("borrower@example.com", {"return_path": "bounces@bank.example"}, [(Outcome.DELIVERED, "2.0.0", False)]),
        ("swallow@example.com", {"return_path": "bounces@bank.example"}, [(Outcome.DELIVERED, "2.0.0", False)]),
        ("borrower@example.com", {}, []),
        ("spam@example.com", {"return_path": "bounces@bank.example"}, []),
    ],
)  # fmt: skip
async def test_a_report_that_was_asked_for_is_posted_where_they_are_read(tmp_path, to, settings, receipts):
    ledger = Ledger(tmp_path / "ledger.jsonl")
    async with open_door() as door:
        url = f"{door.url}/{TOOLS.callback_token}"
        running = await smtp.serve(host="127.0.0.1", port=0, ledger=ledger, delay=0, push_url=url)
        async with mailer(running.port, **settings) as adapter:
            door.adapter = adapter
            await adapter.send(message(to=to))
            await adapter.send(message(to="dead@example.com", ref=LAST))
            await door.wait_for(len(receipts) + 1)
        await running.aclose()
    ledger.close()

    assert [receipt for receipt in door.receipts if receipt.ref != LAST] == [
        Receipt(outcome=outcome, ref=REF, code=code, address_dead=dead) for outcome, code, dead in receipts
    ]


@asynccontextmanager
async def raw(port):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.close()


async def test_closing_ends_open_connections(tmp_path):
    ledger = Ledger(tmp_path / "ledger.jsonl")
    running = await smtp.serve(host="127.0.0.1", port=0, ledger=ledger, delay=0, push_url=None)
    async with raw(running.port) as (reader, _):
        assert (await reader.readline()).startswith(b"220 ")
        await running.aclose()

        with suppress(ConnectionError):
            assert await reader.read(1) == b""
    ledger.close()
