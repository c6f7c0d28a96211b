"""The one writer: a thread that owns the only read-write connection and commits many writes at once.

While a batch is being committed the next one gathers by itself, so nothing lingers and nothing waits in vain. A batch
runs in one transaction. Savepoints are not used: SQLITE_FULL rolls the whole transaction back beneath them, and what
was written after that would commit by itself. When a job fails the batch is rolled back and every job runs alone, so
that one bad row does not refuse the others. When the storage itself fails, everything is refused until a probe write
succeeds. What a commit changed is published after it, before anybody who waited for it goes on.
"""

import asyncio
import queue
import threading
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

from receiver.model.entries import Change
from receiver.model.errors import StoreUnavailable
from receiver.model.measures import ROWS, SHORT, Histogram
from receiver.store.ledger.transaction import Transaction

T = TypeVar("T")
I = TypeVar("I")  # noqa: E741

BATCH_CAP = 256
"""More rows in a transaction only add latency (measured)."""
QUEUE_CAP = 4096
PROBE_SPACING = 1.0
"""Seconds between two probes of a storage that failed."""


class Engine(ABC):
    """What a database has to bring. All of it is called in the writer's own thread."""

    @abstractmethod
    def connect(self) -> None:
        """Opens the read-write connection, its schema brought up to date."""

    @abstractmethod
    def begin(self) -> Transaction:
        """A transaction that may write."""

    @abstractmethod
    def commit(self) -> None:
        """Returns when what was written is on disk."""

    @abstractmethod
    def roll_back(self) -> None:
        """Undoes what was begun, if it was; raises nothing."""

    @abstractmethod
    def storage_failure(self, error: Exception) -> str | None:
        """The reason code of an error of the storage itself; None for an error of one job."""

    @abstractmethod
    def probe(self) -> str | None:
        """Tries a write of some size, which leaves nothing behind. The reason code of its failure, None when well."""

    @abstractmethod
    def close(self) -> None: ...


class Job(NamedTuple):
    """A write, and the future that waits for its commit. With an `item`, all jobs of the same work run together."""

    work: Callable[..., Any]
    future: asyncio.Future[Any]
    item: Any = None
    together: bool = False


class Done(NamedTuple):
    """What a batch came to: for each of its jobs a value or an error, and what was changed and is on disk."""

    values: list[Any]
    errors: list[Exception | None]
    changes: list[Change]


