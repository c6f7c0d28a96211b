"""The door's limits, each on its own: real sockets, a small program behind them, and a clock that the test moves."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import cast

import pytest
from house import Clock
from msgspec.structs import replace
from servers import Answer, Connection, request
from starlette.types import Receive, Scope, Send
from uvicorn.config import Config
from uvicorn.server import ServerState

from receiver.model import rules
from receiver.model.rules import DoorLimits
from receiver.web import connection as protocol
from receiver.web.door import Door
from receiver.web.server import listen

LIMITS = DoorLimits(
    connections=100,
    header_bytes=8192,
    header_seconds=10,
    body_seconds=30,
    idle_seconds=60,
    answer_seconds=90,
    bytes_in_flight=2**20,
)
MIB = 2**20
PATIENCE = 10.0


class Hall:
    """A door with a program behind it: it answers with the length of the body, or what its path asks for."""

    def __init__(self, limits: DoorLimits) -> None:
        self.clock = Clock()
        self.door = Door(limits, clock=self.clock)
        self.port = 0
        self.called = 0
        self._connected: list[Connection] = []
        self.broken_off = asyncio.Event()
        self.reading = asyncio.Event()
        self.may_answer = asyncio.Event()

    async def program(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.called += 1
        answer = scope["path"].encode() + b" "
        if scope["path"] == "/early":
            return await self._answer(send, b"early", close=True)
        if scope["path"] == "/later":
            await self.may_answer.wait()
        if scope["path"] == "/much":
            return await self._answer(send, b"x" * 4 * MIB)
        length, more = 0, True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                self.broken_off.set()
                return None
            length += len(message.get("body", b""))
            if scope["path"] == "/let-go":
                protocol.let_go(scope, len(message.get("body", b"")))
            more = message.get("more_body", False)
            self.reading.set()
        if scope["path"] == "/kept":
            await self.may_answer.wait()
        return await self._answer(send, answer + str(length).encode())

    async def _answer(self, send: Send, body: bytes, *, close: bool = False) -> None:
        headers = [(b"content-length", str(len(body)).encode()), *([(b"connection", b"close")] if close else [])]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def connect(self) -> Connection:
        self._connected.append(await Connection.open(self.port))
        return self._connected[-1]

    def leave(self) -> None:
        self.may_answer.set()
        for ours in self._connected:
            ours.close()
        for theirs in list(self.door.connections):
            theirs.abort()

    async def until_open(self, count: int) -> None:
        """Until the door knows of so many connections."""
        async with asyncio.timeout(PATIENCE):
            while len(self.door.connections) != count:  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0)

    async def until_waiting(self, phase: int) -> None:
        """Until all connections wait for the same."""
        async with asyncio.timeout(PATIENCE):
            while {cast(protocol.Connection, each).phase for each in self.door.connections} != {phase}:  # noqa: ASYNC110
                await asyncio.sleep(0)

    def pass_time(self, seconds: float) -> None:
        self.clock.now += seconds
        self.door.sweep()


@asynccontextmanager
async def opened(limits: DoorLimits = LIMITS) -> AsyncIterator[Hall]:
    hall = Hall(limits)
    listener = listen("127.0.0.1", 0)
    config = Config(hall.program, interface="asgi3", log_config=None, access_log=False, ws="none")
    config.load()
    make = partial(protocol.Connection, hall.door, config, ServerState(), {})
    server = await asyncio.get_running_loop().create_server(make, sock=listener)
    hall.port = listener.getsockname()[1]
    try:
        yield hall
    finally:
        server.close()
        hall.leave()
        await hall.until_open(0)


@pytest.fixture
async def hall() -> AsyncIterator[Hall]:
    async with opened() as made:
        yield made


async def asked(hall: Hall, *sent: bytes) -> Answer | None:
    """What is answered to these bytes; None when the server only hung up."""
    connection = await hall.connect()
    async with asyncio.timeout(PATIENCE):
        for piece in sent:
            connection.send(piece)
        return await connection.answer()


async def hung_up(connection: Connection) -> bool:
    """Whether the server ends the connection without another word."""
    async with asyncio.timeout(PATIENCE):
        return await connection.answer() is None


def refusal(answer: Answer | None) -> tuple[int, str, str | None]:
    assert answer is not None
    return answer.status, answer.reason, answer.headers.get("connection")


HEAD = b"POST /a HTTP/1.1\r\nHost: x\r\n"


# ---------------------------------------------------------------- headers


@pytest.mark.parametrize(
    "sent",
    [
        HEAD + b"X: " + b"a" * 9000,
        HEAD + b"X: " + b"a" * 9000 + b"\r\n\r\n",
        b"GET /" + b"a" * 9000,
        b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        HEAD + b"a: b\r\n" * 200,
        HEAD + b"a: b\r\n" * 200 + b"\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\n" + b"a: b\r\n" * 200,
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\nX: " + b"a" * 90_000,
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n1;" + b"a" * 90_000,
        b"\r\n" * 5000,
    ],
    ids=[
        *["one without end", "one that ends", "an address without end", "an address that ends"],
        *["many without end", "many that end", "many behind a body", "one behind a body without end"],
        *["a chunk's extension without end", "line ends and nothing else"],
    ],
)
async def test_more_headers_than_allowed_are_answered_431_and_the_connection_ends(hall: Hall, sent: bytes) -> None:
    assert refusal(await asked(hall, sent)) == (431, "headers_too_large", "close")
    assert hall.door.held == 0


async def test_headers_up_to_the_limit_are_taken_in_however_many_pieces_they_come(hall: Hall) -> None:
    head = HEAD + b"X: " + b"a" * 8000 + b"\r\nContent-Length: 70000\r\n\r\n"
    answer = await asked(hall, head[:50], head[50:7000], head[7000:] + b"b" * 70_000)
    assert answer is not None
    assert answer.body == b"/a 70000"


async def test_what_is_no_http_is_answered_400_and_told_once_a_round(
    hall: Hall, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(5):
        assert refusal(await asked(hall, b"\x16\x03\x01 hello\r\n\r\n")) == (400, "not_http", "close")
    assert caplog.records == []


async def test_a_head_that_is_not_complete_in_time_is_answered_408(hall: Hall) -> None:
    connection = await hall.connect()
    connection.send(HEAD)
    await hall.until_open(1)
    await hall.until_waiting(protocol.HEAD)
    hall.pass_time(5)
    connection.send(b"X: and on\r\n")
    hall.pass_time(6)
    assert refusal(await connection.answer()) == (408, "too_slow", "close")
    assert await hung_up(connection)


async def test_a_connection_that_says_nothing_ends_as_late_as_a_head(hall: Hall) -> None:
    connection = await hall.connect()
    await hall.until_open(1)
    hall.pass_time(10)
    assert len(hall.door.connections) == 1
    hall.pass_time(1)
    assert await hung_up(connection)


async def test_a_connection_may_rest_between_requests_and_ends_when_it_rests_for_too_long(
    hall: Hall,
) -> None:
    connection = await hall.connect()
    for _ in range(2):
        answer = await connection.exchange(request("POST", "/a", b"12"))
        assert answer is not None
        assert answer.body == b"/a 2"
        hall.pass_time(60)
    hall.pass_time(1)
    assert await hung_up(connection)


# ---------------------------------------------------------------- bodies


async def test_a_body_that_does_not_come_on_is_answered_408_and_the_program_is_told(hall: Hall) -> None:
    connection = await hall.connect()
    connection.send(HEAD + b"Content-Length: 100\r\n\r\nabc")
    await hall.reading.wait()
    hall.pass_time(31)
    assert refusal(await connection.answer()) == (408, "too_slow", "close")
    await hall.broken_off.wait()


async def test_a_body_that_comes_slowly_but_comes_is_taken(hall: Hall) -> None:
    connection = await hall.connect()
    size = 10 * rules.BODY_RATE
    connection.send(HEAD + b"Content-Length: %d\r\n\r\n" % size)
    for _ in range(10):
        hall.reading.clear()
        connection.send(b"x" * rules.BODY_RATE)
        await hall.reading.wait()
        hall.pass_time(3)
    answer = await connection.answer()
    assert answer is not None
    assert answer.body == b"/a %d" % size


async def test_a_body_that_is_answered_before_it_came_ends_in_time_too(hall: Hall) -> None:
    """The answer reaches its sender, who is still sending."""
    connection = await hall.connect()
    connection.send(b"POST /early HTTP/1.1\r\nHost: x\r\nContent-Length: 9000000\r\n\r\n" + b"x" * 3_000_000)
    answer = await connection.answer()
    assert answer is not None
    assert answer.body == b"early"
    hall.pass_time(rules.LINGER + 1)
    assert await hung_up(connection)


async def test_the_largest_unfinished_request_gives_way_when_too_many_bytes_are_in_flight(
    hall: Hall,
) -> None:
    large, small = await hall.connect(), await hall.connect()
    large.send(HEAD + b"Content-Length: 9000000\r\n\r\n" + b"x" * 600_000)
    small.send(HEAD + b"Content-Length: 2000\r\n\r\n" + b"x" * 1000)
    middle = await hall.connect()
    middle.send(HEAD + b"Content-Length: 500000\r\n\r\n" + b"x" * 500_000)
    assert refusal(await large.answer()) == (503, "too_busy", "close")
    small.send(b"x" * 1000)
    answers = [await small.answer(), await middle.answer()]
    assert [each.body if each else None for each in answers] == [b"/a 2000", b"/a 500000"]
    assert hall.door.held == 0


async def test_what_the_program_still_holds_counts_although_its_sender_has_gone(hall: Hall) -> None:
    connection = await hall.connect()
    connection.send(request("POST", "/kept", b"x" * 50_000))
    await hall.until_open(1)
    await hall.until_waiting(protocol.ANSWER)
    connection.close()
    await hall.until_open(0)
    assert hall.door.held >= 50_000
    hall.may_answer.set()
    while hall.door.held:  # noqa: ASYNC110 - nobody tells
        await asyncio.sleep(0)


async def test_a_body_that_is_passed_on_does_not_count(hall: Hall) -> None:
    answer = await asked(hall, request("POST", "/let-go", b"x" * 5 * MIB))
    assert answer is not None
    assert answer.body == b"/let-go %d" % (5 * MIB)


async def test_many_small_requests_together_are_bounded_as_well() -> None:
    async with opened(replace(LIMITS, bytes_in_flight=50_000)) as hall:
        connections = [await hall.connect() for _ in range(20)]
        for each in connections:
            each.send(HEAD + b"Content-Length: 9999\r\n\r\n" + b"x" * 5000)
        answers = [asyncio.create_task(each.answer()) for each in connections]
        (first, *_), waiting = await asyncio.wait(answers, return_when=asyncio.FIRST_COMPLETED)
        refused = await first
        assert refusal(refused) == (503, "too_busy", "close")
        assert refused is not None
        assert refused.headers["retry-after"] == "5"
        assert hall.door.held <= 50_000 * rules.IN_FLIGHT_AT_LAST
        hall.leave()
        await asyncio.wait(waiting)


# ---------------------------------------------------------------- pipelining


@pytest.mark.parametrize(
    "sent",
    [b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n", request("POST", "/a", b"12345"), request("POST", "/a", b"\r\n\r\n" * 20)],
    ids=["without bodies", "with bodies", "with bodies that look like ends"],
)
async def test_pipelined_requests_are_all_answered(hall: Hall, sent: bytes) -> None:
    connection = await hall.connect()
    connection.send(sent * 500)
    for _ in range(500):
        answer = await connection.answer()
        assert answer is not None
        assert answer.body.startswith(b"/a ")
    connection.close()
    assert hall.door.held == 0


async def test_a_pipelined_request_behind_chunks_is_answered(hall: Hall) -> None:
    connection = await hall.connect()
    chunked = HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\n\r\n\r\n1\r\n0\r\n\r\n"
    connection.send(chunked * 5)
    for _ in range(5):
        answer = await connection.answer()
        assert answer is not None
        assert answer.body == b"/a 5"


async def test_too_many_requests_behind_chunks_end_the_connection(hall: Hall, caplog: pytest.LogCaptureFixture) -> None:
    connection = await hall.connect()
    connection.send(b"POST /later HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
    await hall.until_open(1)
    await hall.until_waiting(protocol.BODY)
    connection.send(b"0\r\n\r\n" + b"GET /a HTTP/1.1\r\n\r\n" * 40)
    assert await hung_up(connection)
    hall.may_answer.set()
    await hall.until_open(0)
    assert hall.called == 1
    assert caplog.records == []


async def test_one_request_of_a_connection_is_in_hand_at_a_time(hall: Hall) -> None:
    connection = await hall.connect()
    connection.send(request("GET", "/later") + request("GET", "/a") * 50_000)
    while hall.door.held < 100_000:  # noqa: ASYNC110 - nobody tells how far a server has read
        await asyncio.sleep(0)
    assert hall.called <= 1
    hall.may_answer.set()
    assert await connection.answer() is not None
    assert await connection.answer() is not None


async def test_whoever_reads_no_answers_is_not_answered_on_and_is_hung_up_on(hall: Hall) -> None:
    reader = socket.create_connection(("127.0.0.1", hall.port))
    reader.setblocking(False)
    await asyncio.get_running_loop().sock_sendall(reader, request("GET", "/much") * 100)
    await hall.until_open(1)
    (connection,) = cast(set[protocol.Connection], hall.door.connections)
    while not connection.flow.write_paused:  # noqa: ASYNC110 - nobody tells
        await asyncio.sleep(0)
    assert hall.called <= 2
    hall.pass_time(91)
    await hall.until_open(0)
    reader.close()


UPGRADE = HEAD + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEA\r\n"


@pytest.mark.parametrize(
    "sent",
    [
        [UPGRADE + b"Content-Length: 3\r\n\r\nabc"],
        [UPGRADE, b"Content-Length: 3\r\n\r", b"\na", b"bc"],
        [UPGRADE + b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n2\r\nbc\r\n0\r\n\r\n"],
        [UPGRADE + b"Content-Length: 3\r\n\r\nabc" + request("GET", "/a/x")],
    ],
    ids=["at once", "in pieces", "in chunks", "with another behind it"],
)
async def test_a_request_that_offers_an_upgrade_is_read_whole_and_so_is_the_next(
    hall: Hall, sent: list[bytes], caplog: pytest.LogCaptureFixture
) -> None:
    """Java's client offers HTTP/2 with the first request of each connection, and then sends the body."""
    connection = await hall.connect()
    for piece in sent:
        connection.send(piece)
        await asyncio.sleep(0)
    first = await connection.answer()
    assert first is not None
    assert first.body == b"/a 3"
    if b"/a/x" in sent[-1]:
        assert await connection.answer() is not None
    second = await connection.exchange(request("POST", "/b", b"12"))
    assert second is not None
    assert second.body == b"/b 2"
    assert caplog.records == []


