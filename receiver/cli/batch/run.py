"""Runs a batch: threads order its lines, one follows their tasks to the end, and a server that is away is waited for.

Following is light however many tasks there are: it reads new events until it meets one that it knows, and the list of
what is in doubt or lost, which is short.
"""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from functools import partial
from itertools import islice, takewhile
from typing import TypeVar, Unpack

from receiver.cli.batch.lines import BatchLine
from receiver.cli.batch.refusals import is_fatal, reasons
from receiver.cli.batch.tally import IN_DOUBT, LOST, RETRIED, UNSENT, WAITING, Tally
from receiver.cli.batch.uploads import Uploads, wanting
from receiver.cli.waiting import is_unattempted
from receiver.client import ApiError, Client, Listed, ListFilter
from receiver.client.patience import Interrupted, Patience
from receiver.model.views import EventView, OrderedView, TaskFacts

T = TypeVar("T")

BATCH_LABEL = "batch"
UNPROCESSABLE = 422
FIRST_LOOK = 0.2
LONGEST_LOOK = 3.0
"""Seconds between two looks at the server; fewer when something happened."""
SLOWER = 1.5
PAGE = 200
SAVING_PATIENCE = 60.0
"""Seconds for which files are waited for when all has ended."""


def is_new(task: TaskFacts) -> bool:
    """Whether a task was ordered by the request that it answers."""
    return isinstance(task, OrderedView) and task.new


