"""A reader of the stream over a socket of its own, which reads when it is told to."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import NamedTuple

from servers import ADMIN_TOKEN, PATIENCE


class Told(NamedTuple):
    """An event of the stream."""

    place: str
    kind: str
    id: str
    state: str

    @property
    def number(self) -> int:
        return int(self.place.rpartition("-")[2])


class Listener:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.status = 0
        self.headers: dict[str, str] = {}
        self.events: list[Told] = []
        self.beats = 0
        self._texts: list[str] = []
        self._place = ""

    @property
    def text(self) -> str:
        """All that was written to it."""
        return "".join(self._texts)

    @property
    def numbers(self) -> list[int]:
        return [each.number for each in self.events]

    @property
    def place(self) -> str:
        """What it gives back when it comes again."""
        return self._place

    async def begin(self) -> None:
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        self.status = int(head[0].split()[1])
        named = (line.partition(":") for line in head[1:])
        self.headers = {name.lower(): value.strip() for name, _, value in named}
        if self.status == 200:
            await self.until(lambda: bool(self._texts))

    async def until(self, over: Callable[[], bool], patience: float = PATIENCE) -> None:
        """Reads on until something is so. Raises EOFError at the end."""
        async with asyncio.timeout(patience):
            while not over():
                await self._read()

    async def to_the_end(self) -> bool:
        """Reads on to the end. Whether it was a proper one."""
        try:
            await self.until(lambda: False)
        except (asyncio.IncompleteReadError, ConnectionError):
            return False
        except EOFError:
            return True
        raise AssertionError("it has no end")

    async def _read(self) -> None:
        size = int(await self._reader.readuntil(b"\r\n"), 16)
        content = (await self._reader.readexactly(size + 2))[:-2].decode()
        if not size:
            raise EOFError
        self._texts.append(content)
        for block in content.split("\n\n"):
            self._take(block)

    def _take(self, block: str) -> None:
        self.beats += block.startswith(":")
        said = dict(line.split(": ", 1) for line in block.split("\n") if ": " in line and line[0] != ":")
        self._place = said.get("id", self._place)
        if "event" in said:
            data = json.loads(said["data"])
            self.events.append(Told(self._place, said["event"], data.get("id", ""), data.get("state", "")))

    def close(self) -> None:
        self._writer.close()


@asynccontextmanager
async def listening(
    port: int, query: str = "", *, after: str | None = None, token: str = ADMIN_TOKEN, buffer: int | None = None
) -> AsyncIterator[Listener]:
    """Somebody who listens to a server on this machine; `buffer` is what its own system holds for it, in bytes."""
    peer = socket.socket()
    if buffer is not None:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    peer.setblocking(False)
    await asyncio.get_running_loop().sock_connect(peer, ("127.0.0.1", port))
    listener = Listener(*await asyncio.open_connection(sock=peer))
    again = "" if after is None else f"Last-Event-ID: {after}\r\n"
    head = f"GET /api/stream{query} HTTP/1.1\r\nHost: receiver.test\r\nAuthorization: Bearer {token}\r\n{again}\r\n"
    listener._writer.write(head.encode())
    try:
        await listener.begin()
        yield listener
    finally:
        listener.close()
