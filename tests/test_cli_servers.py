"""Operators' commands and `config check` against PostgreSQL and Redis, without a running gateway."""

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import time
from contextlib import contextmanager

import asyncpg
import pytest
from cli_rig import Shell, free_port

from gateway.cli import probes
from gateway.cli.probes import APART_FAIL_S, APART_WARN_S, apart
from gateway.embedded import valkey_binary
from gateway.processes import PROGRAM
from gateway.settings import database_url, load
from gateway.store import migrate
from gateway.store.database import Database
from gateway.vault import KeyRing, Vault


@pytest.fixture(scope="module")
def place(postgres, tmp_path_factory):
    """Two prepared databases and a key ring, as variables."""
    folder = tmp_path_factory.mktemp("servers")
    asyncio.run(
        postgres.say("CREATE DATABASE cli_data", "CREATE DATABASE cli_vault", "CREATE DATABASE cli_bare")
    )
    ring = KeyRing.create(folder / "keyring.json")
    data, vault = postgres.url("cli_data"), postgres.url("cli_vault")

    async def prepare():
        store, database = Vault(database_url(vault), ring), Database(data)
        await store.prepare()
        await migrate.upgrade(database)
        await store.aclose()
        await database.aclose()

    asyncio.run(prepare())
    return {
        "GATEWAY_DATABASE_URL": data,
        "GATEWAY_VAULT_URL": vault,
        "GATEWAY_KEYRING": ring.path,
        "GATEWAY_PUBLIC_URL": "https://reminders.example.com",
    }


@pytest.fixture
def shell(place, monkeypatch, capsys):
    return Shell(monkeypatch, capsys, **place)


def ask(url, query):
    async def rows():
        conn = await asyncpg.connect(url)
        try:
            return await conn.fetch(query)
        finally:
            await conn.close()

    return asyncio.run(rows())


def test_a_named_operator_needs_no_key_and_stands_in_the_history(shell, place):
    assert shell("tenant", "create", "acme", "--operator", "ann").code == 0
    made = shell(
        "apikey", "create", "--tenant", "acme", "--role", "ops", "--holder", "bob", "--operator", "cleo"
    )
    assert re.fullmatch(r"gw_live_\w+\n", made.out)
    shell(
        "caps", "set", "OP.CAPS.DAY", "2", "--reason", "complaints", "--tenant", "acme", "--operator", "dan"
    )

    history = ask(place["GATEWAY_DATABASE_URL"], "SELECT tenant, kind, who FROM change ORDER BY id")
    assert [tuple(row) for row in history] == [
        ("acme/live", "tenant", "ann"),
        ("acme/live", "api_key", "cleo"),
        ("acme/live", "cap", "dan"),
    ]
    told = shell("log", "--tenant", "acme", "--json").json
    assert {record["body"]["who"] for record in told} == {"ann", "cleo", "dan"}


def test_the_user_of_the_machine_is_the_operator_when_none_is_named(shell, monkeypatch):
    monkeypatch.setenv("LOGNAME", "night.shift")
    shell("tenant", "create", "beta")

    assert shell("log", "--tenant", "beta", "--json").json[0]["body"]["who"] == "night.shift"


@pytest.mark.parametrize("name", ["ann smith", "13812345678", "ann@example.com", "x" * 65])
def test_an_operators_name_is_an_id_that_tells_no_number(shell, name):
    ran = shell("tenant", "list", "--operator", name)

    assert (ran.code, ran.out) == (2, "")
    assert "--operator" in ran.err
    assert name not in ran.err


def test_accounts_are_brought_in_listed_and_tried(shell, tmp_path):
    shell("tenant", "create", "gamma")
    file = tmp_path / "accounts.toml"
    file.write_text(
        '[[account]]\nname = "mail"\ntenant = "gamma"\nmode = "test"\nadapter = "smtp"\n'
        f'sender = "reminders@example.com"\nendpoint = "smtp://127.0.0.1:{free_port()}"\n'
    )

    brought = shell("account", "import", file)
    assert (brought.code, brought.out, brought.err) == (0, "1 written, 0 as they were\n  mail\n", "")
    (listed,) = shell("account", "list", "--tenant", "gamma", "--mode", "test", "--json").json
    assert listed["callback_url"].startswith("https://reminders.example.com/cb/smtp/mail/")
    assert shell("account", "check", "mail", "--tenant", "gamma", "--mode", "test").code == 1


