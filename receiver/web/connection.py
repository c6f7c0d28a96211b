"""One connection at the door: uvicorn's HTTP protocol, with a bound on everything that a stranger can make it hold.

A connection has one request in hand at a time: what is sent behind it waits unread until it is answered. Whoever
oversteps a limit is told so, and is then listened to for a moment more: a socket that is closed over unread bytes
takes the answer with it.
"""

import asyncio
from typing import Any, cast

import httptools
import msgspec
from starlette.types import Scope
from uvicorn._types import ASGI3Application
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from receiver.model import rules
from receiver.model.views import ErrorDocument, ErrorView
from receiver.web.door import Door

NEW, IDLE, HEAD, BODY, DRAIN, ANSWER, CLOSING = range(7)
"""What a connection waits for: its first byte, its next request, the rest of a head, the rest of a body, the rest of a
body that was answered already, an answer of ours, its end."""
ENTRY = "receiver.connection"
END = b"\r\n\r\n"
PIECE = 64 * 1024
"""Bytes that are parsed between two looks at the limits."""
STEP = 1024
"""Bytes of a body of unknown length that are parsed at least before its end is looked for."""


class Overstepped(Exception):
    """Raised inside the parser, which has no other way to be stopped."""


class Outlet:
    """What a request's cycle has of the transport: it closes with care, and writes to nobody who has gone."""

    __slots__ = ("_write", "close", "is_closing")

    def __init__(self, connection: "Connection", transport: asyncio.Transport) -> None:
        self._write, self.is_closing, self.close = transport.write, transport.is_closing, connection.close

    def write(self, data: bytes) -> None:
        if not self.is_closing():
            self._write(data)


def let_go(scope: Scope, count: int) -> None:
    """Says that so many bytes of a request's body are no longer held in memory."""
    connection = scope.get(ENTRY)
    if connection is not None:
        connection.hold(-min(count, connection.held))


