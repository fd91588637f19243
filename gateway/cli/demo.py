"""`gateway demo`: the main job on invented borrowers, from the batch API to the simulators' own ledger."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

import examples
from gateway.cli.mistakes import Command
from gateway.errors import SetupError
from gateway.simulators.ledger import read as read_ledger

BATCH = 250
READY_S = 30.0
QUIET_S = 1.0
"""How long nothing may change before all that can happen at one hour of the clock has happened."""
SLOWNESS = 30
"""The same in times of an answer, for a machine that is busy with other things."""
PATIENCE_S = 60.0
NIGHT = "the evening (23:30 in China)"
MORNINGS = (
    (datetime(2026, 11, 25, 0, 30, tzinfo=UTC), "08:30 in China"),
    (datetime(2026, 11, 25, 3, 20, tzinfo=UTC), "08:50 in India, 11:20 in China"),
    (datetime(2026, 11, 25, 5, 30, tzinfo=UTC), "11:00 in India"),
    (datetime(2026, 11, 25, 8, 30, tzinfo=UTC), "08:30 in Britain"),
    (datetime(2026, 11, 25, 10, 50, tzinfo=UTC), "10:50 in Britain"),
    (datetime(2026, 11, 25, 12, 40, tzinfo=UTC), "the lender's next report of open debts"),
    (datetime(2026, 11, 25, 13, 30, tzinfo=UTC), "08:30 in New York"),
    (datetime(2026, 11, 25, 14, 50, tzinfo=UTC), "09:50 in New York"),
    (datetime(2026, 11, 25, 16, 30, tzinfo=UTC), "08:30 in California"),
)
"""The hours at which the policy clock stops on its way over the night."""
CALLED = ("accepted", "unknown")
CHANNELS = ("sms", "email", "wechat", "voice")


@click.command(cls=Command)
@click.option("--stay", is_flag=True, help="Keep it all running afterwards, and say where.")
@click.option(
    "--data", type=click.Path(path_type=Path), default=None, help="Keep the data in this (new) folder."
)
def demo(*, stay: bool, data: Path | None) -> None:
    """Load 1 000 reminders for 200 invented borrowers, let a night pass, and count what reached whom."""
    if data is not None and data.exists() and any(data.iterdir()):
        raise SetupError("that folder is not empty: the demo starts from nothing, so give it another")
    folder = data or Path(tempfile.mkdtemp(prefix="gateway-demo-"))
    try:
        agreed = asyncio.run(_demo(folder, stay=stay))
    finally:
        if data is None:
            shutil.rmtree(folder, ignore_errors=True)
    if not agreed:
        click.get_current_context().exit(1)


async def _demo(data: Path, *, stay: bool) -> bool:
    console = Console(width=100, highlight=False)
    async with _up(data) as running, _session(running) as http:
        call = Call(http)
        with _progress(console) as progress:
            deferred = await _night(call, progress)
        reminders = await call.everything("/v1/reminders")
        handed = [
            r
            for r in await call.everything("/v1/log")
            if r["kind"] == "outcome" and r["body"]["ending"] in CALLED
        ]
        console.print(_went(reminders, handed))
        console.print(_waited(deferred))
        console.print(_spared(reminders))
        await _explain(call, console, reminders)
        agreed = _agree(console, handed, data)
        if stay:
            await _stay(console, running, data)
        return agreed


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A gateway of its own process, and the keys it printed."""

    url: str
    process: asyncio.subprocess.Process
    keys: Mapping[str, str]


@asynccontextmanager
async def _up(data: Path) -> AsyncIterator[Running]:
    """`gateway up` as anyone would start it, on a free port; its end is waited for."""
    listen = f"127.0.0.1:{_free_port()}"
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        "from gateway.cli import main; main()",
        *("up", "--data", str(data), "--listen", listen, "--policy-offset-allowed", "--quarantine-s", "5"),
        *("--log-level", "warning"),
        stdout=asyncio.subprocess.PIPE,
        env={k: v for k, v in os.environ.items() if not k.startswith("GATEWAY_")},
    )
    try:
        yield Running(url=f"http://{listen}", process=process, keys=await _said(process))
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
            await process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def _said(process: asyncio.subprocess.Process) -> dict[str, str]:
    assert process.stdout is not None  # noqa: S101 (we asked for a pipe)
    keys: dict[str, str] = {}
    async with asyncio.timeout(READY_S):
        while line := (await process.stdout.readline()).decode():
            if line.startswith("first "):
                keys[line.split()[1]] = line.split()[-1]
            if line.startswith("ready "):
                return keys
    raise SetupError("the gateway did not start: see its message above")


