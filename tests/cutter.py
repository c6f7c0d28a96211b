"""A wire to a server that can be cut, also in the moment of a commit: before the server hears of it, or after."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from enum import Enum

COMMIT = b"commit\x00"


class Cut(Enum):
    UNHEARD = "the server never hears of the commit"
    UNANSWERED = "the server commits, and its answer is lost"


class Cutter:
    """Passes bytes on, both ways. What `plan` holds befalls the next commits of transactions that say `about`."""

    def __init__(self, port: int, about: bytes) -> None:
        self._server_port = port
        self._about = about
        self._is_about = False
        self.port = 0
        self.plan: list[Cut] = []
        self.cuts: list[Cut] = []

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Cutter"]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_server, to_server = await asyncio.open_connection("127.0.0.1", self._server_port)
        back = asyncio.create_task(self._answers(from_server, writer))
        try:
            while sent := await reader.read(65536):
                cut = self._next_cut(sent)
                if cut is Cut.UNHEARD:
                    return
                if cut is Cut.UNANSWERED:
                    back.cancel()
                    await asyncio.wait([back])
                to_server.write(sent)
                if cut is Cut.UNANSWERED:
                    await from_server.read(65536)  # it has committed
                    return
        except ConnectionError:
            pass
        finally:
            back.cancel()
            writer.close()
            to_server.close()

    async def _answers(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while answer := await reader.read(65536):
                writer.write(answer)
        except ConnectionError:
            pass
        writer.close()

    def _next_cut(self, sent: bytes) -> Cut | None:
        self._is_about = self._is_about or self._about in sent
        if COMMIT not in sent:
            return None
        is_about, self._is_about = self._is_about, False
        if not (is_about and self.plan):
            return None
        self.cuts.append(self.plan.pop(0))
        return self.cuts[-1]
