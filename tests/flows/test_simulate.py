"""What-if over a true send log: reminders sent through the desk, then replayed through other packs and caps."""

from __future__ import annotations

import asyncio
from datetime import date
from importlib import resources
from itertools import count

import httpx2
import pytest
from cli_rig import Shell
from makers import borrower, by_id, debt, rows
from sendrig import ON_SQLITE, TENANT, done
from sqlalchemy import text

from gateway.api.app import build
from gateway.cli.simulate import FIRST_ORDER
from gateway.policy.whatif import Kind
from gateway.policy.written import shipped_files
from gateway.store.audit import AuditStore
from gateway.store.keys import Role
from gateway.whatif import Wanted, WhatIf

SPAN = {"from": "2026-11-24", "to": "2026-11-28"}
WHERE = {"residence": "CN-GD"}
COMMAND = ("policy", "simulate", "--from", "2026-11-24", "--to", "2026-11-28")
PACKS = resources.files("gateway.policy.packs")


@pytest.fixture
async def ask(rig):
    """Asks the route as compliance would."""
    key = await rig.key(Role.COMPLIANCE)
    headers = {"Authorization": f"Bearer {key}"}
    app = httpx2.ASGITransport(app=build(rig.services))
    async with httpx2.AsyncClient(transport=app, base_url="http://gateway", headers=headers) as client:

        async def asked(status=200, **body):
            answer = await client.post("/v1/policy/simulate", json={**SPAN, **body})
            assert answer.status_code == status, answer.text
            return answer.json()

        asked.key = key
        yield asked


@pytest.fixture
def shell(monkeypatch, capsys):
    return Shell(monkeypatch, capsys)


async def send(rig, person, many, **more):
    """So many messages to one person, sent as far as they may be."""
    await rig.put(borrower(person, **{**WHERE, **more}), debt(person))
    names = await rig.take(
        *(by_id(person, idempotency_key=f"{person}.{n}", channels=["sms"], repeat=True) for n in range(many))
    )
    await rig.drain()
    return names


def told(answer):
    """(kind, rule) → count."""
    return {(row["kind"], row["rule"]): row["count"] for row in answer["changes"]}


async def test_a_cap_of_two_would_have_deferred_the_third_of_each_person(rig, ask):
    await send(rig, 1, 4)
    await send(rig, 2, 3)
    await send(rig, 3, 2)
    assert len(rig.reached()) == 8

    found = await ask(caps={"OP.CAPS.DAY": 2})

    assert told(found) == {("deferred", "OP.CAPS.DAY"): 2}
    (row,) = found["changes"]
    assert row["day"] == "2026-11-24"
    assert row["minutes"] == [[22 * 60, 2]]  # 10:00 to 08:00 of the next day, in Shanghai
    assert (found["decisions"], found["reminder_days"]) == (9, 9)
    assert found["undeterminable"] == []
    assert found["next"] is None


@ON_SQLITE
async def test_identical_packs_and_caps_change_nothing_of_all_that_was_tried(rig, ask):
    await send(rig, 1, 4)
    before = [len(await rows(rig.database, table)) for table in ("record", "attempt", "reminder")]

    found = await ask(caps={"OP.CAPS.DAY": 3}, packs=[shipped("CN.GBT"), shipped("OP.CAPS")])

    assert (found["changes"], found["undeterminable"]) == ([], [])
    assert found["decisions"] == 4
    assert [len(await rows(rig.database, table)) for table in ("record", "attempt", "reminder")] == before


def shipped(name):
    (written,) = [written for written in shipped_files() if written.pack.id == name]
    return {"name": written.name, "toml": PACKS.joinpath(written.name).read_text("utf-8")}


