"""A batch at work: threads that order its lines, one that follows their ends, and patience with a server that is away.

Following is light however many tasks there are: it reads new events until it meets one that it knows, and the list of
what is in doubt or lost, which is short.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from functools import partial
from itertools import takewhile
from typing import TypeVar

from receiver.cli.batch.lines import Line
from receiver.cli.batch.refusals import AWAY, Interrupted, is_fatal, reasons
from receiver.cli.batch.tally import IN_DOUBT, LOST, UNSENT, WAITING, Tally
from receiver.cli.batch.uploads import Uploads, agrees, wanting
from receiver.client import ApiError, Client, Listed, Unreachable
from receiver.model.shown import shown_input
from receiver.model.views import ActionView, EventView, OrderedView

T = TypeVar("T")

BATCH_LABEL = "batch"
UNPROCESSABLE = 422
FIRST_PAUSE = 0.5
LONGEST_PAUSE = 15.0
FIRST_LOOK = 0.2
LONGEST_LOOK = 3.0
"""Seconds between two looks at the server; fewer when something happened."""
SLOWER = 1.5
PAGE = 200
SAVING_PATIENCE = 60.0
"""Seconds for which files are waited for when all has ended."""


class Patience:
    """Asks again, ever more slowly, while the server is away; gives up after `bound` seconds without an answer."""

    def __init__(
        self,
        bound: float,
        stop: threading.Event,
        on_away: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.bound = bound
        self.away: str | None = None
        """What the server's absence looks like now; None when it answers."""
        self._stop = stop
        self._on_away = on_away
        self._clock = clock

    def ask(self, question: Callable[[], T]) -> T:
        """Raises what the server refuses, its absence when that lasts, and Interrupted."""
        begun: float | None = None
        rest = FIRST_PAUSE
        while not self._stop.is_set():
            try:
                answer = question()
            except (Unreachable, ApiError) as error:
                now = self._clock()
                begun = now if begun is None else begun
                if not is_away(error) or now - begun >= self.bound:
                    raise
                self.away = str(error)
                self._on_away()
                hint = error.retry_after if isinstance(error, ApiError) else None
            else:
                self.away = None
                return answer
            # A server that says when to come again is believed, but not for longer than we have.
            self._stop.wait(rest if hint is None else min(max(rest, hint), begun + self.bound - now))
            rest = min(LONGEST_PAUSE, rest * 2)
        raise Interrupted("stopped")


def is_away(error: Unreachable | ApiError) -> bool:
    """Whether the same question may be answered in a while."""
    return isinstance(error, Unreachable) or error.status in AWAY


