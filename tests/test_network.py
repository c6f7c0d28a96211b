"""Connections straight over a loop's transports, on asyncio's own loop and on uvloop, which serves."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from ssl import create_default_context
from typing import Any

import httpcore
import pytest
import uvloop

from receiver.egress.network import READ_AHEAD, WRITTEN_TOGETHER, Network

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
PATIENCE = 5.0


@pytest.fixture(params=LOOPS)
def run(request: pytest.FixtureRequest) -> Callable[[Coroutine[Any, Any, None]], None]:
    def run_in_loop(work: Coroutine[Any, Any, None]) -> None:
        with asyncio.Runner(loop_factory=LOOPS[request.param]) as runner:
            runner.run(asyncio.wait_for(work, 4 * PATIENCE))

    return run_in_loop


@asynccontextmanager
async def connected(serve: Serve) -> AsyncIterator[httpcore.AsyncNetworkStream]:
    """A connection to a server that is played, all of which is closed at the end."""
    serving: set[asyncio.Task[None]] = set()

    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        serving.add(task)
        try:
            with suppress(ConnectionError, asyncio.CancelledError):
                await serve(reader, writer)
        finally:
            writer.transport.abort()

    server = await asyncio.start_server(play, "127.0.0.1", 0)
    stream = await Network().connect_tcp("127.0.0.1", server.sockets[0].getsockname()[1], timeout=PATIENCE)
    try:
        yield stream
    finally:
        await stream.aclose()
        server.close()
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving)


async def read_all(stream: httpcore.AsyncNetworkStream) -> bytes:
    came = b""
    while part := await stream.read(65536, timeout=PATIENCE):
        came += part
    return came


def test_what_is_asked_is_answered_and_the_end_is_no_error(run: Callable[..., None]) -> None:
    async def work() -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"you said " + await reader.readline())
            writer.close()

        async with connected(serve) as stream:
            await stream.write(b"hello\n", timeout=PATIENCE)
            assert await read_all(stream) == b"you said hello\n"

    run(work())


def test_an_idle_connection_that_the_other_side_has_closed_is_not_used_again(run: Callable[..., None]) -> None:
    async def work() -> None:
        hang_up = asyncio.Event()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await hang_up.wait()

        async with connected(serve) as stream:
            assert not stream.get_extra_info("is_readable")
            hang_up.set()
            assert await stream.read(10, timeout=PATIENCE) == b""
            assert stream.get_extra_info("is_readable")

    run(work())


def test_a_slow_reader_makes_the_other_side_wait_and_loses_nothing(run: Callable[..., None]) -> None:
    async def work() -> None:
        size = 64 * READ_AHEAD
        gone = asyncio.Event()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"x" * size)
            await writer.drain()
            gone.set()
            writer.close()
            await writer.wait_closed()

        async with connected(serve) as stream:
            first = await stream.read(1, timeout=PATIENCE)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(gone.wait(), 0.1)
            assert len(first + await read_all(stream)) == size
            assert gone.is_set()

    run(work())


def test_whoever_does_not_read_is_waited_for_no_longer_than_told(run: Callable[..., None]) -> None:
    async def work() -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await asyncio.Event().wait()

        async with connected(serve) as stream:
            with pytest.raises(httpcore.WriteTimeout):
                await stream.write(b"x" * (64 * READ_AHEAD), timeout=0.1)

    run(work())


def test_whoever_says_nothing_is_waited_for_no_longer_than_told(run: Callable[..., None]) -> None:
    async def work() -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await asyncio.Event().wait()

        async with connected(serve) as stream:
            with pytest.raises(httpcore.ReadTimeout):
                await stream.read(10, timeout=0.05)

    run(work())


def test_a_connection_that_is_cut_off_is_a_failed_read_after_what_came(run: Callable[..., None]) -> None:
    async def work() -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readline()
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()

        async with connected(serve) as stream:
            await stream.write(b"hello\n", timeout=PATIENCE)
            with pytest.raises(httpcore.ReadError):
                await stream.read(10, timeout=PATIENCE)
            with pytest.raises(httpcore.WriteError):
                await stream.write(b"more", timeout=PATIENCE)

    run(work())


def test_a_port_where_nobody_listens_is_a_failed_connection(run: Callable[..., None]) -> None:
    async def work() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
        with pytest.raises(httpcore.ConnectError):
            await Network().connect_tcp("127.0.0.1", port, timeout=PATIENCE)

    run(work())


def test_a_peer_that_speaks_no_tls_is_a_failed_connection_which_is_closed(run: Callable[..., None]) -> None:
    async def work() -> None:
        ended = asyncio.Event()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            with suppress(ConnectionError):
                await reader.read()
            ended.set()

        async with connected(serve) as stream:
            with pytest.raises(httpcore.ConnectError):
                await stream.start_tls(create_default_context(), server_hostname="localhost", timeout=PATIENCE)
            await asyncio.wait_for(ended.wait(), PATIENCE)

    run(work())


def test_a_tls_handshake_that_never_ends_is_given_up_and_closed(run: Callable[..., None]) -> None:
    async def work() -> None:
        ended = asyncio.Event()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with suppress(ConnectionError):
                await reader.read()
            ended.set()

        async with connected(serve) as stream:
            with pytest.raises(httpcore.ConnectTimeout):
                await stream.start_tls(create_default_context(), server_hostname="localhost", timeout=0.05)
            await asyncio.wait_for(ended.wait(), PATIENCE)

    run(work())


def test_the_head_of_a_request_leaves_together_with_its_body(run: Callable[..., None]) -> None:
    async def work() -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(str(len(await reader.read(65536))).encode())
            writer.close()

        async with connected(serve) as stream:
            await stream.write(b"x" * 300, timeout=PATIENCE)
            await stream.write(b"y" * 700, timeout=PATIENCE)
            assert await read_all(stream) == b"1000"

    run(work())


def test_what_was_written_is_on_its_way_before_more_is_made_of_it(run: Callable[..., None]) -> None:
    async def work() -> None:
        came = asyncio.Event()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readexactly(WRITTEN_TOGETHER)
            came.set()

        async with connected(serve) as stream:
            await stream.write(b"x" * WRITTEN_TOGETHER, timeout=PATIENCE)
            await asyncio.wait_for(came.wait(), PATIENCE)

    run(work())
