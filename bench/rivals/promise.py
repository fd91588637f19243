"""(e) The promise alone: an intent, a go, a call, an outcome and two records of each, and nothing besides.

python bench/rivals/promise.py CHANNELS

Nobody's hours, caps, consents or quotas are looked at and no change is waited for: it is what at most once costs by
itself, with rows as narrow as they can be and the gateway's own adapters. The gateway's processor beyond it goes into
what it decides, and into being able to say why.
"""

from __future__ import annotations

import asyncio
import gc
import os
import sys
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any

import asyncpg
import orjson
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from obvious import SENDER_MAIL, SENDER_NUMBER, SID, TOKEN, Job, text_of, with_uvloop

from channels import smtp, twilio_sms
from gateway.domain import Account, Handed, Message, Mode, Rendered, Tenant
from gateway.masking import Pii
from gateway.ports import Adapter, Tools

BATCH, AT_ONCE = 128, 128
TICK_S, FLUSH_S = 0.02, 0.1
TENANT = Tenant("acme")
PICK = "SELECT id, job FROM wanted WHERE state = 'waiting' ORDER BY id LIMIT $1 FOR UPDATE SKIP LOCKED"
T1 = """
WITH given AS MATERIALIZED (SELECT * FROM unnest($1::text[], $2::text[], $3::bytea[], $4::bytea[])
    AS g(ref, id, text, leaf)),
intents AS (INSERT INTO attempt (ref, reminder, state, text_enc, deadline)
    SELECT ref, id, 'intent', text, now() + interval '10 s' FROM given),
records AS (INSERT INTO record (id, leaf) SELECT 'decision-' || ref, leaf FROM given)
UPDATE wanted SET state = 'sending', attempt = ref FROM given WHERE wanted.id = given.id"""
GO = """
WITH held AS (SELECT 1 FROM wanted WHERE id = ANY($2::text[]) ORDER BY id FOR UPDATE)
UPDATE attempt SET state = 'calling', called_at = now()
WHERE ref = ANY($1::text[]) AND state = 'intent' AND (SELECT count(*) FROM held) >= 0 RETURNING ref"""
T2 = """
WITH given AS MATERIALIZED (SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bytea[])
    AS g(ref, id, state, provider_id, leaf)),
outcomes AS (UPDATE attempt SET state = given.state, provider_id = given.provider_id, ended_at = now()
    FROM given WHERE attempt.ref = given.ref AND attempt.state = 'calling'),
records AS (INSERT INTO record (id, leaf) SELECT 'outcome-' || ref, leaf FROM given)
UPDATE wanted SET state = 'sent' FROM given WHERE wanted.id = given.id"""


@dataclass(slots=True)
class Intent:
    """One that may be called once it has its go."""

    id: str
    ref: str
    job: Job
    subject: str
    text: str


