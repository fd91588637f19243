"""Every adapter brings what CONTRIBUTING.md asks for and is described."""

import re
from collections.abc import Mapping
from datetime import timedelta
from importlib import import_module

import pytest
from house import heading, text, tracked
from pydantic import BaseModel

import channels
from gateway import ports
from gateway.domain import Channel, HandOver, Outcome

NAMES = channels.names()
TABLES = ("CODES", "REPLIES")
"""What providers answer: codes, or SMTP's replies."""


def module(name):
    return import_module(f"channels.{name}")


def section(name):
    found = re.search(rf"^## {name}$(.*?)(?=^## |\Z)", text("docs/channels.md"), re.MULTILINE | re.DOTALL)
    return found[1] if found else ""


def test_the_five_adapters_are_there():
    assert {"twilio_sms", "twilio_voice", "aliyun_sms", "smtp", "wechat"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_an_adapter_says_what_its_endings_depend_on(name):
    adapter = channels.load(name)

    assert [name for name in ports.Adapter.__annotations__ if not hasattr(adapter, name)] == []
    assert isinstance(adapter.channel, Channel)
    assert isinstance(adapter.takes_free_text, bool)
    assert (adapter.technology in {"live", "prerecorded", "ai_voice"}) == (adapter.channel is Channel.VOICE)
    assert not hasattr(adapter, "receive") or isinstance(adapter.provider_signs, bool)
    assert hasattr(adapter, "at_once")
    assert adapter.final
    assert adapter.final <= set(Outcome)
    for bound in ("final_after", "call_timeout"):
        assert timedelta(0) < getattr(adapter, bound) <= timedelta(days=7)
    assert timedelta(0) <= adapter.reach <= adapter.final_after
    assert callable(adapter.send)
    assert callable(adapter.aclose)


@pytest.mark.parametrize("name", NAMES)
def test_a_table_of_codes_has_a_row_for_what_nobody_knows_and_it_is_no_yes(name):
    [table] = [getattr(module(name), word) for word in TABLES if hasattr(module(name), word)]

    assert isinstance(table, Mapping)
    row = table["unknown"]
    ending = getattr(row, "ending", row)
    assert ending in HandOver
    assert ending is not HandOver.ACCEPTED


@pytest.mark.parametrize("name", NAMES)
def test_a_table_of_states_has_a_row_for_what_nobody_knows(name):
    states = getattr(module(name), "STATUSES", {"unknown": Outcome.UNKNOWN})
    row = states["unknown"]

    assert (row[0] if isinstance(row, tuple) else row) is Outcome.UNKNOWN


@pytest.mark.parametrize("name", NAMES)
def test_settings_refuse_what_they_do_not_know_and_hide_their_secrets(name):
    settings = module(name).Settings

    assert issubclass(settings, BaseModel)
    assert settings.model_config["extra"] == "forbid"
    assert settings.model_config["frozen"]
    secret = re.compile(r"secret|token|password|(?<!_)key(?!_id|_sid)")
    bare = [
        field
        for field, info in settings.model_fields.items()
        if secret.search(field) and "SecretStr" not in str(info.annotation)
    ]
    assert bare == []


@pytest.mark.parametrize("name", NAMES)
def test_an_adapter_and_each_of_its_settings_is_described(name):
    assert name in heading("docs/channels.md", 2)
    told = section(name) + (section("twilio_sms") if name == "twilio_voice" else "")

    assert [field for field in module(name).Settings.model_fields if f"`{field}`" not in told] == []
    for word in ("Dedupe", "Unknown", "Never"):
        assert f"**{word}" in told


@pytest.mark.parametrize("name", NAMES)
def test_an_adapter_has_tests_of_its_own(name):
    assert [path for path in tracked() if path.match(f"tests/channels/test_{name}*.py")]