async def test_nobody_is_taken_for_a_proxy(hall: Hall) -> None:
    sent = b"CONNECT other.test:443 HTTP/1.1\r\nHost: other.test\r\n\r\n"
    assert refusal(await asked(hall, sent)) == (400, "not_http", "close")


# ---------------------------------------------------------------- connections


async def test_when_there_are_too_many_connections_the_oldest_idle_one_ends() -> None:
    async with opened(replace(LIMITS, connections=3)) as hall:
        at_work = await hall.connect()
        at_work.send(request("GET", "/later"))
        await hall.until_open(1)
        await hall.until_waiting(protocol.ANSWER)
        oldest, other = await hall.connect(), await hall.connect()
        await hall.until_open(3)
        newest = await hall.connect()
        assert await hung_up(oldest)
        for each in (newest, other):
            answer = await each.exchange(request("GET", "/a"))
            assert answer is not None
        hall.may_answer.set()
        assert await at_work.answer() is not None


async def test_half_sent_bodies_make_room_when_nobody_is_idle() -> None:
    async with opened(replace(LIMITS, connections=2)) as hall:
        first, second = await hall.connect(), await hall.connect()
        for each in (first, second):
            each.send(HEAD + b"Content-Length: 9\r\n\r\n1")
            await hall.reading.wait()
            hall.reading.clear()
            hall.pass_time(1)
        assert await asked(hall, request("GET", "/a")) is not None
        assert await hung_up(first)
        second.send(b"2345678 9")
        assert await second.answer() is not None
