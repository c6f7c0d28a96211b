"""Owns the simulator's use of httpx: callbacks that go out, and requests that come in without a socket."""

import asyncio
from collections.abc import Callable, Mapping

import httpx
from starlette.types import ASGIApp, Receive, Scope, Send

from receiver.simulator.callbacks import Deliver, DeliveryAnswer
from receiver.simulator.outages import BREAK_SLOT, Break

CALLBACK_TIMEOUT = 10.0
"""Seconds a receiver has; the provider's own limit is not published."""
REASONS: dict[type[Exception], str] = {
    httpx.ConnectError: "Connection refused",
    httpx.ConnectTimeout: "Connect timed out",
    httpx.ReadTimeout: "Read timed out",
    httpx.RemoteProtocolError: "Unexpected end of file from server",
}
"""Broken connections in the words of the provider's Java client."""
BREAKS: dict[Break, tuple[type[httpx.TransportError], str]] = {
    Break.REFUSED: (httpx.ConnectError, "All connection attempts failed"),
    Break.SLOW: (httpx.ReadTimeout, "The read operation timed out"),
    Break.LOST: (httpx.RemoteProtocolError, "Server disconnected without sending a response."),
}
"""Broken connections as a client of ours meets them."""


def post_callback(client: httpx.AsyncClient, timeout: float = CALLBACK_TIMEOUT) -> Deliver:
    """A deliverer that really POSTs with the client: `timeout` seconds in all, no redirects. It never raises for a bad
    receiver.
    """

    async def deliver(url: str, body: bytes, headers: Mapping[str, str]) -> DeliveryAnswer:
        try:
            async with asyncio.timeout(timeout):
                response = await client.post(
                    url, content=body, headers=headers, timeout=timeout, follow_redirects=False
                )
        except TimeoutError:
            return DeliveryAnswer(None, REASONS[httpx.ReadTimeout])
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
            # ValueError: a host name that cannot be encoded; anybody may submit any webhook URL.
            return DeliveryAnswer(None, REASONS.get(type(error), str(error) or type(error).__name__))
        return DeliveryAnswer(response.status_code, response.text)

    return deliver


def noted(deliver: Deliver, note: Callable[[str], None]) -> Deliver:
    """The same deliverer; `note` is told what every callback met, without the secret at the end of its URL."""

    async def told(url: str, body: bytes, headers: Mapping[str, str]) -> DeliveryAnswer:
        answer = await deliver(url, body, headers)
        met = answer.text if answer.status is None else f"answered {answer.status}"
        note(f"callback to {url.partition('?')[0].rpartition('/')[0]}/…: {met}")
        return answer

    return told


def asgi_deliver(app: ASGIApp) -> Deliver:
    """A deliverer that POSTs into an ASGI app, whatever host the URL names. An app that raises has answered 500."""
    # No client is ever closed here: this transport holds nothing.
    return post_callback(httpx.AsyncClient(transport=httpx.ASGITransport(app, raise_app_exceptions=False)))


def real_client() -> httpx.AsyncClient:
    """A client over real sockets. Proxies of the environment are not used."""
    limits = httpx.Limits(max_connections=128, max_keepalive_connections=64)
    return httpx.AsyncClient(limits=limits, trust_env=False)


class InProcessTransport(httpx.AsyncBaseTransport):
    """Requests into the app by function call, which fail as a client's would.

    Raises ConnectError for a refused connection, ReadTimeout for a slow answer (the request was handled) and
    RemoteProtocolError for a lost one (handled too), all at once and without waiting.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        breaks: list[Break] = []

        async def listening(scope: Scope, receive: Receive, send: Send) -> None:
            await self._app({**scope, "extensions": {BREAK_SLOT: breaks}}, receive, send)

        response = await httpx.ASGITransport(listening).handle_async_request(request)
        if breaks:
            error, words = BREAKS[breaks[0]]
            raise error(words, request=request)
        return response
