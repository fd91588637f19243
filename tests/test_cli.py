"""Operators' commands against a running `gateway up`."""

import json
import os
import re
import signal
import subprocess
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cli_rig import GATEWAY, Shell, environment, free_port, up
from makers import borrower, phone, reminder
from rich.cells import cell_len

from gateway.cli.account import stands
from gateway.standing import Standing, shown
from gateway.store.keys import EVERY

DEFERRED, LATER = 1, 2
"""Numbers of the two reminders that there are."""


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    """A gateway in the middle of a Chinese night, with two reminders and more records than a page holds."""
    folder = tmp_path_factory.mktemp("a data folder")
    with up(folder / "data", "--policy-offset-allowed", "--no-wake") as gateway:
        with gateway.http(gateway.keys["test"]) as http:
            _to_the_night(http)
            many = {"items": [borrower(number) for number in range(100, 620)]}
            assert http.post("/v1/borrowers/batch", json=many).status_code == 200
            later = (_policy_now(http) + timedelta(days=1)).isoformat()
            for number, more in ((DEFERRED, {}), (LATER, {"not_before": later})):
                body = reminder(number, channels=["sms"], **more)
                state = {"state": "open", "state_at": _policy_now(http).isoformat()}
                body["debt"] |= {"governing_law": "CN", "due_date": "2099-12-31", **state}
                body["expires_at"] = (_policy_now(http) + timedelta(days=2)).isoformat()
                assert http.post("/v1/reminders", json=body).status_code == 202
            _until(lambda: _reminder(http, DEFERRED)["decision"])
        yield gateway


def _policy_now(http):
    return datetime.fromisoformat(http.get("/v1/clock").json()["policy"])


def _to_the_night(http):
    now = _policy_now(http)
    night = now.replace(hour=16, minute=0) + timedelta(days=1)
    http.post("/v1/clock", json={"advance_s": round((night - now).total_seconds())})


def _reminder(http, number):
    (found,) = http.get("/v1/reminders", params={"borrower": f"B-{number}"}).json()["items"]
    return http.get(f"/v1/reminders/{found['id']}").json()


def _until(true, patience_s=20):
    end = time.monotonic() + patience_s
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.fixture
def shell(running, monkeypatch, capsys):
    return Shell(monkeypatch, capsys, GATEWAY_DATA=running.data)


@pytest.fixture
def ids(running):
    """The ids of the reminders, by their number."""
    with running.http(running.keys["test"]) as http:
        return {number: _reminder(http, number)["id"] for number in (DEFERRED, LATER)}


# Tenants and keys.


def test_a_tenant_is_made_once_and_listed(shell):
    assert shell("tenant", "create", "northwind").code == 0
    again = shell("tenant", "create", "northwind")

    assert (again.code, again.out) == (2, "")
    assert "there is a tenant of that name already" in again.err
    assert {"default", "northwind"} <= {item["name"] for item in shell("tenant", "list", "--json").json}
    assert re.search(
        r"^northwind +\d{4}-\d\d-\d\dT[\d:]{8}Z +86400$", shell("tenant", "list").out, re.MULTILINE
    )


def test_a_tenants_limit_on_old_debt_states_is_set_on_record(shell):
    shell("tenant", "create", "southwind")
    done = shell("tenant", "set", "southwind", "--stale-after-s", "43200", "--reason", "reported twice a day")

    assert done.code == 0
    limits = {item["name"]: item["stale_after_s"] for item in shell("tenant", "list", "--json").json}
    assert (limits["southwind"], limits["default"]) == (43200, 86400)
    assert shell("tenant", "set", "nobody", "--stale-after-s", "43200", "--reason", "none").code == 2


def test_a_key_is_printed_alone_and_works(shell, running):
    made = shell("apikey", "create", "--tenant", "default", "--role", "ops", "--holder", "night-shift")

    assert made.code == 0
    key = made.out.removesuffix("\n")
    assert re.fullmatch(r"gw_live_\w+", key)
    with running.http(key) as http:
        assert http.get("/v1/log").status_code == 200
        assert http.get("/v1/tenants").status_code == 403


def test_a_key_of_test_mode_as_json_is_listed_without_its_text_and_revoked(shell, running):
    words = ("--tenant", "default", "--role", "service", "--holder", "core", "--mode", "test")
    made = shell("apikey", "create", *words, "--expires", "2099-06-30", "--json").json
    listed = shell("apikey", "list", "--tenant", "default", "--mode", "test")

    assert set(made) == {"id", "key"}
    assert re.search(
        rf"^{made['id']} +default +test +service +core +until 2099-06-30$", listed.out, re.MULTILINE
    )
    assert made["key"].split("_")[3] not in listed.out + shell("apikey", "list", "--json").out
    with running.http(made["key"]) as http:
        assert http.get("/v1/stats").status_code == 200
        assert shell("apikey", "revoke", made["id"]).code == 0
        assert http.get("/v1/stats").status_code == 401
    assert f"{made['id']}" in shell("apikey", "list").out
    assert "revoked" in shell("apikey", "list").out


def test_a_key_of_the_deployment_reaches_every_tenant(shell, running):
    key = shell("apikey", "create", "--tenant", EVERY, "--role", "ops", "--holder", "whole").out.strip()

    with running.http(key) as http:
        assert http.get("/v1/log", headers={"Gateway-Tenant": "default"}).status_code == 200


