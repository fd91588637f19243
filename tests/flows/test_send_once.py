"""However often a batch is sent and wherever it is cut off: the same ids, one call each. Questions keep nothing."""

import asyncio
import json
from collections import Counter

import aiohttp
import pytest
from makers import by_id, phone, reminder
from sendrig import ON_SQLITE, TENANT
from sqlalchemy import text

from gateway.store.keys import Role
from gateway.store.schema import metadata

COUNT = 30


@pytest.fixture
async def calling(rig):
    """Posts to the API over a socket with a service's key."""
    key = await rig.key(Role.SERVICE)
    headers = {"Authorization": f"Bearer {key}"}
    async with rig.served() as url, aiohttp.ClientSession(url, headers=headers) as http:

        async def post(path, body):
            async with http.post(path, json=body) as answer:
                return answer.status, await answer.read()

        post.headers = headers
        yield post


def batch():
    return {"items": [reminder(n, channels=["sms"]) for n in range(100, 100 + COUNT)]}


async def cut_off(rig, headers, body, *, sent, until):
    """Send a part of a request (1.0: all of it), wait, and hang up without having read a word."""
    host, _, port = rig.gateway.place.public_url.removeprefix("http://").rpartition(":")
    payload = json.dumps(body).encode()
    head = "POST /v1/reminders/batch HTTP/1.1\r\nHost: gateway\r\nContent-Type: application/json\r\n"
    head += f"Authorization: {headers['Authorization']}\r\nContent-Length: {len(payload)}\r\n\r\n"
    _, writer = await asyncio.open_connection(host, int(port))
    writer.write(head.encode() + payload[: int(len(payload) * sent)])
    await writer.drain()
    await rig.until(until)
    writer.close()
    await writer.wait_closed()


async def counted(rig, table):
    async with rig.database.read() as conn:
        return await conn.scalar(text(f"SELECT count(*) FROM {table}"))


async def test_a_batch_that_was_cut_off_and_sent_again_three_times_calls_everyone_once(rig, calling):
    await cut_off(rig, calling.headers, batch(), sent=0.5, until=lambda: asyncio.sleep(0.05, result=True))
    assert await counted(rig, "reminder") == 0
    await cut_off(rig, calling.headers, batch(), sent=1.0, until=lambda: counted(rig, "reminder"))

    first, second = await asyncio.gather(*(calling("/v1/reminders/batch", batch()) for _ in range(2)))
    await rig.drain()
    third = await calling("/v1/reminders/batch", batch())
    await rig.drain()

    assert first == second == third
    assert first[0] == 200
    results = json.loads(first[1])["results"]
    assert {result["status"] for result in results} == {202}
    assert len({result["body"]["id"] for result in results}) == COUNT
    assert await counted(rig, "reminder") == COUNT
    assert Counter(line["to"] for line in rig.reached()) == {phone(n): 1 for n in range(100, 100 + COUNT)}
    assert await rig.states() == {("sent", None): COUNT}


async def test_the_same_job_run_twice_under_other_keys_reaches_nobody_twice(rig, calling):
    again = {"items": [{**item, "idempotency_key": f"again-{n}"} for n, item in enumerate(batch()["items"])]}
    for body in (batch(), again):
        status, _ = await calling("/v1/reminders/batch", body)
        assert status == 200
    await rig.drain()

    assert await rig.states() == {("sent", None): COUNT, ("suppressed", "duplicate"): COUNT}
    assert len(rig.reached()) == COUNT


@ON_SQLITE
async def test_one_bad_item_spoils_none_of_the_others(rig, calling):
    body = batch()
    body["items"][7]["channels"] = ["pigeon"]
    _, answer = await calling("/v1/reminders/batch", body)
    await rig.drain()

    assert Counter(result["status"] for result in json.loads(answer)["results"]) == {202: COUNT - 1, 422: 1}
    assert len(rig.reached()) == COUNT - 1


async def everything(rig):
    """How many rows every table has."""
    return {table: await counted(rig, table) for table in metadata.tables}


async def test_a_preview_says_what_would_be_and_keeps_nothing(rig):
    await rig.take(reminder(1, channels=["sms"]))
    await rig.drain()
    before, reached = await everything(rig), rig.reached()

    known = await rig.services.asks.preview(
        TENANT, by_id(1, template="care", purpose="service_notice", channels=["sms"])
    )
    new = await rig.services.asks.preview(TENANT, reminder(2, channels=["sms"]))

    assert before["reminder"] == before["attempt"] == 1
    for told in (known, new):
        assert told["decision"]["action"] == "send"
        assert told["rendered"][0]["channel"] == "sms"
        assert "张三" in told["rendered"][0]["text"]
    assert await everything(rig) == before
    await rig.drain()
    assert rig.reached() == reached
