"""A PgBouncer of the test's own, which pools transactions; the system's, as there is no wheel of one."""

import asyncio
import shutil
import subprocess
from collections import Counter
from contextlib import asynccontextmanager

import asyncpg
import postgresql
import psutil
import pytest
from fleet import until
from sqlalchemy.engine import make_url

ROLE = {
    "enable_seqscan": "off",
    "enable_bitmapscan": "off",
    "jit": "off",
    "idle_in_transaction_session_timeout": "60s",
}
"""What sessions set for themselves, and a pooler forgets (docs/settings.md)."""


class Pooler:
    """One process before a database, with so many connections to it."""

    def __init__(self, folder, url, size):
        self.folder, self.direct, self.port = folder, make_url(url), postgresql.free_port()
        self.size, self.process = size, None

    @property
    def url(self):
        """The same database through it."""
        return self.direct.set(port=self.port).render_as_string(hide_password=False)

    def start(self):
        """Start it, or skip the test where there is none."""
        binary = shutil.which("pgbouncer")
        if binary is None:
            pytest.skip("no pgbouncer on the PATH")
        self.folder.mkdir()
        for folder in (self.folder, *self.folder.parents[:3]):
            folder.chmod(0o755)
        users, said = self.folder / "users", self.folder / "ini"
        users.write_text(f'"{self.direct.username}" "{self.direct.password}"\n')
        said.write_text(
            f"[databases]\n* = host={self.direct.host} port={self.direct.port}\n"
            f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {self.port}\nunix_socket_dir =\n"
            f"auth_type = scram-sha-256\nauth_file = {users}\n"
            f"pool_mode = transaction\ndefault_pool_size = {self.size}\nmax_client_conn = 500\n"
            "max_prepared_statements = 500\n"
        )
        with (self.folder / "log").open("w") as log:
            self.process = subprocess.Popen([binary, said], stdout=log, stderr=log, **postgresql.who())

    async def answers(self):
        """Whether it lets somebody through to the database."""
        assert self.process.poll() is None, (self.folder / "log").read_text()
        try:
            await (await asyncpg.connect(self.url)).close()
        except (OSError, asyncpg.PostgresError):
            return False
        return True

    def connections(self):
        """How many it has to its clients, and how many to the server."""
        found = Counter()
        for each in psutil.Process(self.process.pid).net_connections("tcp"):
            if each.status == psutil.CONN_ESTABLISHED:
                found["client" if each.laddr.port == self.port else "server"] += 1
        return found["client"], found["server"]


@asynccontextmanager
async def pooled(folder, url, size):
    """A pooler before a database whose role has what sessions cannot set for themselves."""
    pooler = Pooler(folder, url, size)
    pooler.start()
    try:
        await until(pooler.answers, patience=10)
        direct = await asyncpg.connect(url)
        role = f'ALTER ROLE "{pooler.direct.username}" IN DATABASE "{pooler.direct.database}"'
        for name, value in ROLE.items():
            await direct.execute(f"{role} SET {name} = '{value}'")
        await direct.close()
        yield pooler
    finally:
        pooler.process.terminate()
        await asyncio.to_thread(pooler.process.wait, 10)