def test_the_key_that_the_commands_use_is_not_revoked_by_them(shell, running):
    own = (running.data / "admin.key").read_text().split("_")[2]

    refused = shell("apikey", "revoke", own)

    assert refused.code == 2
    assert "make another one" in refused.err
    assert shell("tenant", "list").code == 0


CREATE = ("apikey", "create", "--role", "ops", "--holder", "h", "--tenant", "default")
ASSIGN = ("policy", "assign", "--reason", "r")
MISTAKES = [
    (("tenant", "create", "North Wind"), "NAME: small letters"),
    (("tenant", "create", "13812345678"), "that name no phone, mail or id number"),
    (("tenant", "create", "zhang-13812345678"), "that name no phone, mail or id number"),
    ((*CREATE, "--tenant", "nowhere"), "--tenant: create the tenant first"),
    ((*CREATE, "--holder", "13812345678"), "--holder: letters"),
    ((*CREATE, "--role", "boss"), "--role"),
    ((*CREATE, "--expires", "soon"), "--expires: give a date"),
    ((*CREATE, "--expires", "2020-01-01"), "--expires: give a day that is not over"),
    (("apikey", "create", "--tenant", "default"), "--role"),
    (("apikey", "revoke", "0123456789ab"), "gateway apikey list"),
    (("apikey", "revoke", "../tenants"), "gateway apikey list"),
    (("account", "check", "nothing"), "there is no account of that name here"),
    (("account", "list", "--tenant", "nowhere"), "there is no such tenant"),
    (("account", "list", "--mode", "trial"), "--mode"),
    (("account", "import", "none.toml"), "none.toml: cannot be read"),
    (("explain", "rm_01KAXM5G3V0000000000000000"), "look at the id, at --tenant and at --mode"),
    (("explain", "+8613812345678"), "there is no reminder of that id here"),
    (("log", "--from", "yesterday"), "--from: give an instant with its offset"),
    (("log", "--from", "2026-11-24"), "--from: give an instant with its offset"),
    (("log", "--limit", "0"), "--limit"),
    (("audit", "check", "--from", "24.11.2026", "--to", "2026-11-25"), "--from: give a date (2026-11-24"),
    (("audit", "check", "--from", "2026-11-24", "--to", "2026-11-24"), "--to: give an instant after `from`"),
    (("audit", "check", "--from", "2026-11-24"), "--to"),
    (("tail", "--channel", "x" * 17, "--no-follow"), "--channel: send at most 16 characters"),
    (("caps", "set", "OP.CAPS.NONE", "3", "--reason", "r"), "RULE: there are: OP.CAPS.DAY, OP.CAPS.WEEK"),
    (("caps", "set", "OP.CAPS.DAY", "3", "--reason", "call 13812345678"), "--reason: say why"),
    (("caps", "set", "OP.CAPS.DAY", "3", "--reason", ""), "--reason: say why"),
    (("caps", "set", "OP.CAPS.DAY", "3"), "--reason"),
    (("caps", "set", "OP.CAPS.DAY", "1001", "--reason", "r"), "MAX"),
    ((*ASSIGN, "--pack", "CN.GBT", "--pack", "CN.GTB"), "--pack, no. 2: there are: "),
    ((*ASSIGN, "--licence", "XX"), "--licence, no. 1: send an ISO 3166 code"),
    ((*ASSIGN, "--pack", "CN.GBT", "--pack", "CN.GBT"), "--pack: name each once"),
    ((*ASSIGN, "--institution", "A Bank"), "--institution: a word of small letters"),
    ((*ASSIGN, "--portfolio", "13812345678"), "--portfolio: it reads as a phone number"),
    ((*ASSIGN[:2], "--reason", "call 13812345678"), "--reason: say why"),
    (ASSIGN[:2], "--reason"),
    (("policy", "history", "--portfolio", "a b"), "that is not an id"),
    (("unknown", "settle", "at_01", "--as", "sent", "--reason", "r"), "look at --tenant and at --mode"),
    (("resume", "ps_01KAXM5G3V0000000000000000", "--reason", "r"), "look at --tenant and at --mode"),
    (("quota", "show", "none"), "look at --tenant and at --mode"),
    (("poison", "replay", "rm_1", "13812345678", "--reason", "r"), "REMINDER, no. 2: it reads as a phone"),
    (("tenant", "list", "--operator", "ann"), "--operator is for a PostgreSQL"),
]


@pytest.mark.parametrize(("words", "said"), MISTAKES, ids=[" ".join(words)[:50] for words, _ in MISTAKES])
def test_a_mistake_is_named_and_nothing_else_is_printed(shell, words, said):
    ran = shell(*words)

    assert (ran.code, ran.out) == (2, "")
    assert said in ran.err
    assert "13812345678" not in ran.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("worker", "quiet", "ow_01", "--reason", "r"), "there is no worker of that id"),
        (
            ("tenant", "set", "nobody", "--stale-after-s", "60", "--reason", "r"),
            "there is no tenant of that name",
        ),
    ],
)
def test_what_has_no_tenant_is_not_looked_for_in_another(shell, words, said):
    ran = shell(*words)

    assert (ran.code, ran.out) == (2, "")
    assert said in ran.err
    assert "--tenant" not in ran.err


# Accounts.

ACCOUNT = """
[[account]]
name = "{name}"
tenant = "{tenant}"
mode = "test"
adapter = "smtp"
sender = "reminders@example.com"
endpoint = "smtp://127.0.0.1:{port}"
"""


