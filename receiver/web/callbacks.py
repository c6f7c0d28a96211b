"""The public door: POST /callbacks/{token}. Any bytes end in accept or one kind of refusal."""

import time

import msgspec
import structlog
from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive, Scope, Send

from receiver.model.errors import Refused, StoreUnavailable
from receiver.model.views import ErrorDocument, ErrorView
from receiver.receive import Inbound, receive
from receiver.server.service import RECONCILER, Service

PATH = "/callbacks"
ROUTE = "/callbacks/{token}"
BUSY = ("busy", "too_many_bodies")
"""Reasons for a 503 that are not the storage's fault."""
CLOSE = (b"connection", b"close")

log = structlog.get_logger()


class CallbackDoor:
    """A plain ASGI application: this is the hot path, and a Request and a Response cost a third of it (measured)."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def __call__(self, scope: Scope, receive_: Receive, send: Send) -> None:
        meter, begun = self._service.meter, time.perf_counter()
        try:
            status, answer, headers = await self._answer(scope, receive_)
        except StoreUnavailable as problem:
            meter.refused["busy" if problem.reason in BUSY else "disk"] += 1
            status, answer = 503, _error(problem.reason, "nothing can be stored now; send it again later")
            headers = [(b"retry-after", str(problem.retry_after).encode()), CLOSE]
        except ClientDisconnect:
            return
        except Exception:
            # The sender tries again after a 503; after a 500 nobody knows what it does.
            log.exception("callback")
            status, answer, headers = 503, _error("internal", "send it again later"), [(b"retry-after", b"30"), CLOSE]
        meter.note_request(ROUTE, scope["method"], status, time.perf_counter() - begun)
        fixed = [(b"content-type", b"application/json"), (b"content-length", str(len(answer)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": [*fixed, *headers]})
        await send({"type": "http.response.body", "body": answer})

    async def _answer(self, scope: Scope, receive_: Receive) -> tuple[int, bytes, list[tuple[bytes, bytes]]]:
        service = self._service
        if scope["method"] != "POST":
            return 405, _error("method_not_allowed", "callbacks are POSTed"), [(b"allow", b"POST"), CLOSE]
        link = service.links.read(scope["path"][len(PATH) + 1 :])
        if link is None:
            return self._not_found()
        inbound = await _read(receive_, service.settings.max_body)
        begun = time.perf_counter()
        try:
            received = await receive(service.store, link, inbound, service.clock())
        except Refused:
            return self._not_found()
        service.meter.taken.note(time.perf_counter() - begun)
        if received.status != 200:
            service.meter.refused["too_large" if received.status == 413 else "unreadable"] += 1
        if received.due:
            service.wake(only=RECONCILER)
        if received.status == 413:
            return 413, _error("too_large", "the body is too large; its beginning is kept"), [CLOSE]
        return received.status, ACCEPTED[received.duplicate], []

    def _not_found(self) -> tuple[int, bytes, list[tuple[bytes, bytes]]]:
        self._service.meter.refused["token"] += 1
        self._service.refusals.note()
        return 404, NOT_FOUND, [CLOSE]


async def _read(receive_: Receive, limit: int) -> Inbound:
    """The body, up to `limit` bytes; what comes after is not read. Raises ClientDisconnect before its end."""
    message: Message = await receive_()
    if message["type"] != "http.disconnect" and not message.get("more_body", False):
        body: bytes = message.get("body", b"")  # nearly always it comes at once
        return Inbound(body=body, too_large=len(body) > limit)
    gathered = bytearray()
    while message["type"] != "http.disconnect":
        gathered += message.get("body", b"")
        if len(gathered) > limit or not message.get("more_body", False):
            return Inbound(body=bytes(gathered), too_large=len(gathered) > limit)
        message = await receive_()
    raise ClientDisconnect


def _error(code: str, message: str) -> bytes:
    return msgspec.json.encode(ErrorDocument(error=ErrorView(code=code, message=message)))


ACCEPTED = [msgspec.json.encode({"received": True, "duplicate": duplicate}) for duplicate in (False, True)]
NOT_FOUND = _error("not_found", "there is no such callback URL")