class Promise:
    """One worker."""

    def __init__(self, rows: Any, adapters: dict[str, Adapter]) -> None:
        self._rows = rows
        self._adapters = adapters
        self._key = AESGCM(bytes(32))
        self._intents: asyncio.Queue[Intent] = asyncio.Queue(BATCH)
        self._ended: asyncio.Queue[tuple[Intent, Handed]] = asyncio.Queue()
        self._room = asyncio.Semaphore(AT_ONCE)
        self._calls: set[asyncio.Task[None]] = set()

    async def intend(self) -> None:
        """T1, until nothing waits any more."""
        while True:
            async with self._rows.acquire() as conn, conn.transaction():
                found = await conn.fetch(PICK, BATCH)
                if not found:
                    return
                intents = [self._intent(row["id"], orjson.loads(row["job"])) for row in found]
                refs, names = [one.ref for one in intents], [one.id for one in intents]
                sealed, leaves = map(self._sealed, intents), map(_decided, intents)
                await conn.execute(T1, refs, names, list(sealed), list(leaves))
            for one in intents:
                await self._intents.put(one)

    def _intent(self, name: str, job: Job) -> Intent:
        return Intent(name, f"at_{os.urandom(10).hex()}", job, *text_of(job))

    def _sealed(self, intent: Intent) -> bytes:
        nonce = os.urandom(12)
        return nonce + self._key.encrypt(nonce, intent.text.encode(), intent.ref.encode())

    async def go(self) -> None:
        """The go and the calls, until cancelled."""
        while True:
            await self._room.acquire()
            ones = [await self._intents.get()]
            while not (self._room.locked() or self._intents.empty()):
                await self._room.acquire()
                ones.append(self._intents.get_nowait())
            async with self._rows.acquire() as conn, conn.transaction():
                granted = await conn.fetch(GO, [one.ref for one in ones], [one.id for one in ones])
            may = {row["ref"] for row in granted}
            for one in ones:
                if one.ref not in may:
                    self._room.release()
                    continue
                call = asyncio.create_task(self._call(one))
                self._calls.add(call)
                call.add_done_callback(self._calls.discard)
            await asyncio.sleep(TICK_S)

    async def _call(self, one: Intent) -> None:
        now, link = datetime.now(UTC), f"http://127.0.0.1:1/{one.ref}"
        subject = Pii(one.subject) if one.subject else None
        message = Message(
            ref=one.ref,
            address=Pii(one.job["address"]),
            rendered=Rendered(language="zh-CN", text=Pii(one.text), sha256="", subject=subject),
            now=now,
            deliver_by=now + timedelta(hours=5),
            callback_url=link,
            unsubscribe_url=link,
        )
        self._ended.put_nowait((one, await self._adapters[one.job["channel"]].send(message)))
        self._room.release()

    async def end(self) -> None:
        """T2, until cancelled."""
        while True:
            ended = [await self._ended.get()]
            await asyncio.sleep(FLUSH_S)
            while not self._ended.empty():
                ended.append(self._ended.get_nowait())
            async with self._rows.acquire() as conn, conn.transaction():
                await conn.execute(
                    T2,
                    [one.ref for one, _ in ended],
                    [one.id for one, _ in ended],
                    [handed.ending.value for _, handed in ended],
                    [handed.provider_id for _, handed in ended],
                    [_came_to(one, handed) for one, handed in ended],
                )


def _decided(one: Intent) -> bytes:
    said = {"kind": "decision", "reminder": one.id, "attempt": one.ref}
    return orjson.dumps({**said, "text": sha256(one.text.encode()).hexdigest()})


def _came_to(one: Intent, handed: Handed) -> bytes:
    return orjson.dumps({"kind": "outcome", "attempt": one.ref, "state": handed.ending.value})


def _account(adapter: str, sender: str, endpoint: str, **more: Any) -> Account:
    return Account(
        tenant=TENANT, name=adapter, mode=Mode.LIVE, adapter=adapter, sender=sender, endpoint=endpoint, **more
    )


def adapters(channels: str) -> dict[str, Adapter]:
    """The gateway's own, by channel."""
    made: dict[str, Adapter] = {}
    no_tokens: Any = None  # neither asks for one
    tools = Tools(tokens=no_tokens, public_url="http://127.0.0.1:1", callback_token="")
    if channels != "email":
        credentials = {"account_sid": Pii(SID), "auth_token": Pii(TOKEN)}
        endpoint = f"http://127.0.0.1:{os.environ['BENCH_TWILIO']}"
        account = _account("twilio_sms", SENDER_NUMBER, endpoint, credentials=credentials)
        made["sms"] = twilio_sms.Adapter(account, tools)
    if channels != "sms":
        endpoint = f"smtp://127.0.0.1:{os.environ['BENCH_SMTP']}"
        settings = {"pool_size": str(AT_ONCE)}
        made["email"] = smtp.Adapter(_account("smtp", SENDER_MAIL, endpoint, settings=settings), tools)
    return made


async def main(channels: str) -> None:
    """Send all that waits, once there is a line on the input."""
    async with asyncpg.create_pool(os.environ["BENCH_POSTGRES"], min_size=6, max_size=6) as rows:
        promise = Promise(rows, adapters(channels))
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        await asyncio.to_thread(sys.stdin.readline)
        duties = [asyncio.create_task(duty) for duty in (promise.go(), promise.end())]
        await asyncio.gather(promise.intend(), promise.intend())
        await asyncio.to_thread(sys.stdin.readline)  # its processor is looked at while it is there
        for duty in duties:
            duty.cancel()


if __name__ == "__main__":
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)
    with_uvloop()
    asyncio.run(main(sys.argv[1]))