def test_all_mistakes_of_an_accounts_file_are_named_at_once(shell, tmp_path):
    file = tmp_path / "accounts.toml"
    file.write_text(
        '[[account]]\nname = 5\ntenant = "default"\nmode = "live"\nadapter = "smtp"\nsender = "a@example.com"\n'
        '[[account]]\nname = "b"\nmode = "often"\nadapter = "pigeon"\nsender = "b@example.com"\ncolour = "red"\n'
        '[account.credentials]\npassword = "in-clear-1"\n'
    )

    ran = shell("account", "import", file)

    assert (ran.code, ran.out) == (2, "")
    places = [line.partition(":")[0] for line in ran.err.splitlines()]
    assert places == [
        "account[0].name",
        *("account[1].tenant", "account[1].colour", "account[1].adapter", "account[1].mode"),
        "account[1].credentials.password",
    ]
    assert "in-clear-1" not in ran.err


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "there is no [[account]] in it"),
        ("account = [", "accounts.toml: "),
        ("account = 5", "account: begin each with [[account]]"),
        ("[[accounts]]\n", "accounts: the file holds [[account]] tables and nothing else"),
        ("#" * 262_145, "256 KiB is the most"),
        ("\udcff", "it is not UTF-8 text"),
    ],
)
def test_what_is_no_accounts_file_is_refused(shell, tmp_path, text, said):
    file = tmp_path / "accounts.toml"
    file.write_bytes(text.encode(errors="surrogateescape"))

    ran = shell("account", "import", file)

    assert ran.code == 2
    assert said in ran.err


def test_accounts_of_tenants_that_are_not_there_are_refused_at_their_place(shell, tmp_path):
    file = tmp_path / "accounts.toml"
    text = "".join(ACCOUNT.format(name=n, tenant=t, port=1) for n, t in (("a", "default"), ("b", "nowhere")))
    file.write_text(text)

    ran = shell("account", "import", file)

    assert ran.code == 2
    assert ran.err == "account[1].tenant: there is no such tenant: `gateway tenant create` makes one\n"
    assert "a" not in [item["name"] for item in shell("account", "list", "--mode", "test", "--json").json]


def test_an_account_is_written_once_and_its_check_says_whether_it_works(shell, tmp_path):
    file = tmp_path / "accounts.toml"
    file.write_text(ACCOUNT.format(name="dead", tenant="default", port=free_port()))

    assert shell("account", "import", file).out == "1 written, 0 as they were\n  dead\n"
    assert shell("account", "import", file).out == "0 written, 1 as they were\n"
    checked = shell("account", "check", "dead", "--mode", "test")
    assert checked.code == 1
    assert checked.out.startswith("dead: not usable, ")
    assert shell("account", "check", "dead", "--mode", "test", "--json").json["ok"] is False


def test_a_shared_account_is_listed_with_its_pace_and_share(shell, tmp_path):
    file = tmp_path / "accounts.toml"
    text = ACCOUNT.format(name="shared", tenant="default", port=free_port())
    file.write_text(text.replace('tenant = "default"', "tenants = {default = 3}"))

    assert shell("account", "import", file).code == 0
    (found,) = [a for a in shell("account", "list", "--mode", "test", "--json").json if a["name"] == "shared"]
    assert (found["weight"], found["pace"], found["standing"]["breaker"]) == (3, None, "closed")


@pytest.mark.parametrize(
    ("standing", "said"),
    [
        ({}, "usable"),
        (
            {"breaker": "open", "why": "config", "code": "20003", "since": "S", "probe_at": "P"},
            "down since S (config 20003), asked again P",
        ),
        ({"breaker": "half_open", "why": "errors"}, "coming back, one reminder at a time (it was errors)"),
        ({"used_up_until": "M"}, "its provider's day is used up until M"),
        ({"factor": 0.125}, "usable at 12% of its pace"),
    ],
)
def test_how_an_account_stands_is_said_in_a_few_words(standing, said):
    assert stands(shown(Standing(), datetime.now(UTC)) | standing) == said


def test_the_accounts_that_up_brings_along_are_listed_and_pass_their_check(shell):
    listed = shell("account", "list", "--mode", "test")

    assert re.search(
        r"^sms-intl +twilio_sms +\+150\*\*\*\*0006 +0.0079 USD +500 segments/s +usable$",
        listed.out,
        re.MULTILINE,
    )
    assert shell("account", "check", "sms-cn", "--mode", "test").code == 0
    live = shell("account", "list")
    assert (live.code, live.out) == (0, "")
    assert "gateway account import FILE" in live.err


# Why.


def test_explain_says_every_rules_word(shell, ids):
    ran = shell("explain", ids[DEFERRED], "--mode", "test")

    head, word, *rules = ran.out.splitlines()
    assert head.startswith(f"{ids[DEFERRED]}: deferred, CN.GBT.")
    assert word.startswith("Waits until ")
    assert {line.split(" ")[0] for line in rules} >= {"OP.CAPS.DAY", "OP.CAPS.WEEK"}
    assert any("opens " in line and "Asia/Shanghai" in line for line in rules)


def test_explain_speaks_chinese_and_json(shell, ids):
    chinese = shell("explain", ids[DEFERRED], "--mode", "test", "--lang", "zh").out
    told = shell("explain", ids[DEFERRED], "--mode", "test", "--json").json

    assert re.search(r"[\u4e00-\u9fff]", chinese)
    assert told["decision"]["action"] == "defer"
    assert {"rule", "cite", "counted", "max", "zone", "next"} <= set(told["decision"]["findings"][0])


