"""`python -m gateway.simulators --ledger FILE --twilio 0 …`: the named simulators in one process.

Prints one line of JSON with their ports when all of them listen, and stops at SIGTERM, at SIGINT and, with
`--with-parent`, at the end of its standard input, which comes when whoever started it is gone.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import signal
import sys
from contextlib import AsyncExitStack, closing, suppress
from importlib import import_module
from pathlib import Path
from threading import Thread

from gateway import tasks
from gateway.simulators.ledger import Ledger

NAMES = ("twilio", "aliyun", "wechat", "smtp")
SELDOM = (10_000, 1_000_000, 1_000_000)
"""Collections look at what is new alone: at 80 000 messages one that looks at more takes a tenth of a second and more,
for which a witness of when calls came in must not stand still."""


def options(arguments: list[str] | None = None) -> argparse.Namespace:
    """What the command line says; argparse ends with exit code 2 where it is wrong."""
    parser = argparse.ArgumentParser(prog="python -m gateway.simulators", description=__doc__)
    parser.add_argument("--ledger", type=Path, required=True, metavar="FILE")
    parser.add_argument("--host", default="127.0.0.1")
    for name in NAMES:
        parser.add_argument(f"--{name}", type=int, metavar="PORT", help="0 takes any free port")
    parser.add_argument("--delay-ms", type=int, default=50, metavar="N", help="between steps of a delivery")
    parser.add_argument("--aliyun-report", metavar="URL", help="where Aliyun's receipts are pushed")
    parser.add_argument("--wechat-event", metavar="URL", help="where WeChat's events are pushed")
    parser.add_argument("--smtp-report", metavar="URL", help="where the relay's reports are posted")
    parser.add_argument("--with-parent", action="store_true", help="stop when standard input ends")
    chosen = parser.parse_args(arguments)
    if all(getattr(chosen, name) is None for name in NAMES):
        parser.error("name at least one simulator, for example --twilio 0")
    return chosen


async def run(chosen: argparse.Namespace) -> None:
    """Serve until told to stop."""
    gc.freeze()
    gc.set_threshold(*SELDOM)
    stop = _stop_event(with_parent=chosen.with_parent)
    pushed = {"aliyun": chosen.aliyun_report, "wechat": chosen.wechat_event, "smtp": chosen.smtp_report}
    ports = {}
    async with AsyncExitStack() as stack:
        ledger = stack.enter_context(closing(Ledger(chosen.ledger)))
        for name in NAMES:
            port = getattr(chosen, name)
            if port is None:
                continue
            running = await import_module(f"gateway.simulators.{name}").serve(
                host=chosen.host,
                port=port,
                ledger=ledger,
                delay=chosen.delay_ms / 1000,
                push_url=pushed.get(name),
            )
            stack.push_async_callback(running.aclose)
            ports[name] = running.port
        print(json.dumps(ports), flush=True)  # noqa: T201 (the one line of this command)
        await stop.wait()


def _stop_event(*, with_parent: bool) -> asyncio.Event:
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)

    def until_end_of_input() -> None:
        with suppress(OSError):
            while os.read(0, 4096):
                pass
        with suppress(RuntimeError):  # the loop has ended already
            loop.call_soon_threadsafe(stop.set)

    if with_parent:
        Thread(target=until_end_of_input, daemon=True).start()
    return stop


def main() -> None:
    """Run the command line; a port or file that cannot be used ends with exit code 2."""
    try:
        tasks.run(run(options()))
    except OSError as wrong:
        sys.exit(_unusable(wrong))


def _unusable(wrong: OSError) -> int:
    print(f"simulators: {wrong.strerror or wrong}; choose another port or file", file=sys.stderr)  # noqa: T201
    return 2


if __name__ == "__main__":
    main()
