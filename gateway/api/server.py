"""uvicorn under our own signals: it neither takes them nor raises them again when it ends."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from fastapi import FastAPI

from gateway.errors import SetupError
from gateway.settings import split_listen

KEEP_ALIVE_S = 15
GRACE_S = 10
BACKLOG = 512


class Server(uvicorn.Server):
    """One HTTP server within a loop that somebody else runs."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to whoever runs the loop."""
        yield


def bind(listen: str) -> socket.socket:
    """Take an address (host:port) before anything else is begun; SetupError when it cannot be had."""
    host, port = split_listen(listen)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    taken = socket.socket(family)
    taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        taken.bind((host, port))
    except OSError as wrong:
        taken.close()
        raise SetupError(
            f"cannot listen on {listen} ({wrong.strerror}): give another with --listen"
        ) from wrong
    return taken


def server(app: FastAPI) -> Server:
    """A server for an application; `serve(sockets=[…])` runs it until `should_exit` is set."""
    return Server(
        uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=False,
            lifespan="off",
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=GRACE_S,
            backlog=BACKLOG,
            proxy_headers=False,
        )
    )