def test_explain_says_when_nothing_is_decided_yet(shell, ids):
    ran = shell("explain", ids[LATER], "--mode", "test")

    assert ran.code == 0
    assert "Nothing is decided about it yet" in ran.out
    assert shell("explain", ids[LATER], "--mode", "test", "--json").json["decision"] is None


def test_a_reminder_of_test_mode_is_not_found_among_the_live_ones(shell, ids):
    assert shell("explain", ids[DEFERRED]).code == 2


# The log.


def test_log_follows_pages_up_to_its_limit(shell):
    found = shell("log", "--mode", "test", "--limit", "510", "--json").json

    assert len({record["id"] for record in found}) == len(found) == 510
    assert [r["at"] for r in found] == sorted((r["at"] for r in found), reverse=True)
    assert len(shell("log", "--mode", "test", "--limit", "3").out.splitlines()) == 1 + 3


def test_log_holds_to_its_filters(shell, ids):
    mine = shell("log", "--mode", "test", "--borrower", "B-1", "--json").json
    deferred = shell("log", "--mode", "test", "--state", "deferred", "--channel", "sms", "--json").json
    since = mine[0]["at"]
    later = shell("log", "--mode", "test", "--from", since, "--borrower", "B-1", "--json").json
    earlier = shell("log", "--mode", "test", "--to", since, "--borrower", "B-1", "--json").json

    assert {record["borrower"] for record in mine} == {"B-1"}
    assert {record["reminder"] for record in deferred} == {ids[DEFERRED]}
    assert len(later) + len(earlier) == len(mine)
    assert shell("log", "--mode", "test", "--reason", "no_such", "--json").json == []
    assert "no record of that kind" in shell("log", "--mode", "test", "--reason", "no_such").err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is full")
@pytest.mark.parametrize("more", [(), ("--json",)], ids=["table", "json"])
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_an_output_that_takes_nothing_is_named_in_one_line_and_a_closed_pipe_in_none(
    running, more, unbuffered
):
    words = [GATEWAY, "log", "--mode", "test", "--limit", "510", *more]
    kept = environment(GATEWAY_DATA=str(running.data), PYTHONUNBUFFERED=unbuffered)
    with Path("/dev/full").open("w") as full:
        ran = subprocess.run(words, stdout=full, stderr=subprocess.PIPE, text=True, env=kept, check=False)
    read, write = os.pipe()
    os.close(read)
    closed = subprocess.run(words, stdout=write, stderr=subprocess.PIPE, text=True, env=kept, check=False)
    os.close(write)

    said = "gateway: standard output cannot be written: No space left on device\n"
    assert (ran.returncode, ran.stderr) == (2, said)
    assert (closed.returncode, closed.stderr) == (1, "")


def test_the_audit_says_how_many_of_the_sends_broke_a_rule(shell, ids):
    span = ("--from", "2020-01-01", "--to", "2099-01-01T00:00:00+08:00", "--mode", "test")
    sent = shell("log", "--mode", "test", "--state", "sending", "--limit", "500", "--json").json

    told = shell("audit", "check", *span, "--json")
    line = shell("audit", "check", *span)

    assert (told.code, told.json["checked"], told.json["violations"]) == (0, len(sent), [])
    assert (line.code, line.out) == (0, f"0 of {len(sent)} sends broke a rule\n")


def test_a_change_is_in_the_log_with_who_made_it(shell):
    shell("caps", "set", "OP.CAPS.WEEK", "6", "--reason", "complaints in October")

    (record,) = shell("log", "--limit", "1", "--json").json
    assert record["body"]["what"] == "cap"
    assert shell("log", "--limit", "1").out.splitlines()[1].split("  ")[3:] != []
    assert "cap OP.CAPS.WEEK by operator" in shell("log", "--limit", "1").out


def test_tail_begins_with_the_newest_in_the_order_they_came(shell):
    newest = shell("log", "--mode", "test", "--limit", "3", "--json").json
    lines = shell("tail", "--mode", "test", "-n", "3", "--no-follow", "--json").out.splitlines()

    assert [json.loads(line)["id"] for line in lines] == [record["id"] for record in reversed(newest)]
    assert len(shell("tail", "--mode", "test", "-n", "3", "--no-follow").out.splitlines()) == 3


def test_tail_follows_until_it_is_interrupted(shell, running):
    shell("caps", "set", "OP.CAPS.DAY", "3", "--reason", "before it began")
    words = [GATEWAY, "tail", "-n", "0", "--json"]
    with subprocess.Popen(
        words, stdout=subprocess.PIPE, text=True, env=environment(GATEWAY_DATA=str(running.data))
    ) as child:
        try:
            for number in range(200):  # it begins with what comes after it started
                shell("caps", "set", "OP.CAPS.DAY", "3", "--reason", f"try {number}")
                os.set_blocking(child.stdout.fileno(), False)
                if line := child.stdout.readline():
                    break
                time.sleep(0.2)
            os.set_blocking(child.stdout.fileno(), True)
            shell("caps", "set", "OP.CAPS.DAY", "3", "--reason", "the last one")
            told = [json.loads(line)]
            while told[-1]["reason"] != "the last one":
                told.append(json.loads(child.stdout.readline()))
        finally:
            child.send_signal(signal.SIGINT)
            ended = child.wait(10)

    assert ended == 0
    assert len({record["id"] for record in told}) == len(told)
    assert "before it began" not in {record["reason"] for record in told}


