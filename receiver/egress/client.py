"""The one way out: HTTP to addresses that users or the provider name, guarded against reaching private networks.

A URL is judged before anything is looked up, so that a refusal does not depend on what a name leads to, and its
addresses at the door of every new connection (`guard.py`), and so for every redirect. Every foreign error ends here,
and no sentence names more of a URL than scheme, host and port.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import aclosing, asynccontextmanager, contextmanager, suppress
from http.cookiejar import CookieJar, DefaultCookiePolicy
from ssl import SSLContext

import anyio
import httpcore
import httpx
from msgspec import Struct

from receiver import __version__
from receiver.egress.addresses import Address, is_name, is_near, is_public, literal
from receiver.egress.guard import Guard, GuardedTransport, Judge, NotAdmitted, Resolver, look_up
from receiver.egress.sending import send
from receiver.egress.unpack import Unpackable, packings, unpacked
from receiver.model.definitions import FailureClass
from receiver.model.errors import Failed

BODY_START = 2048
REDIRECTS = 5

_PORTS = {"http": 80, "https": 443}
_AUTHORITY = re.compile(r"([^:/?#]*:)?(//[^/?#]*)?")
_NETWORK_ERRORS = (
    httpx.HTTPError,
    httpx.StreamError,
    httpcore.TimeoutException,
    httpcore.NetworkError,
    httpcore.ProtocolError,
    anyio.BrokenResourceError,
    anyio.ClosedResourceError,
    anyio.EndOfStream,
    OSError,
)


class EgressRefused(Failed):
    """The request was not sent and never will be: the address is not allowed, or is none."""

    category = FailureClass.REFUSED

    def __init__(self, problem: str, remedy: str = "") -> None:
        super().__init__(f"{problem}; {remedy}" if remedy else problem)
        self.problem = problem


class EgressFailed(Failed):
    """The other side could not be reached, or broke off."""

    category = FailureClass.TRANSPORT


class EgressUnreached(EgressFailed):
    """No connection could be made."""


class EgressLate(EgressFailed):
    """The other side took too long."""

    category = FailureClass.TIMEOUT


class Patience(Struct, frozen=True, kw_only=True):
    """Seconds: for a connection, for each read and write, for the headers of a GET with all its redirects, and for
    the beginning of the body that answers a POST.
    """

    connect: float = 10
    idle: float = 30
    head: float = 60
    body_start: float = 2


PATIENCE = Patience()


class Answer(Struct, frozen=True, kw_only=True):
    """What came back: status, headers with lower-case names, and the first bytes of the body."""

    status: int
    headers: dict[str, str]
    body_start: bytes


class Stream:
    """An open answer. `length` is the number of bytes to come when that is known; iterate for the bytes.

    A body that was packed for the way is unpacked, a bounded piece at a time.
    """

    def __init__(self, response: httpx.Response) -> None:
        self.place = _place(response.url)
        self.status = response.status_code
        self.headers = dict(response.headers)
        encoding = self.headers.get("content-encoding", "")
        length = self.headers.get("content-length", "")
        self.length = int(length) if length.isdecimal() and not packings(encoding) else None
        self._parts = unpacked(response.aiter_raw(), encoding)

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        with _translated(self.place):
            return await self._parts.__anext__()

    async def aclose(self) -> None:
        await self._parts.aclose()


class Egress:
    """Three HTTP clients: one for sending, one for fetching, and an open one for actions that may go anywhere.

    `hosts_allowed` are pairs of host and port (None: any port) which files are fetched from wherever they lead: the
    configured provider may run on this machine. They count for nothing else, and the clients share no connections.
    `tls` is what servers are checked against (None: the usual); `resolve` looks names up, `network` connects.
    """

    def __init__(
        self,
        hosts_allowed: Iterable[tuple[str, int | None]] = (),
        *,
        tls: SSLContext | None = None,
        patience: Patience = PATIENCE,
        resolve: Resolver = look_up,
        network: httpcore.AsyncNetworkBackend | None = None,
    ) -> None:
        self._allowed = frozenset((host.lower(), port) for host, port in hosts_allowed)
        self._patience = patience
        tls = tls or httpx.create_ssl_context()
        network = network or httpcore.AnyIOBackend()

        def client(admits: Judge) -> httpx.AsyncClient:
            return _client(GuardedTransport(Guard(admits, resolve, network), tls), patience)

        self._anywhere = client(lambda host, port, address: True)
        self._sending = client(lambda host, port, address: is_public(address))
        self._fetching = client(self._admits)

    async def post(
        self,
        url: str,
        body: bytes,
        headers: Mapping[str, str],
        *,
        allow_private: bool,
        timeout: float,
        most: int | None = None,
    ) -> Answer:
        """POST and read the status and the first bytes; `timeout` seconds bound the whole. Redirects are not followed.

        With `most` so many bytes are waited for, for half of the time that is left. Raises EgressRefused and
        EgressFailed. The connection is closed when it ends in any way but a whole answer.
        """
        client = self._anywhere if allow_private else self._sending
        steps = httpx.Timeout(timeout, connect=min(timeout, self._patience.connect))
        with _translated(_place_of(url)):
            request = client.build_request("POST", _unambiguous(url), content=body, headers=headers, timeout=steps)
            return await self._exchange(client, request, timeout, near=allow_private, most=most)

    async def put(
        self, url: str, content: AsyncIterator[bytes], headers: Mapping[str, str], *, idle: float, timeout: float
    ) -> Answer:
        """PUT a stream to a public address; the rest as above. `idle` seconds bound every step of it."""
        steps = httpx.Timeout(idle, connect=min(idle, self._patience.connect))
        with _translated(_place_of(url)):
            request = self._sending.build_request(
                "PUT", _unambiguous(url), content=content, headers=headers, timeout=steps
            )
            return await self._exchange(self._sending, request, timeout)

    async def _exchange(
        self,
        client: httpx.AsyncClient,
        request: httpx.Request,
        timeout: float,
        *,
        near: bool = False,
        most: int | None = None,
    ) -> Answer:
        until = asyncio.get_running_loop().time() + timeout
        with _translated(_place(request.url)):
            _refuse_unfit(request.url, near=near)
            response = await send(client, request, timeout)
        async with aclosing(response):
            # Never all the time that is left: a status that came must not be lost to a body that does not.
            left = (until - asyncio.get_running_loop().time()) / 2
            patience = left if most else min(self._patience.body_start, left)
            start = await _body_start(response, patience, most or BODY_START)
            return Answer(status=response.status_code, headers=dict(response.headers), body_start=start)

    @asynccontextmanager
    async def stream(
        self, url: str, *, allow_private: bool, headers: Mapping[str, str] | None = None
    ) -> AsyncIterator[Stream]:
        """GET, following a few redirects; each hop is judged like the first address.

        Raises EgressRefused and EgressFailed, also while it is read: when nothing comes for `Patience.idle` seconds.
        """
        response = await self._follow(url, allow_private, headers)
        async with aclosing(response), aclosing(Stream(response)) as stream:
            yield stream

    async def aclose(self) -> None:
        for client in (self._sending, self._fetching, self._anywhere):
            await client.aclose()

    async def _follow(self, url: str, allow_private: bool, headers: Mapping[str, str] | None) -> httpx.Response:
        client = self._anywhere if allow_private else self._fetching
        until = asyncio.get_running_loop().time() + self._patience.head
        with _translated(place := _place_of(url)):
            request = client.build_request("GET", _unambiguous(url), headers=headers)
        for _ in range(REDIRECTS + 1):
            with _translated(_place(request.url)):
                _refuse_unfit(request.url, near=allow_private or self._is_allowed(request.url.host, _port(request.url)))
                response = await send(client, request, until - asyncio.get_running_loop().time())
                if response.next_request is None:
                    return response
                await response.aclose()
                _unambiguous(response.headers["location"])
                request = response.next_request
        raise EgressFailed(f"{place} redirects more than {REDIRECTS} times")

    def _is_allowed(self, host: str, port: int) -> bool:
        return (host, port) in self._allowed or (host, None) in self._allowed

    def _admits(self, host: str, port: int, address: Address) -> bool:
        return self._is_allowed(host, port) or is_public(address)


def _unambiguous(url: str) -> str:
    """The URL, when all who read URLs agree on its host: some take a backslash for a slash, and others for a letter."""
    begins = _AUTHORITY.match(url)
    if begins and "\\" in begins[0]:
        raise httpx.InvalidURL("a backslash in the host")
    return url


def _refuse_unfit(url: httpx.URL, *, near: bool) -> None:
    """Refuses what is no HTTP address and, unless the near is allowed, what a URL itself shows to be near."""
    host = url.raw_host.decode("ascii")
    if url.scheme not in _PORTS or not 0 < _port(url) < 65536 or not (literal(host) or is_name(host)):
        raise EgressRefused(f"{_place(url)} is not an http or https address")
    if not near and is_near(host):
        raise _private(_place(url))


def _client(transport: GuardedTransport, patience: Patience) -> httpx.AsyncClient:
    """No proxies from the environment, no cookies kept between requests, no redirects by itself."""
    return httpx.AsyncClient(
        transport=transport,
        timeout=httpx.Timeout(patience.idle, connect=patience.connect),
        trust_env=False,
        follow_redirects=False,
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
        headers={"user-agent": f"receiver/{__version__}", "accept-encoding": "identity"},
    )


async def _body_start(response: httpx.Response, patience: float, most: int) -> bytes:
    """What can be had of the body at once; the status is the answer, so a broken body spoils nothing."""
    start = bytearray()
    with suppress(TimeoutError, *_NETWORK_ERRORS):
        async with asyncio.timeout(patience):
            async for part in response.aiter_raw():
                start += part[: most + 1]
                if len(start) > most:
                    break
    return bytes(start[:most])


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
    return EgressRefused(f"{place} is not a public address", "`allow_private = true` lets an action reach it")


@contextmanager
def _translated(place: str) -> Iterator[None]:
    try:
        yield
    except NotAdmitted as error:
        raise _private(place) from error
    except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
        raise EgressRefused(f"{place} is not an http or https address") from error
    except httpx.RemoteProtocolError as error:
        raise EgressRefused(f"{place} redirects to what is no address") from error
    except Unpackable as error:
        raise EgressFailed(f"{place} sent what cannot be unpacked, {error}") from error
    except UnicodeError as error:
        raise EgressRefused(f"a request to {place} cannot be written: {type(error).__name__}") from error
    except (httpcore.TimeoutException, TimeoutError) as error:
        raise EgressLate(f"{place} did not answer in time ({type(error).__name__})") from error
    except httpcore.ConnectError as error:
        raise EgressUnreached(f"{place} could not be reached") from error
    except _NETWORK_ERRORS as error:
        raise EgressFailed(f"{place} broke off ({type(error).__name__})") from error
