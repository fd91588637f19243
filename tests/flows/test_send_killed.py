"""Real processes, killed in the middle: what comes after has all of it, and nobody is reached twice."""

import asyncio
import os
import re
import signal
import sqlite3
import sys
from collections import Counter
from contextlib import asynccontextmanager
from datetime import datetime

import aiohttp
import pytest
import sendrig
from makers import borrower, by_id, contact, debt, phone, reminder, rows
from sqlalchemy import insert

import examples
from gateway.simulators.ledger import read as read_ledger
from gateway.store import migrate
from gateway.store.database import Database
from gateway.store.schema import tenant
from gateway.vault import KeyRing

MORNING = "2026-11-25T03:20:00+00:00"
"""11:20 in China, 08:50 in India."""
FINAL = {"sent", "delivered", "read", "failed", "suppressed", "expired", "cancelled"}
WAITING = {"waiting", "deferred"}
PEOPLE = [n for n in range(100, 113) if n % 10 not in {7, 8, 9}]
EVERYWHERE = [
    {"channel": "sms", "value": phone(1), "kind": "personal"},
    {"channel": "email", "value": "zhangsan@example.com", "kind": "personal"},
]


@asynccontextmanager
async def command(*words, **env):
    """A `gateway` command as its own process; killed at the block's end if it is still there."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", "from gateway.cli import main; main()", *words),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env={**{k: v for k, v in os.environ.items() if not k.startswith("GATEWAY_")}, **env},
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def ready(process):
    """The keys it prints at its very first start, once it says that it is ready."""
    said = ""
    async with asyncio.timeout(25):
        while line := (await process.stdout.readline()).decode():
            said += line
            if line.startswith("ready "):
                return {key[:8]: key for key in re.findall(r"gw_\w{4}_\S+", said)}
    raise AssertionError("it did not start")


async def until(true):
    async with asyncio.timeout(25):
        while not (found := await true()):  # noqa: ASYNC110 (other processes set no event)
            await asyncio.sleep(0.05)
    return found


def read(data, statement):
    """Rows of the data folder's database, by another reader."""
    conn = sqlite3.connect(f"file:{data}/gateway.db?mode=ro", uri=True)
    try:
        return conn.execute(statement).fetchall()
    finally:
        conn.close()


def part_of_the_examples():
    """What the examples hold for every fifth of their borrowers, of each country and case.

    Reminders come last: a call under way while its debt changes is not asked about by the same request again.
    """
    whole = examples.load()
    debts = [d for d in whole.debts if int(d["borrower"].rpartition("-")[2]) % 5 == 0]
    names, chosen = {d["id"] for d in debts}, {d["borrower"] for d in debts}
    parts = [
        ("/v1/borrowers/batch", [b for b in whole.borrowers if b["id"] in chosen]),
        ("/v1/debts/batch", debts),
        ("/v1/contacts/batch", [c for c in whole.contacts if c["borrower"] in chosen]),
        ("/v1/debts/events/batch", [e for e in whole.events if e["debt"] in names]),
        ("/v1/reminders/batch", [r for r in whole.reminders if r["borrower"] in chosen]),
    ]
    return [(path, items) for path, items in parts if items]


async def test_a_gateway_that_is_killed_in_the_middle_and_started_anew_reaches_nobody_twice(tmp_path):
    """`gateway up` as the demo runs it: the simulators die with it, and their ledger is what they know again."""
    data, listen = tmp_path / "data", f"127.0.0.1:{sendrig.free_port()}"
    words = ("up", "--data", str(data), "--listen", listen, "--policy-offset-allowed", "--quarantine-s", "1")

    def reached():
        return read_ledger(data / "simulators.jsonl")

    async with command(*words) as first:
        keys = await ready(first)
        await next_fault(data, "aliyun_sms", mode="slow", seconds=0.5)
        await next_fault(data, "wechat", mode="swallow")
        headers = {"Authorization": f"Bearer {keys['gw_test_']}"}
        async with aiohttp.ClientSession(f"http://{listen}", headers=headers) as http:
            await move_clock(http, MORNING)
            for path, items in part_of_the_examples():
                async with http.post(path, json={"items": items}) as answer:
                    results = (await answer.json()).get("results", [])
                    assert Counter(r["status"] < 300 for r in results) == {True: len(items)}, path
        await until(lambda: asyncio.sleep(0, len(reached()) >= 10 and by_kind(reached())["wechat"] >= 3))
        first.kill()
        await first.wait()
    cut = Counter(dict(read(data, "SELECT state, count(*) FROM attempt GROUP BY state")))
    before = len(reached())

    async with command(*words) as second:
        assert await ready(second) == {}
        await until(lambda: asyncio.sleep(0, at_rest(data)))
        second.terminate()
        assert await asyncio.wait_for(second.wait(), 20) == 0

    assert cut["calling"] >= 3
    assert len(reached()) >= before
    states = Counter(dict(read(data, "SELECT state, count(*) FROM reminder GROUP BY state")))
    assert set(states) <= FINAL | WAITING | {"unknown"}
    assert states["sent"] + states["delivered"] + states["read"] + states["unknown"] >= 25
    assert states["unknown"] <= cut["calling"]
    refs = dict(read(data, "SELECT ref, reminder FROM attempt WHERE origin = 'gateway'"))
    assert {line["ref"] for line in reached()} <= set(refs)
    assert Counter(refs[line["ref"]] for line in reached()).most_common(1)[0][1] == 1
    assert by_kind(reached())["wechat"] >= 3
    assert [row for row in parked(data) if tells(row, reached())] == []
    assert read(data, "SELECT ref FROM attempt WHERE state IN ('intent', 'calling')") == []


