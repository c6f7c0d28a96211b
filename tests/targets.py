"""What outgoing requests meet: a server on the loopback that answers as told, and a made-up internet around it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from ssl import PROTOCOL_TLS_CLIENT, SSLContext

import httpcore
from msgspec import Struct

TLS = SSLContext(PROTOCOL_TLS_CLIENT)
PUBLIC = "93.184.216.34"


class Request(Struct):
    line: str
    headers: dict[str, str]
    body: bytes


Play = Callable[[asyncio.StreamWriter], Awaitable[None]]


class Target:
    """Answers each path with the bytes it was given, and remembers what it was asked.

    `asked` is set when a request has come, `gone` when the other side has ended a connection.
    """

    def __init__(self) -> None:
        self.answers: dict[str, bytes] = {}
        self.plays: dict[str, Play] = {}
        self.else_play: Play | None = None
        self.requests: list[Request] = []
        self.connections = 0
        self.asked = asyncio.Event()
        self.gone = asyncio.Event()
        self.port = 0
        self._serving: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    def url(self, path: str, host: str = "127.0.0.1", scheme: str = "http") -> str:
        return f"{scheme}://{host}:{self.port}{path}"

    def give(self, path: str, body: bytes = b"", status: str = "200 OK", **headers: str) -> str:
        lines = {"Content-Length": str(len(body)), "Connection": "close"}
        lines.update({name.replace("_", "-"): value for name, value in headers.items()})
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        self.answers[path] = f"HTTP/1.1 {status}\r\n{head}\r\n".encode() + body
        return self.url(path)

    def play(self, path: str, play: Play) -> str:
        self.plays[path] = play
        return self.url(path)

    def repeat(self, path: str, head: bytes, drop: bytes, *, slowly: bool) -> str:
        """An answer that begins with `head` and never ends."""
        return self.play(path, self.repeating(head, drop, slowly=slowly))

    def repeating(self, head: bytes, drop: bytes, *, slowly: bool) -> Play:
        async def play(writer: asyncio.StreamWriter) -> None:
            writer.write(head)
            while not self.gone.is_set():
                writer.write(drop)
                await writer.drain()
                if slowly:
                    await self.pause(0.01)

        return play

    async def pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await asyncio.Event().wait()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        serving = asyncio.current_task()
        assert serving is not None
        self._serving[serving] = writer
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while await self._answer(reader, writer):
                pass
        self.gone.set()
        writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answers one request; True when another may follow on the same connection."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        self.requests.append(Request(head[0], headers, body))
        self.asked.set()
        path = head[0].split(" ")[1].split("?")[0]
        if (play := self.plays.get(path, self.else_play)) is not None:
            await self._play(play, reader, writer)
            return False
        answer = self.answers.get(path, b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
        writer.write(answer)
        await writer.drain()
        return b"Connection: close" not in answer

    async def _play(self, play: Play, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        playing = asyncio.create_task(self._until_gone(play, writer))
        with suppress(ConnectionError):
            await reader.read()
        self.gone.set()
        await playing

    async def _until_gone(self, play: Play, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            await play(writer)

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Target"]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        async with server:
            yield self
            self.gone.set()
            for writer in self._serving.values():
                writer.transport.abort()
            await asyncio.gather(*self._serving)


async def silence(_: asyncio.StreamWriter) -> None:
    """The play of a server that says nothing more."""


class Network(httpcore.AsyncNetworkBackend):
    """An internet in which only `inhabitants` (address to a port of this machine) live; remembers who was called.

    Who calls one of the `deaf` waits for an answer as long as they like.
    """

    def __init__(self, inhabitants: dict[str, int] | None = None, *, deaf: Sequence[str] = ()) -> None:
        self.inhabitants = inhabitants or {}
        self.deaf = deaf
        self.called: list[tuple[str, int]] = []
        self._real = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        self.called.append((host, port))
        if host in self.deaf:
            with suppress(TimeoutError):
                async with asyncio.timeout(timeout):
                    await asyncio.Event().wait()
            raise httpcore.ConnectTimeout("nobody answered")
        if host not in self.inhabitants:
            raise httpcore.ConnectError("nobody lives there")
        return await self._real.connect_tcp("127.0.0.1", self.inhabitants[host], timeout)


class Names:
    """Tells the addresses of names; a name with several tellings changes its mind after each."""

    def __init__(self) -> None:
        self._tellings: dict[str, list[list[str]]] = {}
        self.asked: list[str] = []

    def put(self, name: str, *tellings: list[str]) -> "Names":
        self._tellings[name] = list(tellings)
        return self

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        self.asked.append(host)
        tellings = self._tellings.get(host)
        if not tellings:
            raise OSError("no such name")
        return tellings.pop(0) if len(tellings) > 1 else tellings[0]