def test_without_vault_and_key_ring_both_are_asked_for(shell, monkeypatch):
    monkeypatch.delenv("GATEWAY_VAULT_URL")
    monkeypatch.delenv("GATEWAY_KEYRING")

    ran = shell("tenant", "list")

    assert ran.code == 2
    assert [line.partition(":")[0] for line in ran.err.splitlines()] == [
        "GATEWAY_VAULT_URL",
        "GATEWAY_KEYRING",
    ]


def test_a_database_without_tables_asks_for_the_upgrade(shell, postgres):
    ran = shell("tenant", "list", "--database-url", postgres.url("cli_bare"))

    assert ran.code == 2
    assert "run `gateway db upgrade`" in ran.err


@pytest.mark.parametrize("broken", ["nobody listens", "no such database", "a wrong password"])
def test_a_database_that_does_not_let_us_in_is_said_without_its_password(shell, postgres, broken):
    url = {
        "nobody listens": f"postgresql://postgres:secret-word@127.0.0.1:{free_port()}/x",
        "no such database": postgres.url("nowhere"),
        "a wrong password": postgres.url("cli_data").replace(postgres.password, "secret-word"),
    }[broken]

    for words in (("tenant", "list"), ("config", "check")):
        ran = shell(*words, "--database-url", url)
        assert ran.code in {1, 2}
        assert "does not answer" in ran.out + ran.err
        assert "secret-word" not in ran.out + ran.err
        assert postgres.password not in ran.out + ran.err


# What config check says of servers.


async def test_servers_that_take_a_connection_and_say_nothing_are_given_up(place):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        where = f"127.0.0.1:{silent.getsockname()[1]}"
        urls = {name: f"postgresql://u@{where}/{name}" for name in ("database_url", "vault_url")}
        settings = load(**urls, keyring=place["GATEWAY_KEYRING"], redis_url=f"redis://{where}")
        lines = [
            *await probes.postgresql(settings, 0.3),
            await probes.vault(settings, 0.3),
            *await probes.redis(settings.redis_url),
        ]

    assert [(line.check, line.status) for line in lines] == [
        (c, "fail") for c in ("database", "vault", "redis")
    ]
    assert all(line.word.startswith("it does not answer") for line in lines)


@contextmanager
def valkey(folder, *more):
    """A Valkey of the test's own, on loopback."""
    port = free_port()
    words = [
        valkey_binary(),
        "--port",
        str(port),
        "--bind",
        "127.0.0.1",
        "--dir",
        folder,
        "--save",
        "",
        *more,
    ]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as child:
        try:
            assert any("Ready to accept" in line for line in child.stdout)
            yield f"127.0.0.1:{port}"
        finally:
            child.terminate()
            child.wait(10)


USER = ("user", "gateway", "on", ">only-for-tests", "~*", "&*", "+@all", "-config")


@pytest.fixture(scope="module")
def redis(tmp_path_factory):
    """One that keeps nothing and evicts, with a user who may not see its settings."""
    words = ("--appendonly", "no", "--maxmemory-policy", "allkeys-lru", "--user", *USER[1:])
    with valkey(tmp_path_factory.mktemp("valkey"), *words) as address:
        yield address


def checked(ran):
    """Check → (status, word); of a check with several lines the worst."""
    order = ["ok", "warn", "fail"]
    found = {}
    for line in sorted(ran.json, key=lambda line: order.index(line["status"])):
        found[line["check"]] = (line["status"], line["word"])
    return found