@asynccontextmanager
async def _session(running: Running) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(
        running.url,
        headers={"Authorization": f"Bearer {running.keys['test']}"},
        timeout=aiohttp.ClientTimeout(total=30),
    ) as http:
        yield http


class Call:
    """The API, as the demo uses it; any refusal ends the demo."""

    def __init__(self, http: aiohttp.ClientSession) -> None:
        self._http = http

    async def get(self, path: str, **query: str) -> Any:
        """One GET, as JSON."""
        async with self._http.get(path, params=query) as answer:
            return await self._json(answer)

    async def text(self, path: str) -> str:
        """One GET, as text."""
        async with self._http.get(path) as answer:
            return await answer.text()

    async def post(self, path: str, body: Mapping[str, Any]) -> Any:
        """One POST, as JSON."""
        async with self._http.post(path, json=body) as answer:
            return await self._json(answer)

    async def _json(self, answer: aiohttp.ClientResponse) -> Any:
        said = await answer.json(content_type=None)
        if answer.status >= 400:  # noqa: PLR2004 (HTTP)
            raise SetupError(f"{answer.url.path} answered {answer.status} {said.get('code')}")
        return said

    async def batch(self, path: str, items: Sequence[Mapping[str, Any]]) -> None:
        """Post items; every one must be taken."""
        for start in range(0, len(items), BATCH):
            results = (await self.post(path, {"items": items[start : start + BATCH]}))["results"]
            refused = [r for r in results if r["status"] >= 300]  # noqa: PLR2004 (HTTP)
            if refused:
                raise SetupError(f"{path} refused {len(refused)} items, the first with {refused[0]['error']}")

    async def everything(self, path: str, **query: str) -> list[dict[str, Any]]:
        """All pages of a list."""
        found: list[dict[str, Any]] = []
        after: dict[str, str] = {}
        while True:
            page = await self.get(path, limit="200", **query, **after)
            found += page["items"]
            if page["next"] is None:
                return found
            after = {"after": page["next"]}


def _progress(console: Console) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    return Progress(*columns, console=console, transient=not console.is_terminal)


async def _night(call: Call, progress: Progress) -> list[dict[str, Any]]:
    """Everything in at night, then the hours of the next morning; what was deferred at night."""
    example = examples.load()
    bar = progress.add_task("loading", total=len(MORNINGS) + 6)
    await _move_clock(call, examples.CLOCK_STARTS)
    for said, path, items in (
        ("200 borrowers", "/v1/borrowers/batch", example.borrowers),
        ("their debts", "/v1/debts/batch", example.debts),
        ("contacts made elsewhere", "/v1/contacts/batch", example.contacts),
        ("1 000 reminders", "/v1/reminders/batch", example.reminders),
        ("what happened to debts", "/v1/debts/events/batch", example.events),
    ):
        progress.update(bar, description=said)
        await call.batch(path, items)
        await _quiet(call)
        progress.advance(bar)
    progress.update(bar, description=NIGHT)
    progress.advance(bar)
    deferred = await call.everything("/v1/reminders", state="deferred")
    for hour, said in MORNINGS:
        progress.update(bar, description=said)
        await _move_clock(call, hour)
        if hour > examples.FEED_COMES and example.morning:
            await call.batch("/v1/debts/batch", example.morning)
            example.morning.clear()
        await _quiet(call)
        progress.advance(bar)
    progress.update(bar, description="the next day")
    return deferred


async def _move_clock(call: Call, to: datetime) -> None:
    now = datetime.fromisoformat((await call.get("/v1/clock"))["policy"])
    await call.post("/v1/clock", {"advance_s": round((to - now) / timedelta(seconds=1))})


async def _quiet(call: Call) -> None:
    """Wait until nothing is due or being sent and no count has changed for a while."""
    loop = asyncio.get_running_loop()
    end, since, before = loop.time() + PATIENCE_S, loop.time(), None
    while loop.time() < end:
        asked = loop.time()
        stats = await call.get("/v1/stats")
        took = loop.time() - asked
        busy = stats["due"] or stats["states"].get("sending")
        if busy or stats["states"] != before:
            since, before = loop.time(), stats["states"]
        elif loop.time() - since > max(QUIET_S, SLOWNESS * took):
            return
        await asyncio.sleep(0.1)
    raise SetupError("the demo does not come to rest: see the log above")


