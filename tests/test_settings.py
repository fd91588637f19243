"""Settings are read once, every mistake is named at once, and no value of a variable is ever said."""

import os
from pathlib import Path

import pytest
from pydantic import ValidationError

from gateway.errors import BadInput
from gateway.masking import Pii
from gateway.settings import (
    RedisTarget,
    Settings,
    database_url,
    is_loopback,
    load,
    redis_target,
    require_servers,
    split_listen,
    unknown_variables,
)

SERVED = {
    "redis_url": "redis://h",
    "database_url": "postgresql://u:hemlig@h/main",
    "vault_url": "postgresql://u:hemlig@h/keys",
    "keyring": "ring.json",
    "public_url": "https://gw.example",
}


@pytest.fixture(autouse=True)
def environ(monkeypatch):
    for name in os.environ:
        if name.upper().startswith("GATEWAY_"):
            monkeypatch.delenv(name)
    return monkeypatch


def faults(wrong):
    return {fault.at: fault.message for fault in wrong.value.faults}


def test_without_any_variable_the_embedded_profile_stands():
    settings = load()

    assert settings.listen == "127.0.0.1:8080"
    assert settings.redis_url is None
    assert settings.database.database == ".gateway/gateway.db"
    assert settings.vault.database == ".gateway/vault.db"
    assert settings.keyring_file == Path(".gateway/keyring.json")
    assert (settings.policy_offset_allowed, settings.worker_listen) == (False, None)


def test_variables_are_read_and_options_win(environ):
    environ.setenv("GATEWAY_LISTEN", "0.0.0.0:80")
    environ.setenv("GATEWAY_LOG_LEVEL", "DEBUG")
    environ.setenv("GATEWAY_WORKER_LISTEN", "0.0.0.0:9090")
    environ.setenv("GATEWAY_DATA", "/var/lib/a b")
    environ.setenv("GATEWAY_ACCOUNTS", "")

    settings = load(listen="[::1]:0", log_level=None)

    assert settings.listen == "[::1]:0"
    assert settings.log_level == "debug"
    assert settings.worker_listen == "0.0.0.0:9090"
    assert settings.accounts is None
    assert settings.database.database == "/var/lib/a b/gateway.db"


def test_settings_cannot_be_changed():
    with pytest.raises(ValidationError):
        load().listen = "0.0.0.0:80"


def test_every_setting_says_what_it_is_for():
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []


def test_every_mistake_is_named_at_once_and_no_value_is_said(environ):
    wrong_values = {
        "GATEWAY_LISTEN": "hemlig",
        "GATEWAY_REDIS_URL": "redis://u:hemlig@h/x",
        "GATEWAY_DATABASE_URL": "mysql://u:hemlig@h/x",
        "GATEWAY_DATABASE_DIRECT_URL": "sqlite:///hemlig.db",
        "GATEWAY_VAULT_URL": "hemlig",
        "GATEWAY_PUBLIC_URL": "https://u:hemlig@h",
        "GATEWAY_LOG_LEVEL": "hemlig",
        "GATEWAY_POLICY_OFFSET_ALLOWED": "hemlig",
        "GATEWAY_WORKER_LISTEN": "hemlig",
    }
    for name, value in wrong_values.items():
        environ.setenv(name, value)

    with pytest.raises(BadInput) as wrong:
        load()

    assert faults(wrong).keys() == wrong_values.keys()
    assert "hemlig" not in f"{wrong.value!r}{wrong.value.faults}"
    assert wrong.value.__cause__ is None
    assert wrong.value.__suppress_context__


def test_settings_print_no_password():
    settings = load(**{**SERVED, "redis_url": "redis://u:hemlig@h"})

    assert "hemlig" not in f"{settings} {settings!r} {dict(settings)}"


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("redis://h", RedisTarget(hosts=(("h", 6379),))),
        ("redis://h:1/5", RedisTarget(hosts=(("h", 1),), db=5)),
        ("redis://h/", RedisTarget(hosts=(("h", 6379),))),
        ("redis://[::1]:7", RedisTarget(hosts=(("::1", 7),))),
        ("rediss://:p%40%2F@h", RedisTarget(hosts=(("h", 6379),), password=Pii("p@/"), tls=True)),
        ("redis://u%3A:p@h", RedisTarget(hosts=(("h", 6379),), username="u:", password=Pii("p"))),
        ("redis://u@h", RedisTarget(hosts=(("h", 6379),), username="u")),
        ("unix:///run/a%20b.sock", RedisTarget(path="/run/a b.sock")),
        (
            "redis+sentinel://u:p@a:1,b/svc/2",
            RedisTarget(
                kind="sentinel",
                hosts=(("a", 1), ("b", 26379)),
                service="svc",
                db=2,
                username="u",
                password=Pii("p"),
            ),
        ),
        ("redis+cluster://h", RedisTarget(kind="cluster", hosts=(("h", 6379),))),
        (
            "rediss+cluster://u:p@a:1,b/0",
            RedisTarget(
                kind="cluster", hosts=(("a", 1), ("b", 6379)), username="u", password=Pii("p"), tls=True
            ),
        ),
        ("rediss+sentinel://a/s", RedisTarget(kind="sentinel", hosts=(("a", 26379),), service="s", tls=True)),
    ],
)
def test_redis_urls(url, target):
    assert redis_target(url) == target
    assert load(redis_url=url).redis_url == target


