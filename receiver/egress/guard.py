"""The door of every outgoing connection: names are looked up here, judged here, and connected to by number.

What was judged is what is connected to, so a name that changes its mind in between changes nothing. Every new
connection is judged; none is made, not even for a moment, before all addresses of its name were.
"""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from ssl import SSLContext
from typing import TypeAlias

import httpcore
import httpx

from receiver.egress.addresses import Address, literal

Resolver: TypeAlias = Callable[[str, int], Awaitable[Sequence[str]]]
"""Name and port to addresses, the best first. Raises OSError for a name that leads nowhere."""
Judge: TypeAlias = Callable[[str, int, Address], bool]
"""Whether a host (as it was asked for) and port may be reached at an address."""

KEPT_IDLE = 20
IDLE_SECONDS = 5.0


class NotAdmitted(Exception):
    """A name leads to an address that the judge does not admit; nothing was connected to."""


async def look_up(host: str, port: int) -> list[str]:
    """What the machine's own resolver says, in its order of preference."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


@dataclass(frozen=True)
class Guard(httpcore.AsyncNetworkBackend):
    """Connects to addresses that `admits` admits. One that it does not spoils all of its name's."""

    admits: Judge
    resolve: Resolver
    network: httpcore.AsyncNetworkBackend

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        try:
            async with asyncio.timeout(timeout) as limit:
                addresses = await self._addresses(host, port)
                return _Stream(await self._first(addresses, port, limit.when()))
        except TimeoutError as error:
            raise httpcore.ConnectTimeout from error

    async def sleep(self, seconds: float) -> None:
        await self.network.sleep(seconds)

    async def _addresses(self, host: str, port: int) -> list[str]:
        spelled = literal(host)
        try:
            found = [spelled] if spelled else [ip_address(text) for text in await self.resolve(host, port)]
        except OSError as error:
            raise httpcore.ConnectError("the name could not be looked up") from error
        if not all(self.admits(host, port, address) for address in found):
            raise NotAdmitted(host)
        return [str(address) for address in found]

    async def _first(self, addresses: list[str], port: int, until: float | None) -> httpcore.AsyncNetworkStream:
        """A connection to the first address that takes one; each gets an equal share of the time that is left."""
        failed: Exception = httpcore.ConnectError("the name has no address")
        for tried, address in enumerate(addresses):
            left = None if until is None else max(0.0, until - asyncio.get_running_loop().time())
            share = None if left is None else left / (len(addresses) - tried)
            try:
                return await self.network.connect_tcp(address, port, timeout=share)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failed = error
        raise failed


class _Stream(httpcore.AsyncNetworkStream):
    """A connection that is closed for real when its TLS handshake is cancelled: httpcore 1.0 leaves it open."""

    def __init__(self, stream: httpcore.AsyncNetworkStream) -> None:
        self._stream = stream

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return await self._stream.read(max_bytes, timeout)

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        await self._stream.write(buffer, timeout)

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def start_tls(
        self, ssl_context: SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.AsyncNetworkStream:
        try:
            return await self._stream.start_tls(ssl_context, server_hostname=server_hostname, timeout=timeout)
        except BaseException:
            await self._stream.aclose()
            raise

    def get_extra_info(self, info: str) -> object:
        return self._stream.get_extra_info(info)


class GuardedTransport(httpx.AsyncBaseTransport):
    """httpx's HTTP over httpcore's connections, with a guard at their door.

    How many connections there are at once is decided by whoever asks: a limit here would let slow hosts starve others.
    """

    def __init__(self, guard: Guard, tls: SSLContext) -> None:
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=tls,
            max_connections=None,
            max_keepalive_connections=KEPT_IDLE,
            keepalive_expiry=IDLE_SECONDS,
            network_backend=guard,
        )

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        url = request.url
        answer = await self._pool.handle_async_request(
            httpcore.Request(
                method=request.method,
                url=httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path),
                headers=request.headers.raw,
                content=request.stream,
                extensions=request.extensions,
            )
        )
        return httpx.Response(answer.status, headers=answer.headers, stream=_Body(answer), extensions=answer.extensions)

    async def aclose(self) -> None:
        await self._pool.aclose()


class _Body(httpx.AsyncByteStream):
    def __init__(self, answer: httpcore.Response) -> None:
        self._answer = answer

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for part in self._answer.aiter_stream():
            yield part

    async def aclose(self) -> None:
        await self._answer.aclose()
