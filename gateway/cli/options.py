"""Options that stand for settings: each is also the variable GATEWAY_ + its name."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast

import click

from gateway.cli.mistakes import Form
from gateway.policy.localtime import read_instant
from gateway.settings import Settings

INSTANT = Form(
    "instant",
    "an instant with its offset: 2026-11-24T08:00:00+08:00",
    lambda said: said if read_instant(said) else None,
)

PlaceOptions = dict[str, Any]
"""Settings given as options, by name; None where the environment decides."""

F = TypeVar("F", bound=Callable[..., Any])


def place_options(*names: str) -> Callable[[F], F]:
    """Give a command the options of these settings, together as its argument `options`."""

    def decorate(command: F) -> F:
        @wraps(command)
        def called(**given: Any) -> Any:
            options = {name: given.pop(name) for name in names}
            return command(options=options, **given)

        found: Any = called
        for name in reversed(names):
            found = _option(name)(found)
        return cast("F", found)

    return decorate


def _option(name: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    field = Settings.model_fields[name]
    flag = f"--{name.replace('_', '-')}"
    help_ = f"{field.description} (GATEWAY_{name.upper()})"
    if field.annotation is bool:
        return click.option(flag, name, flag_value="true", default=None, help=help_)
    return click.option(flag, name, default=None, help=help_)