def test_servers_in_order_pass_with_their_versions(shell, tmp_path):
    with valkey(tmp_path, "--appendonly", "yes", "--maxmemory-policy", "noeviction") as address:
        ran = shell("config", "check", "--json", "--redis-url", f"redis://{address}")

    told = checked(ran)
    assert ran.code == 0
    assert re.fullmatch(r"PostgreSQL \d+\.\d+", told["database"][1])
    assert re.fullmatch(r"Valkey \d+\.\d+\.\d+", told["redis"][1])
    for check in (
        "database",
        "database clock",
        "schema",
        "vault",
        "redis",
        "redis clock",
        "redis settings",
        "packs",
    ):
        assert told[check][0] == "ok", check
    assert told["accounts"][0] in {"ok", "warn"}


def test_a_redis_that_forgets_and_evicts_is_warned_of(shell, redis):
    ran = shell("config", "check", "--json", "--redis-url", f"redis://{redis}")

    words = [line["word"] for line in ran.json if line["check"] == "redis settings"]
    assert ran.code == 0
    assert len(words) == 2
    assert "maxmemory-policy is allkeys-lru" in words[0]
    assert "appendonly is off" in words[1]


def test_a_redis_that_refuses_to_show_its_settings_is_only_warned_of(shell, redis):
    ran = shell("config", "check", "--json", "--redis-url", f"redis://gateway:only-for-tests@{redis}")

    assert ran.code == 0
    assert checked(ran)["redis settings"][0] == "warn"
    assert "managed" in checked(ran)["redis settings"][1]


def test_proposed_caps_are_tried_over_postgresql(shell):
    shell("tenant", "create", "gamma", "--operator", "ann")
    span = ("--from", "2026-11-01", "--to", "2026-12-01")

    ran = shell(
        "policy", "simulate", "--tenant", "gamma", "--operator", "ann", "--cap", "OP.CAPS.DAY=2", *span
    )

    assert ran.code == 0, ran.err
    assert ran.out.startswith("0 decisions on 0 reminders")


@pytest.mark.parametrize(
    ("login", "said"), [("gateway:wrong-word@", "it refuses the login"), (None, "it does not answer")]
)
def test_a_redis_that_does_not_let_us_in_is_a_failure(shell, redis, login, said):
    url = f"redis://127.0.0.1:{free_port()}" if login is None else f"redis://{login}{redis}"
    ran = shell("config", "check", "--json", "--redis-url", url)

    assert ran.code == 1
    assert checked(ran)["redis"] == ("fail", checked(ran)["redis"][1])
    assert said in checked(ran)["redis"][1]
    assert "wrong-word" not in ran.out


def test_what_servers_lack_is_named_at_once(shell, monkeypatch, postgres):
    for name in ("GATEWAY_PUBLIC_URL", "GATEWAY_KEYRING"):
        monkeypatch.delenv(name)
    ran = shell("config", "check", "--json", "--database-url", postgres.url("cli_bare"), "--data", "none")

    words = [line["word"] for line in ran.json if line["check"] == "settings" and line["status"] == "fail"]
    told = checked(ran)
    assert ran.code == 1
    assert [word.partition(":")[0] for word in words] == [
        "GATEWAY_REDIS_URL",
        "GATEWAY_KEYRING",
        "GATEWAY_PUBLIC_URL",
    ]
    assert told["schema"] == (
        "fail",
        "the database is not at this version's schema: run `gateway db upgrade`",
    )
    assert told["vault"][0] == "fail"


def test_another_key_ring_than_the_vaults_is_a_failure(shell, tmp_path):
    ring = KeyRing.create(tmp_path / "other.json")
    ran = shell("config", "check", "--json", "--keyring", ring.path)

    assert ran.code == 1
    assert "this key ring is not the one" in checked(ran)["vault"][1]


@pytest.mark.parametrize(
    ("seconds", "status"),
    [
        (0.0, "ok"),
        (APART_WARN_S, "ok"),
        (-APART_WARN_S, "ok"),
        (APART_WARN_S + 0.01, "warn"),
        (-APART_WARN_S - 0.01, "warn"),
        (APART_FAIL_S, "warn"),
        (APART_FAIL_S + 0.01, "fail"),
        (-APART_FAIL_S - 0.01, "fail"),
    ],
)
def test_clocks_may_be_two_seconds_apart_and_not_more_than_ten(seconds, status):
    assert apart("redis clock", seconds).status == status


