"""Owns the way in and out of every endpoint: what is noted, which key is accepted, how a refusal is worded."""

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from starlette.requests import Request as HttpRequest
from starlette.responses import Response
from starlette.routing import Route

from receiver.simulator.answers import Document, Family, KeyMissing, Refused, StorageRefused, to_bytes
from receiver.simulator.ledger import Ledger, Request
from receiver.simulator.outages import Outage, Outages, Pause, SlowAnswer, outage_answer

Endpoint: TypeAlias = Callable[[HttpRequest, bytes], Awaitable[Response | Document]]
"""Answers a request and its body. A document leaves with HTTP 200, as a refusal does: the body decides."""


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

        An endpoint that streams reads the body itself: it is not noted.
        """

        async def answered(request: HttpRequest, body: bytes) -> Response:
            try:
                self._bearer(request, family)
                answer = await endpoint(request, body)
            except Refused as refused:
                await _drain(request)
                answer = refused.worded(family)
            except StorageRefused as refused:
                answer = Response(refused.xml, refused.status, media_type="application/xml")
            return answer if isinstance(answer, Response) else json_answer(answer)

        async def door(request: HttpRequest) -> Response:
            body = b"" if streams else await request.body()
            self.ledger.note_request(Request(name, request.method, request.url.path, self.clock(), body))
            outage = self.outages.meet(name)
            if outage is None:
                return await answered(request, body)
            if outage.kind is Outage.SLOW:
                return SlowAnswer(await answered(request, body), self.pause, outage.seconds)
            await _drain(request)
            if outage.kind is Outage.CODE:
                return json_answer(Refused(outage.code).worded(family))
            return outage_answer(outage.kind)

        return Route(path, door, methods=[method], name=name)

    def v1(self, body: bytes, *needed: str) -> dict[str, Any]:
        """The document of a V1 request, without its key. The key counts in the body only."""
        document = json_object(body)
        if document is None:
            raise Refused(301)
        return self.checked(document, *needed)

    def checked(self, document: dict[str, Any], *needed: str) -> dict[str, Any]:
        """The document without its key, which must fit; none of the needed names may be blank."""
        for name in ("apiKey", *needed):
            if not is_text(document.get(name)):
                raise Refused(301, f"{name} must not be blank")
        self.check(document.pop("apiKey"))
        return document

    def check(self, key: str) -> None:
        """Refused 802 for a key that does not fit."""
        if not self._accepts(key):
            raise Refused(802)

    def _bearer(self, request: HttpRequest, family: Family) -> None:
        """Refused when the family wants a key in the header, and there is none or one that does not fit."""
        if family not in (Family.V2, Family.MEDIA):
            return
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not key.strip():
            raise KeyMissing
        if not self._accepts(key.strip()):
            raise Refused(1002) if family is Family.V2 else Refused(401, "ApiKey verification failed: no such api key")

    def _accepts(self, key: str) -> bool:
        return self.api_key is None or key == self.api_key


def json_answer(document: Document) -> Response:
    """A document as the answer, with HTTP 200."""
    return Response(to_bytes(document), media_type="application/json")


async def _drain(request: HttpRequest) -> None:
    """Reads what is left of a body: who does not read a request to its end cuts its sender off."""
    async for _ in request.stream():
        pass


def json_object(body: bytes) -> dict[str, Any] | None:
    """The JSON object in a body, or None for anything else."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


def v2(body: bytes) -> dict[str, Any]:
    """The document of a V2 request, whose key is in the header."""
    document = json_object(body)
    if document is None:
        raise Refused(1007)
    return document


def webhook_url_of(document: dict[str, Any]) -> str | None:
    """Takes the webhook URL out of a request; an empty one is none."""
    url = document.pop("webhookUrl", None) or None
    if url is not None and not isinstance(url, str):
        raise Refused(301, "webhookUrl must be a string")
    return url


def is_text(value: object) -> bool:
    """Whether it is a text with something in it."""
    return isinstance(value, str) and bool(value.strip())
