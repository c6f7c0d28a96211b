"""The one writer: a thread that owns the only read-write connection and commits many writes at once.

While a batch is being committed the next one gathers by itself, so nothing lingers and nothing waits in vain. A batch
runs in one transaction. Savepoints are not used: SQLITE_FULL rolls the whole transaction back beneath them, and what
was written after that would commit by itself. When a job fails the batch is rolled back and every job runs alone, so
that one bad row does not refuse the others. When the storage fails (full, I/O error, read-only, corrupt) everything is
refused until a probe write succeeds.
"""

import asyncio
import queue
import sqlite3
import threading
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from receiver.model.errors import StoreUnavailable

T = TypeVar("T")

BATCH_CAP = 256
"""More rows in a transaction only add latency (measured)."""
QUEUE_CAP = 4096
PROBE_SPACING = 1.0
"""Seconds between two probes of a storage that failed."""

STORAGE_FAILURES = {
    sqlite3.SQLITE_FULL: "disk_full",
    sqlite3.SQLITE_IOERR: "disk_error",
    sqlite3.SQLITE_READONLY: "read_only",
    sqlite3.SQLITE_CORRUPT: "corrupt",
    sqlite3.SQLITE_NOTADB: "corrupt",
    sqlite3.SQLITE_CANTOPEN: "cannot_open",
}


class Job(Generic[T]):
    """A write and the future that waits for its commit."""

    __slots__ = ("future", "work")

    def __init__(self, work: Callable[[sqlite3.Connection], T], future: asyncio.Future[T]) -> None:
        self.work = work
        self.future = future


Outcome = tuple[object, Exception | None]


class Writer:
    """Give it `connect`, which opens the read-write connection in the writer's own thread, and a monotonic clock."""

    def __init__(self, connect: Callable[[], sqlite3.Connection], *, monotonic: Callable[[], float]) -> None:
        self._connect = connect
        self._monotonic = monotonic
        self._loop: asyncio.AbstractEventLoop | None = None
        self._batches: queue.SimpleQueue[list[Job[object]] | None] = queue.SimpleQueue()
        self._waiting: list[Job[object]] = []
        self._busy = False
        self._closing = False
        self._broken: str | None = None
        self._probed_at = float("-inf")
        self._thread = threading.Thread(target=self._run, name="writer", daemon=True)
        self._opened: asyncio.Future[None] | None = None

    @property
    def broken(self) -> str | None:
        """Why nothing can be written now, as a reason code; None when all is well."""
        return self._broken

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    async def open(self) -> None:
        """Starts the thread; raises what `connect` raised."""
        self._loop = asyncio.get_running_loop()
        self._opened = self._loop.create_future()
        self._thread.start()
        await self._opened

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Runs `work` in a transaction and returns its value after the commit is on disk.

        `work` may run twice (once in a batch that failed, once alone), each time in a fresh transaction. Raises
        StoreUnavailable when nothing can be written, and whatever `work` raised.
        """
        if self._closing or self._loop is None:
            raise StoreUnavailable("closing", "the store is being closed")
        if len(self._waiting) >= QUEUE_CAP:
            raise StoreUnavailable("busy", "too many writes are waiting", retry_after=1)
        future: asyncio.Future[T] = self._loop.create_future()
        self._waiting.append(Job(work, future))  # type: ignore[arg-type]
        self._send_off()
        return await future

    async def close(self) -> None:
        """Commits what waits, then ends the thread and closes the connection. May be called twice."""
        if self._closing:
            return
        self._closing = True
        while self._busy or self._waiting:
            self._send_off()
            await asyncio.sleep(0.001)
        self._batches.put(None)
        await asyncio.to_thread(self._thread.join)

    def _send_off(self) -> None:
        if self._busy or not self._waiting:
            return
        batch, self._waiting = self._waiting[:BATCH_CAP], self._waiting[BATCH_CAP:]
        self._busy = True
        self._batches.put(batch)

    def _landed(self, batch: list[Job[object]], outcomes: Sequence[Outcome]) -> None:
        """In the loop, after a batch: the next one leaves before anybody is woken."""
        self._busy = False
        self._send_off()
        for job, (value, error) in zip(batch, outcomes, strict=True):
            if job.future.done():
                continue
            if error is None:
                job.future.set_result(value)
            else:
                job.future.set_exception(error)

    # ------------------------------------------------------------ in the thread

    def _run(self) -> None:
        assert self._loop is not None
        assert self._opened is not None
        try:
            connection = self._connect()
        except Exception as error:
            self._loop.call_soon_threadsafe(self._opened.set_exception, error)
            return
        self._loop.call_soon_threadsafe(self._opened.set_result, None)
        while (batch := self._batches.get()) is not None:
            outcomes = self._commit(connection, batch)
            self._loop.call_soon_threadsafe(self._landed, batch, outcomes)
        connection.close()

    def _commit(self, connection: sqlite3.Connection, batch: list[Job[object]]) -> list[Outcome]:
        if self._broken and not self._probe(connection):
            return [(None, self._unavailable()) for _ in batch]
        try:
            connection.execute("begin immediate")
            values = [job.work(connection) for job in batch]
            connection.execute("commit")
        except Exception as error:
            _roll_back(connection)
            if self._is_storage_failure(error):
                return [(None, self._unavailable()) for _ in batch]
            if len(batch) == 1:
                return [(None, error)]
            return [self._commit(connection, [job])[0] for job in batch]
        return [(value, None) for value in values]

    def _is_storage_failure(self, error: Exception) -> bool:
        if not isinstance(error, sqlite3.Error):
            return False
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        reason = STORAGE_FAILURES.get(code)
        if reason is not None:
            self._broken = reason
            self._probed_at = self._monotonic()
        return reason is not None

    def _probe(self, connection: sqlite3.Connection) -> bool:
        """A write of its own size, at most once a second; True when the storage takes writes again."""
        if self._monotonic() - self._probed_at < PROBE_SPACING:
            return False
        self._probed_at = self._monotonic()
        try:
            connection.execute("begin immediate")
            connection.execute("insert into facts (name, value) values ('probe', zeroblob(65536))")
            connection.execute("delete from facts where name = 'probe'")
            connection.execute("commit")
        except sqlite3.Error:
            _roll_back(connection)
            return False
        self._broken = None
        return True

    def _unavailable(self) -> StoreUnavailable:
        reason = self._broken or "unknown"
        return StoreUnavailable(reason, f"nothing can be written: {reason.replace('_', ' ')}")


def _roll_back(connection: sqlite3.Connection) -> None:
    if connection.in_transaction:
        try:
            connection.execute("rollback")
        except sqlite3.Error:
            # The engine has rolled back by itself in the meantime.
            return