@pytest.fixture
async def cluster(postgres, tmp_path, simulators):
    """A gateway on PostgreSQL as `gateway db upgrade` leaves it, and the words of a worker of it."""
    await postgres.say("CREATE DATABASE cluster")
    url, ring = postgres.url("cluster"), KeyRing.create(tmp_path / "keyring.json")
    database = Database(url)
    await migrate.upgrade(database)
    async with database.write() as conn:
        await conn.execute(insert(tenant).values(name="acme", created_at=0))
    await database.aclose()
    environ = {
        "GATEWAY_DATABASE_URL": f"{url}?sslmode=disable",
        "GATEWAY_VAULT_URL": url,
        "GATEWAY_REDIS_URL": f"redis://127.0.0.1:{sendrig.NEVER}",
        "GATEWAY_KEYRING": str(tmp_path / "keyring.json"),
        "GATEWAY_PUBLIC_URL": f"http://127.0.0.1:{sendrig.NEVER}",
    }
    async with sendrig.opened(url, url, ring, simulators) as rig:
        yield rig, environ
    await postgres.say("DROP DATABASE cluster WITH (FORCE)")


async def test_of_two_worker_processes_one_is_killed_and_one_drains_and_both_sent_once(cluster):
    """`gateway worker` twice, without any Redis: the last slot, then calls whose process dies."""
    rig, environ = cluster
    await rig.put(borrower(1, addresses=EVERYWHERE), debt(1))
    await rig.contacts(
        *(contact(1, idempotency_key=f"c{n}", channel="sms", outcome="sent") for n in range(2))
    )
    await rig.take(
        *(
            by_id(1, idempotency_key=f"{channel}{n}", channels=[channel], repeat=True)
            for channel in ("sms", "email")
            for n in range(100)
        )
    )
    async with command("worker", **environ) as one, command("worker", **environ) as other:
        await rig.until(lambda: weighed(rig, 200))
        assert len(rig.reached()) == 1
        assert await rig.states() == {("sent", None): 1, ("deferred", "OP.CAPS.DAY"): 199}

        other.send_signal(signal.SIGSTOP)  # so that the one to be killed has all the calls
        await rig.simulators.next("aliyun", "swallow", count=10)
        await rig.take(*(reminder(n, channels=["sms"]) for n in PEOPLE))
        await rig.until(lambda: asyncio.sleep(0.02, len(rig.reached()) == 11))
        one.kill()
        await one.wait()
        other.send_signal(signal.SIGCONT)
        await rig.aged("owner.heartbeat_at", "lease.until", seconds=20)
        await rig.until(lambda: stand(rig, "unknown"))
        await rig.aged("attempt.settle_at", seconds=120)
        await rig.until(lambda: stand(rig, "sent", "delivered"))
        other.terminate()
        assert await asyncio.wait_for(other.wait(), 20) == 0

    assert Counter(line["to"] for line in rig.reached()[1:]) == {phone(n): 1 for n in PEOPLE}


async def weighed(rig, count):
    return (
        len(await rows(rig.database, "reminder", "fence >= 1 AND state NOT IN ('sending', 'waiting')"))
        == count
    )


async def stand(rig, *states):
    """Whether the reminders whose process was killed all stand so."""
    found = await rows(rig.database, "reminder", "person <> (SELECT person FROM borrower WHERE id = 'B-1')")
    return {row.state for row in found} <= set(states)


async def next_fault(data, adapter, **fault):
    """Change how the simulator behind an adapter answers, so that a kill finds calls under way."""
    ((endpoint,),) = read(data, f"SELECT endpoint FROM account WHERE adapter = '{adapter}'")
    fault["count"] = 10_000
    async with aiohttp.ClientSession() as http, http.post(f"{endpoint}/_sim/next", json=fault) as answer:
        assert answer.status == 200


def by_kind(lines):
    return Counter(line["kind"] for line in lines)


def at_rest(data):
    """Whether nothing is due, under way or to be asked about."""
    open_ones = read(
        data,
        "SELECT 1 FROM attempt WHERE state IN ('intent', 'calling')"
        " OR (state = 'unknown' AND settle_tries = 0 AND settle_at IS NOT NULL)"
        " UNION ALL SELECT 1 FROM reminder WHERE state = 'sending' OR next_at <= "
        "(SELECT CAST((julianday('now') - 2440587.5) * 86400000000 AS INTEGER) + offset_us FROM clock)",
    )
    return not open_ones


def parked(data):
    """Attempts that nobody could tell of, and that nobody is asked about any more."""
    return read(data, "SELECT ref, adapter FROM attempt WHERE state = 'unknown' AND settle_at IS NULL")


def tells(attempt, ledger):
    """Whether the provider could have told: it lists messages, and this one cannot be taken for another."""
    ref, adapter = attempt
    mine = [line for line in ledger if line["ref"] == ref]
    alike = [
        line for line in ledger if mine and (line["to"], line["kind"]) == (mine[0]["to"], mine[0]["kind"])
    ]
    return adapter != "smtp" and bool(mine) and (adapter == "aliyun_sms" or len(alike) == 1)


async def move_clock(http, to):
    async with http.get("/v1/clock") as answer:
        now = datetime.fromisoformat((await answer.json())["policy"])
    seconds = round((datetime.fromisoformat(to) - now).total_seconds())
    async with http.post("/v1/clock", json={"advance_s": seconds}) as answer:
        assert answer.status == 200, await answer.text()