# Caps.


def test_a_cap_is_set_with_before_and_after_and_loosening_says_so(shell):
    tighter = shell("caps", "set", "OP.CAPS.DAY", "2", "--reason", "complaints")
    looser = shell("caps", "set", "OP.CAPS.DAY", "4", "--reason", "approved by the board")

    assert re.fullmatch(r"OP\.CAPS\.DAY: \d → 2, ships with 3\n", tighter.out)
    assert tighter.err == ""
    assert looser.out == "OP.CAPS.DAY: 2 → 4, ships with 3\n"
    assert "looser than it ships" in looser.err
    (day,) = [item for item in shell("caps", "list", "--json").json if item["rule"] == "OP.CAPS.DAY"]
    assert (day["max"], day["own"]["max"], day["own"]["reason"]) == (3, 4, "approved by the board")
    assert re.search(r"^OP\.CAPS\.DAY +3 +4 +operator", shell("caps", "list").out, re.MULTILINE)
    assert shell("caps", "list", "--mode", "test", "--json").json[0]["own"] is None


# Packs assigned.


def test_packs_are_assigned_to_the_tenant_and_a_portfolio_on_record(shell):
    assert shell("policy", "assigned").err == "nothing is assigned: the packs of residence and law apply\n"

    whole = ("policy", "assign", "--licence", "US-MA", "--licence", "US-WA", "--pack", "CN.GBT")
    first = shell(*whole, "--reason", "licensed in two states")
    second = shell(
        "policy", "assign", "--licence", "US-MA", "--pack", "CN.GBT", "--reason", "one of them ran out"
    )
    own = ("policy", "assign", "--portfolio", "cards", "--licence", "US-MA", "--pack", "CN.GBT")
    cards = shell(*own, "--institution", "bank", "--reason", "sold to a bank")

    assert first.out == "the whole tenant: nothing → US-MA, US-WA, CN.GBT, version 1\n"
    assert second.out == "the whole tenant: US-MA, US-WA, CN.GBT → US-MA, CN.GBT, version 2\n"
    assert cards.out == "cards: US-MA, CN.GBT → US-MA, CN.GBT, bank, version 1\n"
    assert [ran.code for ran in (first, second, cards)] == [0, 0, 0]
    assert first.err == ""
    assert [ran.err for ran in (second, cards)] == [
        "rules may have gone with it: the send log says who did it and why\n"
    ] * 2
    assert "policy cards by operator" in shell("log", "--limit", "1").out
    stands = shell("policy", "assigned", "--json").json
    assert [(item["portfolio"], item["version"]) for item in stands] == [(None, 2), ("cards", 1)]
    assert re.search(
        r"^the whole tenant +2 +US-MA +- +CN\.GBT +operator", shell("policy", "assigned").out, re.MULTILINE
    )
    versions = shell("policy", "history", "--json").json
    assert [item["licences"] for item in versions] == [["US-MA"], ["US-MA", "US-WA"]]
    assert shell("policy", "history", "--portfolio", "cards", "--json").json == stands[1:]
    assert shell("policy", "history", "--portfolio", "none").err == "nothing was ever assigned to it\n"


def test_top_shows_one_look_and_json_has_all_of_it(shell, running):
    ran = shell("top", "--once", "--mode", "test")
    seen = shell("top", "--once", "--mode", "test", "--json").json

    assert (ran.code, ran.err) == (0, "")
    assert re.match(r"\d\d:\d\d:\d\d UTC +due \d+, oldest \S+ +workers 1/1 +pace by (redis|sql)\n", ran.out)
    with running.http(running.keys["test"]) as http:
        assert seen["states"] == http.get("/v1/stats").json()["states"] != {}
    assert {"lanes", "starts", "accounts", "quotas", "pauses", "queues"} < seen.keys()


def test_what_is_scraped_tells_of_the_backlog_and_of_the_worker_within(running):
    wanted = {'gateway_workers{applied="yes"} 1.0', 'gateway_pauses{kind="stop"} 0.0'}
    with running.http() as http:
        for _ in range(100):
            lines = http.get("/metrics").text.splitlines()
            if wanted <= set(lines):
                break
            time.sleep(0.1)

    assert wanted <= set(lines)
    states = [line for line in lines if line.startswith("gateway_reminders{")]
    assert states
    assert all('tenant="default/test"' in line for line in states)
    assert any(line.startswith("gateway_oldest_due_seconds{") for line in lines)


def test_top_goes_on_until_it_is_interrupted(running):
    words = [GATEWAY, "top", "--json", "--every", "0.5"]
    with subprocess.Popen(
        words, stdout=subprocess.PIPE, text=True, env=environment(GATEWAY_DATA=str(running.data))
    ) as child:
        try:
            looks = [json.loads(child.stdout.readline()) for _ in range(2)]
        finally:
            child.send_signal(signal.SIGINT)
            ended = child.wait(10)

    assert ended == 0
    assert looks[0]["at"] < looks[1]["at"]


# Quotas.

QUOTA = ("quota", "set", "evening", "--mode", "test", "--reason", "agreed with the provider")


