"""uvicorn under our own signals: it neither takes them nor raises them again when it ends."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from fastapi import FastAPI

KEEP_ALIVE_S = 15
GRACE_S = 10
BACKLOG = 512


class Server(uvicorn.Server):
    """One HTTP server within a loop that somebody else runs."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to whoever runs the loop."""
        yield


def server(app: FastAPI, host: str, port: int) -> Server:
    """A server for an application; `serve()` runs it until `should_exit` is set."""
    return Server(
        uvicorn.Config(
            app,
            host=host,
            port=port,
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
