"""The command line as a user calls it, and a gateway of its own process for it to talk to."""

import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest

from gateway.cli import main

ROOT = Path(__file__).parents[1]
GATEWAY = Path(sys.executable).with_name("gateway")


@dataclass(frozen=True)
class Ran:
    """What a command said, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def json(self):
        return json.loads(self.out)


def environment(**more):
    """This process's environment without a setting of its own."""
    return {**{k: v for k, v in os.environ.items() if not k.startswith(("GATEWAY_", "SIM_"))}, **more}


def ran(*words, cwd=None):
    """A command within this process, as from that folder; what subprocess.run would tell of it."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setattr(sys, "argv", ["gateway", *map(str, words)])
        if cwd is not None:
            patch.chdir(cwd)
        with pytest.raises(SystemExit) as ended:
            main()
    return subprocess.CompletedProcess(words, ended.value.code, out.getvalue(), err.getvalue())


class Shell:
    """Runs commands within this process, with variables of its own."""

    def __init__(self, monkeypatch, capsys, **variables):
        self._patch, self._said = monkeypatch, capsys
        for name in [name for name in os.environ if name.startswith(("GATEWAY_", "SIM_"))]:
            monkeypatch.delenv(name)
        self.set(**variables)

    def set(self, **variables):
        for name, value in variables.items():
            self._patch.setenv(name, str(value))

    def __call__(self, *words):
        self._patch.setattr(sys, "argv", ["gateway", *(str(word) for word in words)])
        self._said.readouterr()
        try:
            main()
        except SystemExit as ended:
            return Ran(ended.code, *self._said.readouterr())
        raise AssertionError("main() came back without an exit code")

    def on_terminal(self, columns, *words):
        """The lines that a command draws on a terminal, without their colours."""
        terminal = Terminal()
        with self._patch.context() as patch:
            patch.setattr(sys, "stdout", terminal)
            patch.setattr(sys, "argv", ["gateway", *words])
            patch.setenv("COLUMNS", str(columns))
            patch.setenv("TERM", "xterm")
            with pytest.raises(SystemExit) as ended:
                main()
        assert ended.value.code == 0
        return re.sub(r"\x1b\[[0-9;]*m", "", terminal.getvalue()).splitlines()


class Terminal(io.StringIO):
    """Keeps what is drawn on it."""

    def isatty(self):
        return True


@dataclass(frozen=True)
class Up:
    """A running `gateway up`."""

    url: str
    data: Path
    keys: dict

    def http(self, key=None, **headers):
        if key is not None:
            headers["Authorization"] = f"Bearer {key}"
        return httpx2.Client(base_url=self.url, headers=headers)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def up(data, *more):
    """`gateway up` in a folder, until it is left."""
    port = free_port()
    with subprocess.Popen(
        [GATEWAY, "up", "--data", data, "--listen", f"127.0.0.1:{port}", "--log-level", "error", *more],
        stdout=subprocess.PIPE,
        text=True,
        env=environment(),
    ) as child:
        try:
            keys = {}
            for line in child.stdout:
                if found := re.match(r"first (\w+) key .*: (\S+)", line):
                    keys[found[1]] = found[2]
                if line.startswith("ready"):
                    break
            yield Up(f"http://127.0.0.1:{port}", data, keys)
        finally:
            child.send_signal(signal.SIGTERM)
            child.wait(20)
