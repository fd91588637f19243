"""What is wrong with how a command was called: all of it at once, in words of our own.

Click says the first mistake and repeats what was given, which may be somebody's phone number. So what is said here is
made of names of ours and of what may be given, and never of what was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import date

import click
from click.exceptions import NoArgsIsHelpError, NoSuchCommand
from click.types import FloatParamType, IntParamType, StringParamType

_EXAMPLE = date(2026, 11, 24)


class Form(click.ParamType[str]):
    """A text of some form: `read` gives what it stands for, None for what is not of it."""

    def __init__(self, name: str, form: str, read: Callable[[str], str | None]) -> None:
        self.name = name
        self.form = form
        self.read = read

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Read a value."""
        found = self.read(value)
        return self.fail(f"give {self.form}", param, ctx) if found is None else found


class Mistakes(click.UsageError):
    """Everything that is wrong with one call, a line each."""

    def __init__(self, lines: Sequence[str], ctx: click.Context) -> None:
        super().__init__("\n".join(lines), ctx)


class Command(click.Command):
    """A command that looks at everything it was given before it refuses any of it."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the words behind the command's name; Mistakes."""
        try:
            return super().parse_args(ctx, list(args))
        except NoArgsIsHelpError:
            raise
        except click.UsageError as first:
            raise Mistakes(list(_all(self, ctx, args)) or [_said(first, ctx)], ctx) from None


class Group(Command, click.Group):
    """A group of such commands."""

    command_class = Command
    group_class = type


def tell(wrong: click.ClickException) -> None:
    """Say on stderr what is wrong with a call and where help is."""
    if isinstance(wrong, NoArgsIsHelpError):
        wrong.show()
        return
    ctx = wrong.ctx if isinstance(wrong, click.UsageError) else None
    if ctx is not None:
        click.echo(f"{ctx.get_usage()}\nTry '{ctx.command_path} --help' for help.\n", err=True)
    click.echo(_said(wrong, ctx), err=True)


def _all(command: click.Command, ctx: click.Context, args: Sequence[str]) -> Iterator[str]:
    """Every mistake in the words of a call that has one, in a second reading that stops at none."""
    left, strangers, told = list(args), False, set[str]()
    while True:
        rest = list(left)
        try:
            values, extra, _ = command.make_parser(ctx).parse_args(rest)
            break
        except click.NoSuchOption as wrong:
            strangers = True
            yield f"word {len(args) - len(rest)} after {ctx.command_path}: {_said(wrong, ctx)}"
        except click.BadOptionUsage as wrong:
            told.add(wrong.option_name)
            yield _said(wrong, ctx)
        except click.UsageError as wrong:
            yield _said(wrong, ctx)
            return
        del left[len(left) - len(rest) - 1]  # what it broke on was the last it took
    for param in command.get_params(ctx):
        # A word behind an option that there is not may be its value: then nothing is sure about arguments.
        unsure = strangers and isinstance(param, click.Argument)
        if unsure or param.is_eager or told.intersection(param.opts):
            continue
        try:
            param.handle_parse_result(ctx, values, [])
        except click.UsageError as wrong:
            yield _said(wrong, ctx)
    if extra and not strangers and not ctx.allow_extra_args:
        names = [_name(param) for param in command.params if isinstance(param, click.Argument)]
        words = "1 word" if len(extra) == 1 else f"{len(extra)} words"
        takes = f"it takes {' '.join(names) or 'options only'}"
        yield f"{words} too many: {takes}; put quotes round a value that has spaces in it"


def _said(wrong: click.ClickException, ctx: click.Context | None) -> str:
    """A mistake with its place and what to do."""
    match wrong:
        case NoSuchCommand() if ctx is not None and isinstance(ctx.command, click.Group):
            from difflib import get_close_matches  # noqa: PLC0415 (for this alone)

            # Click looks among commands that are loaded, and most of ours are not.
            close = get_close_matches(wrong.command_name, ctx.command.list_commands(ctx))
            said = f"{ctx.command_path} has no command of that name{_close(close, ctx)}"
        case click.NoSuchOption():
            said = f"there is no option of that name{_close(wrong.possibilities, ctx)}"
        case click.BadOptionUsage():
            params = ctx.command.params if ctx is not None else []
            taken = [p for p in params if wrong.option_name in p.opts and not getattr(p, "is_flag", False)]
            said = f"{wrong.option_name}: {f'give {_form(taken[0])}' if taken else 'it takes no value'}"
        case click.MissingParameter(param=click.Parameter() as param):
            what = param.help if isinstance(param.type, StringParamType) else None
            said = f"{_name(param)}: it is missing{f': {what}' if what else f', give {_form(param)}'}"
        case click.BadParameter(param=click.Parameter() as param):
            own = isinstance(param.type, StringParamType)  # click takes any text: only we refuse one
            said = f"{_name(param)}: {wrong.message if own else f'give {_form(param)}'}"
        case _:
            said = wrong.message
    return said


def _close(names: Sequence[str] | None, ctx: click.Context | None) -> str:
    if names:
        return f": did you mean {' or '.join(names)}?"
    return f": see {ctx.command_path} --help" if ctx is not None else ""


def _name(param: click.Parameter) -> str:
    """The name by which a user knows an option or argument."""
    return max(param.opts, key=len) if isinstance(param, click.Option) else param.human_readable_name


def _form(param: click.Parameter) -> str:
    """What may be given."""
    match param.type:
        case Form() as kind:
            form = kind.form
        case click.Choice() as kind:
            form = f"one of: {', '.join(map(str, kind.choices))}"
        case IntParamType() as kind:
            form = f"a whole number{_span(kind)}"
        case FloatParamType() as kind:
            form = f"a number{_span(kind)}"
        case click.DateTime() as kind:
            form = f"a date: {_EXAMPLE.strftime(kind.formats[0])}"
        case click.Path() as kind:
            there = " that is there" if kind.exists else ""
            form = f"a {kind.name}{there} that can be {'written' if kind.writable else 'read'}"
        case _:
            form = "a value"
    return form


def _span(kind: object) -> str:
    if not isinstance(kind, click.IntRange | click.FloatRange):
        return ""
    if kind.max is None:
        return f" of at least {kind.min}"
    return f" from {kind.min or 0} to {kind.max}"
