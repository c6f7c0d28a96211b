"""Runs a service and its doors in this process until it is told to stop."""

import asyncio
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, cast

import structlog
import uvicorn
from msgspec.structs import replace
from starlette.types import ASGIApp, Receive, Scope, Send

from receiver.actions.orphans import bury_orphans
from receiver.model import rules
from receiver.server.address import announce, withdraw
from receiver.server.logs import redact_logs
from receiver.server.memory import avoid_pauses, return_memory
from receiver.server.service import Service
from receiver.web.answers import error_answer
from receiver.web.app import create_app
from receiver.web.connection import Connection
from receiver.web.door import Door, raise_file_limit

REQUEST_PATIENCE = 3
"""Seconds for requests in hand when the server stops; a hung one is cut off."""
BACKLOG = 2048
"""Connections that may wait to be accepted."""
LAST_PATIENCE = 9.3
"""Seconds after the first signal when the process ends, whatever will not: ten are allowed."""
SIGNALS = (signal.SIGTERM, signal.SIGINT)

log = structlog.get_logger()


class Server(uvicorn.Server):
    """uvicorn without its signal handlers: it would raise the signal again at the end, and we would exit by it."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class Interruptible:
    """Answers 503 to a request that is cut off because the server stops; uvicorn would say 500 and log a traceback."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._app(scope, receive, send)
        except asyncio.CancelledError:
            response = error_answer(503, "stopping", "the server is being stopped; send it again later")
            response.headers.update({"retry-after": "5", "connection": "close"})
            with suppress(RuntimeError):  # an answer was begun already
                await response(scope, receive, send)


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes a free one. Raises OSError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    both = host == "::" and socket.has_dualstack_ipv6()
    listener = socket.create_server((host, port), family=family, backlog=BACKLOG, dualstack_ipv6=both)
    listener.setblocking(False)
    # asyncio sets this only on sockets that name their protocol, and create_server makes none that does.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def url_of(listener: socket.socket) -> str:
    """How a program on this machine reaches the listener."""
    host, port = listener.getsockname()[:2]
    if host == "::" and not listener.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY):
        host = "0.0.0.0"
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


async def serve(
    service: Service,
    listener: socket.socket,
    *,
    ready: Callable[[str], None],
    create: Callable[[Service], ASGIApp] = create_app,
) -> None:
    """Starts the service, serves until SIGTERM or SIGINT, and stops within ten seconds.

    `ready` is told the URL when requests are taken, `create` makes the application. A second signal ends the process at
    once, and so does the first one after a while: a user's function may refuse to end, and Python waits for its
    threads. Raises what `Service.start` raises.
    """
    stopping = asyncio.Event()
    closed = threading.Event()
    loop = asyncio.get_running_loop()

    def on_signal() -> None:
        if stopping.is_set():
            os._exit(1)
        stopping.set()
        end = threading.Timer(LAST_PATIENCE, lambda: os._exit(0 if closed.is_set() else 1))
        end.daemon = True
        end.start()

    return_memory()
    for number in SIGNALS:
        loop.add_signal_handler(number, on_signal)
    told = asyncio.create_task(stopping.wait())
    if not await _started(service, told):
        return
    redact_logs(service.redact)
    avoid_pauses()
    door = _door(service)
    server = Server(_config(create(service), door))
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    rounds = [asyncio.create_task(door.watch()), asyncio.create_task(bury_orphans())]
    url = url_of(listener)
    try:
        service.announced = announce(service.address_file, url, service.clock())
        ready(url)
        log.info("serve", url=url, public_url=service.settings.public_url)
        await asyncio.wait({serving, told}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        log.info("stop")
        told.cancel()
        withdraw(service.address_file)
        server.should_exit = True
        stopped = asyncio.create_task(service.hold())
        await asyncio.gather(serving, stopped, return_exceptions=True)
        for each in rounds:
            each.cancel()
        await service.close()
        closed.set()
    await serving


async def _started(service: Service, told: asyncio.Task[bool]) -> bool:
    """Starts the service. False when it was told to stop meanwhile: the database may be in use for half a minute."""
    log.info("open", database=service.database)
    starting = asyncio.create_task(service.start())
    await asyncio.wait({starting, told}, return_when=asyncio.FIRST_COMPLETED)
    if not starting.done():
        starting.cancel()
        await asyncio.wait({starting})
        return False
    starting.result()
    return True


def _door(service: Service) -> Door:
    """The limits of the settings, within what the system allows."""
    limits = service.settings.door
    files = raise_file_limit()
    connections = max(1, min(limits.connections, files - rules.FILES_RESERVED, files // 2))
    return Door(replace(limits, connections=connections), clock=time.monotonic)


def _config(app: ASGIApp, door: Door) -> uvicorn.Config:
    return uvicorn.Config(
        Interruptible(app),
        http=cast(Any, partial(Connection, door)),
        access_log=False,
        log_config=None,
        lifespan="off",
        ws="none",
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=REQUEST_PATIENCE,
        backlog=min(BACKLOG, door.limits.connections // 4),
    )
