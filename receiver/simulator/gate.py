"""Owns the way in and out of every endpoint: what is noted, which key is accepted, how a refusal is worded."""

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeAlias

from starlette.requests import Request as HttpRequest
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from receiver.simulator.answers import (
    NAMES,
    Answer,
    Document,
    Family,
    KeyMissing,
    Refused,
    StorageRefused,
    envelope,
    refusal,
    said,
    to_bytes,
)
from receiver.simulator.ledger import Request
from receiver.simulator.oddities import about_another, moved_answer, spoiled
from receiver.simulator.outages import ActiveOutage, Outage, met_outage, outage_answer, slow_answer
from receiver.simulator.provider import Provider

Endpoint: TypeAlias = Callable[[Provider, HttpRequest, bytes], Awaitable[Answer]]
"""Answers a request and its body."""
TRUE_ANSWERS = frozenset({Outage.SLOW, Outage.DRIP, Outage.ODD, Outage.OTHER_TASK, Outage.TORN, Outage.CODED})
"""Outages under which the endpoint does its work all the same."""
QUEUE_FULL = NAMES["421"]


@dataclass(frozen=True)
class Door:
    """An endpoint under the name by which it is counted and put out of order."""

    name: str
    path: str
    endpoint: Endpoint
    family: Family
    method: str = "POST"
    streams: bool = False
    """Whether the endpoint reads the body itself: then it is not noted."""

    def route(self, provider: Provider) -> Route:
        """The door as a route of the provider, which meets its outages."""

        async def answer(request: HttpRequest) -> ASGIApp:
            body = b"" if self.streams else await request.body()
            provider.requests.append(Request(provider.clock(), body, self.name, request.method, request.url.path))
            outage = met_outage(provider.outages, self.name)
            if outage is None:
                return await self._answer(provider, request, body)
            _note(provider, request, f"out of order: {outage.kind}")
            if outage.kind in TRUE_ANSWERS:
                return await self._disturbed(outage, provider, request, body)
            await _drain(request)
            return self._denied(outage, request, len(provider.requests))

        return Route(self.path, answer, methods=[self.method], name=self.name)

    async def _disturbed(self, outage: ActiveOutage, provider: Provider, request: HttpRequest, body: bytes) -> ASGIApp:
        """What the endpoint answers, as an outage lets it arrive."""
        if outage.kind is Outage.OTHER_TASK:
            return await self._answer(provider, request, about_another(body, provider.tasks.by_id))
        answer = await self._answer(provider, request, body)
        if outage.kind is Outage.SLOW:
            return slow_answer(answer, provider.pause, outage.seconds)

        def goes_on() -> bool:
            return outage.times is not None or any(each is outage for each in provider.outages.values())

        return spoiled(outage.kind, answer, len(provider.requests), provider.pause, goes_on)

    def _denied(self, outage: ActiveOutage, request: HttpRequest, turn: int) -> ASGIApp:
        """What an outage answers instead of the endpoint."""
        if outage.kind is Outage.CODE:
            return _json_answer(Refused(outage.code).worded(self.family))
        if outage.kind is Outage.QUEUE_FULL:
            in_envelope: Document = {**envelope(msg=QUEUE_FULL), "code": None}
            return _json_answer(refusal("", QUEUE_FULL) if self.family is Family.V2 else in_envelope)
        if outage.kind is Outage.REDIRECT:
            return moved_answer(request.url.path, turn)
        return outage_answer(outage.kind)

    async def _answer(self, provider: Provider, request: HttpRequest, body: bytes) -> ASGIApp:
        try:
            if self.family in (Family.V2, Family.MEDIA):
                self._check_bearer(provider, request)
            answer = await self.endpoint(provider, request, body)
        except Refused as refused:
            await _drain(request)
            answer = refused.worded(self.family)
        except StorageRefused as refused:
            _note(provider, request, f"refused with {refused.status}")
            return Response(refused.xml, refused.status, media_type="application/xml")
        _note(provider, request, said(answer) if isinstance(answer, dict) else "ok")
        return _json_answer(answer) if isinstance(answer, dict) else answer

    def _check_bearer(self, provider: Provider, request: HttpRequest) -> None:
        """Refused when there is no key in the header, or one that does not fit."""
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not key.strip():
            raise KeyMissing(412)
        if not _accepts(provider, key.strip()):
            v2 = self.family is Family.V2
            raise Refused(1002) if v2 else Refused(401, "ApiKey verification failed: no such api key")


def v1(provider: Provider, body: bytes, *needed: str) -> Document:
    """The document of a V1 request, without its key. The key counts in the body only."""
    document = json_object(body)
    if document is None:
        raise Refused(301)
    return checked(provider, document, *needed)


def checked(provider: Provider, document: Document, *needed: str) -> Document:
    """The document without its key, which must fit; none of the needed names may be blank."""
    for name in ("apiKey", *needed):
        if not is_text(document.get(name)):
            raise Refused(301, f"{name} must not be blank")
    check_key(provider, document.pop("apiKey"))
    return document


def check_key(provider: Provider, key: str) -> None:
    """Refused 802 for a key that does not fit."""
    if not _accepts(provider, key):
        raise Refused(802)


def v2(body: bytes) -> Document:
    """The document of a V2 request, whose key is in the header."""
    document = json_object(body)
    if document is None:
        raise Refused(1007)
    return document


def json_object(body: bytes) -> Document | None:
    """The JSON object in a body, or None for anything else."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


def webhook_url_of(document: Document) -> str | None:
    """Takes the webhook URL out of a request; an empty one is none."""
    url = document.pop("webhookUrl", None) or None
    if url is not None and not isinstance(url, str):
        raise Refused(301, "webhookUrl must be a string")
    return url


def is_text(value: object) -> bool:
    """Whether it is a text with something in it."""
    return isinstance(value, str) and bool(value.strip())


def _accepts(provider: Provider, key: str) -> bool:
    """Whether a key is the account's; without one in the options every key is."""
    return provider.options.api_key in (None, key)


def _json_answer(document: Document) -> Response:
    return Response(to_bytes(document), media_type="application/json")


def _note(provider: Provider, request: HttpRequest, what: str) -> None:
    if provider.note is not None:
        provider.note(f"{request.method} {request.url.path}: {what}")


async def _drain(request: HttpRequest) -> None:
    """Reads what is left of a body: who does not read a request to its end cuts its sender off."""
    async for _ in request.stream():
        pass