@pytest.mark.parametrize(
    "url",
    [
        "",
        "h:6379",
        "http://h",
        "redis://",
        "redis://a,b",
        "redis://h:x",
        "redis://h:65536",
        "redis://h/x",
        "redis://h/-1",
        "redis://h/1024",
        "redis://h/1/2",
        "redis://h?db=1",
        "redis+cluster://h/1",
        "unix+cluster:///a",
        "redis+else://h",
        "redis+sentinel://h",
        "redis+sentinel://h/s/1/2",
        "unix://h/a.sock",
        "unix://",
        "unix+sentinel:///a",
        "redis://[::1",
    ],
)
def test_other_redis_urls_are_told_the_forms(url):
    with pytest.raises(ValueError, match=r"^give redis://"):
        redis_target(url)


@pytest.mark.parametrize(
    ("plain", "url"),
    [
        ("postgresql://u:p@h:5/d", "postgresql+asyncpg://u:p@h:5/d"),
        ("postgres://h/d", "postgresql+asyncpg://h/d"),
        ("postgresql://h/d?sslmode=require", "postgresql+asyncpg://h/d?ssl=require"),
        ("postgresql:///d?host=/run/pg&port=5", "postgresql+asyncpg:///d?host=%2Frun%2Fpg&port=5"),
        ("sqlite:///a b.db", "sqlite+aiosqlite:///a b.db"),
        ("sqlite:////abs/x.db", "sqlite+aiosqlite:////abs/x.db"),
    ],
)
def test_database_urls(plain, url):
    assert database_url(plain).render_as_string(hide_password=False) == url


@pytest.mark.parametrize(
    "plain",
    [
        "",
        "x",
        "mysql://h/d",
        "postgresql+psycopg://h/d",
        "postgresql://h",
        "postgresql://h:x/d",
        "postgresql://h/d?connect_timeout=5",
        "sqlite://",
        "sqlite:///:memory:",
        "sqlite:///a.db?mode=ro",
        "sqlite://h/a.db",
    ],
)
def test_other_database_urls_are_told_the_forms(plain):
    with pytest.raises(ValueError, match=r"^give postgresql://"):
        database_url(plain)


@pytest.mark.parametrize(
    ("text", "pair"),
    [
        ("127.0.0.1:8080", ("127.0.0.1", 8080)),
        ("localhost:0", ("localhost", 0)),
        ("[::1]:65535", ("::1", 65535)),
    ],
)
def test_where_to_listen(text, pair):
    assert split_listen(text) == pair


@pytest.mark.parametrize(
    "text", ["", "h", ":80", "h:", "h:x", "h:65536", "::1:80", "[x]:80", "[::1]", "a b:1", "h:\u0661"]
)
def test_where_one_cannot_listen(text):
    with pytest.raises(ValueError, match=r"^give host:port"):
        split_listen(text)


@pytest.mark.parametrize(
    ("host", "yes"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("Localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("128.0.0.1", False),
        ("gw.example", False),
    ],
)
def test_loopback(host, yes):
    assert is_loopback(host) is yes


@pytest.mark.parametrize(
    ("url", "kept"),
    [("https://gw.example/", "https://gw.example"), ("http://127.0.0.1:8080/gw", "http://127.0.0.1:8080/gw")],
)
def test_a_public_url_ends_without_a_slash(url, kept):
    assert load(public_url=url).public_url == kept


@pytest.mark.parametrize(
    "url", ["gw.example", "ftp://h", "https://", "https://h?x=1", "https://h#x", "https://u@h"]
)
def test_other_public_urls_are_refused(url):
    with pytest.raises(BadInput) as wrong:
        load(public_url=url)

    assert faults(wrong)["GATEWAY_PUBLIC_URL"].startswith("give https://")


def test_keys_and_data_do_not_share_a_database():
    with pytest.raises(BadInput) as wrong:
        load(**{**SERVED, "vault_url": SERVED["database_url"]})

    assert "GATEWAY_VAULT_URL" in faults(wrong)


def test_servers_need_servers():
    require_servers(load(**SERVED))

    with pytest.raises(BadInput) as wrong:
        require_servers(load())
    assert faults(wrong).keys() == {f"GATEWAY_{name.upper()}" for name in SERVED}

    with pytest.raises(BadInput) as wrong:
        require_servers(load(**{**SERVED, "database_url": "sqlite:///a.db", "vault_url": "sqlite:///b.db"}))
    assert faults(wrong).keys() == {"GATEWAY_DATABASE_URL", "GATEWAY_VAULT_URL"}


def test_variables_that_nothing_reads_are_named():
    environ = ["GATEWAY_DATA", "GATEWAY_QUITE_START", "gateway_one_persn", "HOME", "GATEWAY_KEY", "GATEWAYX"]

    assert unknown_variables(environ, also=["GATEWAY_KEY"]) == ["GATEWAY_QUITE_START", "gateway_one_persn"]