def test_a_quota_is_set_changed_and_unset_with_what_stood_before(shell):
    first = shell(*QUOTA, "channel=wechat", "rate=5", "per_day=100", "closed=12:00-14:00")
    second = shell(*QUOTA, "rate=4", "burst=2", "per_day=", "--until", "2h")
    shown = shell("quota", "show", "evening", "--mode", "test")
    listed = shell("quota", "list", "--mode", "test")
    history = shell("quota", "history", "evening", "--mode", "test")
    stale = shell("quota", "set", "evening", "--mode", "test", "--reason", "r", "rate=9", "--version", "1")
    gone = shell("quota", "unset", "evening", "--mode", "test", "--reason", "it was a trial")

    assert first.out.splitlines() == [
        "evening (channel=wechat): none → 5/s, 100/day, closed 12:00-14:00, version 1",
        "applied by 1/1 workers",
    ]
    changed, stood, until, applied = second.out.splitlines()
    assert re.fullmatch(r"what stood was set by operator on \S+Z: agreed with the provider", stood)
    assert changed.endswith("5/s, 100/day, closed 12:00-14:00 → 4/s burst 2, closed 12:00-14:00, version 2")
    assert re.fullmatch(r"until \S+Z, then 5/s, 100/day, closed 12:00-14:00", until)
    assert applied == "applied by 1/1 workers"
    assert re.search(r"^set by +operator on \S+: agreed with the provider$", shown.out, re.MULTILINE)
    assert re.search(r"^evening +\* +channel=wechat +4/s burst 2, closed", listed.out, re.MULTILINE)
    assert [line.split()[0] for line in history.out.splitlines()] == ["VERSION", "2", "1"]
    assert (stale.code, stale.out) == (2, "")
    assert "evening stands at 4/s burst 2, closed 12:00-14:00, version 2\n" in stale.err
    assert "set by operator on" in stale.err
    assert (gone.code, gone.out) == (0, "evening: unset\n")
    assert shell("quota", "unset", "evening", "--mode", "test", "--reason", "r").code == 2
    versions = [
        item["version"] for item in shell("quota", "history", "evening", "--mode", "test", "--json").json
    ]
    assert versions == [3, 2, 1]


def test_an_accounts_own_pace_is_told_as_what_stood_before(shell):
    words = ("pace.sms-intl", "--mode", "test", "--tenant", "default")
    shown = shell("quota", "show", *words, "--json").json
    asked = ("quota", "set", *words, "--reason", "a toll-free number", "rate=3")
    first = shell(*asked)
    gone = shell("quota", "unset", *words, "--reason", "a long code again")
    second = shell(*asked)

    assert (shown["set_by"], shown["rate"]) == ("catalogue", 500)
    assert first.out.splitlines()[0] == "pace.sms-intl (account=sms-intl in segments): 500/s → 3/s, version 1"
    assert (gone.code, gone.out) == (0, "pace.sms-intl: unset\n")
    assert second.out.splitlines()[0].endswith("500/s → 3/s, version 3")
    assert shell("quota", "unset", *words, "--reason", "it was a trial").code == 0


def test_whoever_is_too_late_gets_what_stands_as_json(shell):
    stands = shell(*QUOTA, "rate=5", "--json").json
    stale = shell(*QUOTA, "rate=9", "--version", "1", "--json")
    last = shell(
        "quota", "unset", "evening", "--mode", "test", "--reason", "it was a trial", "--version", "0"
    )

    assert (stale.code, stale.json["code"]) == (2, "stale_version")
    assert {key: stale.json["current"][key] for key in ("rate", "version", "set_by", "reason")} == {
        "rate": 5,
        "version": stands["version"],
        "set_by": "operator",
        "reason": "agreed with the provider",
    }
    assert stale.err.startswith(f"gateway: version {stands['version']} stands")
    assert (last.code, last.err.splitlines()[0]) == (2, f"evening stands at 5/s, version {stands['version']}")
    assert shell("quota", "unset", "evening", "--mode", "test", "--reason", "it was a trial").code == 0


def test_every_mistake_in_a_quota_is_named_in_the_words_of_the_command(shell):
    form = shell(*QUOTA, "rate=fast", "closed=noon", "budget=5", "colour=1")
    bounds = shell(*QUOTA, "rate=0", "per_day=0", "budget=0/CNY/day", "channel=fax", "--until", "yesterday")
    sense = shell(*QUOTA, "burst=2", "per_day=5", "account=none", "each=account", "alarm_at=0.5")

    assert [ran.code for ran in (form, bounds, sense)] == [2, 2, 2]
    assert [line.split(":")[0] for line in form.err.splitlines()] == ["rate", "closed", "budget", "key=value"]
    assert {line.split(":")[0] for line in bounds.err.splitlines()} == {
        "rate",
        "per_day",
        "budget",
        "channel",
        "--until",
    }
    assert "budget: send an amount above 0; to let nothing start, set a pause" in bounds.err.splitlines()
    assert {line.split(":")[0] for line in sense.err.splitlines()} == {"account", "budget"}


def test_a_quota_of_a_tenant_stands_beside_the_deployments_of_the_same_name(shell):
    shell("quota", "set", "both", "--mode", "test", "--reason", "r", "rate=50")
    mine = shell("quota", "set", "both", "--mode", "test", "--tenant", "default", "--reason", "r", "rate=5")

    assert mine.out.splitlines()[0] == "both (everything): none → 5/s, version 1"
    assert shell("quota", "show", "both", "--mode", "test", "--json").json["owner"] == "*"
    own = shell("quota", "show", "both", "--mode", "test", "--tenant", "default", "--json").json
    assert (own["owner"], own["rate"], own["applied"]["by"]) == ("default", 5, 1)
    for tenant in ((), ("--tenant", "default")):
        assert shell("quota", "unset", "both", "--mode", "test", *tenant, "--reason", "r").code == 0