class Connection(HttpToolsProtocol):
    # The parent's attributes are thirty, and more would no longer share their names between connections.
    __slots__ = ("_body", "_outlet", "_rest", "_rest_at", "_silent", "door", "held", "phase", "since")

    def __init__(
        self,
        door: Door,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.door = door
        self.phase, self.since = NEW, door.now
        self.held = 0
        self._body = 0
        self._silent = 0
        """Bytes since the parser last made something of them: in a head, those of the head."""
        self._rest, self._rest_at = b"", 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._outlet = Outlet(self, transport)
        self.door.enter(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._let_go_of_all()
        self.phase = CLOSING
        self.door.leave(self)
        super().connection_lost(exc)

    def hold(self, count: int) -> None:
        self.held += count
        self.door.held += count
        if self.door.held > self.door.limits.bytes_in_flight:
            self.door.relieve()

    @property
    def receives(self) -> bool:
        return self.phase not in (ANSWER, CLOSING)

    @property
    def gives_way(self) -> bool:
        return self.phase in (HEAD, BODY) or bool(self._rest)

    # ------------------------------------------------------------ what comes in

    def data_received(self, data: bytes) -> None:
        if self.phase == CLOSING:
            return
        if len(data) <= PIECE and self.phase != ANSWER and data.count(END) < 2:
            self._parse(data)
        elif self._rest:
            self.hold(len(data))
            self._rest, self._rest_at = self._rest[self._rest_at :] + data, 0
            self.flow.pause_reading()
        else:
            self._take(data, 0)

    def _take(self, data: bytes, start: int) -> None:
        """Parses request by request, for as long as none of them waits for its answer."""
        view = memoryview(data)
        while start < len(data) and self.phase != CLOSING:
            if self.phase == ANSWER:
                self._rest, self._rest_at = data, start
                self.flow.pause_reading()
                self.hold(len(data) - start)
                return
            stop = self._end_of_piece(data, start)
            self._parse(view[start:stop])
            start = stop

    def _end_of_piece(self, data: bytes, start: int) -> int:
        """How far can be parsed without meeting a second request."""
        most = min(len(data), start + PIECE)
        step = 0
        if self.phase in (BODY, DRAIN):
            length = next((value for name, value in self.headers if name == b"content-length"), None)
            if length is not None:
                return min(most, start + max(1, int(length) - self._body))
            step = STEP
        found = data.find(END, start + step, most)
        return most if found < 0 else found + len(END)

    def _parse(self, piece: bytes | memoryview) -> None:
        self._silent += len(piece)
        try:
            self.parser.feed_data(piece)
        except httptools.HttpParserUpgrade as upgrade:
            self._parse_without_upgrade(bytes(piece[upgrade.args[0] :]))
            return
        except httptools.HttpParserError as error:
            if not isinstance(error.__context__, Overstepped):
                self.refuse(400, "not_http", "this is no HTTP request")
            elif self.pipeline:
                self.door.note("too_many_waiting")
                self.abort()
            else:
                self._refuse_head()
        if self.phase == HEAD:
            self.hold(len(piece))
        if self._silent > self.door.limits.header_bytes or (self.headers and len(self.headers) > rules.HEADERS):
            self._refuse_head()

    def _parse_without_upgrade(self, rest: bytes) -> None:
        """Parses the same request once more, without its offer: nothing is upgraded here.

        The parser takes the body of such a request for another protocol. Java's client offers HTTP/2 in this way.
        """
        method, version = self.parser.get_method(), self.parser.get_http_version().encode()
        if method == b"CONNECT":
            self.refuse(400, "not_http", "this is no proxy")
            return
        head = [b"%b %b HTTP/%b" % (method, self.url, version)]
        head += [b"%b: %b" % (name, value) for name, value in self.headers if name != b"upgrade"]
        self.parser = httptools.HttpRequestParser(self)
        self._silent = 0
        self._parse(b"\r\n".join(head) + END + rest)

    def _refuse_head(self) -> None:
        self.refuse(431, "headers_too_large", "the headers of the request are too large")

    # ------------------------------------------------------------ what the parser tells

    def on_message_begin(self) -> None:
        if len(self.pipeline) >= rules.PIPELINED:
            raise Overstepped
        self.phase, self.since = HEAD, self.door.now
        self._body = 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        if self.parser.should_upgrade():
            return  # it comes again
        limit = self.door.limits.header_bytes
        if len(self.headers) > rules.HEADERS or (self._silent > limit and self._head_size() > limit):
            raise Overstepped
        self.door.idle.pop(self, None)
        self.phase, self.since = BODY, self.door.now
        self._hold_or_end(max(0, self._silent - self.held))
        self._silent = 0
        self.scope[ENTRY] = self  # type: ignore[literal-required]
        super().on_headers_complete()
        self.cycle.transport = cast(asyncio.Transport, self._outlet)

    def _hold_or_end(self, count: int) -> None:
        self.hold(count)
        if self.phase == CLOSING:
            raise Overstepped

    def _head_size(self) -> int:
        return len(self.url) + sum(len(name) + len(value) for name, value in self.headers)

    def on_body(self, body: bytes) -> None:
        self._silent = 0
        self._body += len(body)
        if self.phase == BODY:
            super().on_body(body)
            self._hold_or_end(len(body))

    def on_message_complete(self) -> None:
        if self.phase == HEAD:
            return
        super().on_message_complete()
        if self.phase == BODY:
            self.phase, self.since = ANSWER, self.door.now
        elif self.phase == DRAIN:
            self._rest_now()

    # ------------------------------------------------------------ what goes out

    def on_response_complete(self) -> None:
        self.server_state.total_requests += 1
        self._forget(but=len(self._rest) - self._rest_at)
        if self.phase == CLOSING or self.transport.is_closing():
            return
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
            return
        if self.phase == BODY:
            self.phase, self.since = DRAIN, self.door.now
        elif self.phase == ANSWER:
            self._rest_now()
        if self._rest:
            rest, start, self._rest, self._rest_at = self._rest, self._rest_at, b"", 0
            self._forget()
            self._take(rest, start)
        if not self._rest and self.phase != CLOSING:
            self.flow.resume_reading()

    def _rest_now(self) -> None:
        """Nothing is left of the request: an idle connection costs little."""
        self.phase, self.since = IDLE, self.door.now
        self.scope = self.headers = self.cycle = None  # type: ignore[assignment]
        self.door.idle[self] = None

    def _forget(self, *, but: int = 0) -> None:
        self.door.held += but - self.held
        self.held = but

    def pause_writing(self) -> None:
        self.since = self.door.now
        super().pause_writing()

    def resume_writing(self) -> None:
        self.since = self.door.now
        super().resume_writing()

    # ------------------------------------------------------------ how it ends

    def overstayed(self, now: float, passed: float) -> None:
        limits, waited, phase = self.door.limits, now - self.since, self.phase
        if phase == CLOSING:
            unsent = self.transport.get_write_buffer_size()
            if waited > (limits.answer_seconds if unsent else rules.LINGER):
                self.transport.abort()
        elif self.flow.write_paused:
            if waited > limits.answer_seconds:
                self.door.note("answer_not_read")
                self.abort()
        elif phase in (NEW, IDLE):
            if waited > (limits.header_seconds if phase == NEW else limits.idle_seconds):
                self.close()
        elif phase == HEAD:
            if waited > limits.header_seconds:
                self.refuse(408, "too_slow", "the headers of the request did not come in time")
        elif phase != ANSWER:
            if self.flow.read_paused:
                self.since += passed  # it is we who do not read on
            elif waited > limits.body_seconds + (self._body / rules.BODY_RATE if phase == BODY else 0):
                self.refuse(408, "too_slow", "the body of the request did not come in time")

    def abort(self) -> None:
        self._end()
        self.transport.abort()

    def refuse(self, status: int, code: str, message: str) -> None:
        """Answers in the program's place, which is told that the sender is gone."""
        if self.phase == CLOSING:
            return
        self.door.note(code)
        answered = self.cycle is not None and self.cycle.response_started
        self._end()
        if answered:
            self.transport.abort()
            return
        body = msgspec.json.encode(ErrorDocument(error=ErrorView(code=code, message=message)))
        again = b"retry-after: 5\r\n" if status == 503 else b""
        head = b"content-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n%b\r\n"
        self.transport.write(STATUS_LINE[status] + head % (len(body), again) + body)
        self._linger()

    def close(self) -> None:
        """Ends the connection once all is sent."""
        unread = self.phase in (BODY, DRAIN)
        self._end()
        if unread:
            self._linger()
        else:
            self.transport.close()

    def _end(self) -> None:
        """Keeps nothing of the request, and tells the program that its sender is gone."""
        self._let_go_of_all()
        self.phase, self.since = CLOSING, self.door.now
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
            self.flow.resume_writing()
        self.pipeline.clear()
        self.parser = self.scope = self.headers = self.cycle = None  # type: ignore[assignment]
        self.door.idle.pop(self, None)

    def _let_go_of_all(self) -> None:
        """A request that came whole stays in memory until the program is done with it, whoever has gone meanwhile."""
        unread, self._rest = len(self._rest) - self._rest_at, b""
        self._rest_at = 0
        self._forget(but=max(0, self.held - unread) if self.phase == ANSWER else 0)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        task = self.loop.create_task(cycle.run_asgi(app))
        task.add_done_callback(self._done)
        self.tasks.add(task)

    def _done(self, task: asyncio.Task[None]) -> None:
        self.tasks.discard(task)
        if self.phase == CLOSING:
            self._forget()

    def _linger(self) -> None:
        if not self.transport.is_closing():
            self.transport.write_eof()
            self.flow.resume_reading()
