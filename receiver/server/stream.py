"""The stream: what every commit changed, told in order to everybody who listens.

All readers share one ring of the last changes, and each only knows its place in it. So nobody who listens slowly holds
any memory, nobody waits for anybody else, and without readers a change costs no more than its place in the ring.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Collection, Sequence
from itertools import islice

import msgspec

from receiver.model import streaming
from receiver.model.entries import Change
from receiver.model.errors import Refused
from receiver.model.streaming import KINDS, RESET, ChangeView


class Entry:
    """A change in its place. It is written once, when the first reader comes to it."""

    __slots__ = ("_written", "id", "kind", "number", "state", "task")

    def __init__(self, number: int, change: Change) -> None:
        self.number = number
        self.kind, self.id, self.state, self.task = change.kind, change.id, change.state, change.task
        self._written: bytes | None = None

    def written(self, start: str) -> bytes:
        if self._written is None:
            data = msgspec.json.encode(ChangeView(id=self.id, state=self.state))
            said = (start.encode(), self.number, self.kind.encode(), data)
            self._written = b"id: %b-%d\nevent: %b\ndata: %b\n\n" % said
        return self._written


class Stream:
    """`start` is unlike that of every other run of the server: places in another's ring mean nothing in this one."""

    def __init__(
        self,
        start: str,
        *,
        kept: int = streaming.KEPT,
        places: int = streaming.READERS,
        rests: float = streaming.RESTS,
        heartbeat: float = streaming.HEARTBEAT,
    ) -> None:
        self.start = start
        self.last = 0
        """The number of the last change."""
        self.ring: deque[Entry] = deque(maxlen=kept)
        self.readers: set[Reader] = set()
        self.heartbeat = heartbeat
        self.closed = False
        self._places = places
        self._rests = rests
        self._told_at = float("-inf")
        self._due: asyncio.TimerHandle | None = None

    def publish(self, changes: Sequence[Change]) -> None:
        """Takes up what a commit changed, and has the readers told."""
        for change in changes:
            if change.kind in KINDS:
                self.last += 1
                self.ring.append(Entry(self.last, change))
        if self.readers and self._due is None:
            loop = asyncio.get_running_loop()
            self._due = loop.call_at(max(loop.time(), self._told_at + self._rests), self._tell)

    def _tell(self) -> None:
        self._due = None
        self._told_at = asyncio.get_running_loop().time()
        for reader in self.readers:
            reader.news.set()

    def open(self, *, kinds: Collection[str] = (), task: str | None = None, last_event_id: str = "") -> "Reader":
        """A reader of what changes from now on, or from the place after an event; `close` it.

        It hears of `kinds` (none: of all), and of what is one `task`'s alone where one is given. Raises Refused (503).
        """
        if self.closed:
            raise Refused(503, "stopping", "the server is being stopped; come again later", retry_after=5)
        if len(self.readers) >= self._places:
            message = f"{self._places} read the stream already; ask instead, or come again later"
            raise Refused(503, "too_many_readers", message, retry_after=streaming.FULL_RETRY)
        reader = Reader(self, frozenset(kinds), task, self._place_of(last_event_id))
        self.readers.add(reader)
        return reader

    @property
    def place(self) -> str:
        """Where the stream is now, as the id of an event says it: who reads on from here misses nothing."""
        return f"{self.start}-{self.last}"

    def _place_of(self, last_event_id: str) -> int | None:
        """The number in an event's id; None for one that says nothing here."""
        if not last_event_id:
            return self.last
        start, _, number = last_event_id.rpartition("-")
        if start != self.start or not (number.isascii() and number.isdigit() and len(number) < 19):
            return None
        return int(number)

    def after(self, place: int) -> list[Entry] | None:
        """The next changes after a place, in their order; None when it is in the ring no more, or not yet."""
        behind = self.last - place
        if not 0 <= behind <= len(self.ring):
            return None
        # From the right, where nearly every reader is: a ring cannot be entered in the middle.
        found = list(islice(reversed(self.ring), behind))
        found.reverse()
        return found[: streaming.PIECE]

    def close(self) -> None:
        """Ends every reader, and takes no other."""
        self.closed = True
        if self._due is not None:
            self._due.cancel()
        for reader in tuple(self.readers):
            reader.close()


class Reader:
    """Somebody who listens. Iterate over it for what is to be written; it ends when either side closes it."""

    def __init__(self, stream: Stream, kinds: frozenset[str], task: str | None, place: int | None) -> None:
        self.news = asyncio.Event()
        """Set when there may be something to write."""
        self.closed = False
        self._stream = stream
        self._kinds = kinds
        self._task = task
        self._place = place

    def close(self) -> None:
        self.closed = True
        self._stream.readers.discard(self)
        self.news.set()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield b"retry: %d\n%b" % (streaming.RETRY * 1000, b"" if self._place is None else self._here())
        while not self.closed:
            yield await self._piece()
        if self._stream.closed:
            yield b": the server is being stopped\n\n"

    async def _piece(self) -> bytes:
        """What is to be written next; nothing at the end."""
        try:
            async with asyncio.timeout(self._stream.heartbeat):
                while not (piece := self._next()) and not self.closed:
                    self.news.clear()
                    await self.news.wait()
                return piece
        except TimeoutError:
            return b":\n" + self._here()

    def _next(self) -> bytes:
        """What is to be written of the next changes; nothing at their end."""
        while self._place != self._stream.last:
            found = None if self._place is None else self._stream.after(self._place)
            if found is None:
                self._place = self._stream.last
                return b"event: %b\ndata: {}\n%b" % (RESET.encode(), self._here())
            self._place = found[-1].number
            if wanted := b"".join(each.written(self._stream.start) for each in found if self._wants(each)):
                return wanted
        return b""

    def _wants(self, entry: Entry) -> bool:
        return (not self._kinds or entry.kind in self._kinds) and (self._task is None or entry.task == self._task)

    def _here(self) -> bytes:
        """The reader's place, which its client gives back when it comes again."""
        return b"id: %b-%d\n\n" % (self._stream.start.encode(), self._place or 0)