@ON_SQLITE
async def test_hours_around_the_clock_would_have_let_the_night_through(rig, ask):
    await rig.advance(hours=13)  # 23:00 in Shanghai
    await send(rig, 1, 2, residence=None)
    pack = shipped("OP.BASELINE")
    pack["toml"] = pack["toml"].replace('open = "08:00", close = "20:00"', 'open = "00:00", close = "24:00"')

    found = await ask(packs=[pack])

    assert rig.reached() == []
    assert told(found) == {("allowed", "OP.BASELINE.HOURS"): 2}
    assert found["changes"][0]["minutes"] == [[9 * 60, 2]]


@ON_SQLITE
async def test_a_fact_that_was_told_decides_and_one_that_was_not_is_undeterminable(rig, ask):
    await send(rig, 1, 1, policy_facts={"attorney": "2026-11-20"})
    await send(rig, 2, 2)

    found = await ask(packs=[{"name": "ours.toml", "toml": ATTORNEY}])

    assert len(rig.reached()) == 3
    assert told(found) == {("blocked", "OURS.ATTORNEY"): 1}
    assert found["undeterminable"] == [{"why": "fact", "fact": "attorney", "count": 2}]


@ON_SQLITE
async def test_a_deferral_that_is_looked_at_again_and_again_counts_once(rig, ask):
    await send(rig, 1, 4)
    for _ in range(3):
        async with rig.database.write() as conn:
            await conn.execute(text("UPDATE reminder SET next_at = 0 WHERE state = 'deferred'"))
        await rig.drain()

    found = await ask(caps={"OP.CAPS.DAY": 9})

    decided = await rows(rig.database, "record", "kind = 'decision'")
    waited = [row.reminder for row in decided if row.reason == "OP.CAPS.DAY"]
    assert len(waited) >= len(set(waited)) + 3
    assert (found["decisions"], found["reminder_days"]) == (len(decided), 4)
    assert told(found) == {("allowed", "OP.CAPS.DAY"): len(set(waited))}


@ON_SQLITE
async def test_pages_add_up_to_the_whole(rig):
    persons = range(1, 13)
    done(await rig.intake.borrowers(TENANT, [borrower(n) for n in persons]))
    done(await rig.intake.debts(TENANT, [{**debt(n), "borrower": f"B-{n}"} for n in persons]))
    await rig.take(*(by_id(n, channels=["sms"]) for n in persons))
    await rig.drain()
    hurried = WhatIf(
        log=AuditStore(rig.database, rig.gateway.vault, rig.gateway.log_keys),
        accounts=rig.gateway.accounts,
        packs=rig.gateway.packs,
        calendars=rig.gateway.overrides.calendars,
        monotonic=count(0, 60).__next__,
    )
    wanted = Wanted(packs=(), caps={"OP.CAPS.DAY": 0}, since=date(2026, 11, 24), until=date(2026, 11, 25))

    first, after = await hurried.page(TENANT, wanted, after="")
    rest, end = await hurried.page(TENANT, wanted, after=after)

    assert [tally.total(Kind.DEFERRED) + tally.total(Kind.BLOCKED) for tally in (first, rest)] == [10, 2]
    assert end is None or (await hurried.page(TENANT, wanted, after=end))[0].decisions == 0


@ON_SQLITE
async def test_only_decisions_of_the_span_count_by_the_borrowers_dates(rig, ask):
    await rig.advance(hours=15)  # 01:00 of the 25th in Shanghai, 17:00 of the 24th in UTC
    await send(rig, 1, 1, residence=None)

    assert (await ask(caps={"OP.CAPS.DAY": 2}, to="2026-11-25"))["decisions"] == 0
    assert (await ask(caps={"OP.CAPS.DAY": 2}, **{"from": "2026-11-25"}))["decisions"] == 1