def test_a_change_of_a_quota_is_planned_and_drawn_before_it_is_made(shell, tmp_path):
    picture = tmp_path / "plan.svg"
    words = ("quota", "plan", "trial", "--mode", "test", "channel=sms", "rate=5")
    ran = shell(*words, "--picture", picture)
    (queue,) = shell(*words, "--json").json["queues"]

    assert ran.out.splitlines()[0].split("  ")[0] == "QUEUE"
    assert ran.out.splitlines()[1].startswith("sms default normal")
    assert (queue["waiting"], queue["proposed"]["expires"]) == (2, 0)
    assert queue["now"]["cost"] == queue["proposed"]["cost"] != []
    assert picture.read_text().count("<polyline") == 2
    assert shell("quota", "show", "trial", "--mode", "test").code == 2


def test_every_mistake_in_a_plan_is_named_in_the_words_of_the_command(shell):
    nothing = shell("quota", "plan", "trial", "--mode", "test")
    both = shell("quota", "plan", "trial", "--mode", "test", "rate=5", "--unset")
    form = shell("quota", "plan", "trial", "--mode", "test", "rate=fast", "colour=1")
    bounds = shell(
        "quota", "plan", "trial", "--mode", "test", "rate=0", "channel=fax", "--until", "yesterday"
    )
    gone = shell("quota", "plan", "trial", "--mode", "test", "--unset")

    assert [ran.code for ran in (nothing, both, form, bounds, gone)] == [2] * 5
    assert "--unset" in nothing.err
    assert [line.split(":")[0] for line in form.err.splitlines()] == ["rate", "key=value"]
    assert {line.split(":")[0] for line in bounds.err.splitlines()} == {"rate", "channel", "--until"}
    assert gone.err.startswith("KEY=VALUE: there is no quota of that name")


# Nothing of a person, and nothing wider than the terminal.

LISTS = [
    ("log", "--mode", "test", "--limit", "1000"),
    ("log", "--mode", "test", "--limit", "1000", "--json"),
    ("tail", "--mode", "test", "--no-follow", "-n", "1000"),
    ("top", "--once", "--mode", "test", "--json"),
    ("account", "list", "--mode", "test", "--json"),
    ("apikey", "list", "--json"),
    ("config", "check", "--json"),
]


@pytest.mark.parametrize("words", LISTS, ids=" ".join)
def test_no_command_prints_a_phone_or_a_name(shell, words):
    ran = shell(*words)

    assert ran.code == 0
    said = ran.out + ran.err
    assert "张三" not in said
    assert [number for number in (1, 2, 100, 619) if phone(number)[3:] in said] == []
    assert "+15005550006" not in said


def test_explain_prints_no_phone_and_no_name(shell, ids):
    for number, name in ids.items():
        said = (
            shell("explain", name, "--mode", "test").out
            + shell("explain", name, "--mode", "test", "--json").out
        )
        assert "张三" not in said
        assert phone(number)[3:] not in said


@pytest.mark.parametrize(
    "command", ["log", "tail", "top", "explain", "account", "caps", "config", "policy", "quota", "plan"]
)
def test_a_terminal_of_80_columns_is_enough(shell, ids, command):
    words = {
        "log": ("log", "--mode", "test", "--borrower", "B-1"),
        "tail": ("tail", "--mode", "test", "--no-follow"),
        "top": ("top", "--once", "--mode", "test"),
        "explain": ("explain", ids[DEFERRED], "--mode", "test"),
        "account": ("account", "list", "--mode", "test"),
        "caps": ("caps", "list"),
        "config": ("config", "check"),
        "policy": ("policy", "assigned", "--mode", "test"),
        "quota": ("quota", "list", "--mode", "test"),
        "plan": ("quota", "plan", "trial", "--mode", "test", "channel=sms", "rate=5"),
    }[command]
    shell(*ASSIGN, "--mode", "test", "--licence", "US-MA", "--pack", "CN.GBT", "--institution", "bank")

    lines = shell.on_terminal(80, *words)

    assert max(cell_len(line) for line in lines) <= 80
    if command in {"log", "explain"}:
        assert any(ids[DEFERRED] in line for line in lines)


def test_a_wide_terminal_shows_borrowers_too(shell, ids):
    lines = shell.on_terminal(140, "log", "--mode", "test", "--borrower", "B-1")

    assert any(ids[DEFERRED] in line and "B-1" in line for line in lines)
    assert lines[0].split() == ["at", "kind", "channel", "outcome", "reminder", "borrower"]


# Where the gateway is.


def test_a_gateway_elsewhere_is_reached_by_its_url_and_a_key(shell, running):
    shell.set(GATEWAY_API_KEY=running.keys["test"])

    assert shell("log", "--url", running.url, "--limit", "1").code == 0
    assert [item["name"] for item in shell("tenant", "list", "--url", running.url, "--json").json] == [
        "default"
    ]
    other = shell("log", "--url", running.url, "--mode", "live")
    assert (other.code, "of the other mode" in other.err) == (2, True)
    another = shell("log", "--url", running.url, "--tenant", "northwind")
    assert (another.code, "another tenant's" in another.err) == (2, True)


def test_a_wrong_key_is_refused(shell, running):
    shell.set(GATEWAY_API_KEY="gw_live_wrong")

    ran = shell("tenant", "list", "--url", running.url)

    assert ran.code == 2
    assert "ask an admin for another" in ran.err