class Batch:
    """Orders lines and follows their tasks until all have ended, on several threads.

    With `retry`, lines that failed in an earlier run are ordered again.
    """

    def __init__(
        self, client: Client, tally: Tally, patience: Patience, *, checked: bool = True, retry: bool = False
    ) -> None:
        self._client = client
        self._tally = tally
        self._patience = patience
        self._stop = patience.stop
        self._checked = checked
        self._retry = retry
        self._names = {tally.batch}
        self._doubt_since: float | None = None
        self._again: dict[str, dict[str, TaskFacts]] = {}
        """By the batch that they belong to, the tasks that were ordered again, by the task they stand for."""
        self._lock = threading.Lock()
        self.uploads = Uploads(client, patience)

    def run(
        self, lines: Sequence[BatchLine], threads: int, tell: Callable[[], None], doubt_patience: float | None
    ) -> None:
        """Orders every line and returns when all have ended; what is in doubt alone is waited for `doubt_patience`.

        None: nothing is waited for. Raises what ends a batch, as `Uploads.send` does.
        """
        waiting = iter(lines)
        with ThreadPoolExecutor(threads, "order") as pool:
            workers = [pool.submit(self._work, waiting) for _ in range(threads)]
            try:
                self._follow(workers, tell, doubt_patience)
            except Interrupted:
                for each in workers:
                    each.result()  # what broke first on another thread is what is told
                raise
            finally:
                self._stop.set()

    def refresh(self, *, for_files: bool) -> None:
        """Reads once more how everything ended, perhaps when the files are there or have been waited for."""
        stop = threading.Event()
        self._patience = Patience(self._patience.bound, stop)  # the stop of the other one is set by now
        begun = time.monotonic()
        while for_files and self._is_saving() and time.monotonic() - begun <= SAVING_PATIENCE:
            stop.wait(FIRST_LOOK)
        self._tally.happened(self._events(lambda event: False))

    def _work(self, waiting: Iterator[BatchLine]) -> None:
        """Orders lines that wait, until there are none; all threads share one iterator, each line goes to one."""
        try:
            for line in waiting:
                if self._stop.is_set():
                    return
                self._order(line)
        except Interrupted:
            return
        except BaseException:
            self._stop.set()
            raise

    def _order(self, line: BatchLine, *, again: bool = False) -> None:
        """Orders a line; first as if its files were there, for the server may have them from an earlier run.

        A refusal is the line's end, unless all that the order lacks is files that can be uploaded, once.
        """
        sent = self.uploads.sent.copy()
        try:
            self._tally.ordered(line, *self._last_task(line))
        except ApiError as error:
            if is_fatal(error):
                raise
            told = reasons(error)
            missing, others = wanting(line.files, told) if error.status == UNPROCESSABLE else ([], told)
            uploadable = missing and not others and not again
            problems = self.uploads.send(missing, sent) if uploadable else others or told
            if problems:
                self._tally.refused(line, problems)
            else:
                self._order(line, again=True)

    def _last_task(self, line: BatchLine) -> tuple[TaskFacts, bool, list[str]]:
        """The last task of a line, whether it was ordered now, and the tasks before it, which failed."""
        task, before = self._task(line), list[str]()
        while task.state in RETRIED and not is_new(task):
            later = self._ordered_again(task)
            if later is None and not self._retry:
                break
            key = f"{line.key}-again-{task.id}"
            before.append(task.id)
            task = later or self._asked(partial(self._client.submit_again, task.id, idempotency_key=key))
        return task, is_new(task), before

    def _ordered_again(self, task: TaskFacts) -> TaskFacts | None:
        """The task that was last ordered in the place of one that failed, by an earlier run or by hand."""
        name = task.labels[BATCH_LABEL]
        with self._lock:
            if name not in self._again:
                again = self._again[name] = {}
                for each in self._list(self._client.tasks, name):  # newest first
                    if each.again_of is not None:
                        again.setdefault(each.again_of, each)
        return self._again[name].get(task.id)

    def _task(self, line: BatchLine) -> TaskFacts:
        """The task of a line, ordered now or earlier: another batch's, when the file was moved since.

        A key is made of all that an order says, so what has this key is the same order but for the batch's label.
        """
        order = line.order
        labels = {**order.labels, BATCH_LABEL: self._tally.batch}
        how = {"kind": order.kind.value, "api": order.api.value, "idempotency_key": line.key}
        return self._asked(
            partial(self._client.submit, order.target, order.input, validate=self._checked, labels=labels, **how)
        )

    def _asked(self, submit: Callable[[], TaskFacts]) -> TaskFacts:
        """The task that an order makes or has made, which may be another batch's."""
        try:
            return self._patience.ask(submit)
        except ApiError as error:
            if error.code != "idempotency_conflict" or not isinstance(error.details, dict):
                raise
            task = self._patience.ask(partial(self._client.task, str(error.details.get("task"))))
            if BATCH_LABEL not in task.labels:
                raise
            self._names.add(task.labels[BATCH_LABEL])
            return task

    def _follow(self, workers: Sequence[Future[None]], tell: Callable[[], None], doubt_patience: float | None) -> None:
        """Returns when nothing is left to wait for. Raises what ended a worker."""
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
        """Asks the server for new events and for doubtful tasks. Returns whether there were new events."""
        new = self._events(self._tally.knows)
        self._tally.happened(new)
        doubtful = self._lists(self._client.tasks, IN_DOUBT, LOST)
        self._tally.doubted({task.id: task.state for tasks in doubtful for task in tasks})
        return bool(new)

    def _events(self, known: Callable[[EventView], bool]) -> list[EventView]:
        """The batch's events, newest first, up to one that is known. All or nothing: no gap may look like an end."""
        listed = self._lists(self._client.events)
        return [event for events in listed for event in takewhile(lambda event: not known(event), events)]

    def _is_over(self, doubt_patience: float) -> bool:
        """Whether all lines have ended, or those in doubt have been waited for long enough."""
        counts = self._tally.counts()
        if counts[UNSENT] or any(counts[state] for state in WAITING):
            self._doubt_since = None
            return False
        if not counts[IN_DOUBT]:
            return True
        now = time.monotonic()
        self._doubt_since = now if self._doubt_since is None else self._doubt_since
        return now - self._doubt_since >= doubt_patience

    def _is_saving(self) -> bool:
        """Whether an action of the batch runs, or was never tried yet. It looks at one page: more would weigh."""
        listed = self._lists(self._client.actions, "owed", "running")
        return any(is_unattempted(action) for actions in listed for action in islice(actions, PAGE))

    def _lists(self, page: Callable[..., Listed[T]], *states: str) -> list[Iterator[T]]:
        """All of a list for each label that the batch's tasks have."""
        return [self._list(page, name, *states) for name in tuple(self._names)]

    def _list(self, page: Callable[..., Listed[T]], name: str, *states: str) -> Iterator[T]:
        """All of a list for one label, every page of it asked for with patience."""

        def asked(**narrow: Unpack[ListFilter]) -> Listed[T]:
            return self._patience.ask(partial(page, **narrow))

        return self._client.each(asked, label={BATCH_LABEL: name}, state=states, limit=PAGE)
