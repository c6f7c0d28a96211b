"""Ordering tasks, following them, and what can be done to one."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from typing import TypeAlias, TypedDict, TypeVar, Unpack

from receiver.client.patience import ALONE, USUAL, Patience
from receiver.client.stream import Streaming
from receiver.client.transport import ListFilter, pauses
from receiver.model import views

T = TypeVar("T")

Input: TypeAlias = Mapping[str, object]

ENDED = frozenset({"succeeded", "failed", "cancelled", "rejected", "lost", "unreadable"})
"""States in which waiting for a task is over; one that another version wrote is unreadable, and left alone."""


def has_ended(task: views.TaskFacts) -> bool:
    """Whether nothing more is waited for; even a lost task may still be heard of."""
    return task.state in ENDED


class OrderOptions(TypedDict, total=False):
    """What an order may say beside its target and input: `kind` is model (the usual one), workflow, app or quick, `api`
    is v1 or v2 (None: the usual one of the kind); without `validate` a model's input is not checked."""

    kind: str
    api: str | None
    validate: bool
    labels: Mapping[str, str] | None


class Tasks(Streaming):
    """Ordering tasks, following them to their ends, and what can be done to one."""

    def submit(
        self, target: str, input: Input, *, idempotency_key: str | None = None, **order: Unpack[OrderOptions]
    ) -> views.OrderedView:
        """Orders a task. With an idempotency key, the same order again is the same task."""
        given, headers = _body(target, input, order), _keyed(idempotency_key)
        return self._call("POST", views.OrderedView, "tasks", body=given, headers=headers)

    def preview(self, target: str, input: Input, **order: Unpack[OrderOptions]) -> views.PreviewView:
        """The order as it would be sent, and its price. Nothing is ordered."""
        return self._call("POST", views.PreviewView, "previews", body=_body(target, input, order))

    def task(self, task_id: str) -> views.TaskDetail:
        return self._call("GET", views.TaskDetail, "tasks", task_id)

    def tasks(self, **narrow: Unpack[ListFilter]) -> views.PageView[views.TaskRow]:
        return self._list(views.PageView[views.TaskRow], "tasks", narrow)

    def each(self, page: Callable[..., views.PageView[T]], **narrow: Unpack[ListFilter]) -> Iterator[T]:
        """Everything of a list, page after page: `client.each(client.tasks, state="failed")`."""
        while True:
            found = page(**narrow)
            yield from found.items
            if found.next is None:
                return
            narrow["cursor"] = found.next

    def wait(
        self,
        task_id: str,
        *,
        until: Callable[[views.TaskDetail], bool] = has_ended,
        on_change: Callable[[views.TaskDetail], None] | None = None,
        on_away: Callable[[str], None] = lambda why: None,
        timeout: float | None = None,
        patience: float = USUAL,
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[float], object] | None = None,
    ) -> views.TaskDetail:
        """Asks about a task whenever it has changed, until it has ended. `on_change` sees every new state.

        Where the server cannot tell of changes, or with a `pause` of yours, it is asked less and less often. A server
        that is away, perhaps to be started anew, is waited for `patience` seconds; `on_away` is told why. Raises
        TimeoutError after `timeout` seconds; the task goes on.
        """
        until_then = float("inf") if timeout is None else clock() + timeout
        seen: tuple[str, str | None] | None = None
        asked = Patience(patience, on_away=lambda: on_away(asked.away or ""), clock=clock, longest=ALONE, pause=pause)
        rest_for: Callable[[float, float], object] | None = None if pause is None else lambda rest, _: pause(rest)
        with ExitStack() as listening:
            for rest in pauses():
                asked.bound = max(0.0, min(patience, until_then - clock()))
                task = asked.ask(partial(self.task, task_id))
                task_id = task.id  # a beginning that is unique now may not be for long
                if on_change is not None and seen != (task.state, task.provider_status):
                    seen = (task.state, task.provider_status)
                    on_change(task)
                if until(task):
                    break
                if (left := until_then - clock()) <= 0:
                    raise TimeoutError(f"task {task_id} is still {task.state} after {timeout:g} s")
                rest_for = rest_for or listening.enter_context(self._listening(task_id))
                rest_for(rest, left)
        return task

    def reconcile(self, task_id: str) -> views.TaskDetail:
        """Asks the provider about the task now."""
        return self._call("POST", views.TaskDetail, "tasks", task_id, "reconcile")

    def resend(self, task_id: str) -> views.TaskDetail:
        """Has the provider send the task's callback again."""
        return self._call("POST", views.TaskDetail, "tasks", task_id, "resend")

    def cancel(self, task_id: str) -> views.TaskDetail:
        return self._call("POST", views.TaskDetail, "tasks", task_id, "cancel")

    def submit_again(self, task_id: str, *, idempotency_key: str | None = None) -> views.OrderedView:
        """A new task with the same order; with an idempotency key, one however often it is asked for."""
        return self._call("POST", views.OrderedView, "tasks", task_id, "submit-again", headers=_keyed(idempotency_key))

    def provider_status(self, task_id: str) -> views.StatusView:
        """RunningHub's own word for a task, asked now: QUEUED, RUNNING, SUCCESS or FAILED. It is not recorded."""
        return self._call("GET", views.StatusView, "tasks", task_id, "status")

    def provider_outputs(self, task_id: str) -> views.OutputsView:
        """What RunningHub's outputs endpoint says that a task made, asked now. It is not recorded."""
        return self._call("GET", views.OutputsView, "tasks", task_id, "outputs")

    def provider_webhook(self, task_id: str) -> views.WebhookView:
        """What became of a task's callback at RunningHub, asked now. It is not recorded."""
        return self._call("GET", views.WebhookView, "tasks", task_id, "webhook")


def _keyed(key: str | None) -> dict[bytes, bytes]:
    return {} if key is None else {b"idempotency-key": key.encode()}


def _body(target: str, input: Input, order: OrderOptions) -> dict[str, object]:
    """The request's document, without what was left to the server."""
    given = {name: value for name, value in order.items() if value is not None}
    return {"target": target, "input": input, **given}