def test_a_clock_that_is_wrong_says_in_which_direction():
    assert "3.0 s ahead of this machine" in apart("redis clock", 3.0).word
    assert "3.0 s behind this machine" in apart("redis clock", -3.0).word


def test_json_of_config_check_has_three_keys_a_line(shell):
    ran = shell("config", "check", "--json")

    assert all(set(line) == {"check", "status", "word"} for line in json.loads(ran.out))


# Several workers under one command.


class Several:
    """`gateway worker --processes 2`, and the workers that came to be since it was started."""

    def __init__(self, place, folder, *words):
        self.url, self.log = place["GATEWAY_DATABASE_URL"], folder / "said"
        self.before = {row["id"] for row in self.rows()}
        environ = {**os.environ, **{name: str(value) for name, value in place.items()}}
        with self.log.open("w") as said:
            self.parent = subprocess.Popen(
                [*PROGRAM, "worker", "--processes", "2", *words], env=environ, stdout=said, stderr=said
            )

    def rows(self):
        return ask(self.url, "SELECT id, place, dead_at FROM owner ORDER BY started_at")

    def owners(self):
        return [row for row in self.rows() if row["id"] not in self.before]

    def pids(self, number):
        """Those of so many workers, once there are so many."""
        self.until(lambda: len(self.owners()) == number)
        return [int(re.findall(r"[0-9]+", row["place"])[-1]) for row in self.owners()]

    def until(self, true):
        for _ in range(300):
            if true():
                return
            time.sleep(0.1)
        pytest.fail(self.log.read_text())


@contextmanager
def several(*args):
    """Run them; none is left at the end, as its parent is gone."""
    them = Several(*args)
    try:
        yield them
    finally:
        them.parent.kill()
        them.parent.wait(10)


def lives(pid):
    """Whether it runs, or its exit code was not asked for yet."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.fixture
def nowhere():
    return f"redis://127.0.0.1:{free_port()}"


def test_one_command_runs_several_workers_replaces_who_dies_and_ends_all_together(place, tmp_path):
    with valkey(tmp_path) as redis:
        words = ("--worker-listen", "127.0.0.1:0", "--redis-url", f"redis://{redis}")
        with several(place, tmp_path, *words) as them:
            first, second = them.pids(2)
            os.kill(first, signal.SIGKILL)
            *_, third = them.pids(3)
            for pid in (them.parent.pid, second, third):  # an init system may tell each of a service
                os.kill(pid, signal.SIGTERM)
            code = them.parent.wait(40)

    assert code == 0, them.log.read_text()
    _, *ended = them.owners()  # the killed one is found dead by now or not: that takes six seconds
    assert all(row["dead_at"] is not None for row in ended)


def test_a_set_up_that_one_of_several_cannot_use_ends_all(place, tmp_path, nowhere):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        option = f"--worker-listen=127.0.0.1:{port - 1}"
        with several(place, tmp_path, "--redis-url", nowhere, option) as them:
            assert them.parent.wait(40) == 2, them.log.read_text()

    assert f"cannot listen on 127.0.0.1:{port} " in them.log.read_text()
    assert all(row["dead_at"] is not None for row in them.owners())  # the one whose port was free


def test_a_second_signal_ends_all_at_once(place, tmp_path, nowhere):
    with several(place, tmp_path, "--redis-url", nowhere) as them:
        pids = them.pids(2)
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)  # none can drain
        them.parent.terminate()
        with pytest.raises(subprocess.TimeoutExpired):
            them.parent.wait(1)
        them.parent.terminate()

        assert them.parent.wait(10) == 1
        assert not any(map(lives, pids))
        assert [row["dead_at"] for row in them.owners()] == [None, None]


def test_workers_whose_parent_is_gone_drain_and_end(place, tmp_path, nowhere):
    with several(place, tmp_path, "--redis-url", nowhere) as them:
        pids = them.pids(2)
        them.parent.kill()
        for pid in pids:
            os.kill(
                pid, signal.SIGTERM
            )  # what an init system does to those that are left: it cuts nothing short
        them.until(lambda: all(row["dead_at"] is not None for row in them.owners()))
