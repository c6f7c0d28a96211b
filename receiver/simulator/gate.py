"""Owns the way in and out of every endpoint: what is noted, who may enter, and in which envelope a no leaves."""

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from starlette.requests import Request as Asked
from starlette.responses import Response
from starlette.routing import Route

from receiver.simulator.answers import TOKEN_INVALID, Document, Family, Refused, to_bytes
from receiver.simulator.ledger import Ledger, Request
from receiver.simulator.multipart import drain
from receiver.simulator.outages import Outage, Outages, Pause, SlowAnswer, outage_answer

Endpoint: TypeAlias = Callable[[Asked, bytes], Awaitable[Response]]


@dataclass(frozen=True)
class Gate:
    """What all endpoints share. `api_key` None accepts every key that is not blank."""

    clock: Callable[[], float]
    api_key: str | None
    ledger: Ledger
    outages: Outages
    pause: Pause | None

    def route(
        self, name: str, path: str, endpoint: Endpoint, family: Family, *, method: str = "POST", streams: bool = False
    ) -> Route:
        """A route under the name by which it is counted and put out of order.

        An endpoint that streams reads the body itself: it is neither gathered nor noted.
        """

        async def answered(asked: Asked, body: bytes) -> Response:
            try:
                return await endpoint(asked, body)
            except Refused as refused:
                return said(refused.worded(family))

        async def door(asked: Asked) -> Response:
            body = b"" if streams else await asked.body()
            self.ledger.note_request(Request(name, asked.method, asked.url.path, self.clock(), body))
            outage = self.outages.meet(name)
            if outage is None:
                return await answered(asked, body)
            if outage.kind is Outage.SLOW:
                return SlowAnswer(await answered(asked, body), self.pause, outage.seconds)
            if streams:
                await drain(asked.stream())
            if outage.kind is Outage.CODE:
                return said(Refused(outage.code).worded(family))
            return outage_answer(outage.kind)

        return Route(path, door, methods=[method], name=name)

    def bearer(self, asked: Asked, family: Family = Family.V2) -> Response | None:
        """None for a request whose header has a key that fits; for one without any, what is said to it.

        Refused for a key that does not fit. HTTP says 200 either way: the body decides.
        """
        scheme, _, key = asked.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not key.strip():
            return said(TOKEN_INVALID)
        if self.accepts(key.strip()):
            return None
        raise Refused(1002) if family is Family.V2 else Refused(401, "ApiKey verification failed: no such api key")

    def v1(self, body: bytes, *needed: str) -> dict[str, Any]:
        """The document of a V1 request, without its key. The key counts in the body only."""
        document = json_object(body)
        if document is None:
            raise Refused(301)
        for name in ("apiKey", *needed):
            if not is_text(document.get(name)):
                raise Refused(301, f"{name} must not be blank")
        self.check(document.pop("apiKey"))
        return document

    def check(self, key: str) -> None:
        """Refused 802 for a key that does not fit."""
        if not self.accepts(key):
            raise Refused(802)

    def accepts(self, key: str) -> bool:
        return self.api_key is None or key == self.api_key


def said(document: Document) -> Response:
    """A document as the answer, with HTTP 200."""
    return Response(to_bytes(document), media_type="application/json")


def json_object(body: bytes) -> dict[str, Any] | None:
    """The JSON object in a body, or None for anything else."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


def is_text(value: object) -> bool:
    """Whether it is a text with something in it."""
    return isinstance(value, str) and bool(value.strip())
