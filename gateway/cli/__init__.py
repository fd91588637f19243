"""The `gateway` command: one file per group of commands, loaded when used.

Exit codes: 0 done, 1 the answer is no, 2 bad input or set-up.
"""

from __future__ import annotations

import gc
import os
import sys
from importlib import import_module

import click

from gateway.cli.mistakes import Group, tell
from gateway.errors import BadInput, GatewayError, PolicyError

COMMANDS = {
    "policy": ("gateway.cli.policy", "Check packs and cases of the rule language, assign packs."),
    "vault": ("gateway.cli.vault", "Make and rotate the key ring."),
    "up": ("gateway.cli.run", "Run everything on this machine, no server needed."),
    "api": ("gateway.cli.run", "Serve the HTTP API against PostgreSQL and Redis."),
    "worker": ("gateway.cli.worker", "Send what is due, against PostgreSQL and Redis."),
    "demo": ("gateway.cli.demo", "The main job on 1 000 invented reminders, in under a minute."),
    "db": ("gateway.cli.db", "Bring the databases to this version."),
    "config": ("gateway.cli.config", "Check settings and everything they name."),
    "tenant": ("gateway.cli.tenant", "Make and list tenants."),
    "apikey": ("gateway.cli.apikey", "Make, list and revoke API keys."),
    "account": ("gateway.cli.account", "Bring in, list and try accounts of providers."),
    "caps": ("gateway.cli.caps", "Show and set how often one person may be contacted."),
    "pause": ("gateway.cli.pause", "Hold up what a scope covers, while it runs."),
    "stop": ("gateway.cli.pause", "The kill switch: stop everything, or what a scope covers."),
    "resume": ("gateway.cli.pause", "Let go again what a pause or a stop holds up."),
    "pauses": ("gateway.cli.pause", "List the pauses and stops that hold."),
    "quota": ("gateway.cli.quota", "Pace and limits of accounts: looked at and changed while all runs."),
    "unknown": ("gateway.cli.unknown", "Calls whose outcome nobody knows: listed, and settled."),
    "poison": ("gateway.cli.poison", "Reminders on which deciding breaks: listed, and made due again."),
    "explain": ("gateway.cli.explain", "Say why a reminder went out or did not, rule by rule."),
    "log": ("gateway.cli.log", "Search the send log."),
    "audit": ("gateway.cli.audit", "Check from the send log alone that what was sent was allowed."),
    "top": ("gateway.cli.top", "Show live what waits, what starts, and what holds it up."),
    "tail": ("gateway.cli.log", "Follow the send log as it grows."),
}
"""Command → (module that holds a click command of the same name, one line of help)."""


class LazyGroup(Group):
    """A group whose commands are imported when they are called, so that `--help` is quick."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 (click's signature)
        """Every command, sorted."""
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import the command's module and take the command of that name from it."""
        if cmd_name not in COMMANDS:
            return None
        gc.disable()  # all that an import makes stays: looking through it again and again is an eighth of its time
        try:
            module = import_module(COMMANDS[cmd_name][0])
        finally:
            gc.enable()
        command: click.Command = getattr(module, cmd_name.replace("-", "_"))
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """List the commands without importing any."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name][1]) for name in sorted(COMMANDS)])


@click.group(cls=LazyGroup)
@click.version_option(package_name="outreach-gateway")
def gateway() -> None:
    """Remind borrowers when, where and how the law and they themselves allow it."""


def main() -> None:
    """Run the command line; every mistake of the user's ends with exit code 2 and says what to do."""
    try:
        answer = gateway.main(standalone_mode=False)  # click gives the code of ctx.exit() back
        sys.exit(answer if isinstance(answer, int) else 0)
    except click.Abort:
        sys.exit(130)
    except click.ClickException as wrong:
        tell(wrong)
        sys.exit(2)
    except (BadInput, PolicyError) as wrong:
        for fault in wrong.faults:
            click.echo(f"{fault.at}: {fault.message}", err=True)
        sys.exit(2)
    except GatewayError as wrong:
        click.echo(f"gateway: {wrong.message}", err=True)
        sys.exit(2)
    except OSError as wrong:
        _need_output(wrong)
        raise


def _need_output(wrong: OSError) -> None:
    """End with exit code 2 if it is standard output that takes nothing; a closed pipe is seen to by click."""
    try:
        click.echo()
    except OSError:
        click.echo(f"gateway: standard output cannot be written: {wrong.strerror}", err=True)
        # What is still buffered would be tried once more on the way out, with a traceback.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(2)
