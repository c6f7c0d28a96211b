"""Runs a service and its doors in this process until it is told to stop."""

import asyncio
import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import structlog
import uvicorn

from receiver.logs import redact_logs
from receiver.service import Service
from receiver.web.app import create_app

REQUEST_PATIENCE = 3
"""Seconds for requests in hand when the server stops; a hung one is cut off."""
SIGNALS = (signal.SIGTERM, signal.SIGINT)

log = structlog.get_logger()


class Server(uvicorn.Server):
    """uvicorn without its signal handlers: it would raise the signal again at the end, and we would exit by it."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes a free one. Raises OSError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.create_server((host, port), family=family, backlog=2048)
    listener.setblocking(False)
    return listener


def address_file(database: Path) -> Path:
    """Where a running server leaves its address for the command line, beside its database."""
    return database.with_name(database.name + ".server")


def url_of(listener: socket.socket) -> str:
    """How a program on this machine reaches the listener."""
    host, port = listener.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


async def serve(service: Service, listener: socket.socket, *, ready: Callable[[str], None]) -> None:
    """Starts the service, serves until SIGTERM or SIGINT, and stops within ten seconds.

    `ready` is told the URL when requests are taken. A second signal ends the process at once. Raises what
    `Service.start` raises.
    """
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()

    def on_signal() -> None:
        if stopping.is_set():
            os._exit(1)
        stopping.set()

    for number in SIGNALS:
        loop.add_signal_handler(number, on_signal)
    await service.start()
    redact_logs(service.redact)
    server = Server(_config(service))
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    left = address_file(service.store.path)
    url = url_of(listener)
    try:
        left.write_text(url)
        ready(url)
        log.info("serve", url=url, public_url=service.settings.public_url)
        await asyncio.wait({serving, asyncio.create_task(stopping.wait())}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        log.info("stop")
        with suppress(FileNotFoundError):
            left.unlink()
        server.should_exit = True
        stopped = asyncio.create_task(service.hold())
        await asyncio.gather(serving, stopped, return_exceptions=True)
        await service.close()


def _config(service: Service) -> uvicorn.Config:
    return uvicorn.Config(
        create_app(service),
        access_log=False,
        log_config=None,
        lifespan="off",
        ws="none",
        server_header=False,
        timeout_graceful_shutdown=REQUEST_PATIENCE,
        timeout_keep_alive=30,
    )
