"""The one way out: HTTP to addresses that users or the provider name, guarded against reaching private networks.

An address is judged where it is used: at connect time, after the name was resolved, once for every new connection
and so for every redirect. Literal addresses are also judged before, so that a refusal does not depend on somebody
listening there. Every foreign error ends here, and no sentence names more of a URL than scheme, host and port.
"""

import asyncio
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from http.cookiejar import CookieJar, DefaultCookiePolicy
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from ssl import SSLContext

import anyio
import httpx
from httpx_secure import SSRFProtectionError, httpx_ssrf_protection
from msgspec import Struct

from receiver import __version__
from receiver.errors import Failed

BODY_START = 2048
REDIRECTS = 5

_TIMEOUT = httpx.Timeout(connect=10, read=30, write=30, pool=30)
_LIMITS = httpx.Limits(max_connections=100, max_keepalive_connections=20, keepalive_expiry=5)
_BODY_PATIENCE = 2.0
_NAME_TTL = 60.0
_PORTS = {"http": 80, "https": 443}
_NAT64 = IPv6Network("64:ff9b::/96")
_NAT64_LOCAL = IPv6Network("64:ff9b:1::/48")
_IPV4_COMPATIBLE = IPv6Network("::/96")
_FOREIGN = (
    httpx.HTTPError,
    httpx.StreamError,
    anyio.BrokenResourceError,
    anyio.ClosedResourceError,
    anyio.EndOfStream,
    OSError,
)


class EgressRefused(Failed):
    """The request was not sent and never will be: the address is not allowed, or is none."""

    permanent = True


class EgressFailed(Failed):
    """The other side could not be reached, or broke off."""


class Answer(Struct, frozen=True, kw_only=True):
    """What came back: status, headers with lower-case names, and the first bytes of the body."""

    status: int
    headers: dict[str, str]
    body_start: bytes


class Stream:
    """An open answer. `length` is the number of bytes to come when that is known; iterate for the bytes."""

    def __init__(self, response: httpx.Response) -> None:
        self.place = _place(response.url)
        self.status = response.status_code
        self.headers = _headers(response)
        encoded = self.headers.get("content-encoding", "identity") != "identity"
        length = self.headers.get("content-length", "")
        self.length = int(length) if length.isdecimal() and not encoded else None
        self._parts = response.aiter_bytes() if encoded else response.aiter_raw()

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        with _translated(self.place):
            return await self._parts.__anext__()

    async def aclose(self) -> None:
        if isinstance(self._parts, AsyncGenerator):
            await self._parts.aclose()


class Egress:
    """Two HTTP clients: a guarded one, and an open one for actions that may reach private addresses.

    `hosts_allowed` are pairs of host and port (None: any port) which the guarded client reaches wherever they lead:
    the configured provider may run on this machine. `tls` is what servers are checked against (None: the usual).
    """

    def __init__(self, hosts_allowed: Iterable[tuple[str, int | None]] = (), *, tls: SSLContext | None = None) -> None:
        self._allowed = frozenset((host.lower(), port) for host, port in hosts_allowed)
        tls = tls or httpx.create_ssl_context()
        self._open = _client(tls)
        self._guarded = httpx_ssrf_protection(
            _client(tls), check_globally_reachable=False, custom_validator=self._admits, dns_cache_ttl=_NAME_TTL
        )

    async def post(
        self, url: str, body: bytes, headers: Mapping[str, str], *, allow_private: bool, timeout: float
    ) -> Answer:
        """POST and read the status; `timeout` bounds each step of the exchange. Redirects are not followed."""
        steps = httpx.Timeout(timeout, connect=min(timeout, 10.0))
        with _translated(_place_of(url)):
            request = self._client(allow_private).build_request(
                "POST", url, content=body, headers=headers, timeout=steps
            )
            response = await self._send(request, allow_private)
        try:
            return Answer(
                status=response.status_code, headers=_headers(response), body_start=await _body_start(response)
            )
        finally:
            await response.aclose()

    @asynccontextmanager
    async def stream(
        self, url: str, *, allow_private: bool, headers: Mapping[str, str] | None = None
    ) -> AsyncIterator[Stream]:
        """GET, following a few redirects; each hop is judged like the first address."""
        response = await self._follow(url, allow_private, headers)
        try:
            stream = Stream(response)
            try:
                yield stream
            finally:
                await stream.aclose()
        finally:
            await response.aclose()

    async def aclose(self) -> None:
        await self._guarded.aclose()
        await self._open.aclose()

    def _client(self, allow_private: bool) -> httpx.AsyncClient:
        return self._open if allow_private else self._guarded

    async def _follow(self, url: str, allow_private: bool, headers: Mapping[str, str] | None) -> httpx.Response:
        place = _place_of(url)
        with _translated(place):
            request = self._client(allow_private).build_request("GET", url, headers=headers)
        for _ in range(REDIRECTS + 1):
            with _translated(_place(request.url)):
                response = await self._send(request, allow_private)
                if response.next_request is None:
                    return response
                request = response.next_request
                await response.aclose()
        raise EgressFailed(f"{place} redirects more than {REDIRECTS} times")

    async def _send(self, request: httpx.Request, allow_private: bool) -> httpx.Response:
        if request.url.scheme not in _PORTS or not request.url.host or not 0 < _port(request.url) < 65536:
            raise EgressRefused(f"{_place(request.url)} is not an http or https address")
        if not allow_private:
            self._refuse_literal(request.url)
        return await self._client(allow_private).send(request, stream=True)

    def _refuse_literal(self, url: httpx.URL) -> None:
        if self._is_allowed(url.host, _port(url)):
            return
        address = _literal(url.host)
        if url.host == "localhost" or (address is not None and not is_public(address)):
            raise _private(_place(url))

    def _is_allowed(self, host: str, port: int) -> bool:
        return (host, port) in self._allowed or (host, None) in self._allowed

    def _admits(self, host: str, address: IPv4Address | IPv6Address, port: int) -> bool:
        return self._is_allowed(host, port) or is_public(address)