@pytest.mark.parametrize(
    "url", ["http://gateway.example.com", "https://", "ftp://127.0.0.1", "127.0.0.1:8080"]
)
def test_a_url_that_would_show_the_key_or_is_none_is_refused(shell, url):
    shell.set(GATEWAY_API_KEY="gw_live_x")

    assert "a key must not travel in clear" in shell("tenant", "list", "--url", url).err


def test_a_url_needs_a_key(shell, running):
    assert "set GATEWAY_API_KEY" in shell("tenant", "list", "--url", running.url).err


def test_whatever_answers_but_is_no_gateway_is_told_apart_from_one(shell):
    endpoints = {
        item["name"]: item["endpoint"] for item in shell("account", "list", "--mode", "test", "--json").json
    }
    shell.set(GATEWAY_API_KEY="gw_live_x")

    assert "it is no gateway" in shell("tenant", "list", "--url", endpoints["sms-intl"]).err
    silent = shell("tenant", "list", "--url", f"http://127.0.0.1:{free_port()}")
    assert (silent.code, "no answer from" in silent.err) == (2, True)


def test_without_a_running_gateway_the_command_says_to_start_one(shell, tmp_path):
    for folder in (tmp_path, tmp_path / "none"):
        ran = shell("tenant", "list", "--data", folder)
        assert ran.code == 2
        assert "start `gateway up` first" in ran.err


def test_a_lock_that_nobody_holds_is_not_believed(shell, tmp_path, running):
    (tmp_path / "lock").write_text(f"process 1, {running.url}\n")
    (tmp_path / "admin.key").write_text("gw_live_x")

    assert "start `gateway up` first" in shell("tenant", "list", "--data", tmp_path).err


def test_a_key_file_that_others_may_read_is_not_used(shell, running):
    file = running.data / "admin.key"
    file.chmod(0o640)
    try:
        ran = shell("tenant", "list")
    finally:
        file.chmod(0o600)

    assert ran.code == 2
    assert "others may read" in ran.err


# Whom the API lets act in which mode.


def test_a_deployments_own_live_key_speaks_for_either_mode_and_no_other_key_does(shell, running):
    whole = {m: shell(*CREATE, "--tenant", EVERY, "--mode", m).out.strip() for m in ("live", "test")}

    def status(key, mode):
        with running.http(key, **{"Gateway-Mode": mode}) as http:
            return http.get("/v1/log").status_code

    assert (status(whole["live"], "live"), status(whole["live"], "test")) == (200, 200)
    assert (status(whole["test"], "test"), status(whole["test"], "live")) == (200, 403)
    assert (status(running.keys["test"], "test"), status(running.keys["test"], "live")) == (200, 403)
    assert (status(running.keys["live"], "test"), status(whole["live"], "trial")) == (403, 422)


@pytest.mark.parametrize("name", ["gateway.operator", "Gateway-Operator"])
def test_nobody_names_an_operator_over_the_network(running, name):
    with running.http(**{name: "ann"}) as http:
        assert http.get("/v1/tenants").status_code == 401


# Pauses and stops.


def test_a_pause_is_set_listed_and_resumed(shell):
    made = shell(
        "pause", "template=pre_due", "channel=sms", "--until", "10m", "--reason", "a wrong amount", "--json"
    )
    assert made.code == 0
    assert made.json["scope"] == {"channel": "sms", "template": "pre_due"}

    listed = shell("pauses", "--json").json
    assert [(item["id"], item["state"], item["owner"]) for item in listed] == [
        (made.json["id"], "active", "*")
    ]
    row = next(line for line in shell("pauses").out.splitlines() if made.json["id"] in line)
    assert "channel=sms template=pre_due" in row
    assert row.endswith("a wrong amount")

    assert shell("resume", made.json["id"], "--ramp", "60", "--reason", "it is right now").code == 0
    assert shell("pauses").err == "nothing is paused or stopped\n"
    again = shell("resume", made.json["id"], "--reason", "it is right now")
    assert (again.code, again.out) == (2, "")
    assert "ended already" in again.err


def test_the_kill_switch_takes_a_second_holder_to_undo(shell, running):
    second = shell("apikey", "create", "--tenant", EVERY, "--role", "admin", "--holder", "second").out.strip()
    stopped = shell("stop", "--all", "--reason", "the wrong template")
    name = stopped.out.partition(":")[0]
    assert stopped.out.startswith(f"{name}: everything stopped\n")

    asked = shell("resume", name, "--reason", "mended")
    assert asked.out == f"{name}: asked for; a second holder has to resume it too, within an hour\n"
    assert "needs_second_holder" in shell("pauses").out
    shell.set(GATEWAY_API_KEY=second)
    assert shell("resume", name, "--reason", "mended", "--url", running.url).out == f"{name}: resuming\n"


def test_what_a_pause_cannot_understand_is_said_all_at_once_and_nothing_is_set(shell):
    wrong = shell(
        *("pause", "colour=red", "channel=sms", "channel=voice", "template_version=two", "--all"),
        *("--reason", "none"),
    )
    unknown = shell(
        "pause", "account=sms-cm", "template=pre_deu", "--until", "2020-01-01T00:00:00Z", "--reason", "x"
    )

    assert (wrong.code, len(wrong.err.splitlines())) == (2, 4)
    assert unknown.code == 2
    assert [line.partition(":")[0] for line in unknown.err.splitlines()] == ["account", "template", "--until"]
    assert shell("pauses").err == "nothing is paused or stopped\n"
