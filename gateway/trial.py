"""The shipped simulators as a child process, and accounts that point at them: what `up` and `demo` try things with."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Mapping
from pathlib import Path

import orjson

from gateway.errors import SetupError

ENVIRONMENT = {
    "SIM_ALIYUN_KEY_ID": "simulator",
    "SIM_ALIYUN_KEY_SECRET": "simulator",
    "SIM_TWILIO_ACCOUNT_SID": "AC" + "0" * 32,
    "SIM_TWILIO_AUTH_TOKEN": "simulator",
    "SIM_WECHAT_SECRET": "simulator",
    "SIM_WECHAT_TOKEN": "simulator",
}
"""What examples.accounts() refers to; the simulators take these and nothing else."""

NAMES = ("twilio", "aliyun", "wechat", "smtp")
START_S = 15.0


class Simulators:
    """The simulators' process. Its ledger outlives it; the process ends with this one."""

    def __init__(self, ledger: Path, *, delay_ms: int = 50) -> None:
        self._ledger = ledger
        self._delay_ms = delay_ms
        self._child: asyncio.subprocess.Process | None = None

    async def start(
        self, *, ports: Mapping[str, int] | None = None, pushes: Mapping[str, str] | None = None
    ) -> dict[str, int]:
        """Start them; the port of each. `pushes` are options such as `aliyun-report` with their URL."""
        options = {name: str((ports or {}).get(name, 0)) for name in NAMES}
        options |= {"ledger": str(self._ledger), "delay-ms": str(self._delay_ms), **(pushes or {})}
        words = [word for name, value in options.items() for word in (f"--{name}", value)]
        self._child = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "gateway.simulators",
            "--with-parent",
            *words,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env={**os.environ, "SIM_SECRET": "simulator"},
            start_new_session=True,
        )
        assert self._child.stdout is not None  # noqa: S101 (we asked for a pipe)
        try:
            line = await asyncio.wait_for(self._child.stdout.readline(), START_S)
        except TimeoutError:
            line = b""
        if not line:
            raise SetupError(
                "the simulators do not start: install the extra `embedded`, or see their message above"
            )
        found: dict[str, int] = orjson.loads(line)
        return found

    async def stop(self) -> None:
        """End the process: it sees its input close."""
        if self._child is None or self._child.returncode is not None:
            return
        self._child.terminate()
        try:
            await asyncio.wait_for(self._child.wait(), 5)
        except TimeoutError:
            self._child.kill()
