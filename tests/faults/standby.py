"""A PostgreSQL with a standby that stops hearing from it and is promoted in its place, at the same address."""

import os
import subprocess
import time
from contextlib import contextmanager

import postgresql


class Standby:
    """A copy that follows the server until it is cut off."""

    def __init__(self, server):
        self.server = server
        self.binaries = server.command[0].parent
        self.home = server.home / "standby"
        self.port = postgresql.free_port()
        self.process = None

    def follow(self):
        """Copy the server and follow it."""
        copy = [
            *(self.binaries / "pg_basebackup", "-h", "127.0.0.1", "-p", str(self.server.port)),
            *("-U", "postgres", "-D", self.home, "-R", "-X", "stream", "-c", "fast", "--no-sync"),
        ]
        subprocess.run(
            copy,
            check=True,
            capture_output=True,
            cwd=self.server.home,
            env={**os.environ, "PGPASSWORD": self.server.password},
            **postgresql.who(),
        )
        self._start(self.port)

    def _start(self, port):
        words = [self.home if word == self.server.home / "data" else word for word in self.server.command]
        words[words.index("-p") + 1] = str(port)
        self.process = subprocess.Popen(
            words,
            cwd=self.server.home,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            **postgresql.who(),
        )

    def cut_off(self):
        """From now on it hears nothing."""
        self.process.send_signal(2)
        self.process.wait(20)

    def take_over(self):
        """The server is gone; this one answers in its place, with what it had heard."""
        self.server.stop(3)
        self._start(self.server.port)
        self.server.process = self.process
        for _ in range(200):
            done = subprocess.run(
                [self.binaries / "pg_ctl", "promote", "-D", self.home, "-w"],
                capture_output=True,
                check=False,
                cwd=self.server.home,
                **postgresql.who(),
            )
            if done.returncode == 0:
                return
            time.sleep(0.1)
        raise AssertionError(done.stderr)


@contextmanager
def followed(folder):
    """A server of the test's own, and a standby that follows it."""
    with postgresql.serving(folder) as server:
        standby = Standby(server)
        yield server, standby
