"""A pooler in transaction mode, as small as one can be: many connections share a few sessions of a server."""

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

SPECIAL = {80877103, 80877104}
"""What a client asks before it says who it is: whether to encrypt, in two ways. The answer is no."""
READY, KEY = b"Z", b"K"


async def _message(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """The kind of a message, and all its bytes."""
    head = await reader.readexactly(5)
    return head[:1], head + await reader.readexactly(struct.unpack(">I", head[1:])[0] - 4)


class Session:
    """One session of the server, lent to whoever begins a transaction."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.greeting = b""

    async def begin(self, startup: bytes) -> None:
        self.writer.write(startup)
        kind = b""
        while kind != READY:
            kind, message = await _message(self.reader)
            # Every connection is told a number that the pooler made up.
            self.greeting += message if kind != KEY else b"K\x00\x00\x00\x0c" + struct.pack(">II", 4_000_000, 7)


class Pooler:
    def __init__(self, port: int) -> None:
        self._server_port = port
        self._free: list[Session] = []
        self.port = 0

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Pooler"]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            for session in self._free:
                session.writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            startup = await self._startup(reader, writer)
            session = await self._lend(startup)
            writer.write(session.greeting)
            self._free.append(session)
            while True:
                await self._transaction(startup, reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _startup(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        while True:
            length = await reader.readexactly(4)
            body = await reader.readexactly(struct.unpack(">I", length)[0] - 4)
            if struct.unpack(">I", body[:4])[0] not in SPECIAL:
                return length + body
            writer.write(b"N")

    async def _lend(self, startup: bytes) -> Session:
        if self._free:
            return self._free.pop()
        session = Session(*await asyncio.open_connection("127.0.0.1", self._server_port))
        await session.begin(startup)
        return session

    async def _transaction(self, startup: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        kind, message = await _message(reader)
        if kind == b"X":
            raise ConnectionError
        session = await self._lend(startup)
        try:
            session.writer.write(message)
            while True:
                while kind not in (b"Q", b"S"):
                    kind, message = await _message(reader)
                    session.writer.write(message)
                said, answer = b"", b""
                while said != READY:
                    said, answer = await _message(session.reader)
                    writer.write(answer)
                if answer[5:] == b"I":
                    return
                kind, message = await _message(reader)
                session.writer.write(message)
        finally:
            self._free.append(session)
