"""The door to the stream: server-sent events, for as long as their reader reads.

Written here because little of it is about that format: sse-starlette keeps a process-wide flag and patches uvicorn's
signal handling, has a ticking task for every reader, and knows neither places nor the connection's own limits.
"""

import asyncio
import socket
from contextlib import suppress

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from receiver.model import streaming
from receiver.model.errors import invalid
from receiver.server.service import Service
from receiver.server.stream import Reader
from receiver.web.connection import ENTRY
from receiver.web.filters import STREAM, read_filter

HEADERS = {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-store, no-transform",
    "x-accel-buffering": "no",  # nginx would wait until it had a page full
}
USER_TIMEOUT: int | None = getattr(socket, "TCP_USER_TIMEOUT", None)  # macOS has none


async def stream(service: Service, request: Request) -> Response:
    """What changes, as it does. `last_event_id` says the same as the header, which no browser lets a script set."""
    wanted = read_filter(request, STREAM)
    task = wanted.task and await service.store.whole_id(wanted.task)
    if wanted.task and task is None:
        raise invalid("task", f"there is no task {wanted.task[:64]}")
    if request.method == "HEAD":
        return Response(headers=HEADERS)
    last = request.headers.get("last-event-id") or request.query_params.get("last_event_id", "")
    return EventStream(service.stream.open(kinds=wanted.kind, task=task, last_event_id=last))


class EventStream(Response):
    def __init__(self, reader: Reader) -> None:
        super().__init__(headers=HEADERS)
        del self.headers["content-length"]
        self._reader = reader

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        hold_little(scope)
        leaving = asyncio.create_task(left(receive))
        leaving.add_done_callback(lambda _: self._reader.close())
        try:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            async for piece in self._reader:
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        finally:
            self._reader.close()
            leaving.cancel()


async def left(receive: Receive) -> None:
    """Returns when the reader has gone, or was sent away by the door because it reads no more."""
    while (await receive())["type"] != "http.disconnect":
        pass


def hold_little(scope: Scope) -> None:
    """The system holds little for this reader, and gives it up when its machine has vanished."""
    connection = scope.get(ENTRY)
    peer = connection.transport.get_extra_info("socket") if connection is not None else None
    if peer is None:
        return
    with suppress(OSError):  # it has gone already
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, streaming.UNREAD)
        if USER_TIMEOUT is not None:
            peer.setsockopt(socket.IPPROTO_TCP, USER_TIMEOUT, int(streaming.VANISHED * 1000))
