"""The HTTP side in a thread of its own: the main thread is the model's."""

from __future__ import annotations

import socket
from threading import Thread
from types import TracebackType
from typing import Self

import uvicorn
from fastapi import FastAPI

from lm_offload.errors import ConfigError

GRACE_S = 1  # that connections have to end, when nothing is computed any more


def open_socket(host: str, port: int) -> socket.socket:
    """A socket that listens; raises ConfigError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise ConfigError(
            f"{host}:{port} cannot be listened at ({error.strerror or error}); name another --port "
            "or --host."
        ) from error


class Listener:
    """In its `with` block requests are answered."""

    def __init__(self, app: FastAPI, listening: socket.socket) -> None:
        config = uvicorn.Config(
            app, log_level="warning", lifespan="off", timeout_graceful_shutdown=GRACE_S
        )
        self._server = uvicorn.Server(config)
        self._thread = Thread(
            target=self._server.run, args=([listening],), name="http", daemon=True
        )

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.should_exit = True
        self._thread.join(2 * GRACE_S)
