"""Shows the admin token to a server only after it has proved that it is the one that left its address here."""

import hmac
import time
from collections.abc import Callable, Generator
from secrets import token_hex

import httpx
import msgspec
from msgspec import Struct

from receiver.client.transport import Unreachable
from receiver.model.announcement import Announcement
from receiver.model.errors import Failed

PROOF_KEPT = 1.0
"""Seconds for which a proof counts: another program may take the port as soon as the server has ended."""
STRANGER = (
    "has not proved that it knows the admin token that is known here: "
    "it is another program, or the token is another server's"
)
LONGEST = 1024
"""Bytes of a proof with all around it; what listens there may be anything."""


class Unproved(Unreachable):
    """Nothing was sent: what answers, if anything does, has not proved that it is the server that is meant."""


class Health(Struct, frozen=True):
    """What a server says of itself when it is asked for a proof."""

    proof: str = ""


class Proving(httpx.Auth):
    """Asks for a proof before the first request, and again when it has become old. `known` raises Failed."""

    def __init__(
        self,
        url: str,
        token: str | None,
        known: Callable[[], Announcement],
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._url = url
        self._token = token
        self._known = known
        self._monotonic = monotonic
        self._proved_at = float("-inf")

    def sync_auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        now = self._monotonic()
        if now - self._proved_at >= PROOF_KEPT:
            server, token = self._expected()
            challenge = token_hex(32)
            said = _said((yield _question(server.url, challenge, request)))
            if not hmac.compare_digest(said.encode(), server.proof(token, challenge).encode()):
                raise Unproved(self._url, f"what answers at {self._url} {STRANGER}")
            self._proved_at = now
        request.headers["authorization"] = f"Bearer {self._token}"
        yield request

    def _expected(self) -> tuple[Announcement, str]:
        """The server that is meant, and the token that it must know."""
        try:
            server = self._known()
        except Failed as error:
            raise Unproved(self._url, str(error)) from error
        if server.url != self._url:
            raise Unproved(self._url, f"the server is now at {server.url}: give the command again")
        if self._token is None:
            raise Unproved(self._url, "no admin token is known here: set RECEIVER_ADMIN_TOKEN")
        return server, self._token


def _question(url: str, challenge: str, request: httpx.Request) -> httpx.Request:
    """The question for a proof, which is waited for as long as the request itself."""
    return httpx.Request("GET", f"{url}/healthz", params={"challenge": challenge}, extensions=request.extensions)


def _said(answer: httpx.Response) -> str:
    length = answer.headers.get("content-length", "")
    if answer.status_code != httpx.codes.OK or not length.isdigit() or int(length) > LONGEST:
        return ""
    try:
        return msgspec.json.decode(answer.read(), type=Health).proof
    except (msgspec.DecodeError, UnicodeError):
        return ""