class Batch:
    """Orders lines and follows their tasks until all have ended, on several threads."""

    def __init__(self, client: Client, tally: Tally, patience: Patience, stop: threading.Event) -> None:
        self._client = client
        self._tally = tally
        self._patience = patience
        self._stop = stop
        self._names = {tally.batch}
        self._doubt_since: float | None = None
        self.uploads = Uploads(client, patience.ask, stop)

    def run(
        self,
        lines: Sequence[Line],
        concurrency: int,
        tell: Callable[[], None],
        *,
        checked: bool,
        doubt_patience: float | None,
    ) -> None:
        """Orders every line and returns when all have ended; what is in doubt alone is waited for `doubt_patience`.

        None: nothing is waited for. Raises what ends a batch: the server's refusal to speak to us at all, or its
        absence for too long.
        """
        waiting = deque(lines)
        with ThreadPoolExecutor(concurrency, "order") as pool:
            workers = [pool.submit(self._work, waiting, checked) for _ in range(concurrency)]
            try:
                self._see_through(workers, tell, doubt_patience)
            except Interrupted:
                _raise_first(workers)
                raise
            finally:
                self._stop.set()

    def refresh(self, *, for_files: bool) -> None:
        """Reads once more how everything ended, perhaps when the files are there or have been waited for."""
        stop = threading.Event()
        patience = Patience(self._patience.bound, stop)
        begun = time.monotonic()
        while for_files and any(self._is_saving(patience, name) for name in self._names):
            if time.monotonic() - begun > SAVING_PATIENCE:
                break
            stop.wait(FIRST_LOOK)
        for name in self._names:
            self._tally.happened(self._events(patience, name, lambda event: False))

    # ------------------------------------------------------------ ordering

    def _work(self, waiting: deque[Line], checked: bool) -> None:
        try:
            while not self._stop.is_set():
                try:
                    line = waiting.popleft()
                except IndexError:
                    return
                self._order(line, checked)
        except Interrupted:
            return
        except BaseException:
            self._stop.set()
            raise

    def _order(self, line: Line, checked: bool, *, again: bool = False) -> None:
        """Orders a line; first as if its files were there, for the server may have them from an earlier run."""
        sent = self.uploads.sent(line.files)
        try:
            task = self._patience.ask(partial(self._submit, line, checked))
        except ApiError as error:
            if is_fatal(error):
                raise
            self._not_taken(line, checked, error, sent, again=again)
        else:
            self._tally.ordered(line, task)

    def _submit(self, line: Line, checked: bool) -> OrderedView:
        order = line.order
        return self._client.submit(
            order.target,
            order.input,
            kind=order.kind.value,
            api=order.api.value,
            validate=checked,
            labels={**order.labels, BATCH_LABEL: self._tally.batch},
            idempotency_key=line.key,
        )

    def _not_taken(self, line: Line, checked: bool, error: ApiError, sent: Mapping[str, int], *, again: bool) -> None:
        """A refusal is the line's end, unless all that the order lacks is files that can be uploaded, once."""
        told = reasons(error)
        missing, others = wanting(line.files, told) if error.status == UNPROCESSABLE else ([], told)
        if others or not missing or again:
            if not self._adopt(line, error):
                self._tally.refused(line, others or told)
        elif problems := self.uploads.send(missing, sent):
            self._tally.refused(line, problems)
        else:
            self._order(line, checked, again=True)

    def _adopt(self, line: Line, error: ApiError) -> bool:
        """Takes the task of a line that was ordered under another batch's name, because its file was moved."""
        details = error.details
        if error.code != "idempotency_conflict" or not isinstance(details, dict):
            return False
        task = self._patience.ask(lambda: self._client.task(str(details.get("task"))))
        name = task.labels.get(BATCH_LABEL)
        if name is None or not agrees(shown_input(line.order.input), task.input, task.uploads):
            return False
        self._names = self._names | {name}
        self._tally.ordered(line, task)
        return True

    # ------------------------------------------------------------ following

    def _see_through(
        self, workers: Sequence[Future[None]], tell: Callable[[], None], doubt_patience: float | None
    ) -> None:
        rest = FIRST_LOOK
        while True:
            done, going = wait(workers, rest, FIRST_EXCEPTION)
            for each in done:
                each.result()
            moved = doubt_patience is not None and self._look()
            tell()
            if not going and (doubt_patience is None or self._is_over(doubt_patience)):
                return
            if not going:
                self._stop.wait(rest)
            rest = FIRST_LOOK if moved else min(LONGEST_LOOK, rest * SLOWER)

    def _look(self) -> bool:
        """Asks for what is new. Whether there was anything."""
        new = [event for name in self._names for event in self._events(self._patience, name, self._tally.knows)]
        self._tally.happened(new)
        self._tally.doubted(
            {
                task.id: task.state
                for name in self._names
                for task in _all_of(
                    self._patience,
                    partial(self._client.tasks, label={BATCH_LABEL: name}, state=(IN_DOUBT, LOST), limit=PAGE),
                )
            }
        )
        return bool(new)

    def _events(self, patience: Patience, name: str, known: Callable[[EventView], bool]) -> list[EventView]:
        """The batch's events, newest first, up to one that is known. All or nothing: no gap may look like an end."""
        page = partial(self._client.events, label={BATCH_LABEL: name}, limit=PAGE)
        return list(takewhile(lambda event: not known(event), _all_of(patience, page)))

    def _is_over(self, doubt_patience: float) -> bool:
        counts = self._tally.counts()
        if counts[UNSENT] or any(counts[state] for state in WAITING):
            self._doubt_since = None
            return False
        if not counts[IN_DOUBT]:
            return True
        now = time.monotonic()
        self._doubt_since = now if self._doubt_since is None else self._doubt_since
        return now - self._doubt_since >= doubt_patience

    def _is_saving(self, patience: Patience, name: str) -> bool:
        """Whether an action of the batch runs, or was never tried yet."""
        page = partial(self._client.actions, label={BATCH_LABEL: name}, state=("owed", "running"), limit=PAGE)
        return any(_is_fresh(action) for action in patience.ask(page).items)


def _all_of(patience: Patience, page: Callable[..., Listed[T]]) -> Iterator[T]:
    """Everything of a list, each page of it asked for with patience."""
    cursor: str | None = None
    while True:
        found = patience.ask(partial(page, cursor=cursor))
        yield from found.items
        cursor = found.next
        if cursor is None:
            return


def _is_fresh(action: ActionView) -> bool:
    return action.state == "running" or (action.attempts == 0 and action.due_at is not None)


def _raise_first(workers: Sequence[Future[None]]) -> None:
    """What broke first on another thread is what is told."""
    for each in workers:
        each.result()
