"""A storage of result files on the loopback: whole or in ranges, breaking off where a test wants it to."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import msgspec

NOT_FOUND = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
PIECE = 1024 * 1024


class Request(msgspec.Struct):
    line: str
    headers: dict[str, str]


class File(msgspec.Struct):
    """A file of `size` bytes, read by `read(start, stop)`. An answer ends after `breaks_at` bytes of the file, or
    hangs after `hangs_at`."""

    size: int
    read: Callable[[int, int], bytes]
    headers: dict[str, str]
    ranges: bool = True
    breaks_at: int | None = None
    hangs_at: int | None = None


class Storage:
    """Answers a path with the file it keeps, or with the bytes of an answer it was given, and remembers all."""

    def __init__(self) -> None:
        self.answers: dict[str, bytes] = {}
        self.once: set[str] = set()
        self.files: dict[str, File] = {}
        self.requests: list[Request] = []
        self.sent = 0
        self.hanging = asyncio.Event()
        self.watched: tuple[int, asyncio.Event] | None = None
        self.port = 0

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def give(self, path: str, body: bytes = b"", status: str = "200 OK", **headers: str) -> str:
        """A fixed answer, whatever is asked of it."""
        lines = {"Content-Length": str(len(body)), "Connection": "close"}
        lines.update({name.replace("_", "-"): value for name, value in headers.items()})
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items() if value)
        self.answers[path] = f"HTTP/1.1 {status}\r\n{head}\r\n".encode() + body
        return self.url(path)

    def keep(self, path: str, body: bytes, headers: dict[str, str], *, ranges: bool = True) -> File:
        """A file that is served as a storage does."""
        self.files[path] = File(len(body), lambda start, stop: body[start:stop], headers, ranges)
        self.answers.pop(path, None)
        return self.files[path]

    async def sent_more_than(self, size: int) -> None:
        """Waits until so many bytes of files were sent in all."""
        self.watched = (size, asyncio.Event())
        await self.watched[1].wait()

    def asked_for(self, name: str) -> list[str | None]:
        """What each request said in a header."""
        return [request.headers.get(name) for request in self.requests]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
            self.requests.append(Request(head[0], headers))
            path = head[0].split(" ")[1].split("?")[0]
            if path in self.files and path not in self.answers:
                await self._serve_file(self.files[path], headers, reader, writer)
            else:
                writer.write(self.answers.get(path, NOT_FOUND))
                if path in self.once:
                    self.once.remove(path)
                    del self.answers[path]
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # connected and said nothing, or went away
        finally:
            writer.close()

    async def _serve_file(
        self, file: File, asked: dict[str, str], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        wanted = re.fullmatch(r"bytes=(\d+)-", asked.get("range", ""))
        same = asked.get("if-range") in (None, file.headers.get("ETag"), file.headers.get("Last-Modified"))
        start = int(wanted[1]) if wanted and same and file.ranges else 0
        lines = {**file.headers, "Content-Length": str(max(0, file.size - start)), "Connection": "close"}
        status = "200 OK"
        if start >= file.size > 0:
            status = "416 Range Not Satisfiable"
            lines["Content-Range"] = f"bytes */{file.size}"
        elif start:
            status = "206 Partial Content"
            lines["Content-Range"] = f"bytes {start}-{file.size - 1}/{file.size}"
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        writer.write(f"HTTP/1.1 {status}\r\n{head}\r\n".encode())
        ends = [place for place in (file.breaks_at, file.hangs_at) if place is not None]
        stop = min([file.size, *ends])
        for at in range(start, stop, PIECE):
            piece = file.read(at, min(at + PIECE, stop))
            writer.write(piece)
            await writer.drain()
            self._count(len(piece))
        if file.hangs_at is not None and stop == file.hangs_at:
            self.hanging.set()
            await reader.read()

    def _count(self, size: int) -> None:
        self.sent += size
        if self.watched and self.sent > self.watched[0]:
            self.watched[1].set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Storage"]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        async with server:
            yield self