ATTORNEY = """
[pack]
id = "OURS"
version = "1"
title = "On trial"
source = "docs"
review_status = "Ours."
applies = "everyone"

[[rule]]
id = "OURS.ATTORNEY"
kind = "hold"
fact = "attorney"
cite = "Ours"
force = "operator"
"""
MISTAKES = [
    (
        {"packs": [{"name": "a", "toml": ATTORNEY.replace('"hold"', '"hodl"').replace("cite", "site")}]},
        [("/packs/0/toml", "pack_malformed", "line 12, column 1: /rule/0/kind: this must be one of")],
    ),
    (
        {"packs": [{"name": "a", "toml": ATTORNEY}, {"name": "b", "toml": "[pack"}]},
        [("/packs/1/toml", "pack_malformed", "line 1")],
    ),
    (
        {"packs": [{"name": name, "toml": ATTORNEY} for name in "ab"]},
        [("/packs/1/toml", "pack_malformed", "a pack of the same id")],
    ),
    ({"caps": {"OP.CAPS.DYA": 2}}, [("/caps/OP.CAPS.DYA", "rule_unknown", "no cap of this id")]),
    ({"caps": {"OP.CAPS.DAY": -1}}, [("/caps", "out_of_range", "")]),
    ({"to": "2026-11-24"}, [("/to", "out_of_range", "")]),
    ({"to": "2027-11-26"}, [("/to", "out_of_range", "")]),
    ({"from": "today"}, [("/from", "date_invalid", "")]),
]


@ON_SQLITE
async def test_every_mistake_of_a_proposal_is_told_with_its_line(rig, ask):
    for body, expected in MISTAKES:
        problem = await ask(422, **body)

        found = [(fault["at"], fault["code"], fault["message"]) for fault in problem["errors"]]
        for at, code, message in expected:
            assert any(f[:2] == (at, code) and f[2].startswith(message) for f in found), (body, found)


@ON_SQLITE
async def test_the_command_tells_what_differs_and_draws_it(rig, ask, shell, tmp_path):
    await send(rig, 1, 4)
    shell.set(GATEWAY_API_KEY=ask.key)

    async with rig.served() as url:

        async def simulate(*words):
            return await asyncio.to_thread(shell, *COMMAND, "--url", url, *words)

        differs = await simulate("--cap", "OP.CAPS.DAY=2", "--picture", tmp_path / "days.svg")
        same = await simulate("--packs", "OP.CAPS", "--json")
        refused = await simulate("--cap", "OP.CAPS.DYA=2")

    assert differs.code == 1
    assert differs.out.splitlines() == [
        "4 decisions on 4 reminders (each day counted by itself) replayed, 2026-11-24 to before 2026-11-28",
        "CHANGE    RULE         REMINDERS  MEDIAN",
        "deferred  OP.CAPS.DAY  1          22 h 00 later",
        "",
        "DAY         BLOCKED  DEFERRED  ALLOWED  REROUTED",
        "2026-11-24  0        1         0        0",
        "",
        FIRST_ORDER,
    ]
    assert "2026-11-24: deferred 1" in (tmp_path / "days.svg").read_text("utf-8")
    assert (same.code, same.json["decisions"], same.json["changes"]) == (0, 4, [])
    assert (refused.code, refused.err) == (
        2,
        "--cap OP.CAPS.DYA: no cap of this id; name a rule of kind cap\n",
    )


async def test_a_malformed_pack_is_refused_with_its_line_before_anything_is_asked(shell, tmp_path):
    bad = tmp_path / "ours.toml"
    bad.write_text(ATTORNEY.replace('"hold"', '"hodl"'), "utf-8")

    ran = shell(*COMMAND, "--packs", bad)

    assert ran.code == 2
    assert ran.err.startswith(f"{bad}:12:1: /rule/0/kind: this must be one of")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "say what to try"),
        (["--cap", "OP.CAPS.DAY"], "RULE=NUMBER"),
        (["--packs", "CN.GTB"], "neither a file, a folder nor a pack that ships"),
    ],
)
async def test_the_command_says_what_to_give(shell, words, said):
    ran = shell(*COMMAND, *words)

    assert ran.code == 2
    assert said in ran.err