def is_public(address: IPv4Address | IPv6Address) -> bool:
    """Whether the address, and any IPv4 address hidden in it, is reachable by the whole internet."""
    if isinstance(address, IPv4Address):
        return address.is_global and not address.is_multicast and not address.is_reserved
    if address.is_multicast or address.is_site_local or address in _NAT64_LOCAL:
        return False
    hidden = _hidden_ipv4(address)
    return all(map(is_public, hidden)) if hidden else address.is_global


def _hidden_ipv4(address: IPv6Address) -> list[IPv4Address]:
    if address.ipv4_mapped is not None:
        return [address.ipv4_mapped]
    if address.sixtofour is not None:
        return [address.sixtofour]
    if address.teredo is not None:
        return list(address.teredo)
    if address in _NAT64 or address in _IPV4_COMPATIBLE:
        return [IPv4Address(address.packed[-4:])]
    return []


def _literal(host: str) -> IPv4Address | IPv6Address | None:
    """The address that a host spells out, also in the forms only a C library reads (decimal, hex, short)."""
    host = host.rstrip(".")
    with suppress(ValueError):
        return ip_address(host)
    with suppress(OSError, ValueError):
        return IPv4Address(socket.inet_aton(host))
    return None


def _client(tls: SSLContext) -> httpx.AsyncClient:
    """No proxies from the environment, no cookies kept between requests, no redirects by itself."""
    return httpx.AsyncClient(
        verify=tls,
        timeout=_TIMEOUT,
        limits=_LIMITS,
        trust_env=False,
        follow_redirects=False,
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
        headers={"user-agent": f"receiver/{__version__}", "accept-encoding": "identity"},
    )


def _headers(response: httpx.Response) -> dict[str, str]:
    return {name.lower(): value for name, value in response.headers.items()}


async def _body_start(response: httpx.Response) -> bytes:
    """What can be had of the body at once; the status is the answer, so a broken body spoils nothing."""
    start = bytearray()
    with suppress(TimeoutError, *_FOREIGN):
        async with asyncio.timeout(_BODY_PATIENCE):
            async for part in response.aiter_raw():
                start += part[: BODY_START + 1]
                if len(start) > BODY_START:
                    break
    return bytes(start[:BODY_START])


def _port(url: httpx.URL) -> int:
    return _PORTS.get(url.scheme, 0) if url.port is None else url.port


def _place(url: httpx.URL) -> str:
    if not url.host:
        return "the URL"
    host = f"[{url.host}]" if ":" in url.host else url.host
    return f"{url.scheme}://{host}:{_port(url)}"


def _place_of(url: str) -> str:
    """Scheme, host and port of a URL that may be none; never its path, query or user."""
    try:
        return _place(httpx.URL(url))
    except (httpx.InvalidURL, TypeError, ValueError):
        return "the URL"


def _private(place: str) -> EgressRefused:
    return EgressRefused(f"{place} is not a public address; `allow_private = true` lets an action reach it")


@contextmanager
def _translated(place: str) -> Iterator[None]:
    try:
        yield
    except SSRFProtectionError as error:
        raise _private(place) from error
    except httpx.UnsupportedProtocol as error:
        raise EgressRefused(f"{place} is not an http or https address") from error
    except (httpx.InvalidURL, UnicodeError) as error:
        raise EgressRefused(f"a request to {place} cannot be written: {type(error).__name__}") from error
    except (httpx.TimeoutException, TimeoutError) as error:
        raise EgressFailed(f"{place} did not answer in time ({type(error).__name__})") from error
    except httpx.ConnectError as error:
        raise EgressFailed(f"{place} could not be reached") from error
    except _FOREIGN as error:
        raise EgressFailed(f"{place} broke off ({type(error).__name__})") from error
