"""Connections for httpcore, straight over asyncio's transports.

The usual backend, anyio, opens a cancel scope and takes two turns of the loop for every read and write, and asks the
system whether an idle connection was closed; a protocol of asyncio is told.
"""

import asyncio
import ssl
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import cast

import httpcore

READ_AHEAD = 256 * 1024
"""Bytes that may wait to be read before the other side is made to wait."""
WRITTEN_TOGETHER = 64 * 1024
"""Bytes that wait for what is written next: the head of a request leaves with its body, or with the first of it."""


class Network(httpcore.AsyncNetworkBackend):
    """Connects with the loop that runs."""

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        with _translated(httpcore.ConnectTimeout, httpcore.ConnectError):
            async with asyncio.timeout(timeout):
                transport, wire = await asyncio.get_running_loop().create_connection(_Wire, host, port)
        return _Connection(transport, wire)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class _Wire(asyncio.Protocol):
    """What came and was not read yet, and whether more may be written."""

    def __init__(self) -> None:
        self.came = bytearray()
        self.ended = False
        self.broken: Exception | None = None
        self._transport: asyncio.Transport | None = None
        self._reader: asyncio.Future[None] | None = None
        self._writer: asyncio.Future[None] | None = None
        self._is_full = self._is_held = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are none by their class

    def data_received(self, data: bytes) -> None:
        self.came += data
        if len(self.came) > READ_AHEAD and not self._is_held and self._transport is not None:
            self._is_held = True
            self._transport.pause_reading()
        _wake(self._reader)

    def eof_received(self) -> None:
        self.ended = True
        _wake(self._reader)

    def connection_lost(self, error: Exception | None) -> None:
        self.ended, self.broken = True, error
        _wake(self._reader)
        _wake(self._writer)

    def pause_writing(self) -> None:
        self._is_full = True

    def resume_writing(self) -> None:
        self._is_full = False
        _wake(self._writer)

    @property
    def is_readable(self) -> bool:
        """Whether something came, or will never come: an idle connection that is neither may be used again."""
        return self.ended or bool(self.came)

    async def readable(self, timeout: float | None) -> None:
        """Waits until something has come, or nothing will. Raises TimeoutError."""
        if not self.is_readable:
            self._reader = asyncio.get_running_loop().create_future()
            async with asyncio.timeout(timeout):
                await self._reader

    async def writable(self, timeout: float | None) -> None:
        """Waits until the other side has taken enough of what was written. Raises TimeoutError."""
        if self._is_full and not self.ended:
            self._writer = asyncio.get_running_loop().create_future()
            async with asyncio.timeout(timeout):
                await self._writer

    def take(self, most: int) -> bytes:
        """So many of the bytes that came, at the most; none at the end."""
        taken = bytes(self.came[:most])
        del self.came[:most]
        if self._is_held and len(self.came) <= READ_AHEAD and self._transport is not None:
            self._is_held = False
            self._transport.resume_reading()
        return taken


class _Connection(httpcore.AsyncNetworkStream):
    def __init__(self, transport: asyncio.Transport, wire: _Wire) -> None:
        self._transport, self._wire = transport, wire
        self._unsent = bytearray()

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        with _translated(httpcore.ReadTimeout, httpcore.ReadError):
            self._send()
            await self._wire.readable(timeout)
            if self._wire.broken is not None and not self._wire.came:
                raise self._wire.broken
        return self._wire.take(max_bytes)

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Takes the bytes at once; those before a `read`, and more than a few, are on their way when it returns."""
        self._unsent += buffer
        with _translated(httpcore.WriteTimeout, httpcore.WriteError):
            self._require_open()
            if len(self._unsent) >= WRITTEN_TOGETHER:
                self._send()
                await self._wire.writable(timeout)
                self._require_open()

    async def aclose(self) -> None:
        # Whatever was written is the system's by now, or nobody waits for it any more.
        self._transport.abort()

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.AsyncNetworkStream:
        wire = _Wire()
        try:
            with _translated(httpcore.ConnectTimeout, httpcore.ConnectError):
                async with asyncio.timeout(timeout):
                    transport = await asyncio.get_running_loop().start_tls(
                        self._transport, wire, ssl_context, server_hostname=server_hostname
                    )
        except BaseException:
            self._transport.abort()
            raise
        assert transport is not None
        wire.connection_made(transport)
        return _Connection(transport, wire)

    def get_extra_info(self, info: str) -> object:
        if info == "is_readable":
            return self._wire.is_readable
        names = {"ssl_object": "ssl_object", "client_addr": "sockname", "server_addr": "peername", "socket": "socket"}
        return self._transport.get_extra_info(names[info]) if info in names else None

    def _send(self) -> None:
        if self._unsent and not self._transport.is_closing():
            self._transport.write(bytes(self._unsent))
        self._unsent.clear()

    def _require_open(self) -> None:
        if self._wire.ended and self._transport.is_closing():
            raise self._wire.broken or ConnectionResetError("the other side hung up")


def _wake(waiter: asyncio.Future[None] | None) -> None:
    if waiter is not None and not waiter.done():
        waiter.set_result(None)


@contextmanager
def _translated(late: type[Exception], failed: type[Exception]) -> Iterator[None]:
    try:
        yield
    except TimeoutError as error:
        raise late(str(error)) from error
    except (OSError, ssl.SSLError) as error:
        raise failed(str(error)) from error