class Writer:
    """Runs jobs on an engine. `monotonic` is a clock in seconds, `publish` is told in the loop what commits changed."""

    def __init__(
        self, engine: Engine, *, monotonic: Callable[[], float], publish: Callable[[Sequence[Change]], None]
    ) -> None:
        self._engine = engine
        self._monotonic = monotonic
        self._publish = publish
        self._loop: asyncio.AbstractEventLoop | None = None
        self._batches: queue.SimpleQueue[list[Job] | None] = queue.SimpleQueue()
        self._waiting: list[Job] = []
        self._busy = False
        self._closing = False
        self._broken: str | None = None
        self.refused: Counter[str] = Counter()
        """Jobs that the storage could not take, by the reason, since the start."""
        self.commits, self.writes = Histogram(SHORT), Histogram(ROWS)
        """Seconds from a transaction's beginning until it is on disk; and jobs in it."""
        self._probed_at = float("-inf")
        self._thread = threading.Thread(target=self._run, name="writer", daemon=True)
        self._opened: asyncio.Future[None] | None = None

    @property
    def broken(self) -> str | None:
        """Why nothing can be written now, as a reason code; None when all is well."""
        return self._broken

    @property
    def waiting(self) -> int:
        """Jobs that no batch has taken yet."""
        return len(self._waiting)

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    async def open(self) -> None:
        """Starts the thread; raises what the engine raised when it connected."""
        self._loop = asyncio.get_running_loop()
        self._opened = self._loop.create_future()
        self._thread.start()
        await self._opened

    async def run(self, work: Callable[[Transaction], T]) -> T:
        """Runs `work` in a transaction and returns its value after the commit is on disk.

        `work` may run twice (once in a batch that failed, once alone), each time in a fresh transaction. Raises
        StoreUnavailable when nothing can be written, and whatever `work` raised.
        """
        value: T = await self._queue(work, None, together=False)
        return value

    async def run_together(self, verb: Callable[[Transaction, Sequence[I]], Sequence[T]], item: I) -> T:
        """The same for one item of a verb that is handed, at once, all items that wait for it, and answers each."""
        value: T = await self._queue(verb, item, together=True)
        return value

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

    def _queue(self, work: Callable[..., Any], item: object, *, together: bool) -> asyncio.Future[Any]:
        if self._closing or self._loop is None:
            raise StoreUnavailable("closing", "the store is being closed")
        if len(self._waiting) >= QUEUE_CAP:
            raise StoreUnavailable("busy", "too many writes are waiting", retry_after=1)
        future: asyncio.Future[Any] = self._loop.create_future()
        self._waiting.append(Job(work, future, item, together))
        self._send_off()
        return future

    def _send_off(self) -> None:
        if self._busy or not self._waiting:
            return
        batch, self._waiting = self._waiting[:BATCH_CAP], self._waiting[BATCH_CAP:]
        self._busy = True
        self._batches.put(batch)

    def _landed(self, batch: list[Job], done: Done) -> None:
        """In the loop, after a batch: the next one leaves before anybody is woken."""
        self._busy = False
        self._send_off()
        for job, value, error in zip(batch, done.values, done.errors, strict=True):
            if job.future.done():
                continue
            if error is None:
                job.future.set_result(value)
            else:
                job.future.set_exception(error)
        # Who waits goes on only when this is over; whatever a listener raises, they do.
        if done.changes:
            self._publish(done.changes)

    # ------------------------------------------------------------ in the thread

    def _run(self) -> None:
        assert self._loop is not None
        assert self._opened is not None
        try:
            self._engine.connect()
        except Exception as error:
            self._loop.call_soon_threadsafe(self._opened.set_exception, error)
            return
        self._loop.call_soon_threadsafe(self._opened.set_result, None)
        while (batch := self._batches.get()) is not None:
            self._loop.call_soon_threadsafe(self._landed, batch, self._commit(batch))
        self._engine.close()

    def _commit(self, batch: list[Job]) -> Done:
        if self._broken and not self._is_well_again():
            return self._refused(batch)
        begun = self._monotonic()
        try:
            tx = self._engine.begin()
            values = _values(tx, batch)
            self._engine.commit()
        except Exception as error:
            self._engine.roll_back()
            reason = self._engine.storage_failure(error)
            if reason is not None:
                self._broken, self._probed_at = reason, self._monotonic()
                return self._refused(batch)
            if len(batch) == 1:
                return Done([None], [error], [])
            alone = [self._commit([job]) for job in batch]
            return Done(
                [one.values[0] for one in alone],
                [one.errors[0] for one in alone],
                [change for one in alone for change in one.changes],
            )
        self.commits.note(self._monotonic() - begun)
        self.writes.note(len(batch))
        return Done(values, [None] * len(batch), tx.changes)

    def _is_well_again(self) -> bool:
        """Tries a write, at most once a second; whether the storage takes writes again."""
        if self._monotonic() - self._probed_at < PROBE_SPACING:
            return False
        self._probed_at = self._monotonic()
        self._broken = self._engine.probe()
        return self._broken is None

    def _refused(self, batch: list[Job]) -> Done:
        reason = self._broken or "unknown"
        self.refused[reason] += len(batch)
        message = f"nothing can be written: {reason.replace('_', ' ')}"
        return Done([None] * len(batch), [StoreUnavailable(reason, message) for _ in batch], [])


def _values(tx: Transaction, batch: list[Job]) -> list[Any]:
    """What each job of a batch returns; jobs that run together do so in the place of the first of them."""
    values: list[Any] = [None] * len(batch)
    kinds: dict[Callable[..., Any], list[int]] = {}
    for place, job in enumerate(batch):
        if job.together:
            kinds.setdefault(job.work, []).append(place)
    for place, job in enumerate(batch):
        if not job.together:
            values[place] = job.work(tx)
        elif (places := kinds.pop(job.work, None)) is not None:
            answers = job.work(tx, [batch[each].item for each in places])
            for each, answer in zip(places, answers, strict=True):
                values[each] = answer
    return values
