"""Our own load, where wrk is not installed: does what load.lua does, and prints the same.

python -m benchmarks.client PORT FILE PATH CONNECTIONS SECONDS
"""

import asyncio
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import uvloop

HEAD = "POST {} HTTP/1.1\r\nHost: receiver.test\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n"


class Sender(asyncio.Protocol):
    """One connection: sends the next request when the last is answered, and comes again when it is hung up on."""

    def __init__(self, load: "Load") -> None:
        self._load = load
        self._answer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by name
        self._send()

    def data_received(self, data: bytes) -> None:
        self._answer += data
        head, found, body = self._answer.partition(b"\r\n\r\n")
        length = head.lower().partition(b"content-length:")[2].split(b"\r\n")[0]
        if found and len(body) >= int(length or 0):
            self._load.answered(int(head[9:12]), time.perf_counter() - self._begun)
            self._answer = b""
            if b"connection: close" not in head.lower():
                self._send()

    def connection_lost(self, error: Exception | None) -> None:
        self._load.lost(broken=bool(self._answer) or error is not None)

    def _send(self) -> None:
        if self._load.over:
            self._transport.close()
            return
        self._begun = time.perf_counter()
        self._transport.write(self._load.next())


class Load:
    def __init__(self, port: int, file: Path, path: str, seconds: float) -> None:
        self._port, self._path = port, path
        self._lines = self._cycled(file)
        self._until = time.perf_counter() + seconds
        self._waits: list[float] = []
        self._refused = self._broken = 0
        self._again: set[asyncio.Task[object]] = set()

    @property
    def over(self) -> bool:
        return time.perf_counter() >= self._until

    def next(self) -> bytes:
        path, _, body = next(self._lines).rstrip(b"\n").partition(b" ")
        return HEAD.format(path.decode() if self._path == "-" else self._path, len(body)).encode() + body

    def answered(self, status: int, waited: float) -> None:
        self._waits.append(waited)
        self._refused += status >= 400

    def lost(self, *, broken: bool) -> None:
        self._broken += broken
        if not self.over:
            self._again.add(asyncio.get_running_loop().create_task(self.connect()))

    async def connect(self) -> None:
        try:
            await asyncio.get_running_loop().create_connection(lambda: Sender(self), "127.0.0.1", self._port)
        except OSError:
            self._broken += 1

    async def run(self, connections: int) -> str:
        begun = time.perf_counter()
        await asyncio.gather(*(self.connect() for _ in range(connections)))
        await asyncio.sleep(self._until - time.perf_counter())
        seen = sorted(self._waits) or [0.0]
        figures = {
            "requests": len(self._waits),
            "seconds": time.perf_counter() - begun,
            "p50_ms": seen[len(seen) // 2] * 1e3,
            "p99_ms": seen[len(seen) * 99 // 100] * 1e3,
            "slowest_ms": seen[-1] * 1e3,
            "refused": self._refused,
            "broken": self._broken,
        }
        return json.dumps(figures)

    def _cycled(self, file: Path) -> Iterator[bytes]:
        while True:
            with file.open("rb") as lines:
                yield from lines


if __name__ == "__main__":
    port, file, path, connections, seconds = sys.argv[1:]
    print(uvloop.run(Load(int(port), Path(file), path, float(seconds)).run(int(connections))))
