"""Every command can be loaded and says what it does."""

import click
import pytest

from gateway.cli import COMMANDS, gateway
from gateway.cli.mistakes import Command


def walk(name, command):
    yield name, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for inner in command.list_commands(context):
            yield from walk(f"{name} {inner}", command.get_command(context, inner))


def load(name):
    return gateway.get_command(click.Context(gateway), name)


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_a_command_is_found_under_its_name_with_a_line_of_help(name):
    command = load(name)

    assert isinstance(command, click.Command)
    assert command.name == name
    assert COMMANDS[name][1].endswith(".")


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_everything_below_a_command_explains_itself(name):
    silent = []
    for path, command in walk(name, load(name)):
        silent += [path] if not (command.help or "").strip() else []
        silent += [
            f"{path} {option.opts[0]}"
            for option in command.params
            if isinstance(option, click.Option) and not (option.help or "").strip()
        ]

    assert silent == []


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_whatever_lists_can_speak_json(name):
    mute = [
        path
        for path, command in walk(name, load(name))
        if path.split()[-1] in {"list", "log", "tail", "explain", "history"}
        and not any("--json" in option.opts for option in command.params)
    ]

    assert mute == []


def test_every_command_is_loaded_only_when_called():
    assert gateway.list_commands(click.Context(gateway)) == sorted(COMMANDS)


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_says_all_mistakes_at_once(name):
    assert [path for path, command in walk(name, load(name)) if not isinstance(command, Command)] == []