def _went(reminders: Sequence[Mapping[str, Any]], handed: Sequence[Mapping[str, Any]]) -> Table:
    """What was handed to a provider, by the channel it went on and how it stands."""
    went_on = {r["reminder"]: r["channel"] for r in handed}
    table = Table(title="Sent", title_justify="left")
    states = ("sent", "delivered", "read", "failed", "unknown")
    for column in ("channel", *states):
        table.add_column(column, justify="left" if column == "channel" else "right")
    counts = Counter((went_on[r["id"]], r["state"]) for r in reminders if r["id"] in went_on)
    for channel in CHANNELS:
        table.add_row(channel, *(str(counts[channel, state]) for state in states))
    table.add_row("all", *(str(sum(counts[c, s] for c in CHANNELS)) for s in states))
    return table


def _waited(deferred: Sequence[Mapping[str, Any]]) -> Table:
    """What stood deferred in the evening, by channel and reason."""
    return _by_reason(f"Deferred in {NIGHT}", deferred, ("deferred",))


def _spared(reminders: Sequence[Mapping[str, Any]]) -> Table:
    """What did not go out, by channel and reason, when the night is over."""
    return _by_reason("Not sent, the next day", reminders, ("suppressed", "expired", "deferred", "waiting"))


def _by_reason(title: str, reminders: Sequence[Mapping[str, Any]], states: Sequence[str]) -> Table:
    table = Table(title=title, title_justify="left")
    for column, justify in (
        ("state", "left"),
        ("channel", "left"),
        ("reason", "left"),
        ("reminders", "right"),
    ):
        table.add_column(column, justify="right" if justify == "right" else "left")
    counts = Counter(
        (r["state"], r["channels"][0], r["reason"] or "not yet due")
        for r in reminders
        if r["state"] in states
    )
    for (state, channel, reason), count in sorted(counts.items()):
        table.add_row(state, channel, reason, str(count))
    table.add_row("all", "", "", str(sum(counts.values())))
    return table


async def _explain(call: Call, console: Console, reminders: Sequence[Mapping[str, Any]]) -> None:
    """One reminder that its borrower was spared, rule by rule."""
    spared = min(
        (r for r in reminders if r["reason"] == "OP.CAPS.DAY"), key=lambda r: str(r["idempotency_key"])
    )
    console.print(f"[bold]Why {spared['idempotency_key']} waits[/bold]")
    console.print(await call.text(f"/v1/reminders/{spared['id']}/explain"), soft_wrap=True)


def _agree(console: Console, handed: Sequence[Mapping[str, Any]], data: Path) -> bool:
    """The simulators' own ledger beside the send log: the same attempts, each once."""
    channels = {r["attempt"]: r["channel"] for r in handed}
    logged = set(channels)
    lines = read_ledger(data / "simulators.jsonl")
    seen = Counter(str(line["ref"]) for line in lines)
    twice = [ref for ref, count in seen.items() if count > 1]
    table = Table(title="The providers' ledger and our send log", title_justify="left")
    for column in ("", "providers' ledger", "send log"):
        table.add_column(column, justify="right" if column else "left")
    by_channel = Counter(channels.values())
    by_kind = Counter({"call": "voice"}.get(str(line["kind"]), str(line["kind"])) for line in lines)
    for channel in CHANNELS:
        table.add_row(channel, str(by_kind[channel]), str(by_channel[channel]))
    console.print(table)
    agreed = logged == set(seen) and not twice
    console.print(
        f"{len(lines)} reached, {len(logged)} in the send log, "
        f"{len(logged ^ set(seen))} known to one of the two only, {len(twice)} twice: "
        + ("they agree" if agreed else "[bold red]they do not agree[/bold red]")
    )
    return agreed


async def _stay(console: Console, running: Running, data: Path) -> None:
    console.print(f"It stays up at {running.url}, its data in {data}; end it with Ctrl-C. Its keys:")
    for mode, key in running.keys.items():
        console.print(f"  {mode}: {key}", soft_wrap=True)
    stop = asyncio.Event()
    for name in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(name, stop.set)
    await stop.wait()
