"""`receiver tasks --follow`: a line for every task that changes, until it is interrupted."""

import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from receiver.cli.show import RAW_IN_JSON, clean, note
from receiver.model import sentences

if TYPE_CHECKING:
    from receiver.client import Client
    from receiver.model.views import TaskRow

REMEMBERED = 10_000
"""Tasks whose last line is remembered, so that none is printed twice."""
Show = Callable[["TaskRow", str, str], None]
"""Prints a task, under the beginning of its id that is enough to name it, and with the time of its change."""
STATE_WIDTH = len("submitted RUNNING")


class Watch:
    """Prints tasks as they change: those that a list has under the filters `narrow`."""

    def __init__(
        self, client: "Client", narrow: Mapping[str, Any], show: Show, *, clock: Callable[[], float] = time.time
    ) -> None:
        from receiver.client.patience import ALONE, USUAL, Patience

        self._client = client
        self._narrow = narrow
        self._show = show
        self._clock = clock
        self._asked = Patience(USUAL, longest=ALONE, on_away=lambda: self._tell_away(self._asked.away or ""))
        self._seen: dict[str, tuple[str, str | None]] = {}
        self._away = False

    def run(self) -> None:
        """Has no end but an interruption, and a server that stays away."""
        from receiver.model.streaming import RESET

        self._print_new(first=True)
        with self._client.stream(kind="task", on_away=self._tell_away) as changes:
            for change in changes:
                self._away = False
                if change.kind == RESET:
                    self._print_new()
                else:
                    self._print_new(q=change.id, limit=1)

    def _print_new(self, *, first: bool = False, **narrow: Any) -> None:  # noqa: ANN401 (filters as the list has them)
        """Prints what is new of the list's first page, the newest last. What is there at `first` changed before."""
        from receiver.model.records import rfc3339

        page = self._asked.ask(partial(self._client.tasks, **{**self._narrow, **narrow}))
        for task in reversed(page.items):
            now = task.state, task.provider_status
            if self._seen.pop(task.id, None) != now:
                before = task.ended_at or task.submitted_at or task.created_at
                at = before if first else rfc3339(self._clock()) or before
                self._show(task, page.short.get(task.id, task.id), at)
            self._seen[task.id] = now
        while len(self._seen) > REMEMBERED:
            del self._seen[next(iter(self._seen))]

    def _tell_away(self, why: str) -> None:
        if not self._away:
            note(f"waiting for the server: {why}")
        self._away = True


def watch(client: "Client", narrow: Mapping[str, Any], *, wide: bool, as_json: bool) -> None:
    """Prints what changes among the tasks of a list, until somebody interrupts it."""
    show = print_json if as_json else partial(print_line, wide=wide)
    try:
        Watch(client, narrow, show).run()
    except KeyboardInterrupt:
        note("")


def print_json(task: "TaskRow", _short: str, _at: str) -> None:
    import msgspec

    text = msgspec.json.encode(task).decode()
    click.echo(RAW_IN_JSON.sub(lambda found: f"\\u{ord(found[0]):04x}", text))


def print_line(task: "TaskRow", short: str, at: str, *, wide: bool) -> None:
    error = f"{task.error.code} {task.error.name}" if task.error else ""
    labels = " ".join(f"{name}={value}" for name, value in task.labels.items())
    state = sentences.task_state(task).ljust(STATE_WIDTH)
    words = (sentences.moment(at), task.id if wide else short, state, task.target, labels, error)
    click.echo(clean("  ".join(filter(None, words))))
